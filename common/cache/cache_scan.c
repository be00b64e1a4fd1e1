/* SPDX-License-Identifier: Apache-2.0 */
/* Walks through the names of the cache's Redis: invalidation by pattern, and one entry shown or dropped. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/uuid.h"
#include "cache/cache_index.h"
#include "cache/cache_internal.h"
#include "cache_lua.h"

#define STEP_NAMES 1000
#define PAUSE_MS 1      /* between two steps: others come first */
#define CALL_MS 1000    /* the administration waits longer than a request would */
#define SEEN_MAX 500000 /* names that a dry run remembers, to count none twice */
#define NEWS_KEYS 64    /* past it, memories forget everything: rare, and cheaper than naming all */

/* ---- calls ---- */

/* A refusal by the server, such as a missing right, is no sign that it is away: the gate is not told. Out of time with the caller nothing is said about
 * Redis either; out of patience before him, it is. */
static enum err judge_call(struct cache *c, struct deadline d, enum err e, const struct redis_reply *reply)
{
	if (e == OK && reply->type == REDIS_ERROR)
		return ERR_CACHE;
	if (e == ERR_CANCELLED || (e == ERR_TIMEOUT && loop_mono_us(c->loop) >= d.at_us))
		return e;
	return link_judge(c, e, reply, loop_mono_us(c->loop) - CALL_MS * INT64_C(1000));
}

enum err index_call(struct cache *c, struct arena *arena, struct deadline d, struct redis_args args, struct redis_reply *ret)
{
	struct deadline mine = deadline_sooner(d, deadline_in(c->loop, CALL_MS));

	if (c->shut)
		return ERR_CACHE;
	return judge_call(c, d, redis_call(c->conf.redis, arena, mine, args, ret), ret);
}

enum err index_script(struct cache *c, struct arena *arena, struct deadline d, const struct redis_script *script,
		      struct redis_args args, struct redis_reply *ret)
{
	struct deadline mine = deadline_sooner(d, deadline_in(c->loop, CALL_MS));

	if (c->shut)
		return ERR_CACHE;
	return judge_call(c, d, redis_script_call(c->conf.redis, script, args, arena, mine, ret), ret);
}

/* ---- names ---- */

/* "{school}:rest" */
static bool take_school(struct str *rest, struct uuid *ret)
{
	struct str text;

	if (rest->n < 3 || rest->p[0] != '{')
		return false;
	*rest = (struct str){rest->p + 1, rest->n - 1};
	text = str_split(rest, '}');
	if (rest->n < 1 || rest->p[0] != ':')
		return false;
	*rest = (struct str){rest->p + 1, rest->n - 1};
	*ret = (struct uuid){{0}};
	return str_is(text, "all") || uuid_parse(text, ret);
}

bool name_school(const struct cache *c, struct str what, struct str key, struct uuid *ret_school, struct str *ret_rest)
{
	struct str shared = str_of(c->shared), rest = {key.p + shared.n, key.n - shared.n};

	if (!str_has_prefix(key, shared) || !str_has_prefix(rest, what))
		return false;
	*ret_rest = (struct str){rest.p + what.n, rest.n - what.n};
	return take_school(ret_rest, ret_school);
}

bool name_entry(const struct cache *c, struct str key, int64_t *ret_generation, struct uuid *ret_school)
{
	struct str shared = str_of(c->shared), rest = {key.p + shared.n, key.n - shared.n}, service, generation;

	if (!str_has_prefix(key, shared))
		return false;
	service = str_split(&rest, ':');
	generation = str_split(&rest, ':');
	if (service.n == 0 || memchr(service.p, '{', service.n) != NULL || generation.n < 2 || generation.p[0] != 'v')
		return false;
	if (!str_to_i64((struct str){generation.p + 1, generation.n - 1}, ret_generation) || *ret_generation < 0)
		return false;
	return take_school(&rest, ret_school) && !(key.n > 5 && memcmp(key.p + key.n - 5, "~lock", 5) == 0);
}

bool cache_is_entry(const struct cache *c, struct str key)
{
	int64_t generation;
	struct uuid school;

	return name_entry(c, key, &generation, &school);
}

/* ---- walking ---- */

enum err walk_next(struct walk *w, struct arena *arena, struct redis_reply *ret)
{
	struct redis_reply reply;
	enum err e = OK;

