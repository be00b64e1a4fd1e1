/* SPDX-License-Identifier: Apache-2.0 */
/* The verifier's rounds: whose turn it is, and at what pace. */
#include "base/log.h"
#include "base/timefmt.h"
#include "duties.h"
#include "io/loop.h"

#define LOCK STR("wb:verify")
#define LOCK_S STR("30")
#define RENEW_US (10 * US_PER_S)
#define ASK_US (10 * US_PER_S)  /* whether another worker still has it */
#define AGAIN_US (5 * US_PER_S) /* after an error */
#define REST_US US_PER_S        /* between two passes */
#define STEP_US (10 * US_PER_MS)
#define WAIT_MS 1000

static bool knows(void *ctx, struct str entity)
{
	const struct patrol *p = ctx;

	return worker_target(p->source->w, entity) != NULL;
}

static void found(void *ctx, enum violation what, const struct verify_item *item)
{
	const struct patrol *p = ctx;

	log_warn("the write buffer broke its invariant; mended", LOG_S("buffer", p->source->name),
		 LOG_S("kind", violation_name(what)), LOG_STR("entity", item->entity), LOG_STR("id", item->id),
		 LOG_STR("scope", item->scope));
}

/* ---- one worker at a time; two would only do the work twice ---- */

SUSPENDS static enum err renew(struct patrol *p, const struct buffer_io *io, struct arena *arena)
{
	struct redis_reply reply;
	enum err e = io->call(io->ctx, REDIS_ARGS(STR("GET"), LOCK), arena, &reply);

	if (e == OK && reply.type == REDIS_STRING && str_is(reply.s, p->source->w->identity))
		return io->call(io->ctx, REDIS_ARGS(STR("EXPIRE"), LOCK, LOCK_S), arena, &reply);
	p->holds = false;
	return e;
}

SUSPENDS static enum err take(struct patrol *p, const struct buffer_io *io, struct arena *arena)
{
	struct redis_reply reply;
	enum err e = io->call(io->ctx, REDIS_ARGS(STR("SET"), LOCK, str_of(p->source->w->identity), STR("NX"), STR("EX"), LOCK_S),
			      arena, &reply);

	p->holds = e == OK && reply.type == REDIS_STATUS;
	return e;
}

SUSPENDS static bool has_turn(struct patrol *p, const struct buffer_io *io, int64_t now_us)
{
	struct arena *arena;
	enum err e;

	if (p->holds && now_us < p->renew_at_us)
		return true;
	arena = arena_new();
	e = p->holds ? renew(p, io, arena) : OK;
	if (e == OK && !p->holds)
		e = take(p, io, arena);
	arena_free(arena);
	p->holds = p->holds && e == OK;
	p->renew_at_us = now_us + RENEW_US;
	return p->holds;
}

/* ---- steps ---- */

static void note_pass(struct patrol *p)
{
	p->passes = p->verify.passes;
	p->passed_at_us = clock_real_us();
	p->next_at_us += REST_US;
	log_debug("the write buffer was verified", LOG_S("buffer", p->source->name), LOG_I("verified", p->verify.verified));
}

SUSPENDS static void go_on(struct patrol *p, int64_t keys_per_s)
{
	struct buffer_io io = source_io(p->source);
	struct loop *loop = p->source->w->loop;
	int64_t now_us = loop_mono_us(loop), pace_us, cost;
	enum err e;

	if (!p->source->up || !has_turn(p, &io, now_us)) {
		p->next_at_us = now_us + ASK_US;
		return;
	}
	e = verify_step(&p->verify, &io, &cost);
	pace_us = cost * US_PER_S / keys_per_s;
	p->next_at_us = now_us + (e != OK ? AGAIN_US : pace_us > STEP_US ? pace_us : STEP_US);
	if (e != OK && e != ERR_CANCELLED)
		log_warn("the write buffer could not be verified", LOG_S("buffer", p->source->name), LOG_E(e));
	if (p->verify.passes != p->passes)
		note_pass(p);
}

static void prepare(struct worker *w, int64_t keys_per_s)
{
	size_t page = keys_per_s < 50 ? 5 : (size_t)keys_per_s / 10;

	w->duties->patrols = mem_zalloc(w->n_sources * sizeof(struct patrol));
	for (size_t i = 0; i < w->n_sources; i++) {
		struct patrol *p = &w->duties->patrols[i];

		p->source = &w->sources[i];
		verify_init(&p->verify, page, (struct verify_hooks){p, knows, found});
	}
}

void patrol_run(struct worker *w)
{
	int64_t wait_ms = WAIT_MS;

	if (w->conf->verify_keys_per_s == 0)
		return;
	prepare(w, w->conf->verify_keys_per_s);
	while (worker_pause(w, wait_ms)) {
		int64_t next_us = loop_mono_us(w->loop) + WAIT_MS * US_PER_MS;

		for (size_t i = 0; i < w->n_sources; i++) {
			struct patrol *p = &w->duties->patrols[i];

			if (p->next_at_us <= loop_mono_us(w->loop))
				go_on(p, w->conf->verify_keys_per_s);
			next_us = p->next_at_us < next_us ? p->next_at_us : next_us;
		}
		wait_ms = (next_us - loop_mono_us(w->loop)) / US_PER_MS;
		wait_ms = wait_ms > 0 ? wait_ms : 1;
	}
	/* The next one need not wait for the lock's end; a renewal is younger than the lock, so it is still ours. */
	for (size_t i = 0; i < w->n_sources; i++)
		if (w->duties->patrols[i].holds)
			redis_post(w->sources[i].redis, REDIS_ARGS(STR("DEL"), LOCK));
}
