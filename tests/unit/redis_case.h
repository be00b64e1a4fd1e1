/* SPDX-License-Identifier: Apache-2.0 */
/* What the programs that test the Redis client share: a server, a client and an arena for each test, and running on a fiber. */
#ifndef S24_UNIT_REDIS_CASE_H
#define S24_UNIT_REDIS_CASE_H

#include "unit/unit.h"

#include "base/str.h"
#include "io/fiber.h"
#include "io/redis.h"
#include "unit/real_redis.h"

static struct loop *loop;
static struct real_redis server;
static struct redis *redis;
static struct arena *arena;
static unsigned ended;
static enum err results[3];

static inline struct deadline in_ms(int64_t ms)
{
	return deadline_in(loop, ms);
}

static inline void open_with(const char *url, unsigned connections, int64_t grace_ms)
{
	const struct redis_conf conf = {.name = "test",
					.url = url,
					.connections = connections,
					.fault = ERR_BUFFER,
					.connect_ms = 300,
					.grace_ms = grace_ms};

	assert_int_equal(redis_open(loop, &conf, &redis), OK);
}

static inline int fresh(void **state)
{
	(void)state;
	ended = 0;
	loop = loop_new();
	arena = arena_new();
	real_redis_start(&server, NULL);
	open_with(server.url, 1, 2000);
	return 0;
}

static inline int stale(void **state)
{
	(void)state;
	assert_true(fiber_drain(loop, in_ms(5000)));
	redis = redis_close(redis);
	real_redis_stop(&server);
	arena_free(arena);
	loop = loop_free(loop);
	return 0;
}

/* Runs fn on a fiber to its end. */
static inline void on_fiber(void (*fn)(void *arg), void *arg)
{
	assert_int_equal(fiber_run(loop, "test", fn, arg), OK);
	assert_true(fiber_drain(loop, in_ms(20000)));
}

static inline void turns_until(bool (*is_so)(void), int64_t ms)
{
	for (int64_t i = 0; i < ms && !is_so(); i++)
		loop_turn(loop, 1000);
	assert_true(is_so());
}

static inline bool is_up(void)
{
	return redis_is_up(redis);
}

static inline enum err call(struct redis_args args, struct redis_reply *ret)
{
	return redis_call(redis, arena, in_ms(5000), args, ret);
}

static inline void one_set(void *arg)
{
	struct redis_reply r;

	results[(intptr_t)arg] = redis_call(redis, arena, in_ms(100), REDIS_ARGS(STR("SET"), STR("x"), STR("y")), &r);
	ended++;
}

static inline void increments(void *arg)
{
	struct redis_reply r;

	(void)arg;
	for (int i = 0; i < 50; i++)
		assert_int_equal(call(REDIS_ARGS(STR("INCR"), STR("n")), &r), OK);
	ended++;
}

static inline void counts(void *arg)
{
	struct redis_reply r;

	assert_int_equal(call(REDIS_ARGS(STR("GET"), STR("n")), &r), OK);
	assert_true(str_to_i64(r.s, arg));
	ended++;
}

#define T(name) cmocka_unit_test_setup_teardown(name, fresh, stale)

#endif
