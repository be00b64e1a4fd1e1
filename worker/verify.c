/* SPDX-License-Identifier: Apache-2.0 */
/* The verifier's walk: which keys there are, whom they name, and what the script says of those. */
#include "verify.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "svc_lua.h"

#define ITEMS_MAX 25 /* of one call: Redis does nothing else while it runs */

const char *violation_name(enum violation v)
{
	static const char *const names[] = {
#define X(name, text) text,
		VIOLATIONS(X)
#undef X
	};

	return names[v];
}

static void set_cursor(char to[24], struct str cursor)
{
	snprintf(to, 24, "%.*s", STR_FMT(cursor));
}

void verify_init(struct verify *v, size_t page, struct verify_hooks hooks)
{
	*v = (struct verify){.hooks = hooks, .page = page, .scan = "0", .members = "0", .held = arena_new()};
}

void verify_done(struct verify *v)
{
	v->held = arena_free(v->held);
}

/* ---- what a key is ---- */

/* "PREFIX<entity>" of an entity that is known here; *ret_rest is what follows behind a ':', with no_rest nothing may. */
static bool names_entity(const struct verify *v, struct str key, const char *prefix, bool no_rest, struct str *ret_entity,
			 struct str *ret_rest)
{
	struct str rest = key;

	if (!str_has_prefix(key, str_of(prefix)))
		return false;
	rest.p += strlen(prefix);
	rest.n -= strlen(prefix);
	*ret_entity = str_split(&rest, ':');
	*ret_rest = rest;
	return no_rest == (rest.p == NULL) && v->hooks.knows(v->hooks.ctx, *ret_entity);
}

static bool is_record(const struct verify *v, struct str key, struct verify_item *ret)
{
	struct verify_item item = {0};

	if (!names_entity(v, key, "write_buffer:", false, &item.entity, &item.id))
		return false;
	*ret = item;
	return true;
}

/* A set, wb:own or a list: whom do its members name. */
static bool has_members(const struct verify *v, struct str key, struct verify_item *ret, bool *ret_zset)
{
	static const char *const sets[] = {"wb:pending:", "wb:retry:", "wb:lease:", "wb:dlq:"};
	struct verify_item item = {0};
	struct str nothing;
	bool found = false;

	*ret_zset = true;
	for (size_t i = 0; i < ARRAY_LEN(sets) && !found; i++)
		found = names_entity(v, key, sets[i], true, &item.entity, &nothing);
	if (!found) {
		*ret_zset = false;
		found = names_entity(v, key, "wb:own:", true, &item.entity, &nothing) ||
			names_entity(v, key, "wb:scope:", false, &item.entity, &item.scope);
	}
	*ret = item;
	return found;
}

/* ---- asking the script ---- */

static void report(struct verify *v, struct str kind, const struct verify_item *item)
{
	for (enum violation k = 0; k < VIOLATION_N; k++) {
		if (!str_is(kind, violation_name(k)))
			continue;
		v->violations[k]++;
		if (v->hooks.found != NULL)
			v->hooks.found(v->hooks.ctx, k, item);
	}
}

static enum err check_some(struct verify *v, const struct buffer_io *io, struct arena *arena, const struct verify_item *items,
			   size_t n)
{
	struct str *args = arena_array(arena, 3 * n, sizeof(*args));
	struct redis_reply reply;
	enum err e;

	for (size_t i = 0; i < n; i++) {
		args[3 * i] = items[i].entity;
		args[3 * i + 1] = items[i].id;
		args[3 * i + 2] = items[i].scope;
	}
	e = io->eval(io->ctx, &LUA_VERIFY, (struct redis_args){args, 3 * n}, arena, &reply);
	if (e != OK)
		return e;
	if (reply.type != REDIS_ARRAY) {
		v->errors++;
		return OK; /* a key of a foreign type must not keep the walk at its page for ever */
	}
	for (size_t i = 0; i + 1 < reply.n; i += 2) {
		if (reply.v[i].i < 1 || (size_t)reply.v[i].i > n)
			return ERR_BUG;
		report(v, reply.v[i + 1].s, &items[reply.v[i].i - 1]);
	}
	v->verified += (int64_t)n;
	return OK;
}

