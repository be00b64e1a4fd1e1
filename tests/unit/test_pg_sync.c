/* SPDX-License-Identifier: Apache-2.0 */
/* The worker's blocking connection: transactions, binary COPY into the columns' own types, and a server that goes away. */
#include "unit/unit.h"

#include <pthread.h>
#include <time.h>

#include "base/uuid.h"
#include "io/pg_sync.h"
#include "unit/real_pg.h"

#define KINDS                                            \
	{                                                \
		(const char *const[]){"quiz", "exam"}, 2 \
	}
#define MARK_FIELDS(F, T)                \
	F(T, TEXT, title)                \
	F(T, INT, points)                \
	F(T, DECIMAL, score)             \
	F(T, MONEY, price)               \
	F(T, FLOAT, ratio)               \
	F(T, BOOL, late)                 \
	F(T, TIME, at)                   \
	F(T, DATE, day)                  \
	F(T, ENUM, kind, .names = KINDS) \
	F(T, JSON, extra)                \
	F(T, UUIDS, pupils)              \
	F(T, TEXTS, words)               \
	F(T, INTS, numbers)
ROW_STRUCT(mark, MARK_FIELDS);
ROW_TABLE(mark, MARK_FIELDS, 1);

#define COLUMNS                                                                                                            \
	"id, school_id, title, points, score, price, ratio, late, at, day, kind, extra, pupils, words, numbers, version, " \
	"created_at, updated_at, deleted_at"

// clang-format off
#define STMT(name_, text) static const struct pg_stmt name_ = {#name_, text}
STMT(copy_marks, "-- utility\nCOPY marks (" COLUMNS ") FROM STDIN (FORMAT binary)");
STMT(copy_small, "-- utility\nCOPY wb_small (" COLUMNS ") FROM STDIN (FORMAT binary)");
STMT(make_small, "-- utility\nCREATE TEMP TABLE wb_small (LIKE small) ON COMMIT DELETE ROWS");
STMT(from_small, "INSERT INTO small SELECT * FROM wb_small ORDER BY id");
STMT(read_small, "SELECT " COLUMNS " FROM small ORDER BY points");
STMT(read_marks, "SELECT " COLUMNS " FROM marks ORDER BY points");
STMT(insert_number, "INSERT INTO numbers (n) VALUES ($1)");
STMT(insert_slowly, "INSERT INTO slow_commit (seconds) VALUES ($1)");
STMT(sleeps, "SELECT 1 FROM pg_sleep($1)");
STMT(count_numbers, "SELECT count(*) FROM numbers");
// clang-format on

static struct real_pg *server;
static struct pg_sync *pg;
static struct arena *arena;

static int start(void **state)
{
	(void)state;
	server = real_pg_start();
	real_pg_sql(server,
		    "CREATE TABLE marks (id uuid PRIMARY KEY, school_id uuid NOT NULL, title text, points bigint, score bigint, "
		    "price bigint, ratio float8,"
		    " late bool, at timestamptz, day date, kind text, extra jsonb, pupils uuid[], words text[], numbers bigint[],"
		    " version bigint NOT NULL, created_at timestamptz, updated_at timestamptz, deleted_at timestamptz);"
		    "CREATE TABLE small (id uuid PRIMARY KEY, school_id uuid NOT NULL, title varchar(40), points smallint, score "
		    "numeric(12,2), price numeric,"
		    " ratio real, late bool, at timestamptz, day date, kind varchar(10), extra json, pupils uuid[], words "
		    "varchar(20)[], numbers int[],"
		    " version bigint NOT NULL, created_at timestamptz, updated_at timestamptz, deleted_at timestamptz);"
		    "CREATE TABLE numbers (n int PRIMARY KEY);"
		    "CREATE TABLE slow_commit (seconds float8);"
		    "CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(NEW.seconds); RETURN "
		    "NULL; END $$;"
		    "CREATE CONSTRAINT TRIGGER slowly AFTER INSERT ON slow_commit DEFERRABLE INITIALLY DEFERRED"
		    " FOR EACH ROW EXECUTE FUNCTION slowly()");
	return 0;
}

static int stop(void **state)
{
	(void)state;
	server = real_pg_free(server);
	return 0;
}

static int each(void **state)
{
	(void)state;
	arena = arena_new();
	real_pg_sql(server, "TRUNCATE marks, small, numbers, slow_commit");
	assert_int_equal(pg_sync_open(real_pg_url(server, NULL), 3000, 1000, &pg), OK);
	return 0;
}

static int after(void **state)
{
	(void)state;
	pg = pg_sync_close(pg);
	arena_free(arena);
	return 0;
}

static struct mark *mark_new(int64_t points)
{
	static struct uuid ids[] = {{{9}}, {{8}}};
	static struct str words[] = {{"one", 3}, {"", 0}};
	static int64_t numbers[] = {-5, INT32_MAX};
	struct mark *m = arena_zalloc(arena, sizeof(*m));

