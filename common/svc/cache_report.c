/* SPDX-License-Identifier: Apache-2.0 */
/* GET /cache/health and GET /cache/performance-report: one look as JSON, and what follows from it. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "base/timefmt.h"
#include "base/uuid.h"
#include "cache/cache_index.h"
#include "svc/cache_health.h"
#include "svc/cache_query.h"
#include "svc/cache_warm.h"
#include "svc/daemon.h"

#define TOP 10
#define CALL_MS 1000

/* ---- JSON ---- */

static void open_object(struct req *req, const char *name)
{
	req_json_key(req, name);
	buf_putc(&req->body, '{');
}

static void close_object(struct req *req)
{
	buf_putc(&req->body, '}');
}

static void put_number(struct req *req, const char *name, double value)
{
	req_json_key(req, name);
	buf_printf(&req->body, "%.3f", value);
}

static void put_count(struct req *req, const char *name, uint64_t value)
{
	req_json_int(req, name, (int64_t)value);
}

static void put_time(struct req *req, const char *name, int64_t at_us)
{
	char text[TIME_TEXT + 1];

	if (at_us == 0) {
		req_json_null(req, name);
		return;
	}
	time_text(at_us, text);
	req_json_text(req, name, str_of(text));
}

/* Members of an array stand behind each other. */
static void next_item(struct req *req)
{
	if (req->body.p[req->body.n - 1] != '[')
		buf_putc(&req->body, ',');
	buf_putc(&req->body, '{');
}

/* ---- alerts ---- */

static void put_alert(struct req *req, const struct health_alert *a, enum health_level level)
{
	next_item(req);
	req_json_text(req, "rule", str_of(a->rule->id));
	req_json_text(req, "severity", str_of(health_level_name(level)));
	req_json_text(req, "message",
		      str_of(arena_printf(req->arena, "%s: %.4g%s, the limit is %.4g%s", a->rule->what, a->value, a->rule->unit,
					  a->limit, a->rule->unit)));
	put_number(req, "value", a->value);
	put_number(req, "limit", a->limit);
	put_time(req, "since", a->since_us);
	put_time(req, "resolved", a->resolved_us);
	if (a->resolved_us != 0)
		put_number(req, "resolve_seconds", (double)(a->resolved_us - a->since_us) / 1e6);
	close_object(req);
}

static void put_alerts(struct req *req, const struct health_watch *w)
{
	size_t n = w->n_past < HEALTH_PAST ? w->n_past : HEALTH_PAST;

	open_object(req, "alerts");
	req_json_key(req, "active");
	buf_putc(&req->body, '[');
	for (size_t i = 0; health_rules[i].id != NULL; i++) {
		if (w->rules[i].level != HEALTH_OK)
			put_alert(req, &w->rules[i].alert, w->rules[i].level);
	}
	buf_putc(&req->body, ']');
	req_json_key(req, "past");
	buf_putc(&req->body, '[');
	for (size_t i = 1; i <= n; i++)
		put_alert(req, &w->past[(w->n_past - i) % HEALTH_PAST], w->past[(w->n_past - i) % HEALTH_PAST].level);
	buf_putc(&req->body, ']');
	close_object(req);
}

/* ---- /cache/health ---- */

static void put_redis_health(struct req *req, const struct health_view *v)
{
	open_object(req, "redis");
	req_json_bool(req, "connected", v->window.connected);
	if (v->window.connected)
		put_number(req, "latency", v->window.latency_ms);
	else
		req_json_null(req, "latency");
	put_number(req, "memoryUsage", v->window.memory);
	put_count(req, "usedMemoryBytes", (uint64_t)v->now.redis.used_bytes);
	req_json_int(req, "keyCount", v->now.redis.keys);
	close_object(req);
}

static void put_cache_health(struct req *req, const struct health_view *v)
{
	open_object(req, "cache");
	put_number(req, "hitRate", v->window.hit_rate);
	put_number(req, "errorRate", v->window.error_rate);
	put_number(req, "avgResponseTime", v->window.response_ms);
	put_count(req, "totalOperations", v->window.operations);
	put_number(req, "windowSeconds", v->window.window_s);
	req_json_bool(req, "sampled", v->window.sampled);
	close_object(req);
}

