/* SPDX-License-Identifier: Apache-2.0 */
/* One world: its clock, its chance, who goes on next, what goes wrong, and its end. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/timefmt.h"
#include "sim.h"
#include "svc_lua.h"

#define END_STEPS 400000 /* more than any world needs to come to rest */

ROW_TABLE(sim_doc, SIM_FIELDS, 1);
const struct uuid sim_school = {{0x5c}};
const struct entity sim_entities[KINDS] = {
	[PARENT] = {.name = "parent", .table = "sim.parents", .schema = &sim_doc_schema, .level = 1, .scopes = {"list_id"}},
	[CHILD] = {.name = "child",
		   .table = "sim.children",
		   .schema = &sim_doc_schema,
		   .level = 2,
		   .scopes = {"list_id", "parent_id"}},
	[ENTRY] = {.name = "entry", .table = "sim.entries", .schema = &sim_doc_schema, .write = APPEND, .level = 1},
};
static const struct entity *const child_parents[] = {&sim_entities[PARENT]};

uint64_t chance(struct world *w)
{
	uint64_t z = w->random += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

void note(struct world *w, size_t doc, int actor, const char *what, int64_t version, size_t write)
{
	struct doc *d = &w->docs[doc];

	d->events[d->n_events++ % EVENTS] = (struct event){w->now_us, version, what, actor, write};
}

/* The first thing that is wrong is told; behind it nothing means much. */
void wrong(struct world *w, uint64_t *count, size_t doc, const char *format, ...)
{
	va_list args;

	if (w->failed)
		return;
	(*count)++;
	w->failed = true;
	w->failed_doc = doc;
	va_start(args, format);
	vsnprintf(w->why, sizeof(w->why), format, args);
	va_end(args);
}

size_t doc_add(struct world *w, enum kind kind)
{
	size_t i = w->n_docs++;
	struct doc *d = &w->docs[i];

	if (i >= DOCS_MOST)
		abort();
	*d = (struct doc){.kind = kind, .id = {{0xd0, (uint8_t)kind, [14] = (uint8_t)(i >> 8), [15] = (uint8_t)i}}};
	uuid_text(d->id, d->text);
	return i;
}

struct doc *doc_of(struct world *w, struct uuid id)
{
	size_t i = (size_t)id.b[14] << 8 | id.b[15];

	return i < w->n_docs && uuid_eq(w->docs[i].id, id) ? &w->docs[i] : NULL;
}

void world_new(struct world *w, uint64_t seed, struct scripts *scripts, const struct mutant *mutant, struct counts *counts)
{
	*w = (struct world){.random = seed, .now_us = INT64_C(1790000000) * US_PER_S, .scripts = scripts, .mutant = mutant};
	w->counts = counts;
	w->check_every = 1;
	w->ks = keyspace_new();
	w->check_arena = arena_new();
	w->docs = mem_alloc(DOCS_MOST * sizeof(*w->docs));
	w->writes = mem_alloc(WRITES_MOST * sizeof(*w->writes));
	w->writes[0] = (struct write){0};
	w->n_writes = 1; /* 0: no write */
	for (size_t i = 0; i < DOCS; i++) {
		doc_add(w, i % 2 == 0 ? PARENT : CHILD);
		w->docs[i].parent = i - i % 2;
		w->docs[i].counter = i % 4 == 2;
	}
	for (enum kind k = 0; k < KINDS; k++)
		w->targets[k] = (struct flush_target){.entity = &sim_entities[k], .index = k};
	w->targets[CHILD].parents = child_parents;
	w->targets[CHILD].n_parents = 1;
	for (int i = 0; i < ACTORS; i++) {
		actor_init(&w->actors[i], w, i);
		actor_start(&w->actors[i]);
	}
}

void world_free(struct world *w)
{
	for (int i = 0; i < ACTORS; i++) {
		coro_free(w->actors[i].coro);
		arena_free(w->actors[i].arena);
	}
	for (size_t i = 0; i < LATE; i++)
		arena_free(w->late[i].arena);
	keyspace_free(w->ks);
	arena_free(w->check_arena);
	free(w->docs);
	free(w->writes);
}

/* ---- what goes wrong ---- */

static void weather(struct world *w)
{
	if (one_in(w, 1500)) {
		w->counts->outages++;
		w->db_away_until_us = w->now_us + (int64_t)(chance(w) % 20000) * US_PER_MS;
	}
	if (one_in(w, 2500)) {
		w->counts->outages++;
		w->redis_away_until_us = w->now_us + (int64_t)(chance(w) % 3000) * US_PER_MS;
	}
	if (one_in(w, 2500)) { /* its memory is full: PUT is refused whole, and what drains it goes on */
		w->counts->outages++;
		w->redis_full_until_us = w->now_us + (int64_t)(chance(w) % 3000) * US_PER_MS;
	}
	if (one_in(w, 1200)) /* a quiet minute: leases and markers end */
		w->now_us += (61 + (int64_t)(chance(w) % 30)) * US_PER_S;
	if (one_in(w, 4000)) {
		w->counts->clock_steps++;
		w->redis_offset_us -= 5 * US_PER_S;
	}
}

static void tick(struct world *w)
{
	uint64_t r = chance(w);

	w->now_us += (int64_t)(r % 40 == 0 ? r / 64 % 2000000 : r / 64 % 8000);
}

/* ---- who goes on ---- */

static struct actor *next_actor(struct world *w, int first, int last)
{
	struct actor *ready[ACTORS], *soonest = NULL;
	size_t n = 0;

	for (int i = first; i < last; i++) {
		struct actor *a = &w->actors[i];

		if (w->quiet && !a->worker && !a->alive)
			continue;
		if (a->wake_us <= w->now_us)
			ready[n++] = a;
		if (!soonest || a->wake_us < soonest->wake_us)
			soonest = a;
	}
	if (n > 0)
		return ready[chance(w) % n];
	if (soonest)
		w->now_us = soonest->wake_us;
	return soonest;
}

static void go_on(struct world *w, struct actor *a)
{
	if (!a->alive)
		actor_start(a);
	if (one_in(w, a->worker ? 400 : 2000)) {
		actor_die(a);
		return;
	}
	if (one_in(w, a->worker ? 500 : 3000)) { /* SIGSTOP: a worker beyond its lease */
		w->counts->stalls++;
		a->wake_us = w->now_us + (5 + (int64_t)(chance(w) % 25)) * US_PER_S;
		return;
	}
	a->alive = coro_resume(a->coro);
}

static bool run(struct world *w, int first, int last, uint64_t steps)
{
	for (uint64_t i = 0; i < steps && !w->failed; i++) {
		struct actor *a = next_actor(w, first, last);

		if (!a)
			return true;
		w->counts->steps++;
		weather(w);
		tick(w);
		late_arrive(w);
		go_on(w, a);
	}
	return !w->failed;
}

/* ---- the end ---- */

static bool writers_alive(const struct world *w)
{
	bool alive = false;

	for (int i = 0; i < WRITERS; i++)
		alive = alive || w->actors[i].alive;
	return alive;
}

static bool empty(struct world *w)
{
	size_t n = keyspace_prefix(w->ks, STR("write_buffer:"), NULL, NULL), dead = 0; /* dead ones have a record too */

	for (enum kind k = 0; k < KINDS; k++) {
		char key[40];
		int length = snprintf(key, sizeof(key), "wb:dlq:%s", sim_entities[k].name);

		dead += keyspace_size(w->ks, (struct str){key, (size_t)length});
	}
	return n == dead;
}

/* Dead is what cannot be written; what died of its workers' or its parent's misfortune is replayed, as an operator does. */
static void replay_dead(struct world *w)
{
	struct arena *arena = arena_new();

	keyspace_clock(w->ks, w->now_us + w->redis_offset_us);
	for (size_t i = 0; i < w->n_docs; i++) {
		struct doc *d = &w->docs[i];
		struct redis_reply reply;

		if (d->settled || d->last == 0 || w->writes[d->last].poison)
			continue;
		scripts_run(w->scripts, w->ks, &LUA_REPLAY, REDIS_ARGS(str_of(sim_entities[d->kind].name), str_of(d->text)),
			    arena, &reply);
		w->counts->replayed += reply.type == REDIS_INTEGER && reply.i > 0;
	}
	arena_free(arena);
}

/* Until the writers have ended, and only what is dead waits. */
static bool drain(struct world *w)
{
	for (uint64_t i = 0; i < END_STEPS && (writers_alive(w) || !empty(w)); i += 50)
		if (!run(w, 0, ACTORS, 50))
			return false;
	return true;
}

/* The dead letters must be exactly what can never be written, and their children; everything else is in the table now. */
static bool only_poison_is_dead(struct world *w)
{
	for (size_t i = 0; i < w->n_docs; i++) {
		const struct doc *d = &w->docs[i];
		struct str value;
		bool orphan = d->kind == CHILD && !w->docs[d->parent].row.there;

		if (d->settled || d->last == 0)
			continue;
		if (w->writes[d->last].poison != record_of(w, d, &value) && !orphan)
			wrong(w, &w->counts->broken, i, "I8: a poisoned write is %s",
			      record_of(w, d, &value) ? "not the dead one" : "not in the dead letter");
	}
	return !w->failed;
}

static bool come_to_rest(struct world *w)
{
	w->quiet = true;
	w->db_away_until_us = w->redis_away_until_us = w->redis_full_until_us = 0;
	if (!drain(w))
		return false;
	replay_dead(w); /* those whose workers died too often */
	if (!drain(w) || !only_poison_is_dead(w))
		return false;
	w->reviving = true;
	for (int i = 0; i < WRITERS; i++)
		actor_start(&w->actors[i]);
	for (int round = 0; round < 3; round++) { /* a child may have died of its parent */
		if (!drain(w))
			return false;
		replay_dead(w);
	}
	check_end(w);
	return !w->failed;
}

bool world_run(struct world *w, uint64_t steps)
{
	return run(w, 0, ACTORS, steps) && come_to_rest(w);
}
