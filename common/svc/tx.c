/* SPDX-License-Identifier: Apache-2.0 */
/* The service's database within a request: single statements, and write-through transactions with their audit records and events. */
#include "svc/tx.h"

#include <string.h>

#include "base/failpoint.h"
#include "base/uuid.h"
#include "svc/buffers.h"
#include "svc/cache_events.h"
#include "svc/cache_http.h"
#include "svc/cache_query.h"
#include "svc/daemon.h"
#include "svc/envelope.h"
#include "svc/idem.h"
#include "svc/service.h"
#include "svc/through.h"
#include "svc_sql.h"

#define TOLD_MAX 8 /* what more events of one transaction carry is raised twice, which harms nobody */

struct tx {
	struct req *req;
	struct pg_tx *pg;
	struct pg_fail fail;
	struct cache_tags wrote;   /* tables, by what its statements declare */
	struct touch_mark mark;    /* behind it stands what only this transaction makes true */
	struct str told[TOLD_MAX]; /* its events with tags */
	size_t n_told;
	int64_t transaction; /* its number, and one of its audit records: what a COMMIT without an answer is looked up by; 0: it has none */
	struct uuid audit;
};

/* Nobody else knows that these tables have changed, so no handler needs to say it. After a failure it may have happened all the same. */
static void wrote(struct req *req, const struct pg_stmt *stmt, enum err e)
{
	struct cache_tags tables = {0};

	if (!stmt->writes || (e > 0 && e != ERR_NOT_FOUND))
		return;
	query_writes(stmt, req->arena, &tables);
	query_wrote(req, &tables);
	if (req->touched)
		req->touched->sure = req->touched->n; /* whatever becomes of a transaction beside it */
}

struct pg_scope db_scope(struct req *req, struct pg_fail *fail)
{
	return (struct pg_scope){
		.school = req->who.school_id, .arena = req->arena, .deadline = req->deadline, .fail = fail, .actor = req->id};
}

enum err db_query(struct req *req, const struct pg_stmt *stmt, struct pg_params params, const struct schema *out,
		  struct list *ret)
{
	struct pg_scope scope = db_scope(req, NULL);

	enum err e = pg_query(daemon_pg(req->daemon), &scope, stmt, params, out, ret);

	wrote(req, stmt, e);
	return e;
}

enum err db_query_one(struct req *req, const struct pg_stmt *stmt, struct pg_params params, const struct schema *out, void *to)
{
	struct pg_scope scope = db_scope(req, NULL);

	enum err e = pg_query_one(daemon_pg(req->daemon), &scope, stmt, params, out, to);

	wrote(req, stmt, e);
	return e;
}

int64_t list_total(const struct schema *s, struct list *rows)
{
	const struct field *total = schema_find(s, STR("total")), *id = schema_find(s, STR("id"));
	const struct fields *first = rows->v;
	int64_t n = 0;

	if (rows->n == 0 || !total || !id)
		return (int64_t)rows->n;
	memcpy(&n, (const char *)rows->v + total->offset, sizeof(n));
	if ((first->set >> (id - s->fields) & 1) == 0)
		rows->n = 0;
	return n;
}

enum err tx_begin(struct req *req, struct tx **ret)
{
	struct tx *tx = arena_zalloc(req->arena, sizeof(*tx));
	struct pg_scope scope = db_scope(req, &tx->fail);
	enum err e = pg_begin(daemon_pg(req->daemon), &scope, &tx->pg);

	if (e != OK)
		return e;
	tx->req = req;
	tx->mark = touch_mark(req);
	*ret = tx;
	FAILPOINT("wt.after_begin");
	return OK;
}

enum err tx_query(struct tx *tx, const struct pg_stmt *stmt, struct pg_params params, const struct schema *out, struct list *ret)
{
	query_writes(stmt, tx->req->arena, &tx->wrote);
	return pg_tx_query(tx->pg, stmt, params, out, ret);
}

enum err tx_query_one(struct tx *tx, const struct pg_stmt *stmt, struct pg_params params, const struct schema *out, void *to)
{
	query_writes(stmt, tx->req->arena, &tx->wrote);
	return pg_tx_query_one(tx->pg, stmt, params, out, to);
}

static struct pg_param text_or_null(struct str s)
{
	return PG_TEXT_OR_NULL(s);
}

static struct pg_param json_or_null(struct str s)
{
	return s.n != 0 ? PG_JSONB(s) : PG_NULL(PG_T_JSONB);
}

#define AUDITED_FIELDS(F, T) F(T, INT, transaction)
SCHEMA_STRUCT(tx_audited, AUDITED_FIELDS);
SCHEMA_TABLE(tx_audited, AUDITED_FIELDS);

enum err tx_audit_row(struct tx *tx, const struct audit_row *a)
{
	struct list written;
	enum err e = pg_tx_query(tx->pg, &SQL_AUDIT_INSERT,
				 PG_PARAMS(PG_UUID(a->row.id), PG_UUID(a->row.school_id), PG_UUID_OR_NULL(a->actor),
					   text_or_null(a->role), PG_TEXT(a->action), PG_TEXT(a->entity_type),
					   PG_UUID_OR_NULL(a->entity_id), json_or_null(a->old_values),
					   json_or_null(a->new_values), text_or_null(a->ip), text_or_null(a->user_agent),
					   text_or_null(a->reason), text_or_null(a->request_id), PG_TIME(a->row.created_at)),
				 &tx_audited_schema, &written);