	m->row.id = uuid_v7(1700000000000000);
	m->row.school_id = ids[0];
	m->row.version = 1000 + points;
	m->row.created_at = 1700000000000001;
	m->row.updated_at = 1700000000000002;
	FIELD_PUT(m, mark, points, points);
	if (points % 7 == 0)
		return m; /* everything else is null */
	FIELD_PUT(m, mark, title, STR("tab\tand \\N and \"quote\""));
	FIELD_PUT(m, mark, score, points * 33 - 5000);
	FIELD_PUT(m, mark, price, points * 1000003);
	FIELD_PUT(m, mark, ratio, 0.25);
	FIELD_PUT(m, mark, late, points % 2 == 0);
	FIELD_PUT(m, mark, at, 1700000000999999);
	FIELD_PUT(m, mark, day, 12345);
	FIELD_PUT(m, mark, kind, 1);
	FIELD_PUT(m, mark, extra, STR("{\"a\": 1}"));
	FIELD_PUT(m, mark, pupils, ((struct list){ids, 2}));
	FIELD_PUT(m, mark, words, ((struct list){words, 2}));
	FIELD_PUT(m, mark, numbers, ((struct list){numbers, 2}));
	return m;
}

static const void **marks_new(size_t n)
{
	const void **rows = arena_array(arena, n, sizeof(*rows));

	for (size_t i = 0; i < n; i++)
		rows[i] = mark_new((int64_t)i);
	return rows;
}

static void assert_same(const void *const *rows, size_t n, const struct pg_stmt *reader)
{
	struct list got;

	assert_int_equal(pg_sync_query(pg, arena, reader, PG_NO_PARAMS, &mark_schema, &got), OK);
	assert_int_equal(got.n, n);
	for (size_t i = 0; i < n; i++) {
		const struct mark *in = rows[i], *out = &((const struct mark *)got.v)[i];

		assert_true(row_equal(&mark_schema, in, out));
		assert_true(uuid_eq(in->row.id, out->row.id));
		assert_int_equal(in->row.version, out->row.version);
		assert_int_equal(in->row.created_at, out->row.created_at);
	}
}

static void a_thousand_rows_go_by_copy(void **state)
{
	const void **rows = marks_new(1000);

	(void)state;
	assert_int_equal(pg_sync_begin(pg), OK);
	assert_int_equal(pg_sync_copy(pg, &copy_marks, &mark_schema, rows, 1000), OK);
	assert_int_equal(pg_sync_commit(pg), OK);
	assert_same(rows, 1000, &read_marks);
}

static void copy_speaks_the_columns_own_types(void **state)
{
	const void **rows = marks_new(200);

	(void)state;
	assert_int_equal(pg_sync_run(pg, &make_small), OK);
	assert_int_equal(pg_sync_begin(pg), OK);
	assert_int_equal(pg_sync_copy(pg, &copy_small, &mark_schema, rows, 200), OK);
	assert_int_equal(pg_sync_query(pg, arena, &from_small, PG_NO_PARAMS, NULL, NULL), OK);
	assert_int_equal(pg_sync_commit(pg), OK);
	assert_same(rows, 200, &read_small);
	assert_int_equal(
		real_pg_number(server,
			       "SELECT count(*) FROM small WHERE score = points * 0.33 - 50 AND price = points * 10000.03"),
		171);
}

static void a_copy_that_is_refused_leaves_the_connection_usable(void **state)
{
	const void **rows = marks_new(3);
	struct mark *big = mark_new(1);
	const void *one = big;

	(void)state;
	assert_int_equal(pg_sync_run(pg, &make_small), OK);
	big->points = 40000; /* no smallint */
	assert_int_equal(pg_sync_begin(pg), OK);
	assert_int_equal(pg_sync_copy(pg, &copy_small, &mark_schema, &one, 1), ERR_INVALID);
	assert_string_equal(pg_sync_fail(pg)->sqlstate, "22003");
	assert_int_equal(pg_sync_query(pg, arena, &from_small, PG_NO_PARAMS, NULL, NULL), ERR_BUG);
	assert_int_equal(pg_sync_commit(pg), ERR_INVALID);
	/* The server refuses: one id twice. */
	rows[2] = rows[1];
	assert_int_equal(pg_sync_begin(pg), OK);
	assert_int_equal(pg_sync_copy(pg, &copy_marks, &mark_schema, rows, 3), ERR_EXISTS);
	assert_string_equal(pg_sync_fail(pg)->constraint, "marks_pkey");
	pg_sync_rollback(pg);
	assert_string_equal(pg_sync_fail(pg)->sqlstate, "23505");
	assert_int_equal(pg_sync_begin(pg), OK);
	assert_int_equal(pg_sync_copy(pg, &copy_marks, &mark_schema, rows, 2), OK);
	assert_int_equal(pg_sync_commit(pg), OK);
	assert_int_equal(pg_sync_generation(pg), 1);
}

static enum err put_number(int64_t n)
{
	return pg_sync_query(pg, arena, &insert_number, PG_PARAMS(PG_INT8(n)), NULL, NULL);
}

