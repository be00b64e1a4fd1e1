/* SPDX-License-Identifier: Apache-2.0 */
/* Warming (cache.md E1, E2): what is warmed is what the next reader finds, and a job runs once in the fleet. */
#include "unit/warm_world.h"

/* ---- E1 ---- */

static void what_is_warmed_is_what_readers_find_with_no_call_of_the_source(void **state)
{
	struct cache_note note;

	(void)state;
	make_active(0);
	ticks(true, false, true);
	assert_int_equal(runs, 2); /* each role has its own */
	assert_int_equal(job(0)->result.warmed, 2);
	note = read_as(1, ROLE_TEACHER, "/api/v1/classes"); /* in another process */
	assert_int_equal(note.state, CACHE_HIT);
	note = read_as(1, ROLE_STUDENT, "/api/v1/classes");
	assert_int_equal(note.state, CACHE_HIT);
	assert_int_equal(runs, 2);
	assert_true(note.fresh_until_us - note.written_us == 100 * US_PER_S); /* the route's own lifetime */
	assert_int_equal(cache_stats(kits[0]->daemon.caches).misses, 0);      /* a warming is nobody's miss */
	assert_int_equal(cache_stats(kits[0]->daemon.caches).fills, 2);
}

/* The tokens of these tests name no school, so its answers are those of the school of no name. */
static void a_reader_over_http_finds_it_by_the_same_key(void **state)
{
	const struct uuid mine = school;

	(void)state;
	school = (struct uuid){{0}};
	make_active(0);
	ticks(true, false, true);
	school = mine;
	assert_int_equal(runs, 2);
	for (int i = 0; i < 2; i++) {
		k = kits[i];
		assert_string_equal(kit_header(k, kit_get(k, "/api/v1/classes", AS("teacher", "t")), "X-Cache"), "HIT");
		assert_string_equal(kit_header(k, kit_get(k, "/api/v1/classes?x=1", AS("student", "s")), "X-Cache"), "HIT");
	}
	assert_int_equal(runs, 2);
	assert_int_equal(cache_stats(kits[1]->daemon.caches).misses, 0);
}

static void nothing_is_warmed_where_nobody_is_active(void **state)
{
	(void)state;
	ticks(true, false, true);
	assert_int_equal(runs, 0);
	assert_string_equal(job(0)->row->name, "classes");
	assert_true(job(0)->last_ms != 0);
}

static void what_is_there_is_skipped_and_what_fails_is_counted(void **state)
{
	(void)state;
	make_active(0);
	read_as(0, ROLE_TEACHER, "/api/v1/classes");
	ticks(true, false, true);
	assert_true(job(0)->result.warmed == 1 && job(0)->result.skipped == 1 && job(0)->result.failed == 0);
	assert_int_equal(runs, 2);
}

static void a_source_that_fails_and_an_answer_that_cannot_be_kept_are_failures(void **state)
{
	(void)state;
	make_active(0);
	broken = true;
	ticks(true, false, true);
	assert_int_equal(job(0)->result.failed, 2);
	assert_true(job(0)->failed);
	broken = false;
	not_lasting = true;
	forget_table();
	runs = 0;
	ticks(true, false, true);
	assert_int_equal(runs, 2);
	assert_int_equal(job(0)->result.failed, 2);
	assert_int_equal(job(0)->result.warmed, 0);
}

static struct kit_answer warm(const char *body)
{
	return kit_json(k, "POST", "/api/v1/warm", AS("super_admin", "s"), body);
}

/* E1: bounded, and twice at once is once */
static void demands_are_bounded_and_respect_who_fills(void **state)
{
	struct kit_answer a;

	(void)state;
	make_active(0);
	ticks(true, false, true); /* tells Redis who is active */
	takes_ms = 20;
	a = warm("{\"critical_queries\": [\"slow\"]}");
	assert_int_equal(a.status, 200);
	assert_holds(a.body, "\"warmed\":5,\"skipped\":0,\"failed\":0");
	assert_int_equal(most_together, 2);
	assert_holds(warm("").body, "\"warmed\":0,\"skipped\":7,\"failed\":0");
	assert_int_equal(warm("{\"critical_queries\": [\"SELECT 1\"]}").status, 422);
}

