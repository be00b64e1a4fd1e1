/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pool: which request goes to which connection, when one is opened, and the breaker.
 *
 * A request takes an idle connection; else it joins the pipeline of the one with the fewest requests, if its oldest answer is not late; else it
 * waits, first come, first served. A transaction waits for a connection of its own. Finding none idle opens another, up to the limit.
 * The breaker opens when connecting fails while no connection is left: everybody is refused at once, and a probe tries again with
 * growing pauses.
 */
#include "io/pg_pool.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/timefmt.h"
#include "base/uuid.h"

#define PROBE_FIRST_US INT64_C(250000)
#define PROBE_MOST_US INT64_C(5000000)
#define SWEEP_US INT64_C(15000000)
#define IDLE_US INT64_C(60000000)
/* Behind a statement that takes longer than this, nobody is put any more. */
#define SLOW_US INT64_C(5000)
#define DEPTH 16

/* ---- requests ------------------------------------------------------------------------------------------------------------ */

static void req_free(struct op *op)
{
	struct pg_req *req = CONTAINER_OF(op, struct pg_req, op);

	PQclear(req->result);
	free(req);
}

struct pg_req *pg_req_new(struct pg *pg, enum pg_req_kind kind)
{
	struct pg_req *req = mem_zalloc(sizeof(*req));

	op_init(&req->op, "postgres", req_free);
	req->pg = pg;
	req->kind = kind;
	return req;
}

void pg_pool_done(struct pg_req *req)
{
	struct pg *pg = req->pg;

	req->state = PG_DONE;
	if (req->kind != PG_REQ_SLOT)
		req->conn = NULL;
	if (req->kind == PG_REQ_QUERY || req->kind == PG_REQ_TX_FIRST || req->kind == PG_REQ_TX)
		pg->queries++;
	if (req->err != OK)
		pg->errors++;
	if (pg->closing)
		req->pg = NULL;
	op_complete(&req->op, req->err);
}

static void queue_add(struct pg *pg, struct pg_req *req)
{
	req->state = PG_QUEUED;
	req->next = NULL;
	req->prev = pg->last;
	if (pg->last)
		pg->last->next = req;
	else
		pg->first = req;
	pg->last = req;
	pg->waiting++;
}

static void queue_remove(struct pg *pg, struct pg_req *req)
{
	if (req->prev)
		req->prev->next = req->next;
	else
		pg->first = req->next;
	if (req->next)
		req->next->prev = req->prev;
	else
		pg->last = req->prev;
	req->next = req->prev = NULL;
	pg->waiting--;
}

static void queue_fail(struct pg *pg, enum err e)
{
	while (pg->first) {
		struct pg_req *req = pg->first;

		queue_remove(pg, req);
		req->err = e;
		pg_pool_done(req);
	}
}

/* ---- connections --------------------------------------------------------------------------------------------------------- */

static void on_probe(void *ctx);
static void breaker_open(struct pg *pg, const char *why);

static unsigned conns_in(const struct pg *pg, enum pg_conn_state state)
{
	unsigned n = 0;

	for (unsigned i = 0; i < pg->n_conns; i++)
		n += pg->conns[i]->state == state;
	return n;
}

static void conn_add(struct pg *pg)
{
	struct pg_conn *conn = pg_conn_open(pg);

	if (conn)
		pg->conns[pg->n_conns++] = conn;
	else if (pg->n_conns == 0)
		breaker_open(pg, "cannot connect");
}

/* One more, when somebody waits for it. Several connect at once only for as many waiters. */
static void conn_want(struct pg *pg)
{
	unsigned connecting = conns_in(pg, PG_CONNECTING);

	if (pg->closing || pg->broken || pg->probe.slot != 0 || pg->n_conns >= pg->most)
		return;
	if (connecting == 0 || connecting < pg->waiting)
		conn_add(pg);
}

