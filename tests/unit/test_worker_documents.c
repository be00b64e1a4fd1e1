/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Turns that flush documents: a real buffer, and a real document store behind it. PostgreSQL's always; MongoDB where S24_TEST_MONGO_URI names a
 * server (tools/s24/mongo_server.sh starts one). What is there is read with the port that the daemons use.
 */
#include "unit/unit.h"

#include <unistd.h>

#include "base/str.h"
#include "base/timefmt.h"
#include "base/uuid.h"
#include "flush_documents.h"
#include "io/redis_sync.h"
#include "svc/document_row.h"
#include "unit/fiber_case.h"
#include "unit/real_pg.h"
#include "unit/real_redis.h"

/* clang-format off */
#define ENTRY_FIELDS(F, T)                                                                         \
	F(T, TEXT, action, .max = 100, .flags = REQUIRED)                                          \
	F(T, UUID, user_id)                                                                        \
	F(T, TEXT, note, .flags = HIDDEN)                                                          \
	F(T, JSON, details)                                                                        \
	F(T, TIME, timestamp)                                                                      \
	F(T, DECIMAL, points, .roles = 2)                                                          \
	F(T, UUIDS, seen_by)
/* clang-format on */
ROW_STRUCT(entry, ENTRY_FIELDS);
ROW_TABLE(entry, ENTRY_FIELDS, 1);

static const struct uuid ours = {{0x51}}, theirs = {{0x52}};
static char collection[40];
static struct entity template = {.name = "template", .table = "dashboard.documents", .schema = &entry_schema, .write = BUFFERED};
static struct entity activity = {.name = "activity", .table = "dashboard.documents", .schema = &entry_schema, .write = APPEND};
#define TESTS_MOST 32
static struct statements { /* of each test's collection: a connection knows a statement by its address */
	struct pg_stmt put, versions;
	char put_name[48], versions_name[48], put_text[200], versions_text[200];
} statements[TESTS_MOST];
static struct entity_sql sql;

static const char *mongo_uri; /* NULL: this suite is PostgreSQL's */
static struct real_pg *server;
static struct real_redis buffer;
static struct redis_sync *redis;
static struct pg_sync *rows_pg;
static struct docstore_sync *mongo;
static struct pg *pg;
static struct work_pool *pool;
static struct docstore *store;
static struct arena *arena;
static uint64_t tags;
static unsigned tests_run;
static int64_t paused_ms;

/* ---- the buffer ---- */

static enum err eval(void *ctx, const struct redis_script *script, struct redis_args args, struct arena *to,
		     struct redis_reply *ret)
{
	(void)ctx;
	return redis_sync_script(redis, script, args, to, ret);
}

static enum err call(void *ctx, struct redis_args args, struct arena *to, struct redis_reply *ret)
{
	(void)ctx;
	return redis_sync_call(redis, to, args, ret);
}

static int64_t now(void *ctx)
{
	(void)ctx;
	return 0;
}

static void pause_ms(void *ctx, int64_t ms)
{
	(void)ctx;
	paused_ms += ms;
}

static uint64_t chance(void *ctx)
{
	(void)ctx;
	return 7;
}

static const struct buffer_io io = {NULL, eval, call, now, pause_ms, chance};

static struct entry *entry_of(struct uuid school, uint8_t n, const char *action)
{
	struct entry *r = arena_zalloc(arena, sizeof(*r));
	struct uuid *seen = arena_dup(arena, &theirs, sizeof(theirs));

	r->row = (struct row){
		.id = {{0x1, n, [15] = n}}, .school_id = school, .created_at = 1700000000000001, .updated_at = 1700000000000002};
	FIELD_PUT(r, entry, action, str_of(action));
	FIELD_PUT(r, entry, note, STR(" hidden \"ü\" "));
	FIELD_PUT(r, entry, details, STR("{\"a\":[1,{\"b\":null}]}"));
	FIELD_PUT(r, entry, timestamp, 1700000000123456);
	FIELD_PUT(r, entry, points, 1250);
	FIELD_PUT(r, entry, seen_by, ((struct list){seen, 1}));
	return r;
}

static int64_t buffered(const struct entity *e, struct entry *r, struct put_options o)
{
	uint64_t tag = ++tags;
	struct buffer_put *p = buffer_put_new(arena, r->row.school_id, (const uint8_t *)&tag);
	struct put_result result;

	buffer_put_row(p, e, r, o);
	assert_int_equal(buffer_put_send(&io, p, arena, 1000000, &result), OK);
	assert_int_equal(result.outcome, PUT_OK);
	r->row.version = result.version;
	return result.version;
}

/* ---- the worker's side ---- */

