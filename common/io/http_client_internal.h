/* SPDX-License-Identifier: Apache-2.0 */
/* Peers' addresses, of http_client.c and http_address.c alone. */
#ifndef S24_IO_HTTP_CLIENT_INTERNAL_H
#define S24_IO_HTTP_CLIENT_INTERNAL_H

#include <sys/socket.h>

#include "io/http_client.h"
#include "io/http_internal.h"

/* "http://name-or-number[:port]". A name is looked up by a thread of its own, because the system's resolver blocks, and remembered for
 * half a minute. */
struct http_address {
	char authority[264]; /* what Host says */
	char host[256], port[8];
	struct sockaddr_storage to;
	socklen_t to_n; /* 0: not known yet */
	bool numeric, looking;
	int64_t until_us;
	struct waitq lookers;
};

/* Where the threads meet the loop; outlives its client until the last of them has ended. */
struct http_resolver;
struct http_resolver *http_resolver_new(struct loop *loop);
void http_resolver_close(struct http_resolver *r); /* threads that still ask end without a word to the loop */

bool http_address_parse(struct http_address *a, const char *base);
void http_address_done(struct http_address *a);
/* OK: `to` is usable. ERR_PEER: no such name. */
SUSPENDS MUST_CHECK enum err http_address_fresh(struct http_address *a, struct http_resolver *r, struct deadline d);

#endif
