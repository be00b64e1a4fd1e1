/* SPDX-License-Identifier: Apache-2.0 */
/* How far the readers of the event streams are behind: what Redis says of each group of each stream, every ten seconds. */
#include <stdio.h>
#include <string.h>

#include "duties.h"
#include "io/loop.h"

#define PERIOD_MS 10000
#define FIRST_MS 1000

static struct lag *next_lag(struct worker *w, size_t *n)
{
	return *n < LAGS_MAX ? &w->duties->lags[(*n)++] : NULL;
}

/* A field of a group's flat list of names and values; NULL. */
static const struct redis_reply *field_of(const struct redis_reply *group, const char *name)
{
	for (size_t i = 0; i + 1 < group->n; i += 2)
		if (str_is(group->v[i].s, name))
			return &group->v[i + 1];
	return NULL;
}

static int64_t number_of(const struct redis_reply *group, const char *name, int64_t otherwise)
{
	const struct redis_reply *r = field_of(group, name);

	return r != NULL && r->type == REDIS_INTEGER ? r->i : otherwise;
}

/* The stream itself, then its groups. A stream that is not there is a server's error, and no lag. */
SUSPENDS static enum err look_at(struct worker *w, size_t source, size_t service, struct arena *arena, size_t *n)
{
	struct buffer_io io = source_io(&w->sources[source]);
	struct str stream = str_of(arena_printf(arena, "events:%s", worker_services[service].name));
	struct redis_reply groups, length;
	struct lag *to;
	enum err e = io.call(io.ctx, REDIS_ARGS(STR("XINFO"), STR("GROUPS"), stream), arena, &groups);

	if (e != OK || groups.type != REDIS_ARRAY)
		return e;
	e = io.call(io.ctx, REDIS_ARGS(STR("XLEN"), stream), arena, &length);
	if (e != OK)
		return e;
	to = next_lag(w, n);
	if (to != NULL)
		*to = (struct lag){.source = source, .service = service, .length = length.type == REDIS_INTEGER ? length.i : 0};
	for (size_t i = 0; i < groups.n; i++) {
		const struct redis_reply *name = field_of(&groups.v[i], "name");

		to = name != NULL && name->type == REDIS_STRING ? next_lag(w, n) : NULL;
		if (to == NULL)
			continue;
		*to = (struct lag){.source = source,
				   .service = service,
				   .behind = number_of(&groups.v[i], "lag", -1),
				   .pending = number_of(&groups.v[i], "pending", 0)};
		snprintf(to->group, sizeof(to->group), "%.*s", STR_FMT(name->s));
	}
	return OK;
}

SUSPENDS static void look_around(struct worker *w)
{
	size_t n = 0;

	w->duties->n_lags = 0; /* rather no number than one from before */
	for (size_t source = 0; source < w->n_sources; source++) {
		struct arena *arena = arena_new();
		enum err e = w->sources[source].up ? OK : ERR_BUFFER;

		for (size_t i = 0; e == OK && worker_services[i].name != NULL; i++)
			e = look_at(w, source, i, arena, &n);
		arena_free(arena);
	}
	w->duties->n_lags = n;
}

void lag_run(struct worker *w)
{
	int64_t wait_ms = FIRST_MS;

	w->duties->lags = mem_zalloc(LAGS_MAX * sizeof(struct lag));
	while (worker_pause(w, wait_ms)) {
		look_around(w);
		wait_ms = PERIOD_MS;
	}
}
