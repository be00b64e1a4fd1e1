/* SPDX-License-Identifier: Apache-2.0 */
/* The listener: accepting, limits, the lists of waiting connections, pools, drain and close. */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/str.h"
#include "base/timefmt.h"
#include "io/http_internal.h"

enum {
	ACCEPT_BATCH = 128,
	ACCEPT_PAUSE_US = 50000, /* without file descriptors: others may be closed meanwhile */
	BACKLOG = 4096,
	LINGER_US = 2000000,
	FRESH_US = 250000,
	SWEEP_LEAST_US = 10000,
	FD_RESERVE = 200,
	POOL_BYTES = 4 << 20, /* of read buffers of each size */
	POOL_EXCHANGES = 512,
};

const struct http_limits http_limits_default = {
	.header_bytes = 8192,
	.header_fields = 64,
	.target_bytes = 2048,
	.connections = 0,
	.header_ms = 5000,
	.idle_ms = 30000,
	.lifetime_ms = 3600000,
	.stall_ms = 30000,
	.requests = 10000,
	.rate_window_ms = 10000,
};

/* ---- pools ---- */

struct http_rbuf *http_rbuf_take(struct http_server *s, size_t need)
{
	bool small = need <= HTTP_RBUF_SMALL;
	struct http_rbuf **pool = small ? &s->small : &s->large, *rb = *pool;
	size_t cap = small ? HTTP_RBUF_SMALL : HTTP_RBUF_LARGE;

	if (need <= cap && rb) {
		*pool = rb->next;
		*(small ? &s->n_small : &s->n_large) -= 1;
		return rb;
	}
	if (need > cap)
		cap = need;
	rb = mem_alloc(sizeof(*rb) + cap);
	rb->cap = (uint32_t)cap;
	return rb;
}

void http_rbuf_give(struct http_server *s, struct http_rbuf *rb)
{
	bool small;
	size_t *n;

	if (!rb)
		return;
	small = rb->cap == HTTP_RBUF_SMALL;
	n = small ? &s->n_small : &s->n_large;
	if ((!small && rb->cap != HTTP_RBUF_LARGE) || *n * rb->cap >= POOL_BYTES) {
		free(rb);
		return;
	}
	rb->next = small ? s->small : s->large;
	*(small ? &s->small : &s->large) = rb;
	(*n)++;
}

struct http_exchange_own *http_exchange_take(struct http_server *s)
{
	struct http_exchange_own *x = s->spare;
	struct arena *arena;

	if (x) {
		s->spare = x->next;
		s->n_spare--;
		arena = x->x.arena;
	} else {
		x = mem_alloc(sizeof(*x) + s->limits.header_fields * sizeof(x->headers[0]));
		arena = arena_new();
	}
	*x = (struct http_exchange_own){.x = {.arena = arena, .headers = x->headers}, .server = s};
	s->exchanges++;
	return x;
}

static void server_free(struct http_server *s)
{
	struct http_exchange_own *x;
	struct http_rbuf *rb;
	struct http_out *out;

	while ((x = s->spare) != NULL) {
		s->spare = x->next;
		arena_free(x->x.arena);
		free(x);
	}
	while ((rb = s->small ? s->small : s->large) != NULL) {
		*(s->small ? &s->small : &s->large) = rb->next;
		free(rb);
	}
	while ((out = s->outs) != NULL) {
		s->outs = out->next;
		buf_done(&out->head);
		free(out);
	}
	free(s);
}

static void on_idle(void *ctx)
{
	struct http_server *s = ctx;
	void (*fn)(void *) = s->idle_fn;

	s->idle_fn = NULL;
	if (fn)
		fn(s->idle_ctx); /* may close the server */
}

static void look_if_over(struct http_server *s)
{
	if (s->stats.connections > 0 || s->exchanges > 0)
		return;
	if (s->closed)
		server_free(s);
	else if (s->draining && s->idle_fn)
		loop_defer(s->loop, &s->idle);
}

void http_exchange_give(struct http_exchange_own *x, int status)
{
	struct http_server *s = x->server;

	timer_stop(&x->body_timer);
	if (s->listener.done)
		s->listener.done(s->listener.ctx, &x->x, status, x->sent);
	http_exchange_drop(x);
}

void http_exchange_drop(struct http_exchange_own *x)
{
	struct http_server *s = x->server;

	arena_clear(x->x.arena);
	http_rbuf_give(s, x->pinned);
	http_rbuf_give(s, x->stream);
	if (x->body.p)
		buf_done(&x->body);
	s->exchanges--;
	if (s->n_spare < POOL_EXCHANGES) {
		x->next = s->spare;
		s->spare = x;
		s->n_spare++;
	} else {
		arena_free(x->x.arena);
		free(x);
	}
	if (s->exchanges == 0)
		look_if_over(s);
}

/* ---- lists ---- */

void http_wait_leave(struct http_conn *c)
{
	struct http_list *l = &c->server->lists[c->wait];

	if (c->prev)
		c->prev->next = c->next;
	else
		l->first = c->next;
	if (c->next)
		c->next->prev = c->prev;
	else
		l->last = c->prev;
}

