/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading: memory, Redis, the source. However many ask for what is missing, in this process and in the others, the source is asked once.
 *
 * The order that makes it right: the epochs are taken before the source is asked, and an entry is good while they are the same.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/failpoint.h"
#include "base/str.h"
#include "base/timefmt.h"
#include "cache/cache_internal.h"
#include "cache_lua.h"
#include "io/fiber.h"

#define LOOK_AGAIN_MS 50    /* while another process fills: its message may be lost */
#define PATIENCE_US 1000000 /* then it is filled without waiting for the other, once in each process */

/* ---- looking ---- */

struct look {
	struct entry entry;
	struct str bytes;
	enum cache_level level; /* LEVEL_NONE: nothing */
	uint32_t turn;          /* of the memory, before anything was asked */
	bool asked;             /* Redis has answered */
};

/* Are these the epochs that the entry was filled under? What is missing counts as just raised. */
static bool same_epochs(const struct entry *e, const struct str *keys, const struct redis_reply *epochs, size_t n)
{
	if (e->n_tags != n)
		return false;
	for (size_t i = 0; i < n; i++) {
		int64_t epoch;

		if (e->tags[i] != entry_tag_hash(keys[i]) || epochs[i].type != REDIS_STRING || !str_to_i64(epochs[i].s, &epoch) ||
		    epoch != e->epochs[i])
			return false;
	}
	return true;
}

SUSPENDS static enum err mget(struct cache *c, struct arena *arena, struct deadline d, struct str first, const struct str *keys,
			      size_t n, struct redis_reply *ret)
{
	struct str *args = arena_array(arena, n + 2, sizeof(*args));
	size_t at = 0;
	enum err e;

	args[at++] = STR("MGET");
	if (first.n != 0)
		args[at++] = first;
	if (n != 0)
		memcpy(args + at, keys, n * sizeof(*keys));
	e = link_call(c, arena, d, (struct redis_args){args, at + n}, ret);
	return e == OK && (ret->type != REDIS_ARRAY || ret->n != at - 1 + n) ? ERR_CACHE : e;
}

/* L1: alone where that is allowed, else with its epochs checked. */
SUSPENDS static enum err look_in_memory(struct cache *c, struct arena *arena, struct deadline d, const struct cache_call *call,
					const struct str *keys, struct look *l)
{
	struct str bytes;
	struct redis_reply epochs;
	enum err e;

	if (!memory_get(&c->memory, call->key, loop_real_us(c->loop), &l->entry, &bytes))
		return OK;
	if (call->life.memory && link_is_trusted(c)) {
		l->bytes = arena_str(arena, bytes);
		l->level = LEVEL_MEMORY;
		return OK;
	}
	if (l->entry.n_tags != call->tags->n || call->tags->n == 0)
		return OK;
	l->bytes = arena_str(arena, bytes);
	e = mget(c, arena, d, (struct str){NULL, 0}, keys, call->tags->n, &epochs);
	if (e != OK)
		return e;
	if (same_epochs(&l->entry, keys, epochs.v, call->tags->n))
		l->level = LEVEL_MEMORY;
	else
		memory_remove(&c->memory, call->key);
	return OK;
}

SUSPENDS static enum err look_in_redis(struct cache *c, struct arena *arena, struct deadline d, const struct cache_call *call,
				       const struct str *keys, struct look *l)
{
	struct redis_reply reply;
	enum err e = mget(c, arena, d, call->key, keys, call->tags->n, &reply);

	if (e != OK)
		return e;
	l->asked = true;
	if (reply.v[0].type != REDIS_STRING)
		return OK;
	e = entry_read(reply.v[0].s, &l->entry);
	if (e == OK && !same_epochs(&l->entry, keys, reply.v + 1, call->tags->n))
		return OK;
	if (e == OK)
		e = entry_bytes(&l->entry, arena, &l->bytes);
	if (e != OK) {
		c->stats.corrupt++; /* the next filling mends it */
		return OK;
	}
	l->level = LEVEL_REDIS;
	memory_put(&c->memory, call->key, &l->entry, l->bytes, l->turn);
	return OK;
}

enum freshness { FRESH, AGING, AGED, KEPT_FOR_ERRORS, OVER };

static enum freshness freshness(const struct cache *c, const struct entry *e, const struct cache_life *life)
{
	int64_t now = loop_real_us(c->loop);