	/* A record that was there before proves nothing. */
	if (e == OK && written.n != 0 && tx->transaction == 0) {
		tx->transaction = ((const struct tx_audited *)written.v)->transaction;
		tx->audit = a->row.id;
	}
	return e;
}

enum err tx_audit(struct tx *tx, const char *action, const char *entity, struct uuid id, struct str old_json, struct str new_json)
{
	return tx_audit_row(tx, audit_new(tx->req, action, entity, id, old_json, new_json));
}

enum err tx_outbox(struct tx *tx, struct str channel, struct str envelope)
{
	struct list none;

	return pg_tx_query(tx->pg, &SQL_OUTBOX_INSERT,
			   PG_PARAMS(PG_UUID(uuid_v7(tx->req->now_us)), PG_UUID(tx->req->who.school_id),
				     PG_TEXT(str_of(daemon_service(tx->req->daemon)->name)), PG_TEXT(channel), PG_JSONB(envelope),
				     PG_TEXT(req_buffer_name(tx->req))),
			   NULL, &none);
}

/* What was touched up to here, by statements that declare what they write too, stands beside the data (cache_events.h). */
enum err tx_event(struct tx *tx, const char *type, struct uuid subject, struct str data_json)
{
	struct req *req = tx->req;
	struct str envelope = envelope_new(req, type, subject, data_json);

	query_wrote(req, &tx->wrote);
	if (req->touched && req->touched->n != 0) {
		envelope = event_with_tags(req, envelope);
		if (tx->n_told < TOLD_MAX)
			tx->told[tx->n_told++] = event_name(req->daemon, req->arena, envelope);
	}
	return tx_outbox(tx, envelope_channel(req->arena, type), envelope);
}

/* What none of its events carries has one of its own, that nobody listens to. */
SUSPENDS static enum err write_down_tags(struct tx *tx)
{
	struct req *req = tx->req;

	query_wrote(req, &tx->wrote);
	if (!req->touched || req->touched->n == req->touched->written || daemon_buffers(req->daemon) == 0)
		return OK;
	return tx_event(tx, arena_printf(req->arena, "%s.touched", daemon_service(req->daemon)->name), req->who.school_id,
			(struct str){NULL, 0});
}

#define VERSION_FIELDS(F, T) F(T, INT, version)
SCHEMA_STRUCT(tx_version, VERSION_FIELDS);
SCHEMA_TABLE(tx_version, VERSION_FIELDS);

/* The answer of the request's key, in the same transaction: a twin that was first makes this one fail. */
SUSPENDS static enum err keep_answer(struct tx *tx)
{
	struct req *req = tx->req;
	struct tx_version version = {0};
	enum err e;

	e = pg_tx_query_one(tx->pg, &SQL_IDEM_PUT,
			    PG_PARAMS(PG_UUID(req->who.school_id), PG_TEXT(idem_key(req)), PG_TEXT(str_of(idem_fingerprint(req))),
				      PG_INT4(req->status != 0 ? req->status : 200), PG_TEXT(buf_str(&req->body))),
			    &tx_version_schema, &version);
	if (e == ERR_NOT_FOUND)
		return req_fail(req, ERR_IN_PROGRESS,
				"A request with this Idempotency-Key has just been done: repeat it for its answer");
	return e;
}

enum err tx_commit(struct tx *tx)
{
	enum err e = OK;

	/* A full_state route has a transaction when the buffer is away. */
	if (tx->req->idem && (tx->req->route->flags & (ROUTE_THROUGH | ROUTE_FULL_STATE)) != 0)
		e = keep_answer(tx);
	if (e == OK)
		e = write_down_tags(tx);
	if (e == OK && FAILPOINT_ERR("wt.before_commit"))
		e = ERR_DB;
	if (e != OK) {
		tx_rollback(tx);
		return e;
	}
	e = pg_commit(tx->pg);
	if (FAILPOINT_ERR("wt.after_commit_before_reply"))
		e = ERR_UNCERTAIN;
	if (e == ERR_UNCERTAIN && tx->transaction != 0)
		e = through_settle(daemon_pg(tx->req->daemon), daemon_loop(tx->req->daemon), tx->req->who.school_id,
				   tx->transaction, tx->audit, tx->req->deadline);
	if (e == OK)
		touch_told(tx->req, tx->told, tx->n_told);
	else if (e > 0)
		touch_undo(tx->req, tx->mark); /* refused; what may have been done is raised */
	return e;
}

void tx_rollback(struct tx *tx)
{
	pg_rollback(tx->pg);
	touch_undo(tx->req, tx->mark);
}

enum err tx_end(struct tx *tx, enum err e)
{
	if (e == OK)
		return tx_commit(tx);
	tx_rollback(tx);
	return e;
}

const struct pg_fail *tx_fail(const struct tx *tx)
{
	return &tx->fail;
}
