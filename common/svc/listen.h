/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a daemon hears of the others: the channels of service->listens, and after a lost connection the stream behind each of them.
 *
 * A message may be handled twice (once by channel, once from the stream), never not at all while the stream still has it; handlers are
 * idempotent by event id. A trimmed gap is logged.
 */
#ifndef S24_SVC_LISTEN_H
#define S24_SVC_LISTEN_H

#include "io/redis.h"
#include "svc/service.h"

struct listen;
/* NULL in ret when the service listens to nothing. */
MUST_CHECK enum err listen_open(struct daemon *d, const struct redis_conf *conf, struct listen **ret);
/* Remembers how far the streams are, every few seconds from the daemon's watch. */
SUSPENDS void listen_mark(struct listen *l);
void listen_close(struct listen *l);          /* no new message; a catch-up that runs ends by itself */
struct listen *listen_free(struct listen *l); /* when no fiber is left */

#endif
