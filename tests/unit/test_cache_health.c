/* SPDX-License-Identifier: Apache-2.0 */
/* Health of the cache (cache.md H5, H6): verdicts and rates on figures that a test makes. */
#include "unit/unit.h"

#include "base/log.h"
#include "base/timefmt.h"
#include "svc/cache_health.h"

/* ---- verdicts ---- */

static const struct health_limits warning = {.hit_rate = 80, .error_rate = 1, .latency_ms = 10, .memory = 80, .response_ms = 100};
static const struct health_limits critical = {
	.hit_rate = 60, .error_rate = 5, .latency_ms = 50, .memory = 95, .response_ms = 500};
static struct health_watch watch;
static int64_t now_us;

static const struct health_figures fine = {.hits = 900,
					   .misses = 100,
					   .operations = 1000,
					   .sampled = true,
					   .connected = true,
					   .hit_rate = 90,
					   .latency_ms = 1,
					   .memory = 50,
					   .response_ms = 5};

static int fresh(void **state)
{
	(void)state;
	watch = (struct health_watch){0};
	now_us = US_PER_S;
	return 0;
}

static enum health_level judge(struct health_figures f)
{
	now_us += 10 * US_PER_S;
	health_judge(&watch, &f, &warning, &critical, now_us);
	return health_overall(&watch);
}

static struct health_figures with_hit_rate(double rate)
{
	struct health_figures f = fine;

	f.hit_rate = rate;
	return f;
}

/* H5 */
static void each_figure_has_its_two_limits(void **state)
{
	struct health_figures f;

	(void)state;
	assert_int_equal(judge(fine), HEALTH_OK);
	assert_int_equal(judge(with_hit_rate(80)), HEALTH_OK);
	assert_int_equal(judge(with_hit_rate(79.9)), HEALTH_WARNING);
	assert_int_equal(judge(with_hit_rate(59.9)), HEALTH_CRITICAL);
	fresh(NULL);
	f = fine;
	f.error_rate = 1;
	assert_int_equal(judge(f), HEALTH_OK);
	f.error_rate = 1.1;
	assert_int_equal(judge(f), HEALTH_WARNING);
	f.error_rate = 5.1;
	assert_int_equal(judge(f), HEALTH_CRITICAL);
	fresh(NULL);
	f = fine;
	f.memory = 80.5;
	assert_int_equal(judge(f), HEALTH_WARNING);
	f.memory = 95.5; /* memory alone can be critical */
	assert_int_equal(judge(f), HEALTH_CRITICAL);
	fresh(NULL);
	f = fine;
	f.connected = false;
	assert_int_equal(judge(f), HEALTH_CRITICAL);
}

/* H5 */
static void a_single_slow_answer_is_no_alert_and_two_are(void **state)
{
	struct health_figures slow = fine;

	(void)state;
	slow.latency_ms = 51;
	assert_int_equal(judge(slow), HEALTH_OK);
	assert_int_equal(judge(fine), HEALTH_OK);
	assert_int_equal(judge(slow), HEALTH_OK);
	assert_int_equal(judge(slow), HEALTH_CRITICAL);
	slow = fine;
	slow.latency_ms = 11;
	assert_int_equal(judge(slow), HEALTH_WARNING);
	fresh(NULL);
	slow = fine;
	slow.response_ms = 101;
	judge(slow);
	assert_int_equal(judge(slow), HEALTH_WARNING);
	slow.response_ms = 501;
	judge(slow);
	assert_int_equal(judge(slow), HEALTH_CRITICAL);
}

/* H5 */
static void a_cold_start_is_not_critical(void **state)
{
	struct health_figures cold = {.connected = true, .operations = 99, .misses = 99, .hit_rate = 0, .error_rate = 100};

	(void)state;
	assert_int_equal(judge(cold), HEALTH_OK);
	cold.sampled = true;
	assert_int_equal(judge(cold), HEALTH_CRITICAL);
}

/* H5 */
static void an_alert_does_not_flutter_about_its_limit(void **state)
{
	(void)state;
	assert_int_equal(judge(with_hit_rate(79)), HEALTH_WARNING);
	for (int i = 0; i < 20; i++)
		assert_int_equal(judge(with_hit_rate(i % 2 != 0 ? 80.5 : 79.5)), HEALTH_WARNING);
	assert_int_equal(watch.n_past, 0);
	assert_int_equal(judge(with_hit_rate(82.1)), HEALTH_OK);
	assert_int_equal(watch.n_past, 1);
	assert_int_equal(judge(with_hit_rate(80.5)), HEALTH_OK);
}

