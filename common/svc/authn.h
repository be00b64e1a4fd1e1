/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who calls: the access token's signature, then the session behind it.
 *
 * The request's first Redis turn is the only one before the handler: authn_check starts the session's read and the limiter's script
 * (rules.h) together when it must ask at all, and rate_check only collects its part.
 */
#ifndef S24_SVC_AUTHN_H
#define S24_SVC_AUTHN_H

#include "svc/req.h"

/* Keys, the memory of verified tokens and sessions, the service token, the directory's memory. Before the daemon listens. ERR_INVALID: a file
 * cannot be used; what is wrong has been logged. */
MUST_CHECK enum err authn_open(struct daemon *d);
void authn_close(struct daemon *d); /* also after a failed or no authn_open */

/* Fills req->who from Authorization: a person's token, or on routes for ROLE_SERVICE a service token. Never called for ROLE_ANYONE routes. Which of
 * the roles may come in is req.c's question, not its own. ERR_UNAUTHENTICATED; ERR_FORBIDDEN: a peer that is not declared; ERR_PEER: nobody can
 * say whether the session lives. */
SUSPENDS MUST_CHECK enum err authn_check(struct req *req);

/* For auth, which ends sessions: this process asks again at once; the others within a second. */
void authn_forget_session(struct daemon *d, struct uuid sid);

#endif
