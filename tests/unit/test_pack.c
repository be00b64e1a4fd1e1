/* SPDX-License-Identifier: Apache-2.0 */
/* Packed records: the stored samples of each layout, round trips, hostile bytes; and copying, comparing and merging of rows. */
#include "unit/unit.h"

#include "../every.h"
#include "base/uuid.h"

/* ---- a table that has grown: layout 1, then layout 2 with every kind of fallback ---- */

#define OLD_FIELDS(F, T)                                         \
	F(T, UUID, student_id, .flags = REQUIRED)                \
	F(T, TEXT, title)                                        \
	F(T, INT, marks)                                         \
	F(T, BOOL, late)                                         \
	F(T, TIME, at)                                           \
	F(T, DATE, day)                                          \
	F(T, ENUM, status, .names = ENUM_NAMES("draft", "open")) \
	F(T, TEXTS, tags)                                        \
	F(T, FLOAT, lat)
#define NEW_FIELDS(F, T)                                                           \
	OLD_FIELDS(F, T)                                                           \
	F(T, INT, attempts, .since = 2, .fallback = 1)                             \
	F(T, BOOL, hidden, .since = 2, .flags = REQUIRED)                          \
	F(T, ENUM, kind, .since = 2, .names = ENUM_NAMES("a", "b"), .fallback = 1) \
	F(T, TEXT, note, .since = 2)                                               \
	F(T, TEXT, reason, .since = 2, .flags = REQUIRED)                          \
	F(T, INT, maybe, .since = 2)
ROW_STRUCT(old_row, OLD_FIELDS);
ROW_TABLE(old_row, OLD_FIELDS, 1);
ROW_STRUCT(new_row, NEW_FIELDS);
ROW_TABLE(new_row, NEW_FIELDS, 2);

/* A record as version 1 wrote it. It must never change: rows like it lie in buffers. */
static const char layout_1[] = "\xc0\xb6\x0b\x50\xc6\x60\x06\x00" /* created_at */
			       "\x80\x89\x7a"                     /* updated_at: a second later */
			       "\x00"                             /* alive */
			       "\xff\x00"                         /* all but lat */
			       "\x01\x92\xf3\xa4\x5b\x6c\x7d\x8e\x9f\xa0\xb1\xc2\xd3\xe4\xf5\x06"
			       "\x05Maths"
			       "\x1b" /* -14 */
			       "\x01"
			       "\xc0\xb6\x0b\x50\xc6\x60\x06\x00"
			       "\xa0\xc6\x02"
			       "\x01"
			       "\x02\x01x\x00";
static const struct str sample_1 = {layout_1, sizeof(layout_1) - 1};

static struct old_row sample_row(struct str tags[2])
{
	struct old_row row = {0};

	tags[0] = STR("x");
	tags[1] = STR("");
	row.row.created_at = INT64_C(1795254723000000);
	row.row.updated_at = row.row.created_at + 1000000;
	FIELD_PUT(&row, old_row, student_id,
		  ((struct uuid){
			  {0x01, 0x92, 0xf3, 0xa4, 0x5b, 0x6c, 0x7d, 0x8e, 0x9f, 0xa0, 0xb1, 0xc2, 0xd3, 0xe4, 0xf5, 0x06}}));
	FIELD_PUT(&row, old_row, title, STR("Maths"));
	FIELD_PUT(&row, old_row, marks, -14);
	FIELD_PUT(&row, old_row, late, true);
	FIELD_PUT(&row, old_row, at, row.row.created_at);
	FIELD_PUT(&row, old_row, day, 20880);
	FIELD_PUT(&row, old_row, status, 1);
	FIELD_PUT(&row, old_row, tags, ((struct list){tags, 2}));
	return row;
}

static void the_sample_of_layout_1_is_written_as_ever(void **state)
{
	struct buf out = {0};
	struct str tags[2];
	struct old_row row = sample_row(tags);

	(void)state;
	row_pack(&old_row_schema, &row, &out);
	if (!str_eq(buf_str(&out), sample_1)) {
		for (size_t i = 0; i < out.n; i++)
			print_message("\\x%02x", (unsigned char)out.p[i]);
		fail_msg(": the packed form has changed");
	}
	buf_done(&out);
}