static void put_life(struct req *req, const struct health_view *v)
{
	const struct cache_stats *s = &v->now.stats;

	open_object(req, "metrics");
	put_count(req, "hits", v->life.hits);
	put_count(req, "misses", v->life.misses);
	put_count(req, "bypassed", s->bypassed);
	put_count(req, "operations", v->life.operations);
	put_count(req, "invalidations", s->raised_tags);
	put_count(req, "errors", s->errors);
	put_number(req, "hitRate", v->life.hit_rate);
	put_number(req, "uptime", v->life.window_s);
	close_object(req);
}

static enum err no_cache(struct req *req)
{
	return req_fail(req, ERR_NOT_FOUND, "this daemon keeps no answers");
}

SUSPENDS static bool begin(struct req *req, struct health_view *v)
{
	if (req->daemon->health == NULL)
		return false;
	cache_health_look(req->daemon->health, deadline_sooner(req->deadline, deadline_in(req->daemon->loop, CALL_MS)), v);
	req->version = -1;
	req_header(req, "Cache-Control", "no-store");
	req_json_begin(req);
	req_json_bool(req, "success", true);
	open_object(req, "data");
	return true;
}

enum err cache_health_answer(struct req *req)
{
	struct health_view v;

	if (!begin(req, &v))
		return no_cache(req);
	open_object(req, "health");
	req_json_text(req, "overall", str_of(health_level_name(health_overall(v.watch))));
	put_redis_health(req, &v);
	put_cache_health(req, &v);
	close_object(req);
	put_life(req, &v);
	put_alerts(req, v.watch);
	put_time(req, "timestamp", v.now.real_us);
	close_object(req);
	req_json_end(req);
	return OK;
}

/* ---- /cache/performance-report: data ---- */

static void put_times(struct req *req, const char *name, const struct us_times *t)
{
	open_object(req, name);
	put_count(req, "count", t->count);
	put_number(req, "mean_ms", t->count != 0 ? (double)t->sum_us / (double)t->count / 1000 : 0);
	put_number(req, "p50_ms", us_times_quantile_us(t, 0.5) / 1000);
	put_number(req, "p95_ms", us_times_quantile_us(t, 0.95) / 1000);
	put_number(req, "p99_ms", us_times_quantile_us(t, 0.99) / 1000);
	close_object(req);
}

static void put_spaces(struct req *req, const struct cache_counts *counts)
{
	req_json_key(req, "by_namespace");
	buf_putc(&req->body, '[');
	for (size_t i = 0; i < counts->n_spaces; i++) {
		const struct cache_space *s = &counts->spaces[i];
		uint64_t hits = s->n[CACHE_ON_HIT_MEMORY] + s->n[CACHE_ON_HIT_REDIS] + s->n[CACHE_ON_STALE],
			 reads = hits + s->n[CACHE_ON_MISS];

		next_item(req);
		req_json_text(req, "namespace", str_of(s->name));
		put_number(req, "hit_rate", reads != 0 ? 100 * (double)hits / (double)reads : 0);
		for (size_t k = 0; k < CACHE_EVENT_N; k++) {
			if (k != CACHE_ON_INVALIDATE && k != CACHE_ON_ERROR)
				put_count(req, cache_event_name((enum cache_event)k), s->n[k]);
		}
		put_count(req, "bytes_raw", s->bytes_raw);
		put_count(req, "bytes_stored", s->bytes_stored);
		close_object(req);
	}
	buf_putc(&req->body, ']');
}

/* May the caller see a name? One of his own school, or of all. */
static bool is_his(const struct req *req, const struct cache_key_count *k)
{
	struct buf school = buf_in(req->arena);

	if (req->who.role == ROLE_SUPER_ADMIN || req->who.role == ROLE_SERVICE)
		return true;
	buf_putc(&school, '{');
	buf_put_uuid(&school, req->who.school_id);
	buf_puts(&school, STR("}:"));
	return memmem(k->key, k->key_n, school.p, school.n) != NULL || memmem(k->key, k->key_n, "{all}:", 6) != NULL;
}

