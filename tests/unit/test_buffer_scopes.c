/* SPDX-License-Identifier: Apache-2.0 */
/* The scopes that a PUT carries: which lists must show a row before the table has it. */
#include "unit.h"

#include "base/uuid.h"
#include "svc/buffer.h"

/* clang-format off */
#define MARK_FIELDS(F, T)                                                                          \
	F(T, UUID,  student_id)                                                                    \
	F(T, UUID,  class_id)                                                                      \
	F(T, DATE,  date)                                                                          \
	F(T, INT,   period)                                                                        \
	F(T, UUIDS, student_ids)
/* clang-format on */
ROW_STRUCT(mark, MARK_FIELDS);
ROW_TABLE(mark, MARK_FIELDS, 1);

static const struct entity mark_entity = {
	.name = "mark",
	.table = "school.marks",
	.schema = &mark_schema,
	.scopes = {"school_id", "date+class_id", "class_id+period", "student_ids[]", "id"},
};

static struct mark a_mark(void)
{
	struct mark m = {0};

	m.row.id.b[0] = 1;
	m.row.school_id.b[0] = 2;
	FIELD_PUT(&m, mark, class_id, ((struct uuid){{3}}));
	FIELD_PUT(&m, mark, date, 0);
	return m;
}

#define REST "000000-0000-0000-0000-000000000000"

static bool has_arg(struct redis_args args, const char *text)
{
	for (size_t i = 0; i < args.n; i++) {
		if (str_is(args.v[i], text))
			return true;
	}
	return false;
}

static void a_row_is_in_every_scope_whose_fields_it_has(void **state)
{
	struct arena *arena = arena_new();
	struct buffer_put *put = buffer_put_new(arena, (struct uuid){{2}}, (const uint8_t[8]){0});
	struct mark m = a_mark();
	struct uuid chosen[] = {{{7}}};
	struct redis_args args;

	(void)state;
	FIELD_PUT(&m, mark, student_ids, ((struct list){chosen, 1}));
	buffer_put_row(put, &mark_entity, &m, (struct put_options){0});
	args = buffer_put_args(put);
	assert_true(has_arg(args, "school_id:02" REST));
	assert_true(has_arg(args, "date+class_id:1970-01-01:03" REST));
	assert_true(has_arg(args, "student_ids:07" REST));
	assert_true(has_arg(args, "id:01" REST));
	assert_false(has_arg(args, "class_id+period:03" REST ":0")); /* it has no period */
	arena_free(arena);
}

static size_t count_args(struct redis_args args, const char *text)
{
	size_t n = 0;

	for (size_t i = 0; i < args.n; i++)
		n += str_is(args.v[i], text);
	return n;
}

static void a_row_that_moves_names_the_list_it_leaves(void **state)
{
	struct arena *arena = arena_new();
	struct buffer_put *put = buffer_put_new(arena, (struct uuid){{2}}, (const uint8_t[8]){0});
	struct mark old = a_mark(), moved = a_mark();
	struct uuid before[] = {{{7}}, {{8}}}, after[] = {{{8}}, {{9}}};
	struct redis_args args;

	(void)state;
	FIELD_PUT(&old, mark, student_ids, ((struct list){before, 2}));
	FIELD_PUT(&moved, mark, student_ids, ((struct list){after, 2}));
	FIELD_PUT(&moved, mark, class_id, ((struct uuid){{4}}));
	buffer_put_row(put, &mark_entity, &moved, (struct put_options){.old = &old});
	args = buffer_put_args(put);
	assert_int_equal(count_args(args, "date+class_id:1970-01-01:03" REST), 1);
	assert_int_equal(count_args(args, "date+class_id:1970-01-01:04" REST), 1);
	assert_int_equal(count_args(args, "student_ids:07" REST), 1);
	assert_int_equal(count_args(args, "student_ids:08" REST), 1); /* it stays there, and is named once */
	assert_int_equal(count_args(args, "student_ids:09" REST), 1);
	assert_int_equal(count_args(args, "school_id:02" REST), 1);
	assert_int_equal(count_args(args, "7"), 1); /* the number of scopes */
	arena_free(arena);
}

#define CROWD_FIELDS(F, T) F(T, UUIDS, a) F(T, UUIDS, b)
ROW_STRUCT(crowd, CROWD_FIELDS);
ROW_TABLE(crowd, CROWD_FIELDS, 1);
static const struct entity crowd_entity = {
	.name = "crowd", .table = "school.crowds", .schema = &crowd_schema, .scopes = {"a[]", "b[]"}};

static struct crowd a_crowd(struct uuid ids[64], uint8_t number)
{
	struct crowd c = {.row.id = {{1}}};

	for (uint8_t i = 0; i < 64; i++)
		ids[i] = (struct uuid){{number, i}};
	FIELD_PUT(&c, crowd, a, ((struct list){ids, 64}));
	FIELD_PUT(&c, crowd, b, ((struct list){ids, 64}));
	return c;
}

/* Not one list may be left out in silence. */
static void a_row_with_too_many_lists_is_not_sent(void **state)
{
	struct arena *arena = arena_new();
	struct buffer_put *put = buffer_put_new(arena, (struct uuid){{2}}, (const uint8_t[8]){0});
	struct uuid before[64], after[64];
	struct crowd old = a_crowd(before, 1), new = a_crowd(after, 2);
	const struct buffer_io nobody = {0};
	struct put_result result;

	(void)state;
	buffer_put_row(put, &crowd_entity, &new, (struct put_options){.old = &old});
	assert_int_equal(buffer_put_send(&nobody, put, arena, 0, &result), ERR_TOO_LARGE);
	arena_free(arena);
}

static void a_list_asks_for_the_scope_that_a_row_is_put_into(void **state)
{
	struct arena *arena = arena_new();
	struct buf b = buf_in(arena);
	struct mark m = a_mark();

	(void)state;
	assert_true(buffer_scope_text(&mark_entity, "date+class_id", &m, &b));
	assert_str(buf_str(&b), STR("date+class_id:1970-01-01:03" REST));
	b = buf_in(arena);
	assert_false(buffer_scope_text(&mark_entity, "class_id+period", &m, &b));
	arena_free(arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_row_is_in_every_scope_whose_fields_it_has),
		cmocka_unit_test(a_row_that_moves_names_the_list_it_leaves),
		cmocka_unit_test(a_row_with_too_many_lists_is_not_sent),
		cmocka_unit_test(a_list_asks_for_the_scope_that_a_row_is_put_into),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
