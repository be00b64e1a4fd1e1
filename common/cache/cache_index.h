/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Invalidation beyond a write's own tags, and the tag index that serves it: counting, listing and freeing. Correctness is the epochs' alone.
 *
 * An index is a sorted set of entry keys by the time of their end. Tags are raised before anything is freed; freeing goes on in calls of at most
 * INDEX_CHUNK members, so no other client of Redis waits for more than a few milliseconds, and ends between two of them when its caller is
 * cancelled or out of time (complete = false; what was raised is unreachable all the same).
 *
 * A Redis user that may look at the entries of its own service alone (deploy: all but the one that serves the administration) counts and frees these; the
 * others are unreachable just so, and end by themselves.
 *
 * Invalidation follows no edges, for entries carry the tags of all that they depend on (cache.h, struct cache_edge): raising a part's tag reaches every
 * whole that shows it, whoever raises.
 */
#ifndef S24_CACHE_INDEX_H
#define S24_CACHE_INDEX_H

#include "cache/cache.h"

#define INDEX_CHUNK 200 /* a call takes Redis three to five µs for each */

struct cache_dropped {
	uint64_t live;    /* entries that could be read before, and are gone; with dry_run: would be */
	uint64_t expired; /* members of an index whose entries had ended */
	uint64_t stale;   /* entries that an earlier raising had made unreachable already, freed now */
	bool complete;
};

/* Whatever carries any of the tags. A tag may be of any length; each entry is counted once. ERR_CACHE: Redis is away, and the journal has the tags. */
SUSPENDS MUST_CHECK enum err cache_drop_tags(struct cache *c, struct arena *arena, struct deadline d, const struct cache_tags *tags, bool dry_run,
					     struct cache_dropped *ret);
/* Whatever carries all of them: entries are freed one by one, tags are not raised. */
SUSPENDS MUST_CHECK enum err cache_drop_all_of(struct cache *c, struct arena *arena, struct deadline d, const struct cache_tags *tags, bool dry_run,
					       struct cache_dropped *ret);
/* cache_drop_tags in every school that has ever kept something under one of the tags; tags->school is not looked at. Walks through the keys. */
SUSPENDS MUST_CHECK enum err cache_drop_everywhere(struct cache *c, struct arena *arena, struct deadline d, const struct cache_tags *tags, bool dry_run,
						   struct cache_dropped *ret);

/* Tags in which * stands for any text ("class:*", "table:*.users"), in several groups, each with a sum of its own; an entry is counted in the first that has
 * it. school NULL: in every one. */
struct cache_group {
	const struct str *tags;
	size_t n;
	struct cache_dropped dropped;
};
SUSPENDS MUST_CHECK enum err cache_drop_groups(struct cache *c, struct arena *arena, struct deadline d, const struct uuid *school,
					       struct cache_group *groups, size_t n, bool dry_run);
/* cache_drop_all_of, in every school that has kept something under each of them. */
SUSPENDS MUST_CHECK enum err cache_drop_all_of_everywhere(struct cache *c, struct arena *arena, struct deadline d, const struct cache_tags *tags,
							  bool dry_run, struct cache_dropped *ret);
/* Whatever a school has; nil: what is of no school. Every epoch of it is raised, and every entry freed. */
SUSPENDS MUST_CHECK enum err cache_drop_school(struct cache *c, struct arena *arena, struct deadline d, struct uuid school, bool dry_run,
					       struct cache_dropped *ret);

/*
 * Entries by name. In a pattern * stands for any text and ? for a character; \* and \? for themselves, and everything else too. It is matched behind the
 * school ("roster:*"), or from its brace on ("{…}:roster:*"), or with the whole name ("cache:<env>:homework:*"). Entries alone are ever touched: no epoch, no
 * index, no other key of Redis. One walk at a time in a process (ERR_IN_PROGRESS), with a pause between its steps. ERR_INVALID: leaves the namespace.
 * What is being filled meanwhile began before and may be kept: data that changes is invalidated by its tags.
 */
SUSPENDS MUST_CHECK enum err cache_drop_pattern(struct cache *c, struct arena *arena, struct deadline d, struct str pattern, bool dry_run,
						struct cache_dropped *ret);
/* Whatever has the text in its name: the personal answers of a user by his id. */
SUSPENDS MUST_CHECK enum err cache_drop_named(struct cache *c, struct arena *arena, struct deadline d, struct str text, bool dry_run,
					      struct cache_dropped *ret);

/* ---- one entry ---- */
struct cache_shown {
	struct str bytes;
	int64_t ttl_ms, written_us, fresh_until_us;
	bool negative;
	enum cache_level level; /* where a read of this process would find it first */
	struct str tags[CACHE_TAGS_MAX];
	size_t n_tags, unnamed; /* tags that no index names any more */
};
bool cache_is_entry(const struct cache *c, struct str key); /* a name of an entry of this environment, of whatever service and generation */
/* ERR_NOT_FOUND: no such entry, or unreachable. ERR_FORBIDDEN: of a service whose entries this one's Redis user may not look at. */
SUSPENDS MUST_CHECK enum err cache_show(struct cache *c, struct arena *arena, struct deadline d, struct str key, struct cache_shown *ret);
SUSPENDS MUST_CHECK enum err cache_drop_key(struct cache *c, struct arena *arena, struct deadline d, struct str key, bool *ret_existed);

/* ---- the index ---- */
struct cache_indexed {
	struct uuid school; /* nil: of all */
	struct str tag;
	uint64_t entries;
	struct str keys[10]; /* the first of them */
	size_t n_keys;
};
/* Indexes that have live members: the first `most` described, all counted. school nil: of every school. */
SUSPENDS MUST_CHECK enum err cache_index_list(struct cache *c, struct arena *arena, struct deadline d, struct uuid school, size_t most,
					      struct cache_indexed *ret_v, size_t *ret_n, uint64_t *ret_total);

struct cache_index_size { /* as the last sweep of any process found it */
	uint64_t tags, members;
	int64_t at_us; /* 0: none yet */
};
struct cache_index_size cache_index_size(const struct cache *c);
/* How it is now. Walks through the keys, and changes nothing. */
SUSPENDS MUST_CHECK enum err cache_index_count(struct cache *c, struct arena *arena, struct deadline d, struct cache_index_size *ret);
/* One sweep, whoever else sweeps: members that have ended go, and so do those of older generations. */
SUSPENDS MUST_CHECK enum err cache_index_sweep(struct cache *c, struct arena *arena, struct deadline d, struct cache_index_size *ret);
/* Sweeps every few minutes, one process of the fleet at a time, and clears away older generations after cache_clear. */
MUST_CHECK enum err cache_sweeper_start(struct cache *c);
void cache_sweeper_cancel(struct cache *c);

/* Everything of this environment becomes unreachable at once (cache_new_generation); it is freed behind the answer, by this process. */
SUSPENDS MUST_CHECK enum err cache_clear(struct cache *c, struct arena *arena, int64_t *ret_generation);

#endif
