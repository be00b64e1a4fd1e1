/* SPDX-License-Identifier: Apache-2.0 */
/* Health and report of the cache (cache.md H3 to H7): a daemon's own answers. */
#include "kit_fixture.h"
#include "real_redis.h"

#include <jansson.h>
#include <math.h>

#include "base/log.h"
#include "base/timefmt.h"
#include "base/uuid.h"
#include "cache/cache_index.h"
#include "svc/cache_health.h"
#include "svc/cache_http.h"

/* ---- a daemon's answers ---- */

static struct uuid school = {{7, 7, 7}};
static bool broken;

static enum err who(struct req *req)
{
	req->who.school_id = school;
	memset(&req->who.user_id, 5, sizeof(req->who.user_id));
	return OK;
}

static enum err answer(struct req *req)
{
	if (broken)
		return ERR_DB;
	req_json_begin(req);
	req_json_text(req, "text",
		      STR("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"));
	req_json_end(req);
	return OK;
}

static enum err change(struct req *req)
{
	req_touch(req, "thing:", req->params[0]);
	return req_reply_message(req, "changed");
}

static enum err health(struct req *req)
{
	return who(req) == OK ? cache_health_answer(req) : ERR_BUG;
}

static enum err report(struct req *req)
{
	return who(req) == OK ? cache_report_answer(req) : ERR_BUG;
}

#define THING "01900000-0000-7000-8000-00000000000"
/* clang-format off */
static const struct route routes[] = {
	{HTTP_GET, "/things/{thing_id}", ROLE_ADMIN, MAY_CHECK(who), .handler = answer, .cache = {.policy = "redis", .ttl_s = 100, .tags = {"thing:{thing_id}"}, .vary = "school"}},
	{HTTP_POST, "/things/{thing_id}", ROLE_ADMIN, MAY_CHECK(who), .handler = change},
	{HTTP_GET, "/health", ROLE_ADMIN, MAY_SELF, .handler = health},
	{HTTP_GET, "/report", ROLE_ADMIN | ROLE_SUPER_ADMIN, MAY_SELF, .handler = report},
	ROUTE_END,
};
/* clang-format on */
static const struct service service = {.name = "tiny", .routes = routes, .flags = SERVICE_NO_PG | SERVICE_NO_BUFFER};

static struct real_redis server;
static struct kit *k;

static int setup(void **state)
{
	(void)state;
	broken = false;
	real_redis_start(&server, "maxmemory 100mb\nmaxmemory-policy allkeys-lru");
	setenv("REDIS_CACHE_URL", server.url, 1);
	setenv("CACHE_TIMEOUT_MS", "1000", 1);
	setenv("CACHE_JITTER_PERCENT", "0", 1);
	setenv("CACHE_HEALTH_MIN_SAMPLE", "10", 1);
	setenv("CACHE_HEALTH_CHECK_INTERVAL", "3600", 1); /* looks are the test's */
	setenv("CACHE_HEALTH_WINDOW", "7200", 1);
	k = kit_open(&service);
	for (int i = 0; i < 5000 && !(cache_stats(k->daemon.caches).up && cache_stats(k->daemon.caches).news_up); i++)
		loop_turn(k->daemon.loop, 1000);
	assert_true(cache_stats(k->daemon.caches).up);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	kit_close(k);
	real_redis_stop(&server);
	return 0;
}

#define ADMIN "Authorization: Bearer admin\r\n"

static void read_thing(int number)
{
	kit_get(k, arena_printf(k->arena, "/api/v1/things/" THING "%d", number), ADMIN);
}

static void later(int64_t s)
{
	loop_clock_set(k->daemon.loop, loop_mono_us(k->daemon.loop) + s * US_PER_S, loop_real_us(k->daemon.loop) + s * US_PER_S);
}

static json_t *ask(const char *path, const char *headers)
{
	struct kit_answer a = kit_get(k, path, headers);
	json_t *json = json_loadb(a.body.p, a.body.n, 0, NULL);

	assert_int_equal(a.status, 200);
	if (json == NULL)
		fail_msg("no JSON: %.*s", STR_FMT(a.body));
	return json;
}

