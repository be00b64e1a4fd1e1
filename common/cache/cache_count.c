/* SPDX-License-Identifier: Apache-2.0 */
/* Counting what the cache does, and telling observers of it behind the requests' backs. */
#include "cache/cache_count.h"

#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/timefmt.h"
#include "cache/cache_internal.h"

#define FIRST_BUCKET_US 8
#define TELL_US (5 * US_PER_MS)

const char *cache_event_name(enum cache_event what)
{
	static const char *const names[] = {
#define EVENT_NAME(symbol, name) [symbol] = (name),
		CACHE_EVENTS(EVENT_NAME)
#undef EVENT_NAME
	};

	return names[what];
}

/* ---- times ---- */

int64_t us_bucket_us(size_t i)
{
	return (int64_t)FIRST_BUCKET_US << i;
}

void us_times_add(struct us_times *t, int64_t us)
{
	uint64_t v = us > 0 ? (uint64_t)us : 0;
	/* The bucket's bound is the least power of two that is not less. */
	size_t i = v <= FIRST_BUCKET_US ? 0 : (size_t)(64 - __builtin_clzll(v - 1)) - 3;

	t->count++;
	t->sum_us += v;
	if (i < US_BUCKETS)
		t->bucket[i]++;
}

void us_times_sum(struct us_times *to, const struct us_times *more)
{
	to->count += more->count;
	to->sum_us += more->sum_us;
	for (size_t i = 0; i < US_BUCKETS; i++)
		to->bucket[i] += more->bucket[i];
}

struct us_times us_times_since(const struct us_times *now, const struct us_times *then)
{
	struct us_times t = {.count = now->count - then->count, .sum_us = now->sum_us - then->sum_us};

	for (size_t i = 0; i < US_BUCKETS; i++)
		t.bucket[i] = now->bucket[i] - then->bucket[i];
	return t;
}

double us_times_quantile_us(const struct us_times *t, double q)
{
	double rank = q * (double)t->count, before = 0;

	if (t->count == 0)
		return 0;
	for (size_t i = 0; i < US_BUCKETS; i++) {
		double n = (double)t->bucket[i], from = i == 0 ? 0 : (double)us_bucket_us(i - 1);

		if (n > 0 && before + n >= rank)
			return from + ((double)us_bucket_us(i) - from) * (rank - before) / n;
		before += n;
	}
	return (double)us_bucket_us(US_BUCKETS - 1); /* longer than can be told */
}

/* ---- by kind ---- */

/* "cache:<env>:<owner>:v<generation>:{<school>}:<kind>:…" */
static struct str kind_of_key(struct str key)
{
	const char *brace = key.n != 0 ? memchr(key.p, '}', key.n) : NULL;
	struct str rest;

	if (brace == NULL || (size_t)(brace - key.p) + 2 > key.n)
		return STR("other");
	rest = (struct str){brace + 2, key.n - (size_t)(brace - key.p) - 2};
	return str_split(&rest, ':');
}

static struct cache_space *space_of(struct cache_space *v, size_t *n, struct str kind)
{
	struct cache_space *s;

	for (size_t i = 0; i < *n; i++) {
		if (str_is(kind, v[i].name))
			return &v[i];
	}
	if (kind.n == 0 || kind.n >= CACHE_SPACE_NAME || *n >= CACHE_SPACES - 1) {
		kind = STR("other");
		for (size_t i = 0; i < *n; i++) {
			if (str_is(kind, v[i].name))
				return &v[i];
		}
	}
	s = &v[(*n)++];
	memcpy(s->name, kind.p, kind.n);
	return s;
}

/* ---- by key: the most frequent of a place holds it, for whoever comes in between takes away what it is ahead ---- */

static void count_key(struct cache_counts *counts, struct str key)
{
	uint64_t hash = str_hash(key, 0);
	struct cache_key_count *k = &counts->top[hash % CACHE_TOP_KEYS];

	if (k->hash == hash) {
		k->hits++;
		k->lead++;
	} else if (k->lead > 0) {
		k->lead--;
	} else {
		*k = (struct cache_key_count){.hash = hash, .hits = 1, .lead = 1};
		k->key_n = (uint32_t)(key.n < sizeof(k->key) ? key.n : sizeof(k->key) - 1);
		memcpy(k->key, key.p, k->key_n);
	}
}

static int by_hits(const void *a, const void *b)
{
	const struct cache_key_count *x = a, *y = b;

	return x->hits != y->hits ? (x->hits < y->hits ? 1 : -1) : strcmp(x->key, y->key);
}

size_t cache_top_keys(const struct cache *c, struct arena *arena, size_t most, struct cache_key_count **ret)
{
	struct cache_key_count *v = arena_array(arena, CACHE_TOP_KEYS, sizeof(*v));
	size_t n = 0;

	for (size_t i = 0; i < CACHE_TOP_KEYS; i++) {
		if (c->counts.top[i].hits != 0)
			v[n++] = c->counts.top[i];
	}
	if (n != 0)
		qsort(v, n, sizeof(*v), by_hits);
	*ret = v;
	return n < most ? n : most;
}

/* ---- observers ---- */

