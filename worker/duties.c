/* SPDX-License-Identifier: Apache-2.0 */
/* What the duties share, and their numbers. */
#include "duties.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/timefmt.h"
#include "io/loop.h"
#include "svc/metrics.h"
#include "worker_sql.h"

#define PG_MS 4000

SCHEMA_TABLE(schema_name, SCHEMA_NAME_FIELDS);

struct duties *duties_new(void)
{
	return mem_zalloc(sizeof(struct duties));
}

void *duties_free(struct duties *d, size_t n_sources)
{
	for (size_t i = 0; d != NULL && d->patrols != NULL && i < n_sources; i++)
		verify_done(&d->patrols[i].verify);
	if (d != NULL) {
		free(d->patrols);
		free(d->chains);
		free(d->lags);
	}
	free(d);
	return NULL;
}

enum err duties_schemas(struct worker *w, struct arena *arena, struct list *ret)
{
	struct pg_scope scope = {.arena = arena, .deadline = deadline_in(w->loop, PG_MS)};

	*ret = (struct list){NULL, 0};
	return pg_query(daemon_pg(w->daemon), &scope, &SQL_WORKER_AUDIT_SCHEMAS, PG_NO_PARAMS, &schema_name_schema, ret);
}

/* ---- metrics ---- */

static void put_violations(const struct worker *w, struct buf *out)
{
	static const char name[] = "schools24_buffer_violations_total";

	metrics_head(out, name, "counter", "What the verifier found wrong in a buffer, and mended.");
	for (size_t i = 0; i < w->n_sources; i++)
		for (enum violation k = 0; k < VIOLATION_N; k++)
			metrics_put_i64(out, name, w->duties->patrols[i].verify.violations[k], "buffer", w->sources[i].name,
					"kind", violation_name(k), NULL);
}

#define OF_PATROLS(X)                                                                                                  \
	X("schools24_buffer_verified_total", "counter", "Ids and members of lists that the verifier looked at.",       \
	  verify.verified)                                                                                             \
	X("schools24_buffer_verify_passes_total", "counter", "Times that the verifier went through a buffer.", passes) \
	X("schools24_buffer_verify_errors_total", "counter", "Pages that could not be verified.", verify.errors)       \
	X("schools24_buffer_verified_at_seconds", "gauge", "When the last pass ended; 0: none by this worker.",        \
	  passed_at_us / US_PER_S)

static void put_patrols(const struct worker *w, struct buf *out)
{
	if (w->duties->patrols == NULL)
		return;
	put_violations(w, out);
#define PUT(metric, type, help, member)           \
	metrics_head(out, metric, type, help);    \
	for (size_t i = 0; i < w->n_sources; i++) \
		metrics_put_i64(out, metric, w->duties->patrols[i].member, "buffer", w->sources[i].name, NULL);
	OF_PATROLS(PUT)
#undef PUT
}

#define OF_CHAINS(X)                                                                                                  \
	X("schools24_audit_unchained", "gauge", "Audit rows that are not in the chain yet.", waiting)                 \
	X("schools24_audit_chained_total", "counter", "Audit rows that this worker has put into the chain.", chained) \
	X("schools24_audit_proofs_total", "counter", "Stretches of the chain that were proven.", checked)             \
	X("schools24_audit_chain_broken_total", "counter", "Links that a proof found broken, in each proof anew.", broken)

static void put_chains(const struct duties *d, struct buf *out)
{
#define PUT(metric, type, help, member)          \
	metrics_head(out, metric, type, help);   \
	for (size_t i = 0; i < d->n_chains; i++) \
		metrics_put_i64(out, metric, d->chains[i].member, "schema", d->chains[i].daemon, NULL);
	OF_CHAINS(PUT)
#undef PUT
}

static void put_removed(const struct duties *d, struct buf *out)
{
	static const char name[] = "schools24_retention_removed_total";

	metrics_head(out, name, "counter", "Old rows that this worker has removed.");
	metrics_put_i64(out, name, d->removed.outbox, "table", "outbox", NULL);
	metrics_put_i64(out, name, d->removed.idempotency, "table", "idempotency", NULL);
	metrics_put_i64(out, name, d->removed.dead_letter, "table", "dead_letter", NULL);
	metrics_put_i64(out, name, d->removed.runs, "table", "runs", NULL);
}

/* Of the streams themselves (no group) or of their groups. */
static void put_lag(const struct worker *w, struct buf *out, const char *name, bool groups, int64_t (*of)(const struct lag *l))
{
	char stream[80];

	for (size_t i = 0; i < w->duties->n_lags; i++) {
		const struct lag *l = &w->duties->lags[i];

		if (groups != (l->group[0] != '\0') || of(l) < 0)
			continue;
		snprintf(stream, sizeof(stream), "events:%s", worker_services[l->service].name);
		if (groups)
			metrics_put_i64(out, name, of(l), "stream", stream, "group", l->group, "buffer",
					w->sources[l->source].name, NULL);
		else
			metrics_put_i64(out, name, of(l), "stream", stream, "buffer", w->sources[l->source].name, NULL);
	}
}

static int64_t length_of(const struct lag *l)
{
	return l->length;
}

static int64_t behind_of(const struct lag *l)
{
	return l->behind;
}

static int64_t pending_of(const struct lag *l)
{
	return l->pending;
}

static void put_lags(const struct worker *w, struct buf *out)
{
	metrics_head(out, "schools24_event_stream_length", "gauge", "Events that a stream holds.");
	put_lag(w, out, "schools24_event_stream_length", false, length_of);
	metrics_head(out, "schools24_event_lag", "gauge", "Events that a group has not been given yet.");
	put_lag(w, out, "schools24_event_lag", true, behind_of);
	metrics_head(out, "schools24_event_pending", "gauge", "Events that a group was given and has not acknowledged.");
	put_lag(w, out, "schools24_event_pending", true, pending_of);
}

void duties_metrics(const struct worker *w, struct buf *out)
{
	if (w->duties == NULL)
		return;
	put_patrols(w, out);
	put_chains(w->duties, out);
	put_removed(w->duties, out);
	put_lags(w, out);
}
