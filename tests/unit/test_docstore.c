/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One conformance suite for both drivers of the document store: PostgreSQL always, MongoDB where S24_TEST_MONGO_URI names a server
 * (tests/harness/mongo_server.sh starts one).
 */
#include "unit/unit.h"

#include <libgen.h>
#include <unistd.h>

#include "base/str.h"
#include "base/timefmt.h"
#include "base/uuid.h"
#include "io/crypto.h"
#include "io/docstore.h"
#include "io/fiber.h"
#include "unit/real_pg.h"

/* A failed assertion must not jump off a fiber's stack: it is noted, the fiber ends, and the test fails on its own stack. */
static const char *failure;
static int failure_line;
#define CHECK(cond)                              \
	do {                                     \
		if (!(cond)) {                   \
			failure = #cond;         \
			failure_line = __LINE__; \
			return;                  \
		}                                \
	} while (0)
#define FIBER_TEST(name)                    \
	static void name##_body(void *arg); \
	static void name(void **state)      \
	{                                   \
		(void)state;                \
		run(name##_body);           \
	}                                   \
	static void name##_body(void *arg __attribute__((unused)))

static struct loop *loop;
static struct work_pool *pool;
static struct real_pg *server;
static struct pg *pg;
static struct docstore *store;
static struct arena *arena;
static struct doc_scope scope, other;
static const char *mongo_uri; /* NULL: this suite is PostgreSQL's */
static char collection[48];   /* each test has its own */
static unsigned tests_run;
static const struct deadline never = {INT64_MAX};

static void run(fiber_fn body)
{
	failure = NULL;
	assert_int_equal(fiber_run(loop, "test", body, NULL), OK);
	assert_true(fiber_drain(loop, (struct deadline){loop_mono_us(loop) + 90 * US_PER_S}));
	if (failure != NULL)
		fail_msg("line %d: %s", failure_line, failure);
}

static void migrate(const char *name)
{
	char *here = mem_strdup(__FILE__), *text;
	char path[600];
	FILE *f;
	long n;

	snprintf(path, sizeof(path), "%s/../../db/migrations/%s", dirname(here), name);
	f = fopen(path, "r");
	if (f == NULL)
		fail_msg("%s cannot be read", path);
	fseek(f, 0, SEEK_END);
	n = ftell(f);
	rewind(f);
	text = mem_zalloc((size_t)n + 1);
	assert_int_equal(fread(text, 1, (size_t)n, f), n);
	fclose(f);
	real_pg_sql(server, text);
	free(text);
	free(here);
}

static int start(void **state)
{
	(void)state;
	loop = loop_new();
	pool = work_pool_new(loop, "documents", 4, 200);
	if (mongo_uri != NULL) {
		char service[40];

		snprintf(service, sizeof(service), "test_%d_%u", (int)getpid(), (unsigned)clock_real_us() % 10000);
		assert_int_equal(docstore_open_mongo(loop, pool, mongo_uri, service, &store), OK);
		return 0;
	}
	server = real_pg_start();
	migrate("0001_roles.sql");
	migrate("0002_common.sql");
	migrate("0005_documents.sql");
	real_pg_sql(server, "SELECT common.create_documents('quiz')");
	real_pg_sql(server, "SELECT common.create_documents('quiz')"); /* a second time is harmless */
	struct pg_conf conf = {.url = real_pg_url(server, "schools24_quiz"), .connections = 4, .statement_ms = 5000};
	assert_int_equal(pg_open(loop, &conf, &pg), OK);
	assert_int_equal(docstore_open_pg(pg, "quiz", &store), OK);
	return 0;
}

static int stop(void **state)
{
	(void)state;
	store = docstore_close(store);
	if (pg != NULL)
		pg = pg_close(pg);
	server = real_pg_free(server);
	pool = work_pool_free(pool);
	loop = loop_free(loop);
	return 0;
}

static int fresh(void **state)
{
	(void)state;
	arena = arena_new();
	scope = (struct doc_scope){.school = uuid_v7(clock_real_us()), .arena = arena, .deadline = never};
	other = (struct doc_scope){.school = uuid_v7(clock_real_us()), .arena = arena, .deadline = never};
	snprintf(collection, sizeof(collection), "c%u", tests_run++);
	return 0;
}

static int stale(void **state)
{
	(void)state;
	arena = arena_free(arena);
	return 0;
}

/* ---- helpers ------------------------------------------------------------------------------------------------------------------ */

static struct uuid nth(unsigned n)
{
	return (struct uuid){{1, 0x8f, 0, 0, 0, 0, 0x70, 0, 0x80, 0, 0, 0, (uint8_t)(n >> 24), (uint8_t)(n >> 16),
			      (uint8_t)(n >> 8), (uint8_t)n}};
}

SUSPENDS static enum err put_in(const struct doc_scope *in, unsigned n, int64_t version, const char *json, enum doc_outcome *ret)
{
	struct doc doc = {nth(n), version, str_of(json)};

	return docstore_upsert_many(store, in, collection, &doc, 1, ret);
}

/* The outcome, or -1 - the error's negative. */
SUSPENDS static int put(unsigned n, int64_t version, const char *json)
{
	enum doc_outcome outcome = DOC_REFUSED;
	enum err e = put_in(&scope, n, version, json, &outcome);

	return e == OK ? (int)outcome : 100 + (int)e;
}

/* Without white space outside strings, so that both stores' texts can be compared. */
static struct str squeezed(struct str json)
{
	struct buf b = buf_in(arena);
	bool inside = false;

	for (size_t i = 0; i < json.n; i++) {
		if (json.p[i] == '"' && (i == 0 || json.p[i - 1] != '\\'))
			inside = !inside;
		if (inside || json.p[i] != ' ')
			buf_putc(&b, json.p[i]);
	}
	return buf_str(&b);
}

SUSPENDS static bool holds(unsigned n, int64_t version, const char *json)
{
	struct doc doc;

	return docstore_get(store, &scope, collection, nth(n), &doc) == OK && doc.version == version && uuid_eq(doc.id, nth(n)) &&
	       str_is(squeezed(doc.json), json);
}

SUSPENDS static bool gone(const struct doc_scope *in, unsigned n)
{
	struct doc doc;

	return docstore_get(store, in, collection, nth(n), &doc) == ERR_NOT_FOUND;
}

/* The numbers of the documents found, joined: "1,2,5"; or the error's name. */
SUSPENDS static const char *found(const struct doc_cond *conds, size_t n_conds, const char *sort, bool descending)
{
	struct doc_find find = {.conds = conds, .n_conds = n_conds, .sort = sort, .descending = descending, .limit = 100};
	struct buf b = buf_in(arena);
	struct str cursor;
	struct list list;
	struct doc *docs;
	enum err e = docstore_find(store, &scope, collection, &find, &list, &cursor);

	if (e != OK)
		return err_name(e);
	docs = list.v;
	for (size_t i = 0; i < list.n; i++)
		buf_printf(&b, "%s%u", i ? "," : "", docs[i].id.b[15]);
	return buf_cstr(&b);
}

SUSPENDS static bool finds(enum doc_op op, const char *path, const char *value, const char *want)
{
	struct doc_cond cond = {path, op, str_of(value)};
	const char *got = found(&cond, 1, NULL, false);

	if (strcmp(got, want) != 0)
		print_message("%s %d %s: got %s, want %s\n", path, (int)op, value, got, want);
	return strcmp(got, want) == 0;
}

SUSPENDS static enum err index_on(const char *name, const char *a, const char *b, bool unique, bool text, int64_t expire_s)
{
	struct doc_index index = {collection, name, {a, b}, unique, text, expire_s};

	return docstore_create_index(store, &index, never);
}

/* ---- versions ------------------------------------------------------------------------------------------------------------------- */

FIBER_TEST(an_older_version_never_overwrites)
{
	CHECK(put(1, 5, "{\"a\":5}") == DOC_APPLIED);
	CHECK(put(1, 4, "{\"a\":4}") == DOC_NEWER);
	CHECK(holds(1, 5, "{\"a\":5}"));
	CHECK(put(1, 5, "{\"a\":55}") == DOC_NEWER); /* the same version is done */
	CHECK(holds(1, 5, "{\"a\":5}"));
	CHECK(put(1, 6, "{\"b\":6}") == DOC_APPLIED); /* replaces, does not merge */
	CHECK(holds(1, 6, "{\"b\":6}"));
	CHECK(put(1, INT64_MAX, "{\"b\":7}") == DOC_APPLIED);
	CHECK(holds(1, INT64_MAX, "{\"b\":7}"));
	CHECK(put(1, 0, "{}") == 100 + ERR_INVALID);
	CHECK(put(1, -1, "{}") == 100 + ERR_INVALID);
}

FIBER_TEST(a_batch_tells_each_outcome)
{
	enum doc_outcome outcomes[300];
	struct doc docs[6] = {{nth(1), 5, STR("{\"a\":1}")}, {nth(2), 5, STR("{\"a\":2}")}, {nth(3), 3, STR("{\"a\":3}")},
			      {nth(4), 9, {NULL, 0}},        {nth(2), 6, STR("{\"a\":6}")}, {nth(1), 4, STR("{\"a\":4}")}};
	struct doc *many = arena_array(arena, 300, sizeof(*many));

	CHECK(put(3, 5, "{\"old\":true}") == DOC_APPLIED);
	CHECK(docstore_upsert_many(store, &scope, collection, docs, 6, outcomes) == OK);
	CHECK(outcomes[0] == DOC_APPLIED && outcomes[1] == DOC_APPLIED && outcomes[2] == DOC_NEWER && outcomes[3] == DOC_APPLIED);
	CHECK(outcomes[4] == DOC_APPLIED && outcomes[5] == DOC_NEWER);
	CHECK(holds(1, 5, "{\"a\":1}") && holds(2, 6, "{\"a\":6}") && holds(3, 5, "{\"old\":true}") && gone(&scope, 4));
	CHECK(docstore_upsert_many(store, &scope, collection, docs, 0, outcomes) == OK);
	CHECK(docstore_upsert_many(store, &scope, collection, docs, DOC_BATCH_MAX + 1, outcomes) == ERR_TOO_LARGE);
	for (unsigned i = 0; i < 300; i++)
		many[i] = (struct doc){nth(i), 7, str_of(arena_printf(arena, "{\"i\":%u}", i))};
	CHECK(docstore_upsert_many(store, &scope, collection, many, 300, outcomes) == OK);
	for (unsigned i = 0; i < 300; i++)
		CHECK(outcomes[i] == (i == 4 ? DOC_NEWER : DOC_APPLIED));
	/* All of it again, as after a lost answer. */
	CHECK(docstore_upsert_many(store, &scope, collection, many, 300, outcomes) == OK);
	for (unsigned i = 0; i < 300; i++)
		CHECK(outcomes[i] == DOC_NEWER);
}

FIBER_TEST(a_tombstone_keeps_its_version)
{
	CHECK(put(1, 5, "{\"a\":1}") == DOC_APPLIED);
	CHECK(docstore_delete(store, &scope, collection, nth(1), 4) == OK); /* older: nothing */
	CHECK(holds(1, 5, "{\"a\":1}"));
	CHECK(docstore_delete(store, &scope, collection, nth(1), 6) == OK);
	CHECK(gone(&scope, 1));
	CHECK(strcmp(found(NULL, 0, NULL, false), "") == 0);
	CHECK(put(1, 5, "{\"a\":1}") == DOC_NEWER); /* a slow flush does not bring it back */
	CHECK(gone(&scope, 1));
	CHECK(put(1, 7, "{\"a\":7}") == DOC_APPLIED);
	CHECK(holds(1, 7, "{\"a\":7}"));
	/* A tombstone of what never came, and the older write after it. */
	CHECK(docstore_delete(store, &scope, collection, nth(2), 9) == OK);
	CHECK(put(2, 8, "{\"a\":8}") == DOC_NEWER);
	CHECK(gone(&scope, 2));
}

struct writer {
	int64_t version;
	enum doc_outcome outcome;
	enum err e;
};

SUSPENDS static enum err write_one(void *arg)
{
	struct writer *w = arg;
	struct arena *own = arena_new();
	struct doc_scope mine = {scope.school, own, never};
	struct doc doc = {nth(1), w->version, str_of(arena_printf(own, "{\"n\":%d}", (int)w->version))};

	w->e = docstore_upsert_many(store, &mine, collection, &doc, 1, &w->outcome);
	arena_free(own);
	return w->e;
}

FIBER_TEST(writers_that_meet_leave_the_newest)
{
	struct writer *writers = arena_array(arena, 40, sizeof(*writers));
	struct group *g = group_new(loop, GROUP_COLLECT);

	for (int i = 0; i < 40; i++) {
		writers[i].version = (i * 17) % 40 + 1;
		group_spawn(g, "writer", write_one, &writers[i]);
	}
	CHECK(group_wait(g, never) == OK);
	for (int i = 0; i < 40; i++)
		CHECK(writers[i].outcome == DOC_APPLIED || writers[i].outcome == DOC_NEWER);
	CHECK(holds(1, 40, "{\"n\":40}"));
}

FIBER_TEST(schools_do_not_see_each_other)
{
	enum doc_outcome outcome;
	struct str cursor;
	struct list list;
	struct doc_find all = {.limit = 10};

	CHECK(put(1, 5, "{\"a\":\"mine\"}") == DOC_APPLIED);
	CHECK(gone(&other, 1));
	/* The same id in another school is another document, and an older one is not refused. */
	CHECK(put_in(&other, 1, 3, "{\"a\":\"theirs\"}", &outcome) == OK && outcome == DOC_APPLIED);
	CHECK(holds(1, 5, "{\"a\":\"mine\"}"));
	CHECK(docstore_delete(store, &other, collection, nth(1), 99) == OK);
	CHECK(holds(1, 5, "{\"a\":\"mine\"}"));
	CHECK(docstore_find(store, &other, collection, &all, &list, &cursor) == OK && list.n == 0);
	CHECK(docstore_find(store, &scope, collection, &all, &list, &cursor) == OK && list.n == 1);
	/* No school is no scope. */
	CHECK(put_in(&(struct doc_scope){.arena = arena, .deadline = never}, 1, 5, "{}", &outcome) == ERR_INVALID);
}

/* ---- indexes ----------------------------------------------------------------------------------------------------------------------- */

FIBER_TEST(a_unique_index_refuses_one_and_lets_the_rest_go_on)
{
	struct doc docs[4] = {{nth(1), 5, STR("{\"code\":\"x\"}")},
			      {nth(2), 5, STR("{\"code\":\"x\"}")},
			      {nth(3), 5, STR("{\"code\":\"y\"}")},
			      {nth(4), 5, STR("{\"other\":1}")}};
	enum doc_outcome outcomes[4], outcome;

	CHECK(index_on("code", "code", NULL, true, false, 0) == OK);
	CHECK(docstore_upsert_many(store, &scope, collection, docs, 4, outcomes) == OK);
	CHECK(outcomes[0] == DOC_APPLIED && outcomes[1] == DOC_REFUSED && outcomes[2] == DOC_APPLIED &&
	      outcomes[3] == DOC_APPLIED);
	CHECK(gone(&scope, 2) && holds(3, 5, "{\"code\":\"y\"}"));
	CHECK(put(5, 5, "{\"other\":1}") == DOC_APPLIED);    /* what has no code is not bound */
	CHECK(put(3, 6, "{\"code\":\"x\"}") == DOC_REFUSED); /* an update is */
	CHECK(holds(3, 5, "{\"code\":\"y\"}"));
	CHECK(put(3, 4, "{\"code\":\"x\"}") == DOC_NEWER); /* but what is older is done anyway */
	CHECK(put_in(&other, 9, 5, "{\"code\":\"x\"}", &outcome) == OK && outcome == DOC_APPLIED); /* another school */
	CHECK(docstore_delete(store, &scope, collection, nth(1), 6) == OK);
	CHECK(docstore_delete(store, &scope, collection, nth(4), 6) == OK); /* two tombstones do not meet */
	CHECK(put(3, 6, "{\"code\":\"x\"}") == DOC_APPLIED);
	CHECK(put(1, 7, "{\"code\":\"x\"}") == DOC_REFUSED);
	CHECK(put(6, 1, "{\"code\":1}") == DOC_APPLIED && put(7, 1, "{\"code\":\"1\"}") == DOC_APPLIED &&
	      put(8, 1, "{\"code\":1.0}") == DOC_REFUSED);
}

FIBER_TEST(a_compound_index_binds_the_pair)
{
	CHECK(index_on("pair", "a", "b.c", true, false, 0) == OK);
	CHECK(put(1, 1, "{\"a\":1,\"b\":{\"c\":1}}") == DOC_APPLIED);
	CHECK(put(2, 1, "{\"a\":1,\"b\":{\"c\":2}}") == DOC_APPLIED);
	CHECK(put(3, 1, "{\"a\":1,\"b\":{\"c\":1}}") == DOC_REFUSED);
	CHECK(put(4, 1, "{\"a\":1}") == DOC_APPLIED && put(5, 1, "{\"a\":1}") == DOC_APPLIED);
	CHECK(index_on("plain", "a", "b.c", false, false, 0) == OK);
	CHECK(finds(DOC_EQ, "b.c", "2", "2"));
}

FIBER_TEST(an_index_is_made_once_and_means_one_thing)
{
	CHECK(put(1, 1, "{\"a\":1}") == DOC_APPLIED && put(2, 1, "{\"a\":1}") == DOC_APPLIED);
	CHECK(index_on("same", "a", NULL, true, false, 0) == ERR_CONFLICT); /* two are equal already */
	CHECK(put(2, 2, "{\"a\":2}") == DOC_APPLIED);
	CHECK(index_on("same", "a", NULL, true, false, 0) == OK);
	CHECK(index_on("same", "a", NULL, true, false, 0) == OK);
	CHECK(index_on("same", "b", NULL, true, false, 0) == ERR_CONFLICT);
	CHECK(index_on("same", "a", NULL, false, false, 0) == ERR_CONFLICT);
	CHECK(index_on("words", "a", NULL, false, true, 0) == OK);
	CHECK(index_on("more_words", "b", NULL, false, true, 0) == ERR_CONFLICT);
	CHECK(index_on("when", "at", NULL, false, false, 60) == OK);
	CHECK(index_on("when2", "at2", NULL, false, false, 60) == ERR_CONFLICT);
	CHECK(index_on("bad", NULL, NULL, false, false, 0) == ERR_INVALID);
	CHECK(index_on("bad", "a", "b", false, false, 60) == ERR_INVALID);
	CHECK(index_on("bad", "a", NULL, true, true, 0) == ERR_INVALID);
	CHECK(index_on("bad", "a", NULL, false, false, -1) == ERR_INVALID);
	CHECK(index_on("Bad", "a", NULL, false, false, 0) == ERR_INVALID);
	CHECK(index_on("bad'; --", "a", NULL, false, false, 0) == ERR_INVALID);
	CHECK(index_on("bad", "a$", NULL, false, false, 0) == ERR_INVALID);
}

FIBER_TEST(words_are_found)
{
	struct doc_cond both[2] = {{"x", DOC_TEXT, STR("\"apple\"")}, {"n", DOC_GTE, STR("2")}};
	struct doc_cond twice[2] = {{"x", DOC_TEXT, STR("\"apple\"")}, {"x", DOC_TEXT, STR("\"pie\"")}};

	CHECK(put(1, 1, "{\"title\":\"Red apple pie\",\"n\":1}") == DOC_APPLIED); /* before the index */
	CHECK(index_on("words", "title", "options.text", false, true, 0) == OK);
	CHECK(put(2, 1, "{\"title\":\"Green APPLE\",\"n\":2,\"language\":\"klingon\"}") == DOC_APPLIED);
	CHECK(put(3, 1, "{\"title\":\"nothing\",\"options\":[{\"text\":\"a sour pie\"},{\"text\":\"the end\"}],\"n\":3}") ==
	      DOC_APPLIED);
	CHECK(put(4, 1, "{\"title\":\"pineapple\",\"note\":\"apple\"}") == DOC_APPLIED);
	CHECK(put(5, 1, "{\"title\":\"भारत की राजधानी\"}") == DOC_APPLIED);
	CHECK(finds(DOC_TEXT, "x", "\"apple\"", "1,2"));
	CHECK(finds(DOC_TEXT, "x", "\"Apple SOUR\"", "1,2,3")); /* any of the words */
	CHECK(finds(DOC_TEXT, "x", "\"pie\"", "1,3"));
	CHECK(finds(DOC_TEXT, "x", "\"the\"", "3")); /* no word is too common */
	CHECK(finds(DOC_TEXT, "x", "\"राजधानी\"", "5"));
	/* Signs of query languages are no signs. */
	CHECK(finds(DOC_TEXT, "x", "\"-apple\"", "1,2"));
	CHECK(finds(DOC_TEXT, "x", "\"\\\"apple\\\" | !green & ' (\"", "1,2"));
	CHECK(finds(DOC_TEXT, "x", "\"!!! --\"", ""));
	CHECK(finds(DOC_TEXT, "x", "\"\"", ""));
	CHECK(strcmp(found(both, 2, "n", true), "2") == 0);
	CHECK(strcmp(found(twice, 2, NULL, false), "ERR_INVALID") == 0);
	CHECK(docstore_delete(store, &scope, collection, nth(1), 2) == OK);
	CHECK(finds(DOC_TEXT, "x", "\"apple\"", "2"));
}

FIBER_TEST(what_has_expired_is_not_found)
{
	char soon[TIME_TEXT + 1];

	time_text(clock_real_us() - 30 * US_PER_S, soon);
	CHECK(put(1, 1, "{\"at\":\"2020-01-01T00:00:00Z\"}") == DOC_APPLIED); /* before the index */
	CHECK(holds(1, 1, "{\"at\":\"2020-01-01T00:00:00Z\"}"));
	CHECK(index_on("old", "at", NULL, false, false, 60) == OK);
	CHECK(gone(&scope, 1));
	CHECK(put(2, 1, "{\"at\":\"2020-01-01T05:30:00.5+05:30\",\"n\":2}") == DOC_APPLIED);
	CHECK(put(3, 1, arena_printf(arena, "{\"at\":\"%s\"}", soon)) == DOC_APPLIED); /* half a minute left */
	CHECK(put(4, 1, "{\"at\":\"someday\"}") == DOC_APPLIED && put(5, 1, "{\"at\":7}") == DOC_APPLIED &&
	      put(6, 1, "{}") == DOC_APPLIED);
	CHECK(put(7, 1, "{\"at\":\"2026-13-45T00:00:00Z\"}") == DOC_APPLIED);
	CHECK(gone(&scope, 2));
	CHECK(strcmp(found(NULL, 0, NULL, false), "3,4,5,6,7") == 0);
	CHECK(finds(DOC_EQ, "n", "2", ""));
	/* A newer version lives again. */
	CHECK(put(2, 2, "{\"at\":\"2999-01-01T00:00:00Z\"}") == DOC_APPLIED);
	CHECK(holds(2, 2, "{\"at\":\"2999-01-01T00:00:00Z\"}"));
}

/* ---- finding ------------------------------------------------------------------------------------------------------------------------ */

FIBER_TEST(every_operator_finds)
{
	struct doc_cond range[2] = {{"n", DOC_GT, STR("1")}, {"n", DOC_LTE, STR("3")}};

	CHECK(put(1, 1, "{\"n\":1,\"s\":\"a\",\"o\":{\"p\":{\"q\":\"deep\"}},\"t\":[\"x\",\"y\"]}") == DOC_APPLIED);
	CHECK(put(2, 1, "{\"n\":2.5,\"s\":\"b\",\"t\":[]}") == DOC_APPLIED);
	CHECK(put(3, 1, "{\"n\":3,\"s\":\"B\",\"t\":\"x\",\"l\":[{\"k\":1},{\"k\":2}]}") == DOC_APPLIED);
	CHECK(put(4, 1, "{\"n\":\"3\",\"s\":null,\"b\":true}") == DOC_APPLIED);
	CHECK(put(5, 1, "{\"n\":-9007199254740993,\"s\":\"\",\"b\":false}") == DOC_APPLIED);
	CHECK(finds(DOC_EQ, "n", "3", "3"));
	CHECK(finds(DOC_EQ, "n", "3.0", "3"));
	CHECK(finds(DOC_EQ, "n", "\"3\"", "4"));
	CHECK(finds(DOC_EQ, "n", "-9007199254740993", "5"));
	CHECK(finds(DOC_EQ, "b", "true", "4"));
	CHECK(finds(DOC_EQ, "b", "false", "5"));
	CHECK(finds(DOC_EQ, "s", "null", "4"));
	CHECK(finds(DOC_EQ, "b", "null", "1,2,3")); /* missing is null */
	CHECK(finds(DOC_EQ, "s", "\"\"", "5"));
	CHECK(finds(DOC_EQ, "o.p.q", "\"deep\"", "1"));
	CHECK(finds(DOC_EQ, "o.p", "\"deep\"", ""));
	CHECK(finds(DOC_EQ, "t", "\"x\"", "1,3")); /* any element */
	CHECK(finds(DOC_EQ, "l.k", "2", "3"));
	CHECK(finds(DOC_IN, "s", "[\"a\",\"B\",7]", "1,3"));
	CHECK(finds(DOC_IN, "s", "[null, \"a\"]", "1,4"));
	CHECK(finds(DOC_IN, "b", "[null,true]", "1,2,3,4"));
	CHECK(finds(DOC_IN, "s", "[]", ""));
	CHECK(finds(DOC_GT, "n", "1", "2,3"));
	CHECK(finds(DOC_GTE, "n", "1", "1,2,3"));
	CHECK(finds(DOC_LT, "n", "2.5", "1,5"));
	CHECK(finds(DOC_LTE, "n", "2.5", "1,2,5"));
	CHECK(finds(DOC_GT, "s", "\"a\"", "2")); /* by bytes: B comes before a */
	CHECK(finds(DOC_LT, "s", "\"a\"", "3,5"));
	CHECK(finds(DOC_GT, "n", "\"2\"", "4")); /* values of one kind only */
	CHECK(finds(DOC_GTE, "l.k", "2", "3"));
	CHECK(strcmp(found(range, 2, NULL, false), "2,3") == 0);
	CHECK(strcmp(found(NULL, 0, "n", false), "5,1,2,3,4") == 0);
	CHECK(strcmp(found(NULL, 0, "n", true), "4,3,2,1,5") == 0);
	CHECK(strcmp(found(NULL, 0, "s", false), "4,5,3,1,2") == 0);
	CHECK(strcmp(found(NULL, 0, "b", false), "1,2,3,5,4") == 0);
	CHECK(strcmp(found(NULL, 0, "o.p.q", true), "1,5,4,3,2") == 0);
}

FIBER_TEST(numbers_and_texts_come_back_as_they_were)
{
	static const char *const docs[] = {
		"{\"a\":0.1,\"b\":-12.5,\"c\":9223372036854775807,\"d\":-9223372036854775808}",
		"{\"a\":\"quote \\\" slash \\\\ tab \\t\",\"e\":[[],[1,[2,{\"x\":null}]],{}]}",
		"{\"a\":\"\xf0\x9f\x8e\x93 \xe0\xa4\xb8\xe0\xa5\x8d\",\"b\":true,\"c\":false}",
		"{}",
	};

	for (unsigned i = 0; i < ARRAY_LEN(docs); i++) {
		CHECK(put(i, 1, docs[i]) == DOC_APPLIED);
		CHECK(holds(i, 1, docs[i]));
	}
	/* The escapes by meaning: what was stored is what is found. */
	CHECK(finds(DOC_EQ, "a", "\"quote \\u0022 slash \\\\ tab \\t\"", "1"));
}

/* ---- pages -------------------------------------------------------------------------------------------------------------------------- */

/* Walks all pages; every `disturb` pages something is written behind and before the cursor. */
SUSPENDS static size_t walk(const char *sort, bool descending, size_t limit, bool disturb, unsigned *seen)
{
	struct doc_find find = {.sort = sort, .descending = descending, .limit = limit};
	struct str cursor;
	size_t total = 0;
	int64_t v = 100;

	for (unsigned page = 0; page < 2000; page++) {
		struct list list;
		struct doc *docs;

		if (docstore_find(store, &scope, collection, &find, &list, &cursor) != OK || list.n > limit)
			return 0;
		docs = list.v;
		for (size_t i = 0; i < list.n; i++)
			seen[docs[i].id.b[14] << 8 | docs[i].id.b[15]]++;
		total += list.n;
		if (cursor.n == 0)
			return total;
		find.cursor = arena_str(arena, cursor);
		/* The last one of the page goes away, and so does one that was read before. */
		if (disturb && page % 3 == 0 && docstore_delete(store, &scope, collection, docs[list.n - 1].id, v++) != OK)
			return 0;
	}
	return 0;
}

FIBER_TEST(pages_of_a_thousand_documents_are_complete_and_stable)
{
	unsigned *seen = arena_array(arena, 1000, sizeof(*seen));
	struct doc *docs = arena_array(arena, 1000, sizeof(*docs));
	enum doc_outcome *outcomes = arena_array(arena, 1000, sizeof(*outcomes));
	static const struct {
		const char *sort;
		bool descending;
		size_t limit;
	} walks[] = {{NULL, false, 100},   {NULL, true, 333},   {"k", false, 37},    {"k", true, 500},
		     {"mixed", false, 91}, {"mixed", true, 64}, {"none", false, 250}};

	for (unsigned i = 0; i < 1000; i++) {
		static const char *const mixed[] = {"null", "1", "2.5", "\"a\"", "\"Z\"", "true", "false", "-3"};
		const char *m = i % 9 == 8 ? "" : arena_printf(arena, ",\"mixed\":%s", mixed[i % 9]);

		/* Many equal keys: the id decides. */
		docs[i] = (struct doc){nth(i), 1, str_of(arena_printf(arena, "{\"k\":%u%s}", (i * 7919) % 13, m))};
	}
	CHECK(docstore_upsert_many(store, &scope, collection, docs, 1000, outcomes) == OK);
	for (size_t w = 0; w < ARRAY_LEN(walks); w++) {
		memset(seen, 0, 1000 * sizeof(*seen));
		CHECK(walk(walks[w].sort, walks[w].descending, walks[w].limit, false, seen) == 1000);
		for (unsigned i = 0; i < 1000; i++)
			CHECK(seen[i] == 1);
	}
	/* Deleting where the cursor stands loses and doubles nothing. */
	memset(seen, 0, 1000 * sizeof(*seen));
	CHECK(walk("k", false, 20, true, seen) == 1000);
	for (unsigned i = 0; i < 1000; i++)
		CHECK(seen[i] == 1);
}

FIBER_TEST(limits_and_cursors_are_checked)
{
	static const size_t limits[] = {0, 501, SIZE_MAX};
	struct doc_find find = {.limit = 1, .sort = "a"};
	struct doc_cond conds[17];
	struct str cursor, made;
	struct buf forged = buf_in(arena);
	struct list list;

	CHECK(put(1, 1, "{\"a\":1}") == DOC_APPLIED && put(2, 1, "{\"a\":2}") == DOC_APPLIED &&
	      put(3, 1, "{\"a\":{\"x\":1}}") == DOC_APPLIED);
	CHECK(put(4, 1, "{\"a\":{\"x\":1}}") == DOC_APPLIED);
	for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
		find.limit = limits[i];
		CHECK(docstore_find(store, &scope, collection, &find, &list, &cursor) == ERR_INVALID);
	}
	find.limit = 1;
	CHECK(docstore_find(store, &scope, collection, &find, &list, &cursor) == OK && list.n == 1 && cursor.n != 0);
	made = arena_str(arena, cursor);
	for (size_t n = 1; n < made.n; n++) {
		find.cursor = (struct str){made.p, n};
		enum err e = docstore_find(store, &scope, collection, &find, &list, &cursor);
		CHECK(e == ERR_INVALID || e == OK);
	}
	find.cursor = STR("!!!");
	CHECK(docstore_find(store, &scope, collection, &find, &list, &cursor) == ERR_INVALID);
	/* Well encoded, but something else than a scalar behind the id. */
	buf_put_uuid(&forged, nth(1));
	buf_puts(&forged, STR("{\"$gt\":0}"));
	made.n = 0;
	struct buf text = buf_in(arena);
	base64url_put(&text, buf_str(&forged));
	find.cursor = buf_str(&text);
	find.limit = 100;
	CHECK(docstore_find(store, &scope, collection, &find, &list, &cursor) == ERR_INVALID);
	find.cursor = (struct str){NULL, 0};
	find.limit = 3; /* the page ends at an object: there is no going on */
	CHECK(docstore_find(store, &scope, collection, &find, &list, &cursor) == ERR_INVALID);
	for (size_t i = 0; i < ARRAY_LEN(conds); i++)
		conds[i] = (struct doc_cond){"a", DOC_EQ, STR("1")};
	find = (struct doc_find){.limit = 10, .conds = conds, .n_conds = 16};
	CHECK(docstore_find(store, &scope, collection, &find, &list, &cursor) == OK && list.n == 1);
	find.n_conds = 17;
	CHECK(docstore_find(store, &scope, collection, &find, &list, &cursor) == ERR_INVALID);
}

