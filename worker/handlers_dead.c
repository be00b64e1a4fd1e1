/* SPDX-License-Identifier: Apache-2.0 */
/* /sync/dead-letter/{entity}: list, replay, discard. */
#include <inttypes.h>

#include "base/log.h"
#include "base/timefmt.h"
#include "base/uuid.h"
#include "cache/cache.h"
#include "routes.h"
#include "worker.h"
#include "worker_sql.h"

/* The entity's queues, in every buffer or in the one that is named. */
static enum err chosen(struct req *req, struct str buffer, struct queues *ret)
{
	*ret = sync_queues(req, req_param_text(req, "entity"), buffer);
	return ret->n > 0 ? OK : req_fail(req, ERR_NOT_FOUND, "There is no such buffered entity");
}

/* ---- list ---- */

static void describe_record(struct req *req, const struct flush_target *t, struct uuid id, struct str value,
			    struct dead_letter *to)
{
	struct buffer_record r;
	void *row;

	if (buffer_record_parse(value, &r) != OK)
		return;
	FIELD_PUT(to, dead_letter, school_id, r.school);
	FIELD_PUT(to, dead_letter, version, r.version);
	FIELD_PUT(to, dead_letter, deleted, r.deleted);
	FIELD_PUT(to, dead_letter, first_at, r.first_ms * US_PER_MS);
	if (buffer_record_row(t->entity, id, &r, req->arena, &row) == OK) {
		struct buf out = buf_in(req->arena);

		json_encode(t->entity->schema, row, ROLE_SUPER_ADMIN, &out);
		FIELD_PUT(to, dead_letter, row, buf_str(&out));
	}
}

SUSPENDS static enum err describe(struct req *req, const struct queue *q, struct uuid id, int64_t died_ms, struct dead_letter *to)
{
	const struct entity *entity = q->target->entity;
	struct buffer_io io = source_io(q->source);
	struct redis_reply value, meta;
	int64_t attempts = 0;
	enum err e = io.call(io.ctx, REDIS_ARGS(STR("GET"), buffer_key(req->arena, entity, id)), req->arena, &value);

	if (e == OK)
		e = io.call(io.ctx,
			    REDIS_ARGS(STR("HMGET"), buffer_meta_key(req->arena, entity, id), STR("err"), STR("attempts")),
			    req->arena, &meta);
	if (e != OK || value.type != REDIS_STRING || meta.n != 2)
		return e;
	FIELD_PUT(to, dead_letter, id, id);
	FIELD_PUT(to, dead_letter, buffer, str_of(q->source->name));
	FIELD_PUT(to, dead_letter, died_at, died_ms * US_PER_MS);
	if (meta.v[0].type == REDIS_STRING)
		FIELD_PUT(to, dead_letter, error, meta.v[0].s);
	if (meta.v[1].type == REDIS_STRING && str_to_i64(meta.v[1].s, &attempts))
		FIELD_PUT(to, dead_letter, attempts, attempts);
	describe_record(req, q->target, id, value.s, to);
	return OK;
}

SUSPENDS static enum err list_queue(struct req *req, const struct queue *q, size_t most, struct list *to)
{
	const char *set = arena_printf(req->arena, "wb:dlq:%s", q->target->entity->name);
	struct dead_letter *v = to->v;
	struct buffer_io io = source_io(q->source);
	struct redis_reply found;
	enum err e = io.call(io.ctx,
			     REDIS_ARGS(STR("ZRANGEBYSCORE"), str_of(set), STR("-inf"), STR("+inf"), STR("WITHSCORES"),
					STR("LIMIT"), STR("0"), str_of(arena_printf(req->arena, "%zu", most))),
			     req->arena, &found);

	for (size_t i = 0; e == OK && i + 1 < found.n; i += 2) {
		struct uuid id;
		int64_t died_ms = 0;

		IGNORE(!str_to_i64(found.v[i + 1].s, &died_ms)); /* milliseconds are whole */
		if (!uuid_parse(found.v[i].s, &id))
			continue;
		e = describe(req, q, id, died_ms, &v[to->n]);
		to->n += e == OK && FIELD_HAS(&v[to->n], dead_letter, id); /* gone meanwhile: not in the list */
	}
	return e;
}

