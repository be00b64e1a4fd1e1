/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of the cache engine: what its files share. Each function is of the file that its comment names. */
#ifndef S24_CACHE_INTERNAL_H
#define S24_CACHE_INTERNAL_H

#include "base/hash.h"
#include "base/lru.h"
#include "base/recent.h"
#include "io/loop.h"
#include "io/redis.h"
#include "cache/cache.h"
#include "cache/cache_count.h"
#include "cache/cache_index.h"

#define EPOCH_LIFE_S (CACHE_LIFE_MAX_S + 86400) /* longer than any entry's, or an epoch could come back lower than an entry remembers */
#define JOURNAL_MAX 10000                       /* tags; past it, a new generation forgets everything instead */
#define TOLD 16384                              /* events whose tags are known to have been raised */
#define SLOTS 16384                             /* of L1's raised tags */

/* ---- cache_entry.c: an entry's bytes ---------------------------------------------------------------------------------------- */

enum { ENTRY_NEGATIVE = 1 };
/* Layout, little-endian: version u8 (1), codec u8, flags u8, number of tags u8, size of the bytes before compression u32, written, soft, fresh
 * until and end (µs, real time), then for each tag its hash u64 and its epoch i64, CRC32C u32 of all before it, then the sealed bytes (codec.h), or from
 * CODEC_SIZE_MAX on CRC32C u32 and the bytes. */
struct entry {
	enum codec codec;
	unsigned flags;
	uint32_t size;
	int64_t written_us, soft_us, fresh_until_us, end_us;
	size_t n_tags;
	uint64_t tags[CACHE_TAGS_MAX];
	int64_t epochs[CACHE_TAGS_MAX];
	struct str sealed;
};
void entry_write(struct entry *e, enum codec codec, struct str bytes, struct buf *out); /* sets codec and size */
MUST_CHECK enum err entry_read(struct str value, struct entry *ret);                   /* ERR_CORRUPT: also of another version */
MUST_CHECK enum err entry_bytes(const struct entry *e, struct arena *arena, struct str *ret);
uint64_t entry_tag_hash(struct str epoch_key);

/* ---- cache_memory.c: L1 ------------------------------------------------------------------------------------------------------ */

struct memory {
	struct lru *lru;
	/* When a tag was last raised as far as this process knows, by a hash of its name: tags that share a slot drop each other's entries, no more. */
	uint32_t raised[SLOTS];
	uint32_t turn;  /* counts raisings */
	uint32_t floor; /* nothing older is good */
};
void memory_open(struct memory *m, size_t bytes); /* 0: none */
void memory_close(struct memory *m);
uint32_t memory_turn(const struct memory *m); /* before the source or Redis is asked, for memory_put */
void memory_put(struct memory *m, struct str key, const struct entry *e, struct str bytes, uint32_t turn);
/* *ret_bytes points into the memory: good until the next call. e->epochs are as they were filled. */
bool memory_get(struct memory *m, struct str key, int64_t now_us, struct entry *ret, struct str *ret_bytes);
void memory_remove(struct memory *m, struct str key);
void memory_raise(struct memory *m, struct str epoch_key);
void memory_forget(struct memory *m); /* all of it: something may have been missed */

/* ---- cache_link.c: Redis behind a gate ------------------------------------------------------------------------------------------ */

struct journal { /* tags raised while Redis was away */
	struct hash set;
	bool all; /* too many: a new generation */
	bool replaying; /* some of it was taken out and is being told */
};

struct cache {
	struct loop *loop;
	struct cache_conf conf;
	struct memory memory;
	struct hash flights;
	char prefix[96];  /* cache:<env>:<service>:v<generation>: */
	char shared[64];  /* cache:<env>: */
	int64_t generation;
	struct redis_sub *news;
	bool closing, shut;         /* shut: Redis is not asked, until a probe has been answered */
	unsigned failures;
	int64_t heard_us; /* monotonic: when the last call that Redis has answered was sent */
	int64_t alive_us; /* monotonic: when its last answer came */
	struct fiber *keeper;
	struct waitq wake; /* the keeper, when there is something in the journal */
	char channel[80];
	struct journal journal;
	struct { /* cache_raise.c: calls to come, the last with room for more */
		struct raising *head, *tail;
		struct hash named; /* keys of the last */
		struct waitq wake;
		struct fiber *fiber; /* NULL: everybody calls for himself */
	} raise;
	struct recent told;
	uint64_t random;
	struct cache_stats stats;
	struct cache_counts counts; /* cache_count.c */
	bool walking; /* an invalidation by name is under way (cache_scan.c) */
	struct fiber *sweeper; /* cache_sweeper.c */
	struct waitq sweep_wake;
	bool sweep_now, sweeper_closing;
	struct cache_index_size index_size;
};
/* One try, at most conf.timeout_ms. ERR_CACHE: away, slow, shut; counted, and the gate shuts after some in a row. */
SUSPENDS MUST_CHECK enum err link_call(struct cache *c, struct arena *arena, struct deadline d, struct redis_args args, struct redis_reply *ret);
SUSPENDS MUST_CHECK enum err link_script(struct cache *c, struct arena *arena, struct deadline d, const struct redis_script *script, struct redis_args args,
					 struct redis_reply *ret);
