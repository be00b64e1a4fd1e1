/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bounded memory from text to bytes: verified tokens, the first-level caches. The least recently used entry goes when either
 * bound is reached; an entry past its time is never given out.
 *
 * Both key and value are copied in. What lru_get returns points into the entry and is good until the next put, remove or clear of
 * this memory: copy it (arena_str) before anything that may suspend. One thread only.
 *
 *	struct lru *tokens = lru_new(50000, 16 << 20);
 *	lru_put(tokens, token, claims, claims_exp_us);
 *	if (lru_get(tokens, token, now_us, &claims)) …
 */
#ifndef S24_BASE_LRU_H
#define S24_BASE_LRU_H

#include "base/defs.h"

#define LRU_NEVER INT64_MAX /* an expiry that does not come */

struct lru;

struct lru_stats {
	size_t entries, bytes; /* bytes as the bound counts them: key, value and bookkeeping */
	uint64_t hits, misses, evictions; /* since lru_new; an expired entry is a miss */
};

struct lru *lru_new(size_t max_entries, size_t max_bytes) NEVER_NULL; /* both at least 1 */
void *lru_free(struct lru *lru); /* NULL is fine; returns NULL */
bool lru_get(struct lru *lru, struct str key, int64_t now_us, struct str *ret_value); /* makes it the most recently used */
/* Replaces what the key had. False: larger than a quarter of max_bytes, so one entry would push out the rest; then the key has nothing. */
bool lru_put(struct lru *lru, struct str key, struct str value, int64_t expires_us);
bool lru_remove(struct lru *lru, struct str key); /* was it there */
void lru_clear(struct lru *lru);
void lru_stats(const struct lru *lru, struct lru_stats *ret_stats);

#endif
