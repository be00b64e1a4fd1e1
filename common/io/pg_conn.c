/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One libpq connection in pipeline mode: connecting without blocking, sending, and matching answers to requests.
 *
 *	CONNECTING ──PQconnectPoll OK──► READY ──lost, late or out of step──► DEAD (freed when no callback is inside)
 *	     └───────failed, timeout──────────────────────────────────────────────▲
 *
 * Every request has the list of results that it is owed. Anything else than the next one of that list closes the connection: an answer must
 * never reach another request.
 */
#include "io/pg_pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/uuid.h"
#include "io/pg_error.h"
#include "io/pg_oid.h"
#include "io_sql.h"

/* How long the server may take beyond its own statement_timeout, and how long one that nobody waits for any more. */
#define LATE_US (2 * INT64_C(1000000))
#define ABANDONED_US INT64_C(500000)

static void notice_ignore(void *arg, const PGresult *res)
{
	(void)arg;
	(void)res;
}

static void conn_free(struct pg_conn *conn)
{
	for (size_t i = 0; i < PG_BUCKETS; i++)
		while (conn->prepared[i]) {
			struct pg_prepared *p = conn->prepared[i];

			conn->prepared[i] = p->next;
			free(p);
		}
	free(conn);
}

static void conn_leave(struct pg_conn *conn)
{
	if (--conn->entered == 0 && conn->state == PG_DEAD)
		conn_free(conn);
}

/* ---- the end ------------------------------------------------------------------------------------------------------------- */

/* What a request gets whose answer will not come any more. `unbegun`: the server ended the session before its turn came. */
static void req_lose(struct pg_req *req, bool unbegun)
{
	/* An error that came before the commit is the whole truth: nothing was done. */
	bool nothing_done = unbegun || (req->err != OK && req->steps[req->at].kind != PG_STEP_SYNC);

	if (req->err != OK && !pg_error_is_away(req->fail.sqlstate))
		return;
	req->err = ERR_DB;
	if (req->kind == PG_REQ_COMMIT)
		req->err = ERR_UNCERTAIN;
	else if (req->kind == PG_REQ_QUERY && (nothing_done || req->reads))
		req->again = true;
	else if (req->kind == PG_REQ_QUERY)
		req->err = ERR_UNCERTAIN;
}

static void reqs_lose(struct pg_conn *conn)
{
	/* The server's own word (such as 57P01) while it served the first: it has begun none of the others. */
	bool told = conn->head && conn->head->err != OK && conn->head->fail.sqlstate[0] &&
		    pg_error_is_away(conn->head->fail.sqlstate);

	for (bool first = true; conn->head; first = false) {
		struct pg_req *req = conn->head;

		conn->head = req->next;
		if (!conn->head)
			conn->tail = NULL;
		conn->in_flight--;
		req_lose(req, told && !first);
		pg_pool_done(req);
	}
}

static void event_drop(struct event **ev)
{
	if (*ev)
		event_free(*ev);
	*ev = NULL;
}

void pg_conn_close(struct pg_conn *conn, const char *why)
{
	bool was_ready = conn->state == PG_READY;
	char text[200] = "";

	if (conn->state == PG_DEAD)
		return;
	if (!was_ready && !why) /* while connecting, libpq's text is about addresses and roles, not about data */
		snprintf(text, sizeof(text), "%.*s", (int)strcspn(PQerrorMessage(conn->link), "\n"), PQerrorMessage(conn->link));
	conn->state = PG_DEAD;
	conn->entered++;
	timer_stop(&conn->timer);
	event_drop(&conn->on_read);
	event_drop(&conn->on_write);
	PQfinish(conn->link);
	conn->link = NULL;
	if (conn->tx)
		conn->tx->conn = NULL;
	conn->tx = NULL;
	reqs_lose(conn);
	pg_pool_gone(conn, was_ready, why ? why : text[0] ? text : "lost");
	conn_leave(conn);
}

/* ---- connecting ---------------------------------------------------------------------------------------------------------- */

static void on_readable(evutil_socket_t fd, short what, void *ctx);
static void on_writable(evutil_socket_t fd, short what, void *ctx);

static void on_late(void *ctx)
{
	pg_conn_close(ctx, "connect timed out");
}

