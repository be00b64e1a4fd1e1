/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The document store of a daemon with SERVICE_DOCUMENTS (io/docstore.h): in PostgreSQL, or in MongoDB when S24_MONGO_URI is set. The service
 * does not see which.
 *
 *	struct doc_scope scope = docs_scope(req);
 *	e = docstore_get(daemon_documents(req->daemon), &scope, "questions", id, &doc);
 *
 * The embedded store needs `SELECT common.create_documents('<service>');` in the service's migration. Indexes are made by start(), or on its fiber.
 */
#ifndef S24_SVC_DOCUMENTS_H
#define S24_SVC_DOCUMENTS_H

#include "io/docstore.h"

struct buf;
struct daemon;
struct req;

/* The caller's school, the request's arena and deadline. Platform staff have no school: a call with their scope is ERR_INVALID. */
struct doc_scope docs_scope(const struct req *req);

/* ---- for the kit ---- */
MUST_CHECK enum err documents_open(struct daemon *d);  /* after the database's pool; nothing when the service has no documents */
MUST_CHECK enum err documents_start(struct daemon *d); /* looks at a MongoDB server now and then */
void documents_cancel(struct daemon *d);
void documents_close(struct daemon *d); /* before the database's pool, when no fiber is left */
/* A MongoDB server that does not answer. The embedded store is away when the database is, and that is told by its own name. */
bool documents_away(const struct daemon *d);
void documents_metrics(const struct daemon *d, struct buf *out);

#endif
