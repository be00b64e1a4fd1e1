/* SPDX-License-Identifier: Apache-2.0 */
/* JSON by field table: what is taken, what is refused and where. */
#include "unit/json_case.h"

static void decode(struct decoded *d, const char *body)
{
	decode_str(d, str_of(body));
}

static void expect_at(const char *file, int line, const char *body, enum err e, const char *problems)
{
	struct decoded d;

	decode(&d, body);
	if (d.e != e || strcmp(problems_text(&d), problems) != 0)
		fail_msg("%s:%d: %s: %s, problems \"%s\", not %s, \"%s\"", file, line, body, err_name(d.e), problems_text(&d),
			 err_name(e), problems);
	decoded_done(&d);
}

#define ok(body) expect_at(__FILE__, __LINE__, "{" HEAD "," body "}", OK, "")
#define invalid(body, problems) expect_at(__FILE__, __LINE__, "{" HEAD "," body "}", ERR_INVALID, problems)
#define malformed(body) expect_at(__FILE__, __LINE__, body, ERR_MALFORMED, " json")

static void every_type_is_read(void **state)
{
	struct decoded d;
	const struct branch *branch;
	struct uuid id;

	(void)state;
	decode(&d,
	       " {\"title\" : \"  A \\u0928\\ud83d\\ude00\\n \", \"class_id\":\"" ID "\",\"secret\":\" x \",\"note\":\"  \","
	       "\"marks\":12,\"any\":-9223372036854775808,\"weight\":-0.5,\"fee\":12.05,\"lat\":12.5e0,\"ratio\":1e-3,\"late\":"
	       "true,"
	       "\"at\":\"2026-11-21T09:52:03.5+05:30\",\"day\":\"2026-02-28\",\"status\":\"closed\",\"extra\":{\"a\" : [1,null]},"
	       "\"students\":[\"" ID "\"],\"tags\":[\" a \",\"b\"],\"scores\":[1,-2,3],\"graded\":\"ignored\",\"unknown\":[{}],"
	       "\"branches\":[{\"question_id\":\"" ID "\",\"leaves\":[{\"word\":\"w\",\"counts\":[]}]},{\"question_id\":\"" ID
	       "\"}]} \n");
	assert_string_equal(problems_text(&d), "");
	assert_int_equal(d.e, OK);
	assert_true(uuid_parse(STR(ID), &id));
	assert_true(uuid_eq(d.row.class_id, id));
	assert_str(d.row.title, STR("A \u0928\U0001F600"));
	assert_str(d.row.secret, STR(" x "));
	assert_false(FIELD_HAS(&d.row, every, note));
	assert_true(FIELD_NULLED(&d.row, every, note));
	assert_int_equal(d.row.marks, 12);
	assert_true(d.row.any == INT64_MIN);
	assert_int_equal(d.row.weight, -50);
	assert_int_equal(d.row.fee, 1205);
	assert_true(d.row.lat == 12.5 && d.row.ratio == 0.001);
	assert_true(d.row.late);
	assert_true(d.row.at == INT64_C(1795234923500000));
	assert_int_equal(d.row.day, date_join(2026, 2, 28));
	assert_int_equal(d.row.status, 2);
	assert_str(d.row.extra, STR("{\"a\" : [1,null]}"));
	assert_int_equal(d.row.students.n, 1);
	assert_int_equal(d.row.tags.n, 2);
	assert_str(((struct str *)d.row.tags.v)[0], STR("a"));
	assert_int_equal(((int64_t *)d.row.scores.v)[1], -2);
	assert_false(FIELD_HAS(&d.row, every, graded));
	assert_int_equal(d.row.branches.n, 2);
	branch = d.row.branches.v;
	assert_int_equal(branch->leaves.n, 1);
	assert_str(((const struct leaf *)branch->leaves.v)->word, STR("w"));
	assert_false(FIELD_HAS(&branch[1], branch, leaves));
	decoded_done(&d);
}

static void text_without_escapes_is_not_copied(void **state)
{
	struct decoded d;

	(void)state;
	decode(&d, "{" HEAD ",\"secret\":\"plain\",\"note\":\"a\\tb\"}");
	assert_ptr_equal(d.row.secret.p, strstr(d.body, "plain"));
	assert_str(d.row.note, STR("a\tb"));
	decoded_done(&d);
}

