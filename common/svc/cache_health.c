/* SPDX-License-Identifier: Apache-2.0 */
/* Looks at the cache, rates of a window, and alerts that neither flutter nor come too early. */
#include "svc/cache_health.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/str.h"
#include "base/timefmt.h"
#include "cache/cache_internal.h"
#include "io/fiber.h"
#include "svc/daemon.h"

#define RING 64 /* samples of the window */
#define FRESH_US US_PER_S
#define POINT_US (60 * US_PER_S) /* of the history: two hours of it */
#define ASK_MS 1000

struct cache_health {
	struct daemon *daemon;
	struct fiber *fiber;
	bool closing, looking;
	struct waitq looked;
	struct health_sample ring[RING], last;
	size_t n_ring; /* ever put */
	struct health_watch watch;
	struct health_point history[HEALTH_HISTORY];
	size_t n_history;
	int64_t point_us;
};

/* ---- Redis' own word ---- */

static int64_t info_number(struct str text, const char *name)
{
	int64_t n = 0;

	while (text.p != NULL) {
		struct str line = str_trim(str_split(&text, '\n')), key = str_split(&line, ':');

		if (str_is(key, name))
			return str_to_i64(line, &n) ? n : 0;
	}
	return 0;
}

static void read_info(struct str text, struct redis_figures *f)
{
	f->used_bytes = info_number(text, "used_memory");
	f->most_bytes = info_number(text, "maxmemory");
	f->machine_bytes = info_number(text, "total_system_memory");
	f->evicted = info_number(text, "evicted_keys");
	f->expired = info_number(text, "expired_keys");
	f->hits = info_number(text, "keyspace_hits");
	f->misses = info_number(text, "keyspace_misses");
	f->clients = info_number(text, "connected_clients");
	f->commands = info_number(text, "total_commands_processed");
	f->uptime_s = info_number(text, "uptime_in_seconds");
}

SUSPENDS static struct redis_figures ask_redis(struct cache *c, struct deadline d)
{
	struct arena *arena = arena_new();
	struct redis_figures f = {0};
	struct redis_reply reply;
	int64_t from = loop_mono_us(c->loop);

	if (index_call(c, arena, d, REDIS_ARGS(STR("PING")), &reply) == OK) {
		f.connected = true;
		f.latency_us = loop_mono_us(c->loop) - from;
		if (index_call(c, arena, d, REDIS_ARGS(STR("INFO")), &reply) == OK && reply.type == REDIS_STRING)
			read_info(reply.s, &f);
		if (index_call(c, arena, d, REDIS_ARGS(STR("DBSIZE")), &reply) == OK && reply.type == REDIS_INTEGER)
			f.keys = reply.i;
	}
	arena_free(arena);
	return f;
}

/* ---- rates ---- */

static double share(uint64_t part, uint64_t whole)
{
	return whole != 0 ? 100 * (double)part / (double)whole : 0;
}

static double mean_us(const struct us_times *a, const struct us_times *b)
{
	uint64_t n = a->count + b->count;

	return n != 0 ? (double)(a->sum_us + b->sum_us) / (double)n : 0;
}

static uint64_t hits_of(const struct cache_stats *s)
{
	return s->hits_memory + s->hits_redis + s->stale;
}

struct health_figures health_between(const struct health_sample *then, const struct health_sample *now, int64_t min_sample)
{
	struct health_figures f = {.window_s = (double)(now->mono_us - then->mono_us) / 1e6, .connected = now->redis.connected};
	struct us_times hits = us_times_since(&now->hits, &then->hits), misses = us_times_since(&now->misses, &then->misses);
	uint64_t bypassed = now->stats.bypassed - then->stats.bypassed, errors = now->stats.errors - then->stats.errors;
	int64_t most = now->redis.most_bytes != 0 ? now->redis.most_bytes : now->redis.machine_bytes;