static void sweep(void *ctx);

static int64_t wait_us(const struct http_server *s, enum http_wait wait)
{
	switch (wait) {
	case HTTP_W_IDLE:
		return s->limits.idle_ms * US_PER_MS;
	case HTTP_W_HEADER:
		return s->limits.header_ms * US_PER_MS;
	case HTTP_W_STALL:
		return s->limits.stall_ms * US_PER_MS;
	case HTTP_W_LINGER:
		return LINGER_US;
	case HTTP_W_FRESH:
		return FRESH_US;
	case HTTP_W_BUSY:
	case HTTP_W_COUNT:
		break;
	}
	return INT64_MAX / 4;
}

void http_wait_set(struct http_conn *c, enum http_wait wait)
{
	struct http_server *s = c->server;
	struct http_list *l = &s->lists[wait];

	http_wait_leave(c);
	c->wait = (uint8_t)wait;
	c->prev = l->last;
	c->next = NULL;
	*(l->last ? &l->last->next : &l->first) = c;
	l->last = c;
	if (wait == HTTP_W_BUSY)
		return;
	c->due_us = loop_mono_us(s->loop) + wait_us(s, wait);
	if (s->sweep_timer.slot == 0 || c->due_us < s->sweep_timer.at_us)
		timer_set(&s->sweep_timer, s->loop, c->due_us - loop_mono_us(s->loop), sweep, s);
}

/* Ends what is due and sleeps until the next is. Nobody moves this timer when a connection leaves its list. */
static void sweep(void *ctx)
{
	struct http_server *s = ctx;
	int64_t now = loop_mono_us(s->loop), next = INT64_MAX;

	for (size_t wait = HTTP_W_BUSY + 1; wait < HTTP_W_COUNT; wait++) {
		struct http_conn *c;

		while ((c = s->lists[wait].first) != NULL && c->due_us <= now) {
			http_wait_set(c, HTTP_W_BUSY);
			http_conn_timeout(c, (enum http_wait)wait);
		}
		if (c && c->due_us < next)
			next = c->due_us;
	}
	if (next != INT64_MAX)
		timer_set(&s->sweep_timer, s->loop, next - now > SWEEP_LEAST_US ? next - now : SWEEP_LEAST_US, sweep, s);
}

static bool resume_push(struct http_conn *c)
{
	struct http_server *s = c->server;

	if (c->resuming || c->going)
		return false;
	c->resuming = true;
	c->resume_next = NULL;
	*(s->resume_last ? &s->resume_last->resume_next : &s->resume_first) = c;
	s->resume_last = c;
	return true;
}

void http_resume(struct http_conn *c)
{
	if (resume_push(c))
		loop_defer(c->server->loop, &c->server->resume);
}

static void on_resume(void *ctx)
{
	struct http_server *s = ctx;
	struct http_conn *c = s->resume_first, *next;

	s->resume_first = s->resume_last = NULL;
	for (; c; c = next) {
		next = c->resume_next;
		c->resuming = false;
		http_conn_go(c);
	}
}

void http_again(struct http_conn *c)
{
	struct http_server *s = c->server;

	if (resume_push(c))
		timer_set(&s->again_timer, s->loop, 0, on_resume, s);
}

/* ---- accepting ---- */

static void accept_start(void *ctx)
{
	struct http_server *s = ctx;

	if (s->accepting || s->fd < 0 || s->stats.connections >= s->limits.connections)
		return;
	event_add(&s->accept_ev, NULL);
	s->accepting = true;
}

static void accept_stop(struct http_server *s)
{
	if (s->accepting)
		event_del(&s->accept_ev);
	s->accepting = false;
}

static size_t peer_text(const struct sockaddr_storage *from, char to[INET6_ADDRSTRLEN])
{
	const void *address = &((const struct sockaddr_in6 *)(const void *)from)->sin6_addr;

	if (from->ss_family == AF_INET)
		address = &((const struct sockaddr_in *)(const void *)from)->sin_addr;
	return inet_ntop(from->ss_family, address, to, INET6_ADDRSTRLEN) ? strlen(to) : 0;
}

static bool accept_one(struct http_server *s)
{
	char peer[INET6_ADDRSTRLEN];
	struct sockaddr_storage from = {0};
	socklen_t size = sizeof(from);
	int fd = accept4(s->fd, (struct sockaddr *)&from, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			accept_stop(s);
			timer_set(&s->accept_timer, s->loop, ACCEPT_PAUSE_US, accept_start, s);
		}
		/* A client that left before it was accepted says nothing about the next one. */
		return errno == ECONNABORTED || errno == EINTR;
	}
	http_conn_new(s, fd, peer, peer_text(&from, peer));
	if (s->stats.connections >= s->limits.connections) {
		accept_stop(s);
		return false;
	}
	return true;
}

static void on_accept(evutil_socket_t fd, short what, void *ctx)
{
	struct http_server *s = ctx;

	(void)fd, (void)what;
	for (int i = 0; i < ACCEPT_BATCH && accept_one(s); i++) {
	}
}