static const json_t *at(const json_t *json, const char *path)
{
	struct str rest = str_of(path);

	while (rest.n != 0 && json != NULL)
		json = json_object_get(json, arena_cstr(k->arena, str_split(&rest, '.')));
	if (json == NULL)
		fail_msg("no %s", path);
	return json;
}

static double number(const json_t *json, const char *path)
{
	assert_true(json_is_number(at(json, path)));
	return json_number_value(at(json, path));
}

/* H4 */
static void health_has_its_shape_and_its_numbers_agree(void **state)
{
	json_t *h;

	(void)state;
	for (int i = 0; i < 20; i++)
		read_thing(i % 2);
	kit_send(k, kit_port(k), "POST", "/api/v1/things/" THING "0", ADMIN, STR(""));
	later(2);
	h = ask("/api/v1/health", ADMIN);
	assert_true(json_is_true(at(h, "success")));
	assert_string_equal(json_string_value(at(h, "data.health.overall")), "healthy");
	assert_true(json_is_true(at(h, "data.health.redis.connected")));
	assert_true(number(h, "data.health.redis.latency") >= 0);
	assert_true(number(h, "data.health.redis.memoryUsage") > 0 && number(h, "data.health.redis.memoryUsage") < 100);
	assert_true(number(h, "data.health.redis.keyCount") >= 4);
	assert_true(number(h, "data.health.cache.hitRate") == 90);
	assert_true(number(h, "data.health.cache.errorRate") == 0);
	assert_true(number(h, "data.health.cache.avgResponseTime") > 0);
	assert_true(number(h, "data.health.cache.totalOperations") == 20);
	assert_true(number(h, "data.metrics.hits") == 18 && number(h, "data.metrics.misses") == 2);
	assert_true(number(h, "data.metrics.hitRate") == 90);
	assert_true(number(h, "data.metrics.invalidations") == 1);
	assert_true(number(h, "data.metrics.errors") == 0 && number(h, "data.metrics.uptime") > 0);
	assert_true(number(h, "data.metrics.hits") + number(h, "data.metrics.misses") ==
		    number(h, "data.health.cache.totalOperations"));
	json_decref(h);
}

static uint64_t commands(void)
{
	return redis_stats(k->daemon.cache).commands;
}

/* H4 */
static void asking_often_costs_redis_three_commands_a_second(void **state)
{
	uint64_t before;

	(void)state;
	later(2);
	loop_clock_set(k->daemon.loop, loop_mono_us(k->daemon.loop),
		       loop_real_us(k->daemon.loop)); /* it stands still from here on */
	json_decref(ask("/api/v1/health", ADMIN));
	before = commands();
	for (int i = 0; i < 20; i++)
		json_decref(ask("/api/v1/health", ADMIN));
	assert_int_equal(commands(), before);
	later(1);
	json_decref(ask("/api/v1/health", ADMIN));
	assert_true(commands() >= before + 3 && commands() <= before + 4); /* PING, INFO, DBSIZE; and the keeper's own */
}

/* H5 */
static void a_bad_hit_rate_is_told_in_health_and_report_and_nowhere_else(void **state)
{
	json_t *h, *r;
	const json_t *advice;

	(void)state;
	for (int i = 0; i < 10; i++)
		read_thing(i);
	later(2);
	h = ask("/api/v1/health", ADMIN);
	assert_string_equal(json_string_value(at(h, "data.health.overall")), "critical");
	assert_string_equal(json_string_value(at(json_array_get(at(h, "data.alerts.active"), 0), "rule")), "cache.hit_rate");
	r = ask("/api/v1/report", ADMIN);
	/* H3: with its evidence */
	advice = json_array_get(at(r, "recommendations"), 0);
	assert_string_equal(json_string_value(at(advice, "rule")), "cache.hit_rate");
	assert_string_equal(json_string_value(at(advice, "severity")), "critical");
	assert_string_equal(json_string_value(at(advice, "category")), "performance");
	assert_true(json_string_length(at(advice, "message")) > 0 && json_string_length(at(advice, "action")) > 0);
	assert_true(number(advice, "evidence.value") == 0 && number(advice, "evidence.limit") == 60);
	assert_true(number(advice, "evidence.operations") == 10);
	assert_int_equal(kit_admin_get(k, "/health").status, 200);
	assert_int_equal(kit_admin_get(k, "/ready").status, 200);
	json_decref(h);
	json_decref(r);
}

