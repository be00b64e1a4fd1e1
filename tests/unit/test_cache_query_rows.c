/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of kept statements: which survive, which are not kept, who asks for them, and what is counted (G2, G4, I1). */
#include "unit/kept_queries.h"

#include "cache/cache_internal.h"

/* ---- G2: rows ---- */

static void rows_of_every_type_survive(void **state)
{
	static char anew[sizeof(got)];

	(void)state;
	seat_in_table("01", "bare", 1); /* everything else is null */
	real_pg_sql(server,
		    "INSERT INTO fee.seats (id, school_id, name, place, price, share, weight, aisle, taken_at, day, status, "
		    "extra, friends, "
		    "words, numbers, version, created_at, updated_at) VALUES ('01900000-0000-7000-8000-0000000000aa', "
		    "'01900000-0000-7000-8000-000000000001', 'naïve \" \\ ''', 2, 9007199254740993, -250, 0.1, true, "
		    "'2026-03-29 01:59:59.999999+01', '0001-01-01', 'taken', '{\"a\": [1, null, 2.50], \"b\": \"\\u0041\"}', "
		    "'{01900000-0000-7000-8000-0000000000ab}', '{\"\",\"a,b\",\"NULL\"}', '{-9223372036854775808,0}', "
		    "9223372036854775807, "
		    "'1969-12-31 23:59:59Z', 'epoch')");
	real_pg_sql(server, "UPDATE fee.seats SET friends = '{}', words = '{}', weight = '-0' WHERE name = 'bare'");
	what = (struct asking){.stmt = &seats_whole, .out = &seat_schema, .life = &minute};
	what.params = (struct pg_params){NULL, 0};
	assert_int_equal(run(ask, a_read(&routes[0]), NULL), OK);
	memcpy(anew, got, sizeof(got));
	assert_non_null(strstr(anew, "\"price\":90071992547409.93,"));
	expect((struct pg_params){NULL, 0}, anew, KEPT);
	use(1); /* out of Redis */
	expect((struct pg_params){NULL, 0}, anew, KEPT);
}

static enum err ask_bytes(struct call *call)
{
	struct list rows;
	struct str name;
	enum err e = db_query_kept(call->req, &bytes, PG_PARAMS(PG_INT4(0)), &named_schema, &minute, NULL, &rows);

	if (e != OK)
		return e;
	name = ((struct named *)rows.v)->name;
	return rows.n == 1 && name.n == 4 && memcmp(name.p, "\x00\x01\xff'", 4) == 0 ? OK : ERR_CORRUPT;
}

static void bytes_survive_and_no_rows_are_an_answer_too(void **state)
{
	uint64_t before = asked();

	(void)state;
	for (int i = 0; i < 4; i++) {
		use(i / 2);
		assert_int_equal(run(ask_bytes, a_read(&routes[0]), NULL), OK);
	}
	use(0);
	assert_int_equal(asked() - before, 1);
	ask_of(&seats);
	expect(PG_PARAMS(PG_INT4(0)), "[]", ANEW);
	expect(PG_PARAMS(PG_INT4(0)), "[]", KEPT);
}

static void too_many_rows_or_bytes_are_told_and_not_kept(void **state)
{
	static const struct {
		const struct pg_stmt *stmt;
		int n;
		unsigned again;
	} rows[] = {{&many, QUERY_ROWS_MAX, KEPT},
		    {&many, QUERY_ROWS_MAX + 1, ANEW},
		    {&big, QUERY_BYTES_MAX - 100, KEPT},
		    {&big, QUERY_BYTES_MAX, ANEW}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		ask_of(rows[i].stmt);
		what.params = PG_PARAMS(PG_INT4(rows[i].n));
		for (unsigned k = 0; k < 2; k++) {
			uint64_t before = asked(), fills = cache_stats(kit->daemon.caches).fills;

			assert_int_equal(run(ask, a_read(&routes[0]), NULL), OK);
			assert_int_equal(asked() - before, k == 0 ? ANEW : rows[i].again);
			assert_int_equal(cache_stats(kit->daemon.caches).fills - fills, k == 0 && rows[i].again == KEPT);
			assert_int_equal(got_rows, rows[i].stmt == &many ? rows[i].n : 1);
		}
	}
}

