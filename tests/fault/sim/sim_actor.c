/* SPDX-License-Identifier: Apache-2.0 */
/* An actor's world: struct buffer_io over the real scripts, where requests and answers get lost and anybody may go on meanwhile. */
#include <stdio.h>

#include "base/timefmt.h"
#include "sim.h"

void actor_yield(struct actor *a)
{
	(void)a;
	coro_yield();
}

void actor_sleep(struct actor *a, int64_t ms)
{
	a->wake_us = a->w->now_us + ms * US_PER_MS;
	coro_yield();
}

static void set_clock(struct world *w)
{
	keyspace_clock(w->ks, w->now_us + w->redis_offset_us);
}

static bool buffered(struct world *w, size_t doc)
{
	struct str value;

	return record_of(w, &w->docs[doc], &value);
}

static void run_script(struct actor *a, const struct redis_script *script, struct redis_args args, struct arena *arena,
		       struct redis_reply *ret)
{
	struct world *w = a->w;
	bool put = strcmp(script->name, "put") == 0, was[CALL_WRITES];

	set_clock(w);
	for (size_t i = 0; put && i < a->n_writes; i++)
		was[i] = buffered(w, w->writes[a->writes[i]].doc);
	scripts_run(w->scripts, w->ks, script, args, arena, ret);
	if (ret->type == REDIS_ERROR)
		wrong(w, &w->counts->broken, 0, "%s.lua: %.*s", script->name, STR_FMT(ret->s));
	else if (put && ret->type == REDIS_ARRAY && str_is(ret->v[0].s, "OK"))
		executed(w, a, ret->v[1].i, was);
	for (size_t i = 0; !put && a->worker && i < args.n; i++) {
		struct uuid id;
		struct doc *d = args.v[i].n == UUID_TEXT && uuid_parse(args.v[i], &id) ? doc_of(w, id) : NULL;
		int64_t version = 0;

		if (!d)
			continue;
		if (i + 1 < args.n)
			str_to_i64(args.v[i + 1], &version);
		note(w, (size_t)(d - w->docs), a->number, script->name, version, 0);
	}
	if (++w->since_check >= w->check_every) {
		w->since_check = 0;
		check_everything(w);
	}
}

static bool redis_is_away(const struct world *w)
{
	return w->now_us < w->redis_away_until_us;
}

static enum err io_eval(void *ctx, const struct redis_script *script, struct redis_args args, struct arena *arena,
			struct redis_reply *ret)
{
	struct actor *a = ctx;
	struct world *w = a->w;

	actor_yield(a);
	/* A request's deadline is shorter than the marker's life: nothing leaves behind it. */
	if (redis_is_away(w) || (!a->worker && w->now_us > a->deadline_us))
		return ERR_BUFFER;
	if (one_in(w, 60)) {
		w->counts->lost_replies++;
		return ERR_UNCERTAIN; /* the request was lost */
	}
	run_script(a, script, args, arena, ret);
	if (one_in(w, 4))
		actor_yield(a); /* the answer is on its way, and its reader may be dead when it comes */
	if (one_in(w, 25)) {
		w->counts->lost_replies++;
		return ERR_UNCERTAIN;
	}
	return OK;
}

static enum err io_call(void *ctx, struct redis_args args, struct arena *arena, struct redis_reply *ret)
{
	struct actor *a = ctx;

	actor_yield(a);
	if (redis_is_away(a->w))
		return ERR_BUFFER;
	set_clock(a->w);
	*ret = keyspace_command(a->w->ks, args.v, args.n);
	ret->s = arena_str(arena, ret->s);
	return OK;
}

static int64_t io_now(void *ctx)
{
	return ((struct actor *)ctx)->w->now_us;
}

static void io_pause(void *ctx, int64_t ms)
{
	actor_sleep(ctx, ms);
}

static uint64_t io_random(void *ctx)
{
	return chance(((struct actor *)ctx)->w);
}

void actor_init(struct actor *a, struct world *w, int number)
{
	a->w = w;
	a->number = number;
	a->worker = number >= WRITERS;
	a->arena = arena_new();
	a->coro = coro_new();
	a->io = (struct buffer_io){a, io_eval, io_call, io_now, io_pause, io_random};
	table_db(a);
}

void actor_start(struct actor *a)
{
	arena_clear(a->arena);
	a->alive = true;
	a->n_writes = 0;
	a->tx = (struct tx){0};
	snprintf(a->token, sizeof(a->token), "%s:%d:%llu", a->worker ? "worker" : "writer", a->number,
		 (unsigned long long)a->lives++);
	coro_start(a->coro, a->worker ? worker_main : writer_main, a);
}

/* kill -9. What it had sent is done or not; what it had not sent never will be. */
void actor_die(struct actor *a)
{
	struct world *w = a->w;

	a->alive = false;
	w->counts->crashes++;
	if (a->worker)
		table_abandon(a);
	for (size_t i = 0; i < a->n_writes; i++) {
		struct write *wr = &w->writes[a->writes[i]];

		if (wr->outcome != OPEN)
			continue;
		wr->outcome = UNKNOWN;
		w->docs[wr->doc].n_unknown++;
		note(w, wr->doc, a->number, "writer dies", wr->version, a->writes[i]);
	}
	w->counts->unknown += a->n_writes > 0;
	a->n_writes = 0;
	a->wake_us = w->now_us + (int64_t)(chance(w) % 2000) * US_PER_MS;
}
