/* SPDX-License-Identifier: Apache-2.0 */
/* Which document store a daemon has, and whether it answers. */
#include "svc/documents.h"

#include "base/log.h"
#include "io/fiber.h"
#include "svc/daemon.h"
#include "svc/metrics.h"
#include "svc/req.h"

#define LOOK_MS 2000
#define PING_MS 5000
/* Beyond that a request would wait longer than for its answer. */
#define QUEUE_MAX 256

static bool in_mongo(const struct daemon *d)
{
	return d->documents.work != NULL;
}

struct doc_scope docs_scope(const struct req *req)
{
	return (struct doc_scope){.school = req->who.school_id, .arena = req->arena, .deadline = req->deadline};
}

struct docstore *daemon_documents(const struct daemon *d)
{
	return d->documents.store;
}

enum err documents_open(struct daemon *d)
{
	const struct settings *s = &d->settings;
	const char *name = d->service->name;

	if ((d->service->flags & SERVICE_DOCUMENTS) == 0)
		return OK;
	if (s->mongo_uri[0] == '\0')
		return docstore_open_pg(d->pg, name, &d->documents.store);
	/* A pool of its own: a slow MongoDB must not keep files waiting. Each thread has at most one connection. */
	d->documents.work = work_pool_new(d->loop, "documents", (unsigned)s->mongo_pool_size, QUEUE_MAX);
	d->documents.up = true; /* until the first look says otherwise */
	return docstore_open_mongo(d->loop, d->documents.work, s->mongo_uri, name, &d->documents.store);
}

SUSPENDS static void watch_fiber(void *arg)
{
	struct daemon *d = arg;
	enum err e;
	bool up;

	d->documents.watch = fiber_self();
	while (!d->documents.closing) {
		e = docstore_ping(d->documents.store, deadline_in(d->loop, PING_MS));
		/* A full pool says nothing about the server. */
		up = e == OK || e == ERR_OVERLOAD || e == ERR_CANCELLED;
		if (up != d->documents.up)
			log_at(up ? LOG_INFO : LOG_WARN, up ? "MongoDB answers" : "MongoDB is away", LOG_END);
		d->documents.up = up;
		if (sleep_ms(d->loop, LOOK_MS, (struct deadline){INT64_MAX}) != OK)
			break;
	}
	d->documents.watch = NULL;
}

enum err documents_start(struct daemon *d)
{
	return in_mongo(d) ? fiber_spawn(d->loop, "documents", watch_fiber, d) : OK;
}

void documents_cancel(struct daemon *d)
{
	d->documents.closing = true; /* for a fiber that has not run yet */
	if (d->documents.watch != NULL)
		fiber_cancel(d->documents.watch);
}

void documents_close(struct daemon *d)
{
	d->documents.store = docstore_close(d->documents.store);
	d->documents.work = work_pool_free(d->documents.work);
}

bool documents_away(const struct daemon *d)
{
	return in_mongo(d) && !d->documents.up;
}

/* clang-format off */
#define DOCUMENT_METRICS(X)                                                                                          \
	X("schools24_documents_up", "gauge", "1 while the MongoDB server answers.", d->documents.up)                     \
	X("schools24_documents_work_queued", "gauge", "Calls of the document store that wait for a thread.", w.queued)   \
	X("schools24_documents_work_running", "gauge", "Calls of the document store on a thread.", w.running)            \
	X("schools24_documents_work_done_total", "counter", "Calls of the document store that were done.", w.done)       \
	X("schools24_documents_work_refused_total", "counter", "Calls refused because the queue was full.", w.refused)
/* clang-format on */

void documents_metrics(const struct daemon *d, struct buf *out)
{
	struct work_stats w;

	if (!in_mongo(d))
		return; /* the embedded store's calls are the database pool's */
	w = work_stats(d->documents.work);
#define PUT_METRIC(name, type, help, value)  \
	metrics_head(out, name, type, help); \
	metrics_put_i64(out, name, (int64_t)(value), NULL);
	DOCUMENT_METRICS(PUT_METRIC)
#undef PUT_METRIC
}