static void what_is_not_json_is_malformed(void **state)
{
	static const char *const bodies[] = {
		"",
		" ",
		"[]",
		"null",
		"1",
		"\"x\"",
		"{",
		"}",
		"{}x",
		"{} {}",
		"{,}",
		"{\"a\"}",
		"{\"a\":}",
		"{\"a\":1,}",
		"{a:1}",
		"{'a':1}",
		"{\"a\":01}",
		"{\"a\":1.}",
		"{\"a\":.5}",
		"{\"a\":+1}",
		"{\"a\":-}",
		"{\"a\":1e}",
		"{\"a\":NaN}",
		"{\"a\":Infinity}",
		"{\"a\":nul}",
		"{\"a\":True}",
		"{\"a\":[1,]}",
		"{\"a\":[1 2]}",
		"{\"a\":[}",
		"{\"a\":\"\\x\"}",
		"{\"a\":\"\\u12g4\"}",
		"{\"a\":\"\t\"}",
		"{\"a\":\"\n\"}",
		"{\"a\":\"x}",
		"{\"a\":\"\\\"}",
		"{\"a\":\"\xff\"}",
		"{\"a\":\"\xc0\x80\"}",
		"{\"a\":\"\xed\xa0\x80\"}",
		"{\"a\":\"\xf4\x90\x80\x80\"}",
		"{\"a\":\"\xe0\xa4\"}",
		"{\"\xff\":1}",
		"\xef\xbb\xbf{}",
		"{\"a\":1}\f",
		"{/**/}",
		"{\"title\":\"a\nb\"}",
		"{\"marks\":01}",
		"{\"marks\":1.}",
		"{\"late\":tru}",
		"{\"tags\":[\"a\",]}",
		"{\"tags\":[\"a\"",
		"{\"branches\":[{]}",
		"{\"branches\":[{}",
		"{\"extra\":{\"a\"}}",
		"{\"marks\" 1}",
		"{\"marks\":\"1}",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bodies); i++)
		malformed(bodies[i]);
	expect_at(__FILE__, __LINE__, "", ERR_MALFORMED, " json");
}

static void every_prefix_of_a_body_is_malformed(void **state)
{
	static const char body[] =
		"{" HEAD ",\"note\":\"a\\u00e9\\ud83d\\ude00\xe0\xa4\xa8\",\"marks\":12,\"late\":false,\"extra\":[1.5e3,null,{}],"
		"\"tags\":[\"x\"],\"branches\":[{\"question_id\":\"" ID "\"}],\"unknown\":{\"a\":[true]}}";
	struct decoded d;

	(void)state;
	decode(&d, body);
	assert_int_equal(d.e, OK);
	decoded_done(&d);
	for (size_t n = 0; n < sizeof(body) - 1; n++) {
		decode_str(&d, (struct str){body, n});
		assert_int_equal(d.e, ERR_MALFORMED);
		decoded_done(&d);
	}
}

static void depth_is_bounded_at_32(void **state)
{
	char body[400];
	struct decoded d;

	(void)state;
	for (int deep = 31; deep <= 32; deep++) { /* beside the body's own object */
		for (int known = 0; known < 2; known++) {
			int n = snprintf(body, sizeof(body), "{" HEAD ",\"%s\":", known ? "extra" : "unknown");

			memset(body + n, '[', (size_t)deep);
			memset(body + n + deep, ']', (size_t)deep);
			strcpy(body + n + 2 * deep, "}");
			decode(&d, body);
			assert_int_equal(d.e, deep == 31 ? OK : ERR_MALFORMED);
			assert_string_equal(problems_text(&d), deep == 31 ? "" : " depth");
			decoded_done(&d);
		}
	}
	memset(body, '[', sizeof(body));
	assert_false(json_is_valid((struct str){body, sizeof(body)}));
}

