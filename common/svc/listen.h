/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a daemon hears of the others: the channels of service->listens on every write buffer, for an event is on the one of its school; and the
 * streams behind them, read about once a second from the last id on (tail.h), for who made an event may have died before it was published.
 *
 * An event is handed over once, whichever way it comes first, while it is among the last 8,192; a handler must stand a second time all the same. An
 * event is not missed while the stream still has it; when something was trimmed away unread, that is logged, and this process's memory of
 * cached answers is emptied. What was said before the daemon started is not heard.
 */
#ifndef S24_SVC_LISTEN_H
#define S24_SVC_LISTEN_H

#include "io/redis.h"
#include "svc/service.h"

struct listen;
/* NULL in ret when the service listens to nothing. */
MUST_CHECK enum err listen_open(struct daemon *d, struct listen **ret);
void listen_close(struct listen *l);          /* no new message; its fibers end */
struct listen *listen_free(struct listen *l); /* when no fiber is left */

#endif
