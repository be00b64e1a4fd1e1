/* SPDX-License-Identifier: Apache-2.0 */
/* One connection: its states, reading heads, starting and ending exchanges, refusing, leaving. */
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/str.h"
#include "base/timefmt.h"
#include "io/http_internal.h"

enum {
	TURN_REQUESTS = 256,    /* of one connection in one turn: a pipelining client does not hold up the others */
	LINGER_BYTES = 1 << 20, /* thrown away after the last answer */
	CORK_BYTES = 16384,     /* answers to pipelined requests are kept together up to here */
	BODY_MS = 15000,        /* when the plan does not say */
};

static void on_event(evutil_socket_t fd, short what, void *ctx)
{
	struct http_conn *c = ctx;

	(void)fd;
	if (what & EV_CLOSED)
		c->shut = true;
	if (what & (EV_READ | EV_CLOSED))
		c->readable = true;
	/* A reset shows as both; a connection whose handler runs is not read, so it must be asked for. */
	if (c->state == HTTP_S_RUN && (what & EV_READ) && (what & EV_WRITE)) {
		int error = 0;
		socklen_t size = sizeof(error);

		if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error != 0) {
			http_conn_break(c);
			return;
		}
	}
	http_conn_go(c);
}

void http_conn_new(struct http_server *s, int fd, const char *peer, size_t peer_n)
{
	struct http_conn *c = mem_zalloc(sizeof(*c));

	c->server = s;
	c->fd = fd;
	c->opened_us = loop_mono_us(s->loop);
	c->peer_n = (uint8_t)peer_n;
	memcpy(c->peer, peer, peer_n);
	s->stats.connections++;
	c->next = s->lists[HTTP_W_BUSY].first;
	if (c->next)
		c->next->prev = c;
	else
		s->lists[HTTP_W_BUSY].last = c;
	s->lists[HTTP_W_BUSY].first = c;
	http_wait_set(c, HTTP_W_IDLE);
	event_assign(&c->ev, loop_base(s->loop), fd, EV_READ | EV_WRITE | EV_CLOSED | EV_ET | EV_PERSIST, on_event, c);
	event_add(&c->ev, NULL);
}

static void conn_free(struct http_conn *c)
{
	struct http_server *s = c->server;

	http_rbuf_give(s, c->rb);
	http_out_free(s, c->out);
	free(c);
	http_conn_gone(s);
}

/* Takes the socket away at once; the struct goes when nobody on the stack or in a list looks at it any more. */
static void conn_kill(struct http_conn *c)
{
	if (c->dead)
		return;
	c->dead = true;
	event_del(&c->ev);
	close(c->fd);
	http_wait_leave(c);
	if (!c->going && !c->resuming)
		conn_free(c);
}

/* The head's bytes, a body in place, and the last piece of a streamed one are the exchange's until it ends. */
static void keep_bytes(struct http_conn *c, struct http_exchange_own *x)
{
	*(x->pinned ? &x->stream : &x->pinned) = c->rb;
	c->rb = NULL;
	c->at = c->end = 0;
}

void http_conn_break(struct http_conn *c)
{
	struct http_exchange_own *x = c->x;

	if (c->dead)
		return;
	c->x = NULL;
	if (x) {
		x->conn = NULL;
		x->gone = true;
		keep_bytes(c, x);
		http_body_wake(x, ERR_CANCELLED);
		if (x->writer) {
			struct op *op = x->writer;

			x->writer = NULL;
			op_complete(op, ERR_CANCELLED);
		}
		/* Whose handler has not begun, or has finished: nobody else will end it. */
		if (!x->running || x->ending)
			http_exchange_give(x, x->sent > 0 ? x->status : 0);
	}
	conn_kill(c);
}

int http_conn_fill(struct http_conn *c)
{
	size_t room = c->rb->cap - c->end;
	ssize_t n;

	do
		n = recv(c->fd, c->rb->p + c->end, room, 0);
	while (n < 0 && errno == EINTR);
	if (n > 0) {
		c->end += (uint32_t)n;
		/* Less than asked for: the socket is empty, and the next edge will come. The end of the stream has had its edge. */
		if ((size_t)n < room && !c->shut)
			c->readable = false;
		return (int)n;
	}
	if (n < 0 && errno == EAGAIN) {
		c->readable = false;
		return 0;
	}
	return -1;
}