	if (w->cursor[0] != '\0')
		e = sleep_ms(w->c->loop, PAUSE_MS, w->d);
	else
		w->cursor[0] = '0';
	if (e == OK)
		e = index_call(w->c, arena, w->d,
			       REDIS_ARGS(STR("SCAN"), str_of(w->cursor), STR("MATCH"), w->match, STR("COUNT"),
					  str_of(arena_printf(arena, "%d", STEP_NAMES))),
			       &reply);
	if (e != OK)
		return e;
	if (reply.type != REDIS_ARRAY || reply.n != 2 || reply.v[0].s.n >= sizeof(w->cursor))
		return ERR_CACHE;
	memcpy(w->cursor, reply.v[0].s.p, reply.v[0].s.n);
	w->cursor[reply.v[0].s.n] = '\0';
	w->done = strcmp(w->cursor, "0") == 0;
	*ret = reply.v[1];
	return OK;
}

void memories_forget(struct cache *c)
{
	memory_forget(&c->memory);
	redis_post(c->conf.redis, REDIS_ARGS(STR("PUBLISH"), str_of(c->channel), STR("d *")));
}

/* Entries among the names, at most INDEX_CHUNK at a time. */
SUSPENDS static enum err unlink_some(struct cache *c, struct arena *arena, struct deadline d, const struct str *keys, size_t n,
				     uint64_t *sum)
{
	struct str *args = arena_array(arena, INDEX_CHUNK + 1, sizeof(*args));

	args[0] = STR("UNLINK");
	for (size_t from = 0; from < n; from += INDEX_CHUNK) {
		size_t some = n - from < INDEX_CHUNK ? n - from : INDEX_CHUNK;
		struct redis_reply reply;
		enum err e;

		memcpy(args + 1, keys + from, some * sizeof(*keys));
		e = index_call(c, arena, d, (struct redis_args){args, some + 1}, &reply);
		if (e != OK)
			return e;
		*sum += (uint64_t)reply.i;
	}
	return OK;
}

/* Names by their hashes: a dry run's memory of what it has counted. */
struct seen {
	uint64_t *v;
	size_t n, cap; /* a power of two, or 0 */
};

static bool seen_add(struct seen *s, struct str key)
{
	uint64_t hash = str_hash(key, UINT64_C(0x5ee4)) | 1;

	if (2 * (s->n + 1) > s->cap) {
		struct seen larger = {.cap = s->cap ? 2 * s->cap : 4096};

		larger.v = mem_zalloc(larger.cap * sizeof(*larger.v));
		for (size_t i = 0; i < s->cap; i++) {
			size_t at = s->v[i] & (larger.cap - 1);

			if (s->v[i] == 0)
				continue;
			while (larger.v[at] != 0)
				at = (at + 1) & (larger.cap - 1);
			larger.v[at] = s->v[i];
		}
		larger.n = s->n;
		free(s->v);
		*s = larger;
	}
	for (size_t at = hash & (s->cap - 1);; at = (at + 1) & (s->cap - 1)) {
		if (s->v[at] == hash)
			return false;
		if (s->v[at] == 0) {
			s->v[at] = hash;
			s->n++;
			return true;
		}
	}
}

struct picking {
	bool dry_run;
	int64_t older_than; /* a generation; 0: of any */
	struct seen seen;
	struct cache_dropped *sum;
};

SUSPENDS static enum err take_names(struct picking *p, struct cache *c, struct arena *arena, struct deadline d,
				    const struct redis_reply *names)
{
	struct str *keys = arena_array(arena, names->n + 1, sizeof(*keys));
	size_t n = 0;

	for (size_t i = 0; i < names->n; i++) {
		int64_t generation;
		struct uuid school;

		if (!name_entry(c, names->v[i].s, &generation, &school) || (p->older_than != 0 && generation >= p->older_than))
			continue;
		keys[n++] = names->v[i].s;
	}
	if (!p->dry_run)
		return unlink_some(c, arena, d, keys, n, &p->sum->live);
	for (size_t i = 0; i < n && p->seen.n < SEEN_MAX; i++)
		p->sum->live += seen_add(&p->seen, keys[i]);
	if (p->seen.n == SEEN_MAX)
		p->sum->complete = false;
	return OK;
}

