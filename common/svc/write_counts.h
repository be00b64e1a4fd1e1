/* SPDX-License-Identifier: Apache-2.0 */
/* What became of a daemon's buffered writes, for /metrics: conflicts of each entity, and what was done while the buffer was away. */
#ifndef S24_SVC_WRITE_COUNTS_H
#define S24_SVC_WRITE_COUNTS_H

#include "base/buf.h"
#include "svc/entity.h"

struct daemon;

enum degraded_mode { DEGRADED_WRITTEN, /* to the database, past the buffer */ DEGRADED_REFUSED, DEGRADED_MODES };

struct write_counts {
	int64_t *conflicts; /* of each entity of the service; made at the first one */
	int64_t degraded[DEGRADED_MODES];
};

void write_counts_conflict(struct daemon *d, const struct entity *e);
void write_counts_degraded(struct daemon *d, enum degraded_mode mode);
void write_counts_metrics(const struct daemon *d, struct buf *out);

#endif
