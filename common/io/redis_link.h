/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection to Redis that comes back by itself: connects, authenticates, selects the database, asks PING, and then it is ready.
 *
 * hiredis gives the socket, the buffers and the reader; the waiting is ours, over libevent. hiredis' own async layer is left out:
 * it frees its context behind our back, knows no timeout, and costs two allocations a command. Callbacks run in loop context
 * and may close the link.
 */
#ifndef S24_IO_REDIS_LINK_H
#define S24_IO_REDIS_LINK_H

#include "base/buf.h"
#include "io/redis_resp.h"
#include "io/redis_url.h"

struct event;
struct redisContext;

enum redis_link_state { REDIS_LINK_DOWN, REDIS_LINK_CONNECTING, REDIS_LINK_GREETING, REDIS_LINK_READY };

struct redis_link_events {
	void (*ready)(void *ctx);
	void (*reply)(void *ctx, const struct redis_reply *reply); /* its memory is link->memory, which may be taken */
	void (*lost)(void *ctx); /* also when an attempt failed; before what was not written is forgotten */
};

struct redis_link {
	struct loop *loop;
	struct redis_url *url;
	const char *name;
	int64_t connect_ms;
	const struct redis_link_events *events;
	void *ctx;

	enum redis_link_state state;
	unsigned failures; /* attempts in a row, and stuck connections; 0: the last one was good */
	uint64_t times_ready;
	int64_t ready_since_us, last_read_us;
	char error[160]; /* why it was lost last */

	struct redisContext *c;
	struct event *readable, *writable;
	bool writing; /* writable is added */
	unsigned greetings;
	bool *gone; /* tells the function that is calling back that the link was closed */
	struct buf out;
	uint64_t put_bytes; /* of this connection */
	struct redis_resp_memory memory;
	struct deferred flush;
	struct timer timer; /* limits an attempt, or waits for the next */
};

void redis_link_open(struct redis_link *link, struct loop *loop, struct redis_url *url, const char *name, int64_t connect_ms,
		     const struct redis_link_events *events, void *ctx);
void redis_link_close(struct redis_link *link); /* calls lost when it was connected or trying */
/* Appends a command; it leaves at the end of this turn. Returns its end in the connection's stream of bytes. */
uint64_t redis_link_put(struct redis_link *link, struct redis_args head, struct redis_args args);
uint64_t redis_link_put_bytes(struct redis_link *link, struct str command);
uint64_t redis_link_written(const struct redis_link *link); /* how much of that stream the kernel has taken */
void redis_link_fail(struct redis_link *link, const char *why, bool is_failure); /* drops the connection; calls lost */

#endif