	f.hits = hits_of(&now->stats) - hits_of(&then->stats);
	f.misses = now->stats.misses - then->stats.misses;
	f.operations = f.hits + f.misses + bypassed;
	/* A read that finds Redis failing is a bypass and an error; a filling that fails is an error alone. */
	f.failed = errors > bypassed ? errors : bypassed;
	if (f.failed > f.operations)
		f.failed = f.operations;
	f.sampled = f.operations >= (uint64_t)min_sample;
	f.hit_rate = share(f.hits, f.hits + f.misses);
	f.error_rate = share(f.failed, f.operations);
	f.response_ms = mean_us(&hits, &misses) / 1000;
	f.latency_ms = (double)now->redis.latency_us / 1000;
	f.memory = most > 0 ? 100 * (double)now->redis.used_bytes / (double)most : 0;
	return f;
}

/* ---- limits ---- */

#define VALUE(member)                                                \
	static double value_##member(const struct health_figures *f) \
	{                                                            \
		return f->member;                                    \
	}
#define LIMIT(member)                                               \
	static double limit_##member(const struct health_limits *l) \
	{                                                           \
		return (double)l->member;                           \
	}
VALUE(hit_rate)
VALUE(error_rate)
VALUE(latency_ms)
VALUE(memory)
VALUE(response_ms)
LIMIT(hit_rate)
LIMIT(error_rate)
LIMIT(latency_ms)
LIMIT(memory)
LIMIT(response_ms)

static double value_away(const struct health_figures *f)
{
	return f->connected ? 0 : 1;
}

static double limit_away(const struct health_limits *l)
{
	(void)l;
	return 0;
}

/* clang-format off */
const struct health_rule health_rules[] = {
	{"cache.connection", "availability", "Redis does not answer", "", "Look at the cache's Redis and the way to it; meanwhile every read goes to its source.",
		.confirm = 1, .value = value_away, .limit = limit_away},
	{"cache.hit_rate", "performance", "hit rate", "%", "Look at the kinds with the most misses: lengthen their lifetime, name narrower tags, or warm them.",
		.below = true, .needs_sample = true, .confirm = 1, .margin = 2, .value = value_hit_rate, .limit = limit_hit_rate},
	{"cache.error_rate", "reliability", "error rate", "%", "Look at the log for why the cache is not asked, and at Redis' latency.",
		.needs_sample = true, .confirm = 1, .margin = 0.1, .value = value_error_rate, .limit = limit_error_rate},
	{"cache.redis_latency", "performance", "Redis' latency", " ms", "Look for slow commands and for a machine that swaps or has no CPU left.",
		.confirm = 2, .margin = 0.1, .value = value_latency_ms, .limit = limit_latency_ms},
	{"cache.memory", "capacity", "Redis' memory", "%", "Raise maxmemory, shorten lifetimes, or give the cache a larger machine, before it evicts what is read.",
		.confirm = 1, .margin = 0.03, .value = value_memory, .limit = limit_memory},
	{"cache.response_time", "performance", "mean time of a read", " ms", "Look at the slowest statements and routes behind the misses.",
		.needs_sample = true, .confirm = 2, .margin = 0.1, .value = value_response_ms, .limit = limit_response_ms},
	{NULL, NULL, NULL, NULL, NULL, .value = NULL},
};
/* clang-format on */

const char *health_level_name(enum health_level level)
{
	static const char *const names[] = {
		[HEALTH_OK] = "healthy", [HEALTH_WARNING] = "warning", [HEALTH_CRITICAL] = "critical"};

	return names[level];
}

/* `inside`: it is in this state already, and leaves it only by a margin. */
static bool is_worse(const struct health_rule *r, double value, double limit, bool inside)
{
	if (r->below)
		return value < limit + (inside ? r->margin : 0);
	return value > limit * (inside ? 1 - r->margin : 1);
}

static enum health_level level_of(const struct health_rule *r, double value, enum health_level was,
				  const struct health_limits *warning, const struct health_limits *critical)
{
	if (is_worse(r, value, r->limit(critical), was == HEALTH_CRITICAL))
		return HEALTH_CRITICAL;
	return is_worse(r, value, r->limit(warning), was != HEALTH_OK) ? HEALTH_WARNING : HEALTH_OK;
}

