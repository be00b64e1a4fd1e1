/* SPDX-License-Identifier: Apache-2.0 */
/* The blocking client against a real server: replies, scripts, reconnection, and what a loss means. */
#include "unit/unit.h"

#include <pthread.h>

#include "base/str.h"
#include "io/redis_sync.h"
#include "unit/real_redis.h"

static struct real_redis server;
static struct redis_sync *redis;
static struct arena *arena;

static int fresh(void **state)
{
	(void)state;
	arena = arena_new();
	real_redis_start(&server, NULL);
	assert_int_equal(redis_sync_open(server.url, 200, &redis), OK);
	return 0;
}

static int stale(void **state)
{
	(void)state;
	redis = redis_sync_close(redis);
	real_redis_stop(&server);
	arena_free(arena);
	return 0;
}

static enum err set(void)
{
	struct redis_reply r;

	return redis_sync_call(redis, arena, REDIS_ARGS(STR("SET"), STR("k"), STR("v\0w")), &r);
}

static void replies_come_back(void **state)
{
	struct redis_reply r;

	(void)state;
	assert_int_equal(set(), OK);
	assert_int_equal(redis_sync_call(redis, arena, REDIS_ARGS(STR("GET"), STR("k")), &r), OK);
	assert_str(r.s, STR("v\0w"));
	assert_int_equal(redis_sync_call(redis, arena, REDIS_ARGS(STR("HSET"), STR("k"), STR("a"), STR("b")), &r), OK);
	assert_int_equal(r.type, REDIS_ERROR);
	assert_true(str_has_prefix(r.s, STR("WRONGTYPE")));
}

static void a_script_is_loaded_when_it_is_unknown(void **state)
{
	struct redis_script script = {.name = "s", .text = "return ARGV[1] .. '!'"};
	struct redis_reply r;

	(void)state;
	assert_int_equal(redis_sync_call(redis, arena, REDIS_ARGS(STR("SCRIPT"), STR("LOAD"), str_of(script.text)), &r), OK);
	memcpy(script.sha, r.s.p, 40);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(redis_sync_call(redis, arena, REDIS_ARGS(STR("SCRIPT"), STR("FLUSH")), &r), OK);
		assert_int_equal(redis_sync_script(redis, &script, REDIS_ARGS(STR("hello")), arena, &r), OK);
		assert_str(r.s, STR("hello!"));
	}
	memset(script.sha, 'a', 40);
	assert_int_equal(redis_sync_script(redis, &script, REDIS_ARGS(STR("hello")), arena, &r), ERR_BUFFER);
}

static void a_server_that_is_away_is_a_fault_and_comes_back(void **state)
{
	(void)state;
	assert_int_equal(set(), OK);
	real_redis_kill(&server);
	assert_int_equal(set(), ERR_BUFFER);
	assert_true(strlen(redis_sync_error(redis)) > 0);
	real_redis_again(&server);
	assert_int_equal(set(), OK);
}

static void a_restarted_server_is_noticed_before_the_next_command(void **state)
{
	(void)state;
	assert_int_equal(set(), OK);
	real_redis_kill(&server);
	real_redis_again(&server);
	assert_int_equal(set(), OK);
}

static void a_frozen_server_is_a_timeout_and_its_late_answer_is_not_taken_for_another(void **state)
{
	struct redis_reply r;

	(void)state;
	assert_int_equal(set(), OK);
	real_redis_freeze(&server);
	assert_int_equal(redis_sync_call(redis, arena, REDIS_ARGS(STR("INCR"), STR("n")), &r), ERR_TIMEOUT);
	real_redis_thaw(&server);
	assert_int_equal(redis_sync_call(redis, arena, REDIS_ARGS(STR("GET"), STR("k")), &r), OK);
	assert_str(r.s, STR("v\0w"));
}

static void *kills_later(void *arg)
{
	nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
	real_redis_kill(&server);
	return arg;
}

static void a_server_killed_before_its_answer_leaves_the_command_uncertain(void **state)
{
	struct redis_reply r;
	pthread_t thread;

	(void)state;
	assert_int_equal(set(), OK);
	pthread_create(&thread, NULL, kills_later, NULL);
	assert_int_equal(redis_sync_call(redis, arena, REDIS_ARGS(STR("BLPOP"), STR("nothing"), STR("0")), &r), ERR_UNCERTAIN);
	pthread_join(thread, NULL);
}

static void addresses_and_passwords_are_checked(void **state)
{
	struct redis_sync *r = NULL;
	char url[160];

	(void)state;
	assert_int_equal(redis_sync_open("rediss://localhost", 100, &r), ERR_INVALID);
	assert_null(r);
	redis_sync_close(redis);
	real_redis_stop(&server);
	real_redis_start(&server, "requirepass secret");
	assert_int_equal(redis_sync_open(server.url, 200, &redis), OK);
	assert_int_equal(set(), ERR_BUFFER);
	assert_true(str_has_prefix(str_of(redis_sync_error(redis)), STR("NOAUTH")));
	redis_sync_close(redis);
	snprintf(url, sizeof(url), "unix://:secret@%s?db=5", server.path);
	assert_int_equal(redis_sync_open(url, 200, &redis), OK);
	assert_int_equal(set(), OK);
}

#define T(name) cmocka_unit_test_setup_teardown(name, fresh, stale)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(replies_come_back),
		T(a_script_is_loaded_when_it_is_unknown),
		T(a_server_that_is_away_is_a_fault_and_comes_back),
		T(a_restarted_server_is_noticed_before_the_next_command),
		T(a_frozen_server_is_a_timeout_and_its_late_answer_is_not_taken_for_another),
		T(a_server_killed_before_its_answer_leaves_the_command_uncertain),
		T(addresses_and_passwords_are_checked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