SUSPENDS static enum err drop_matching(struct cache *c, struct deadline d, struct str match, struct picking *p)
{
	struct walk walk = {.c = c, .d = d, .match = match};
	struct arena *scratch = arena_new();
	enum err e = c->walking ? ERR_IN_PROGRESS : OK;
	bool mine = e == OK;

	c->walking = true;
	while (e == OK && !walk.done && p->sum->complete) {
		struct redis_reply names;

		e = walk_next(&walk, scratch, &names);
		if (e == OK)
			e = take_names(p, c, scratch, d, &names);
		arena_clear(scratch);
	}
	arena_free(scratch);
	free(p->seen.v);
	if (!mine)
		return e;
	c->walking = false;
	if (!p->dry_run && p->sum->live != 0)
		memories_forget(c);
	if (e == ERR_TIMEOUT) { /* so far it has come; asked again, it goes on */
		p->sum->complete = false;
		return OK;
	}
	return e;
}

/* ---- patterns ---- */

/* * and ? are what they mean; a backslash before them takes that away; everything else that a glob could understand stands for itself. */
static void put_glob(struct buf *b, struct str pattern)
{
	for (size_t i = 0; i < pattern.n; i++) {
		char ch = pattern.p[i];

		if (ch == '\\' && i + 1 < pattern.n && strchr("*?\\", pattern.p[i + 1]) != NULL) {
			buf_putc(b, '\\');
			buf_putc(b, pattern.p[++i]);
		} else {
			if (strchr("[]^\\", ch) != NULL)
				buf_putc(b, '\\');
			buf_putc(b, ch);
		}
	}
}

static enum err glob_of(const struct cache *c, struct str pattern, struct buf *b)
{
	struct str shared = str_of(c->shared);

	if (pattern.n == 0 || pattern.n > CACHE_KEY_MAX || memchr(pattern.p, '\0', pattern.n) != NULL)
		return ERR_INVALID;
	if (str_has_prefix(pattern, STR("cache:"))) {
		if (!str_has_prefix(pattern, shared)) /* to the letter, so no wildcard can lead out of it */
			return ERR_INVALID;
	} else {
		buf_printf(b, "%s*:v*:", c->shared);
		if (pattern.p[0] != '{')
			buf_puts(b, STR("{*}:"));
	}
	put_glob(b, pattern);
	return OK;
}

enum err drop_glob(struct cache *c, struct deadline d, struct str glob, bool dry_run, struct cache_dropped *ret)
{
	struct picking p = {.dry_run = dry_run, .sum = ret};

	*ret = (struct cache_dropped){.complete = true};
	return drop_matching(c, d, glob, &p);
}

enum err cache_drop_pattern(struct cache *c, struct arena *arena, struct deadline d, struct str pattern, bool dry_run,
			    struct cache_dropped *ret)
{
	struct buf glob = buf_in(arena);
	enum err e = glob_of(c, pattern, &glob);

	*ret = (struct cache_dropped){.complete = true};
	return e != OK ? e : drop_glob(c, d, buf_str(&glob), dry_run, ret);
}

enum err cache_drop_named(struct cache *c, struct arena *arena, struct deadline d, struct str text, bool dry_run,
			  struct cache_dropped *ret)
{
	struct buf glob = buf_in(arena);

	buf_printf(&glob, "%s*:v*:{*}:*", c->shared);
	for (size_t i = 0; i < text.n; i++) {
		if (strchr("*?[]^\\", text.p[i]) != NULL)
			buf_putc(&glob, '\\');
		buf_putc(&glob, text.p[i]);
	}
	buf_putc(&glob, '*');
	return drop_glob(c, d, buf_str(&glob), dry_run, ret);
}

enum err drop_generations(struct cache *c, struct arena *arena, struct deadline d, int64_t older_than, struct cache_dropped *ret)
{
	struct picking p = {.older_than = older_than, .sum = ret};

	*ret = (struct cache_dropped){.complete = true};
	return drop_matching(c, d, str_of(arena_printf(arena, "%s*:v*", c->shared)), &p);
}

/* ---- one entry ---- */

enum err cache_drop_key(struct cache *c, struct arena *arena, struct deadline d, struct str key, bool *ret_existed)
{
	struct redis_reply reply;
	enum err e;

	*ret_existed = false;
	if (!cache_is_entry(c, key))
		return OK;
	memory_remove(&c->memory, key);
	e = index_call(c, arena, d, REDIS_ARGS(STR("UNLINK"), key), &reply);
	if (e == OK)
		*ret_existed = reply.type == REDIS_INTEGER && reply.i != 0;
	count_event(c, CACHE_ON_DELETE, key);
	/* The other processes' memories go by epochs, which are as before. */
	redis_post(c->conf.redis,
		   REDIS_ARGS(STR("PUBLISH"), str_of(c->channel), str_of(arena_printf(arena, "d %.*s", STR_FMT(key)))));
	return e;
}

