/* SPDX-License-Identifier: Apache-2.0 */
/* Reading rows: the buffer before the database, always in this order (write-path.md 5), and what was read is the base of later writes. */
#include "svc/entity.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/uuid.h"
#include "svc/bases.h"
#include "svc/buffers.h"
#include "svc/cache_entity.h"
#include "svc/degraded.h"
#include "svc/document_row.h"
#include "svc/documents.h"
#include "svc/idem.h"
#include "svc/service.h"

const struct field *entity_field(const struct entity *e, const char *name)
{
	const struct field *f = schema_find(e->schema, str_of(name));

	if (!f) {
		log_error("descriptor names a field that its schema lacks", LOG_S("entity", e->name), LOG_S("field", name));
		abort();
	}
	return f;
}

const struct entity_sql *entity_statements(struct req *req, const struct entity *e)
{
	const struct service *s = daemon_service(req->daemon);

	for (size_t i = 0; s->entities[i]; i++) {
		if (s->entities[i] == e)
			return &s->entity_sql[i];
	}
	log_error("entity is not in the service's table", LOG_S("entity", e->name));
	abort();
}

/* ---- the buffer's calls on fibers ---- */

static struct deadline try_deadline(const struct req *req)
{
	return deadline_sooner(req->deadline, deadline_in(daemon_loop(req->daemon), BUFFER_TRY_MS));
}

SUSPENDS static enum err io_eval(void *ctx, const struct redis_script *script, struct redis_args args, struct arena *arena,
				 struct redis_reply *ret)
{
	struct req *req = ctx;

	return redis_script_call(req_buffer(req), script, args, arena, try_deadline(req), ret);
}

SUSPENDS static enum err io_call(void *ctx, struct redis_args args, struct arena *arena, struct redis_reply *ret)
{
	struct req *req = ctx;

	return redis_call(req_buffer(req), arena, try_deadline(req), args, ret);
}

static int64_t io_now(void *ctx)
{
	const struct req *req = ctx;

	return loop_mono_us(daemon_loop(req->daemon));
}

SUSPENDS static void io_pause(void *ctx, int64_t ms)
{
	struct req *req = ctx;

	IGNORE(sleep_ms(daemon_loop(req->daemon), ms, req->deadline)); /* a deadline ends the next call at once */
}

static uint64_t io_random(void *ctx)
{
	uint64_t v;

	(void)ctx;
	random_bytes(&v, sizeof(v));
	return v;
}

struct buffer_io request_buffer_io(struct req *req)
{
	return (struct buffer_io){req, io_eval, io_call, io_now, io_pause, io_random};
}

bool buffer_is_away(enum err e)
{
	return e == ERR_BUFFER || e == ERR_UNCERTAIN || e == ERR_TIMEOUT || e == ERR_OVERLOAD;
}

/* ---- bases ---- */

struct base *base_seen(struct req *req, const struct entity *e, struct uuid id)
{
	for (size_t i = 0; req->bases && i < req->bases->n; i++) {
		struct base *b = &req->bases->v[i];

		if (b->entity == e && uuid_eq(b->id, id))
			return b;
	}
	return NULL;
}

struct base *base_find(struct req *req, const struct entity *e, struct uuid id)
{
	struct base *b = base_seen(req, e, id);

	return b && !b->kept ? b : NULL;
}

static struct bases *bases_of(struct req *req)
{
	if (!req->bases)
		req->bases = arena_zalloc(req->arena, sizeof(*req->bases));
	return req->bases;
}

struct base *base_add(struct req *req, const struct base *base)
{
	struct bases *all = bases_of(req);
	struct base *old = base_seen(req, base->entity, base->id);

	if (old) {
		*old = *base;
		return old;
	}
	if (all->n == all->cap) {
		size_t cap = all->cap ? 2 * all->cap : 8;
		struct base *v = arena_array(req->arena, cap, sizeof(*v));

		if (all->n != 0)
			memcpy(v, all->v, all->n * sizeof(*v));
		all->v = v;
		all->cap = cap;
	}
	all->v[all->n] = *base;
	return &all->v[all->n++];
}

void bases_forget(struct req *req)
{
	struct bases *all = bases_of(req);
	const struct row *object = req->object_entity ? req->object : NULL;
	struct base *loaded = object ? base_find(req, req->object_entity, object->id) : NULL;
	struct base kept = loaded ? *loaded : (struct base){0};

	all->n = 0;
	all->lost_race = false;
	if (loaded) /* the rule's object: a child's read asks whether it is new */
		base_add(req, &kept);
}

