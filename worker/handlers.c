/* SPDX-License-Identifier: Apache-2.0 */
/* /sync/status, flush, pause, resume, runs. */
#include <inttypes.h>

#include "base/timefmt.h"
#include "io/loop.h"
#include "routes.h"
#include "svc/audit.h"
#include "worker.h"
#include "worker_sql.h"

#define POLL_MS 25
#define MARGIN_MS 700 /* of a flush before its request's deadline: an answer with what remains is better than none */

SUSPENDS enum err sync_audit(struct req *req, const char *action, const char *entity, struct str reason, struct str values_json)
{
	struct audit_row *a = audit_new(req, action, entity, (struct uuid){{0}}, (struct str){NULL, 0}, values_json);
	struct change *c = change_new(req);

	FIELD_PUT(a, audit_row, reason, reason);
	change_put(c, &worker_audit_entity, a);
	return change_commit(c);
}

struct queues sync_queues(struct req *req, struct str entity, struct str buffer)
{
	struct worker *w = worker_of(req->daemon);
	struct queues all = {arena_array(req->arena, w->n_queues + 1, sizeof(struct queue *)), 0};

	for (size_t i = 0; i < w->n_queues; i++) {
		struct queue *q = &w->queues[i];

		if ((entity.n == 0 || str_is(entity, q->target->entity->name)) &&
		    (buffer.n == 0 || str_is(buffer, q->source->name)))
			all.v[all.n++] = q;
	}
	return all;
}

/* ---- status ---- */

static void describe(struct req *req, struct queue *q, struct sync_entity *to)
{
	struct worker *w = q->w;
	struct job job = board_look(&w->board, q->index);
	int64_t now_ms = loop_real_us(w->loop) / 1000, first_ms = q->oldest_first_ms;

	FIELD_PUT(to, sync_entity, entity, str_of(q->target->entity->name));
	FIELD_PUT(to, sync_entity, service, str_of(worker_service_name(w, q->target)));
	FIELD_PUT(to, sync_entity, buffer, str_of(q->source->name));
	FIELD_PUT(to, sync_entity, level, (int64_t)q->target->entity->level);
	FIELD_PUT(to, sync_entity, pending, q->status.pending);
	FIELD_PUT(to, sync_entity, due, q->due);
	FIELD_PUT(to, sync_entity, retry, q->status.retry);
	FIELD_PUT(to, sync_entity, leased, q->status.leased);
	FIELD_PUT(to, sync_entity, dead, q->status.dead);
	if (first_ms != 0)
		FIELD_PUT(to, sync_entity, oldest_age_seconds, now_ms > first_ms ? (double)(now_ms - first_ms) / 1000 : 0);
	FIELD_PUT(to, sync_entity, rows_per_second, job.run_us > 0 ? (double)job.total.applied * 1e6 / (double)job.run_us : 0);
	FIELD_PUT(to, sync_entity, applied, job.total.applied);
	FIELD_PUT(to, sync_entity, superseded, job.total.superseded);
	FIELD_PUT(to, sync_entity, paused, q->paused);
	FIELD_PUT(to, sync_entity, breaker, board_is_open(&w->board, job.database) ? STR("open") : STR("closed"));
	FIELD_PUT(to, sync_entity, durability, str_of(q->source->durability));
	if (job.last_error[0] != '\0')
		FIELD_PUT(to, sync_entity, last_error, str_of(arena_strdup(req->arena, job.last_error)));
}

static void describe_buffer(const struct source *s, struct sync_buffer *to)
{
	static const char *const words[] = {[PRESSURE_NONE] = "none", [PRESSURE_HIGH] = "high", [PRESSURE_FULL] = "full"};
	const struct loop *loop = s->w->loop;

	FIELD_PUT(to, sync_buffer, buffer, str_of(s->name));
	FIELD_PUT(to, sync_buffer, up, s->up);
	FIELD_PUT(to, sync_buffer, durability, str_of(s->durability));
	FIELD_PUT(to, sync_buffer, pressure, str_of(words[s->pressure]));
	FIELD_PUT(to, sync_buffer, backlog, s->backlog);
	FIELD_PUT(to, sync_buffer, used_bytes, s->used_bytes);
	FIELD_PUT(to, sync_buffer, most_bytes, s->most_bytes);
	FIELD_PUT(to, sync_buffer, clock_difference_seconds, s->clock_difference_s);
	FIELD_PUT(to, sync_buffer, as_of, loop_real_us(loop) - (loop_mono_us(loop) - s->full_look_us));
}

static void put_totals(struct req *req, const struct worker *w)
{
	struct buffer_status sum = {0};
	int64_t due = 0;

	for (size_t i = 0; i < w->n_queues; i++) {
		const struct queue *q = &w->queues[i];

		sum.pending += q->status.pending;
		sum.retry += q->status.retry;
		sum.leased += q->status.leased;
		sum.dead += q->status.dead;
		due += q->due;
	}
	req_json_key(req, "totals");
	buf_printf(&req->body,
		   "{\"pending\":%" PRId64 ",\"due\":%" PRId64 ",\"retry\":%" PRId64 ",\"leased\":%" PRId64 ",\"dead\":%" PRId64
		   "}",
		   sum.pending, due, sum.retry, sum.leased, sum.dead);
}

