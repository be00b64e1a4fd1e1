/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cache's Redis behind a gate: what is slow or away is not asked again until a probe has been answered, and what was raised meanwhile is
 * in a journal that is written out before anything is read again.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/str.h"
#include "base/timefmt.h"
#include "base/uuid.h"
#include "cache/cache_internal.h"
#include "cache_lua.h"
#include "io/fiber.h"

/* In a row: the gate shuts. At once where Redis has said nothing at all meanwhile, for the request would wait again at its next call. */
#define FAILURES_MAX 3
#define PROBE_MS 250    /* of a shut gate */
#define POLL_MS 1000    /* of the generation, should its message be lost */
#define POLL_SOON_MS 40 /* while there is something in memory that is given out unasked */
#define TRUST_US 100000 /* so old may the last sign of life be for that */
#define REPLAY_MS 1000  /* a journal's call may take longer than a request would wait */

uint64_t cache_random(struct cache *c)
{
	uint64_t z = c->random += UINT64_C(0x9E3779B97F4A7C15);

	z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
	return z ^ z >> 31;
}

/* ---- the gate ---- */

bool link_is_open(const struct cache *c)
{
	return !c->shut && !c->journal.all && !c->journal.replaying && c->journal.set.n == 0;
}

enum err link_judge(struct cache *c, enum err e, const struct redis_reply *reply, int64_t sent_us)
{
	if (e == ERR_CANCELLED)
		return e; /* the caller has gone; it says nothing about Redis */
	if (e == OK)
		c->alive_us = loop_mono_us(c->loop);
	if (e == OK && reply->type != REDIS_ERROR) {
		c->failures = 0;
		return OK;
	}
	c->stats.errors++;
	count_event(c, CACHE_ON_ERROR, STR(""));
	c->failures = e == ERR_TIMEOUT && c->alive_us <= sent_us ? FAILURES_MAX : c->failures + 1;
	if (c->failures >= FAILURES_MAX && !c->shut) {
		c->shut = true;
		log_warn("the cache is not asked any more", LOG_S("why", redis_last_error(c->conf.redis)));
		waitq_wake(&c->wake, SIZE_MAX, OK);
	}
	return ERR_CACHE;
}

/* What was raised before Redis worked on this call has been told by now; before it was sent is the best that is known of that moment. */
static enum err heard(struct cache *c, enum err e, int64_t sent_us)
{
	if (e == OK && sent_us > c->heard_us)
		c->heard_us = sent_us;
	return e;
}

/* What a request may wait: its own patience says nothing about Redis, ours does. */
static enum err judge_call(struct cache *c, enum err e, struct deadline of_caller, int64_t from_us,
			   const struct redis_reply *reply)
{
	if (e == ERR_TIMEOUT && of_caller.at_us < from_us + c->conf.timeout_ms * 1000)
		return ERR_CACHE;
	return heard(c, link_judge(c, e, reply, from_us), from_us);
}

enum err link_call(struct cache *c, struct arena *arena, struct deadline d, struct redis_args args, struct redis_reply *ret)
{
	struct deadline mine = deadline_sooner(d, deadline_in(c->loop, c->conf.timeout_ms));
	int64_t from = loop_mono_us(c->loop);

	if (c->shut)
		return ERR_CACHE;
	return judge_call(c, redis_call(c->conf.redis, arena, mine, args, ret), d, from, ret);
}

enum err link_script(struct cache *c, struct arena *arena, struct deadline d, const struct redis_script *script,
		     struct redis_args args, struct redis_reply *ret)
{
	struct deadline mine = deadline_sooner(d, deadline_in(c->loop, c->conf.timeout_ms));
	int64_t from = loop_mono_us(c->loop);

	if (c->shut)
		return ERR_CACHE;
	return judge_call(c, redis_script_call(c->conf.redis, script, args, arena, mine, ret), d, from, ret);
}

bool link_is_trusted(const struct cache *c)
{
	return link_is_open(c) && redis_sub_is_up(c->news) && loop_mono_us(c->loop) - c->heard_us < TRUST_US;
}

