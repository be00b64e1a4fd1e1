/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a flush makes untrue in the caches: an answer with one row says whether that row is still in the buffer, and a query cache has read the
 * table. Threads hand over the rows of each batch; a fiber of the loop raises their tags, one call for each school.
 *
 * A flush never waits for it. A cache that is away has the tags in its journal; a worker that dies between ACK and here leaves answers that say
 * "pending" until their lifetime ends, of data that is right.
 */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "io/fiber.h"
#include "io/loop.h"
#include "svc/cache_http.h"
#include "worker.h"

#define BATCHES_MAX 256 /* that wait: past it everything is forgotten at once, which is dear, and true */
#define SOME 128        /* rows of one call: their names are looked for in a list */

struct batch {
	struct forgetting *to;
	struct batch *next;
	const struct flush_target *target;
	size_t n;
	struct flushed_row rows[];
};

struct forgetting {
	struct worker *w;
	struct cache *cache;
	struct batch *first, *last;
	size_t waiting;
	bool running, all;
};

struct forgetting *forget_open(struct worker *w)
{
	struct forgetting *f;

	if (daemon_caches(w->daemon) == NULL)
		return NULL;
	f = mem_zalloc(sizeof(*f));
	f->w = w;
	f->cache = daemon_caches(w->daemon);
	return f;
}

static struct batch *take(struct forgetting *f)
{
	struct batch *b = f->first;

	if (b == NULL)
		return NULL;
	f->first = b->next;
	if (f->first == NULL)
		f->last = NULL;
	f->waiting--;
	return b;
}

void forget_done(struct forgetting *f)
{
	struct batch *b;

	while (f != NULL && (b = take(f)) != NULL)
		free(b);
	free(f);
}

static int by_school(const void *a, const void *b)
{
	return memcmp(((const struct flushed_row *)a)->school.b, ((const struct flushed_row *)b)->school.b, sizeof(struct uuid));
}

SUSPENDS static void raise_some(struct forgetting *f, const struct flush_target *t, const struct flushed_row *rows, size_t n)
{
	struct arena *arena = arena_new();
	struct cache_tags tags = {.school = rows[0].school};

	for (size_t i = 0; i < n; i++)
		touch_flushed(t->entity, rows[i].id, arena, &tags);
	IGNORE(cache_raise(f->cache, arena, &tags)); /* else it is in the journal */
	arena_free(arena);
}

SUSPENDS static void raise_batch(struct forgetting *f, struct batch *b)
{
	size_t n;

	qsort(b->rows, b->n, sizeof(*b->rows), by_school);
	for (size_t at = 0; at < b->n; at += n) {
		for (n = 1; n < SOME && at + n < b->n && by_school(&b->rows[at], &b->rows[at + n]) == 0; n++)
			;
		raise_some(f, b->target, &b->rows[at], n);
	}
}

SUSPENDS static void forget_all(struct forgetting *f)
{
	struct arena *arena = arena_new();

	log_warn("flushes were faster than the cache: it begins anew");
	f->all = false;
	IGNORE(cache_new_generation(f->cache, arena)); /* else it is in the journal */
	arena_free(arena);
}

SUSPENDS static void forget_fiber(void *arg)
{
	struct forgetting *f = arg;
	struct batch *b;

	while ((b = take(f)) != NULL || f->all) {
		if (f->all)
			forget_all(f);
		if (b != NULL)
			raise_batch(f, b);
		free(b);
	}
	f->running = false;
}

/* On the loop. */
static void on_batch(void *arg)
{
	struct batch *b = arg;
	struct forgetting *f = b->to;

	if (f->waiting >= BATCHES_MAX) {
		f->all = true;
		free(b);
	} else {
		if (f->last != NULL)
			f->last->next = b;
		else
			f->first = b;
		f->last = b;
		f->waiting++;
	}
	/* Without a fiber now, the next batch tries again. */
	if (!f->running)
		f->running = fiber_spawn(f->w->loop, "forget", forget_fiber, f) == OK;
}

void forget_rows(struct worker *w, const struct flush_target *t, const struct flushed_row *rows, size_t n)
{
	struct batch *b;

	if (w->forgetting == NULL)
		return;
	b = mem_zalloc(sizeof(*b) + n * sizeof(*rows));
	b->to = w->forgetting;
	b->target = t;
	b->n = n;
	memcpy(b->rows, rows, n * sizeof(*rows));
	loop_post(w->loop, on_batch, b);
}
