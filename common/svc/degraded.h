/* SPDX-License-Identifier: Apache-2.0 */
/* A change on its way, and its way to the database when the buffer is away (write-path.md 3, "When the buffer refuses"; internal to the engine). */
#ifndef S24_SVC_DEGRADED_H
#define S24_SVC_DEGRADED_H

#include "svc/bases.h"

#define CHANGE_ITEMS_MAX 400            /* a register of a class with its audit records, and room */
#define PUT_PATIENCE_US INT64_C(5000000) /* tries of an unknown outcome end well within the marker's minute */

struct change_item {
	const struct entity *entity;
	void *row;
	struct base *base; /* NULL: nobody has read it, and nobody needs to */
	struct audit_row *audit; /* of a row that is written through; a buffered one's is an item of its own */
};

struct change_event {
	struct change_event *next;
	struct str channel, envelope;
};

struct change {
	struct req *req;
	struct change_item *items;
	size_t n_items, cap, n_rows; /* n_rows: without the audit records behind them */
	struct change_event *events;
	size_t n_events;
	bool too_many, urgent;
};

/* Only a change that needs no old row: the base of any other may lie in the buffer that cannot be read. */
bool degraded_allowed(const struct change *c);
/* The worker's own guarded upsert, audit records and outbox in one transaction. At most a few at once (ERR_OVERLOAD). */
SUSPENDS MUST_CHECK enum err degraded_commit(struct change *c);

#endif
