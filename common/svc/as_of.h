/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an aggregate over tables alone says of itself (write-path.md 5): up to when it is complete, and how many records are still on their way.
 *
 *	struct as_of as_of;
 *	e = entity_as_of(req, entities, 2, &as_of);            -- BEFORE the tables are read, like every look at the buffer
 *	… the statement …
 *	AS_OF_PUT(out, attendance_report_out, as_of);          -- whose list has AS_OF_FIELDS(F, T)
 *
 * Lists and aggregates of a class or a student need it not: they take an overlay, and are exact.
 */
#ifndef S24_SVC_AS_OF_H
#define S24_SVC_AS_OF_H

#include "base/schema.h"
#include "svc/buffer.h"
#include "svc/entity.h"

/* Members `as_of` (RFC 3339) and `pending` of an answer; null when nobody can say: the buffer is away, or too much waits to look at. */
#define AS_OF_FIELDS(F, T) F(T, TIME, as_of) F(T, INT, pending)

struct as_of {
	bool known, counted;
	int64_t at_us;   /* known: the tables have what was acknowledged before */
	int64_t pending; /* counted: unsynced records of the entities, of every school in this buffer */
};
/* From the request's buffer. With the buffer away it is OK, neither is known, and the answer says X-Data: database-only. */
SUSPENDS MUST_CHECK enum err entity_as_of(struct req *req, const struct entity *const *entities, size_t n, struct as_of *ret);
/* The same over any way to a buffer. */
MUST_CHECK enum err as_of_ask(const struct buffer_io *io, const struct entity *const *entities, size_t n, struct arena *arena,
			      struct as_of *ret);

#define AS_OF_PUT(ptr, T, a)                                  \
	do {                                                  \
		if ((a).known)                                \
			FIELD_PUT(ptr, T, as_of, (a).at_us);  \
		if ((a).counted)                              \
			FIELD_PUT(ptr, T, pending, (a).pending); \
	} while (0)

#endif
