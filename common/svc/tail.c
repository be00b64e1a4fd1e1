/* SPDX-License-Identifier: Apache-2.0 */
/* A fiber that looks at streams; each has its place, and is read up to its end or, lagging, up to where it ended at the look before. */
#include "svc/tail.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/str.h"
#include "base/timefmt.h"
#include "io/fiber.h"
#include "io/loop.h"
#include "io/redis.h"
#include "svc/daemon.h"

#define CALL_MS 2000
#define ID_SIZE 48
#define COUNT_TEXT "200" /* TAIL_COUNT */

struct place {
	char stream[48];
	char last[ID_SIZE];  /* given out up to here; "": not known yet */
	char until[ID_SIZE]; /* lagging: where it ended at the last look; "": not known */
	bool read;           /* `last` is an entry that was read, so it is in the stream, or was trimmed */
	bool behind;         /* the last look failed, so there may be a gap */
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

/* What was read last is gone: then so may be what followed it. */
SUSPENDS static enum err look_for_gap(struct tail *t, struct place *p, struct arena *arena)
{
	struct redis_reply r;
	enum err e = call(t, arena, REDIS_ARGS(STR("XRANGE"), str_of(p->stream), str_of(p->last), str_of(p->last)), &r);

	if (e == OK && r.n == 0) {
		log_warn("events were trimmed before they were read", LOG_S("stream", p->stream), LOG_S("after", p->last));
		t->conf.gap(t->conf.ctx, p->stream);
	}
	return e;
}

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

	if (e == OK && p->read && (p->behind || r.n == TAIL_COUNT))
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

static void begin(const struct tail *t, struct place *p)
{
	int64_t now_ms = loop_real_us(daemon_loop(t->conf.daemon)) / US_PER_MS;

	snprintf(p->last, ID_SIZE, "%" PRId64 "-0", now_ms - t->conf.back_s * 1000);
}

SUSPENDS static enum err look_at(struct tail *t, struct place *p)
{
	struct arena *arena = arena_new();
	size_t n = TAIL_COUNT;
	enum err e = OK;

	if (p->last[0] == '\0' && t->conf.back_s != 0) {
		begin(t, p);
	} else if (p->last[0] == '\0') {
		e = find_end(t, p->stream, arena, p->last);
		p->read = e == OK && strcmp(p->last, "0-0") != 0;
	}
	while (e == OK && n == TAIL_COUNT && !t->closing && !(t->conf.lagging && p->until[0] == '\0'))
		e = read_some(t, p, &n);
	if (e == OK && t->conf.lagging)
		e = find_end(t, p->stream, arena, p->until);
	if (e != OK)
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
