/* SPDX-License-Identifier: Apache-2.0 */
/* Making answers before somebody asks: one target, all targets of a row, and on demand. */
#include "svc/cache_warm.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/str.h"
#include "base/timefmt.h"
#include "base/uuid.h"
#include "cache/cache_internal.h"
#include "io/fiber.h"
#include "svc/buffers.h"
#include "svc/cache_http.h"
#include "svc/daemon.h"
#include "svc/metrics.h"

#define ANSWER_MS 8000

SCHEMA_TABLE(warm_in, WARM_IN_FIELDS);
SCHEMA_TABLE(warm_id, WARM_ID_FIELDS);

/* ---- one target ---- */

struct str warm_target(const struct warm_row *row, struct uuid id, struct arena *arena)
{
	struct buf b = buf_in(arena);
	const char *brace = strstr(row->path, "{id}");

	buf_puts(&b, STR("/api/v1"));
	if (brace == NULL) {
		buf_puts(&b, str_of(row->path));
	} else {
		buf_put(&b, row->path, (size_t)(brace - row->path));
		buf_put_uuid(&b, id);
		buf_puts(&b, str_of(brace + 4));
	}
	return buf_str(&b);
}

enum warm_outcome warm_one(struct daemon *d, struct str target, const struct caller *who, bool shared)
{
	struct arena *arena = arena_new();
	struct cache_note note = {0};
	struct req *req;
	enum err e = inner_request_as(d, arena, arena_str(arena, target), who, shared, &req);

	if (e == OK)
		e = http_cache_fill(req, false, &note);
	if (e != OK && e != ERR_CANCELLED)
		log_debug("an answer was not warmed", LOG_STR("target", target), LOG_E(e));
	arena_free(arena);
	if (e == ERR_FORBIDDEN) /* who made the change does not look at this page */
		return WARM_SKIPPED;
	if (e != OK)
		return WARM_FAILED;
	/* What another has filled meanwhile is not this one's work. */
	return note.state == CACHE_MISS && !note.coalesced ? WARM_MADE : WARM_SKIPPED;
}

static void add_outcome(struct warm_result *r, enum warm_outcome outcome)
{
	r->warmed += outcome == WARM_MADE;
	r->skipped += outcome == WARM_SKIPPED;
	r->failed += outcome == WARM_FAILED;
}

/* ---- all targets of a row ---- */

struct target {
	struct str path;
	struct caller who;
};

struct run {
	struct warm *w;
	const struct warm_row *row;
	struct arena *arena;
	struct deadline d;
	struct target *v;
	size_t n, next;
	struct warm_result result;
};

static void add_targets(struct run *r, const struct caller *who, struct uuid id)
{
	for (unsigned role = 1; role != 0 && role <= ROLE_ANYONE; role <<= 1) {
		if ((r->row->roles & role) == 0 || r->n == WARM_TARGETS_MAX)
			continue;
		r->v[r->n] = (struct target){.path = warm_target(r->row, id, r->arena), .who = *who};
		r->v[r->n++].who.role = (enum role)role;
	}
}

SUSPENDS static void add_school(struct run *r, struct uuid school, size_t buffer)
{
	struct caller who = {
		.school_id = school, .buffer = buffer, .buffer_name = str_of(daemon_buffer_name(r->w->daemon, buffer))};
	struct pg_scope scope = {.school = school, .arena = r->arena, .deadline = r->d};
	struct list rows = {0};
	const struct warm_id *ids;

	if (r->row->each == NULL) {
		add_targets(r, &who, school);
		return;
	}
	if (pg_query(r->w->daemon->pg, &scope, r->row->each, PG_NO_PARAMS, &warm_id_schema, &rows) != OK)
		r->result.failed++;
	ids = rows.v;
	for (size_t i = 0; i < rows.n; i++)
		add_targets(r, &who, ids[i].id);
}

