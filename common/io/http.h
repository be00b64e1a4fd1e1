/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A strict HTTP/1.1 server (RFC 9112 without obs-fold) over libevent's events; decision: docs/decisions/002-http-server.md.
 *
 * The listener's `head` is asked when a request's header block is complete: it looks the route up and says what happens with the body. `run` is
 * called when the request is ready (body complete, or at once for a streamed one); both run in loop context, so `run` starts a fiber or
 * answers at once. Each exchange is answered exactly once. Pipelined requests of a connection run one after the other.
 * The exchange, its arena, and every slice in it live until the answer has been written or the client is gone: `http_finish` says so.
 *
 * A client that leaves is noticed at once (http_client_gone; reads and writes return ERR_CANCELLED), but its exchange lives until the handler has
 * answered into the void. One that only closes its sending side before its handler begins still gets its answers.
 *
 * Refused before the listener sees it, with problem+json and close: two Content-Length, CL with TE, bare LF or CR, NUL, obs-fold, bad tokens,
 * no or two Host (400), HTTP other than 1.0/1.1 (505), TE other than chunked, CONNECT (501); header block > 8 KiB or 64 fields (431), URI > 2 KiB
 * (414); unknown expectation 417. Deadlines: header block 5 s from its first byte, body as `head` says, idle keep-alive 30 s, 10,000
 * requests or 1 h a connection, answer stalled 30 s.
 */
#ifndef S24_IO_HTTP_H
#define S24_IO_HTTP_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "io/await.h"

enum http_method { HTTP_GET, HTTP_HEAD, HTTP_POST, HTTP_PUT, HTTP_PATCH, HTTP_DELETE, HTTP_OPTIONS, HTTP_OTHER };
const char *http_method_name(enum http_method m);

struct http_header {
	struct str name, value; /* as sent; compare names with http_header_find */
};

struct http_exchange {
	struct arena *arena;
	enum http_method method;
	struct str target, path, query; /* as sent, not decoded; query without '?' */
	struct http_header *headers;
	size_t n_headers;
	struct str body;     /* complete, for HTTP_BODY_WHOLE */
	int64_t body_length; /* Content-Length; -1: chunked */
	struct str peer;     /* address text of the socket */
	int64_t started_us;  /* monotonic, first byte of the header block */
	void *user;          /* the listener's */
};

enum http_body {
	HTTP_BODY_NONE,   /* a body is drained and dropped when small, else the connection closes after the answer */
	HTTP_BODY_WHOLE,  /* collected up to body_max: longer is 413 without reading on */
	HTTP_BODY_STREAM, /* run is called now and reads with http_read */
	HTTP_BODY_REFUSE, /* run is called now, and answers; the connection closes unless the body was already here */
};

struct http_plan {
	enum http_body body;
	size_t body_max;       /* WHOLE; STREAM: the whole stream */
	int64_t body_ms;       /* deadline of the body; STREAM: each read, and at least min_rate; 0: 15 s */
	int64_t min_rate_bps;  /* STREAM: bytes a second over any 10 s, else 408 and close; 0: none */
};

struct http_listener {
	void *ctx;
	struct http_plan (*head)(void *ctx, struct http_exchange *x);
	void (*run)(void *ctx, struct http_exchange *x);
	/* The error answers that the server itself gives: fills the body of a problem; may be NULL for the built-in text. */
	void (*problem)(void *ctx, int status, const char *code, const char *detail, struct buf *body);
	/* Once for each exchange that `head` has seen, when its last byte was handed to the kernel (or kept to leave with the answers to the
	 * requests pipelined behind it), or when it ended without: status 0 if the client left. Inside http_answer mostly, so possibly on the
	 * fiber that called it. The exchange dies after it, also when the server itself refused the body (408, 413, 400: `run` was not called). */
	void (*done)(void *ctx, struct http_exchange *x, int status, size_t bytes_sent);
};

struct http_limits {
	size_t header_bytes, header_fields, target_bytes, connections;
	int64_t header_ms, idle_ms, lifetime_ms, stall_ms;
	size_t requests;
	int64_t rate_window_ms; /* over which min_rate_bps is looked at; 0: 10 s */
};
extern const struct http_limits http_limits_default; /* 8 KiB, 64, 2 KiB, 0: fd limit - 200; 5 s, 30 s, 1 h, 30 s; 10,000; 10 s */

struct http_server;
/* Listens on "host:port" ("127.0.0.1:0": any port; http_server_port tells). */
MUST_CHECK enum err http_server_open(struct loop *loop, const char *address, const struct http_listener *listener,
				     const struct http_limits *limits, struct http_server **ret);
int http_server_port(const struct http_server *s);
/* No new connections; idle ones close; answers say `Connection: close`. `idle` is called once nothing is left. */
void http_server_drain(struct http_server *s, void (*idle)(void *ctx), void *ctx);
void http_server_close(struct http_server *s); /* at once */
struct http_server_stats {
	size_t connections, requests, refused, timed_out;
} http_server_stats(const struct http_server *s);

struct str http_header(const struct http_exchange *x, const char *name); /* first of that name, trimmed; {NULL,0}: none */

/* The answer. `headers` are complete lines with CRLF (no Content-Length, Connection, Date: the server adds them). Body bytes must live
 * in the exchange's arena or be static. A HEAD gets the headers alone, 204 and 304 no body. May be called from a fiber or the loop. */
void http_answer(struct http_exchange *x, int status, struct str headers, struct str body);
/* A streamed answer: length -1 is chunked (HTTP/1.0: until close). The write waits while the client is slow, and returns ERR_CANCELLED when it
 * has gone. Ending early closes the connection, so that a cut is seen. */
void http_answer_begin(struct http_exchange *x, int status, struct str headers, int64_t length);
SUSPENDS MUST_CHECK enum err http_write(struct http_exchange *x, struct str bytes, struct deadline d);
void http_answer_end(struct http_exchange *x);
void http_answer_cut(struct http_exchange *x); /* instead of the end, when it failed on the way: the client sees a reset, not a short answer */
bool http_client_gone(const struct http_exchange *x);

/* The next bytes of a streamed body, valid until the next call; empty at its end. ERR_TOO_LARGE, ERR_TIMEOUT, ERR_MALFORMED,
 * ERR_CANCELLED (client gone). Sends 100 Continue first when the client waits for it. A client that is too slow has been answered 408 when
 * ERR_TIMEOUT comes back; the handler answers all the same, into the void. */
SUSPENDS MUST_CHECK enum err http_read(struct http_exchange *x, struct str *ret_bytes, struct deadline d);

/* ---- the parser alone (http_parse.c), for the fuzzers ---- */
struct http_head {
	enum http_method method;
	struct str method_text, target;
	int minor;                /* HTTP/1.x */
	struct http_header *headers; /* caller's array */
	size_t n_headers, max_headers;
	int64_t content_length;   /* -1: none */
	bool chunked, keep_alive, expect_continue;
};
/* Bytes used; 0: not complete yet; negative: the status to refuse with (-400, -414, -431, -501, -505…). Never reads past n. */
int http_parse_head(const char *bytes, size_t n, const struct http_limits *limits, struct http_head *head);

#endif