	if (now >= e->end_us)
		return OVER;
	if (now < e->fresh_until_us)
		return now < e->soft_us || (e->flags & ENTRY_NEGATIVE) != 0 ? FRESH : AGING;
	if ((e->flags & ENTRY_NEGATIVE) != 0)
		return OVER;
	if (now < e->fresh_until_us + life->swr_s * US_PER_S)
		return AGED;
	return now < e->fresh_until_us + life->sie_s * US_PER_S ? KEPT_FOR_ERRORS : OVER;
}

/* What has aged in this memory may have been filled anew by another process. */
SUSPENDS static enum err look_deeper(struct cache *c, struct arena *arena, struct deadline d, const struct cache_call *call,
				     const struct str *keys, struct look *l)
{
	struct look there = {.turn = l->turn};
	enum err e = look_in_redis(c, arena, d, call, keys, &there);

	if (e == OK && there.level != LEVEL_NONE)
		*l = there;
	return e;
}

/* ERR_CACHE: Redis does not answer, and nothing may be given out. */
SUSPENDS static enum err look(struct cache *c, struct arena *arena, struct deadline d, const struct cache_call *call,
			      const struct str *keys, struct look *l)
{
	int64_t from = loop_mono_us(c->loop);
	enum err e;

	*l = (struct look){.turn = memory_turn(&c->memory)};
	if (!link_is_open(c))
		return ERR_CACHE;
	e = look_in_memory(c, arena, d, call, keys, l);
	if (e == OK && (l->level == LEVEL_NONE || freshness(c, &l->entry, &call->life) != FRESH))
		e = look_deeper(c, arena, d, call, keys, l);
	if (e == OK && !link_is_open(c)) { /* something was raised meanwhile, and Redis does not know of it */
		l->level = LEVEL_NONE;
		e = ERR_CACHE;
	}
	count_look(c, l->level, loop_mono_us(c->loop) - from);
	return e;
}

/* Gives out what was found. */
static enum err give(struct cache *c, const struct cache_call *call, const struct look *l, bool stale, struct str *ret,
		     struct cache_note *note)
{
	note->state = stale ? CACHE_STALE : CACHE_HIT;
	note->level = l->level;
	note->written_us = l->entry.written_us;
	note->fresh_until_us = l->entry.fresh_until_us;
	note->negative = (l->entry.flags & ENTRY_NEGATIVE) != 0;
	count_given(c, call, note);
	*ret = l->bytes;
	return note->negative ? ERR_NOT_FOUND : OK;
}

/* ---- one filler ---- */

struct flight {
	struct str key;
	unsigned refs;
	bool done;
	enum err result;
	struct buf bytes; /* heap: read by fibers of many requests */
	struct waitq followers, news;
};

static void flight_unref(struct flight *f)
{
	if (--f->refs != 0)
		return;
	waitq_done(&f->followers);
	waitq_done(&f->news);
	buf_done(&f->bytes);
	free((void *)(uintptr_t)f->key.p);
	free(f);
}

static struct flight *flight_begin(struct cache *c, struct str key)
{
	struct flight *f = mem_zalloc(sizeof(*f));
	char *copy = mem_alloc(key.n + 1);

	memcpy(copy, key.p, key.n);
	f->key = (struct str){copy, key.n};
	f->refs = 1;
	hash_put(&c->flights, f->key, f);
	return f;
}

/* done: the result is everybody's. Else the leader has gone, and one of the others leads. */
static void flight_end(struct cache *c, struct flight *f, bool done, enum err result)
{
	f->done = done;
	f->result = result;
	hash_remove(&c->flights, f->key);
	waitq_wake(&f->followers, SIZE_MAX, OK);
	flight_unref(f);
}

void flights_news(struct cache *c, struct str key)
{
	struct flight *f = hash_get(&c->flights, key);

	if (f != NULL)
		waitq_wake(&f->news, SIZE_MAX, OK);
}

/* The source, and what becomes of its answer. `led`: the epochs are known. */
SUSPENDS static enum err fill(struct cache *c, struct arena *arena, struct deadline d, const struct cache_call *call,
			      const struct str *keys, struct filling *f, bool led, struct flight *flight)
{
	struct cache_call filled = *call;
	bool kept;
	enum err e;

	f->begun_us = loop_real_us(c->loop);
	e = call->fill(call->ctx, &flight->bytes);
	FAILPOINT("cache.fill_after_db_read");
	if (call->shorter)
		filled.life = *call->shorter;
	kept = led && link_is_open(c) && keep_is_wanted(&filled, e, flight->bytes.n) &&
	       keep_entry(c, arena, d, &filled, keys, f, e == ERR_NOT_FOUND, buf_str(&flight->bytes)) == OK;
	if (!kept && led)
		keep_release(c, arena, call, f->token);
	if (e < 0) {
		c->stats.fill_errors++;
		count_event(c, CACHE_ON_FILL_ERROR, call->key);
	}
	return e == ERR_GONE ? OK : e;
}

