/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Redis for daemons: hiredis behind fibers. A `struct redis` is a few pipelined connections for one purpose (cache commands,
 * buffer commands); commands of one loop turn leave in one write. Deadlines are ours: the oldest command older than grace_ms kills its connection.
 * In-flight cap 4,096 a connection (ERR_OVERLOAD), reconnect with jitter, circuit breaker (down: errors at once, one probe).
 *
 *	struct redis_reply r;
 *	e = redis_call(buffer, arena, d, REDIS_ARGS(STR("GET"), key), &r);        -- ERR_BUFFER/ERR_CACHE when away (conf.fault)
 *	two at once: op = redis_start(a, …); op2 = redis_start(b, …); redis_finish(op, d, &r); redis_finish(op2, d, &r2);
 *
 * A connection lost after a command had left whole is ERR_UNCERTAIN (it may have been done); before that: conf.fault. ERR_TIMEOUT and
 * ERR_CANCELLED from a wait say nothing about the command either, except that redis_call past its deadline sends nothing.
 * A server's -ERR is OK with type REDIS_ERROR; -LOADING, -READONLY, -MISCONF, -OOM, -NOREPLICAS, -MASTERDOWN, -BUSY, -NOAUTH and
 * -CLUSTERDOWN are conf.fault with the text kept in redis_last_error().
 * Commands of one fiber keep their order only when each is waited for, or when there is one connection. Blocking commands need a
 * `struct redis` of their own with grace_ms above their wait. A host's name is looked up once, at open, which blocks.
 */
#ifndef S24_IO_REDIS_H
#define S24_IO_REDIS_H

#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"
#include "io/await.h"

enum redis_type { REDIS_NIL, REDIS_STRING, REDIS_STATUS, REDIS_ERROR, REDIS_INTEGER, REDIS_ARRAY };

struct redis_reply { /* in the caller's arena */
	enum redis_type type;
	struct str s;
	int64_t i;
	struct redis_reply *v;
	size_t n;
};

struct redis_conf {
	const char *name;   /* "buffer", "cache": logs and metrics */
	const char *url;    /* redis://[user[:password]@]host[:port][/db] or unix:///path; rediss:// needs TLS support, else refused at open */
	unsigned connections;
	unsigned most;      /* as many more are opened, one after the other, while all are busy; 0: none */
	enum err fault;     /* ERR_BUFFER or ERR_CACHE */
	int64_t connect_ms, grace_ms; /* 1000, 2000 */
};

struct redis;
MUST_CHECK enum err redis_open(struct loop *loop, const struct redis_conf *conf, struct redis **ret); /* connects in the background */
struct redis *redis_close(struct redis *r);
bool redis_is_up(const struct redis *r);
const char *redis_last_error(const struct redis *r); /* "" or why the last connection or command failed */

struct redis_args {
	const struct str *v;
	size_t n;
};
#define REDIS_ARGS(...) ((struct redis_args){(const struct str[]){__VA_ARGS__}, sizeof((const struct str[]){__VA_ARGS__}) / sizeof(struct str)})

SUSPENDS MUST_CHECK enum err redis_call(struct redis *r, struct arena *arena, struct deadline d, struct redis_args args,
					struct redis_reply *ret);

/* Started now, waited for later: several leave together. Every start needs its finish, which frees it. Arguments are copied at start. */
struct redis_op;
struct redis_op *redis_start(struct redis *r, struct redis_args args);
SUSPENDS MUST_CHECK enum err redis_finish(struct redis_op *op, struct arena *arena, struct deadline d, struct redis_reply *ret);

/* Sent, and its answer ignored: messages that a lost one does not hurt (PUBLISH). Dropped when the connection is away. */
void redis_post(struct redis *r, struct redis_args args);

/* A Lua script embedded at build time; EVALSHA, loaded again on NOSCRIPT. `keys` are only passed where the script uses them. */
struct redis_script {
	const char *name, *text;
	char sha[41]; /* hex, by cmake */
};
SUSPENDS MUST_CHECK enum err redis_script_call(struct redis *r, const struct redis_script *script, struct redis_args args,
					       struct arena *arena, struct deadline d, struct redis_reply *ret);

/* A connection of its own for pub/sub: (re)subscribes by itself, tells of each message and of each (re)connection. Callbacks run in loop context. */
struct redis_sub;
struct redis_sub_events {
	void *ctx;
	void (*message)(void *ctx, struct str channel, struct str payload);
	void (*connected)(void *ctx); /* messages may have been missed before it */
};
MUST_CHECK enum err redis_sub_open(struct loop *loop, const struct redis_conf *conf, const char *const *channels, size_t n,
				   const struct redis_sub_events *events, struct redis_sub **ret);
struct redis_sub *redis_sub_close(struct redis_sub *s);
bool redis_sub_is_up(const struct redis_sub *s); /* subscribed to everything; NULL is not */

struct redis_stats {
	uint64_t commands, errors, reconnects;
	size_t in_flight, connected;
} redis_stats(const struct redis *r);

#endif
