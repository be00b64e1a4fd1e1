/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the worker does beside flushing, each a part of its own in worker.c's table: it proves the buffers' invariant (patrol.c), chains the audit rows
 * and proves the chains (chain.c), removes what is old (retain.c) and sees how far the readers of the event streams are behind (lag.c). All of it
 * on fibers of the loop, in small steps; a store that is away is asked again later.
 */
#ifndef S24_WORKER_DUTIES_H
#define S24_WORKER_DUTIES_H

#include "verify.h"
#include "worker.h"

#define CHAINS_MAX 32
#define LAGS_MAX 256

/* The verifier's walk through one buffer. One worker of all walks: who has wb:verify. */
struct patrol {
	struct source *source;
	struct verify verify;
	bool holds;
	int64_t renew_at_us, next_at_us; /* monotonic */
	int64_t passed_at_us;            /* real; 0: no pass yet */
	int64_t passes;
};

/* The audit chain of a schema, as far as this process has seen it. */
struct chain {
	char daemon[64], head[65],
		at[65]; /* hashes in hex: the last link of the last whole proof; where the proof is. "": none */
	int64_t head_seq, at_seq;
	int64_t waiting, chained, checked, broken;
	struct uuid late_after;          /* nil: at the beginning */
	int64_t late_at_us, prove_at_us; /* monotonic: when to begin again */
};

struct lag {
	size_t source, service;          /* whose stream, in which buffer */
	char group[64];                  /* "": the stream itself */
	int64_t length, behind, pending; /* behind -1: Redis cannot tell */
};

struct duties {
	struct patrol *patrols; /* one for each source; NULL: no verifier */
	struct chain *chains;
	size_t n_chains;
	struct {
		int64_t outbox, idempotency, dead_letter, runs;
	} removed;
	struct lag *lags;
	size_t n_lags;
};

struct duties *duties_new(void);
void *duties_free(struct duties *d, size_t n_sources);
void duties_metrics(const struct worker *w, struct buf *out);

SUSPENDS void patrol_run(struct worker *w);
SUSPENDS void chain_run(struct worker *w);
SUSPENDS void retain_run(struct worker *w);
SUSPENDS void lag_run(struct worker *w);

/* The schemas that have the common tables. */
SUSPENDS MUST_CHECK enum err duties_schemas(struct worker *w, struct arena *arena, struct list *ret);
#define SCHEMA_NAME_FIELDS(F, T) F(T, TEXT, daemon)
SCHEMA_STRUCT(schema_name, SCHEMA_NAME_FIELDS);

#endif
