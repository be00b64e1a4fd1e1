/* SPDX-License-Identifier: Apache-2.0 */
/* A turn's records while they are on lease: what flush.c and flush_group.c share. */
#ifndef S24_WORKER_FLUSH_TURN_H
#define S24_WORKER_FLUSH_TURN_H

#include "flush.h"

/* What a transaction makes of a record. It counts from the COMMIT on. */
enum fate {
	FATE_OPEN,
	FATE_APPLIED,
	FATE_SAME,       /* its version stands in the table already */
	FATE_SUPERSEDED, /* a newer one does */
	FATE_EXISTS,     /* written blind, and there is a living row */
	FATE_FOREIGN,    /* the row is another school's */
	FATE_UNSEEN,     /* neither written nor found */
	FATE_REFUSED,    /* alone among others that were written: item.version says why */
};

struct item {
	struct claimed *claimed;
	struct buffer_record record;
	void *row;
	enum fate fate;
	int64_t version; /* in the database */
	bool settled;    /* by ACK or NACK, or left to the end of its lease */
};

struct turn {
	const struct flusher *f;
	const struct flush_target *t;
	struct arena *arena;
	struct flush_counts *counts;
	struct item *items;
	size_t n;
	struct item **order; /* those that are to be written: ordinary ones, then those that are written each alone */
	size_t n_order, n_alone;
	int64_t give_up_us;
	bool renewed; /* the connection was made anew because of the schema */
};

struct group {
	size_t from, n; /* of turn->order */
};

struct return_options {
	int64_t backoff_ms;
	bool count, permanent;
	const char *error;
};
/* Of these, whatever is not settled yet goes back. When Redis does not answer, the lease's end does it. */
void turn_give_back(struct turn *turn, struct item *const *items, size_t n, struct return_options o);
void turn_give_back_one(struct turn *turn, struct item *item, struct return_options o);
/* Tells of those that have just left the buffer, or died. */
void turn_tell_flushed(const struct turn *turn, const struct flushed_row *rows, size_t n);
int64_t turn_now_us(const struct turn *turn);
uint64_t turn_chance(const struct turn *turn);
void turn_pause_ms(const struct turn *turn, int64_t ms);
bool turn_stopping(const struct turn *turn);

/* Writes one group, from BEGIN to ACK or NACK. True: it must be halved, and nothing has happened to it. */
bool turn_run_group(struct turn *turn, struct group g);

#endif
