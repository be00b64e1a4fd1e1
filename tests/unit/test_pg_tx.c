/* SPDX-License-Identifier: Apache-2.0 */
/* The pool against a real server: transactions, and a server that goes away at the worst moments. */
#include <signal.h>

#include "unit/pg_world.h"

/* ---- transactions -------------------------------------------------------------------------------------------------------- */

static long items(const char *name)
{
	char sql[100];

	snprintf(sql, sizeof(sql), "SELECT count(*) FROM item WHERE name = '%s'", name);
	return real_pg_number(server, sql);
}

static enum err tx_insert(struct pg_tx *tx, const char *name, int64_t amount)
{
	return pg_tx_query(tx, &insert, PG_PARAMS(PG_UUID(uuid_v7(1)), PG_TEXT(str_of(name)), PG_INT8(amount)), NULL, NULL);
}

static void transactions_fiber(void *arg)
{
	struct arena *arena = arena_new();
	struct pg_scope scope = scope_in(arena, 5000);
	struct pg_tx *tx;

	(void)arg;
	want_err(pg_begin(pg, &scope, &tx), OK);
	want_err(tx_insert(tx, "kept", 1), OK);
	want_err(tx_insert(tx, "kept", 2), OK);
	want(items("kept") == 0);
	want_err(pg_commit(tx), OK);
	want(items("kept") == 2);
	want_err(pg_commit(tx), ERR_BUG);

	want_err(pg_begin(pg, &scope, &tx), OK);
	want_err(tx_insert(tx, "rolled", 1), OK);
	pg_rollback(tx);
	want_err(pg_begin(pg, &scope, &tx), OK);
	want_err(pg_commit(tx), OK); /* nothing in it */

	want_err(pg_begin(pg, &scope, &tx), OK);
	want_err(tx_insert(tx, "failed", 1), OK);
	want_err(tx_insert(tx, "failed", 1), ERR_EXISTS);
	want_err(tx_insert(tx, "failed", 2), ERR_BUG);
	want_err(pg_commit(tx), ERR_EXISTS);

	want_err(pg_begin(pg, &scope, &tx), OK);
	want_err(tx_insert(tx, "forgotten", 1), OK);
	arena_clear(arena);
	want_err(pg_begin(pg, &scope, &tx), OK);
	want_err(tx_insert(tx, "second", 1), OK);
	want_err(pg_commit(tx), OK);
	want(items("rolled") == 0 && items("failed") == 0 && items("forgotten") == 0 && items("second") == 1);

	/* Refused at the commit itself. */
	want_err(pg_begin(pg, &scope, &tx), OK);
	want_err(pg_tx_query(tx, &insert_late_child, PG_PARAMS(PG_UUID(uuid_v7(9))), NULL, NULL), OK);
	want_err(pg_commit(tx), ERR_CONFLICT);
	arena_free(arena);
}

static void transactions_commit_roll_back_and_are_cleaned_up(void **state)
{
	(void)state;
	open_as(NULL, 1, 0);
	run(transactions_fiber);
	assert_int_equal(pg_stats(pg).idle, 1);
	assert_int_equal(pg_stats(pg).connects, 1);
	finish();
}

static void holder_fiber(void *arg)
{
	struct arena *arena = arena_new();
	struct pg_scope scope = scope_in(arena, 20000);
	struct pg_tx *tx;
	char name[20];

	snprintf(name, sizeof(name), "holder %d", (int)(intptr_t)arg);
	want_err(pg_begin(pg, &scope, &tx), OK);
	want_err(tx_insert(tx, name, 1), OK);
	want_err(sleep_ms(loop, 1, scope.deadline), OK);
	want_err(tx_insert(tx, name, 2), OK);
	if ((intptr_t)arg % 2)
		pg_rollback(tx);
	else
		want_err(pg_commit(tx), OK);
	want(items(name) == ((intptr_t)arg % 2 ? 0 : 2));
	arena_free(arena);
}

static void transactions_and_single_statements_share_the_pool(void **state)
{
	(void)state;
	open_as(NULL, 3, 8);
	for (intptr_t i = 0; i < 30; i++) {
		assert_int_equal(fiber_spawn(loop, "holder", holder_fiber, (void *)i), OK);
		for (intptr_t j = 0; j < 10; j++)
			assert_int_equal(fiber_spawn(loop, "echo", echo_fiber, (void *)j), OK);
	}
	run_all();
	assert_int_equal(pg_stats(pg).waiting, 0);
	finish();
}