/* Of every buffer: with one away the list would look complete and not be, so then the others are asked for by name. */
SUSPENDS enum err dead_list(struct req *req)
{
	const struct dead_list_in *in = req->query;
	size_t limit = FIELD_HAS(in, dead_list_in, limit) ? (size_t)in->limit : 50;
	struct list list = {arena_array(req->arena, limit + 1, sizeof(struct dead_letter)), 0};
	struct queues queues;
	enum err e = chosen(req, in->buffer, &queues);

	for (size_t i = 0; e == OK && i < queues.n && list.n < limit; i++)
		e = list_queue(req, queues.v[i], limit - list.n, &list);
	if (e != OK)
		return e;
	req->version = -1;
	return req_reply_list(req, "dead_letters", &dead_letter_schema, &list);
}

/* ---- replay, discard ---- */

/* The copies in PostgreSQL say what became of them; with the database away they do not, and nothing else depends on it. */
SUSPENDS static void resolve(struct req *req, const struct flush_target *t, const struct uuid *ids, size_t n, const char *how)
{
	const struct worker *w = worker_of(req->daemon);
	struct list list = {arena_dup(req->arena, ids, n * sizeof(*ids) + 1), n}, none;
	enum err e = db_query(req, &SQL_WORKER_DEAD_LETTER_RESOLVE,
			      PG_PARAMS(PG_TEXT(str_of(worker_service_name(w, t))), PG_TEXT(str_of(t->entity->name)),
					PG_UUIDS(list), PG_TEXT(str_of(how))),
			      NULL, &none);

	if (e != OK)
		log_warn("copies of dead letters were not marked", LOG_S("entity", t->entity->name), LOG_E(e));
}

/* ---- what readers see changes with it ---- */

/* Schools whose records lie in the queue: asked before they are moved. */
SUSPENDS static enum err find_schools(struct req *req, const struct queue *q, const struct uuid *ids, size_t n,
				      struct list *schools)
{
	struct str *words = arena_array(req->arena, n + 1, sizeof(*words));
	struct buffer_io io = source_io(q->source);
	struct uuid *v = schools->v;
	struct redis_reply values;
	enum err e;

	words[0] = STR("MGET");
	for (size_t i = 0; i < n; i++)
		words[i + 1] = buffer_key(req->arena, q->target->entity, ids[i]);
	e = io.call(io.ctx, (struct redis_args){words, n + 1}, req->arena, &values);
	for (size_t i = 0; e == OK && i < values.n; i++) {
		struct buffer_record r;
		size_t k = 0;

		if (values.v[i].type != REDIS_STRING || buffer_record_parse(values.v[i].s, &r) != OK)
			continue;
		while (k < schools->n && !uuid_eq(v[k], r.school))
			k++;
		v[k] = r.school;
		schools->n += k == schools->n;
	}
	return e;
}

/* A discarded record gives way to the row below it, whose lists nobody here knows: whatever has read the table is asked for anew. */
SUSPENDS static void forget_table(struct req *req, const struct flush_target *t, const struct list *schools)
{
	for (size_t i = 0; daemon_caches(req->daemon) && i < schools->n; i++) {
		struct cache_tags tags = {.school = ((const struct uuid *)schools->v)[i]};

		cache_tag(&tags, req->arena, "bulk:", str_of(t->entity->table));
		cache_tag(&tags, req->arena, "table:", str_of(t->entity->table));
		IGNORE(cache_raise(daemon_caches(req->daemon), req->arena, &tags)); /* else it is in the journal */
	}
}

