/* SPDX-License-Identifier: Apache-2.0 */
/* A server with tables, statements for them, a pool, and what runs fibers over it: for test_pg.c and test_pg_tx.c. */
#ifndef S24_UNIT_PG_WORLD_H
#define S24_UNIT_PG_WORLD_H

#include "unit/unit.h"

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

static inline void tables(void)
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

static inline int start(void **state)
{
	(void)state;
	server = real_pg_start();
	tables();
	return 0;
}

static inline int stop(void **state)
{
	(void)state;
	server = real_pg_free(server);
	return 0;
}

static inline void open_as(const char *user, unsigned connections, unsigned pipeline)
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

static inline void run_all(void)
{
	assert_true(fiber_drain(loop, deadline_in(loop, 30000)));
	assert_int_equal(bad, 0);
}

static inline void finish(void)
{
	run_all();
	pg = pg_close(pg);
	loop = loop_free(loop);
}

static inline void run(fiber_fn fn)
{
	assert_int_equal(fiber_spawn(loop, "test", fn, NULL), OK);
	run_all();
}

static inline struct pg_scope scope_in(struct arena *arena, int64_t ms)
{
	return (struct pg_scope){.arena = arena, .deadline = deadline_in(loop, ms)};
}

static unsigned answered, refused, timed_out, failed;

static inline void count(enum err e)
{
	answered += e == OK;
	refused += e == ERR_OVERLOAD;
	timed_out += e == ERR_TIMEOUT;
	failed += e != OK && e != ERR_OVERLOAD && e != ERR_TIMEOUT;
}

static inline void echo_fiber(void *arg)
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

static inline void many(fiber_fn fn, intptr_t n)
{
	answered = refused = timed_out = failed = 0;
	for (intptr_t i = 0; i < n; i++)
		assert_int_equal(fiber_spawn(loop, "many", fn, (void *)i), OK);
	run_all();
}

#endif