static void a_newer_table_reads_the_sample_of_layout_1(void **state)
{
	struct arena *arena = arena_new();
	struct str tags[2];
	struct old_row old = sample_row(tags);
	struct new_row row = {.row = {.version = 7, .id = {{1}}, .school_id = {{2}}}, .note = STR("dirt")};

	(void)state;
	assert_int_equal(row_unpack(&new_row_schema, 1, sample_1, arena, &row), OK);
	assert_true(row.row.version == 7 && row.row.id.b[0] == 1 && row.row.school_id.b[0] == 2);
	assert_true(row.row.created_at == old.row.created_at && row.row.updated_at == old.row.updated_at &&
		    row.row.deleted_at == 0);
	assert_str(row.title, STR("Maths"));
	assert_true(row.title.p > sample_1.p && row.title.p < sample_1.p + sample_1.n);
	assert_int_equal(row.marks, -14);
	assert_true(row.late && row.at == old.at && row.day == old.day && row.status == 1);
	assert_int_equal(row.tags.n, 2);
	assert_false(FIELD_HAS(&row, new_row, lat));
	assert_true(FIELD_HAS(&row, new_row, attempts) && row.attempts == 1);
	assert_true(FIELD_HAS(&row, new_row, hidden) && !row.hidden);
	assert_true(FIELD_HAS(&row, new_row, kind) && row.kind == 1);
	assert_true(FIELD_HAS(&row, new_row, reason) && row.reason.n == 0);
	assert_false(FIELD_HAS(&row, new_row, note) || FIELD_HAS(&row, new_row, maybe));
	arena_free(arena);
}

static void a_tombstone_keeps_its_time(void **state)
{
	struct arena *arena = arena_new();
	struct buf out = buf_in(arena);
	struct old_row row = {.row = {.created_at = -5, .updated_at = INT64_MAX, .deleted_at = INT64_MIN}}, back = {0};

	(void)state;
	row_pack(&old_row_schema, &row, &out);
	assert_int_equal(row_unpack(&old_row_schema, 1, buf_str(&out), arena, &back), OK);
	assert_true(back.row.created_at == -5 && back.row.updated_at == INT64_MAX && back.row.deleted_at == INT64_MIN);
	arena_free(arena);
}

/* ---- every type ---- */

#define ID "0192f3a4-5b6c-7d8e-9fa0-b1c2d3e4f506"

static void full_row(struct arena *arena, struct every *row)
{
	static const char body[] =
		"{\"class_id\":\"" ID "\",\"title\":\"t\",\"secret\":\"s\",\"pair\":\"ab\",\"note\":\"n\",\"marks\":1,\"any\":-"
		"9223372036854775808,\"weight\":-1.5,"
		"\"fee\":3,\"lat\":1.25,\"ratio\":1e300,\"late\":false,\"at\":\"1970-01-01T00:00:00Z\",\"day\":\"1969-12-31\","
		"\"status\":\"closed\","
		"\"extra\":[1],\"students\":[\"" ID "\",\"" ID
		"\"],\"tags\":[\"a\",\"bc\"],\"scores\":[1,-1,9223372036854775807],\"branches\":"
		"[{\"question_id\":\"" ID "\",\"answer\":\"x\",\"leaves\":[{\"word\":\"w\",\"counts\":[1,2]},{\"word\":\"v\"}]},"
		"{\"question_id\":\"" ID "\"}]}";
	struct problems problems = {.arena = arena};

	assert_int_equal(json_decode(&every_schema, STR(body), arena, row, &problems), OK);
	FIELD_PUT(row, every, graded, 5);
}

static enum err unpack_exact(struct str bytes, struct arena *arena, struct every *row)
{
	char *copy = arena_alloc(arena, bytes.n ? bytes.n : 1);

	memset(row, 0, sizeof(*row));
	if (bytes.n != 0)
		memcpy(copy, bytes.p, bytes.n);
	return row_unpack(&every_schema, 1, (struct str){copy, bytes.n}, arena, row);
}

static void every_type_comes_back(void **state)
{
	struct arena *arena = arena_new();
	struct every row, back, less;

	(void)state;
	full_row(arena, &row);
	for (size_t i = 0; i <= every__count; i++) { /* with each field left out in turn, then with all */
		struct buf out = buf_in(arena);

		less = row;
		if (i < every__count)
			less.row.f.set &= ~(UINT64_C(1) << i);
		row_pack(&every_schema, &less, &out);
		assert_int_equal(unpack_exact(buf_str(&out), arena, &back), OK);
		assert_true(row_equal(&every_schema, &less, &back));
		assert_int_equal(row_equal(&every_schema, &row, &back), i == every__count);
	}
	arena_free(arena);
}

