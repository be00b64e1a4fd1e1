/* SPDX-License-Identifier: Apache-2.0 */
/* JSON by field table: what is taken, what is refused and where; jansson is the second opinion. */
#include "unit/unit.h"

#include <inttypes.h>
#include <jansson.h>

#include "../every.h"
#include "base/timefmt.h"
#include "base/uuid.h"

#define ID "0192f3a4-5b6c-7d8e-9fa0-b1c2d3e4f506"
#define HEAD "\"class_id\":\"" ID "\",\"title\":\"t\""

struct decoded {
	struct arena *arena;
	struct every row;
	struct problems problems;
	char *body; /* of exactly its length, so that a read behind it is seen */
	enum err e;
};

static void decode_str(struct decoded *d, struct str body)
{
	d->arena = arena_new();
	d->problems = (struct problems){.arena = d->arena};
	d->body = malloc(body.n ? body.n : 1);
	memcpy(d->body, body.p, body.n);
	d->e = json_decode(&every_schema, (struct str){d->body, body.n}, d->arena, &d->row, &d->problems);
}

static void decoded_done(struct decoded *d)
{
	free(d->body);
	arena_free(d->arena);
}

static void decode(struct decoded *d, const char *body)
{
	decode_str(d, str_of(body));
}

/* The problems as "pointer code" lines. */
static const char *problems_text(struct decoded *d)
{
	struct buf b = buf_in(d->arena);

	for (size_t i = 0; i < d->problems.n; i++)
		buf_printf(&b, "%s%.*s %s", i ? "|" : "", STR_FMT(d->problems.v[i].pointer), d->problems.v[i].code);
	return buf_cstr(&b);
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

/* ---- against jansson ---- */

static uint64_t seed = 20261121;

static unsigned pick(unsigned n)
{
	return (unsigned)(unit_random(&seed) % n);
}

static void put_space(struct buf *out)
{
	if (pick(4) == 0)
		buf_putc(out, " \t\r\n"[pick(4)]);
}

static void put_random_text(struct buf *out)
{
	static const char *const parts[] = {"a",
					    "bc",
					    " ",
					    "\\n",
					    "\\\"",
					    "\\\\",
					    "\\/",
					    "\\u00e9",
					    "\\ud83d\\ude00",
					    "\xe0\xa4\xa8",
					    "\xc3\xa9",
					    "\xf0\x9f\x98\x80",
					    "0123456789abcdef",
					    "x\x7f",
					    "\\b\\f\\r\\t"};

	buf_putc(out, '"');
	for (unsigned n = pick(5); n != 0; n--)
		buf_puts(out, str_of(parts[pick(ARRAY_LEN(parts))]));
	buf_putc(out, '"');
}

static void put_random_json(struct buf *out, unsigned depth)
{
	static const char *const scalars[] = {"true", "false", "null", "0", "-1", "12.5", "1e3", "-0.25E-2", "1234567890123"};
	unsigned kind = pick(depth < 5 ? 8 : 5), n = pick(4);

	put_space(out);
	if (kind < 3) {
		buf_puts(out, str_of(scalars[pick(ARRAY_LEN(scalars))]));
	} else if (kind < 5) {
		put_random_text(out);
	} else {
		buf_putc(out, kind == 5 ? '[' : '{');
		for (unsigned i = 0; i < n; i++) {
			if (i != 0)
				buf_putc(out, ',');
			if (kind != 5) {
				put_space(out);
				put_random_text(out);
				put_space(out);
				buf_putc(out, ':');
			}
			put_random_json(out, depth + 1);
		}
		put_space(out);
		buf_putc(out, kind == 5 ? ']' : '}');
	}
	put_space(out);
}

static void mutate(struct buf *b)
{
	static const char bytes[] = "{}[]\",:\\u0e.-+ \n\t1tfn\x80\xff\x01\xed\xa0";
	size_t at;

	for (unsigned n = 1 + pick(3); n != 0 && b->n != 0; n--) {
		at = pick((unsigned)b->n);
		switch (pick(4)) {
		case 0: /* drop a byte */
			memmove(b->p + at, b->p + at + 1, b->n - at - 1);
			b->n--;
			break;
		case 1: /* put one in */
			buf_putc(b, 0);
			memmove(b->p + at + 1, b->p + at, b->n - at - 1);
			b->p[at] = bytes[pick(sizeof(bytes) - 1)];
			break;
		case 2: /* change one */
			b->p[at] = bytes[pick(sizeof(bytes) - 1)];
			break;
		default: /* cut */
			if (pick(4) == 0)
				b->n = at;
			break;
		}
	}
}

/* False: jansson has no opinion, because a number is too large for its types and it stopped there. */
static bool jansson_reads(struct str text, json_t **ret_root)
{
	json_error_t error;

	*ret_root = json_loadb(text.p, text.n, JSON_DECODE_ANY, &error);
	return *ret_root != NULL || json_error_code(&error) != json_error_numeric_overflow;
}

static void jansson_agrees_on_what_is_json(void **state)
{
	unsigned taken = 0, refused = 0;
	struct buf b = {0};

	(void)state;
	for (int i = 0; i < 60000; i++) {
		bool valid;
		json_t *tree;

		b.n = 0;
		put_random_json(&b, 0);
		if (pick(3) != 0)
			mutate(&b);
		valid = json_is_valid(buf_str(&b));
		if (jansson_reads(buf_str(&b), &tree) && valid != (tree != NULL))
			fail_msg("jansson %s: %.*s", tree != NULL ? "accepts" : "refuses", STR_FMT(buf_str(&b)));
		taken += valid;
		refused += !valid;
		json_decref(tree);
	}
	assert_true(taken > 10000 && refused > 10000);
	buf_done(&b);
}

PRINTF(3, 4) static void put_member(struct buf *b, const char *name, const char *fmt, ...)
{
	va_list ap;
	char text[256];

	if (pick(3) == 0)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	put_space(b);
	buf_printf(b, "\"%s\":", name);
	put_space(b);
	buf_puts(b, str_of(text));
	buf_putc(b, ',');
}

static void put_every(struct buf *b)
{
	buf_puts(b, STR("{"));
	put_member(b, "marks", "%u", pick(1001));
	buf_puts(b, STR("\"title\":\"T\\u00e9\",\"class_id\":\"" ID "\","));
	put_member(b, "any", "%" PRId64, (int64_t)unit_random(&seed));
	put_member(b, "lat", "%.*g", (int)pick(17) + 1, (double)pick(18000) / 100 - 90);
	put_member(b, "ratio", "%.17g", (double)(int64_t)unit_random(&seed) * 1e-30);
	put_member(b, "weight", "%d.%02u", (int)pick(99), pick(100));
	put_member(b, "late", "%s", pick(2) ? "true" : "false");
	put_member(b, "note", "\"a\\t%u\\\\\"", pick(100));
	put_member(b, "tags", "[\"a%u\" , \"\\u0928\"]", pick(100));
	put_member(b, "scores", "[%d,%d]", (int)pick(9) - 4, (int)pick(9));
	put_member(b, "unknown", "[{\"a\":[%u]}]", pick(9));
	put_member(b, "branches", "[{\"question_id\":\"" ID "\",\"answer\":\"%u\"}]", pick(100));
	b->p[b->n - 1] = '}';
}

static bool tree_text(json_t *v, struct str want)
{
	struct str have = {json_string_value(v), json_string_length(v)};

	return json_is_string(v) && str_eq(str_trim(have), want);
}

/* Values of what both took. */
static bool same_values(const struct every *row, json_t *tree)
{
#define MEMBER(name) json_t *name = json_object_get(tree, #name)
	MEMBER(marks), *any_ = json_object_get(tree, "any");
	MEMBER(title), *note = json_object_get(tree, "note"), *secret = json_object_get(tree, "secret");
	MEMBER(lat);
	MEMBER(ratio);
	MEMBER(weight);
	MEMBER(late);
	MEMBER(tags);
	MEMBER(scores);
	MEMBER(branches);
	bool same = tree_text(title, row->title);

	if (FIELD_HAS(row, every, marks))
		same = same && json_integer_value(marks) == row->marks;
	if (FIELD_HAS(row, every, any))
		same = same && json_integer_value(any_) == row->any;
	if (FIELD_HAS(row, every, note))
		same = same && tree_text(note, row->note);
	if (FIELD_HAS(row, every, secret))
		same = same && json_string_length(secret) == row->secret.n;
	if (FIELD_HAS(row, every, lat))
		same = same && json_number_value(lat) == row->lat;
	if (FIELD_HAS(row, every, ratio))
		same = same && json_number_value(ratio) == row->ratio;
	if (FIELD_HAS(row, every, weight))
		same = same && (double)row->weight / 100 == json_number_value(weight);
	if (FIELD_HAS(row, every, late))
		same = same && json_is_true(late) == row->late;
	if (FIELD_HAS(row, every, tags)) {
		same = same && json_array_size(tags) == row->tags.n;
		for (size_t i = 0; i < row->tags.n; i++)
			same = same && tree_text(json_array_get(tags, i), ((struct str *)row->tags.v)[i]);
	}
	if (FIELD_HAS(row, every, scores)) {
		same = same && json_array_size(scores) == row->scores.n;
		for (size_t i = 0; i < row->scores.n; i++)
			same = same && json_integer_value(json_array_get(scores, i)) == ((int64_t *)row->scores.v)[i];
	}
	if (FIELD_HAS(row, every, branches)) {
		same = same && json_array_size(branches) == row->branches.n;
		for (size_t i = 0; i < row->branches.n; i++) {
			const struct branch *branch = (struct branch *)row->branches.v + i;

			if (FIELD_HAS(branch, branch, answer))
				same = same && tree_text(json_object_get(json_array_get(branches, i), "answer"), branch->answer);
		}
	}
	return same;
}

static bool has_code(const struct problems *p, const char *code)
{
	for (size_t i = 0; i < p->n; i++) {
		if (strcmp(p->v[i].code, code) == 0)
			return true;
	}
	return false;
}

static void jansson_agrees_on_bodies_and_their_values(void **state)
{
	unsigned taken = 0, judged = 0, malformed_n = 0;
	struct buf b = {0};

	(void)state;
	for (int i = 0; i < 30000; i++) {
		struct decoded d;
		bool opinion, accepted, mutated = pick(3) != 0;
		json_t *tree;

		b.n = 0;
		put_every(&b);
		if (mutated)
			mutate(&b);
		decode_str(&d, buf_str(&b));
		opinion = jansson_reads(buf_str(&b), &tree);
		accepted = json_is_object(tree);
		if (!mutated && d.e != OK)
			fail_msg("refused: %.*s: %s", STR_FMT(buf_str(&b)), problems_text(&d));
		/* jansson calls U+0000 and half pairs errors of the text; here they are problems of a field. */
		if (opinion && accepted != (d.e != ERR_MALFORMED) && !(d.e == ERR_INVALID && has_code(&d.problems, "utf8")))
			fail_msg("jansson %s, %s: %.*s", accepted ? "accepts" : "refuses", err_name(d.e), STR_FMT(buf_str(&b)));
		if (d.e == OK && accepted && !same_values(&d.row, tree))
			fail_msg("other values: %.*s", STR_FMT(buf_str(&b)));
		assert_true((d.e == OK) == (d.problems.n == 0));
		taken += d.e == OK;
		judged += d.e == ERR_INVALID;
		malformed_n += d.e == ERR_MALFORMED;
		json_decref(tree);
		decoded_done(&d);
	}
	assert_true(taken > 5000 && judged > 500 && malformed_n > 5000);
	buf_done(&b);
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
		cmocka_unit_test(jansson_agrees_on_what_is_json),
		cmocka_unit_test(jansson_agrees_on_bodies_and_their_values),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