/* "<school> <buffer>", the last active first. */
SUSPENDS static void add_active_schools(struct run *r)
{
	struct cache *c = r->w->daemon->caches;
	struct redis_reply reply;

	if (index_call(c, r->arena, r->d,
		       REDIS_ARGS(STR("ZRANGE"), str_of(arena_printf(r->arena, "%sjobs:schools", c->shared)), STR("0"),
				  str_of(arena_printf(r->arena, "%d", WARM_SCHOOLS_MAX - 1)), STR("REV")),
		       &reply) != OK ||
	    reply.type != REDIS_ARRAY) {
		r->result.failed++;
		return;
	}
	for (size_t i = 0; i < reply.n; i++) {
		struct str rest = reply.v[i].s;
		struct uuid school;
		size_t buffer = 0;

		if (!uuid_parse(str_split(&rest, ' '), &school))
			continue;
		while (buffer < daemon_buffers(r->w->daemon) && !str_is(rest, daemon_buffer_name(r->w->daemon, buffer)))
			buffer++;
		if (buffer < daemon_buffers(r->w->daemon) || daemon_buffers(r->w->daemon) == 0)
			add_school(r, school, buffer);
	}
}

/* Of several that take the next target each until there is none. */
SUSPENDS static enum err run_some(void *arg)
{
	struct run *r = arg;

	while (r->next < r->n && !r->w->closing && loop_mono_us(r->w->daemon->loop) < r->d.at_us) {
		struct target *t = &r->v[r->next++];

		add_outcome(&r->result, warm_one(r->w->daemon, t->path, &t->who, true));
	}
	return OK;
}

void warm_run(struct warm *w, const struct warm_row *row, struct uuid school, struct deadline d, struct warm_result *ret)
{
	struct daemon *daemon = w->daemon;
	struct run r = {.w = w, .row = row, .arena = arena_new(), .d = d};
	struct group *g = group_new(daemon->loop, GROUP_COLLECT);
	size_t buffer = 0;

	r.v = arena_array(r.arena, WARM_TARGETS_MAX, sizeof(*r.v));
	if (uuid_is_nil(school)) {
		add_active_schools(&r);
	} else {
		for (size_t i = 0; i < ARRAY_LEN(w->seen); i++) {
			if (uuid_eq(w->seen[i].id, school))
				buffer = w->seen[i].buffer;
		}
		add_school(&r, school, buffer);
	}
	for (int64_t i = 0; i < daemon->settings.warm_concurrency && (size_t)i < r.n; i++)
		group_spawn(g, "warm", run_some, &r);
	IGNORE(group_wait(
		g, (struct deadline){INT64_MAX})); /* each of them ends by the run's deadline, and their results are counted */
	r.result.failed += (int64_t)(r.n - r.next);
	*ret = r.result;
	arena_free(r.arena);
}

/* ---- who is active ---- */

void cache_warm_saw(struct req *req)
{
	struct warm *w = req->daemon->warm;
	struct uuid school = req->who.school_id;
	struct warm_school *s;

	if (w == NULL || uuid_is_nil(school) || req->who.role == ROLE_SERVICE)
		return;
	s = &w->seen[school.b[15] % ARRAY_LEN(w->seen)];
	if (!uuid_eq(s->id, school))
		*s = (struct warm_school){.id = school};
	s->buffer = req->who.buffer;
	s->seen_us = req->now_us;
}

/* ---- the table of rows ---- */

static bool segment_is(struct str of_route, struct str of_row)
{
	return str_eq(of_route, of_row) || (of_route.n > 2 && of_route.p[0] == '{' && str_is(of_row, "{id}"));
}

static bool path_is(const char *of_route, const char *of_row)
{
	struct str a = str_of(of_route), b = str_of(of_row), path = str_split(&b, '?');

	while (a.n != 0 && path.n != 0) {
		if (!segment_is(str_split(&a, '/'), str_split(&path, '/')))
			return false;
	}
	return a.n == 0 && path.n == 0;
}

static const struct route *route_of(const struct service *s, const struct warm_row *row)
{
	for (const struct route *r = s->routes; r != NULL && r->path != NULL; r++) {
		if (r->method == HTTP_GET && r->cache.policy != NULL &&
		    (strcmp(r->cache.policy, "redis") == 0 || strcmp(r->cache.policy, "full") == 0) &&
		    path_is(r->path, row->path))
			return r;
	}
	return NULL;
}

