/* SPDX-License-Identifier: Apache-2.0 */
/* Invalidation by tags, in one school and in all of them, and what the tag indexes hold. */
#include "cache/cache_index.h"

#include <inttypes.h>
#include <string.h>

#include "base/str.h"
#include "base/uuid.h"
#include "cache/cache_internal.h"
#include "cache_lua.h"

#define TAGS_AT_ONCE 32 /* of one call */
#define HEAD_ARGS 5
#define TAG_ARGS 7
#define REPLY_OF_TAG 6
#define ORDER_MAX 4096 /* tags of one dry run; with more of them an entry may count twice */

struct str index_hash(struct arena *arena, struct str epoch_key)
{
	uint64_t hash = entry_tag_hash(epoch_key);
	char *p = arena_alloc(arena, 8);

	for (int i = 0; i < 8; i++)
		p[i] = (char)(hash >> (8 * i));
	return (struct str){p, 8};
}

static struct str number(struct arena *arena, int64_t v)
{
	return str_of(arena_printf(arena, "%" PRId64, v));
}

/* ---- any of several tags ---- */

struct dropping {
	struct cache *c;
	struct deadline d;
	bool dry_run;
	struct tag_state *first; /* of all of them; what comes before a tag has counted its entries already */
	struct str hashes;       /* of a dry run, in this order */
};

static enum err take_reply(struct tag_state *const *tags, size_t n, const struct redis_reply *reply)
{
	if (reply->type != REDIS_ARRAY || reply->n != n * REPLY_OF_TAG)
		return ERR_CACHE;
	for (size_t i = 0; i < n; i++) {
		const struct redis_reply *v = reply->v + i * REPLY_OF_TAG;

		tags[i]->sum->live += (uint64_t)v[0].i;
		tags[i]->sum->expired += (uint64_t)v[1].i;
		tags[i]->sum->stale += (uint64_t)v[2].i;
		tags[i]->before = v[3].i;
		tags[i]->after = v[4].i;
		tags[i]->from = v[5].i;
	}
	return OK;
}

SUSPENDS static enum err drop_call(const struct dropping *x, struct arena *arena, const char *mode, struct tag_state *const *tags,
				   size_t n)
{
	struct str *args = arena_array(arena, HEAD_ARGS + n * TAG_ARGS, sizeof(*args));
	struct redis_reply reply;
	enum err e;

	args[0] = str_of(mode);
	args[1] = str_of(x->c->channel);
	args[2] = number(arena, EPOCH_LIFE_S);
	args[3] = number(arena, INDEX_CHUNK);
	args[4] = x->hashes;
	for (size_t i = 0; i < n; i++) {
		struct str *of = args + HEAD_ARGS + i * TAG_ARGS;

		of[0] = tags[i]->index;
		of[1] = tags[i]->epoch;
		of[2] = tags[i]->hash;
		of[3] = number(arena, tags[i]->before);
		of[4] = number(arena, tags[i]->after);
		of[5] = number(arena, tags[i]->from);
		of[6] = number(arena, tags[i] - x->first);
	}
	e = index_script(x->c, arena, x->d, &LUA_CACHE_DROP, (struct redis_args){args, HEAD_ARGS + n * TAG_ARGS}, &reply);
	return e != OK ? e : take_reply(tags, n, &reply);
}

static size_t not_done(struct tag_state *tags, size_t n, struct tag_state **ret)
{
	size_t some = 0;

	for (size_t i = 0; i < n; i++)
		if (tags[i].from >= 0)
			ret[some++] = &tags[i];
	return some;
}

/* Raised by the first call, whatever there is to free. */
SUSPENDS static enum err drop_some(const struct dropping *x, struct arena *arena, struct tag_state *tags, size_t n,
				   bool *ret_raised)
{
	struct tag_state **left = arena_array(arena, n + 1, sizeof(struct tag_state *));
	struct arena *scratch = arena_new();
	enum err e = OK;
	bool first = true;

	for (size_t some; e == OK && (some = not_done(tags, n, left)) != 0; first = false) {
		e = drop_call(x, scratch, x->dry_run ? "count" : first ? "raise" : "free", left, some);
		*ret_raised |= e == OK;
		arena_clear(scratch);
	}
	arena_free(scratch);
	return e;
}

