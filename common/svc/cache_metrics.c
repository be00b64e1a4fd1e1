/* SPDX-License-Identifier: Apache-2.0 */
/* The cache's lines of /metrics. */
#include <stdio.h>

#include "base/timefmt.h"
#include "cache/cache_count.h"
#include "cache/cache_index.h"
#include "svc/cache_health.h"
#include "svc/cache_warm.h"
#include "svc/daemon.h"
#include "svc/metrics.h"

/* ---- by namespace ---- */

static void put_requests(const struct cache_counts *c, struct buf *out)
{
	static const char name[] = "schools24_cache_requests_total";
	static const struct {
		enum cache_event what;
		const char *level, *result;
	} v[] = {
		{CACHE_ON_HIT_MEMORY, "memory", "hit"}, {CACHE_ON_HIT_REDIS, "redis", "hit"}, {CACHE_ON_STALE, "any", "stale"},
		{CACHE_ON_MISS, "none", "miss"},        {CACHE_ON_BYPASS, "none", "bypass"},
	};

	metrics_head(out, name, "counter", "Reads of kept things by kind, where they were found, and what came of it.");
	for (size_t i = 0; i < c->n_spaces; i++) {
		for (size_t k = 0; k < ARRAY_LEN(v); k++)
			metrics_put_i64(out, name, (int64_t)c->spaces[i].n[v[k].what], "namespace", c->spaces[i].name, "level",
					v[k].level, "result", v[k].result, NULL);
	}
}

/* clang-format off */
#define BY_SPACE(X)                                                                                                        \
	X("schools24_cache_negative_hits_total", "Hits that say: there is none.", CACHE_ON_NEGATIVE)                       \
	X("schools24_cache_coalesced_total", "Misses that got the answer of another's filling.", CACHE_ON_COALESCED)       \
	X("schools24_cache_expired_total", "Misses that found an entry past its time.", CACHE_ON_EXPIRED)                  \
	X("schools24_cache_refreshes_total", "Fillings ahead of the end, or of aged entries.", CACHE_ON_REFRESH)           \
	X("schools24_cache_fills_total", "Entries written.", CACHE_ON_SET)                                                 \
	X("schools24_cache_fill_errors_total", "Fillings whose source failed.", CACHE_ON_FILL_ERROR)                       \
	X("schools24_cache_deletes_total", "Entries deleted by name.", CACHE_ON_DELETE)                                    \
	X("schools24_cache_warmings_total", "Entries written before somebody asked for them.", CACHE_ON_WARM)
/* clang-format on */

static void put_spaces(const struct cache_counts *c, struct buf *out)
{
	static const char bytes[] = "schools24_cache_stored_bytes_total", tags[] = "schools24_cache_invalidations_total";

	put_requests(c, out);
#define PUT(metric, help, what)                     \
	metrics_head(out, metric, "counter", help); \
	for (size_t i = 0; i < c->n_spaces; i++)    \
		metrics_put_i64(out, metric, (int64_t)c->spaces[i].n[what], "namespace", c->spaces[i].name, NULL);
	BY_SPACE(PUT)
#undef PUT
	metrics_head(out, bytes, "counter", "Bytes of entries written, before and after compression.");
	for (size_t i = 0; i < c->n_spaces; i++) {
		metrics_put_i64(out, bytes, (int64_t)c->spaces[i].bytes_raw, "namespace", c->spaces[i].name, "form", "raw", NULL);
		metrics_put_i64(out, bytes, (int64_t)c->spaces[i].bytes_stored, "namespace", c->spaces[i].name, "form",
				"compressed", NULL);
	}
	metrics_head(out, tags, "counter", "Tags raised by this process, by their kind.");
	for (size_t i = 0; i < c->n_tags; i++)
		metrics_put_i64(out, tags, (int64_t)c->tags[i].n[CACHE_ON_INVALIDATE], "namespace", c->tags[i].name, NULL);
}

/* ---- times ---- */

void us_times_put(struct buf *out, const char *name, const char *label, const char *value, const struct us_times *t,
		  const char *help)
{
	char series[96], le[24];
	uint64_t sum = 0;

	if (help != NULL)
		metrics_head(out, name, "histogram", help);
	snprintf(series, sizeof(series), "%s_bucket", name);
	for (size_t i = 0; i < US_BUCKETS; i++) {
		sum += t->bucket[i];
		snprintf(le, sizeof(le), "%.6f", (double)us_bucket_us(i) / 1e6);
		metrics_put_i64(out, series, (int64_t)sum, label, value, "le", le, NULL);
	}
	metrics_put_i64(out, series, (int64_t)t->count, label, value, "le", "+Inf", NULL);
	snprintf(series, sizeof(series), "%s_sum", name);
	metrics_put_double(out, series, (double)t->sum_us / 1e6, label, value, NULL);
	snprintf(series, sizeof(series), "%s_count", name);
	metrics_put_i64(out, series, (int64_t)t->count, label, value, NULL);
}

