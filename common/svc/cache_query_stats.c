/* SPDX-License-Identifier: Apache-2.0 */
/* What was asked of kept statements: one row each, a bounded number of them. */
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "io/crypto.h"
#include "svc/cache_query.h"
#include "svc/daemon.h"

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
	}
	if (t.statements != 0)
		qsort(v, t.statements, sizeof(*v), by_hits);
	*ret = v;
	*ret_n = n < t.statements ? n : t.statements;
	return t;
}
