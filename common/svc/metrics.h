/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Numbers for Prometheus: plain counters of the one loop thread, written as text when asked.
 *
 * The kit's own metrics are one table in metrics.c. A service adds lines in its metrics hook with metrics_head and metrics_put.
 */
#ifndef S24_SVC_METRICS_H
#define S24_SVC_METRICS_H

#include "base/buf.h"
#include "io/http.h"

struct daemon;

#define METRICS_BUCKETS 14 /* OpenTelemetry's bounds: .005 … 10 s */
#define METRICS_STATUSES 16

struct status_times {
	int status;
	enum http_method method; /* HEAD counts apart from GET */
	uint64_t count, sum_us;
	uint64_t bucket[METRICS_BUCKETS]; /* not cumulative */
};
/* Of one route: a slot for each status that it ever answered. Past the sixteenth the last slot takes all. */
struct route_times {
	size_t n;
	struct status_times *v[METRICS_STATUSES];
};
void route_times_add(struct route_times *t, enum http_method method, int status, int64_t took_us);
struct status_times *route_times_slot(struct route_times *t, enum http_method method, int status) NEVER_NULL;
void route_times_done(struct route_times *t);

void metrics_write(struct daemon *d, struct buf *out);
void metrics_head(struct buf *out, const char *name, const char *type, const char *help); /* # HELP and # TYPE */
/* One sample; labels are name, value, … NULL. */
void metrics_put_i64(struct buf *out, const char *name, int64_t value, ...) __attribute__((sentinel));
void metrics_put_double(struct buf *out, const char *name, double value, ...) __attribute__((sentinel));

#endif
