/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rows of entities with a .collection go to the document store: MongoDB, or its stand-in in PostgreSQL. A struct flush_db over either, so that the turn is
 * the same. A document is written for itself (unordered, guarded by its version): in MongoDB there is no transaction, what a write has confirmed is
 * durable, and COMMIT has nothing left to do. A batch of several schools is a bulk for each.
 */
#ifndef S24_WORKER_FLUSH_DOCUMENTS_H
#define S24_WORKER_FLUSH_DOCUMENTS_H

#include "flush.h"
#include "io/docstore_sync.h"
#include "io/pg_sync.h"

struct flush_documents {
	struct docstore_sync *mongo; /* NULL: in PostgreSQL */
	struct pg_sync **pg;         /* the thread's connection, which reset may replace */
	const struct flush_db *rows; /* whose rollback, reset and fail serve the stand-in */
	const void *const *copied;
	size_t n;
	struct list stored; /* struct row_state: what MongoDB had already */
	struct pg_fail fail;
};
struct flush_db flush_documents_db(struct flush_documents *d);

#endif
