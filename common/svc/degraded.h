/* SPDX-License-Identifier: Apache-2.0 */
/* A change on its way, and its way to the database when the buffer is away (write-path.md 3, "When the buffer refuses"; internal to the engine). */
#ifndef S24_SVC_DEGRADED_H
#define S24_SVC_DEGRADED_H

#include "io/redis.h"
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
	bool quiet; /* for the cache alone: nobody listens to it */
};

struct change {
	struct req *req;
	struct change_item *items;
	size_t n_items, cap, n_rows; /* n_rows: without the audit records behind them */
	struct change_event *events;
	size_t n_events;
	bool too_many, urgent;
	bool unsure; /* refused, but it may have been made all the same */
	struct str told; /* name of the event with the tags, once there is one */
};

/* Only a change that needs no old row: the base of any other may lie in the buffer that cannot be read. */
bool degraded_allowed(const struct change *c);
/* The worker's own guarded upsert, audit records and outbox in one transaction. At most a few at once (ERR_OVERLOAD). */
SUSPENDS MUST_CHECK enum err degraded_commit(struct change *c);

/*
 * What such writes leave behind. The buffer that comes back may hold older records of the rows that they wrote, and knows nothing of their
 * Idempotency-Keys. So the process that wrote says so, in `idem:<service>:degraded` on that buffer as soon as it answers, for a day: the highest version
 * that it gave, or the time of the telling if the outcome of one is unknown. Every daemon knows it at the latest a second after; until it goes, a record
 * of such an entity that is not newer is compared with the table, and a key that the buffer does not know is looked for in the table too. In normal
 * times this costs a GET a second, beside other commands. What remains: see common/svc/README.md.
 */
/* Starts a look at what others have said, when the last is old (or `now`); NULL: nothing to ask. degraded_heard takes the answer. */
struct redis_op *degraded_ask(struct req *req, bool now);
SUSPENDS void degraded_heard(struct req *req, struct redis_op *op, struct deadline d);
/* Versions up to this one may be older than what was written past the buffer of the request's school; 0: none of a day. */
int64_t degraded_until(const struct req *req);
/* May rows of the entity be written so? */
bool degraded_writes(const struct req *req, const struct entity *e);
void degraded_cancel(struct daemon *d);
void degraded_close(struct daemon *d); /* when no fiber is left */

#endif
