/* SPDX-License-Identifier: Apache-2.0 */
/* Pub/sub on a connection of its own: subscribes again after every loss, and asks PING when it has been quiet for long. */
#include <stdlib.h>

#include "base/log.h"
#include "io/redis_link.h"

enum { QUIET_US = 10 * 1000000, CHANNELS_MOST = 1000 };

struct redis_sub {
	struct redis_link link;
	struct loop *loop;
	struct redis_url url;
	char *name;
	struct redis_sub_events events;
	struct timer beat;
	int64_t asked_us; /* when the last PING left; 0: none on this connection */
	size_t confirmed, n;
	struct str *channels;
};

static void on_beat(void *ctx)
{
	struct redis_sub *s = ctx;
	int64_t now = loop_mono_us(s->loop);

	if (s->link.state != REDIS_LINK_READY)
		return;
	/* A subscriber hears nothing for hours, so a peer that vanished must be asked for. */
	if (s->asked_us > s->link.last_read_us) {
		redis_link_fail(&s->link, "no answer in time", true);
		return;
	}
	if (now - s->link.last_read_us >= QUIET_US) {
		redis_link_put(&s->link, REDIS_ARGS(STR("PING")), (struct redis_args){NULL, 0});
		s->asked_us = now;
	}
	timer_set(&s->beat, s->loop, QUIET_US, on_beat, s);
}

static void on_ready(void *ctx)
{
	struct redis_sub *s = ctx;

	s->confirmed = 0;
	s->asked_us = 0;
	redis_link_put(&s->link, REDIS_ARGS(STR("SUBSCRIBE")), (struct redis_args){s->channels, s->n});
	timer_set(&s->beat, s->loop, QUIET_US, on_beat, s);
}

static void on_reply(void *ctx, const struct redis_reply *reply)
{
	struct redis_sub *s = ctx;

	if (reply->type == REDIS_ERROR) {
		redis_link_fail(&s->link, reply->s.p, true);
		return;
	}
	if (reply->type != REDIS_ARRAY || reply->n != 3 || reply->v[0].type != REDIS_STRING)
		return; /* the answer to PING */
	if (str_is(reply->v[0].s, "message") && s->events.message)
		s->events.message(s->events.ctx, reply->v[1].s, reply->v[2].s);
	else if (str_is(reply->v[0].s, "subscribe") && ++s->confirmed == s->n && s->events.connected)
		s->events.connected(s->events.ctx);
}

static void on_lost(void *ctx)
{
	struct redis_sub *s = ctx;

	timer_stop(&s->beat);
}

static const struct redis_link_events events = {.ready = on_ready, .reply = on_reply, .lost = on_lost};

enum err redis_sub_open(struct loop *loop, const struct redis_conf *conf, const char *const *channels, size_t n,
			const struct redis_sub_events *handlers, struct redis_sub **ret)
{
	struct redis_url url;
	struct redis_sub *s;
	enum err e;

	if (n == 0 || n > CHANNELS_MOST)
		return ERR_INVALID;
	e = redis_url_open(conf->url, conf->name, conf->fault, &url);
	if (e != OK)
		return e;
	s = mem_zalloc(sizeof(*s));
	s->loop = loop;
	s->url = url;
	s->name = mem_strdup(conf->name);
	s->events = *handlers;
	s->n = n;
	s->channels = mem_zalloc(n * sizeof(*s->channels));
	for (size_t i = 0; i < n; i++)
		s->channels[i] = str_of(mem_strdup(channels[i]));
	redis_link_open(&s->link, loop, &s->url, s->name, conf->connect_ms, &events, s);
	*ret = s;
	return OK;
}

struct redis_sub *redis_sub_close(struct redis_sub *s)
{
	if (!s)
		return NULL;
	redis_link_close(&s->link);
	for (size_t i = 0; i < s->n; i++)
		free((void *)(uintptr_t)s->channels[i].p); /* a copy of our own */
	free(s->channels);
	free(s->name);
	redis_url_done(&s->url);
	free(s);
	return NULL;
}

bool redis_sub_is_up(const struct redis_sub *s)
{
	return s != NULL && s->link.state == REDIS_LINK_READY && s->confirmed == s->n;
}
