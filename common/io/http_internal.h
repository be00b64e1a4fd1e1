/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the HTTP server and client share; nobody else includes it (but the fuzzers and unit tests of these parts). */
#ifndef S24_IO_HTTP_INTERNAL_H
#define S24_IO_HTTP_INTERNAL_H

#include <event2/event.h>
#include <event2/event_struct.h>

#include "io/http.h"
#include "io/loop.h"

/* ---- http_parse.c: bytes to heads, no I/O ---- */

enum { HTTP_C_TOKEN = 1, HTTP_C_TARGET = 2, HTTP_C_VALUE = 4, HTTP_C_HOST = 8, HTTP_C_HEX = 16 };
extern const uint8_t http_chars[256];

static inline bool http_is(char c, unsigned set)
{
	return (http_chars[(unsigned char)c] & set) != 0;
}

/* Path and query of a target that http_parse_head accepted: "/a?b", "http://host/a?b" or "*". */
void http_target_split(struct str target, struct str *ret_path, struct str *ret_query);

struct http_reply_head {
	int status, minor;
	struct http_header *headers; /* caller's array */
	size_t n_headers, max_headers;
	int64_t content_length; /* -1: none */
	bool chunked, keep_alive;
};
/* The client's side, as strict: bytes used, 0: not complete yet, negative: refuse. */
int http_parse_reply(const char *bytes, size_t n, const struct http_limits *limits, struct http_reply_head *head);

/* ---- http_body.c: the chunked coding, and reading bodies ---- */

/* Decodes in place and can stop at any byte. Chunk extensions and trailers are checked, bounded (4 KiB a body each) and dropped. */
struct http_chunked {
	uint64_t left; /* of the chunk */
	uint8_t state, digits;
	uint16_t extension_bytes, trailer_bytes;
};
enum { HTTP_CHUNKED_DONE = 100, HTTP_CHUNKED_BAD = 101 }; /* values of .state; it starts at 0 */
/* Takes n bytes at p: the decoded ones are moved to the front of p, their number is returned. *ret_used: how many were consumed, less than n only
 * when the body has ended (DONE) or is malformed (BAD). */
size_t http_chunked_decode(struct http_chunked *d, char *p, size_t n, size_t *ret_used);

/* ---- connections ---- */

/* A read buffer belongs to a connection only while there is something in it. */
struct http_rbuf {
	struct http_rbuf *next; /* in the pool */
	uint32_t cap;
	char p[];
};
enum { HTTP_RBUF_SMALL = 4096 - 16, HTTP_RBUF_LARGE = 16384 - 16 };

/* Bytes of answers that the kernel has not taken yet: head from head_at on, then ref (in the exchange's arena, or the caller's), then tail. */
struct http_out {
	struct http_out *next; /* in the pool */
	struct buf head;
	size_t head_at;
	struct str ref, tail;
};

/*
 *   HEAD --head complete--> BODY --body complete--> RUN --answered--> HEAD   (or SKIP: an unread rest of the body, then HEAD)
 *     |                      |                       |
 *     '------ refused -------'-- streamed: at once --'--answered, close--> LINGER (reads what comes, so that no reset overtakes the answer)
 */
enum http_state { HTTP_S_HEAD, HTTP_S_BODY, HTTP_S_RUN, HTTP_S_SKIP, HTTP_S_LINGER };

/* Every connection is in exactly one list. A list's entries all wait equally long, so its first is due first: no timer per connection. */
enum http_wait {
	HTTP_W_BUSY /* somebody else watches */,
	HTTP_W_IDLE,
	HTTP_W_HEADER,
	HTTP_W_STALL,
	HTTP_W_LINGER,
	HTTP_W_FRESH,
	HTTP_W_COUNT
};

struct http_exchange_own;

/* Small, because thousands of them sit idle. */
struct http_conn {
	struct event ev; /* edge-triggered for reading, writing and the peer's close, added once and never changed */
	struct http_server *server;
	struct http_conn *prev, *next; /* of the list `wait` */
	struct http_conn *resume_next;
	int64_t due_us, opened_us, head_us; /* head_us: first byte of the header block */
	struct http_rbuf *rb;
	struct http_exchange_own *x;
	struct http_out *out;
	uint32_t at, end;    /* unread bytes of rb */
	uint32_t parse_next; /* look at the head again when so many bytes are there, or a line has ended */
	uint32_t skipped;    /* SKIP, LINGER: bytes thrown away */
	int64_t rest_bytes;  /* SKIP: as in the exchange that has ended */
	struct http_chunked chunked;
	uint32_t requests;
	int fd;
	uint8_t state, wait, rest;
	bool readable; /* an edge was seen and the socket not emptied since */
	bool shut;     /* the peer has closed its sending side */
	bool going;    /* http_conn_go is on the stack */
	bool resuming; /* in the resume list */
	bool dead;
	bool no_more; /* close when the output has gone */
	uint8_t peer_n;
	char peer[46];
};

enum http_rest { HTTP_R_NONE, HTTP_R_LENGTH, HTTP_R_CHUNKED }; /* what is still to be read of a body */

