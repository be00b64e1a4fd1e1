/* SPDX-License-Identifier: Apache-2.0 */
/* Values on their way to a real PostgreSQL and back: every type, nulls, the ends of each range, and what must be refused. */
#include "unit/unit.h"

#include <limits.h>
#include <math.h>

#include "base/uuid.h"
#include "io/pg_error.h"
#include "io/pg_sync.h"
#include "io/pg_value.h"
#include "unit/real_pg.h"

static struct real_pg *server;
static struct pg_sync *pg;
static struct arena *arena;

#define COLOURS                                                  \
	{                                                        \
		(const char *const[]){"red", "green", "blue"}, 3 \
	}
#define PART_FIELDS(F, T)             \
	F(T, TEXT, label, .max = 100) \
	F(T, INT, weight, .max = 1000)
SCHEMA_STRUCT(part, PART_FIELDS);
SCHEMA_TABLE(part, PART_FIELDS);

#define THING_FIELDS(F, T)                        \
	F(T, UUID, a_uuid)                        \
	F(T, TEXT, a_text)                        \
	F(T, INT, a_int)                          \
	F(T, DECIMAL, a_decimal)                  \
	F(T, MONEY, a_money)                      \
	F(T, FLOAT, a_float)                      \
	F(T, BOOL, a_bool)                        \
	F(T, TIME, a_time)                        \
	F(T, DATE, a_date, .column = "date_of_a") \
	F(T, ENUM, an_enum, .names = COLOURS)     \
	F(T, JSON, a_json)                        \
	F(T, UUIDS, uuids)                        \
	F(T, TEXTS, texts)                        \
	F(T, INTS, ints)                          \
	F(T, LIST, parts, .sub = &part_schema)
ROW_STRUCT(thing, THING_FIELDS);
ROW_TABLE(thing, THING_FIELDS, 1);

#define COLUMNS                                                                                                                  \
	"id, school_id, a_uuid, a_text, a_int, a_decimal, a_money, a_float, a_bool, a_time, date_of_a, an_enum, a_json, uuids, " \
	"texts, ints, parts,"                                                                                                    \
	" version, created_at, updated_at, deleted_at"

static const struct pg_stmt echo = {"echo", "-- one row as it came\n"
					    "INSERT INTO thing (" COLUMNS
					    ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13,"
					    " $14, $15, $16, $17, $18, $19, $20, $21) RETURNING " COLUMNS};

static int start(void **state)
{
	(void)state;
	server = real_pg_start();
	real_pg_sql(server,
		    "CREATE TABLE thing (id uuid, school_id uuid, a_uuid uuid, a_text text, a_int bigint, a_decimal bigint, "
		    "a_money bigint,"
		    " a_float float8, a_bool bool, a_time timestamptz, date_of_a date, an_enum text, a_json jsonb, uuids uuid[],"
		    " texts text[], ints bigint[], parts jsonb, version bigint, created_at timestamptz, updated_at timestamptz,"
		    " deleted_at timestamptz)");
	assert_int_equal(pg_sync_open(real_pg_url(server, NULL), 5000, 2000, &pg), OK);
	return 0;
}

static int stop(void **state)
{
	(void)state;
	pg = pg_sync_close(pg);
	server = real_pg_free(server);
	return 0;
}

static int each(void **state)
{
	(void)state;
	arena = arena_new();
	return 0;
}

static int after(void **state)
{
	(void)state;
	arena_free(arena);
	return 0;
}

static struct thing *through_server(const struct thing *from)
{
	struct list rows;

	assert_int_equal(pg_sync_query(pg, arena, &echo, pg_row_params(&thing_schema, from, arena), &thing_schema, &rows), OK);
	assert_int_equal(rows.n, 1);
	return rows.v;
}

static struct thing *thing_new(void)
{
	struct thing *t = arena_zalloc(arena, sizeof(*t));

