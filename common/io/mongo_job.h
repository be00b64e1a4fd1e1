/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs of the document store on MongoDB: what docstore_mongo.c (pool, reads) and mongo_write.c (writes, indexes) share. */
#ifndef S24_IO_MONGO_JOB_H
#define S24_IO_MONGO_JOB_H

#include <mongoc/mongoc.h>
#include <pthread.h>

#include "base/timefmt.h"
#include "io/mongo_bson.h"

#define MONGO_REGISTRY "schools24_indexes" /* what create_index was told, for the other processes */
#define EXPIRY_KNOWN_US (60 * US_PER_S)
#define EXPIRIES_MAX 64 /* collections whose expiry is remembered */
#define DUPLICATE_KEY 11000
#define MAX_TIME_EXPIRED 50

struct mongo_expiry {
	char collection[64], path[129]; /* path "": none */
	int64_t expire_s, read_at_us;
};

struct docstore_mongo {
	struct docstore port;
	struct loop *loop;
	struct work_pool *pool;
	mongoc_client_pool_t *clients;
	char *database;
	unsigned refs; /* on the loop: the owner and each job */
	pthread_mutex_t lock;
	struct mongo_expiry expiries[EXPIRIES_MAX]; /* under the lock */
	size_t n_expiries;
};

struct mongo_job {
	struct docstore_mongo *s;
	struct arena *arena;
	enum err (*fn)(struct mongo_job *j, mongoc_client_t *client);
	void (*collect)(struct mongo_job *j, void *to);
	struct uuid school;
	bool ok; /* fn succeeded */
	const char *collection;
	int64_t now_us, budget_ms;
	/* upsert */
	struct doc *docs;
	size_t n;
	enum doc_outcome *outcomes;
	bool append; /* insert only: whatever stands there already is it */
	bool *duplicate;
	int64_t *stored_v;
	/* get, find */
	struct uuid id;
	struct doc_find find;
	struct doc_after after;
	struct doc_page page;
	/* sweep */
	int64_t before_ms, removed;
	/* index */
	struct doc_index index;
	size_t n_paths;
};

struct mongo_job *mongo_job_new(struct docstore *port, enum err (*fn)(struct mongo_job *, mongoc_client_t *),
				const char *collection, struct deadline d);
/* Runs and gives the job away. collect(job, to) is called on the loop, and only after fn returned OK. */
SUSPENDS enum err mongo_job_run(struct mongo_job *j, void (*collect)(struct mongo_job *j, void *to), void *to, struct deadline d);

void mongo_library(void); /* once, before the first client */
struct mongo_waits {
	int32_t selection_ms, connect_ms, socket_ms;
};
mongoc_uri_t *mongo_uri_of(const char *text, struct mongo_waits waits); /* majority, journal, 10 s; NULL: no URI */

/* On pool threads: */
enum err mongo_upsert_now(struct mongo_job *j, mongoc_client_t *client); /* docs, n, outcomes, duplicate, stored_v are there */
mongoc_collection_t *mongo_collection_of(struct mongo_job *j, mongoc_client_t *client, const char *name);
enum err mongo_fault_of(const bson_error_t *error);
/* Calls `each` for every document found; it returns false for one that cannot be read: ERR_CORRUPT. */
enum err mongo_find_each(mongoc_collection_t *c, const bson_t *filter, const bson_t *opts,
			 bool (*each)(void *ctx, const bson_t *doc), void *ctx);

SUSPENDS enum err mongo_upsert(struct docstore *port, const struct doc_scope *scope, const char *collection,
			       const struct doc *docs, size_t n, enum doc_outcome *outcomes);
SUSPENDS enum err mongo_create_index(struct docstore *port, const struct doc_index *index, size_t n_paths, struct deadline d);

#endif
