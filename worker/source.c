/* SPDX-License-Identifier: Apache-2.0 */
/* A buffer from the loop's side: its connection, its hints, and who is told of news. */
#include "base/str.h"
#include "base/timefmt.h"
#include "io/fiber.h"
#include "svc/daemon.h"
#include "worker.h"

#define CALL_MS 3000

/* ---- its Redis, from fibers ---- */

SUSPENDS static enum err io_eval(void *ctx, const struct redis_script *script, struct redis_args args, struct arena *arena,
				 struct redis_reply *ret)
{
	struct source *s = ctx;

	return redis_script_call(s->redis, script, args, arena, deadline_in(s->w->loop, CALL_MS), ret);
}

SUSPENDS static enum err io_call(void *ctx, struct redis_args args, struct arena *arena, struct redis_reply *ret)
{
	struct source *s = ctx;

	return redis_call(s->redis, arena, deadline_in(s->w->loop, CALL_MS), args, ret);
}

static int64_t io_now(void *ctx)
{
	struct source *s = ctx;

	return loop_mono_us(s->w->loop);
}

SUSPENDS static void io_pause(void *ctx, int64_t ms)
{
	struct source *s = ctx;

	IGNORE(sleep_ms(s->w->loop, ms, (struct deadline){INT64_MAX})); /* cancelled: the next call says so */
}

static uint64_t io_random(void *ctx)
{
	uint64_t r;

	(void)ctx;
	random_bytes(&r, sizeof(r));
	return r;
}

struct buffer_io source_io(struct source *s)
{
	return (struct buffer_io){s, io_eval, io_call, io_now, io_pause, io_random};
}

enum err source_now(struct source *s, struct arena *arena, int64_t *ret_us)
{
	struct redis_reply reply;
	int64_t seconds, us;
	enum err e = io_call(s, REDIS_ARGS(STR("TIME")), arena, &reply);

	if (e == OK && (reply.n != 2 || !str_to_i64(reply.v[0].s, &seconds) || !str_to_i64(reply.v[1].s, &us)))
		return ERR_BUG;
	if (e == OK)
		*ret_us = seconds * US_PER_S + us;
	return e;
}

/* ---- news ---- */

static void wake(struct source *s)
{
	s->awake = true;
	waitq_wake(&s->wake, SIZE_MAX, OK);
}

void source_wake(struct source *s, const struct flush_target *t)
{
	for (size_t i = 0; i < s->w->n_targets; i++)
		s->queues[i].news = s->queues[i].news || t == NULL || t == s->queues[i].target;
	wake(s);
}

void worker_wake(struct worker *w)
{
	for (size_t i = 0; i < w->n_sources; i++)
		source_wake(&w->sources[i], NULL);
}

void queue_ticket_done(void *ctx)
{
	const struct queue *q = ctx;
	const struct worker *w = q->w;

	/* A level that is done lets the next one begin. */
	for (size_t i = 0; i < w->n_targets; i++)
		if (w->services[i] == w->services[q->target->index])
			q->source->queues[i].news = true;
	wake(q->source);
}

static void on_hint(void *ctx, struct str channel, struct str payload)
{
	struct source *s = ctx;

	(void)channel;
	source_wake(s, worker_target(s->w, payload));
}

static void on_connected(void *ctx)
{
	source_wake(ctx, NULL);
}

/* ---- life ---- */

struct source *source_named(const struct worker *w, struct str name)
{
	for (size_t i = 0; i < w->n_sources; i++)
		if (str_is(name, w->sources[i].name))
			return &w->sources[i];
	return NULL;
}

enum err source_open(struct source *s, struct worker *w, size_t index)
{
	const struct buffer_address *address = &daemon_settings(w->daemon)->buffers[index];
	const struct redis_conf conf = {.name = "hints", .url = address->url, .connections = 1, .fault = ERR_BUFFER};
	const struct redis_sub_events events = {.ctx = s, .message = on_hint, .connected = on_connected};
	const char *channel = BUFFER_HINT;

	*s = (struct source){.w = w,
			     .name = address->name,
			     .url = address->url,
			     .index = index,
			     .redis = daemon_buffer_at(w->daemon, index),
			     .queues = w->queues + index * w->n_targets,
			     .durability = ""};
	for (size_t i = 0; i < w->n_targets; i++)
		s->queues[i] = (struct queue){.w = w, .source = s, .target = &w->targets[i], .index = index * w->n_targets + i};
	return redis_sub_open(w->loop, &conf, &channel, 1, &events, &s->hints);
}

void source_done(struct source *s)
{
	waitq_done(&s->wake);
}
