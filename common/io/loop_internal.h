/* SPDX-License-Identifier: Apache-2.0 */
/* What loop.c, fiber.c, await.c and work.c know of each other; nobody else includes it. */
#ifndef S24_IO_LOOP_INTERNAL_H
#define S24_IO_LOOP_INTERNAL_H

#include "io/await.h"

/* Queues d before the deferred ones: how a fiber is resumed. */
void loop_ready(struct loop *loop, struct deferred *d);
bool loop_clock_is_still(const struct loop *loop);

/* Suspends the running fiber until fiber_wake, fiber_cancel or the time. It may return early: the caller looks and parks again. */
SUSPENDS void fiber_park(const char *waits_for, int64_t until_us);
void fiber_wake(struct fiber *fiber);
struct loop *fiber_loop(const struct fiber *fiber);
/* As fiber_spawn, and tells which fiber it is. */
MUST_CHECK enum err fiber_start(struct loop *loop, const char *label, void (*fn)(void *), void *arg, struct fiber **ret);

#endif