static void put_top_keys(struct req *req)
{
	struct cache_key_count *v;
	size_t n = cache_top_keys(req->daemon->caches, req->arena, CACHE_TOP_KEYS, &v), shown = 0;

	req_json_key(req, "top_keys");
	buf_putc(&req->body, '[');
	for (size_t i = 0; i < n && shown < TOP; i++) {
		if (!is_his(req, &v[i]))
			continue;
		next_item(req);
		req_json_text(req, "key", (struct str){v[i].key, v[i].key_n});
		put_count(req, "hits", v[i].hits);
		close_object(req);
		shown++;
	}
	buf_putc(&req->body, ']');
}

static double compression(const struct cache_stats *s)
{
	return s->bytes_stored != 0 ? (double)s->bytes_raw / (double)s->bytes_stored : 1;
}

static void put_performance(struct req *req, const struct health_view *v)
{
	const struct cache_stats *s = &v->now.stats;

	open_object(req, "performance_metrics");
	put_number(req, "window_seconds", v->window.window_s);
	req_json_bool(req, "sampled", v->window.sampled);
	put_count(req, "operations", v->window.operations);
	put_count(req, "hits", v->window.hits);
	put_count(req, "misses", v->window.misses);
	put_number(req, "hit_rate", v->window.hit_rate);
	put_number(req, "error_rate", v->window.error_rate);
	put_times(req, "lookup", &v->looks);
	put_times(req, "hit", &v->hits);
	put_times(req, "miss", &v->misses);
	put_number(req, "compression_ratio", compression(s));
	open_object(req, "memory");
	put_count(req, "entries", s->memory_entries);
	put_count(req, "bytes", s->memory_bytes);
	req_json_int(req, "limit_bytes", req->daemon->settings.cache_memory_mb << 20);
	put_count(req, "evictions", s->memory_evictions);
	close_object(req);
	put_spaces(req, cache_counts(req->daemon->caches));
	put_top_keys(req);
	close_object(req);
}

static void put_redis(struct req *req, const struct health_view *v)
{
	const struct redis_figures *r = &v->now.redis;

	open_object(req, "redis_stats");
	req_json_bool(req, "connected", r->connected);
	put_number(req, "latency_ms", v->window.latency_ms);
	req_json_int(req, "used_memory", r->used_bytes);
	req_json_int(req, "max_memory", r->most_bytes);
	put_number(req, "memory_percent", v->window.memory);
	req_json_int(req, "keys", r->keys);
	req_json_int(req, "evicted_keys", r->evicted);
	req_json_int(req, "expired_keys", r->expired);
	req_json_int(req, "connected_clients", r->clients);
	req_json_int(req, "total_commands_processed", r->commands);
	req_json_int(req, "uptime_in_seconds", r->uptime_s);
	req_json_key(req, "server_wide"); /* of everybody who uses it, locks and epochs too: not the cache's hit rate */
	buf_printf(&req->body, "{\"keyspace_hits\":%" PRId64 ",\"keyspace_misses\":%" PRId64 "}", r->hits, r->misses);
	close_object(req);
}

static void put_queries(struct req *req)
{
	struct query_stat *v;
	size_t n;
	struct query_totals t = cache_query_stats(req->daemon, req->arena, TOP, &v, &n);

	open_object(req, "query_cache_stats");
	put_count(req, "total_cached_queries", t.statements);
	put_count(req, "total_calls", t.calls);
	put_count(req, "total_cache_hits", t.hits);
	put_count(req, "saved_ms", t.saved_us / 1000);
	req_json_key(req, "top_cached_queries");
	buf_putc(&req->body, '[');
	for (size_t i = 0; i < n; i++) {
		next_item(req);
		req_json_text(req, "query", str_of(v[i].query));
		put_count(req, "calls", v[i].calls);
		put_count(req, "hit_count", v[i].hits);
		put_number(req, "mean_ms", v[i].misses != 0 ? (double)v[i].source_us / (double)v[i].misses / 1000 : 0);
		close_object(req);
	}
	buf_putc(&req->body, ']');
	close_object(req);
}

