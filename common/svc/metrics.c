/* SPDX-License-Identifier: Apache-2.0 */
/* /metrics: the kit's numbers by one table, then the service's own. */
#include "svc/metrics.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "base/str.h"
#include "io/fiber.h"
#include "io/loop.h"
#include "svc/buffers.h"
#include "svc/cache_health.h"
#include "svc/daemon.h"
#include "svc/documents.h"
#include "svc/req.h"
#include "svc/sweep.h"

static const char *const bounds_text[METRICS_BUCKETS] = {"0.005", "0.01", "0.025", "0.05", "0.075", "0.1", "0.25",
							 "0.5",   "0.75", "1",     "2.5",  "5",     "7.5", "10"};

/* ---- text ---- */

void metrics_head(struct buf *out, const char *name, const char *type, const char *help)
{
	buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void put_label_value(struct buf *out, const char *value)
{
	for (; *value != '\0'; value++) {
		if (*value == '\\' || *value == '"')
			buf_putc(out, '\\');
		if (*value == '\n')
			buf_puts(out, STR("\\n"));
		else
			buf_putc(out, *value);
	}
}

static void put_series(struct buf *out, const char *name, va_list labels)
{
	const char *label = va_arg(labels, const char *);
	char before = '{';

	buf_puts(out, str_of(name));
	for (; label != NULL; label = va_arg(labels, const char *)) {
		buf_printf(out, "%c%s=\"", before, label);
		put_label_value(out, va_arg(labels, const char *));
		buf_putc(out, '"');
		before = ',';
	}
	if (before == ',')
		buf_putc(out, '}');
	buf_putc(out, ' ');
}

void metrics_put_i64(struct buf *out, const char *name, int64_t value, ...)
{
	va_list labels;

	va_start(labels, value);
	put_series(out, name, labels);
	va_end(labels);
	buf_put_i64(out, value);
	buf_putc(out, '\n');
}

void metrics_put_double(struct buf *out, const char *name, double value, ...)
{
	va_list labels;

	va_start(labels, value);
	put_series(out, name, labels);
	va_end(labels);
	buf_printf(out, "%.9g\n", value);
}

/* ---- requests ---- */

#define DURATION "http_server_request_duration_seconds"

static void put_times(struct buf *out, const struct route_entry *entry, const struct status_times *t)
{
	const char *method = entry->route == NULL ? "_OTHER" : http_method_name(t->method);
	const char *route = entry->route == NULL ? "unmatched" : entry->path;
	uint64_t sum = 0;
	char status[12];

	snprintf(status, sizeof(status), "%d", t->status);
	for (size_t i = 0; i < METRICS_BUCKETS; i++) {
		sum += t->bucket[i];
		metrics_put_i64(out, DURATION "_bucket", (int64_t)sum, "method", method, "route", route, "status", status, "le",
				bounds_text[i], NULL);
	}
	metrics_put_i64(out, DURATION "_bucket", (int64_t)t->count, "method", method, "route", route, "status", status, "le",
			"+Inf", NULL);
	metrics_put_double(out, DURATION "_sum", (double)t->sum_us / 1e6, "method", method, "route", route, "status", status,
			   NULL);
	metrics_put_i64(out, DURATION "_count", (int64_t)t->count, "method", method, "route", route, "status", status, NULL);
}

/* What matched no route has one line per status, whatever the method: an outsider must not make new series. */
static void merge_unmatched(const struct route_times *from, struct route_times *to)
{
	for (size_t i = 0; i < from->n; i++) {
		struct status_times *slot = route_times_slot(to, HTTP_OTHER, from->v[i]->status);

		slot->count += from->v[i]->count;
		slot->sum_us += from->v[i]->sum_us;
		for (size_t b = 0; b < METRICS_BUCKETS; b++)
			slot->bucket[b] += from->v[i]->bucket[b];
	}
}

static void put_requests(const struct daemon *d, struct buf *out)
{
	const struct router *routers[] = {d->people.router, d->admin.router};
	struct route_entry unmatched = {.path = ""};

	metrics_head(out, DURATION, "histogram", "Time from the first byte of a request to the last of its answer.");
	for (size_t r = 0; r < ARRAY_LEN(routers); r++) {
		if (routers[r] == NULL)
			continue;
		for (size_t i = 0; i < router_size(routers[r]); i++) {
			const struct route_entry *entry = router_entry(routers[r], i);

			/* The description is served on both listeners, and a series may stand only once. */
			if (r == 1 && strcmp(entry->path, "/openapi.json") == 0)
				continue;
			for (size_t s = 0; s < entry->times.n; s++)
				put_times(out, entry, entry->times.v[s]);
		}
		merge_unmatched(&router_entry(routers[r], router_size(routers[r]))->times, &unmatched.times);
	}
	for (size_t s = 0; s < unmatched.times.n; s++)
		put_times(out, &unmatched, unmatched.times.v[s]);
	route_times_done(&unmatched.times);
}

/* ---- the process, one table: name, type, help, value ---- */

struct sampled {
	struct fiber_stats fibers;
	struct work_stats work;
	struct http_server_stats http;
	struct pg_stats pg;
	int64_t resident_bytes, live, uptime_s, draining;
};

static int64_t resident_bytes(void)
{
	FILE *f = fopen("/proc/self/statm", "re");
	long long total = 0, resident = 0;

	if (f == NULL)
		return 0;
	if (fscanf(f, "%lld %lld", &total, &resident) != 2)
		resident = 0;
	fclose(f);
	return resident * sysconf(_SC_PAGESIZE);
}

/* clang-format off */
#define PROCESS_METRICS(X)                                                                         \
	X("schools24_uptime_seconds", "gauge", "Seconds since this daemon started.", s->uptime_s)                                                   \
	X("schools24_draining", "gauge", "1 after SIGTERM.", s->draining)                                                                           \
	X("process_resident_memory_bytes", "gauge", "Resident memory.", s->resident_bytes)                                                          \
	X("schools24_requests_in_flight", "gauge", "Requests between header block and answer.", s->live)                                            \
	X("schools24_fibers", "gauge", "Fibers alive.", s->fibers.live)                                                                             \
	X("schools24_fibers_peak", "gauge", "Most fibers alive at once.", s->fibers.peak)                                                           \
	X("schools24_fibers_limit", "gauge", "Fibers above which requests are refused.", s->fibers.limit)                                           \
	X("schools24_fiber_stacks_pooled", "gauge", "Stacks kept for the next fibers.", s->fibers.stacks_pooled)                                    \
	X("schools24_fiber_stack_high_water_bytes", "gauge", "Most bytes of a fiber's stack that were ever used.", s->fibers.stack_high_water_bytes) \
	X("schools24_work_queued", "gauge", "Jobs waiting for a thread.", s->work.queued)                                                           \
	X("schools24_work_running", "gauge", "Jobs on a thread.", s->work.running)                                                                  \
	X("schools24_work_done_total", "counter", "Jobs done.", s->work.done)                                                                       \
	X("schools24_work_refused_total", "counter", "Jobs refused because the queue was full.", s->work.refused)                                   \
	X("schools24_http_connections", "gauge", "Open connections of the public listener.", s->http.connections)                                   \
	X("schools24_http_requests_total", "counter", "Requests of the public listener.", s->http.requests)                                         \
	X("schools24_http_refused_total", "counter", "Requests that the server itself refused.", s->http.refused)                                   \
	X("schools24_http_timed_out_total", "counter", "Connections cut at a deadline.", s->http.timed_out)                                         \
	X("schools24_pg_connections_busy", "gauge", "PostgreSQL connections at work.", s->pg.busy)                                                  \
	X("schools24_pg_connections_idle", "gauge", "PostgreSQL connections at rest.", s->pg.idle)                                                  \
	X("schools24_pg_waiting", "gauge", "Queries waiting for a connection.", s->pg.waiting)                                                      \
	X("schools24_pg_queries_total", "counter", "Queries.", s->pg.queries)                                                                       \
	X("schools24_pg_errors_total", "counter", "Queries that failed.", s->pg.errors)                                                             \
	X("schools24_pg_connects_total", "counter", "Connections made.", s->pg.connects)
/* clang-format on */

static void put_process(const struct sampled *s, struct buf *out)
{
#define PUT_METRIC(name, type, help, value)  \
	metrics_head(out, name, type, help); \
	metrics_put_i64(out, name, (int64_t)(value), NULL);
	PROCESS_METRICS(PUT_METRIC)
#undef PUT_METRIC
}

/* ---- the Redis instances, labelled ---- */

#define REDIS_METRICS(X)                                                                          \
	X("schools24_redis_commands_total", "counter", "Commands sent.", s.commands)              \
	X("schools24_redis_errors_total", "counter", "Commands that failed.", s.errors)           \
	X("schools24_redis_reconnects_total", "counter", "Connections made again.", s.reconnects) \
	X("schools24_redis_in_flight", "gauge", "Commands without an answer yet.", s.in_flight)   \
	X("schools24_redis_connected", "gauge", "Connections that are up.", s.connected)

/* A buffer's lines have its name as well, so that the first of them keeps its series when there are more. */
static void put_redis(const struct daemon *d, struct buf *out)
{
#define PUT_REDIS(name, type, help, value)                                                                                    \
	metrics_head(out, name, type, help);                                                                                  \
	for (size_t i = 0; i < daemon_buffers(d); i++) {                                                                      \
		struct redis_stats s = redis_stats(daemon_buffer_at(d, i));                                                   \
                                                                                                                              \
		metrics_put_i64(out, name, (int64_t)(value), "instance", "buffer", "buffer", daemon_buffer_name(d, i), NULL); \
	}                                                                                                                     \
	if (d->cache != NULL) {                                                                                               \
		struct redis_stats s = redis_stats(d->cache);                                                                 \
                                                                                                                              \
		metrics_put_i64(out, name, (int64_t)(value), "instance", "cache", NULL);                                      \
	}
	if (daemon_buffers(d) != 0 || d->cache != NULL) {
		REDIS_METRICS(PUT_REDIS)
	}
#undef PUT_REDIS
}

void metrics_write(struct daemon *d, struct buf *out)
{
	struct sampled s = {
		.fibers = fiber_stats(),
		.resident_bytes = resident_bytes(),
		.live = (int64_t)d->live,
		.uptime_s = (loop_mono_us(d->loop) - d->started_us) / 1000000,
		.draining = d->state == DAEMON_DRAINING,
	};

	if (d->work != NULL)
		s.work = work_stats(d->work);
	if (d->people.server != NULL)
		s.http = http_server_stats(d->people.server);
	if (d->pg != NULL)
		s.pg = pg_stats(d->pg);
	metrics_head(out, "schools24_build_info", "gauge", "1; the labels tell which daemon of which version this is.");
	metrics_put_i64(out, "schools24_build_info", 1, "service", d->service->name, "version", SERVICE_VERSION, NULL);
	put_process(&s, out);
	put_redis(d, out);
	cache_metrics(d, out);
	documents_metrics(d, out);
	sweep_metrics(d, out);
	buffers_metrics(d, out);
	if ((d->service->flags & SERVICE_NO_BUFFER) == 0)
		write_counts_metrics(d, out);
	put_requests(d, out);
	if (d->service->metrics != NULL)
		d->service->metrics(d, out);
}
