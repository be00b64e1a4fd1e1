/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A table from text to pointers, for what a process keeps: single flights, subscriptions, loaded objects.
 *
 * `struct hash h = {0};` is a valid empty table; hash_done frees its memory, never the values. Keys are not copied: the bytes must
 * live as long as the entry, so they usually stand inside the value. Values are never NULL. Open addressing with a random seed per
 * table, so a client who chooses the keys cannot slow it down. It grows but never shrinks; who bounds it is the caller (or lru.h).
 *
 *	struct flight *f = hash_get(&flights, key);
 *	for (size_t at = 0; hash_next(&flights, &at, &key, &value);) …      -- no put or remove inside the loop
 */
#ifndef S24_BASE_HASH_H
#define S24_BASE_HASH_H

#include "base/defs.h"

struct hash_slot;
struct hash {
	struct hash_slot *slots;
	size_t n, cap; /* cap is 0 or a power of two */
	uint64_t seed;
};

void hash_done(struct hash *h);
void hash_clear(struct hash *h); /* empty, memory kept */
void *hash_get(const struct hash *h, struct str key); /* NULL: not there */
void *hash_put(struct hash *h, struct str key, void *value); /* returns the value it replaced (and its key), or NULL */
void *hash_remove(struct hash *h, struct str key); /* returns the value, or NULL */
bool hash_next(const struct hash *h, size_t *at, struct str *ret_key, void **ret_value); /* false at the end; no order */

#endif
