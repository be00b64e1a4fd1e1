/* SPDX-License-Identifier: Apache-2.0 */
/* What the programs that test the cache share: a Redis, two engines (or CACHE_ENGINES) on it as processes would have them, and tests on a fiber. */
#ifndef S24_UNIT_CACHE_CASE_H
#define S24_UNIT_CACHE_CASE_H

#include "unit/unit.h"

#include "base/str.h"
#include "base/timefmt.h"
#include "cache/cache_internal.h"
#include "io/fiber.h"
#include "io/redis.h"
#include "unit/real_redis.h"

#ifndef CACHE_ENGINES
#define CACHE_ENGINES 2
#endif
/* What a call may take; long, for a busy machine is no fault of Redis'. */
#ifndef CACHE_CALL_MS
#define CACHE_CALL_MS 1000
#endif

static struct loop *loop;
static struct real_redis server;
static struct redis *redis[CACHE_ENGINES];
static struct cache *caches[CACHE_ENGINES];
static struct arena *arena;
static const struct uuid school = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}};
static int running; /* test fibers */

/* A failed assertion must not jump off a fiber's stack: it is noted, the fiber ends, and the test fails on its own stack. */
static const char *failure;
static int failure_line;
#define CHECK(cond)                              \
	do {                                     \
		if (!(cond)) {                   \
			failure = #cond;         \
			failure_line = __LINE__; \
			running--;               \
			return;                  \
		}                                \
	} while (0)
#define CACHE_TEST(name)                    \
	static void name##_body(void *arg); \
	static void name(void **state)      \
	{                                   \
		(void)state;                \
		run(name##_body);           \
	}                                   \
	static void name##_body(void *arg __attribute__((unused)))

static inline struct deadline in_ms(int64_t ms)
{
	return deadline_in(loop, ms);
}

static inline void start_fiber(fiber_fn fn, void *arg)
{
	running++;
	assert_int_equal(fiber_spawn(loop, "test", fn, arg), OK);
}

static inline bool both_up(void)
{
	for (int i = 0; i < CACHE_ENGINES; i++)
		if (!cache_stats(caches[i]).up || !cache_stats(caches[i]).news_up)
			return false;
	return true;
}

static inline void wait_until_up(void)
{
	for (int i = 0; i < 5000 && !both_up(); i++)
		loop_turn(loop, 1000);
	assert_true(both_up());
}

/* CACHE_TEST's body ends with running-- (CHECK and DONE do it). */
#define DONE() running--
static inline void run(fiber_fn body)
{
	int64_t give_up = loop_mono_us(loop) + 60 * US_PER_S;

	failure = NULL;
	running = 0;
	wait_until_up();
	start_fiber(body, NULL);
	while (running > 0 && loop_mono_us(loop) < give_up)
		loop_turn(loop, 1000);
	if (failure != NULL)
		fail_msg("line %d: %s", failure_line, failure);
	assert_int_equal(running, 0);
}

static inline int fresh(void **state)
{
	(void)state;
	loop = loop_new();
	arena = arena_new();
	real_redis_start(&server, NULL);
	for (int i = 0; i < CACHE_ENGINES; i++) {
		const struct redis_conf conf = {.name = "cache",
						.url = server.url,
						.connections = 1,
						.fault = ERR_CACHE,
						.connect_ms = 300,
						.grace_ms = 2000};
		struct cache_conf mine = {.url = server.url,
					  .env = "test",
					  .service = "homework",
					  .timeout_ms = CACHE_CALL_MS,
					  .memory_bytes = 4 << 20,
					  .codec = CODEC_SNAPPY,
					  .seed = 7};

		assert_int_equal(redis_open(loop, &conf, &redis[i]), OK);
		mine.redis = redis[i];
		assert_int_equal(cache_open(loop, &mine, &caches[i]), OK);
	}
	return 0;
}

static inline int stale(void **state)
{
	(void)state;
	real_redis_thaw(&server);
	for (int i = 0; i < CACHE_ENGINES; i++)
		cache_close(caches[i]);
	assert_true(fiber_drain(loop, in_ms(5000)));
	for (int i = 0; i < CACHE_ENGINES; i++) {
		caches[i] = cache_free(caches[i]);
		redis[i] = redis_close(redis[i]);
	}
	real_redis_stop(&server);
	arena_free(arena);
	loop = loop_free(loop);
	return 0;
}

/* ---- a source that counts ---- */
struct source {
	const char *text;
	enum err result;
	int64_t takes_ms;
	int calls;
};
static inline enum err source_fill(void *ctx, struct buf *out)
{
	struct source *s = ctx;
	const char *text = s->text; /* as it is when it is asked */

	s->calls++;
	if (s->takes_ms != 0 && sleep_ms(loop, s->takes_ms, in_ms(10000)) != OK)
		return ERR_CANCELLED;
	if (s->result == OK)
		buf_puts(out, str_of(text));
	return s->result;
}

static inline struct cache_call call_of(int engine, const char *name, const struct cache_tags *tags, struct source *s)
{
	struct str part = str_of(name);

	return (struct cache_call){.key = cache_key(caches[engine], arena, school, "thing", &part, 1),
				   .tags = tags,
				   .life = {.ttl_s = 60, .sie_s = 600, .negative_s = 10},
				   .fill = source_fill,
				   .ctx = s};
}

#define T(name) cmocka_unit_test_setup_teardown(name, fresh, stale)

#endif
