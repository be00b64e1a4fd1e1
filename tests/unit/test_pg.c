/* SPDX-License-Identifier: Apache-2.0 */
/* The pool against a real server: queries, row-level security, transactions, and a server that goes away at the worst moments. */
#include "unit/unit.h"

#include <signal.h>

#include "base/timefmt.h"
#include "base/uuid.h"
#include "io/fiber.h"
#include "io/pg.h"
#include "unit/real_pg.h"

#define ANSWER_FIELDS(F, T) \
	F(T, INT, n)        \
	F(T, TEXT, t)       \
	F(T, UUID, id)
SCHEMA_STRUCT(answer, ANSWER_FIELDS);
SCHEMA_TABLE(answer, ANSWER_FIELDS);

// clang-format off
#define STMT(name_, text) static const struct pg_stmt name_ = {#name_, text}
STMT(echo, "SELECT $1 AS n");
STMT(echo_text, "SELECT length($1)::bigint AS n, $1 AS t");
STMT(sleeps, "SELECT $1 AS n FROM pg_sleep($2)");
STMT(insert, "INSERT INTO item (id, name, amount) VALUES ($1, $2, $3)");
STMT(insert_slowly, "INSERT INTO item (id, name, amount) SELECT $1, $2, $3 FROM pg_sleep($4)");
STMT(insert_child, "INSERT INTO child (item) VALUES ($1)");
STMT(insert_late_child, "INSERT INTO late_child (item) VALUES ($1)");
STMT(count_items, "SELECT count(*) AS n FROM item WHERE name = $1");
STMT(list_items, "SELECT id, name AS t, amount AS n FROM item WHERE name = $1 ORDER BY amount");
STMT(pupils, "SELECT count(*) AS n FROM pupil");
STMT(setting, "SELECT coalesce(current_setting('app.school_id', true), '') AS t");
STMT(actor, "SELECT current_setting('application_name') AS t");
STMT(backend, "SELECT pg_backend_pid()::bigint AS n");
STMT(wrong_column, "SELECT 1::bigint AS n, 2 AS unknown_name");
STMT(wrong_syntax, "SELEC 1");
STMT(divides, "SELECT 1 / $1 AS n");
STMT(flaky, "SELECT flaky() AS n");
STMT(add_pupil, "INSERT INTO pupil (school_id) VALUES ($1)");
STMT(widened, "SELECT v AS n FROM widened");
STMT(slow_commit, "INSERT INTO slow_commit (seconds) VALUES ($1)");
STMT(timeouts, "SELECT current_setting('statement_timeout') || ' ' || current_setting('lock_timeout') || ' ' || current_setting('TimeZone') AS t");
// clang-format on

static struct real_pg *server;
static struct loop *loop;
static struct pg *pg;
static int bad;

/* An assertion inside a fiber must not jump out of its stack. */
#define want(what)                                                                       \
	do {                                                                             \
		if (!(what)) {                                                           \
			print_error("%s:%d: not true: %s\n", __FILE__, __LINE__, #what); \
			bad++;                                                           \
		}                                                                        \
	} while (0)
#define want_err(expression, wanted)                                                                       \
	do {                                                                                               \
		enum err got_ = (expression);                                                              \
		if (got_ != (wanted)) {                                                                    \
			print_error("%s:%d: %s is %s\n", __FILE__, __LINE__, #expression, err_name(got_)); \
			bad++;                                                                             \
		}                                                                                          \
	} while (0)

static void tables(void)
{
	real_pg_sql(server,
		    "CREATE TABLE item (id uuid PRIMARY KEY, name text NOT NULL CONSTRAINT item_name_length CHECK (length(name) "
		    "< 50), amount bigint,"
		    " CONSTRAINT item_unique UNIQUE (name, amount));"
		    "CREATE TABLE child (item uuid CONSTRAINT child_item REFERENCES item (id));"
		    "CREATE TABLE late_child (item uuid CONSTRAINT late_child_item REFERENCES item (id) DEFERRABLE INITIALLY "
		    "DEFERRED);"
		    "CREATE ROLE daemon LOGIN; CREATE TABLE pupil (school_id uuid);"
		    "ALTER TABLE pupil ENABLE ROW LEVEL SECURITY; ALTER TABLE pupil FORCE ROW LEVEL SECURITY;"
		    "CREATE POLICY one_school ON pupil TO daemon USING (school_id = nullif(current_setting('app.school_id', "
		    "true), '')::uuid);"
		    "GRANT SELECT, INSERT ON pupil TO daemon;"
		    "CREATE SEQUENCE flaky_calls;"
		    "CREATE FUNCTION flaky() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN IF nextval('flaky_calls') % 3 <> 0 THEN"
		    " RAISE 'lost' USING ERRCODE = '40001'; END IF; RETURN 7; END $$;"
		    "CREATE TABLE widened (v int); INSERT INTO widened VALUES (5);"
		    "CREATE TABLE slow_commit (seconds float8);"
		    "CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(NEW.seconds); RETURN "
		    "NULL; END $$;"
		    "CREATE CONSTRAINT TRIGGER slowly AFTER INSERT ON slow_commit DEFERRABLE INITIALLY DEFERRED"
		    " FOR EACH ROW EXECUTE FUNCTION slowly()");
}

static int start(void **state)
{
	(void)state;
	server = real_pg_start();
	tables();
	return 0;
}

static int stop(void **state)
{
	(void)state;
	server = real_pg_free(server);
	return 0;
}

static void open_as(const char *user, unsigned connections, unsigned pipeline)
{
	struct pg_conf conf = {.url = real_pg_url(server, user),
			       .connections = connections,
			       .pipeline = pipeline,
			       .statement_ms = 4000,
			       .lock_ms = 1500};

	loop = loop_new();
	bad = 0;
	assert_int_equal(pg_open(loop, &conf, &pg), OK);
}

static void run_all(void)
{
	assert_true(fiber_drain(loop, deadline_in(loop, 30000)));
	assert_int_equal(bad, 0);
}

static void finish(void)
{
	run_all();
	pg = pg_close(pg);
	loop = loop_free(loop);
}

static void run(fiber_fn fn)
{
	assert_int_equal(fiber_spawn(loop, "test", fn, NULL), OK);
	run_all();
}

static struct pg_scope scope_in(struct arena *arena, int64_t ms)
{
	return (struct pg_scope){.arena = arena, .deadline = deadline_in(loop, ms)};
}

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

static unsigned answered, refused, timed_out, failed;

static void count(enum err e)
{
	answered += e == OK;
	refused += e == ERR_OVERLOAD;
	timed_out += e == ERR_TIMEOUT;
	failed += e != OK && e != ERR_OVERLOAD && e != ERR_TIMEOUT;
}

static void echo_fiber(void *arg)
{
	struct arena *arena = arena_new();
	struct pg_scope scope = scope_in(arena, 20000);
	struct answer one;
	int64_t n = (intptr_t)arg;
	enum err e;

	if (n % 10 == 3) { /* an error between the others */
		e = pg_query_one(pg, &scope, &divides, PG_PARAMS(PG_INT8(0)), &answer_schema, &one);
		want(e == ERR_INVALID);
	} else {
		e = pg_query_one(pg, &scope, &echo, PG_PARAMS(PG_INT8(n)), &answer_schema, &one);
		want(e == OK && one.n == n);
	}
	count(e);
	arena_free(arena);
}

static void many(fiber_fn fn, intptr_t n)
{
	answered = refused = timed_out = failed = 0;
	for (intptr_t i = 0; i < n; i++)
		assert_int_equal(fiber_spawn(loop, "many", fn, (void *)i), OK);
	run_all();
}

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