/* ---- bounds and attacks --------------------------------------------------------------------------------------------------------------- */

FIBER_TEST(documents_up_to_a_mebibyte)
{
	char *text = arena_alloc(arena, DOC_SIZE_MAX + 16);
	struct doc *docs = arena_array(arena, 17, sizeof(*docs));
	enum doc_outcome outcomes[17];
	struct doc doc;

	memcpy(text, "{\"a\":\"", 6);
	memset(text + 6, 'x', DOC_SIZE_MAX);
	memcpy(text + DOC_SIZE_MAX - 2, "\"}", 3);
	CHECK(put(1, 1, text) == DOC_APPLIED);
	CHECK(docstore_get(store, &scope, collection, nth(1), &doc) == OK && squeezed(doc.json).n == DOC_SIZE_MAX);
	memcpy(text + DOC_SIZE_MAX - 2, "x\"}", 4);
	CHECK(put(2, 1, text) == 100 + ERR_TOO_LARGE);
	memcpy(text + DOC_SIZE_MAX - 2, "\"}", 3);
	for (unsigned i = 0; i < 17; i++)
		docs[i] = (struct doc){nth(i), 2, {text, DOC_SIZE_MAX}};
	CHECK(docstore_upsert_many(store, &scope, collection, docs, 17, outcomes) == ERR_TOO_LARGE);
	/* As deep as JSON may be here. */
	memset(text, 0, 300);
	for (int i = 0; i < 32; i++)
		memcpy(text + 5 * i, "{\"a\":", 5);
	text[5 * 31] = '{';
	memset(text + 5 * 31 + 1, '}', 32);
	text[5 * 31 + 33] = '\0';
	CHECK(put(3, 1, text) == DOC_APPLIED && holds(3, 1, text));
}

