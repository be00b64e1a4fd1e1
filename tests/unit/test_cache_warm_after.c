/* SPDX-License-Identifier: Apache-2.0 */
/* Warming behind a change (cache.md E3), and tables that are wrong. */
#include "unit/warm_world.h"

/* ---- E3 ---- */

static int64_t all_dropped(void)
{
	return kits[0]->daemon.warm->coalesced + kits[0]->daemon.warm->dropped;
}

/* The first daemon's clock stands still from here on, but for this: what is due in a moment waits, however slow the machine is. */
static void clock_on(int64_t ms)
{
	struct loop *loop = kits[0]->daemon.loop;

	loop_clock_set(loop, loop_mono_us(loop) + ms * US_PER_MS, loop_real_us(loop) + ms * US_PER_MS);
}

static void wait_for_runs(int n)
{
	for (int i = 0; i < 2000 && runs < n; i++)
		turn_both(1);
}

static void after_a_change_its_callers_page_is_there_a_moment_later(void **state)
{
	(void)state;
	assert_int_equal(kit_get(k, "/api/v1/things", AS("teacher", "t")).status, 200);
	assert_int_equal(runs, 1);
	clock_on(0);
	assert_int_equal(kit_json(k, "POST", "/api/v1/things?new", AS("teacher", "t"), "").status, 200);
	clock_on(WARM_AFTER_MS - 1);
	turn_both(50);
	assert_int_equal(runs, 1);
	clock_on(1);
	wait_for_runs(2);
	turn_both(50);
	assert_int_equal(runs, 2);
	assert_int_equal(kits[0]->daemon.warm->after.warmed, 1);
	assert_string_equal(kit_header(k, kit_get(k, "/api/v1/things", AS("teacher", "t")), "X-Cache"), "HIT");
	assert_string_equal(kit_header(k, kit_get(k, "/api/v1/things", AS("teacher", "u")), "X-Cache"),
			    "MISS"); /* nobody else's */
	assert_int_equal(runs, 3);
}

static void ten_changes_are_one_warming(void **state)
{
	(void)state;
	for (int i = 0; i < 10; i++) {
		clock_on(50);
		kit_json(k, "POST", "/api/v1/things?new", AS("teacher", "t"), "");
	}
	clock_on(99);
	turn_both(50);
	assert_int_equal(runs, 0);
	clock_on(1);
	wait_for_runs(1);
	turn_both(50);
	clock_on(1000);
	turn_both(50);
	assert_int_equal(runs, 1);
	assert_int_equal(all_dropped(), 9);
}

static void what_is_invalidated_again_is_not_warmed(void **state)
{
	(void)state;
	clock_on(0);
	kit_json(k, "POST", "/api/v1/things?new", AS("teacher", "t"), "");
	turn_both(20);
	kit_json(k, "POST", "/api/v1/things?quiet", AS("teacher", "u"), ""); /* another's list: it stays */
	assert_int_equal(all_dropped(), 0);
	kit_json(k, "POST", "/api/v1/things?quiet", AS("teacher", "t"), "");
	assert_int_equal(kits[0]->daemon.warm->dropped, 1);
	assert_int_equal(kits[0]->daemon.warm->n_waiting, 0);
	clock_on(1000);
	turn_both(100);
	assert_int_equal(runs, 0);
}

static void a_field_that_becomes_what_a_row_names_warms_its_detail(void **state)
{
	(void)state;
	kit_json(k, "POST", "/api/v1/things?draft", AS("teacher", "t"), "");
	turn_both(20);
	clock_on(1000);
	turn_both(50);
	assert_int_equal(runs, 0);
	kit_json(k, "POST", "/api/v1/things?active", AS("teacher", "t"), "");
	turn_both(20);
	clock_on(1000);
	wait_for_runs(1);
	turn_both(20);
	assert_string_equal(
		kit_header(k, kit_get(k, "/api/v1/things/09000000-0000-0000-0000-000000000000", AS("teacher", "t")), "X-Cache"),
		"HIT");
}

static void who_may_not_see_a_page_does_not_warm_it(void **state)
{
	(void)state;
	assert_int_equal(kit_json(k, "POST", "/api/v1/things?new", AS("student", "s"), "").status, 200);
	turn_both(20);
	clock_on(1000);
	turn_both(50);
	assert_int_equal(runs, 0);
	assert_true(kits[0]->daemon.warm->after.skipped == 1 && kits[0]->daemon.warm->after.failed == 0);
}

static void what_waits_ends_with_its_daemon(void **state)
{
	(void)state;
	kit_json(k, "POST", "/api/v1/things?new", AS("teacher", "t"), "");
	assert_int_equal(kits[0]->daemon.warm->n_waiting, 1); /* teardown closes, and finds no fiber left */
}

/* ---- tables ---- */

static const char *problems_of(const struct warm_row *row)
{
	const struct warm_row table[] = {*row, {NULL}};
	const struct service wrong = {.name = "tiny", .routes = routes, .warms = table};
	struct buf problems = buf_in(k->arena);

	cache_warm_check(&wrong, &problems);
	return buf_cstr(&problems);
}

static void a_persons_answer_is_made_for_that_person_alone(void **state)
{
	(void)state;
	assert_string_equal(problems_of(&warms[0]), "");
	assert_string_equal(problems_of(&warms[3]), "");
	assert_non_null(strstr(problems_of(&(struct warm_row){"x", "/me", .roles = ROLE_TEACHER, .when = WARM_AT_START}),
			       "a person's answer"));
	assert_non_null(strstr(problems_of(&(struct warm_row){"x", "/nothing", .roles = ROLE_TEACHER, .when = WARM_AT_START}),
			       "no kept route"));
	assert_non_null(
		strstr(problems_of(&(struct warm_row){"x", "/classes", .roles = ROLE_PARENT, .when = WARM_AT_START}), "roles"));
	assert_non_null(strstr(problems_of(&(struct warm_row){"x", "/classes", .roles = ROLE_TEACHER}), "never made"));
	assert_non_null(strstr(problems_of(&(struct warm_row){"x", "/things", .after = &thing_entity, .on = ON_DELETE}), ".on"));
	assert_non_null(strstr(problems_of(&(struct warm_row){"x", "/things", .after = &thing_entity, .on = ON_UPDATE,
							      .field = "colour", .becomes = "red"}),
			       ".field"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(after_a_change_its_callers_page_is_there_a_moment_later),
		T(ten_changes_are_one_warming),
		T(what_is_invalidated_again_is_not_warmed),
		T(a_field_that_becomes_what_a_row_names_warms_its_detail),
		T(who_may_not_see_a_page_does_not_warm_it),
		T(what_waits_ends_with_its_daemon),
		T(a_persons_answer_is_made_for_that_person_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
