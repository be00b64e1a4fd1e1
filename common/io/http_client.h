/* SPDX-License-Identifier: Apache-2.0 */
/* Calls between daemons: keep-alive connections per peer, deadline, in-flight cap, one retry of an idempotent request whose kept connection
 * turned out closed, circuit breaker per peer. Answers are collected whole, at most 4 MiB. */
#ifndef S24_IO_HTTP_CLIENT_H
#define S24_IO_HTTP_CLIENT_H

#include "io/http.h"

struct http_client;
struct http_client *http_client_new(struct loop *loop, const char *name, size_t most_per_peer);
struct http_client *http_client_free(struct http_client *c);

struct http_call {
	const char *base; /* "http://127.0.0.1:9101" */
	enum http_method method;
	struct str target;  /* "/internal/classes?…" */
	struct str headers; /* lines with CRLF */
	struct str body;
};
struct http_reply {
	int status;
	struct http_header *headers;
	size_t n_headers;
	struct str body;
};
/* ERR_PEER: refused, broken, breaker open; ERR_TIMEOUT; ERR_TOO_LARGE. Any status is OK here. The reply lives in the arena. */
SUSPENDS MUST_CHECK enum err http_call(struct http_client *c, const struct http_call *call, struct arena *arena,
				       struct deadline d, struct http_reply *ret);
#endif
