/* SPDX-License-Identifier: Apache-2.0 */
/* Pub/sub is the fast path; the capped streams say what was said while nobody listened. */
#include "svc/listen.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/schema.h"
#include "base/str.h"
#include "io/fiber.h"
#include "io/loop.h"
#include "svc/buffers.h"
#include "svc/daemon.h"

#define DOMAINS_MAX 16
#define CHANNELS_MAX 64
#define CATCH_UP_COUNT 200
#define CALL_MS 2000

struct domain {
	char stream[48];             /* "events:homework" */
	char marked[32], before[32]; /* last ids at the latest two marks; "": not known yet */
};

/* One write buffer, with places of its own in the streams of the same names. */
struct source {
	struct listen *listen;
	size_t buffer;
	struct redis_sub *sub;
	struct domain domains[DOMAINS_MAX];
	size_t n;
	bool catching_up, again;
};

struct listen {
	struct daemon *daemon;
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
	enum err e = heard->row->handle(heard->daemon, heard->envelope);

	if (e != OK)
		log_warn("an event was not handled", LOG_S("channel", heard->row->channel), LOG_E(e));
	arena_free(arena);
}

static void hand_over(struct listen *l, struct str channel, struct str envelope)
{
	for (const struct listen_row *row = daemon_service(l->daemon)->listens; row->channel != NULL; row++) {
		struct arena *arena;
		struct heard *heard;

		if (!str_is(channel, row->channel))
			continue;
		arena = arena_new();
		heard = arena_zalloc(arena, sizeof(*heard));
		*heard = (struct heard){.daemon = l->daemon, .row = row, .arena = arena, .envelope = arena_str(arena, envelope)};
		if (fiber_spawn(daemon_loop(l->daemon), row->channel, heard_fiber, heard) != OK) {
			log_warn("an event was dropped: too many fibers", LOG_S("channel", row->channel));
			arena_free(arena);
		}
	}
}

static void on_message(void *ctx, struct str channel, struct str payload)
{
	const struct source *s = ctx;

	hand_over(s->listen, channel, payload);
}

/* "org.schools24.homework.assigned.v1" → "homework:assigned" */
static bool channel_of(struct str envelope, char *to, size_t size)
{
	struct str type, parts[5];

	if (!json_member(envelope, "type", &type) || type.n < 2)
		return false;
	type = (struct str){type.p + 1, type.n - 2};
	for (size_t i = 0; i < ARRAY_LEN(parts); i++)
		parts[i] = str_split(&type, '.');
	if (parts[4].n == 0)
		return false;
	snprintf(to, size, "%.*s:%.*s", STR_FMT(parts[2]), STR_FMT(parts[3]));
	return true;
}

/* ---- the streams ---- */

SUSPENDS static enum err call(struct source *s, struct arena *arena, struct redis_args args, struct redis_reply *ret)
{
	const struct daemon *d = s->listen->daemon;
	enum err e = redis_call(daemon_buffer_at(d, s->buffer), arena, deadline_in(daemon_loop(d), CALL_MS), args, ret);

	return e == OK && ret->type == REDIS_ERROR ? ERR_BUFFER : e;
}

static void keep_id(char to[32], struct str id)
{
	snprintf(to, 32, "%.*s", STR_FMT(id));
}

/* A message is on its way for a moment after it stands in the stream, so the mark before the last is where a gap begins. */
SUSPENDS static void mark_streams(struct source *s)
{
	struct arena *arena;

	if (s->catching_up)
		return;
	arena = arena_new();
	for (size_t i = 0; i < s->n; i++) {
		struct domain *d = &s->domains[i];
		struct redis_reply r;

		if (call(s, arena, REDIS_ARGS(STR("XREVRANGE"), str_of(d->stream), STR("+"), STR("-"), STR("COUNT"), STR("1")),
			 &r) != OK ||
		    s->catching_up)
			break;
		memcpy(d->before, d->marked, sizeof(d->before));
		keep_id(d->marked, r.type == REDIS_ARRAY && r.n == 1 && r.v[0].n == 2 ? r.v[0].v[0].s : STR("0-0"));
		if (d->before[0] == '\0')
			memcpy(d->before, d->marked, sizeof(d->before));
	}
	arena_free(arena);
}

SUSPENDS void listen_mark(struct listen *l, size_t buffer)
{
	if (l != NULL && buffer < l->n)
		mark_streams(&l->sources[buffer]);
}

static void replay_entry(struct source *s, const struct redis_reply *entry)
{
	const struct redis_reply *fields = entry->n == 2 ? &entry->v[1] : NULL;
	char channel[96];

	for (size_t i = 0; fields != NULL && i + 1 < fields->n; i += 2)
		if (str_is(fields->v[i].s, "e") && channel_of(fields->v[i + 1].s, channel, sizeof(channel)))
			hand_over(s->listen, str_of(channel), fields->v[i + 1].s);
}

