/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Invalidation by tags that have to be looked for: in every school, by patterns of tags, everything of a school. What has ever been kept under a tag has
 * left the tag's epoch in Redis, so one walk through the epochs finds them; an epoch that was evicted counts as just raised, and has nothing under it.
 */
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/uuid.h"
#include "cache/cache_index.h"
#include "cache/cache_internal.h"

#define FOUND_MAX 100000 /* tags of schools that one call raises */

struct found {
	struct uuid school;
	struct str tag;
	size_t group, which; /* its first pattern */
};

struct looking {
	const struct cache_group *groups;
	size_t n_groups;
	const struct uuid *school; /* NULL: every one */
	struct found *v;
	size_t n, cap;
	struct hash seen; /* SCAN may name a key twice; a hash of epoch keys */
	bool too_many;
};

/* * stands for any text; it is in no tag itself. */
static bool tag_matches(struct str pattern, struct str tag)
{
	size_t p = 0, t = 0, star = SIZE_MAX, mark = 0;

	while (t < tag.n) {
		if (p < pattern.n && pattern.p[p] == '*') {
			star = p++;
			mark = t;
		} else if (p < pattern.n && pattern.p[p] == tag.p[t]) {
			p++;
			t++;
		} else if (star != SIZE_MAX) {
			p = star + 1;
			t = ++mark;
		} else {
			return false;
		}
	}
	while (p < pattern.n && pattern.p[p] == '*')
		p++;
	return p == pattern.n;
}

static bool is_pattern(struct str tag)
{
	return memchr(tag.p, '*', tag.n) != NULL;
}

static void found_add(struct looking *l, struct arena *arena, struct uuid school, struct str tag, size_t group, size_t which)
{
	if (l->n == FOUND_MAX) {
		l->too_many = true;
		return;
	}
	if (l->n == l->cap) {
		size_t cap = l->cap != 0 ? 2 * l->cap : 64;

		l->v = arena_regrow(arena, l->v, l->cap * sizeof(*l->v), cap * sizeof(*l->v));
		l->cap = cap;
	}
	l->v[l->n++] = (struct found){school, tag, group, which};
}

/* "cache:<env>:epoch:{school}:tag". A name too long for Redis is the end of no tag, but of its hash: only the whole tag leads to it. */
static void take_epoch(struct looking *l, const struct cache *c, struct arena *arena, struct arena *scratch, struct str key)
{
	struct str rest;
	struct uuid school;

	if (!name_school(c, STR("epoch:"), key, &school, &rest) || (l->school != NULL && !uuid_eq(school, *l->school)))
		return;
	for (size_t g = 0; g < l->n_groups; g++)
		for (size_t i = 0; i < l->groups[g].n; i++) {
			struct str tag = l->groups[g].tags[i];
			bool pattern = is_pattern(tag);

			if (pattern ? !tag_matches(tag, rest) : !str_eq(link_epoch_key(c, scratch, school, tag), key))
				continue;
			key = arena_str(arena, key);
			if (hash_put(&l->seen, key, l) == NULL)
				found_add(l, arena, school, pattern ? (struct str){key.p + key.n - rest.n, rest.n} : tag, g, i);
			return;
		}
}

SUSPENDS static enum err look_for(struct looking *l, struct cache *c, struct arena *arena, struct deadline d)
{
	struct walk walk = {.c = c, .d = d, .match = str_of(arena_printf(arena, "%sepoch:*", c->shared))};
	struct arena *scratch = arena_new();
	enum err e = OK;

	while (e == OK && !walk.done && !l->too_many) {
		struct redis_reply keys;

		e = walk_next(&walk, scratch, &keys);
		for (size_t i = 0; e == OK && i < keys.n; i++)
			take_epoch(l, c, arena, scratch, keys.v[i].s);
		arena_clear(scratch);
	}
	arena_free(scratch);
	return e;
}

/* Whole tags of one school need no walk: they are raised whether anything has been kept under them or not. */
static bool take_all(struct looking *l, struct arena *arena)
{
	for (size_t g = 0; g < l->n_groups; g++)
		for (size_t i = 0; i < l->groups[g].n; i++)
			if (l->school == NULL || is_pattern(l->groups[g].tags[i]))
				return false;
	for (size_t g = 0; g < l->n_groups; g++)
		for (size_t i = 0; i < l->groups[g].n; i++)
			found_add(l, arena, *l->school, l->groups[g].tags[i], g, i);
	return true;
}

