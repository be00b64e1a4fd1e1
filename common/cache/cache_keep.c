/* SPDX-License-Identifier: Apache-2.0 */
/* Keeping: whose turn it is to fill, the epochs before it, an entry's times, and what goes to Redis. */
#include <string.h>

#include "base/str.h"
#include "base/timefmt.h"
#include "cache/cache_internal.h"
#include "cache_lua.h"

static struct str lock_key(struct arena *arena, struct str key)
{
	return str_of(arena_printf(arena, "%.*s~lock", STR_FMT(key)));
}

static int64_t life_us(unsigned s, int64_t permille)
{
	return (int64_t)s * US_PER_S / 1000 * permille;
}

/* Entries of one moment must not end in one moment. */
static int64_t jitter_permille(struct cache *c)
{
	int64_t most = (int64_t)c->conf.jitter_percent * 10;

	return most == 0 ? 1000 : 1000 - most + (int64_t)(cache_random(c) % (uint64_t)(2 * most + 1));
}

static void set_times(struct cache *c, const struct cache_life *life, bool negative, struct entry *e)
{
	int64_t permille = jitter_permille(c);
	unsigned grace = life->swr_s > life->sie_s ? life->swr_s : life->sie_s;
	unsigned ttl = negative ? life->negative_s : life->ttl_s;

	e->flags = negative ? ENTRY_NEGATIVE : 0;
	e->fresh_until_us = e->written_us + life_us(ttl, permille);
	e->soft_us = life->soft_s != 0 && life->soft_s < ttl ? e->written_us + life_us(life->soft_s, permille)
							     : e->fresh_until_us;
	e->end_us = e->fresh_until_us + (negative ? 0 : life_us(grace, 1000));
}

static bool life_is_valid(const struct cache_life *life)
{
	return life->ttl_s <= CACHE_LIFE_MAX_S && life->swr_s <= CACHE_LIFE_MAX_S && life->sie_s <= CACHE_LIFE_MAX_S &&
	       life->negative_s <= CACHE_LIFE_MAX_S &&
	       life->ttl_s + (life->swr_s > life->sie_s ? life->swr_s : life->sie_s) <= CACHE_LIFE_MAX_S;
}

/* What cache_fill.lua gets. Empty `value`: the lock alone is given back. */
static struct redis_args fill_args(const struct cache *c, struct arena *arena, const struct cache_call *call, struct str value,
				   int64_t life_ms, struct str token)
{
	struct str *args = arena_array(arena, call->tags->n + 6, sizeof(*args));
	size_t n = 0;

	args[n++] = call->key;
	args[n++] = value;
	args[n++] = str_of(arena_printf(arena, "%lld", (long long)life_ms));
	args[n++] = token.n != 0 ? lock_key(arena, call->key) : STR("");
	args[n++] = token;
	args[n++] = str_of(c->channel);
	for (size_t i = 0; i < call->tags->n; i++)
		args[n++] = link_index_key(c, arena, call->tags->school, call->tags->v[i]);
	return (struct redis_args){args, n};
}

/* Without waiting, for this fiber may have been cancelled; lost, the lock ends by itself. */
void keep_release(struct cache *c, struct arena *arena, const struct cache_call *call, struct str token)
{
	struct redis_args args = fill_args(c, arena, call, STR(""), 0, token);
	struct str *all = arena_array(arena, 9, sizeof(*all));

	if (token.n == 0)
		return;
	all[0] = STR("EVALSHA");
	all[1] = str_of(LUA_CACHE_FILL.sha);
	all[2] = STR("0");
	memcpy(all + 3, args.v, 6 * sizeof(*all));
	redis_post(c->conf.redis, (struct redis_args){all, 9});
}

/* Without tags and lock there is nothing that belongs together, and a script costs Redis four times a SET. */
SUSPENDS static enum err put(struct cache *c, struct arena *arena, struct deadline d, const struct cache_call *call,
			     struct str value, int64_t life_ms, struct str token, struct redis_reply *ret)
{
	struct redis_args args = fill_args(c, arena, call, value, life_ms, token);

	if (call->tags->n == 0 && token.n == 0)
		return link_call(c, arena, d, REDIS_ARGS(STR("SET"), call->key, value, STR("PX"), args.v[2]), ret);
	return link_script(c, arena, d, &LUA_CACHE_FILL, args, ret);
}

