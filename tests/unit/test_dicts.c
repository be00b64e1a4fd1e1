/* SPDX-License-Identifier: Apache-2.0 */
/* The dictionaries in the tree: well formed, never changed, and used for the entity's records. */
#include "unit/unit.h"

#include <zstd.h>

#include "base/str.h"
#include "homework.h"
#include "svc/buffer.h"
#include "svc/dicts.h"

static void every_dictionary_is_small_and_carries_its_own_number(void **state)
{
	(void)state;
	assert_non_null(dict_table[0].entity);
	for (const struct dict *d = dict_table; d->entity; d++) {
		assert_true(d->zstd.bytes.n <= 64 << 10);
		assert_int_equal(ZSTD_getDictID_fromDict(d->zstd.bytes.p, d->zstd.bytes.n), d->zstd.number);
		if (d != dict_table && strcmp(d[-1].entity, d->entity) == 0)
			assert_int_equal(d->zstd.number, d[-1].zstd.number + 1); /* none was taken away */
		else
			assert_int_equal(d->zstd.number, 1);
	}
}

static void every_entity_of_homework_has_one(void **state)
{
	(void)state;
	for (size_t i = 0; homework_entities[i]; i++) {
		const char *name = homework_entities[i]->name;

		assert_non_null(dict_newest(name));
		assert_ptr_equal(dict_numbered(name, dict_newest(name)->number), dict_newest(name));
		assert_null(dict_numbered(name, 0));
		assert_null(dict_numbered(name, 255));
	}
	assert_null(dict_newest("grade"));
}

static struct homework *example(struct arena *arena)
{
	struct homework *hw = arena_zalloc(arena, sizeof(*hw));

	memset(hw->row.id.b, 1, 16);
	memset(hw->row.school_id.b, 2, 16);
	memset(hw->class_id.b, 3, 16);
	hw->row.created_at = hw->row.updated_at = INT64_C(1764000000000000);
	FIELD_PUT(hw, homework, title, STR("Quadratic equations 2"));
	FIELD_PUT(hw, homework, description, STR("Solve problems 1 to 12 from the text book, page 87. Show every step."));
	FIELD_PUT(hw, homework, class_id, hw->class_id);
	FIELD_PUT(hw, homework, subject_id, hw->class_id);
	FIELD_PUT(hw, homework, teacher_id, hw->class_id);
	FIELD_PUT(hw, homework, due_date, 20420);
	FIELD_PUT(hw, homework, max_marks, 20);
	FIELD_PUT(hw, homework, status, HOMEWORK_ACTIVE);
	return hw;
}

/* Sealed with homework's dictionary 1 on the day it was trained. Whoever changes that file makes records unreadable that wait somewhere. */
static const char golden[] = "0101b5ac82da28b52ffd21019c4d0100900040624159441532313132370388bf02280007fc60a7de7a77b7502421f316"
			     "9d2cec351f4a312030";

static struct str golden_bytes(struct arena *arena)
{
	size_t n = (sizeof(golden) - 1) / 2;
	char *bytes = arena_alloc(arena, n);

	for (size_t i = 0; i < n; i++) {
		unsigned byte;

		assert_int_equal(sscanf(golden + 2 * i, "%2x", &byte), 1);
		bytes[i] = (char)byte;
	}
	return (struct str){bytes, n};
}

static struct buffer_record record(const struct homework *hw, struct str sealed)
{
	return (struct buffer_record){.codec = CODEC_ZSTD, .version = 5, .school = hw->row.school_id, .sealed = sealed};
}

static void a_record_of_dictionary_1_is_readable_for_ever(void **state)
{
	struct arena *arena = arena_new();
	struct homework *hw = example(arena), *back;
	struct buffer_record r = record(hw, golden_bytes(arena));

	(void)state;
	assert_int_equal(codec_dict_number(r.sealed), 1);
	assert_int_equal(buffer_record_row(&homework_entity, hw->row.id, &r, arena, (void **)&back), OK);
	assert_true(row_equal(&homework_schema, hw, back));
	arena_free(arena);
}

static void a_dictionary_of_tomorrow_waits_and_a_damaged_number_is_seen(void **state)
{
	struct arena *arena = arena_new();
	struct homework *hw = example(arena);
	struct str bytes = golden_bytes(arena);
	struct buffer_record r = record(hw, bytes);
	struct codec_dict two = {.number = 2, .bytes = dict_numbered("homework", 1)->bytes};
	char *sealed = arena_dup(arena, bytes.p, bytes.n), *dict = arena_dup(arena, two.bytes.p, two.bytes.n);
	struct str packed;
	uint8_t layout;
	void *row;

	(void)state;
	sealed[1] = (char)200;
	r.sealed.p = sealed;
	assert_int_equal(buffer_record_row(&homework_entity, hw->row.id, &r, arena, &row), ERR_CONFLICT);
	sealed[1] = 2;
	dict[4] = 2; /* its id, behind the magic number */
	two.bytes.p = dict;
	assert_int_equal(codec_open_with(CODEC_ZSTD, &two, r.sealed, arena, &layout, &packed), ERR_CORRUPT);
	sealed[1] = 0;
	assert_int_equal(buffer_record_row(&homework_entity, hw->row.id, &r, arena, &row), ERR_CORRUPT);
	codec_dict_done(&two);
	arena_free(arena);
}

static void a_put_uses_the_newest_dictionary_for_zstd_alone(void **state)
{
	static const uint8_t tag[8] = {1};
	struct arena *arena = arena_new();
	struct homework *hw = example(arena);

	(void)state;
	for (int codec = 0; codec < CODEC_COUNT; codec++) {
		struct buffer_put *p = buffer_put_new(arena, hw->row.school_id, tag);
		struct redis_args args;
		struct str sealed;

		buffer_put_row(p, &homework_entity, hw, (struct put_options){.codec = (enum codec)codec});
		args = buffer_put_args(p);
		sealed = args.v[args.n - 2]; /* before the number of events */
		assert_int_equal(codec_dict_number(sealed), codec == CODEC_ZSTD ? dict_newest("homework")->number : 0);
	}
	arena_free(arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_dictionary_is_small_and_carries_its_own_number),
		cmocka_unit_test(every_entity_of_homework_has_one),
		cmocka_unit_test(a_record_of_dictionary_1_is_readable_for_ever),
		cmocka_unit_test(a_dictionary_of_tomorrow_waits_and_a_damaged_number_is_seen),
		cmocka_unit_test(a_put_uses_the_newest_dictionary_for_zstd_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