static const char *shared_problem(const struct warm_row *row, const struct route *r)
{
	if (row->when == 0)
		return "is never made: no .when and no .after";
	if (row->roles == 0 || (row->roles & ~r->roles) != 0)
		return "roles that its route has not";
	if (r->cache.vary == NULL || strstr(r->cache.vary, "school") == NULL)
		return "is a person's answer, which nobody else may make";
	if (r->rule.kind != RULE_SCHOOL && r->rule.kind != RULE_TEACHES && r->rule.kind != RULE_PUBLIC)
		return "has an object rule that knows people";
	if ((strstr(row->path, "{id}") != NULL) != (row->each != NULL))
		return "{id} without .each, or the other way round";
	return NULL;
}

static const char *row_problem(const struct service *s, const struct warm_row *row)
{
	const struct route *r = row->path != NULL ? route_of(s, row) : NULL;

	if (r == NULL)
		return "has a path of no kept route";
	if (row->after == NULL)
		return shared_problem(row, r);
	if (row->roles != 0 || row->when != 0 || row->each != NULL)
		return "is made after a change or by itself, not both";
	if (row->on == 0 || (row->on & ~(unsigned)(ON_CREATE | ON_UPDATE)) != 0)
		return ".on is ON_CREATE, ON_UPDATE or both";
	if (row->field != NULL && (row->becomes == NULL || schema_find(row->after->schema, str_of(row->field)) == NULL))
		return ".field is none of the entity's, or .becomes is missing";
	return NULL;
}

void cache_warm_check(const struct service *s, struct buf *problems)
{
	size_t n = 0;

	for (const struct warm_row *row = s->warms; row != NULL && row->name != NULL; row++, n++) {
		const char *problem = row_problem(s, row);

		if (problem != NULL)
			buf_printf(problems, "warming \"%s\": %s\n", row->name, problem);
		for (const struct warm_row *before = s->warms; before < row; before++) {
			if (strcmp(before->name, row->name) == 0)
				buf_printf(problems, "warming \"%s\": stands twice\n", row->name);
		}
	}
	if (n > WARM_ROWS_MAX)
		buf_printf(problems, "warming: at most %d rows\n", WARM_ROWS_MAX);
}

/* ---- on demand ---- */

static bool is_named(const struct list *names, const char *name)
{
	const struct str *v = names->v;

	for (size_t i = 0; i < names->n; i++) {
		if (str_is(v[i], name))
			return true;
	}
	return false;
}

static enum err check_names(struct req *req, const struct warm *w, const struct list *names, const char *field)
{
	const struct str *v = names->v;

	for (size_t i = 0; i < names->n; i++) {
		bool known = false;

		for (size_t k = 0; k < w->n_jobs; k++)
			known = known || str_is(v[i], w->jobs[k].row->name);
		if (!known)
			return req_invalid_at(req, "unknown", "no warming has this name", "/%s/%zu", field, i);
	}
	return OK;
}

SUSPENDS static enum err pause_or_resume(struct req *req, const struct list *names, bool pause)
{
	struct cache *c = req->daemon->caches;
	const struct str *v = names->v;
	struct str key = str_of(arena_printf(req->arena, "%sjobs:%s", c->shared, c->conf.service));
	struct redis_reply reply;
	enum err e = OK;

	for (size_t i = 0; e == OK && i < names->n; i++) {
		struct str field = str_of(arena_printf(req->arena, "%.*s!paused", STR_FMT(v[i])));

		e = index_call(c, req->arena, req->deadline,
			       pause ? REDIS_ARGS(STR("HSET"), key, field, STR("1")) : REDIS_ARGS(STR("HDEL"), key, field),
			       &reply);
	}
	return e;
}

SUSPENDS static enum err steer(struct req *req, struct warm *w, const struct warm_in *in)
{
	enum err e = check_names(req, w, &in->pause, "pause");

	if (e == OK)
		e = check_names(req, w, &in->resume, "resume");
	if (e == OK)
		e = check_names(req, w, &in->critical_queries, "critical_queries");
	if (e != OK || (in->pause.n == 0 && in->resume.n == 0))
		return e;
	if (req->who.role != ROLE_SUPER_ADMIN && req->who.role != ROLE_SERVICE)
		return req_fail(req, ERR_FORBIDDEN, "jobs are of all schools: only a super_admin pauses them");
	e = pause_or_resume(req, &in->pause, true);
	return e != OK ? e : pause_or_resume(req, &in->resume, false);
}

