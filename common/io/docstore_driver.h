/* SPDX-License-Identifier: Apache-2.0 */
/* What docstore.c asks of a driver. Names, paths, documents, values and bounds have been checked. For common/io's docstore files only. */
#ifndef S24_IO_DOCSTORE_DRIVER_H
#define S24_IO_DOCSTORE_DRIVER_H

#include "io/docstore.h"

/* The last document of the page before. */
struct doc_after {
	bool set;
	struct uuid id;
	struct str key; /* JSON scalar at the sort path */
};

/* One document more than the page holds, if there is one; keys[i] is the JSON at the sort path ("null" without one). */
struct doc_page {
	struct doc *docs;
	struct str *keys;
	size_t n;
};

struct docstore_driver {
	void (*close)(struct docstore *s);
	SUSPENDS enum err (*sweep)(struct docstore *s, int64_t older_s, struct deadline d, int64_t *ret_removed);
	SUSPENDS enum err (*ping)(struct docstore *s, struct deadline d);
	SUSPENDS enum err (*upsert)(struct docstore *s, const struct doc_scope *scope, const char *collection,
				    const struct doc *docs, size_t n, enum doc_outcome *outcomes);
	SUSPENDS enum err (*get)(struct docstore *s, const struct doc_scope *scope, const char *collection, struct uuid id,
				 struct doc *ret);
	SUSPENDS enum err (*find)(struct docstore *s, const struct doc_scope *scope, const char *collection,
				  const struct doc_find *find, const struct doc_after *after, struct doc_page *ret);
	SUSPENDS enum err (*create_index)(struct docstore *s, const struct doc_index *index, size_t n_paths, struct deadline d);
};

struct docstore {
	const struct docstore_driver *driver; /* first member of each driver's own */
};

#endif