static void put_histograms(const struct cache_counts *c, struct buf *out)
{
	static const char look[] = "schools24_cache_lookup_duration_seconds", read[] = "schools24_cache_read_duration_seconds";

	us_times_put(out, look, "level", "none", &c->looks[LEVEL_NONE], "Time of looking, by where it was found.");
	us_times_put(out, look, "level", "memory", &c->looks[LEVEL_MEMORY], NULL);
	us_times_put(out, look, "level", "redis", &c->looks[LEVEL_REDIS], NULL);
	us_times_put(out, read, "result", "hit", &c->hits, "Time of whole reads; of misses, the source's too.");
	us_times_put(out, read, "result", "miss", &c->misses, NULL);
}

/* ---- the engine, the index, Redis ---- */

/* clang-format off */
#define ENGINE(X)                                                                                                                       \
	X("schools24_cache_errors_total", "counter", "Calls of the cache's Redis that failed or were late.", s->errors)                 \
	X("schools24_cache_corrupt_total", "counter", "Entries that could not be read.", s->corrupt)                                    \
	X("schools24_cache_journalled_total", "counter", "Tags raised while Redis was away, told later.", s->journalled)                \
	X("schools24_cache_journal_tags", "gauge", "Tags that wait for Redis.", s->journal)                                             \
	X("schools24_cache_circuit_open", "gauge", "1 while the cache is not asked.", !s->up)                                           \
	X("schools24_cache_news_up", "gauge", "1 while this process hears of the others' invalidations.", s->news_up)                   \
	X("schools24_cache_flights", "gauge", "Fillings under way.", s->flights)                                                        \
	X("schools24_cache_memory_entries", "gauge", "Entries in the process's own memory.", s->memory_entries)                         \
	X("schools24_cache_memory_bytes", "gauge", "Their bytes.", s->memory_bytes)                                                     \
	X("schools24_cache_memory_evictions_total", "counter", "Entries pushed out of it.", s->memory_evictions)                        \
	X("schools24_cache_index_tags", "gauge", "Tags that live entries have, as the last sweep found them.", index.tags)              \
	X("schools24_cache_index_members", "gauge", "Entries under them; one with three tags counts three times.", index.members)       \
	X("schools24_cache_index_swept_seconds", "gauge", "When that was; 0: not yet.", index.at_us / US_PER_S)
#define REDIS(X)                                                                                                                        \
	X("schools24_cache_redis_used_bytes", "gauge", "Memory of the cache's Redis.", (double)r->used_bytes)                           \
	X("schools24_cache_redis_memory_ratio", "gauge", "Of its limit, or of the machine's memory without one.", v.window.memory / 100) \
	X("schools24_cache_redis_keys", "gauge", "Its keys.", (double)r->keys)                                                          \
	X("schools24_cache_redis_evicted_total", "counter", "Keys that it has evicted.", (double)r->evicted)                            \
	X("schools24_cache_redis_latency_seconds", "gauge", "Time of its last PING.", (double)r->latency_us / 1e6)                      \
	X("schools24_cache_window_operations", "gauge", "Reads in the window of the rates below.", (double)v.window.operations)         \
	X("schools24_cache_error_ratio", "gauge", "Reads in the window that the cache failed.", v.window.error_rate / 100)              \
	X("schools24_cache_alert_level", "gauge", "0 healthy, 1 warning, 2 critical.", (double)health_overall(v.watch))                 \
	X("redis_cache_hit_rate", "gauge", "Share of the window's reads that were hits: 1 is all of them.", v.window.hit_rate / 100)
/* clang-format on */

static void put_engine(const struct cache_stats *s, struct cache_index_size index, struct buf *out)
{
	static const char reason[] = "schools24_invalidation_total";

#define PUT(metric, type, help, value)         \
	metrics_head(out, metric, type, help); \
	metrics_put_i64(out, metric, (int64_t)(value), NULL);
	ENGINE(PUT)
#undef PUT
	metrics_head(out, reason, "counter",
		     "Tags raised: by changes here, again out of the events' stream, and heard of from others.");
	metrics_put_i64(out, reason, (int64_t)s->raised_tags, "reason", "change", NULL);
	metrics_put_i64(out, reason, (int64_t)s->repeated, "reason", "event", NULL);
	metrics_put_i64(out, reason, (int64_t)s->dropped_by_news, "reason", "news", NULL);
	metrics_head(out, "redis_compression_ratio", "gauge",
		     "Bytes of entries before compression to those after it; 1: none was written.");
	metrics_put_double(out, "redis_compression_ratio",
			   s->bytes_stored != 0 ? (double)s->bytes_raw / (double)s->bytes_stored : 1, NULL);
}

static void put_health(const struct cache_health *h, struct buf *out)
{
	struct health_view v;
	const struct redis_figures *r = &v.now.redis;

	cache_health_last(h, &v);
#define PUT(metric, type, help, value)         \
	metrics_head(out, metric, type, help); \
	metrics_put_double(out, metric, value, NULL);
	REDIS(PUT)
#undef PUT
}

void cache_metrics(struct daemon *d, struct buf *out)
{
	struct cache_stats s;

	if (d->caches == NULL)
		return;
	s = cache_stats(d->caches);
	put_engine(&s, cache_index_size(d->caches), out);
	put_spaces(cache_counts(d->caches), out);
	put_histograms(cache_counts(d->caches), out);
	if (d->health != NULL)
		put_health(d->health, out);
	cache_warm_metrics(d, out);
}