static void commit_fiber(void *arg)
{
	struct arena *arena = arena_new();
	struct pg_scope scope = scope_in(arena, arg ? 300 : 5000);
	struct pg_tx *tx;

	want_err(pg_begin(pg, &scope, &tx), OK);
	want_err(pg_tx_query(tx, &slow_commit, PG_PARAMS(PG_FLOAT8(2)), NULL, NULL), OK);
	want_err(pg_commit(tx), ERR_UNCERTAIN);
	arena_free(arena);
}

static void single_fiber(void *arg)
{
	struct arena *arena = arena_new();
	struct pg_scope scope = scope_in(arena, 5000);

	(void)arg;
	want_err(pg_query(pg, &scope, &slow_commit, PG_PARAMS(PG_FLOAT8(2)), NULL, NULL), ERR_UNCERTAIN);
	arena_free(arena);
}

static void terminator_fiber(void *arg)
{
	(void)arg;
	want_err(sleep_ms(loop, 300, deadline_in(loop, 1000)), OK);
	want(real_pg_number(
		     server,
		     "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'schools24'") >= 1);
}

static void a_commit_without_an_answer_is_uncertain(void **state)
{
	(void)state;
	open_as(NULL, 1, 0);
	assert_int_equal(fiber_spawn(loop, "commit", commit_fiber, NULL), OK);
	run(terminator_fiber);
	run(echo_fiber);
	assert_int_equal(fiber_spawn(loop, "single", single_fiber, NULL), OK);
	run(terminator_fiber);
	run(echo_fiber);
	assert_int_equal(fiber_spawn(loop, "late", commit_fiber, (void *)1), OK); /* the deadline passes first */
	run(echo_fiber);
	finish();
}

/* ---- a server that goes away --------------------------------------------------------------------------------------------- */

static void lost_read_fiber(void *arg)
{
	struct arena *arena = arena_new();
	struct pg_scope scope = scope_in(arena, 5000);
	struct answer one;

	(void)arg;
	want_err(pg_query_one(pg, &scope, &sleeps, PG_PARAMS(PG_INT8(1), PG_FLOAT8(3)), &answer_schema, &one), ERR_DB);
	arena_free(arena);
}

static void lost_write_fiber(void *arg)
{
	struct arena *arena = arena_new();
	struct pg_scope scope = scope_in(arena, 5000);

	(void)arg;
	want_err(pg_query(pg, &scope, &insert_slowly,
			  PG_PARAMS(PG_UUID(uuid_v7(1)), PG_TEXT(STR("lost")), PG_INT8(1), PG_FLOAT8(3)), NULL, NULL),
		 ERR_UNCERTAIN);
	arena_free(arena);
}

static void lost_tx_fiber(void *arg)
{
	struct arena *arena = arena_new();
	struct pg_scope scope = scope_in(arena, 5000);
	struct pg_tx *tx;

	(void)arg;
	want_err(pg_begin(pg, &scope, &tx), OK);
	want_err(tx_insert(tx, "lost tx", 1), OK);
	want_err(sleep_ms(loop, 600, scope.deadline), OK);
	want_err(pg_commit(tx), ERR_DB); /* the commit never left */
	arena_free(arena);
}

static void stopper_fiber(void *arg)
{
	(void)arg;
	want_err(sleep_ms(loop, 300, deadline_in(loop, 1000)), OK);
	real_pg_stop(server);
}

static void refused_fiber(void *arg)
{
	struct arena *arena = arena_new();
	struct pg_scope scope = scope_in(arena, 5000);
	int64_t began = loop_mono_us(loop);
	struct answer one;

	(void)arg;
	want_err(pg_query_one(pg, &scope, &echo, PG_PARAMS(PG_INT8(1)), &answer_schema, &one), ERR_DB);
	want(loop_mono_us(loop) - began < US_PER_S);
	want(!pg_is_up(pg));
	arena_free(arena);
}

