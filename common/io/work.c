/* SPDX-License-Identifier: Apache-2.0 */
/* The pool of threads for what blocks: a bounded queue, and results that return to the loop through loop_post. */
#include "io/work.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#include "base/arena.h"
#include "base/log.h"
#include "io/fiber.h"
#include "io/loop_internal.h"

struct queued {
	struct op op; /* first member; only the loop's thread looks at it */
	struct work_job job;
	struct work_pool *pool;
	struct queued *next, *prev;
	int64_t start_by_us; /* of the kernel's clock, which the thread reads */
	bool in_queue;
	enum err result;
};

struct work_pool {
	struct loop *loop;
	pthread_t *threads;
	unsigned n_threads;
	size_t queue_max;
	size_t users; /* jobs not yet freed, and the owner: on the loop's thread only */
	pthread_mutex_t lock;
	pthread_cond_t more;
	/* Under the lock: */
	struct queued *head, *tail;
	struct work_stats stats;
	bool closing;
};

static int64_t kernel_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static void push(struct work_pool *pool, struct queued *q)
{
	q->in_queue = true;
	q->prev = pool->tail;
	if (pool->tail)
		pool->tail->next = q;
	else
		pool->head = q;
	pool->tail = q;
	pool->stats.queued++;
}

static void unlink_queued(struct work_pool *pool, struct queued *q)
{
	q->in_queue = false;
	if (q->next)
		q->next->prev = q->prev;
	else
		pool->tail = q->prev;
	if (q->prev)
		q->prev->next = q->next;
	else
		pool->head = q->next;
	q->next = q->prev = NULL;
	pool->stats.queued--;
}

static void on_done(void *ctx)
{
	struct queued *q = ctx;

	op_complete(&q->op, q->result);
}

static void *thread_main(void *ctx)
{
	struct work_pool *pool = ctx;

	pthread_mutex_lock(&pool->lock);
	for (;;) {
		struct queued *q = pool->head;

		if (!q && pool->closing)
			break;
		if (!q) {
			pthread_cond_wait(&pool->more, &pool->lock);
			continue;
		}
		unlink_queued(pool, q);
		pool->stats.running++;
		if (pool->closing) {
			q->result = ERR_CANCELLED;
		} else if (kernel_us() >= q->start_by_us) {
			q->result = ERR_TIMEOUT;
		} else {
			pthread_mutex_unlock(&pool->lock);
			q->result = q->job.fn(q->job.arg);
			pthread_mutex_lock(&pool->lock);
		}
		pool->stats.running--;
		pool->stats.done++;
		/* Once posted, the job is the loop's. */
		loop_post(pool->loop, on_done, q);
	}
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

struct work_pool *work_pool_new(struct loop *loop, const char *name, unsigned threads, size_t queue_max)
{
	struct work_pool *pool = mem_zalloc(sizeof(*pool));
	sigset_t all, before;

	assert(threads > 0);
	pool->loop = loop;
	pool->users = 1;
	pool->queue_max = queue_max;
	pool->threads = mem_zalloc(threads * sizeof(*pool->threads));
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->more, NULL);
	/* Signals belong to the loop's thread. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	for (; pool->n_threads < threads; pool->n_threads++) {
		if (pthread_create(&pool->threads[pool->n_threads], NULL, thread_main, pool) != 0) {
			log_error("a pool thread cannot be started", LOG_S("pool", name));
			abort();
		}
		pthread_setname_np(pool->threads[pool->n_threads], name);
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return pool;
}

/* A fiber whose answer is already on its way to the loop may still look at the pool after it was freed. */
static void pool_unref(struct work_pool *pool)
{
	if (--pool->users > 0)
		return;
	pthread_cond_destroy(&pool->more);
	pthread_mutex_destroy(&pool->lock);
	free(pool->threads);
	free(pool);
}

struct work_pool *work_pool_free(struct work_pool *pool)
{
	if (!pool)
		return NULL;
	pthread_mutex_lock(&pool->lock);
	pool->closing = true;
	pthread_cond_broadcast(&pool->more);
	pthread_mutex_unlock(&pool->lock);
	for (unsigned i = 0; i < pool->n_threads; i++)
		pthread_join(pool->threads[i], NULL);
	pool_unref(pool);
	return NULL;
}

static void queued_free(struct op *op)
{
	struct queued *q = CONTAINER_OF(op, struct queued, op);

	if (q->job.release)
		q->job.release(q->job.arg);
	pool_unref(q->pool);
	free(q);
}

static bool submit(struct work_pool *pool, struct queued *q)
{
	bool room;

	pthread_mutex_lock(&pool->lock);
	room = !pool->closing && pool->stats.queued < pool->queue_max;
	if (room) {
		push(pool, q);
		pthread_cond_signal(&pool->more);
	} else {
		pool->stats.refused++;
	}
	pthread_mutex_unlock(&pool->lock);
	return room;
}

/* Its fiber walks away: what has not begun is not begun. */
static bool take_back(struct work_pool *pool, struct queued *q)
{
	bool was_queued;

	pthread_mutex_lock(&pool->lock);
	was_queued = q->in_queue;
	if (was_queued)
		unlink_queued(pool, q);
	pthread_mutex_unlock(&pool->lock);
	return was_queued;
}

SUSPENDS enum err work_run(struct work_pool *pool, struct work_job job, struct deadline d)
{
	struct queued *q = mem_zalloc(sizeof(*q));
	enum err e;

	op_init(&q->op, "work", queued_free);
	q->job = job;
	q->pool = pool;
	pool->users++;
	q->start_by_us = INT64_MAX;
	if (d.at_us != INT64_MAX && !loop_clock_is_still(pool->loop))
		q->start_by_us = kernel_us() + (d.at_us - loop_mono_us(pool->loop));
	if (fiber_is_cancelled())
		op_complete(&q->op, ERR_CANCELLED);
	else if (!submit(pool, q))
		op_complete(&q->op, ERR_OVERLOAD);
	e = await(&q->op, d);
	if (!q->op.done && take_back(pool, q))
		op_unref(&q->op);
	else if (q->op.done && !err_is_fault(e) && job.collect)
		job.collect(job.arg, job.to);
	op_unref(&q->op);
	return e;
}

struct work_stats work_stats(const struct work_pool *pool)
{
	/* The lock is the only thing that is not const about reading. */
	struct work_pool *p = (struct work_pool *)(uintptr_t)pool;
	struct work_stats stats;

	pthread_mutex_lock(&p->lock);
	stats = p->stats;
	pthread_mutex_unlock(&p->lock);
	return stats;
}
