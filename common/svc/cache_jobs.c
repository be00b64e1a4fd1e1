/* SPDX-License-Identifier: Apache-2.0 */
/* The table of jobs: when each runs next, by whom in the fleet, and how the last run went. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/str.h"
#include "base/timefmt.h"
#include "base/uuid.h"
#include "cache/cache_internal.h"
#include "io/fiber.h"
#include "svc/buffers.h"
#include "svc/cache_warm.h"
#include "svc/daemon.h"
#include "svc/req.h"
#include "svc_lua.h"

#define TICK_MS 5000
#define RUN_MS 50000       /* of a run; a target that has begun may take a request's time more … */
#define LOCK_TEXT "115000" /* … and the lock outlives both */
#define STATE_LIFE_TEXT "1209600"
#define AGAIN_MS_TEXT "30000" /* at a start: another replica has just done it */
#define FIRST_MS 2000
#define TELL_US (60 * US_PER_S) /* that a school is active */
#define SCHOOLS_KEPT 1000

static struct str state_key(const struct warm *w, struct arena *arena)
{
	const struct cache *c = w->daemon->caches;

	return str_of(arena_printf(arena, "%sjobs:%s", c->shared, c->conf.service));
}

static struct str lock_key(const struct warm *w, const struct warm_job *job, struct arena *arena)
{
	const struct cache *c = w->daemon->caches;

	return str_of(arena_printf(arena, "%sjobs:%s:%s:lock", c->shared, c->conf.service, job->row->name));
}

static int64_t interval_s(const struct warm *w, const struct warm_row *row)
{
	return row->interval_s != 0 ? row->interval_s : w->daemon->settings.warm_interval_s;
}

static bool runs_by_itself(const struct warm *w, const struct warm_row *row)
{
	return (row->when & WARM_SCHEDULED) != 0 && w->daemon->settings.warm_interval_s != 0 && interval_s(w, row) > 0;
}

/* ---- what Redis knows ---- */

static struct warm_job *job_of(struct warm *w, struct str name)
{
	for (size_t i = 0; i < w->n_jobs; i++) {
		if (str_is(name, w->jobs[i].row->name))
			return &w->jobs[i];
	}
	return NULL;
}

static void read_record(struct warm_job *job, struct str rest)
{
	int64_t v[6];

	for (size_t i = 0; i < ARRAY_LEN(v); i++) {
		if (!str_to_i64(str_split(&rest, ' '), &v[i]))
			return;
	}
	job->last_ms = v[0];
	job->next_ms = v[1];
	job->took_ms = v[2];
	job->result = (struct warm_result){v[3], v[4], v[5]};
	job->failed = str_is(rest, "failed");
}

SUSPENDS static void read_table(struct warm *w, struct arena *arena, struct deadline d)
{
	struct redis_reply reply;

	if (index_call(w->daemon->caches, arena, d, REDIS_ARGS(STR("HGETALL"), state_key(w, arena)), &reply) != OK ||
	    reply.type != REDIS_ARRAY)
		return;
	for (size_t i = 0; i < w->n_jobs; i++)
		w->jobs[i].paused = false;
	for (size_t i = 0; i + 1 < reply.n; i += 2) {
		struct str rest = reply.v[i].s;
		struct warm_job *job = job_of(w, str_split(&rest, '!'));

		if (job == NULL)
			continue;
		if (str_is(rest, "paused"))
			job->paused = true;
		else
			read_record(job, reply.v[i + 1].s);
	}
}

/* ---- a run ---- */

/* A tenth sooner or later, so that what began together does not stay together. */
static int64_t jittered_ms(struct warm *w, int64_t s)
{
	return s * 900 + (int64_t)(cache_random(w->daemon->caches) % (uint64_t)(s * 200 + 1));
}

SUSPENDS static bool begin(struct warm *w, const struct warm_job *job, struct str token, bool at_start, struct arena *arena)
{
	struct redis_reply reply;

	return index_script(w->daemon->caches, arena, deadline_in(w->daemon->loop, 1000), &LUA_CACHE_JOB,
			    REDIS_ARGS(STR("begin"), state_key(w, arena), lock_key(w, job, arena), str_of(job->row->name), token,
				       STR(LOCK_TEXT), at_start ? STR(AGAIN_MS_TEXT) : STR("0")),
			    &reply) == OK &&
	       reply.type == REDIS_INTEGER && reply.i == 1;
}