/* Ids lie in whichever buffer their school lives on, so each is asked; one that does not answer is named. */
struct moving {
	struct queues queues;
	int64_t moved;
	struct str *away;
	size_t n_away;
	enum err fault;
};

static void moved_in(struct moving *m, const struct queue *q, enum err e, int64_t n)
{
	if (e == OK) {
		m->moved += n;
		return;
	}
	m->away[m->n_away++] = str_of(q->source->name);
	m->fault = e;
}

static void put_names(struct req *req, const char *key, const struct str *v, size_t n)
{
	req_json_key(req, key);
	for (size_t i = 0; i < n; i++) {
		buf_putc(&req->body, i == 0 ? '[' : ',');
		buf_put_json(&req->body, v[i]);
	}
	buf_puts(&req->body, n == 0 ? STR("[]") : STR("]"));
}

SUSPENDS static enum err answer(struct req *req, const struct moving *m, const char *action, const struct uuid *ids, size_t n,
				struct str reason)
{
	const struct flush_target *t = m->queues.v[0]->target;
	struct buf values = buf_in(req->arena);

	if (m->n_away == m->queues.n)
		return m->fault;
	resolve(req, t, ids, n, action);
	req->status = 200;
	req_json_begin(req);
	req_json_int(req, action, m->moved);
	put_names(req, "away", m->away, m->n_away);
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
	struct list schools = {0};
	struct moving m = {0};
	enum err e = chosen(req, in->buffer, &m.queues);

	if (e != OK)
		return e;
	if (in->ids.n == 0)
		return req_invalid(req, "/ids", "required", "names no record");
	schools.v = arena_array(req->arena, m.queues.n * in->ids.n, sizeof(struct uuid));
	m.away = arena_array(req->arena, m.queues.n, sizeof(*m.away));
	for (size_t i = 0; i < m.queues.n; i++) {
		struct queue *q = m.queues.v[i];
		struct buffer_io io = source_io(q->source);
		int64_t n = 0;

		e = find_schools(req, q, in->ids.v, in->ids.n, &schools);
		if (e == OK)
			e = buffer_replay(&io, q->target->entity, in->ids.v, in->ids.n, req->arena, &n);
		moved_in(&m, q, e, n);
		source_wake(q->source, q->target);
	}
	forget_table(req, m.queues.v[0]->target, &schools);
	return answer(req, &m, "replayed", in->ids.v, in->ids.n, in->reason);
}

SUSPENDS enum err dead_discard(struct req *req)
{
	const struct discard_in *in = req->in;
	const struct dead_version *records = in->records.v;
	struct acked *v = arena_array(req->arena, in->records.n + 1, sizeof(*v));
	struct uuid *ids = arena_array(req->arena, in->records.n + 1, sizeof(*ids));
	struct list schools = {0};
	struct moving m = {0};
	enum err e = chosen(req, in->buffer, &m.queues);

	if (e != OK)
		return e;
	if (in->records.n == 0)
		return req_invalid(req, "/records", "required", "names no record");
	schools.v = arena_array(req->arena, m.queues.n * in->records.n, sizeof(struct uuid));
	for (size_t i = 0; i < in->records.n; i++) {
		v[i] = (struct acked){records[i].id, records[i].version};
		ids[i] = records[i].id;
	}
	m.away = arena_array(req->arena, m.queues.n, sizeof(*m.away));
	for (size_t i = 0; i < m.queues.n; i++) {
		const struct queue *q = m.queues.v[i];
		struct buffer_io io = source_io(q->source);
		int64_t n = 0;

		e = find_schools(req, q, ids, in->records.n, &schools);
		if (e == OK)
			e = buffer_discard(&io, q->target->entity, v, in->records.n, req->arena, &n);
		moved_in(&m, q, e, n);
	}
	forget_table(req, m.queues.v[0]->target, &schools);
	return answer(req, &m, "discarded", ids, in->records.n, in->reason);
}