/* Room for more of a head: the bytes move to the front, then into a larger buffer. */
static void head_room(struct http_conn *c)
{
	struct http_server *s = c->server;
	struct http_rbuf *rb = c->rb;
	uint32_t have = c->end - c->at;

	if (!rb) {
		c->rb = http_rbuf_take(s, 1);
		c->at = c->end = 0;
		return;
	}
	if (c->end < rb->cap)
		return;
	if (have == rb->cap) {
		c->rb = http_rbuf_take(s, s->limits.header_bytes > have ? s->limits.header_bytes : (size_t)have + 1);
		memcpy(c->rb->p, rb->p, have);
		http_rbuf_give(s, rb);
	} else if (have > 0) {
		memmove(rb->p, rb->p + c->at, have);
	}
	c->parse_next = have > 0 ? c->parse_next - c->at : 0;
	c->at = 0;
	c->end = have;
}

bool http_conn_must_close(const struct http_conn *c)
{
	const struct http_server *s = c->server;
	const struct http_exchange_own *x = c->x;

	return s->draining || !x->keep_alive || c->requests >= s->limits.requests ||
	       loop_mono_us(s->loop) - c->opened_us >= s->limits.lifetime_ms * US_PER_MS || !http_body_is_small_rest(x);
}

/* ---- refusing ---- */

static struct str refusal_code(int status, struct str *ret_title)
{
	/* clang-format off */
	static const struct {
		int status;
		const char *code, *title;
	} rows[] = {
		{400, "malformed",           "The request is not valid HTTP/1.1"},
		{408, "request_timeout",     "The request did not arrive in time"},
		{413, "too_large",           "The request is too large"},
		{414, "target_too_long",     "The address is too long"},
		{417, "expectation_failed",  "The expectation cannot be met"},
		{431, "headers_too_large",   "The header fields are too large"},
		{501, "not_implemented",     "The request uses something that is not implemented"},
		{505, "version_unsupported", "Only HTTP/1.0 and HTTP/1.1 are spoken here"},
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (rows[i].status == status) {
			*ret_title = str_of(rows[i].title);
			return str_of(rows[i].code);
		}
	}
	*ret_title = STR("Internal error");
	return STR("internal");
}

static void problem_body(struct http_server *s, int status, struct buf *body)
{
	struct str title, code = refusal_code(status, &title);

	if (s->listener.problem) {
		s->listener.problem(s->listener.ctx, status, code.p, title.p, body);
		return;
	}
	buf_printf(body, "{\"type\":\"urn:schools24:problem:%s\",\"title\":\"%s\",\"status\":%d,", code.p, title.p, status);
	buf_printf(body, "\"detail\":\"%s.\",\"code\":\"%s\",\"error\":\"%s\"}", title.p, code.p, code.p);
}

void http_conn_refuse(struct http_conn *c, int status)
{
	struct http_server *s = c->server;
	struct http_exchange_own *x = c->x;
	struct buf body = {0}, head = {0};
	size_t sent;

	s->stats.refused++;
	problem_body(s, status, &body);
	head.n = http_status_put(s, status, buf_room(&head, 128));
	buf_printf(&head, "Content-Type: application/problem+json\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n", body.n);
	if (!x || x->x.method != HTTP_HEAD)
		buf_puts(&head, buf_str(&body));
	sent = head.n;
	c->state = HTTP_S_LINGER;
	c->no_more = true;
	c->rest = HTTP_R_CHUNKED; /* who knows how much more comes */
	c->x = NULL;
	if (http_send(c, buf_str(&head), (struct str){NULL, 0}, (struct str){NULL, 0}, false) == HTTP_BROKEN)
		sent = 0;
	buf_done(&head);
	buf_done(&body);
	if (x) {
		/* Its handler has not begun, or waits in http_read and will find the client gone. */
		x->sent = sent;
		x->status = status;
		x->conn = NULL;
		x->gone = true;
		keep_bytes(c, x);
		if (!x->running)
			http_exchange_give(x, status);
	}
	http_resume(c);
}

/* ---- exchanges ---- */

static void run(struct http_conn *c)
{
	struct http_exchange_own *x = c->x;

	c->state = HTTP_S_RUN;
	x->running = true;
	c->server->listener.run(c->server->listener.ctx, &x->x);
}

