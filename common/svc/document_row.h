/* SPDX-License-Identifier: Apache-2.0 */
/* A row of an entity with a .collection as a document of the document store, and back: every field, hidden ones and those of single roles too. */
#ifndef S24_SVC_DOCUMENT_ROW_H
#define S24_SVC_DOCUMENT_ROW_H

#include "io/docstore.h"
#include "svc/entity.h"

/* The JSON of a row; of a deleted one {NULL, 0}, a tombstone. What is not set is null, as in a table. */
struct str document_of_row(const struct entity *e, const void *row, struct arena *arena);
/* A living document's row. ERR_CORRUPT: it is not what document_of_row made. */
MUST_CHECK enum err document_row(const struct entity *e, struct uuid school, const struct doc *doc, struct arena *arena, void **ret_row);

#endif
