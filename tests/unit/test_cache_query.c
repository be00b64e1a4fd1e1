/* SPDX-License-Identifier: Apache-2.0 */
/* Kept answers of statements over a real buffer, cache and PostgreSQL: what is kept, under what, and what must forget it (G1–G4, B10, D4). */
#include "unit/kept_world.h"

#include "svc/buffers.h"
#include "svc/cache_internal.h"
#include "svc/cache_query.h"

static struct entity note; /* note_entity with a list */
static const struct entity *entities[] = {&seat_entity, &badge_entity, &note, &fee_audit_entity, NULL};
static const struct service service = {
	.name = "fee", .routes = routes, .entities = entities, .entity_sql = fee_entity_sql, .events = events};
static const struct uuid student = {{9}};
static const struct query_life minute = {.ttl_s = 60}, shared = {.ttl_s = 60, .memory = true};

/* ---- statements, as cmake/embed.py makes them ---- */

#define TABLES(...) ((const char *const[]){__VA_ARGS__, NULL})
#define NAMED_FIELDS(F, T) F(T, TEXT, name) F(T, INT, place)
SCHEMA_STRUCT(named, NAMED_FIELDS);
SCHEMA_TABLE(named, NAMED_FIELDS);

/* clang-format off */
static const struct pg_stmt seats = {.name = "seats", .tables = TABLES("fee.seats"), .sql =
	"SELECT name, place FROM fee.seats WHERE place >= $1 AND deleted_at IS NULL ORDER BY place"};
static const struct pg_stmt seats_whole = {.name = "seats_whole", .tables = TABLES("fee.seats"), .sql =
	"SELECT * FROM fee.seats ORDER BY place"};
static const struct pg_stmt undeclared = {.name = "undeclared", .sql = "SELECT name, place FROM fee.seats WHERE place >= $1 ORDER BY place"};
/* Nothing in its text but the declaration would lead a reader of texts to all of its tables. */
static const struct pg_stmt woven = {.name = "woven", .tables = TABLES("fee.badges", "fee.notes", "fee.seats"), .sql =
	"WITH \"b\" AS (SELECT b.name FROM \"fee\" . \"badges\" AS b), c AS (SELECT name FROM fee/**/.notes)"
	" SELECT coalesce((SELECT string_agg(s.name, ',' ORDER BY s.name) FROM \"fee\".\"seats\" s WHERE EXISTS (SELECT FROM \"b\")), 'none')"
	" || ':' || (SELECT count(*) FROM b)::text || ':' || (SELECT count(*) FROM c)::text AS name, 0 AS place"};
static const struct pg_stmt one_more = {.name = "one_more", .writes = TABLES("fee.seats"), .sql =
	"INSERT INTO fee.seats (id, school_id, name, place, version, created_at, updated_at)"
	" VALUES (gen_random_uuid(), $1, $2, $3, 1, now(), now()) RETURNING name, place"};
static const struct pg_stmt many = {.name = "many", .tables = TABLES("fee.seats"), .sql = "SELECT 'x' AS name, i AS place FROM generate_series(1, $1) AS i"};
static const struct pg_stmt big = {.name = "big", .tables = TABLES("fee.seats"), .sql = "SELECT repeat('x', $1) AS name, 1 AS place"};
static const struct pg_stmt broken = {.name = "broken", .tables = TABLES("fee.seats"), .sql = "SELECT name, 1 / (place - place) AS place FROM fee.seats WHERE $1 >= 0"};
static const struct pg_stmt bytes = {.name = "bytes", .tables = TABLES("fee.seats"), .sql = "SELECT '\\x0001ff27'::bytea AS name, 1 AS place WHERE $1 >= 0"};
static const struct pg_stmt notes = {.name = "notes", .tables = TABLES("fee.notes"), .live = true, .sql =
	"SELECT t.name, 0 AS place FROM fee.notes AS t WHERE t.student_id = $2 AND t.deleted_at IS NULL"
	" AND NOT EXISTS (SELECT FROM jsonb_populate_recordset(NULL::fee.notes, $1) AS o WHERE o.id = t.id AND o.version >= t.version)"
	" UNION ALL SELECT o.name, 0 FROM jsonb_populate_recordset(NULL::fee.notes, $1) AS o WHERE o.student_id = $2 AND o.deleted_at IS NULL"
	" AND NOT EXISTS (SELECT FROM fee.notes AS t WHERE t.id = o.id AND t.version > o.version)"};
