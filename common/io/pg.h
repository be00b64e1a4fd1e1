/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PostgreSQL for daemons: an async pool of libpq connections behind fibers. Statements are files (in sql/, embedded by cmake),
 * prepared by name on each connection at their first use; parameters and results are typed and binary. There is no way to run text.
 *
 * Each query is one round trip in pipeline mode: set_config('app.school_id', …, local), the statement, sync: one implicit
 * transaction, so row-level security holds. A transaction of several statements is pg_begin … pg_commit.
 * COMMIT whose answer is lost is ERR_UNCERTAIN. Never libpq outside common/io.
 *
 * Single statements of several fibers share a connection's pipeline (1.7 times the throughput); behind one that takes longer than 5 ms nobody
 * is put. A transaction has its connection to itself. Waiting is first come, first served, at most 1,024 requests, each until its deadline.
 *
 * Repeated by itself, up to three times: a single statement that lost a serialization or a deadlock, whose connection broke before the
 * server began it, whose prepared form is outdated, or that only reads (it begins with SELECT or VALUES, and the file's first line does not
 * say "writes": a SELECT of a function that writes must say so). A single statement that may write and whose answer is lost is ERR_UNCERTAIN.
 * After ERR_TIMEOUT or ERR_CANCELLED a writing statement may still have been done. Host names are resolved in pg_open, once.
 *
 * Parameters keep their own type in the statement: an int8 into a smallint column is the server's assignment. Values of numeric columns must be
 * cast to bigint hundredths on their way in; on their way out DECIMAL and MONEY read both.
 */
#ifndef S24_IO_PG_H
#define S24_IO_PG_H

#include "base/arena.h"
#include "base/err.h"
#include "base/schema.h"
#include "io/await.h"

struct pg_stmt {
	const char *name; /* "homework_list": file name */
	const char *sql;
	/* What the head of its file declares ("-- tables: auth.users", "-- writes: auth.users"), NULL-terminated; NULL: it does not. */
	const char *const *tables, *const *writes;
	bool live; /* it reads list sources (E_live), which take what is buffered as parameters */
};

enum pg_type { PG_T_NULL, PG_T_UUID, PG_T_TEXT, PG_T_INT4, PG_T_INT8, PG_T_FLOAT8, PG_T_BOOL, PG_T_TIME, PG_T_DATE, PG_T_JSONB, PG_T_BYTEA,
	       PG_T_UUIDS, PG_T_TEXTS, PG_T_INTS };
struct pg_param {
	enum pg_type type;
	bool null;
	union {
		struct uuid uuid;
		struct str s;
		int64_t i;
		double d;
		bool b;
		struct list list;
	};
};
#define PG_UUID(x) ((struct pg_param){.type = PG_T_UUID, .uuid = (x)})
#define PG_TEXT(x) ((struct pg_param){.type = PG_T_TEXT, .s = (x)})
#define PG_INT4(x) ((struct pg_param){.type = PG_T_INT4, .i = (x)})
#define PG_INT8(x) ((struct pg_param){.type = PG_T_INT8, .i = (x)})
#define PG_FLOAT8(x) ((struct pg_param){.type = PG_T_FLOAT8, .d = (x)})
#define PG_BOOL(x) ((struct pg_param){.type = PG_T_BOOL, .b = (x)})
#define PG_TIME(x) ((struct pg_param){.type = PG_T_TIME, .i = (x)})   /* µs since 1970 */
#define PG_DATE(x) ((struct pg_param){.type = PG_T_DATE, .i = (x)})   /* days since 1970 */
#define PG_JSONB(x) ((struct pg_param){.type = PG_T_JSONB, .s = (x)})
#define PG_BYTEA(x) ((struct pg_param){.type = PG_T_BYTEA, .s = (x)})
#define PG_UUIDS(x) ((struct pg_param){.type = PG_T_UUIDS, .list = (x)})
#define PG_TEXTS(x) ((struct pg_param){.type = PG_T_TEXTS, .list = (x)})
#define PG_INTS(x) ((struct pg_param){.type = PG_T_INTS, .list = (x)})   /* of int64_t */
#define PG_NULL(type_) ((struct pg_param){.type = (type_), .null = true})
/* Null instead of an empty slice or nil id: optional filters. */
#define PG_TEXT_OR_NULL(x) ((struct pg_param){.type = PG_T_TEXT, .s = (x), .null = (x).n == 0})
#define PG_UUID_OR_NULL(x) ((struct pg_param){.type = PG_T_UUID, .uuid = (x), .null = uuid_is_nil(x)})
/* Null unless it is there: PG_IF(FIELD_HAS(in, list_in, from), PG_DATE(in->from)). */
#define PG_IF(has, param) pg_param_if((has), (param))
static inline struct pg_param pg_param_if(bool has, struct pg_param p)
{
	p.null = !has;
	return p;
}

