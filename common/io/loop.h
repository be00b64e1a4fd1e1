/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop of a process: libevent's base, a clock, timers, and the queue of fibers that are ready to run.
 *
 * One loop per process. Only common/io sees libevent. Everything here runs on the loop's thread except loop_post().
 */
#ifndef S24_IO_LOOP_H
#define S24_IO_LOOP_H

#include "base/defs.h"

struct event_base;
struct loop;

struct loop *loop_new(void);                   /* SIGPIPE is ignored from now on: a lost peer is an error code */
struct loop *loop_free(struct loop *loop);     /* runs what was posted and not yet run */
void loop_run(struct loop *loop);              /* until loop_stop */
void loop_stop(struct loop *loop);
void loop_turn(struct loop *loop, int64_t most_us); /* one turn by hand, sleeping at most so long in real time: tests, draining */
struct event_base *loop_base(struct loop *loop); /* for common/io only */

/* Cached once a turn. Monotonic for deadlines, real for timestamps. Tests move both with loop_clock_set. */
int64_t loop_mono_us(const struct loop *loop);
int64_t loop_real_us(const struct loop *loop);
void loop_clock_set(struct loop *loop, int64_t mono_us, int64_t real_us); /* tests only: a clock that stands still */

/* Timers: storage is the caller's, zeroed before the first use. Setting a running timer moves it. */
struct timer {
	struct loop *loop;
	void (*fn)(void *ctx);
	void *ctx;
	int64_t at_us;
	size_t slot; /* in the loop's heap; 0: not running */
};
void timer_set(struct timer *t, struct loop *loop, int64_t after_us, void (*fn)(void *), void *ctx);
void timer_set_at(struct timer *t, struct loop *loop, int64_t at_us, void (*fn)(void *), void *ctx); /* of the monotonic clock */
void timer_stop(struct timer *t);

/* Runs fn at the end of this turn, before the loop sleeps: commands of one turn leave in one write. */
struct deferred {
	void (*fn)(void *ctx);
	void *ctx;
	struct deferred *next;
	bool queued;
};
void loop_defer(struct loop *loop, struct deferred *d);
void loop_undefer(struct loop *loop, struct deferred *d); /* before its storage dies; nothing happens when it is not queued */

/* From any thread: fn(ctx) runs on the loop's thread, soon. */
void loop_post(struct loop *loop, void (*fn)(void *ctx), void *ctx);
/* SIGTERM, SIGINT, SIGHUP…: fn runs on the loop, never in the signal. */
void loop_on_signal(struct loop *loop, int signo, void (*fn)(void *ctx), void *ctx);

#endif
