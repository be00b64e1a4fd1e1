/* SPDX-License-Identifier: Apache-2.0 */
/* Warming after a change: a moment later, as the one who made it, once for what changes several times. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/str.h"
#include "base/timefmt.h"
#include "base/uuid.h"
#include "cache/cache_internal.h"
#include "io/fiber.h"
#include "svc/buffer.h"
#include "svc/cache_http.h"
#include "svc/cache_warm.h"
#include "svc/daemon.h"

struct warm_waiting {
	struct warm *w; /* NULL: the daemon closes */
	struct arena *arena;
	struct daemon *daemon;
	struct fiber *fiber;
	struct str target;
	struct caller who;
	struct cache_tags tags; /* none until they are known */
	bool dropped;
};

static void forget(struct warm *w, const struct warm_waiting *x)
{
	for (size_t i = 0; w != NULL && i < w->n_waiting; i++) {
		if (w->waiting[i] == x) {
			w->waiting[i] = w->waiting[--w->n_waiting];
			return;
		}
	}
}

/* The tags of the answer, so that it can be told when one of them is raised. */
SUSPENDS static void learn_tags(struct warm_waiting *x)
{
	struct cache_tags tags = {0};
	struct req *req;

	if (inner_request_as(x->daemon, x->arena, x->target, &x->who, false, &req) == OK && http_cache_tags(req, &tags) == OK)
		x->tags = tags;
}

SUSPENDS static void warm_later(void *arg)
{
	struct warm_waiting *x = arg;
	struct deadline due = deadline_in(x->daemon->loop, WARM_AFTER_MS);

	x->fiber = fiber_self();
	learn_tags(x);
	if (sleep_ms(x->daemon->loop, deadline_left_ms(x->daemon->loop, due), (struct deadline){INT64_MAX}) != OK)
		x->dropped = true;
	x->fiber = NULL;
	forget(x->w, x);
	if (!x->dropped && x->w != NULL) {
		enum warm_outcome outcome = warm_one(x->daemon, x->target, &x->who, false);
		struct warm *w = x->daemon->warm;

		if (w != NULL) {
			w->after.warmed += outcome == WARM_MADE;
			w->after.skipped += outcome == WARM_SKIPPED;
			w->after.failed += outcome == WARM_FAILED;
		}
	}
	arena_free(x->arena);
}

static void copy_caller(struct arena *arena, const struct caller *who, struct caller *to)
{
	*to = *who;
	to->email = arena_str(arena, who->email);
	to->full_name = arena_str(arena, who->full_name);
	to->rights = arena_str(arena, who->rights);
	to->service = arena_str(arena, who->service);
	to->buffer_name = arena_str(arena, who->buffer_name);
}

static void drop(struct warm_waiting *x, int64_t *count)
{
	x->dropped = true;
	if (x->fiber != NULL)
		fiber_cancel(x->fiber);
	forget(x->w, x);
	(*count)++;
}

static void start(struct warm *w, struct req *req, struct str target)
{
	struct arena *arena;
	struct warm_waiting *x;

	for (size_t i = 0; i < w->n_waiting; i++) {
		x = w->waiting[i];
		if (str_eq(x->target, target) && uuid_eq(x->who.user_id, req->who.user_id) && x->who.role == req->who.role) {
			drop(x, &w->coalesced);
			break;
		}
	}
	if (w->n_waiting == WARM_WAITING_MAX || w->closing) {
		w->overflowed++;
		return;
	}
	arena = arena_new();
	x = arena_zalloc(arena, sizeof(*x));
	*x = (struct warm_waiting){.w = w, .arena = arena, .daemon = req->daemon, .target = arena_str(arena, target)};
	copy_caller(arena, &req->who, &x->who);
	if (fiber_spawn(req->daemon->loop, "warm after a change", warm_later, x) != OK) {
		arena_free(arena);
		return;
	}
	w->waiting[w->n_waiting++] = x;
}

static bool becomes(const struct warm_row *row, const void *old, const void *now, struct arena *arena)
{
	const struct field *f = schema_find(row->after->schema, str_of(row->field));
	struct buf was = buf_in(arena), is = buf_in(arena);

	if (!buffer_field_text(f, now, &is) || !str_is(buf_str(&is), row->becomes))
		return false;
	return old == NULL || !buffer_field_text(f, old, &was) || !str_is(buf_str(&was), row->becomes);
}

static bool applies(const struct warm_row *row, const struct entity *e, const void *old, const void *now, struct arena *arena)
{
	if (row->after != e || now == NULL || ((const struct row *)now)->deleted_at != 0)
		return false;
	if ((row->on & (old == NULL ? ON_CREATE : ON_UPDATE)) == 0)
		return false;
	return row->field == NULL || becomes(row, old, now, arena);
}

void cache_warm_changed(struct req *req, const struct entity *e, const void *old, const void *row)
{
	struct warm *w = req->daemon->warm;

	if (w == NULL || req->who.role == ROLE_SERVICE)
		return;
	for (const struct warm_row *r = req->daemon->service->warms; r->name != NULL; r++) {
		if (r->after != NULL && applies(r, e, old, row, req->arena))
			start(w, req, warm_target(r, ((const struct row *)row)->id, req->arena));
	}
}

static bool shares_a_tag(const struct cache_tags *a, const struct cache_tags *b)
{
	if (!uuid_eq(a->school, b->school))
		return false;
	for (size_t i = 0; i < a->n; i++) {
		for (size_t k = 0; k < b->n; k++) {
			if (str_eq(a->v[i], b->v[k]))
				return true;
		}
	}
	return false;
}

void cache_warm_raised(struct daemon *d, const struct cache_tags *tags)
{
	struct warm *w = d->warm;

	for (size_t i = w != NULL ? w->n_waiting : 0; i > 0; i--) {
		if (shares_a_tag(&w->waiting[i - 1]->tags, tags))
			drop(w->waiting[i - 1], &w->dropped);
	}
}

void warm_after_done(struct warm *w)
{
	while (w->n_waiting != 0) {
		struct warm_waiting *x = w->waiting[--w->n_waiting];

		x->w = NULL;
		x->dropped = true;
		if (x->fiber != NULL)
			fiber_cancel(x->fiber);
	}
}
