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

/* ---- status ---- */

static void describe(struct worker *w, size_t i, struct sync_entity *to)
{
	const struct seen *s = &w->seen[i];
	const struct entity *e = w->targets[i].entity;
	struct job job = board_look(&w->board, i);
	int64_t now_ms = loop_real_us(w->loop) / 1000;

	FIELD_PUT(to, sync_entity, entity, str_of(e->name));
	FIELD_PUT(to, sync_entity, service, str_of(w->services[i]->name));
	FIELD_PUT(to, sync_entity, level, (int64_t)e->level);
	FIELD_PUT(to, sync_entity, pending, s->status.pending);
	FIELD_PUT(to, sync_entity, due, s->due);
	FIELD_PUT(to, sync_entity, retry, s->status.retry);
	FIELD_PUT(to, sync_entity, leased, s->status.leased);
	FIELD_PUT(to, sync_entity, dead, s->status.dead);
	if (s->oldest_first_ms != 0)
		FIELD_PUT(to, sync_entity, oldest_age_seconds,
			  now_ms > s->oldest_first_ms ? (double)(now_ms - s->oldest_first_ms) / 1000 : 0);
	FIELD_PUT(to, sync_entity, rows_per_second, job.run_us > 0 ? (double)job.total.applied * 1e6 / (double)job.run_us : 0);
	FIELD_PUT(to, sync_entity, applied, job.total.applied);
	FIELD_PUT(to, sync_entity, superseded, job.total.superseded);
	FIELD_PUT(to, sync_entity, paused, s->paused);
}

SUSPENDS enum err sync_status(struct req *req)
{
	struct worker *w = worker_of(req->daemon);
	struct sync_entity *v = arena_array(req->arena, w->n + 1, sizeof(*v));
	struct list list = {v, w->n};
	struct breaker breaker = board_breaker(&w->board);
	char at[TIME_TEXT + 1];

	for (size_t i = 0; i < w->n; i++) {
		struct job job = board_look(&w->board, i);

		describe(w, i, &v[i]);
		if (job.last_error[0] != '\0')
			FIELD_PUT(&v[i], sync_entity, last_error, str_of(arena_strdup(req->arena, job.last_error)));
	}
	time_text(loop_real_us(w->loop) - (loop_mono_us(w->loop) - w->tick_us), at);
	req->version = -1;
	req_json_begin(req);
	req_json_key(req, "entities");
	json_encode_list(&sync_entity_schema, &list, 0, &req->body);
	req_json_key(req, "as_of");
	buf_put_json(&req->body, str_of(at));
	req_json_key(req, "buffer");
	buf_puts(&req->body, w->buffer_up ? STR("\"up\"") : STR("\"away\""));
	req_json_key(req, "breaker");
	buf_puts(&req->body, breaker.open ? STR("\"open\"") : STR("\"closed\""));
	req_json_key(req, "durability");
	buf_put_json(&req->body, str_of(daemon_durability(req->daemon)));
	req_json_key(req, "clock_difference_seconds");
	buf_printf(&req->body, "%.6f", w->clock_difference_s);
	req_json_key(req, "worker");
	buf_put_json(&req->body, str_of(w->identity));
	req_json_end(req);
	return OK;
}

/* ---- flush ---- */

/* The named entity, or all of them: [*ret_from, *ret_to). */
static enum err chosen(struct req *req, struct str name, size_t *ret_from, size_t *ret_to)
{
	struct worker *w = worker_of(req->daemon);
	const struct flush_target *t = name.n != 0 ? worker_target(w, name) : NULL;

	if (name.n != 0 && t == NULL)
		return req_invalid(req, "/entity", "enum", "names no buffered entity");
	*ret_from = t != NULL ? t->index : 0;
	*ret_to = t != NULL ? t->index + 1 : w->n;
	return OK;
}