/* H5 */
static void a_daemon_without_its_cache_is_critical_alive_and_ready(void **state)
{
	json_t *h;

	(void)state;
	read_thing(1);
	real_redis_kill(&server);
	for (int i = 0; i < 5000 && cache_stats(k->daemon.caches).up; i++)
		loop_turn(k->daemon.loop, 1000);
	for (int i = 0; i < 10; i++)
		read_thing(i);
	later(2);
	h = ask("/api/v1/health", ADMIN);
	assert_string_equal(json_string_value(at(h, "data.health.overall")), "critical");
	assert_true(json_is_false(at(h, "data.health.redis.connected")));
	assert_true(json_is_null(at(h, "data.health.redis.latency")));
	assert_true(number(h, "data.health.cache.errorRate") > 50);
	assert_int_equal(kit_admin_get(k, "/health").status, 200);
	assert_int_equal(kit_admin_get(k, "/ready").status, 200);
	json_decref(h);
}

/* H3 */
static void the_report_has_its_own_rates_times_keys_and_a_history(void **state)
{
	json_t *r;
	const json_t *top;

	(void)state;
	for (int i = 0; i < 12; i++)
		read_thing(i % 3 == 0 ? 1 : 2);
	for (int i = 0; i < 5; i++) {
		later(61);
		r = ask("/api/v1/report", ADMIN);
		if (i < 4)
			json_decref(r);
	}
	assert_true(json_is_string(at(r, "data.timestamp")));
	assert_true(fabs(number(r, "data.performance_metrics.hit_rate") - 100.0 * 10 / 12) < 0.01);
	assert_true(number(r, "data.performance_metrics.lookup.p50_ms") <= number(r, "data.performance_metrics.lookup.p99_ms"));
	assert_true(number(r, "data.performance_metrics.hit.count") == 10 &&
		    number(r, "data.performance_metrics.miss.count") == 2);
	top = at(r, "data.performance_metrics.top_keys");
	assert_int_equal(json_array_size(top), 2);
	assert_true(number(json_array_get(top, 0), "hits") == 7 && number(json_array_get(top, 1), "hits") == 3);
	assert_true(number(r, "data.redis_stats.max_memory") == 104857600 && number(r, "data.redis_stats.used_memory") > 0);
	assert_true(json_is_number(at(r, "data.redis_stats.server_wide.keyspace_hits")));
	assert_true(json_is_number(at(r, "data.query_cache_stats.total_cached_queries")));
	assert_true(json_is_number(at(r, "data.invalidation_stats.registered_tags")));
	assert_true(json_array_size(at(r, "data.history")) >= 5);
	assert_true(json_is_string(at(json_array_get(at(r, "data.history"), 0), "timestamp")));
	json_decref(r);
}

static void keys_of_other_schools_are_shown_to_nobody_but_the_platform(void **state)
{
	json_t *r;

	(void)state;
	read_thing(1);
	read_thing(1);
	school.b[0] = 8;
	r = ask("/api/v1/report", ADMIN);
	assert_int_equal(json_array_size(at(r, "data.performance_metrics.top_keys")), 0);
	json_decref(r);
	r = ask("/api/v1/report", "Authorization: Bearer super_admin\r\n");
	assert_int_equal(json_array_size(at(r, "data.performance_metrics.top_keys")), 1);
	json_decref(r);
	school.b[0] = 7;
}

/* ---- H6 ---- */

