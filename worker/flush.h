/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One turn of a worker: CLAIM, unpack, one transaction, ACK (write-path.md 4), as a state machine whose outside calls go through two tables of
 * functions: struct buffer_io for Redis (with clock, pause and chance) and struct flush_db for PostgreSQL. No I/O of its own, so threads and a
 * simulator drive the same code.
 *
 * Rules: what was claimed leaves by ACK or NACK, or by the end of its lease when Redis does not answer. Only what a COMMIT has confirmed is
 * acknowledged, at the version that the database says. A batch may be written twice: its statement is guarded by version.
 */
#ifndef S24_WORKER_FLUSH_H
#define S24_WORKER_FLUSH_H

#include "base/schema.h"
#include "io/pg.h"
#include "svc/buffer.h"

/* What the database says of a row: RETURNING of the flush (id, version) and the versions statement. */
#define ROW_STATE_FIELDS(F, T) F(T, UUID, id) F(T, UUID, school_id) F(T, INT, version) F(T, TIME, deleted_at)
SCHEMA_STRUCT(row_state, ROW_STATE_FIELDS);

/* Versions of rows that a store of documents has refused one by one: a unique index, or no document at all. */
#define ROW_REFUSED_INDEX (-1)
#define ROW_REFUSED_FORM (-2)

struct flush_target {
	const struct entity *entity;
	const struct entity_sql *sql;
	const struct entity *const *parents; /* buffered entities of the same service on lower levels */
	size_t n_parents;
	size_t index; /* of the entity among all that this worker serves */
};

struct flush_db {
	void *ctx;
	enum err (*begin)(void *ctx, const struct flush_target *t); /* the temporary table is there and empty */
	enum err (*copy)(void *ctx, const struct flush_target *t, const void *const *rows, size_t n);
	enum err (*flush)(void *ctx, const struct flush_target *t, struct arena *arena, struct list *ret);
	enum err (*versions)(void *ctx, const struct flush_target *t, const struct uuid *ids, size_t n, struct arena *arena,
			     struct list *ret);
	enum err (*commit)(void *ctx);
	void (*rollback)(void *ctx);
	void (*reset)(void *ctx); /* the next begin makes a new connection */
	const struct pg_fail *(*fail)(void *ctx);
};

struct flush_limits {
	size_t records, bytes;
	int64_t lease_ms, patience_ms; /* all tries of a claim end within patience */
};
#define FLUSH_LIMITS_DEFAULT ((struct flush_limits){.records = 100, .bytes = 4u << 20, .lease_ms = 60000, .patience_ms = 45000})

struct flush_counts {
	int64_t claimed, reaped, dropped;
	int64_t applied, same, superseded, newer; /* newer: acknowledged, and a newer version came meanwhile */
	int64_t retried, dead, errors, statements, bytes_freed;
	bool away;      /* the database is: trip the breaker */
	char error[96]; /* the last: "23514 homework_title_check" */
};
void flush_counts_add(struct flush_counts *to, const struct flush_counts *more);

/* A row whose record has left the buffer, or has become a dead letter: what was read of it before is no longer so. */
struct flushed_row {
	struct uuid school, id;
};

struct flusher {
	const struct buffer_io *io;
	const struct flush_db *db;
	struct str token;
	struct flush_limits limits;
	bool (*stopping)(void *ctx); /* unstarted records are released; NULL: never */
	/* After ACK, or NACK as a dead letter, of n > 0 rows; must not wait. NULL: nobody asks. */
	void (*flushed)(void *ctx, const struct flush_target *t, const struct flushed_row *rows, size_t n);
	void *ctx;
};

/* Claims and flushes once; counts are added to. OK, also when nothing was due (claimed stays); ERR_BUFFER and its like: Redis does not answer. */
MUST_CHECK enum err flush_turn(const struct flusher *f, const struct flush_target *t, int64_t delay_ms, struct arena *arena,
			       struct flush_counts *counts);

#endif