void http_conn_gone(struct http_server *s)
{
	s->stats.connections--;
	if (!s->accepting && s->accept_timer.slot == 0)
		accept_start(s);
	if (s->stats.connections == 0)
		look_if_over(s);
}

/* ---- opening ---- */

static int listen_on(const struct addrinfo *at)
{
	int fd = socket(at->ai_family, at->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, at->ai_protocol), on = 1;

	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	/* Accepted sockets inherit this from the listening one: a system call less for each. */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (bind(fd, at->ai_addr, at->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/* "host:port", "[::1]:port", ":port" (every address). */
static enum err listen_at(const char *address, int *ret_fd)
{
	const struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
	const char *colon = strrchr(address, ':');
	struct addrinfo *found;
	char host[256];
	size_t n;

	if (!colon || (size_t)(colon - address) >= sizeof(host))
		return ERR_INVALID;
	n = (size_t)(colon - address);
	if (n >= 2 && address[0] == '[' && address[n - 1] == ']') {
		address++;
		n -= 2;
	}
	memcpy(host, address, n);
	host[n] = 0;
	if (getaddrinfo(n > 0 ? host : NULL, colon + 1, &hints, &found) != 0)
		return ERR_INVALID;
	*ret_fd = listen_on(found);
	freeaddrinfo(found);
	return *ret_fd >= 0 ? OK : ERR_IO;
}

static int port_of(int fd)
{
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} at = {0};
	socklen_t size = sizeof(at);

	if (getsockname(fd, &at.any, &size) != 0)
		return 0;
	return ntohs(at.any.sa_family == AF_INET ? at.v4.sin_port : at.v6.sin6_port);
}

static size_t connections_of_fd_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur <= FD_RESERVE + 16)
		return 16;
	return limit.rlim_cur == RLIM_INFINITY ? 1000000 : limit.rlim_cur - FD_RESERVE;
}

enum err http_server_open(struct loop *loop, const char *address, const struct http_listener *listener,
			  const struct http_limits *limits, struct http_server **ret)
{
	struct http_server *s;
	enum err e;
	int fd;

	e = listen_at(address, &fd);
	if (e != OK)
		return e;
	s = mem_zalloc(sizeof(*s));
	s->loop = loop;
	s->listener = *listener;
	s->limits = limits ? *limits : http_limits_default;
	if (s->limits.connections == 0)
		s->limits.connections = connections_of_fd_limit();
	if (s->limits.rate_window_ms == 0)
		s->limits.rate_window_ms = http_limits_default.rate_window_ms;
	s->fd = fd;
	s->port = port_of(fd);
	s->date_s = -1;
	s->resume = (struct deferred){.fn = on_resume, .ctx = s};
	s->idle = (struct deferred){.fn = on_idle, .ctx = s};
	event_assign(&s->accept_ev, loop_base(loop), fd, EV_READ | EV_PERSIST, on_accept, s);
	accept_start(s);
	*ret = s;
	return OK;
}

int http_server_port(const struct http_server *s)
{
	return s->port;
}

struct http_server_stats http_server_stats(const struct http_server *s)
{
	return s->stats;
}

/* ---- ending ---- */

static void listener_close(struct http_server *s)
{
	accept_stop(s);
	timer_stop(&s->accept_timer);
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
}

void http_server_drain(struct http_server *s, void (*idle)(void *ctx), void *ctx)
{
	struct http_conn *c;

	s->idle_fn = idle;
	s->idle_ctx = ctx;
	if (!s->draining && s->fd >= 0) {
		/* Closing the listening socket resets who is in its queue, so they are let in first. */
		while (s->stats.connections < s->limits.connections && accept_one(s)) {
		}
		listener_close(s);
	}
	s->draining = true;
	/* A request may have arrived that the loop has not seen: each idle connection is read once more, then it closes itself. */
	for (c = s->lists[HTTP_W_IDLE].first; c; c = c->next) {
		c->readable = true;
		http_resume(c);
	}
	look_if_over(s);
}

void http_server_close(struct http_server *s)
{
	if (!s)
		return;
	listener_close(s);
	s->draining = true;
	s->idle_fn = NULL;
	/* Held up, so that the last connection's end does not free the server under this loop. */
	s->exchanges++;
	for (struct http_conn *c = s->resume_first, *next; c; c = next) {
		next = c->resume_next;
		c->resuming = false;
		if (c->dead)
			http_conn_go(c); /* which only frees it */
	}
	s->resume_first = s->resume_last = NULL;
	for (size_t wait = 0; wait < HTTP_W_COUNT; wait++) {
		for (struct http_conn *c = s->lists[wait].first, *next; c; c = next) {
			next = c->next;
			http_conn_break(c);
		}
	}
	loop_undefer(s->loop, &s->resume);
	loop_undefer(s->loop, &s->idle);
	timer_stop(&s->sweep_timer);
	timer_stop(&s->again_timer);
	s->closed = true;
	s->exchanges--;
	look_if_over(s);
}