static void put_invalidations(struct req *req, const struct health_view *v)
{
	const struct cache_counts *counts = cache_counts(req->daemon->caches);
	struct cache_index_size index = cache_index_size(req->daemon->caches);
	const struct cache_stats *s = &v->now.stats;

	open_object(req, "invalidation_stats");
	put_count(req, "invalidated_tags", s->raised_tags);
	put_count(req, "repeated_by_events", s->repeated);
	put_count(req, "heard_from_others", s->dropped_by_news);
	put_count(req, "journal", s->journal);
	put_count(req, "registered_tags", index.tags);
	put_count(req, "tracked_keys", index.members);
	put_time(req, "index_swept", index.at_us);
	req_json_key(req, "by_kind");
	buf_putc(&req->body, '[');
	for (size_t i = 0; i < counts->n_tags; i++) {
		next_item(req);
		req_json_text(req, "kind", str_of(counts->tags[i].name));
		put_count(req, "invalidations", counts->tags[i].n[CACHE_ON_INVALIDATE]);
		close_object(req);
	}
	buf_putc(&req->body, ']');
	close_object(req);
}

static void put_history(struct req *req, const struct health_view *v)
{
	size_t n = v->n_history < HEALTH_HISTORY ? v->n_history : HEALTH_HISTORY;

	req_json_key(req, "history");
	buf_putc(&req->body, '[');
	for (size_t i = n; i > 0; i--) {
		const struct health_point *p = &v->history[(v->n_history - i) % HEALTH_HISTORY];

		next_item(req);
		put_time(req, "timestamp", p->real_us);
		put_count(req, "operations", p->figures.operations);
		put_number(req, "hit_rate", p->figures.hit_rate);
		put_number(req, "error_rate", p->figures.error_rate);
		put_number(req, "response_ms", p->figures.response_ms);
		put_number(req, "p95_ms", p->p95_ms);
		put_number(req, "redis_latency_ms", p->figures.latency_ms);
		put_number(req, "memory_percent", p->figures.memory);
		req_json_int(req, "used_memory", p->used_bytes);
		req_json_int(req, "keys", p->keys);
		req_json_int(req, "invalidated_tags", p->invalidations);
		close_object(req);
	}
	buf_putc(&req->body, ']');
}

/* ---- recommendations ---- */

struct advice {
	const char *rule, *category, *severity, *message, *action;
	const char *metric;
	double value, limit;
};

static void put_advice(struct req *req, const struct health_view *v, const struct advice *a)
{
	next_item(req);
	req_json_text(req, "rule", str_of(a->rule));
	req_json_text(req, "category", str_of(a->category));
	req_json_text(req, "severity", str_of(a->severity));
	req_json_text(req, "message", str_of(a->message));
	req_json_text(req, "action", str_of(a->action));
	open_object(req, "evidence");
	req_json_text(req, "metric", str_of(a->metric));
	put_number(req, "value", a->value);
	put_number(req, "limit", a->limit);
	put_number(req, "window_seconds", v->window.window_s);
	put_count(req, "operations", v->window.operations);
	close_object(req);
	close_object(req);
}

static double now_of(const struct health_view *v, const struct health_rule *r)
{
	return r->value(&v->window);
}

static void advise_by_alerts(struct req *req, const struct health_view *v)
{
	const struct settings *s = &req->daemon->settings;

	for (size_t i = 0; health_rules[i].id != NULL; i++) {
		const struct health_rule *r = &health_rules[i];
		enum health_level level = v->watch->rules[i].level;
		double limit = r->limit(level == HEALTH_CRITICAL ? &s->health_critical : &s->health_warning);

		if (level == HEALTH_OK)
			continue;
		put_advice(req, v,
			   &(struct advice){.rule = r->id,
					    .category = r->category,
					    .severity = health_level_name(level),
					    .message = arena_printf(req->arena, "%s: %.4g%s, the limit is %.4g%s", r->what,
								    now_of(v, r), r->unit, limit, r->unit),
					    .action = r->action,
					    .metric = r->what,
					    .value = now_of(v, r),
					    .limit = limit});
	}
}

