/* SPDX-License-Identifier: Apache-2.0 */
/* Entities that are written through, on a real PostgreSQL: what one request gets, and what many at once share. */
#include "unit/through_case.h"

/* ---- one request ---- */

static enum err make_full_seat(struct call *call)
{
	static const struct str words[] = {{"a\"b\\c", 5}, {"{d,e}", 5}};
	static const int64_t numbers[] = {1, INT64_MIN};
	struct req *req = call->req;
	struct seat *seat = entity_edit(req, &seat_entity, NULL), *back;
	enum err e;

	call->id = seat->row.id;
	FIELD_PUT(seat, seat, name, STR("caf\xc3\xa9 \"one\"\n"));
	FIELD_PUT(seat, seat, place, 7);
	FIELD_PUT(seat, seat, price, -1205);
	FIELD_PUT(seat, seat, share, 33);
	FIELD_PUT(seat, seat, weight, 0.1);
	FIELD_PUT(seat, seat, aisle, true);
	FIELD_PUT(seat, seat, taken_at, INT64_C(1763719200123456));
	FIELD_PUT(seat, seat, day, 20000);
	FIELD_PUT(seat, seat, status, SEAT_TAKEN);
	FIELD_PUT(seat, seat, extra, STR("{\"a\": [1, null]}"));
	FIELD_PUT(seat, seat, friends, ((struct list){arena_dup(req->arena, &friend_id, 16), 1}));
	FIELD_PUT(seat, seat, words, ((struct list){arena_dup(req->arena, words, sizeof(words)), 2}));
	FIELD_PUT(seat, seat, numbers, ((struct list){arena_dup(req->arena, numbers, sizeof(numbers)), 2}));
	e = entity_put(req, &seat_entity, seat);
	if (e != OK)
		return e;
	req->bases = NULL;
	e = entity_get(req, &seat_entity, seat->row.id, &back);
	if (e != OK)
		return e;
	return row_equal(&seat_schema, seat, back) && back->row.version == seat->row.version &&
			       back->row.created_at == seat->row.created_at && back->row.updated_at == req->now_us &&
			       uuid_eq(back->row.school_id, req->who.school_id)
		       ? OK
		       : ERR_BUG;
}

static void a_row_is_committed_with_its_record_and_event_before_the_answer(void **state)
{
	struct call call = a_call(make_full_seat, 7, "");

	(void)state;
	run_calls(&call, 1);
	assert_int_equal(call.e, OK);
	assert_int_equal(call.req->sync, SYNC_DONE);
	assert_true(call.req->version > call.req->now_us - 1000000);
	assert_true(call.req->body.n > 10);
	assert_int_equal(count("SELECT count(*) FROM fee.seats"), 1);
	assert_int_equal(count("SELECT count(*) FROM fee.audit_logs AS a JOIN fee.seats AS s ON s.id = a.entity_id WHERE "
			       "a.action = 'create'"
			       " AND a.entity_type = 'seat' AND a.xmin = s.xmin AND a.new_values->>'place' = '7'"),
			 1);
	assert_int_equal(count("SELECT count(*) FROM fee.outbox AS o JOIN fee.seats AS s ON o.envelope->>'subject' = s.id::text"
			       " WHERE o.channel = 'fee:seated' AND o.domain = 'fee' AND o.xmin = s.xmin"),
			 1);
	free_calls(&call, 1);
}

static enum err change_then_delete(struct call *call)
{
	struct seat *seat;
	enum err e = make_seat(call);
	int64_t first = call->req->version;

	if (e == OK)
		e = rename_seat(call);
	if (e != OK || call->req->version <= first)
		return e != OK ? e : ERR_BUG;
	e = entity_get(call->req, &seat_entity, call->id, &seat);
	if (e == OK)
		e = entity_delete(call->req, &seat_entity, seat);
	if (e != OK)
		return e;
	return entity_get(call->req, &seat_entity, call->id, &seat);
}

static void a_row_is_changed_and_deleted(void **state)
{
	struct call call = a_call(change_then_delete, 1, "x");

	(void)state;
	run_calls(&call, 1);
	assert_int_equal(call.e, ERR_NOT_FOUND);
	assert_int_equal(count("SELECT count(*) FROM fee.seats WHERE deleted_at IS NOT NULL"), 1);
	assert_int_equal(count("SELECT count(*) FROM fee.audit_logs WHERE action IN ('create', 'update', 'delete')"), 3);
	free_calls(&call, 1);
}

static enum err put_badge(struct call *call)
{
	struct badge *badge = entity_edit(call->req, &badge_entity, NULL);

