/* SPDX-License-Identifier: Apache-2.0 */
/* Late, closed, visible, for whom, and what history keeps. */
#include "unit/unit.h"

#include "base/arena.h"
#include "base/json_scan.h"
#include "base/str.h"
#include "base/timefmt.h"
#include "homework.h"

#define KOLKATA STR("Asia/Kolkata") /* UTC+5:30, no summer time */
#define LONDON STR("Europe/London")

static int32_t day(const char *text)
{
	int32_t d;

	assert_true(date_parse(str_of(text), &d));
	return d;
}

static int64_t at(const char *text)
{
	int64_t us;

	assert_true(time_parse(str_of(text), &us));
	return us;
}

static struct homework due(const char *text)
{
	struct homework hw = {0};

	FIELD_PUT(&hw, homework, due_date, day(text));
	FIELD_PUT(&hw, homework, status, HOMEWORK_ACTIVE);
	return hw;
}

static void the_due_day_ends_at_midnight_of_the_school(void **state)
{
	struct homework hw = due("2026-03-10");

	(void)state;
	assert_false(homework_is_late(&hw, KOLKATA, at("2026-03-10T18:29:59.999999Z")));
	assert_true(homework_is_late(&hw, KOLKATA, at("2026-03-10T18:30:00Z")));
	assert_false(homework_is_late(&hw, LONDON, at("2026-03-10T23:59:59Z")));
	assert_true(homework_is_late(&hw, LONDON, at("2026-03-11T00:00:00Z")));
}

static void summer_time_moves_the_end_of_the_day(void **state)
{
	struct homework before = due("2026-03-28"), on = due("2026-03-29"), autumn = due("2026-10-25");

	(void)state;
	assert_true(homework_is_late(&before, LONDON, at("2026-03-29T00:00:00Z")));
	assert_false(homework_is_late(&on, LONDON, at("2026-03-29T22:59:59Z")));
	assert_true(homework_is_late(&on, LONDON, at("2026-03-29T23:00:00Z")));
	assert_false(homework_is_late(&autumn, LONDON, at("2026-10-25T23:59:59Z")));
	assert_true(homework_is_late(&autumn, LONDON, at("2026-10-26T00:00:00Z")));
}

static void an_unknown_zone_counts_in_utc(void **state)
{
	struct homework hw = due("2026-03-10");

	(void)state;
	assert_false(homework_is_late(&hw, STR("Mars/Olympus"), at("2026-03-10T23:59:59Z")));
	assert_true(homework_is_late(&hw, STR(""), at("2026-03-11T00:00:00Z")));
}

static void late_work_is_taken_until_the_closing_day_is_over(void **state)
{
	struct homework hw = due("2026-03-10");

	(void)state;
	assert_true(homework_is_open(&hw, KOLKATA, at("2030-01-01T00:00:00Z")));
	FIELD_PUT(&hw, homework, close_date, day("2026-03-12"));
	assert_true(homework_is_open(&hw, KOLKATA, at("2026-03-12T18:29:59Z")));
	assert_false(homework_is_open(&hw, KOLKATA, at("2026-03-12T18:30:00Z")));
}

static void drafts_and_the_unpublished_are_neither_seen_nor_open(void **state)
{
	struct homework hw = due("2026-03-10");
	int64_t now = at("2026-03-01T10:00:00Z");

	(void)state;
	assert_true(homework_is_visible(&hw, now) && homework_is_open(&hw, KOLKATA, now));
	FIELD_PUT(&hw, homework, publish_at, now + 1);
	assert_false(homework_is_visible(&hw, now) || homework_is_open(&hw, KOLKATA, now));
	assert_true(homework_is_visible(&hw, now + 1) && homework_is_open(&hw, KOLKATA, now + 1));
	FIELD_PUT(&hw, homework, status, HOMEWORK_DRAFT);
	assert_false(homework_is_visible(&hw, now + 1) || homework_is_open(&hw, KOLKATA, now + 1));
	FIELD_PUT(&hw, homework, status, HOMEWORK_ARCHIVED);
	assert_true(homework_is_visible(&hw, now + 1));
	assert_false(homework_is_open(&hw, KOLKATA, now + 1));
}