enum err cache_warm_answer(struct req *req)
{
	static const struct warm_in nothing;
	const struct warm_in *in = req->in != NULL ? req->in : &nothing;
	struct warm *w = req->daemon->warm;
	bool of_all = req->who.role == ROLE_SUPER_ADMIN || req->who.role == ROLE_SERVICE;
	const struct uuid everywhere = {{0}}, school = of_all ? everywhere : req->who.school_id;
	struct deadline d = deadline_sooner(req->deadline, deadline_in(req->daemon->loop, ANSWER_MS));
	bool steered = in->pause.n != 0 || in->resume.n != 0;
	struct warm_result sum = {0};
	enum err e;

	if (w == NULL)
		return req_fail(req, ERR_NOT_FOUND, "this daemon warms nothing");
	e = steer(req, w, in);
	if (e != OK)
		return e;
	cache_warm_saw(req);
	for (size_t i = 0; i < w->n_jobs; i++) {
		const struct warm_row *row = w->jobs[i].row;
		struct warm_result r = {0};

		if (in->critical_queries.n != 0 ? !is_named(&in->critical_queries, row->name)
						: steered || (row->when & WARM_ON_DEMAND) == 0)
			continue;
		warm_run(w, row, school, d, &r);
		sum.warmed += r.warmed;
		sum.skipped += r.skipped;
		sum.failed += r.failed;
		w->jobs[i].total.warmed += r.warmed;
		w->jobs[i].total.skipped += r.skipped;
		w->jobs[i].total.failed += r.failed;
	}
	req_json_begin(req);
	req_json_bool(req, "success", true);
	req_json_key(req, "data");
	buf_putc(&req->body, '{');
	req_json_int(req, "warmed", sum.warmed);
	req_json_int(req, "skipped", sum.skipped);
	req_json_int(req, "failed", sum.failed);
	req_json_key(req, "jobs");
	cache_warm_jobs_put(req);
	buf_putc(&req->body, '}');
	req_json_end(req);
	return OK;
}

/* ---- /metrics ---- */

void cache_warm_metrics(const struct daemon *d, struct buf *out)
{
	static const char name[] = "schools24_cache_warmed_total", dropped[] = "schools24_cache_warm_dropped_total";
	const struct warm *w = d->warm;

	if (w == NULL)
		return;
	metrics_head(out, name, "counter", "Answers that warming looked at in this process, by job and what came of it.");
	for (size_t i = 0; i <= w->n_jobs; i++) {
		const char *job = i < w->n_jobs ? w->jobs[i].row->name : "after a change";
		const struct warm_result *r = i < w->n_jobs ? &w->jobs[i].total : &w->after;

		metrics_put_i64(out, name, r->warmed, "warming", job, "result", "warmed", NULL);
		metrics_put_i64(out, name, r->skipped, "warming", job, "result", "skipped", NULL);
		metrics_put_i64(out, name, r->failed, "warming", job, "result", "failed", NULL);
	}
	metrics_head(out, dropped, "counter", "Warmings after a change that were not made, and why.");
	metrics_put_i64(out, dropped, w->coalesced, "reason", "coalesced", NULL);
	metrics_put_i64(out, dropped, w->dropped, "reason", "invalidated", NULL);
	metrics_put_i64(out, dropped, w->overflowed, "reason", "too_many", NULL);
	if (w->n_jobs == 0)
		return;
	metrics_head(out, "schools24_cache_job_last_run_seconds", "gauge", "When a job last ran, in any process; 0: never.");
	for (size_t i = 0; i < w->n_jobs; i++)
		metrics_put_i64(out, "schools24_cache_job_last_run_seconds", w->jobs[i].last_ms / 1000, "warming",
				w->jobs[i].row->name, NULL);
	metrics_head(out, "schools24_cache_job_failed", "gauge", "1 when its last run made nothing and failed.");
	for (size_t i = 0; i < w->n_jobs; i++)
		metrics_put_i64(out, "schools24_cache_job_failed", w->jobs[i].failed, "warming", w->jobs[i].row->name, NULL);
}