/* ---- reading ---- */

static enum err take_record(struct req *req, struct str value, struct base *base)
{
	struct buffer_record record;
	void *row;
	enum err e = buffer_record_parse(value, &record);

	if (e != OK)
		return e;
	if (!uuid_eq(record.school, req->who.school_id)) {
		base->row = NULL;
		return OK;
	}
	e = buffer_record_row(base->entity, base->id, &record, req->arena, &row);
	if (e != OK)
		return e == ERR_CONFLICT ? ERR_CORRUPT : e;
	base->row = record.deleted ? NULL : row;
	base->floor = record.version;
	base->creation = record.creation;
	base->blind = record.blind; /* a change of what was written blind has not looked either */
	base->buffered = true;
	return OK;
}

/* The store does not tell the version of what is deleted, but who has just flushed the deletion has left it in the marker: the floor of a creation. */
SUSPENDS static void take_marker(struct req *req, struct base *base)
{
	struct buffer_io io = request_buffer_io(req);
	struct str key = buffer_meta_key(req->arena, base->entity, base->id);
	struct redis_reply reply;

	if (io.call(io.ctx, REDIS_ARGS(STR("HMGET"), key, STR("ver"), STR("deleted")), req->arena, &reply) == OK &&
	    reply.type == REDIS_ARRAY && reply.n == 2 && reply.v[1].type == REDIS_STRING && str_is(reply.v[1].s, "1") &&
	    reply.v[0].type == REDIS_STRING)
		IGNORE(str_to_i64(reply.v[0].s, &base->floor)); /* the script wrote it */
}

/* Of a collection. */
SUSPENDS static enum err take_document(struct req *req, struct base *base)
{
	struct doc_scope scope = docs_scope(req);
	struct docstore *store = daemon_documents(req->daemon);
	struct doc doc;
	void *row;
	enum err e = store ? docstore_get(store, &scope, base->entity->collection, base->id, &doc) : ERR_BUG;

	if (e == ERR_NOT_FOUND) {
		take_marker(req, base);
		return OK;
	}
	if (e == OK)
		e = document_row(base->entity, req->who.school_id, &doc, req->arena, &row);
	if (e != OK)
		return e;
	base->row = row;
	base->floor = doc.version;
	return OK;
}

SUSPENDS static enum err take_table_row(struct req *req, struct base *base)
{
	const struct entity_sql *sql = entity_statements(req, base->entity);
	struct row *row = arena_zalloc(req->arena, base->entity->schema->size);
	enum err e = db_query_one(req, sql->get, PG_PARAMS(PG_UUID(base->id)), base->entity->schema, row);

	if (e == ERR_NOT_FOUND)
		return OK;
	if (e != OK)
		return e;
	base->row = row->deleted_at == 0 ? row : NULL;
	base->floor = row->version;
	return OK;
}

/* A record that may be older than what was written past the buffer: the table's row counts when it is newer (degraded.h). */
static bool may_be_old(const struct req *req, const struct base *base)
{
	return base->buffered && base->floor <= degraded_until(req) && degraded_writes(req, base->entity);
}

SUSPENDS static enum err compare_with_table(struct req *req, struct base *base)
{
	struct base table = {.entity = base->entity, .id = base->id};
	enum err e = may_be_old(req, base) ? take_table_row(req, &table) : OK;

	if (e == OK && table.floor > base->floor)
		*base = table;
	return e;
}

/* What one id is now; base->row NULL: nothing alive. */
SUSPENDS static enum err look_up(struct req *req, const struct entity *entity, struct uuid id, struct base **ret)
{
	struct base base = {.entity = entity, .id = id};
	struct buffer_io io = request_buffer_io(req);
	struct redis_reply reply = {0};
	enum err e = OK;

	if (entity->write != THROUGH) {
		struct redis_op *word = degraded_ask(req, false);

		e = io.call(io.ctx, REDIS_ARGS(STR("GET"), buffer_key(req->arena, entity, id)), req->arena, &reply);
		degraded_heard(req, word, try_deadline(req));
		if (buffer_is_away(e))
			req->database_only = true;
		else if (e != OK)
			return e;
	}
	if (e == OK && reply.type == REDIS_STRING)
		e = take_record(req, reply.s, &base);
	else
		e = entity->collection ? take_document(req, &base) : take_table_row(req, &base);
	if (e == ERR_DB && row_cache_base(req, &base) == OK)
		e = OK;
	else if (e == OK)
		e = compare_with_table(req, &base);
	if (e != OK)
		return e;
	*ret = base_add(req, &base);
	return OK;
}

