/* SPDX-License-Identifier: Apache-2.0 */
/* The worker's numbers for Prometheus: an entity's over all buffers, and a buffer's over all entities. */
#include "svc/metrics.h"

#include <stdlib.h>

#include "base/timefmt.h"
#include "duties.h"
#include "io/loop.h"
#include "svc/daemon.h"
#include "svc/req.h"
#include "worker.h"

/* ---- of entities ---- */

struct sums {
	struct buffer_status status;
	struct flush_counts total;
	int64_t oldest_first_ms, run_us, run_count;
};

static void add(struct sums *to, const struct queue *q)
{
	struct job job = board_look(&q->w->board, q->index);

	to->status.pending += q->status.pending;
	to->status.retry += q->status.retry;
	to->status.leased += q->status.leased;
	to->status.dead += q->status.dead;
	flush_counts_add(&to->total, &job.total);
	to->run_us += job.run_us;
	to->run_count += job.run_count;
	if (q->oldest_first_ms != 0 && (to->oldest_first_ms == 0 || q->oldest_first_ms < to->oldest_first_ms))
		to->oldest_first_ms = q->oldest_first_ms;
}

static struct sums *sums_of(const struct worker *w)
{
	struct sums *v = mem_zalloc((w->n_targets + 1) * sizeof(*v));

	for (size_t i = 0; i < w->n_queues; i++)
		add(&v[w->queues[i].target->index], &w->queues[i]);
	return v;
}

static double age_s(const struct worker *w, int64_t first_ms)
{
	int64_t age_ms = first_ms != 0 ? loop_real_us(w->loop) / 1000 - first_ms : 0;

	return age_ms > 0 ? (double)age_ms / 1000 : 0;
}

static const char *name_of(const struct worker *w, size_t target)
{
	return w->targets[target].entity->name;
}

static void put_items(const struct worker *w, const struct sums *v, struct buf *out)
{
	static const char name[] = "schools24_buffer_items";

	metrics_head(out, name, "gauge", "Unsynced records.");
	for (size_t i = 0; i < w->n_targets; i++) {
		const struct buffer_status *s = &v[i].status;

		metrics_put_i64(out, name, s->pending, "entity", name_of(w, i), "state", "pending", NULL);
		metrics_put_i64(out, name, s->retry, "entity", name_of(w, i), "state", "retry", NULL);
		metrics_put_i64(out, name, s->leased, "entity", name_of(w, i), "state", "leased", NULL);
		metrics_put_i64(out, name, s->dead, "entity", name_of(w, i), "state", "dead", NULL);
	}
}

static void put_ages(const struct worker *w, const struct sums *v, struct buf *out)
{
	static const char oldest[] = "schools24_buffer_oldest_unsynced_seconds", margin[] = "schools24_buffer_ttl_margin_seconds";

	metrics_head(out, oldest, "gauge", "Age of the oldest record that waits.");
	for (size_t i = 0; i < w->n_targets; i++)
		metrics_put_double(out, oldest, age_s(w, v[i].oldest_first_ms), "entity", name_of(w, i), NULL);
	metrics_head(out, margin, "gauge", "Time until the oldest record is an incident.");
	for (size_t i = 0; i < w->n_targets; i++)
		metrics_put_double(out, margin, (double)w->ttl_s - age_s(w, v[i].oldest_first_ms), "entity", name_of(w, i), NULL);
}

static void put_results(const struct worker *w, const struct sums *v, struct buf *out)
{
	static const char name[] = "schools24_sync_items_total";

	metrics_head(out, name, "counter", "Records that left the buffer, and how.");
	for (size_t i = 0; i < w->n_targets; i++) {
		const struct flush_counts *t = &v[i].total;

		metrics_put_i64(out, name, t->applied, "entity", name_of(w, i), "result", "applied", NULL);
		metrics_put_i64(out, name, t->same, "entity", name_of(w, i), "result", "same", NULL);
		metrics_put_i64(out, name, t->superseded, "entity", name_of(w, i), "result", "superseded", NULL);
		metrics_put_i64(out, name, t->dead, "entity", name_of(w, i), "result", "dead", NULL);
	}
}

#define COUNTERS(X)                                                                                  \
	X("schools24_buffer_ack_newer_total", "Acknowledged while a newer version had come.", newer) \
	X("schools24_buffer_lease_reaped_total", "Leases whose worker did not finish.", reaped)      \
	X("schools24_sync_retried_total", "Records given back.", retried)                            \
	X("schools24_sync_errors_total", "Failed transactions and calls.", errors)                   \
	X("schools24_sync_transactions_total", "Transactions begun.", statements)                    \
	X("schools24_sync_bytes_freed_total", "Bytes of records that left the buffer.", bytes_freed)

