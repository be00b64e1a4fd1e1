/* SPDX-License-Identifier: Apache-2.0 */
/* The Idempotency-Key of a POST (write-path.md 3): claimed before the handler, its answer stored in the handler's own PUT or transaction. */
#ifndef S24_SVC_IDEM_H
#define S24_SVC_IDEM_H

#include "svc/req.h"

/* Called when the request is a POST with the header, on a route that takes one, after body and object rule. OK: the key is claimed (req->idem), or
 * was used before by the same request: then req->replayed is set, status, version and body are the stored answer and the handler does not run.
 * ERR_KEY_REUSED; ERR_IN_PROGRESS; ERR_MALFORMED: no usable key; ERR_BUFFER. */
SUSPENDS MUST_CHECK enum err idem_begin(struct req *req);
/* After the handler, whatever it returned: frees the claim of a request that failed before it wrote anything. */
SUSPENDS void idem_end(struct req *req, enum err e);

/* ---- for the entity engine: only while req->idem is set ---- */
#define IDEM_TTL_S 86400
struct str idem_key(const struct req *req);             /* of Redis behind "idem:", and of the table */
const char *idem_fingerprint(const struct req *req);
struct str idem_result(struct req *req);                /* what PUT stores: fingerprint, status, answer */
enum err idem_replay(struct req *req, struct str stored); /* the answer that PUT or Redis gave back, as this request's own */
/* The answer that the schema's table has for the key as this request's own: req->replayed. OK without it: there is none. */
SUSPENDS MUST_CHECK enum err idem_replay_table(struct req *req);
struct uuid idem_row_id(const struct req *req, unsigned n); /* id of the request's n-th new row: a repeat makes the same */

#endif