SUSPENDS enum err sync_status(struct req *req)
{
	struct worker *w = worker_of(req->daemon);
	struct sync_entity *v = arena_array(req->arena, w->n_queues + 1, sizeof(*v));
	struct sync_buffer *buffers = arena_array(req->arena, w->n_sources + 1, sizeof(*buffers));
	struct list entities = {v, w->n_queues}, sources = {buffers, w->n_sources};
	int64_t oldest_look_us = INT64_MAX;
	bool up = true;
	char at[TIME_TEXT + 1];

	for (size_t i = 0; i < w->n_queues; i++)
		describe(req, &w->queues[i], &v[i]);
	for (size_t i = 0; i < w->n_sources; i++) {
		describe_buffer(&w->sources[i], &buffers[i]);
		up = up && w->sources[i].up;
		if (w->sources[i].tick_us < oldest_look_us)
			oldest_look_us = w->sources[i].tick_us;
	}
	time_text(loop_real_us(w->loop) - (loop_mono_us(w->loop) - oldest_look_us), at);
	req->version = -1;
	req_json_begin(req);
	req_json_list(req, "entities", &sync_entity_schema, &entities);
	req_json_list(req, "buffers", &sync_buffer_schema, &sources);
	put_totals(req, w);
	req_json_text(req, "as_of", str_of(at));
	req_json_text(req, "buffer", up ? STR("up") : STR("away"));
	req_json_text(req, "breaker", board_is_open(&w->board, DATABASE_ROWS) ? STR("open") : STR("closed"));
	req_json_text(req, "durability", str_of(daemon_durability(req->daemon)));
	req_json_key(req, "clock_difference_seconds");
	buf_printf(&req->body, "%.6f", watch_clock_difference_s(w));
	req_json_text(req, "worker", str_of(w->identity));
	req_json_end(req);
	return OK;
}

/* ---- flush ---- */

/* The named entity's queues, or all. */
static enum err chosen(struct req *req, struct str entity, struct queues *ret)
{
	*ret = sync_queues(req, entity, STR(""));
	return ret->n > 0 ? OK : req_invalid(req, "/entity", "enum", "names no buffered entity");
}

/* What is unsynced since a time or longer; retries whenever they are due. */
SUSPENDS static enum err remaining(struct req *req, const struct queue *q, int64_t since_ms, int64_t *ret)
{
	struct buffer_io io = source_io(q->source);
	const char *name = q->target->entity->name;
	struct redis_args calls[] = {REDIS_ARGS(STR("ZCOUNT"), str_of(arena_printf(req->arena, "wb:pending:%s", name)),
						STR("-inf"), str_of(arena_printf(req->arena, "%" PRId64, since_ms))),
				     REDIS_ARGS(STR("ZCARD"), str_of(arena_printf(req->arena, "wb:retry:%s", name))),
				     REDIS_ARGS(STR("ZCARD"), str_of(arena_printf(req->arena, "wb:lease:%s", name)))};
	struct redis_reply reply;

	*ret = 0;
	for (size_t k = 0; k < ARRAY_LEN(calls); k++) {
		enum err e = io.call(io.ctx, calls[k], req->arena, &reply);

		if (e != OK || reply.type != REDIS_INTEGER)
			return e != OK ? e : ERR_BUG;
		*ret += reply.i;
	}
	return OK;
}

/* A flush under way: what each buffer's clock said at its begin, and what each queue still has. */
struct flushing {
	struct queues queues;
	int64_t *since_ms; /* of each source; -1: it is away */
	int64_t *left;     /* of each queue; -1: nobody knows */
	struct deadline until;
};

SUSPENDS static enum err flush_begin(struct req *req, struct str entity, struct flushing *f)
{
	struct worker *w = worker_of(req->daemon);
	enum err e = chosen(req, entity, &f->queues), fault = OK;
	size_t answered = 0;

	if (e != OK)
		return e;
	f->until = (struct deadline){req->deadline.at_us - MARGIN_MS * US_PER_MS};
	f->since_ms = arena_array(req->arena, w->n_sources, sizeof(*f->since_ms));
	f->left = arena_array(req->arena, f->queues.n, sizeof(*f->left));
	for (size_t i = 0; i < w->n_sources; i++) {
		int64_t now_us = 0;

		e = source_now(&w->sources[i], req->arena, &now_us);
		f->since_ms[i] = e == OK ? now_us / 1000 : -1;
		fault = e != OK ? e : fault;
		answered += e == OK;
	}
	if (answered == 0)
		return fault;
	for (size_t i = 0; i < f->queues.n; i++)
		if (f->queues.v[i]->flush_until_us < f->until.at_us)
			f->queues.v[i]->flush_until_us = f->until.at_us;
	worker_wake(w);
	return OK;
}