enum err link_judge(struct cache *c, enum err e, const struct redis_reply *reply, int64_t sent_us);
bool link_is_open(const struct cache *c);
bool link_is_trusted(const struct cache *c); /* would this process have heard of a change by now? */
struct str link_epoch_key(const struct cache *c, struct arena *arena, struct uuid school, struct str tag);
struct str link_index_key(const struct cache *c, struct arena *arena, struct uuid school, struct str tag);
void journal_add(struct cache *c, struct str epoch_key);
/* Keys are names of epochs; "#<event>" among them is only said in the news. */
SUSPENDS MUST_CHECK enum err raise_keys(struct cache *c, struct arena *arena, const struct str *keys, size_t n, struct deadline d); /* cache_raise.c */
SUSPENDS void raiser_fiber(void *cache); /* cache_raise.c */
uint64_t cache_random(struct cache *c);

/* Epoch keys of tags, with room behind them for what they are told under. */
struct str *link_epoch_keys(const struct cache *c, struct arena *arena, const struct cache_tags *tags);

/* ---- cache_index.c: invalidation by tags that are known ------------------------------------------------------------------------- */

struct tag_state {
	struct str index, epoch, hash; /* the last as an envelope has it: index_hash */
	struct cache_dropped *sum;
	int64_t before, after, from; /* of the script; from -1: done */
};
struct str index_hash(struct arena *arena, struct str epoch_key);
/* Raises (unless dry_run) all of them, frees what is under them, and adds to the sums; an entry is counted under the first of its tags. */
SUSPENDS MUST_CHECK enum err index_drop(struct cache *c, struct arena *arena, struct deadline d, struct tag_state *tags, size_t n, bool dry_run);

/* ---- cache_scan.c: the administration's calls and walks ------------------------------------------------------------------------ */

/* As link_call and link_script, with a second's patience; what the server refuses is ERR_CACHE, and no reason to shut the gate. */
SUSPENDS MUST_CHECK enum err index_call(struct cache *c, struct arena *arena, struct deadline d, struct redis_args args, struct redis_reply *ret);
SUSPENDS MUST_CHECK enum err index_script(struct cache *c, struct arena *arena, struct deadline d, const struct redis_script *script,
					  struct redis_args args, struct redis_reply *ret);
struct walk { /* through all names, a step at a time */
	struct cache *c;
	struct deadline d;
	struct str match;
	char cursor[24];
	bool done;
};
SUSPENDS MUST_CHECK enum err walk_next(struct walk *w, struct arena *arena, struct redis_reply *ret_names);
/* "cache:<env>:<what>{school}:rest" */
bool name_school(const struct cache *c, struct str what, struct str key, struct uuid *ret_school, struct str *ret_rest);
bool name_entry(const struct cache *c, struct str key, int64_t *ret_generation, struct uuid *ret_school);
void memories_forget(struct cache *c); /* of this process now, of the others by the news */
/* Entries whose whole names match a glob of Redis. */
SUSPENDS MUST_CHECK enum err drop_glob(struct cache *c, struct deadline d, struct str glob, bool dry_run, struct cache_dropped *ret);
SUSPENDS MUST_CHECK enum err drop_generations(struct cache *c, struct arena *arena, struct deadline d, int64_t older_than, struct cache_dropped *ret);

/* ---- cache_count.c ----------------------------------------------------------------------------------------------------------------- */
void count_event(struct cache *c, enum cache_event what, struct str key);
void count_tag(struct cache *c, struct str tag);
void count_look(struct cache *c, enum cache_level level, int64_t us);
void count_given(struct cache *c, const struct cache_call *call, const struct cache_note *note);
void count_missed(struct cache *c, const struct cache_call *call, bool bypassed, bool expired);
void count_filled(struct cache *c, const struct cache_call *call, size_t raw, size_t stored);
void counts_done(struct cache *c);

/* ---- cache_edge.c ------------------------------------------------------------------------------------------------------------- */
/* The tags, and those that they depend on by the service's edges; the same list when there are none. */
const struct cache_tags *edges_follow(const struct cache *c, struct arena *arena, const struct cache_tags *tags);
struct cache_call edges_of_call(const struct cache *c, struct arena *arena, const struct cache_call *call); /* with these */

/* ---- cache_keep.c ----------------------------------------------------------------------------------------------------------------- */
#define LOCK_MS 5000 /* a filler that has died is replaced after it */
struct filling { /* one filling, from before its source is asked */
	uint32_t turn;
	int64_t epochs[CACHE_TAGS_MAX];
	struct str token; /* of the lock; empty: without */
	int64_t begun_us;
};
/* Asks for the lock (alone: nobody else fills meanwhile) and the epochs. *ret_leads false: another process fills. */
SUSPENDS MUST_CHECK enum err keep_lead(struct cache *c, struct arena *arena, struct deadline d, const struct cache_call *call, const struct str *keys, bool alone,
				       struct filling *f, bool *ret_leads);
bool keep_is_wanted(const struct cache_call *call, enum err e, size_t n);
SUSPENDS MUST_CHECK enum err keep_entry(struct cache *c, struct arena *arena, struct deadline d, const struct cache_call *call, const struct str *keys,
					const struct filling *f, bool negative, struct str bytes);
void keep_release(struct cache *c, struct arena *arena, const struct cache_call *call, struct str token);

/* ---- cache_read.c ----------------------------------------------------------------------------------------------------------------- */
/* cache_read without its time being taken. */
SUSPENDS MUST_CHECK enum err read_uncounted(struct cache *c, struct arena *arena, struct deadline d, const struct cache_call *call, struct str *ret,
					    struct cache_note *note);
void flights_news(struct cache *c, struct str key); /* another process has filled it, or given up */

#endif
