/* SPDX-License-Identifier: Apache-2.0 */
/* The whole HTTP surface of play: rows by id and in lists, several in one PUT, counters, and money. */
#include <string.h>

#include "base/timefmt.h"
#include "base/uuid.h"
#include "play.h"
#include "play_sql.h"

/* ---- one row: of the entity that the route names ---- */

/* The row of this id to change, as it is now; a new one if none lives. */
SUSPENDS static enum err edit(struct req *req, const struct entity *entity, struct uuid id, void *ret)
{
	struct row *old = NULL, *row;
	enum err e = entity_get(req, entity, id, &old);

	if (e != OK && e != ERR_NOT_FOUND)
		return e;
	row = entity_edit(req, entity, old);
	row->id = id;
	memcpy(ret, &row, sizeof(row));
	return OK;
}

SUSPENDS static enum err write_once(struct req *req, void *arg)
{
	const struct entity *entity = req->route->creates;
	enum http_method method = req->route->method;
	struct counter *row; /* or another row: it begins like all of them */
	enum err e = edit(req, entity, req->params[0], &row);

	(void)arg;
	if (e != OK)
		return e;
	if (row->row.version == 0 && (method == HTTP_PATCH || method == HTTP_DELETE))
		return ERR_NOT_FOUND;
	if (method == HTTP_POST)
		FIELD_PUT(row, counter, value, row->value + ((const struct add_in *)req->in)->by);
	else if (method != HTTP_DELETE)
		row_merge(entity->schema, row, req->route->in, req->in);
	return method == HTTP_DELETE ? entity_delete(req, entity, row) : entity_put(req, entity, row);
}

SUSPENDS static enum err get_row(struct req *req)
{
	const struct entity *entity = req->route->creates;
	void *row, *out = arena_zalloc(req->arena, req->route->out->size);
	enum err e = entity_get(req, entity, req->params[0], &row);

	if (e != OK)
		return e;
	schema_project(req->route->out, out, entity->schema, row);
	return entity_reply(req, entity, row, req->route->out, out);
}

SUSPENDS static enum err list_notes(struct req *req)
{
	struct uuid school = req->who.school_id, class_id = ((const struct note_list *)req->query)->class_id;
	struct page page = req_page(req, 100);
	struct str overlay;
	struct list rows;
	enum err e = entity_overlay(req, &note_entity, "class_id", &class_id, 1, &overlay);

	if (e == OK)
		e = db_query(req, &SQL_NOTES_OF_CLASS,
			     PG_PARAMS(PG_UUID(school), PG_JSONB(overlay), PG_UUID(class_id), PG_INT8(page.size),
				       PG_INT8(page.offset)),
			     &note_io_schema, &rows);
	return e != OK ? e : req_reply_page(req, "notes", &note_io_schema, &rows, list_total(&note_io_schema, &rows));
}

/* ---- several rows in one PUT ---- */

SUSPENDS static enum err bundle_once(struct req *req, void *arg)
{
	const struct bundle *in = req->in;
	const struct note_io *v = in->notes.v;
	struct uuid *ids = arena_array(req->arena, in->notes.n + 1, sizeof(*ids));
	void **old = arena_array(req->arena, in->notes.n + 1, sizeof(*old));
	struct change *c = change_new(req);
	struct topic *topic;
	enum err e = edit(req, &topic_entity, in->topic_id, &topic);

	(void)arg;
	for (size_t i = 0; i < in->notes.n; i++)
		ids[i] = FIELD_HAS(&v[i], note_io, id) ? v[i].id : uuid_v7(req->now_us);
	if (e == OK)
		e = entity_get_many(req, &note_entity, ids, in->notes.n, old);
	if (e != OK)
		return e;
	row_merge(&topic_schema, topic, &bundle_schema, in);
	change_put(c, &topic_entity, topic);
	for (size_t i = 0; i < in->notes.n; i++) {
		struct note *note = entity_edit(req, &note_entity, old[i]);

		note->row.id = ids[i];
		row_merge(&note_schema, note, &note_io_schema, &v[i]);
		change_put(c, &note_entity, note);
	}
	req->status = 201;
	return change_commit(c);
}

SUSPENDS static enum err write_rows(struct req *req)
{
	return entity_retry(req, req->route->in == &bundle_schema ? bundle_once : write_once, NULL);
}

SUSPENDS static enum err register_once(struct req *req, void *arg)
{
	const struct class_register *reg = arg;
	struct change *c = change_new(req);
	struct buf data = buf_in(req->arena);
	enum err e = req_reply(req, &class_register_schema, reg);

	for (size_t i = 0; i < reg->rows.n; i++) {
		struct mark *mark = entity_edit(req, &mark_entity, NULL);

		schema_project(&mark_schema, mark, &class_register_schema, reg);
		schema_project(&mark_schema, mark, &mark_io_schema, (const struct mark_io *)reg->rows.v + i);
		change_put(c, &mark_entity, mark);
	}
	json_encode_some(&class_register_schema, reg, UINT64_C(1) << class_register__date, &data);
	change_event(c, "play.register_taken", reg->class_id, buf_str(&data));
	return e != OK ? e : change_commit(c);
}

