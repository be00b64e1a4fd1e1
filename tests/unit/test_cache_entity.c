/* SPDX-License-Identifier: Apache-2.0 */
/* Kept rows over a real buffer, cache and PostgreSQL: what is looked at, what must forget it, and what an edit may stand on. */
#include "unit/kept_world.h"

#include "svc/buffers.h"
#include "svc/cache_entity.h"

static struct entity note; /* note_entity, kept */
static const struct entity *entities[] = {&seat_entity, &badge_entity, &note, &fee_audit_entity, NULL};
static const struct service service = {
	.name = "fee", .routes = routes, .entities = entities, .entity_sql = fee_entity_sql, .events = events};
static const struct uuid student = {{9}};

/* ---- requests ---- */

static enum err look(struct call *call)
{
	struct note *row;
	enum err e = entity_look(call->req, &note, call->id, &row);

	if (e != OK)
		return e;
	if (!str_is(row->name, call->name) || !uuid_eq(row->student_id, student) || !uuid_eq(row->row.id, call->id))
		return ERR_CORRUPT;
	e = entity_reply(call->req, &note, row, &note_schema, row);
	return e;
}

static enum err put(struct call *call)
{
	struct note *row = entity_edit(call->req, &note, NULL);
	enum err e;

	FIELD_PUT(row, note, student_id, student);
	FIELD_PUT(row, note, name, str_of(call->name));
	e = entity_put(call->req, &note, row);
	touch_raise(call->req); /* what the kit does before the answer */
	call->id = row->row.id;
	return e;
}

static enum err change(struct call *call)
{
	struct note *old, *row;
	enum err e = entity_get(call->req, &note, call->id, &old);

	if (e != OK)
		return e;
	row = entity_edit(call->req, &note, old);
	FIELD_PUT(row, note, name, str_of(call->name));
	e = entity_put(call->req, &note, row);
	if (call->req->touched)
		touch_raise(call->req);
	return e;
}

static enum err change_what_was_looked_at(struct call *call)
{
	struct note *old, *row;
	enum err e = entity_look(call->req, &note, call->id, &old);

	if (e != OK)
		return e;
	row = entity_edit(call->req, &note, old);
	FIELD_PUT(row, note, name, str_of("changed"));
	return entity_put(call->req, &note, row);
}

static enum err take_away(struct call *call)
{
	struct note *old;
	enum err e = entity_get(call->req, &note, call->id, &old);

	if (e != OK)
		return e;
	e = entity_delete(call->req, &note, entity_edit(call->req, &note, old));
	touch_raise(call->req);
	return e;
}

/* Between this one's reading and its keeping, an import or a worker's flush is told. */
static const char *overtaken_by;
static bool overtaken;

static enum err read_and_be_overtaken(struct req *req, const struct entity *e, struct uuid id, struct base **ret)
{
	struct cache_tags tags = {.school = req->who.school_id};
	struct note *row;
	enum err err = entity_get(req, e, id, &row);

	if (err != OK)
		return err;
	*ret = base_seen(req, e, id);
	if (str_is(STR("flush"), overtaken_by))
		touch_flushed(e, id, req->arena, &tags);
	else
		cache_tag(&tags, req->arena, "bulk:", str_of(e->table));
	overtaken = cache_raise(req->daemon->caches, req->arena, &tags) == OK;
	return OK;
}

static enum err look_and_be_overtaken(struct call *call)
{
	struct base *base;

	return row_cache_read(call->req, &note, call->id, read_and_be_overtaken, &base);
}

static enum err is_parent(struct call *call)
{
	struct note *row;

	return entity_parent(call->req, &note, call->id, &row);
}

/* Any command of the buffer's Redis. */
static enum err command(struct call *call)
{
	struct redis_reply r;
	struct str words[4], rest = str_of(call->name);
	size_t n = 0;

	while (rest.n != 0 && n < ARRAY_LEN(words))
		words[n++] = str_split(&rest, ' ');
	return redis_call(req_buffer(call->req), call->req->arena, call->req->deadline, (struct redis_args){words, n}, &r);
}

