/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Waiting: the only primitive is await(op, deadline); everything that suspends is built on it.
 *
 * An operation lives on the heap and has two owners, the fiber and the library. The library completes it (op_complete, from a
 * callback); the fiber collects the result and drops its reference. After a timeout or a cancellation the fiber walks away, and
 * the op is freed when its callback comes at last. A timeout is an error code like any other: nobody kills a stack.
 *
 *	struct get_op { struct op op; struct str value; };      -- first member
 *	struct get_op *g = mem_zalloc(sizeof(*g));
 *	op_init(&g->op, "redis", get_op_free);                  -- two references: yours, the library's
 *	…start it…                                              -- its callback calls op_complete(&g->op, e), which drops the library's
 *	e = await(&g->op, d);  …use g->value…  op_unref(&g->op);
 */
#ifndef S24_IO_AWAIT_H
#define S24_IO_AWAIT_H

#include "base/err.h"
#include "io/loop.h"

struct fiber;

struct deadline {
	int64_t at_us; /* of the monotonic clock; INT64_MAX: none */
};

struct deadline deadline_in(const struct loop *loop, int64_t ms);
static inline struct deadline deadline_sooner(struct deadline a, struct deadline b)
{
	return a.at_us < b.at_us ? a : b;
}
int64_t deadline_left_ms(const struct loop *loop, struct deadline d); /* 0 when past */

struct op {
	const char *name;
	void (*free)(struct op *op);
	struct fiber *waiter;
	enum err result;
	bool done;
	unsigned refs;
};

void op_init(struct op *op, const char *name, void (*free)(struct op *op));
void op_complete(struct op *op, enum err result); /* once; drops the library's reference */
void op_unref(struct op *op);
/* OK or the op's own error; ERR_TIMEOUT; ERR_CANCELLED. Returns at once when the op is done. The caller keeps its reference. */
SUSPENDS MUST_CHECK enum err await(struct op *op, struct deadline d);
SUSPENDS MUST_CHECK enum err sleep_ms(struct loop *loop, int64_t ms, struct deadline d);

/* Fan-out: children run as fibers with the parent's deadline. FAIL_FAST cancels the rest after the first error, which wait
 * returns; COLLECT waits for all and returns the first error. A group must be waited for before its arguments die. */
enum group_mode { GROUP_FAIL_FAST, GROUP_COLLECT };
struct group;
struct group *group_new(struct loop *loop, enum group_mode mode);
void group_spawn(struct group *g, const char *label, SUSPENDS enum err (*fn)(void *arg), void *arg);
SUSPENDS MUST_CHECK enum err group_wait(struct group *g, struct deadline d); /* frees it */

/* A queue of waiters on a condition that this process changes (single flight, pool slots). */
struct waitq {
	struct op **v;
	size_t n, cap, head;
};
SUSPENDS MUST_CHECK enum err waitq_wait(struct waitq *q, struct deadline d);
void waitq_wake(struct waitq *q, size_t most, enum err result); /* first come, first served */
void waitq_done(struct waitq *q);

#endif
