/* SPDX-License-Identifier: Apache-2.0 */
/*
 * L1: this process's memory of ready answers, bounded by bytes.
 *
 * An entry is remembered with the turn before it was read, and is good while none of its tags was raised at a later turn.
 */
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "cache/cache_internal.h"

#define ENTRIES_MAX 200000

/* What lies in front of the bytes in the lru's value. */
struct kept {
	struct entry entry;
	uint32_t turn;
};

void memory_open(struct memory *m, size_t bytes)
{
	m->turn = 1;
	m->lru = bytes != 0 ? lru_new(ENTRIES_MAX, bytes) : NULL;
}

void memory_close(struct memory *m)
{
	m->lru = lru_free(m->lru);
}

uint32_t memory_turn(const struct memory *m)
{
	return m->turn;
}

static bool is_good(const struct memory *m, const struct kept *k)
{
	if (k->turn < m->floor)
		return false;
	for (size_t i = 0; i < k->entry.n_tags; i++) {
		if (m->raised[k->entry.tags[i] % SLOTS] > k->turn)
			return false;
	}
	return true;
}

void memory_put(struct memory *m, struct str key, const struct entry *e, struct str bytes, uint32_t turn)
{
	struct kept k = {.entry = *e, .turn = turn};
	char *value;

	if (!m->lru || turn > m->turn || !is_good(m, &k)) /* a turn from before the count began anew is too high */
		return;
	k.entry.sealed = (struct str){NULL, 0};
	value = mem_alloc(sizeof(k) + bytes.n);
	memcpy(value, &k, sizeof(k));
	if (bytes.n != 0)
		memcpy(value + sizeof(k), bytes.p, bytes.n);
	IGNORE(!lru_put(m->lru, key, (struct str){value, sizeof(k) + bytes.n}, e->end_us)); /* too large: Redis has it */
	free(value);
}

bool memory_get(struct memory *m, struct str key, int64_t now_us, struct entry *ret, struct str *ret_bytes)
{
	struct str value;
	struct kept k;

	if (!m->lru || !lru_get(m->lru, key, now_us, &value))
		return false;
	memcpy(&k, value.p, sizeof(k));
	if (!is_good(m, &k)) {
		lru_remove(m->lru, key);
		return false;
	}
	*ret = k.entry;
	*ret_bytes = (struct str){value.p + sizeof(k), value.n - sizeof(k)};
	return true;
}

void memory_remove(struct memory *m, struct str key)
{
	if (m->lru)
		lru_remove(m->lru, key);
}

void memory_raise(struct memory *m, struct str epoch_key)
{
	if (m->turn == UINT32_MAX)
		memory_forget(m);
	m->raised[entry_tag_hash(epoch_key) % SLOTS] = ++m->turn;
}

void memory_forget(struct memory *m)
{
	if (m->lru)
		lru_clear(m->lru);
	if (m->turn == UINT32_MAX) {
		memset(m->raised, 0, sizeof(m->raised));
		m->turn = 0;
	}
	m->floor = ++m->turn; /* fills that are under way began before it, and must not come in afterwards */
}