static void wrong_types_are_told_with_their_pointer(void **state)
{
	(void)state;
	invalid("\"marks\":\"12\"", "/marks type");
	invalid("\"marks\":12.0", "/marks type");
	invalid("\"marks\":1e2", "/marks type");
	invalid("\"marks\":true", "/marks type");
	invalid("\"secret\":1", "/secret type");
	invalid("\"secret\":{\"\\u0000\":1}", "/secret type");
	invalid("\"fee\":\"12.50\"", "/fee type");
	invalid("\"fee\":1.234", "/fee type");
	invalid("\"fee\":1e2", "/fee type");
	invalid("\"fee\":1.5e1", "/fee type");
	invalid("\"lat\":\"1\"", "/lat type");
	invalid("\"late\":1", "/late type");
	invalid("\"late\":\"true\"", "/late type");
	invalid("\"at\":1", "/at type");
	invalid("\"status\":1", "/status type");
	invalid("\"tags\":\"a\"", "/tags type");
	invalid("\"tags\":{}", "/tags type");
	invalid("\"tags\":[\"a\",1,null]", "/tags/1 type|/tags/2 type");
	invalid("\"scores\":[1,\"2\",3.5]", "/scores/1 type|/scores/2 type");
	invalid("\"branches\":[1,[]]", "/branches/0 type|/branches/1 type");
	invalid("\"status\":\"Open\"", "/status enum");
	invalid("\"students\":[\"x\"]", "/students/0 uuid");
	invalid("\"at\":\"2026-11-21\"", "/at time");
	invalid("\"at\":\"2026-11-21T09:52:03\"", "/at time");
	invalid("\"day\":\"2026-02-29\"", "/day date");
	invalid("\"day\":\"2026-02-28T00:00:00Z\"", "/day date");
	invalid("\"day\":\" 2026-02-28\"", "/day date");
}

static void bounds_are_exact(void **state)
{
	(void)state;
	ok("\"marks\":0");
	ok("\"marks\":-0");
	ok("\"marks\":1000");
	invalid("\"marks\":1001", "/marks max");
	invalid("\"marks\":-1", "/marks min");
	invalid("\"marks\":99999999999999999999999", "/marks max");
	invalid("\"marks\":-99999999999999999999999", "/marks min");
	ok("\"any\":9223372036854775807");
	invalid("\"any\":9223372036854775808", "/any max");
	invalid("\"any\":-9223372036854775809", "/any min");
	ok("\"weight\":100.00");
	invalid("\"weight\":100.01", "/weight max");
	invalid("\"weight\":-100.01", "/weight min");
	ok("\"fee\":92233720368547758.07");
	invalid("\"fee\":92233720368547758.08", "/fee max");
	ok("\"lat\":90");
	invalid("\"lat\":90.0000001", "/lat max");
	invalid("\"lat\":-91", "/lat min");
	invalid("\"ratio\":1e999", "/ratio max");
	invalid("\"ratio\":-1e999", "/ratio min");
	ok("\"secret\":\"12345678901234567890\"");
	invalid("\"secret\":\"123456789012345678901\"", "/secret too_long");
	ok("\"tags\":["
	   "\"\xe0\xa4\xa8\xe0\xa4\xa8\xe0\xa4\xa8\xe0\xa4\xa8\xe0\xa4\xa8\xe0\xa4\xa8\xe0\xa4\xa8\xe0\xa4\xa8\xe0\xa4\xa8\xe0"
	   "\xa4\xa8"
	   "\xe0\xa4\xa8\xe0\xa4\xa8\"]");
	invalid("\"tags\":[\" \"]", "/tags/0 too_short");
	invalid("\"pair\":\"\xe0\xa4\xa8\"", "/pair too_short"); /* one letter of three bytes */
	ok("\"pair\":\"\xe0\xa4\xa8\xe0\xa4\xa8\"");
	invalid("\"tags\":[\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",7]", "/tags too_many");
	invalid("\"branches\":[{\"question_id\":\"" ID "\",\"leaves\":[{\"word\":\"x\",\"counts\":[6]}]}]",
		"/branches/0/leaves/0/counts/0 max");
}

static void names_are_matched_as_they_are_spelt_or_escaped(void **state)
{
	struct decoded d;

	(void)state;
	decode(&d, "{" HEAD ",\"m\\u0061rks\":7,\"Marks\":8,\"\":9,\"mark\":1,\"markss\":2}");
	assert_int_equal(d.e, OK);
	assert_int_equal(d.row.marks, 7);
	decoded_done(&d);
	invalid("\"marks\":1,\"m\\u0061rks\":2", "/marks duplicate");
}

