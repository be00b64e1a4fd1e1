/* SPDX-License-Identifier: Apache-2.0 */
/* Who may be claimed, and how full a buffer is. */
#include "unit/unit.h"

#include "plan.h"

static const char service_a, service_b;

static void children_wait_for_a_young_backlog_of_parents(void **state)
{
	struct plan_row rows[] = {
		{.service = &service_a, .level = 3, .due = 5},
		{.service = &service_a, .level = 2, .due = 1},
		{.service = &service_b, .level = 3, .due = 2},
		{.service = &service_a, .level = 2, .due = 0},
	};

	(void)state;
	plan_levels(rows, ARRAY_LEN(rows));
	assert_false(rows[0].claim);
	assert_true(rows[1].claim);
	assert_true(rows[2].claim);
	assert_false(rows[3].claim);
	rows[1].overdue = 1;
	plan_levels(rows, ARRAY_LEN(rows));
	assert_true(rows[0].claim);
	rows[1].overdue = 0;
	rows[1].paused = true;
	plan_levels(rows, ARRAY_LEN(rows));
	assert_true(rows[0].claim);
	assert_false(rows[1].claim);
}

static void a_child_older_than_the_interval_waits_for_nobody(void **state)
{
	struct plan_row rows[] = {
		{.service = &service_a, .level = 3, .due = 5, .late = true},
		{.service = &service_a, .level = 2, .due = 1},
		{.service = &service_a, .level = 3, .due = 5, .late = true, .paused = true},
		{.service = &service_a, .level = 3, .due = 0, .late = true},
	};

	(void)state;
	plan_levels(rows, ARRAY_LEN(rows));
	assert_true(rows[0].claim);
	assert_true(rows[1].claim);
	assert_false(rows[2].claim);
	assert_false(rows[3].claim);
}

static void pressure_has_its_marks_for_records_and_for_memory(void **state)
{
	static const struct {
		int64_t backlog, used, most;
		enum pressure want;
	} cases[] = {
		{0, 0, 0, PRESSURE_NONE},
		{200, 1, 1000000, PRESSURE_NONE},
		{201, 1, 1000000, PRESSURE_HIGH},
		{500, 1, 1000000, PRESSURE_HIGH},
		{501, 1, 1000000, PRESSURE_FULL},
		{0, 600000, 1000000, PRESSURE_NONE},
		{0, 600001, 1000000, PRESSURE_HIGH},
		{0, 850000, 1000000, PRESSURE_HIGH},
		{0, 850001, 1000000, PRESSURE_FULL},
		{201, 850001, 1000000, PRESSURE_FULL},
		{0, INT64_MAX / 2, 0, PRESSURE_NONE}, /* no limit: the records alone count */
		{0, INT64_C(1) << 50, INT64_C(1) << 50, PRESSURE_FULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct fullness f = {cases[i].backlog, 200, 500, cases[i].used, cases[i].most};

		if (plan_pressure(PRESSURE_NONE, &f) != cases[i].want)
			fail_msg("case %zu: %d", i, (int)plan_pressure(PRESSURE_NONE, &f));
	}
}

static void pressure_is_left_well_below_its_mark(void **state)
{
	struct fullness f = {195, 200, 500, 0, 0};

	(void)state;
	assert_int_equal(plan_pressure(PRESSURE_NONE, &f), PRESSURE_NONE);
	assert_int_equal(plan_pressure(PRESSURE_HIGH, &f), PRESSURE_HIGH);
	f.backlog = 180;
	assert_int_equal(plan_pressure(PRESSURE_HIGH, &f), PRESSURE_NONE);
	f.backlog = 451;
	assert_int_equal(plan_pressure(PRESSURE_FULL, &f), PRESSURE_FULL);
	assert_int_equal(plan_pressure(PRESSURE_HIGH, &f), PRESSURE_HIGH);
	f.backlog = 450;
	assert_int_equal(plan_pressure(PRESSURE_FULL, &f), PRESSURE_HIGH);
	f = (struct fullness){0, 200, 500, 541000, 1000000};
	assert_int_equal(plan_pressure(PRESSURE_NONE, &f), PRESSURE_NONE);
	assert_int_equal(plan_pressure(PRESSURE_HIGH, &f), PRESSURE_HIGH);
	f.used_bytes = 540000;
	assert_int_equal(plan_pressure(PRESSURE_HIGH, &f), PRESSURE_NONE);
	f = (struct fullness){.high_mark = 1, .limit = 1}; /* marks as small as they come are left too */
	assert_int_equal(plan_pressure(PRESSURE_FULL, &f), PRESSURE_NONE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(children_wait_for_a_young_backlog_of_parents),
		cmocka_unit_test(a_child_older_than_the_interval_waits_for_nobody),
		cmocka_unit_test(pressure_has_its_marks_for_records_and_for_memory),
		cmocka_unit_test(pressure_is_left_well_below_its_mark),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
