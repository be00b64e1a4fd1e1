/* SPDX-License-Identifier: Apache-2.0 */
/* Writes past an absent buffer and what they leave behind; records that were written blind; a buffer that fills up. */
#include "unit/through_world.h"

#include <stdlib.h>

#include "svc/buffers.h"
#include "svc/degraded.h"

static const struct service service = {
	.name = "fee", .routes = routes, .entities = fee_entities, .entity_sql = fee_entity_sql, .events = events};
static const struct uuid student = {{9}};

static int setup(void **state)
{
	(void)state;
	kit = kit_open(&service);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	kit_close(kit);
	/* An empty buffer for the next one. */
	real_redis_kill(&buffer);
	empty_buffer();
	real_redis_again(&buffer);
	real_pg_sql(server, "TRUNCATE fee.seats, fee.badges, fee.notes, fee.audit_logs, fee.outbox, fee.idempotency CASCADE");
	return 0;
}

/* ---- requests ---- */

static enum err put_note(struct call *call)
{
	struct req *req = call->req;
	struct note *note;
	enum err e = req->x->n_headers > 0 ? idem_begin(req) : OK;

	if (e != OK || req->replayed)
		return e;
	note = entity_edit(req, &note_entity, NULL);
	FIELD_PUT(note, note, student_id, student);
	FIELD_PUT(note, note, name, str_of(call->name));
	e = entity_put(req, &note_entity, note);
	call->id = note->row.id;
	if (req->idem)
		idem_end(req, e);
	return e;
}

static struct note *seen;

static enum err get_note(struct call *call)
{
	enum err e = entity_get(call->req, &note_entity, call->id, &seen);

	if (e == OK && !str_is(seen->name, call->name))
		e = ERR_CORRUPT;
	return e;
}

static enum err get_notes(struct call *call)
{
	void *rows[1];
	enum err e = entity_get_many(call->req, &note_entity, &call->id, 1, rows);

	if (e == OK && (!rows[0] || !str_is(((struct note *)rows[0])->name, call->name)))
		e = ERR_CORRUPT;
	return e;
}

static enum err change_note(struct call *call)
{
	struct note *old, *note;
	enum err e = entity_get(call->req, &note_entity, call->id, &old);

	if (e != OK)
		return e;
	note = entity_edit(call->req, &note_entity, old);
	FIELD_PUT(note, note, name, str_of(call->name));
	return entity_put(call->req, &note_entity, note);
}

static struct call note_call(enum err (*fn)(struct call *call), const char *name, const char *key)
{
	return (struct call){.req = a_request(&routes[1], key), .fn = fn, .name = name};
}

/* One request to its end. */
static enum err one(enum err (*fn)(struct call *call), const char *name, const char *key, struct uuid *id)
{
	struct call call = note_call(fn, name, key);

	call.id = *id;
	run_calls(&call, 1);
	*id = call.id;
	free_calls(&call, 1);
	return call.e;
}

static bool wait_until(bool (*is_so)(void))
{
	for (int i = 0; i < 5000 && !is_so(); i++)
		loop_turn(kit->daemon.loop, 1000);
	return is_so();
}

static bool buffer_up(void)
{
	return redis_is_up(daemon_buffer(&kit->daemon));
}

static bool buffer_down(void)
{
	return !buffer_up();
}

static enum err ask_word(struct call *call)
{
	struct redis_reply r;
	enum err e = redis_call(req_buffer(call->req), call->req->arena, call->req->deadline,
				REDIS_ARGS(STR("EXISTS"), STR("idem:fee:degraded")), &r);

	return e != OK ? e : r.i == 1 ? OK : ERR_NOT_FOUND;
}

static bool word_left(void)
{
	struct uuid id = {{0}};

	return one(ask_word, "", NULL, &id) == OK;
}

static void another_daemon(void)
{
	kit_close(kit);
	kit = kit_open(&service);
	assert_true(wait_until(buffer_up));
}

static void lose_buffer(void)
{
	real_redis_kill(&buffer);
	assert_true(wait_until(buffer_down));
}

static void find_buffer(void)
{
	real_redis_again(&buffer);
	assert_true(wait_until(buffer_up));
	assert_true(wait_until(word_left));
}

/* ---- what degraded writes leave behind ---- */

