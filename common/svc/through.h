/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rows that are committed in PostgreSQL before the answer (entities with .write = THROUGH; write-path.md 6; internal to the entity engine).
 *
 * A change of one row joins those of other requests: all that wait for one entity of one school go out as one statement in one transaction, at
 * the end of the loop's turn or when a connection comes back, and each gets its own outcome. A row that the database refuses makes
 * its group fail; the group is halved until that row fails alone. A change of several rows has a transaction of its own, on its own fiber.
 */
#ifndef S24_SVC_THROUGH_H
#define S24_SVC_THROUGH_H

#include "svc/degraded.h"

struct through; /* of a daemon: what waits, and what is on its way */

/* change_commit for rows written through; bases, audit records, events and the answer are there already. OK with req->replayed: the key's first
 * request was faster, and its answer is this one's. ERR_CONFLICT, ERR_PRECONDITION, ERR_INVALID; ERR_OVERLOAD: nothing was written;
 * ERR_UNCERTAIN; ERR_BUG. */
SUSPENDS MUST_CHECK enum err through_commit(struct change *c);

/* One row as JSON pieces for the entity's statement `through`. */
struct through_row {
	struct uuid id;
	struct str row, wanted, audit, events; /* events: objects with commas between, or nothing */
};
struct pg_params through_params(const struct through_row *const *rows, size_t n, struct arena *arena);

/* clang-format off */
#define THROUGH_DONE_FIELDS(F, T) F(T, UUID, id) F(T, INT, version) F(T, INT, transaction) F(T, BOOL, keyed)
/* clang-format on */
SCHEMA_STRUCT(through_done, THROUGH_DONE_FIELDS);

/* After a COMMIT without an answer: was the transaction done? `audit` is the id of one of its audit records. OK: yes; ERR_DB: no, and it never will be;
 * ERR_UNCERTAIN: nobody could tell until the deadline. */
SUSPENDS MUST_CHECK enum err through_settle(struct pg *pg, struct loop *loop, struct uuid school, int64_t transaction, struct uuid audit,
					    struct deadline d);

/* ---- groups (through_group.c) ---- */

struct through_result {
	int64_t version;
	bool refused;     /* the row was not as expected */
	bool key_taken;   /* another request has used the Idempotency-Key */
	struct pg_fail fail;
};
/* Waits until the row's group is done. A request whose deadline is over while it is queued leaves the queue: ERR_OVERLOAD, as when the queue is full. */
SUSPENDS MUST_CHECK enum err through_group(struct req *req, const struct entity *e, const struct through_row *row, struct uuid audit,
					   struct through_result *ret);

void through_cancel(struct daemon *d); /* closing: what waits is told so, what runs ends soon */
void through_close(struct daemon *d);  /* when no fiber is left */

#endif
