/* SPDX-License-Identifier: Apache-2.0 */
/* A fiber that looks at streams; each has its place, and is read up to its end or, lagging, up to where it ended at the look before. */
#include "svc/tail.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/str.h"
#include "cache/cache_internal.h"
#include "io/fiber.h"
#include "io/loop.h"
#include "io/redis.h"
#include "svc/daemon.h"

#define CALL_MS 2000
#define KEPT_S "1209600" /* no entry of the cache lives longer */
#define ID_SIZE 48
#define COUNT_TEXT "200" /* TAIL_COUNT */

struct place {
	char stream[48];
	char last[ID_SIZE];  /* given out up to here; "": not known yet */
	char until[ID_SIZE]; /* lagging: where it ended at the last look; "": not known */
	char kept[ID_SIZE];  /* as the cache has it */
	bool read;           /* `last` is an entry that was read, so it is in the stream, or was trimmed */
	bool behind;         /* the last look failed, or was of a process before this one, so there may be a gap */
};

struct tail {
	struct tail_conf conf;
	struct place places[TAIL_STREAMS_MAX];
	struct fiber *fiber;
	bool closing, failing;
};

SUSPENDS static enum err call(const struct tail *t, struct arena *arena, struct redis_args args, struct redis_reply *ret)
{
	const struct daemon *d = t->conf.daemon;
	enum err e = redis_call(daemon_buffer_at(d, t->conf.buffer), arena, deadline_in(daemon_loop(d), CALL_MS), args, ret);

	return e == OK && ret->type != REDIS_ARRAY ? ERR_BUFFER : e;
}

static void keep_id(char to[ID_SIZE], struct str id)
{
	snprintf(to, ID_SIZE, "%.*s", STR_FMT(id));
}

/* The id of the newest entry. */
SUSPENDS static enum err find_end(const struct tail *t, const char *stream, struct arena *arena, char to[ID_SIZE])
{
	struct redis_reply r;
	enum err e = call(t, arena, REDIS_ARGS(STR("XREVRANGE"), str_of(stream), STR("+"), STR("-"), STR("COUNT"), STR("1")), &r);

	if (e == OK)
		keep_id(to, r.n == 1 && r.v[0].n == 2 ? r.v[0].v[0].s : STR("0-0"));
	return e;
}

static bool id_parts(const char *id, uint64_t *ret_ms, uint64_t *ret_n)
{
	char *end;

	*ret_ms = strtoull(id, &end, 10);
	*ret_n = *end == '-' ? strtoull(end + 1, NULL, 10) : 0;
	return end != id;
}

static bool is_older(const char *id, const char *than)
{
	uint64_t a[2], b[2];

	return id_parts(id, &a[0], &a[1]) && id_parts(than, &b[0], &b[1]) && (a[0] != b[0] ? a[0] < b[0] : a[1] < b[1]);
}

/* Does the stream begin behind this id, having lost what was before? */
static bool was_cut(struct arena *arena, const struct redis_reply *info, const char *last)
{
	int64_t length = 0, added = -1;
	const char *first = NULL;

	for (size_t i = 0; i + 1 < info->n; i += 2) {
		const struct redis_reply *v = &info->v[i + 1];

		if (str_is(info->v[i].s, "length"))
			length = v->i;
		else if (str_is(info->v[i].s, "entries-added"))
			added = v->i;
		else if (str_is(info->v[i].s, "first-entry") && v->n == 2)
			first = arena_cstr(arena, v->v[0].s);
	}
	return added != length && (first == NULL || is_older(last, first));
}

