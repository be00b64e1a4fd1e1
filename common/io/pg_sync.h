/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocking PostgreSQL for the worker's threads: one connection each, prepared by name, binary COPY of an entity's rows.
 *
 * A connection that was lost while idle is replaced unnoticed. After an error inside a transaction every call but pg_sync_rollback is ERR_BUG, and
 * pg_sync_commit rolls back and returns the first error. Outside of one, a writing statement whose answer is lost is ERR_UNCERTAIN. Nothing
 * waits longer than statement_ms and two seconds. No app.school_id is set: the worker has a policy of its own.
 */
#ifndef S24_IO_PG_SYNC_H
#define S24_IO_PG_SYNC_H

#include "io/pg.h"

struct pg_sync;
MUST_CHECK enum err pg_sync_open(const char *url, int64_t statement_ms, int64_t lock_ms, struct pg_sync **ret); /* connects on first use */
struct pg_sync *pg_sync_close(struct pg_sync *pg);
MUST_CHECK enum err pg_sync_begin(struct pg_sync *pg);
MUST_CHECK enum err pg_sync_commit(struct pg_sync *pg); /* ERR_UNCERTAIN: the answer was lost */
void pg_sync_rollback(struct pg_sync *pg);
MUST_CHECK enum err pg_sync_query(struct pg_sync *pg, struct arena *arena, const struct pg_stmt *stmt, struct pg_params params,
				  const struct schema *out, struct list *ret);
/* `copy` is a COPY table (columns) FROM STDIN (FORMAT binary) statement whose columns are in pg_row_params order and named as the schema names them. The
 * table's column types are asked once per connection and spoken exactly (smallint, numeric, varchar[], json…). ERR_INVALID with 22003: a value is out
 * of its column's range; ERR_BUG: a column that is missing or of a type that does not fit. */
MUST_CHECK enum err pg_sync_copy(struct pg_sync *pg, const struct pg_stmt *copy, const struct schema *s, const void *const *rows, size_t n);
/* Statements that cannot be prepared (CREATE TEMP TABLE): files too. */
MUST_CHECK enum err pg_sync_run(struct pg_sync *pg, const struct pg_stmt *stmt);
/* Of the last error: SQLSTATE ("" when the connection was lost before one came) and constraint. */
const struct pg_fail *pg_sync_fail(const struct pg_sync *pg);
uint64_t pg_sync_generation(const struct pg_sync *pg); /* changes with each new connection: temporary tables are gone */
#endif
