/* SPDX-License-Identifier: Apache-2.0 */
/* Blocking Redis for threads: one connection that is made when it is needed and dropped when it disappoints. */
#include "io/redis_sync.h"

#include <errno.h>
#include <hiredis/hiredis.h>
#include <hiredis/sds.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include "io/redis_resp.h"
#include "io/redis_url.h"

struct redis_sync {
	struct redis_url url;
	struct timeval timeout;
	redisContext *c;
	struct redis_resp_memory memory;
	struct buf out;
	char error[160];
};

static const struct redis_args nothing = {NULL, 0};

enum err redis_sync_open(const char *url, int64_t timeout_ms, struct redis_sync **ret)
{
	struct redis_sync *r;
	struct redis_url parsed;
	enum err e = redis_url_parse(url, &parsed);

	if (e != OK)
		return e;
	r = mem_zalloc(sizeof(*r));
	r->url = parsed;
	r->timeout = (struct timeval){timeout_ms / 1000, timeout_ms % 1000 * 1000};
	*ret = r;
	return OK;
}

static void drop(struct redis_sync *r)
{
	if (r->c)
		redisFree(r->c);
	r->c = NULL;
	redis_resp_memory_free(&r->memory);
}

struct redis_sync *redis_sync_close(struct redis_sync *r)
{
	if (!r)
		return NULL;
	drop(r);
	buf_done(&r->out);
	redis_url_done(&r->url);
	free(r);
	return NULL;
}

const char *redis_sync_error(const struct redis_sync *r)
{
	return r->error;
}

static enum err lost(struct redis_sync *r, const char *why, enum err e)
{
	snprintf(r->error, sizeof(r->error), "%s", why);
	drop(r);
	return e;
}

/* One command and its reply, whose memory is r->memory until the next call. */
static enum err exchange(struct redis_sync *r, struct redis_args head, struct redis_args args, const struct redis_reply **ret)
{
	void *reply = NULL;
	int done = 0;

	r->out.n = 0;
	redis_resp_put(&r->out, head, args);
	if (redisAppendFormattedCommand(r->c, r->out.p, r->out.n) != REDIS_OK)
		return lost(r, r->c->errstr, ERR_BUFFER);
	/* A command that did not leave whole cannot have been done. */
	while (!done) {
		if (redisBufferWrite(r->c, &done) != REDIS_OK)
			return lost(r, r->c->errstr, ERR_BUFFER);
	}
	if (redisGetReply(r->c, &reply) != REDIS_OK || !reply) {
		bool late = r->c->err == REDIS_ERR_IO && errno == EAGAIN;

		return late ? lost(r, "no answer in time", ERR_TIMEOUT) : lost(r, r->c->errstr, ERR_UNCERTAIN);
	}
	*ret = reply;
	return OK;
}

static enum err greeting(struct redis_sync *r, struct redis_args command)
{
	const struct redis_reply *reply;
	enum err e = exchange(r, command, nothing, &reply);

	/* The caller's own command was not sent yet, so nothing is uncertain. */
	if (e != OK)
		return e == ERR_TIMEOUT ? e : ERR_BUFFER;
	if (reply->type == REDIS_ERROR)
		return lost(r, reply->s.p, ERR_BUFFER);
	redis_resp_memory_free(&r->memory);
	return OK;
}

static enum err greet(struct redis_sync *r)
{
	const struct redis_url *url = &r->url;
	char db[24];
	enum err e;

	if (url->password) {
		if (url->user[0])
			e = greeting(r, REDIS_ARGS(STR("AUTH"), str_of(url->user), str_of(url->password)));
		else
			e = greeting(r, REDIS_ARGS(STR("AUTH"), str_of(url->password)));
		if (e != OK)
			return e;
	}
	if (url->db == 0)
		return OK;
	snprintf(db, sizeof(db), "%" PRId64, url->db);
	return greeting(r, REDIS_ARGS(STR("SELECT"), str_of(db)));
}

static enum err connected(struct redis_sync *r)
{
	/* Between calls a healthy connection has nothing to say; one that is readable was closed by the server. */
	struct pollfd fd = {.fd = r->c ? r->c->fd : -1, .events = POLLIN};

	if (r->c && poll(&fd, 1, 0) != 0)
		drop(r);
	if (r->c)
		return OK;
	r->c = r->url.path ? redisConnectUnixWithTimeout(r->url.path, r->timeout)
			   : redisConnectWithTimeout(r->url.host, r->url.port, r->timeout);
	if (!r->c)
		abort();
	if (r->c->err || redisSetTimeout(r->c, r->timeout) != REDIS_OK)
		return lost(r, r->c->errstr, ERR_BUFFER);
	redisReaderFree(r->c->reader);
	r->c->reader = redis_resp_reader_new(&r->memory);
	return greet(r);
}

static enum err call(struct redis_sync *r, struct redis_args head, struct redis_args args, struct arena *arena,
		     struct redis_reply *ret)
{
	const struct redis_reply *reply;
	enum err e = connected(r);

	if (e != OK)
		return e;
	e = exchange(r, head, args, &reply);
	if (e != OK)
		return e;
	if (redis_resp_is_server_fault(reply))
		return lost(r, reply->s.p, ERR_BUFFER);
	*ret = redis_resp_give(arena, &r->memory, reply);
	return OK;
}

enum err redis_sync_call(struct redis_sync *r, struct arena *arena, struct redis_args args, struct redis_reply *ret)
{
	return call(r, nothing, args, arena, ret);
}

enum err redis_sync_script(struct redis_sync *r, const struct redis_script *script, struct redis_args args, struct arena *arena,
			   struct redis_reply *ret)
{
	const struct str head[] = {STR("EVALSHA"), {script->sha, sizeof(script->sha) - 1}, STR("0")};
	const struct redis_args evalsha = {head, ARRAY_LEN(head)};
	struct redis_reply reply;
	enum err e = call(r, evalsha, args, arena, &reply);

	if (e == OK && redis_resp_is_error(&reply, "NOSCRIPT")) {
		e = call(r, nothing, REDIS_ARGS(STR("SCRIPT"), STR("LOAD"), str_of(script->text)), arena, &reply);
		if (e == OK && reply.type == REDIS_ERROR)
			return lost(r, reply.s.p, ERR_BUFFER);
		if (e == OK)
			e = call(r, evalsha, args, arena, &reply);
		if (e == OK && redis_resp_is_error(&reply, "NOSCRIPT"))
			return lost(r, reply.s.p, ERR_BUFFER);
	}
	if (e == OK)
		*ret = reply;
	return e;
}
