/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP calls from fibers: kept connections per peer, one retry of a stale one, a breaker, names resolved on a thread. */
#include "io/http_client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/str.h"
#include "base/timefmt.h"
#include "io/fiber.h"
#include "io/http_client_internal.h"

enum {
	BODY_MAX = 4 << 20,
	PEERS_MAX = 64,
	KEPT_US = 20 * 1000000, /* less than servers keep an idle connection: they should not be the ones to close */
	BREAK_AFTER = 5,        /* failures in a row */
	BREAK_LEAST_MS = 500,
	BREAK_MOST_MS = 15000,
	WAITING_MAX = 1024,
	READ_ROOM = 16384,
};

static const struct http_limits reply_limits = {.header_bytes = 16384, .header_fields = 64};

struct link {
	struct event ev;
	struct peer *peer;
	struct link *next; /* idle */
	struct op *waiter;
	int64_t idle_us;
	int fd;
	bool readable, writable;
	struct buf in; /* bytes of the reply; empty between calls */
	size_t at;
};

struct peer {
	struct peer *next;
	char *base;
	struct http_address address;
	struct link *idle;
	size_t links, waiting;
	struct waitq room;
	unsigned failures;
	int64_t closed_until_us; /* the breaker */
	bool probing;
};

struct http_client {
	struct loop *loop;
	struct http_resolver *resolver;
	const char *name;
	size_t most, n_peers;
	struct peer *peers;
};

/* ---- links ---- */

static void link_close(struct link *l)
{
	struct peer *p = l->peer;

	event_del(&l->ev);
	close(l->fd);
	buf_done(&l->in);
	free(l);
	p->links--;
	waitq_wake(&p->room, 1, OK);
}

static void on_event(evutil_socket_t fd, short what, void *ctx)
{
	struct link *l = ctx;
	struct op *op = l->waiter;

	(void)fd;
	if (what & (EV_READ | EV_CLOSED))
		l->readable = true;
	if (what & EV_WRITE)
		l->writable = true;
	if (op) {
		l->waiter = NULL;
		op_complete(op, OK);
		return;
	}
	/* An idle connection says something, or has been closed: no answer of ours. */
	for (struct link **at = &l->peer->idle; l->readable && *at; at = &(*at)->next) {
		if (*at == l) {
			*at = l->next;
			link_close(l);
			return;
		}
	}
}

static void op_free(struct op *op)
{
	free(op);
}

static SUSPENDS enum err link_wait(struct link *l, struct deadline d)
{
	struct op *op = mem_alloc(sizeof(*op));
	enum err e;

	op_init(op, "http_call", op_free);
	l->waiter = op;
	e = await(op, d);
	if (l->waiter == op) {
		l->waiter = NULL;
		op_complete(op, e);
	}
	op_unref(op);
	return e;
}

static SUSPENDS enum err link_open(struct http_client *c, struct peer *p, struct deadline d, struct link **ret)
{
	int fd, on = 1, error = 0;
	socklen_t size = sizeof(error);
	struct link *l;
	enum err e;

	e = http_address_fresh(&p->address, c->resolver, d);
	if (e != OK)
		return e;
	fd = socket(p->address.to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return ERR_PEER;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (connect(fd, (const struct sockaddr *)&p->address.to, p->address.to_n) != 0 && errno != EINPROGRESS) {
		close(fd);
		return ERR_PEER;
	}
	l = mem_zalloc(sizeof(*l));
	l->fd = fd;
	l->peer = p;
	p->links++;
	event_assign(&l->ev, loop_base(c->loop), fd, EV_READ | EV_WRITE | EV_CLOSED | EV_ET | EV_PERSIST, on_event, l);
	event_add(&l->ev, NULL);
	while (!l->writable) {
		e = link_wait(l, d);
		if (e != OK)
			goto out;
	}
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error == 0) {
		*ret = l;
		return OK;
	}
	e = ERR_PEER;
out:
	link_close(l);
	return e;
}

