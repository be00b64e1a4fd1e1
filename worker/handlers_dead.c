/* SPDX-License-Identifier: Apache-2.0 */
/* /sync/dead-letter/{entity}: list, replay, discard. */
#include <inttypes.h>

#include "base/log.h"
#include "base/timefmt.h"
#include "routes.h"
#include "worker.h"
#include "worker_sql.h"

SUSPENDS static enum err target_of(struct req *req, const struct flush_target **ret)
{
	*ret = worker_target(worker_of(req->daemon), req_param_text(req, "entity"));
	return *ret != NULL ? OK : req_fail(req, ERR_NOT_FOUND, "There is no such buffered entity");
}

SUSPENDS static enum err describe(struct req *req, const struct flush_target *t, struct uuid id, int64_t died_ms,
				  struct dead_letter *to)
{
	struct buffer_io io = worker_buffer_io(worker_of(req->daemon));
	struct redis_reply value, meta;
	struct buffer_record r;
	int64_t attempts = 0;
	void *row;
	enum err e = io.call(io.ctx, REDIS_ARGS(STR("GET"), buffer_key(req->arena, t->entity, id)), req->arena, &value);

	if (e == OK)
		e = io.call(io.ctx,
			    REDIS_ARGS(STR("HMGET"), buffer_meta_key(req->arena, t->entity, id), STR("err"), STR("attempts")),
			    req->arena, &meta);
	if (e != OK || value.type != REDIS_STRING || meta.n != 2)
		return e;
	FIELD_PUT(to, dead_letter, id, id);
	FIELD_PUT(to, dead_letter, died_at, died_ms * US_PER_MS);
	if (meta.v[0].type == REDIS_STRING)
		FIELD_PUT(to, dead_letter, error, meta.v[0].s);
	if (meta.v[1].type == REDIS_STRING && str_to_i64(meta.v[1].s, &attempts))
		FIELD_PUT(to, dead_letter, attempts, attempts);
	if (buffer_record_parse(value.s, &r) != OK)
		return OK;
	FIELD_PUT(to, dead_letter, school_id, r.school);
	FIELD_PUT(to, dead_letter, version, r.version);
	FIELD_PUT(to, dead_letter, deleted, r.deleted);
	FIELD_PUT(to, dead_letter, first_at, r.first_ms * US_PER_MS);
	if (buffer_record_row(t->entity, id, &r, req->arena, &row) == OK) {
		struct buf out = buf_in(req->arena);

		json_encode(t->entity->schema, row, ROLE_SUPER_ADMIN, &out);
		FIELD_PUT(to, dead_letter, row, buf_str(&out));
	}
	return OK;
}

SUSPENDS enum err dead_list(struct req *req)
{
	const struct dead_list_in *in = req->query;
	struct buffer_io io = worker_buffer_io(worker_of(req->daemon));
	int64_t limit = FIELD_HAS(in, dead_list_in, limit) ? in->limit : 50;
	const struct flush_target *t;
	struct redis_reply found;
	struct dead_letter *v;
	struct list list;
	enum err e = target_of(req, &t);

	if (e == OK)
		e = io.call(io.ctx,
			    REDIS_ARGS(STR("ZRANGEBYSCORE"), str_of(arena_printf(req->arena, "wb:dlq:%s", t->entity->name)),
				       STR("-inf"), STR("+inf"), STR("WITHSCORES"), STR("LIMIT"), STR("0"),
				       str_of(arena_printf(req->arena, "%" PRId64, limit))),
			    req->arena, &found);
	if (e != OK)
		return e;
	v = arena_array(req->arena, found.n / 2 + 1, sizeof(*v));
	list = (struct list){v, 0};
	for (size_t i = 0; i + 1 < found.n; i += 2) {
		struct uuid id;
		int64_t died_ms = 0;

		IGNORE(!str_to_i64(found.v[i + 1].s, &died_ms)); /* milliseconds are whole */
		if (!uuid_parse(found.v[i].s, &id))
			continue;
		e = describe(req, t, id, died_ms, &v[list.n]);
		if (e != OK)
			return e;
		list.n += FIELD_HAS(&v[list.n], dead_letter, id); /* gone meanwhile: not in the list */
	}
	req->version = -1;
	return req_reply_list(req, "dead_letters", &dead_letter_schema, &list);
}