static void no_rollback(void *ctx)
{
	(void)ctx;
	pg_sync_rollback(rows_pg);
}

static void no_reset(void *ctx)
{
	(void)ctx;
}

static const struct pg_fail *the_fail(void *ctx)
{
	(void)ctx;
	return pg_sync_fail(rows_pg);
}

static struct flush_counts turn(const struct entity *e)
{
	const struct flush_db rows = {.rollback = no_rollback, .reset = no_reset, .fail = the_fail};
	struct flush_documents documents = {.mongo = mongo, .pg = &rows_pg, .rows = &rows};
	const struct flush_db db = flush_documents_db(&documents);
	const struct flush_target target = {.entity = e, .sql = &sql};
	const struct flusher f = {.io = &io, .db = &db, .token = STR("w"), .limits = FLUSH_LIMITS_DEFAULT};
	struct flush_counts counts = {0};

	assert_int_equal(flush_turn(&f, &target, 0, arena, &counts), OK);
	return counts;
}

static struct buffer_status status_of(const struct entity *e)
{
	struct buffer_status s;

	assert_int_equal(buffer_status(&io, e, arena, &s), OK);
	return s;
}

/* ---- what is there ---- */

struct look {
	const struct entity *e;
	struct uuid school, id;
	struct entry *row; /* NULL: nothing */
	int64_t version;
};

SUSPENDS static void look(void *arg)
{
	struct look *l = arg;
	struct doc_scope scope = {.school = l->school, .arena = arena, .deadline = {INT64_MAX}};
	struct doc doc;
	enum err e = docstore_get(store, &scope, collection, l->id, &doc);

	if (e == ERR_NOT_FOUND)
		return;
	CHECK(e == OK);
	CHECK(document_row(l->e, l->school, &doc, arena, (void **)&l->row) == OK);
	l->version = doc.version;
}

static void on_fiber(fiber_fn body, void *arg)
{
	failure = NULL;
	assert_int_equal(fiber_run(loop, "test", body, arg), OK);
	assert_true(fiber_drain(loop, (struct deadline){loop_mono_us(loop) + 30 * US_PER_S}));
	if (failure != NULL)
		fail_msg("line %d: %s", failure_line, failure);
}

static struct entry *stored(const struct entity *e, const struct entry *like)
{
	struct look l = {.e = e, .school = like->row.school_id, .id = like->row.id};

	on_fiber(look, &l);
	return l.row;
}

SUSPENDS static void make_unique(void *arg)
{
	const struct doc_index index = {.collection = collection, .name = "by_action", .paths = {"action"}, .unique = true};

	(void)arg;
	CHECK(docstore_create_index(store, &index, (struct deadline){INT64_MAX}) == OK);
}

/* ---- tests ---- */

static void a_row_becomes_a_document_and_is_read_as_it_was(void **state)
{
	struct entry *r = entry_of(ours, 1, "login"), *back;
	struct flush_counts c;
	struct str a;

	(void)state;
	buffered(&template, r, (struct put_options){.creation = true});
	c = turn(&template);
	assert_int_equal(c.applied, 1);
	back = stored(&template, r);
	assert_non_null(back);
	assert_true(json_member(back->details, "a", &a)); /* the same object, perhaps not the same text */
	FIELD_PUT(back, entry, details, r->details);
	assert_true(row_equal(&entry_schema, r, back));
	assert_int_equal(back->row.version, r->row.version);
	assert_int_equal(back->row.created_at, r->row.created_at);
	assert_int_equal(back->row.updated_at, r->row.updated_at);
	assert_int_equal(status_of(&template).pending + status_of(&template).leased, 0);
}

static void schools_of_one_batch_do_not_meet(void **state)
{
	struct entry *mine = entry_of(ours, 1, "mine"), *other = entry_of(theirs, 2, "other"), *like = entry_of(theirs, 1, "");

	(void)state;
	buffered(&template, mine, (struct put_options){0});
	buffered(&template, other, (struct put_options){0});
	assert_int_equal(turn(&template).applied, 2);
	assert_str(stored(&template, mine)->action, STR("mine"));
	assert_str(stored(&template, other)->action, STR("other"));
	assert_null(stored(&template, like)); /* the id of ours, asked for by theirs */
}