static void metrics_tell_what_happened_by_namespace(void **state)
{
	struct str text;

	(void)state;
	for (int i = 0; i < 4; i++)
		read_thing(1);
	kit_send(k, kit_port(k), "POST", "/api/v1/things/" THING "1", ADMIN, STR(""));
	broken = true;
	read_thing(1);
	later(2);
	json_decref(ask("/api/v1/health", ADMIN));
	text = kit_admin_get(k, "/metrics").body;
	assert_holds(
		text,
		"schools24_cache_requests_total{namespace=\"http\",level=\"redis\",result=\"hit\"} 0\n"); /* the first process's own memory has it */
	assert_holds(text, "schools24_cache_requests_total{namespace=\"http\",level=\"memory\",result=\"hit\"} 3\n");
	assert_holds(text, "schools24_cache_requests_total{namespace=\"http\",level=\"none\",result=\"miss\"} 2\n");
	assert_holds(text, "schools24_cache_fills_total{namespace=\"http\"} 1\n");
	assert_holds(text, "schools24_cache_fill_errors_total{namespace=\"http\"} 1\n");
	assert_holds(text, "schools24_cache_invalidations_total{namespace=\"thing\"} 1\n");
	assert_holds(text, "schools24_invalidation_total{reason=\"change\"} 1\n");
	assert_holds(text, "schools24_cache_lookup_duration_seconds_bucket{level=\"memory\",le=\"0.000008\"} ");
	assert_holds(text, "schools24_cache_lookup_duration_seconds_count{level=\"memory\"} 3\n");
	assert_holds(text, "schools24_cache_read_duration_seconds_count{result=\"miss\"} 2\n");
	assert_holds(text, "\nschools24_cache_circuit_open 0\n");
	assert_holds(text, "\nschools24_cache_journal_tags 0\n");
	assert_holds(text, "\nschools24_cache_index_tags ");
	assert_holds(text, "\nredis_cache_hit_rate 0.6\n");
	assert_holds(text, "\nredis_compression_ratio 1.");
	assert_holds(text, "\nschools24_cache_alert_level 0\n");
}

/* ---- H7 ---- */

static struct cache_observed seen[64];
static size_t n_seen;
static uint64_t n_lost;
static int tellings;

static void note_events(void *ctx, const struct cache_observed *v, size_t n, uint64_t lost)
{
	(void)ctx;
	for (size_t i = 0; i < n && n_seen < ARRAY_LEN(seen); i++)
		seen[n_seen++] = v[i];
	n_lost += lost;
	tellings++;
}

static size_t count_seen(enum cache_event what)
{
	size_t n = 0;

	for (size_t i = 0; i < n_seen; i++)
		n += seen[i].what == what;
	return n;
}

static void observers_are_told_of_everything_later_and_in_order(void **state)
{
	(void)state;
	n_seen = n_lost = 0;
	tellings = 0;
	cache_observe(k->daemon.caches, note_events, NULL);
	read_thing(1);
	read_thing(1);
	kit_send(k, kit_port(k), "POST", "/api/v1/things/" THING "1", ADMIN, STR(""));
	for (int i = 0; i < 50; i++)
		loop_turn(k->daemon.loop, 1000);
	assert_true(tellings > 0);
	assert_int_equal(count_seen(CACHE_ON_MISS), 1);
	assert_int_equal(count_seen(CACHE_ON_SET), 1);
	assert_int_equal(count_seen(CACHE_ON_HIT_MEMORY), 1);
	assert_int_equal(count_seen(CACHE_ON_INVALIDATE), 1);
	assert_int_equal(seen[0].what, CACHE_ON_MISS);
	assert_non_null(strstr(seen[0].key, ":http:"));
	assert_int_equal(seen[n_seen - 1].what, CACHE_ON_INVALIDATE);
	assert_true(strncmp(seen[n_seen - 1].key, "thing:", 6) == 0);
	assert_int_equal(n_lost, 0);
	cache_observe(k->daemon.caches, NULL, NULL);
	n_seen = 0;
	read_thing(1);
	assert_int_equal(n_seen, 0);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(health_has_its_shape_and_its_numbers_agree),
		T(asking_often_costs_redis_three_commands_a_second),
		T(a_bad_hit_rate_is_told_in_health_and_report_and_nowhere_else),
		T(a_daemon_without_its_cache_is_critical_alive_and_ready),
		T(the_report_has_its_own_rates_times_keys_and_a_history),
		T(keys_of_other_schools_are_shown_to_nobody_but_the_platform),
		T(metrics_tell_what_happened_by_namespace),
		T(observers_are_told_of_everything_later_and_in_order),
	};

	log_setup("test", LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
