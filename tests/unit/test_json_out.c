/* SPDX-License-Identifier: Apache-2.0 */
/* Structs as JSON: exact text, who sees what, and that everything written reads back equal. */
#include "unit/unit.h"

#include <jansson.h>
#include <math.h>

#include "../every.h"
#include "base/uuid.h"

#define PUPIL_FIELDS(F, T)               \
	F(T, TEXT, name)                 \
	F(T, TEXT, pin, .flags = HIDDEN) \
	F(T, INT, marks, .roles = 2)     \
	F(T, TEXT, note, .flags = OMIT)  \
	F(T, MONEY, due)                 \
	F(T, DECIMAL, share)             \
	F(T, FLOAT, lat)
SCHEMA_STRUCT(pupil, PUPIL_FIELDS);
SCHEMA_TABLE(pupil, PUPIL_FIELDS);

static void encodes_to_at(int line, const struct pupil *p, unsigned role, const char *want)
{
	struct buf out = {0};

	json_encode(&pupil_schema, p, role, &out);
	if (strcmp(buf_cstr(&out), want) != 0)
		fail_msg("line %d: got %s, want %s", line, out.p, want);
	buf_done(&out);
}

#define encodes_to(p, role, want) encodes_to_at(__LINE__, p, role, want)

static void absent_fields_are_null_or_left_away(void **state)
{
	struct pupil p = {0};

	(void)state;
	encodes_to(&p, 0, "{\"name\":null,\"due\":null,\"share\":null,\"lat\":null}");
	FIELD_PUT(&p, pupil, note, STR("n"));
	FIELD_PUT(&p, pupil, name, STR(""));
	encodes_to(&p, 0, "{\"name\":\"\",\"note\":\"n\",\"due\":null,\"share\":null,\"lat\":null}");
}

static void roles_and_hidden_fields_are_respected(void **state)
{
	struct pupil p = {0};

	(void)state;
	FIELD_PUT(&p, pupil, pin, STR("1234"));
	FIELD_PUT(&p, pupil, marks, 7);
	encodes_to(&p, 0, "{\"name\":null,\"due\":null,\"share\":null,\"lat\":null}");
	encodes_to(&p, 1, "{\"name\":null,\"due\":null,\"share\":null,\"lat\":null}");
	encodes_to(&p, 2, "{\"name\":null,\"marks\":7,\"due\":null,\"share\":null,\"lat\":null}");
}

static void hundredths_are_exact(void **state)
{
	static const struct {
		int64_t v;
		const char *money, *decimal;
	} rows[] = {
		{0, "0.00", "0"},
		{5, "0.05", "0.05"},
		{-5, "-0.05", "-0.05"},
		{50, "0.50", "0.5"},
		{1200, "12.00", "12"},
		{-1205, "-12.05", "-12.05"},
		{INT64_MAX, "92233720368547758.07", "92233720368547758.07"},
		{INT64_MIN, "-92233720368547758.08", "-92233720368547758.08"},
	};
	char want[200];
	struct pupil p = {0};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		FIELD_PUT(&p, pupil, due, rows[i].v);
		FIELD_PUT(&p, pupil, share, rows[i].v);
		snprintf(want, sizeof(want), "{\"name\":null,\"due\":%s,\"share\":%s,\"lat\":null}", rows[i].money,
			 rows[i].decimal);
		encodes_to(&p, 0, want);
	}
}

static void floats_are_short_and_read_back(void **state)
{
	struct pupil p = {0};

	(void)state;
	FIELD_PUT(&p, pupil, lat, 0.1);
	encodes_to(&p, 0, "{\"name\":null,\"due\":null,\"share\":null,\"lat\":0.1}");
	FIELD_PUT(&p, pupil, lat, 0.1 + 0.2);
	encodes_to(&p, 0, "{\"name\":null,\"due\":null,\"share\":null,\"lat\":0.30000000000000004}");
	FIELD_PUT(&p, pupil, lat, -12.0);
	encodes_to(&p, 0, "{\"name\":null,\"due\":null,\"share\":null,\"lat\":-12}");
	FIELD_PUT(&p, pupil, lat, (double)NAN);
	encodes_to(&p, 0, "{\"name\":null,\"due\":null,\"share\":null,\"lat\":null}");
	FIELD_PUT(&p, pupil, lat, (double)INFINITY);
	encodes_to(&p, 0, "{\"name\":null,\"due\":null,\"share\":null,\"lat\":null}");
}

static void text_is_escaped_and_broken_text_replaced(void **state)
{
	struct pupil p = {0};

	(void)state;
	FIELD_PUT(&p, pupil, name, STR("\"\\/\b\f\n\r\t\x01\x1f\x7f \xe0\xa4\xa8\xf0\x9f\x98\x80"));
	encodes_to(&p, 0,
		   "{\"name\":\"\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\\u001f\x7f "
		   "\xe0\xa4\xa8\xf0\x9f\x98\x80\",\"due\":null,\"share\":null,\"lat\":null}");
	FIELD_PUT(&p, pupil, name, STR("a\xff\xe0\xa4z\xed\xa0\x80"));
	encodes_to(&p, 0,
		   "{\"name\":\"a\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdz\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\",\"due\":null,"
		   "\"share\":null,\"lat\":null}");
}