/* ---- the generation of names ---- */

static void set_generation(struct cache *c, int64_t generation)
{
	if (generation == c->generation)
		return;
	if (c->generation != 0)
		memory_forget(&c->memory);
	c->generation = generation;
	snprintf(c->prefix, sizeof(c->prefix), "%s%s:v%" PRId64 ":", c->shared, c->conf.service, generation);
}

SUSPENDS static enum err ask(struct cache *c, struct arena *arena, struct redis_args args, struct redis_reply *ret)
{
	int64_t from = loop_mono_us(c->loop);
	enum err e = redis_call(c->conf.redis, arena, deadline_in(c->loop, PROBE_MS), args, ret);

	if (e == OK && ret->type == REDIS_ERROR)
		return ERR_CACHE;
	return heard(c, e, from);
}

static int64_t poll_ms(const struct cache *c)
{
	struct lru_stats lru = {0};

	if (c->memory.lru != NULL)
		lru_stats(c->memory.lru, &lru);
	return lru.entries != 0 ? POLL_SOON_MS : POLL_MS;
}

/* Milliseconds of the time when it was first asked for, and one more for each clearing: lost, it comes back higher. */
SUSPENDS static enum err load_generation(struct cache *c, struct arena *arena)
{
	struct str key = str_of(arena_printf(arena, "%sgeneration", c->shared));
	struct str now = str_of(arena_printf(arena, "%" PRId64, loop_real_us(c->loop) / 1000));
	struct redis_reply reply;
	int64_t generation;
	enum err e = ask(c, arena, REDIS_ARGS(STR("GET"), key), &reply);

	if (e == OK && reply.type == REDIS_NIL) {
		e = ask(c, arena, REDIS_ARGS(STR("SET"), key, now, STR("NX")), &reply);
		if (e == OK)
			e = ask(c, arena, REDIS_ARGS(STR("GET"), key), &reply);
	}
	if (e == OK && (reply.type != REDIS_STRING || !str_to_i64(reply.s, &generation) || generation <= 0))
		return ERR_CACHE;
	if (e == OK)
		set_generation(c, generation);
	return e;
}

enum err cache_new_generation(struct cache *c, struct arena *arena)
{
	struct str key = str_of(arena_printf(arena, "%sgeneration", c->shared));
	struct redis_reply reply;
	enum err e = load_generation(c, arena); /* counting up what is not there would begin at 1 */

	memory_forget(&c->memory);
	if (e == OK)
		e = ask(c, arena, REDIS_ARGS(STR("INCR"), key), &reply);
	if (e != OK || reply.type != REDIS_INTEGER) {
		c->journal.all = true;
		waitq_wake(&c->wake, SIZE_MAX, OK);
		return ERR_CACHE;
	}
	set_generation(c, reply.i);
	redis_post(c->conf.redis,
		   REDIS_ARGS(STR("PUBLISH"), str_of(c->channel), str_of(arena_printf(arena, "g %" PRId64, c->generation))));
	return OK;
}

/* ---- the journal ---- */

void journal_add(struct cache *c, struct str epoch_key)
{
	char *copy;

	if (c->journal.all || hash_get(&c->journal.set, epoch_key))
		return;
	c->stats.journalled++;
	if (c->journal.set.n == JOURNAL_MAX) {
		c->journal.all = true;
		return;
	}
	copy = mem_alloc(epoch_key.n + 1);
	memcpy(copy, epoch_key.p, epoch_key.n);
	hash_put(&c->journal.set, (struct str){copy, epoch_key.n}, copy);
	waitq_wake(&c->wake, SIZE_MAX, OK);
}

static size_t journal_take(struct cache *c, struct str *keys, size_t most)
{
	size_t at = 0, n = 0;
	void *value;

	while (n < most && hash_next(&c->journal.set, &at, &keys[n], &value))
		n++;
	for (size_t i = 0; i < n; i++)
		hash_remove(&c->journal.set, keys[i]);
	return n;
}