static void recovery_fiber(void *arg)
{
	struct arena *arena = arena_new();
	struct pg_scope scope = scope_in(arena, 10000);
	struct answer one;
	enum err e;

	(void)arg;
	while ((e = pg_query_one(pg, &scope, &echo, PG_PARAMS(PG_INT8(8)), &answer_schema, &one)) == ERR_DB)
		want_err(sleep_ms(loop, 20, scope.deadline), OK);
	want_err(e, OK);
	want(one.n == 8);
	arena_free(arena);
}

static void a_server_that_dies_and_returns(void **state)
{
	(void)state;
	open_as(NULL, 4, 0);
	run(echo_fiber);
	assert_int_equal(fiber_spawn(loop, "read", lost_read_fiber, NULL), OK);
	assert_int_equal(fiber_spawn(loop, "write", lost_write_fiber, NULL), OK);
	assert_int_equal(fiber_spawn(loop, "tx", lost_tx_fiber, NULL), OK);
	run(stopper_fiber);
	run(refused_fiber);
	assert_false(pg_is_up(pg));
	real_pg_restart(server);
	run(recovery_fiber);
	assert_true(pg_is_up(pg));
	many(echo_fiber, 200);
	assert_int_equal(answered, 180);
	assert_int_equal(items("lost"), 0);
	assert_int_equal(items("lost tx"), 0);
	finish();
}

static void a_server_that_is_not_there_at_start(void **state)
{
	(void)state;
	real_pg_stop(server);
	open_as(NULL, 2, 0);
	run(refused_fiber);
	real_pg_restart(server);
	run(recovery_fiber);
	finish();
}

static void a_lost_idle_connection_costs_no_query(void **state)
{
	(void)state;
	open_as(NULL, 2, 0);
	for (int i = 0; i < 5; i++) {
		many(echo_fiber, 3);
		assert_int_equal(answered, 3);
		real_pg_number(
			server,
			"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'schools24'");
	}
	finish();
}

static void silent_fiber(void *arg)
{
	struct arena *arena = arena_new();
	struct pg_scope scope = scope_in(arena, 9000);
	struct answer one;
	pid_t stopped;

	(void)arg;
	want_err(pg_query_one(pg, &scope, &backend, PG_NO_PARAMS, &answer_schema, &one), OK);
	stopped = (pid_t)one.n;
	want(kill(stopped, SIGSTOP) == 0);
	/* A read is repeated on another connection, so silence costs time but no error. */
	want_err(pg_query_one(pg, &scope, &echo, PG_PARAMS(PG_INT8(3)), &answer_schema, &one), OK);
	want(one.n == 3);
	kill(stopped, SIGCONT);
	arena_free(arena);
}

static void a_silent_server_process_is_given_up(void **state)
{
	struct pg_conf conf = {.url = real_pg_url(server, NULL), .connections = 1, .statement_ms = 200};

	(void)state;
	loop = loop_new();
	bad = 0;
	assert_int_equal(pg_open(loop, &conf, &pg), OK);
	run(silent_fiber);
	finish();
}

static void tcp_fiber(void *arg)
{
	(void)arg;
	echo_fiber((void *)1);
}

static void names_are_resolved_and_tcp_works(void **state)
{
	char url[100];
	struct pg_conf conf = {.url = url, .connections = 1};

	(void)state;
	snprintf(url, sizeof(url), "postgresql://postgres@localhost:%d/postgres?sslmode=disable", real_pg_port(server));
	loop = loop_new();
	bad = 0;
	assert_int_equal(pg_open(loop, &conf, &pg), OK);
	run(tcp_fiber);
	finish();
	loop = loop_new();
	conf.url = "not a url";
	assert_int_equal(pg_open(loop, &conf, &pg), ERR_INVALID);
	conf.url = "postgresql://nobody@host.invalid/postgres";
	assert_int_equal(pg_open(loop, &conf, &pg), ERR_DB);
	loop = loop_free(loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(transactions_commit_roll_back_and_are_cleaned_up),
		cmocka_unit_test(transactions_and_single_statements_share_the_pool),
		cmocka_unit_test(a_commit_without_an_answer_is_uncertain),
		cmocka_unit_test(a_server_that_dies_and_returns),
		cmocka_unit_test(a_server_that_is_not_there_at_start),
		cmocka_unit_test(a_lost_idle_connection_costs_no_query),
		cmocka_unit_test(a_silent_server_process_is_given_up),
		cmocka_unit_test(names_are_resolved_and_tcp_works),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