/* As the ACK of a newer version leaves it. */
static enum err leave_marker(struct call *call)
{
	struct req *req = call->req;
	struct uuid school = req->who.school_id;
	struct redis_reply r;

	return redis_call(req_buffer(req), req->arena, req->deadline,
			  REDIS_ARGS(STR("HSET"), buffer_meta_key(req->arena, &note, call->id), STR("ver"),
				     str_of(arena_printf(req->arena, "%lld", (long long)req->now_us)), STR("calls"), STR(""),
				     STR("school"), (struct str){(const char *)school.b, sizeof(school.b)}),
			  &r);
}

static enum err one(enum err (*fn)(struct call *call), const char *name, struct uuid *id, enum sync_state *ret_sync)
{
	struct call call = {
		.req = fn == look ? a_read(&routes[1]) : a_request(&routes[1], NULL), .fn = fn, .name = name, .id = *id};

	run_calls(&call, 1);
	*id = call.id;
	if (ret_sync)
		*ret_sync = call.req->sync;
	free_calls(&call, 1);
	return call.e;
}

static struct uuid note_id(void)
{
	struct note like = {0};

	FIELD_PUT(&like, note, student_id, student);
	return entity_natural_id(&note, school_number(1), &like);
}

static const char *text_of(struct uuid id)
{
	static char text[UUID_TEXT + 1];

	uuid_text(id, text);
	return text;
}

/* As a flush long ago has left it. */
static void in_table(const char *name, long long version)
{
	char sql[512], text[64], *at = text, school[UUID_TEXT + 1], pupil[UUID_TEXT + 1];

	uuid_text(school_number(1), school);
	uuid_text(student, pupil);
	for (const char *c = name; *c != '\0'; c++) { /* as SQL has it */
		if (*c == '\'')
			*at++ = '\'';
		*at++ = *c;
	}
	*at = '\0';
	snprintf(sql, sizeof(sql),
		 "INSERT INTO fee.notes (id, school_id, student_id, name, version, created_at, updated_at) VALUES ('%s', '%s', "
		 "'%s', '%s', %lld, "
		 "now(), now()) ON CONFLICT (id) DO UPDATE SET name = EXCLUDED.name, version = EXCLUDED.version",
		 text_of(note_id()), school, pupil, text, version);
	real_pg_sql(server, sql);
}

static long long an_hour_ago(void)
{
	return (long long)clock_real_us() - 3600 * US_PER_S;
}

static void stop_pg(void)
{
	real_pg_sql(server, "CHECKPOINT"); /* it is killed, and does not wait for its disk otherwise */
	real_pg_stop(server);
}

/* The pool finds it again in its own time. */
static void start_pg(void)
{
	enum err e = ERR_DB;

	real_pg_restart(server);
	for (int i = 0; i < 200 && e == ERR_DB; i++) {
		struct call call = {.req = a_request(&routes[1], NULL), .fn = change, .name = "x", .id = school_number(77)};

		run_calls(&call, 1);
		e = call.e;
		free_calls(&call, 1);
		for (int k = 0; k < 20; k++)
			turn_both();
	}
	assert_int_equal(e, ERR_NOT_FOUND);
}

/* ---- looking ---- */

static void a_row_is_read_once_and_then_kept(void **state)
{
	struct uuid id = note_id();
	enum sync_state sync;
	uint64_t before;

	(void)state;
	in_table("kept", an_hour_ago());
	before = asked();
	assert_int_equal(one(look, "kept", &id, NULL), OK);
	assert_int_equal(asked(), before + 1);
	assert_int_equal(one(look, "kept", &id, &sync), OK);
	assert_int_equal(sync, SYNC_NONE);
	assert_int_equal(asked(), before + 1);
	use(1); /* another replica */
	before = asked();
	assert_int_equal(one(look, "kept", &id, NULL), OK);
	assert_int_equal(asked(), before);
}