	call->req->bases = NULL;
	FIELD_PUT(badge, badge, student_id, friend_id);
	FIELD_PUT(badge, badge, name, str_of(call->name));
	if (call->place == 1)
		return entity_delete(call->req, &badge_entity, badge);
	return entity_put(call->req, &badge_entity, badge);
}

static void a_natural_id_finds_the_row_that_is_there_even_a_deleted_one(void **state)
{
	struct call calls[] = {a_call(put_badge, 0, "one"), a_call(put_badge, 1, "two"), a_call(put_badge, 0, "three")};

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		run_calls(&calls[i], 1);
		assert_int_equal(calls[i].e, OK);
	}
	assert_int_equal(count("SELECT count(*) FROM fee.badges WHERE name = 'three' AND deleted_at IS NULL"), 1);
	assert_int_equal(count("SELECT count(*) FROM fee.badges"), 1);
	free_calls(calls, 3);
}

static void rows_of_several_tables_are_written_together_or_not_at_all(void **state)
{
	struct call calls[] = {a_call(two_kinds, 1, "a"), a_call(two_kinds, 3, "b")};

	(void)state;
	run_calls(&calls[0], 1);
	assert_int_equal(calls[0].e, OK);
	assert_int_equal(
		count("SELECT count(DISTINCT xmin::text) FROM (SELECT xmin FROM fee.seats UNION ALL SELECT xmin FROM fee.badges"
		      " UNION ALL SELECT xmin FROM fee.audit_logs UNION ALL SELECT xmin FROM fee.outbox) AS all_of_it"),
		1);
	assert_int_equal(count("SELECT count(*) FROM fee.audit_logs"), 4);
	assert_int_equal(count("SELECT count(*) FROM fee.outbox"), 3);
	run_calls(&calls[1], 1); /* its first place is taken */
	assert_int_equal(calls[1].e, ERR_CONFLICT);
	assert_string_equal(calls[1].req->code, "already_exists");
	assert_string_equal(change_refusal(calls[1].req)->constraint, "place_once");
	assert_int_equal(count("SELECT count(*) FROM fee.seats"), 3);
	free_calls(calls, 2);
}

static enum err mix(struct call *call)
{
	struct change *c = change_new(call->req);
	struct seat *seat = entity_edit(call->req, &seat_entity, NULL);
	struct note *note = entity_edit(call->req, &note_entity, NULL);

	FIELD_PUT(seat, seat, name, STR("s"));
	FIELD_PUT(seat, seat, place, 1);
	FIELD_PUT(note, note, student_id, friend_id);
	FIELD_PUT(note, note, name, STR("n"));
	change_put(c, &seat_entity, seat);
	change_put(c, &note_entity, note);
	return change_commit(c);
}

static void one_change_does_not_mix_modes(void **state)
{
	struct call call = a_call(mix, 0, "");

	(void)state;
	run_calls(&call, 1);
	assert_int_equal(call.e, ERR_BUG);
	assert_non_null(strstr(call.req->detail, "mixes"));
	assert_int_equal(count("SELECT count(*) FROM fee.seats"), 0);
	free_calls(&call, 1);
}

/* ---- many at once ---- */

static void many_at_once_share_few_transactions(void **state)
{
	struct call calls[MANY];

	(void)state;
	for (size_t i = 0; i < MANY; i++)
		calls[i] = a_call(make_seat, (int64_t)i, "many");
	run_calls(calls, MANY);
	for (size_t i = 0; i < MANY; i++) {
		assert_int_equal(calls[i].e, OK);
		assert_true(calls[i].version > 0);
	}
	assert_int_equal(count("SELECT count(*) FROM fee.seats"), MANY);
	assert_int_equal(count("SELECT count(*) FROM fee.audit_logs"), MANY);
	assert_int_equal(count("SELECT count(*) FROM fee.outbox"), MANY);
	assert_in_range(count("SELECT count(DISTINCT xmin::text) FROM fee.seats"), 1, 3);
	free_calls(calls, MANY);
}

static void schools_do_not_share_a_transaction(void **state)
{
	struct call calls[8];

	(void)state;
	for (size_t i = 0; i < 8; i++) {
		calls[i] = a_call(make_seat, (int64_t)i, "school");
		calls[i].req->who.school_id = school_number(1 + (unsigned)i % 2);
	}
	run_calls(calls, 8);
	for (size_t i = 0; i < 8; i++)
		assert_int_equal(calls[i].e, OK);
	assert_int_equal(count("SELECT count(*) FROM fee.seats"), 8);
	assert_int_equal(count("SELECT count(*) FROM (SELECT xmin::text FROM fee.seats GROUP BY 1 HAVING count(DISTINCT "
			       "school_id) > 1) AS x"),
			 0);
	free_calls(calls, 8);
}