static bool conn_takes(const struct pg_conn *conn, const struct pg_req *req)
{
	const struct pg *pg = conn->pg;

	if (conn->state != PG_READY || conn->tx)
		return false;
	if (conn->in_flight == 0)
		return true;
	return req->kind == PG_REQ_QUERY && conn->in_flight < pg->depth && conn->abandoned == 0 &&
	       loop_mono_us(pg->loop) - conn->head_since_us < SLOW_US;
}

static struct pg_conn *conn_pick(struct pg *pg, const struct pg_req *req)
{
	struct pg_conn *best = NULL;

	for (unsigned i = 0; i < pg->n_conns; i++) {
		struct pg_conn *conn = pg->conns[i];

		if (conn_takes(conn, req) && (!best || conn->in_flight < best->in_flight))
			best = conn;
	}
	if (!best || best->in_flight != 0)
		conn_want(pg);
	return best;
}

static void conn_give(struct pg_conn *conn, struct pg_req *req)
{
	if (req->kind != PG_REQ_SLOT) {
		pg_conn_send(conn, req);
		return;
	}
	req->conn = conn;
	conn->tx = req->tx;
	conn->tx->conn = conn;
	pg_pool_done(req);
}

void pg_pool_dispatch(struct pg *pg)
{
	if (pg->dispatching) { /* a connection died while it was given a request: look once more */
		pg->again = true;
		return;
	}
	pg->dispatching = true;
	do {
		pg->again = false;
		while (pg->first) {
			struct pg_req *req = pg->first;
			struct pg_conn *conn = conn_pick(pg, req);

			/* Opening a connection may have opened the breaker, which empties the queue. */
			if (!conn || pg->first != req)
				break;
			queue_remove(pg, req);
			conn_give(conn, req);
		}
	} while (pg->again);
	pg->dispatching = false;
}

void pg_pool_submit(struct pg_req *req)
{
	struct pg *pg = req->pg;
	enum err refused = pg->broken ? ERR_DB : pg->waiting >= PG_QUEUE_MAX ? ERR_OVERLOAD : OK;

	if (refused != OK) {
		req->err = refused;
		pg_pool_done(req);
		return;
	}
	queue_add(pg, req);
	pg_pool_dispatch(pg);
}

void pg_pool_abandon(struct pg_req *req)
{
	req->abandoned = true;
	if (req->state == PG_QUEUED) {
		queue_remove(req->pg, req);
		op_unref(&req->op); /* the pool's reference */
		pg_pool_dispatch(req->pg);
	} else if (req->state == PG_SENT) {
		req->conn->abandoned++;
		pg_conn_watch(req->conn);
	}
}

/* ---- the breaker --------------------------------------------------------------------------------------------------------- */

static void probe_later(struct pg *pg)
{
	int64_t pause = PROBE_FIRST_US << (pg->failures < 5 ? pg->failures : 5);
	uint16_t dice;

	if (pause > PROBE_MOST_US)
		pause = PROBE_MOST_US;
	random_bytes(&dice, sizeof(dice));
	/* Half to full: replicas do not knock together. */
	timer_set(&pg->probe, pg->loop, pause / 2 + pause / 2 * dice / UINT16_MAX, on_probe, pg);
	pg->failures++;
}

static void breaker_open(struct pg *pg, const char *why)
{
	if (pg->said_up || pg->failures == 0)
		log_warn("postgres away", LOG_S("why", why));
	pg->said_up = false;
	pg->broken = true;
	probe_later(pg);
	queue_fail(pg, ERR_DB);
}

static void on_probe(void *ctx)
{
	struct pg *pg = ctx;

	if (pg->n_conns == 0)
		conn_add(pg);
	else
		pg_pool_dispatch(pg);
}

void pg_pool_connected(struct pg_conn *conn)
{
	struct pg *pg = conn->pg;

	pg->connects++;
	pg->failures = 0;
	pg->broken = false;
	timer_stop(&pg->probe);
	if (!pg->said_up)
		log_info("postgres connected", LOG_I("server", PQserverVersion(conn->link)));
	pg->said_up = true;
	pg_pool_dispatch(pg);
}

