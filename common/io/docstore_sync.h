/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocking writes to MongoDB for the worker's threads: one client each, which connects when it is first used. The embedded store needs no such thing:
 * its documents_put is a statement for pg_sync.
 */
#ifndef S24_IO_DOCSTORE_SYNC_H
#define S24_IO_DOCSTORE_SYNC_H

#include "io/docstore.h"

struct docstore_sync;
MUST_CHECK enum err docstore_sync_open(const char *mongo_uri, struct docstore_sync **ret); /* ERR_INVALID: no such URI */
struct docstore_sync *docstore_sync_close(struct docstore_sync *s);

struct doc_batch {
	const char *service, *collection;
	struct uuid school;
	const struct doc *docs; /* doc_check has passed them */
	size_t n;
	bool append; /* insert only: what is there already is DOC_NEWER, whatever its version */
	struct arena *arena;
};
/* Each for itself, unordered, acknowledged by a majority's journals. Where the outcome is DOC_NEWER, versions[i] is the stored one. ERR_INVALID: one of
 * them was refused for a reason of its own, and the others are written or not; ERR_DB, ERR_TIMEOUT: nothing is known. Writing again is right always. */
MUST_CHECK enum err docstore_sync_upsert(struct docstore_sync *s, const struct doc_batch *b, enum doc_outcome *outcomes, int64_t *versions);

#endif
