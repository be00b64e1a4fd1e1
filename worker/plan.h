/* SPDX-License-Identifier: Apache-2.0 */
/* Which entities may be claimed now: parents before children (write-path.md 7), and how full a buffer is (write-path.md 3). Pure. */
#ifndef S24_WORKER_PLAN_H
#define S24_WORKER_PLAN_H

#include "base/defs.h"
#include "svc/buffers.h"

struct plan_row {
	const void *service; /* foreign keys exist inside a schema only, so levels count inside a service */
	unsigned level;
	int64_t due, overdue; /* records; overdue: due for more than 30 s */
	bool paused;
	bool late;  /* a record is older than the interval: the levels have no say any more */
	bool claim; /* the answer */
};
#define PLAN_OVERDUE_MS 30000
void plan_levels(struct plan_row *rows, size_t n);

struct fullness {
	int64_t backlog, high_mark, limit; /* records */
	int64_t used_bytes, most_bytes;    /* most 0: Redis has no limit */
};
/* A level is entered above its mark and left a tenth below it, so that a backlog which swings about a mark does not make it flap. */
enum pressure plan_pressure(enum pressure was, const struct fullness *f);

#endif
