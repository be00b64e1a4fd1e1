/* SPDX-License-Identifier: Apache-2.0 */
/* Operations and waiting for them; groups and queues of waiters are built on top. */
#include "io/await.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "io/fiber.h"
#include "io/loop_internal.h"

struct deadline deadline_in(const struct loop *loop, int64_t ms)
{
	int64_t now = loop_mono_us(loop);

	return (struct deadline){ms < (INT64_MAX - now) / 1000 ? now + ms * 1000 : INT64_MAX};
}

int64_t deadline_left_ms(const struct loop *loop, struct deadline d)
{
	int64_t now;

	if (d.at_us == INT64_MAX)
		return INT64_MAX;
	now = loop_mono_us(loop);
	/* Rounded up: what has not passed yet is never 0. */
	return d.at_us > now ? (d.at_us - now + 999) / 1000 : 0;
}

/* ---- operations */

void op_init(struct op *op, const char *name, void (*free_fn)(struct op *op))
{
	*op = (struct op){.name = name, .free = free_fn, .refs = 2};
}

void op_unref(struct op *op)
{
	assert(op->refs > 0);
	if (--op->refs == 0)
		op->free(op);
}

void op_complete(struct op *op, enum err result)
{
	assert(!op->done);
	op->done = true;
	op->result = result;
	if (op->waiter)
		fiber_wake(op->waiter);
	op_unref(op);
}

SUSPENDS enum err await(struct op *op, struct deadline d)
{
	struct fiber *self = fiber_self();
	enum err e;

	assert(self && "await outside a fiber");
	assert(!op->waiter && "two fibers wait for one operation");
	op->waiter = self;
	for (;;) {
		if (op->done)
			e = op->result;
		else if (fiber_is_cancelled())
			e = ERR_CANCELLED;
		else if (d.at_us <= loop_mono_us(fiber_loop(self)))
			e = ERR_TIMEOUT;
		else {
			fiber_park(op->name, d.at_us);
			continue;
		}
		op->waiter = NULL;
		return e;
	}
}

SUSPENDS enum err sleep_ms(struct loop *loop, int64_t ms, struct deadline d)
{
	struct deadline until = deadline_in(loop, ms);
	struct deadline wake = deadline_sooner(until, d);

	assert(fiber_active() && "sleep_ms outside a fiber");
	for (;;) {
		if (fiber_is_cancelled())
			return ERR_CANCELLED;
		if (wake.at_us <= loop_mono_us(loop))
			return until.at_us <= d.at_us ? OK : ERR_TIMEOUT;
		fiber_park("sleep", wake.at_us);
	}
}

/* ---- groups */

struct child {
	struct child *next, *prev;
	struct group *group;
	struct fiber *fiber;
	enum err (*fn)(void *arg);
	void *arg;
};

struct group {
	struct loop *loop;
	enum group_mode mode;
	enum err first;
	bool stopping; /* children not yet started are not started any more */
	struct child *children;
	struct fiber *waiter;
};

struct group *group_new(struct loop *loop, enum group_mode mode)
{
	struct group *g = mem_zalloc(sizeof(*g));

	g->loop = loop;
	g->mode = mode;
	return g;
}

static void group_stop(struct group *g)
{
	if (g->stopping)
		return;
	g->stopping = true;
	for (struct child *c = g->children; c; c = c->next)
		fiber_cancel(c->fiber);
}

static void group_note(struct group *g, enum err e)
{
	if (e == OK)
		return;
	if (g->first == OK)
		g->first = e;
	if (g->mode == GROUP_FAIL_FAST)
		group_stop(g);
}

static void child_unlink(struct child *c)
{
	struct group *g = c->group;

	if (c->next)
		c->next->prev = c->prev;
	if (c->prev)
		c->prev->next = c->next;
	else
		g->children = c->next;
}

static void child_main(void *arg)
{
	struct child *c = arg;
	struct group *g = c->group;
	enum err e = g->stopping ? ERR_CANCELLED : c->fn(c->arg);

	child_unlink(c);
	free(c);
	group_note(g, e);
	if (g->waiter && (!g->children || g->stopping))
		fiber_wake(g->waiter);
}

void group_spawn(struct group *g, const char *label, enum err (*fn)(void *arg), void *arg)
{
	struct child *c;
	enum err e;

	if (g->stopping)
		return; /* the group has failed already, and its wait says so */
	c = mem_zalloc(sizeof(*c));
	c->group = g;
	c->fn = fn;
	c->arg = arg;
	e = fiber_start(g->loop, label, child_main, c, &c->fiber);
	if (e != OK) {
		free(c);
		group_note(g, e);
		return;
	}
	c->next = g->children;
	if (c->next)
		c->next->prev = c;
	g->children = c;
}

SUSPENDS enum err group_wait(struct group *g, struct deadline d)
{
	enum err e = OK;

	g->waiter = fiber_self();
	assert(g->waiter && "group_wait outside a fiber");
	while (g->children && !g->stopping) {
		if (fiber_is_cancelled())
			e = ERR_CANCELLED;
		else if (d.at_us <= loop_mono_us(g->loop))
			e = ERR_TIMEOUT;
		if (e != OK)
			group_stop(g);
		else
			fiber_park("group", d.at_us);
	}
	/* The children may use what lives on this stack, so each of them is waited for, whatever the deadline says. */
	while (g->children)
		fiber_park("group", INT64_MAX);
	if (e == OK)
		e = g->first;
	free(g);
	return e;
}

/* ---- queues of waiters */

static void waiter_free(struct op *op)
{
	free(op);
}

static void waitq_push(struct waitq *q, struct op *op)
{
	if (q->head + q->n == q->cap) {
		/* Those who walked away are still in here; drop them before growing. */
		size_t kept = 0;

		for (size_t i = 0; i < q->n; i++) {
			struct op *o = q->v[q->head + i];

			if (o->refs == 1)
				op_unref(o);
			else
				q->v[kept++] = o;
		}
		q->n = kept;
		q->head = 0;
		if (kept * 2 >= q->cap) {
			q->cap = q->cap ? q->cap * 2 : 8;
			q->v = mem_realloc(q->v, q->cap * sizeof(struct op *));
		}
	}
	q->v[q->head + q->n++] = op;
}

SUSPENDS enum err waitq_wait(struct waitq *q, struct deadline d)
{
	struct op *op = mem_alloc(sizeof(*op));
	enum err e;

	op_init(op, "waitq", waiter_free);
	waitq_push(q, op);
	e = await(op, d);
	op_unref(op);
	return e;
}

void waitq_wake(struct waitq *q, size_t most, enum err result)
{
	while (q->n > 0 && most > 0) {
		struct op *op = q->v[q->head];

		q->n--;
		q->head = q->n > 0 ? q->head + 1 : 0;
		if (op->refs == 1) {
			op_unref(op); /* its fiber has walked away: the turn goes to the next */
			continue;
		}
		op_complete(op, result);
		most--;
	}
}

void waitq_done(struct waitq *q)
{
	waitq_wake(q, SIZE_MAX, ERR_CANCELLED);
	free(q->v);
	memset(q, 0, sizeof(*q));
}