static const struct pg_stmt notes_in_table = {.name = "notes_in_table", .tables = TABLES("fee.notes"), .sql =
	"SELECT name, 0 AS place FROM fee.notes WHERE student_id = $1"};
/* clang-format on */

/* ---- asking ---- */

struct asking {
	const struct pg_stmt *stmt;
	struct pg_params params;
	const struct schema *out;
	const struct query_life *life;
	const struct cache_tags *scope;
};
static struct asking what;
static char got[1 << 16]; /* the rows as JSON */
static size_t got_rows;

static void put_got(const struct schema *s, const struct list *rows)
{
	struct buf text = {0};

	json_encode_list(s, rows, 0, &text);
	snprintf(got, sizeof(got), "%.*s", (int)text.n, text.p);
	got_rows = rows->n;
	buf_done(&text);
}

static enum err ask(struct call *call)
{
	struct list rows;
	enum err e = db_query_kept(call->req, what.stmt, what.params, what.out, what.life, what.scope, &rows);

	if (e == OK)
		put_got(what.out, &rows);
	return e;
}

static enum err write_over(struct call *call);
static const char *overtaken; /* by a write of this name, when the overlay has been taken */

static enum err read_notes(struct req *req, void *arg, struct list *ret)
{
	struct uuid *who = arg;
	struct str overlay;
	enum err e = entity_overlay(req, &note, "student_id", who, 1, &overlay);

	if (e == OK && overtaken) {
		struct call other = {.req = a_request(&routes[1], NULL), .name = overtaken};

		overtaken = NULL;
		e = write_over(&other);
		arena_free(other.req->arena);
	}
	return e != OK ? e : db_query(req, &notes, PG_PARAMS(PG_JSONB(overlay), PG_UUID(*who)), &named_schema, ret);
}

static enum err list_notes(struct call *call)
{
	struct uuid who = student;
	struct list rows;
	enum err e = db_rows_kept(call->req, &notes, PG_PARAMS(PG_UUID(who)), &named_schema, &minute, what.scope, read_notes,
				  &who, &rows);

	if (e == OK)
		put_got(&named_schema, &rows);
	return e;
}

static enum err run(enum err (*fn)(struct call *call), struct req *req, const char *name)
{
	struct call call = {.req = req, .fn = fn, .name = name};

	run_calls(&call, 1);
	free_calls(&call, 1);
	return call.e;
}

/* Is that what these rows are, out of the cache or not? */
static void expect(struct pg_params params, const char *rows, unsigned queries)
{
	uint64_t before = asked();

	what.params = params;
	assert_int_equal(run(ask, a_read(&routes[0]), NULL), OK);
	assert_string_equal(got, rows);
	assert_int_equal(asked() - before, queries);
}

#define KEPT 0
#define ANEW 1

static void ask_of(const struct pg_stmt *stmt)
{
	what = (struct asking){.stmt = stmt, .out = &named_schema, .life = &minute};
}

/* ---- writing ---- */

static enum err write_over(struct call *call)
{
	struct note *row = entity_edit(call->req, &note, NULL);
	enum err e;

	FIELD_PUT(row, note, student_id, student);
	FIELD_PUT(row, note, name, str_of(call->name));
	e = entity_put(call->req, &note, row);
	touch_raise(call->req);
	call->id = row->row.id;
	return e;
}

static enum err seat_by_entity(struct call *call)
{
	enum err e = make_seat(call);

	touch_raise(call->req);
	return e;
}

static struct pg_params of_seat(struct call *call, const char *name, int place)
{
	struct pg_param *v = arena_array(call->req->arena, 3, sizeof(*v));

	v[0] = PG_UUID(call->req->who.school_id);
	v[1] = PG_TEXT(str_of(name));
	v[2] = PG_INT4(place);
	return (struct pg_params){v, 3};
}

static enum err seat_by_statement(struct call *call)
{
	struct list rows;
	enum err e = db_query(call->req, &one_more, of_seat(call, call->name, 7), &named_schema, &rows);

	touch_raise(call->req);
	return e;
}