/* The FIN may have come with the last answer, whose edge was already used up: only the socket knows. */
static bool link_is_alive(const struct link *l)
{
	char byte;

	return recv(l->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

/* A kept connection, a new one, or one's turn to have one. */
static SUSPENDS enum err link_take(struct http_client *c, struct peer *p, struct deadline d, bool fresh, struct link **ret,
				   bool *ret_kept)
{
	for (;;) {
		enum err e;

		while (p->idle) {
			struct link *l = p->idle;

			p->idle = l->next;
			if (!fresh && loop_mono_us(c->loop) - l->idle_us < KEPT_US && link_is_alive(l)) {
				*ret = l;
				*ret_kept = true;
				return OK;
			}
			link_close(l);
		}
		*ret_kept = false;
		if (p->links < c->most)
			return link_open(c, p, d, ret);
		if (p->waiting >= WAITING_MAX)
			return ERR_OVERLOAD;
		p->waiting++;
		e = waitq_wait(&p->room, d);
		p->waiting--;
		if (e != OK)
			return e;
	}
}

static void link_keep(struct http_client *c, struct link *l)
{
	buf_done(&l->in);
	l->at = 0;
	l->readable = false; /* what comes now is no answer */
	l->idle_us = loop_mono_us(c->loop);
	l->next = l->peer->idle;
	l->peer->idle = l;
	waitq_wake(&l->peer->room, 1, OK);
}

/* ---- one exchange ---- */

/* What the peer does not take any more is not an error yet: it may have answered early. */
static SUSPENDS enum err send_all(struct link *l, struct str head, struct str body, struct deadline d)
{
	const struct str parts[] = {head, body};

	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		struct str left = parts[i];

		while (left.n > 0) {
			ssize_t n = send(l->fd, left.p, left.n, MSG_NOSIGNAL | (i == 0 && body.n > 0 ? MSG_MORE : 0));
			enum err e;

			if (n > 0) {
				left = (struct str){left.p + n, left.n - (size_t)n};
				continue;
			}
			if (errno == EINTR)
				continue;
			if (errno != EAGAIN)
				return OK;
			l->writable = false;
			while (!l->writable && !l->readable) {
				e = link_wait(l, d);
				if (e != OK)
					return e;
			}
			if (!l->writable)
				return OK;
		}
	}
	return OK;
}

/* More bytes behind l->in. ERR_PEER: broken; ERR_GONE: the orderly end of the stream. */
static SUSPENDS enum err receive(struct link *l, struct deadline d)
{
	for (;;) {
		ssize_t n = recv(l->fd, buf_room(&l->in, READ_ROOM), READ_ROOM, 0);
		enum err e;

		if (n > 0) {
			l->in.n += (size_t)n;
			return OK;
		}
		if (n == 0)
			return ERR_GONE;
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return ERR_PEER;
		l->readable = false;
		while (!l->readable) {
			e = link_wait(l, d);
			if (e != OK)
				return e;
		}
	}
}

static SUSPENDS enum err read_head(struct link *l, struct arena *arena, struct deadline d, struct http_reply_head *head)
{
	head->max_headers = reply_limits.header_fields;
	head->headers = arena_array(arena, head->max_headers, sizeof(*head->headers));
	for (;;) {
		int used = http_parse_reply(l->in.p + l->at, l->in.n - l->at, &reply_limits, head);
		enum err e;

		if (used < 0)
			return ERR_PEER;
		if (used > 0 && head->status >= 200) {
			const char *copy = arena_dup(arena, l->in.p + l->at, (size_t)used);

			/* The buffer moves on: the reply's slices are those of the copy. */
			IGNORE(http_parse_reply(copy, (size_t)used, &reply_limits, head) != used);
			l->at += (size_t)used;
			return OK;
		}
		if (used > 0) {
			if (head->status == 101)
				return ERR_PEER;
			l->at += (size_t)used; /* 100 Continue, 103 Early Hints */
			continue;
		}
		e = receive(l, d);
		if (e != OK)
			return e == ERR_GONE ? ERR_PEER : e;
	}
}

static SUSPENDS enum err read_length(struct link *l, struct arena *arena, int64_t length, struct deadline d, struct str *ret)
{
	if (length > BODY_MAX)
		return ERR_TOO_LARGE;
	while (l->in.n - l->at < (size_t)length) {
		enum err e = receive(l, d);

		if (e != OK)
			return e == ERR_GONE ? ERR_PEER : e;
	}
	*ret = arena_str(arena, (struct str){l->in.p + l->at, (size_t)length});
	l->at += (size_t)length;
	return OK;
}

static SUSPENDS enum err read_chunked(struct link *l, struct arena *arena, struct deadline d, struct str *ret)
{
	struct http_chunked chunked = {0};
	struct buf body = {0};
	enum err e = OK;

	for (;;) {
		size_t used, n = http_chunked_decode(&chunked, l->in.p + l->at, l->in.n - l->at, &used);

		buf_put(&body, l->in.p + l->at, n);
		l->at += used;
		if (chunked.state == HTTP_CHUNKED_DONE)
			break;
		e = chunked.state == HTTP_CHUNKED_BAD ? ERR_PEER : body.n > BODY_MAX ? ERR_TOO_LARGE : OK;
		if (e != OK)
			break;
		l->in.n = l->at = 0;
		e = receive(l, d);
		if (e != OK)
			break;
	}
	if (e == OK)
		*ret = arena_str(arena, buf_str(&body));
	buf_done(&body);
	return e == ERR_GONE ? ERR_PEER : e;
}

static SUSPENDS enum err read_until_close(struct link *l, struct arena *arena, struct deadline d, struct str *ret)
{
	for (;;) {
		enum err e;

		if (l->in.n - l->at > BODY_MAX)
			return ERR_TOO_LARGE;
		e = receive(l, d);
		if (e == ERR_GONE)
			break;
		if (e != OK)
			return e;
	}
	*ret = arena_str(arena, (struct str){l->in.p + l->at, l->in.n - l->at});
	return OK;
}

static struct str request_head(const struct peer *p, const struct http_call *call, struct arena *arena)
{
	bool may_have_body = call->method == HTTP_POST || call->method == HTTP_PUT || call->method == HTTP_PATCH;
	struct buf b = buf_in(arena);

	buf_printf(&b, "%s %.*s HTTP/1.1\r\nHost: %s\r\n", http_method_name(call->method), STR_FMT(call->target),
		   p->address.authority);
	if (call->body.n > 0 || may_have_body)
		buf_printf(&b, "Content-Length: %zu\r\n", call->body.n);
	buf_puts(&b, call->headers);
	buf_puts(&b, STR("\r\n"));
	return buf_str(&b);
}

/* *ret_heard: a byte of the reply has come, so the request was seen. */
static SUSPENDS enum err exchange(struct link *l, const struct http_call *call, struct arena *arena, struct deadline d,
				  struct http_reply *ret, bool *ret_heard, bool *ret_keep)
{
	struct http_reply_head head = {0};
	struct str body = {NULL, 0};
	enum err e;

	*ret_heard = *ret_keep = false;
	e = send_all(l, request_head(l->peer, call, arena), call->body, d);
	if (e == OK)
		e = read_head(l, arena, d, &head);
	*ret_heard = l->in.n > 0;
	if (e != OK)
		return e;
	*ret_keep = head.keep_alive;
	if (call->method == HTTP_HEAD || head.status == 204 || head.status == 304) {
		e = OK;
	} else if (head.chunked) {
		e = read_chunked(l, arena, d, &body);
	} else if (head.content_length >= 0) {
		e = read_length(l, arena, head.content_length, d, &body);
	} else {
		*ret_keep = false;
		e = read_until_close(l, arena, d, &body);
	}
	if (e != OK)
		return e;
	/* Bytes behind the reply answer nothing: such a connection is not used again. */
	*ret_keep = *ret_keep && l->at == l->in.n;
	*ret = (struct http_reply){head.status, head.headers, head.n_headers, body};
	return OK;
}

/* ---- calls ---- */

static bool peer_is_closed(const struct http_client *c, const struct peer *p)
{
	return p->failures >= BREAK_AFTER && (p->probing || loop_mono_us(c->loop) < p->closed_until_us);
}

static void peer_note(struct http_client *c, struct peer *p, enum err e)
{
	int64_t ms = BREAK_LEAST_MS;

	p->probing = false;
	if (e == OK || e == ERR_TOO_LARGE) {
		p->failures = 0;
		return;
	}
	if (e != ERR_PEER && e != ERR_TIMEOUT) /* cancelled or overloaded: says nothing about the peer */
		return;
	p->failures++;
	for (unsigned i = BREAK_AFTER; i < p->failures && ms < BREAK_MOST_MS; i++)
		ms *= 2;
	p->closed_until_us = loop_mono_us(c->loop) + (ms < BREAK_MOST_MS ? ms : BREAK_MOST_MS) * US_PER_MS;
}

static struct peer *peer_of(struct http_client *c, const char *base)
{
	struct peer *p;

	for (p = c->peers; p; p = p->next) {
		if (strcmp(p->base, base) == 0)
			return p;
	}
	if (c->n_peers == PEERS_MAX)
		return NULL;
	p = mem_zalloc(sizeof(*p));
	if (!http_address_parse(&p->address, base)) {
		free(p);
		return NULL;
	}
	p->base = mem_strdup(base);
	p->next = c->peers;
	c->peers = p;
	c->n_peers++;
	return p;
}

static bool call_is_good(const struct http_call *call)
{
	if (call->target.n == 0 || call->target.p[0] != '/' || call->method == HTTP_OTHER)
		return false;
	for (size_t i = 0; i < call->target.n; i++) {
		if (!http_is(call->target.p[i], HTTP_C_TARGET))
			return false;
	}
	return call->headers.n == 0 || (call->headers.n > 2 && memcmp(call->headers.p + call->headers.n - 2, "\r\n", 2) == 0);
}

enum err http_call(struct http_client *c, const struct http_call *call, struct arena *arena, struct deadline d,
		   struct http_reply *ret)
{
	struct peer *p = peer_of(c, call->base);
	enum err e = ERR_PEER;
	bool again = false;

	if (!p || !call_is_good(call))
		return ERR_BUG;
	if (peer_is_closed(c, p))
		return ERR_PEER;
	p->probing = p->failures >= BREAK_AFTER;
	do {
		bool kept = false, heard = false, keep = false;
		struct link *l = NULL;

		e = link_take(c, p, d, again, &l, &kept);
		if (e != OK)
			break;
		e = exchange(l, call, arena, d, ret, &heard, &keep);
		if (keep && e == OK)
			link_keep(c, l);
		else
			link_close(l);
		/* The peer closed it while it was idle and the request crossed its FIN: nothing was done there. */
		again = e == ERR_PEER && kept && !heard && call->method != HTTP_POST && call->method != HTTP_PATCH;
	} while (again);
	peer_note(c, p, e);
	return e;
}

struct http_client *http_client_new(struct loop *loop, const char *name, size_t most_per_peer)
{
	struct http_client *c = mem_zalloc(sizeof(*c));

	c->loop = loop;
	c->resolver = http_resolver_new(loop);
	c->name = name;
	c->most = most_per_peer > 0 ? most_per_peer : 1;
	return c;
}

struct http_client *http_client_free(struct http_client *c)
{
	struct peer *p;

	while (c && (p = c->peers) != NULL) {
		c->peers = p->next;
		while (p->idle) {
			struct link *l = p->idle;

			p->idle = l->next;
			link_close(l);
		}
		http_address_done(&p->address);
		waitq_done(&p->room);
		free(p->base);
		free(p);
	}
	if (c)
		http_resolver_close(c->resolver);
	free(c);
	return NULL;
}