/* Envelopes have hashes alone: the names are in the school's indexes. */
SUSPENDS static enum err name_tags(struct cache *c, struct arena *arena, struct deadline d, struct uuid school,
				   const struct entry *entry, struct cache_shown *shown)
{
	struct str any = link_index_key(c, arena, school, STR("*"));
	struct walk walk = {.c = c, .d = d, .match = any};
	struct arena *scratch = arena_new();
	enum err e = OK;

	while (e == OK && !walk.done && shown->n_tags < entry->n_tags) {
		struct redis_reply names;

		e = walk_next(&walk, scratch, &names);
		for (size_t i = 0; e == OK && i < names.n; i++) {
			struct uuid of;
			struct str tag;
			uint64_t hash;
			bool known = !name_school(c, STR("index:"), names.v[i].s, &of, &tag);

			if (known)
				continue;
			hash = entry_tag_hash(link_epoch_key(c, scratch, of, tag));
			for (size_t k = 0; k < shown->n_tags; k++)
				known |= str_eq(shown->tags[k], tag);
			for (size_t k = 0; k < entry->n_tags && !known; k++)
				if (entry->tags[k] == hash && shown->n_tags < CACHE_TAGS_MAX) {
					shown->tags[shown->n_tags++] = arena_str(arena, tag);
					known = true;
				}
		}
		arena_clear(scratch);
	}
	arena_free(scratch);
	shown->unnamed = entry->n_tags - shown->n_tags;
	return e;
}

/* Is it good under the tags whose names are known? */
SUSPENDS static enum err is_good(struct cache *c, struct arena *arena, struct deadline d, struct uuid school,
				 const struct entry *entry, const struct cache_shown *shown, bool *ret)
{
	*ret = true;
	for (size_t i = 0; i < shown->n_tags; i++) {
		struct str key = link_epoch_key(c, arena, school, shown->tags[i]);
		uint64_t hash = entry_tag_hash(key);
		struct redis_reply reply;
		int64_t epoch = 0;
		enum err e = index_call(c, arena, d, REDIS_ARGS(STR("GET"), key), &reply);

		if (e != OK)
			return e;
		if (reply.type != REDIS_STRING || !str_to_i64(reply.s, &epoch))
			epoch = 0;
		for (size_t k = 0; k < entry->n_tags; k++)
			if (entry->tags[k] == hash && entry->epochs[k] != epoch)
				*ret = false;
	}
	return OK;
}

enum err cache_show(struct cache *c, struct arena *arena, struct deadline d, struct str key, struct cache_shown *ret)
{
	struct redis_reply value = {0}, ttl;
	struct entry entry, in_memory;
	struct uuid school;
	struct str bytes;
	int64_t generation;
	bool good = false;
	enum err e;

	*ret = (struct cache_shown){.level = LEVEL_REDIS};
	if (!name_entry(c, key, &generation, &school) || generation != c->generation)
		return ERR_NOT_FOUND;
	e = index_call(c, arena, d, REDIS_ARGS(STR("GET"), key), &value);
	if (e == ERR_CACHE && value.type == REDIS_ERROR && str_has_prefix(value.s, STR("NOPERM")))
		return ERR_FORBIDDEN;
	if (e == OK && value.type != REDIS_STRING)
		return ERR_NOT_FOUND;
	if (e == OK)
		e = index_call(c, arena, d, REDIS_ARGS(STR("PTTL"), key), &ttl);
	if (e != OK)
		return e;
	if (entry_read(value.s, &entry) != OK || entry_bytes(&entry, arena, &ret->bytes) != OK)
		return ERR_NOT_FOUND; /* a read takes it as missing, and mends it */
	ret->ttl_ms = ttl.i;
	ret->written_us = entry.written_us;
	ret->fresh_until_us = entry.fresh_until_us;
	ret->negative = (entry.flags & ENTRY_NEGATIVE) != 0;
	e = name_tags(c, arena, d, school, &entry, ret);
	if (e == OK)
		e = is_good(c, arena, d, school, &entry, ret, &good);
	if (e == OK && good && memory_get(&c->memory, key, loop_real_us(c->loop), &in_memory, &bytes))
		ret->level = LEVEL_MEMORY;
	return e != OK ? e : good ? OK : ERR_NOT_FOUND;
}