static void without_chosen_students_it_is_for_all(void **state)
{
	struct uuid chosen[] = {{{1}}, {{2}}}, other = {{3}};
	struct homework hw = due("2026-03-10");

	(void)state;
	assert_true(homework_is_for(&hw, other));
	FIELD_PUT(&hw, homework, student_ids, ((struct list){chosen, 2}));
	assert_true(homework_is_for(&hw, chosen[1]));
	assert_false(homework_is_for(&hw, other));
}

static size_t count(struct str array)
{
	struct str one;
	size_t n = 0;

	while (json_next(&array, &one))
		n++;
	return n;
}

static void each_version_is_kept_with_its_hash(void **state)
{
	struct arena *arena = arena_new();
	struct submission sub = {0};
	struct str history, first;

	(void)state;
	FIELD_PUT(&sub, submission, submission_text, STR("abc \"quoted\"\n"));
	FIELD_PUT(&sub, submission, submitted_at, at("2026-03-01T10:00:00Z"));
	FIELD_PUT(&sub, submission, status, SUBMISSION_GRADED);
	FIELD_PUT(&sub, submission, marks_obtained, 1750);
	assert_true(submission_keep(&sub, arena, &history));
	assert_int_equal(count(history), 1);
	first = history;
	assert_non_null(memmem(first.p, first.n, "\"submission_text\":\"abc \\\"quoted\\\"\\n\"", 34));
	assert_non_null(memmem(first.p, first.n, "\"marks_obtained\":17.5", 21));
	assert_non_null(memmem(first.p, first.n, "\"status\":\"graded\"", 17));
	FIELD_PUT(&sub, submission, history, history);
	/* The well-known hash of "abc". */
	FIELD_PUT(&sub, submission, submission_text, STR("abc"));
	assert_true(submission_keep(&sub, arena, &history));
	assert_int_equal(count(history), 2);
	assert_memory_equal(history.p, first.p, first.n - 1);
	assert_non_null(memmem(history.p, history.n, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", 64));
	arena_free(arena);
}

static void history_is_valid_json_even_of_nothing(void **state)
{
	struct arena *arena = arena_new();
	struct submission sub = {0};
	struct str history, one, rest;

	(void)state;
	FIELD_PUT(&sub, submission, history, STR("[]"));
	assert_true(submission_keep(&sub, arena, &history));
	rest = history;
	assert_true(json_next(&rest, &one));
	assert_int_equal(one.p[0], '{');
	assert_false(json_next(&rest, &one));
	arena_free(arena);
}

static void versions_are_bounded(void **state)
{
	struct arena *arena = arena_new();
	struct submission sub = {0};
	struct str history = {0};

	(void)state;
	FIELD_PUT(&sub, submission, submission_text, STR("x"));
	for (int i = 0; i < VERSIONS_MAX; i++) {
		assert_true(submission_keep(&sub, arena, &history));
		FIELD_PUT(&sub, submission, history, history);
	}
	assert_false(submission_keep(&sub, arena, &history));
	assert_int_equal(count(sub.history), VERSIONS_MAX);
	arena_free(arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_due_day_ends_at_midnight_of_the_school),
		cmocka_unit_test(summer_time_moves_the_end_of_the_day),
		cmocka_unit_test(an_unknown_zone_counts_in_utc),
		cmocka_unit_test(late_work_is_taken_until_the_closing_day_is_over),
		cmocka_unit_test(drafts_and_the_unpublished_are_neither_seen_nor_open),
		cmocka_unit_test(without_chosen_students_it_is_for_all),
		cmocka_unit_test(each_version_is_kept_with_its_hash),
		cmocka_unit_test(history_is_valid_json_even_of_nothing),
		cmocka_unit_test(versions_are_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
