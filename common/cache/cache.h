/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cache engine (design: ARCHITECTURE.md, "Caching"): this process's memory (L1), then the cache's Redis (L2), then the source.
 *
 * An entry names its tags, and carries the epoch of each as it was before the source was asked. A write raises the epochs of its tags after its PUT or
 * COMMIT and before its answer, so an entry filled before is unreachable from then on, wherever it lies. A hit is one round trip, the check included.
 *
 *	struct cache_tags tags = {.school = school};
 *	cache_tag(&tags, arena, "class:", id_text);
 *	call = (struct cache_call){.key = cache_key(c, arena, school, "roster", parts, 1), .tags = &tags, .life = {.ttl_s = 1800}, .fill = read_it, .ctx = x};
 *	e = cache_read(c, arena, d, &call, &bytes, &note);        -- OK; ERR_NOT_FOUND, also a remembered one; the source's own error
 *	…
 *	e = cache_raise(c, arena, &tags);                          -- after the change, before the answer
 *
 * A route does all this by its cache_policy (route.h, cache_http.h), an entity by its tags and lifetimes: handlers do not come here.
 * The cache being away, slow or full never fails a caller. Everything is bounded: entries by CACHE_ENTRY_MAX, memory by CACHE_MEMORY_BYTES.
 */
#ifndef S24_CACHE_CACHE_H
#define S24_CACHE_CACHE_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/uuid.h"
#include "io/await.h"
#include "io/codec.h"

struct cache;

#define CACHE_ENTRY_MAX (12u << 20)
#define CACHE_TAGS_MAX 12 /* of an entry */
#define CACHE_KEY_MAX 250
#define CACHE_LIFE_MAX_S (14u * 86400)/* an epoch outlives every entry */

/* ---- dependency edges ---- */
/*
 * A service's edges between tags (service.h, .cache_edges): {"class:*", "dashboard:*"} says that whatever carries dashboard:X was made of what carries
 * class:X, so raising class:X drops it too, whoever raises it. An edge is followed when an entry is filled, backwards and as far as edges go: the entry
 * carries the tags of all that it depends on, with their epochs as they were before its source was asked. So a raising needs to know no edges, reaches
 * the entries of every service in the one step, and counts them. table_check refuses circles; an entry may carry CACHE_TAGS_MAX tags in the end.
 */
struct cache_edge {
	const char *from; /* "class:*", the * standing for the same value in both; or a whole tag, "reports"; NULL ends */
	const char *to;
};
#define CACHE_EDGES_MAX 32 /* of a service */

/* ---- life: opened by the daemon ---- */
struct cache_conf {
	const char *url;       /* of the cache's Redis; "": memory alone is not used either, everything is BYPASS */
	const char *env, *service;
	struct redis *redis;   /* the daemon's connections to it */
	int64_t timeout_ms;    /* what a frozen Redis may cost a request */
	size_t memory_bytes;   /* of L1; 0: none */
	enum codec codec;
	unsigned jitter_percent;
	uint64_t seed;         /* of the jitter; 0: random */
	const struct cache_edge *edges; /* NULL: none */
};
MUST_CHECK enum err cache_open(struct loop *loop, const struct cache_conf *conf, struct cache **ret);
void cache_close(struct cache *c);        /* its fibers end; before the fibers are drained */
struct cache *cache_free(struct cache *c);

/* ---- names ---- */
/* cache:<env>:<service>:v<generation>:{<school>}:<kind>:<part>:… Different parts never make one key; past CACHE_KEY_MAX the end is a hash of it all. */
struct str cache_key(const struct cache *c, struct arena *arena, struct uuid school, const char *kind, const struct str *parts, size_t n);
/* The same with another word in the service's place, for what several services keep together. */
struct str cache_key_of(const struct cache *c, struct arena *arena, const char *owner, struct uuid school, const char *kind, const struct str *parts,
			size_t n);

/* Tags of one school; ids alone are unique, every other name gets its school by the key. */
struct cache_tags {
	struct uuid school; /* nil: of all schools (public things) */
	struct str *v;      /* "class:0190…", "table:homework.homework" */
	size_t n, cap;      /* what has more than CACHE_TAGS_MAX is not kept; any number can be raised */
	size_t written;     /* so many of v stand in an event beside the data */
	size_t sure;        /* so many of v are of changes that are made, whatever fails behind them (cache_touch.c) */
	struct str *told;   /* names of events that carry these tags (cache_events.h), once the change they tell of is made: whoever hears of the raising … */
	size_t n_told;      /* … need not raise for them again */
};
void cache_tag(struct cache_tags *tags, struct arena *arena, const char *kind, struct str value); /* kind with its colon; once each */
void cache_tag_again(struct cache_tags *tags, struct arena *arena, struct str tag); /* one of v, of another such list */
void cache_tag_id(struct cache_tags *tags, struct arena *arena, const char *kind, struct uuid id);