#define COMPRESSION_LEAST 1.1
#define COMPRESSION_BYTES (1u << 20)
#define EVICTED_SHARE 10 /* per cent of what was filled */
#define SWEPT_US (20 * 60 * US_PER_S)
#define QUERY_CALLS 100
#define QUERY_HITS 10 /* per cent */

static void advise_by_figures(struct req *req, const struct health_view *v)
{
	const struct cache_stats *s = &v->now.stats;
	struct cache_index_size index = cache_index_size(req->daemon->caches);
	double evicted = v->fills != 0 ? 100 * (double)v->evicted_memory / (double)v->fills : 0;

	if (v->evicted_redis != 0)
		put_advice(req, v,
			   &(struct advice){"cache.redis_evicts", "capacity", "warning", "Redis evicts what has not ended yet",
					    "Raise the cache Redis' maxmemory, or shorten lifetimes.", "evicted keys",
					    (double)v->evicted_redis, 0});
	if (evicted > EVICTED_SHARE)
		put_advice(req, v,
			   &(struct advice){"cache.memory_small", "capacity", "info",
					    "this process's memory pushes out much of what it takes in", "Raise CACHE_MEMORY_MB.",
					    "evictions per 100 fillings", evicted, EVICTED_SHARE});
	if (s->bytes_raw > COMPRESSION_BYTES && compression(s) < COMPRESSION_LEAST)
		put_advice(req, v,
			   &(struct advice){"cache.compression", "performance", "info", "compression gains next to nothing",
					    "Set REDIS_COMPRESSION_ENABLED to false, or another algorithm.", "compression ratio",
					    compression(s), COMPRESSION_LEAST});
	if (s->journal != 0)
		put_advice(req, v,
			   &(struct advice){
				   "cache.journal", "reliability", "warning",
				   "invalidations wait for Redis, and nothing is read out of the cache until they are through",
				   "Look at the cache's Redis.", "tags in the journal", (double)s->journal, 0});
	if (index.at_us != 0 && v->now.real_us - index.at_us > SWEPT_US)
		put_advice(req, v,
			   &(struct advice){"cache.index_unswept", "capacity", "warning",
					    "no process has swept the tag indexes lately",
					    "Look in the logs for why the sweep fails.", "seconds since the last sweep",
					    (double)(v->now.real_us - index.at_us) / 1e6, SWEPT_US / 1e6});
}

static void advise_by_queries(struct req *req, const struct health_view *v)
{
	struct query_stat *q;
	size_t n;

	cache_query_stats(req->daemon, req->arena, QUERY_STATS_MAX, &q, &n);
	for (size_t i = 0, told = 0; i < n && told < TOP; i++) {
		double share = q[i].calls != 0 ? 100 * (double)q[i].hits / (double)q[i].calls : 0;

		if (q[i].calls < QUERY_CALLS || share >= QUERY_HITS)
			continue;
		told++;
		put_advice(
			req, v,
			&(struct advice){"cache.query_unhit", "performance", "info",
					 arena_printf(req->arena, "the statement %s is kept and hardly ever found", q[i].query),
					 "Lengthen its lifetime, name narrower tags, or do not keep it.", "hits per 100 calls",
					 share, QUERY_HITS});
	}
}

enum err cache_report_answer(struct req *req)
{
	struct health_view v;

	if (!begin(req, &v))
		return no_cache(req);
	put_time(req, "timestamp", v.now.real_us);
	put_performance(req, &v);
	put_redis(req, &v);
	put_queries(req);
	put_invalidations(req, &v);
	req_json_key(req, "warming");
	cache_warm_jobs_put(req);
	put_alerts(req, v.watch);
	put_history(req, &v);
	close_object(req);
	req_json_key(req, "recommendations");
	buf_putc(&req->body, '[');
	advise_by_alerts(req, &v);
	advise_by_figures(req, &v);
	advise_by_queries(req, &v);
	buf_putc(&req->body, ']');
	req_json_end(req);
	return OK;
}
