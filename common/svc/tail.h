/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading the ends of event streams on one write buffer, again and again, from the last id on: what pub/sub may lose, a stream has.
 *
 * An entry is given out once while this process lives. `lagging`: not before the look after the one that has seen it, so that who wrote it has had
 * every_ms at least for what it does behind its writing.
 *
 * `kept`: how far it has read stands in the cache's Redis, so that a process of the same kind goes on there, however long there was none. It is written
 * while the cache is up and its journal empty: what was given out is done. With the cache away at the start, the reading begins when it is back.
 */
#ifndef S24_SVC_TAIL_H
#define S24_SVC_TAIL_H

#include "base/arena.h"
#include "io/await.h"

struct daemon;

#define TAIL_STREAMS_MAX 16
#define TAIL_COUNT 200 /* entries of one call, and of one call back at most */

struct tail_conf {
	struct daemon *daemon;
	size_t buffer;
	const char *streams[TAIL_STREAMS_MAX]; /* copied */
	size_t n;
	int64_t every_ms;
	int64_t back_s;   /* begins so long ago; 0: with what comes */
	const char *kept; /* "repeat:homework": a name of its place; NULL: it has none. Lives as long as the tail */
	bool lagging;
	void *ctx;
	/* Texts of field e, in the stream's order; they live as long as the call. */
	SUSPENDS void (*entries)(void *ctx, struct arena *arena, const struct str *texts, size_t n);
	/* Something may have been trimmed away before it was read. */
	SUSPENDS void (*gap)(void *ctx, const char *stream);
};

struct tail;
MUST_CHECK enum err tail_open(const struct tail_conf *conf, struct tail **ret);
void tail_close(struct tail *t);        /* its fiber ends; NULL is fine */
struct tail *tail_free(struct tail *t); /* when no fiber is left */

#endif