static void a_key_of_a_degraded_write_is_known_when_the_buffer_is_back(void **state)
{
	struct call again = {0};
	struct uuid id = {{0}};

	(void)state;
	assert_true(wait_until(buffer_up));
	lose_buffer();
	assert_int_equal(one(put_note, "first", "k1", &id), OK);
	assert_int_equal(count("SELECT count(*) FROM fee.notes"), 1);
	find_buffer();
	for (int daemons = 0; daemons < 2; daemons++) {
		again = note_call(put_note, "first", "k1");
		run_calls(&again, 1);
		assert_int_equal(again.e, OK);
		assert_true(again.req->replayed);
		free_calls(&again, 1);
		another_daemon();
	}
	assert_int_equal(count("SELECT count(*) FROM fee.audit_logs"), 1);
}

static void without_degraded_writes_a_key_asks_no_table(void **state)
{
	struct uuid id = {{0}};
	uint64_t before;

	(void)state;
	assert_true(wait_until(buffer_up));
	assert_int_equal(one(put_note, "first", NULL, &id), OK);
	before = pg_stats(kit->daemon.pg).queries;
	assert_int_equal(one(put_note, "second", "k2", &id), OK);
	assert_int_equal(pg_stats(kit->daemon.pg).queries, before);
}

static void an_older_record_in_the_buffer_is_not_read_before_a_degraded_write(void **state)
{
	struct uuid id = {{0}};

	(void)state;
	assert_true(wait_until(buffer_up));
	assert_int_equal(one(put_note, "old", NULL, &id), OK);
	assert_int_equal(one(get_note, "old", NULL, &id), OK);
	lose_buffer();
	assert_int_equal(one(put_note, "new", NULL, &id), OK);
	find_buffer();
	for (int daemons = 0; daemons < 2; daemons++) {
		assert_int_equal(one(get_note, "new", NULL, &id), OK);
		assert_int_equal(one(get_notes, "new", NULL, &id), OK);
		another_daemon();
	}
	assert_int_equal(one(change_note, "newest", NULL, &id), OK);
	assert_int_equal(one(get_note, "newest", NULL, &id), OK);
}

/* What the buffer gets behind them is newer than all of them: nothing to compare it with, and no database needed. */
static void a_record_made_after_degraded_writes_is_read_without_the_table(void **state)
{
	struct uuid id = {{0}};
	uint64_t before;

	(void)state;
	assert_true(wait_until(buffer_up));
	lose_buffer();
	assert_int_equal(one(put_note, "past the buffer", NULL, &id), OK);
	find_buffer();
	assert_int_equal(one(put_note, "buffered", NULL, &id), OK);
	for (int daemons = 0; daemons < 2; daemons++) {
		before = pg_stats(kit->daemon.pg).queries;
		assert_int_equal(one(get_note, "buffered", NULL, &id), OK);
		assert_int_equal(one(get_notes, "buffered", NULL, &id), OK);
		assert_int_equal(pg_stats(kit->daemon.pg).queries, before);
		another_daemon();
	}
}

#define NEWER "4000000000000000"

static enum err say_newer(struct call *call)
{
	struct redis_reply r;

	return redis_call(req_buffer(call->req), call->req->arena, call->req->deadline,
			  REDIS_ARGS(STR("SET"), STR("idem:fee:degraded"), STR(NEWER)), &r);
}

static enum err hear_newer(struct call *call)
{
	struct redis_reply r;
	enum err e = redis_call(req_buffer(call->req), call->req->arena, call->req->deadline,
				REDIS_ARGS(STR("GET"), STR("idem:fee:degraded")), &r);

	return e != OK ? e : str_is(r.s, NEWER) && degraded_until(call->req) == atoll(NEWER) ? OK : ERR_NOT_FOUND;
}

static bool newer_is_known(void)
{
	struct uuid id = {{0}};

	return one(hear_newer, "", NULL, &id) == OK;
}

static void two_processes_leave_the_newer_word(void **state)
{
	struct uuid id = {{0}};

	(void)state;
	assert_true(wait_until(buffer_up));
	assert_int_equal(one(say_newer, "", NULL, &id), OK);
	lose_buffer();
	assert_int_equal(one(put_note, "past the buffer", NULL, &id), OK);
	find_buffer();
	assert_true(wait_until(newer_is_known));
}

/* ---- blind records ---- */

static enum err put_blind(struct call *call)
{
	struct note *note = entity_edit(call->req, &note_entity, NULL);

	FIELD_PUT(note, note, student_id, student);
	FIELD_PUT(note, note, name, str_of(call->name));
	call->id = note->row.id = entity_natural_id(&note_entity, note->row.school_id, note);
	base_add(call->req, &(struct base){.entity = &note_entity, .id = call->id, .blind = true});
	return entity_put(call->req, &note_entity, note);
}

