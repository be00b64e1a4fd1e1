/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A daemon: one const struct and one call.
 *
 *	static const struct service homework = {
 *		.name = "homework", .routes = homework_routes, .entities = homework_entities, .entity_sql = homework_entity_sql,
 *		.events = homework_events, .uses = {"auth"}, .flags = SERVICE_STORAGE };
 *	int main(int argc, char **argv) { return service_main(argc, argv, &homework); }
 *
 * service_main: options --config FILE, --check-config, --print-routes, --print-entities, --print-openapi, --version, --help; exit 0, 1 (failed), 2 (wrong
 * configuration or tables; every problem is printed). Reads configuration, checks the tables, connects (in the background), listens, is ready,
 * and on SIGTERM drains: /ready fails, S24_DRAIN_WAIT_MS later no new connection, requests in flight finish (10 s), then exit 0.
 *
 * To add a service: tools/new-service NAME.
 */
#ifndef S24_SVC_SERVICE_H
#define S24_SVC_SERVICE_H

#include "base/conf.h"
#include "io/docstore.h"
#include "io/http_client.h"
#include "io/pg.h"
#include "io/redis.h"
#include "io/storage.h"
#include "io/work.h"
#include "cache/cache.h"
#include "svc/cache_warm.h"
#include "svc/entity.h"
#include "svc/route.h"

struct daemon;

/* What a write says to the others (architecture.md 8). A row applies when `entity` is created, updated or deleted through the kit and one of
 * `fields` changed (NULL: any). The envelope goes to stream events:<service> in the same PUT, and to the channel. */
enum event_on { ON_CREATE = 1, ON_UPDATE = 2, ON_DELETE = 4 };
struct event_row {
	const char *type;    /* "homework.assigned": org.schools24.homework.assigned.v1, channel homework:assigned; NULL ends */
	const struct entity *entity;
	unsigned on;
	const char *fields[8];
	const char *data[12]; /* fields of the row that go into `data` */
};
/* What it listens to: channel of another daemon's event. */
struct listen_row {
	const char *channel; /* NULL ends */
	SUSPENDS enum err (*handle)(struct daemon *d, struct str envelope); /* NULL: there are .tags */
	/* Answers kept by this daemon that the event makes untrue, by members of its data, a list's each, or its subject: "class:{class_id}",
	 * "student:{student_ids}", "user:{subject}", "table:auth.students". Raised before the handler is called. */
	const char *tags[TAGS_MAX];
};

enum {
	SERVICE_STORAGE = 1,   /* needs STORAGE_URL */
	SERVICE_NO_BUFFER = 2, /* never writes through the buffer */
	SERVICE_NO_PG = 4,
	SERVICE_CACHE_ADMIN = 16, /* serves the public paths of the caches' administration: one daemon of all */
	SERVICE_DOCUMENTS = 8, /* JSON documents: daemon_documents, svc/documents.h */
};

struct service {
	const char *name;
	const struct route *routes;            /* ends with ROUTE_END */
	const struct entity *const *entities;  /* ends with NULL; may be NULL */
	const struct entity_sql *entity_sql;   /* same order */
	const struct event_row *events;
	const struct listen_row *listens;
	const struct cache_edge *cache_edges;  /* what its kept answers depend on beside their own tags (cache.h); ends with .from NULL */
	const struct warm_row *warms;          /* answers made before somebody asks (cache_warm.h); ends with .name NULL */
	const char *uses[8];                   /* peers it calls */
	const char *used_by[12];               /* peers whose service token its internal routes accept */
	unsigned flags;
	/* SERVICE_STORAGE: $1 keys text[] → key of each that a row of the school names, deleted rows too. Once a day files that no row has
	 * named for a day are removed (sweep.h). NULL: files stay. */
	const struct pg_stmt *named_files;
	const struct conf_row *conf;           /* the service's own settings */
	size_t conf_size;                      /* of the struct that they fill: daemon_conf(d) */
	enum err (*start)(struct daemon *d);   /* before it listens; may be NULL */
	void (*stop)(struct daemon *d);
	SUSPENDS enum err (*ready)(struct daemon *d, struct buf *why); /* more conditions of /ready; may be NULL */
	void (*metrics)(struct daemon *d, struct buf *out);            /* more lines of /metrics; may be NULL */
	/* More command line words ("--service-token NAME"): returns the exit code, or -1 when the word is not its own. */
	int (*command)(struct daemon *d, int argc, char **argv);
};

int service_main(int argc, char **argv, const struct service *service);

/* What handlers and hooks may reach of the running daemon. */
struct loop *daemon_loop(const struct daemon *d);
const struct service *daemon_service(const struct daemon *d);
void *daemon_conf(const struct daemon *d);
struct pg *daemon_pg(const struct daemon *d);
struct redis *daemon_buffer(const struct daemon *d); /* the first write buffer: for what belongs to no school; req_buffer has a school's */
size_t daemon_buffers(const struct daemon *d);
struct redis *daemon_buffer_at(const struct daemon *d, size_t i);
const char *daemon_buffer_name(const struct daemon *d, size_t i);
struct redis *daemon_cache(const struct daemon *d);
struct cache *daemon_caches(const struct daemon *d); /* the engine over it; NULL without a cache */
struct storage *daemon_storage(const struct daemon *d);
struct docstore *daemon_documents(const struct daemon *d); /* NULL without SERVICE_DOCUMENTS */
struct work_pool *daemon_work(const struct daemon *d);   /* files */
struct http_client *daemon_http(const struct daemon *d);
void *daemon_state(const struct daemon *d);               /* the service's own, set by start() */
void daemon_set_state(struct daemon *d, void *state);
enum codec daemon_codec(const struct daemon *d);           /* of the write buffer's records */
const char *daemon_durability(const struct daemon *d);     /* "memory", "aof", "replicated": what the worker has verified, the weakest of all buffers */
const char *daemon_durability_at(const struct daemon *d, size_t i); /* of one buffer */
const char *daemon_env(const struct daemon *d);           /* SCHOOLS24_ENV: development, test, production */

/* A call to a declared peer's internal listener, with the service token and the caller's user passed along. */
SUSPENDS MUST_CHECK enum err peer_call(struct req *req, const char *service, enum http_method method, const char *target, struct str body,
				       struct http_reply *ret);

#endif
