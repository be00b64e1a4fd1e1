/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a daemon: what it opens, in which order, how it drains and closes. */
#include "svc/daemon.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/str.h"
#include "base/timefmt.h"
#include "base/uuid.h"
#include "cache/cache.h"
#include "cache/cache_index.h"
#include "io/fiber.h"
#include "io/loop.h"
#include "io/yaml.h"
#include "svc/authn.h"
#include "svc/buffers.h"
#include "svc/cache_events.h"
#include "svc/cache_health.h"
#include "svc/cache_warm.h"
#include "svc/documents.h"
#include "svc/kit.h"
#include "svc/listen.h"
#include "svc/sweep.h"
#include "svc/through.h"

#define HARD_STOP_MS 10000
#define WORK_THREADS 4
#define WORK_QUEUE 256
#define PEER_CONNECTIONS 32

/* ---- configuration ---- */

static bool is_known(const struct service *service, struct str key)
{
	return conf_knows(settings_rows, key) || (service->conf != NULL && conf_knows(service->conf, key));
}

enum err daemon_load(struct daemon *d, const struct service *service, const char *conf_path, struct buf *problems)
{
	struct conf_pair *pairs = NULL;
	size_t n = 0, before = problems->n;

	d->service = service;
	d->conf_path = conf_path;
	if (d->arena == NULL)
		d->arena = arena_new();
	IGNORE(table_check(service, problems)); /* told by problems, as all the others below */
	if (conf_path != NULL)
		IGNORE(yaml_load(conf_path, d->arena, &pairs, &n, problems));
	for (size_t i = 0; i < n; i++)
		if (!is_known(service, pairs[i].key))
			buf_printf(problems, "%s:%d: unknown setting \"%.*s\"\n", conf_path, pairs[i].line,
				   STR_FMT(pairs[i].key));
	IGNORE(conf_load(settings_rows, &d->settings, pairs, n, d->arena, problems));
	if (service->conf != NULL) {
		d->conf = arena_zalloc(d->arena, service->conf_size);
		IGNORE(conf_load(service->conf, d->conf, pairs, n, d->arena, problems));
	}
	if (problems->n != before)
		return ERR_INVALID;
	return settings_finish(&d->settings, service, d->arena, problems);
}

void daemon_help(const struct service *service, struct buf *out)
{
	conf_help(settings_rows, out);
	if (service->conf != NULL)
		conf_help(service->conf, out);
}

/* ---- opening ---- */

static enum err failed(const char *what, enum err e)
{
	if (e != OK)
		log_error("cannot start", LOG_S("what", what), LOG_E(e));
	return e;
}

static enum err open_caches(struct daemon *d)
{
	const struct settings *s = &d->settings;
	const struct cache_conf conf = {.url = s->cache_url,
					.env = s->env,
					.service = d->service->name,
					.redis = d->cache,
					.timeout_ms = s->cache_timeout_ms,
					.memory_bytes = (size_t)s->cache_memory_mb << 20,
					.codec = s->codec,
					.jitter_percent = (unsigned)s->cache_jitter_percent,
					.edges = d->service->cache_edges};
	enum err e = cache_open(d->loop, &conf, &d->caches);

	return e != OK ? e : cache_sweeper_start(d->caches);
}

static enum err open_stores(struct daemon *d)
{
	const struct settings *s = &d->settings;
	struct redis_conf cache = {.name = "cache",
				   .url = s->cache_url,
				   .connections = s->cache_connections,
				   .fault = ERR_CACHE,
				   .connect_ms = 1000,
				   .grace_ms = 2000};
	struct pg_conf pg = {.url = s->database_url,
			     .connections = (unsigned)s->pg_connections,
			     .connect_ms = 3000,
			     .statement_ms = 5000,
			     .lock_ms = 2000};
	enum err e = OK;

	if (s->storage_url[0] != '\0')
		/* A folder of its own: the sweep asks only this service's rows. */
		e = failed("STORAGE_URL",
			   storage_open(d->loop, d->work, arena_printf(d->arena, "%s/%s", s->storage_url, d->service->name),
					&d->storage));
	if (e == OK)
		e = failed("REDIS_BUFFER_URLS", buffers_open(d));
	if (e == OK && s->cache_url[0] != '\0')
		e = failed("the cache's Redis", redis_open(d->loop, &cache, &d->cache));
	if (e == OK && d->cache != NULL && s->cache_enabled)
		e = failed("the cache", open_caches(d));
	if (e == OK && (d->service->flags & SERVICE_NO_PG) == 0)
		e = failed("DATABASE_URL", pg_open(d->loop, &pg, &d->pg));
	if (e == OK)
		e = failed("the document store", documents_open(d));
	if (e == OK)
		e = failed("the own events", cache_repeat_open(d, &d->repeat));
	return e != OK ? e : failed("subscriptions", listen_open(d, &d->listen));
}