static bool commits;
static uint64_t raised_within; /* by the time that the transaction has not ended */

static enum err seat_by_transaction(struct call *call)
{
	struct list rows;
	struct tx *tx;
	enum err e = tx_begin(call->req, &tx);

	if (e != OK)
		return e;
	e = tx_query(tx, &one_more, of_seat(call, call->name, 8), &named_schema, &rows);
	raised_within = cache_stats(kit->daemon.caches).raised_tags;
	e = tx_end(tx, e != OK || commits ? e : ERR_INVALID);
	touch_raise(call->req);
	return e;
}

static enum err raise_one(struct call *call)
{
	struct cache_tags tags = {.school = call->req->who.school_id};

	cache_tag(&tags, call->req->arena, "", str_of(call->name));
	tags.v[0] = str_of(call->name);
	return cache_raise(kit->daemon.caches, call->req->arena, &tags);
}

/* What a worker's flush does to the table, the buffer and the caches. */
static enum err flush(struct call *call)
{
	struct cache_tags tags = {.school = call->req->who.school_id};
	struct redis_reply r;
	enum err e = redis_call(req_buffer(call->req), call->req->arena, call->req->deadline, REDIS_ARGS(STR("FLUSHALL")), &r);

	touch_flushed(&note, call->id, call->req->arena, &tags);
	return e != OK ? e : cache_raise(kit->daemon.caches, call->req->arena, &tags);
}

static void seat_in_table(const char *school, const char *name, int place)
{
	char sql[400];

	snprintf(sql, sizeof(sql),
		 "INSERT INTO fee.seats (id, school_id, name, place, version, created_at, updated_at) VALUES (gen_random_uuid(), "
		 "'01900000-0000-7000-8000-0000000000%s', '%s', %d, 1, now(), now())",
		 school, name, place);
	real_pg_sql(server, sql);
}

static void note_in_table(const char *name)
{
	char sql[600], id[UUID_TEXT + 1], school[UUID_TEXT + 1], pupil[UUID_TEXT + 1];
	struct note like = {0};

	FIELD_PUT(&like, note, student_id, student);
	uuid_text(entity_natural_id(&note, school_number(1), &like), id);
	uuid_text(school_number(1), school);
	uuid_text(student, pupil);
	snprintf(
		sql, sizeof(sql),
		"INSERT INTO fee.notes (id, school_id, student_id, name, version, created_at, updated_at) VALUES ('%s', '%s', "
		"'%s', '%s', %lld, now(), now()) ON CONFLICT (id) DO UPDATE SET name = EXCLUDED.name, version = EXCLUDED.version",
		id, school, pupil, name, (long long)clock_real_us());
	real_pg_sql(server, sql);
}

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

#define T(fn) cmocka_unit_test_setup_teardown(fn, open_daemons, close_daemons)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(texts_that_mean_the_same_are_the_same_and_others_are_not),
		cmocka_unit_test(corrupt_rows_are_seen),
		cmocka_unit_test(no_bytes_do_harm),
		T(other_parameters_types_roles_and_schools_are_other_answers),
		T(rows_of_every_type_survive),
		T(bytes_survive_and_no_rows_are_an_answer_too),
		T(too_many_rows_or_bytes_are_told_and_not_kept),
		T(what_says_no_tables_is_asked_each_time),
		T(a_request_that_writes_asks_each_time),
		T(a_list_source_by_itself_is_asked_each_time),
		T(a_change_of_any_of_its_tables_is_seen),
		T(a_commit_is_seen_and_a_rollback_raises_nothing),
		T(tags_of_its_own_stand_for_the_table),
		T(a_buffered_change_and_its_flush_are_both_seen),
		T(without_the_buffer_a_list_is_told_and_not_kept),
		T(what_was_read_past_the_buffer_is_not_kept),
		T(a_failed_statement_is_nobodys_answer),
		T(fifty_callers_ask_once),
		T(without_the_cache_it_is_asked),
		T(the_codec_is_configured),
		T(what_was_asked_is_counted_by_statement),
		T(as_many_statements_as_there_are_take_a_bounded_place),
	};

	note = note_entity;
	note.scopes[0] = "student_id";
	note.tags[0] = "student:{student_id}";
	return run_world(tests, ARRAY_LEN(tests), &service);
}
