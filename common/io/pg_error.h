/* SPDX-License-Identifier: Apache-2.0 */
/* What a SQLSTATE means to us. For common/io's PostgreSQL files only. */
#ifndef S24_IO_PG_ERROR_H
#define S24_IO_PG_ERROR_H

#include <libpq-fe.h>

#include "io/pg.h"

enum err pg_error_of_state(const char *sqlstate);
/* Of a failed result: SQLSTATE and constraint, never the message, which may quote data. */
enum err pg_error_of_result(const PGresult *res, struct pg_fail *ret_fail);
void pg_error_set(struct pg_fail *fail, const char *sqlstate);

bool pg_error_is_contention(const char *sqlstate); /* serialization, deadlock: the same statement may succeed next time */
bool pg_error_is_stale(const char *sqlstate);      /* the prepared statement is gone or outdated: prepare it again */
bool pg_error_is_away(const char *sqlstate);       /* the server ends the connection or refuses to serve */

/* May the statement be repeated although its answer was lost? True for SELECT and VALUES, unless the file's first line says "writes". */
bool pg_stmt_reads(const struct pg_stmt *stmt);

#endif
