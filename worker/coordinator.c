/* SPDX-License-Identifier: Apache-2.0 */
/* The coordinator of a buffer: looks at every entity's queue, at least once a second, and hands out tickets for what is due. */
#include <inttypes.h>
#include <string.h>

#include "base/log.h"
#include "base/timefmt.h"
#include "io/fiber.h"
#include "io/loop.h"
#include "plan.h"
#include "svc/daemon.h"
#include "svc/documents.h"
#include "worker.h"

#define LOOK_MS 1000
#define JITTER_MS 300
#define SPACING_MS 5
#define PROBE_MS 3000
#define DURABILITY_US (60 * US_PER_S)
#define CLOCK_US (10 * US_PER_S)
#define AGAIN_US US_PER_S       /* after a turn that failed in Redis */
#define PEAK_US (60 * US_PER_S) /* a retry comes to the head within its backoff */

static struct str bound(struct arena *arena, int64_t ms)
{
	return str_of(arena_printf(arena, "%" PRId64, ms));
}

static struct redis_op *count(const struct queue *q, struct arena *arena, const char *set, int64_t up_to_ms)
{
	const char *key = arena_printf(arena, "wb:%s:%s", set, q->target->entity->name);

	return redis_start(q->source->redis, REDIS_ARGS(STR("ZCOUNT"), str_of(key), STR("-inf"), bound(arena, up_to_ms)));
}

SUSPENDS static enum err finish(struct worker *w, struct redis_op *op, struct arena *arena, int64_t *ret)
{
	struct redis_reply reply;
	enum err e = redis_finish(op, arena, deadline_in(w->loop, 1000), &reply);

	if (e == OK && reply.type != REDIS_INTEGER)
		return ERR_BUG;
	if (e == OK)
		*ret = reply.i;
	return e;
}

static void note_oldest(struct queue *q)
{
	const int64_t *first = q->status.first_ms;
	int64_t now = loop_mono_us(q->w->loop);

	if (q->status.retry == 0 || now - q->retry_peak_at_us > PEAK_US)
		q->retry_peak_ms = 0;
	if (first[1] != 0 && (q->retry_peak_ms == 0 || first[1] < q->retry_peak_ms)) {
		q->retry_peak_ms = first[1];
		q->retry_peak_at_us = now;
	}
	q->oldest_first_ms = q->retry_peak_ms;
	for (size_t i = 0; i < 3; i += 2) /* pending, leased: the dead are counted apart */
		if (first[i] != 0 && (q->oldest_first_ms == 0 || first[i] < q->oldest_first_ms))
			q->oldest_first_ms = first[i];
}

static int64_t delay_of(const struct queue *q)
{
	if (q->source->pressure != PRESSURE_NONE || q->flush_until_us > loop_mono_us(q->w->loop))
		return 0;
	return q->w->interval_s * 1000 / 2;
}

SUSPENDS static enum err look(struct queue *q, int64_t now_ms, struct arena *arena)
{
	struct worker *w = q->w;
	struct buffer_io io = source_io(q->source);
	int64_t due_ms = now_ms - delay_of(q), v[5] = {0};
	struct redis_op *ops[] = {count(q, arena, "pending", due_ms), count(q, arena, "retry", now_ms),
				  count(q, arena, "lease", now_ms), count(q, arena, "pending", due_ms - PLAN_OVERDUE_MS),
				  count(q, arena, "retry", now_ms - PLAN_OVERDUE_MS)};
	enum err e = OK;

	for (size_t k = 0; k < ARRAY_LEN(ops); k++) { /* each start needs its finish */
		enum err one = finish(w, ops[k], arena, &v[k]);

		e = e == OK ? one : e;
	}
	if (e == OK)
		e = buffer_status(&io, q->target->entity, arena, &q->status);
	if (e != OK)
		return e;
	q->due = v[0] + v[1] + v[2];
	q->overdue = v[3] + v[4];
	note_oldest(q);
	/* While there is time yet: at the end of the interval it would be over before the flush. */
	q->late = q->oldest_first_ms != 0 && now_ms - q->oldest_first_ms >= w->interval_s * 750;
	if (board_failed_once(&w->board, q->index))
		q->not_before_us = loop_mono_us(w->loop) + AGAIN_US;
	return OK;
}

SUSPENDS static enum err look_at_paused(struct source *s, struct arena *arena)
{
	struct buffer_io io = source_io(s);
	struct redis_reply reply;
	enum err e = io.call(io.ctx, REDIS_ARGS(STR("SMEMBERS"), STR("wb:paused")), arena, &reply);

	if (e == OK && reply.type != REDIS_ARRAY)
		return ERR_BUFFER; /* not knowing what is paused, nothing is claimed */
	for (size_t i = 0; e == OK && i < s->w->n_targets; i++) {
		struct queue *q = &s->queues[i];

		q->paused = false;
		for (size_t k = 0; k < reply.n; k++)
			q->paused |= str_is(reply.v[k].s, q->target->entity->name);
	}
	return e;
}

static bool may_claim(const struct queue *q)
{
	int64_t now = loop_mono_us(q->w->loop);

	return q->source->up && now >= q->not_before_us && (q->w->conf->enabled || q->flush_until_us > now);
}

static unsigned batches(const struct queue *q)
{
	int64_t n = (q->due + q->w->conf->batch_size - 1) / q->w->conf->batch_size;

	return n < 1000 ? (unsigned)n : 1000;
}