static void rows_begin_with_id_and_times(void **state)
{
	struct buf out = {0};
	struct every row = {.row = {.created_at = INT64_C(1795254723000000)}};

	(void)state;
	assert_true(uuid_parse(STR("0192f3a4-5b6c-7d8e-9fa0-b1c2d3e4f506"), &row.row.id));
	json_encode(&every_schema, &row, 0, &out);
	assert_true(str_has_prefix(buf_str(&out), STR("{\"id\":\"0192f3a4-5b6c-7d8e-9fa0-b1c2d3e4f506\",\"created_at\":"
						      "\"2026-11-21T09:52:03Z\",\"updated_at\":null,\"class_id\":null,")));
	buf_done(&out);
}

static void lists_and_members_stand_alone(void **state)
{
	struct pupil two[2] = {0};
	struct list list = {two, 2}, none = {0};
	struct buf out = {0};

	(void)state;
	FIELD_PUT(&two[1], pupil, name, STR("b"));
	json_encode_list(&pupil_schema, &list, 0, &out);
	json_encode_list(&pupil_schema, &none, 0, &out);
	assert_string_equal(buf_cstr(&out), "[{\"name\":null,\"due\":null,\"share\":null,\"lat\":null},"
					    "{\"name\":\"b\",\"due\":null,\"share\":null,\"lat\":null}][]");
	out.n = 0;
	assert_int_equal(json_encode_members(&pupil_schema, &two[1], 0, &out), 4);
	assert_string_equal(buf_cstr(&out), "\"name\":\"b\",\"due\":null,\"share\":null,\"lat\":null");
	buf_done(&out);
}

static void what_is_written_reads_back_equal(void **state)
{
	static const char *const texts[] = {"a",          "\"q\"", "\xe0\xa4\xa8\xe0\xa4\xae",
					    "line\nline", "\x01",  "0123456789abcdef0123"};
	uint64_t seed = 7;

	(void)state;
	for (int i = 0; i < 3000; i++) {
		struct arena *arena = arena_new();
		struct problems problems = {.arena = arena};
		struct buf out = buf_in(arena);
		struct every row = {0}, back;
		int64_t numbers[3];
		struct str tags[2];
		struct uuid ids[2];
		struct leaf leaf = {0};
		struct branch branch = {0};
		json_t *tree;
#define R(n) (unit_random(&seed) % (n))
#define TEXT() str_of(texts[R(ARRAY_LEN(texts))])
		FIELD_PUT(&row, every, class_id, ((struct uuid){{(uint8_t)R(256), 2, 3, (uint8_t)R(256)}}));
		FIELD_PUT(&row, every, title, TEXT());
		if (R(2))
			FIELD_PUT(&row, every, note, TEXT());
		if (R(2))
			FIELD_PUT(&row, every, any, (int64_t)unit_random(&seed));
		if (R(2))
			FIELD_PUT(&row, every, weight, (int64_t)R(20001) - 10000);
		if (R(2))
			FIELD_PUT(&row, every, fee, (int64_t)unit_random(&seed));
		if (R(2))
			FIELD_PUT(&row, every, ratio, (double)(int64_t)unit_random(&seed) / (double)(R(1000) + 1));
		if (R(2))
			FIELD_PUT(&row, every, late, R(2) == 1);
		if (R(2))
			FIELD_PUT(&row, every, at, (int64_t)R(4000000000000000) - 1000000000000000);
		if (R(2))
			FIELD_PUT(&row, every, day, (int32_t)R(90000) - 20000);
		if (R(2))
			FIELD_PUT(&row, every, status, (int)R(3));
		if (R(2))
			FIELD_PUT(&row, every, extra, STR("[1,{\"a\":null}]"));
		ids[0] = ids[1] = row.class_id;
		if (R(2))
			FIELD_PUT(&row, every, students, ((struct list){ids, R(3)}));
		tags[0] = STR("x");
		tags[1] = STR("\t\xc3\xa9\"y");
		tags[1] = str_trim(tags[1]);
		if (R(2))
			FIELD_PUT(&row, every, tags, ((struct list){tags, R(3)}));
		for (size_t k = 0; k < 3; k++)
			numbers[k] = (int64_t)R(11) - 5;
		if (R(2))
			FIELD_PUT(&row, every, scores, ((struct list){numbers, R(4)}));
		FIELD_PUT(&leaf, leaf, word, STR("w"));
		FIELD_PUT(&leaf, leaf, counts, ((struct list){numbers, R(4)}));
		FIELD_PUT(&branch, branch, question_id, row.class_id);
		if (R(2))
			FIELD_PUT(&branch, branch, leaves, ((struct list){&leaf, 1}));
		if (R(2))
			FIELD_PUT(&row, every, branches, ((struct list){&branch, R(2)}));
		json_encode(&every_schema, &row, 0, &out);
		tree = json_loadb(out.p, out.n, JSON_REJECT_DUPLICATES, NULL);
		if (tree == NULL || json_decode(&every_schema, buf_str(&out), arena, &back, &problems) != OK ||
		    !row_equal(&every_schema, &row, &back))
			fail_msg("not read back: %.*s", STR_FMT(buf_str(&out)));
		json_decref(tree);
		arena_free(arena);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(absent_fields_are_null_or_left_away),
		cmocka_unit_test(roles_and_hidden_fields_are_respected),
		cmocka_unit_test(hundredths_are_exact),
		cmocka_unit_test(floats_are_short_and_read_back),
		cmocka_unit_test(text_is_escaped_and_broken_text_replaced),
		cmocka_unit_test(rows_begin_with_id_and_times),
		cmocka_unit_test(lists_and_members_stand_alone),
		cmocka_unit_test(what_is_written_reads_back_equal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
