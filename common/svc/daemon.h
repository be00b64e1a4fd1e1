/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The running daemon, for the files of common/svc alone: services use the accessors of service.h.
 *
 * Life: daemon_load (configuration, tables) → daemon_open (connects in the background, listens) → loop_run → daemon_close. Opened top down, closed
 * bottom up, and closing copes with whatever was never opened.
 */
#ifndef S24_SVC_DAEMON_H
#define S24_SVC_DAEMON_H

#include "io/http.h"
#include "svc/router.h"
#include "svc/service.h"
#include "svc/settings.h"
#include "svc/write_counts.h"

#define SERVICE_VERSION "0.1.0"

enum daemon_state { DAEMON_STARTING, DAEMON_SERVING, DAEMON_DRAINING };

#define DAEMON_RELOADS_MAX 4

/* One of the two listeners: for people (through the gateway), and for probes, metrics and the other daemons. */
struct side {
	struct daemon *daemon;
	struct router *router;
	struct http_listener listener;
	struct http_server *server;
};

struct daemon {
	const struct service *service;
	struct settings settings;
	void *conf;            /* the service's own settings */
	const char *conf_path; /* --config; NULL */
	struct arena *arena;   /* lives as long as the daemon */
	void *state_of_service;

	struct loop *loop;
	struct work_pool *work;
	struct storage *storage;
	struct http_client *http;
	struct pg *pg;
	struct buffers *buffers; /* buffers.c; NULL: none */
	struct redis *cache;
	struct cache *caches; /* the engine on it; NULL: without */
	struct cache_health *health; /* NULL: without an engine */
	struct warm *warm;           /* cache_warm.h; NULL: nothing to warm */
	struct {
		struct docstore *store;
		struct work_pool *work; /* MongoDB's; NULL: the store is embedded */
		bool up, closing;
		struct fiber *watch;
	} documents; /* documents.c */
	struct {
		struct fiber *fiber;
		bool closing;
		int64_t runs, files, documents, skipped;
	} sweep; /* sweep.c */

	struct side people, admin;

	void *authn;             /* authn.c */
	struct write_counts writes;
	struct query_stats *queries; /* cache_query_stats.c; NULL: no statement was kept yet */
	struct through *through; /* through_group.c */
	struct degraded *degraded; /* writes that go to the database because the buffer is away, and what they leave behind (degraded.c) */

	enum daemon_state state;
	bool drained;
	struct timer drain_timer, hard_timer;
	struct listen *listen;
	struct cache_repeat *repeat; /* cache_events.c */

	uint8_t boot[8];     /* request ids: this process … */
	uint64_t n_requests; /* … and this one */
	size_t live;         /* requests between head and done */
	int64_t started_us;
	struct str openapi; /* made at its first request */

	void (*reload[DAEMON_RELOADS_MAX])(struct daemon *d);
	size_t n_reload;
};

/* Configuration from file and environment, tables checked; nothing is opened. Problems are appended, a line each. ERR_INVALID. */
MUST_CHECK enum err daemon_load(struct daemon *d, const struct service *service, const char *conf_path, struct buf *problems);
MUST_CHECK enum err daemon_open(struct daemon *d); /* what failed has been logged */
void daemon_run(struct daemon *d);                 /* until drained */
void daemon_drain(struct daemon *d);               /* what SIGTERM does */
void daemon_close(struct daemon *d);
void daemon_on_reload(struct daemon *d, void (*fn)(struct daemon *d)); /* SIGHUP: keys, levels */
const struct settings *daemon_settings(const struct daemon *d);
/* Tables of settings as text, for --help. */
void daemon_help(const struct service *service, struct buf *out);

#endif