/* The groups' own order, for a dry run counts an entry under the first of its tags, as the real one does. */
static int by_group(const void *a, const void *b)
{
	const struct found *x = a, *y = b;

	if (x->group != y->group)
		return x->group < y->group ? -1 : 1;
	return x->which < y->which ? -1 : x->which > y->which;
}

static struct tag_state *states_of(const struct looking *l, const struct cache *c, struct arena *arena,
				   struct cache_group *groups)
{
	struct tag_state *v = arena_array(arena, l->n + 1, sizeof(*v));

	for (size_t i = 0; i < l->n; i++) {
		const struct found *f = &l->v[i];
		struct str epoch = link_epoch_key(c, arena, f->school, f->tag);

		v[i] = (struct tag_state){.index = link_index_key(c, arena, f->school, f->tag),
					  .epoch = epoch,
					  .hash = index_hash(arena, epoch),
					  .sum = &groups[f->group].dropped};
	}
	return v;
}

enum err cache_drop_groups(struct cache *c, struct arena *arena, struct deadline d, const struct uuid *school,
			   struct cache_group *groups, size_t n, bool dry_run)
{
	struct looking l = {.groups = groups, .n_groups = n, .school = school};
	bool walked = !take_all(&l, arena);
	enum err e = walked ? look_for(&l, c, arena, d) : OK;

	hash_done(&l.seen);
	for (size_t g = 0; g < n; g++)
		groups[g].dropped = (struct cache_dropped){.complete = !l.too_many};
	if (e != OK)
		return e;
	if (l.n != 0)
		qsort(l.v, l.n, sizeof(*l.v), by_group);
	e = index_drop(c, arena, d, states_of(&l, c, arena, groups), l.n, dry_run);
	if (walked && !dry_run) /* an evicted epoch names its school no more, but memories may still have entries under it */
		memories_forget(c);
	return e;
}

enum err cache_drop_everywhere(struct cache *c, struct arena *arena, struct deadline d, const struct cache_tags *tags,
			       bool dry_run, struct cache_dropped *ret)
{
	struct cache_group group = {.tags = tags->v, .n = tags->n};
	enum err e = cache_drop_groups(c, arena, d, NULL, &group, 1, dry_run);

	*ret = group.dropped;
	return e;
}

static int by_school(const void *a, const void *b)
{
	const struct found *x = a, *y = b;
	int order = memcmp(x->school.b, y->school.b, sizeof(x->school.b));

	return order != 0 ? order : by_group(a, b);
}

enum err cache_drop_all_of_everywhere(struct cache *c, struct arena *arena, struct deadline d, const struct cache_tags *tags,
				      bool dry_run, struct cache_dropped *ret)
{
	const struct cache_group group = {.tags = tags->v, .n = tags->n};
	struct looking l = {.groups = &group, .n_groups = 1};
	struct arena *scratch = arena_new();
	enum err e = look_for(&l, c, arena, d);

	*ret = (struct cache_dropped){.complete = !l.too_many};
	if (l.n != 0)
		qsort(l.v, l.n, sizeof(*l.v), by_school);
	for (size_t from = 0, to; e == OK && from < l.n; from = to) {
		struct cache_tags own = *tags;
		struct cache_dropped one;

		own.school = l.v[from].school;
		for (to = from; to < l.n && uuid_eq(l.v[to].school, own.school);)
			to++;
		if (to - from != tags->n) /* what has no epoch here has no entries here */
			continue;
		e = cache_drop_all_of(c, scratch, d, &own, dry_run, &one);
		ret->live += one.live;
		ret->stale += one.stale;
		ret->complete &= one.complete;
		arena_clear(scratch);
	}
	arena_free(scratch);
	hash_done(&l.seen);
	return e;
}

enum err cache_drop_school(struct cache *c, struct arena *arena, struct deadline d, struct uuid school, bool dry_run,
			   struct cache_dropped *ret)
{
	const struct str any = STR("*");
	struct cache_group group = {.tags = &any, .n = 1, .dropped = {.complete = true}};
	struct buf glob = buf_in(arena);
	struct cache_dropped rest;
	/* All epochs first: whatever is being filled in the meantime is unreachable too. */
	enum err e = dry_run ? OK : cache_drop_groups(c, arena, d, &school, &group, 1, false);

	*ret = group.dropped;
	if (e != OK)
		return e;
	buf_printf(&glob, "%s*:v*:{", c->shared);
	if (uuid_is_nil(school))
		buf_puts(&glob, STR("all"));
	else
		buf_put_uuid(&glob, school);
	buf_puts(&glob, STR("}:*"));
	e = drop_glob(c, d, buf_str(&glob), dry_run, &rest);
	ret->live += rest.live;
	ret->complete &= rest.complete;
	return e;
}
