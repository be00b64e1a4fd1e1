/* SPDX-License-Identifier: Apache-2.0 */
/* Kept answers of statements over a real buffer, cache and PostgreSQL: under what they are kept, and what must forget them (G1, G3, B10, D4). */
#include "unit/kept_queries.h"

/* ---- G1: what the text is ---- */

static void texts_that_mean_the_same_are_the_same_and_others_are_not(void **state)
{
	static const struct {
		const char *sql, *text;
	} rows[] = {
		{"SELECT  a ,\n\tb FROM t -- why\n WHERE c = 'x  y' ;", "SELECT a,b FROM t WHERE c = 'x  y'"},
		{"/* head /* nested */ still */ SELECT 1", "SELECT 1"},
		{"SELECT 'It''s -- no comment', 1", "SELECT 'It''s -- no comment',1"},
		{"SELECT E'\\' -- no comment' , 1", "SELECT E'\\' -- no comment',1"},
		{"SELECT $t$ -- 'text' $$ $t$ , $1", "SELECT $t$ -- 'text' $$ $t$,$1"},
		{"SELECT \"A  b\" FROM \"T\"", "SELECT \"A  b\" FROM \"T\""},
		{"SELECT 'ABC', 'abc'", "SELECT 'ABC','abc'"},
		{"SELECT a--b\n-1", "SELECT a -1"},
		{"SELECT a/**/b", "SELECT a b"},
		{"SELECT name'x'", "SELECT name'x'"},
		{"SELECT 1", "SELECT 1"},
		{" \n-- nothing\n", ""},
		{"SELECT 'open", "SELECT 'open"},
		{"SELECT $x$ open", "SELECT $x$ open"},
		{"SELECT /* open", "SELECT"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct buf once = {0}, twice = {0};

		query_text(str_of(rows[i].sql), &once);
		assert_int_equal(once.n, strlen(rows[i].text));
		if (once.n != 0)
			assert_memory_equal(once.p, rows[i].text, once.n);
		query_text(buf_str(&once), &twice);
		assert_true(str_eq(buf_str(&once), buf_str(&twice)));
		buf_done(&once);
		buf_done(&twice);
	}
}

static void other_parameters_types_roles_and_schools_are_other_answers(void **state)
{
	static const char *const one = "[{\"name\":\"one\",\"place\":1}]";
	struct req *req;

	(void)state;
	seat_in_table("01", "one", 1);
	seat_in_table("02", "of the second school", 2);
	ask_of(&seats);
	expect(PG_PARAMS(PG_INT4(0)), one, ANEW);
	expect(PG_PARAMS(PG_INT4(0)), one, KEPT);
	expect(PG_PARAMS(PG_INT4(1)), one, ANEW);
	expect(PG_PARAMS(PG_INT8(0)), one, ANEW); /* another type of the same value */
	expect(PG_PARAMS(PG_NULL(PG_T_INT4)), "[]", ANEW);
	expect(PG_PARAMS(PG_INT4(0)), one, KEPT);
	what.params = PG_PARAMS(PG_INT4(0));
	for (int i = 0; i < 2; i++) {
		uint64_t before = asked();

		req = a_read(&routes[0]);
		req->who.role = ROLE_TEACHER;
		assert_int_equal(run(ask, req, NULL), OK);
		assert_string_equal(got, one);
		assert_int_equal(asked() - before, i == 0 ? ANEW : KEPT);
		req = a_read(&routes[0]);
		req->who.school_id = school_number(2);
		assert_int_equal(run(ask, req, NULL), OK);
		assert_string_equal(got, "[{\"name\":\"of the second school\",\"place\":2}]");
	}
	expect(PG_PARAMS(PG_INT4(0)), one, KEPT);
}

/* ---- G3: which tables ---- */

static void what_says_no_tables_is_asked_each_time(void **state)
{
	(void)state;
	ask_of(&undeclared);
	expect(PG_PARAMS(PG_INT4(0)), "[]", ANEW);
	expect(PG_PARAMS(PG_INT4(0)), "[]", ANEW);
	seat_in_table("01", "one", 1); /* nobody is told of it */
	expect(PG_PARAMS(PG_INT4(0)), "[{\"name\":\"one\",\"place\":1}]", ANEW);
}

static void a_request_that_writes_asks_each_time(void **state)
{
	uint64_t before;

	(void)state;
	ask_of(&seats);
	expect(PG_PARAMS(PG_INT4(0)), "[]", ANEW);
	before = asked();
	what.params = PG_PARAMS(PG_INT4(0));
	assert_int_equal(run(ask, a_request(&routes[0], NULL), NULL), OK);
	assert_int_equal(asked() - before, ANEW);
}

static void a_list_source_by_itself_is_asked_each_time(void **state)
{
	(void)state;
	ask_of(&notes);
	note_in_table("one");
	for (int i = 0; i < 2; i++)
		expect(PG_PARAMS(PG_JSONB(STR("[]")), PG_UUID(student)), "[{\"name\":\"one\",\"place\":0}]", ANEW);
}

/* ---- B10, D4: what must forget ---- */

static void a_change_of_any_of_its_tables_is_seen(void **state)
{
	struct call call = a_call(seat_by_entity, 1, "by entity");

	(void)state;
	real_pg_sql(server,
		    "INSERT INTO fee.badges (id, school_id, student_id, name, version, created_at, updated_at) VALUES "
		    "(gen_random_uuid(), '01900000-0000-7000-8000-000000000001', gen_random_uuid(), 'b', 1, now(), now())");
	ask_of(&woven);
	what.life = &shared;
	expect((struct pg_params){NULL, 0}, "[{\"name\":\"none:1:0\",\"place\":0}]", ANEW);
	expect((struct pg_params){NULL, 0}, "[{\"name\":\"none:1:0\",\"place\":0}]", KEPT);
	run_calls(&call, 1);
	assert_int_equal(call.e, OK);
	free_calls(&call, 1);
	expect((struct pg_params){NULL, 0}, "[{\"name\":\"by entity:1:0\",\"place\":0}]", ANEW);
	assert_int_equal(run(seat_by_statement, a_request(&routes[0], NULL), "by statement"), OK);
	expect((struct pg_params){NULL, 0}, "[{\"name\":\"by entity,by statement:1:0\",\"place\":0}]", ANEW);
	real_pg_sql(server, "DELETE FROM fee.badges"); /* an import, and then an administrator's word */
	expect((struct pg_params){NULL, 0}, "[{\"name\":\"by entity,by statement:1:0\",\"place\":0}]", KEPT);
	assert_int_equal(run(raise_one, a_request(&routes[0], NULL), "bulk:fee.badges"), OK);
	expect((struct pg_params){NULL, 0}, "[{\"name\":\"none:0:0\",\"place\":0}]", ANEW);
	assert_int_equal(run(raise_one, a_request(&routes[0], NULL), "table:fee.notes"), OK);
	expect((struct pg_params){NULL, 0}, "[{\"name\":\"none:0:0\",\"place\":0}]", ANEW);
	assert_int_equal(run(raise_one, a_request(&routes[0], NULL), "table:fee.outbox"), OK);
	expect((struct pg_params){NULL, 0}, "[{\"name\":\"none:0:0\",\"place\":0}]", KEPT);
}

static void a_commit_is_seen_and_a_rollback_raises_nothing(void **state)
{
	uint64_t raised;

	(void)state;
	ask_of(&seats);
	expect(PG_PARAMS(PG_INT4(0)), "[]", ANEW);
	raised = cache_stats(kit->daemon.caches).raised_tags;
	commits = false;
	assert_int_equal(run(seat_by_transaction, a_request(&routes[0], NULL), "rolled back"), ERR_INVALID);
	assert_int_equal(cache_stats(kit->daemon.caches).raised_tags, raised);
	expect(PG_PARAMS(PG_INT4(0)), "[]", KEPT);
	commits = true;
	assert_int_equal(run(seat_by_transaction, a_request(&routes[0], NULL), "committed"), OK);
	assert_int_equal(raised_within, raised); /* behind the commit, not before it */
	assert_true(cache_stats(kit->daemon.caches).raised_tags > raised);
	expect(PG_PARAMS(PG_INT4(0)), "[{\"name\":\"committed\",\"place\":8}]", ANEW);
}

/* A list that stands for its rows is spared by other rows' changes, and reached by its own and by `bulk:`. */
static void tags_of_its_own_stand_for_the_table(void **state)
{
	struct cache_tags scope = {.school = school_number(1)};
	struct arena *arena = arena_new();

	(void)state;
	cache_tag(&scope, arena, "row:", STR("a"));
	ask_of(&seats);
	what.scope = &scope;
	expect(PG_PARAMS(PG_INT4(0)), "[]", ANEW);
	assert_int_equal(run(raise_one, a_request(&routes[0], NULL), "table:fee.seats"), OK);
	expect(PG_PARAMS(PG_INT4(0)), "[]", KEPT);
	assert_int_equal(run(raise_one, a_request(&routes[0], NULL), "row:a"), OK);
	expect(PG_PARAMS(PG_INT4(0)), "[]", ANEW);
	assert_int_equal(run(raise_one, a_request(&routes[0], NULL), "bulk:fee.seats"), OK);
	expect(PG_PARAMS(PG_INT4(0)), "[]", ANEW);
	/* But of a table that the worker writes they do not: a flush raises no lists. */
	ask_of(&notes_in_table);
	what.scope = &scope;
	expect(PG_PARAMS(PG_UUID(student)), "[]", ANEW);
	note_in_table("flushed");
	assert_int_equal(run(flush, a_request(&routes[0], NULL), NULL), OK);
	expect(PG_PARAMS(PG_UUID(student)), "[{\"name\":\"flushed\",\"place\":0}]", ANEW);
	arena_free(arena);
}

static void expect_notes(int on, const char *rows, unsigned queries)
{
	uint64_t before;

	use(on);
	before = asked();
	assert_int_equal(run(list_notes, a_read(&routes[1]), NULL), OK);
	assert_string_equal(got, rows);
	assert_int_equal(asked() - before, queries);
}

/* Over a list source: what is buffered is seen, flushed it is still seen, and so it is when the overlay was taken just before the write. */
static void a_buffered_change_and_its_flush_are_both_seen(void **state)
{
	static const char *const old = "[{\"name\":\"old\",\"place\":0}]", *const new = "[{\"name\":\"new\",\"place\":0}]",
				 *const newer = "[{\"name\":\"newer\",\"place\":0}]";
	struct cache_tags scope = {.school = school_number(1)};
	struct arena *arena = arena_new();

	(void)state;
	cache_tag_id(&scope, arena, "student:", student);
	for (int i = 0; i < 2; i++) { /* by its tables, and by tags that stand for them */
		what.scope = i == 0 ? NULL : &scope;
		note_in_table("old");
		expect_notes(0, old, ANEW);
		expect_notes(1, old, KEPT);
		use(1);
		assert_int_equal(run(write_over, a_request(&routes[1], NULL), "new"), OK);
		expect_notes(0, new, ANEW);
		expect_notes(1, new, KEPT);
		note_in_table("new");
		assert_int_equal(run(flush, a_request(&routes[1], NULL), NULL), OK);
		expect_notes(0, new, i == 0 ? ANEW : KEPT);
		overtaken = "newer"; /* the overlay is taken, then another request writes, then the table is read */
		assert_int_equal(run(raise_one, a_request(&routes[1], NULL), "bulk:fee.notes"), OK);
		use(0);
		assert_int_equal(run(list_notes, a_read(&routes[1]), NULL), OK);
		assert_string_equal(got, new);
		note_in_table("newer"); /* flushed, and the worker has not raised anything yet */
		assert_int_equal(run(list_notes, a_read(&routes[1]), NULL), OK);
		assert_string_equal(got, newer);
		assert_int_equal(run(flush, a_request(&routes[1], NULL), NULL), OK);
		real_pg_sql(server, "TRUNCATE fee.notes CASCADE");
		assert_int_equal(run(raise_one, a_request(&routes[1], NULL), "bulk:fee.notes"), OK);
	}
	arena_free(arena);
}

static void without_the_buffer_a_list_is_told_and_not_kept(void **state)
{
	struct req *req;
	struct call call;

	(void)state;
	what.scope = NULL;
	note_in_table("old");
	expect_notes(0, "[{\"name\":\"old\",\"place\":0}]", ANEW);
	real_redis_kill(&buffer);
	for (int i = 0; i < 5000 && redis_is_up(daemon_buffer(&kit->daemon)); i++)
		turn_both();
	for (int i = 0; i < 2; i++) {
		note_in_table(i == 0 ? "of the table alone" : "of the table still");
		req = a_read(&routes[1]);
		call = (struct call){.req = req, .fn = list_notes};
		run_calls(&call, 1);
		assert_int_equal(call.e, OK);
		assert_true(req->database_only);
		assert_non_null(strstr(got, i == 0 ? "alone" : "still"));
		free_calls(&call, 1);
	}
	real_redis_again(&buffer);
}

/* As when the buffer has failed in the middle of the request. */
static void what_was_read_past_the_buffer_is_not_kept(void **state)
{
	struct req *req = a_read(&routes[1]);
	uint64_t fills = cache_stats(kit->daemon.caches).fills;

	(void)state;
	what.scope = NULL;
	req->database_only = true;
	assert_int_equal(run(list_notes, req, NULL), OK);
	assert_int_equal(cache_stats(kit->daemon.caches).fills, fills);
	expect_notes(0, "[]", ANEW);
	expect_notes(0, "[]", KEPT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(texts_that_mean_the_same_are_the_same_and_others_are_not),
		T(other_parameters_types_roles_and_schools_are_other_answers),
		T(what_says_no_tables_is_asked_each_time),
		T(a_request_that_writes_asks_each_time),
		T(a_list_source_by_itself_is_asked_each_time),
		T(a_change_of_any_of_its_tables_is_seen),
		T(a_commit_is_seen_and_a_rollback_raises_nothing),
		T(tags_of_its_own_stand_for_the_table),
		T(a_buffered_change_and_its_flush_are_both_seen),
		T(without_the_buffer_a_list_is_told_and_not_kept),
		T(what_was_read_past_the_buffer_is_not_kept),
	};

	return run_queries(tests, ARRAY_LEN(tests));
}
