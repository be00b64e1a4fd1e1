/* SPDX-License-Identifier: Apache-2.0 */
/* Counting a route's answers: a linear look through few slots, no text. Apart from metrics.c, so that the router links little. */
#include <stdlib.h>

#include "base/arena.h"
#include "svc/metrics.h"

static const int64_t bounds_us[METRICS_BUCKETS] = {5000,   10000,  25000,   50000,   75000,   100000,  250000,
						   500000, 750000, 1000000, 2500000, 5000000, 7500000, 10000000};

struct status_times *route_times_slot(struct route_times *t, enum http_method method, int status)
{
	struct status_times *slot;

	for (size_t i = 0; i < t->n; i++)
		if (t->v[i]->status == status && t->v[i]->method == method)
			return t->v[i];
	if (t->n == METRICS_STATUSES)
		return t->v[METRICS_STATUSES - 1];
	slot = mem_zalloc(sizeof(*slot));
	slot->status = status;
	slot->method = method;
	t->v[t->n++] = slot;
	return slot;
}

void route_times_add(struct route_times *t, enum http_method method, int status, int64_t took_us)
{
	struct status_times *slot = route_times_slot(t, method, status);
	size_t i = 0;

	if (took_us < 0)
		took_us = 0;
	slot->count++;
	slot->sum_us += (uint64_t)took_us;
	while (i < METRICS_BUCKETS && took_us > bounds_us[i])
		i++;
	if (i < METRICS_BUCKETS)
		slot->bucket[i]++;
}

void route_times_done(struct route_times *t)
{
	for (size_t i = 0; i < t->n; i++)
		free(t->v[i]);
	t->n = 0;
}