enum err entity_get(struct req *req, const struct entity *e, struct uuid id, void *ret)
{
	struct base *base;
	enum err err = look_up(req, e, id, &base);

	if (err != OK)
		return err;
	if (!base->row)
		return ERR_NOT_FOUND;
	memcpy(ret, &base->row, sizeof(base->row));
	return OK;
}

enum err entity_look(struct req *req, const struct entity *e, struct uuid id, void *ret)
{
	struct base *base = base_seen(req, e, id);
	enum err err = OK;

	if (!base && !row_cache_applies(req, e))
		return entity_get(req, e, id, ret);
	if (!base)
		err = row_cache_read(req, e, id, look_up, &base);
	if (err != OK)
		return err;
	if (!base->row)
		return ERR_NOT_FOUND;
	memcpy(ret, &base->row, sizeof(base->row));
	return OK;
}

enum err entity_parent(struct req *req, const struct entity *e, struct uuid id, void *ret)
{
	enum err err = entity_look(req, e, id, ret);

	return err == ERR_NOT_FOUND && !base_find(req, e, id) ? entity_get(req, e, id, ret) : err;
}

enum err entity_get_child(struct req *req, const struct entity *e, struct uuid id, const struct entity *parent,
			  const void *parent_row, void *ret)
{
	struct uuid parent_id = ((const struct row *)parent_row)->id;
	bool writes = req_is_write(req);
	const struct base *above = writes ? base_find(req, parent, parent_id) : base_seen(req, parent, parent_id);
	enum err err = writes ? entity_get(req, e, id, ret) : entity_look(req, e, id, ret);

	if (err == ERR_DB && !e->collection && above && above->buffered && above->creation) {
		base_add(req, &(struct base){.entity = e, .id = id, .blind = true});
		return ERR_NOT_FOUND;
	}
	return err;
}

/* The rows of those bases that the buffer did not have, in one statement. */
SUSPENDS static enum err take_table_rows(struct req *req, const struct entity *entity, struct base *v, size_t n)
{
	struct uuid *ids = arena_array(req->arena, n, sizeof(*ids));
	size_t size = entity->schema->size, wanted = 0;
	struct list rows;
	enum err e;

	for (size_t i = 0; i < n; i++) {
		if (!v[i].buffered)
			ids[wanted++] = v[i].id;
	}
	if (wanted == 0)
		return OK;
	if (entity->collection) {
		e = OK;
		for (size_t i = 0; e == OK && i < n; i++)
			e = v[i].buffered ? OK : take_document(req, &v[i]);
		return e;
	}
	e = db_query(req, entity_statements(req, entity)->get_many, PG_PARAMS(PG_UUIDS(((struct list){ids, wanted}))),
		     entity->schema, &rows);
	for (size_t k = 0; e == OK && k < rows.n; k++) {
		const struct row *row = (const struct row *)(const void *)((const char *)rows.v + k * size);

		for (size_t i = 0; i < n; i++) {
			if (v[i].buffered || !uuid_eq(v[i].id, row->id))
				continue;
			v[i].row = row->deleted_at == 0 ? row : NULL;
			v[i].floor = row->version;
		}
	}
	return e;
}

enum err entity_get_many(struct req *req, const struct entity *e, const struct uuid *ids, size_t n, void **ret)
{
	struct buffer_io io = request_buffer_io(req);
	struct str *args = arena_array(req->arena, n + 1, sizeof(*args));
	struct base *v = arena_array(req->arena, n, sizeof(*v));
	struct redis_reply reply = {0};
	enum err err = OK;

	args[0] = STR("MGET");
	for (size_t i = 0; i < n; i++)
		args[i + 1] = buffer_key(req->arena, e, ids[i]);
	if (n != 0 && e->write != THROUGH) {
		struct redis_op *word = degraded_ask(req, false);

		err = io.call(io.ctx, (struct redis_args){args, n + 1}, req->arena, &reply);
		degraded_heard(req, word, try_deadline(req));
	}
	if (buffer_is_away(err))
		req->database_only = true;
	else if (err != OK)
		return err;
	for (size_t i = 0; i < n; i++) {
		v[i] = (struct base){.entity = e, .id = ids[i]};
		if (reply.type == REDIS_ARRAY && i < reply.n && reply.v[i].type == REDIS_STRING) {
			err = take_record(req, reply.v[i].s, &v[i]);
			if (err != OK)
				return err;
			err = compare_with_table(req, &v[i]);
			if (err != OK)
				return err;
			v[i].buffered = true; /* another school's too: the table is not asked again */
		}
	}
	err = take_table_rows(req, e, v, n);
	for (size_t i = 0; err == OK && i < n; i++)
		memcpy(&ret[i], &base_add(req, &v[i])->row, sizeof(ret[i]));
	return err;
}

