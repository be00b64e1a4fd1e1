/* SPDX-License-Identifier: Apache-2.0 */
/* Blocking Redis for the worker's threads: one connection, own timeouts, reconnects on the next call. Same errors as redis.h. */
#ifndef S24_IO_REDIS_SYNC_H
#define S24_IO_REDIS_SYNC_H

#include "io/redis.h"

struct redis_sync;
MUST_CHECK enum err redis_sync_open(const char *url, int64_t timeout_ms, struct redis_sync **ret); /* does not connect yet; ERR_INVALID: url */
struct redis_sync *redis_sync_close(struct redis_sync *r);
MUST_CHECK enum err redis_sync_call(struct redis_sync *r, struct arena *arena, struct redis_args args, struct redis_reply *ret);
MUST_CHECK enum err redis_sync_script(struct redis_sync *r, const struct redis_script *script, struct redis_args args, struct arena *arena,
				      struct redis_reply *ret);
const char *redis_sync_error(const struct redis_sync *r);
#endif
