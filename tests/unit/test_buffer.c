/* SPDX-License-Identifier: Apache-2.0 */
/* The write buffer's protocol, the writer's side: our arguments and the real scripts on a real Redis. */
#include "unit/buffer_world.h"

/* ---- PUT ---- */

static void a_row_comes_back_as_it_was(void **state)
{
	static const enum codec codecs[] = {CODEC_RAW, CODEC_SNAPPY, CODEC_LZ4, CODEC_ZSTD};
	char *text = arena_alloc(arena, 5001);

	(void)state;
	memset(text, 'x', 5000);
	text[5000] = '\0';
	for (size_t i = 0; i < ARRAY_LEN(codecs); i++) {
		struct homework *hw = row_of((uint8_t)(i + 1), CLASS_A, "Photosynthesis"), *back;
		struct put_result r;
		struct buffer_record rec;

		FIELD_PUT(hw, homework, description, str_of(text));
		r = put(hw, (struct put_options){.creation = true, .codec = codecs[i]});
		assert_int_equal(r.outcome, PUT_OK);
		rec = record_of(hw);
		assert_true(rec.creation && !rec.deleted && !rec.urgent && !rec.blind);
		assert_int_equal(rec.codec, codecs[i]);
		assert_int_equal(rec.version, r.version);
		assert_true(rec.size > 5000);
		assert_true(codecs[i] == CODEC_RAW ? rec.sealed.n > 5000 : rec.sealed.n < 1000);
		assert_true(uuid_eq(rec.school, SCHOOL));
		assert_int_equal(buffer_record_row(&homework_entity, hw->row.id, &rec, arena, (void **)&back), OK);
		assert_str(back->title, STR("Photosynthesis"));
		assert_str(back->description, str_of(text));
		assert_int_equal(back->due_date, 20000);
		assert_int_equal(back->row.created_at, hw->row.created_at);
		assert_int_equal(back->row.version, r.version);
		assert_true(uuid_eq(back->row.id, hw->row.id) && uuid_eq(back->class_id, CLASS_A));
		assert_false(FIELD_HAS(back, homework, close_date));
	}
}

static void a_call_that_is_made_again_is_the_same_call(void **state)
{
	struct homework *hw = row_of(1, CLASS_A, "x");
	struct buffer_put *p = new_put(SCHOOL);
	struct put_result first, again;

	(void)state;
	buffer_put_row(p, &homework_entity, hw, (struct put_options){.creation = true});
	first = sent(p);
	assert_int_equal(first.outcome, PUT_OK);
	put(hw, (struct put_options){.expect = first.version});
	again = sent(p);
	assert_int_equal(again.outcome, PUT_SAME);
	assert_int_equal(again.version, first.version);
}

static void an_old_base_is_a_conflict_that_names_record_and_version(void **state)
{
	struct homework *a = row_of(1, CLASS_A, "a"), *b = row_of(2, CLASS_A, "b");
	int64_t version = put_new(b), newer;
	struct buffer_put *p = new_put(SCHOOL);
	struct put_result r;

	(void)state;
	newer = put(b, (struct put_options){.expect = version}).version;
	assert_true(newer > version);
	buffer_put_row(p, &homework_entity, a, (struct put_options){.creation = true});
	buffer_put_row(p, &homework_entity, b, (struct put_options){.expect = version});
	r = sent(p);
	assert_int_equal(r.outcome, PUT_CONFLICT);
	assert_int_equal(r.record, 1);
	assert_int_equal(r.version, newer);
	assert_null(stored(a).p); /* all or nothing */
	assert_int_equal(put(b, (struct put_options){.creation = true}).outcome, PUT_CONFLICT);
	assert_int_equal(put(b, (struct put_options){.expect = BUFFER_ANY}).outcome, PUT_OK);
}

static void another_schools_id_is_refused(void **state)
{
	struct homework *mine = row_of(1, CLASS_A, "mine"), *theirs = row_of(1, CLASS_A, "theirs"),
			*new = row_of(2, CLASS_A, "new");
	struct buffer_put *p = new_put(OTHER_SCHOOL);
	struct put_result r;

	(void)state;
	put_new(mine);
	theirs->row.school_id = new->row.school_id = OTHER_SCHOOL;
	buffer_put_row(p, &homework_entity, new, (struct put_options){.creation = true});
	buffer_put_row(p, &homework_entity, theirs, (struct put_options){.expect = BUFFER_ANY});
	r = sent(p);
	assert_int_equal(r.outcome, PUT_REFUSED);
	assert_int_equal(r.record, 1);
	assert_null(stored(new).p);
	assert_true(uuid_eq(record_of(mine).school, SCHOOL));
}

