/* SPDX-License-Identifier: Apache-2.0 */
/* A request's way: what is known when the header block is complete, then the filters on a fiber, then the answer. */
#include "svc/req.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/log.h"
#include "base/str.h"
#include "base/timefmt.h"
#include "base/uuid.h"
#include "io/crypto.h"
#include "io/fiber.h"
#include "io/loop.h"
#include "svc/authn.h"
#include "svc/cache_http.h"
#include "svc/cache_warm.h"
#include "svc/idem.h"
#include "svc/kit.h"
#include "svc/rules.h"

/* ---- when the header block is complete: on the loop, nothing waits ------------------------------------------------------------ */

static bool is_hex_id(struct str s)
{
	if (s.n != 32 && s.n != UUID_TEXT)
		return false;
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];

		if ((c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') && c != '-')
			return false;
	}
	return true;
}

/* The gateway's id, else one of ours: unique by process and count, which costs no system call. */
static void take_id(struct req *req)
{
	struct daemon *d = req->daemon;
	struct str sent = http_header(req->x, "X-Request-Id");
	uint8_t bytes[16];
	uint64_t count = ++d->n_requests;

	if (is_hex_id(sent)) {
		memcpy(req->id, sent.p, sent.n);
		return;
	}
	memcpy(bytes, d->boot, 8);
	for (size_t i = 0; i < 8; i++)
		bytes[8 + i] = (uint8_t)(count >> (56 - 8 * i));
	hex_text(bytes, sizeof(bytes), req->id);
}

static struct req *req_new(struct side *side, struct http_exchange *x)
{
	struct req *req = arena_alloc(x->arena, sizeof(*req));

	/* The room for problems is large and rarely used, so it stays as it is. */
	memset(req, 0, offsetof(struct req, problems));
	memset((char *)req + offsetof(struct req, problems) + sizeof(req->problems), 0,
	       sizeof(*req) - offsetof(struct req, problems) - sizeof(req->problems));
	req->problems.arena = x->arena;
	req->problems.n = 0;
	req->daemon = side->daemon;
	req->x = x;
	req->arena = x->arena;
	req->body = buf_in(x->arena);
	req->headers = buf_in(x->arena);
	take_id(req);
	return req;
}

static void find_route(struct side *side, struct req *req)
{
	struct route_match match;

	req->early = router_match(side->router, req->x->method, req->x->path, req->arena, &match);
	if (req->early != OK) {
		req->entry = router_entry(side->router, router_size(side->router));
		req->allowed = match.allowed;
		return;
	}
	req->entry = match.entry;
	req->route = match.entry->route;
	req->n_params = match.n;
	for (size_t i = 0; i < match.n; i++) {
		req->params[i] = match.id[i];
		req->param_text[i] = match.text[i];
	}
}

static struct http_plan on_head(void *ctx, struct http_exchange *x)
{
	struct side *side = ctx;
	struct req *req = req_new(side, x);

	x->user = req;
	side->daemon->live++;
	find_route(side, req);
	if (req->route == NULL)
		return (struct http_plan){.body = HTTP_BODY_NONE};
	return body_plan(req);
}

/* ---- the filters: in this order, on the request's fiber, until one fails ------------------------------------------------------- */

static void start_clock(struct req *req)
{
	const struct daemon *d = req->daemon;

	req->now_us = loop_real_us(d->loop);
	req->deadline = deadline_in(d->loop, d->settings.request_timeout_ms);
}

SUSPENDS static enum err filter_deadline(struct req *req)
{
	start_clock(req);
	return OK;
}

SUSPENDS static enum err filter_authn(struct req *req)
{
	const struct route *route = req->route;
	enum err e;

	if ((route->roles & ROLE_ANYONE) != 0) {
		req->who.role = ROLE_ANYONE;
		return OK;
	}
	e = authn_check(req);
	if (e != OK)
		return e;
	if ((route->roles & req->who.role) == 0)
		return req_fail(req, ERR_FORBIDDEN, "this is not for the role %s", role_name(req->who.role));
	return OK;
}

SUSPENDS static enum err filter_rate(struct req *req)
{
	enum err e = req->route->rate == RATE_NONE ? OK : rate_check(req);

	req->kept_headers = req->headers.n;
	return e;
}

SUSPENDS static enum err filter_body(struct req *req)
{
	enum err e = body_read(req);

	/* An upload may take minutes; the work on it starts now. */
	if (e == OK && (req->route->flags & ROUTE_MULTIPART) != 0)
		start_clock(req);
	return e;
}

SUSPENDS static enum err filter_rule(struct req *req)
{
	return req->route->rule.kind == RULE_PUBLIC ? OK : rule_check(req);
}

SUSPENDS static enum err run_handler(struct req *req)
{
	bool keyed = req->x->method == HTTP_POST && (req->route->flags & ROUTE_NO_KEY) == 0 &&
		     http_header(req->x, "Idempotency-Key").p != NULL;
	enum err e;

	if (!keyed)
		return req->route->handler(req);
	e = idem_begin(req);
	if (e != OK || req->replayed)
		return e;
	e = req->route->handler(req);
	idem_end(req, e);
	return e;
}

/* What it has changed is raised whatever it returns: a failed request may have written. */
SUSPENDS static enum err filter_handler(struct req *req)
{
	enum err e = http_cache_applies(req) ? http_cache_run(req, run_handler) : run_handler(req);

	if (req->touched)
		touch_raise(req);
	return e;
}

