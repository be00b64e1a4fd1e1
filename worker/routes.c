/* SPDX-License-Identifier: Apache-2.0 */
/* What a platform administrator may ask of the worker, and the numbers for Prometheus. */
#include "routes.h"

#include "svc/metrics.h"
#include "svc/req.h"
#include "worker.h"

SCHEMA_TABLE(flush_in, FLUSH_FIELDS);
SCHEMA_TABLE(pause_in, PAUSE_FIELDS);
SCHEMA_TABLE(dead_list_in, DEAD_LIST_FIELDS);
SCHEMA_TABLE(replay_in, REPLAY_FIELDS);
SCHEMA_TABLE(dead_version, DEAD_VERSION_FIELDS);
SCHEMA_TABLE(discard_in, DISCARD_FIELDS);
SCHEMA_TABLE(runs_in, RUNS_IN_FIELDS);
SCHEMA_TABLE(sync_entity, SYNC_ENTITY_FIELDS);
SCHEMA_TABLE(dead_letter, DEAD_LETTER_FIELDS);
SCHEMA_TABLE(run_out, RUN_FIELDS);

/* The role is the whole rule: what is in the buffer belongs to no school alone. */
SUSPENDS static enum err platform(struct req *req)
{
	return req->who.role == ROLE_SUPER_ADMIN ? OK : ERR_FORBIDDEN;
}

/* clang-format off */
#define PLATFORM ROLE_SUPER_ADMIN, MAY_CHECK(platform)
const struct route worker_routes[] = {
	{HTTP_GET, "/sync/status", PLATFORM, .out = &sync_entity_schema, .handler = sync_status,
		.summary = "What waits, is in flight and is dead, for each entity"},
	{HTTP_POST, "/sync/flush", PLATFORM, .in = &flush_in_schema, .flags = ROUTE_BODY_OPTIONAL, .handler = sync_flush,
		.summary = "Flush now; answers when the backlog is drained, or with what remains"},
	{HTTP_POST, "/sync/pause", PLATFORM, .in = &pause_in_schema, .handler = sync_pause, .summary = "Claim no more records of an entity, or of all"},
	{HTTP_POST, "/sync/resume", PLATFORM, .in = &pause_in_schema, .handler = sync_resume, .summary = "Claim them again"},
	{HTTP_GET, "/sync/runs", PLATFORM, .query = &runs_in_schema, .out = &run_out_schema, .handler = sync_runs, .summary = "The newest runs"},
	{HTTP_GET, "/sync/dead-letter/{entity}", PLATFORM, .query = &dead_list_in_schema, .out = &dead_letter_schema, .handler = dead_list,
		.summary = "Records that could not be written, with the reason"},
	{HTTP_POST, "/sync/dead-letter/{entity}/replay", PLATFORM, .in = &replay_in_schema, .handler = dead_replay, .summary = "Try them again"},
	{HTTP_POST, "/sync/dead-letter/{entity}/discard", PLATFORM, .in = &discard_in_schema, .handler = dead_discard,
		.summary = "Remove them for good, each at the version seen"},
	ROUTE_END,
};
/* clang-format on */

/* ---- metrics ---- */

static double age_s(const struct worker *w, int64_t first_ms)
{
	int64_t age_ms = first_ms != 0 ? loop_real_us(w->loop) / 1000 - first_ms : 0;

	return age_ms > 0 ? (double)age_ms / 1000 : 0;
}

static void put_items(const struct worker *w, struct buf *out)
{
	static const char name[] = "schools24_buffer_items";

	metrics_head(out, name, "gauge", "Unsynced records.");
	for (size_t i = 0; i < w->n; i++) {
		const struct buffer_status *s = &w->seen[i].status;
		const char *entity = w->targets[i].entity->name;

		metrics_put_i64(out, name, s->pending, "entity", entity, "state", "pending", NULL);
		metrics_put_i64(out, name, s->retry, "entity", entity, "state", "retry", NULL);
		metrics_put_i64(out, name, s->leased, "entity", entity, "state", "leased", NULL);
		metrics_put_i64(out, name, s->dead, "entity", entity, "state", "dead", NULL);
	}
}

