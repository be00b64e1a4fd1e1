/* SPDX-License-Identifier: Apache-2.0 */
/* JSON by field table: jansson is the second opinion, over random texts and bodies. */
#include <inttypes.h>
#include <jansson.h>

#include "unit/json_case.h"

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
		cmocka_unit_test(jansson_agrees_on_what_is_json),
		cmocka_unit_test(jansson_agrees_on_bodies_and_their_values),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