	t->row.id = uuid_v7(1700000000000000);
	t->row.school_id = uuid_v7(1700000000000000);
	t->row.version = 42;
	t->row.created_at = 1700000000123456;
	t->row.updated_at = 1700000000654321;
	return t;
}

static struct thing *thing_full(void)
{
	static struct uuid ids[2] = {{{1, 2}}, {{3, 4}}};
	static struct str words[3] = {{"", 0}, {"one, \"two\"", 10}, {"\xc3\xa4{}", 4}};
	static int64_t numbers[3] = {INT64_MIN, 0, INT64_MAX};
	static struct part parts[1];
	struct thing *t = thing_new();

	FIELD_PUT(&parts[0], part, label, STR("a\"b"));
	FIELD_PUT(&parts[0], part, weight, 7);
	FIELD_PUT(t, thing, a_uuid, uuid_v7(1));
	FIELD_PUT(t, thing, a_text, STR("It's \"quoted\" \xe2\x82\xac; DROP TABLE thing"));
	FIELD_PUT(t, thing, a_int, -1);
	FIELD_PUT(t, thing, a_decimal, 1250);
	FIELD_PUT(t, thing, a_money, -99);
	FIELD_PUT(t, thing, a_float, 0.1);
	FIELD_PUT(t, thing, a_bool, true);
	FIELD_PUT(t, thing, a_time, 1);
	FIELD_PUT(t, thing, a_date, -1);
	FIELD_PUT(t, thing, an_enum, 2);
	FIELD_PUT(t, thing, a_json, STR("{\"a\": [1, 2]}"));
	FIELD_PUT(t, thing, uuids, ((struct list){ids, 2}));
	FIELD_PUT(t, thing, texts, ((struct list){words, 3}));
	FIELD_PUT(t, thing, ints, ((struct list){numbers, 3}));
	FIELD_PUT(t, thing, parts, ((struct list){parts, 1}));
	t->row.deleted_at = 1800000000000000;
	return t;
}

static void every_type_survives_the_round_trip(void **state)
{
	struct thing *in = thing_full(), *out = through_server(in);
	const struct part *p = out->parts.v;

	(void)state;
	assert_true(row_equal(&thing_schema, in, out));
	assert_true(uuid_eq(in->row.id, out->row.id));
	assert_true(uuid_eq(in->row.school_id, out->row.school_id));
	assert_int_equal(out->row.version, 42);
	assert_int_equal(out->row.created_at, in->row.created_at);
	assert_int_equal(out->row.updated_at, in->row.updated_at);
	assert_int_equal(out->row.deleted_at, in->row.deleted_at);
	assert_int_equal(out->an_enum, 2);
	assert_str(((struct str *)out->texts.v)[1], STR("one, \"two\""));
	assert_int_equal(((int64_t *)out->ints.v)[0], INT64_MIN);
	assert_int_equal(out->parts.n, 1);
	assert_str(p->label, STR("a\"b"));
	assert_int_equal(p->weight, 7);
}

static void unset_fields_are_null_and_stay_unset(void **state)
{
	struct thing *out;

	(void)state;
	real_pg_sql(server, "DELETE FROM thing");
	out = through_server(thing_new());
	assert_int_equal(out->row.f.set, 0);
	assert_int_equal(out->row.deleted_at, 0);
	assert_int_equal(
		real_pg_number(server,
			       "SELECT count(*) FROM thing WHERE num_nonnulls(a_uuid, a_text, a_int, a_decimal, a_money, a_float,"
			       " a_bool, a_time, date_of_a, an_enum, a_json, uuids, texts, ints, parts, deleted_at) = 0"),
		1);
}

