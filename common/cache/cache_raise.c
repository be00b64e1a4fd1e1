/* SPDX-License-Identifier: Apache-2.0 */
/* Raising the epochs of tags, after a change and before its answer. */
#include <inttypes.h>
#include <string.h>

#include "base/str.h"
#include "cache/cache_internal.h"
#include "cache_lua.h"

#define KEYS_MAX 256 /* of one call: it must not hold Redis up */

SUSPENDS static enum err raise_in_turn(struct cache *c, struct arena *arena, const struct str *keys, size_t n, struct deadline d)
{
	struct str *args = arena_array(arena, KEYS_MAX + 2, sizeof(*args));
	enum err e = OK;

	args[0] = str_of(c->channel);
	args[1] = str_of(arena_printf(arena, "%u", EPOCH_LIFE_S));
	for (size_t from = 0; e == OK && from < n; from += KEYS_MAX) {
		size_t some = n - from < KEYS_MAX ? n - from : KEYS_MAX;
		struct redis_reply reply;

		memcpy(args + 2, keys + from, some * sizeof(*keys));
		e = redis_script_call(c->conf.redis, &LUA_CACHE_RAISE, (struct redis_args){args, some + 2}, arena, d, &reply);
		e = link_judge(c, e, &reply);
	}
	return e;
}

/*
 * What takes several calls is raised twice. Between them an answer may be made whose own tag is raised already, of kept rows whose tag is not yet: it
 * would be newer by its tag than its rows are, and stay. The second turn drops it. Only then it may be said that an event's tags are raised.
 */
enum err raise_keys(struct cache *c, struct arena *arena, const struct str *keys, size_t n, struct deadline d)
{
	size_t n_epochs = 0;
	enum err e = OK;

	while (n_epochs < n && keys[n_epochs].p[0] != '#') /* those come behind them */
		n_epochs++;
	if (n > KEYS_MAX)
		e = raise_in_turn(c, arena, keys, n_epochs, d);
	return e == OK ? raise_in_turn(c, arena, keys, n, d) : e;
}

/* Behind a shut gate: Redis may be slow to this process and quick to the others, who must not read around a change until the keeper's next turn. Nobody
 * waits for it, and the journal has the tags all the same. What is sent before an answer is done before whatever its reader asks. */
static void post_keys(struct cache *c, struct arena *arena, const struct str *keys, size_t n)
{
	struct str *args = arena_array(arena, KEYS_MAX + 5, sizeof(*args));

	args[0] = STR("EVALSHA");
	args[1] = str_of(LUA_CACHE_RAISE.sha);
	args[2] = STR("0");
	args[3] = str_of(c->channel);
	args[4] = str_of(arena_printf(arena, "%u", EPOCH_LIFE_S));
	for (size_t from = 0; from < n; from += KEYS_MAX) {
		size_t some = n - from < KEYS_MAX ? n - from : KEYS_MAX;

		memcpy(args + 5, keys + from, some * sizeof(*keys));
		redis_post(c->conf.redis, (struct redis_args){args, some + 5});
	}
}

enum err cache_raise(struct cache *c, struct arena *arena, const struct cache_tags *tags)
{
	struct str *keys = link_epoch_keys(c, arena, tags);
	enum err e = ERR_CACHE;

	if (tags->n == 0)
		return OK;
	for (size_t i = 0; i < tags->n; i++) {
		count_tag(c, tags->v[i]);
		memory_raise(&c->memory, keys[i]);
	}
	for (size_t i = 0; i < tags->n_told; i++)
		keys[tags->n + i] = str_of(arena_printf(arena, "#%.*s", STR_FMT(tags->told[i])));
	if (!c->shut)
		e = raise_keys(c, arena, keys, tags->n + tags->n_told, deadline_in(c->loop, c->conf.timeout_ms));
	else if (c->conf.redis != NULL)
		post_keys(c, arena, keys, tags->n + tags->n_told);
	if (e == OK)
		return OK;
	/* The caller may have been cancelled: the change is made all the same, and nobody may read around it. */
	for (size_t i = 0; i < tags->n; i++)
		journal_add(c, keys[i]);
	return ERR_CACHE;
}