static void put_counters(const struct worker *w, const struct sums *v, struct buf *out)
{
	static const char sum[] = "schools24_sync_run_duration_seconds_sum",
			  count[] = "schools24_sync_run_duration_seconds_count";

#define PUT_COUNTER(metric, help, member)           \
	metrics_head(out, metric, "counter", help); \
	for (size_t i = 0; i < w->n_targets; i++)   \
		metrics_put_i64(out, metric, v[i].total.member, "entity", name_of(w, i), NULL);
	COUNTERS(PUT_COUNTER)
#undef PUT_COUNTER
	metrics_head(out, "schools24_sync_run_duration_seconds", "summary", "Time of the runs.");
	for (size_t i = 0; i < w->n_targets; i++) {
		metrics_put_double(out, sum, (double)v[i].run_us / 1e6, "entity", name_of(w, i), NULL);
		metrics_put_i64(out, count, v[i].run_count, "entity", name_of(w, i), NULL);
	}
}

/* ---- of buffers, and of the worker ---- */

#define GAUGES(X)                                                                                     \
	X("schools24_sync_buffer_up", "1 while the worker reaches the buffer.", up)                   \
	X("schools24_sync_buffer_pressure", "0, 1 above the high mark, 2 above the limit.", pressure) \
	X("schools24_sync_buffer_backlog", "Unsynced records that are not dead.", backlog)            \
	X("schools24_sync_buffer_used_bytes", "Memory that the buffer's Redis uses.", used_bytes)     \
	X("schools24_sync_buffer_max_bytes", "Its limit; 0: none.", most_bytes)

static void put_buffers(const struct worker *w, struct buf *out)
{
#define PUT_GAUGE(metric, help, member)           \
	metrics_head(out, metric, "gauge", help); \
	for (size_t i = 0; i < w->n_sources; i++) \
		metrics_put_i64(out, metric, (int64_t)w->sources[i].member, "buffer", w->sources[i].name, NULL);
	GAUGES(PUT_GAUGE)
#undef PUT_GAUGE
}

static void put_worker(struct worker *w, struct buf *out)
{
	metrics_head(out, "schools24_sync_clock_difference_seconds", "gauge",
		     "A buffer's clock before the database's, the worst.");
	metrics_put_double(out, "schools24_sync_clock_difference_seconds", watch_clock_difference_s(w), NULL);
	metrics_head(out, "schools24_sync_interval_seconds", "gauge", "How long a record may wait for the database.");
	metrics_put_i64(out, "schools24_sync_interval_seconds", daemon_settings(w->daemon)->batch_interval_s, NULL);
	metrics_head(out, "schools24_sync_breaker_open", "gauge", "1 while the database counts as away.");
	metrics_put_i64(out, "schools24_sync_breaker_open", board_is_open(&w->board, DATABASE_ROWS), NULL);
	metrics_head(out, "schools24_sync_breaker_opened_total", "counter", "How often it was found away.");
	metrics_put_i64(out, "schools24_sync_breaker_opened_total", board_opened(&w->board, DATABASE_ROWS), NULL);
	metrics_head(out, "schools24_outbox_relayed_total", "counter", "Events of write-through changes that were sent.");
	metrics_put_i64(out, "schools24_outbox_relayed_total", w->relayed, NULL);
}

/* ---- by the names of the first documents: means since the start, of everything. Windows: the recording rules of deploy/observability ---- */

static void put_names_of_documents(struct worker *w, const struct sums *v, const struct us_times *writes, struct buf *out)
{
	int64_t well = 0, badly = 0, run_us = 0, runs = 0;

	for (size_t i = 0; i < w->n_targets; i++) {
		const struct flush_counts *t = &v[i].total;

		well += t->applied + t->same + t->superseded;
		badly += t->dead + t->retried;
		run_us += v[i].run_us;
		runs += v[i].run_count;
	}
	metrics_head(out, "batch_processor_success_rate", "gauge", "Share of records that were written when they were tried.");
	metrics_put_double(out, "batch_processor_success_rate", well + badly > 0 ? (double)well / (double)(well + badly) : 1,
			   NULL);
	metrics_head(out, "batch_processor_duration", "gauge", "Seconds of a run.");
	metrics_put_double(out, "batch_processor_duration", runs > 0 ? (double)run_us / (double)runs / 1e6 : 0, NULL);
	metrics_head(out, "db_write_latency", "gauge", "Seconds of a transaction that writes records.");
	metrics_put_double(out, "db_write_latency", writes->count > 0 ? (double)writes->sum_us / (double)writes->count / 1e6 : 0,
			   NULL);
}

void worker_metrics(struct daemon *d, struct buf *out)
{
	struct worker *w = worker_of(d);
	struct us_times writes;
	struct sums *v;

	if (w == NULL)
		return;
	v = sums_of(w);
	put_items(w, v, out);
	put_ages(w, v, out);
	put_results(w, v, out);
	put_counters(w, v, out);
	put_buffers(w, out);
	put_worker(w, out);
	writes = board_writes(&w->board);
	us_times_put(out, "schools24_sync_write_duration_seconds", "database", "rows", &writes,
		     "Time of transactions that write records, BEGIN to COMMIT.");
	put_names_of_documents(w, v, &writes, out);
	duties_metrics(w, out);
	free(v);
}