static bool conn_ready(struct pg_conn *conn)
{
	struct event_base *base = loop_base(conn->pg->loop);
	int fd = PQsocket(conn->link);

	if (PQsetnonblocking(conn->link, 1) != 0 || PQenterPipelineMode(conn->link) != 1)
		return false;
	conn->on_read = event_new(base, fd, EV_READ | EV_PERSIST, on_readable, conn);
	conn->on_write = event_new(base, fd, EV_WRITE, on_writable, conn);
	if (!conn->on_read || !conn->on_write || event_add(conn->on_read, NULL) != 0)
		return false;
	timer_stop(&conn->timer);
	conn->state = PG_READY;
	conn->idle_since_us = loop_mono_us(conn->pg->loop);
	return true;
}

static void on_connecting(evutil_socket_t fd, short what, void *ctx);

/* The socket may be another one after each step (the next address), so the event is made anew. */
static void connect_wait(struct pg_conn *conn, PostgresPollingStatusType want)
{
	short what = want == PGRES_POLLING_READING ? EV_READ : EV_WRITE;

	event_drop(&conn->on_read);
	conn->on_read = event_new(loop_base(conn->pg->loop), PQsocket(conn->link), what, on_connecting, conn);
	if (!conn->on_read || event_add(conn->on_read, NULL) != 0)
		pg_conn_close(conn, "no event");
}

static void on_connecting(evutil_socket_t fd, short what, void *ctx)
{
	struct pg_conn *conn = ctx;
	PostgresPollingStatusType now;

	(void)fd;
	(void)what;
	/* libpq closes a socket when it goes to the next address: nothing may be registered on it then. */
	event_drop(&conn->on_read);
	now = PQconnectPoll(conn->link);
	if (now == PGRES_POLLING_READING || now == PGRES_POLLING_WRITING) {
		connect_wait(conn, now);
		return;
	}
	if (now != PGRES_POLLING_OK || !conn_ready(conn)) {
		pg_conn_close(conn, NULL);
		return;
	}
	pg_pool_connected(conn);
}

struct pg_conn *pg_conn_open(struct pg *pg)
{
	struct pg_conn *conn = mem_zalloc(sizeof(*conn));

	pg_names_refresh(&pg->names, &pg->keys, &pg->values);
	conn->pg = pg;
	conn->state = PG_CONNECTING;
	conn->link = PQconnectStartParams((const char *const *)pg->keys, (const char *const *)pg->values, 0);
	if (!conn->link || PQstatus(conn->link) == CONNECTION_BAD) {
		PQfinish(conn->link);
		free(conn);
		return NULL;
	}
	PQsetNoticeReceiver(conn->link, notice_ignore, NULL);
	timer_set(&conn->timer, pg->loop, pg->connect_us, on_late, conn);
	conn->on_read = event_new(loop_base(pg->loop), PQsocket(conn->link), EV_WRITE, on_connecting, conn);
	if (!conn->on_read || event_add(conn->on_read, NULL) != 0)
		abort(); /* out of memory */
	return conn;
}

/* ---- watching ------------------------------------------------------------------------------------------------------------ */

static void on_watch(void *ctx)
{
	struct pg_conn *conn = ctx;

	if (!conn->head)
		return;
	/* A statement nobody waits for is not worth its connection; but never cut off others that were sent behind it. */
	if (conn->abandoned == conn->in_flight && loop_mono_us(conn->pg->loop) - conn->head_since_us >= ABANDONED_US)
		pg_conn_close(conn, "abandoned statement");
	else if (loop_mono_us(conn->pg->loop) - conn->head_since_us >= conn->pg->statement_us + LATE_US)
		pg_conn_close(conn, "no answer");
	else
		pg_conn_watch(conn);
}

void pg_conn_watch(struct pg_conn *conn)
{
	int64_t limit = conn->abandoned == conn->in_flight ? ABANDONED_US : conn->pg->statement_us + LATE_US;
	int64_t left = conn->head_since_us + limit - loop_mono_us(conn->pg->loop);

	timer_set(&conn->timer, conn->pg->loop, left > 0 ? left : 0, on_watch, conn);
}

/* ---- sending ------------------------------------------------------------------------------------------------------------- */

static bool types_match(const struct pg_prepared *p, const struct pg_wire *wire)
{
	if (p->n != wire->n)
		return false;
	for (int i = 0; i < p->n; i++)
		if (p->types[i] != wire->types[i] && wire->values[i])
			return false; /* a null fits every type */
	return true;
}

