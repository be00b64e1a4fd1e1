/* SPDX-License-Identifier: Apache-2.0 */
/* Coroutines for the simulator: a stack each, switched by hand, and one may be dropped wherever it stands, as a process that is killed. */
#ifndef S24_FAULT_SIM_CORO_H
#define S24_FAULT_SIM_CORO_H

#include "base/defs.h"

struct coro;
struct coro *coro_new(void);
void coro_free(struct coro *c);
void coro_start(struct coro *c, void (*fn)(void *arg), void *arg); /* whatever it did before is forgotten */
bool coro_resume(struct coro *c);                                  /* false: it has ended */
void coro_yield(void);

#endif
