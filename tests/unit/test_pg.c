/* SPDX-License-Identifier: Apache-2.0 */
/* The pool against a real server: queries, row-level security, and many at once. */
#include "unit/pg_world.h"

/* ---- queries ------------------------------------------------------------------------------------------------------------- */

static void rows_fiber(void *arg)
{
	struct arena *arena = arena_new();
	struct pg_scope scope = scope_in(arena, 5000);
	struct uuid ids[] = {uuid_v7(1), uuid_v7(2)};
	struct answer one;
	struct list rows;

	(void)arg;
	want_err(pg_query(pg, &scope, &insert, PG_PARAMS(PG_UUID(ids[0]), PG_TEXT(STR("rows")), PG_INT8(1)), NULL, &rows), OK);
	want(rows.n == 1 && !rows.v);
	want_err(pg_query(pg, &scope, &insert, PG_PARAMS(PG_UUID(ids[1]), PG_TEXT(STR("rows")), PG_NULL(PG_T_INT8)), NULL, NULL),
		 OK);
	want_err(pg_query(pg, &scope, &list_items, PG_PARAMS(PG_TEXT(STR("rows"))), &answer_schema, &rows), OK);
	want(rows.n == 2);
	if (rows.n == 2) {
		const struct answer *a = rows.v;

		want(uuid_eq(a[0].id, ids[0]) && a[0].n == 1 && str_is(a[0].t, "rows"));
		want(uuid_eq(a[1].id, ids[1]) && !FIELD_HAS(&a[1], answer, n));
	}
	want_err(pg_query_one(pg, &scope, &count_items, PG_PARAMS(PG_TEXT(STR("rows"))), &answer_schema, &one), OK);
	want(one.n == 2);
	want_err(pg_query_one(pg, &scope, &list_items, PG_PARAMS(PG_TEXT(STR("nobody"))), &answer_schema, &one), ERR_NOT_FOUND);
	want_err(pg_query_one(pg, &scope, &list_items, PG_PARAMS(PG_TEXT(STR("rows"))), &answer_schema, &one), ERR_BUG);
	want_err(pg_query_one(pg, &scope, &timeouts, PG_NO_PARAMS, &answer_schema, &one), OK);
	want(str_is(one.t, "4s 1500ms UTC"));
	arena_free(arena);
}

static void rows_come_as_structs(void **state)
{
	(void)state;
	open_as(NULL, 2, 0);
	run(rows_fiber);
	assert_true(pg_is_up(pg));
	assert_int_equal(pg_stats(pg).queries, 7);
	finish();
}

static void rules_fiber(void *arg)
{
	struct arena *arena = arena_new();
	struct pg_scope scope = scope_in(arena, 5000);
	struct pg_fail fail;
	struct uuid id = uuid_v7(1);
	char name[61];

	(void)arg;
	scope.fail = &fail;
	memset(name, 'x', sizeof(name));
	want_err(pg_query(pg, &scope, &insert, PG_PARAMS(PG_UUID(id), PG_TEXT(STR("rules")), PG_INT8(1)), NULL, NULL), OK);
	want(fail.sqlstate[0] == '\0');
	want_err(pg_query(pg, &scope, &insert, PG_PARAMS(PG_UUID(uuid_v7(2)), PG_TEXT(STR("rules")), PG_INT8(1)), NULL, NULL),
		 ERR_EXISTS);
	want(strcmp(fail.sqlstate, "23505") == 0 && strcmp(fail.constraint, "item_unique") == 0);
	want_err(pg_query(pg, &scope, &insert, PG_PARAMS(PG_UUID(id), PG_TEXT(((struct str){name, 60})), PG_INT8(1)), NULL, NULL),
		 ERR_INVALID);
	want(strcmp(fail.constraint, "item_name_length") == 0);
	want_err(pg_query(pg, &scope, &insert, PG_PARAMS(PG_UUID(uuid_v7(3)), PG_NULL(PG_T_TEXT), PG_INT8(1)), NULL, NULL),
		 ERR_INVALID);
	want(strcmp(fail.sqlstate, "23502") == 0);
	want_err(pg_query(pg, &scope, &insert_child, PG_PARAMS(PG_UUID(uuid_v7(4))), NULL, NULL), ERR_CONFLICT);
	want(strcmp(fail.constraint, "child_item") == 0);
	/* Checked at the commit, so the error comes after the statement's own success. */
	want_err(pg_query(pg, &scope, &insert_late_child, PG_PARAMS(PG_UUID(uuid_v7(4))), NULL, NULL), ERR_CONFLICT);
	want(strcmp(fail.constraint, "late_child_item") == 0);
	want_err(pg_query(pg, &scope, &insert_late_child, PG_PARAMS(PG_UUID(id)), NULL, NULL), OK);
	want(fail.sqlstate[0] == '\0' && fail.constraint[0] == '\0');
	arena_free(arena);
}

