/* SPDX-License-Identifier: Apache-2.0 */
/* A change whose rows are committed in PostgreSQL before the answer: what is sent, and what a request makes of the outcome. */
#include "svc/through.h"

#include <string.h>

#include "base/uuid.h"
#include "svc/audit.h"
#include "svc/buffers.h"
#include "svc/daemon.h"
#include "svc/idem.h"
#include "svc/tx.h"
#include "svc_sql.h"

/* ---- a row as JSON ---- */

/* Whom the row replaces: the version that was read, of a deleted row too; 0: nobody. */
static int64_t expected(const struct change_item *item)
{
	return item->base ? item->base->floor : ((const struct row *)item->row)->version;
}

static struct str wanted_json(const struct change *c, const struct change_item *item, bool keyed)
{
	struct req *req = c->req;
	struct buf b = buf_in(req->arena);

	buf_puts(&b, STR("{\"id\":\""));
	buf_put_uuid(&b, ((const struct row *)item->row)->id);
	buf_puts(&b, STR("\",\"expect\":"));
	buf_put_i64(&b, expected(item));
	if (keyed) {
		buf_puts(&b, STR(",\"key\":"));
		buf_put_json(&b, idem_key(req));
		buf_printf(&b, ",\"fingerprint\":\"%s\",\"status\":%d,\"answer\":", idem_fingerprint(req),
			   req->status != 0 ? req->status : 200);
		buf_put_json(&b, buf_str(&req->body));
	}
	buf_putc(&b, '}');
	return buf_str(&b);
}

/* All events of a change go with one of its rows. */
static struct str events_json(const struct change *c, struct uuid row_id)
{
	const char *domain = daemon_service(c->req->daemon)->name;
	struct buf b = buf_in(c->req->arena);

	for (const struct change_event *e = c->events; e; e = e->next) {
		buf_puts(&b, b.n > 0 ? STR(",{\"row_id\":\"") : STR("{\"row_id\":\""));
		buf_put_uuid(&b, row_id);
		buf_puts(&b, STR("\",\"id\":\""));
		buf_put_uuid(&b, uuid_v7(c->req->now_us));
		buf_printf(&b, "\",\"domain\":\"%s\",\"channel\":", domain);
		buf_put_json(&b, e->channel);
		buf_puts(&b, STR(",\"buffer\":"));
		buf_put_json(&b, req_buffer_name(c->req));
		buf_puts(&b, STR(",\"envelope\":"));
		buf_puts(&b, e->envelope);
		buf_putc(&b, '}');
	}
	return buf_str(&b);
}

static struct str row_json(struct req *req, const struct schema *s, const void *row)
{
	struct schema columns = entity_columns(req->arena, s);
	struct buf b = buf_in(req->arena);

	entity_columns_json(&columns, row, &b);
	return buf_str(&b);
}

/* `first`: the change's events and its key go with this row. */
static struct through_row piece(const struct change *c, const struct change_item *item, bool first, bool keyed)
{
	const struct row *row = item->row;

	return (struct through_row){.id = row->id,
				    .row = row_json(c->req, item->entity->schema, row),
				    .wanted = wanted_json(c, item, keyed),
				    .audit = row_json(c->req, &audit_row_schema, item->audit),
				    .events = first ? events_json(c, row->id) : (struct str){NULL, 0}};
}

static struct str joined(const struct through_row *const *rows, size_t n, size_t member, struct arena *arena)
{
	struct buf b = buf_in(arena);

	buf_putc(&b, '[');
	for (size_t i = 0; i < n; i++) {
		struct str piece = *(const struct str *)(const void *)((const char *)rows[i] + member);

		if (piece.n == 0)
			continue;
		if (b.n > 1)
			buf_putc(&b, ',');
		buf_puts(&b, piece);
	}
	buf_putc(&b, ']');
	return buf_str(&b);
}

struct pg_params through_params(const struct through_row *const *rows, size_t n, struct arena *arena)
{
	static const size_t members[] = {offsetof(struct through_row, row), offsetof(struct through_row, wanted),
					 offsetof(struct through_row, audit), offsetof(struct through_row, events)};
	struct pg_param *v = arena_array(arena, ARRAY_LEN(members), sizeof(*v));