/* Both methods of the register of a class and a day. */
SUSPENDS static enum err class_register(struct req *req)
{
	struct class_register reg = {0};
	struct mark like = {0};
	struct str overlay;
	enum err e;

	if (!date_parse(req_param_text(req, "date"), &reg.date))
		return ERR_NOT_FOUND;
	if (req_is_write(req))
		FIELD_PUT(&reg, class_register, rows, ((const struct class_register *)req->in)->rows);
	FIELD_MARK(&reg, class_register, date);
	FIELD_PUT(&reg, class_register, class_id, req->params[0]);
	if (req_is_write(req))
		return entity_retry(req, register_once, &reg);
	schema_project(&mark_schema, &like, &class_register_schema, &reg);
	e = entity_overlay_like(req, &mark_entity, "date+class_id", &like, &overlay);
	if (e == OK)
		e = db_query(req, &SQL_REGISTER,
			     PG_PARAMS(PG_UUID(req->who.school_id), PG_JSONB(overlay), PG_DATE(reg.date), PG_UUID(reg.class_id)),
			     &mark_io_schema, &reg.rows);
	FIELD_MARK(&reg, class_register, rows);
	return e != OK ? e : req_reply(req, &class_register_schema, &reg);
}

/* ---- money: committed before the answer ---- */

SUSPENDS static enum err pay(struct req *req)
{
	const struct payment *in = req->in;
	struct str key = http_header(req->x, "idempotency-key");
	struct uuid school = req->who.school_id, id = uuid_v7(req->now_us);
	struct payment out = {0};
	struct tx *tx;
	enum err e = key.n != 0 ? tx_begin(req, &tx)
				: req_invalid(req, "/idempotency_key", "required", "is a header that a payment needs");

	if (e != OK)
		return e;
	e = tx_query_one(tx, &SQL_POST_PAYMENT,
			 PG_PARAMS(PG_UUID(school), PG_UUID(id), PG_TEXT(key), PG_UUID(in->account_id), PG_INT8(in->amount)),
			 &payment_schema, &out);
	if (e == ERR_NOT_FOUND)
		e = req_fail(req, ERR_IN_PROGRESS, "This payment has just been made: repeat the request for its answer");
	req->status = 201;
	e = e != OK ? e : req_reply(req, &payment_schema, &out);
	e = e != OK ? e : tx_event(tx, "play.payment_posted", in->account_id, buf_str(&req->body));
	return tx_end(tx, e != OK ? e : tx_audit(tx, "create", "play_payment", id, STR(""), STR("")));
}

/* clang-format off */
#define WHO ROLE_TEACHER | ROLE_ADMIN, MAY_SCHOOL
#define ROW(method, path, what, in_, io, fn)                                                       \
	{method, path, WHO, .creates = &what##_entity, .in = in_, .out = &io##_schema, .handler = fn, .summary = "A " #what}
const struct route play_routes[] = {
	ROW(HTTP_PUT, "/play/topics/{topic_id}", topic, &topic_io_schema, topic_io, write_rows),
	ROW(HTTP_GET, "/play/topics/{topic_id}", topic, NULL, topic_io, get_row),
	ROW(HTTP_PUT, "/play/notes/{note_id}", note, &note_io_schema, note_io, write_rows),
	ROW(HTTP_PATCH, "/play/notes/{note_id}", note, &note_patch_schema, note_io, write_rows),
	ROW(HTTP_DELETE, "/play/notes/{note_id}", note, NULL, note_io, write_rows),
	ROW(HTTP_GET, "/play/notes/{note_id}", note, NULL, note_io, get_row),
	ROW(HTTP_POST, "/play/counters/{counter_id}/add", counter, &add_in_schema, counter_out, write_rows),
	{HTTP_GET, "/play/counters/{counter_id}", WHO, .cache = {.policy = "redis", .kind = KIND_DETAIL, .tags = {"counter:{counter_id}"}}, .creates = &counter_entity, .out = &counter_out_schema, .handler = get_row, .summary = "A counter"},
	{HTTP_GET, "/play/counters/{counter_id}/shown", WHO, .cache = {.policy = "full", .kind = KIND_DETAIL, .tags = {"counter:{counter_id}"}, .vary = "school"}, .creates = &counter_entity, .out = &counter_out_schema, .handler = get_row, .summary = "A counter for all"},
	ROW(HTTP_GET, "/play/accounts/{account_id}", account, NULL, account_out, get_row),
	{HTTP_GET, "/play/notes", WHO, .query = &note_list_schema, .out = &note_io_schema, .handler = list_notes, .summary = "Notes of a class"},
	{HTTP_POST, "/play/topics-with-notes", WHO, .in = &bundle_schema, .out = &topic_io_schema, .handler = write_rows, .summary = "A topic and its notes"},
	{HTTP_PUT, "/play/registers/{class_id}/{date}", WHO, .in = &class_register_schema, .out = &class_register_schema, .flags = ROUTE_FULL_STATE, .creates = &mark_entity, .handler = class_register, .summary = "A class register"},
	{HTTP_GET, "/play/registers/{class_id}/{date}", WHO, .out = &class_register_schema, .handler = class_register, .summary = "A class register"},
	{HTTP_POST, "/play/payments", WHO, .in = &payment_schema, .out = &payment_schema, .flags = ROUTE_THROUGH, .handler = pay, .summary = "A payment"},
	ROUTE_END,
};
/* clang-format on */
