/* SPDX-License-Identifier: Apache-2.0 */
/* Which entities may be claimed now: parents before children (write-path.md 7). Pure. */
#ifndef S24_WORKER_PLAN_H
#define S24_WORKER_PLAN_H

#include "base/defs.h"

struct plan_row {
	const void *service; /* foreign keys exist inside a schema only, so levels count inside a service */
	unsigned level;
	int64_t due, overdue; /* records; overdue: due for more than 30 s */
	bool paused;
	bool claim; /* the answer */
};
#define PLAN_OVERDUE_MS 30000
void plan_levels(struct plan_row *rows, size_t n);

#endif
