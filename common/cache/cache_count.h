/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the cache engine counts: by kind of name ("http", "row", "query", "roster"), by kind of tag, in time, and by key; and who is told of it.
 *
 * All of it is plain counters of the one loop thread and bounded: a kind that comes past the last place counts as "other".
 */
#ifndef S24_CACHE_COUNT_H
#define S24_CACHE_COUNT_H

#include "base/defs.h"
#include "base/uuid.h"

struct arena;
struct buf;
struct cache;

/* event, what observers and metrics call it */
#define CACHE_EVENTS(X)                                                                            \
	X(CACHE_ON_HIT_MEMORY, "hit_memory")                                                       \
	X(CACHE_ON_HIT_REDIS, "hit_redis")                                                         \
	X(CACHE_ON_NEGATIVE, "hit_negative") /* and one of the hits */                             \
	X(CACHE_ON_STALE, "stale")                                                                 \
	X(CACHE_ON_MISS, "miss")                                                                   \
	X(CACHE_ON_BYPASS, "bypass")                                                               \
	X(CACHE_ON_COALESCED, "coalesced") /* a miss that got the answer of another's filling */   \
	X(CACHE_ON_EXPIRED, "expired") /* a miss that found an entry past its time */              \
	X(CACHE_ON_REFRESH, "refresh")                                                             \
	X(CACHE_ON_SET, "set")                                                                     \
	X(CACHE_ON_FILL_ERROR, "fill_error") /* the source failed */                               \
	X(CACHE_ON_DELETE, "delete")                                                               \
	X(CACHE_ON_WARM, "warm") /* and a set */                                                   \
	X(CACHE_ON_INVALIDATE, "invalidate") /* a tag, not a key */                                \
	X(CACHE_ON_ERROR, "error") /* Redis failed or was late; no key */
#define CACHE_EVENT_SYMBOL(symbol, name) symbol,
enum cache_event { CACHE_EVENTS(CACHE_EVENT_SYMBOL) CACHE_EVENT_N };
#undef CACHE_EVENT_SYMBOL
const char *cache_event_name(enum cache_event what);

/* ---- times in µs, by powers of two ---- */
#define US_BUCKETS 20 /* up to 8 µs, 16 µs … 4.2 s; longer ones are in count alone */
struct us_times {
	uint64_t count, sum_us;
	uint64_t bucket[US_BUCKETS]; /* not cumulative */
};
void us_times_add(struct us_times *t, int64_t us);
void us_times_sum(struct us_times *to, const struct us_times *more);
struct us_times us_times_since(const struct us_times *now, const struct us_times *then);
double us_times_quantile_us(const struct us_times *t, double q); /* 0 without any; within a bucket by its share */
int64_t us_bucket_us(size_t i);
/* A histogram in seconds with one label; `help` NULL: its head was written before. */
void us_times_put(struct buf *out, const char *name, const char *label, const char *value, const struct us_times *t, const char *help);

/* ---- the counts ---- */
#define CACHE_SPACES 24
#define CACHE_SPACE_NAME 24
#define CACHE_TOP_KEYS 128

struct cache_space {
	char name[CACHE_SPACE_NAME];
	uint64_t n[CACHE_EVENT_N];
	uint64_t bytes_raw, bytes_stored;
};

struct cache_key_count {
	uint64_t hash, hits;
	uint32_t lead;    /* over the other keys of its place: at 0 the next one takes it */
	uint32_t key_n;
	char key[251];
};

struct cache_counts {
	struct cache_space spaces[CACHE_SPACES], tags[CACHE_SPACES]; /* of names of entries; of tags: [CACHE_ON_INVALIDATE] alone */
	size_t n_spaces, n_tags;
	struct us_times looks[3]; /* by enum cache_level: nothing, memory, Redis */
	struct us_times hits, misses; /* of whole reads, the source's time included */
	struct cache_key_count top[CACHE_TOP_KEYS];
	struct observer *observer;
};

const struct cache_counts *cache_counts(const struct cache *c);
/* The most read keys of this process, most hits first: about, for a place is shared by whatever falls into it. */
size_t cache_top_keys(const struct cache *c, struct arena *arena, size_t most, struct cache_key_count **ret);

/* ---- observers ---- */
#define CACHE_OBSERVED 1024

struct cache_observed {
	enum cache_event what;
	int64_t at_us; /* real */
	uint32_t key_n;
	char key[251]; /* as much of it as there is room for; of a tag: without its school */
};
/* Called some milliseconds later, from the loop and not from the request that it was in, with what has happened in its order; must not wait. `lost`: so many
 * more did not fit. Nothing is noted without an observer. fn NULL: no observer any more. */
void cache_observe(struct cache *c, void (*fn)(void *ctx, const struct cache_observed *v, size_t n, uint64_t lost), void *ctx);

#endif