static void put_order(struct dropping *x, struct arena *arena, size_t n)
{
	struct buf hashes = buf_in(arena);

	for (size_t i = 0; i < n && n <= ORDER_MAX; i++)
		buf_puts(&hashes, x->first[i].hash);
	x->hashes = buf_str(&hashes);
}

enum err index_drop(struct cache *c, struct arena *arena, struct deadline d, struct tag_state *tags, size_t n, bool dry_run)
{
	struct dropping x = {.c = c, .d = d, .dry_run = dry_run, .first = tags, .hashes = STR("")};
	enum err e = OK;

	if (dry_run)
		put_order(&x, arena, n);
	else
		c->stats.raised_tags += n;
	for (size_t i = 0; i < n && !dry_run; i++)
		memory_raise(&c->memory, tags[i].epoch);
	for (size_t from = 0; from < n; from += TAGS_AT_ONCE) {
		size_t some = n - from < TAGS_AT_ONCE ? n - from : TAGS_AT_ONCE;
		bool raised = false;
		enum err one = c->shut ? ERR_CACHE : drop_some(&x, arena, tags + from, some, &raised);

		/* What could not be raised is in the journal before the caller hears of it; of what was, the rest ends by itself. */
		for (size_t i = from; i < from + some && one != OK && !dry_run; i++) {
			if (!raised)
				journal_add(c, tags[i].epoch);
			tags[i].sum->complete = false;
		}
		if (one != OK && !(raised && !dry_run))
			e = one;
	}
	return e;
}

static struct tag_state state_of(const struct cache *c, struct arena *arena, struct uuid school, struct str tag)
{
	struct str epoch = link_epoch_key(c, arena, school, tag);

	return (struct tag_state){
		.index = link_index_key(c, arena, school, tag), .epoch = epoch, .hash = index_hash(arena, epoch)};
}

enum err cache_drop_tags(struct cache *c, struct arena *arena, struct deadline d, const struct cache_tags *tags, bool dry_run,
			 struct cache_dropped *ret)
{
	struct tag_state *states = arena_array(arena, tags->n + 1, sizeof(*states));

	*ret = (struct cache_dropped){.complete = true};
	for (size_t i = 0; i < tags->n; i++) {
		states[i] = state_of(c, arena, tags->school, tags->v[i]);
		states[i].sum = ret;
	}
	return index_drop(c, arena, d, states, tags->n, dry_run);
}

/* ---- all of several tags ---- */

/* The smallest index is the one to walk through. */
SUSPENDS static enum err smallest_first(struct cache *c, struct arena *arena, struct deadline d, struct tag_state *tags, size_t n)
{
	int64_t least = INT64_MAX;
	size_t at = 0;
	struct tag_state first;

	for (size_t i = 0; i < n; i++) {
		struct redis_reply reply;
		enum err e = index_call(c, arena, d, REDIS_ARGS(STR("ZCARD"), tags[i].index), &reply);

		if (e != OK)
			return e;
		if (reply.i < least) {
			least = reply.i;
			at = i;
		}
	}
	first = tags[at];
	tags[at] = tags[0];
	tags[0] = first;
	return OK;
}

enum err cache_drop_all_of(struct cache *c, struct arena *arena, struct deadline d, const struct cache_tags *tags, bool dry_run,
			   struct cache_dropped *ret)
{
	size_t n_args = 4 + 3 * tags->n;
	struct str *args = arena_array(arena, n_args, sizeof(*args));
	struct tag_state *states = arena_array(arena, tags->n + 1, sizeof(*states));
	int64_t from = 0;
	enum err e;

