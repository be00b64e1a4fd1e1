/* SPDX-License-Identifier: Apache-2.0 */
/* The event loop: turns of libevent's base, each followed by due timers, ready fibers and what was deferred. */
#include "io/loop.h"

#include <assert.h>
#include <event2/event.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/log.h"
#include "io/loop_internal.h"

/* Resumed fibers may make others ready; after so many the sockets are looked at again, so that they cannot be starved. */
enum { RUN_BUDGET = 4096 };

struct queue {
	struct deferred *head, *tail;
};

/* Behind a pointer, because reading the time of a const loop may have to ask the kernel first. */
struct clock {
	int64_t mono_us, real_us;
	bool mono_known, real_known, still;
};

struct post {
	struct post *next;
	void (*fn)(void *ctx);
	void *ctx;
};

struct on_signal {
	struct on_signal *next;
	struct event *event;
	void (*fn)(void *ctx);
	void *ctx;
};

struct loop {
	struct event_base *base;
	struct event *tick, *limit, *wake;
	struct clock *clock;
	struct timer **heap; /* from 1 on */
	size_t timers, heap_cap;
	int64_t armed_us; /* when tick fires; INT64_MAX: not armed */
	struct queue ready, deferred;
	struct on_signal *signals;
	bool stop, turning;
	int wake_fd;
	pthread_mutex_t post_lock;
	struct post *posts, **posts_end;
};