FIBER_TEST(attempts_at_injection_are_refused_or_harmless)
{
	static const char *const documents[] = {
		"{\"$set\":{\"a\":1}}",
		"{\"a\":{\"$gt\":0}}",
		"{\"a\":[{\"$where\":\"1\"}]}",
		"{\"a.b\":1}",
		"{\"a\":{\"b.c\":1}}",
		"{\"\\u0024a\":1}",
		"{\"a\\u002eb\":1}",
		"{\"a\\u0000\":1}",
		"{\"a\":\"\\u0000\"}",
		"{\"\":1}",
		"{\"_id\":1}",
		"{\"school_id\":\"x\"}",
		"{\"v\":1}",
		"{\"deleted_at\":null}",
		"{\"_expire\":1}",
		"{\"a\":1,\"a\":2}",
		"{\"a\":{\"b\":1,\"c\":2,\"b\":3}}",
		"[1]",
		"1",
		"",
		"{",
		"{\"a\":1}x",
		"{\"a\":1e999}",
		"{\"a\":9223372036854775808}",
		"{\"a\":\"\\ud800\"}",
		"{\"a\":NaN}",
		"{\"a\":{\"$oid\":\"5\"}}",
	};
	static const char *const paths[] = {"",          ".",          "a.",      ".a",   "a..b", "$where",  "a.$", "a b",
					    "a'",        "a\"",        "a-b",     "a[0]", "0",    "a.0",     "_id", "v",
					    "school_id", "deleted_at", "_expire", "a\n",  "a)",   "\xc3\xa9"};
	static const char *const values[] = {"{\"$gt\":\"\"}", "[1]", "{}", "1;", "x", "\"a", "", "\"\\u0000\"", "1 2", "1e999"};
	static const char *const hostile[] = {"\"' OR 1=1 --\"",  "\"\\\" || true || \\\"\"", "\"$v\"",
					      "\"%s%n\"",         "\"{\\\"$gt\\\":0}\"",      "\"\\\\\"",
					      "\"a') ? (@ == 1\""};
	static const char *const names[] = {"",
					    "A",
					    "a-b",
					    "a.b",
					    "$cmd",
					    "a b",
					    "system.users",
					    "a'",
					    "documents;",
					    "_a",
					    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
	struct doc doc;

	CHECK(put(1, 1, "{\"a\":\"secret\"}") == DOC_APPLIED);
	for (size_t i = 0; i < ARRAY_LEN(documents); i++) {
		if (put(2, 1, documents[i]) != 100 + ERR_INVALID)
			print_message("%s\n", documents[i]);
		CHECK(put(2, 1, documents[i]) == 100 + ERR_INVALID);
		CHECK(doc_check(str_of(documents[i])) == ERR_INVALID);
	}
	CHECK(gone(&scope, 2));
	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		CHECK(finds(DOC_EQ, paths[i], "1", "ERR_INVALID"));
		CHECK(strcmp(found(NULL, 0, paths[i], false), "ERR_INVALID") == 0);
	}
	for (size_t i = 0; i < ARRAY_LEN(values); i++) {
		CHECK(finds(DOC_EQ, "a", values[i], "ERR_INVALID"));
		CHECK(finds(DOC_GT, "a", values[i], "ERR_INVALID"));
		CHECK(strcmp(values[i], "[1]") == 0 || finds(DOC_IN, "a", values[i], "ERR_INVALID"));
	}
	CHECK(finds(DOC_IN, "a", "[{\"$gt\":\"\"}]", "ERR_INVALID") && finds(DOC_IN, "a", "[[1]]", "ERR_INVALID"));
	CHECK(finds(DOC_GT, "a", "null", "ERR_INVALID") && finds(DOC_GT, "a", "true", "ERR_INVALID") &&
	      finds(DOC_TEXT, "a", "1", "ERR_INVALID"));
	/* Hostile texts are texts: each finds the document that holds it and no other. */
	for (size_t i = 0; i < ARRAY_LEN(hostile); i++) {
		CHECK(finds(DOC_EQ, "a", hostile[i], ""));
		CHECK(put(9, 1 + (int64_t)i, arena_printf(arena, "{\"a\":%s}", hostile[i])) == DOC_APPLIED);
		CHECK(finds(DOC_EQ, "a", hostile[i], "9"));
		CHECK(finds(DOC_IN, "a", arena_printf(arena, "[%s]", hostile[i]), "9"));
	}
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		CHECK(docstore_get(store, &scope, names[i], nth(1), &doc) == ERR_INVALID);
}

