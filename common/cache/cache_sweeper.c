/* SPDX-License-Identifier: Apache-2.0 */
/* Keeps the tag indexes as small as what lives, and frees what a new generation of names has left behind. One process of the fleet at a time. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/str.h"
#include "base/timefmt.h"
#include "base/uuid.h"
#include "cache/cache_index.h"
#include "cache/cache_internal.h"
#include "cache_lua.h"
#include "io/fiber.h"

#define SWEEP_S 300
#define LOCK_LIFE_S 270
#define SWEEP_MS 120000 /* most that one may take */
#define KEYS_AT_ONCE 64

static struct str shared_key(const struct cache *c, struct arena *arena, const char *name)
{
	return str_of(arena_printf(arena, "%s%s", c->shared, name));
}

struct cache_index_size cache_index_size(const struct cache *c)
{
	return c->index_size;
}

/* ---- members that have ended ---- */

/* most 0: counts alone. */
SUSPENDS static enum err sweep_some(struct cache *c, struct arena *arena, struct deadline d, int most, const struct str *keys,
				    size_t n, struct cache_index_size *size)
{
	struct str args[KEYS_AT_ONCE + 1];
	struct redis_reply reply = {0};
	enum err e;

	args[0] = str_of(arena_printf(arena, "%d", most));
	memcpy(args + 1, keys, n * sizeof(*keys));
	do {
		e = index_script(c, arena, d, &LUA_CACHE_SWEEP, (struct redis_args){args, n + 1}, &reply);
		if (e == OK && (reply.type != REDIS_ARRAY || reply.n != 4))
			e = ERR_CACHE;
	} while (e == OK && reply.v[3].i != 0 && most != 0);
	if (e != OK)
		return e;
	size->members += (uint64_t)reply.v[1].i;
	size->tags += (uint64_t)reply.v[2].i;
	return OK;
}

/* Of an older generation of names nothing can be read; its entries have been freed before. */
SUSPENDS static enum err forget_generations(struct cache *c, struct arena *arena, struct deadline d, struct str index)
{
	struct str *args = arena_array(arena, INDEX_CHUNK + 2, sizeof(*args));
	struct arena *scratch = arena_new();
	int64_t from = 0;
	size_t n = 0;
	enum err e;

	args[0] = STR("ZREM");
	args[1] = index;
	do {
		struct redis_reply members, removed;
		size_t old = 0;

		arena_clear(scratch);
		e = index_call(c, scratch, d,
			       REDIS_ARGS(STR("ZRANGE"), index, str_of(arena_printf(scratch, "%" PRId64, from)),
					  str_of(arena_printf(scratch, "%" PRId64, from + INDEX_CHUNK - 1))),
			       &members);
		n = e == OK ? members.n : 0;
		for (size_t i = 0; i < n; i++) {
			int64_t generation;
			struct uuid school;

			if (!name_entry(c, members.v[i].s, &generation, &school) || generation < c->generation)
				args[2 + old++] = members.v[i].s;
		}
		if (e == OK && old != 0)
			e = index_call(c, scratch, d, (struct redis_args){args, old + 2}, &removed);
		from += (int64_t)(n - old);
	} while (e == OK && n == INDEX_CHUNK);
	arena_free(scratch);
	return e;
}

SUSPENDS static enum err sweep_indexes(struct cache *c, struct arena *arena, struct deadline d, int most, bool generations,
				       struct cache_index_size *size)
{
	struct walk walk = {.c = c, .d = d, .match = str_of(arena_printf(arena, "%sindex:*", c->shared))};
	struct arena *scratch = arena_new();
	enum err e = OK;

	while (e == OK && !walk.done) {
		struct str keys[KEYS_AT_ONCE];
		struct redis_reply names;
		size_t n = 0;

		arena_clear(scratch);
		e = walk_next(&walk, scratch, &names);
		for (size_t i = 0; e == OK && i < names.n; i++) {
			if (generations)
				e = forget_generations(c, scratch, d, names.v[i].s);
			keys[n++] = names.v[i].s;
			if (e == OK && (n == KEYS_AT_ONCE || i + 1 == names.n)) {
				e = sweep_some(c, scratch, d, most, keys, n, size);
				n = 0;
			}
		}
	}
	arena_free(scratch);
	return e;
}

enum err cache_index_count(struct cache *c, struct arena *arena, struct deadline d, struct cache_index_size *ret)
{
	struct cache_index_size size = {0};
	enum err e = sweep_indexes(c, arena, d, 0, false, &size);

	size.at_us = loop_real_us(c->loop);
	if (e == OK)
		*ret = size;
	return e;
}

/* ---- what a clearing has left ---- */

/* The key says so until it is done, so a process that dies over it leaves it to the next sweep of any other. */
SUSPENDS static enum err is_marked(struct cache *c, struct arena *arena, struct deadline d, bool *ret)
{
	struct redis_reply reply;
	enum err e = index_call(c, arena, d, REDIS_ARGS(STR("GET"), shared_key(c, arena, "cleared")), &reply);

	*ret = e == OK && reply.type == REDIS_STRING;
	return e;
}

