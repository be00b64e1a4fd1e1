/* SPDX-License-Identifier: Apache-2.0 */
/* The threads: each with a connection of its own to every buffer and to PostgreSQL, and a token that names it in wb:own. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/timefmt.h"
#include "flush_documents.h"
#include "io/loop.h"
#include "io/pg_sync.h"
#include "io/redis_sync.h"
#include "svc/daemon.h"
#include "worker.h"

#define STATEMENT_MS 10000
#define LOCK_MS 5000
#define REDIS_MS 5000
#define TICKET_US US_PER_S

struct thread {
	struct worker *w;
	pthread_t id;
	struct redis_sync **buffers; /* one for each source; they connect when they are first used */
	struct redis_sync *redis;    /* that of the ticket in hand */
	struct pg_sync *pg;
	const char *pg_url;
	struct docstore_sync *mongo; /* NULL: documents are in PostgreSQL */
	uint64_t *made;              /* of each target: the connection that has its temporary table; 0: none */
	int64_t begun_us;            /* of the transaction */
	struct arena *arena;
	uint64_t random;
	char token[128];
};

struct threads {
	struct thread *v;
	unsigned n;
};

/* ---- Redis ---- */

static enum err io_eval(void *ctx, const struct redis_script *script, struct redis_args args, struct arena *arena,
			struct redis_reply *ret)
{
	struct thread *t = ctx;

	return redis_sync_script(t->redis, script, args, arena, ret);
}

static enum err io_call(void *ctx, struct redis_args args, struct arena *arena, struct redis_reply *ret)
{
	struct thread *t = ctx;

	return redis_sync_call(t->redis, arena, args, ret);
}

static int64_t io_now(void *ctx)
{
	(void)ctx;
	return clock_mono_us();
}

static void io_pause(void *ctx, int64_t ms)
{
	struct thread *t = ctx;

	board_pause(&t->w->board, ms);
}

static uint64_t io_random(void *ctx)
{
	struct thread *t = ctx;
	uint64_t z = t->random += UINT64_C(0x9E3779B97F4A7C15);

	z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
	return z ^ z >> 31;
}

/* ---- PostgreSQL ---- */

static enum err db_begin(void *ctx, const struct flush_target *target)
{
	struct thread *t = ctx;
	uint64_t *made = &t->made[target->index];
	enum err e;

	/* Outside of the transaction, or a rollback would take the table away. */
	if (*made == 0 || *made != pg_sync_generation(t->pg)) {
		e = pg_sync_run(t->pg, target->sql->copy_table);
		if (e != OK)
			return e;
		*made = pg_sync_generation(t->pg);
	}
	t->begun_us = clock_mono_us();
	e = pg_sync_begin(t->pg);
	if (e == OK && *made != pg_sync_generation(t->pg)) {
		/* The connection was lost in between, and the temporary table with it. */
		pg_sync_rollback(t->pg);
		*made = 0;
		return ERR_DB;
	}
	return e;
}

static enum err db_copy(void *ctx, const struct flush_target *target, const void *const *rows, size_t n)
{
	struct thread *t = ctx;

	return pg_sync_copy(t->pg, target->sql->copy, target->entity->schema, rows, n);
}

static enum err db_flush(void *ctx, const struct flush_target *target, struct arena *arena, struct list *ret)
{
	struct thread *t = ctx;

	return pg_sync_query(t->pg, arena, target->sql->flush, PG_NO_PARAMS, &row_state_schema, ret);
}

static enum err db_versions(void *ctx, const struct flush_target *target, const struct uuid *ids, size_t n, struct arena *arena,
			    struct list *ret)
{
	struct thread *t = ctx;
	struct list list = {arena_dup(arena, ids, n * sizeof(*ids)), n};

	return pg_sync_query(t->pg, arena, target->sql->versions, PG_PARAMS(PG_UUIDS(list)), &row_state_schema, ret);
}

static enum err db_commit(void *ctx)
{
	struct thread *t = ctx;
	enum err e = pg_sync_commit(t->pg);

	if (e == OK)
		board_wrote(&t->w->board, clock_mono_us() - t->begun_us);
	return e;
}

static void db_rollback(void *ctx)
{
	struct thread *t = ctx;

	pg_sync_rollback(t->pg);
}

static void db_reset(void *ctx)
{
	struct thread *t = ctx;
	struct pg_sync *fresh;

	if (pg_sync_open(t->pg_url, STATEMENT_MS, LOCK_MS, &fresh) != OK)
		return;
	pg_sync_close(t->pg);
	t->pg = fresh;
	memset(t->made, 0, t->w->n_targets * sizeof(*t->made));
}

static const struct pg_fail *db_fail(void *ctx)
{
	struct thread *t = ctx;

	return pg_sync_fail(t->pg);
}

/* ---- the loop of a thread ---- */

static bool is_stopping(void *ctx)
{
	struct thread *t = ctx;

	return board_stopping(&t->w->board);
}

static void on_flushed(void *ctx, const struct flush_target *target, const struct flushed_row *rows, size_t n)
{
	const struct thread *t = ctx;

	forget_rows(t->w, target, rows, n);
}