static struct pg_prepared *prepared_find(struct pg_conn *conn, const struct pg_stmt *stmt, const struct pg_wire *wire)
{
	size_t bucket = ((uintptr_t)stmt >> 4) % PG_BUCKETS;
	struct pg_prepared *p;

	for (p = conn->prepared[bucket]; p; p = p->next)
		if (p->stmt == stmt && p->epoch == conn->pg->epoch && types_match(p, wire))
			return p;
	if (conn->n_prepared >= PG_STATEMENTS_MAX)
		return NULL;
	p = mem_zalloc(sizeof(*p) + (size_t)wire->n * sizeof(Oid));
	p->stmt = stmt;
	p->epoch = conn->pg->epoch;
	p->n = wire->n;
	if (wire->n != 0)
		memcpy(p->types, wire->types, (size_t)wire->n * sizeof(Oid));
	/* The number makes it unique; the name is for pg_prepared_statements and people. */
	snprintf(p->name, sizeof(p->name), "%.60s/%zu", stmt->name, conn->n_prepared++);
	p->next = conn->prepared[bucket];
	conn->prepared[bucket] = p;
	return p;
}

static void step_add(struct pg_req *req, enum pg_step_kind kind, struct pg_prepared *p)
{
	req->steps[req->n_steps++] = (struct pg_step){kind, p};
}

static bool send_prepared(struct pg_conn *conn, struct pg_req *req, enum pg_step_kind kind, const struct pg_stmt *stmt,
			  const struct pg_wire *wire)
{
	struct pg_prepared *p = prepared_find(conn, stmt, wire);

	if (!p)
		return false;
	if (!p->ready) {
		if (PQsendPrepare(conn->link, p->name, stmt->sql, p->n, p->types) != 1)
			return false;
		p->ready = true;
		step_add(req, PG_STEP_PREPARE, p);
	}
	if (PQsendQueryPrepared(conn->link, p->name, wire->n, wire->values, wire->lengths, wire->formats, 1) != 1)
		return false;
	step_add(req, kind, p);
	return true;
}

static bool send_utility(struct pg_conn *conn, struct pg_req *req, enum pg_step_kind kind, const struct pg_stmt *stmt)
{
	if (PQsendQueryParams(conn->link, stmt->sql, 0, NULL, NULL, NULL, NULL, 1) != 1)
		return false;
	step_add(req, kind, NULL);
	return true;
}

static bool send_scope(struct pg_conn *conn, struct pg_req *req)
{
	Oid types[] = {OID_TEXT, OID_TEXT};
	int formats[] = {1, 1};
	char school[UUID_TEXT + 1] = "";
	const char *values[] = {school, req->actor};
	int lengths[] = {0, 0};
	struct pg_wire wire = {.n = req->actor ? 2 : 1, .types = types, .values = values, .lengths = lengths, .formats = formats};

	if (!uuid_is_nil(req->school))
		uuid_text(req->school, school);
	lengths[0] = (int)strlen(school);
	if (req->actor)
		lengths[1] = (int)strnlen(req->actor, 63);
	return send_prepared(conn, req, PG_STEP_SETUP, req->actor ? &SQL_PG_SCOPE_ACTOR : &SQL_PG_SCOPE, &wire);
}

static bool send_steps(struct pg_conn *conn, struct pg_req *req)
{
	if (req->kind == PG_REQ_COMMIT || req->kind == PG_REQ_ROLLBACK)
		return send_utility(conn, req, PG_STEP_STMT, req->kind == PG_REQ_COMMIT ? &SQL_PG_COMMIT : &SQL_PG_ROLLBACK);
	if (req->kind == PG_REQ_TX_FIRST && !send_utility(conn, req, PG_STEP_SETUP, &SQL_PG_BEGIN))
		return false;
	if (req->kind != PG_REQ_TX && !send_scope(conn, req))
		return false;
	return send_prepared(conn, req, PG_STEP_STMT, req->stmt, req->wire);
}

static void conn_flush(struct pg_conn *conn)
{
	int left = PQflush(conn->link);

	if (left < 0)
		pg_conn_close(conn, "lost");
	else if (left > 0 && event_add(conn->on_write, NULL) != 0)
		pg_conn_close(conn, "no event");
}