	*ret = (struct cache_dropped){.complete = true};
	if (tags->n == 0)
		return OK;
	for (size_t i = 0; i < tags->n; i++)
		states[i] = state_of(c, arena, tags->school, tags->v[i]);
	e = smallest_first(c, arena, d, states, tags->n);
	args[0] = dry_run ? STR("count") : STR("free");
	args[1] = str_of(c->channel);
	args[2] = number(arena, INDEX_CHUNK);
	for (size_t i = 0; i < tags->n; i++) {
		args[4 + 3 * i] = states[i].index;
		args[5 + 3 * i] = states[i].epoch;
		args[6 + 3 * i] = states[i].hash;
	}
	while (e == OK && from >= 0) {
		struct redis_reply reply;

		args[3] = number(arena, from);
		e = index_script(c, arena, d, &LUA_CACHE_DROP_ALL, (struct redis_args){args, n_args}, &reply);
		if (e == OK && (reply.type != REDIS_ARRAY || reply.n != 3))
			e = ERR_CACHE;
		if (e != OK)
			break;
		ret->live += (uint64_t)reply.v[0].i;
		ret->stale += (uint64_t)reply.v[1].i;
		from = reply.v[2].i;
	}
	if (!dry_run)
		memory_forget(&c->memory);
	if (e != OK)
		ret->complete = false;
	return e;
}

/* ---- what the indexes hold ---- */

SUSPENDS static enum err describe_index(struct cache *c, struct arena *arena, struct deadline d, struct str key,
					struct uuid school, struct str tag, struct cache_indexed *ret)
{
	struct str now = str_of(arena_printf(arena, "(%" PRId64, loop_real_us(c->loop) / 1000));
	struct redis_reply count, first;
	enum err e = index_call(c, arena, d, REDIS_ARGS(STR("ZCOUNT"), key, now, STR("+inf")), &count);

	if (e == OK)
		e = index_call(c, arena, d,
			       REDIS_ARGS(STR("ZRANGEBYSCORE"), key, now, STR("+inf"), STR("LIMIT"), STR("0"), STR("10")),
			       &first);
	if (e != OK)
		return e;
	*ret = (struct cache_indexed){.school = school, .tag = tag, .entries = (uint64_t)count.i};
	for (size_t i = 0; i < first.n && i < ARRAY_LEN(ret->keys); i++)
		ret->keys[ret->n_keys++] = first.v[i].s;
	return OK;
}

struct listing {
	struct uuid school;
	struct hash seen; /* SCAN may name a key twice */
	size_t most, n;
	struct cache_indexed *v;
	uint64_t total;
};

SUSPENDS static enum err list_one(struct listing *l, struct cache *c, struct arena *arena, struct deadline d, struct str key)
{
	struct uuid school;
	struct str tag;
	enum err e;

	if (!name_school(c, STR("index:"), key, &school, &tag) || (!uuid_is_nil(l->school) && !uuid_eq(l->school, school)))
		return OK;
	key = arena_str(arena, key);
	if (hash_put(&l->seen, key, l) != NULL)
		return OK;
	l->total++;
	if (l->n == l->most)
		return OK;
	tag = (struct str){key.p + key.n - tag.n, tag.n};
	e = describe_index(c, arena, d, key, school, tag, &l->v[l->n]);
	if (e != OK)
		return e;
	if (l->v[l->n].entries == 0)
		l->total--; /* of expired members alone: the next sweep takes it away */
	else
		l->n++;
	return OK;
}

enum err cache_index_list(struct cache *c, struct arena *arena, struct deadline d, struct uuid school, size_t most,
			  struct cache_indexed *ret_v, size_t *ret_n, uint64_t *ret_total)
{
	struct walk walk = {.c = c, .d = d, .match = str_of(arena_printf(arena, "%sindex:*", c->shared))};
	struct listing l = {.school = school, .most = most, .v = ret_v};
	struct arena *scratch = arena_new();
	enum err e = OK;

	while (e == OK && !walk.done) {
		struct redis_reply keys;

		e = walk_next(&walk, scratch, &keys);
		for (size_t i = 0; e == OK && i < keys.n; i++)
			e = list_one(&l, c, arena, d, keys.v[i].s);
		arena_clear(scratch);
	}
	arena_free(scratch);
	hash_done(&l.seen);
	if (e == OK) {
		*ret_n = l.n;
		*ret_total = l.total;
	}
	return e;
}
