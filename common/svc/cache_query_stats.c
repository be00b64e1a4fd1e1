/* SPDX-License-Identifier: Apache-2.0 */
/* What was asked of kept statements: one row each, a bounded number of them. */
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "io/crypto.h"
#include "svc/cache_query.h"
#include "svc/daemon.h"

SCHEMA_TABLE(query_top, QUERY_TOP_FIELDS);
SCHEMA_TABLE(query_cache, QUERY_CACHE_FIELDS);

struct query_stats {
	size_t n;
	struct query_stat *v[QUERY_STATS_MAX];
	const struct pg_stmt *of[QUERY_STATS_MAX];
};

static void fingerprint(const struct pg_stmt *stmt, char text[33])
{
	struct buf b = {0};
	uint8_t hash[32];

	query_text(str_of(stmt->sql), &b);
	sha256(buf_str(&b), hash);
	hex_text(hash, 16, text);
	buf_done(&b);
}

static size_t least_asked(const struct query_stats *q)
{
	size_t least = 0;

	for (size_t i = 1; i < q->n; i++) {
		if (q->v[i]->calls < q->v[least]->calls)
			least = i;
	}
	return least;
}

struct query_stat *query_stat_of(struct daemon *d, const struct pg_stmt *stmt)
{
	struct query_stats *q = d->queries;
	size_t at;

	if (!q)
		q = d->queries = arena_zalloc(d->arena, sizeof(*q));
	for (size_t i = 0; i < q->n; i++) {
		if (q->of[i] == stmt)
			return q->v[i];
	}
	at = q->n < QUERY_STATS_MAX ? q->n : least_asked(q);
	if (at == q->n)
		q->v[q->n++] = arena_zalloc(d->arena, sizeof(**q->v));
	q->of[at] = stmt;
	*q->v[at] = (struct query_stat){.query = stmt->name};
	fingerprint(stmt, q->v[at]->fingerprint);
	return q->v[at];
}

static int by_hits(const void *a, const void *b)
{
	const struct query_stat *x = a, *y = b;

	if (x->hits != y->hits)
		return x->hits < y->hits ? 1 : -1;
	return x->calls == y->calls ? strcmp(x->query, y->query) : x->calls < y->calls ? 1 : -1;
}

struct query_totals cache_query_stats(const struct daemon *d, struct arena *arena, size_t n, struct query_stat **ret,
				      size_t *ret_n)
{
	const struct query_stats *q = d->queries;
	struct query_totals t = {.statements = q ? q->n : 0};
	struct query_stat *v = arena_array(arena, t.statements + 1, sizeof(*v));

	for (size_t i = 0; i < t.statements; i++) {
		v[i] = *q->v[i];
		v[i].saved_us = v[i].misses != 0 ? v[i].source_us / v[i].misses * v[i].hits : 0;
		t.calls += v[i].calls;
		t.hits += v[i].hits;
		t.misses += v[i].misses;
		t.saved_us += v[i].saved_us;
		t.cached += v[i].cached_at_us != 0;
	}
	if (t.statements != 0)
		qsort(v, t.statements, sizeof(*v), by_hits);
	*ret = v;
	*ret_n = n < t.statements ? n : t.statements;
	return t;
}

/* ---- as JSON ---- */

static struct list words_of(const char *text, struct arena *arena)
{
	struct str rest = str_of(text), *v;
	size_t n = 0;

	for (size_t i = 0; i < rest.n; i++)
		n += rest.p[i] == ' ';
	v = arena_array(arena, n + 1, sizeof(*v));
	for (n = 0; rest.n != 0; n++)
		v[n] = arena_str(arena, str_split(&rest, ' '));
	return (struct list){v, n};
}

static double ms(uint64_t us)
{
	uint64_t hundredths = us / 10;

	return (double)hundredths / 100;
}

static void top_of(const struct query_stat *s, struct arena *arena, struct query_top *to)
{
	FIELD_PUT(to, query_top, query, str_of(s->query));
	FIELD_PUT(to, query_top, fingerprint, str_of(arena_strdup(arena, s->fingerprint)));
	if (s->cached_at_us != 0) {
		FIELD_PUT(to, query_top, cache_key, str_of(arena_strdup(arena, s->key)));
		FIELD_PUT(to, query_top, cached_at, s->cached_at_us);
		FIELD_PUT(to, query_top, ttl, s->ttl_s);
	}
	FIELD_PUT(to, query_top, tags, words_of(s->tags, arena));
	FIELD_PUT(to, query_top, hit_count, (int64_t)s->hits);
	FIELD_PUT(to, query_top, miss_count, (int64_t)s->misses);
	FIELD_PUT(to, query_top, bypass_count, (int64_t)s->bypassed);
	FIELD_PUT(to, query_top, error_count, (int64_t)s->errors);
	FIELD_PUT(to, query_top, mean_source_ms, s->misses != 0 ? ms(s->source_us / s->misses) : 0);
	FIELD_PUT(to, query_top, saved_ms, ms(s->saved_us));
	FIELD_PUT(to, query_top, bytes, (int64_t)s->bytes);
	FIELD_PUT(to, query_top, rows, (int64_t)s->rows);
}

const struct query_cache *cache_query_shape(const struct daemon *d, struct arena *arena, size_t n)
{
	struct query_cache *shape = arena_zalloc(arena, sizeof(*shape));
	struct query_stat *v;
	struct query_totals t = cache_query_stats(d, arena, n, &v, &n);
	struct query_top *top = arena_array(arena, n + 1, sizeof(*top));

	for (size_t i = 0; i < n; i++) {
		top[i] = (struct query_top){0};
		top_of(&v[i], arena, &top[i]);
	}
	FIELD_PUT(shape, query_cache, total_cached_queries, (int64_t)t.cached);
	FIELD_PUT(shape, query_cache, total_cache_hits, (int64_t)t.hits);
	FIELD_PUT(shape, query_cache, total_cache_misses, (int64_t)t.misses);
	FIELD_PUT(shape, query_cache, total_saved_ms, ms(t.saved_us));
	FIELD_PUT(shape, query_cache, avg_hits_per_query, t.cached != 0 ? ms(t.hits * 1000 / t.cached) : 0);
	FIELD_PUT(shape, query_cache, top_cached_queries, ((struct list){top, n}));
	return shape;
}
