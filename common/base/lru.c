/* SPDX-License-Identifier: Apache-2.0 */
/* A hash table over entries that also hang in one list, most recently used first. */
#include "base/lru.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/hash.h"

struct entry {
	struct entry *newer, *older;
	int64_t expires_us;
	size_t key_n, value_n;
	char bytes[]; /* key, then value */
};

struct lru {
	struct hash by_key;
	struct entry *newest, *oldest;
	size_t max_entries, max_bytes, bytes;
	uint64_t hits, misses, evictions;
};

/* The table's slot and malloc's own words count too, or many tiny entries would hold far more than the bound. */
enum { OVERHEAD = sizeof(struct entry) + 64 };

static struct str key_of(const struct entry *e)
{
	return (struct str){e->bytes, e->key_n};
}

static size_t cost(const struct entry *e)
{
	return OVERHEAD + e->key_n + e->value_n;
}

struct lru *lru_new(size_t max_entries, size_t max_bytes)
{
	struct lru *lru = mem_zalloc(sizeof(*lru));

	assert(max_entries > 0 && max_bytes > 0);
	lru->max_entries = max_entries;
	lru->max_bytes = max_bytes;
	return lru;
}

void *lru_free(struct lru *lru)
{
	if (lru == NULL)
		return NULL;
	lru_clear(lru);
	hash_done(&lru->by_key);
	free(lru);
	return NULL;
}

static void unlink_entry(struct lru *lru, struct entry *e)
{
	*(e->newer != NULL ? &e->newer->older : &lru->newest) = e->older;
	*(e->older != NULL ? &e->older->newer : &lru->oldest) = e->newer;
}

static void link_newest(struct lru *lru, struct entry *e)
{
	e->newer = NULL;
	e->older = lru->newest;
	*(e->older != NULL ? &e->older->newer : &lru->oldest) = e;
	lru->newest = e;
}

static void drop(struct lru *lru, struct entry *e)
{
	hash_remove(&lru->by_key, key_of(e));
	unlink_entry(lru, e);
	lru->bytes -= cost(e);
	free(e);
}

bool lru_get(struct lru *lru, struct str key, int64_t now_us, struct str *ret_value)
{
	struct entry *e = hash_get(&lru->by_key, key);

	if (e != NULL && now_us >= e->expires_us && e->expires_us != LRU_NEVER) {
		drop(lru, e);
		e = NULL;
	}
	if (e == NULL) {
		lru->misses++;
		return false;
	}
	lru->hits++;
	if (lru->newest != e) {
		unlink_entry(lru, e);
		link_newest(lru, e);
	}
	*ret_value = (struct str){e->bytes + e->key_n, e->value_n};
	return true;
}

bool lru_put(struct lru *lru, struct str key, struct str value, int64_t expires_us)
{
	size_t most = lru->max_bytes / 4;
	struct entry *e;

	if (most < OVERHEAD || key.n > most - OVERHEAD || value.n > most - OVERHEAD - key.n) {
		lru_remove(lru, key);
		return false;
	}
	/* Copied before the old entry goes: the caller may put back a slice of it. */
	e = mem_alloc(sizeof(*e) + key.n + value.n);
	*e = (struct entry){.expires_us = expires_us, .key_n = key.n, .value_n = value.n};
	if (key.n != 0)
		memcpy(e->bytes, key.p, key.n);
	if (value.n != 0)
		memcpy(e->bytes + key.n, value.p, value.n);
	lru_remove(lru, key_of(e));

	while (lru->oldest != NULL && (lru->by_key.n >= lru->max_entries || lru->bytes + cost(e) > lru->max_bytes)) {
		drop(lru, lru->oldest);
		lru->evictions++;
	}
	hash_put(&lru->by_key, key_of(e), e);
	link_newest(lru, e);
	lru->bytes += cost(e);
	return true;
}

bool lru_remove(struct lru *lru, struct str key)
{
	struct entry *e = hash_get(&lru->by_key, key);

	if (e == NULL)
		return false;
	drop(lru, e);
	return true;
}

void lru_clear(struct lru *lru)
{
	while (lru->oldest != NULL)
		drop(lru, lru->oldest);
}

void lru_stats(const struct lru *lru, struct lru_stats *ret_stats)
{
	*ret_stats = (struct lru_stats){
		.entries = lru->by_key.n,
		.bytes = lru->bytes,
		.hits = lru->hits,
		.misses = lru->misses,
		.evictions = lru->evictions,
	};
}