/* A5: known to be absent is not the same as not known. */
static void that_there_is_none_is_kept_until_it_is_made(void **state)
{
	struct uuid id = note_id();
	uint64_t before = asked();

	(void)state;
	assert_int_equal(one(look, "", &id, NULL), ERR_NOT_FOUND);
	assert_int_equal(one(look, "", &id, NULL), ERR_NOT_FOUND);
	assert_int_equal(asked(), before + 1);
	assert_true(cache_stats(kit->daemon.caches).negative >= 1);
	use(1);
	assert_int_equal(one(put, "made", &id, NULL), OK);
	use(0);
	assert_int_equal(one(look, "made", &id, NULL), OK);
}

static void pass(int64_t s)
{
	struct loop *loop = kit->daemon.loop;

	loop_clock_set(loop, loop_mono_us(loop) + s * US_PER_S, loop_real_us(loop) + s * US_PER_S);
}

/* A5: it has a shorter life than a row (30 s here, and 60). */
static void that_there_is_none_is_kept_for_its_own_time(void **state)
{
	struct uuid id = note_id(), other = school_number(50);
	uint64_t before;

	(void)state;
	in_table("kept", an_hour_ago());
	assert_int_equal(one(look, "kept", &id, NULL), OK);
	assert_int_equal(one(look, "", &other, NULL), ERR_NOT_FOUND);
	before = asked();
	pass(29);
	assert_int_equal(one(look, "", &other, NULL), ERR_NOT_FOUND);
	assert_int_equal(asked(), before);
	pass(2);
	assert_int_equal(one(look, "", &other, NULL), ERR_NOT_FOUND);
	assert_int_equal(asked(), before + 1);
	assert_int_equal(one(look, "kept", &id, NULL), OK);
	assert_int_equal(asked(), before + 1);
	pass(30);
	assert_int_equal(one(look, "kept", &id, NULL), OK);
	assert_int_equal(asked(), before + 2);
}

/* A tombstone, in the buffer and in the table, is no row; and that is kept like any other absence. */
static void what_was_deleted_is_gone_and_stays_so(void **state)
{
	struct uuid id = note_id();
	uint64_t before;

	(void)state;
	in_table("kept", an_hour_ago());
	assert_int_equal(one(look, "kept", &id, NULL), OK);
	use(1);
	assert_int_equal(one(take_away, "", &id, NULL), OK);
	use(0);
	assert_int_equal(one(look, "kept", &id, NULL), ERR_NOT_FOUND);
	before = asked();
	assert_int_equal(one(look, "kept", &id, NULL), ERR_NOT_FOUND);
	assert_int_equal(asked(), before);
	stop_pg();
	assert_int_equal(one(change, "on a tombstone", &id, NULL), ERR_NOT_FOUND); /* the buffer says so */
	assert_int_equal(one(command, "FLUSHALL", &id, NULL), OK);
	assert_int_equal(one(change, "on no base", &id, NULL), ERR_DB);
	start_pg();
}

/* Under the same id: neither finds what the other one has, and neither drops it. */
static void another_school_has_its_own_answer(void **state)
{
	struct uuid id = note_id();
	struct call call;
	uint64_t before = asked();

	(void)state;
	in_table("of the first", an_hour_ago());
	for (int i = 0; i < 2; i++) {
		assert_int_equal(one(look, "of the first", &id, NULL), OK);
		call = (struct call){.req = a_read(&routes[1]), .fn = look, .name = "of the first", .id = id};
		call.req->who.school_id = school_number(2);
		run_calls(&call, 1);
		assert_int_equal(call.e, ERR_NOT_FOUND);
		free_calls(&call, 1);
		assert_int_equal(asked() - before, 2);
	}
}

/* B7: the epochs are older than what was read. */
static void is_not_kept_when_overtaken(const char *by)
{
	struct uuid id = note_id();

	overtaken_by = by;
	overtaken = false;
	in_table("old", an_hour_ago());
	assert_int_equal(one(look_and_be_overtaken, "", &id, NULL), OK);
	assert_true(overtaken);
	in_table("new", an_hour_ago() + 9);
	for (int i = 0; i < 2; i++) {
		use(i);
		assert_int_equal(one(look, "new", &id, NULL), OK);
	}
}