/* H5 */
static void the_past_says_how_bad_it_was_and_when_it_was_over_and_is_bounded(void **state)
{
	const struct health_alert *a;

	(void)state;
	judge(with_hit_rate(75)); /* at 11 s */
	judge(with_hit_rate(50)); /* at 21 s */
	judge(with_hit_rate(70));
	judge(fine); /* at 41 s */
	assert_int_equal(watch.n_past, 1);
	a = &watch.past[0];
	assert_string_equal(a->rule->id, "cache.hit_rate");
	assert_int_equal(a->level, HEALTH_CRITICAL);
	assert_true(a->value == 50 && a->limit == 60);
	assert_int_equal(a->resolved_us - a->since_us, 30 * US_PER_S);
	for (int i = 0; i < 3 * HEALTH_PAST; i++) {
		judge(with_hit_rate(10));
		judge(fine);
	}
	assert_int_equal(watch.n_past, 1 + 3 * HEALTH_PAST);
	for (size_t i = 0; i < HEALTH_PAST; i++)
		assert_true(watch.past[i].resolved_us > 41 * US_PER_S);
}

/* H5 */
static void without_readers_an_alert_of_rates_ends(void **state)
{
	struct health_figures quiet = with_hit_rate(0);

	(void)state;
	assert_int_equal(judge(with_hit_rate(10)), HEALTH_CRITICAL);
	quiet.sampled = false;
	assert_int_equal(judge(quiet), HEALTH_OK);
}

/* ---- rates ---- */

/* H5 */
static void rates_are_those_of_the_window(void **state)
{
	struct health_sample then = {.mono_us = 0},
			     now = {.mono_us = 300 * US_PER_S, .redis = {.connected = true, .latency_us = 2500}};
	struct health_figures f;

	(void)state;
	then.stats.hits_redis = 1000000; /* of long ago */
	now.stats.hits_redis = 1000060;
	now.stats.hits_memory = 10;
	now.stats.stale = 10;
	now.stats.misses = 20;
	now.stats.bypassed = 100;
	now.stats.errors = 3;
	now.redis.used_bytes = 50;
	now.redis.most_bytes = 200;
	us_times_add(&now.hits, 1000);
	us_times_add(&now.misses, 3000);
	f = health_between(&then, &now, 200);
	assert_int_equal(f.hits, 80);
	assert_int_equal(f.misses, 20);
	assert_int_equal(f.operations, 200);
	assert_true(f.sampled);
	assert_true(f.hit_rate == 80 && f.error_rate == 50 && f.latency_ms == 2.5 && f.memory == 25 && f.response_ms == 2);
	assert_false(health_between(&then, &now, 201).sampled);
	now.redis.most_bytes = 0; /* without a limit the machine's memory is one */
	now.redis.machine_bytes = 100;
	assert_true(health_between(&then, &now, 1).memory == 50);
}

/* H6 */
static void times_fall_into_buckets_of_microseconds(void **state)
{
	struct us_times t = {0}, more = {0};

	(void)state;
	us_times_add(&t, 0);
	us_times_add(&t, 8);
	us_times_add(&t, 9);
	us_times_add(&t, 16);
	us_times_add(&t, 17);
	us_times_add(&t, us_bucket_us(US_BUCKETS - 1));
	us_times_add(&t, us_bucket_us(US_BUCKETS - 1) + 1);
	assert_int_equal(t.bucket[0], 2);
	assert_int_equal(t.bucket[1], 2);
	assert_int_equal(t.bucket[2], 1);
	assert_int_equal(t.bucket[US_BUCKETS - 1], 1);
	assert_int_equal(t.count, 7);
	for (int i = 0; i < 1000; i++)
		us_times_add(&more, 100 + i / 10); /* 100 to 199 µs */
	assert_true(us_times_quantile_us(&more, 0.5) > 64 && us_times_quantile_us(&more, 0.5) < 256);
	assert_true(us_times_quantile_us(&more, 0.5) <= us_times_quantile_us(&more, 0.99));
	assert_true(us_times_quantile_us(&(struct us_times){0}, 0.99) == 0);
}

#define V(fn) cmocka_unit_test_setup(fn, fresh)

int main(void)
{
	const struct CMUnitTest tests[] = {
		V(each_figure_has_its_two_limits),
		V(a_single_slow_answer_is_no_alert_and_two_are),
		V(a_cold_start_is_not_critical),
		V(an_alert_does_not_flutter_about_its_limit),
		V(the_past_says_how_bad_it_was_and_when_it_was_over_and_is_bounded),
		V(without_readers_an_alert_of_rates_ends),
		V(rates_are_those_of_the_window),
		V(times_fall_into_buckets_of_microseconds),
	};

	log_setup("test", LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