static void corrupt_rows_are_seen(void **state)
{
	struct arena *arena = arena_new();
	struct named row = {0};
	struct list rows = {&row, 1}, back;
	struct buf b = buf_in(arena);

	(void)state;
	FIELD_PUT(&row, named, name, STR("name"));
	FIELD_PUT(&row, named, place, 5);
	query_pack(&named_schema, &rows, &b);
	assert_int_equal(query_unpack(&named_schema, buf_str(&b), arena, &back), OK);
	assert_int_equal(back.n, 1);
	for (size_t n = 0; n < b.n; n++)
		assert_int_equal(query_unpack(&named_schema, (struct str){b.p, n}, arena, &back), ERR_CORRUPT);
	arena_free(arena);
}

/* Of a store that says anything: it is refused or read, and nothing beside it is touched (the sanitizer sees to that). */
static void no_bytes_do_harm(void **state)
{
	struct str words[] = {STR("a"), STR("")};
	struct uuid friends[] = {{{1}}, {{2}}};
	struct seat seats_like[3] = {{.row.id = {{1}}}, {.row.version = 7}};
	struct list rows = {seats_like, 3}, back;
	struct arena *arena = arena_new();
	struct buf b = buf_in(arena);
	uint64_t seed = 21;

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		FIELD_PUT(&seats_like[i], seat, name, STR("a name"));
		FIELD_PUT(&seats_like[i], seat, place, (int64_t)i);
		FIELD_PUT(&seats_like[i], seat, words, ((struct list){words, 2}));
		FIELD_PUT(&seats_like[i], seat, friends, ((struct list){friends, 2}));
		FIELD_PUT(&seats_like[i], seat, extra, STR("{}"));
	}
	query_pack(&seat_schema, &rows, &b);
	assert_int_equal(query_unpack(&seat_schema, buf_str(&b), arena, &back), OK);
	for (int i = 0; i < 20000; i++) {
		struct arena *own = arena_new();
		size_t n = unit_random(&seed) % (b.n + 1);
		char *copy = arena_alloc(own, n + 1);
		struct buf text = buf_in(own);

		memcpy(copy, b.p, n);
		for (uint64_t k = unit_random(&seed) % 4; n != 0 && k > 0; k--)
			copy[unit_random(&seed) % n] = (char)unit_random(&seed);
		if (n >= 4 && i % 2 == 0)
			memcpy(copy + n - 4, b.p + b.n - 4, 4); /* as many rows as there were */
		if (query_unpack(&seat_schema, (struct str){copy, n}, own, &back) == OK)
			json_encode_list(&seat_schema, &back, 0, &text);
		arena_free(own);
	}
	arena_free(arena);
}

/* ---- the source ---- */

static void a_failed_statement_is_nobodys_answer(void **state)
{
	(void)state;
	seat_in_table("01", "one", 1);
	ask_of(&broken);
	what.params = PG_PARAMS(PG_INT4(0));
	assert_int_not_equal(run(ask, a_read(&routes[0]), NULL), OK);
	real_pg_sql(server, "DELETE FROM fee.seats");
	expect(PG_PARAMS(PG_INT4(0)), "[]", ANEW);
	expect(PG_PARAMS(PG_INT4(0)), "[]", KEPT);
}

static void fifty_callers_ask_once(void **state)
{
	struct call calls[50];
	uint64_t before = asked();

	(void)state;
	ask_of(&seats);
	what.params = PG_PARAMS(PG_INT4(0));
	for (size_t i = 0; i < ARRAY_LEN(calls); i++)
		calls[i] = (struct call){.req = a_read(&routes[0]), .fn = ask};
	run_calls(calls, ARRAY_LEN(calls));
	for (size_t i = 0; i < ARRAY_LEN(calls); i++)
		assert_int_equal(calls[i].e, OK);
	free_calls(calls, ARRAY_LEN(calls));
	assert_int_equal(asked() - before, 1);
}

static void without_the_cache_it_is_asked(void **state)
{
	(void)state;
	ask_of(&seats);
	expect(PG_PARAMS(PG_INT4(0)), "[]", ANEW);
	real_redis_kill(&cache_server);
	expect(PG_PARAMS(PG_INT4(0)), "[]", ANEW);
	real_redis_again(&cache_server);
}

/* I1: how entries are made smaller is the operator's word. */
static void the_codec_is_configured(void **state)
{
	static const char *const names[] = {"snappy", "lz4", "zstd"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		struct kit *k;
		enum codec codec;

		setenv("REDIS_COMPRESSION_ALGORITHM", names[i], 1);
		k = kit_open(served);
		assert_true(codec_parse(names[i], &codec));
		assert_int_equal(k->daemon.caches->conf.codec, codec);
		kit_close(k);
	}
	unsetenv("REDIS_COMPRESSION_ALGORITHM");
}