/* ---- when the server is slow or away -------------------------------------------------------------------------------------------------- */

FIBER_TEST(a_deadline_is_kept)
{
	struct doc_scope late = {scope.school, arena, {loop_mono_us(loop) - 1}};
	struct doc_find all = {.limit = 10};
	enum doc_outcome outcome;
	struct str cursor;
	struct list list;
	struct doc doc;

	CHECK(put(1, 1, "{\"a\":1}") == DOC_APPLIED);
	CHECK(put_in(&late, 1, 2, "{\"a\":2}", &outcome) == ERR_TIMEOUT);
	CHECK(docstore_get(store, &late, collection, nth(1), &doc) == ERR_TIMEOUT);
	CHECK(docstore_find(store, &late, collection, &all, &list, &cursor) == ERR_TIMEOUT);
	CHECK(put(1, 3, "{\"a\":3}") == DOC_APPLIED && holds(1, 3, "{\"a\":3}"));
}

FIBER_TEST(a_server_that_is_away_is_a_fault)
{
	struct docstore *mine = store;
	struct pg *lost = NULL;
	struct doc doc;
	enum doc_outcome outcome;
	int64_t from = clock_mono_us();

	if (mongo_uri != NULL) {
		CHECK(docstore_open_mongo(loop, pool, "mongodb://127.0.0.1:1/", "x", &store) == OK);
	} else {
		struct pg_conf conf = {.url = "postgresql://nobody@127.0.0.1:1/x", .connections = 1};

		CHECK(pg_open(loop, &conf, &lost) == OK);
		CHECK(docstore_open_pg(lost, "quiz", &store) == OK);
	}
	scope.deadline = deadline_in(loop, 15000);
	CHECK(docstore_get(store, &scope, collection, nth(1), &doc) == ERR_DB);
	CHECK(put_in(&scope, 1, 1, "{}", &outcome) == ERR_DB);
	CHECK(clock_mono_us() - from < 12 * US_PER_S);
	docstore_close(store);
	store = mine;
	if (lost != NULL)
		pg_close(lost);
}