enum err keep_entry(struct cache *c, struct arena *arena, struct deadline d, const struct cache_call *call,
		    const struct str *keys, const struct filling *f, bool negative, struct str bytes)
{
	struct entry e = {.written_us = f->begun_us, .n_tags = call->tags->n};
	struct buf value = buf_in(arena);
	struct redis_reply reply;
	enum err err;

	for (size_t i = 0; i < e.n_tags; i++) {
		e.tags[i] = entry_tag_hash(keys[i]);
		e.epochs[i] = f->epochs[i];
	}
	set_times(c, &call->life, negative, &e);
	entry_write(&e, c->conf.codec, bytes, &value);
	err = put(c, arena, d, call, buf_str(&value), (e.end_us - e.written_us) / 1000, f->token, &reply);
	if (err != OK)
		return err;
	count_filled(c, call, bytes.n, value.n);
	memory_put(&c->memory, call->key, &e, bytes, f->turn);
	return OK;
}

bool keep_is_wanted(const struct cache_call *call, enum err e, size_t n)
{
	if (call->tags->n > CACHE_TAGS_MAX || n > CACHE_ENTRY_MAX || !life_is_valid(&call->life))
		return false;
	return (e == OK && call->life.ttl_s != 0) || (e == ERR_NOT_FOUND && call->life.negative_s != 0);
}

/* A missing epoch begins now: the script makes it. */
enum err keep_lead(struct cache *c, struct arena *arena, struct deadline d, const struct cache_call *call, const struct str *keys,
		   bool alone, struct filling *f, bool *ret_leads)
{
	struct str *args = arena_array(arena, call->tags->n + 4, sizeof(*args));
	struct redis_reply reply;
	enum err e;

	f->turn = memory_turn(&c->memory);
	f->token = alone ? str_of(arena_printf(arena, "%016llx", (unsigned long long)cache_random(c))) : STR("");
	args[0] = alone ? lock_key(arena, call->key) : STR("");
	args[1] = f->token;
	args[2] = str_of(arena_printf(arena, "%d", LOCK_MS));
	args[3] = str_of(arena_printf(arena, "%u", EPOCH_LIFE_S));
	if (call->tags->n != 0)
		memcpy(args + 4, keys, call->tags->n * sizeof(*keys));
	e = link_script(c, arena, d, &LUA_CACHE_LEAD, (struct redis_args){args, call->tags->n + 4}, &reply);
	if (e != OK) { /* Redis may have given the lock all the same, and everybody would wait for its end */
		keep_release(c, arena, call, f->token);
		return e;
	}
	if (reply.type != REDIS_ARRAY || reply.n != call->tags->n + 1 || reply.v[0].type != REDIS_INTEGER)
		return ERR_CACHE;
	*ret_leads = reply.v[0].i == 1;
	for (size_t i = 0; i < call->tags->n; i++) {
		if (!str_to_i64(reply.v[i + 1].s, &f->epochs[i]))
			return ERR_CACHE;
	}
	return OK;
}

/* The epochs before a cache_set: most are there, and reading them is one cheap command. */
SUSPENDS static enum err take_epochs(struct cache *c, struct arena *arena, struct deadline d, const struct cache_call *call,
				     const struct str *keys, struct filling *f)
{
	struct str *args = arena_array(arena, call->tags->n + 1, sizeof(*args));
	struct redis_reply reply;
	bool all = true, leads;
	enum err e;

	f->turn = memory_turn(&c->memory);
	if (call->tags->n == 0)
		return link_is_open(c) ? OK : ERR_CACHE;
	args[0] = STR("MGET");
	memcpy(args + 1, keys, call->tags->n * sizeof(*keys));
	e = link_call(c, arena, d, (struct redis_args){args, call->tags->n + 1}, &reply);
	if (e != OK)
		return e;
	if (reply.type != REDIS_ARRAY || reply.n != call->tags->n)
		return ERR_CACHE;
	for (size_t i = 0; all && i < reply.n; i++)
		all = reply.v[i].type == REDIS_STRING && str_to_i64(reply.v[i].s, &f->epochs[i]);
	return all ? OK : keep_lead(c, arena, d, call, keys, false, f, &leads);
}

enum err cache_set(struct cache *c, struct arena *arena, struct deadline d, struct str key, const struct cache_tags *tags,
		   const struct cache_life *life, struct str bytes)
{
	struct cache_call call = {.key = key, .tags = edges_follow(c, arena, tags), .life = *life};
	struct str *keys = link_epoch_keys(c, arena, call.tags);
	struct filling f = {.begun_us = loop_real_us(c->loop)};
	enum err e;

	if (life->ttl_s == 0 || !life_is_valid(life))
		return ERR_INVALID;
	if (bytes.n > CACHE_ENTRY_MAX || call.tags->n > CACHE_TAGS_MAX)
		return ERR_TOO_LARGE;
	e = take_epochs(c, arena, d, &call, keys, &f);
	return e != OK ? e : keep_entry(c, arena, d, &call, keys, &f, false, bytes);
}