/* ---- a resource's own GET ---- */

/* `kept`: the row was in the buffer when it was kept, and may have left it since, unchanged. */
SUSPENDS static enum err ask_state(struct req *req, const struct entity *e, struct uuid id, bool kept)
{
	static const char *const sets[] = {"wb:lease:", "wb:dlq:"};
	struct redis_op *ops[ARRAY_LEN(sets) + 1];
	struct redis_reply replies[ARRAY_LEN(sets) + 1] = {0};
	size_t n = ARRAY_LEN(sets);
	char text[UUID_TEXT + 1];
	enum err first = OK;

	uuid_text(id, text);
	for (size_t i = 0; i < ARRAY_LEN(sets); i++)
		ops[i] = redis_start(req_buffer(req),
				     REDIS_ARGS(STR("ZSCORE"), str_of(arena_printf(req->arena, "%s%s", sets[i], e->name)),
						(struct str){text, UUID_TEXT}));
	if (kept)
		ops[n++] = redis_start(req_buffer(req), REDIS_ARGS(STR("EXISTS"), buffer_key(req->arena, e, id)));
	for (size_t i = 0; i < n; i++) {
		enum err err = redis_finish(ops[i], req->arena, req->deadline, &replies[i]);

		first = first == OK ? err : first;
	}
	if (first != OK)
		return first;
	if (kept && replies[2].type == REDIS_INTEGER && replies[2].i == 0)
		return OK;
	req->sync = replies[1].type != REDIS_NIL ? SYNC_DEAD : replies[0].type != REDIS_NIL ? SYNC_IN_FLIGHT : SYNC_PENDING;
	return OK;
}

enum err entity_reply(struct req *req, const struct entity *e, const void *row, const struct schema *s, const void *object)
{
	const struct row *r = row;
	const struct base *base = base_seen(req, e, r->id);
	enum err err = req_reply(req, s, object);

	if (err != OK)
		return err;
	req->version = r->version;
	if (base && base->buffered) {
		err = ask_state(req, e, r->id, base->kept);
		if (err != OK && !buffer_is_away(err))
			return err;
	}
	return OK;
}

/* ---- new rows and copies ---- */

struct uuid entity_natural_id(const struct entity *e, struct uuid school, const void *row)
{
	struct arena *scratch = arena_new();
	struct str parts[8];
	struct uuid id;
	size_t n = 0;

	for (size_t i = 0; i < e->schema->n && n < ARRAY_LEN(parts); i++) {
		const struct field *f = &e->schema->fields[i];
		struct buf b = buf_in(scratch);

		if ((f->flags & NATURAL) == 0)
			continue;
		buffer_field_text(f, row, &b);
		parts[n++] = buf_str(&b);
	}
	id = uuid_natural(school, e->name, parts, n);
	arena_free(scratch);
	return id;
}

static bool has_natural_id(const struct entity *e)
{
	for (size_t i = 0; i < e->schema->n; i++) {
		if (e->schema->fields[i].flags & NATURAL)
			return true;
	}
	return false;
}

void *entity_edit(struct req *req, const struct entity *e, const void *old)
{
	struct row *row;

	if (old)
		return row_dup(e->schema, old, req->arena);
	row = arena_zalloc(req->arena, e->schema->size);
	row->school_id = req->who.school_id;
	row->created_at = req->now_us;
	if (!has_natural_id(e))
		row->id = req->idem ? idem_row_id(req, bases_of(req)->new_rows++) : uuid_v7(req->now_us);
	return row;
}

enum err entity_put(struct req *req, const struct entity *e, void *row)
{
	struct change *c = change_new(req);

	change_put(c, e, row);
	return change_commit(c);
}

enum err entity_delete(struct req *req, const struct entity *e, void *row)
{
	struct change *c = change_new(req);

	change_delete(c, e, row);
	return change_commit(c);
}

enum err entity_retry(struct req *req, enum err (*fn)(struct req *req, void *arg), void *arg)
{
	enum err e = ERR_BUG;

	for (int i = 0; i < 5; i++) {
		bases_forget(req);
		e = fn(req, arg);
		if (e != ERR_CONFLICT || !req->bases->lost_race)
			return e;
		req->detail = NULL;
		req->code = NULL;
		req->body.n = 0;
	}
	return e;
}