/* Whether what followed the last id may be gone, unread: that entry is, or, if it was none, the stream begins behind it. */
SUSPENDS static enum err look_for_gap(struct tail *t, struct place *p, struct arena *arena)
{
	struct redis_reply r;
	enum err e = call(t, arena, REDIS_ARGS(STR("XRANGE"), str_of(p->stream), str_of(p->last), str_of(p->last)), &r);
	bool gap = p->read;

	if (e != OK || r.n != 0)
		return e;
	if (!gap) {
		e = redis_call(daemon_buffer_at(t->conf.daemon, t->conf.buffer), arena,
			       deadline_in(daemon_loop(t->conf.daemon), CALL_MS),
			       REDIS_ARGS(STR("XINFO"), STR("STREAM"), str_of(p->stream)), &r);
		gap = e == OK && r.type == REDIS_ARRAY && was_cut(arena, &r, p->last); /* an error: there is no such stream */
	}
	if (gap) {
		log_warn("events were trimmed before they were read", LOG_S("stream", p->stream), LOG_S("after", p->last));
		t->conf.gap(t->conf.ctx, p->stream);
	}
	return e;
}

/* ---- a place that outlives the process ---- */

static struct str place_key(const struct tail *t, const struct place *p, struct arena *arena)
{
	const struct cache *c = t->conf.daemon->caches;

	return str_of(arena_printf(arena, "%splace:%s:%s:%s", c->shared, t->conf.kept,
				   daemon_buffer_name(t->conf.daemon, t->conf.buffer), p->stream));
}

/* ERR_CACHE: nobody can say. */
SUSPENDS static enum err load_place(const struct tail *t, struct place *p, struct arena *arena)
{
	struct cache *c = t->conf.daemon->caches;
	struct redis_reply r;
	enum err e = link_call(c, arena, deadline_in(daemon_loop(t->conf.daemon), CALL_MS),
			       REDIS_ARGS(STR("GET"), place_key(t, p, arena)), &r);

	if (e == OK && r.type == REDIS_STRING && r.s.n != 0 && r.s.n < ID_SIZE) {
		keep_id(p->last, r.s);
		keep_id(p->kept, r.s);
		p->behind = true;
	}
	return e;
}

SUSPENDS static void keep_place(const struct tail *t, struct place *p, struct arena *arena)
{
	struct cache *c = t->conf.daemon->caches;
	struct redis_reply r;

	if (t->conf.kept == NULL || strcmp(p->kept, p->last) == 0 || !link_is_open(c))
		return;
	if (link_call(c, arena, deadline_in(daemon_loop(t->conf.daemon), CALL_MS),
		      REDIS_ARGS(STR("SET"), place_key(t, p, arena), str_of(p->last), STR("EX"), STR(KEPT_S)), &r) == OK)
		memcpy(p->kept, p->last, ID_SIZE);
}

/* ---- looking ---- */

SUSPENDS static void give_out(struct tail *t, struct arena *arena, const struct redis_reply *r)
{
	struct str *texts = arena_array(arena, r->n + 1, sizeof(*texts));
	size_t n = 0;

	for (size_t i = 0; i < r->n; i++) {
		const struct redis_reply *fields = r->v[i].n == 2 ? &r->v[i].v[1] : NULL;

		for (size_t k = 0; fields != NULL && k + 1 < fields->n; k += 2)
			if (str_is(fields->v[k].s, "e"))
				texts[n++] = fields->v[k + 1].s;
	}
	if (n != 0)
		t->conf.entries(t->conf.ctx, arena, texts, n);
}

/* Up to TAIL_COUNT entries. */
SUSPENDS static enum err read_some(struct tail *t, struct place *p, size_t *ret_n)
{
	struct arena *arena = arena_new();
	struct str from = str_of(arena_printf(arena, "(%s", p->last)), to = t->conf.lagging ? str_of(p->until) : STR("+");
	struct redis_reply r;
	enum err e = call(t, arena, REDIS_ARGS(STR("XRANGE"), str_of(p->stream), from, to, STR("COUNT"), STR(COUNT_TEXT)), &r);

	if (e == OK && (p->read || p->kept[0] != '\0') && (p->behind || r.n != 0))
		e = look_for_gap(t, p, arena);
	if (e == OK) {
		p->behind = false;
		*ret_n = r.n;
		if (r.n != 0 && r.v[r.n - 1].n == 2) {
			keep_id(p->last, r.v[r.n - 1].v[0].s);
			p->read = true;
		}
		give_out(t, arena, &r);
	}
	arena_free(arena);
	return e;
}