/* The copies in PostgreSQL say what became of them; with the database away they do not, and nothing else depends on it. */
SUSPENDS static void resolve(struct req *req, const struct flush_target *t, const struct uuid *ids, size_t n, const char *how)
{
	const struct worker *w = worker_of(req->daemon);
	struct list list = {arena_dup(req->arena, ids, n * sizeof(*ids) + 1), n}, none;
	enum err e = db_query(req, &SQL_WORKER_DEAD_LETTER_RESOLVE,
			      PG_PARAMS(PG_TEXT(str_of(w->services[t->index]->name)), PG_TEXT(str_of(t->entity->name)),
					PG_UUIDS(list), PG_TEXT(str_of(how))),
			      NULL, &none);

	if (e != OK)
		log_warn("copies of dead letters were not marked", LOG_S("entity", t->entity->name), LOG_E(e));
}

SUSPENDS static enum err answer(struct req *req, const struct flush_target *t, const char *action, int64_t moved,
				const struct uuid *ids, size_t n, struct str reason)
{
	struct buf values = buf_in(req->arena);

	resolve(req, t, ids, n, action);
	req->status = 200;
	req_json_begin(req);
	req_json_key(req, action);
	buf_put_i64(&req->body, moved);
	req_json_end(req);
	buf_puts(&values, STR("{\"ids\":["));
	for (size_t i = 0; i < n; i++) {
		buf_puts(&values, i > 0 ? STR(",\"") : STR("\""));
		buf_put_uuid(&values, ids[i]);
		buf_putc(&values, '"');
	}
	buf_puts(&values, STR("]}"));
	return sync_audit(req, arena_printf(req->arena, "dead_letter_%s", action), t->entity->name, reason, buf_str(&values));
}

SUSPENDS enum err dead_replay(struct req *req)
{
	const struct replay_in *in = req->in;
	struct worker *w = worker_of(req->daemon);
	struct buffer_io io = worker_buffer_io(w);
	const struct flush_target *t;
	int64_t moved = 0;
	enum err e = target_of(req, &t);

	if (e == OK && in->ids.n == 0)
		return req_invalid(req, "/ids", "required", "names no record");
	if (e == OK)
		e = buffer_replay(&io, t->entity, in->ids.v, in->ids.n, req->arena, &moved);
	if (e != OK)
		return e;
	worker_wake(w, t->index);
	return answer(req, t, "replayed", moved, in->ids.v, in->ids.n, in->reason);
}

SUSPENDS enum err dead_discard(struct req *req)
{
	const struct discard_in *in = req->in;
	const struct dead_version *records = in->records.v;
	struct buffer_io io = worker_buffer_io(worker_of(req->daemon));
	struct acked *v = arena_array(req->arena, in->records.n + 1, sizeof(*v));
	struct uuid *ids = arena_array(req->arena, in->records.n + 1, sizeof(*ids));
	const struct flush_target *t;
	int64_t removed = 0;
	enum err e = target_of(req, &t);

	if (e == OK && in->records.n == 0)
		return req_invalid(req, "/records", "required", "names no record");
	for (size_t i = 0; i < in->records.n; i++) {
		v[i] = (struct acked){records[i].id, records[i].version};
		ids[i] = records[i].id;
	}
	if (e == OK)
		e = buffer_discard(&io, t->entity, v, in->records.n, req->arena, &removed);
	if (e != OK)
		return e;
	return answer(req, t, "discarded", removed, ids, in->records.n, in->reason);
}