struct http_exchange_own {
	struct http_exchange x;
	struct http_conn *conn; /* NULL: the client is gone */
	struct http_server *server;
	struct http_exchange_own *next; /* in the pool */
	struct http_rbuf *pinned;       /* the head's bytes, when the connection reads into another buffer by now */
	struct http_rbuf
		*stream; /* that other one, after the connection's end: the handler may still look at what it read last */
	struct http_plan plan;
	struct http_chunked chunked;
	struct buf body; /* heap */
	struct timer body_timer;
	struct op *reader, *writer;
	int64_t rest_bytes;          /* LENGTH */
	int64_t taken_bytes;         /* of the body, decoded */
	int64_t out_left;            /* streamed with a length */
	int64_t rate_us, rate_bytes; /* time waited for the client, and bytes, in this window */
	size_t sent;                 /* bytes of the answer */
	enum err read_error;
	int status;
	char peer[46];
	uint8_t rest, minor;
	bool keep_alive, expect; /* expect: 100 Continue is still to be sent */
	bool in_place;           /* the body stays where it was read, behind its head */
	bool half_closed;        /* the client had closed its sending side before the handler began: it still wants the answer */
	bool running, gone, answered, streaming, chunked_out, no_body_out, ending, close;
	struct http_header headers[];
};

struct http_list {
	struct http_conn *first, *last;
};

struct http_server {
	struct loop *loop;
	struct http_listener listener;
	struct http_limits limits;
	struct event accept_ev;
	struct timer accept_timer, sweep_timer, again_timer;
	struct http_list lists[HTTP_W_COUNT];
	struct http_conn *resume_first, *resume_last;
	struct deferred resume, idle;
	void (*idle_fn)(void *ctx);
	void *idle_ctx;
	struct http_rbuf *small, *large;
	struct http_out *outs;
	struct http_exchange_own *spare;
	size_t n_small, n_large, n_outs, n_spare;
	size_t exchanges; /* alive, with or without a connection */
	struct http_server_stats stats;
	int64_t date_s;
	int fd, port;
	bool accepting, draining, closed;
	char date[40]; /* "Date: …\r\n" */
	size_t date_n;
	char scratch[16384]; /* answers are composed here; nothing in it survives a call */
};

/* http_server.c */
struct http_rbuf *http_rbuf_take(struct http_server *s, size_t need);
void http_rbuf_give(struct http_server *s, struct http_rbuf *rb);
struct http_exchange_own *http_exchange_take(struct http_server *s);
void http_exchange_drop(struct http_exchange_own *x); /* nobody has seen it */
/* Tells the listener and recycles. The connection, if there is one still, is the caller's business. */
void http_exchange_give(struct http_exchange_own *x, int status);
void http_wait_set(struct http_conn *c, enum http_wait wait);
void http_wait_leave(struct http_conn *c);  /* for good */
void http_resume(struct http_conn *c);      /* http_conn_go at the end of this turn */
void http_again(struct http_conn *c);       /* in the next turn */
void http_conn_gone(struct http_server *s); /* after one was freed */

/* http_conn.c */
void http_conn_new(struct http_server *s, int fd, const char *peer, size_t peer_n);
void http_conn_go(struct http_conn *c);
void http_conn_break(struct http_conn *c);                        /* the client is gone, or must be: orphans a running exchange */
void http_conn_timeout(struct http_conn *c, enum http_wait wait); /* its time in that list is over */
void http_conn_finish(struct http_exchange_own *x);   /* answered and written: ends it, and its connection goes on or closes */
bool http_conn_must_close(const struct http_conn *c); /* what an answer's Connection has to say */
/* Answers in the server's name, and closes. */
void http_conn_refuse(struct http_conn *c, int status);
/* Reads what fits behind `end`: > 0; 0: nothing there now; -1: end of stream or broken. */
int http_conn_fill(struct http_conn *c);

/* http_body.c */
enum http_collect { HTTP_COLLECT_MORE, HTTP_COLLECT_DONE, HTTP_COLLECT_GONE };
void http_body_plan(struct http_conn *c); /* where the body goes */
enum http_collect http_body_collect(struct http_conn *c, int *ret_refuse);
/* SKIP: drops the rest of a body. True: the state has changed. */
bool http_body_skip(struct http_conn *c);
bool http_body_is_small_rest(const struct http_exchange_own *x); /* worth skipping, so that the connection lives on */
void http_body_wake(struct http_exchange_own *x, enum err e);

/* http_answer.c */
enum http_send { HTTP_SENT, HTTP_PENDING, HTTP_BROKEN };
/* Sends or queues: the first part is copied when it has to wait, ref and tail must live until then. `cork`: keep it with what goes out at the end of
 * this turn (SENT, because it is taken over). BROKEN: the caller breaks the connection. */
enum http_send http_send(struct http_conn *c, struct str first, struct str ref, struct str tail, bool cork);
/* Tries what is pending; ends the exchange, wakes the writer or breaks the connection. */
enum http_send http_flush(struct http_conn *c);
void http_out_free(struct http_server *s, struct http_out *out);
size_t http_status_put(struct http_server *s, int status, char *to); /* status line and Date; at most 128 bytes */
bool http_continue_send(struct http_conn *c);                        /* 100 Continue; false: broken */

#endif