static void every_truncation_and_every_byte_too_many_is_corrupt(void **state)
{
	struct arena *arena = arena_new();
	struct buf out = buf_in(arena);
	struct every row, back;

	(void)state;
	full_row(arena, &row);
	row_pack(&every_schema, &row, &out);
	for (size_t n = 0; n < out.n; n++)
		assert_int_equal(unpack_exact((struct str){out.p, n}, arena, &back), ERR_CORRUPT);
	buf_putc(&out, 0);
	assert_int_equal(unpack_exact(buf_str(&out), arena, &back), ERR_CORRUPT);
	arena_free(arena);
}

static void damaged_bytes_never_lead_astray(void **state)
{
	uint64_t seed = 5;
	unsigned good = 0;
	struct buf packed = {0};
	struct arena *arena = arena_new();
	struct every row, back;

	(void)state;
	full_row(arena, &row);
	row_pack(&every_schema, &row, &packed);
	for (int i = 0; i < 40000; i++) {
		struct arena *a = arena_new();
		struct buf again = buf_in(a);
		char *copy = arena_dup(a, packed.p, packed.n);

		for (unsigned n = 1 + (unsigned)(unit_random(&seed) % 3); n != 0; n--)
			copy[unit_random(&seed) % packed.n] = (char)(unit_random(&seed) % 4 ? unit_random(&seed) : 0xff);
		if (unpack_exact((struct str){copy, packed.n}, a, &back) == OK) {
			struct every twice;

			/* Whatever it is now, it is a row: it packs and unpacks to itself. */
			good++;
			row_pack(&every_schema, &back, &again);
			assert_int_equal(unpack_exact(buf_str(&again), a, &twice), OK);
			assert_true(row_equal(&every_schema, &back, &twice));
		}
		assert_true(arena_size(a) < 200000);
		arena_free(a);
	}
	assert_true(good > 1000);
	buf_done(&packed);
	arena_free(arena);
}

static void a_count_is_judged_before_room_is_made(void **state)
{
	/* created, updated, deleted; bits: scores only (17); a count of 2^35 */
	static const char hostile[] = "\0\0\0\0\0\0\0\0\0\0\0\0\x02\x80\x80\x80\x80\x80\x01";
	struct arena *arena = arena_new();
	size_t before = arena_size(arena);
	struct every row = {0};

	(void)state;
	assert_int_equal(row_unpack(&every_schema, 1, (struct str){hostile, sizeof(hostile) - 1}, arena, &row), ERR_CORRUPT);
	assert_int_equal(arena_size(arena), before);
	arena_free(arena);
}

/* ---- rows in memory ---- */

static void a_copy_shares_nothing(void **state)
{
	struct arena *arena = arena_new(), *other = arena_new();
	struct every row, *copy;
	struct buf out = {0}, again = {0};

	(void)state;
	full_row(arena, &row);
	copy = row_dup(&every_schema, &row, other);
	row_pack(&every_schema, &row, &out);
	arena_free(arena); /* under AddressSanitizer a shared byte would be seen now */
	row_pack(&every_schema, copy, &again);
	assert_str(buf_str(&again), buf_str(&out));
	buf_done(&out);
	buf_done(&again);
	arena_free(other);
}

static void rows_differ_when_any_value_does(void **state)
{
	struct arena *arena = arena_new();
	struct every a, *b;
	struct branch *branch;

	(void)state;
	full_row(arena, &a);
	b = row_dup(&every_schema, &a, arena);
	assert_true(row_equal(&every_schema, &a, b));
	branch = b->branches.v;
	((struct leaf *)branch->leaves.v)[1].word = STR("u");
	assert_false(row_equal(&every_schema, &a, b));
	b = row_dup(&every_schema, &a, arena);
	b->marks++;
	assert_false(row_equal(&every_schema, &a, b));
	b = row_dup(&every_schema, &a, arena);
	b->tags.n--;
	assert_false(row_equal(&every_schema, &a, b));
	arena_free(arena);
}

#define PUT_FIELDS(F, T)                                          \
	F(T, TEXT, title)                                         \
	F(T, TEXT, note)                                          \
	F(T, INT, marks)                                          \
	F(T, ENUM, status, .names = ENUM_NAMES("closed", "gone")) \
	F(T, TEXT, day)                                           \
	F(T, INT, graded)                                         \
	F(T, INT, elsewhere)