static void put_level(struct health_watch *w, size_t i, enum health_level level, double value, double limit, int64_t now_us)
{
	const struct health_rule *r = &health_rules[i];
	struct health_alert *a = &w->rules[i].alert;
	enum health_level was = w->rules[i].level;

	w->rules[i].level = level;
	if (level == HEALTH_OK) {
		a->resolved_us = now_us;
		w->past[w->n_past++ % HEALTH_PAST] = *a;
		log_info("a cache alert has ended", LOG_S("rule", r->id), LOG_D("value", value),
			 LOG_I("after_s", (now_us - a->since_us) / US_PER_S));
		return;
	}
	if (was == HEALTH_OK)
		*a = (struct health_alert){.rule = r, .since_us = now_us};
	if (level > a->level) {
		a->level = level;
		a->value = value;
		a->limit = limit;
		log_warn("a cache alert", LOG_S("rule", r->id), LOG_S("severity", health_level_name(level)),
			 LOG_D("value", value), LOG_D("limit", limit));
	}
}

void health_judge(struct health_watch *w, const struct health_figures *f, const struct health_limits *warning,
		  const struct health_limits *critical, int64_t now_us)
{
	for (size_t i = 0; health_rules[i].id != NULL; i++) {
		const struct health_rule *r = &health_rules[i];
		enum health_level was = w->rules[i].level, level = HEALTH_OK;
		double value = r->value(f);

		/* Without enough reads there is nothing to complain of, and what was complained of is over. */
		if (!r->needs_sample || f->sampled)
			level = level_of(r, value, was, warning, critical);
		w->rules[i].worse = level > was ? w->rules[i].worse + 1 : 0;
		if (level > was && w->rules[i].worse < r->confirm)
			continue;
		w->rules[i].worse = 0;
		if (level != was)
			put_level(w, i, level, value, r->limit(level == HEALTH_CRITICAL ? critical : warning), now_us);
	}
}

enum health_level health_overall(const struct health_watch *w)
{
	enum health_level worst = HEALTH_OK;

	for (size_t i = 0; health_rules[i].id != NULL; i++) {
		if (w->rules[i].level > worst)
			worst = w->rules[i].level;
	}
	return worst;
}

/* ---- looks ---- */

static const struct health_sample *window_start(const struct cache_health *h)
{
	int64_t from_us = h->last.mono_us - h->daemon->settings.health_window_s * US_PER_S;
	size_t n = h->n_ring < RING ? h->n_ring : RING;

	for (size_t i = 1; i <= n; i++) {
		const struct health_sample *s = &h->ring[(h->n_ring - i) % RING];

		if (s->mono_us <= from_us || i == n)
			return s;
	}
	return &h->ring[0];
}

static void sum_looks(const struct cache *c, struct us_times *ret)
{
	for (size_t i = 0; i < ARRAY_LEN(cache_counts(c)->looks); i++)
		us_times_sum(ret, &cache_counts(c)->looks[i]);
}

static void take_counts(const struct daemon *d, struct health_sample *s)
{
	*s = (struct health_sample){
		.mono_us = loop_mono_us(d->loop), .real_us = loop_real_us(d->loop), .stats = cache_stats(d->caches)};
	sum_looks(d->caches, &s->looks);
	s->hits = cache_counts(d->caches)->hits;
	s->misses = cache_counts(d->caches)->misses;
}

/* The ring spans the window, however often somebody looks. */
static void remember(struct cache_health *h)
{
	const struct settings *s = &h->daemon->settings;
	int64_t step_us = s->health_window_s * US_PER_S / (RING - 2);
	const struct health_sample *newest = &h->ring[(h->n_ring - 1) % RING];

	if (h->last.mono_us - newest->mono_us >= step_us)
		h->ring[h->n_ring++ % RING] = h->last;
}

