/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pool and its connections, as common/io's PostgreSQL files see them.
 *
 *	struct pg_req    one statement on its way: an op with two owners, the fiber and the pool
 *	struct pg_conn   one libpq connection in pipeline mode, and the requests whose answers it still owes, in order
 *	struct pg        the connections, the queue of requests without one, and the breaker
 *
 * Requests are sent from the loop or from their fiber, whichever finds a free connection; answers only from the loop. Several
 * single statements share a connection's pipeline; a transaction has one to itself.
 */
#ifndef S24_IO_PG_POOL_H
#define S24_IO_PG_POOL_H

#include <event2/event.h>
#include <libpq-fe.h>

#include "io/afresh.h"
#include "io/loop.h"
#include "io/pg.h"
#include "io/pg_value.h"

#define PG_QUEUE_MAX 1024 /* requests waiting for a connection */
#define PG_CONNECTIONS_MAX 64
#define PG_STATEMENTS_MAX 1024 /* prepared on one connection */
#define PG_TRIES 3

enum pg_req_kind {
	PG_REQ_QUERY,    /* one statement, a transaction of its own */
	PG_REQ_SLOT,     /* a connection for a transaction; nothing is sent */
	PG_REQ_TX_FIRST, /* BEGIN, scope, statement */
	PG_REQ_TX,       /* a further statement */
	PG_REQ_COMMIT,
	PG_REQ_ROLLBACK,
};

enum pg_req_state { PG_QUEUED, PG_SENT, PG_DONE };

/* What the server still owes for a request: results come in this order, each ended by a NULL, SYNC alone. */
enum pg_step_kind { PG_STEP_PREPARE, PG_STEP_SETUP, PG_STEP_STMT, PG_STEP_SYNC };
struct pg_prepared;
struct pg_step {
	enum pg_step_kind kind;
	struct pg_prepared *prepared;
};
#define PG_STEPS_MAX 8

struct pg_req {
	struct op op; /* first */
	struct pg_req *next, *prev;
	struct pg *pg;        /* NULL once the pool is closed */
	struct pg_conn *conn; /* while sent; for a slot: what it got */
	enum pg_req_kind kind;
	enum pg_req_state state;
	bool abandoned; /* the fiber has left: what it owned must not be touched */

	/* The fiber's, valid until it leaves. */
	const struct pg_stmt *stmt;
	const struct pg_wire *wire;
	struct uuid school;
	const char *actor;
	struct pg_tx *tx; /* of a slot */

	struct pg_step steps[PG_STEPS_MAX];
	unsigned n_steps, at;
	bool got; /* the current step has its result */

	PGresult *result; /* of the statement */
	enum err err;     /* the first */
	struct pg_fail fail;
	bool again; /* the connection broke, but nothing was done, or it only reads */
	bool reads; /* so repeating it is harmless */
};

/* A statement as one connection knows it. Its parameter types belong to it: the same statement with others is another one. */
struct pg_prepared {
	struct pg_prepared *next;
	const struct pg_stmt *stmt;
	char name[80];
	unsigned epoch; /* of the pool, when it was prepared */
	bool ready;     /* Parse is sent, or done */
	int n;
	Oid types[];
};

enum pg_conn_state { PG_CONNECTING, PG_READY, PG_DEAD };
#define PG_BUCKETS 64

struct pg_conn {
	struct pg *pg;
	PGconn *link;
	enum pg_conn_state state;
	struct event *on_read, *on_write;
	struct timer timer; /* connecting: its end; then the watch over the oldest request */
	struct pg_req *head, *tail;
	size_t in_flight;
	size_t abandoned;
	int64_t head_since_us, idle_since_us;
	struct pg_tx *tx; /* who holds it */
	unsigned entered; /* callbacks that still use the memory */
	struct pg_prepared *prepared[PG_BUCKETS];
	size_t n_prepared;
};

struct pg_tx {
	struct pg_tx *next, *prev;
	struct pg *pg; /* NULL when it is over or the pool is closed */
	struct loop *loop;
	struct pg_conn *conn; /* NULL: lost, or over */
	struct pg_scope scope;
	bool begun, over;
	enum err failed; /* the first error: nothing but a rollback helps */
};

/* Where a server was when its names were last looked up, and how it is looked up again. */
struct pg_names {
	char *url;
	int64_t statement_ms, lock_ms;
	struct afresh lookup;
};

struct pg {
	struct loop *loop;
	char **keys, **values; /* libpq's, NULL-terminated */
	struct pg_names names;
	unsigned most, depth;
	int64_t connect_us, statement_us;

	struct pg_conn *conns[PG_CONNECTIONS_MAX];
	unsigned n_conns;
	struct pg_req *first, *last; /* waiting */
	size_t waiting;
	bool dispatching, again;
	unsigned epoch; /* raised when prepared statements turn out to be outdated */

	bool broken;  /* the breaker is open */
	bool said_up; /* what the log says */
	unsigned failures;
	struct timer probe, sweep;
	uint64_t queries, errors, connects;
	struct pg_tx *txs;
	bool closing;
};

/* pg_pool.c */
struct pg_req *pg_req_new(struct pg *pg, enum pg_req_kind kind) NEVER_NULL;
void pg_pool_submit(struct pg_req *req);  /* to a connection or the queue; ERR_OVERLOAD and ERR_DB by completing it */
void pg_pool_abandon(struct pg_req *req); /* the fiber leaves a request that is not done */
void pg_pool_dispatch(struct pg *pg);
void pg_pool_done(struct pg_req *req); /* off its connection: completes the op */
void pg_pool_connected(struct pg_conn *conn);
void pg_pool_gone(struct pg_conn *conn, bool was_ready, const char *why);

/* pg.c */
void pg_tx_detach(struct pg_tx *tx);

/* pg_conn.c */
struct pg_conn *pg_conn_open(struct pg *pg); /* NULL: libpq refused at once */
void pg_conn_close(struct pg_conn *conn, const char *why);
void pg_conn_send(struct pg_conn *conn, struct pg_req *req); /* fails by closing the connection, which completes the request */
void pg_conn_watch(struct pg_conn *conn);                    /* look again when the oldest request is late */

/* pg_target.c: what to connect to, names resolved. */
MUST_CHECK enum err pg_target(const struct pg_conf *conf, char ***ret_keys, char ***ret_values);
void pg_target_free(char **keys, char **values);
void pg_names_init(struct pg_names *n, const struct pg_conf *conf);
/* Before each attempt to connect: what was found since the last one takes the place of keys and values, and the names are looked up again, on a
 * thread. Never waits. */
void pg_names_refresh(struct pg_names *n, char ***keys, char ***values);
void pg_names_done(struct pg_names *n);

#endif