/* Was something trimmed away behind our mark? Then the oldest entry is newer than what follows the mark. */
SUSPENDS static void look_for_gap(struct source *s, struct domain *d, struct arena *arena)
{
	struct redis_reply r;

	if (strcmp(d->before, "0-0") == 0 ||
	    call(s, arena, REDIS_ARGS(STR("XRANGE"), str_of(d->stream), str_of(d->before), str_of(d->before)), &r) != OK)
		return;
	if (r.type == REDIS_ARRAY && r.n == 0)
		log_warn("events were trimmed before they were heard", LOG_S("stream", d->stream), LOG_S("after", d->before));
}

SUSPENDS static enum err catch_up(struct source *s, struct domain *d)
{
	enum err e = OK;
	size_t n = CATCH_UP_COUNT;

	while (e == OK && n == CATCH_UP_COUNT) {
		struct arena *arena = arena_new();
		struct redis_reply r;

		look_for_gap(s, d, arena);
		e = call(s, arena,
			 REDIS_ARGS(STR("XRANGE"), str_of(d->stream), str_of(arena_printf(arena, "(%s", d->before)), STR("+"),
				    STR("COUNT"), STR("200")),
			 &r);
		n = e == OK && r.type == REDIS_ARRAY ? r.n : 0;
		for (size_t i = 0; i < n; i++) {
			replay_entry(s, &r.v[i]);
			if (r.v[i].n == 2)
				keep_id(d->before, r.v[i].v[0].s);
		}
		if (n != 0)
			memcpy(d->marked, d->before, sizeof(d->marked));
		arena_free(arena);
	}
	return e;
}

SUSPENDS static void catch_up_fiber(void *arg)
{
	struct source *s = arg;

	do {
		s->again = false;
		for (size_t i = 0; i < s->n; i++) {
			enum err e = s->domains[i].before[0] != '\0' ? catch_up(s, &s->domains[i]) : OK;

			if (e != OK)
				log_warn("a stream could not be read again",
					 LOG_S("buffer", daemon_buffer_name(s->listen->daemon, s->buffer)),
					 LOG_S("stream", s->domains[i].stream), LOG_E(e));
		}
	} while (s->again && s->sub != NULL);
	s->catching_up = false;
	mark_streams(s);
}

static void on_connected(void *ctx)
{
	struct source *s = ctx;

	s->again = true;
	if (s->catching_up)
		return;
	s->catching_up = true;
	if (fiber_spawn(daemon_loop(s->listen->daemon), "events", catch_up_fiber, s) != OK)
		s->catching_up = false;
}

/* ---- life ---- */

static void add_domain(struct source *s, const char *channel)
{
	struct str rest = str_of(channel), name = str_split(&rest, ':');
	char stream[48];

	snprintf(stream, sizeof(stream), "events:%.*s", STR_FMT(name));
	for (size_t i = 0; i < s->n; i++)
		if (strcmp(s->domains[i].stream, stream) == 0)
			return;
	if (s->n < DOMAINS_MAX)
		memcpy(s->domains[s->n++].stream, stream, sizeof(stream));
}

static enum err open_source(struct source *s, const struct listen_row *rows)
{
	struct redis_sub_events events = {.ctx = s, .message = on_message, .connected = on_connected};
	struct daemon *d = s->listen->daemon;
	struct redis_conf conf = buffers_conf(d, s->buffer);
	const char *channels[CHANNELS_MAX];
	size_t n = 0;

	for (; n < CHANNELS_MAX && rows[n].channel != NULL; n++) {
		channels[n] = rows[n].channel;
		add_domain(s, channels[n]);
	}
	return redis_sub_open(daemon_loop(d), &conf, channels, n, &events, &s->sub);
}

enum err listen_open(struct daemon *d, struct listen **ret)
{
	const struct listen_row *rows = daemon_service(d)->listens;
	struct listen *l;

	*ret = NULL;
	if (rows == NULL || rows[0].channel == NULL || daemon_buffers(d) == 0)
		return OK;
	l = mem_zalloc(sizeof(*l));
	l->daemon = d;
	for (; l->n < daemon_buffers(d); l->n++) {
		struct source *s = &l->sources[l->n];
		enum err e;

		*s = (struct source){.listen = l, .buffer = l->n};
		e = open_source(s, rows);
		if (e != OK) {
			listen_close(l);
			free(l);
			return e;
		}
	}
	*ret = l;
	return OK;
}

void listen_close(struct listen *l)
{
	for (size_t i = 0; l != NULL && i < l->n; i++)
		l->sources[i].sub = redis_sub_close(l->sources[i].sub);
}

struct listen *listen_free(struct listen *l)
{
	free(l);
	return NULL;
}