/* Waits until another process has filled it, or it is this one's turn. LEVEL_NONE in l: fill. */
SUSPENDS static enum err lead_or_wait(struct cache *c, struct arena *arena, struct deadline d, const struct cache_call *call,
				      const struct str *keys, struct flight *flight, struct filling *f, struct look *l)
{
	int64_t give_up_us = loop_mono_us(c->loop) + PATIENCE_US;
	bool leads = false, found;

	for (;;) {
		bool alone = loop_mono_us(c->loop) < give_up_us;
		enum err e = keep_lead(c, arena, d, call, keys, alone, f, &leads);

		if (e != OK || (leads && call->ask_source))
			return e;
		if (!leads)
			e = waitq_wait(&flight->news, deadline_sooner(d, deadline_in(c->loop, LOOK_AGAIN_MS)));
		if (!leads && (e == ERR_CANCELLED || loop_mono_us(c->loop) >= d.at_us))
			return e == OK ? ERR_TIMEOUT : e;
		/* Also by whoever may fill: another may have done it between this caller's look and the lock. */
		e = look(c, arena, d, call, keys, l);
		found = e == OK && l->level != LEVEL_NONE && freshness(c, &l->entry, &call->life) <= AGING;
		if (leads && (e != OK || found))
			keep_release(c, arena, call, f->token);
		if (e != OK || found)
			return e;
		l->level = LEVEL_NONE;
		if (leads)
			return OK;
	}
}

/* This fiber fills, for itself and for whoever comes meanwhile. `away`: Redis has just not answered it, and is not waited for again. */
SUSPENDS static enum err lead_flight(struct cache *c, struct arena *arena, struct deadline d, const struct cache_call *call,
				     const struct str *keys, bool away, struct str *ret, struct cache_note *note)
{
	struct flight *flight = flight_begin(c, call->key);
	struct filling f = {0};
	struct look l = {0};
	enum err e = !away && link_is_open(c) ? lead_or_wait(c, arena, d, call, keys, flight, &f, &l) : ERR_CACHE;

	if (e == ERR_CANCELLED || e == ERR_TIMEOUT) {
		flight_end(c, flight, false, e);
		return e;
	}
	if (e == OK && l.level != LEVEL_NONE) { /* another process was first */
		buf_puts(&flight->bytes, l.bytes);
		note->coalesced = true;
		c->stats.coalesced++;
		count_event(c, CACHE_ON_COALESCED, call->key);
		e = give(c, call, &l, false, ret, note);
	} else {
		note->state = e == OK ? CACHE_MISS : CACHE_BYPASS;
		e = fill(c, arena, d, call, keys, &f, e == OK, flight);
		*ret = arena_str(arena, buf_str(&flight->bytes));
	}
	flight_end(c, flight, e != ERR_CANCELLED, e);
	return e;
}

/* ERR_GONE: the leader has gone; try again. */
SUSPENDS static enum err follow_flight(struct cache *c, struct arena *arena, struct deadline d, struct flight *flight,
				       struct str *ret, struct cache_note *note)
{
	enum err e;

	flight->refs++;
	e = waitq_wait(&flight->followers, d);
	if (e == OK && !flight->done) {
		e = ERR_GONE;
	} else if (e == OK) {
		note->coalesced = true;
		note->state = CACHE_MISS;
		c->stats.coalesced++;
		count_event(c, CACHE_ON_COALESCED, flight->key);
		*ret = arena_str(arena, buf_str(&flight->bytes));
		e = flight->result;
	}
	flight_unref(flight);
	return e;
}

