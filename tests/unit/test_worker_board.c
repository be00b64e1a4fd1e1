/* SPDX-License-Identifier: Apache-2.0 */
/* Tickets, runs and breakers where coordinators and threads meet. */
#include "unit/unit.h"

#include "board.h"

#define SECOND INT64_C(1000000)

static int take(struct board *b, int64_t *ret_delay_ms)
{
	enum database database;
	size_t job;

	return board_take(b, &job, &database, ret_delay_ms, SECOND) ? (int)job : -1;
}

static void give(struct board *b, size_t job, struct flush_counts counts, bool buffer_failed)
{
	board_give(b, job, &counts, buffer_failed, 2 * SECOND);
}

static void jobs_take_turns_and_tickets_are_bounded_by_the_threads(void **state)
{
	struct board b;
	int64_t delay_ms;

	(void)state;
	board_init(&b, 3, 2);
	board_offer(&b, 0, 100, 7);
	board_offer(&b, 2, 1, 9);
	assert_int_equal(take(&b, &delay_ms), 0);
	assert_int_equal(delay_ms, 7);
	assert_int_equal(take(&b, &delay_ms), 2);
	assert_int_equal(delay_ms, 9);
	assert_int_equal(take(&b, &delay_ms), 0);
	assert_int_equal(board_look(&b, 0).tickets, 0);
	board_offer(&b, 0, 100, 7); /* two run already */
	assert_int_equal(board_look(&b, 0).tickets, 0);
	give(&b, 0, (struct flush_counts){0}, false);
	board_offer(&b, 0, 100, 7);
	assert_int_equal(board_look(&b, 0).tickets, 1);
	board_offer(&b, 0, 0, 7); /* withdrawn */
	assert_int_equal(board_look(&b, 0).tickets, 0);
	board_stop(&b);
	assert_int_equal(take(&b, &delay_ms), -1);
	board_done(&b);
}

static void a_run_ends_when_nobody_works_on_it_and_a_second_has_passed(void **state)
{
	struct board b;
	struct finished_run run;
	int64_t delay_ms;

	(void)state;
	board_init(&b, 1, 4);
	board_offer(&b, 0, 2, 0);
	assert_int_equal(take(&b, &delay_ms), 0);
	assert_int_equal(take(&b, &delay_ms), 0);
	give(&b, 0, (struct flush_counts){.claimed = 5, .applied = 4, .dead = 1, .error = "23514 x"}, false);
	assert_false(board_run_finished(&b, 0, 9 * SECOND, &run));
	give(&b, 0, (struct flush_counts){.claimed = 2, .applied = 2}, false);
	assert_false(board_run_finished(&b, 0, SECOND + 1, &run));
	assert_true(board_run_finished(&b, 0, 2 * SECOND, &run));
	assert_int_equal(run.counts.claimed, 7);
	assert_int_equal(run.counts.applied, 6);
	assert_string_equal(run.counts.error, "23514 x");
	assert_int_equal(run.ended_us - run.started_us, SECOND);
	assert_false(board_run_finished(&b, 0, 9 * SECOND, &run));
	assert_int_equal(board_look(&b, 0).total.applied, 6);
	board_offer(&b, 0, 1, 0); /* nothing was due: no run */
	assert_int_equal(take(&b, &delay_ms), 0);
	give(&b, 0, (struct flush_counts){0}, false);
	assert_false(board_run_finished(&b, 0, 9 * SECOND, &run));
	assert_int_equal(board_look(&b, 0).run_count, 1);
	board_done(&b);
}

static void a_database_that_is_away_holds_its_jobs_until_one_probe_has_found_it(void **state)
{
	struct board b;
	int64_t delay_ms, now = INT64_C(1) << 60; /* later than any clock of the machine */

	(void)state;
	board_init(&b, 2, 4);
	board_offer(&b, 0, 1, 0);
	assert_int_equal(take(&b, &delay_ms), 0);
	give(&b, 0, (struct flush_counts){.away = true}, false);
	assert_true(board_is_open(&b, DATABASE_ROWS));
	assert_int_equal(board_opened(&b, DATABASE_ROWS), 1);
	assert_true(board_wants_probe(&b, DATABASE_ROWS, now));
	assert_false(board_wants_probe(&b, DATABASE_ROWS, now)); /* another coordinator asks: the first one does it */
	board_probed(&b, DATABASE_ROWS, false, now);
	assert_true(board_is_open(&b, DATABASE_ROWS));
	assert_true(board_wants_probe(&b, DATABASE_ROWS, now + BREAKER_PROBE_US));
	board_probed(&b, DATABASE_ROWS, true, now + BREAKER_PROBE_US);
	assert_false(board_is_open(&b, DATABASE_ROWS));
	board_offer(&b, 1, 1, 0);
	assert_int_equal(take(&b, &delay_ms), 1);
	give(&b, 1, (struct flush_counts){0}, false);
	board_done(&b);
}

static void a_failure_of_a_buffer_is_told_once_and_to_its_own_job(void **state)
{
	struct board b;
	int64_t delay_ms;

	(void)state;
	board_init(&b, 2, 4);
	board_offer(&b, 1, 1, 0);
	assert_int_equal(take(&b, &delay_ms), 1);
	give(&b, 1, (struct flush_counts){0}, true);
	assert_false(board_failed_once(&b, 0));
	assert_true(board_failed_once(&b, 1));
	assert_false(board_failed_once(&b, 1));
	board_done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(jobs_take_turns_and_tickets_are_bounded_by_the_threads),
		cmocka_unit_test(a_run_ends_when_nobody_works_on_it_and_a_second_has_passed),
		cmocka_unit_test(a_database_that_is_away_holds_its_jobs_until_one_probe_has_found_it),
		cmocka_unit_test(a_failure_of_a_buffer_is_told_once_and_to_its_own_job),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