/* ---- G4 ---- */

static void what_was_asked_is_counted_by_statement(void **state)
{
	struct arena *arena = arena_new();
	struct query_stat *v;
	struct query_totals t;
	struct buf text = buf_in(arena);
	size_t n;

	(void)state;
	ask_of(&seats);
	for (int i = 0; i < 4; i++)
		expect(PG_PARAMS(PG_INT4(0)), "[]", i == 0 ? ANEW : KEPT);
	ask_of(&undeclared);
	expect(PG_PARAMS(PG_INT4(0)), "[]", ANEW);
	ask_of(&woven);
	expect((struct pg_params){NULL, 0}, "[{\"name\":\"none:0:0\",\"place\":0}]", ANEW);
	expect((struct pg_params){NULL, 0}, "[{\"name\":\"none:0:0\",\"place\":0}]", KEPT);
	t = cache_query_stats(&kit->daemon, arena, 2, &v, &n);
	assert_int_equal(n, 2);
	assert_int_equal(t.statements, 3);
	assert_int_equal(t.cached, 2);
	assert_int_equal(t.calls, 7);
	assert_int_equal(t.hits, 4);
	assert_int_equal(t.misses, 2);
	assert_string_equal(v[0].query, "seats");
	assert_int_equal(v[0].hits, 3);
	assert_int_equal(v[0].misses, 1);
	assert_true(v[0].source_us > 0 && v[0].saved_us == 3 * v[0].source_us);
	assert_int_equal(t.saved_us, v[0].saved_us + v[1].saved_us);
	assert_true(v[0].bytes > 0 && v[0].cached_at_us > 0);
	assert_int_equal(v[0].ttl_s, 60);
	assert_string_equal(v[0].tags, "bulk:fee.seats table:fee.seats");
	assert_string_equal(v[1].query, "woven");
	/* The shape of /cache/query-stats. */
	json_encode(&query_cache_schema, cache_query_shape(&kit->daemon, arena, 10), 0, &text);
	buf_putc(&text, '\0');
	assert_non_null(strstr(
		text.p, "{\"total_cached_queries\":2,\"total_cache_hits\":4,\"total_cache_misses\":2,\"total_saved_ms\":"));
	assert_non_null(strstr(text.p, "\"avg_hits_per_query\":2"));
	assert_non_null(strstr(text.p, "\"top_cached_queries\":[{\"query\":\"seats\",\"fingerprint\":\""));
	assert_non_null(strstr(text.p, "\"cache_key\":\"cache:test:fee:v"));
	assert_non_null(strstr(text.p, "\"ttl\":60,\"tags\":[\"bulk:fee.seats\",\"table:fee.seats\"],\"hit_count\":3,"));
	assert_non_null(strstr(text.p, "{\"query\":\"undeclared\"")); /* counted, though never kept */
	arena_free(arena);
}

static void as_many_statements_as_there_are_take_a_bounded_place(void **state)
{
	static struct pg_stmt stmts[QUERY_STATS_MAX + 50];
	static char names[QUERY_STATS_MAX + 50][16];
	struct arena *arena = arena_new();
	struct query_stat *v;
	size_t n;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(stmts); i++) {
		snprintf(names[i], sizeof(names[i]), "s%zu", i);
		stmts[i] = (struct pg_stmt){.name = names[i], .sql = "SELECT 1"};
		query_stat_of(&kit->daemon, &stmts[i])->calls += i == 0 ? 100 : 1;
	}
	assert_int_equal(cache_query_stats(&kit->daemon, arena, 1000, &v, &n).statements, QUERY_STATS_MAX);
	assert_int_equal(n, QUERY_STATS_MAX);
	assert_string_equal(v[0].query, "s0"); /* what is asked most has stayed */
	assert_int_equal(query_stat_of(&kit->daemon, &stmts[0])->calls, 100);
	arena_free(arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(corrupt_rows_are_seen),
		cmocka_unit_test(no_bytes_do_harm),
		T(rows_of_every_type_survive),
		T(bytes_survive_and_no_rows_are_an_answer_too),
		T(too_many_rows_or_bytes_are_told_and_not_kept),
		T(a_failed_statement_is_nobodys_answer),
		T(fifty_callers_ask_once),
		T(without_the_cache_it_is_asked),
		T(the_codec_is_configured),
		T(what_was_asked_is_counted_by_statement),
		T(as_many_statements_as_there_are_take_a_bounded_place),
	};

	return run_queries(tests, ARRAY_LEN(tests));
}