SUSPENDS static enum err find_flight(struct cache *c, struct arena *arena, struct deadline d, const struct cache_call *call,
				     const struct str *keys, bool away, struct str *ret, struct cache_note *note)
{
	for (bool again = false;; again = true) {
		struct flight *flight = hash_get(&c->flights, call->key);
		struct look l;
		enum err e;

		if (flight == NULL)
			return lead_flight(c, arena, d, call, keys, away, ret, note);
		e = follow_flight(c, arena, d, flight, ret, note);
		if (e == ERR_GONE)
			continue;
		if ((e != OK && e != ERR_NOT_FOUND) || again)
			return e;
		/* That one may have begun before a change of which this caller has been told; the next one has not. */
		if (away)
			continue;
		e = look(c, arena, d, call, keys, &l);
		if (e == ERR_CANCELLED)
			return e;
		if (e == OK && l.level != LEVEL_NONE && freshness(c, &l.entry, &call->life) <= AGING)
			return give(c, call, &l, false, ret, note);
	}
}

/* ---- the whole of it ---- */

enum err read_uncounted(struct cache *c, struct arena *arena, struct deadline d, const struct cache_call *asked, struct str *ret,
			struct cache_note *note)
{
	const struct cache_call whole = edges_of_call(c, arena, asked), *call = &whole;
	struct str *keys = link_epoch_keys(c, arena, call->tags);
	struct look l = {0};
	enum freshness age = OVER;
	enum err e = OK;

	*note = (struct cache_note){.state = CACHE_MISS};
	*ret = (struct str){NULL, 0};
	if (!call->ask_source && call->tags->n <= CACHE_TAGS_MAX)
		e = look(c, arena, d, call, keys, &l);
	if (e == ERR_CANCELLED)
		return e;
	if (e == OK && l.level != LEVEL_NONE)
		age = freshness(c, &l.entry, &call->life);
	if (age <= AGED) {
		note->refresh = age != FRESH;
		return give(c, call, &l, age == AGED, ret, note);
	}
	if (call->only_cached)
		return ERR_CACHE;
	count_missed(c, call, e != OK, l.level != LEVEL_NONE);
	e = find_flight(c, arena, d, call, keys, e == ERR_CACHE, ret, note);
	if (e < 0 && e != ERR_CANCELLED && age == KEPT_FOR_ERRORS)
		return give(c, call, &l, true, ret, note);
	return e;
}

void cache_refresh(struct cache *c, struct arena *arena, struct deadline d, const struct cache_call *asked)
{
	const struct cache_call whole = edges_of_call(c, arena, asked), *call = &whole;
	struct str *keys = link_epoch_keys(c, arena, call->tags);
	struct filling f = {0};
	struct look l = {0};
	struct flight *flight;
	bool leads = false;
	enum err e;

	if (!link_is_open(c) || hash_get(&c->flights, call->key) != NULL)
		return;
	flight = flight_begin(c, call->key);
	e = keep_lead(c, arena, d, call, keys, true, &f, &leads);
	if (e == OK && leads) /* it may have been filled since the caller saw it */
		e = look(c, arena, d, call, keys, &l);
	if (e != OK || !leads || (l.level != LEVEL_NONE && freshness(c, &l.entry, &call->life) == FRESH)) {
		if (leads)
			keep_release(c, arena, call, f.token);
		flight_end(c, flight, false, e);
		return;
	}
	c->stats.refreshes++;
	count_event(c, CACHE_ON_REFRESH, call->key);
	e = fill(c, arena, d, call, keys, &f, true, flight);
	flight_end(c, flight, e == OK || e == ERR_NOT_FOUND, e); /* a failed one is nobody's answer: the old entry still stands */
}

/* ---- the steps alone ---- */

enum err cache_get(struct cache *c, struct arena *arena, struct deadline d, struct str key, const struct cache_tags *tags,
		   struct str *ret, struct cache_note *note)
{
	struct cache_call call = {.key = key, .tags = edges_follow(c, arena, tags)};
	struct look l;
	enum err e = look(c, arena, d, &call, link_epoch_keys(c, arena, call.tags), &l);

	*note = (struct cache_note){.state = CACHE_MISS};
	if (e != OK)
		return e;
	if (l.level == LEVEL_NONE || freshness(c, &l.entry, &call.life) > AGING) {
		count_missed(c, &call, false, l.level != LEVEL_NONE);
		return ERR_NOT_FOUND;
	}
	return give(c, &call, &l, false, ret, note);
}

enum err cache_delete(struct cache *c, struct arena *arena, struct deadline d, struct str key, bool *ret_existed)
{
	struct redis_reply reply;
	enum err e = link_call(c, arena, d, REDIS_ARGS(STR("UNLINK"), key), &reply);

	memory_remove(&c->memory, key);
	count_event(c, CACHE_ON_DELETE, key);
	if (e == OK)
		*ret_existed = reply.type == REDIS_INTEGER && reply.i != 0;
	return e;
}