static void all_problems_are_told_in_order(void **state)
{
	struct buf body = {0};
	struct decoded d;

	(void)state;
	expect_at(
		__FILE__, __LINE__, "{\"marks\":\"x\",\"day\":7,\"title\":null,\"branches\":[{},{\"answer\":1}]}", ERR_INVALID,
		"/marks type|/day type|/branches/0/question_id required|/branches/1/answer type|/branches/1/question_id required|"
		"/class_id required|/title required");
	expect_at(__FILE__, __LINE__, "{}", ERR_INVALID, "/class_id required|/title required");
	expect_at(__FILE__, __LINE__, "{\"class_id\":1,\"title\":\" \"}", ERR_INVALID, "/class_id type|/title too_short");
	invalid("\"marks\":1,\"marks\":\"x\"", "/marks duplicate");
	invalid("\"branches\":[{\"question_id\":\"" ID "\",\"answer\":1},{}]",
		"/branches/0/answer type|/branches/1/question_id required");
	buf_puts(&body, STR("{\"any\":[],"));
	for (int i = 0; i < 200; i++)
		buf_puts(&body, STR("\"any\":1,"));
	buf_puts(&body, STR("\"x\":1}"));
	decode_str(&d, buf_str(&body));
	assert_int_equal(d.e, ERR_INVALID);
	assert_int_equal(d.problems.n, 50);
	decoded_done(&d);
	buf_done(&body);
}

static void text_that_cannot_be_stored_is_a_utf8_problem(void **state)
{
	(void)state;
	invalid("\"note\":\"a\\u0000\"", "/note utf8");
	invalid("\"note\":\"\\ud800\"", "/note utf8");
	invalid("\"note\":\"\\ud800\\u0041\"", "/note utf8");
	invalid("\"note\":\"\\udc00\\ud800\"", "/note utf8");
	invalid("\"tags\":[\"\\u0000\"]", "/tags/0 utf8");
	invalid("\"extra\":{\"\\u0000\":1}", "/extra utf8");
	invalid("\"unknown\":\"\\u0000\"", " utf8");
	invalid("\"\\u0000\":1", " utf8");
	invalid("\"graded\":\"\\u0000\"", "/graded utf8");
	ok("\"note\":\"\\u0001\\u007f\\uffff\"");
}

#define TAKE_FIELDS(F, T)                                                                          \
	F(T, LIST, branches, .sub = &branch_schema, .max_items = 3, .flags = REQUIRED | JSON_TEXT) \
	F(T, INTS, scores, .flags = JSON_TEXT | BLANK_NULL)                                        \
	F(T, INTS, bare)
SCHEMA_STRUCT(take, TAKE_FIELDS);
SCHEMA_TABLE(take, TAKE_FIELDS);

static void expect_take(const char *body, enum err e, const char *problems)
{
	struct decoded d = {.arena = arena_new()};
	struct take take;

	d.e = json_decode(&take_schema, str_of(body), d.arena, &take, &d.problems);
	if (d.e != e || strcmp(problems_text(&d), problems) != 0)
		fail_msg("%s: %s, problems \"%s\"", body, err_name(d.e), problems_text(&d));
	arena_free(d.arena);
}

static void an_array_may_come_as_text_where_the_table_says_so(void **state)
{
	struct arena *arena = arena_new();
	struct problems problems = {.arena = arena};
	struct take take;
	const struct branch *branch;

	(void)state;
	assert_int_equal(json_decode(&take_schema,
				     STR("{\"branches\":\" [{\\\"question_id\\\":\\\"" ID
					 "\\\",\\\"answer\\\":\\\"a \\\\u00e9 \\\\\\\"b\\\\\\\"\\\"}] \",\"scores\":\"[1,2]\"}"),
				     arena, &take, &problems),
			 OK);
	branch = take.branches.v;
	assert_int_equal(take.branches.n, 1);
	assert_true(str_is(branch->answer, "a é \"b\""));
	assert_int_equal(take.scores.n, 2);
	arena_free(arena);

	expect_take("{\"branches\":[]}", OK, "");
	expect_take("{\"branches\":\"[]\",\"scores\":\" \"}", OK, "");
	expect_take("{\"branches\":\"\"}", ERR_INVALID, "/branches json");
	expect_take("{\"branches\":\"[{]\"}", ERR_INVALID, "/branches json");
	expect_take("{\"branches\":\"{}\"}", ERR_INVALID, "/branches json");
	expect_take("{\"branches\":\"[] []\"}", ERR_INVALID, "/branches json");
	expect_take("{\"branches\":\"[{},{\\\"question_id\\\":7}]\"}", ERR_INVALID,
		    "/branches/0/question_id required|/branches/1/question_id type");
	expect_take("{\"branches\":\"[{},{},{},{}]\",\"bare\":\"[1]\"}", ERR_INVALID,
		    "/branches/0/question_id required|/branches/1/question_id required|/branches/2/question_id required|"
		    "/branches too_many|/bare type");
	expect_take("{\"branches\":7}", ERR_INVALID, "/branches type");
	expect_take("{\"branches\":\"[]}", ERR_MALFORMED, " json");
}