static void journal_drop(struct cache *c)
{
	struct str key;

	while (journal_take(c, &key, 1) != 0)
		free((void *)(uintptr_t)key.p);
}

/* What could not be told stands in it again, unless it has come again meanwhile. */
static void journal_give_back(struct cache *c, struct str key)
{
	if (c->journal.all || hash_get(&c->journal.set, key))
		free((void *)(uintptr_t)key.p);
	else
		hash_put(&c->journal.set, key, (void *)(uintptr_t)key.p);
}

/* Keys are taken out before they are told: what is raised once more while the call is under way, after Redis has worked on it, stands in the
 * journal again and is told again. */
SUSPENDS static enum err journal_tell(struct cache *c, struct arena *arena)
{
	enum err e = OK;

	if (c->journal.all) {
		c->journal.all = false;
		journal_drop(c);
		return cache_new_generation(c, arena);
	}
	while (e == OK && c->journal.set.n != 0) {
		struct str *keys = arena_array(arena, c->journal.set.n, sizeof(*keys));
		size_t n = journal_take(c, keys, c->journal.set.n);

		/* All of them at once: what must not lie between two calls is the business of raise_keys. */
		e = raise_keys(c, arena, keys, n, deadline_in(c->loop, REPLAY_MS + (int64_t)n / 4));
		for (size_t i = 0; i < n; i++) {
			if (e == OK)
				free((void *)(uintptr_t)keys[i].p);
			else
				journal_give_back(c, keys[i]);
		}
	}
	return e;
}

/* What was raised before this call is out when it returns OK; what comes in between is the next turn's. */
SUSPENDS static enum err journal_replay(struct cache *c, struct arena *arena)
{
	enum err e;

	c->journal.replaying = true;
	e = journal_tell(c, arena);
	c->journal.replaying = false;
	return e;
}

/* ---- the keeper: probes, replays, polls ---- */

SUSPENDS static void keep(struct cache *c)
{
	struct arena *arena = arena_new();
	bool was_shut = c->shut;
	struct redis_reply reply;
	enum err e = load_generation(c, arena);

	if (e == OK)
		e = journal_replay(c, arena);
	if (e == OK && c->shut) /* what gives a lock back does not wait to hear that Redis does not know it */
		e = ask(c, arena, REDIS_ARGS(STR("SCRIPT"), STR("LOAD"), str_of(LUA_CACHE_FILL.text)), &reply);
	if (e == OK && c->shut) {
		c->shut = false;
		c->failures = 0;
	} else if (e != OK) {
		c->shut = true;
	}
	if (was_shut != c->shut)
		log_at(c->shut ? LOG_WARN : LOG_INFO, "the cache", LOG_B("up", !c->shut), LOG_END);
	arena_free(arena);
}

SUSPENDS static void keeper_fiber(void *arg)
{
	struct cache *c = arg;

	c->keeper = fiber_self();
	while (!c->closing) {
		keep(c);
		if (c->shut)
			IGNORE(sleep_ms(c->loop, PROBE_MS, (struct deadline){INT64_MAX})); /* cancelled: closing */
		else if (link_is_open(c))
			IGNORE(waitq_wait(&c->wake, deadline_in(c->loop, poll_ms(c)))); /* either way it looks again */
	}
	c->keeper = NULL;
}

/* ---- news of the other processes ---- */

/* "#homework.<id>": an event whose tags were raised. Those of other services are not asked for here. */
static void hear_told(struct cache *c, struct str told)
{
	size_t n = strlen(c->conf.service);

	told = (struct str){told.p + 1, told.n - 1};
	if (told.n > n && told.p[n] == '.' && memcmp(told.p, c->conf.service, n) == 0)
		recent_add(&c->told, told);
}

bool cache_was_raised(const struct cache *c, struct str told)
{
	return recent_has(&c->told, told);
}

void cache_forget_memory(struct cache *c)
{
	if (c != NULL)
		memory_forget(&c->memory);
}

