/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The background verifier (write-path.md 8): goes through a buffer's keys, a page at a time, and proves its invariant with common/svc/lua/verify.lua.
 * A SCAN only names who is looked at; whether something is wrong is decided, and mended, in one step of Redis, so a write that runs meanwhile is
 * never taken for a fault. No I/O of its own: struct buffer_io is its world.
 *
 * Every key that is there during a whole pass is looked at in it: records by their ids and the lists they name, sets and lists by their members.
 * Keys of entities that nobody knows here are left alone.
 */
#ifndef S24_WORKER_VERIFY_H
#define S24_WORKER_VERIFY_H

#include "svc/buffer.h"

#define VIOLATIONS(X)                     \
	X(ORPHAN, "orphan")               \
	X(SEVERAL, "several")             \
	X(NO_RECORD, "no_record")         \
	X(OWNER_MISSING, "owner_missing") \
	X(OWNER_STALE, "owner_stale") X(SCOPE_MISSING, "scope_missing") X(SCOPE_STALE, "scope_stale")
enum violation {
#define X(name, text) VIOLATION_##name,
	VIOLATIONS(X)
#undef X
		VIOLATION_N
};
const char *violation_name(enum violation v);

struct verify_item {                  /* of what was wrong; dies with the callback */
	struct str entity, id, scope; /* scope empty: the id itself */
};
struct verify_hooks {
	void *ctx;
	bool (*knows)(void *ctx, struct str entity);
	void (*found)(void *ctx, enum violation what, const struct verify_item *item); /* it has been mended; may be NULL */
};

struct verify {
	struct verify_hooks hooks;
	size_t page; /* keys or members asked for in a step */
	/* what was found */
	int64_t verified, passes, errors; /* errors: pages that the script refused, as when a key has a foreign type */
	int64_t violations[VIOLATION_N];
	/* where it is */
	char scan[24];
	bool last_page;     /* SCAN has come round; what is left of its keys ends the pass */
	struct arena *held; /* keys of the page that have members */
	struct str *keys;
	size_t n_keys, at_key;
	char members[24]; /* cursor within keys[at_key] */
};

void verify_init(struct verify *v, size_t page, struct verify_hooks hooks);
void verify_done(struct verify *v);
/* One page. *ret_cost: how many keys or members that was, for the pace; v->passes grows with the last page of a pass. An error leaves the
 * place as it was, so the page is done again. */
MUST_CHECK enum err verify_step(struct verify *v, const struct buffer_io *io, int64_t *ret_cost);

#endif
