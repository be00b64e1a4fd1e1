/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small bounded pool of threads for what blocks: MongoDB, password hashes, files. A full queue is ERR_OVERLOAD at once; a job whose
 * deadline passed while it waited is not started. fn runs on a pool thread: it touches only what its argument owns, and the
 * argument must outlive it even when the caller has walked away, so it is heap memory that `release` frees on the loop's thread.
 */
#ifndef S24_IO_WORK_H
#define S24_IO_WORK_H

#include "io/await.h"

struct work_pool;

struct work_pool *work_pool_new(struct loop *loop, const char *name, unsigned threads, size_t queue_max);
struct work_pool *work_pool_free(struct work_pool *pool); /* waits for running jobs */
/* The job's own result; ERR_OVERLOAD, ERR_TIMEOUT, ERR_CANCELLED. `release` (may be NULL) runs exactly once, when neither the fiber nor the
 * thread needs arg any more: after the caller got its result and returned to work_run's end, so copy results out in `collect`. */
struct work_job {
	enum err (*fn)(void *arg);                  /* on a pool thread */
	void (*collect)(void *arg, void *to);       /* on the loop, before work_run returns OK or an outcome; may be NULL */
	void (*release)(void *arg);                 /* on the loop; may be NULL */
	void *arg, *to;
};
SUSPENDS MUST_CHECK enum err work_run(struct work_pool *pool, struct work_job job, struct deadline d);

struct work_stats {
	size_t queued, running, done, refused;
};
struct work_stats work_stats(const struct work_pool *pool);

#endif