/* By the buffer's clock, which names the entries. */
SUSPENDS static enum err begin(const struct tail *t, struct place *p, struct arena *arena)
{
	struct redis_reply r;
	int64_t now_s = 0;
	enum err e = call(t, arena, REDIS_ARGS(STR("TIME")), &r);

	if (e == OK && (r.n != 2 || !str_to_i64(r.v[0].s, &now_s)))
		return ERR_BUFFER;
	if (e == OK)
		snprintf(p->last, ID_SIZE, "%" PRId64 "-0", (now_s - t->conf.back_s) * 1000);
	return e;
}

/* Where it ends is where the next look gives out up to. An end before what was read: the stream has been lost, with whatever followed. */
SUSPENDS static enum err see_end(struct tail *t, struct place *p, struct arena *arena)
{
	enum err e = find_end(t, p->stream, arena, p->until);

	if (e == OK && p->read && is_older(p->until, p->last)) {
		log_warn("a stream of events was lost", LOG_S("stream", p->stream), LOG_S("after", p->last));
		memcpy(p->last, p->until, ID_SIZE);
		p->read = false;
		t->conf.gap(t->conf.ctx, p->stream);
	}
	return e;
}

SUSPENDS static enum err look_at(struct tail *t, struct place *p)
{
	struct arena *arena = arena_new();
	size_t n = TAIL_COUNT;
	enum err e = OK;

	if (p->last[0] == '\0' && t->conf.kept != NULL)
		e = load_place(t, p, arena);
	if (e != OK) {
		arena_free(arena);
		return OK; /* a cache that is away gives nothing out, and is no failure of the stream */
	}
	if (p->last[0] == '\0' && t->conf.back_s != 0) {
		e = begin(t, p, arena);
	} else if (p->last[0] == '\0') {
		e = find_end(t, p->stream, arena, p->last);
		p->read = e == OK && strcmp(p->last, "0-0") != 0;
	}
	while (e == OK && n == TAIL_COUNT && !t->closing && !(t->conf.lagging && p->until[0] == '\0'))
		e = read_some(t, p, &n);
	if (e == OK && t->conf.lagging)
		e = see_end(t, p, arena);
	if (e == OK)
		keep_place(t, p, arena);
	else
		p->behind = true;
	arena_free(arena);
	return e;
}

SUSPENDS static void tail_fiber(void *arg)
{
	struct tail *t = arg;

	t->fiber = fiber_self();
	while (!t->closing) {
		enum err e = OK;

		for (size_t i = 0; e == OK && i < t->conf.n; i++)
			e = look_at(t, &t->places[i]);
		for (size_t i = 0; e != OK && i < t->conf.n; i++)
			t->places[i].behind = true;
		if (e != OK && !t->failing && !t->closing)
			log_warn("streams cannot be read", LOG_S("buffer", daemon_buffer_name(t->conf.daemon, t->conf.buffer)),
				 LOG_E(e));
		t->failing = e != OK;
		if (sleep_ms(daemon_loop(t->conf.daemon), t->conf.every_ms, (struct deadline){INT64_MAX}) != OK)
			break;
	}
	t->fiber = NULL;
}

enum err tail_open(const struct tail_conf *conf, struct tail **ret)
{
	struct tail *t = mem_zalloc(sizeof(*t));
	enum err e;

	t->conf = *conf;
	for (size_t i = 0; i < conf->n; i++)
		snprintf(t->places[i].stream, sizeof(t->places[i].stream), "%s", conf->streams[i]);
	e = fiber_spawn(daemon_loop(conf->daemon), "streams", tail_fiber, t);
	if (e != OK)
		free(t);
	else
		*ret = t;
	return e;
}

void tail_close(struct tail *t)
{
	if (t == NULL)
		return;
	t->closing = true;
	if (t->fiber != NULL)
		fiber_cancel(t->fiber);
}

struct tail *tail_free(struct tail *t)
{
	free(t);
	return NULL;
}