/* ---- reading ---- */
struct cache_life {
	unsigned ttl_s;      /* fresh so long; 0: not kept at all; at most CACHE_LIFE_MAX_S with the grace below */
	unsigned soft_s;     /* refreshed ahead from this age on; 0: at ttl_s */
	unsigned swr_s;      /* past ttl_s so long: given out while one refreshes it */
	unsigned sie_s;      /* past ttl_s so long: given out when the source fails */
	unsigned negative_s; /* "there is none" is remembered so long; 0: not */
	bool memory;         /* given out of L1 without asking Redis for its epochs: for what a school or everybody shares */
};

enum cache_state { CACHE_MISS, CACHE_HIT, CACHE_STALE, CACHE_BYPASS };
enum cache_level { LEVEL_NONE, LEVEL_MEMORY, LEVEL_REDIS, LEVEL_QUERY };

struct cache_note { /* how an answer came about */
	enum cache_state state;
	enum cache_level level;
	bool negative, coalesced;
	bool refresh;        /* it has aged: whoever can, calls cache_refresh behind the answer */
	int64_t written_us;  /* real time of its filling; 0: just now */
	int64_t fresh_until_us;
};

struct cache_call {
	struct str key;
	const struct cache_tags *tags;
	struct cache_life life;
	/* The source. Appends to out. ERR_NOT_FOUND: there is none. Another outcome (positive error) is returned and not kept; after a fault (negative) a
	 * stale entry may be given out instead. ERR_GONE from it means: here is the answer, but do not keep it. */
	SUSPENDS enum err (*fill)(void *ctx, struct buf *out);
	void *ctx;
	const struct cache_life *shorter; /* counts instead of life when fill has run, which may have changed it; NULL: life does */
	bool ask_source;     /* do not look, fill anew (Cache-Control: no-cache) */
	bool warming;        /* nobody reads it: neither a hit nor a miss */
	bool only_cached;    /* never fill: ERR_CACHE when there is nothing (only-if-cached) */
};
SUSPENDS MUST_CHECK enum err cache_read(struct cache *c, struct arena *arena, struct deadline d, const struct cache_call *call, struct str *ret,
					struct cache_note *ret_note);
/* Fills anew if nobody else in the fleet is doing so. */
SUSPENDS void cache_refresh(struct cache *c, struct arena *arena, struct deadline d, const struct cache_call *call);

/* The three steps alone, for the administration, warming and tests. */
SUSPENDS MUST_CHECK enum err cache_get(struct cache *c, struct arena *arena, struct deadline d, struct str key, const struct cache_tags *tags, struct str *ret,
				       struct cache_note *ret_note); /* ERR_NOT_FOUND: nothing usable; ERR_CACHE */
SUSPENDS MUST_CHECK enum err cache_set(struct cache *c, struct arena *arena, struct deadline d, struct str key, const struct cache_tags *tags,
				       const struct cache_life *life, struct str bytes); /* ERR_INVALID: ttl; ERR_TOO_LARGE; ERR_CACHE */
SUSPENDS MUST_CHECK enum err cache_delete(struct cache *c, struct arena *arena, struct deadline d, struct str key, bool *ret_existed);

/* ---- raising ---- */
/* OK: no reader that starts from now on sees what was filled before, in this process or through Redis; other processes' memories within 100 ms.
 * ERR_CACHE: Redis was away; it is in the journal, and done before this process reads the cache again. Who calls meanwhile shares the next call to Redis. */
SUSPENDS MUST_CHECK enum err cache_raise(struct cache *c, struct arena *arena, const struct cache_tags *tags);
/* Has this process heard that the tags of an event, "homework.<id>" of its own service, were raised? Of the last 16,384 at least. */
bool cache_was_raised(const struct cache *c, struct str told);
/* Forgets what this process keeps in its memory, for something may have been missed; what Redis has is checked anyway. NULL is fine. */
void cache_forget_memory(struct cache *c);
/* Everything of this environment becomes unreachable: a new generation of names. */
SUSPENDS MUST_CHECK enum err cache_new_generation(struct cache *c, struct arena *arena);

/* ---- what it did, since the start ---- */
struct cache_stats {
	uint64_t hits_memory, hits_redis, misses, stale, negative, coalesced, refreshes, bypassed;
	uint64_t fills, fill_errors, raised_tags, repeated, journalled, errors, corrupt, dropped_by_news;
	/* repeated: tags raised again out of the stream, for whoever made the change had not said that it was done */
	uint64_t bytes_raw, bytes_stored;        /* of fills: what compression makes of them */
	uint64_t read_us, reads;                 /* of looks, hits and misses */
	size_t memory_entries, memory_bytes, journal, flights;
	uint64_t memory_evictions;
	bool up, news_up;                        /* the gate is closed to nobody; messages arrive */
};
struct cache_stats cache_stats(const struct cache *c);

#endif
