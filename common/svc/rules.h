/* SPDX-License-Identifier: Apache-2.0 */
/* What a known caller may do: the object rule of a route row, and how often. */
#ifndef S24_SVC_RULES_H
#define S24_SVC_RULES_H

#include "svc/req.h"

/* The object rule of req->route: loads req->object where the rule names an entity, sets req->student_id on routes about a student. Another school's object is
 * ERR_NOT_FOUND, as if it did not exist. ERR_FORBIDDEN; faults of what it reads. */
SUSPENDS MUST_CHECK enum err rule_check(struct req *req);

/* The route's rate class, by user, session, school, or address of a caller without a token. Sets RateLimit and RateLimit-Policy by req_header.
 * ERR_RATE_LIMITED with req->retry_after_s. With Redis away it limits by this process's own memory. */
SUSPENDS MUST_CHECK enum err rate_check(struct req *req);

#endif
