/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a daemon hears of the others: the channels of service->listens on every write buffer, for an event is on the one of its school; and after
 * a lost connection the stream behind each of them, from the last id of that buffer and stream.
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
MUST_CHECK enum err listen_open(struct daemon *d, struct listen **ret);
/* Remembers how far the streams of a buffer are, every few seconds from that buffer's watch. */
SUSPENDS void listen_mark(struct listen *l, size_t buffer);
void listen_close(struct listen *l);          /* no new message; a catch-up that runs ends by itself */
struct listen *listen_free(struct listen *l); /* when no fiber is left */

#endif