struct pg_params {
	const struct pg_param *v;
	size_t n;
};
#define PG_PARAMS(...) ((struct pg_params){(const struct pg_param[]){__VA_ARGS__}, sizeof((const struct pg_param[]){__VA_ARGS__}) / sizeof(struct pg_param)})
#define PG_NO_PARAMS ((struct pg_params){NULL, 0})

/* Of the last failed statement, for those who must know which rule refused the row. */
struct pg_fail {
	char sqlstate[6];
	char constraint[64];
};

struct pg_scope {
	struct uuid school;      /* nil: no tenant (auth's login function, health) */
	struct arena *arena;     /* results live here */
	struct deadline deadline;
	struct pg_fail *fail;    /* may be NULL */
	const char *actor;       /* application_name detail for pg_stat_activity; may be NULL */
};

struct pg_conf {
	const char *url;         /* postgres://… or key=value */
	unsigned connections;    /* most; opened on demand, one kept */
	int64_t connect_ms, statement_ms, lock_ms; /* 3000, 5000, 2000; 0: these */
	unsigned pipeline;       /* single statements on their way on one connection at a time; 0: 16 */
};
struct pg;
/* Returns before it is connected. ERR_INVALID: the URL; ERR_DB: a host name that does not resolve. */
MUST_CHECK enum err pg_open(struct loop *loop, const struct pg_conf *conf, struct pg **ret);
struct pg *pg_close(struct pg *pg);
bool pg_is_up(const struct pg *pg);

/* Rows of the answer as structs of `out` (columns by name; a column that is no field, or a type that does not fit, is ERR_BUG; NULL leaves the
 * field unset). ret->v is an array of out->size, in the scope's arena; for a `row` schema the common columns fill struct row. `out` NULL: rows are dropped, ret->n is the number of rows returned
 * or affected. ERR_EXISTS: a unique rule (fail->constraint); ERR_INVALID: check, not null, too long, bad value; ERR_CONFLICT: foreign key or
 * exclusion; ERR_DB: away, breaker open, serialization lost thrice; ERR_OVERLOAD: pool queue full; ERR_TIMEOUT; ERR_CANCELLED; ERR_UNCERTAIN; ERR_BUG: the statement
 * is wrong; ERR_CORRUPT: a value that is no value of the field; ERR_TOO_LARGE: over 100,000 rows. P0001 (RAISE in our functions) is ERR_CONFLICT,
 * P0002 ERR_NOT_FOUND, with fail->sqlstate. */
SUSPENDS MUST_CHECK enum err pg_query(struct pg *pg, const struct pg_scope *scope, const struct pg_stmt *stmt, struct pg_params params,
				      const struct schema *out, struct list *ret);
/* The same for at most one row: ERR_NOT_FOUND when there is none, ERR_BUG when there are several. `to` is a struct of `out`. */
SUSPENDS MUST_CHECK enum err pg_query_one(struct pg *pg, const struct pg_scope *scope, const struct pg_stmt *stmt, struct pg_params params,
					  const struct schema *out, void *to);

/* A transaction holds one connection. Rolled back by pg_rollback or, if forgotten, when the scope's arena is cleared. After a failed statement only
 * pg_rollback makes sense: queries are ERR_BUG, and pg_commit rolls back and returns the first error. BEGIN travels with the first statement. */
struct pg_tx;
SUSPENDS MUST_CHECK enum err pg_begin(struct pg *pg, const struct pg_scope *scope, struct pg_tx **ret);
SUSPENDS MUST_CHECK enum err pg_tx_query(struct pg_tx *tx, const struct pg_stmt *stmt, struct pg_params params, const struct schema *out, struct list *ret);
SUSPENDS MUST_CHECK enum err pg_tx_query_one(struct pg_tx *tx, const struct pg_stmt *stmt, struct pg_params params, const struct schema *out, void *to);
SUSPENDS MUST_CHECK enum err pg_commit(struct pg_tx *tx);
void pg_rollback(struct pg_tx *tx);

/* An entity's row as parameters in the order id, school_id, fields…, version, created_at, updated_at, deleted_at: what the generated upserts take. */
struct pg_params pg_row_params(const struct schema *s, const void *row, struct arena *arena);

struct pg_stats {
	uint64_t queries, errors, connects;
	size_t busy, idle, waiting;
} pg_stats(const struct pg *pg);

#endif
