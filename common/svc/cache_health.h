/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How well the cache does: rates of a window, limits with memory, and what they have given cause for. Nothing here decides whether a daemon is alive or
 * ready: a cold or a failing cache makes answers slower, not wrong.
 *
 * A look is taken each CACHE_HEALTH_CHECK_INTERVAL, and when somebody asks and the last one is older than a second. It costs Redis PING, INFO and DBSIZE. Rates are
 * those of the last CACHE_HEALTH_WINDOW seconds (at first: since the start), and say nothing below CACHE_HEALTH_MIN_SAMPLE reads, so a cold start alarms nobody.
 * An alert rises when its figure passes a limit (of times: in two looks running), and ends only when it is better than the limit by a margin.
 */
#ifndef S24_SVC_CACHE_HEALTH_H
#define S24_SVC_CACHE_HEALTH_H

#include "cache/cache.h"
#include "cache/cache_count.h"
#include "svc/settings.h"

struct req;
struct daemon;
struct cache_health;

MUST_CHECK enum err cache_health_open(struct daemon *d, struct cache_health **ret); /* NULL without a cache; its fiber looks by itself */
void cache_health_cancel(struct cache_health *h);                                   /* NULL is fine */
struct cache_health *cache_health_free(struct cache_health *h);

/* Handlers of GET /cache/health and GET /cache/performance-report: {"success": true, …}. The caller's school sees its own keys, a super_admin all. */
SUSPENDS MUST_CHECK enum err cache_health_answer(struct req *req);
SUSPENDS MUST_CHECK enum err cache_report_answer(struct req *req);

/* ---- one look ---- */
struct redis_figures {
	bool connected;
	int64_t latency_us, used_bytes, most_bytes /* 0: no limit of its own */, machine_bytes, keys;
	int64_t evicted, expired, hits, misses, clients, commands, uptime_s;
};
struct health_sample {
	int64_t mono_us, real_us;
	struct cache_stats stats;
	struct us_times looks, hits, misses;
	struct redis_figures redis;
};
struct health_figures { /* of a window; percentages are 0 to 100 */
	double window_s;
	uint64_t hits, misses, failed, operations; /* aged answers are hits; what the cache could not be asked for is failed */
	bool sampled;                              /* operations reach the minimum */
	double hit_rate, error_rate, response_ms, latency_ms, memory;
	bool connected;
};
struct health_figures health_between(const struct health_sample *then, const struct health_sample *now, int64_t min_sample);

/* ---- verdicts ---- */
enum health_level { HEALTH_OK, HEALTH_WARNING, HEALTH_CRITICAL };
const char *health_level_name(enum health_level level); /* "healthy", "warning", "critical" */

#define HEALTH_RULES_MAX 8
#define HEALTH_PAST 50

struct health_rule {
	const char *id, *category, *what, *unit, *action;
	bool below;      /* bad is what is below the limit */
	bool needs_sample;
	unsigned confirm; /* looks in a row that it takes */
	double margin;   /* absolute for `below`, else a share of the limit */
	double (*value)(const struct health_figures *f);
	double (*limit)(const struct health_limits *l);
};
struct health_alert {
	const struct health_rule *rule;
	enum health_level level; /* the worst that it was */
	double value, limit;     /* when it last got worse */
	int64_t since_us, resolved_us; /* real; 0: it goes on */
};
struct health_watch {
	struct {
		enum health_level level;
		unsigned worse; /* looks in a row */
		struct health_alert alert;
	} rules[HEALTH_RULES_MAX];
	struct health_alert past[HEALTH_PAST]; /* what has ended, the oldest overwritten */
	size_t n_past;
};
extern const struct health_rule health_rules[]; /* ends with id NULL */
void health_judge(struct health_watch *w, const struct health_figures *f, const struct health_limits *warning, const struct health_limits *critical,
		  int64_t now_us);
enum health_level health_overall(const struct health_watch *w);

/* ---- for the report and for metrics ---- */
#define HEALTH_HISTORY 120

struct health_point {
	int64_t real_us;
	struct health_figures figures;
	double p95_ms;
	int64_t used_bytes, keys, invalidations;
};
struct health_view {
	struct health_sample now;
	struct health_figures window, life; /* life: since the start */
	struct us_times looks, hits, misses; /* of the window */
	int64_t evicted_redis, evicted_memory, fills; /* in the window */
	const struct health_watch *watch;
	const struct health_point *history; /* a ring */
	size_t n_history;                   /* points ever taken */
};
/* A look at most a second old. */
SUSPENDS void cache_health_look(struct cache_health *h, struct deadline d, struct health_view *ret);
/* The last one, without asking anybody. */
void cache_health_last(const struct cache_health *h, struct health_view *ret);

/* cache_metrics.c: for /metrics. */
void cache_metrics(struct daemon *d, struct buf *out);

#endif