SCHEMA_STRUCT(put_in, PUT_FIELDS);
SCHEMA_TABLE(put_in, PUT_FIELDS);

static bool merge(struct every *row, struct arena *arena, const char *body)
{
	struct problems problems = {.arena = arena};
	struct put_in in;

	assert_int_equal(json_decode(&put_in_schema, str_of(body), arena, &in, &problems), OK);
	return row_merge(&every_schema, row, &put_in_schema, &in);
}

static void a_merge_takes_what_is_given_and_nothing_else(void **state)
{
	struct arena *arena = arena_new();
	struct every row, before;

	(void)state;
	full_row(arena, &row);
	before = row;
	assert_false(merge(&row, arena, "{}"));
	assert_false(merge(&row, arena, "{\"title\":\"t\",\"marks\":1,\"elsewhere\":3}"));
	assert_false(merge(&row, arena, "{\"graded\":9}"));           /* the server's */
	assert_false(merge(&row, arena, "{\"day\":\"2026-01-01\"}")); /* another type */
	assert_false(merge(&row, arena, "{\"title\":null}"));         /* the row requires it */
	assert_false(merge(&row, arena, "{\"status\":\"closed\"}"));  /* the same name, another index */
	assert_false(merge(&row, arena, "{\"status\":\"gone\"}"));    /* no name of the row's */
	assert_true(row_equal(&every_schema, &row, &before));
	assert_true(merge(&row, arena, "{\"marks\":2,\"note\":null}"));
	assert_int_equal(row.marks, 2);
	assert_false(FIELD_HAS(&row, every, note));
	assert_false(merge(&row, arena, "{\"marks\":2,\"note\":null}"));
	assert_true(merge(&row, arena, "{\"note\":\"\"}"));
	assert_true(FIELD_HAS(&row, every, note));
	row.status = 0;
	assert_true(merge(&row, arena, "{\"status\":\"closed\"}"));
	assert_int_equal(row.status, 2);
	arena_free(arena);
}

#define OUT_FIELDS(F, T)                                          \
	F(T, UUID, id)                                            \
	F(T, TIME, created_at)                                    \
	F(T, TEXT, title)                                         \
	F(T, TEXT, marks)                                         \
	F(T, ENUM, status, .names = ENUM_NAMES("closed", "gone")) \
	F(T, LIST, branches, .sub = &leaf_schema)                 \
	F(T, TEXT, elsewhere)
SCHEMA_STRUCT(out_view, OUT_FIELDS);
SCHEMA_TABLE(out_view, OUT_FIELDS);

static void a_projection_never_mixes_types(void **state)
{
	struct arena *arena = arena_new();
	struct out_view out = {0};
	struct every row;

	(void)state;
	full_row(arena, &row);
	row.row.id.b[0] = 9;
	row.row.created_at = 77;
	schema_project(&out_view_schema, &out, &every_schema, &row);
	assert_true(FIELD_HAS(&out, out_view, id) && out.id.b[0] == 9 && out.created_at == 77);
	assert_str(out.title, STR("t"));
	assert_true(FIELD_HAS(&out, out_view, status) && out.status == 0); /* the same name at another place */
	assert_false(FIELD_HAS(&out, out_view, marks) || FIELD_HAS(&out, out_view, branches) ||
		     FIELD_HAS(&out, out_view, elsewhere));
	row.status = 0; /* a name that the view does not know */
	out = (struct out_view){0};
	schema_project(&out_view_schema, &out, &every_schema, &row);
	assert_false(FIELD_HAS(&out, out_view, status));
	arena_free(arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_sample_of_layout_1_is_written_as_ever),
		cmocka_unit_test(a_newer_table_reads_the_sample_of_layout_1),
		cmocka_unit_test(a_tombstone_keeps_its_time),
		cmocka_unit_test(every_type_comes_back),
		cmocka_unit_test(every_truncation_and_every_byte_too_many_is_corrupt),
		cmocka_unit_test(damaged_bytes_never_lead_astray),
		cmocka_unit_test(a_count_is_judged_before_room_is_made),
		cmocka_unit_test(a_copy_shares_nothing),
		cmocka_unit_test(rows_differ_when_any_value_does),
		cmocka_unit_test(a_merge_takes_what_is_given_and_nothing_else),
		cmocka_unit_test(a_projection_never_mixes_types),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