static void on_news(void *ctx, struct str channel, struct str payload)
{
	struct cache *c = ctx;
	struct str what = str_split(&payload, ' ');
	int64_t generation;

	(void)channel;
	if (str_is(what, "r")) {
		while (payload.n != 0) {
			struct str key = str_split(&payload, ' ');

			if (key.n != 0 && key.p[0] == '#') {
				hear_told(c, key);
				continue;
			}
			memory_raise(&c->memory, key);
			c->stats.dropped_by_news++;
		}
	} else if (str_is(what, "d")) { /* entries that were dropped by name: their epochs are as before */
		while (payload.n != 0) {
			struct str key = str_split(&payload, ' ');

			if (str_is(key, "*"))
				memory_forget(&c->memory);
			else
				memory_remove(&c->memory, key);
		}
	} else if (str_is(what, "f")) {
		flights_news(c, payload);
	} else if (str_is(what, "g") && str_to_i64(payload, &generation) && generation > c->generation) {
		set_generation(c, generation);
	}
}

/* Messages may have been missed before it. */
static void on_connected(void *ctx)
{
	struct cache *c = ctx;

	memory_forget(&c->memory);
}

/* ---- life ---- */

enum err cache_open(struct loop *loop, const struct cache_conf *conf, struct cache **ret)
{
	const struct redis_conf sub = {.name = "cache news", .url = conf->url, .connections = 1, .fault = ERR_CACHE};
	struct cache *c = mem_zalloc(sizeof(*c));
	const struct redis_sub_events events = {.ctx = c, .message = on_news, .connected = on_connected};
	const char *channel = c->channel;
	enum err e;

	*ret = c;
	c->loop = loop;
	c->conf = *conf;
	c->shut = true; /* until the keeper knows the generation */
	c->random = conf->seed;
	if (conf->seed == 0)
		random_bytes(&c->random, sizeof(c->random));
	snprintf(c->shared, sizeof(c->shared), "cache:%s:", conf->env);
	snprintf(c->channel, sizeof(c->channel), "%snews", c->shared);
	snprintf(c->prefix, sizeof(c->prefix), "%s%s:v0:", c->shared, conf->service);
	memory_open(&c->memory, conf->memory_bytes);
	recent_init(&c->told, TOLD);
	if (conf->redis == NULL)
		return OK;
	e = redis_sub_open(loop, &sub, &channel, 1, &events, &c->news);
	if (e == OK)
		e = fiber_spawn(loop, "cache keeper", keeper_fiber, c);
	return e != OK ? e : fiber_spawn(loop, "cache raiser", raiser_fiber, c);
}

void cache_close(struct cache *c)
{
	if (c == NULL)
		return;
	c->closing = true;
	if (c->news != NULL)
		c->news = redis_sub_close(c->news);
	if (c->keeper != NULL)
		fiber_cancel(c->keeper);
	if (c->raise.fiber != NULL)
		fiber_cancel(c->raise.fiber);
	cache_sweeper_cancel(c);
}

struct cache *cache_free(struct cache *c)
{
	if (c == NULL)
		return NULL;
	journal_drop(c);
	hash_done(&c->journal.set);
	hash_done(&c->flights);
	waitq_done(&c->wake);
	waitq_done(&c->raise.wake);
	hash_done(&c->raise.named);
	waitq_done(&c->sweep_wake);
	memory_close(&c->memory);
	recent_done(&c->told);
	counts_done(c);
	free(c);
	return NULL;
}

struct cache_stats cache_stats(const struct cache *c)
{
	struct cache_stats s = c->stats;
	struct lru_stats lru = {0};

	if (c->memory.lru != NULL)
		lru_stats(c->memory.lru, &lru);
	s.memory_entries = lru.entries;
	s.memory_bytes = lru.bytes;
	s.memory_evictions = lru.evictions;
	s.journal = c->journal.set.n;
	s.flights = c->flights.n;
	s.up = link_is_open(c);
	s.news_up = redis_sub_is_up(c->news);
	return s;
}