static void work_on_ticket(struct thread *t, const struct flusher *f, struct queue *q, int64_t delay_ms)
{
	int64_t end_us = clock_mono_us() + TICKET_US, before;
	struct flush_counts counts = {0};
	enum err e;

	t->redis = t->buffers[q->source->index];
	do {
		before = counts.claimed;
		arena_clear(t->arena);
		e = flush_turn(f, q->target, delay_ms, t->arena, &counts);
	} while (e == OK && counts.claimed > before && !counts.away && clock_mono_us() < end_us && !is_stopping(t));
	if (e != OK)
		snprintf(counts.error, sizeof(counts.error), "redis: %s", redis_sync_error(t->redis));
	board_give(&t->w->board, q->index, &counts, e != OK, clock_real_us());
	loop_post(t->w->loop, queue_ticket_done, q);
}

static void *thread_main(void *arg)
{
	struct thread *t = arg;
	const struct buffer_io io = {t, io_eval, io_call, io_now, io_pause, io_random};
	const struct flush_db rows = {t, db_begin, db_copy, db_flush, db_versions, db_commit, db_rollback, db_reset, db_fail};
	struct flush_documents documents = {.mongo = t->mongo, .pg = &t->pg, .rows = &rows};
	/* How each kind of database is written to. */
	const struct flush_db dbs[DATABASES] = {
		[DATABASE_ROWS] = rows,
		[DATABASE_DOCUMENTS] = flush_documents_db(&documents),
	};
	struct flusher f = {.io = &io,
			    .token = str_of(t->token),
			    .limits = FLUSH_LIMITS_DEFAULT,
			    .stopping = is_stopping,
			    .flushed = on_flushed,
			    .ctx = t};
	enum database database;
	int64_t delay_ms;
	size_t job;

	f.limits.records = (size_t)t->w->conf->batch_size;
	while (board_take(&t->w->board, &job, &database, &delay_ms, clock_real_us())) {
		f.db = &dbs[database];
		work_on_ticket(t, &f, &t->w->queues[job], delay_ms);
	}
	return NULL;
}

static enum err open_buffers(struct thread *t)
{
	const struct worker *w = t->w;
	enum err e = OK;

	t->buffers = mem_zalloc((w->n_sources + 1) * sizeof(*t->buffers));
	for (size_t i = 0; e == OK && i < w->n_sources; i++)
		e = redis_sync_open(w->sources[i].url, REDIS_MS, &t->buffers[i]);
	return e;
}

static enum err thread_open(struct thread *t, struct worker *w, unsigned number, const char *pg_url)
{
	const char *mongo_uri = daemon_settings(w->daemon)->mongo_uri;
	enum err e;

	t->w = w;
	t->pg_url = pg_url;
	t->arena = arena_new();
	t->made = mem_zalloc((w->n_targets + 1) * sizeof(*t->made));
	random_bytes(&t->random, sizeof(t->random));
	snprintf(t->token, sizeof(t->token), "%s:%u-%08" PRIx32, w->identity, number, (uint32_t)t->random);
	e = open_buffers(t);
	if (e == OK && mongo_uri[0] != '\0')
		e = docstore_sync_open(mongo_uri, &t->mongo);
	return e == OK ? pg_sync_open(pg_url, STATEMENT_MS, LOCK_MS, &t->pg) : e;
}

static void thread_close(struct thread *t)
{
	for (size_t i = 0; i < t->w->n_sources; i++)
		redis_sync_close(t->buffers[i]);
	free(t->buffers);
	docstore_sync_close(t->mongo);
	pg_sync_close(t->pg);
	free(t->made);
	arena_free(t->arena);
}

struct threads *threads_start(struct worker *w, const char *pg_url, unsigned n)
{
	struct threads *all = mem_zalloc(sizeof(*all));
	sigset_t every, before;

	all->v = mem_zalloc((n + 1) * sizeof(*all->v));
	for (size_t i = 0; i < w->n_queues; i++)
		w->board.v[i].database = w->queues[i].target->entity->collection ? DATABASE_DOCUMENTS : DATABASE_ROWS;
	sigfillset(&every);
	pthread_sigmask(SIG_SETMASK, &every, &before); /* signals are the loop's */
	for (; all->n < n; all->n++) {
		struct thread *t = &all->v[all->n];

		if (thread_open(t, w, all->n, pg_url) != OK || pthread_create(&t->id, NULL, thread_main, t) != 0) {
			thread_close(t);
			break;
		}
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (all->n == n)
		return all;
	log_error("a worker thread cannot start", LOG_I("thread", all->n));
	board_stop(&w->board);
	return threads_stop(all);
}

struct threads *threads_stop(struct threads *all)
{
	if (all == NULL)
		return NULL;
	for (unsigned i = 0; i < all->n; i++)
		pthread_join(all->v[i].id, NULL);
	for (unsigned i = 0; i < all->n; i++)
		thread_close(&all->v[i]);
	free(all->v);
	free(all);
	return NULL;
}
