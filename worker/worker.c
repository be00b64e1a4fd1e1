/* SPDX-License-Identifier: Apache-2.0 */
/* Start and stop: targets from the services' tables, threads, the fibers of the loop. */
#include "worker.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/timefmt.h"
#include "io/fiber.h"
#include "svc/daemon.h"

#define CALL_MS 3000
#define STOP_MS 5000

/* clang-format off */
const struct conf_row worker_conf[] = {
	CONF_BOOL("BATCH_PROCESSOR_ENABLED", struct worker_conf, enabled, "true", "flush what is due; false: only on POST /sync/flush"),
	CONF_INT("BATCH_PROCESSOR_PARALLEL_WORKERS", struct worker_conf, parallel_workers, "10", 1, 64, "threads, each with a connection to Redis and PostgreSQL"),
	CONF_INT("BATCH_PROCESSOR_BATCH_SIZE", struct worker_conf, batch_size, "100", 1, 1000, "most records of a batch"),
	CONF_END,
};
/* clang-format on */

/* ---- Redis from the loop's fibers ---- */

SUSPENDS static enum err io_eval(void *ctx, const struct redis_script *script, struct redis_args args, struct arena *arena,
				 struct redis_reply *ret)
{
	struct worker *w = ctx;

	return redis_script_call(daemon_buffer(w->daemon), script, args, arena, deadline_in(w->loop, CALL_MS), ret);
}

SUSPENDS static enum err io_call(void *ctx, struct redis_args args, struct arena *arena, struct redis_reply *ret)
{
	struct worker *w = ctx;

	return redis_call(daemon_buffer(w->daemon), arena, deadline_in(w->loop, CALL_MS), args, ret);
}

static int64_t io_now(void *ctx)
{
	struct worker *w = ctx;

	return loop_mono_us(w->loop);
}

SUSPENDS static void io_pause(void *ctx, int64_t ms)
{
	struct worker *w = ctx;

	IGNORE(sleep_ms(w->loop, ms, (struct deadline){INT64_MAX})); /* cancelled: the next call says so */
}

static uint64_t io_random(void *ctx)
{
	uint64_t r;

	(void)ctx;
	random_bytes(&r, sizeof(r));
	return r;
}

struct buffer_io worker_buffer_io(struct worker *w)
{
	return (struct buffer_io){w, io_eval, io_call, io_now, io_pause, io_random};
}

/* ---- shared by the parts ---- */

struct worker *worker_of(const struct daemon *d)
{
	return daemon_state(d);
}

enum err worker_redis_now(struct worker *w, struct arena *arena, int64_t *ret_us)
{
	struct redis_reply reply;
	int64_t s, us;
	enum err e = io_call(w, REDIS_ARGS(STR("TIME")), arena, &reply);

	if (e == OK && (reply.n != 2 || !str_to_i64(reply.v[0].s, &s) || !str_to_i64(reply.v[1].s, &us)))
		return ERR_BUG;
	if (e == OK)
		*ret_us = s * US_PER_S + us;
	return e;
}

void worker_ticket_done(void *ctx)
{
	const struct note *note = ctx;
	struct worker *w = note->w;

	/* A level that is done lets the next one begin. */
	for (size_t i = 0; i < w->n; i++)
		if (w->services[i] == w->services[note->target])
			w->seen[i].news = true;
	worker_wake(w, note->target);
}

void worker_wake(struct worker *w, size_t target)
{
	for (size_t i = 0; i < w->n; i++)
		w->seen[i].news = w->seen[i].news || target == w->n || target == i;
	w->awake = true;
	waitq_wake(&w->wake, SIZE_MAX, OK);
}

const struct flush_target *worker_target(const struct worker *w, struct str entity)
{
	for (size_t i = 0; i < w->n; i++)
		if (str_is(entity, w->targets[i].entity->name))
			return &w->targets[i];
	return NULL;
}

bool worker_pause(struct worker *w, int64_t ms)
{
	return sleep_ms(w->loop, ms, (struct deadline){INT64_MAX}) == OK && !w->stopping;
}

/* ---- targets ---- */

static bool is_flushed(const struct entity *e)
{
	return e->write == BUFFERED || e->write == APPEND;
}

static size_t count_flushed(const struct worker_service *s)
{
	size_t n = 0;

	for (size_t i = 0; s->entities[i] != NULL; i++)
		n += is_flushed(s->entities[i]);
	return n;
}