enum err cache_index_sweep(struct cache *c, struct arena *arena, struct deadline d, struct cache_index_size *ret)
{
	struct cache_index_size size = {0};
	struct cache_dropped dropped = {0};
	bool marked = false;
	struct redis_reply reply;
	enum err e = is_marked(c, arena, d, &marked);

	if (e == OK && marked)
		e = drop_generations(c, arena, d, c->generation, &dropped);
	if (e == OK)
		e = sweep_indexes(c, arena, d, INDEX_CHUNK, marked, &size);
	if (e == OK && marked && dropped.complete)
		e = index_call(c, arena, d, REDIS_ARGS(STR("DEL"), shared_key(c, arena, "cleared")), &reply);
	if (e != OK)
		return e;
	if (marked)
		log_info("cleared entries are freed", LOG_I("entries", dropped.live));
	size.at_us = loop_real_us(c->loop);
	c->index_size = *ret = size;
	redis_post(c->conf.redis, REDIS_ARGS(STR("SET"), shared_key(c, arena, "index_size"),
					     str_of(arena_printf(arena, "%" PRIu64 " %" PRIu64 " %" PRId64, size.tags,
								 size.members, size.at_us))));
	return OK;
}

enum err cache_clear(struct cache *c, struct arena *arena, int64_t *ret_generation)
{
	struct redis_reply reply;
	enum err marked = index_call(c, arena, deadline_in(c->loop, 1000),
				     REDIS_ARGS(STR("SET"), shared_key(c, arena, "cleared"), STR("1")), &reply);
	enum err e = cache_new_generation(c, arena); /* also with Redis away: then it is in the journal */

	if (marked == OK && e == OK) {
		c->sweep_now = true;
		waitq_wake(&c->sweep_wake, SIZE_MAX, OK);
	}
	*ret_generation = c->generation;
	return e;
}

/* ---- by itself ---- */

/* How the last one, whoever did it, found the indexes. */
SUSPENDS static void hear_size(struct cache *c, struct arena *arena, struct deadline d)
{
	struct redis_reply reply;
	struct str rest;
	int64_t tags, members, at_us;

	if (index_call(c, arena, d, REDIS_ARGS(STR("GET"), shared_key(c, arena, "index_size")), &reply) != OK ||
	    reply.type != REDIS_STRING)
		return;
	rest = reply.s;
	if (str_to_i64(str_split(&rest, ' '), &tags) && str_to_i64(str_split(&rest, ' '), &members) && str_to_i64(rest, &at_us))
		c->index_size = (struct cache_index_size){(uint64_t)tags, (uint64_t)members, at_us};
}

SUSPENDS static void sweep_turn(struct cache *c)
{
	struct arena *arena = arena_new();
	struct deadline d = deadline_in(c->loop, SWEEP_MS);
	struct str key = shared_key(c, arena, "sweeping"), life = str_of(arena_printf(arena, "%d", LOCK_LIFE_S));
	struct cache_index_size size;
	struct redis_reply reply = {0};
	bool now = c->sweep_now;
	enum err e;

	c->sweep_now = false;
	/* After a clearing this process has something to free, whoever swept a minute ago; two sweeps at once are only work. */
	e = index_call(c, arena, d,
		       now ? REDIS_ARGS(STR("SET"), key, STR("1"), STR("EX"), life)
			   : REDIS_ARGS(STR("SET"), key, STR("1"), STR("EX"), life, STR("NX")),
		       &reply);
	if (e == OK && reply.type == REDIS_STATUS) {
		e = cache_index_sweep(c, arena, d, &size);
		if (e != OK && e != ERR_CANCELLED)
			log_warn("the cache's indexes were not swept", LOG_E(e));
		if (e != OK)
			redis_post(c->conf.redis, REDIS_ARGS(STR("DEL"), key)); /* the next turn, whoever has it */
		if (e == ERR_IN_PROGRESS)
			c->sweep_now = now;
	} else if (e == OK) {
		hear_size(c, arena, d);
	}
	arena_free(arena);
}

SUSPENDS static void sweeper_fiber(void *arg)
{
	struct cache *c = arg;

	c->sweeper = fiber_self();
	while (!c->sweeper_closing) {
		/* A tenth more or less, so that those who started together do not stay together. */
		int64_t wait_ms = SWEEP_S * 900 + (int64_t)(cache_random(c) % (SWEEP_S * 200));

		if (!c->sweep_now && waitq_wait(&c->sweep_wake, deadline_in(c->loop, wait_ms)) == ERR_CANCELLED)
			break;
		if (!c->shut)
			sweep_turn(c);
		if (c->sweep_now && sleep_ms(c->loop, 1000, (struct deadline){INT64_MAX}) != OK)
			break;
	}
	c->sweeper = NULL;
}

enum err cache_sweeper_start(struct cache *c)
{
	return fiber_spawn(c->loop, "cache sweeper", sweeper_fiber, c);
}

void cache_sweeper_cancel(struct cache *c)
{
	if (c == NULL)
		return;
	c->sweeper_closing = true;
	if (c->sweeper != NULL)
		fiber_cancel(c->sweeper);
}
