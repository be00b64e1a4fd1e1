/* SPDX-License-Identifier: Apache-2.0 */
/* Conditions, sorting, pages. */
#include "unit/docstore_case.h"

#include "io/crypto.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(every_operator_finds),
		T(numbers_and_texts_come_back_as_they_were),
		T(pages_of_a_thousand_documents_are_complete_and_stable),
		T(limits_and_cursors_are_checked),
	};

	return RUN_BOTH(tests);
}
