/* SPDX-License-Identifier: Apache-2.0 */
/* The calls of pg.h: queries with their retries, and transactions. */
#include "io/pg.h"

#include <stdlib.h>
#include <string.h>

#include "base/uuid.h"
#include "io/pg_error.h"
#include "io/pg_pool.h"

static void fail_give(const struct pg_scope *scope, const struct pg_fail *fail)
{
	if (scope->fail)
		*scope->fail = *fail;
}

/* Waits, and lets go of a request whose answer comes too late. True: the request is done. */
SUSPENDS static bool req_wait(struct pg_req *req, struct deadline d, enum err *ret_e)
{
	enum err e = await(&req->op, d);

	if (req->state == PG_DONE) { /* perhaps in the same turn in which the deadline passed */
		*ret_e = req->err;
		return true;
	}
	pg_pool_abandon(req);
	*ret_e = e;
	return false;
}

/* ---- single statements --------------------------------------------------------------------------------------------------- */

enum retry { RETRY_NO, RETRY_NOW, RETRY_LATER };

static enum retry req_retry(struct pg_req *req)
{
	if (!req->pg) /* closed */
		return RETRY_NO;
	if (req->again)
		return RETRY_NOW;
	if (pg_error_is_contention(req->fail.sqlstate))
		return RETRY_LATER;
	if (!pg_error_is_stale(req->fail.sqlstate))
		return RETRY_NO;
	if (strcmp(req->fail.sqlstate, "26000") != 0)
		req->pg->epoch++; /* the tables have changed under the prepared statements: prepare them all anew */
	return RETRY_NOW;
}

/* Once; OK gives the result to the caller. */
SUSPENDS static enum err query_once(struct pg *pg, const struct pg_scope *scope, const struct pg_stmt *stmt,
				    const struct pg_wire *wire, PGresult **ret_res, enum retry *ret_retry)
{
	struct pg_req *req = pg_req_new(pg, PG_REQ_QUERY);
	enum err e;

	req->stmt = stmt;
	req->wire = wire;
	req->school = scope->school;
	req->actor = scope->actor;
	req->reads = pg_stmt_reads(stmt);
	*ret_retry = RETRY_NO;
	pg_pool_submit(req);
	if (req_wait(req, scope->deadline, &e)) {
		fail_give(scope, &req->fail);
		if (e == OK) {
			*ret_res = req->result;
			req->result = NULL;
		} else {
			*ret_retry = req_retry(req);
		}
	}
	op_unref(&req->op);
	return e;
}

SUSPENDS static enum err query(struct pg *pg, const struct pg_scope *scope, const struct pg_stmt *stmt, struct pg_params params,
			       PGresult **ret_res)
{
	static const struct pg_fail none;
	struct pg_wire wire;
	enum retry retry;
	enum err e, slept;

	fail_give(scope, &none);
	e = pg_wire_encode(params, scope->arena, &wire);
	if (e != OK)
		return e;
	if (scope->deadline.at_us <= loop_mono_us(pg->loop))
		return ERR_TIMEOUT;
	for (unsigned tries = 1;; tries++) {
		struct loop *loop = pg->loop;
		uint8_t dice;

		e = query_once(pg, scope, stmt, &wire, ret_res, &retry);
		if (retry == RETRY_NO || tries > PG_TRIES)
			return e;
		if (retry == RETRY_NOW)
			continue;
		random_bytes(&dice, sizeof(dice));
		slept = sleep_ms(loop, 5 + dice % (20 << tries), scope->deadline);
		if (slept != OK)
			return slept;
	}
}

enum err pg_query(struct pg *pg, const struct pg_scope *scope, const struct pg_stmt *stmt, struct pg_params params,
		  const struct schema *out, struct list *ret)
{
	PGresult *res = NULL;
	enum err e;

	e = query(pg, scope, stmt, params, &res);
	if (e != OK)
		return e;
	return pg_rows_decode(res, out, scope->arena, ret);
}

enum err pg_query_one(struct pg *pg, const struct pg_scope *scope, const struct pg_stmt *stmt, struct pg_params params,
		      const struct schema *out, void *to)
{
	PGresult *res = NULL;
	enum err e;

	e = query(pg, scope, stmt, params, &res);
	if (e != OK)
		return e;
	return pg_row_decode(res, out, scope->arena, to);
}

/* ---- transactions -------------------------------------------------------------------------------------------------------- */

/* Out of the pool's list, and off its connection. */
void pg_tx_detach(struct pg_tx *tx)
{
	if (!tx->pg)
		return;
	if (tx->next)
		tx->next->prev = tx->prev;
	if (tx->prev)
		tx->prev->next = tx->next;
	else
		tx->pg->txs = tx->next;
	if (tx->conn)
		tx->conn->tx = NULL;
	tx->conn = NULL;
	tx->pg = NULL;
}

static void tx_forget(void *ptr)
{
	struct pg_tx *tx = ptr;

	pg_rollback(tx);
	free(tx);
}

enum err pg_begin(struct pg *pg, const struct pg_scope *scope, struct pg_tx **ret)
{
	static const struct pg_fail none;
	struct pg_tx *tx;
	struct pg_req *req;
	enum err e;

