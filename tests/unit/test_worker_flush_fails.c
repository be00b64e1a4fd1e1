/* SPDX-License-Identifier: Apache-2.0 */
/* The flush protocol under failure: every failure at every step, and what becomes of the records. */
#include "unit/flush_world.h"

TURN_TEST(poison_is_found_by_halving_and_parked_alone)
{
	struct flush_counts c;

	for (int i = 0; i < 64; i++)
		add(100, 0);
	w.poison[13] = w.poison[14] = w.poison[63] = true;
	c = turn();
	assert_int_equal(c.applied, 61);
	assert_int_equal(c.dead, 0); /* the script's own number, which the fake does not make */
	assert_int_equal(count(DEAD), 3);
	assert_int_equal(count(ACKED), 61);
	assert_string_equal(w.errors[13], "23514 notes_text_check");
	assert_true(w.begins <= 1 + 3 * 2 * 6);
}

TURN_TEST(a_child_waits_uncounted_while_its_parent_is_in_the_buffer)
{
	for (int i = 0; i < 8; i++)
		add(100, 0);
	w.orphan[3] = true;
	w.parent_waits = true;
	turn();
	assert_int_equal(w.place[3], BACK);
	assert_int_equal(count(ACKED), 7);
	assert_true(w.urged);
	assert_true(w.backoff_ms[3] >= 1000);
}

TURN_TEST(a_child_without_a_parent_is_counted_and_dies_at_the_twelfth_try)
{
	add(100, 0);
	w.orphan[0] = true;
	w.parent_dead = true; /* a dead parent is no hope */
	turn();
	assert_int_equal(w.place[0], COUNTED);
	assert_string_equal(w.errors[0], "23503 notes_parent_fkey");
	w.place[0] = NOWHERE;
	w.attempts[0] = TRIES_DEAD - 1;
	turn();
	assert_int_equal(w.place[0], DEAD);
	assert_false(w.urged);
}

TURN_TEST(a_lost_connection_is_tried_three_times_and_parks_nothing)
{
	static const char *const at[] = {"begin", "copy", "flush", "versions", "commit"};

	for (size_t s = 0; s < ARRAY_LEN(at); s++) {
		struct flush_counts c;

		stale(NULL);
		fresh(NULL);
		insert_row(id_of(0, 0x11), school, 500); /* so that there is a question about versions */
		for (int i = 0; i < 5; i++)
			add(100, 0);
		fails(at[s], 2, ERR_DB, "");
		c = turn();
		assert_int_equal(count(ACKED), 5);
		assert_false(c.away);
		assert_int_equal(w.begins, 3);
		assert_int_equal(w.paused_ms, 200 + 400);

		stale(NULL);
		fresh(NULL);
		insert_row(id_of(0, 0x11), school, 500);
		for (int i = 0; i < 5; i++)
			add(100, 0);
		fails(at[s], 100, ERR_DB, "57P01");
		c = turn();
		assert_true(c.away);
		assert_int_equal(count(BACK), 5);
		assert_int_equal(w.begins, 3);
		assert_int_equal(w.n_rows, 1);
	}
}

TURN_TEST(a_commit_without_an_answer_is_written_again_and_doubles_nothing)
{
	struct flush_counts c;

	for (int i = 0; i < 5; i++)
		add(100 + i, 0);
	w.lost_commits = 1;
	c = turn();
	assert_int_equal(w.begins, 2);
	assert_int_equal(c.applied, 0);
	assert_int_equal(c.same, 5);
	assert_int_equal(count(ACKED), 5);
	assert_int_equal(w.n_rows, 5);
}

TURN_TEST(contention_is_tried_at_once_and_has_an_end)
{
	add(100, 0);
	fails("flush", 5, ERR_DB, "40P01");
	turn();
	assert_int_equal(w.place[0], ACKED);
	assert_int_equal(w.begins, 6);
	assert_true(w.paused_ms <= 5 * 51);
	w.place[0] = NOWHERE;
	w.versions[0] = 200;
	w.values[0] = record_of(0, 200, 0);
	fails("flush", 1000, ERR_DB, "40001");
	assert_false(turn().away);
	assert_int_equal(w.place[0], BACK);
}

TURN_TEST(an_unknown_error_counts_and_the_twelfth_parks)
{
	add(100, 0);
	w.attempts[0] = TRIES_STRICT;
	fails("flush", 1, ERR_BUG, "XX000");
	turn();
	assert_int_equal(w.place[0], COUNTED);
	w.place[0] = NOWHERE;
	w.attempts[0] = TRIES_DEAD - 1;
	fails("flush", 1, ERR_BUG, "XX000");
	turn();
	assert_int_equal(w.place[0], DEAD);
}