/* Of a buffer that is away nothing is offered, or threads would wait for it that others need. */
static void dispatch(struct source *s, struct arena *arena)
{
	struct worker *w = s->w;
	struct plan_row *rows = arena_array(arena, w->n_targets + 1, sizeof(*rows));

	for (size_t i = 0; i < w->n_targets; i++) {
		const struct queue *q = &s->queues[i];

		/* Documents have no foreign keys, and another store: they are nobody's children. */
		rows[i] = (struct plan_row){.service = q->target->entity->collection ? (const void *)q->target : w->services[i],
					    .level = q->target->entity->level,
					    .due = q->due,
					    .overdue = q->overdue,
					    .late = q->late,
					    .paused = q->paused};
	}
	plan_levels(rows, w->n_targets);
	for (size_t i = 0; i < w->n_targets; i++) {
		const struct queue *q = &s->queues[i];

		board_offer(&w->board, q->index, rows[i].claim && may_claim(q) ? batches(q) : 0, delay_of(q));
	}
}

/* At all of them each second, and in between at those with news: a hint of one entity must not cost a look at forty. */
SUSPENDS static enum err look_around(struct source *s, bool full, struct arena *arena)
{
	int64_t now_us;
	enum err e = source_now(s, arena, &now_us);

	if (e == OK)
		e = look_at_paused(s, arena);
	for (size_t i = 0; e == OK && i < s->w->n_targets; i++) {
		struct queue *q = &s->queues[i];

		if (!full && !q->news)
			continue;
		q->news = false; /* before the question: what comes during it is news again */
		e = look(q, now_us / 1000, arena);
	}
	if (full && e == OK) {
		s->full_look_us = loop_mono_us(s->w->loop);
		watch_pressure(s);
	}
	return e;
}

static bool is_time(struct source *s, int64_t *at_us, int64_t period_us)
{
	int64_t now = loop_mono_us(s->w->loop);

	if (*at_us != 0 && now - *at_us < period_us)
		return false;
	*at_us = now;
	return true;
}

/* ---- databases that are away ---- */

SUSPENDS static enum err probe_rows(struct worker *w)
{
	int64_t now_us;

	return watch_database(w, &now_us);
}

/* MongoDB, or PostgreSQL again: a breaker of its own all the same, so neither store of a service stops the other. */
SUSPENDS static enum err probe_documents(struct worker *w)
{
	if (daemon_settings(w->daemon)->mongo_uri[0] == '\0')
		return probe_rows(w);
	return docstore_ping(daemon_documents(w->daemon), deadline_in(w->loop, PROBE_MS));
}

static const struct {
	const char *name;
	enum err (*ask)(struct worker *w);
} probes[DATABASES] = {
	[DATABASE_ROWS] = {"postgresql", probe_rows},
	[DATABASE_DOCUMENTS] = {"documents", probe_documents},
};

SUSPENDS static void probe(struct worker *w)
{
	for (enum database i = 0; i < DATABASES; i++) {
		bool well;

		if (!board_wants_probe(&w->board, i, clock_mono_us()))
			continue;
		well = probes[i].ask(w) == OK;
		board_probed(&w->board, i, well, clock_mono_us());
		log_at(well ? LOG_INFO : LOG_WARN, well ? "the database answers again" : "the database is away",
		       LOG_S("database", probes[i].name), LOG_END);
	}
}

/* ---- the fiber ---- */

SUSPENDS static void periodic(struct source *s)
{
	if (is_time(s, &s->durability_at_us, DURABILITY_US))
		watch_durability(s);
	if (!board_is_open(&s->w->board, DATABASE_ROWS) && is_time(s, &s->clock_at_us, CLOCK_US))
		watch_clock(s);
}

SUSPENDS static void record_runs(struct source *s)
{
	struct worker *w = s->w;
	/* At the end even the youngest runs are complete. */
	int64_t now = clock_real_us() + (w->stopping ? US_PER_S : 0);
	struct finished_run run;

	for (size_t i = 0; i < w->n_targets; i++) {
		if (!board_run_finished(&w->board, s->queues[i].index, now, &run))
			continue;
		w->copy_now = w->copy_now || run.counts.dead > 0;
		runs_record(&s->queues[i], &run);
	}
}

SUSPENDS static void look_once(struct source *s)
{
	struct arena *arena = arena_new();
	bool full = loop_mono_us(s->w->loop) - s->full_look_us >= (LOOK_MS - JITTER_MS) * US_PER_MS || !s->up;
	enum err e = look_around(s, full, arena);

	if (s->up != (e == OK)) {
		s->up = e == OK;
		log_at(e == OK ? LOG_INFO : LOG_WARN, "the write buffer", LOG_S("name", s->name), LOG_B("up", e == OK), LOG_E(e),
		       LOG_END);
	}
	if (e == OK)
		periodic(s);
	probe(s->w);
	dispatch(s, arena);
	s->tick_us = loop_mono_us(s->w->loop);
	arena_free(arena);
	record_runs(s);
}

SUSPENDS static void wait_for_news(struct source *s)
{
	struct loop *loop = s->w->loop;
	uint16_t jitter;

	random_bytes(&jitter, sizeof(jitter));
	IGNORE(sleep_ms(loop, SPACING_MS, (struct deadline){INT64_MAX})); /* hints of one moment cause one look */
	if (!s->awake)
		IGNORE(waitq_wait(&s->wake, deadline_in(loop, LOOK_MS - jitter % JITTER_MS))); /* either way it is time */
	s->awake = false;
}

void coordinator_fiber(void *arg)
{
	struct source *s = arg;
	struct worker *w = s->w;

	while (!w->stopping) {
		/* A worker that is told to go claims nothing more, while its listeners still answer. */
		if (w->daemon->state == DAEMON_DRAINING)
			board_stop(&w->board);
		look_once(s);
		if (!w->stopping)
			wait_for_news(s);
	}
	record_runs(s);
}