/* What is unsynced since a time or longer; retries whenever they are due. */
SUSPENDS static enum err remaining(struct req *req, size_t i, int64_t since_ms, int64_t *ret)
{
	struct worker *w = worker_of(req->daemon);
	struct buffer_io io = worker_buffer_io(w);
	const char *name = w->targets[i].entity->name;
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

SUSPENDS static enum err remaining_of_all(struct req *req, size_t from, size_t to, int64_t since_ms, bool with_paused,
					  int64_t *ret)
{
	const struct worker *w = worker_of(req->daemon);

	*ret = 0;
	for (size_t i = from; i < to; i++) {
		int64_t n = 0;
		enum err e = OK;

		if (with_paused || !w->seen[i].paused)
			e = remaining(req, i, since_ms, &n);
		if (e != OK)
			return e;
		*ret += n;
	}
	return OK;
}

SUSPENDS static enum err reply_to_flush(struct req *req, size_t from, size_t to, int64_t since_ms)
{
	const struct worker *w = worker_of(req->daemon);
	int64_t total = 0;
	char between = '[';

	req->version = -1;
	req->status = 200;
	req_json_begin(req);
	req_json_key(req, "entities");
	for (size_t i = from; i < to; i++) {
		int64_t n;
		enum err e = remaining(req, i, since_ms, &n);

		if (e != OK)
			return e;
		total += n;
		buf_printf(&req->body, "%c{\"entity\":\"%s\",\"remaining\":%" PRId64 ",\"paused\":%s}", between,
			   w->targets[i].entity->name, n, w->seen[i].paused ? "true" : "false");
		between = ',';
	}
	buf_puts(&req->body, between == '[' ? STR("[]") : STR("]"));
	req_json_key(req, "remaining");
	buf_put_i64(&req->body, total);
	req_json_key(req, "drained");
	buf_puts(&req->body, total == 0 ? STR("true") : STR("false"));
	req_json_end(req);
	return OK;
}

SUSPENDS enum err sync_flush(struct req *req)
{
	const struct flush_in *in = req->in;
	struct worker *w = worker_of(req->daemon);
	struct deadline until = {req->deadline.at_us - MARGIN_MS * US_PER_MS};
	int64_t since_us = 0, since_ms, left = 1;
	size_t from = 0, to = 0;
	enum err e = chosen(req, in != NULL ? in->entity : STR(""), &from, &to);

	if (e == OK)
		e = worker_redis_now(w, req->arena, &since_us);
	if (e != OK)
		return e;
	since_ms = since_us / 1000;
	for (size_t i = from; i < to; i++)
		if (w->seen[i].flush_until_us < until.at_us)
			w->seen[i].flush_until_us = until.at_us;
	worker_wake(w, w->n);
	while (e == OK) {
		e = remaining_of_all(req, from, to, since_ms, false, &left);
		if (e != OK || left == 0 || sleep_ms(w->loop, POLL_MS, until) != OK || loop_mono_us(w->loop) >= until.at_us)
			break;
	}
	for (size_t i = from; e == OK && left == 0 && i < to; i++)
		if (w->seen[i].flush_until_us == until.at_us)
			w->seen[i].flush_until_us = 0;
	return e == OK ? reply_to_flush(req, from, to, since_ms) : e;
}

/* ---- pause, resume ---- */

SUSPENDS static enum err change_paused(struct req *req, struct str command, const char *action)
{
	const struct pause_in *in = req->in;
	struct worker *w = worker_of(req->daemon);
	struct buffer_io io = worker_buffer_io(w);
	struct str entity = FIELD_HAS(in, pause_in, entity) ? in->entity : STR("");
	struct str *args;
	struct redis_reply reply;
	size_t from = 0, to = 0, n = 2;
	enum err e = chosen(req, entity, &from, &to);

	if (e != OK)
		return e;
	args = arena_array(req->arena, to - from + 2, sizeof(*args));
	args[0] = command;
	args[1] = STR("wb:paused");
	for (size_t i = from; i < to; i++)
		args[n++] = str_of(w->targets[i].entity->name);
	e = io.call(io.ctx, (struct redis_args){args, n}, req->arena, &reply);
	if (e != OK || reply.type != REDIS_INTEGER)
		return e != OK ? e : ERR_BUFFER;
	worker_wake(w, w->n);
	e = req_reply_message(req, action);
	return e == OK ? sync_audit(req, action, entity.n != 0 ? arena_cstr(req->arena, entity) : "all", in->reason,
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
