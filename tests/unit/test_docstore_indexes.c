/* SPDX-License-Identifier: Apache-2.0 */
/* Unique, compound, text and expiry indexes. */
#include "unit/docstore_case.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_unique_index_refuses_one_and_lets_the_rest_go_on),
		T(a_compound_index_binds_the_pair),
		T(an_index_is_made_once_and_means_one_thing),
		T(words_are_found),
		T(what_has_expired_is_not_found),
	};

	return RUN_BOTH(tests);
}