static void empty_is_not_null(void **state)
{
	struct thing *t = thing_new(), *out;

	(void)state;
	FIELD_PUT(t, thing, a_text, ((struct str){NULL, 0}));
	FIELD_PUT(t, thing, uuids, ((struct list){NULL, 0}));
	FIELD_PUT(t, thing, texts, ((struct list){NULL, 0}));
	FIELD_PUT(t, thing, parts, ((struct list){NULL, 0}));
	out = through_server(t);
	assert_true(FIELD_HAS(out, thing, a_text) && out->a_text.n == 0);
	assert_true(FIELD_HAS(out, thing, uuids) && out->uuids.n == 0);
	assert_true(FIELD_HAS(out, thing, texts) && out->texts.n == 0);
	assert_true(FIELD_HAS(out, thing, parts) && out->parts.n == 0);
}

static void numbers_keep_their_ends(void **state)
{
	static const int64_t ends[] = {INT64_MIN, INT64_MIN + 1, -1, 0, 1, INT32_MAX, INT64_MAX};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
		struct thing *t = thing_new(), *out;

		FIELD_PUT(t, thing, a_int, ends[i]);
		FIELD_PUT(t, thing, a_money, ends[i]);
		out = through_server(t);
		assert_int_equal(out->a_int, ends[i]);
		assert_int_equal(out->a_money, ends[i]);
	}
}

static void instants_and_dates_mean_what_postgres_means(void **state)
{
	struct thing *t = thing_new(), *out;

	(void)state;
	real_pg_sql(server, "DELETE FROM thing");
	FIELD_PUT(t, thing, a_time, INT64_C(1732182723123456)); /* 2024-11-21T09:52:03.123456Z */
	FIELD_PUT(t, thing, a_date, 20048);                     /* 2024-11-21 */
	out = through_server(t);
	assert_int_equal(out->a_time, t->a_time);
	assert_int_equal(out->a_date, t->a_date);
	assert_int_equal(real_pg_number(server, "SELECT count(*) FROM thing WHERE a_time = '2024-11-21T09:52:03.123456Z'"
						" AND date_of_a = '2024-11-21'"),
			 1);
	/* Year 1 and year 9999. */
	FIELD_PUT(t, thing, a_time, INT64_C(-62135596800000000));
	FIELD_PUT(t, thing, a_date, 2932896);
	out = through_server(t);
	assert_int_equal(out->a_time, t->a_time);
	assert_int_equal(out->a_date, t->a_date);
}

#define NUMBERS_FIELDS(F, T)            \
	F(T, INT, i)                    \
	F(T, DECIMAL, d)                \
	F(T, MONEY, m)                  \
	F(T, FLOAT, r)                  \
	F(T, INTS, l)                   \
	F(T, TEXT, t)                   \
	F(T, TIME, at)                  \
	F(T, DATE, day)                 \
	F(T, ENUM, e, .names = COLOURS) \
	F(T, TEXTS, ts)                 \
	F(T, JSON, j)
SCHEMA_STRUCT(numbers, NUMBERS_FIELDS);
SCHEMA_TABLE(numbers, NUMBERS_FIELDS);

/* Statements are remembered by address, so each text gets one of its own. */
static enum err ask(const char *sql, struct numbers *to)
{
	struct pg_stmt *stmt = mem_zalloc(sizeof(*stmt));
	struct list rows;
	enum err e;

	arena_defer(arena, free, stmt);
	stmt->name = "ask";
	stmt->sql = arena_strdup(arena, sql);
	e = pg_sync_query(pg, arena, stmt, PG_NO_PARAMS, &numbers_schema, &rows);
	if (e == OK && rows.n == 1)
		*to = *(struct numbers *)rows.v;
	/* A new connection, because the address may come again. */
	pg = pg_sync_close(pg);
	assert_int_equal(pg_sync_open(real_pg_url(server, NULL), 5000, 2000, &pg), OK);
	return e;
}

