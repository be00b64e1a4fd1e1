/* SPDX-License-Identifier: Apache-2.0 */
/* A connection to Redis over libevent and hiredis' buffers, with greeting, deadline of the attempt, and reconnection. */
#include "io/redis_link.h"

#include <errno.h>
#include <event2/event.h>
#include <hiredis/hiredis.h>
#include <hiredis/sds.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/socket.h>

#include "base/log.h"

enum {
	STEADY_US = 1000000, /* a connection that lived so long may be replaced at once */
	SOON_MS = 20,        /* … within this time, so that daemons do not come all together */
	BACKOFF_MS = 100,    /* after the first failure; doubled up to */
	BACKOFF_MOST_MS = 5000,
	OUT_KEPT = 1024 * 1024, /* a larger output buffer is given back */
};

static void on_attempt_time(void *ctx);

/* Jitter needs no secret: the clock and the address differ between processes and links. */
static int64_t jitter_ms(const struct redis_link *link, int64_t least, int64_t most)
{
	uint64_t z = (uint64_t)loop_real_us(link->loop) ^ (uint64_t)(uintptr_t)link;

	z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
	return least + (int64_t)((z ^ z >> 31) % (uint64_t)(most - least + 1));
}

static void plan_attempt(struct redis_link *link)
{
	int64_t ms = jitter_ms(link, 0, SOON_MS);

	if (link->failures > 0) {
		int64_t most = BACKOFF_MS << (link->failures > 7 ? 7 : link->failures);

		most = most < BACKOFF_MOST_MS ? most : BACKOFF_MOST_MS;
		ms = jitter_ms(link, most / 2, most);
	}
	timer_set(&link->timer, link->loop, ms * 1000, on_attempt_time, link);
}

static void disconnect(struct redis_link *link)
{
	timer_stop(&link->timer);
	loop_undefer(link->loop, &link->flush);
	link->state = REDIS_LINK_DOWN;
	link->events->lost(link->ctx);
	if (link->readable)
		event_free(link->readable);
	if (link->writable)
		event_free(link->writable);
	link->readable = link->writable = NULL;
	link->writing = false;
	if (link->c)
		redisFree(link->c);
	link->c = NULL;
	redis_resp_memory_free(&link->memory);
	link->out.n = 0;
	link->put_bytes = 0;
}

void redis_link_fail(struct redis_link *link, const char *why, bool is_failure)
{
	bool was_ready = link->state == REDIS_LINK_READY;
	bool was_steady = was_ready && loop_mono_us(link->loop) - link->ready_since_us >= STEADY_US;

	if (link->state == REDIS_LINK_DOWN)
		return;
	/* `why` may be the context's own text. */
	snprintf(link->error, sizeof(link->error), "%s", why);
	if (was_steady)
		link->failures = 0;
	if (!was_ready || is_failure || !was_steady)
		link->failures++;
	if (was_ready || link->failures == 1)
		log_warn("redis connection lost", LOG_S("redis", link->name), LOG_S("why", link->error));
	disconnect(link);
	plan_attempt(link);
}

/* ---- writing */

static void set_writing(struct redis_link *link, bool on)
{
	if (on == link->writing)
		return;
	link->writing = on;
	if (on)
		event_add(link->writable, NULL);
	else
		event_del(link->writable);
}

static void flush(void *ctx)
{
	struct redis_link *link = ctx;
	int done = 0;

	if (link->state < REDIS_LINK_GREETING)
		return;
	if (link->out.n > 0) {
		if (redisAppendFormattedCommand(link->c, link->out.p, link->out.n) != REDIS_OK) {
			redis_link_fail(link, link->c->errstr, true);
			return;
		}
		link->out.n = 0;
		if (link->out.cap > OUT_KEPT)
			buf_done(&link->out);
	}
	if (redisBufferWrite(link->c, &done) != REDIS_OK) {
		redis_link_fail(link, link->c->errstr, false);
		return;
	}
	set_writing(link, !done);
}

uint64_t redis_link_put(struct redis_link *link, struct redis_args head, struct redis_args args)
{
	size_t before = link->out.n;

	redis_resp_put(&link->out, head, args);
	link->put_bytes += link->out.n - before;
	loop_defer(link->loop, &link->flush);
	return link->put_bytes;
}

uint64_t redis_link_put_bytes(struct redis_link *link, struct str command)
{
	buf_puts(&link->out, command);
	link->put_bytes += command.n;
	loop_defer(link->loop, &link->flush);
	return link->put_bytes;
}

uint64_t redis_link_written(const struct redis_link *link)
{
	return link->c && link->c->obuf ? link->put_bytes - link->out.n - sdslen(link->c->obuf) : 0;
}

/* ---- greeting */

