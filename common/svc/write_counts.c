/* SPDX-License-Identifier: Apache-2.0 */
/* Counters of buffered writes. */
#include "svc/write_counts.h"

#include "svc/daemon.h"
#include "svc/metrics.h"

static size_t count_entities(const struct daemon *d)
{
	size_t n = 0;

	while (d->service->entities != NULL && d->service->entities[n] != NULL)
		n++;
	return n;
}

void write_counts_conflict(struct daemon *d, const struct entity *e)
{
	size_t n = count_entities(d);

	if (d->writes.conflicts == NULL)
		d->writes.conflicts = arena_zalloc(d->arena, (n + 1) * sizeof(*d->writes.conflicts));
	for (size_t i = 0; i < n; i++)
		d->writes.conflicts[i] += d->service->entities[i] == e;
}

void write_counts_degraded(struct daemon *d, enum degraded_mode mode)
{
	d->writes.degraded[mode]++;
}

void write_counts_metrics(const struct daemon *d, struct buf *out)
{
	static const char conflicts[] = "schools24_buffer_put_conflict_total",
			  degraded[] = "schools24_buffer_degraded_writes_total";
	static const char *const modes[DEGRADED_MODES] = {[DEGRADED_WRITTEN] = "database", [DEGRADED_REFUSED] = "refused"};

	metrics_head(out, conflicts, "counter", "Writes that met a newer version; the service tries again from it.");
	for (size_t i = 0, n = count_entities(d); i < n; i++)
		if (d->service->entities[i]->write == BUFFERED)
			metrics_put_i64(out, conflicts, d->writes.conflicts != NULL ? d->writes.conflicts[i] : 0, "entity",
					d->service->entities[i]->name, NULL);
	metrics_head(out, degraded, "counter", "Writes while the buffer was away: put into the database, or refused.");
	for (size_t i = 0; i < DEGRADED_MODES; i++)
		metrics_put_i64(out, degraded, d->writes.degraded[i], "mode", modes[i], NULL);
}
