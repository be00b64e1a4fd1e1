/* SPDX-License-Identifier: Apache-2.0 */
/* Two tables: when the newer one is half full it becomes the older one, and the older one is emptied. */
#include "base/recent.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/str.h"
#include "base/uuid.h"

void recent_init(struct recent *r, size_t most)
{
	r->n = 0;
	r->cap = 2;
	while (r->cap < 2 * most)
		r->cap *= 2;
	r->now = mem_zalloc(r->cap * sizeof(*r->now));
	r->before = mem_zalloc(r->cap * sizeof(*r->before));
	random_bytes(&r->seed, sizeof(r->seed));
}

void recent_done(struct recent *r)
{
	free(r->now);
	free(r->before);
	*r = (struct recent){0};
}

static uint64_t hash_of(const struct recent *r, struct str name)
{
	uint64_t h = str_hash(name, r->seed);

	return h != 0 ? h : 1;
}

static uint64_t *slot_of(const struct recent *r, uint64_t *table, uint64_t h)
{
	size_t at = (size_t)h & (r->cap - 1);

	while (table[at] != 0 && table[at] != h)
		at = (at + 1) & (r->cap - 1);
	return &table[at];
}

bool recent_has(const struct recent *r, struct str name)
{
	uint64_t h = hash_of(r, name);

	return *slot_of(r, r->now, h) == h || *slot_of(r, r->before, h) == h;
}

bool recent_add(struct recent *r, struct str name)
{
	uint64_t h = hash_of(r, name), *older;

	if (recent_has(r, name))
		return false;
	if (r->n == r->cap / 2) {
		older = r->before;
		r->before = r->now;
		r->now = older;
		memset(r->now, 0, r->cap * sizeof(*r->now));
		r->n = 0;
	}
	*slot_of(r, r->now, h) = h;
	r->n++;
	return true;
}
