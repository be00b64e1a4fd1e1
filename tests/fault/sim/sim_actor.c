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

/* What one request does: whoever sent it, and whether or not he still waits. */
static void run_script(struct world *w, struct late *l, struct arena *arena, struct redis_reply *ret)
{
	bool put = strcmp(l->script->name, "put") == 0, was[CALL_WRITES];

	set_clock(w);
	for (size_t i = 0; put && i < l->n_writes; i++)
		was[i] = buffered(w, w->writes[l->writes[i]].doc);
	scripts_run(w->scripts, w->ks, l->script, l->args, arena, ret);
	if (ret->type == REDIS_ERROR)
		wrong(w, &w->counts->broken, 0, "%s.lua: %.*s", l->script->name, STR_FMT(ret->s));
	else if (put && ret->type == REDIS_ARRAY && str_is(ret->v[0].s, "OK"))
		executed(w, l->actor, l->writes, l->n_writes, ret->v[1].i, was);
	else if (put && ret->type == REDIS_ARRAY && str_is(ret->v[0].s, "CONFLICT"))
		conflicted(w, l->writes[ret->v[1].i - 1]);
	for (size_t i = 0; !put && i < l->args.n; i++) {
		struct uuid id;
		struct str arg = l->args.v[i];
		struct doc *d = arg.n == UUID_TEXT && uuid_parse(arg, &id) ? doc_of(w, id) : NULL;
		int64_t version = 0;

		if (!d)
			continue;
		if (i + 1 < l->args.n)
			str_to_i64(l->args.v[i + 1], &version);
		note(w, (size_t)(d - w->docs), l->actor, l->script->name, version, 0);
	}
	if (++w->since_check >= w->check_every) {
		w->since_check = 0;
		check_everything(w);
	}
}

static struct late request_of(struct actor *a, const struct redis_script *script, struct redis_args args)
{
	struct late l = {.script = script, .args = args, .actor = a->number, .n_writes = a->n_writes};

	memcpy(l.writes, a->writes, sizeof(l.writes));
	return l;
}

/* Up to two seconds: that is how long a connection of the daemons waits for its oldest command. */
static void make_late(struct actor *a, const struct redis_script *script, struct redis_args args)
{
	struct world *w = a->w;
	struct late *to = &w->late[chance(w) % LATE];
	struct str *v;

	if (to->script)
		return;
	if (!to->arena)
		to->arena = arena_new();
	arena_clear(to->arena);
	v = arena_array(to->arena, args.n, sizeof(*v));
	for (size_t i = 0; i < args.n; i++)
		v[i] = arena_str(to->arena, args.v[i]);
	*to = (struct late){.arena = to->arena,
			    .script = script,
			    .args = {v, args.n},
			    .at_us = w->now_us + (int64_t)(chance(w) % 2000) * US_PER_MS,
			    .actor = a->number,
			    .n_writes = a->n_writes};
	memcpy(to->writes, a->writes, sizeof(to->writes));
}

void late_arrive(struct world *w)
{
	for (size_t i = 0; i < LATE && !w->failed; i++) {
		struct late *l = &w->late[i];
		struct redis_reply reply;

		if (!l->script || (l->at_us > w->now_us && !w->quiet))
			continue;
		if (w->now_us < l->at_us + 2 * US_PER_S) { /* in a quiet minute its connection was closed */
			w->counts->late++;
			run_script(w, l, l->arena, &reply);
		}
		l->script = NULL;
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
	struct late request;

	actor_yield(a);
	/* A request's deadline is shorter than the marker's life: nothing leaves behind it. */
	if (redis_is_away(w) || (!a->worker && w->now_us < w->redis_full_until_us) || (!a->worker && w->now_us > a->deadline_us))
		return ERR_BUFFER;
	if (one_in(w, 60)) {
		w->counts->lost_replies++;
		if (chance(w) % 2 == 0) /* and the other half never arrives */
			make_late(a, script, args);
		return ERR_UNCERTAIN;
	}
	request = request_of(a, script, args);
	run_script(w, &request, arena, ret);
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