void pg_pool_gone(struct pg_conn *conn, bool was_ready, const char *why)
{
	struct pg *pg = conn->pg;

	for (unsigned i = 0; i < pg->n_conns; i++)
		if (pg->conns[i] == conn) {
			pg->conns[i] = pg->conns[--pg->n_conns];
			break;
		}
	if (pg->closing)
		return;
	if (!was_ready && conns_in(pg, PG_READY) == 0) {
		breaker_open(pg, why);
	} else if (!was_ready) {
		probe_later(pg); /* full, perhaps: those that are there go on */
	} else {
		if (pg->n_conns == 0)
			conn_add(pg); /* one is kept, and tells whether the server is there */
		pg_pool_dispatch(pg);
	}
}

/* ---- opening and closing ------------------------------------------------------------------------------------------------- */

static void on_sweep(void *ctx)
{
	struct pg *pg = ctx;
	int64_t old = loop_mono_us(pg->loop) - IDLE_US;

	for (unsigned i = pg->n_conns; i-- > 0 && pg->n_conns > 1;) {
		struct pg_conn *conn = pg->conns[i];

		if (conn->state == PG_READY && !conn->tx && conn->in_flight == 0 && conn->idle_since_us < old)
			pg_conn_close(conn, "idle");
	}
	timer_set(&pg->sweep, pg->loop, SWEEP_US, on_sweep, pg);
}

enum err pg_open(struct loop *loop, const struct pg_conf *conf, struct pg **ret)
{
	struct pg_conf c = *conf;
	struct pg *pg;
	char **keys, **values;
	enum err e;

	c.connections = c.connections ? c.connections : 4;
	c.connect_ms = c.connect_ms ? c.connect_ms : 3000;
	c.statement_ms = c.statement_ms ? c.statement_ms : 5000;
	c.lock_ms = c.lock_ms ? c.lock_ms : 2000;
	e = pg_target(&c, &keys, &values);
	if (e != OK)
		return e;
	pg = mem_zalloc(sizeof(*pg));
	pg->loop = loop;
	pg->keys = keys;
	pg->values = values;
	pg_names_init(&pg->names, &c);
	pg->most = c.connections < PG_CONNECTIONS_MAX ? c.connections : PG_CONNECTIONS_MAX;
	pg->depth = c.pipeline ? c.pipeline : DEPTH;
	pg->connect_us = c.connect_ms * US_PER_MS;
	pg->statement_us = c.statement_ms * US_PER_MS;
	conn_add(pg);
	timer_set(&pg->sweep, loop, SWEEP_US, on_sweep, pg);
	*ret = pg;
	return OK;
}

struct pg *pg_close(struct pg *pg)
{
	if (!pg)
		return NULL;
	pg->closing = true;
	timer_stop(&pg->probe);
	timer_stop(&pg->sweep);
	queue_fail(pg, ERR_CANCELLED);
	while (pg->txs)
		pg_tx_detach(pg->txs);
	while (pg->n_conns != 0)
		pg_conn_close(pg->conns[0], "closed");
	pg_names_done(&pg->names);
	pg_target_free(pg->keys, pg->values);
	free(pg);
	return NULL;
}

bool pg_is_up(const struct pg *pg)
{
	return conns_in(pg, PG_READY) != 0;
}

struct pg_stats pg_stats(const struct pg *pg)
{
	struct pg_stats s = {.queries = pg->queries, .errors = pg->errors, .connects = pg->connects, .waiting = pg->waiting};

	for (unsigned i = 0; i < pg->n_conns; i++) {
		const struct pg_conn *conn = pg->conns[i];

		if (conn->state == PG_READY && !conn->tx && conn->in_flight == 0)
			s.idle++;
		else
			s.busy++;
	}
	return s;
}