/* The lost ACK: the same again is "same", and what the store has newer stays. */
static void an_older_version_changes_nothing_and_is_acknowledged(void **state)
{
	struct entry *r = entry_of(ours, 1, "first"), *old;
	struct flush_counts c;
	int64_t first;

	(void)state;
	first = buffered(&template, r, (struct put_options){0});
	assert_int_equal(turn(&template).applied, 1);
	FIELD_PUT(r, entry, action, STR("second"));
	buffered(&template, r, (struct put_options){.expect = first, .floor = first});
	assert_int_equal(turn(&template).applied, 1);
	assert_str(stored(&template, r)->action, STR("second"));

	/* A buffer that has forgotten: its clock begins below what the store has. */
	call(NULL, REDIS_ARGS(STR("FLUSHALL")), arena, &(struct redis_reply){0});
	call(NULL, REDIS_ARGS(STR("SET"), STR("keep"), STR("1")), arena, &(struct redis_reply){0});
	old = entry_of(ours, 2, "ahead");
	buffered(&template, old, (struct put_options){.floor = clock_real_us() + 3600 * US_PER_S});
	assert_int_equal(turn(&template).applied, 1);
	call(NULL, REDIS_ARGS(STR("FLUSHALL")), arena, &(struct redis_reply){0});
	FIELD_PUT(old, entry, action, STR("behind"));
	buffered(&template, old, (struct put_options){.expect = BUFFER_ANY});
	c = turn(&template);
	assert_int_equal(c.superseded, 1);
	assert_int_equal(c.applied, 0);
	assert_str(stored(&template, old)->action, STR("ahead"));
	assert_int_equal(status_of(&template).pending + status_of(&template).retry, 0);
}

static void what_is_deleted_is_gone_and_an_older_row_does_not_bring_it_back(void **state)
{
	struct entry *r = entry_of(ours, 1, "here");
	int64_t version = buffered(&template, r, (struct put_options){0});

	(void)state;
	assert_int_equal(turn(&template).applied, 1);
	r->row.deleted_at = 1700000000000003;
	buffered(&template, r, (struct put_options){.expect = BUFFER_ANY, .floor = version + 3600 * US_PER_S});
	assert_int_equal(turn(&template).applied, 1);
	assert_null(stored(&template, r));
	call(NULL, REDIS_ARGS(STR("FLUSHALL")), arena, &(struct redis_reply){0});
	r->row.deleted_at = 0;
	buffered(&template, r, (struct put_options){0});
	assert_int_equal(turn(&template).superseded, 1);
	assert_null(stored(&template, r));
}

static void an_entry_that_is_there_is_done_whatever_its_version(void **state)
{
	struct entry *r = entry_of(ours, 1, "once");

	(void)state;
	buffered(&activity, r, (struct put_options){0});
	assert_int_equal(turn(&activity).applied, 1);
	call(NULL, REDIS_ARGS(STR("FLUSHALL")), arena, &(struct redis_reply){0});
	buffered(&activity, r, (struct put_options){.expect = BUFFER_ANY});
	assert_int_equal(turn(&activity).dead, 0);
	assert_str(stored(&activity, r)->action, STR("once"));
	assert_int_equal(status_of(&activity).pending + status_of(&activity).retry + status_of(&activity).dead, 0);
}

/* Two that share a unique value, one that can be no document, and many good ones: exactly the bad are parked. */
static void what_is_refused_is_parked_alone(void **state)
{
	struct entry *bad, *twice;
	struct flush_counts c;

	(void)state;
	on_fiber(make_unique, NULL);
	for (uint8_t i = 1; i <= 30; i++)
		buffered(&template, entry_of(ours, i, arena_printf(arena, "action %d", i)), (struct put_options){0});
	twice = entry_of(ours, 40, "action 7");
	bad = entry_of(ours, 41, "a key that no store takes");
	FIELD_PUT(bad, entry, details, STR("{\"$where\":1}"));
	buffered(&template, twice, (struct put_options){0});
	buffered(&template, bad, (struct put_options){0});
	c = turn(&template);
	assert_int_equal(c.claimed, 32);
	assert_int_equal(c.dead, 2);
	assert_int_equal(c.applied, 30);
	assert_int_equal(status_of(&template).dead, 2);
	assert_int_equal(status_of(&template).pending + status_of(&template).retry + status_of(&template).leased, 0);
	assert_null(stored(&template, bad));
}

static void a_store_that_is_away_gives_everything_back(void **state)
{
	struct flush_counts c;

	(void)state;
	buffered(&template, entry_of(ours, 1, "waits"), (struct put_options){0});
	if (mongo_uri != NULL) {
		docstore_sync_close(mongo);
		assert_int_equal(docstore_sync_open("mongodb://127.0.0.1:1/", &mongo), OK);
	} else {
		real_pg_stop(server);
	}
	c = turn(&template);
	assert_true(c.away);
	assert_int_equal(c.dead, 0);
	assert_int_equal(c.retried, 1);
	assert_true(paused_ms > 0); /* it was tried again in between */
	assert_int_equal(status_of(&template).retry, 1);
	if (mongo_uri != NULL) {
		docstore_sync_close(mongo);
		assert_int_equal(docstore_sync_open(mongo_uri, &mongo), OK);
	} else {
		real_pg_restart(server);
	}
}