static void greet(struct redis_link *link)
{
	const struct redis_url *url = link->url;
	const struct redis_args none = {NULL, 0};
	char db[24];

	link->state = REDIS_LINK_GREETING;
	link->greetings = 1;
	if (url->password) {
		if (url->user[0])
			redis_link_put(link, REDIS_ARGS(STR("AUTH"), str_of(url->user), str_of(url->password)), none);
		else
			redis_link_put(link, REDIS_ARGS(STR("AUTH"), str_of(url->password)), none);
		link->greetings++;
	}
	if (url->db > 0) {
		snprintf(db, sizeof(db), "%" PRId64, url->db);
		redis_link_put(link, REDIS_ARGS(STR("SELECT"), str_of(db)), none);
		link->greetings++;
	}
	redis_link_put(link, REDIS_ARGS(STR("PING")), none);
}

static void greeted(struct redis_link *link, const struct redis_reply *reply)
{
	link->greetings--;
	/* A user who may not PING has shown by that answer that the server serves. */
	if (reply->type == REDIS_ERROR && !(link->greetings == 0 && redis_resp_is_error(reply, "NOPERM"))) {
		redis_link_fail(link, reply->s.p, true);
		return;
	}
	redis_resp_memory_free(&link->memory);
	if (link->greetings > 0)
		return;
	timer_stop(&link->timer);
	link->state = REDIS_LINK_READY;
	link->ready_since_us = loop_mono_us(link->loop);
	if (link->times_ready++ > 0 || link->failures > 0)
		log_info("redis connection is back", LOG_S("redis", link->name));
	link->events->ready(link->ctx);
}

/* ---- reading and connecting */

static void on_readable(evutil_socket_t fd, short what, void *ctx)
{
	struct redis_link *link = ctx;
	bool gone = false;

	(void)fd, (void)what;
	if (link->state < REDIS_LINK_GREETING)
		return;
	if (redisBufferRead(link->c) != REDIS_OK) {
		redis_link_fail(link, link->c->errstr, false);
		return;
	}
	link->last_read_us = loop_mono_us(link->loop);
	link->gone = &gone;
	while (link->c) {
		void *reply = NULL;

		if (redisReaderGetReply(link->c->reader, &reply) != REDIS_OK) {
			redis_link_fail(link, link->c->reader->errstr, true);
			break;
		}
		if (!reply)
			break;
		if (link->state == REDIS_LINK_READY)
			link->events->reply(link->ctx, reply);
		else
			greeted(link, reply);
		if (gone)
			return;
		redis_resp_memory_free(&link->memory);
	}
	link->gone = NULL;
}

static void on_writable(evutil_socket_t fd, short what, void *ctx)
{
	struct redis_link *link = ctx;
	socklen_t size = sizeof(int);
	int error = 0;

	(void)what;
	if (link->state == REDIS_LINK_CONNECTING) {
		if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0)
			error = errno;
		if (error != 0) {
			redis_link_fail(link, strerror(error), true);
			return;
		}
		greet(link);
		loop_undefer(link->loop, &link->flush);
	}
	flush(link);
}

static void on_late(void *ctx)
{
	redis_link_fail(ctx, "no connection in time", true);
}

static void on_attempt_time(void *ctx)
{
	struct redis_link *link = ctx;
	struct redis_url *url = link->url;

	redis_url_refresh(url);
	link->state = REDIS_LINK_CONNECTING;
	timer_set(&link->timer, link->loop, link->connect_ms * 1000, on_late, link);
	link->c = url->path ? redisConnectUnixNonBlock(url->path) : redisConnectNonBlock(url->address, url->port);
	if (!link->c || link->c->err) {
		redis_link_fail(link, link->c ? link->c->errstr : "out of memory", true);
		return;
	}
	if (!url->path)
		redisEnableKeepAlive(link->c);
	redisReaderFree(link->c->reader);
	link->c->reader = redis_resp_reader_new(&link->memory);
	link->readable = event_new(loop_base(link->loop), link->c->fd, EV_READ | EV_PERSIST, on_readable, link);
	link->writable = event_new(loop_base(link->loop), link->c->fd, EV_WRITE | EV_PERSIST, on_writable, link);
	event_add(link->readable, NULL);
	set_writing(link, true);
}

void redis_link_open(struct redis_link *link, struct loop *loop, struct redis_url *url, const char *name, int64_t connect_ms,
		     const struct redis_link_events *events, void *ctx)
{
	*link = (struct redis_link){.loop = loop,
				    .url = url,
				    .name = name,
				    .connect_ms = connect_ms > 0 ? connect_ms : 1000,
				    .events = events,
				    .ctx = ctx,
				    .flush = {.fn = flush, .ctx = link}};
	on_attempt_time(link);
}

void redis_link_close(struct redis_link *link)
{
	if (link->gone)
		*link->gone = true;
	if (link->state != REDIS_LINK_DOWN)
		disconnect(link);
	timer_stop(&link->timer);
	buf_done(&link->out);
}
