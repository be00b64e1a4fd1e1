/* SPDX-License-Identifier: Apache-2.0 */
/* What a failure means for the records of a batch (write-path.md 4), and how long they wait. Pure. */
#ifndef S24_WORKER_VERDICT_H
#define S24_WORKER_VERDICT_H

#include "base/err.h"

enum verdict {
	VERDICT_TRANSIENT,  /* the database is away, or nobody knows whether it committed: the whole batch again */
	VERDICT_CONTENTION, /* another transaction was in the way: at once, with jitter */
	VERDICT_PARENT,     /* a foreign key: the parent is not there yet */
	VERDICT_PERMANENT,  /* a row that can never be written: found by bisection, parked */
	VERDICT_UNKNOWN,    /* counted */
};
enum verdict verdict_of(enum err e, const char *sqlstate);
/* Is it about tables and statements, not about a row? A connection made before a migration may be the reason, so it is made anew once. */
bool verdict_is_of_schema(const char *sqlstate);

#define TRIES_ALONE 2 /* counted failures from which on a record is flushed alone: its third try */
#define TRIES_STRICT 6 /* from which on no other suspect may even be on lease beside it */
#define TRIES_DEAD 12 /* counted failures after which it is parked */

/* `random` spreads what failed together. */
int64_t backoff_transient_ms(unsigned tries, uint64_t random); /* inside a turn: 200 ms x 2^n and as much jitter */
int64_t backoff_away_ms(uint64_t random); /* given back while the database is away; the breaker decides when it is claimed */
/* After a counted failure: from 1 s, doubling up to 3 minutes, so the twelve tries of a child without a parent take a quarter of an hour. */
int64_t backoff_counted_ms(int64_t attempts, uint64_t random);

/* One for each database: opened by a batch that was given back, closed by a probe. */
struct breaker {
	bool open;
	int64_t probe_at_us;
	uint64_t opened; /* how often */
};
#define BREAKER_PROBE_US INT64_C(5000000)
void breaker_trip(struct breaker *b, int64_t now_us);
bool breaker_wants_probe(const struct breaker *b, int64_t now_us);
void breaker_probed(struct breaker *b, bool well, int64_t now_us);

#endif