static void refused_rows_name_the_rule(void **state)
{
	(void)state;
	open_as(NULL, 1, 0);
	run(rules_fiber);
	assert_int_equal(pg_stats(pg).connects, 1); /* no error cost the connection */
	finish();
}

static void bugs_fiber(void *arg)
{
	struct arena *arena = arena_new();
	struct pg_scope scope = scope_in(arena, 5000);
	struct answer one, again;
	struct list rows;

	(void)arg;
	want_err(pg_query_one(pg, &scope, &backend, PG_NO_PARAMS, &answer_schema, &one), OK);
	want_err(pg_query(pg, &scope, &wrong_column, PG_NO_PARAMS, &answer_schema, &rows), ERR_BUG);
	want_err(pg_query(pg, &scope, &wrong_syntax, PG_NO_PARAMS, &answer_schema, &rows), ERR_BUG);
	want_err(pg_query(pg, &scope, &wrong_syntax, PG_NO_PARAMS, &answer_schema, &rows), ERR_BUG);
	want_err(pg_query(pg, &scope, &echo, PG_NO_PARAMS, &answer_schema, &rows), ERR_BUG);
	/* One statement, two types of parameter. */
	want_err(pg_query_one(pg, &scope, &echo, PG_PARAMS(PG_INT4(5)), &answer_schema, &again), OK);
	want(again.n == 5);
	want_err(pg_query_one(pg, &scope, &echo, PG_PARAMS(PG_INT8(INT64_MAX)), &answer_schema, &again), OK);
	want(again.n == INT64_MAX);
	want_err(pg_query_one(pg, &scope, &echo, PG_PARAMS(PG_NULL(PG_T_INT4)), &answer_schema, &again), OK);
	want(!FIELD_HAS(&again, answer, n));
	want_err(pg_query_one(pg, &scope, &backend, PG_NO_PARAMS, &answer_schema, &again), OK);
	want(one.n == again.n);
	arena_free(arena);
}

static void a_wrong_statement_is_a_bug_and_harms_nobody_else(void **state)
{
	(void)state;
	open_as(NULL, 1, 0);
	run(bugs_fiber);
	finish();
}

static void school_fiber(void *arg)
{
	static const char *const names[] = {"aaaaaaaa-0000-4000-8000-000000000001", "bbbbbbbb-0000-4000-8000-000000000002"};
	struct arena *arena = arena_new();
	struct pg_scope a = scope_in(arena, 5000), b = a, none = a;
	struct answer one;
	struct pg_tx *tx;

	(void)arg;
	want(uuid_parse(str_of(names[0]), &a.school) && uuid_parse(str_of(names[1]), &b.school));
	want_err(pg_query(pg, &a, &add_pupil, PG_PARAMS(PG_UUID(a.school)), NULL, NULL), OK);
	want_err(pg_query(pg, &b, &add_pupil, PG_PARAMS(PG_UUID(b.school)), NULL, NULL), OK);
	want_err(pg_query(pg, &b, &add_pupil, PG_PARAMS(PG_UUID(b.school)), NULL, NULL), OK);
	want_err(pg_query(pg, &b, &add_pupil, PG_PARAMS(PG_UUID(a.school)), NULL, NULL), ERR_BUG); /* 42501: the policy */
	want_err(pg_query_one(pg, &a, &pupils, PG_NO_PARAMS, &answer_schema, &one), OK);
	want(one.n == 1);
	want_err(pg_query_one(pg, &b, &pupils, PG_NO_PARAMS, &answer_schema, &one), OK);
	want(one.n == 2);
	want_err(pg_query_one(pg, &none, &pupils, PG_NO_PARAMS, &answer_schema, &one), OK);
	want(one.n == 0);
	want_err(pg_query_one(pg, &none, &setting, PG_NO_PARAMS, &answer_schema, &one), OK);
	want(one.t.n == 0);
	/* The same through a transaction, which leaves nothing behind either. */
	want_err(pg_begin(pg, &b, &tx), OK);
	want_err(pg_tx_query_one(tx, &pupils, PG_NO_PARAMS, &answer_schema, &one), OK);
	want(one.n == 2);
	want_err(pg_tx_query_one(tx, &setting, PG_NO_PARAMS, &answer_schema, &one), OK);
	want(str_is(one.t, names[1]));
	want_err(pg_commit(tx), OK);
	want_err(pg_query_one(pg, &none, &pupils, PG_NO_PARAMS, &answer_schema, &one), OK);
	want(one.n == 0);
	none.actor = "teacher 7";
	want_err(pg_query_one(pg, &none, &actor, PG_NO_PARAMS, &answer_schema, &one), OK);
	want(str_is(one.t, "teacher 7"));
	none.actor = NULL;
	want_err(pg_query_one(pg, &none, &actor, PG_NO_PARAMS, &answer_schema, &one), OK);
	want(str_is(one.t, "schools24"));
	arena_free(arena);
}