static void begin(struct http_conn *c, const struct http_head *head, struct http_exchange_own *x, size_t used)
{
	struct http_server *s = c->server;

	c->x = x;
	x->conn = c;
	x->x.method = head->method;
	x->x.target = head->target;
	http_target_split(head->target, &x->x.path, &x->x.query);
	x->x.n_headers = head->n_headers;
	x->x.body_length = head->chunked ? -1 : head->content_length > 0 ? head->content_length : 0;
	memcpy(x->peer, c->peer, c->peer_n); /* the connection may end first */
	x->x.peer = (struct str){x->peer, c->peer_n};
	x->x.started_us = c->head_us;
	x->minor = (uint8_t)head->minor;
	x->keep_alive = head->keep_alive;
	x->half_closed = c->shut;
	x->rest = head->chunked ? HTTP_R_CHUNKED : head->content_length > 0 ? HTTP_R_LENGTH : HTTP_R_NONE;
	x->rest_bytes = x->rest == HTTP_R_LENGTH ? head->content_length : 0;
	x->expect = head->expect_continue && x->rest != HTTP_R_NONE;
	c->at += (uint32_t)used;
	c->parse_next = 0;
	c->requests++;
	s->stats.requests++;
	if (c->wait != HTTP_W_BUSY)
		http_wait_set(c, HTTP_W_BUSY);

	x->plan = s->listener.head(s->listener.ctx, &x->x);
	if (x->rest == HTTP_R_NONE || x->plan.body == HTTP_BODY_NONE || x->plan.body == HTTP_BODY_REFUSE) {
		run(c);
		return;
	}
	if ((uint64_t)x->rest_bytes > x->plan.body_max) {
		http_conn_refuse(c, 413);
		return;
	}
	http_body_plan(c);
	if (x->plan.body == HTTP_BODY_WHOLE)
		c->state = HTTP_S_BODY;
	else
		run(c);
}

/* A look at the head is worth it when a line has ended in the new bytes, or when they have doubled: dripping costs the client more than us. */
static bool worth_parsing(const struct http_conn *c, uint32_t before)
{
	return c->end >= c->parse_next || c->end - c->at >= c->server->limits.header_bytes ||
	       memchr(c->rb->p + before, '\n', c->end - before) != NULL;
}

/* True: something happened, go on. */
static bool parse(struct http_conn *c, uint32_t before)
{
	struct http_server *s = c->server;
	struct http_exchange_own *x;
	struct http_head head = {0};
	int used;

	if (!worth_parsing(c, before))
		return true;
	x = http_exchange_take(s);
	head.headers = x->headers;
	head.max_headers = s->limits.header_fields;
	used = http_parse_head(c->rb->p + c->at, c->end - c->at, &s->limits, &head);
	if (used > 0) {
		begin(c, &head, x, (size_t)used);
		return true;
	}
	http_exchange_drop(x);
	c->parse_next = c->end + (c->end - c->at);
	if (used < 0)
		http_conn_refuse(c, -used);
	return true;
}

/* The client sends no more. What it was answered may still wait to be written. */
static bool head_over(struct http_conn *c)
{
	if (!c->out) {
		http_conn_break(c);
		return false;
	}
	c->state = HTTP_S_LINGER;
	c->no_more = true;
	return true;
}

static bool step_head(struct http_conn *c)
{
	uint32_t before;
	int n;

	/* Answers to pipelined requests leave together; whoever does not read his answers gets no new ones. */
	if (c->out && (c->at == c->end || c->out->head.n - c->out->head_at > CORK_BYTES) && http_flush(c) != HTTP_SENT)
		return false;
	if (c->at < c->end && c->parse_next == 0) {
		c->head_us = loop_mono_us(c->server->loop);
		return parse(c, c->at);
	}
	if (!c->readable)
		return false;
	head_room(c);
	before = c->end;
	n = http_conn_fill(c);
	if (n < 0)
		return head_over(c);
	if (n == 0)
		return false;
	if (before == c->at)
		c->head_us = loop_mono_us(c->server->loop);
	return parse(c, before);
}

static void body_late(void *ctx)
{
	struct http_exchange_own *x = ctx;

	x->server->stats.timed_out++;
	http_conn_refuse(x->conn, 408);
}

static bool step_body(struct http_conn *c)
{
	struct http_exchange_own *x = c->x;
	int refuse = 0;

	switch (http_body_collect(c, &refuse)) {
	case HTTP_COLLECT_DONE:
		timer_stop(&x->body_timer);
		run(c);
		return true;
	case HTTP_COLLECT_GONE:
		http_conn_break(c);
		return false;
	case HTTP_COLLECT_MORE:
		break;
	}
	if (refuse != 0) {
		http_conn_refuse(c, refuse);
		return true;
	}
	if (x->expect && !http_continue_send(c)) {
		http_conn_break(c);
		return false;
	}
	if (x->body_timer.slot == 0)
		timer_set(&x->body_timer, c->server->loop, (x->plan.body_ms > 0 ? x->plan.body_ms : BODY_MS) * US_PER_MS,
			  body_late, x);
	return false;
}

/* The handler runs. It reads a streamed body itself; here is only noticed that there is something, or that the client has left. */
static bool step_run(struct http_conn *c)
{
	struct http_exchange_own *x = c->x;

	if (c->out)
		IGNORE(http_flush(c) == HTTP_SENT); /* a break or an end shows in the state */
	if (c->dead || c->x != x)
		return !c->dead;
	if (c->shut && !x->half_closed && !x->gone) {
		x->gone = true;
		if (x->writer) {
			struct op *op = x->writer;

			x->writer = NULL;
			op_complete(op, ERR_CANCELLED);
		}
	}
	if (c->readable)
		http_body_wake(x, OK);
	return false;
}

