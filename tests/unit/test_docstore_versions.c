/* SPDX-License-Identifier: Apache-2.0 */
/* Versions, batches, tombstones, schools. */
#include "unit/docstore_case.h"

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

/* Tombstones that no flush can meet any more. PostgreSQL's week is given by moving the clock of the row, MongoDB's by asking for the future. */
FIBER_TEST(old_tombstones_are_swept_and_nothing_else)
{
	int64_t removed = -1, before_s = mongo_uri != NULL ? -3600 : 8 * 86400;

	CHECK(docstore_sweep(store, before_s, never, &removed) == OK); /* of the tests before */
	CHECK(put(1, 5, "{\"a\":1}") == DOC_APPLIED && put(2, 5, "{\"a\":2}") == DOC_APPLIED);
	CHECK(docstore_delete(store, &scope, collection, nth(1), 6) == OK);
	CHECK(docstore_sweep(store, 8 * 86400, never, &removed) == OK && removed == 0);
	CHECK(put(1, 5, "{\"a\":1}") == DOC_NEWER); /* the tombstone is there */
	if (mongo_uri == NULL)
		real_pg_sql(server, arena_printf(arena,
						 "UPDATE quiz.documents SET deleted_at = deleted_at - interval '9 days' "
						 "WHERE deleted_at IS NOT NULL AND collection = '%s'",
						 collection));
	CHECK(docstore_sweep(store, before_s, never, &removed) == OK && removed == 1);
	CHECK(put(1, 5, "{\"a\":1}") == DOC_APPLIED);
	CHECK(holds(2, 5, "{\"a\":2}"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(an_older_version_never_overwrites), T(a_batch_tells_each_outcome),
		T(a_tombstone_keeps_its_version),     T(writers_that_meet_leave_the_newest),
		T(schools_do_not_see_each_other),     T(old_tombstones_are_swept_and_nothing_else),
	};

	return RUN_BOTH(tests);
}
