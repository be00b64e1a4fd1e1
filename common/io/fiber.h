/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stackful fibers over the loop (boost.context's jump_fcontext): a handler reads like blocking code and runs on one.
 *
 * Rules (CONTRIBUTING.md): no lock, VLA, errno or thread-local across a wait; frames under 4 KiB; shared state is looked at again
 * after a wait. 256 KiB stacks with a guard page, pooled. A fiber is never resumed inside a library's callback: completing an
 * operation queues it, and the loop runs the queue.
 */
#ifndef S24_IO_FIBER_H
#define S24_IO_FIBER_H

#include "io/await.h"

struct fiber;
typedef void (*fiber_fn)(void *arg);

/* Starts fn(arg) on a fiber at the end of this turn's queue. ERR_OVERLOAD above the limit (fiber_limit). */
MUST_CHECK enum err fiber_spawn(struct loop *loop, const char *label, fiber_fn fn, void *arg);
/* The same, but runs it now until its first wait: for the hot path; only from loop context, never from a fiber. */
MUST_CHECK enum err fiber_run(struct loop *loop, const char *label, fiber_fn fn, void *arg);
bool fiber_active(void); /* is the caller on a fiber */
struct fiber *fiber_self(void);
void fiber_cancel(struct fiber *fiber); /* its waits return ERR_CANCELLED from now on; only while it is known to live */
bool fiber_is_cancelled(void);          /* the running one: for long loops that never wait */
void fiber_label(const char *label);    /* what /debug/fibers shows; the text must outlive the fiber */

struct fiber_stats {
	size_t live, peak, limit, stacks_pooled, stack_high_water_bytes;
};
void fiber_limit(size_t most); /* default 20,000 */
struct fiber_stats fiber_stats(void);
/* Calls back for each live fiber: label, age, and the name of the op it waits for. */
void fiber_each(void (*fn)(void *ctx, const char *label, int64_t age_us, const char *waits_for), void *ctx);
/* Between a test's fibers and at exit: runs the loop until none of its fibers is left or the deadline passes. */
bool fiber_drain(struct loop *loop, struct deadline d);

#endif