static const struct {
	const char *name;
	SUSPENDS enum err (*fn)(struct req *req);
} filters[] = {
	{"deadline", filter_deadline}, {"authentication", filter_authn}, {"rate", filter_rate},
	{"body", filter_body},         {"object rule", filter_rule},     {"handler", filter_handler},
};

SUSPENDS static void req_fiber(void *arg)
{
	struct req *req = arg;
	enum err e = OK;

	for (size_t i = 0; i < ARRAY_LEN(filters) && e == OK; i++)
		e = filters[i].fn(req);
	if (req->cached) {
		http_cache_after(req);
		cache_warm_saw(req);
	}
	answer_send(req, e);
}

/* ---- a request that nobody sent ------------------------------------------------------------------------------------------------ */

SUSPENDS enum err inner_request(struct daemon *d, struct arena *arena, struct str target, const struct caller *who,
				struct req **ret)
{
	return inner_request_as(d, arena, target, who, false, ret);
}

SUSPENDS enum err inner_request_as(struct daemon *d, struct arena *arena, struct str target, const struct caller *who,
				   bool shared, struct req **ret)
{
	struct http_exchange *x = arena_zalloc(arena, sizeof(*x));
	struct req *req;
	enum err e;

	x->arena = arena;
	x->target = x->query = target;
	x->path = str_split(&x->query, '?');
	req = req_new(&d->people, x);
	find_route(&d->people, req);
	if (req->route == NULL || req->route->method != HTTP_GET)
		return ERR_NOT_FOUND;
	start_clock(req);
	req->who = *who;
	if ((req->route->roles & who->role) == 0)
		return ERR_FORBIDDEN;
	e = filter_body(req);
	if (e == OK && !shared)
		e = filter_rule(req);
	*ret = req;
	return e;
}

static void on_run(void *ctx, struct http_exchange *x)
{
	struct side *side = ctx;
	struct req *req = x->user;
	enum err e;

	if (req->route == NULL) {
		if (req->early == ERR_METHOD && x->method == HTTP_OPTIONS)
			req->status = 204;
		req->now_us = loop_real_us(side->daemon->loop);
		answer_send(req, req->status == 204 ? OK : req->early);
		return;
	}
	e = fiber_run(side->daemon->loop, req->entry->path, req_fiber, req);
	if (e != OK)
		answer_send(req, e);
}

static void on_done(void *ctx, struct http_exchange *x, int status, size_t bytes_sent)
{
	struct side *side = ctx;
	struct daemon *d = side->daemon;
	struct req *req = x->user;

	(void)bytes_sent;
	if (req == NULL)
		return;
	d->live--;
	/* 499: the client left before its answer. */
	route_times_add(&req->entry->times, x->method, status == 0 ? 499 : status, loop_mono_us(d->loop) - x->started_us);
}

struct http_listener req_listener(struct side *side)
{
	return (struct http_listener){.ctx = side, .head = on_head, .run = on_run, .problem = problem_of_server, .done = on_done};
}

/* ---- what handlers call -------------------------------------------------------------------------------------------------------- */

enum err req_fail_at(struct req *req, enum err e, const char *code, const char *file, int line, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	req->detail = arena_vprintf(req->arena, fmt, ap);
	va_end(ap);
	req->code = code;
	req->fail_file = file;
	req->fail_line = line;
	return e;
}

enum err req_invalid(struct req *req, const char *pointer, const char *code, const char *message)
{
	problem_add(&req->problems, pointer, code, message);
	return ERR_INVALID;
}

enum err req_invalid_at(struct req *req, const char *code, const char *message, const char *pointer_fmt, ...)
{
	const char *pointer;
	va_list ap;

	va_start(ap, pointer_fmt);
	pointer = arena_vprintf(req->arena, pointer_fmt, ap);
	va_end(ap);
	return req_invalid(req, pointer, code, message);
}

static size_t param_index(const struct req *req, const char *name)
{
	for (size_t i = 0; i < req->n_params; i++)
		if (str_is(req->entry->params[i], name))
			return i;
	log_error("a handler asks for a parameter that its path has not", LOG_S("path", req->entry->path),
		  LOG_S("parameter", name));
	abort();
}

struct uuid req_param(const struct req *req, const char *name)
{
	return req->params[param_index(req, name)];
}

struct str req_param_text(const struct req *req, const char *name)
{
	return req->param_text[param_index(req, name)];
}

/* The daemons' port is the gateway's alone, which replaces the header by the one address that it sees. */
struct str req_client_ip(const struct req *req)
{
	struct str sent = http_header(req->x, "X-Forwarded-For");

	for (size_t i = 0; i < sent.n; i++) {
		char c = sent.p[i];

		if ((c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') && c != '.' && c != ':')
			return req->x->peer;
	}
	return sent.n > 1 && sent.n < 46 ? sent : req->x->peer;
}

bool req_is_write(const struct req *req)
{
	return req->x->method != HTTP_GET && req->x->method != HTTP_HEAD;
}

static int64_t query_int(const struct req *req, const char *name, int64_t fallback)
{
	const struct schema *s = req->route->query;
	const struct field *f = s != NULL && req->query != NULL ? schema_find(s, str_of(name)) : NULL;
	const struct fields *head = req->query;

	if (f == NULL || f->type != FIELD_INT || (head->set >> (f - s->fields) & 1) == 0)
		return fallback;
	return *(const int64_t *)(const void *)((const char *)req->query + f->offset);
}

struct page req_page(struct req *req, int64_t default_size)
{
	struct page page = {.number = query_int(req, "page", 1), .size = query_int(req, "page_size", default_size)};

	req->page_size = default_size;
	page.offset = (page.number - 1) * page.size;
	return page;
}
