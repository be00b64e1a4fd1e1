/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The document store port (architecture.md 9): collections of JSON documents with versions. Two drivers pass the same conformance tests:
 * docstore_pg.c (JSONB in PostgreSQL, the embedded default) and docstore_mongo.c (mongo-c-driver in the work pool). Every call is confined to
 * one school (`school` is part of the key and of every filter). Documents are JSON objects as text; "_id", "school_id", "v", "deleted_at" and "_expire"
 * are the store's. What comes back is the same object, not the same text: white space, order of members and spelling of numbers may differ.
 *
 * Both drivers mean the same by a path: it goes through arrays (any element counts), what is missing equals null, and values are compared only with
 * values of their own kind. Sort and unique paths hold scalars; sorted are null and missing, numbers, strings by bytes, then booleans.
 *
 * Errors: ERR_INVALID: a name, path, document, value or cursor that cannot be (nothing was done); ERR_TOO_LARGE; ERR_DB: the server is away or
 * refuses; ERR_TIMEOUT, ERR_CANCELLED, ERR_OVERLOAD.
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
/* Does the server answer? ERR_DB: it does not; ERR_TIMEOUT, ERR_CANCELLED, ERR_OVERLOAD say nothing about it. */
SUSPENDS MUST_CHECK enum err docstore_ping(struct docstore *s, struct deadline d);

struct doc {
	struct uuid id;
	int64_t version;
	struct str json; /* {NULL,0} in an upsert: a tombstone */
};
enum doc_outcome { DOC_APPLIED = 0, DOC_NEWER /* the stored version is the same or newer: done */, DOC_REFUSED /* a unique index */ };

struct doc_scope {
	struct uuid school;
	struct arena *arena;
	struct deadline deadline;
};

#define DOC_SIZE_MAX (1u << 20)
#define DOC_BATCH_MAX 1000                  /* documents of one call */
#define DOC_BATCH_SIZE_MAX (16u << 20)      /* their bytes together */
/* May it be stored? A JSON object within the bounds whose keys are plain (no $ in front, no dot, no backslash, none of the store's, none twice) and whose
 * numbers fit 64 bits or a double. A service asks before it buffers a document: the worker's refusal comes too late. ERR_INVALID, ERR_TOO_LARGE. */
MUST_CHECK enum err doc_check(struct str json);

/* Each document for itself: outcomes[i] tells. An error means that nothing is known of those without an outcome: call again. */
SUSPENDS MUST_CHECK enum err docstore_upsert_many(struct docstore *s, const struct doc_scope *scope, const char *collection,
						  const struct doc *docs, size_t n, enum doc_outcome *outcomes);
SUSPENDS MUST_CHECK enum err docstore_get(struct docstore *s, const struct doc_scope *scope, const char *collection, struct uuid id,
					  struct doc *ret); /* ERR_NOT_FOUND */
SUSPENDS MUST_CHECK enum err docstore_delete(struct docstore *s, const struct doc_scope *scope, const char *collection, struct uuid id,
					     int64_t version);

enum doc_op { DOC_EQ, DOC_IN, DOC_GT, DOC_GTE, DOC_LT, DOC_LTE, DOC_TEXT /* any of the words, over the collection's text index; `path` is not looked at */ };
struct doc_cond {
	const char *path; /* "difficulty", "options.text": letters, digits, _ and dots only */
	enum doc_op op;
	struct str value; /* JSON: a scalar (number or string for GT to LTE); DOC_IN: an array of at most 500; DOC_TEXT: a string */
};
struct doc_find {
	const struct doc_cond *conds;
	size_t n_conds;    /* at most 16, one of them DOC_TEXT */
	const char *sort; /* one path, or NULL: by id */
	bool descending;
	size_t limit;      /* 1 to 500 */
	struct str cursor; /* of the page before; empty: from the start */
};
/* A page goes on behind the cursor's document whatever was inserted meanwhile. ERR_INVALID too when the page ends at a sort value that is no scalar or
 * longer than 1 KiB, for then there is no going on. */
SUSPENDS MUST_CHECK enum err docstore_find(struct docstore *s, const struct doc_scope *scope, const char *collection,
					   const struct doc_find *find, struct list *ret_docs /* struct doc */, struct str *ret_cursor /* empty: no more */);

/* Removes what nobody can find any more: tombstones older than `older_s`, at least a week in PostgreSQL (no flush may meet them any more), and what has
 * expired. Of all schools of the service. */
SUSPENDS MUST_CHECK enum err docstore_sweep(struct docstore *s, int64_t older_s, struct deadline d, int64_t *ret_removed);

struct doc_index {
	const char *collection, *name;
	const char *paths[4];
	bool unique;      /* within a school; a document that lacks one of the paths is not bound */
	bool text;        /* one of a collection */
	int64_t expire_s; /* after the RFC 3339 time at the one path, one of a collection; 0: never. What has expired is no longer found. */
};
/* Idempotent; at start, before the first document. ERR_CONFLICT: the name is another index's, or a second text or expiry index. */
SUSPENDS MUST_CHECK enum err docstore_create_index(struct docstore *s, const struct doc_index *index, struct deadline d);

#endif