static void put_ages(const struct worker *w, struct buf *out)
{
	metrics_head(out, "schools24_buffer_oldest_unsynced_seconds", "gauge", "Age of the oldest record that waits.");
	for (size_t i = 0; i < w->n; i++)
		metrics_put_double(out, "schools24_buffer_oldest_unsynced_seconds", age_s(w, w->seen[i].oldest_first_ms),
				   "entity", w->targets[i].entity->name, NULL);
	metrics_head(out, "schools24_buffer_ttl_margin_seconds", "gauge", "Time until the oldest record is an incident.");
	for (size_t i = 0; i < w->n; i++)
		metrics_put_double(out, "schools24_buffer_ttl_margin_seconds",
				   (double)w->ttl_s - age_s(w, w->seen[i].oldest_first_ms), "entity", w->targets[i].entity->name,
				   NULL);
}

static void put_results(struct worker *w, struct buf *out)
{
	static const char name[] = "schools24_sync_items_total";

	metrics_head(out, name, "counter", "Records that left the buffer, and how.");
	for (size_t i = 0; i < w->n; i++) {
		struct flush_counts t = board_look(&w->board, i).total;
		const char *entity = w->targets[i].entity->name;

		metrics_put_i64(out, name, t.applied, "entity", entity, "result", "applied", NULL);
		metrics_put_i64(out, name, t.same, "entity", entity, "result", "same", NULL);
		metrics_put_i64(out, name, t.superseded, "entity", entity, "result", "superseded", NULL);
		metrics_put_i64(out, name, t.dead, "entity", entity, "result", "dead", NULL);
	}
}

#define COUNTERS(X)                                                                                            \
	X("schools24_buffer_ack_newer_total", "Acknowledged while a newer version had come.", job.total.newer) \
	X("schools24_buffer_lease_reaped_total", "Leases whose worker did not finish.", job.total.reaped)      \
	X("schools24_sync_retried_total", "Records given back.", job.total.retried)                            \
	X("schools24_sync_errors_total", "Failed transactions and calls.", job.total.errors)                   \
	X("schools24_sync_transactions_total", "Transactions begun.", job.total.statements)                    \
	X("schools24_sync_bytes_freed_total", "Bytes of records that left the buffer.", job.total.bytes_freed)

static void put_counters(struct worker *w, struct buf *out)
{
#define PUT_COUNTER(metric, help, value)                                                           \
	metrics_head(out, metric, "counter", help);                                                \
	for (size_t i = 0; i < w->n; i++) {                                                        \
		struct job job = board_look(&w->board, i);                                         \
                                                                                                   \
		metrics_put_i64(out, metric, (value), "entity", w->targets[i].entity->name, NULL); \
	}
	COUNTERS(PUT_COUNTER)
#undef PUT_COUNTER
	metrics_head(out, "schools24_sync_run_duration_seconds", "summary", "Time of the runs.");
	for (size_t i = 0; i < w->n; i++) {
		struct job job = board_look(&w->board, i);

		metrics_put_double(out, "schools24_sync_run_duration_seconds_sum", (double)job.run_us / 1e6, "entity",
				   w->targets[i].entity->name, NULL);
		metrics_put_i64(out, "schools24_sync_run_duration_seconds_count", job.run_count, "entity",
				w->targets[i].entity->name, NULL);
	}
}

void worker_metrics(struct daemon *d, struct buf *out)
{
	struct worker *w = worker_of(d);
	struct breaker breaker;

	if (w == NULL)
		return;
	breaker = board_breaker(&w->board);
	put_items(w, out);
	put_ages(w, out);
	put_results(w, out);
	put_counters(w, out);
	metrics_head(out, "schools24_sync_clock_difference_seconds", "gauge", "The buffer's clock before the database's.");
	metrics_put_double(out, "schools24_sync_clock_difference_seconds", w->clock_difference_s, NULL);
	metrics_head(out, "schools24_sync_breaker_open", "gauge", "1 while the database counts as away.");
	metrics_put_i64(out, "schools24_sync_breaker_open", breaker.open, NULL);
	metrics_head(out, "schools24_sync_breaker_opened_total", "counter", "How often it was found away.");
	metrics_put_i64(out, "schools24_sync_breaker_opened_total", (int64_t)breaker.opened, NULL);
	metrics_head(out, "schools24_outbox_relayed_total", "counter", "Events of write-through changes that were sent.");
	metrics_put_i64(out, "schools24_outbox_relayed_total", w->relayed, NULL);
}