static enum err check(struct verify *v, const struct buffer_io *io, struct arena *arena, const struct verify_item *items,
		      size_t n)
{
	enum err e = OK;

	for (size_t at = 0; e == OK && at < n; at += ITEMS_MAX)
		e = check_some(v, io, arena, items + at, n - at < ITEMS_MAX ? n - at : ITEMS_MAX);
	return e;
}

/* ---- the walk ---- */

/* A reply of SCAN and its like: a cursor and an array. A server's error is an empty last page. */
static bool page_of(struct verify *v, const struct redis_reply *reply, struct str *ret_cursor, const struct redis_reply **ret)
{
	if (reply->type == REDIS_ARRAY && reply->n == 2 && reply->v[0].type == REDIS_STRING && reply->v[1].type == REDIS_ARRAY) {
		*ret_cursor = reply->v[0].s;
		*ret = &reply->v[1];
		return true;
	}
	v->errors++;
	return false;
}

static enum err members_step(struct verify *v, const struct buffer_io *io, struct arena *arena, int64_t *ret_cost)
{
	const char *count = arena_printf(arena, "%zu", v->page);
	struct str key = v->keys[v->at_key], cursor = STR("0");
	const struct redis_reply *page;
	struct verify_item like, *items;
	struct redis_reply reply;
	bool zset;
	enum err e;

	if (!has_members(v, key, &like, &zset))
		return ERR_BUG; /* then it would not be in the list */
	e = io->call(io->ctx,
		     REDIS_ARGS(zset ? STR("ZSCAN") : STR("HSCAN"), key, str_of(v->members), STR("COUNT"), str_of(count)), arena,
		     &reply);
	if (e != OK)
		return e;
	if (page_of(v, &reply, &cursor, &page)) {
		size_t n = page->n / 2; /* each with its score or value */

		items = arena_array(arena, n + 1, sizeof(*items));
		for (size_t i = 0; i < n; i++) {
			items[i] = like;
			items[i].id = page->v[2 * i].s;
		}
		*ret_cost = n > 1 ? (int64_t)n : 1;
		e = check(v, io, arena, items, n);
	}
	if (e == OK) {
		set_cursor(v->members, cursor);
		v->at_key += str_is(cursor, "0");
	}
	return e;
}

/* Records are checked at once, keys with members are kept for the next steps. */
static enum err keys_step(struct verify *v, const struct buffer_io *io, struct arena *arena, int64_t *ret_cost)
{
	const char *count = arena_printf(arena, "%zu", v->page);
	const struct redis_reply *page;
	struct verify_item *items, item;
	struct str cursor, *keys;
	struct redis_reply reply;
	size_t n_items = 0, n_keys = 0;
	bool zset;
	enum err e = io->call(io->ctx, REDIS_ARGS(STR("SCAN"), str_of(v->scan), STR("COUNT"), str_of(count)), arena, &reply);

	if (e != OK)
		return e;
	if (!page_of(v, &reply, &cursor, &page))
		return ERR_BUFFER; /* no right to SCAN, perhaps: this is no pass */
	items = arena_array(arena, page->n + 1, sizeof(*items));
	keys = arena_array(arena, page->n + 1, sizeof(*keys));
	for (size_t i = 0; i < page->n; i++) {
		if (is_record(v, page->v[i].s, &items[n_items]))
			n_items++;
		else if (has_members(v, page->v[i].s, &item, &zset))
			keys[n_keys++] = page->v[i].s;
	}
	*ret_cost = (int64_t)(page->n > v->page ? page->n : v->page);
	e = check(v, io, arena, items, n_items);
	if (e != OK)
		return e;
	arena_clear(v->held);
	v->keys = arena_array(v->held, n_keys + 1, sizeof(*v->keys));
	for (size_t i = 0; i < n_keys; i++)
		v->keys[i] = arena_str(v->held, keys[i]);
	v->n_keys = n_keys;
	v->at_key = 0;
	set_cursor(v->scan, cursor);
	v->last_page = str_is(cursor, "0");
	return OK;
}

enum err verify_step(struct verify *v, const struct buffer_io *io, int64_t *ret_cost)
{
	struct arena *arena = arena_new();
	enum err e;

	*ret_cost = 1; /* a round trip at least */
	e = v->at_key < v->n_keys ? members_step(v, io, arena, ret_cost) : keys_step(v, io, arena, ret_cost);
	if (e == OK && v->last_page && v->at_key == v->n_keys) {
		v->passes++;
		v->last_page = false;
	}
	arena_free(arena);
	return e;
}
