/* SPDX-License-Identifier: Apache-2.0 */
/* Between checked JSON and BSON, and the filters of the document store. For docstore_mongo.c only; runs on pool threads. */
#ifndef S24_IO_MONGO_BSON_H
#define S24_IO_MONGO_BSON_H

#include <bson/bson.h>

#include "io/docstore_driver.h"

#define MONGO_ID_SIZE 32 /* school and id: a school's ids cannot meet another's, and sort like the ids */

void mongo_id(struct uuid school, struct uuid id, uint8_t to[MONGO_ID_SIZE]);
/* Appends {name: <value>} of one JSON value. False: it is beyond what BSON has. */
bool mongo_append_json(bson_t *to, const char *name, struct str value);
/* Appends a stored document's own members to JSON, without the store's. False: a type that JSON text never made. */
bool mongo_put_document(struct buf *out, const bson_t *stored);
/* The JSON at a path; "null" when there is nothing, or no path. */
bool mongo_put_path(struct buf *out, const bson_t *stored, const char *path);

/* {_id, school_id, v, deleted_at | the document's members, _expire}; expire_path may be NULL. */
bool mongo_document(bson_t *to, struct uuid school, const struct doc *doc, int64_t now_us, const char *expire_path,
		    int64_t expire_s);
/* When the document expires, as milliseconds. False: never. */
bool mongo_expiry(const bson_t *stored, const char *path, int64_t expire_s, int64_t *ret_ms);
/* What is alive in the school: the start of every filter. */
void mongo_living(bson_t *filter, struct uuid school, int64_t now_us);
bool mongo_filter(bson_t *filter, struct uuid school, int64_t now_us, const struct doc_find *find, const struct doc_after *after,
		  struct arena *arena);
void mongo_sort(bson_t *to, const struct doc_find *find);

#endif
