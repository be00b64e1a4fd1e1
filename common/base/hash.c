/* SPDX-License-Identifier: Apache-2.0 */
/* Linear probing; a removal moves the followers back, so there are no tombstones and probes stay short. */
#include "base/hash.h"

#include <assert.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/str.h"
#include "base/uuid.h"

struct hash_slot {
	uint64_t hash;
	struct str key;
	void *value; /* NULL: free */
};

enum { FIRST_CAP = 16 };

void hash_done(struct hash *h)
{
	free(h->slots);
	*h = (struct hash){0};
}

void hash_clear(struct hash *h)
{
	if (h->cap != 0)
		memset(h->slots, 0, h->cap * sizeof(*h->slots));
	h->n = 0;
}

/* The slot of the key, or the free one where it belongs. The table is never full, so the walk ends. */
static struct hash_slot *find(const struct hash *h, struct str key, uint64_t hash)
{
	size_t at = hash & (h->cap - 1);

	while (h->slots[at].value != NULL && (h->slots[at].hash != hash || !str_eq(h->slots[at].key, key)))
		at = (at + 1) & (h->cap - 1);
	return &h->slots[at];
}

static void grow(struct hash *h)
{
	struct hash_slot *old = h->slots;
	size_t old_cap = h->cap;

	if (h->cap == 0) {
		random_bytes(&h->seed, sizeof(h->seed));
		h->cap = FIRST_CAP;
	} else {
		h->cap *= 2;
	}
	h->slots = mem_zalloc(h->cap * sizeof(*h->slots));
	for (size_t i = 0; i < old_cap; i++) {
		if (old[i].value != NULL)
			*find(h, old[i].key, old[i].hash) = old[i];
	}
	free(old);
}

void *hash_get(const struct hash *h, struct str key)
{
	return h->n != 0 ? find(h, key, str_hash(key, h->seed))->value : NULL;
}

void *hash_put(struct hash *h, struct str key, void *value)
{
	struct hash_slot *slot;
	uint64_t hash;
	void *old;

	assert(value != NULL);
	if (h->n >= h->cap - h->cap / 4)
		grow(h);
	hash = str_hash(key, h->seed);
	slot = find(h, key, hash);
	old = slot->value;
	h->n += old == NULL;
	*slot = (struct hash_slot){hash, key, value};
	return old;
}

void *hash_remove(struct hash *h, struct str key)
{
	struct hash_slot *slot;
	size_t hole, mask;
	void *value;

	if (h->n == 0)
		return NULL;
	slot = find(h, key, str_hash(key, h->seed));
	value = slot->value;
	if (value == NULL)
		return NULL;

	mask = h->cap - 1;
	hole = (size_t)(slot - h->slots);
	for (size_t at = (hole + 1) & mask; h->slots[at].value != NULL; at = (at + 1) & mask) {
		size_t home = h->slots[at].hash & mask;

		/* An entry may fill the hole unless its home lies behind the hole. */
		if (((at - home) & mask) >= ((at - hole) & mask)) {
			h->slots[hole] = h->slots[at];
			hole = at;
		}
	}
	h->slots[hole].value = NULL;
	h->n--;
	return value;
}

bool hash_next(const struct hash *h, size_t *at, struct str *ret_key, void **ret_value)
{
	for (; *at < h->cap; (*at)++) {
		const struct hash_slot *slot = &h->slots[*at];

		if (slot->value == NULL)
			continue;
		*ret_key = slot->key;
		*ret_value = slot->value;
		(*at)++;
		return true;
	}
	return false;
}