static void null_and_blank_are_told_apart_from_absent(void **state)
{
	struct decoded d;

	(void)state;
	decode(&d, "{" HEAD ",\"marks\":null,\"note\":\"\",\"secret\":\"\"}");
	assert_int_equal(d.e, OK);
	assert_true(FIELD_NULLED(&d.row, every, marks) && FIELD_NULLED(&d.row, every, note));
	assert_false(FIELD_HAS(&d.row, every, marks) || FIELD_NULLED(&d.row, every, any));
	assert_true(FIELD_HAS(&d.row, every, secret) && d.row.secret.n == 0);
	decoded_done(&d);
}

static void stored_json_is_bounded_by_bytes(void **state)
{
	char body[600], text[300];
	struct decoded d;

	(void)state;
	for (int n = 200; n <= 201; n++) {
		memset(text, 'a', (size_t)n);
		text[0] = text[n - 1] = '"';
		snprintf(body, sizeof(body), "{" HEAD ",\"extra\":%.*s}", n, text);
		decode(&d, body);
		assert_string_equal(problems_text(&d), n == 200 ? "" : "/extra too_long");
		decoded_done(&d);
	}
}

static void members_and_items_are_found_in_text(void **state)
{
	struct str rest, v;

	(void)state;
	assert_true(json_member(STR(" {\"b\":[1, {\"a\":2}],\"a\" : {\"x\":1} ,\"c\":null}"), "a", &v));
	assert_str(v, STR("{\"x\":1}"));
	assert_true(json_member(STR("{\"a\":1,\"\\u0061\":2}"), "a", &v));
	assert_str(v, STR("2"));
	assert_false(json_member(STR("{}"), "a", &v));
	assert_false(json_member(STR("[\"a\"]"), "a", &v));
	assert_false(json_member(STR("{\"a\":1"), "a", &v));
	assert_false(json_member((struct str){NULL, 0}, "a", &v));
	rest = STR(" [ 1 ,[2,3], {\"a\":[]} ]");
	assert_true(json_next(&rest, &v));
	assert_str(v, STR("1"));
	assert_true(json_next(&rest, &v));
	assert_str(v, STR("[2,3]"));
	assert_true(json_next(&rest, &v));
	assert_str(v, STR("{\"a\":[]}"));
	assert_false(json_next(&rest, &v));
	assert_non_null(rest.p);
	assert_false(json_next(&rest, &v));
	rest = STR("[]");
	assert_false(json_next(&rest, &v));
	rest = STR("[1,]");
	assert_true(json_next(&rest, &v));
	assert_false(json_next(&rest, &v));
	assert_null(rest.p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_type_is_read),
		cmocka_unit_test(text_without_escapes_is_not_copied),
		cmocka_unit_test(what_is_not_json_is_malformed),
		cmocka_unit_test(every_prefix_of_a_body_is_malformed),
		cmocka_unit_test(depth_is_bounded_at_32),
		cmocka_unit_test(wrong_types_are_told_with_their_pointer),
		cmocka_unit_test(bounds_are_exact),
		cmocka_unit_test(names_are_matched_as_they_are_spelt_or_escaped),
		cmocka_unit_test(all_problems_are_told_in_order),
		cmocka_unit_test(text_that_cannot_be_stored_is_a_utf8_problem),
		cmocka_unit_test(an_array_may_come_as_text_where_the_table_says_so),
		cmocka_unit_test(null_and_blank_are_told_apart_from_absent),
		cmocka_unit_test(stored_json_is_bounded_by_bytes),
		cmocka_unit_test(members_and_items_are_found_in_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