TURN_TEST(a_record_whose_workers_died_twelve_times_is_parked_unseen)
{
	add(100, 0);
	w.attempts[0] = TRIES_DEAD;
	turn();
	assert_int_equal(w.place[0], DEAD);
	assert_int_equal(w.begins, 0);
}

TURN_TEST(corrupt_records_are_parked_and_newer_layouts_wait)
{
	char *bytes;

	for (int i = 0; i < 4; i++)
		add(100, 0);
	bytes = arena_dup(w.arena, w.values[1].p, w.values[1].n);
	bytes[w.values[1].n - 1] ^= 1;
	w.values[1].p = bytes;
	w.values[2].n = 20; /* not even a header */
	bytes = arena_dup(w.arena, w.values[3].p, w.values[3].n);
	bytes[49] = 9; /* layout */
	w.values[3].p = bytes;
	turn();
	assert_int_equal(w.place[0], ACKED);
	assert_int_equal(w.place[1], DEAD);
	assert_int_equal(w.place[2], DEAD);
	assert_string_equal(w.errors[1], "corrupt record");
	assert_int_equal(w.place[3], BACK);
	assert_true(w.backoff_ms[3] >= 30000);
}

TURN_TEST(a_schema_error_is_believed_after_a_new_connection)
{
	add(100, 0);
	fails("flush", 100, ERR_BUG, "42P01");
	turn();
	assert_int_equal(w.resets, 1);
	assert_int_equal(w.place[0], ACKED); /* the new connection knew better */
	w.place[0] = NOWHERE;
	w.poison[0] = true;
	w.versions[0] = 200;
	w.values[0] = record_of(0, 200, 0);
	turn();
	assert_int_equal(w.resets, 1); /* a row's own fault asks for none */
	assert_int_equal(w.place[0], DEAD);
}

TURN_TEST(all_tries_end_within_the_patience_of_a_lease)
{
	for (int i = 0; i < 100; i++)
		add(100, 0);
	for (int i = 0; i < 100; i++)
		w.poison[i] = true;
	w.begin_costs_us = US_PER_S;
	turn();
	assert_in_range(w.now_us, 44 * US_PER_S, 46 * US_PER_S);
	assert_true(count(BACK) > 50);
	assert_true(count(DEAD) > 5);
}

TURN_TEST(a_worker_that_is_stopped_releases_what_it_has_not_begun)
{
	for (int i = 0; i < 16; i++)
		add(100, 0);
	w.poison[2] = true;
	w.stop_after = 2;
	turn();
	assert_int_equal(w.begins, 2);
	assert_int_equal(count(BACK) + count(ACKED), 16);
	for (size_t i = 0; i < w.n; i++)
		assert_int_equal(w.backoff_ms[i], 0);
}

TURN_TEST(a_buffer_that_is_away_claims_nothing)
{
	static const struct buffer_io io = {NULL, io_eval, io_call, io_now, io_pause, io_random};
	const struct flusher f = {.io = &io, .token = STR("host:1"), .limits = FLUSH_LIMITS_DEFAULT};
	struct flush_counts counts = {0};

	w.redis_away = true;
	assert_int_equal(flush_turn(&f, &w.target, 0, w.turn_arena, &counts), ERR_BUFFER);
	assert_int_equal(counts.claimed, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(poison_is_found_by_halving_and_parked_alone),
		T(a_child_waits_uncounted_while_its_parent_is_in_the_buffer),
		T(a_child_without_a_parent_is_counted_and_dies_at_the_twelfth_try),
		T(a_lost_connection_is_tried_three_times_and_parks_nothing),
		T(a_commit_without_an_answer_is_written_again_and_doubles_nothing),
		T(contention_is_tried_at_once_and_has_an_end),
		T(an_unknown_error_counts_and_the_twelfth_parks),
		T(a_record_whose_workers_died_twelve_times_is_parked_unseen),
		T(corrupt_records_are_parked_and_newer_layouts_wait),
		T(a_schema_error_is_believed_after_a_new_connection),
		T(all_tries_end_within_the_patience_of_a_lease),
		T(a_worker_that_is_stopped_releases_what_it_has_not_begun),
		T(a_buffer_that_is_away_claims_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
