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
#include "duties.h"
#include "io/fiber.h"
#include "svc/daemon.h"

#define STOP_MS 5000

/* clang-format off */
const struct conf_row worker_conf[] = {
	CONF_BOOL("BATCH_PROCESSOR_ENABLED", struct worker_conf, enabled, "true", "flush what is due; false: only on POST /sync/flush"),
	CONF_INT("BATCH_PROCESSOR_PARALLEL_WORKERS", struct worker_conf, parallel_workers, "10", 1, 64, "threads, each with a connection to Redis and PostgreSQL"),
	CONF_INT("BATCH_PROCESSOR_BATCH_SIZE", struct worker_conf, batch_size, "100", 1, 1000, "most records of a batch"),
	CONF_INT("WRITE_BUFFER_VERIFY_KEYS_PER_S", struct worker_conf, verify_keys_per_s, "100", 0, 10000, "pace of the verifier of the buffers' invariant; 0: none"),
	CONF_INT("AUDIT_PROOF_INTERVAL_S", struct worker_conf, audit_check_s, "86400", 0, 2592000, "from one proof of the audit chains to the next; 0: none"),
	CONF_INT("RETENTION_RUNS_S", struct worker_conf, keep_runs_s, "2592000", 86400, 315360000, "age at which rows of worker.runs go"),
	CONF_INT("RETENTION_OUTBOX_S", struct worker_conf, keep_outbox_s, "604800", 86400, 315360000, "age at which sent events go from the outboxes"),
	CONF_INT("RETENTION_IDEMPOTENCY_S", struct worker_conf, keep_idempotency_s, "93600", 90000, 31536000, "age at which answers kept for an Idempotency-Key go"),
	CONF_INT("RETENTION_DEAD_LETTERS_S", struct worker_conf, keep_dead_letters_s, "7776000", 604800, 315360000, "age at which copies of resolved dead letters go"),
	CONF_END,
};
/* clang-format on */

/* ---- shared by the parts ---- */

struct worker *worker_of(const struct daemon *d)
{
	return daemon_state(d);
}

const struct flush_target *worker_target(const struct worker *w, struct str entity)
{
	for (size_t i = 0; i < w->n_targets; i++)
		if (str_is(entity, w->targets[i].entity->name))
			return &w->targets[i];
	return NULL;
}

const char *worker_service_name(const struct worker *w, const struct flush_target *t)
{
	return w->services[t->index]->name;
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
		struct flush_target *t = &w->targets[w->n_targets];

		if (!is_flushed(e))
			continue;
		parents = mem_zalloc((most + 1) * sizeof(struct entity *));
		*t = (struct flush_target){.entity = e, .sql = &s->sql[i], .parents = parents, .index = w->n_targets};
		for (size_t p = 0; s->entities[p] != NULL; p++)
			if (s->entities[p]->write == BUFFERED && s->entities[p]->level < e->level)
				parents[t->n_parents++] = s->entities[p];
		w->services[w->n_targets++] = s;
	}
}

static void find_targets(struct worker *w)
{
	size_t n = 0;

	for (const struct worker_service *s = worker_services; s->name != NULL; s++)
		n += count_flushed(s);
	w->targets = mem_zalloc((n + 1) * sizeof(*w->targets));
	w->services = mem_zalloc((n + 1) * sizeof(struct worker_service *));
	for (const struct worker_service *s = worker_services; s->name != NULL; s++)
		add_service(w, s);
}

/* ---- buffers ---- */

static enum err open_sources(struct worker *w)
{
	size_t n = daemon_settings(w->daemon)->n_buffers;
	enum err e = OK;

	w->queues = mem_zalloc((n * w->n_targets + 1) * sizeof(*w->queues));
	w->sources = mem_zalloc((n + 1) * sizeof(*w->sources));
	w->n_queues = n * w->n_targets;
	for (; e == OK && w->n_sources < n; w->n_sources++)
		e = source_open(&w->sources[w->n_sources], w, w->n_sources);
	return e;
}

/* ---- parts ---- */

/* What runs beside the coordinators until worker_pause says stop. */
/* clang-format off */
static const struct {
	const char *name;
	void (*run)(struct worker *w);
} parts[] = {
	{"relay", relay_run},
	{"dead letters", copier_run},
	{"verifier", patrol_run},
	{"audit chains", chain_run},
	{"retention", retain_run},
	{"event lag", lag_run},
};
/* clang-format on */

struct part_run {
	struct worker *w;
	void (*run)(struct worker *w);
	struct fiber *fiber;
};

SUSPENDS static void part_fiber(void *arg)
{
	struct part_run *p = arg;

	p->fiber = fiber_self();
	p->run(p->w);
	p->fiber = NULL;
}

static enum err start_fibers(struct worker *w)
{
	enum err e = OK;

	w->parts = mem_zalloc(ARRAY_LEN(parts) * sizeof(*w->parts));
	for (size_t i = 0; e == OK && i < w->n_sources; i++)
		e = fiber_spawn(w->loop, "coordinator", coordinator_fiber, &w->sources[i]);
	for (size_t i = 0; e == OK && i < ARRAY_LEN(parts); i++) {
		w->parts[i] = (struct part_run){w, parts[i].run, NULL};
		e = fiber_spawn(w->loop, parts[i].name, part_fiber, &w->parts[i]);
	}
	return e;
}

/* ---- hooks ---- */

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
	w->duties = duties_new();
	w->forgetting = forget_open(w);
	find_targets(w);
	e = open_sources(w);
	board_init(&w->board, w->n_queues, (unsigned)w->conf->parallel_workers);
	if (e != OK)
		return e;
	w->threads = threads_start(w, s->database_url, (unsigned)w->conf->parallel_workers);
	return w->threads != NULL ? start_fibers(w) : ERR_INVALID;
}

static void release(struct worker *w)
{
	for (size_t i = 0; i < w->n_sources; i++)
		source_done(&w->sources[i]);
	for (size_t i = 0; i < w->n_targets; i++)
		free((void *)(uintptr_t)w->targets[i].parents);
	free(w->targets);
	free((void *)w->services);
	free(w->sources);
	free(w->queues);
	free(w->parts);
	w->duties = duties_free(w->duties, w->n_sources);
	forget_done(w->forgetting);
	board_done(&w->board);
	free(w);
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
	worker_wake(w);
	for (size_t i = 0; i < w->n_sources; i++)
		w->sources[i].hints = redis_sub_close(w->sources[i].hints);
	for (size_t i = 0; w->parts != NULL && i < ARRAY_LEN(parts); i++)
		if (w->parts[i].fiber != NULL)
			fiber_cancel(w->parts[i].fiber);
	loop_turn(w->loop, 0); /* what the threads have posted */
	if (!fiber_drain(w->loop, deadline_in(w->loop, STOP_MS))) {
		log_warn("the worker's fibers were left");
		return; /* they still look at all this, and the process ends anyway */
	}
	release(w);
	daemon_set_state(d, NULL);
}
