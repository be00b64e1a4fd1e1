/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The document store port (architecture.md 9): collections of JSON documents with versions. Two drivers pass the same conformance tests:
 * docstore_pg.c (JSONB in PostgreSQL, the embedded default) and docstore_mongo.c (mongo-c-driver in the work pool). Every call is confined to
 * one school (`school` is part of the key and of every filter). Documents are JSON objects as text; "_id", "school_id", "v" and "deleted_at" are the store's.
 */
#ifndef S24_IO_DOCSTORE_H
#define S24_IO_DOCSTORE_H

#include "base/arena.h"
#include "base/err.h"
#include "base/schema.h"
#include "io/pg.h"
#include "io/work.h"

struct docstore;
MUST_CHECK enum err docstore_open_pg(struct pg *pg, const char *service, struct docstore **ret); /* table <service>.documents, from a migration */
MUST_CHECK enum err docstore_open_mongo(struct loop *loop, struct work_pool *pool, const char *uri, const char *service, struct docstore **ret);
struct docstore *docstore_close(struct docstore *s);

struct doc {
	struct uuid id;
	int64_t version;
	struct str json; /* {NULL,0} in an upsert: a tombstone */
};
enum doc_outcome { DOC_APPLIED, DOC_NEWER /* the stored version is the same or newer: done */, DOC_REFUSED /* a unique index */ };

struct doc_scope {
	struct uuid school;
	struct arena *arena;
	struct deadline deadline;
};

/* Each document for itself: outcomes[i] tells. An error means that nothing is known of those without an outcome: call again. */
SUSPENDS MUST_CHECK enum err docstore_upsert_many(struct docstore *s, const struct doc_scope *scope, const char *collection,
						  const struct doc *docs, size_t n, enum doc_outcome *outcomes);
SUSPENDS MUST_CHECK enum err docstore_get(struct docstore *s, const struct doc_scope *scope, const char *collection, struct uuid id,
					  struct doc *ret); /* ERR_NOT_FOUND */
SUSPENDS MUST_CHECK enum err docstore_delete(struct docstore *s, const struct doc_scope *scope, const char *collection, struct uuid id,
					     int64_t version);

enum doc_op { DOC_EQ, DOC_IN, DOC_GT, DOC_GTE, DOC_LT, DOC_LTE, DOC_TEXT /* words, full text over the text index */ };
struct doc_cond {
	const char *path; /* "difficulty", "options.text": letters, digits, _ and dots only */
	enum doc_op op;
	struct str value; /* JSON: a scalar; DOC_IN: an array; DOC_TEXT: a string */
};
struct doc_find {
	const struct doc_cond *conds;
	size_t n_conds;
	const char *sort; /* one path, or NULL: by id */
	bool descending;
	size_t limit;      /* 1 to 500 */
	struct str cursor; /* of the page before; empty: from the start */
};
SUSPENDS MUST_CHECK enum err docstore_find(struct docstore *s, const struct doc_scope *scope, const char *collection,
					   const struct doc_find *find, struct list *ret_docs /* struct doc */, struct str *ret_cursor /* empty: no more */);

struct doc_index {
	const char *collection, *name;
	const char *paths[4];
	bool unique, text;
	int64_t expire_s; /* on one time path; 0: never */
};
SUSPENDS MUST_CHECK enum err docstore_create_index(struct docstore *s, const struct doc_index *index, struct deadline d); /* idempotent */

#endif