	fail_give(scope, &none);
	if (scope->deadline.at_us <= loop_mono_us(pg->loop))
		return ERR_TIMEOUT;
	tx = mem_zalloc(sizeof(*tx));
	tx->scope = *scope;
	tx->pg = pg;
	tx->loop = pg->loop;
	tx->next = pg->txs;
	if (tx->next)
		tx->next->prev = tx;
	pg->txs = tx;
	/* The arena owns it, so a forgotten one is rolled back with the request. */
	arena_defer(scope->arena, tx_forget, tx);

	req = pg_req_new(pg, PG_REQ_SLOT);
	req->tx = tx;
	pg_pool_submit(req);
	IGNORE(req_wait(req, scope->deadline, &e)); /* e says it all; a slot in the queue is given back */
	op_unref(&req->op);
	if (e == OK && !tx->conn)
		e = ERR_DB; /* lost in the same turn */
	if (e != OK) {
		tx->over = true;
		pg_tx_detach(tx);
		return e;
	}
	*ret = tx;
	return OK;
}

/* Sends one request of the transaction and waits for it. *ret_done is false when the fiber has left first. */
SUSPENDS static enum err tx_request(struct pg_tx *tx, struct pg_req *req, bool *ret_done)
{
	enum err e;

	pg_conn_send(tx->conn, req);
	*ret_done = req_wait(req, tx->scope.deadline, &e);
	if (*ret_done)
		fail_give(&tx->scope, &req->fail);
	if (e != OK && tx->failed == OK)
		tx->failed = e;
	return e;
}

SUSPENDS static enum err tx_query(struct pg_tx *tx, const struct pg_stmt *stmt, struct pg_params params, PGresult **ret_res)
{
	struct pg_wire wire;
	struct pg_req *req;
	bool done;
	enum err e;

	if (tx->over || tx->failed != OK)
		return ERR_BUG; /* PostgreSQL would say the same: 25P02 */
	if (!tx->conn)
		return tx->failed = ERR_DB;
	e = pg_wire_encode(params, tx->scope.arena, &wire);
	if (e != OK)
		return tx->failed = e;
	if (tx->scope.deadline.at_us <= loop_mono_us(tx->loop))
		return tx->failed = ERR_TIMEOUT;
	req = pg_req_new(tx->pg, tx->begun ? PG_REQ_TX : PG_REQ_TX_FIRST);
	req->stmt = stmt;
	req->wire = &wire;
	req->school = tx->scope.school;
	req->actor = tx->scope.actor;
	tx->begun = true;
	e = tx_request(tx, req, &done);
	if (e == OK) {
		*ret_res = req->result;
		req->result = NULL;
	} else if (done && req->pg && pg_error_is_stale(req->fail.sqlstate) && strcmp(req->fail.sqlstate, "26000") != 0) {
		req->pg->epoch++; /* the caller's next transaction prepares anew */
		e = tx->failed = ERR_DB;
	}
	op_unref(&req->op);
	return e;
}

enum err pg_tx_query(struct pg_tx *tx, const struct pg_stmt *stmt, struct pg_params params, const struct schema *out,
		     struct list *ret)
{
	PGresult *res;
	enum err e;

	e = tx_query(tx, stmt, params, &res);
	if (e != OK)
		return e;
	return pg_rows_decode(res, out, tx->scope.arena, ret);
}

enum err pg_tx_query_one(struct pg_tx *tx, const struct pg_stmt *stmt, struct pg_params params, const struct schema *out,
			 void *to)
{
	PGresult *res;
	enum err e;

	e = tx_query(tx, stmt, params, &res);
	if (e != OK)
		return e;
	return pg_row_decode(res, out, tx->scope.arena, to);
}

/* The connection goes back to the others. */
static void tx_end(struct pg_tx *tx)
{
	struct pg *pg = tx->pg;

	tx->over = true;
	pg_tx_detach(tx);
	if (pg)
		pg_pool_dispatch(pg);
}

enum err pg_commit(struct pg_tx *tx)
{
	enum err e = tx->failed;
	struct pg_req *req;
	bool done;

	if (tx->over)
		return ERR_BUG;
	if (e == OK && tx->begun && !tx->conn)
		e = ERR_DB; /* lost before the commit was sent, so nothing was done */
	if (e != OK) {
		pg_rollback(tx);
		return e;
	}
	if (!tx->begun) {
		tx_end(tx);
		return OK;
	}
	req = pg_req_new(tx->pg, PG_REQ_COMMIT);
	e = tx_request(tx, req, &done);
	if (!done)
		e = ERR_UNCERTAIN;
	else if (e == OK && strcmp(PQcmdStatus(req->result), "COMMIT") != 0)
		e = ERR_DB; /* "ROLLBACK": the server knew of a failure that we did not see */
	op_unref(&req->op);
	tx_end(tx);
	return e;
}

void pg_rollback(struct pg_tx *tx)
{
	struct pg_req *req;

	if (!tx || tx->over)
		return;
	if (tx->conn && tx->begun) {
		/* Nobody waits for it; whoever gets the connection next is answered after it. */
		req = pg_req_new(tx->pg, PG_REQ_ROLLBACK);
		op_unref(&req->op);
		pg_conn_send(tx->conn, req);
	}
	tx_end(tx);
}