static bool step_linger(struct http_conn *c)
{
	if (c->out && http_flush(c) != HTTP_SENT)
		return false;
	if (c->no_more) {
		c->no_more = false;
		/* All that came was read and there is no more: no reset can overtake the answer. */
		if (c->rest == HTTP_R_NONE && c->at == c->end && !c->readable) {
			conn_kill(c);
			return false;
		}
		shutdown(c->fd, SHUT_WR);
		http_wait_set(c, HTTP_W_LINGER);
		c->skipped = 0;
	}
	while (c->readable) {
		int n;

		if (!c->rb)
			c->rb = http_rbuf_take(c->server, 1);
		c->at = c->end = 0;
		n = http_conn_fill(c);
		if (n < 0 || (c->skipped += (uint32_t)n) > LINGER_BYTES) {
			conn_kill(c);
			return false;
		}
	}
	return false;
}

static bool step(struct http_conn *c)
{
	switch ((enum http_state)c->state) {
	case HTTP_S_HEAD:
		return step_head(c);
	case HTTP_S_BODY:
		return step_body(c);
	case HTTP_S_RUN:
		return step_run(c);
	case HTTP_S_SKIP:
		return http_body_skip(c);
	case HTTP_S_LINGER:
		return step_linger(c);
	}
	return false;
}

/* Nothing can be done before something happens: gives the buffer back and waits in the right list. */
static void rest(struct http_conn *c)
{
	struct http_server *s = c->server;

	if (c->out) {
		if (c->wait != HTTP_W_STALL)
			http_wait_set(c, HTTP_W_STALL);
		return;
	}
	if (c->wait == HTTP_W_STALL)
		http_wait_set(c, HTTP_W_BUSY);
	if (c->at == c->end && c->state != HTTP_S_RUN && c->state != HTTP_S_BODY && c->rb) {
		http_rbuf_give(s, c->rb);
		c->rb = NULL;
		c->at = c->end = 0;
	}
	if (c->state == HTTP_S_SKIP || (c->state == HTTP_S_HEAD && c->at < c->end)) {
		if (c->wait != HTTP_W_HEADER)
			http_wait_set(c, HTTP_W_HEADER);
	} else if (c->state == HTTP_S_HEAD) {
		if (s->draining && c->requests == 0 && loop_mono_us(s->loop) - c->opened_us < US_PER_S / 4) {
			if (c->wait != HTTP_W_FRESH)
				http_wait_set(c, HTTP_W_FRESH);
		} else if (s->draining) {
			conn_kill(c);
		} else if (c->wait != HTTP_W_IDLE) {
			http_wait_set(c, HTTP_W_IDLE);
		}
	}
}

void http_conn_go(struct http_conn *c)
{
	uint32_t first = c->requests;
	bool more = true;

	if (c->going)
		return;
	c->going = true;
	/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): while it is going, conn_kill leaves the freeing to us */
	while (!c->dead && more && c->requests - first < TURN_REQUESTS)
		more = step(c);
	/* Answers to pipelined requests have been kept together. */
	if (!c->dead && c->out)
		IGNORE(http_flush(c) == HTTP_SENT); /* what is left waits for its edge */
	c->going = false;
	if (c->dead) {
		if (!c->resuming)
			conn_free(c);
		return;
	}
	rest(c);
	/* Before the list of this connection's waiting place is looked at, it must be in it: then it may be taken up again. */
	if (more && !c->dead)
		http_again(c);
}

void http_conn_finish(struct http_exchange_own *x)
{
	struct http_conn *c = x->conn;
	bool was_going = c->going, close = x->close;

	c->rest = x->rest;
	c->rest_bytes = x->rest_bytes;
	c->chunked = x->chunked;
	c->skipped = 0;
	c->x = NULL;
	x->conn = NULL;
	/* The listener may close the server from `done`. */
	c->going = true;
	http_exchange_give(x, x->gone ? 0 : x->status);
	c->going = was_going;
	if (c->dead) {
		if (!was_going && !c->resuming)
			conn_free(c);
		return;
	}
	if (close) {
		c->state = HTTP_S_LINGER;
		c->no_more = true;
	} else {
		c->state = c->rest == HTTP_R_NONE ? HTTP_S_HEAD : HTTP_S_SKIP;
	}
	http_resume(c);
}

void http_conn_timeout(struct http_conn *c, enum http_wait wait)
{
	if (wait == HTTP_W_HEADER || wait == HTTP_W_STALL)
		c->server->stats.timed_out++;
	if (wait == HTTP_W_HEADER && c->state == HTTP_S_HEAD)
		http_conn_refuse(c, 408);
	else
		http_conn_break(c);
}
