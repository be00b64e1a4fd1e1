/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A value that is made anew on a thread of its own while its owner goes on with the old one: names of servers, which a resolver may take seconds to
 * look up. Nobody waits: what one attempt has begun, a later one takes. The owner has one thread; a job that is still running when the owner
 * is done ends alone and frees what it made.
 */
#ifndef S24_IO_AFRESH_H
#define S24_IO_AFRESH_H

#include <stdbool.h>
#include <stdint.h>

struct afresh_job;
struct afresh { /* zeroed: nothing was begun */
	struct afresh_job *job;
	int64_t begun_us;
};
struct afresh_kind {
	void *(*make)(void *arg);   /* on the thread; NULL: nothing came of it */
	void (*drop)(void *made);   /* nobody has taken it */
	void (*release)(void *arg); /* on either thread */
};

/* What has been made since the last question, once; NULL: nothing. */
void *afresh_take(struct afresh *a);
/* Is none running, and the last at least a second old? */
bool afresh_is_due(const struct afresh *a, int64_t now_us);
/* arg is the job's from here on. */
void afresh_begin(struct afresh *a, const struct afresh_kind *kind, void *arg, int64_t now_us);
void afresh_done(struct afresh *a);

#endif