static void transactions_keep_all_or_nothing(void **state)
{
	struct list n;

	(void)state;
	assert_int_equal(pg_sync_begin(pg), OK);
	assert_int_equal(put_number(1), OK);
	assert_int_equal(put_number(2), OK);
	assert_int_equal(pg_sync_commit(pg), OK);
	assert_int_equal(pg_sync_begin(pg), OK);
	assert_int_equal(put_number(3), OK);
	pg_sync_rollback(pg);
	assert_int_equal(pg_sync_begin(pg), OK);
	assert_int_equal(put_number(4), OK);
	assert_int_equal(put_number(1), ERR_EXISTS);
	assert_int_equal(pg_sync_commit(pg), ERR_EXISTS);
	assert_int_equal(put_number(INT64_C(1) << 40), ERR_INVALID);
	assert_int_equal(real_pg_number(server, "SELECT count(*) FROM numbers"), 2);
	assert_int_equal(pg_sync_query(pg, arena, &count_numbers, PG_NO_PARAMS, NULL, &n), OK);
	assert_int_equal(n.n, 1);
	assert_int_equal(pg_sync_commit(pg), ERR_BUG);
}

static void a_lost_idle_connection_is_replaced_unnoticed(void **state)
{
	(void)state;
	assert_int_equal(put_number(1), OK);
	assert_int_equal(pg_sync_generation(pg), 1);
	real_pg_restart(server);
	assert_int_equal(pg_sync_begin(pg), OK);
	assert_int_equal(put_number(2), OK);
	assert_int_equal(pg_sync_commit(pg), OK);
	assert_int_equal(pg_sync_generation(pg), 2);
}

static void a_connection_lost_in_a_transaction_says_so(void **state)
{
	(void)state;
	assert_int_equal(pg_sync_begin(pg), OK);
	assert_int_equal(put_number(1), OK);
	real_pg_stop(server);
	assert_int_equal(put_number(2), ERR_DB);
	assert_string_equal(pg_sync_fail(pg)->sqlstate, "");
	assert_int_equal(pg_sync_commit(pg), ERR_DB);
	assert_int_equal(pg_sync_begin(pg), ERR_DB);
	real_pg_restart(server);
	assert_int_equal(pg_sync_begin(pg), OK);
	assert_int_equal(put_number(2), OK);
	assert_int_equal(pg_sync_commit(pg), OK);
	assert_int_equal(real_pg_number(server, "SELECT count(*) FROM numbers"), 1);
}

static void *terminate(void *arg)
{
	struct timespec t = {.tv_nsec = 300000000};

	(void)arg;
	nanosleep(&t, NULL);
	real_pg_number(server,
		       "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'schools24'");
	return NULL;
}

static void a_commit_without_an_answer_is_uncertain(void **state)
{
	pthread_t thread;

	(void)state;
	assert_int_equal(pg_sync_begin(pg), OK);
	assert_int_equal(pg_sync_query(pg, arena, &insert_slowly, PG_PARAMS(PG_FLOAT8(2)), NULL, NULL), OK);
	assert_int_equal(pthread_create(&thread, NULL, terminate, NULL), 0);
	assert_int_equal(pg_sync_commit(pg), ERR_UNCERTAIN);
	pthread_join(thread, NULL);
	assert_int_equal(put_number(1), OK);
	/* A single statement commits by itself. */
	assert_int_equal(pthread_create(&thread, NULL, terminate, NULL), 0);
	assert_int_equal(pg_sync_query(pg, arena, &insert_slowly, PG_PARAMS(PG_FLOAT8(2)), NULL, NULL), ERR_UNCERTAIN);
	pthread_join(thread, NULL);
}

static void slow_statements_end_by_the_servers_clock(void **state)
{
	struct pg_sync *hasty;

	(void)state;
	assert_int_equal(pg_sync_open(real_pg_url(server, NULL), 100, 100, &hasty), OK);
	assert_int_equal(pg_sync_query(hasty, arena, &sleeps, PG_PARAMS(PG_FLOAT8(5)), NULL, NULL), ERR_TIMEOUT);
	assert_string_equal(pg_sync_fail(hasty)->sqlstate, "57014");
	assert_int_equal(pg_sync_query(hasty, arena, &count_numbers, PG_NO_PARAMS, NULL, NULL), OK);
	pg_sync_close(hasty);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, each, after)
	const struct CMUnitTest tests[] = {
		TEST(a_thousand_rows_go_by_copy),
		TEST(copy_speaks_the_columns_own_types),
		TEST(a_copy_that_is_refused_leaves_the_connection_usable),
		TEST(transactions_keep_all_or_nothing),
		TEST(a_lost_idle_connection_is_replaced_unnoticed),
		TEST(a_connection_lost_in_a_transaction_says_so),
		TEST(a_commit_without_an_answer_is_uncertain),
		TEST(slow_statements_end_by_the_servers_clock),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
