/* SPDX-License-Identifier: Apache-2.0 */
/* The unsynced rows of a list, for the E_live functions: scope → ids → records → rows as jsonb (write-path.md 5). */
#include <string.h>

#include "base/log.h"
#include "base/timefmt.h"
#include "base/uuid.h"
#include "svc/bases.h"
#include "svc/buffers.h"
#include "svc/service.h"

#define OVERLAY_URGE 500
#define OVERLAY_MAX 5000

/* jsonb_populate_recordset reads columns, not our JSON: money and marks as the integers that the table holds. */
struct schema entity_columns(struct arena *arena, const struct schema *s)
{
	struct schema columns = *s;
	struct field *fields = arena_dup(arena, s->fields, s->n * sizeof(*fields));

	for (size_t i = 0; i < s->n; i++) {
		struct field *f = &fields[i];

		f->name = field_column(f);
		f->name_n = strlen(f->name);
		f->flags = 0;
		if (f->type == FIELD_DECIMAL || f->type == FIELD_MONEY)
			f->type = FIELD_INT;
	}
	columns.fields = fields;
	return columns;
}

static void put_time(struct buf *out, const char *name, int64_t us)
{
	char text[TIME_TEXT + 1];

	if (us == 0)
		return;
	time_text(us, text);
	buf_printf(out, ",\"%s\":\"%s\"", name, text);
}

void entity_columns_json(const struct schema *columns, const struct row *row, struct buf *out)
{
	struct buf rest = buf_in(out->arena);

	buf_puts(out, STR("{\"id\":\""));
	buf_put_uuid(out, row->id);
	buf_puts(out, STR("\",\"school_id\":\""));
	buf_put_uuid(out, row->school_id);
	buf_puts(out, STR("\",\"version\":"));
	buf_put_i64(out, row->version);
	put_time(out, "created_at", row->created_at);
	put_time(out, "updated_at", row->updated_at);
	put_time(out, "deleted_at", row->deleted_at);
	json_encode_some(columns, row, UINT64_MAX, &rest);
	if (rest.n > 2) { /* more than {} */
		buf_putc(out, ',');
		buf_put(out, rest.p + 1, rest.n - 1);
	} else {
		buf_putc(out, '}');
	}
}

/* Ids of all unsynced records of the scopes, each once. */
SUSPENDS static enum err scope_ids(struct req *req, const struct str *keys, size_t n, struct list *ret)
{
	struct deadline d = deadline_sooner(req->deadline, deadline_in(daemon_loop(req->daemon), BUFFER_TRY_MS));
	struct redis_op **ops = arena_array(req->arena, n, sizeof(*ops));
	struct redis_reply *replies = arena_array(req->arena, n, sizeof(*replies));
	enum err first = OK;
	size_t most = 0;

	for (size_t i = 0; i < n; i++) {
		ops[i] = redis_start(req_buffer(req), REDIS_ARGS(STR("HKEYS"), keys[i]));
	}
	for (size_t i = 0; i < n; i++) {
		enum err err = redis_finish(ops[i], req->arena, d, &replies[i]);

		if (first == OK)
			first = err;
		most += err == OK ? replies[i].n : 0;
	}
	if (first != OK)
		return first;
	ret->v = arena_array(req->arena, most, sizeof(struct uuid));
	ret->n = 0;
	for (size_t i = 0; i < n; i++) {
		for (size_t k = 0; k < replies[i].n; k++) {
			struct uuid *ids = ret->v;
			size_t at = 0;

			if (!uuid_parse(replies[i].v[k].s, &ids[ret->n]))
				return ERR_CORRUPT;
			while (at < ret->n && !(i > 0 && uuid_eq(ids[at], ids[ret->n])))
				at += i > 0 ? 1 : ret->n; /* within one scope an id stands once */
			ret->n += at >= ret->n;
		}
	}
	return OK;
}

SUSPENDS static enum err put_rows(struct req *req, const struct entity *e, const struct list *ids, struct buf *out)
{
	struct schema columns = entity_columns(req->arena, e->schema);
	struct str *args = arena_array(req->arena, ids->n + 1, sizeof(*args));
	const struct uuid *id = ids->v;
	struct redis_reply reply;
	const char *separator = "";
	enum err err;

	args[0] = STR("MGET");
	for (size_t i = 0; i < ids->n; i++)
		args[i + 1] = buffer_key(req->arena, e, id[i]);
	err = redis_call(req_buffer(req), req->arena,
			 deadline_sooner(req->deadline, deadline_in(daemon_loop(req->daemon), BUFFER_TRY_MS)),
			 (struct redis_args){args, ids->n + 1}, &reply);
	if (err != OK)
		return err;
	for (size_t i = 0; i < reply.n; i++) {
		struct buffer_record record;
		void *row;

		if (reply.v[i].type != REDIS_STRING)
			continue; /* flushed since the scope was read: the table has it by now */
		err = buffer_record_parse(reply.v[i].s, &record);
		if (err == OK && uuid_eq(record.school, req->who.school_id))
			err = buffer_record_row(e, id[i], &record, req->arena, &row);
		else if (err == OK)
			continue;
		if (err != OK)
			return ERR_CORRUPT;
		buf_puts(out, str_of(separator));
		entity_columns_json(&columns, row, out);
		separator = ",";
	}
	return OK;
}

SUSPENDS static enum err overlay(struct req *req, const struct entity *e, const struct str *keys, size_t n, struct str *ret_jsonb)
{
	struct buf out = buf_in(req->arena);
	struct list ids = {0};
	enum err err;

	buf_putc(&out, '[');
	err = n == 0 ? OK : scope_ids(req, keys, n, &ids);
	if (err == OK && ids.n > OVERLAY_MAX)
		return req_fail(req, ERR_OVERLOAD, "Too many unsynced records for one list");
	if (err == OK && ids.n > OVERLAY_URGE) {
		struct buffer_io io = request_buffer_io(req);

		IGNORE(buffer_urge(&io, e, ids.v, ids.n, req->arena)); /* a list that is only slow is still right */
	}
	if (err == OK && ids.n > 0)
		err = put_rows(req, e, &ids, &out);
	if (buffer_is_away(err)) {
		req->database_only = true;
		*ret_jsonb = STR("[]");
		return OK;
	}
	if (err != OK)
		return err;
	buf_putc(&out, ']');
	*ret_jsonb = buf_str(&out);
	return OK;
}

enum err entity_overlay(struct req *req, const struct entity *e, const char *scope, const struct uuid *values, size_t n,
			struct str *ret_jsonb)
{
	struct str *keys = arena_array(req->arena, n, sizeof(*keys));

	for (size_t i = 0; i < n; i++) {
		char text[UUID_TEXT + 1];

		uuid_text(values[i], text);
		keys[i] = buffer_scope_key(req->arena, e, scope, (struct str){text, UUID_TEXT});
	}
	return overlay(req, e, keys, n, ret_jsonb);
}

enum err entity_overlay_like(struct req *req, const struct entity *e, const char *scope, const void *row, struct str *ret_jsonb)
{
	struct buf key = buf_in(req->arena);
	struct str one;

	if (!buffer_scope_text(e, scope, row, &key)) {
		log_error("a list asks for a scope of which it has not set every field", LOG_S("entity", e->name),
			  LOG_S("scope", scope));
		return ERR_BUG;
	}
	one = str_of(arena_printf(req->arena, "wb:scope:%s:%.*s", e->name, STR_FMT(buf_str(&key))));
	return overlay(req, e, &one, 1, ret_jsonb);
}
