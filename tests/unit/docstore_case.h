/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The document store's conformance suite (cache.md J5): every test_docstore_*.c runs over both drivers, PostgreSQL always, MongoDB where S24_TEST_MONGO_URI names
 * a server (tools/s24/mongo_server.sh starts one). A test is a fiber; `store`, `scope` (a school of its own), `other` and `collection` are there.
 */
#ifndef S24_DOCSTORE_CASE_H
#define S24_DOCSTORE_CASE_H

#include "unit/unit.h"

#include <unistd.h>

#include "base/str.h"
#include "base/timefmt.h"
#include "base/uuid.h"
#include "io/docstore.h"
#include "unit/fiber_case.h"
#include "unit/real_pg.h"

static struct work_pool *pool;
static struct real_pg *server;
static struct pg *pg;
static struct docstore *store;
static struct arena *arena;
static struct doc_scope scope, other __attribute__((unused));
static const char *mongo_uri; /* NULL: this suite is PostgreSQL's */
static char collection[48];   /* each test has its own */
static unsigned tests_run;
static const struct deadline never = {INT64_MAX};

static inline int start(void **state)
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
	real_pg_migrate(server, "0001_roles.sql");
	real_pg_migrate(server, "0002_common.sql");
	real_pg_migrate(server, "0005_documents.sql");
	real_pg_migrate(server, "0006_sweep_documents.sql");
	real_pg_sql(server, "SELECT common.create_documents('quiz')");
	real_pg_sql(server, "SELECT common.create_documents('quiz')"); /* a second time is harmless */
	struct pg_conf conf = {.url = real_pg_url(server, "schools24_quiz"), .connections = 4, .statement_ms = 5000};
	assert_int_equal(pg_open(loop, &conf, &pg), OK);
	assert_int_equal(docstore_open_pg(pg, "quiz", &store), OK);
	return 0;
}

static inline int stop(void **state)
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

static inline int fresh(void **state)
{
	(void)state;
	arena = arena_new();
	scope = (struct doc_scope){.school = uuid_v7(clock_real_us()), .arena = arena, .deadline = never};
	other = (struct doc_scope){.school = uuid_v7(clock_real_us()), .arena = arena, .deadline = never};
	snprintf(collection, sizeof(collection), "c%u", tests_run++);
	return 0;
}

static inline int stale(void **state)
{
	(void)state;
	arena = arena_free(arena);
	return 0;
}

/* ---- helpers ------------------------------------------------------------------------------------------------------------------ */

static inline struct uuid nth(unsigned n)
{
	return (struct uuid){{1, 0x8f, 0, 0, 0, 0, 0x70, 0, 0x80, 0, 0, 0, (uint8_t)(n >> 24), (uint8_t)(n >> 16),
			      (uint8_t)(n >> 8), (uint8_t)n}};
}

SUSPENDS static inline enum err put_in(const struct doc_scope *in, unsigned n, int64_t version, const char *json,
				       enum doc_outcome *ret)
{
	struct doc doc = {nth(n), version, str_of(json)};

	return docstore_upsert_many(store, in, collection, &doc, 1, ret);
}

/* The outcome, or -1 - the error's negative. */
SUSPENDS static inline int put(unsigned n, int64_t version, const char *json)
{
	enum doc_outcome outcome = DOC_REFUSED;
	enum err e = put_in(&scope, n, version, json, &outcome);

	return e == OK ? (int)outcome : 100 + (int)e;
}

/* Without white space outside strings, so that both stores' texts can be compared. */
static inline struct str squeezed(struct str json)
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

SUSPENDS static inline bool holds(unsigned n, int64_t version, const char *json)
{
	struct doc doc;

	return docstore_get(store, &scope, collection, nth(n), &doc) == OK && doc.version == version && uuid_eq(doc.id, nth(n)) &&
	       str_is(squeezed(doc.json), json);
}

SUSPENDS static inline bool gone(const struct doc_scope *in, unsigned n)
{
	struct doc doc;

	return docstore_get(store, in, collection, nth(n), &doc) == ERR_NOT_FOUND;
}

/* The numbers of the documents found, joined: "1,2,5"; or the error's name. */
SUSPENDS static inline const char *found(const struct doc_cond *conds, size_t n_conds, const char *sort, bool descending)
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

SUSPENDS static inline bool finds(enum doc_op op, const char *path, const char *value, const char *want)
{
	struct doc_cond cond = {path, op, str_of(value)};
	const char *got = found(&cond, 1, NULL, false);

	if (strcmp(got, want) != 0)
		print_message("%s %d %s: got %s, want %s\n", path, (int)op, value, got, want);
	return strcmp(got, want) == 0;
}

SUSPENDS static inline enum err index_on(const char *name, const char *a, const char *b, bool unique, bool text, int64_t expire_s)
{
	struct doc_index index = {collection, name, {a, b}, unique, text, expire_s};

	return docstore_create_index(store, &index, never);
}

/* ---- both drivers --------------------------------------------------------------------------------------------------------------- */

#define T(name) cmocka_unit_test_setup_teardown(name, fresh, stale)

static inline int run_both(const struct CMUnitTest *tests, size_t n)
{
	const char *uri = getenv("S24_TEST_MONGO_URI");
	int failed = _cmocka_run_group_tests("PostgreSQL", tests, n, start, stop);

	if (uri == NULL || uri[0] == '\0') {
		print_message("the MongoDB half is skipped: S24_TEST_MONGO_URI names no server (tools/s24/mongo_server.sh "
			      "starts one)\n");
		return failed;
	}
	mongo_uri = uri;
	return failed + _cmocka_run_group_tests("MongoDB", tests, n, start, stop);
}
#define RUN_BOTH(tests) run_both(tests, ARRAY_LEN(tests))

#endif