struct observer {
	void (*fn)(void *ctx, const struct cache_observed *v, size_t n, uint64_t lost);
	void *ctx;
	struct loop *loop;
	struct timer timer;
	bool due;
	size_t n;
	uint64_t lost;
	struct cache_observed v[CACHE_OBSERVED];
};

static void tell(void *arg)
{
	struct observer *o = arg;
	size_t n = o->n;
	uint64_t lost = o->lost;

	o->due = false;
	o->n = 0;
	o->lost = 0;
	o->fn(o->ctx, o->v, n, lost);
}

static void observe(struct observer *o, enum cache_event what, struct str key)
{
	struct cache_observed *seen;

	if (o->n == CACHE_OBSERVED) {
		o->lost++;
		return;
	}
	seen = &o->v[o->n++];
	seen->what = what;
	seen->at_us = loop_real_us(o->loop);
	seen->key_n = (uint32_t)(key.n < sizeof(seen->key) ? key.n : sizeof(seen->key) - 1);
	if (key.n != 0)
		memcpy(seen->key, key.p, seen->key_n);
	seen->key[seen->key_n] = '\0';
	if (!o->due) {
		o->due = true;
		timer_set(&o->timer, o->loop, TELL_US, tell, o);
	}
}

void cache_observe(struct cache *c, void (*fn)(void *ctx, const struct cache_observed *v, size_t n, uint64_t lost), void *ctx)
{
	if (c->counts.observer != NULL)
		timer_stop(&c->counts.observer->timer);
	free(c->counts.observer);
	c->counts.observer = NULL;
	if (fn == NULL)
		return;
	c->counts.observer = mem_zalloc(sizeof(*c->counts.observer));
	c->counts.observer->fn = fn;
	c->counts.observer->ctx = ctx;
	c->counts.observer->loop = c->loop;
}

/* ---- counting ---- */

const struct cache_counts *cache_counts(const struct cache *c)
{
	return &c->counts;
}

void count_event(struct cache *c, enum cache_event what, struct str key)
{
	if (key.n != 0)
		space_of(c->counts.spaces, &c->counts.n_spaces, kind_of_key(key))->n[what]++;
	if (c->counts.observer != NULL)
		observe(c->counts.observer, what, key);
}

void count_tag(struct cache *c, struct str tag)
{
	struct str rest = tag, kind = str_split(&rest, ':');

	c->stats.raised_tags++;
	space_of(c->counts.tags, &c->counts.n_tags, kind)->n[CACHE_ON_INVALIDATE]++;
	if (c->counts.observer != NULL)
		observe(c->counts.observer, CACHE_ON_INVALIDATE, tag);
}

void count_look(struct cache *c, enum cache_level level, int64_t us)
{
	c->stats.reads++;
	c->stats.read_us += (uint64_t)us;
	us_times_add(&c->counts.looks[level <= LEVEL_REDIS ? level : LEVEL_NONE], us);
}

void count_given(struct cache *c, const struct cache_call *call, const struct cache_note *note)
{
	/* What another's filling has given it, was a miss already. */
	if (call->warming || note->coalesced)
		return;
	if (note->state == CACHE_STALE)
		c->stats.stale++;
	else if (note->level == LEVEL_MEMORY)
		c->stats.hits_memory++;
	else
		c->stats.hits_redis++;
	count_event(c,
		    note->state == CACHE_STALE    ? CACHE_ON_STALE
		    : note->level == LEVEL_MEMORY ? CACHE_ON_HIT_MEMORY
						  : CACHE_ON_HIT_REDIS,
		    call->key);
	count_key(&c->counts, call->key);
	if (!note->negative)
		return;
	c->stats.negative++;
	count_event(c, CACHE_ON_NEGATIVE, call->key);
}

void count_missed(struct cache *c, const struct cache_call *call, bool bypassed, bool expired)
{
	if (expired)
		count_event(c, CACHE_ON_EXPIRED, call->key);
	if (call->warming)
		return;
	if (bypassed)
		c->stats.bypassed++;
	else
		c->stats.misses++;
	count_event(c, bypassed ? CACHE_ON_BYPASS : CACHE_ON_MISS, call->key);
}

void count_filled(struct cache *c, const struct cache_call *call, size_t raw, size_t stored)
{
	struct cache_space *s = space_of(c->counts.spaces, &c->counts.n_spaces, kind_of_key(call->key));

	c->stats.fills++;
	c->stats.bytes_raw += raw;
	c->stats.bytes_stored += stored;
	s->bytes_raw += raw;
	s->bytes_stored += stored;
	count_event(c, CACHE_ON_SET, call->key);
	if (call->warming)
		count_event(c, CACHE_ON_WARM, call->key);
}

void counts_done(struct cache *c)
{
	cache_observe(c, NULL, NULL);
}

/* ---- whole reads ---- */

enum err cache_read(struct cache *c, struct arena *arena, struct deadline d, const struct cache_call *call, struct str *ret,
		    struct cache_note *note)
{
	int64_t from = loop_mono_us(c->loop);
	enum err e = read_uncounted(c, arena, d, call, ret, note);
	bool hit = note->state == CACHE_HIT || note->state == CACHE_STALE;

	if (!call->warming && note->state != CACHE_BYPASS)
		us_times_add(hit ? &c->counts.hits : &c->counts.misses, loop_mono_us(c->loop) - from);
	return e;
}