/* ---- both stores ---- */

static int start(void **state)
{
	(void)state;
	loop = loop_new();
	pool = work_pool_new(loop, "documents", 2, 100);
	real_redis_start(&buffer, NULL);
	assert_int_equal(redis_sync_open(buffer.url, 2000, &redis), OK);
	if (mongo_uri != NULL) {
		assert_int_equal(docstore_sync_open(mongo_uri, &mongo), OK);
		return docstore_open_mongo(loop, pool, mongo_uri, "dashboard", &store) == OK ? 0 : -1;
	}
	server = real_pg_start();
	real_pg_migrate(server, "0001_roles.sql");
	real_pg_migrate(server, "0002_common.sql");
	real_pg_migrate(server, "0005_documents.sql");
	real_pg_migrate(server, "0006_sweep_documents.sql");
	real_pg_sql(server, "SELECT common.create_documents('dashboard')");
	struct pg_conf conf = {.url = real_pg_url(server, "schools24_dashboard"), .connections = 2, .statement_ms = 5000};
	assert_int_equal(pg_open(loop, &conf, &pg), OK);
	assert_int_equal(pg_sync_open(real_pg_url(server, "schools24_worker"), 5000, 2000, &rows_pg), OK);
	return docstore_open_pg(pg, "dashboard", &store) == OK ? 0 : -1;
}

static int stop(void **state)
{
	(void)state;
	redis = redis_sync_close(redis);
	real_redis_stop(&buffer);
	mongo = docstore_sync_close(mongo);
	rows_pg = pg_sync_close(rows_pg);
	store = docstore_close(store);
	if (pg != NULL)
		pg = pg_close(pg);
	server = real_pg_free(server);
	pool = work_pool_free(pool);
	loop = loop_free(loop);
	return 0;
}

/* Each test has its own collection, and an empty buffer. */
static int fresh(void **state)
{
	struct statements *st;
	struct redis_reply reply;

	(void)state;
	arena = arena_new();
	paused_ms = 0;
	snprintf(collection, sizeof(collection), "c%d_%u", (int)getpid(), tests_run++);
	template.collection = activity.collection = collection;
	assert_true(tests_run <= TESTS_MOST);
	st = &statements[tests_run - 1];
	snprintf(st->put_name, sizeof(st->put_name), "put_%u", tests_run);
	snprintf(st->versions_name, sizeof(st->versions_name), "versions_%u", tests_run);
	snprintf(st->put_text, sizeof(st->put_text), "SELECT i, outcome FROM dashboard.documents_put($1, '%s', $2, $3, $4)",
		 collection);
	snprintf(st->versions_text, sizeof(st->versions_text),
		 "SELECT id, school_id, v AS version, deleted_at FROM dashboard.documents WHERE collection = '%s' AND id = "
		 "ANY($1)",
		 collection);
	st->put = (struct pg_stmt){.name = st->put_name, .sql = st->put_text};
	st->versions = (struct pg_stmt){.name = st->versions_name, .sql = st->versions_text};
	sql = (struct entity_sql){.flush = &st->put, .versions = &st->versions};
	return redis_sync_call(redis, arena, REDIS_ARGS(STR("FLUSHALL")), &reply) == OK ? 0 : -1;
}

static int stale(void **state)
{
	(void)state;
	arena = arena_free(arena);
	return 0;
}

#define T(name) cmocka_unit_test_setup_teardown(name, fresh, stale)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_row_becomes_a_document_and_is_read_as_it_was),
		T(schools_of_one_batch_do_not_meet),
		T(an_older_version_changes_nothing_and_is_acknowledged),
		T(what_is_deleted_is_gone_and_an_older_row_does_not_bring_it_back),
		T(an_entry_that_is_there_is_done_whatever_its_version),
		T(what_is_refused_is_parked_alone),
		T(a_store_that_is_away_gives_everything_back),
	};
	const char *uri = getenv("S24_TEST_MONGO_URI");
	int failed = _cmocka_run_group_tests("PostgreSQL", tests, ARRAY_LEN(tests), start, stop);

	if (uri == NULL || uri[0] == '\0') {
		print_message("the MongoDB half is skipped: S24_TEST_MONGO_URI names no server\n");
		return failed;
	}
	mongo_uri = uri;
	return failed + _cmocka_run_group_tests("MongoDB", tests, ARRAY_LEN(tests), start, stop);
}