static void add_point(struct cache_health *h, const struct health_view *v)
{
	struct us_times reads = v->hits;

	if (h->n_history != 0 && h->last.mono_us - h->point_us < POINT_US)
		return;
	us_times_sum(&reads, &v->misses);
	h->point_us = h->last.mono_us;
	h->history[h->n_history++ % HEALTH_HISTORY] = (struct health_point){
		.real_us = h->last.real_us,
		.figures = v->window,
		.p95_ms = us_times_quantile_us(&reads, 0.95) / 1000,
		.used_bytes = h->last.redis.used_bytes,
		.keys = h->last.redis.keys,
		.invalidations = (int64_t)h->last.stats.raised_tags,
	};
}

void cache_health_last(const struct cache_health *h, struct health_view *ret)
{
	const struct health_sample *then = window_start(h), *now = &h->last;
	struct health_sample birth = {.mono_us = h->daemon->started_us};
	int64_t min = h->daemon->settings.health_min_sample;

	*ret = (struct health_view){
		.now = *now,
		.window = health_between(then, now, min),
		.life = health_between(&birth, now, min),
		.looks = us_times_since(&now->looks, &then->looks),
		.hits = us_times_since(&now->hits, &then->hits),
		.misses = us_times_since(&now->misses, &then->misses),
		.evicted_redis = now->redis.evicted > then->redis.evicted ? now->redis.evicted - then->redis.evicted : 0,
		.evicted_memory = (int64_t)(now->stats.memory_evictions - then->stats.memory_evictions),
		.fills = (int64_t)(now->stats.fills - then->stats.fills),
		.watch = &h->watch,
		.history = h->history,
		.n_history = h->n_history,
	};
}

SUSPENDS static void take_look(struct cache_health *h, struct deadline d)
{
	struct daemon *daemon = h->daemon;
	struct redis_figures redis;
	struct health_view v;

	if (h->looking) {                          /* another fiber is about it, and its word will do */
		IGNORE(waitq_wait(&h->looked, d)); /* late: then the one before */
		return;
	}
	h->looking = true;
	redis = ask_redis(daemon->caches, deadline_sooner(d, deadline_in(daemon->loop, ASK_MS)));
	take_counts(daemon, &h->last);
	h->last.redis = redis;
	h->looking = false;
	remember(h);
	cache_health_last(h, &v);
	health_judge(&h->watch, &v.window, &daemon->settings.health_warning, &daemon->settings.health_critical, h->last.real_us);
	add_point(h, &v);
	waitq_wake(&h->looked, SIZE_MAX, OK);
}

void cache_health_look(struct cache_health *h, struct deadline d, struct health_view *ret)
{
	if (loop_mono_us(h->daemon->loop) - h->last.mono_us >= FRESH_US)
		take_look(h, d);
	cache_health_last(h, ret);
}

/* ---- life ---- */

SUSPENDS static void health_fiber(void *arg)
{
	struct cache_health *h = arg;
	struct loop *loop = h->daemon->loop;
	int64_t wait_ms = h->daemon->settings.health_interval_s * 1000;

	h->fiber = fiber_self();
	if (wait_ms > 1000 && sleep_ms(loop, 1000, (struct deadline){INT64_MAX}) != OK) /* the gate opens meanwhile */
		h->closing = true;
	while (!h->closing) {
		take_look(h, (struct deadline){INT64_MAX});
		if (sleep_ms(loop, wait_ms, (struct deadline){INT64_MAX}) != OK)
			break;
	}
	h->fiber = NULL;
}

enum err cache_health_open(struct daemon *d, struct cache_health **ret)
{
	struct cache_health *h;

	if (d->caches == NULL)
		return OK;
	*ret = h = mem_zalloc(sizeof(*h));
	h->daemon = d;
	take_counts(d, &h->ring[0]);
	h->n_ring = 1;
	h->last = h->ring[0];
	h->last.redis.connected = true; /* nobody has asked yet */
	h->last.mono_us -= FRESH_US;
	return fiber_spawn(d->loop, "cache health", health_fiber, h);
}

void cache_health_cancel(struct cache_health *h)
{
	if (h == NULL)
		return;
	h->closing = true;
	if (h->fiber != NULL)
		fiber_cancel(h->fiber);
}

struct cache_health *cache_health_free(struct cache_health *h)
{
	if (h != NULL)
		waitq_done(&h->looked);
	free(h);
	return NULL;
}