static void build_routers(struct daemon *d)
{
	d->people.router = router_new();
	d->admin.router = router_new();
	router_add(d->people.router, &openapi_route);
	router_add(d->admin.router, &openapi_route);
	for (const struct route *r = admin_routes; r->path != NULL; r++)
		if (d->settings.prometheus || strcmp(r->path, "/metrics") != 0)
			router_add(d->admin.router, r);
	for (const struct route *r = d->service->routes; r != NULL && r->path != NULL; r++)
		router_add(route_is_internal(r) ? d->admin.router : d->people.router, r);
}

static enum err open_side(struct daemon *d, struct side *side, const char *name, const char *address)
{
	enum err e;

	side->daemon = d;
	side->listener = req_listener(side);
	e = http_server_open(d->loop, address, &side->listener, &http_limits_default, &side->server);
	if (e != OK)
		log_error("cannot listen", LOG_S("listener", name), LOG_S("address", address), LOG_E(e));
	return e;
}

/* ---- signals ---- */

static void on_term(void *ctx)
{
	daemon_drain(ctx);
}

static void on_hup(void *ctx)
{
	struct daemon *d = ctx;
	struct daemon fresh = {0};
	struct buf problems = {0};
	enum log_level level;

	/* What can change in a running daemon: the log level and the lifetimes of kept answers here, keys where their owner says so. */
	if (daemon_load(&fresh, d->service, d->conf_path, &problems) != OK) {
		log_warn("configuration not reloaded", LOG_STR("problems", buf_str(&problems)));
	} else {
		d->settings.cache_ttl = fresh.settings.cache_ttl;
		if (log_level_parse(fresh.settings.log_level, &level))
			log_setup(d->service->name, level);
	}
	arena_free(fresh.arena);
	buf_done(&problems);
	for (size_t i = 0; i < d->n_reload; i++)
		d->reload[i](d);
	log_info("reloaded");
}

void daemon_on_reload(struct daemon *d, void (*fn)(struct daemon *d))
{
	if (d->n_reload == DAEMON_RELOADS_MAX)
		abort();
	d->reload[d->n_reload++] = fn;
}

enum err daemon_open(struct daemon *d)
{
	enum log_level level = LOG_INFO;
	enum err e;

	IGNORE(log_level_parse(d->settings.log_level, &level)); /* checked at load */
	log_setup(d->service->name, level);
	random_bytes(d->boot, sizeof(d->boot));
	d->loop = loop_new();
	d->started_us = loop_mono_us(d->loop);
	d->work = work_pool_new(d->loop, "files", WORK_THREADS, WORK_QUEUE);
	d->http = http_client_new(d->loop, d->service->name, PEER_CONNECTIONS);
	e = open_stores(d);
	if (e == OK)
		e = failed("authentication", authn_open(d));
	if (e != OK)
		return e;
	build_routers(d);
	if (d->service->start != NULL)
		e = failed("the service", d->service->start(d));
	if (e == OK)
		e = buffers_watch(d);
	if (e == OK)
		e = documents_start(d);
	if (e == OK)
		e = failed("the cache's health", cache_health_open(d, &d->health));
	if (e == OK)
		e = failed("warming", cache_warm_open(d, &d->warm));
	if (e == OK)
		e = sweep_start(d);
	if (e == OK)
		e = open_side(d, &d->admin, "admin", d->settings.admin_listen);
	if (e == OK)
		e = open_side(d, &d->people, "people", d->settings.listen);
	if (e != OK)
		return e;
	loop_on_signal(d->loop, SIGTERM, on_term, d);
	loop_on_signal(d->loop, SIGINT, on_term, d);
	loop_on_signal(d->loop, SIGHUP, on_hup, d);
	d->state = DAEMON_SERVING;
	log_info("listening", LOG_I("port", http_server_port(d->people.server)),
		 LOG_I("admin_port", http_server_port(d->admin.server)), LOG_S("version", SERVICE_VERSION),
		 LOG_S("env", d->settings.env));
	return OK;
}