/* True: whatever can be drained is. */
SUSPENDS static bool flush_look(struct req *req, struct flushing *f)
{
	bool drained = true;

	for (size_t i = 0; i < f->queues.n; i++) {
		const struct queue *q = f->queues.v[i];
		int64_t since_ms = f->since_ms[q->source->index];

		if (since_ms < 0 || remaining(req, q, since_ms, &f->left[i]) != OK)
			f->left[i] = -1;
		drained = drained && (f->left[i] <= 0 || q->paused);
	}
	return drained;
}

static void flush_reply(struct req *req, const struct flushing *f)
{
	struct flushed *v = arena_array(req->arena, f->queues.n, sizeof(*v));
	struct list list = {v, f->queues.n};
	bool drained = true;
	int64_t total = 0;

	for (size_t i = 0; i < f->queues.n; i++) {
		const struct queue *q = f->queues.v[i];

		FIELD_PUT(&v[i], flushed, entity, str_of(q->target->entity->name));
		FIELD_PUT(&v[i], flushed, buffer, str_of(q->source->name));
		FIELD_PUT(&v[i], flushed, paused, q->paused);
		if (f->left[i] >= 0)
			FIELD_PUT(&v[i], flushed, remaining, f->left[i]);
		drained = drained && f->left[i] == 0;
		total += f->left[i] > 0 ? f->left[i] : 0;
	}
	req->version = -1;
	req->status = 200;
	req_json_begin(req);
	req_json_list(req, "entities", &flushed_schema, &list);
	req_json_int(req, "remaining", total);
	req_json_bool(req, "drained", drained);
	req_json_end(req);
}

SUSPENDS enum err sync_flush(struct req *req)
{
	const struct flush_in *in = req->in;
	struct worker *w = worker_of(req->daemon);
	struct flushing f;
	bool drained = false;
	enum err e = flush_begin(req, in->entity, &f);

	if (e != OK)
		return e;
	do {
		drained = flush_look(req, &f);
	} while (!drained && sleep_ms(w->loop, POLL_MS, f.until) == OK && loop_mono_us(w->loop) < f.until.at_us);
	for (size_t i = 0; drained && i < f.queues.n; i++)
		if (f.queues.v[i]->flush_until_us == f.until.at_us)
			f.queues.v[i]->flush_until_us = 0;
	flush_reply(req, &f);
	return sync_audit(req, "flushed", in->entity.n != 0 ? arena_cstr(req->arena, in->entity) : "all", in->reason,
			  (struct str){NULL, 0});
}

/* ---- pause, resume ---- */

SUSPENDS static enum err change_paused_in(struct req *req, struct source *s, struct str command,
					  const struct queues *chosen_queues)
{
	struct buffer_io io = source_io(s);
	struct str *args = arena_array(req->arena, chosen_queues->n + 2, sizeof(*args));
	struct redis_reply reply;
	size_t n = 2;
	enum err e;

	args[0] = command;
	args[1] = STR("wb:paused");
	for (size_t i = 0; i < chosen_queues->n; i++)
		if (chosen_queues->v[i]->source == s)
			args[n++] = str_of(chosen_queues->v[i]->target->entity->name);
	e = io.call(io.ctx, (struct redis_args){args, n}, req->arena, &reply);
	return e == OK && reply.type != REDIS_INTEGER ? ERR_BUFFER : e;
}

/* In every buffer, or the answer is an error and the operator asks again: what was done once is not done twice. */
SUSPENDS static enum err change_paused(struct req *req, struct str command, const char *action)
{
	const struct pause_in *in = req->in;
	struct worker *w = worker_of(req->daemon);
	struct queues queues;
	enum err e = chosen(req, in->entity, &queues), fault = OK;

	if (e != OK)
		return e;
	for (size_t i = 0; i < w->n_sources; i++) {
		e = change_paused_in(req, &w->sources[i], command, &queues);
		fault = e != OK ? e : fault;
	}
	worker_wake(w);
	if (fault != OK)
		return fault;
	e = req_reply_message(req, action);
	return e == OK ? sync_audit(req, action, in->entity.n != 0 ? arena_cstr(req->arena, in->entity) : "all", in->reason,
				    (struct str){NULL, 0})
		       : e;
}

SUSPENDS enum err sync_pause(struct req *req)
{
	return change_paused(req, STR("SADD"), "paused");
}

SUSPENDS enum err sync_resume(struct req *req)
{
	return change_paused(req, STR("SREM"), "resumed");
}

/* ---- runs ---- */

SUSPENDS enum err sync_runs(struct req *req)
{
	const struct runs_in *in = req->query;
	struct list runs;
	enum err e = db_query(req, &SQL_WORKER_RUNS, PG_PARAMS(PG_INT8(FIELD_HAS(in, runs_in, limit) ? in->limit : 100)),
			      &run_out_schema, &runs);

	return e == OK ? req_reply_list(req, "runs", &run_out_schema, &runs) : e;
}
