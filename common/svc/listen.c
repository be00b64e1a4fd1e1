/* SPDX-License-Identifier: Apache-2.0 */
/* Pub/sub is the fast path; the capped streams say what was said while nobody listened, and what was never published. */
#include "svc/listen.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/recent.h"
#include "base/schema.h"
#include "base/str.h"
#include "io/fiber.h"
#include "io/loop.h"
#include "svc/buffers.h"
#include "svc/cache_events.h"
#include "svc/daemon.h"
#include "svc/tail.h"

#define CHANNELS_MAX 64
#define LOOK_MS 1000
#define REMEMBERED 8192 /* events */

/* One write buffer, with places of its own in the streams of the same names. */
struct source {
	struct listen *listen;
	struct redis_sub *sub;
	struct tail *tail;
};

struct listen {
	struct daemon *daemon;
	struct recent heard;
	size_t n;
	struct source sources[BUFFERS_MAX];
};

/* ---- handing an envelope to its row ---- */

struct heard {
	struct daemon *daemon;
	const struct listen_row *row;
	struct arena *arena;
	struct str envelope;
};

SUSPENDS static void heard_fiber(void *arg)
{
	struct heard *heard = arg;
	struct arena *arena = heard->arena;
	enum err e = OK;

	event_raise(heard->daemon, heard->row, heard->envelope, arena);
	if (heard->row->handle != NULL)
		e = heard->row->handle(heard->daemon, heard->envelope);
	if (e != OK)
		log_warn("an event was not handled", LOG_S("channel", heard->row->channel), LOG_E(e));
	arena_free(arena);
}

static bool hand_to(struct listen *l, const struct listen_row *row, struct str envelope)
{
	struct arena *arena = arena_new();
	struct heard *heard = arena_zalloc(arena, sizeof(*heard));

	*heard = (struct heard){.daemon = l->daemon, .row = row, .arena = arena, .envelope = arena_str(arena, envelope)};
	if (fiber_spawn(daemon_loop(l->daemon), row->channel, heard_fiber, heard) == OK)
		return true;
	log_warn("an event was dropped: too many fibers", LOG_S("channel", row->channel));
	arena_free(arena);
	return false;
}

static void hand_over(struct listen *l, struct str channel, struct str envelope)
{
	bool known = false, whole = true;
	struct str id = {NULL, 0};

	for (const struct listen_row *row = daemon_service(l->daemon)->listens; row->channel != NULL; row++) {
		if (!str_is(channel, row->channel))
			continue;
		if (!known && json_member(envelope, "id", &id) && recent_has(&l->heard, id))
			return;
		known = true;
		whole &= hand_to(l, row, envelope);
	}
	/* What was dropped is tried again, should it come by the other way as well. */
	if (known && whole && id.n != 0)
		recent_add(&l->heard, id);
}

static void on_message(void *ctx, struct str channel, struct str payload)
{
	const struct source *s = ctx;

	hand_over(s->listen, channel, payload);
}

static void on_entries(void *ctx, struct arena *arena, const struct str *texts, size_t n)
{
	const struct source *s = ctx;
	char channel[96];

	(void)arena;
	for (size_t i = 0; i < n; i++)
		if (event_channel(texts[i], channel, sizeof(channel)))
			hand_over(s->listen, str_of(channel), texts[i]);
}

static void on_gap(void *ctx, const char *stream)
{
	const struct source *s = ctx;

	(void)stream;
	cache_forget_memory(daemon_caches(s->listen->daemon));
}

/* ---- life ---- */

static void add_stream(struct tail_conf *conf, struct arena *arena, const char *channel)
{
	struct str rest = str_of(channel), name = str_split(&rest, ':');
	const char *stream = arena_printf(arena, "events:%.*s", STR_FMT(name));

	for (size_t i = 0; i < conf->n; i++)
		if (strcmp(conf->streams[i], stream) == 0)
			return;
	if (conf->n < TAIL_STREAMS_MAX)
		conf->streams[conf->n++] = stream;
}

static enum err open_source(struct source *s, size_t buffer, const struct listen_row *rows)
{
	struct redis_sub_events events = {.ctx = s, .message = on_message};
	struct daemon *d = s->listen->daemon;
	struct tail_conf tail = {
		.daemon = d, .buffer = buffer, .every_ms = LOOK_MS, .ctx = s, .entries = on_entries, .gap = on_gap};
	struct redis_conf conf = buffers_conf(d, buffer);
	const char *channels[CHANNELS_MAX];
	size_t n = 0;
	enum err e;

	for (; n < CHANNELS_MAX && rows[n].channel != NULL; n++) {
		channels[n] = rows[n].channel;
		add_stream(&tail, d->arena, channels[n]);
	}
	e = redis_sub_open(daemon_loop(d), &conf, channels, n, &events, &s->sub);
	return e == OK ? tail_open(&tail, &s->tail) : e;
}

enum err listen_open(struct daemon *d, struct listen **ret)
{
	const struct listen_row *rows = daemon_service(d)->listens;
	struct listen *l;
	enum err e = OK;

	*ret = NULL;
	if (rows == NULL || rows[0].channel == NULL || daemon_buffers(d) == 0)
		return OK;
	l = mem_zalloc(sizeof(*l));
	l->daemon = d;
	recent_init(&l->heard, REMEMBERED);
	for (; e == OK && l->n < daemon_buffers(d); l->n++) {
		l->sources[l->n].listen = l;
		e = open_source(&l->sources[l->n], l->n, rows);
	}
	*ret = l; /* also half open: the daemon closes it */
	return e;
}

void listen_close(struct listen *l)
{
	for (size_t i = 0; l != NULL && i < l->n; i++) {
		tail_close(l->sources[i].tail);
		l->sources[i].sub = redis_sub_close(l->sources[i].sub);
	}
}

struct listen *listen_free(struct listen *l)
{
	if (l == NULL)
		return NULL;
	for (size_t i = 0; i < l->n; i++)
		l->sources[i].tail = tail_free(l->sources[i].tail);
	recent_done(&l->heard);
	free(l);
	return NULL;
}