/* ---- draining ---- */

static void on_admin_idle(void *ctx)
{
	struct daemon *d = ctx;

	d->drained = true;
	loop_stop(d->loop);
}

/* Probes and peers are served until the last request of people has its answer. */
static void on_people_idle(void *ctx)
{
	struct daemon *d = ctx;

	http_server_drain(d->admin.server, on_admin_idle, d);
}

static void on_hard_stop(void *ctx)
{
	struct daemon *d = ctx;

	log_warn("requests were cut off", LOG_I("in_flight", d->live));
	loop_stop(d->loop);
}

static void on_drain_wait(void *ctx)
{
	struct daemon *d = ctx;

	timer_set(&d->hard_timer, d->loop, HARD_STOP_MS * US_PER_MS, on_hard_stop, d);
	http_server_drain(d->people.server, on_people_idle, d);
}

void daemon_drain(struct daemon *d)
{
	if (d->state == DAEMON_DRAINING)
		return;
	d->state = DAEMON_DRAINING;
	log_info("draining", LOG_I("in_flight", d->live), LOG_I("wait_ms", d->settings.drain_wait_ms));
	timer_set(&d->drain_timer, d->loop, d->settings.drain_wait_ms * US_PER_MS, on_drain_wait, d);
}

void daemon_run(struct daemon *d)
{
	loop_run(d->loop);
}

/* ---- closing ---- */

void daemon_close(struct daemon *d)
{
	if (d->loop != NULL) {
		timer_stop(&d->drain_timer);
		timer_stop(&d->hard_timer);
		buffers_cancel(d);
		documents_cancel(d);
		sweep_cancel(d);
		through_cancel(d);
		cache_warm_cancel(d->warm);
		cache_health_cancel(d->health);
		cache_close(d->caches); /* a service's stop waits for all fibers, the cache's too, and those that read streams */
		cache_repeat_close(d->repeat);
		listen_close(d->listen);
		if (d->people.server != NULL)
			http_server_close(d->people.server);
		if (d->admin.server != NULL)
			http_server_close(d->admin.server);
		if (d->service->stop != NULL && d->people.router != NULL)
			d->service->stop(d);
		authn_close(d);
		if (!fiber_drain(d->loop, deadline_in(d->loop, 2000))) {
			/* What they wait for must not be pulled from under them; the process ends anyway. */
			log_warn("fibers were left", LOG_I("fibers", fiber_stats().live));
			return;
		}
		d->listen = listen_free(d->listen);
		d->repeat = cache_repeat_free(d->repeat);
		through_close(d);
		documents_close(d);
		d->pg = pg_close(d->pg);
		d->warm = cache_warm_free(d->warm);
		d->health = cache_health_free(d->health);
		d->caches = cache_free(d->caches);
		d->cache = redis_close(d->cache);
		buffers_close(d);
		d->storage = storage_close(d->storage);
		d->http = http_client_free(d->http);
		d->work = work_pool_free(d->work);
		d->loop = loop_free(d->loop);
	}
	d->people.router = router_free(d->people.router);
	d->admin.router = router_free(d->admin.router);
	d->arena = arena_free(d->arena);
}

/* ---- accessors ---- */

struct loop *daemon_loop(const struct daemon *d)
{
	return d->loop;
}

const struct service *daemon_service(const struct daemon *d)
{
	return d->service;
}

void *daemon_conf(const struct daemon *d)
{
	return d->conf;
}

const struct settings *daemon_settings(const struct daemon *d)
{
	return &d->settings;
}

struct pg *daemon_pg(const struct daemon *d)
{
	return d->pg;
}

struct redis *daemon_cache(const struct daemon *d)
{
	return d->cache;
}

struct cache *daemon_caches(const struct daemon *d)
{
	return d->caches;
}

struct storage *daemon_storage(const struct daemon *d)
{
	return d->storage;
}

struct work_pool *daemon_work(const struct daemon *d)
{
	return d->work;
}

struct http_client *daemon_http(const struct daemon *d)
{
	return d->http;
}

void *daemon_state(const struct daemon *d)
{
	return d->state_of_service;
}

void daemon_set_state(struct daemon *d, void *state)
{
	d->state_of_service = state;
}

enum codec daemon_codec(const struct daemon *d)
{
	return d->settings.codec;
}

const char *daemon_env(const struct daemon *d)
{
	return d->settings.env;
}
