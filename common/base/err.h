/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors: one table for the whole tree.
 *
 * Outcomes are positive: the function's comment names them, and a caller handles them or returns them on purpose.
 * Faults are negative: nobody matches on them in a handler; the route layer logs them once and answers 503 or 500.
 * Zero is OK.  Forwarding is plain: `if ((e = f()) != OK) return e;` on two lines.
 */
#ifndef S24_BASE_ERR_H
#define S24_BASE_ERR_H

#include "base/defs.h"

/* symbol, value, HTTP status, code on the wire, title */
#define ERR_TABLE(X)                                                                               \
	X(OK, 0, 200, "ok", "OK")                                                                  \
	X(ERR_NOT_FOUND, 1, 404, "not_found", "Not found")                                         \
	X(ERR_CONFLICT, 2, 409, "conflict", "Conflict")                                            \
	X(ERR_FORBIDDEN, 3, 403, "forbidden", "Forbidden")                                         \
	X(ERR_UNAUTHENTICATED, 4, 401, "unauthenticated", "Not authenticated")                     \
	X(ERR_INVALID, 5, 422, "validation_failed", "The request is not valid")                    \
	X(ERR_MALFORMED, 6, 400, "malformed", "The request cannot be read")                        \
	X(ERR_TOO_LARGE, 7, 413, "too_large", "The request is too large")                          \
	X(ERR_MEDIA_TYPE, 8, 415, "unsupported_media_type", "Unsupported media type")              \
	X(ERR_METHOD, 9, 405, "method_not_allowed", "Method not allowed")                          \
	X(ERR_RATE_LIMITED, 10, 429, "rate_limited", "Too many requests")                          \
	X(ERR_PRECONDITION, 11, 412, "precondition_failed", "Precondition failed")                 \
	X(ERR_GONE, 12, 410, "gone", "Gone")                                                       \
	X(ERR_EXISTS, 13, 409, "already_exists", "Already exists")                                 \
	X(ERR_KEY_REUSED, 14, 422, "idempotency_key_reused", "Idempotency key used differently")   \
	X(ERR_IN_PROGRESS, 15, 409, "in_progress", "The first request is still running")           \
	X(ERR_NOT_CACHED, 16, 504, "not_cached", "Not in the cache")                               \
	X(ERR_TIMEOUT, -1, 503, "timeout", "Timed out")                                            \
	X(ERR_CANCELLED, -2, 503, "cancelled", "Cancelled")                                        \
	X(ERR_OVERLOAD, -3, 503, "overloaded", "Overloaded")                                       \
	X(ERR_DB, -4, 503, "database_unavailable", "The database is away")                         \
	X(ERR_BUFFER, -5, 503, "buffer_unavailable", "The write buffer is away")                   \
	X(ERR_CACHE, -6, 503, "cache_unavailable", "The cache is away")                            \
	X(ERR_PEER, -7, 503, "service_unavailable", "Another service is away")                     \
	X(ERR_UNCERTAIN, -8, 503, "outcome_unknown", "Whether it was done is unknown")             \
	X(ERR_IO, -9, 503, "storage_unavailable", "Storage failed")                                \
	X(ERR_CORRUPT, -10, 500, "corrupt_data", "Stored data cannot be read")                     \
	X(ERR_BUG, -11, 500, "internal", "Internal error")

enum err {
#define ERR_ENUM(symbol, value, status, code, title) symbol = (value),
	ERR_TABLE(ERR_ENUM)
#undef ERR_ENUM
};

static inline bool err_is_fault(enum err e)
{
	return (int)e < 0;
}

const char *err_name(enum err e);  /* "ERR_CONFLICT"; never NULL */
const char *err_code(enum err e);  /* "conflict": the problem body's code */
const char *err_title(enum err e); /* one sentence for people */
int err_status(enum err e);        /* the HTTP status */

#endif