static void numerics_are_read_exactly_as_hundredths(void **state)
{
	static const struct {
		const char *sql;
		int64_t d;
	} good[] = {
		{"SELECT 0::numeric AS d", 0},
		{"SELECT 0.01::numeric AS d", 1},
		{"SELECT -0.10::numeric AS d", -10},
		{"SELECT 12345.6::numeric AS d", 1234560},
		{"SELECT 10000::numeric AS d", 1000000},
		{"SELECT 1.50000::numeric AS d", 150},
		{"SELECT 92233720368547758.07::numeric AS d", INT64_MAX},
		{"SELECT -92233720368547758.08::numeric AS d", INT64_MIN},
		{"SELECT 100000000.00::numeric(20,2) AS d", 10000000000},
		{"SELECT 12::int AS d", 12},
	};
	static const char *const bad[] = {
		"SELECT 0.001::numeric AS d",      "SELECT 'NaN'::numeric AS d", "SELECT 92233720368547758.08::numeric AS d",
		"SELECT 'Infinity'::numeric AS d", "SELECT 1e30::numeric AS d",  "SELECT 1.5::numeric AS i"};
	struct numbers n;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		assert_int_equal(ask(good[i].sql, &n), OK);
		assert_int_equal(n.d, good[i].d);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(ask(bad[i], &n), ERR_CORRUPT);
}

static void smaller_and_computed_types_fit_too(void **state)
{
	struct numbers n;

	(void)state;
	assert_int_equal(
		ask("SELECT count(*) AS i, 3::smallint AS m, 0.5::real AS r, ARRAY[1,2]::int[] AS l, 'x'::varchar(5) AS t", &n),
		OK);
	assert_int_equal(n.i, 1);
	assert_int_equal(n.m, 3);
	assert_true(n.r == 0.5);
	assert_int_equal(n.l.n, 2);
	assert_int_equal(((int64_t *)n.l.v)[1], 2);
	assert_str(n.t, STR("x"));
	assert_int_equal(ask("SELECT sum(x) AS i FROM (VALUES (1::bigint), (2)) v (x)", &n), OK);
	assert_int_equal(n.i, 3);
	assert_int_equal(ask("SELECT 'green'::text AS e, '{\"a\":1}'::json AS j, '\\x00ff'::bytea AS t", &n), OK);
	assert_int_equal(n.e, 1);
	assert_str(n.j, STR("{\"a\":1}"));
	assert_int_equal(n.t.n, 2);
}

static void values_that_we_have_no_word_for_are_corrupt(void **state)
{
	static const char *const bad[] = {
		"SELECT 'purple'::text AS e", "SELECT 'infinity'::timestamptz AS at", "SELECT '-infinity'::date AS day",
		"SELECT 'NaN'::float8 AS r",  "SELECT ARRAY[[1],[2]]::bigint[] AS l", "SELECT ARRAY['a', NULL]::text[] AS ts",
	};
	struct numbers n;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(ask(bad[i], &n), ERR_CORRUPT);
}

static void columns_that_do_not_fit_are_our_bug(void **state)
{
	static const char *const bad[] = {"SELECT 1 AS nobody",
					  "SELECT 'x'::text AS i",
					  "SELECT 1 AS t",
					  "SELECT now()::timestamp AS at",
					  "SELECT 1.5::float8 AS i",
					  "SELECT ARRAY['x']::text[] AS l",
					  "SELECT gen_random_uuid() AS t",
					  "SELECT id FROM thing",
					  "SELECT wrong syntax",
					  "SELECT nothing FROM thing"};
	struct numbers n;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(ask(bad[i], &n), ERR_BUG);
}

static void parameters_out_of_range_never_leave(void **state)
{
	static const struct pg_stmt any = {"any", "SELECT 1 AS i WHERE $1 IS NULL"};
	struct pg_param bad[] = {PG_INT4(INT64_C(1) << 31), PG_TIME(INT64_MIN), PG_DATE(INT64_C(1) << 40)};
	struct pg_wire wire;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(pg_wire_encode((struct pg_params){&bad[i], 1}, arena, &wire), ERR_INVALID);
	assert_int_equal(pg_sync_query(pg, arena, &any, PG_PARAMS(PG_INT4(INT64_C(1) << 31)), NULL, NULL), ERR_INVALID);
}

