/* SPDX-License-Identifier: Apache-2.0 */
/* Raising the epochs of tags, after a change and before its answer. */
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "cache/cache_internal.h"
#include "cache_lua.h"
#include "io/fiber.h"

#define KEYS_MAX 256 /* of one call: it must not hold Redis up */

SUSPENDS static enum err raise_in_turn(struct cache *c, struct arena *arena, const struct str *keys, size_t n, struct deadline d)
{
	struct str *args = arena_array(arena, KEYS_MAX + 2, sizeof(*args));
	enum err e = OK;

	args[0] = str_of(c->channel);
	args[1] = str_of(arena_printf(arena, "%u", EPOCH_LIFE_S));
	for (size_t from = 0; e == OK && from < n; from += KEYS_MAX) {
		size_t some = n - from < KEYS_MAX ? n - from : KEYS_MAX;
		int64_t sent_us = loop_mono_us(c->loop);
		struct redis_reply reply;

		memcpy(args + 2, keys + from, some * sizeof(*keys));
		e = redis_script_call(c->conf.redis, &LUA_CACHE_RAISE, (struct redis_args){args, some + 2}, arena, d, &reply);
		e = link_judge(c, e, &reply, sent_us);
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

/* ---- one call for all who come meanwhile ---- */

/* Writes of one moment share most of their tags (a table, a class), and each call costs Redis and every listener a message: so one fiber raises for all.
 * While its call is under way the next one gathers. */
struct raising {
	struct raising *next;
	unsigned refs;
	struct arena *arena;
	size_t n;
	struct str keys[KEYS_MAX];
	struct waitq waiting;
};

static struct raising *raising_with_room(struct cache *c, size_t n)
{
	struct raising *r = c->raise.tail;

	if (r != NULL && r->n + n <= KEYS_MAX)
		return r;
	r = mem_zalloc(sizeof(*r));
	r->refs = 1;
	r->arena = arena_new();
	if (c->raise.tail != NULL)
		c->raise.tail->next = r;
	else
		c->raise.head = r;
	c->raise.tail = r;
	hash_clear(&c->raise.named);
	return r;
}

static struct raising *raising_take(struct cache *c)
{
	struct raising *r = c->raise.head;

	if (r == NULL)
		return NULL;
	c->raise.head = r->next;
	if (c->raise.head == NULL)
		c->raise.tail = NULL;
	return r;
}

static void raising_unref(struct raising *r)
{
	if (--r->refs != 0)
		return;
	waitq_done(&r->waiting);
	arena_free(r->arena);
	free(r);
}

static void raising_end(struct raising *r, enum err e)
{
	waitq_wake(&r->waiting, SIZE_MAX, e);
	raising_unref(r);
}

SUSPENDS void raiser_fiber(void *cache)
{
	struct cache *c = cache;
	struct raising *r;

	c->raise.fiber = fiber_self();
	while (!c->closing) {
		enum err e = ERR_CACHE;

		r = raising_take(c);
		if (r == NULL) {
			IGNORE(waitq_wait(&c->raise.wake, (struct deadline){INT64_MAX})); /* cancelled: closing */
			continue;
		}
		if (c->shut)
			post_keys(c, r->arena, r->keys, r->n);
		else
			e = raise_in_turn(c, r->arena, r->keys, r->n, deadline_in(c->loop, c->conf.timeout_ms));
		raising_end(r, e);
	}
	c->raise.fiber = NULL;
	while ((r = raising_take(c)) != NULL)
		raising_end(r, ERR_CACHE);
}

/* With whoever else raises now. Keys are copied, for a caller may leave before the call is made. */
SUSPENDS static enum err raise_together(struct cache *c, const struct str *keys, size_t n)
{
	struct raising *r = raising_with_room(c, n);
	enum err e;

	for (size_t i = 0; i < n; i++) {
		if (hash_get(&c->raise.named, keys[i]) != NULL)
			continue;
		r->keys[r->n] = arena_str(r->arena, keys[i]);
		hash_put(&c->raise.named, r->keys[r->n], r);
		r->n++;
	}
	r->refs++;
	waitq_wake(&c->raise.wake, 1, OK);
	e = waitq_wait(&r->waiting, (struct deadline){INT64_MAX}); /* the fiber's calls end in time */
	raising_unref(r);
	return e;
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
	if (!c->shut && c->raise.fiber != NULL && tags->n + tags->n_told <= KEYS_MAX)
		e = raise_together(c, keys, tags->n + tags->n_told);
	else if (!c->shut)
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