static int64_t clock_us(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static void clock_forget(struct clock *c)
{
	if (!c->still)
		c->mono_known = c->real_known = false;
}

int64_t loop_mono_us(const struct loop *loop)
{
	struct clock *c = loop->clock;

	if (!c->mono_known) {
		c->mono_us = clock_us(CLOCK_MONOTONIC);
		c->mono_known = true;
	}
	return c->mono_us;
}

int64_t loop_real_us(const struct loop *loop)
{
	struct clock *c = loop->clock;

	if (!c->real_known) {
		c->real_us = clock_us(CLOCK_REALTIME);
		c->real_known = true;
	}
	return c->real_us;
}

void loop_clock_set(struct loop *loop, int64_t mono_us, int64_t real_us)
{
	*loop->clock = (struct clock){mono_us, real_us, true, true, true};
}

bool loop_clock_is_still(const struct loop *loop)
{
	return loop->clock->still;
}

/* ---- timers: a binary heap, so that libevent carries only one */

static void heap_put(struct loop *loop, size_t slot, struct timer *t)
{
	loop->heap[slot] = t;
	t->slot = slot;
}

static void heap_up(struct loop *loop, size_t slot, struct timer *t)
{
	while (slot > 1 && loop->heap[slot / 2]->at_us > t->at_us) {
		heap_put(loop, slot, loop->heap[slot / 2]);
		slot /= 2;
	}
	heap_put(loop, slot, t);
}

static void heap_down(struct loop *loop, size_t slot, struct timer *t)
{
	for (size_t child; (child = slot * 2) <= loop->timers; slot = child) {
		if (child < loop->timers && loop->heap[child + 1]->at_us < loop->heap[child]->at_us)
			child++;
		if (loop->heap[child]->at_us >= t->at_us)
			break;
		heap_put(loop, slot, loop->heap[child]);
	}
	heap_put(loop, slot, t);
}

static void heap_settle(struct loop *loop, size_t slot, struct timer *t)
{
	if (slot > 1 && loop->heap[slot / 2]->at_us > t->at_us)
		heap_up(loop, slot, t);
	else
		heap_down(loop, slot, t);
}

void timer_set_at(struct timer *t, struct loop *loop, int64_t at_us, void (*fn)(void *), void *ctx)
{
	assert(t->slot == 0 || t->loop == loop);
	t->loop = loop;
	t->fn = fn;
	t->ctx = ctx;
	t->at_us = at_us;
	if (t->slot != 0) {
		heap_settle(loop, t->slot, t);
		return;
	}
	if (loop->timers + 1 >= loop->heap_cap) {
		loop->heap_cap = loop->heap_cap ? loop->heap_cap * 2 : 64;
		loop->heap = mem_realloc(loop->heap, loop->heap_cap * sizeof(*loop->heap));
	}
	heap_up(loop, ++loop->timers, t);
}

void timer_set(struct timer *t, struct loop *loop, int64_t after_us, void (*fn)(void *), void *ctx)
{
	int64_t now = loop_mono_us(loop);

	timer_set_at(t, loop, after_us < INT64_MAX - now ? now + after_us : INT64_MAX, fn, ctx);
}

void timer_stop(struct timer *t)
{
	struct loop *loop = t->loop;
	size_t slot = t->slot;
	struct timer *last;

	if (slot == 0)
		return;
	t->slot = 0;
	last = loop->heap[loop->timers--];
	if (last != t)
		heap_settle(loop, slot, last);
}

static bool timer_is_due(const struct loop *loop)
{
	return loop->timers > 0 && loop->heap[1]->at_us <= loop_mono_us(loop);
}

static void run_timers(struct loop *loop)
{
	/* A timer that sets itself again, due at once, must wait for the next turn. */
	for (size_t left = loop->timers; left > 0 && timer_is_due(loop); left--) {
		struct timer *t = loop->heap[1];

		timer_stop(t);
		t->fn(t->ctx);
	}
}

static void arm(struct event *event, int64_t after_us)
{
	const struct timeval tv = {after_us / 1000000, after_us % 1000000};

	event_add(event, &tv);
}

/* Arms libevent's timer only when ours must fire sooner; one that fires too early just finds nothing due. */
static void tick_arm(struct loop *loop)
{
	int64_t at_us = loop->timers > 0 ? loop->heap[1]->at_us : INT64_MAX;

	if (loop->clock->still || at_us >= loop->armed_us)
		return;
	arm(loop->tick, at_us - loop_mono_us(loop));
	loop->armed_us = at_us;
}

static void on_tick(evutil_socket_t fd, short what, void *ctx)
{
	struct loop *loop = ctx;

	(void)fd, (void)what;
	loop->armed_us = INT64_MAX;
}

static void on_limit(evutil_socket_t fd, short what, void *ctx)
{
	(void)fd, (void)what, (void)ctx;
}

/* ---- queues */

static void queue_push(struct queue *q, struct deferred *d)
{
	if (d->queued)
		return;
	d->queued = true;
	d->next = NULL;
	if (q->head)
		q->tail->next = d;
	else
		q->head = d;
	q->tail = d;
}

static struct deferred *queue_pop(struct queue *q)
{
	struct deferred *d = q->head;

	q->head = d->next;
	d->queued = false;
	return d;
}

void loop_ready(struct loop *loop, struct deferred *d)
{
	queue_push(&loop->ready, d);
}

void loop_defer(struct loop *loop, struct deferred *d)
{
	queue_push(&loop->deferred, d);
}

void loop_undefer(struct loop *loop, struct deferred *d)
{
	struct queue *q = &loop->deferred;
	struct deferred *before = NULL;

	if (!d->queued)
		return;
	for (struct deferred *at = q->head; at != d; at = at->next)
		before = at;
	if (before)
		before->next = d->next;
	else
		q->head = d->next;
	if (q->tail == d)
		q->tail = before;
	d->queued = false;
}

static void run_queues(struct loop *loop)
{
	unsigned budget = RUN_BUDGET;

	for (; budget > 0 && (loop->ready.head || loop->deferred.head); budget--) {
		struct deferred *d = queue_pop(loop->ready.head ? &loop->ready : &loop->deferred);

		d->fn(d->ctx);
	}
	/* Fibers that keep each other busy must not hold back what is to be written. */
	for (unsigned left = RUN_BUDGET; budget == 0 && left > 0 && loop->deferred.head; left--) {
		struct deferred *d = queue_pop(&loop->deferred);

		d->fn(d->ctx);
	}
}

/* ---- other threads */

void loop_post(struct loop *loop, void (*fn)(void *ctx), void *ctx)
{
	struct post *p = mem_alloc(sizeof(*p));
	const uint64_t one = 1;
	bool was_empty;

	*p = (struct post){NULL, fn, ctx};
	pthread_mutex_lock(&loop->post_lock);
	was_empty = loop->posts == NULL;
	*loop->posts_end = p;
	loop->posts_end = &p->next;
	/* Inside the lock: once it is released, the loop may run the post and be freed by what it does. */
	if (was_empty && write(loop->wake_fd, &one, sizeof(one)) != sizeof(one))
		abort(); /* an eventfd that is read each time cannot be full */
	pthread_mutex_unlock(&loop->post_lock);
}

static bool run_posts(struct loop *loop)
{
	struct post *all;
	uint64_t count;

	pthread_mutex_lock(&loop->post_lock);
	all = loop->posts;
	loop->posts = NULL;
	loop->posts_end = &loop->posts;
	/* Nothing to read is fine: then somebody else has emptied the list already. */
	IGNORE(read(loop->wake_fd, &count, sizeof(count)) < 0);
	pthread_mutex_unlock(&loop->post_lock);
	for (struct post *p = all, *next; p; p = next) {
		next = p->next;
		p->fn(p->ctx);
		free(p);
	}
	return all != NULL;
}

static void on_wake(evutil_socket_t fd, short what, void *ctx)
{
	(void)fd, (void)what;
	run_posts(ctx);
}

/* ---- signals */

static void on_signal(evutil_socket_t signo, short what, void *ctx)
{
	struct on_signal *s = ctx;

	(void)signo, (void)what;
	s->fn(s->ctx);
}

void loop_on_signal(struct loop *loop, int signo, void (*fn)(void *ctx), void *ctx)
{
	struct on_signal *s = mem_alloc(sizeof(*s));

	*s = (struct on_signal){loop->signals, NULL, fn, ctx};
	s->event = evsignal_new(loop->base, signo, on_signal, s);
	evsignal_add(s->event, NULL);
	loop->signals = s;
}

/* ---- life */

struct loop *loop_new(void)
{
	struct loop *loop = mem_zalloc(sizeof(*loop));
	struct event_config *config = event_config_new();

	/* Other threads come in through loop_post alone, so the base needs no locks. */
	event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
	loop->base = event_base_new_with_config(config);
	event_config_free(config);
	loop->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (!loop->base || loop->wake_fd < 0) {
		log_error("the event loop cannot be made");
		abort();
	}
	signal(SIGPIPE, SIG_IGN);
	loop->clock = mem_zalloc(sizeof(*loop->clock));
	loop->armed_us = INT64_MAX;
	pthread_mutex_init(&loop->post_lock, NULL);
	loop->posts_end = &loop->posts;
	loop->tick = evtimer_new(loop->base, on_tick, loop);
	loop->limit = evtimer_new(loop->base, on_limit, loop);
	loop->wake = event_new(loop->base, loop->wake_fd, EV_READ | EV_PERSIST, on_wake, loop);
	event_add(loop->wake, NULL);
	return loop;
}

struct loop *loop_free(struct loop *loop)
{
	if (!loop)
		return NULL;
	assert(!loop->turning);
	while (run_posts(loop)) {
	}
	for (size_t i = 1; i <= loop->timers; i++)
		loop->heap[i]->slot = 0;
	while (loop->ready.head)
		queue_pop(&loop->ready);
	while (loop->deferred.head)
		queue_pop(&loop->deferred);
	for (struct on_signal *s = loop->signals, *next; s; s = next) {
		next = s->next;
		event_free(s->event);
		free(s);
	}
	event_free(loop->tick);
	event_free(loop->limit);
	event_free(loop->wake);
	event_base_free(loop->base);
	close(loop->wake_fd);
	pthread_mutex_destroy(&loop->post_lock);
	free(loop->heap);
	free(loop->clock);
	free(loop);
	return NULL;
}

void loop_turn(struct loop *loop, int64_t most_us)
{
	bool busy;

	assert(!loop->turning);
	loop->turning = true;
	clock_forget(loop->clock);
	busy = loop->ready.head || loop->deferred.head || timer_is_due(loop) || most_us <= 0;
	if (!busy) {
		tick_arm(loop);
		if (most_us < INT64_MAX)
			arm(loop->limit, most_us);
	}
	clock_forget(loop->clock);
	event_base_loop(loop->base, EVLOOP_ONCE | (busy ? EVLOOP_NONBLOCK : 0));
	if (!busy && most_us < INT64_MAX)
		evtimer_del(loop->limit);
	run_timers(loop);
	run_queues(loop);
	loop->turning = false;
}

void loop_run(struct loop *loop)
{
	while (!loop->stop)
		loop_turn(loop, INT64_MAX);
	loop->stop = false;
}

void loop_stop(struct loop *loop)
{
	loop->stop = true;
}

struct event_base *loop_base(struct loop *loop)
{
	return loop->base;
}
