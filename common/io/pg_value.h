/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values between our structs and PostgreSQL's binary format, by field table. For common/io's PostgreSQL files only.
 *
 * Parameters are sent with their own type, so the server casts them as an assignment would: INT to smallint, TEXT to varchar.
 * DECIMAL and MONEY are hundredths in bigint columns. A numeric column is read too, when it has no more than two decimals, but only
 * the binary COPY writes one: it looks at the columns' types.
 */
#ifndef S24_IO_PG_VALUE_H
#define S24_IO_PG_VALUE_H

#include <libpq-fe.h>

#include "base/buf.h"
#include "io/pg.h"

#define PG_EPOCH_US INT64_C(946684800000000) /* 2000-01-01 from 1970, as PostgreSQL counts */
#define PG_EPOCH_DAYS 10957
#define PG_ROWS_MAX 100000 /* of one answer */
#define PG_PARAMS_MAX 256

/* Parameters as libpq takes them; memory is the arena's, texts are still the caller's. */
struct pg_wire {
	int n;
	Oid *types;
	const char **values;
	int *lengths;
	int *formats;
};

/* ERR_INVALID: a value outside its type's range, as the server would say. */
MUST_CHECK enum err pg_wire_encode(struct pg_params params, struct arena *arena, struct pg_wire *ret_wire);

/* Rows as structs of `out`. Takes the result: it is cleared, or kept by the arena while texts point into it. ERR_BUG: a column that is no field or
 * of a type that does not fit; ERR_CORRUPT: a value that does not fit; ERR_TOO_LARGE: more than PG_ROWS_MAX. */
MUST_CHECK enum err pg_rows_decode(PGresult *res, const struct schema *out, struct arena *arena, struct list *ret_rows);
/* The first row into `to`. ERR_NOT_FOUND: none; ERR_BUG: several. */
MUST_CHECK enum err pg_row_decode(PGresult *res, const struct schema *out, struct arena *arena, void *to);

/* Columns of a stored row in pg_row_params order: id, school_id, fields…, version, created_at, updated_at, deleted_at. */
size_t pg_row_width(const struct schema *s);
const struct field *pg_row_column(const struct schema *s, size_t i);
/* One cell of a binary COPY, length included, as a column of `type` wants it. ERR_BUG: no such pair; ERR_INVALID: out of range. */
MUST_CHECK enum err pg_cell_encode(const struct schema *s, size_t i, Oid type, const void *row, struct buf *out);

#endif