static enum err is_blind(struct call *call)
{
	struct req *req = call->req;
	struct buffer_record record;
	struct redis_reply r;
	enum err e = redis_call(req_buffer(req), req->arena, req->deadline,
				REDIS_ARGS(STR("GET"), buffer_key(req->arena, &note_entity, call->id)), &r);

	if (e == OK)
		e = buffer_record_parse(r.s, &record);
	return e != OK ? e : record.blind ? OK : ERR_NOT_FOUND;
}

static void a_change_of_a_blind_record_is_blind(void **state)
{
	struct uuid id = {{0}};

	(void)state;
	assert_true(wait_until(buffer_up));
	assert_int_equal(one(put_blind, "first", NULL, &id), OK);
	assert_int_equal(one(is_blind, "", NULL, &id), OK);
	assert_int_equal(one(change_note, "second", NULL, &id), OK);
	assert_int_equal(one(is_blind, "", NULL, &id), OK);
}

/* ---- a buffer that fills up ---- */

static enum err is_urgent(struct call *call)
{
	struct req *req = call->req;
	char text[UUID_TEXT + 1];
	struct redis_reply r;
	enum err e;

	uuid_text(call->id, text);
	e = redis_call(req_buffer(req), req->arena, req->deadline, REDIS_ARGS(STR("ZSCORE"), STR("wb:retry:note"), str_of(text)),
		       &r);
	return e != OK ? e : r.type == REDIS_NIL ? ERR_NOT_FOUND : OK;
}

/* What the worker does. */
static enum err flush_note(struct call *call)
{
	struct req *req = call->req;
	struct redis_reply r;
	enum err e = sleep_ms(kit->daemon.loop, 60, req->deadline);

	return e != OK ? e
		       : redis_call(req_buffer(req), req->arena, req->deadline,
				    REDIS_ARGS(STR("DEL"), buffer_key(req->arena, &note_entity, call->id)), &r);
}

static void above_the_high_mark_a_write_is_urgent_and_waits(void **state)
{
	struct call calls[2];
	struct note like = {0};

	(void)state;
	assert_true(wait_until(buffer_up));
	kit->daemon.settings.high_mark = 0;
	calls[0] = note_call(put_note, "waits", NULL);
	calls[1] = note_call(flush_note, "", NULL);
	FIELD_PUT(&like, note, student_id, student);
	calls[1].id = entity_natural_id(&note_entity, school_number(1), &like);
	run_calls(calls, 2);
	assert_int_equal(calls[0].e, OK);
	assert_int_equal(calls[0].req->sync, SYNC_DONE);
	free_calls(calls, 2);
	calls[0] = note_call(put_note, "waits in vain", NULL);
	calls[0].req->deadline = deadline_in(kit->daemon.loop, 200);
	run_calls(calls, 1);
	assert_int_equal(calls[0].e, OK); /* it is acknowledged */
	assert_int_equal(calls[0].req->sync, SYNC_PENDING);
	assert_int_equal(one(is_urgent, "", NULL, &calls[0].id), OK);
	free_calls(calls, 1);
}

static void above_the_limit_writes_are_refused_and_reads_are_not(void **state)
{
	struct call call;
	struct uuid id = {{0}};

	(void)state;
	assert_true(wait_until(buffer_up));
	assert_int_equal(one(put_note, "before", NULL, &id), OK);
	kit->daemon.settings.limit = 0;
	call = note_call(put_note, "refused", NULL);
	run_calls(&call, 1);
	assert_int_equal(call.e, ERR_BUFFER);
	assert_string_equal(call.req->code, "buffer_full");
	assert_true(call.req->retry_after_s > 0);
	free_calls(&call, 1);
	assert_int_equal(one(get_note, "before", NULL, &id), OK);
	call = a_call(make_seat, 1, "through");
	run_calls(&call, 1);
	assert_int_equal(call.e, OK);
	free_calls(&call, 1);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(without_degraded_writes_a_key_asks_no_table),
		T(a_key_of_a_degraded_write_is_known_when_the_buffer_is_back),
		T(an_older_record_in_the_buffer_is_not_read_before_a_degraded_write),
		T(a_record_made_after_degraded_writes_is_read_without_the_table),
		T(two_processes_leave_the_newer_word),
		T(a_change_of_a_blind_record_is_blind),
		T(above_the_high_mark_a_write_is_urgent_and_waits),
		T(above_the_limit_writes_are_refused_and_reads_are_not),
	};
	int failed;

	start_database();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	stop_database();
	return failed;
}
