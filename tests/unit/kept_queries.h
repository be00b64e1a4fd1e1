/* SPDX-License-Identifier: Apache-2.0 */
/* Statements over the tables of through/seats.h, asked and changed: what the tests of kept statements share. */
#ifndef S24_UNIT_KEPT_QUERIES_H
#define S24_UNIT_KEPT_QUERIES_H

#include "unit/kept_world.h"

#include "svc/buffers.h"
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

static inline void put_got(const struct schema *s, const struct list *rows)
{
	struct buf text = {0};

	json_encode_list(s, rows, 0, &text);
	snprintf(got, sizeof(got), "%.*s", (int)text.n, text.p);
	got_rows = rows->n;
	buf_done(&text);
}

static inline enum err ask(struct call *call)
{
	struct list rows;
	enum err e = db_query_kept(call->req, what.stmt, what.params, what.out, what.life, what.scope, &rows);

	if (e == OK)
		put_got(what.out, &rows);
	return e;
}

static inline enum err write_over(struct call *call);
static const char *overtaken; /* by a write of this name, when the overlay has been taken */

static inline enum err read_notes(struct req *req, void *arg, struct list *ret)
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

static inline enum err list_notes(struct call *call)
{
	struct uuid who = student;
	struct list rows;
	enum err e = db_rows_kept(call->req, &notes, PG_PARAMS(PG_UUID(who)), &named_schema, &minute, what.scope, read_notes,
				  &who, &rows);

	if (e == OK)
		put_got(&named_schema, &rows);
	return e;
}

static inline enum err run(enum err (*fn)(struct call *call), struct req *req, const char *name)
{
	struct call call = {.req = req, .fn = fn, .name = name};

	run_calls(&call, 1);
	free_calls(&call, 1);
	return call.e;
}

/* Is that what these rows are, out of the cache or not? */
static inline void expect(struct pg_params params, const char *rows, unsigned queries)
{
	uint64_t before = asked();

	what.params = params;
	assert_int_equal(run(ask, a_read(&routes[0]), NULL), OK);
	assert_string_equal(got, rows);
	assert_int_equal(asked() - before, queries);
}

#define KEPT 0
#define ANEW 1

static inline void ask_of(const struct pg_stmt *stmt)
{
	what = (struct asking){.stmt = stmt, .out = &named_schema, .life = &minute};
}

/* ---- writing ---- */

static inline enum err write_over(struct call *call)
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

static inline enum err seat_by_entity(struct call *call)
{
	enum err e = make_seat(call);

	touch_raise(call->req);
	return e;
}

static inline struct pg_params of_seat(struct call *call, const char *name, int place)
{
	struct pg_param *v = arena_array(call->req->arena, 3, sizeof(*v));

	v[0] = PG_UUID(call->req->who.school_id);
	v[1] = PG_TEXT(str_of(name));
	v[2] = PG_INT4(place);
	return (struct pg_params){v, 3};
}

static inline enum err seat_by_statement(struct call *call)
{
	struct list rows;
	enum err e = db_query(call->req, &one_more, of_seat(call, call->name, 7), &named_schema, &rows);

	touch_raise(call->req);
	return e;
}

static bool commits;
static uint64_t raised_within; /* by the time that the transaction has not ended */

static inline enum err seat_by_transaction(struct call *call)
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

static inline enum err raise_one(struct call *call)
{
	struct cache_tags tags = {.school = call->req->who.school_id};

	cache_tag(&tags, call->req->arena, "", str_of(call->name));
	tags.v[0] = str_of(call->name);
	return cache_raise(kit->daemon.caches, call->req->arena, &tags);
}

/* What a worker's flush does to the table, the buffer and the caches. */
static inline enum err flush(struct call *call)
{
	struct cache_tags tags = {.school = call->req->who.school_id};
	struct redis_reply r;
	enum err e = redis_call(req_buffer(call->req), call->req->arena, call->req->deadline, REDIS_ARGS(STR("FLUSHALL")), &r);

	touch_flushed(&note, call->id, call->req->arena, &tags);
	return e != OK ? e : cache_raise(kit->daemon.caches, call->req->arena, &tags);
}

static inline void seat_in_table(const char *school, const char *name, int place)
{
	char sql[400];

	snprintf(sql, sizeof(sql),
		 "INSERT INTO fee.seats (id, school_id, name, place, version, created_at, updated_at) VALUES (gen_random_uuid(), "
		 "'01900000-0000-7000-8000-0000000000%s', '%s', %d, 1, now(), now())",
		 school, name, place);
	real_pg_sql(server, sql);
}

static inline void note_in_table(const char *name)
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

#define T(fn) cmocka_unit_test_setup_teardown(fn, open_daemons, close_daemons)

static inline int run_queries(const struct CMUnitTest *tests, size_t n)
{
	note = note_entity;
	note.scopes[0] = "student_id";
	note.tags[0] = "student:{student_id}";
	return run_world(tests, n, &service);
}

#endif