static void each_query_sees_its_school_and_the_next_one_does_not(void **state)
{
	(void)state;
	open_as("daemon", 1, 0);
	run(school_fiber);
	assert_int_equal(pg_stats(pg).connects, 1);
	finish();
}

static void flaky_fiber(void *arg)
{
	struct arena *arena = arena_new();
	struct pg_scope scope = scope_in(arena, 5000);
	struct pg_fail fail;
	struct answer one;
	struct pg_tx *tx;

	(void)arg;
	scope.fail = &fail;
	want_err(pg_query_one(pg, &scope, &flaky, PG_NO_PARAMS, &answer_schema, &one), OK);
	want(one.n == 7);
	/* In a transaction only the caller knows what else must be repeated. */
	want_err(pg_begin(pg, &scope, &tx), OK);
	want_err(pg_tx_query_one(tx, &flaky, PG_NO_PARAMS, &answer_schema, &one), ERR_DB);
	want(strcmp(fail.sqlstate, "40001") == 0);
	pg_rollback(tx);
	arena_free(arena);
}

static void a_lost_serialization_is_repeated_for_single_statements(void **state)
{
	(void)state;
	open_as(NULL, 1, 0);
	run(flaky_fiber);
	finish();
}

static void widened_fiber(void *arg)
{
	struct arena *arena = arena_new();
	struct pg_scope scope = scope_in(arena, 5000);
	struct answer one;

	(void)arg;
	want_err(pg_query_one(pg, &scope, &widened, PG_NO_PARAMS, &answer_schema, &one), OK);
	real_pg_sql(server, "ALTER TABLE widened ALTER v TYPE bigint");
	want_err(pg_query_one(pg, &scope, &widened, PG_NO_PARAMS, &answer_schema, &one), OK);
	want(one.n == 5);
	arena_free(arena);
}

static void a_migration_under_a_prepared_statement_goes_unnoticed(void **state)
{
	(void)state;
	open_as(NULL, 1, 0);
	run(widened_fiber);
	finish();
}

/* ---- many at once -------------------------------------------------------------------------------------------------------- */

static void a_thousand_fibers_share_four_connections(void **state)
{
	(void)state;
	for (unsigned depth = 1; depth <= 16; depth += 15) {
		open_as(NULL, 4, depth);
		many(echo_fiber, 1000);
		assert_int_equal(answered, 900);
		assert_int_equal(failed, 100);
		assert_int_equal(pg_stats(pg).queries, 1000);
		assert_in_range(pg_stats(pg).connects, 1, 4);
		assert_int_equal(pg_stats(pg).waiting, 0);
		finish();
	}
}

static void large_fiber(void *arg)
{
	struct arena *arena = arena_new();
	struct pg_scope scope = scope_in(arena, 20000);
	size_t n = 3000000 + (size_t)(intptr_t)arg;
	char *text = arena_alloc(arena, n);
	struct answer one;

	memset(text, 'a' + (int)((intptr_t)arg % 26), n);
	want_err(pg_query_one(pg, &scope, &echo_text, PG_PARAMS(PG_TEXT(((struct str){text, n}))), &answer_schema, &one), OK);
	want((size_t)one.n == n && str_eq(one.t, (struct str){text, n}));
	arena_free(arena);
}

static void large_values_flow_both_ways_at_once(void **state)
{
	(void)state;
	open_as(NULL, 2, 16);
	many(large_fiber, 12);
	finish();
}

