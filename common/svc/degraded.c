/* SPDX-License-Identifier: Apache-2.0 */
/* Writing with the buffer away: the worker's own guarded upsert, from the service, for writes that need no old row. */
#include "svc/degraded.h"

#include "svc/audit.h"
#include "svc/daemon.h"
#include "svc/tx.h"

#define DEGRADED_MOST 4 /* at once in a process: the database must not drown in what the buffer used to absorb */

bool degraded_allowed(const struct change *c)
{
	if ((c->req->route->flags & ROUTE_FULL_STATE) == 0)
		return false;
	for (size_t i = 0; i < c->n_rows; i++) {
		const struct base *base = c->items[i].base;
		const struct row *row = c->items[i].row;

		/* A row with a natural id that was made whole (version 0) replaces what is there: the statement takes a higher version. */
		if (base && ((base->row && row->version != 0) || base->blind))
			return false;
	}
	return true;
}

#define UPSERTED_FIELDS(F, T) F(T, UUID, id) F(T, INT, version)
SCHEMA_STRUCT(upserted, UPSERTED_FIELDS);
SCHEMA_TABLE(upserted, UPSERTED_FIELDS);

SUSPENDS static enum err upsert_rows(struct change *c, struct tx *tx)
{
	struct req *req = c->req;

	for (size_t i = 0; i < c->n_items; i++) {
		const struct change_item *item = &c->items[i];
		struct row *row = item->row;
		struct upserted done = {0};
		enum err e;

		if (item->entity->schema == &audit_row_schema) {
			e = tx_audit_row(tx, item->row);
		} else {
			row->version = 0; /* the statement takes the database's clock */
			e = tx_query_one(tx, entity_statements(req, item->entity)->upsert,
					 pg_row_params(item->entity->schema, row, req->arena), &upserted_schema, &done);
			row->version = done.version;
		}
		if (e == ERR_NOT_FOUND) /* the guard: another school's id, or a newer row */
			return req_fail(req, ERR_CONFLICT, "Somebody else has just changed this");
		if (e != OK)
			return e;
	}
	return OK;
}

SUSPENDS static enum err commit_all(struct change *c)
{
	struct req *req = c->req;
	struct tx *tx;
	enum err e = tx_begin(req, &tx);

	if (e != OK)
		return e;
	e = upsert_rows(c, tx);
	for (const struct change_event *event = c->events; e == OK && event; event = event->next)
		e = tx_outbox(tx, event->channel, event->envelope);
	e = tx_end(tx, e);
	if (e != OK)
		return e;
	req->version = ((const struct row *)c->items[0].row)->version;
	req->sync = SYNC_DONE;
	req->database_only = true;
	return OK;
}

enum err degraded_commit(struct change *c)
{
	size_t *running = &c->req->daemon->degraded_running;
	enum err e;

	if (*running >= DEGRADED_MOST) {
		c->req->retry_after_s = 2;
		return req_fail(c->req, ERR_OVERLOAD, "Writing is slow at the moment");
	}
	(*running)++;
	e = commit_all(c);
	(*running)--;
	return e;
}