static void a_row_read_before_a_flush_is_not_kept_behind_it(void **state)
{
	(void)state;
	is_not_kept_when_overtaken("flush");
}

static void a_row_read_before_an_import_is_not_kept_behind_it(void **state)
{
	(void)state;
	is_not_kept_when_overtaken("import");
}

/* A parent is believed to be there, and never believed to be absent. */
static void that_a_parent_is_absent_is_asked_anew(void **state)
{
	struct uuid id = note_id();

	(void)state;
	assert_int_equal(one(look, "", &id, NULL), ERR_NOT_FOUND);
	in_table("past the cache", an_hour_ago());
	assert_int_equal(one(look, "", &id, NULL), ERR_NOT_FOUND);
	assert_int_equal(one(is_parent, "", &id, NULL), OK);
}

/* D6, B7: whoever wrote, on whichever replica, the next look is not older. */
static void a_write_on_one_replica_is_seen_on_the_other(void **state)
{
	struct uuid id = note_id();

	(void)state;
	in_table("old", an_hour_ago());
	for (int i = 0; i < 2; i++) {
		use(i);
		assert_int_equal(one(look, "old", &id, NULL), OK);
	}
	use(0);
	assert_int_equal(one(change, "new", &id, NULL), OK);
	for (int i = 0; i < 2; i++) {
		use(i);
		assert_int_equal(one(look, "new", &id, NULL), OK);
	}
}

static void what_was_looked_at_is_no_base_of_a_write(void **state)
{
	struct uuid id = note_id();

	(void)state;
	in_table("kept", an_hour_ago());
	assert_int_equal(one(look, "kept", &id, NULL), OK);
	assert_int_equal(one(change_what_was_looked_at, "", &id, NULL), ERR_BUG);
	assert_int_equal(one(look, "kept", &id, NULL), OK);
}

/* Where a row is, is never kept: it leaves the buffer without changing. */
static void a_kept_row_says_where_it_is_by_now(void **state)
{
	struct uuid id = {{0}};
	enum sync_state sync;
	char word[160];

	(void)state;
	assert_int_equal(one(put, "buffered", &id, NULL), OK);
	assert_int_equal(one(look, "buffered", &id, &sync), OK);
	assert_int_equal(sync, SYNC_PENDING);
	assert_int_equal(one(look, "buffered", &id, &sync), OK);
	assert_int_equal(sync, SYNC_PENDING);
	snprintf(word, sizeof(word), "ZADD wb:lease:note 1 %s", text_of(id));
	assert_int_equal(one(command, word, &id, NULL), OK);
	assert_int_equal(one(look, "buffered", &id, &sync), OK);
	assert_int_equal(sync, SYNC_IN_FLIGHT);
	snprintf(word, sizeof(word), "DEL write_buffer:note:%s", text_of(id));
	assert_int_equal(one(command, word, &id, NULL), OK);
	assert_int_equal(one(look, "buffered", &id, &sync), OK); /* nothing has been raised: the kept row */
	assert_int_equal(sync, SYNC_NONE);
}

static void without_the_buffer_what_is_kept_is_not_told(void **state)
{
	struct uuid id = note_id();
	struct call call;

	(void)state;
	in_table("kept", an_hour_ago());
	assert_int_equal(one(look, "kept", &id, NULL), OK);
	real_redis_kill(&buffer);
	for (int i = 0; i < 5000 && redis_is_up(daemon_buffer(&kit->daemon)); i++)
		turn_both();
	in_table("of the table alone", an_hour_ago() + 1);
	call = (struct call){.req = a_read(&routes[1]), .fn = look, .name = "of the table alone", .id = id};
	run_calls(&call, 1);
	assert_int_equal(call.e, OK);
	assert_true(call.req->database_only);
	free_calls(&call, 1);
	real_redis_again(&buffer);
}

