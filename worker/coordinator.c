/* SPDX-License-Identifier: Apache-2.0 */
/* The coordinator: looks at every entity's queues, at least once a second, and hands out tickets for what is due. */
#include <inttypes.h>
#include <string.h>

#include "base/log.h"
#include "base/timefmt.h"
#include "io/fiber.h"
#include "io/loop.h"
#include "plan.h"
#include "svc/daemon.h"
#include "worker.h"

#define LOOK_MS 1000
#define JITTER_MS 300
#define SPACING_MS 5
#define DURABILITY_US (60 * US_PER_S)
#define CLOCK_US (10 * US_PER_S)
#define PRESSURE_US (5 * US_PER_S)
#define AGAIN_US US_PER_S       /* after a turn that failed in Redis */
#define PEAK_US (60 * US_PER_S) /* a retry comes to the head within its backoff */

static struct str bound(struct arena *arena, int64_t ms)
{
	return str_of(arena_printf(arena, "%" PRId64, ms));
}

static struct redis_op *count(struct worker *w, struct arena *arena, const char *set, const struct entity *e, int64_t up_to_ms)
{
	return redis_start(daemon_buffer(w->daemon),
			   REDIS_ARGS(STR("ZCOUNT"), str_of(arena_printf(arena, "wb:%s:%s", set, e->name)), STR("-inf"),
				      bound(arena, up_to_ms)));
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

static void note_oldest(struct worker *w, struct seen *s)
{
	const int64_t *first = s->status.first_ms;
	int64_t now = loop_mono_us(w->loop);

	if (s->status.retry == 0 || now - s->retry_peak_at_us > PEAK_US)
		s->retry_peak_ms = 0;
	if (first[1] != 0 && (s->retry_peak_ms == 0 || first[1] < s->retry_peak_ms)) {
		s->retry_peak_ms = first[1];
		s->retry_peak_at_us = now;
	}
	s->oldest_first_ms = s->retry_peak_ms;
	for (size_t i = 0; i < 3; i += 2) /* pending, leased: the dead are counted apart */
		if (first[i] != 0 && (s->oldest_first_ms == 0 || first[i] < s->oldest_first_ms))
			s->oldest_first_ms = first[i];
}

static int64_t delay_of(const struct worker *w, const struct seen *s)
{
	if (w->pressed || s->flush_until_us > loop_mono_us(w->loop))
		return 0;
	return w->interval_s * 1000 / 2;
}

SUSPENDS static enum err look(struct worker *w, size_t i, int64_t now_ms, struct arena *arena)
{
	const struct entity *entity = w->targets[i].entity;
	struct buffer_io io = worker_buffer_io(w);
	struct seen *s = &w->seen[i];
	int64_t due_ms = now_ms - delay_of(w, s), v[5] = {0};
	struct redis_op *ops[] = {count(w, arena, "pending", entity, due_ms), count(w, arena, "retry", entity, now_ms),
				  count(w, arena, "lease", entity, now_ms),
				  count(w, arena, "pending", entity, due_ms - PLAN_OVERDUE_MS),
				  count(w, arena, "retry", entity, now_ms - PLAN_OVERDUE_MS)};
	enum err e = OK;

	for (size_t k = 0; k < ARRAY_LEN(ops); k++) { /* each start needs its finish */
		enum err one = finish(w, ops[k], arena, &v[k]);

		e = e == OK ? one : e;
	}
	if (e == OK)
		e = buffer_status(&io, entity, arena, &s->status);
	if (e != OK)
		return e;
	s->due = v[0] + v[1] + v[2];
	s->overdue = v[3] + v[4];
	note_oldest(w, s);
	if (board_failed_once(&w->board, i))
		s->not_before_us = loop_mono_us(w->loop) + AGAIN_US;
	return OK;
}

SUSPENDS static enum err look_at_paused(struct worker *w, struct arena *arena)
{
	struct buffer_io io = worker_buffer_io(w);
	struct redis_reply reply;
	enum err e = io.call(io.ctx, REDIS_ARGS(STR("SMEMBERS"), STR("wb:paused")), arena, &reply);

	if (e == OK && reply.type != REDIS_ARRAY)
		return ERR_BUFFER; /* not knowing what is paused, nothing is claimed */
	for (size_t i = 0; e == OK && i < w->n; i++) {
		w->seen[i].paused = false;
		for (size_t k = 0; k < reply.n; k++)
			w->seen[i].paused |= str_is(reply.v[k].s, w->targets[i].entity->name);
	}
	return e;
}

static bool may_claim(const struct worker *w, const struct seen *s)
{
	int64_t now = loop_mono_us(w->loop);

	return now >= s->not_before_us && (w->conf->enabled || s->flush_until_us > now);
}

static void dispatch(struct worker *w, struct arena *arena)
{
	struct plan_row *rows = arena_array(arena, w->n + 1, sizeof(*rows));
	bool open = board_breaker(&w->board).open;

	for (size_t i = 0; i < w->n; i++)
		rows[i] = (struct plan_row){.service = w->services[i],
					    .level = w->targets[i].entity->level,
					    .due = w->seen[i].due,
					    .overdue = w->seen[i].overdue,
					    .paused = w->seen[i].paused};
	plan_levels(rows, w->n);
	for (size_t i = 0; i < w->n; i++) {
		bool claim = rows[i].claim && !open && may_claim(w, &w->seen[i]);
		int64_t batches = (w->seen[i].due + w->conf->batch_size - 1) / w->conf->batch_size;

		board_offer(&w->board, i, claim ? (unsigned)(batches < 1000 ? batches : 1000) : 0, delay_of(w, &w->seen[i]));
	}
}

/* At all of them each second, and in between at those with news: a hint of one entity must not cost a look at forty. */
SUSPENDS static enum err look_around(struct worker *w, struct arena *arena)
{
	bool full = loop_mono_us(w->loop) - w->full_look_us >= (LOOK_MS - JITTER_MS) * US_PER_MS || !w->buffer_up;
	int64_t now_us;
	enum err e = worker_redis_now(w, arena, &now_us);

	if (e == OK)
		e = look_at_paused(w, arena);
	for (size_t i = 0; e == OK && i < w->n; i++) {
		if (!full && !w->seen[i].news)
			continue;
		w->seen[i].news = false; /* before the question: what comes during it is news again */
		e = look(w, i, now_us / 1000, arena);
	}
	if (full && e == OK)
		w->full_look_us = loop_mono_us(w->loop);
	return e;
}

static bool is_time(struct worker *w, int64_t *at_us, int64_t period_us)
{
	int64_t now = loop_mono_us(w->loop);

	if (*at_us != 0 && now - *at_us < period_us)
		return false;
	*at_us = now;
	return true;
}

SUSPENDS static void periodic(struct worker *w)
{
	struct breaker breaker = board_breaker(&w->board);

	if (w->buffer_up && is_time(w, &w->durability_at_us, DURABILITY_US))
		watch_durability(w);
	if (w->buffer_up && is_time(w, &w->pressure_at_us, PRESSURE_US))
		watch_pressure(w);
	if (breaker_wants_probe(&breaker, clock_mono_us())) {
		bool well = watch_clock(w) == OK;

		board_probed(&w->board, well, clock_mono_us());
		log_at(well ? LOG_INFO : LOG_WARN, well ? "the database answers again" : "the database is away", LOG_END);
	} else if (!breaker.open && is_time(w, &w->clock_at_us, CLOCK_US)) {
		IGNORE(watch_clock(w)); /* it counts only as a probe */
	}
}

SUSPENDS static void record_runs(struct worker *w)
{
	/* At the end even the youngest runs are complete. */
	int64_t now = clock_real_us() + (w->stopping ? US_PER_S : 0);
	struct finished_run run;

	for (size_t i = 0; i < w->n; i++) {
		if (!board_run_finished(&w->board, i, now, &run))
			continue;
		w->copy_now = w->copy_now || run.counts.dead > 0;
		runs_record(w, i, &run);
	}
}

SUSPENDS static void look_once(struct worker *w)
{
	struct arena *arena = arena_new();
	enum err e = look_around(w, arena);

	if (w->buffer_up != (e == OK)) {
		w->buffer_up = e == OK;
		log_at(e == OK ? LOG_INFO : LOG_WARN, "the write buffer", LOG_B("up", e == OK), LOG_E(e), LOG_END);
	}
	if (e == OK) {
		periodic(w);
		dispatch(w, arena);
	}
	w->tick_us = loop_mono_us(w->loop);
	arena_free(arena);
	record_runs(w);
}

SUSPENDS static void wait_for_news(struct worker *w)
{
	uint16_t jitter;

	random_bytes(&jitter, sizeof(jitter));
	IGNORE(sleep_ms(w->loop, SPACING_MS, (struct deadline){INT64_MAX})); /* hints of one moment cause one look */
	if (!w->awake)
		IGNORE(waitq_wait(&w->wake, deadline_in(w->loop, LOOK_MS - jitter % JITTER_MS))); /* either way it is time */
	w->awake = false;
}

void coordinator_fiber(void *arg)
{
	struct worker *w = arg;

	w->coordinator = fiber_self();
	while (!w->stopping) {
		/* A worker that is told to go claims nothing more, while its listeners still answer. */
		if (w->daemon->state == DAEMON_DRAINING)
			board_stop(&w->board);
		look_once(w);
		if (!w->stopping)
			wait_for_news(w);
	}
	record_runs(w);
	w->coordinator = NULL;
}
