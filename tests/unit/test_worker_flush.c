/* SPDX-License-Identifier: Apache-2.0 */
/* What a turn makes of what it claims: batches, versions, whom it tells, suspects. */
#include "unit/flush_world.h"

TURN_TEST(a_batch_is_one_transaction_and_one_ack)
{
	struct flush_counts c;

	for (int i = 0; i < 50; i++)
		add(100 + i, 0);
	c = turn();
	assert_int_equal(c.claimed, 50);
	assert_int_equal(c.applied, 50);
	assert_int_equal(w.begins, 1);
	assert_int_equal(w.acks, 1);
	assert_int_equal(w.nacks, 0);
	assert_int_equal(count(ACKED), 50);
	assert_int_equal(w.acked_as[7], 107);
	assert_int_equal(w.n_rows, 50);
}

/* For the caches: an answer with the row says "pending", and that is over. */
TURN_TEST(who_has_left_the_buffer_is_told_after_the_ack_with_its_school)
{
	insert_row(id_of(2, 0x11), other_school, 1);
	for (int i = 0; i < 4; i++)
		add(100, 0);
	w.orphan[3] = w.parent_waits = true;
	turn();
	assert_int_equal(w.place[2], DEAD);
	assert_int_equal(w.place[3], BACK);
	assert_int_equal(w.n_told, 3);
	for (size_t i = 0; i < w.n_told; i++) {
		assert_true(uuid_eq(w.told[i].school, school));
		assert_false(uuid_eq(w.told[i].id, w.ids[3])); /* it still waits */
	}
}

TURN_TEST(nothing_due_is_no_transaction)
{
	assert_int_equal(turn().claimed, 0);
	assert_int_equal(w.begins, 0);
}

TURN_TEST(what_is_there_already_is_acknowledged_as_the_database_has_it)
{
	struct flush_counts c;

	insert_row(id_of(0, 0x11), school, 100);
	insert_row(id_of(1, 0x11), school, 900);
	insert_row(id_of(2, 0x11), other_school, 1);
	for (int i = 0; i < 4; i++)
		add(100, 0);
	c = turn();
	assert_int_equal(c.same, 1);
	assert_int_equal(c.superseded, 1);
	assert_int_equal(c.applied, 1);
	assert_int_equal(w.acked_as[0], 100);
	assert_int_equal(w.acked_as[1], 900);
	assert_int_equal(w.place[2], DEAD);
	assert_string_equal(w.errors[2], "row of another school");
	assert_int_equal(version_in_table(id_of(1, 0x11)), 900);
}

TURN_TEST(an_append_row_that_is_there_is_done_whatever_its_version)
{
	w.target.entity = &entry;
	insert_row(id_of(0, 0x11), school, 50);
	add(100, 0);
	assert_int_equal(turn().same, 1);
	assert_int_equal(w.acked_as[0], 100);
}

TURN_TEST(a_blind_record_is_parked_where_a_row_lives_and_only_there)
{
	insert_row(id_of(0, 0x11), school, 50);
	insert_row(id_of(1, 0x11), school, 50);
	w.rows[1].deleted_at = 5;
	insert_row(id_of(2, 0x11), school, 100); /* its own, from a flush whose ACK was lost */
	for (int i = 0; i < 4; i++)
		add(100, 1 << 6);
	turn();
	assert_int_equal(w.place[0], DEAD);
	assert_string_equal(w.errors[0], "row exists");
	assert_int_equal(version_in_table(id_of(0, 0x11)), 50);
	assert_int_equal(count(ACKED), 3);
}

TURN_TEST(suspects_are_flushed_each_alone)
{
	for (int i = 0; i < 6; i++)
		add(100, 0);
	w.attempts[1] = w.attempts[4] = TRIES_ALONE;
	turn();
	assert_int_equal(w.begins, 3);
	assert_int_equal(w.n_copied, 1);
	assert_int_equal(count(ACKED), 6);
}

TURN_TEST(what_failed_often_has_no_other_suspect_on_lease_beside_it)
{
	for (int i = 0; i < 6; i++)
		add(100, 0);
	w.attempts[1] = TRIES_ALONE;
	w.attempts[2] = w.attempts[4] = TRIES_STRICT;
	turn();
	assert_int_equal(w.begins, 2);
	assert_int_equal(count(ACKED), 4);
	assert_int_equal(w.place[2], ACKED);
	assert_int_equal(w.place[1], BACK);
	assert_int_equal(w.place[4], BACK);
	assert_int_equal(w.backoff_ms[4], 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_batch_is_one_transaction_and_one_ack),
		T(who_has_left_the_buffer_is_told_after_the_ack_with_its_school),
		T(nothing_due_is_no_transaction),
		T(what_is_there_already_is_acknowledged_as_the_database_has_it),
		T(an_append_row_that_is_there_is_done_whatever_its_version),
		T(a_blind_record_is_parked_where_a_row_lives_and_only_there),
		T(suspects_are_flushed_each_alone),
		T(what_failed_often_has_no_other_suspect_on_lease_beside_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