static void a_key_replays_its_result_behind_the_version(void **state)
{
	struct homework *hw = row_of(1, CLASS_A, "x"), *other = row_of(2, CLASS_A, "y");
	struct buffer_put *p = new_put(SCHOOL), *again = new_put(SCHOOL);
	struct put_result first, replay;
	struct str rest, version;
	int64_t v;

	(void)state;
	buffer_put_idem(p, STR("homework:k"), 100, STR("f00d 201 {\"a\":1}"));
	buffer_put_row(p, &homework_entity, hw, (struct put_options){.creation = true});
	first = sent(p);
	buffer_put_idem(again, STR("homework:k"), 100, STR("other"));
	buffer_put_row(again, &homework_entity, other, (struct put_options){.creation = true});
	replay = sent(again);
	assert_int_equal(replay.outcome, PUT_REPLAY);
	rest = replay.replay;
	version = str_split(&rest, ' ');
	assert_true(str_to_i64(version, &v));
	assert_int_equal(v, first.version);
	assert_str(rest, STR("f00d 201 {\"a\":1}"));
	assert_null(stored(other).p);
}

static void a_tombstone_is_the_whole_last_row(void **state)
{
	struct homework *hw = row_of(1, CLASS_A, "gone"), *back;
	int64_t version = put_new(hw);
	struct buffer_record rec;

	(void)state;
	hw->row.deleted_at = 1700000000000001;
	assert_int_equal(put(hw, (struct put_options){.expect = version}).outcome, PUT_OK);
	rec = record_of(hw);
	assert_true(rec.deleted);
	assert_int_equal(buffer_record_row(&homework_entity, hw->row.id, &rec, arena, (void **)&back), OK);
	assert_int_equal(back->row.deleted_at, hw->row.deleted_at);
	assert_str(back->title, STR("gone"));
	assert_true(in_scope(hw, "class_id", CLASS_A));
	hw->row.deleted_at = 0;
	assert_int_equal(put(hw, (struct put_options){.expect = 0, .floor = rec.version}).outcome, PUT_OK);
}

static void a_creation_that_arrives_behind_the_deletion_revives_nothing(void **state)
{
	struct homework *hw = row_of(1, CLASS_A, "late");
	struct put_options creation = {.creation = true};
	int64_t version = put_new(hw);

	(void)state;
	hw->row.deleted_at = 1700000000000001;
	version = put(hw, (struct put_options){.expect = version}).version;
	hw->row.deleted_at = 0;
	assert_int_equal(put(hw, creation).outcome, PUT_CONFLICT);
	assert_int_equal(claim(0).n, 1);
	assert_ack(hw->row.id, version, 1, 0);
	assert_int_equal(put(hw, creation).outcome, PUT_CONFLICT); /* the marker knows it as well */
	creation.floor = version - 1;
	assert_int_equal(put(hw, creation).outcome, PUT_CONFLICT);
	creation.floor = version;
	assert_int_equal(put(hw, creation).outcome, PUT_OK); /* who has seen that it is deleted may create it again */
}

static void a_row_that_moves_stands_in_both_lists_until_it_is_synced(void **state)
{
	struct homework *hw = row_of(1, CLASS_A, "moves");
	int64_t version = put_new(hw);

	(void)state;
	assert_true(in_scope(hw, "class_id", CLASS_A) && in_scope(hw, "teacher_id", TEACHER));
	FIELD_PUT(hw, homework, class_id, CLASS_B);
	version = put(hw, (struct put_options){.expect = version}).version;
	assert_true(in_scope(hw, "class_id", CLASS_A) && in_scope(hw, "class_id", CLASS_B));
	assert_int_equal(claim(0).n, 1);
	assert_ack(hw->row.id, version, 1, 0);
	assert_false(in_scope(hw, "class_id", CLASS_A) || in_scope(hw, "class_id", CLASS_B) ||
		     in_scope(hw, "teacher_id", TEACHER));
}

static void the_floor_keeps_versions_above_the_table(void **state)
{
	struct homework *hw = row_of(1, CLASS_A, "x");
	int64_t ahead = clock_real_us() + 3600 * US_PER_S;
	struct put_result r = put(hw, (struct put_options){.expect = ahead, .floor = ahead});

	(void)state;
	assert_int_equal(r.outcome, PUT_OK);
	assert_int_equal(r.version, ahead + 1);
	assert_true(put_new(row_of(2, CLASS_A, "y")) > r.version);
}