SUSPENDS static void end(struct warm *w, struct warm_job *job, struct str token, struct arena *arena)
{
	const struct warm_result *r = &job->result;
	struct redis_reply reply;
	struct str record = str_of(
		arena_printf(arena, "%" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 " %s", job->last_ms,
			     job->next_ms, job->took_ms, r->warmed, r->skipped, r->failed, job->failed ? "failed" : "ok"));

	if (index_script(w->daemon->caches, arena, deadline_in(w->daemon->loop, 1000), &LUA_CACHE_JOB,
			 REDIS_ARGS(STR("end"), state_key(w, arena), lock_key(w, job, arena), str_of(job->row->name), token,
				    record, STR(STATE_LIFE_TEXT)),
			 &reply) != OK)
		log_debug("a job's run was not noted", LOG_S("job", job->row->name)); /* its lock ends by itself */
}

SUSPENDS static void run_job(struct warm *w, struct warm_job *job, bool at_start)
{
	struct loop *loop = w->daemon->loop;
	struct arena *arena = arena_new();
	struct str token = str_of(arena_printf(arena, "%016" PRIx64, cache_random(w->daemon->caches)));
	int64_t from_us = loop_mono_us(loop);

	if (begin(w, job, token, at_start, arena)) {
		warm_run(w, job->row, (struct uuid){{0}}, deadline_in(loop, RUN_MS), &job->result);
		job->last_ms = loop_real_us(loop) / 1000;
		job->took_ms = (loop_mono_us(loop) - from_us) / 1000;
		job->next_ms = job->last_ms + jittered_ms(w, interval_s(w, job->row));
		job->failed = job->result.failed != 0 && job->result.warmed + job->result.skipped == 0;
		job->runs++;
		job->total.warmed += job->result.warmed;
		job->total.skipped += job->result.skipped;
		job->total.failed += job->result.failed;
		end(w, job, token, arena);
		log_info("warmed", LOG_S("job", job->row->name), LOG_I("warmed", job->result.warmed),
			 LOG_I("skipped", job->result.skipped), LOG_I("failed", job->result.failed),
			 LOG_I("took_ms", job->took_ms));
	}
	arena_free(arena);
}

/* ---- which schools are active ---- */

SUSPENDS static void tell_schools(struct warm *w, struct arena *arena)
{
	struct cache *c = w->daemon->caches;
	struct deadline d = deadline_in(w->daemon->loop, 1000);
	struct str key = str_of(arena_printf(arena, "%sjobs:schools", c->shared));
	struct redis_reply reply;
	bool told = false;

	for (size_t i = 0; i < ARRAY_LEN(w->seen); i++) {
		struct warm_school *s = &w->seen[i];
		struct buf member = buf_in(arena);

		if (s->seen_us == 0 || s->seen_us - s->told_us < TELL_US)
			continue;
		buf_put_uuid(&member, s->id);
		buf_printf(&member, " %s", daemon_buffer_name(w->daemon, s->buffer));
		if (index_call(c, arena, d,
			       REDIS_ARGS(STR("ZADD"), key, str_of(arena_printf(arena, "%" PRId64, s->seen_us / 1000)),
					  buf_str(&member)),
			       &reply) != OK)
			return;
		s->told_us = s->seen_us;
		told = true;
	}
	if (told) /* who was active longest ago goes */
		IGNORE(index_call(
			c, arena, d,
			REDIS_ARGS(STR("ZREMRANGEBYRANK"), key, STR("0"), str_of(arena_printf(arena, "%d", -SCHOOLS_KEPT - 1))),
			&reply)); /* the next telling cuts it */
}

/* ---- the fiber ---- */