void pg_conn_send(struct pg_conn *conn, struct pg_req *req)
{
	req->state = PG_SENT;
	req->conn = conn;
	req->next = NULL;
	req->prev = NULL;
	req->n_steps = req->at = 0;
	req->got = false;
	if (conn->tail)
		conn->tail->next = req;
	else
		conn->head = req;
	conn->tail = req;
	if (conn->in_flight++ == 0)
		conn->head_since_us = loop_mono_us(conn->pg->loop);

	conn->entered++;
	if (!send_steps(conn, req) || PQpipelineSync(conn->link) != 1) {
		pg_conn_close(conn, "cannot send");
	} else {
		step_add(req, PG_STEP_SYNC, NULL);
		conn_flush(conn);
		if (conn->state == PG_READY && conn->timer.slot == 0)
			pg_conn_watch(conn);
	}
	conn_leave(conn);
}

static void on_writable(evutil_socket_t fd, short what, void *ctx)
{
	(void)fd;
	(void)what;
	conn_flush(ctx);
}

/* ---- answers ------------------------------------------------------------------------------------------------------------- */

static void step_failed(struct pg_req *req, const struct pg_step *step, const PGresult *res)
{
	struct pg_fail fail;
	enum err e = pg_error_of_result(res, &fail);

	/* The statement is not there, whoever's fault it is: the next use prepares it again. */
	if (step->prepared && (step->kind == PG_STEP_PREPARE || strcmp(fail.sqlstate, "26000") == 0))
		step->prepared->ready = false;
	if (req->err != OK)
		return;
	req->err = e;
	req->fail = fail;
}

/* True: the request has all that it is owed. False in *ret_ok: the answer is not the one expected. */
static bool step_result(struct pg_req *req, PGresult *res, bool *ret_ok)
{
	struct pg_step *step = &req->steps[req->at];
	ExecStatusType status;

	*ret_ok = true;
	if (!res) { /* the end of a statement's results */
		if (!req->got)
			*ret_ok = false;
		else if (step->kind != PG_STEP_SYNC)
			req->at++;
		req->got = false;
		return false;
	}
	status = PQresultStatus(res);
	if (status == PGRES_PIPELINE_SYNC) {
		PQclear(res);
		*ret_ok = step->kind == PG_STEP_SYNC;
		return *ret_ok;
	}
	if (req->got) {
		PQclear(res);
		*ret_ok = false;
		return false;
	}
	req->got = true;
	switch ((int)status) {
	case PGRES_TUPLES_OK:
	case PGRES_COMMAND_OK:
		*ret_ok = step->kind != PG_STEP_SYNC;
		if (step->kind == PG_STEP_STMT && req->err == OK) {
			req->result = res;
			return false;
		}
		break;
	case PGRES_FATAL_ERROR: /* at the sync too: a rule that is checked at commit */
		step_failed(req, step, res);
		break;
	case PGRES_PIPELINE_ABORTED:
		if (step->kind == PG_STEP_PREPARE)
			step->prepared->ready = false;
		break;
	default: /* COPY and whatever else does not belong into a statement file of a daemon */
		*ret_ok = false;
		break;
	}
	PQclear(res);
	return false;
}

static void head_done(struct pg_conn *conn)
{
	struct pg_req *req = conn->head;

	conn->head = req->next;
	if (!conn->head)
		conn->tail = NULL;
	conn->in_flight--;
	if (req->abandoned)
		conn->abandoned--;
	conn->head_since_us = conn->idle_since_us = loop_mono_us(conn->pg->loop);
	pg_pool_done(req);
}

static void conn_answers(struct pg_conn *conn)
{
	while (conn->state == PG_READY && conn->head && !PQisBusy(conn->link)) {
		bool ok;

		if (step_result(conn->head, PQgetResult(conn->link), &ok))
			head_done(conn);
		else if (!ok)
			pg_conn_close(conn, "answers out of step");
	}
	/* An idle connection owes nothing; what the server says now is its end. */
	if (conn->state == PG_READY && !conn->head && PQisBusy(conn->link) == 0 && PQstatus(conn->link) == CONNECTION_BAD)
		pg_conn_close(conn, "lost");
}

static void on_readable(evutil_socket_t fd, short what, void *ctx)
{
	struct pg_conn *conn = ctx;
	struct pg *pg = conn->pg;
	int ok;

	(void)fd;
	(void)what;
	conn->entered++;
	ok = PQconsumeInput(conn->link);
	/* Answers that came before the end count. */
	conn_answers(conn);
	if (conn->state == PG_READY && (!ok || PQstatus(conn->link) == CONNECTION_BAD))
		pg_conn_close(conn, "lost");
	conn_leave(conn);
	pg_pool_dispatch(pg);
}