static void events_stand_in_the_stream_with_the_version(void **state)
{
	struct homework *hw = row_of(1, CLASS_A, "x");
	struct buffer_put *p = new_put(SCHOOL);
	struct put_result r;
	struct redis_reply entries;
	int64_t v;

	(void)state;
	buffer_put_row(p, &homework_entity, hw, (struct put_options){.creation = true});
	buffer_put_event(p, "homework", STR("{\"type\":\"one\"}"));
	buffer_put_event(p, "homework", STR("{\"type\":\"two\"}"));
	r = sent(p);
	assert_int_equal(r.outcome, PUT_OK);
	entries = ask(REDIS_ARGS(STR("XRANGE"), STR("events:homework"), STR("-"), STR("+")));
	assert_int_equal(entries.n, 2);
	assert_str(entries.v[1].v[1].v[0].s, STR("e"));
	assert_str(entries.v[1].v[1].v[1].s, STR("{\"type\":\"two\"}"));
	assert_str(entries.v[1].v[1].v[2].s, STR("v"));
	assert_true(str_to_i64(entries.v[1].v[1].v[3].s, &v));
	assert_int_equal(v, r.version);
}

/* ---- lost answers ---- */

static void a_lost_answer_is_asked_for_again(void **state)
{
	struct homework *hw = row_of(1, CLASS_A, "x");
	struct put_result r;

	(void)state;
	net.lost_answers = 2;
	r = put(hw, (struct put_options){.creation = true});
	assert_int_equal(r.outcome, PUT_SAME);
	assert_int_equal(r.version, record_of(hw).version);
	assert_int_equal(net.evals, 3);
}

static void a_conflict_behind_a_lost_answer_is_unknown(void **state)
{
	struct homework *hw = row_of(1, CLASS_A, "x");
	int64_t version = put_new(hw);
	struct put_result other, r;

	(void)state;
	other = put(hw, (struct put_options){.expect = version});
	net.lost_calls = 1;
	r = put(hw, (struct put_options){.expect = version});
	assert_int_equal(r.outcome, PUT_UNKNOWN);
	assert_int_equal(record_of(hw).version, other.version);
}

static void what_was_not_sent_is_not_sent_again(void **state)
{
	struct buffer_put *p = new_put(SCHOOL);
	struct put_result r;

	(void)state;
	buffer_put_row(p, &homework_entity, row_of(1, CLASS_A, "x"), (struct put_options){.creation = true});
	net.fails = ERR_BUFFER;
	assert_int_equal(buffer_put_send(&io, p, arena, 1000000, &r), ERR_BUFFER);
	assert_int_equal(net.evals, 1);
}

static void an_outcome_that_stays_unknown_is_said_to_be(void **state)
{
	struct buffer_put *p = new_put(SCHOOL);
	struct put_result r;

	(void)state;
	buffer_put_row(p, &homework_entity, row_of(1, CLASS_A, "x"), (struct put_options){.creation = true});
	net.lost_calls = 100;
	assert_int_equal(buffer_put_send(&io, p, arena, 1000000, &r), ERR_UNCERTAIN);
	assert_in_range(net.evals, 2, 6);
}

static void a_call_of_no_rows_or_too_many_is_refused_before_it_is_sent(void **state)
{
	struct buffer_put *p = new_put(SCHOOL);
	struct put_result r;

	(void)state;
	assert_int_equal(buffer_put_send(&io, p, arena, 1000000, &r), ERR_TOO_LARGE);
	for (int i = 0; i < 1001; i++)
		buffer_put_row(p, &homework_entity, row_of((uint8_t)i, CLASS_A, "x"), (struct put_options){.expect = BUFFER_ANY});
	assert_int_equal(buffer_put_send(&io, p, arena, 1000000, &r), ERR_TOO_LARGE);
	assert_int_equal(net.evals, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_row_comes_back_as_it_was),
		T(a_call_that_is_made_again_is_the_same_call),
		T(an_old_base_is_a_conflict_that_names_record_and_version),
		T(another_schools_id_is_refused),
		T(a_key_replays_its_result_behind_the_version),
		T(a_tombstone_is_the_whole_last_row),
		T(a_creation_that_arrives_behind_the_deletion_revives_nothing),
		T(a_row_that_moves_stands_in_both_lists_until_it_is_synced),
		T(the_floor_keeps_versions_above_the_table),
		T(events_stand_in_the_stream_with_the_version),
		T(a_lost_answer_is_asked_for_again),
		T(a_conflict_behind_a_lost_answer_is_unknown),
		T(what_was_not_sent_is_not_sent_again),
		T(an_outcome_that_stays_unknown_is_said_to_be),
		T(a_call_of_no_rows_or_too_many_is_refused_before_it_is_sent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
