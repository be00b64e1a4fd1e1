/* SPDX-License-Identifier: Apache-2.0 */
/* Query strings and multipart fields by field table. */
#include "unit/unit.h"

#include "../every.h"
#include "base/timefmt.h"

#define ID "0192f3a4-5b6c-7d8e-9fa0-b1c2d3e4f506"

struct form {
	struct arena *arena;
	struct every row;
	struct problems problems;
	struct form_pair pairs[16];
	size_t n;
};

static void add(struct form *f, const char *name, struct str value)
{
	f->pairs[f->n++] = (struct form_pair){str_of(name), value};
}

/* In its own arena: too large for the frames that we allow. */
static struct form *form_of(void)
{
	struct arena *arena = arena_new();
	struct form *f = arena_zalloc(arena, sizeof(*f));

	f->arena = arena;
	add(f, "class_id", STR(ID));
	add(f, "title", STR("t"));
	return f;
}

/* The problems as "pointer code" lines. */
static const char *decode(struct form *f)
{
	struct buf b = buf_in(f->arena);
	enum err e;

	f->problems.n = 0;
	e = form_decode(&every_schema, f->pairs, f->n, f->arena, &f->row, &f->problems);
	assert_int_equal(e, f->problems.n == 0 ? OK : ERR_INVALID);
	for (size_t i = 0; i < f->problems.n; i++)
		buf_printf(&b, "%s%.*s %s", i ? "|" : "", STR_FMT(f->problems.v[i].pointer), f->problems.v[i].code);
	return buf_cstr(&b);
}

static void one_at(int line, const char *name, struct str value, const char *problems)
{
	struct form *f = form_of();
	const char *got;

	add(f, name, value);
	got = decode(f);
	if (strcmp(got, problems) != 0)
		fail_msg("line %d: %s=%.*s: \"%s\", not \"%s\"", line, name, STR_FMT(value), got, problems);
	arena_free(f->arena);
}

#define one(name, value, problems) one_at(__LINE__, name, STR(value), problems)

static void every_type_is_read_from_text(void **state)
{
	struct form *f = form_of();

	(void)state;
	add(f, "marks", STR("007"));
	add(f, "fee", STR("12.5"));
	add(f, "lat", STR("-1.5"));
	add(f, "late", STR("true"));
	add(f, "at", STR("2026-11-21T09:52:03Z"));
	add(f, "day", STR("2026-11-21"));
	add(f, "status", STR("open"));
	add(f, "extra", STR(" [1] "));
	add(f, "note", STR("  n "));
	add(f, "branches", STR("[{\"question_id\":\"" ID "\"}]"));
	add(f, "unknown", STR("\xff"));
	add(f, "graded", STR("x"));
	assert_string_equal(decode(f), "");
	assert_int_equal(f->row.marks, 7);
	assert_int_equal(f->row.fee, 1250);
	assert_true(f->row.lat == -1.5 && f->row.late);
	assert_true(f->row.at == INT64_C(1795254723000000));
	assert_int_equal(f->row.day, date_join(2026, 11, 21));
	assert_int_equal(f->row.status, 1);
	assert_str(f->row.extra, STR("[1]"));
	assert_str(f->row.note, STR("n"));
	assert_int_equal(f->row.branches.n, 1);
	assert_false(FIELD_HAS(&f->row, every, graded));
	arena_free(f->arena);
}

static void blank_means_absent_where_it_is_not_text(void **state)
{
	struct form *f = form_of();

	(void)state;
	add(f, "marks", STR(""));
	add(f, "students", (struct str){NULL, 0});
	add(f, "secret", STR(""));
	add(f, "note", STR("  "));
	assert_string_equal(decode(f), "");
	assert_false(FIELD_HAS(&f->row, every, marks) || FIELD_NULLED(&f->row, every, marks) ||
		     FIELD_HAS(&f->row, every, students));
	assert_true(FIELD_HAS(&f->row, every, secret));
	assert_true(FIELD_NULLED(&f->row, every, note) && !FIELD_HAS(&f->row, every, note));
	f->pairs[0].value = STR("");
	f->pairs[1].value = STR("");
	assert_string_equal(decode(f), "/title too_short|/class_id required");
	f->n = 0;
	assert_string_equal(decode(f), "/class_id required|/title required");
	arena_free(f->arena);
}

static void arrays_come_by_repetition_or_as_json(void **state)
{
	struct form *f = form_of();

	(void)state;
	for (int i = 0; i < 5; i++)
		add(f, "scores", STR("4"));
	add(f, "tags", STR("[\"a\",\"b\"]"));
	add(f, "students", STR(ID));
	assert_string_equal(decode(f), "");
	assert_int_equal(f->row.scores.n, 5);
	assert_int_equal(((int64_t *)f->row.scores.v)[4], 4);
	assert_int_equal(f->row.tags.n, 2);
	assert_str(((struct str *)f->row.tags.v)[1], STR("b"));
	assert_int_equal(f->row.students.n, 1);
	arena_free(f->arena);

	f = form_of();
	for (int i = 0; i < 7; i++)
		add(f, "tags", i == 1 ? STR("[x]") : STR("t"));
	assert_string_equal(decode(f), "/tags too_many");
	assert_str(((struct str *)f->row.tags.v)[1], STR("[x]"));
	arena_free(f->arena);

	f = form_of();
	add(f, "tags", STR("[\"a\",\"b\",\"c\",\"d\",\"e\"]"));
	add(f, "tags", STR("t"));
	add(f, "tags", STR("t"));
	assert_string_equal(decode(f), "/tags duplicate");
	arena_free(f->arena);
	one("students", "[\"x\"]", "/students/0 uuid");
	one("students", "x", "/students/0 uuid");
	one("scores", "[1,\"2\"]", "/scores/1 type");
	one("branches", "x", "/branches type");
	one("branches", "[{}]", "/branches/0/question_id required");
	one("tags", "[\"\\u0000\"]", "/tags/0 utf8");
}

static void bad_values_are_told(void **state)
{
	(void)state;
	one("marks", "12.0", "/marks type");
	one("marks", "+1", "/marks type");
	one("marks", "0x10", "/marks type");
	one("marks", " 1", "/marks type");
	one("marks", "-", "/marks type");
	one("marks", "1001", "/marks max");
	one("marks", "-1", "/marks min");
	one("any", "9223372036854775808", "/any max");
	one("late", "1", "/late type");
	one("at", "yesterday", "/at time");
	one("day", "21.11.2026", "/day date");
	one("status", "x", "/status enum");
	one("extra", "{", "/extra json");
	one("note", "\xff", "/note utf8");
	one("note", "a\0b", "/note utf8");
	one("title", "again", "/title duplicate");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_type_is_read_from_text),
		cmocka_unit_test(blank_means_absent_where_it_is_not_text),
		cmocka_unit_test(arrays_come_by_repetition_or_as_json),
		cmocka_unit_test(bad_values_are_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
