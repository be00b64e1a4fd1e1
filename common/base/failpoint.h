/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Places where a test may let a process die, wait or fail: compiled in with S24_FAILPOINTS alone, else nothing is left of them.
 *
 *	FAILPOINT("claim.after");                          -- kill or sleep
 *	if (FAILPOINT_ERR("flush.before_commit")) …        -- and err: the caller behaves as if the step had failed
 *
 * The environment arms them, a comma between two: S24_FAILPOINTS="name=action[:probability[:count]],…" with the actions kill (SIGKILL to
 * this process), sleep(ms) and err; probability 0 to 1 (default 1), count how often at most (default: no end). S24_FAILPOINT_SEED repeats a run; the
 * seed stands on stderr. Any thread may come by.
 */
#ifndef S24_BASE_FAILPOINT_H
#define S24_BASE_FAILPOINT_H

#include "base/defs.h"

#ifdef S24_FAILPOINTS
bool failpoint_hit(const char *name);   /* true: fail (err) */
bool failpoint_armed(const char *name); /* without counting as a visit */
#define FAILPOINT(name) ((void)failpoint_hit(name))
#define FAILPOINT_ERR(name) failpoint_hit(name)
#define FAILPOINT_ARMED(name) failpoint_armed(name)
#else
#define FAILPOINT(name) ((void)0)
#define FAILPOINT_ERR(name) false
#define FAILPOINT_ARMED(name) false
#endif

#endif