static void impatient_fiber(void *arg)
{
	struct arena *arena = arena_new();
	struct pg_scope scope = scope_in(arena, arg ? 100 : 5000);
	struct answer one;

	count(pg_query_one(pg, &scope, &sleeps, PG_PARAMS(PG_INT8(1), PG_FLOAT8(0.4)), &answer_schema, &one));
	arena_free(arena);
}

static void waiters_leave_at_their_deadline(void **state)
{
	(void)state;
	open_as(NULL, 1, 1);
	many(impatient_fiber, 5);
	assert_int_equal(answered, 1);
	assert_int_equal(timed_out, 4);
	assert_int_equal(pg_stats(pg).waiting, 0);
	assert_int_equal(pg_stats(pg).connects, 1);
	many(echo_fiber, 3);
	assert_int_equal(answered, 3);
	finish();
}

static void a_full_queue_refuses_at_once(void **state)
{
	(void)state;
	open_as(NULL, 1, 1);
	many(echo_fiber, 1); /* connected */
	many(impatient_fiber, 1200);
	assert_int_equal(answered + timed_out, 1025);
	assert_int_equal(refused, 175);
	finish();
}

static void stuck_fiber(void *arg)
{
	struct arena *arena = arena_new();
	struct pg_scope scope = scope_in(arena, 5000);
	struct answer one;

	(void)arg;
	count(pg_query_one(pg, &scope, &sleeps, PG_PARAMS(PG_INT8(1), PG_FLOAT8(3)), &answer_schema, &one));
	arena_free(arena);
}

static struct fiber *victim;

static void cancelled_fiber(void *arg)
{
	struct arena *arena = arena_new();
	struct pg_scope scope = scope_in(arena, 5000);
	struct answer one;

	(void)arg;
	victim = fiber_self();
	want_err(pg_query_one(pg, &scope, &sleeps, PG_PARAMS(PG_INT8(1), PG_FLOAT8(3)), &answer_schema, &one), ERR_CANCELLED);
	victim = NULL;
	arena_free(arena);
}

static void cancelling_fiber(void *arg)
{
	int64_t began = loop_mono_us(loop);

	(void)arg;
	want_err(sleep_ms(loop, 100, deadline_in(loop, 1000)), OK);
	fiber_cancel(victim);
	want_err(sleep_ms(loop, 1, deadline_in(loop, 1000)), OK);
	want(!victim);
	/* The connection is given up soon after, and the next one finds another. */
	echo_fiber((void *)1);
	want(loop_mono_us(loop) - began < 2 * US_PER_S);
}

static void a_cancelled_fiber_leaves_and_its_connection_is_replaced(void **state)
{
	(void)state;
	open_as(NULL, 1, 4);
	assert_int_equal(fiber_spawn(loop, "victim", cancelled_fiber, NULL), OK);
	run(cancelling_fiber);
	assert_int_equal(pg_stats(pg).connects, 2);
	/* The server notices by itself that nobody listens. */
	for (int i = 0; i < 300; i++) {
		if (real_pg_number(server,
				   "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep(%'"
				   " AND pid <> pg_backend_pid()") == 0)
			break;
		assert_true(i < 299);
		run(echo_fiber);
	}
	finish();
}

static void closer_fiber(void *arg)
{
	(void)arg;
	want_err(sleep_ms(loop, 100, deadline_in(loop, 1000)), OK);
	pg = pg_close(pg);
}

static void closing_frees_those_who_wait(void **state)
{
	(void)state;
	open_as(NULL, 1, 1);
	assert_int_equal(fiber_spawn(loop, "closer", closer_fiber, NULL), OK);
	many(stuck_fiber, 3);
	assert_int_equal(failed, 3);
	finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rows_come_as_structs),
		cmocka_unit_test(refused_rows_name_the_rule),
		cmocka_unit_test(a_wrong_statement_is_a_bug_and_harms_nobody_else),
		cmocka_unit_test(each_query_sees_its_school_and_the_next_one_does_not),
		cmocka_unit_test(a_lost_serialization_is_repeated_for_single_statements),
		cmocka_unit_test(a_migration_under_a_prepared_statement_goes_unnoticed),
		cmocka_unit_test(a_thousand_fibers_share_four_connections),
		cmocka_unit_test(large_values_flow_both_ways_at_once),
		cmocka_unit_test(waiters_leave_at_their_deadline),
		cmocka_unit_test(a_full_queue_refuses_at_once),
		cmocka_unit_test(a_cancelled_fiber_leaves_and_its_connection_is_replaced),
		cmocka_unit_test(closing_frees_those_who_wait),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