	for (size_t i = 0; i < ARRAY_LEN(members); i++)
		v[i] = PG_TEXT(joined(rows, n, members[i], arena));
	return (struct pg_params){v, ARRAY_LEN(members)};
}

/* ---- what the request makes of it ---- */

static enum err not_as_expected(struct change *c)
{
	struct req *req = c->req;

	req->bases->lost_race = http_header(req->x, "if-match").n == 0;
	return req->bases->lost_race ? req_fail(req, ERR_CONFLICT, "Somebody else has just changed this")
				     : req_fail(req, ERR_PRECONDITION, "The resource has changed since it was read");
}

/* A rule of the table has refused a row. */
static enum err refused(struct change *c, enum err e, const struct pg_fail *fail)
{
	struct req *req = c->req;

	req->bases->refusal = *fail;
	if (e == ERR_EXISTS)
		return req_fail_code(req, ERR_CONFLICT, "already_exists", "There is one already");
	if (e == ERR_CONFLICT && strcmp(fail->sqlstate, "23503") == 0)
		return req_fail_code(req, ERR_CONFLICT, "reference_missing", "Something that this names does not exist");
	if (e == ERR_CONFLICT)
		return req_fail(req, ERR_CONFLICT, "This does not go together with what there is");
	if (e == ERR_INVALID)
		return req_fail(req, ERR_INVALID, "A value is not allowed here");
	if (e == ERR_OVERLOAD) {
		req->retry_after_s = 2;
		return req_fail(req, ERR_OVERLOAD, "Writing is slow at the moment");
	}
	if (e == ERR_DB || e == ERR_TIMEOUT)
		req->retry_after_s = 5;
	return e;
}

static void written(struct change *c)
{
	struct req *req = c->req;

	for (size_t i = 0; i < c->n_items; i++) {
		struct row *row = c->items[i].row;

		base_add(req, &(struct base){.entity = c->items[i].entity,
					     .id = row->id,
					     .row = row->deleted_at == 0 ? row : NULL,
					     .floor = row->version});
	}
	req->version = ((const struct row *)c->items[0].row)->version;
	req->sync = SYNC_DONE;
}

/* The first request with the key was faster: its answer is this one's too. */
SUSPENDS static enum err answer_of_twin(struct change *c)
{
	enum err e = idem_replay_table(c->req);

	if (e == OK && !c->req->replayed)
		return req_fail(c->req, ERR_IN_PROGRESS, "The first request with this Idempotency-Key is still running");
	return e;
}

/* ---- a commit without an answer ---- */

#define OUTCOME_FIELDS(F, T) F(T, TEXT, state) F(T, BOOL, there)
SCHEMA_STRUCT(through_outcome, OUTCOME_FIELDS);
SCHEMA_TABLE(through_outcome, OUTCOME_FIELDS);

enum err through_settle(struct pg *pg, struct loop *loop, struct uuid school, int64_t transaction, struct uuid audit,
			struct deadline d)
{
	enum err ret = ERR_UNCERTAIN;

	for (int64_t ms = 10; ret == ERR_UNCERTAIN; ms = ms < 200 ? 2 * ms : 200) {
		struct arena *arena = arena_new();
		struct pg_scope scope = {.school = school, .arena = arena, .deadline = d};
		struct through_outcome o = {0};
		enum err e = pg_query_one(pg, &scope, &SQL_THROUGH_OUTCOME, PG_PARAMS(PG_INT8(transaction), PG_UUID(audit)),
					  &through_outcome_schema, &o);

		/* The record is what counts: behind a failover another server may know the number as somebody else's. Without it only a
		 * transaction that has ended proves that nothing comes any more. */
		if (e == OK && o.there)
			ret = OK;
		else if (e == OK && str_is(o.state, "aborted"))
			ret = ERR_DB;
		arena_free(arena);
		if (ret == ERR_UNCERTAIN && sleep_ms(loop, ms, d) != OK)
			break;
	}
	return ret;
}

/* ---- one row: with others' ---- */

