/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that the document store at hand works: writes, reads, finds and refuses in the very store that a daemon is configured with.
 *
 *	S24_MONGO_URI=… or DATABASE_URL=… (or the same with _FILE) prove_documents SERVICE
 *
 * Prints one line and ends with 0, or names the step that failed and ends with 1. It works in a school of its own, which nobody else has, and its
 * documents expire within a minute.
 */
#include <stdio.h>
#include <string.h>

#include "base/conf.h"
#include "base/str.h"
#include "base/timefmt.h"
#include "base/uuid.h"
#include "io/docstore.h"
#include "io/fiber.h"
#include "io/loop.h"
#include "svc/service.h"

#define COLLECTION "proof"
#define PATIENCE_MS 15000

struct proof_conf {
	const char *mongo_uri, *database_url;
};
/* clang-format off */
static const struct conf_row rows[] = {
	CONF_SECRET_STR("S24_MONGO_URI", struct proof_conf, mongo_uri, "", "MongoDB"),
	CONF_SECRET_STR("DATABASE_URL", struct proof_conf, database_url, "", "PostgreSQL, when there is no MongoDB"),
	CONF_END,
};
/* clang-format on */

struct proof {
	struct loop *loop;
	struct docstore *store;
	struct doc_scope scope;
	const char *failed; /* the step */
	enum err e;
	int64_t took_us;
};

#define STEP(what, condition)             \
	do {                              \
		if (!(condition)) {       \
			p->failed = what; \
			return;           \
		}                         \
	} while (0)

SUSPENDS static bool make_indexes(struct proof *p)
{
	const struct doc_index words = {.collection = COLLECTION, .name = "words", .paths = {"question"}, .text = true};
	const struct doc_index old = {.collection = COLLECTION, .name = "old", .paths = {"at"}, .expire_s = 60};

	p->e = docstore_create_index(p->store, &words, p->scope.deadline);
	if (p->e == OK)
		p->e = docstore_create_index(p->store, &old, p->scope.deadline);
	return p->e == OK;
}

SUSPENDS static bool put(struct proof *p, struct doc *docs, size_t n, enum doc_outcome wanted)
{
	enum doc_outcome outcomes[3];

	p->e = docstore_upsert_many(p->store, &p->scope, COLLECTION, docs, n, outcomes);
	for (size_t i = 0; p->e == OK && i < n; i++)
		if (outcomes[i] != wanted)
			return false;
	return p->e == OK;
}

SUSPENDS static bool finds(struct proof *p, const struct doc_scope *scope, size_t wanted)
{
	const struct doc_cond conds[] = {{"question", DOC_TEXT, STR("\"photosynthesis\"")}, {"marks", DOC_GTE, STR("2")}};
	const struct doc_find find = {
		.conds = conds, .n_conds = ARRAY_LEN(conds), .sort = "marks", .descending = true, .limit = 10};
	struct list list;
	struct str cursor;

	p->e = docstore_find(p->store, scope, COLLECTION, &find, &list, &cursor);
	return p->e == OK && list.n == wanted;
}

SUSPENDS static void prove(void *arg)
{
	struct proof *p = arg;
	struct arena *arena = p->scope.arena;
	struct doc_scope stranger = p->scope;
	struct doc docs[3], doc;
	char now[TIME_TEXT + 1];

	time_text(clock_real_us(), now);
	for (size_t i = 0; i < ARRAY_LEN(docs); i++)
		docs[i] = (struct doc){
			.id = uuid_v7(clock_real_us()),
			.version = 2,
			.json = str_of(arena_printf(arena, "{\"question\":\"What is %s?\",\"marks\":%zu,\"at\":\"%s\"}",
						    i == 1 ? "osmosis" : "photosynthesis", i + 1, now))};
	STEP("indexes", make_indexes(p));
	STEP("three documents", put(p, docs, ARRAY_LEN(docs), DOC_APPLIED));
	p->e = docstore_get(p->store, &p->scope, COLLECTION, docs[1].id, &doc);
	STEP("one by its id", p->e == OK && doc.version == 2 && uuid_eq(doc.id, docs[1].id) &&
				      memmem(doc.json.p, doc.json.n, "osmosis", 7) != NULL);
	STEP("by a word and a number", finds(p, &p->scope, 1));
	docs[0].version = 1;
	STEP("an older version is refused", put(p, docs, 1, DOC_NEWER));
	stranger.school = uuid_v7(clock_real_us());
	STEP("another school finds nothing", finds(p, &stranger, 0));
	for (size_t i = 0; i < ARRAY_LEN(docs); i++)
		docs[i] = (struct doc){.id = docs[i].id, .version = 3};
	STEP("tombstones", put(p, docs, ARRAY_LEN(docs), DOC_APPLIED));
	STEP("what is deleted is not found", finds(p, &p->scope, 0));
}

SUSPENDS static void prove_in_time(void *arg)
{
	struct proof *p = arg;
	int64_t from_us = loop_mono_us(p->loop);

	prove(p);
	p->took_us = loop_mono_us(p->loop) - from_us;
}

static enum err open_store(struct proof *p, const struct proof_conf *conf, const char *service, struct work_pool *work,
			   struct pg **pg)
{
	const struct pg_conf pg_conf = {.url = conf->database_url, .connections = 2};
	enum err e;

	if (conf->mongo_uri[0] != '\0')
		return docstore_open_mongo(p->loop, work, conf->mongo_uri, service, &p->store);
	e = pg_open(p->loop, &pg_conf, pg);
	return e != OK ? e : docstore_open_pg(*pg, service, &p->store);
}

int main(int argc, char **argv)
{
	struct proof p = {.loop = loop_new()};
	struct work_pool *work = work_pool_new(p.loop, "documents", 2, 16);
	struct arena *arena = arena_new();
	struct buf problems = {0};
	struct proof_conf conf;
	struct pg *pg = NULL;

	if (argc != 2 || conf_load(rows, &conf, NULL, 0, arena, &problems) != OK) {
		fprintf(stderr, "usage: prove_documents SERVICE, with S24_MONGO_URI or DATABASE_URL\n%.*s", (int)problems.n,
			problems.p);
		return 2;
	}
	p.scope = (struct doc_scope){
		.school = uuid_v7(clock_real_us()), .arena = arena, .deadline = deadline_in(p.loop, PATIENCE_MS)};
	p.e = open_store(&p, &conf, argv[1], work, &pg);
	if (p.e != OK)
		p.failed = "opening";
	else if (fiber_run(p.loop, "proof", prove_in_time, &p) != OK ||
		 !fiber_drain(p.loop, deadline_in(p.loop, 2 * PATIENCE_MS)))
		p.failed = "in time";
	if (p.failed != NULL)
		fprintf(stderr, "the document store in %s fails at: %s (%s)\n",
			conf.mongo_uri[0] != '\0' ? "MongoDB" : "PostgreSQL", p.failed, err_name(p.e));
	else
		printf("documents in %s: 3 put, 1 by id, 1 found by word and number, an older version refused, all deleted: %.1f "
		       "ms\n",
		       conf.mongo_uri[0] != '\0' ? "MongoDB" : "PostgreSQL", (double)p.took_us / 1000);
	p.store = docstore_close(p.store);
	pg = pg_close(pg);
	work_pool_free(work);
	arena_free(arena);
	buf_done(&problems);
	loop_free(p.loop);
	return p.failed != NULL;
}