void warm_tick(struct warm *w, bool at_start)
{
	struct arena *arena = arena_new();
	int64_t now_ms = loop_real_us(w->daemon->loop) / 1000;

	tell_schools(w, arena);
	read_table(w, arena, deadline_in(w->daemon->loop, 1000));
	arena_free(arena);
	for (size_t i = 0; i < w->n_jobs && !w->closing; i++) {
		struct warm_job *job = &w->jobs[i];
		bool now = at_start && w->daemon->settings.warm_at_start && (job->row->when & WARM_AT_START) != 0;

		if (!job->paused && (now || (runs_by_itself(w, job->row) && job->next_ms <= now_ms)))
			run_job(w, job, now);
	}
}

SUSPENDS static void warm_fiber(void *arg)
{
	struct warm *w = arg;
	struct loop *loop = w->daemon->loop;
	bool at_start = true;

	w->fiber = fiber_self();
	/* Replicas that start together do not all look at once. */
	if (sleep_ms(loop, FIRST_MS / 2 + (int64_t)(cache_random(w->daemon->caches) % FIRST_MS), (struct deadline){INT64_MAX}) !=
	    OK)
		w->closing = true;
	while (!w->closing) {
		if (link_is_open(w->daemon->caches)) {
			warm_tick(w, at_start);
			at_start = false;
		}
		if (w->closing || sleep_ms(loop, TICK_MS, (struct deadline){INT64_MAX}) != OK)
			break;
	}
	w->fiber = NULL;
}

enum err cache_warm_open(struct daemon *d, struct warm **ret)
{
	const struct warm_row *row = d->service->warms;
	struct warm *w;

	if (d->caches == NULL || row == NULL || row->name == NULL)
		return OK;
	*ret = w = mem_zalloc(sizeof(*w));
	w->daemon = d;
	for (; row->name != NULL; row++) {
		if (row->after == NULL)
			w->jobs[w->n_jobs++].row = row;
	}
	return w->n_jobs != 0 ? fiber_spawn(d->loop, "warm", warm_fiber, w) : OK;
}

void cache_warm_cancel(struct warm *w)
{
	if (w == NULL)
		return;
	w->closing = true;
	if (w->fiber != NULL)
		fiber_cancel(w->fiber);
	warm_after_done(w);
}

struct warm *cache_warm_free(struct warm *w)
{
	free(w);
	return NULL;
}

/* ---- for the administration ---- */

size_t cache_warm_jobs(const struct daemon *d)
{
	return d->warm != NULL ? d->warm->n_jobs : 0;
}

static void put_instant(struct req *req, const char *name, int64_t at_ms)
{
	char text[TIME_TEXT + 1];

	if (at_ms == 0) {
		req_json_null(req, name);
		return;
	}
	time_text(at_ms * 1000, text);
	req_json_text(req, name, str_of(text));
}

static void put_job(struct req *req, const struct warm *w, const struct warm_job *job)
{
	if (req->body.p[req->body.n - 1] != '[')
		buf_putc(&req->body, ',');
	buf_putc(&req->body, '{');
	req_json_text(req, "name", str_of(job->row->name));
	req_json_text(req, "path", str_of(job->row->path));
	req_json_int(req, "interval_s", runs_by_itself(w, job->row) ? interval_s(w, job->row) : 0);
	put_instant(req, "last_run", job->last_ms);
	put_instant(req, "next_run", runs_by_itself(w, job->row) ? job->next_ms : 0);
	req_json_int(req, "duration_ms", job->took_ms);
	req_json_text(req, "outcome", job->last_ms == 0 ? STR("never") : job->failed ? STR("failed") : STR("ok"));
	req_json_int(req, "warmed", job->result.warmed);
	req_json_int(req, "skipped", job->result.skipped);
	req_json_int(req, "failed", job->result.failed);
	req_json_bool(req, "paused", job->paused);
	buf_putc(&req->body, '}');
}

void cache_warm_jobs_put(struct req *req)
{
	struct warm *w = req->daemon->warm;

	if (w != NULL)
		read_table(w, req->arena, deadline_sooner(req->deadline, deadline_in(req->daemon->loop, 1000)));
	buf_putc(&req->body, '[');
	for (size_t i = 0; w != NULL && i < w->n_jobs; i++)
		put_job(req, w, &w->jobs[i]);
	buf_putc(&req->body, ']');
}