SUSPENDS static enum err alone(struct change *c)
{
	struct req *req = c->req;
	const struct change_item *item = &c->items[0];
	struct through_row row = piece(c, item, true, req->idem != NULL);
	struct through_result r = {0};
	enum err e = through_group(req, item->entity, &row, item->audit->row.id, &r);

	if (e != OK)
		return refused(c, e, &r.fail);
	if (r.key_taken)
		return answer_of_twin(c);
	if (r.refused)
		return not_as_expected(c);
	((struct row *)item->row)->version = r.version;
	written(c);
	return OK;
}

/* ---- several rows: a transaction of their own ---- */

/* The items from `at` on that are of one entity. */
static size_t run_length(const struct change *c, size_t at)
{
	size_t n = 1;

	while (at + n < c->n_items && c->items[at + n].entity == c->items[at].entity)
		n++;
	return n;
}

static void take_versions(struct change *c, size_t at, size_t n, const struct list *done)
{
	const struct through_done *v = done->v;

	for (size_t i = at; i < at + n; i++) {
		struct row *row = c->items[i].row;

		for (size_t k = 0; k < done->n; k++) {
			if (uuid_eq(v[k].id, row->id))
				row->version = v[k].version;
		}
	}
}

SUSPENDS static enum err send_run(struct change *c, struct tx *tx, size_t at, size_t n, int64_t *ret_transaction)
{
	struct req *req = c->req;
	struct through_row *rows = arena_array(req->arena, n, sizeof(*rows));
	const struct through_row **list = arena_array(req->arena, n, sizeof(*list));
	struct list done = {0};
	enum err e;

	for (size_t i = 0; i < n; i++) {
		rows[i] = piece(c, &c->items[at + i], at + i == 0, false);
		list[i] = &rows[i];
	}
	e = tx_query(tx, entity_statements(req, c->items[at].entity)->through, through_params(list, n, req->arena),
		     &through_done_schema, &done);
	if (e != OK)
		return refused(c, e, tx_fail(tx));
	if (done.n != n)
		return not_as_expected(c);
	*ret_transaction = ((const struct through_done *)done.v)->transaction;
	take_versions(c, at, n, &done);
	return OK;
}

SUSPENDS static enum err together(struct change *c)
{
	struct req *req = c->req;
	int64_t transaction = 0;
	struct tx *tx;
	enum err e = tx_begin(req, &tx);

	for (size_t at = 0, n; e == OK && at < c->n_items; at += n) {
		n = run_length(c, at);
		e = send_run(c, tx, at, n, &transaction);
	}
	if (e != OK) {
		tx_rollback(tx);
		return e;
	}
	e = tx_commit(tx);
	if (e == ERR_UNCERTAIN)
		e = through_settle(daemon_pg(req->daemon), daemon_loop(req->daemon), req->who.school_id, transaction,
				   c->items[0].audit->row.id, req->deadline);
	if (e == ERR_IN_PROGRESS)
		return answer_of_twin(c);
	if (e != OK)
		return refused(c, e, tx_fail(tx));
	written(c);
	return OK;
}

/* The statement joins by id: a row that stands twice has no one expectation. */
static bool stands_twice(const struct change *c)
{
	for (size_t i = 0; i < c->n_items; i++) {
		for (size_t k = 0; k < i; k++) {
			if (uuid_eq(((const struct row *)c->items[i].row)->id, ((const struct row *)c->items[k].row)->id))
				return true;
		}
	}
	return false;
}

enum err through_commit(struct change *c)
{
	struct req *req = c->req;

	if (req->idem && (req->route->flags & ROUTE_THROUGH) == 0)
		return req_fail(req, ERR_BUG, "%s is written through by a route without ROUTE_THROUGH", c->items[0].entity->name);
	if (stands_twice(c))
		return req_fail(req, ERR_BUG, "a row of %s stands twice in one change", c->items[0].entity->name);
	req->bases->lost_race = false;
	req->bases->refusal = (struct pg_fail){0};
	return c->n_items == 1 ? alone(c) : together(c);
}

const struct pg_fail *change_refusal(const struct req *req)
{
	static const struct pg_fail none;

	return req->bases ? &req->bases->refusal : &none;
}