/* E1: a reader and a warming of the same thing are one call of the source */
static void a_warming_joins_a_readers_filling(void **state)
{
	struct read r = {.kit = kits[1], .role = ROLE_TEACHER, .target = "/api/v1/classes"};

	(void)state;
	make_active(0);
	takes_ms = 50;
	assert_int_equal(fiber_spawn(kits[1]->daemon.loop, "read", read_fiber, &r), OK);
	for (int i = 0; i < 1000 && together == 0; i++)
		turn_both(1);
	ticks(true, false, true);
	for (int i = 0; i < 5000 && !r.done; i++)
		turn_both(1);
	assert_int_equal(runs, 2); /* teacher by the reader, student by the job */
	assert_true(job(0)->result.warmed == 1 && job(0)->result.skipped == 1);
}

/* ---- E2 ---- */

static void a_job_runs_once_in_the_fleet_and_both_know_of_it(void **state)
{
	int64_t interval_ms;

	(void)state;
	make_active(0);
	make_active(1);
	takes_ms = 30; /* they meet */
	ticks(true, true, false);
	assert_int_equal(runs, 2);
	assert_int_equal(job(0)->runs + job(1)->runs, 1);
	ticks(true, true, false);
	assert_int_equal(runs, 2); /* not due */
	assert_int_equal(job(0)->last_ms, job(1)->last_ms);
	assert_int_equal(job(0)->next_ms, job(1)->next_ms);
	assert_int_equal(job(1)->result.warmed, 2);
	assert_true(job(0)->took_ms >= 30);
	interval_ms = job(0)->next_ms - job(0)->last_ms;
	assert_true(interval_ms >= 540000 && interval_ms <= 660000); /* a tenth sooner or later */
}

static void intervals_differ_from_run_to_run(void **state)
{
	int64_t first;

	(void)state;
	ticks(true, false, true);
	first = job(0)->next_ms - job(0)->last_ms;
	for (int i = 0; i < 3; i++) {
		forget_table();
		job(0)->next_ms = 0;
		ticks(true, false, false);
		if (job(0)->next_ms - job(0)->last_ms != first)
			return;
	}
	fail_msg("four intervals are the same to the millisecond");
}

static void a_dead_processs_lock_ends_by_itself(void **state)
{
	(void)state;
	make_active(0);
	say(REDIS_ARGS(STR("SET"), LOCK, STR("a dead one's"), STR("PX"), STR("60000")));
	ticks(true, true, false);
	assert_int_equal(runs, 0);
	say(REDIS_ARGS(STR("PEXPIRE"), LOCK, STR("1"))); /* a minute later */
	turn_both(20);
	ticks(true, true, false);
	assert_int_equal(runs, 2);
}

/* Who has lost his lock does not take another's away, nor write into the table what may be older. */
static void a_run_without_its_lock_is_not_noted(void **state)
{
	(void)state;
	make_active(0);
	takes_ms = 200;
	steals = true;
	ticks(true, false, false);
	assert_int_equal(runs, 2);
	assert_int_equal(say(REDIS_ARGS(STR("HEXISTS"), TABLE, STR("classes"))).i, 0);
	assert_true(str_is(say(REDIS_ARGS(STR("GET"), LOCK)).s, "another's"));
}

static void a_paused_job_does_not_run_anywhere_until_it_is_resumed(void **state)
{
	struct kit_answer a;

	(void)state;
	make_active(1);
	assert_int_equal(kit_json(k, "POST", "/api/v1/warm", AS("admin", "s"), "{\"pause\": [\"classes\"]}").status, 403);
	a = warm("{\"pause\": [\"classes\"]}");
	assert_int_equal(a.status, 200);
	assert_holds(a.body, "\"paused\":true");
	ticks(true, true, false);
	ticks(true, true, true);
	assert_int_equal(runs, 0);
	a = warm("{\"resume\": [\"classes\"]}");
	assert_holds(a.body,
		     "{\"name\":\"classes\",\"path\":\"/classes\",\"interval_s\":600,\"last_run\":null,\"next_run\":null,");
	assert_lacks(a.body, "\"paused\":true");
	ticks(true, true, false);
	assert_int_equal(runs, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(what_is_warmed_is_what_readers_find_with_no_call_of_the_source),
		T(a_reader_over_http_finds_it_by_the_same_key),
		T(nothing_is_warmed_where_nobody_is_active),
		T(what_is_there_is_skipped_and_what_fails_is_counted),
		T(a_source_that_fails_and_an_answer_that_cannot_be_kept_are_failures),
		T(demands_are_bounded_and_respect_who_fills),
		T(a_warming_joins_a_readers_filling),
		T(a_job_runs_once_in_the_fleet_and_both_know_of_it),
		T(intervals_differ_from_run_to_run),
		T(a_dead_processs_lock_ends_by_itself),
		T(a_run_without_its_lock_is_not_noted),
		T(a_paused_job_does_not_run_anywhere_until_it_is_resumed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