static void without_the_cache_rows_are_read_where_they_are(void **state)
{
	struct uuid id = note_id();

	(void)state;
	in_table("here", an_hour_ago());
	assert_int_equal(one(look, "here", &id, NULL), OK);
	real_redis_kill(&cache_server);
	assert_int_equal(one(look, "here", &id, NULL), OK);
	assert_int_equal(one(change, "there", &id, NULL), OK);
	assert_int_equal(one(look, "there", &id, NULL), OK);
	real_redis_again(&cache_server);
}

/* ---- PostgreSQL is away (write-path.md 3) ---- */

static void with_postgresql_away_a_kept_row_is_the_base_of_an_edit(void **state)
{
	struct uuid id = note_id(), other = school_number(50);
	long long version = an_hour_ago();

	(void)state;
	in_table("before", version);
	assert_int_equal(one(look, "before", &id, NULL), OK);
	assert_int_equal(one(look, "", &other, NULL), ERR_NOT_FOUND);
	stop_pg();
	assert_int_equal(one(look, "before", &id, NULL), OK);         /* and is read */
	assert_int_equal(one(change, "after", &other, NULL), ERR_DB); /* that there is none is no base */
	assert_int_equal(one(change, "after", &id, NULL), OK);
	assert_int_equal(one(look, "after", &id, NULL), OK);
	use(1);
	assert_int_equal(one(change, "once more", &id, NULL), OK);
	start_pg();
	assert_int_equal(one(look, "once more", &id, NULL), OK);
	assert_int_equal(count("SELECT count(*) FROM fee.notes WHERE name = 'before'"), 1); /* the worker's turn now */
}

static void with_postgresql_away_what_is_not_kept_is_refused(void **state)
{
	struct uuid id = note_id();

	(void)state;
	in_table("before", an_hour_ago());
	assert_int_equal(one(look, "before", &id, NULL), OK);
	assert_int_equal(one(change, "changed", &id, NULL), OK);
	/* Its flush, by a worker that has not told the caches yet: but the change has. */
	assert_int_equal(one(command, "FLUSHALL", &id, NULL), OK);
	in_table("changed", an_hour_ago() + 3);
	stop_pg();
	assert_int_equal(one(change, "on an old base", &id, NULL), ERR_DB);
	start_pg();
}

/* Both who wrote and who flushed have died before they told the caches: the marker knows. */
static void a_kept_row_that_is_old_makes_a_conflict_and_no_lost_write(void **state)
{
	struct uuid id = note_id();
	long long version = an_hour_ago();

	(void)state;
	in_table("before", version);
	assert_int_equal(one(look, "before", &id, NULL), OK);
	in_table("written by one that died", version + 5);
	assert_int_equal(one(leave_marker, "", &id, NULL), OK);
	stop_pg();
	assert_int_equal(one(change, "on an old base", &id, NULL), ERR_CONFLICT);
	start_pg();
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, open_daemons, close_daemons)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_row_is_read_once_and_then_kept),
		T(that_there_is_none_is_kept_until_it_is_made),
		T(that_there_is_none_is_kept_for_its_own_time),
		T(what_was_deleted_is_gone_and_stays_so),
		T(another_school_has_its_own_answer),
		T(a_row_read_before_a_flush_is_not_kept_behind_it),
		T(a_row_read_before_an_import_is_not_kept_behind_it),
		T(that_a_parent_is_absent_is_asked_anew),
		T(a_write_on_one_replica_is_seen_on_the_other),
		T(what_was_looked_at_is_no_base_of_a_write),
		T(a_kept_row_says_where_it_is_by_now),
		T(without_the_buffer_what_is_kept_is_not_told),
		T(without_the_cache_rows_are_read_where_they_are),
		T(with_postgresql_away_a_kept_row_is_the_base_of_an_edit),
		T(with_postgresql_away_what_is_not_kept_is_refused),
		T(a_kept_row_that_is_old_makes_a_conflict_and_no_lost_write),
	};

	note = note_entity;
	note.ttl_s = 60;
	note.negative_ttl_s = 30;
	return run_world(tests, ARRAY_LEN(tests), &service);
}
