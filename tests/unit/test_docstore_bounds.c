/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes, attempts at injection, deadlines, a server that is away. */
#include "unit/docstore_case.h"

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
	const struct CMUnitTest tests[] = {
		T(documents_up_to_a_mebibyte),       T(attempts_at_injection_are_refused_or_harmless), T(a_deadline_is_kept),
		T(a_server_that_is_away_is_a_fault), T(addresses_that_are_none_are_refused),
	};

	return RUN_BOTH(tests);
}