static void a_bad_row_fails_alone_with_its_own_error(void **state)
{
	struct call calls[MANY];

	(void)state;
	for (size_t i = 0; i < MANY; i++)
		calls[i] = a_call(make_seat, (int64_t)i, "good");
	calls[3].place = -1;                   /* CHECK */
	calls[20].place = 21;                  /* unique, with its neighbour */
	calls[40].beside = school_number(99);  /* foreign key */
	calls[63].place = INT64_C(5000000000); /* no integer */
	run_calls(calls, MANY);
	assert_int_equal(calls[3].e, ERR_INVALID);
	assert_string_equal(change_refusal(calls[3].req)->constraint, "place_sound");
	assert_int_equal((calls[20].e == OK) + (calls[21].e == OK), 1);
	assert_string_equal(calls[calls[20].e == OK ? 21 : 20].req->code, "already_exists");
	assert_int_equal(calls[40].e, ERR_CONFLICT);
	assert_string_equal(calls[40].req->code, "reference_missing");
	assert_int_equal(calls[63].e, ERR_INVALID);
	for (size_t i = 0; i < MANY; i++) {
		if (i != 3 && i != 20 && i != 21 && i != 40 && i != 63)
			assert_int_equal(calls[i].e, OK);
	}
	assert_int_equal(count("SELECT count(*) FROM fee.seats"), MANY - 4);
	assert_int_equal(count("SELECT count(*) FROM fee.audit_logs"), MANY - 4);
	assert_int_equal(count("SELECT count(*) FROM fee.outbox"), MANY - 4);
	free_calls(calls, MANY);
}

static size_t readers;
static struct waitq all_have_read;

/* Puts when all 16 have read the same. */
static enum err rename_with_the_others(struct call *call)
{
	struct seat *old, *seat;
	enum err e = entity_get(call->req, &seat_entity, call->id, &old);

	if (++readers == 16)
		waitq_wake(&all_have_read, 16, OK);
	else if (e == OK)
		e = waitq_wait(&all_have_read, call->req->deadline);
	if (e != OK)
		return e;
	seat = entity_edit(call->req, &seat_entity, old);
	FIELD_PUT(seat, seat, name, str_of(call->name));
	return entity_put(call->req, &seat_entity, seat);
}

static void of_those_who_have_read_the_same_one_writes(void **state)
{
	struct call first = a_call(make_seat, 1, "hot"), calls[16];
	int done = 0;

	(void)state;
	run_calls(&first, 1);
	for (size_t i = 0; i < 16; i++) {
		calls[i] = a_call(rename_with_the_others, 0, "renamed");
		calls[i].id = first.id;
	}
	run_calls(calls, 16);
	for (size_t i = 0; i < 16; i++) {
		done += calls[i].e == OK;
		assert_true(calls[i].e == OK || (calls[i].e == ERR_CONFLICT && calls[i].req->bases->lost_race));
	}
	assert_int_equal(done, 1);
	assert_int_equal(count("SELECT count(*) FROM fee.audit_logs WHERE action = 'update'"), 1);
	assert_int_equal(count("SELECT count(*) FROM fee.outbox"), 2);
	free_calls(calls, 16);
	free_calls(&first, 1);
	waitq_done(&all_have_read);
}

static void of_those_who_change_one_row_each_sees_the_others(void **state)
{
	struct call first = a_call(make_seat, 1, "hot"), calls[16];
	int64_t conflicts = 0;

	(void)state;
	run_calls(&first, 1);
	assert_int_equal(first.e, OK);
	for (size_t i = 0; i < 16; i++) {
		calls[i] = a_call(rename_again, 0, "renamed");
		calls[i].id = first.id;
	}
	run_calls(calls, 16);
	for (size_t i = 0; i < 16; i++) {
		assert_int_equal(calls[i].e, OK);
		conflicts += calls[i].place;
		for (size_t k = 0; k < i; k++)
			assert_true(calls[i].version != calls[k].version);
	}
	assert_true(conflicts > 0);
	assert_int_equal(count("SELECT count(*) FROM fee.audit_logs WHERE action = 'update'"), 16);
	free_calls(calls, 16);
	free_calls(&first, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_row_is_committed_with_its_record_and_event_before_the_answer),
		T(a_row_is_changed_and_deleted),
		T(a_natural_id_finds_the_row_that_is_there_even_a_deleted_one),
		T(rows_of_several_tables_are_written_together_or_not_at_all),
		T(one_change_does_not_mix_modes),
		T(many_at_once_share_few_transactions),
		T(schools_do_not_share_a_transaction),
		T(a_bad_row_fails_alone_with_its_own_error),
		T(of_those_who_have_read_the_same_one_writes),
		T(of_those_who_change_one_row_each_sees_the_others),
	};
	int failed;

	start_database();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	stop_database();
	return failed;
}
