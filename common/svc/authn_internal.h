/* SPDX-License-Identifier: Apache-2.0 */
/* What authn.c, peer.c and ratelimit.c remember in a daemon: daemon->authn. */
#ifndef S24_SVC_AUTHN_INTERNAL_H
#define S24_SVC_AUTHN_INTERNAL_H

#include "base/lru.h"
#include "io/crypto.h"
#include "svc/daemon.h"

#define KEYS_MAX 8

struct authn {
	struct jwt_key *keys[KEYS_MAX];
	size_t n_keys;
	struct lru *tokens;   /* whole token → payload */
	struct lru *sessions; /* sid → session JSON, a second old at most */
	struct lru *limits;   /* rate class and caller → GCRA's theoretical arrival time */
	char *service_token;  /* NULL: none */
};

struct authn *authn_of(const struct daemon *d);

#endif