static void text_that_is_not_utf8_is_invalid(void **state)
{
	struct thing *t = thing_new();
	struct list rows;

	(void)state;
	FIELD_PUT(t, thing, a_text, STR("\xff\xfe"));
	assert_int_equal(pg_sync_query(pg, arena, &echo, pg_row_params(&thing_schema, t, arena), &thing_schema, &rows),
			 ERR_INVALID);
	FIELD_PUT(t, thing, a_text, ((struct str){"a\0b", 3}));
	assert_int_equal(pg_sync_query(pg, arena, &echo, pg_row_params(&thing_schema, t, arena), &thing_schema, &rows),
			 ERR_INVALID);
}

static void an_answer_of_changed_rows_has_their_number(void **state)
{
	static const struct pg_stmt change = {"change", "UPDATE thing SET a_int = $1 WHERE a_int IS NOT DISTINCT FROM $2"};
	struct thing *t = thing_new();
	struct list rows;

	(void)state;
	real_pg_sql(server, "DELETE FROM thing");
	FIELD_PUT(t, thing, a_int, 5);
	through_server(t);
	through_server(t);
	assert_int_equal(pg_sync_query(pg, arena, &change, PG_PARAMS(PG_INT8(6), PG_INT8(5)), NULL, &rows), OK);
	assert_int_equal(rows.n, 2);
}

static void states_map_to_what_callers_can_act_on(void **state)
{
	static const struct {
		const char *state;
		enum err err;
	} cases[] = {{"23505", ERR_EXISTS},   {"23514", ERR_INVALID}, {"23502", ERR_INVALID},
		     {"22001", ERR_INVALID},  {"22P03", ERR_BUG},     {"23503", ERR_CONFLICT},
		     {"23P01", ERR_CONFLICT}, {"40001", ERR_DB},      {"57P01", ERR_DB},
		     {"57014", ERR_TIMEOUT},  {"55P03", ERR_TIMEOUT}, {"42P01", ERR_BUG},
		     {"42501", ERR_BUG},      {"08006", ERR_DB},      {"53300", ERR_DB},
		     {"P0001", ERR_CONFLICT}, {"XX001", ERR_CORRUPT}, {"", ERR_BUG}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		assert_int_equal(pg_error_of_state(cases[i].state), cases[i].err);
}

static void statements_tell_whether_they_read(void **state)
{
	(void)state;
	assert_true(pg_stmt_reads(&(struct pg_stmt){"a", "-- params: none\n\n  select 1"}));
	assert_true(pg_stmt_reads(&(struct pg_stmt){"a", "VALUES (1)"}));
	assert_false(pg_stmt_reads(&(struct pg_stmt){"a", "-- params: x uuid; writes\nSELECT fee.post($1)"}));
	assert_false(pg_stmt_reads(&(struct pg_stmt){"a", "-- x\nINSERT INTO t VALUES (1)"}));
	assert_false(pg_stmt_reads(&(struct pg_stmt){"a", "WITH x AS (DELETE FROM t RETURNING 1) SELECT 1"}));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, each, after)
	const struct CMUnitTest tests[] = {
		TEST(every_type_survives_the_round_trip),
		TEST(unset_fields_are_null_and_stay_unset),
		TEST(empty_is_not_null),
		TEST(numbers_keep_their_ends),
		TEST(instants_and_dates_mean_what_postgres_means),
		TEST(numerics_are_read_exactly_as_hundredths),
		TEST(smaller_and_computed_types_fit_too),
		TEST(values_that_we_have_no_word_for_are_corrupt),
		TEST(columns_that_do_not_fit_are_our_bug),
		TEST(parameters_out_of_range_never_leave),
		TEST(text_that_is_not_utf8_is_invalid),
		TEST(an_answer_of_changed_rows_has_their_number),
		TEST(states_map_to_what_callers_can_act_on),
		TEST(statements_tell_whether_they_read),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