static void add_service(struct worker *w, const struct worker_service *s)
{
	size_t most = count_flushed(s);

	for (size_t i = 0; s->entities[i] != NULL; i++) {
		const struct entity *e = s->entities[i], **parents;
		struct flush_target *t = &w->targets[w->n];

		if (!is_flushed(e))
			continue;
		parents = mem_zalloc((most + 1) * sizeof(struct entity *));
		*t = (struct flush_target){.entity = e, .sql = &s->sql[i], .parents = parents, .index = w->n};
		for (size_t p = 0; s->entities[p] != NULL; p++)
			if (s->entities[p]->write == BUFFERED && s->entities[p]->level < e->level)
				parents[t->n_parents++] = s->entities[p];
		w->services[w->n++] = s;
	}
}

static void find_targets(struct worker *w)
{
	size_t n = 0;

	for (const struct worker_service *s = worker_services; s->name != NULL; s++)
		n += count_flushed(s);
	w->targets = mem_zalloc((n + 1) * sizeof(*w->targets));
	w->services = mem_zalloc((n + 1) * sizeof(struct worker_service *));
	w->seen = mem_zalloc((n + 1) * sizeof(*w->seen));
	w->copied_to = mem_zalloc((n + 1) * sizeof(*w->copied_to));
	w->notes = mem_zalloc((n + 1) * sizeof(*w->notes));
	for (const struct worker_service *s = worker_services; s->name != NULL; s++)
		add_service(w, s);
	for (size_t i = 0; i < w->n; i++)
		w->notes[i] = (struct note){w, i};
}

/* ---- hooks ---- */

static void on_hint(void *ctx, struct str channel, struct str payload)
{
	const struct flush_target *t = worker_target(ctx, payload);
	struct worker *w = ctx;

	(void)channel;
	worker_wake(w, t != NULL ? t->index : w->n);
}

static void on_connected(void *ctx)
{
	struct worker *w = ctx;

	worker_wake(w, w->n);
}

static enum err open_hints(struct worker *w, const char *url)
{
	const struct redis_conf conf = {.name = "hints", .url = url, .connections = 1, .fault = ERR_BUFFER};
	const struct redis_sub_events events = {.ctx = w, .message = on_hint, .connected = on_connected};
	const char *channel = BUFFER_HINT;

	return redis_sub_open(w->loop, &conf, &channel, 1, &events, &w->hints);
}

enum err worker_start(struct daemon *d)
{
	const struct settings *s = daemon_settings(d);
	struct worker *w = mem_zalloc(sizeof(*w));
	char host[48] = "host";
	enum err e;

	daemon_set_state(d, w);
	w->daemon = d;
	w->loop = daemon_loop(d);
	w->conf = daemon_conf(d);
	w->interval_s = s->batch_interval_s;
	w->ttl_s = s->buffer_ttl_s;
	gethostname(host, sizeof(host) - 1);
	snprintf(w->identity, sizeof(w->identity), "%s:%d:%" PRIx64, host, (int)getpid(), (uint64_t)clock_real_us() / 1000000);
	find_targets(w);
	board_init(&w->board, w->n, (unsigned)w->conf->parallel_workers);
	w->threads = threads_start(w, s->buffer_url, s->database_url, (unsigned)w->conf->parallel_workers);
	if (w->threads == NULL)
		return ERR_INVALID;
	e = open_hints(w, s->buffer_url);
	if (e == OK)
		e = fiber_spawn(w->loop, "coordinator", coordinator_fiber, w);
	if (e == OK)
		e = fiber_spawn(w->loop, "relay", relay_fiber, w);
	if (e == OK)
		e = fiber_spawn(w->loop, "dead letters", copier_fiber, w);
	return e;
}

static void cancel(struct fiber *fiber)
{
	if (fiber != NULL)
		fiber_cancel(fiber);
}

/* Threads first: they finish their batches and give back what they have not begun. Then the fibers, which look at what the threads left. */
void worker_stop(struct daemon *d)
{
	struct worker *w = daemon_state(d);

	if (w == NULL)
		return;
	w->stopping = true;
	board_stop(&w->board);
	w->threads = threads_stop(w->threads);
	worker_wake(w, w->n);
	redis_sub_close(w->hints);
	cancel(w->relay);
	cancel(w->copier);
	loop_turn(w->loop, 0); /* what the threads have posted */
	if (!fiber_drain(w->loop, deadline_in(w->loop, STOP_MS))) {
		log_warn("the worker's fibers were left");
		return; /* they still look at all this, and the process ends anyway */
	}
	for (size_t i = 0; i < w->n; i++)
		free((void *)(uintptr_t)w->targets[i].parents);
	free(w->targets);
	free((void *)w->services);
	free(w->seen);
	free(w->notes);
	free(w->copied_to);
	waitq_done(&w->wake);
	board_done(&w->board);
	free(w);
	daemon_set_state(d, NULL);
}