static void addresses_that_are_none_are_refused(void **state)
{
	struct docstore *s = NULL;

	(void)state;
	assert_int_equal(docstore_open_mongo(loop, pool, "postgres://x", "x", &s), ERR_INVALID);
	assert_int_equal(docstore_open_mongo(loop, pool, "", "x", &s), ERR_INVALID);
	assert_null(s);
	assert_null(docstore_close(NULL));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, fresh, stale)
	const struct CMUnitTest tests[] = {
		T(an_older_version_never_overwrites),
		T(a_batch_tells_each_outcome),
		T(a_tombstone_keeps_its_version),
		T(writers_that_meet_leave_the_newest),
		T(schools_do_not_see_each_other),
		T(a_unique_index_refuses_one_and_lets_the_rest_go_on),
		T(a_compound_index_binds_the_pair),
		T(an_index_is_made_once_and_means_one_thing),
		T(words_are_found),
		T(what_has_expired_is_not_found),
		T(every_operator_finds),
		T(numbers_and_texts_come_back_as_they_were),
		T(pages_of_a_thousand_documents_are_complete_and_stable),
		T(limits_and_cursors_are_checked),
		T(documents_up_to_a_mebibyte),
		T(attempts_at_injection_are_refused_or_harmless),
		T(a_deadline_is_kept),
		T(a_server_that_is_away_is_a_fault),
		T(addresses_that_are_none_are_refused),
	};
	const char *uri = getenv("S24_TEST_MONGO_URI");
	int failed = cmocka_run_group_tests_name("PostgreSQL", tests, start, stop);

	if (uri == NULL || uri[0] == '\0') {
		print_message("the MongoDB half is skipped: S24_TEST_MONGO_URI names no server (tests/harness/mongo_server.sh "
			      "starts one)\n");
		return failed;
	}
	mongo_uri = uri;
	return failed + cmocka_run_group_tests_name("MongoDB", tests, start, stop);
}
