/* SPDX-License-Identifier: Apache-2.0 */
/* Where a peer is: numbers at once, names by a thread that calls the system's resolver. */
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/timefmt.h"
#include "io/fiber.h"
#include "io/http_client_internal.h"

enum { KNOWN_US = 30 * 1000000 };

struct http_resolver {
	struct loop *loop;
	pthread_mutex_t lock;
	unsigned refs; /* the client's and one for each thread */
	bool closed;
};

struct http_resolver *http_resolver_new(struct loop *loop)
{
	struct http_resolver *r = mem_zalloc(sizeof(*r));

	r->loop = loop;
	r->refs = 1;
	pthread_mutex_init(&r->lock, NULL);
	return r;
}

/* With the lock held, which it releases. */
static void resolver_unref(struct http_resolver *r)
{
	bool last = --r->refs == 0;

	pthread_mutex_unlock(&r->lock);
	if (!last)
		return;
	pthread_mutex_destroy(&r->lock);
	free(r);
}

void http_resolver_close(struct http_resolver *r)
{
	pthread_mutex_lock(&r->lock);
	r->closed = true;
	resolver_unref(r);
}

/* Belongs to the fiber and to the thread, as operations do: a fiber that gives up leaves it to the thread's end. */
struct lookup {
	struct op op;
	struct http_resolver *resolver;
	char host[256], port[8];
	struct sockaddr_storage to;
	socklen_t to_n;
};

static bool resolve(const char *host, const char *port, int flags, struct sockaddr_storage *to, socklen_t *to_n)
{
	const struct addrinfo hints = {.ai_flags = flags, .ai_socktype = SOCK_STREAM};
	struct addrinfo *found;

	if (getaddrinfo(host, port, &hints, &found) != 0)
		return false;
	memcpy(to, found->ai_addr, found->ai_addrlen);
	*to_n = found->ai_addrlen;
	freeaddrinfo(found);
	return true;
}

bool http_address_parse(struct http_address *a, const char *base)
{
	struct str rest = str_of(base), scheme = STR("http://"), host;
	const char *colon;

	*a = (struct http_address){.until_us = 0};
	if (!str_has_prefix(rest, scheme))
		return false;
	rest = (struct str){rest.p + scheme.n, rest.n - scheme.n};
	/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): the scheme stood there, so there is text */
	if (rest.n > 0 && rest.p[rest.n - 1] == '/')
		rest.n--;
	if (rest.n == 0 || rest.n >= sizeof(a->host))
		return false;
	for (size_t i = 0; i < rest.n; i++) {
		if (!http_is(rest.p[i], HTTP_C_HOST))
			return false;
	}
	memcpy(a->authority, rest.p, rest.n);
	host = rest;
	colon = memrchr(rest.p, ':', rest.n);
	if (colon && (rest.p[0] != '[' || rest.p[rest.n - 1] != ']')) {
		int64_t port;

		host.n = (size_t)(colon - rest.p);
		if (!str_to_i64((struct str){colon + 1, rest.n - host.n - 1}, &port) || port < 1 || port > 65535)
			return false;
		snprintf(a->port, sizeof(a->port), "%d", (int)port);
	} else {
		memcpy(a->port, "80", 3);
	}
	if (host.n >= 2 && host.p[0] == '[' && host.p[host.n - 1] == ']')
		host = (struct str){host.p + 1, host.n - 2};
	if (host.n == 0)
		return false;
	memcpy(a->host, host.p, host.n);
	a->numeric = resolve(a->host, a->port, AI_NUMERICHOST | AI_NUMERICSERV, &a->to, &a->to_n);
	return true;
}

void http_address_done(struct http_address *a)
{
	waitq_done(&a->lookers);
}

static void lookup_free(struct op *op)
{
	free(CONTAINER_OF(op, struct lookup, op));
}

static void lookup_over(void *ctx)
{
	struct lookup *l = ctx;

	op_complete(&l->op, l->to_n > 0 ? OK : ERR_PEER);
}

static void *lookup_thread(void *arg)
{
	struct lookup *l = arg;
	struct http_resolver *r = l->resolver;

	if (!resolve(l->host, l->port, AI_NUMERICSERV | AI_ADDRCONFIG, &l->to, &l->to_n))
		l->to_n = 0;
	pthread_mutex_lock(&r->lock);
	/* Inside the lock: whoever closes the resolver may free the loop next. */
	if (!r->closed)
		loop_post(r->loop, lookup_over, l);
	else
		op_unref(&l->op);
	resolver_unref(r);
	return NULL;
}

static SUSPENDS enum err look_up(struct http_address *a, struct http_resolver *r, struct deadline d)
{
	struct lookup *l = mem_zalloc(sizeof(*l));
	pthread_attr_t attr;
	pthread_t thread;
	enum err e;
	int failed;

	op_init(&l->op, "dns", lookup_free);
	l->resolver = r;
	memcpy(l->host, a->host, sizeof(l->host));
	memcpy(l->port, a->port, sizeof(l->port));
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_mutex_lock(&r->lock);
	failed = pthread_create(&thread, &attr, lookup_thread, l);
	r->refs += failed ? 0 : 1;
	pthread_mutex_unlock(&r->lock);
	pthread_attr_destroy(&attr);
	if (failed)
		op_complete(&l->op, ERR_OVERLOAD);
	e = await(&l->op, d);
	if (e == OK) {
		a->to = l->to;
		a->to_n = l->to_n;
		a->until_us = loop_mono_us(r->loop) + KNOWN_US;
	}
	op_unref(&l->op);
	return e;
}

enum err http_address_fresh(struct http_address *a, struct http_resolver *r, struct deadline d)
{
	enum err e;

	if (a->numeric || (a->to_n > 0 && loop_mono_us(r->loop) < a->until_us))
		return OK;
	if (a->looking) {
		e = waitq_wait(&a->lookers, d);
		return e != OK || a->to_n > 0 ? e : ERR_PEER;
	}
	a->looking = true;
	e = look_up(a, r, d);
	a->looking = false;
	/* Who waited gets this answer; after this fiber's own timeout they ask again with their next call. */
	waitq_wake(&a->lookers, SIZE_MAX, e == OK ? OK : ERR_PEER);
	/* An old address is better than none while the resolver is away. */
	return e == ERR_PEER && a->to_n > 0 ? OK : e;
}
