/* SPDX-License-Identifier: Apache-2.0 */
/* Writing with the buffer away: the worker's own guarded upsert, from the service, for writes that need no old row. */
#include "svc/degraded.h"

#include <stdlib.h>

#include "base/str.h"
#include "base/timefmt.h"
#include "io/fiber.h"
#include "svc/audit.h"
#include "svc/buffers.h"
#include "svc/daemon.h"
#include "svc/tx.h"

#define DEGRADED_MOST 4 /* at once in a process: the database must not drown in what the buffer used to absorb */
#define ASK_US US_PER_S
#define TELL_MS 100
#define KEPT_S 86400                /* as long as an Idempotency-Key */
#define CLOCKS_US (250 * US_PER_MS) /* PostgreSQL's may be ahead of the buffer's by so much */

struct degraded {
	size_t running;
	bool writes, closing; /* writes: some route may go past the buffer */
	struct fiber *teller;
	struct {
		int64_t until_us;     /* the highest version of such writes that is known */
		int64_t since_us;     /* real time, since when */
		int64_t asked_us;     /* monotonic */
		bool to_tell, unsure; /* unsure: one may still be on its way, and has a version of its time */
	} v[BUFFERS_MAX];
};

bool degraded_allowed(const struct change *c)
{
	if ((c->req->route->flags & ROUTE_FULL_STATE) == 0)
		return false;
	for (size_t i = 0; i < c->n_rows; i++) {
		const struct base *base = c->items[i].base;
		const struct row *row = c->items[i].row;

		if (c->items[i].entity->collection)
			return false; /* documents have no statement for it */
		/* A row with a natural id that was made whole (version 0) replaces what is there: the statement takes a higher version. */
		if (base && ((base->row && row->version != 0) || base->blind))
			return false;
	}
	return true;
}

#define UPSERTED_FIELDS(F, T) F(T, UUID, id) F(T, INT, version)
SCHEMA_STRUCT(upserted, UPSERTED_FIELDS);
SCHEMA_TABLE(upserted, UPSERTED_FIELDS);

SUSPENDS static enum err upsert_rows(struct change *c, struct tx *tx)
{
	struct req *req = c->req;

	for (size_t i = 0; i < c->n_items; i++) {
		const struct change_item *item = &c->items[i];
		struct row *row = item->row;
		struct upserted done = {0};
		enum err e;

		if (item->entity->schema == &audit_row_schema) {
			e = tx_audit_row(tx, item->row);
		} else {
			row->version = 0; /* the statement takes the database's clock */
			e = tx_query_one(tx, entity_statements(req, item->entity)->upsert,
					 pg_row_params(item->entity->schema, row, req->arena), &upserted_schema, &done);
			row->version = done.version;
		}
		if (e == ERR_NOT_FOUND) /* the guard: another school's id, or a newer row */
			return req_fail(req, ERR_CONFLICT, "Somebody else has just changed this");
		if (e != OK)
			return e;
	}
	return OK;
}

SUSPENDS static enum err commit_all(struct change *c)
{
	struct req *req = c->req;
	struct tx *tx;
	enum err e = tx_begin(req, &tx);

	if (e != OK)
		return e;
	e = upsert_rows(c, tx);
	for (const struct change_event *event = c->events; e == OK && event; event = event->next)
		e = tx_outbox(tx, event->channel, event->envelope);
	e = tx_end(tx, e);
	if (e != OK)
		return e;
	req->version = ((const struct row *)c->items[0].row)->version;
	req->sync = SYNC_DONE;
	req->database_only = true;
	return OK;
}

/* ---- what it leaves behind ---- */

static struct degraded *degraded_of(struct daemon *d)
{
	if (d->degraded)
		return d->degraded;
	d->degraded = mem_zalloc(sizeof(*d->degraded));
	for (const struct route *r = d->service->routes; r && r->path; r++)
		d->degraded->writes |= (r->flags & ROUTE_FULL_STATE) != 0;
	return d->degraded;
}

bool degraded_writes(const struct req *req, const struct entity *e)
{
	for (const struct route *r = daemon_service(req->daemon)->routes; r && r->path; r++) {
		if ((r->flags & ROUTE_FULL_STATE) != 0 && r->creates == e)
			return true;
	}
	return false;
}

static struct str flag_key(const struct daemon *d, struct arena *arena)
{
	return str_of(arena_printf(arena, "idem:%s:degraded", d->service->name));
}

static void learn(const struct daemon *d, size_t i, int64_t until_us)
{
	struct degraded *g = d->degraded;

	if (g->v[i].until_us >= until_us)
		return;
	g->v[i].until_us = until_us;
	g->v[i].since_us = loop_real_us(d->loop);
}

/* What is said on a buffer. */
static void hear(const struct daemon *d, size_t i, const struct redis_reply *reply)
{
	int64_t until_us;

	if (reply->type == REDIS_STRING && str_to_i64(reply->s, &until_us))
		learn(d, i, until_us);
}

/* Says it on one buffer, and never less than what another process has said. */
SUSPENDS static void tell(struct daemon *d, size_t i)
{
	struct degraded *g = d->degraded;
	struct arena *arena = arena_new();
	struct str kept = str_of(arena_printf(arena, "%d", KEPT_S));
	struct redis_reply reply;
	int64_t told_us = 0;
	bool unsure = g->v[i].unsure, ok = true;

	if (unsure)
		learn(d, i, loop_real_us(d->loop) + CLOCKS_US);
	g->v[i].to_tell = g->v[i].unsure = false;
	g->v[i].since_us = loop_real_us(d->loop); /* the buffer's older records are there from now on */
	while (ok && told_us < g->v[i].until_us) {
		struct str until;

		told_us = g->v[i].until_us;
		until = str_of(arena_printf(arena, "%lld", (long long)told_us));
		ok = redis_call(daemon_buffer_at(d, i), arena, deadline_in(d->loop, BUFFER_TRY_MS),
				REDIS_ARGS(STR("SET"), flag_key(d, arena), until, STR("EX"), kept, STR("GET")), &reply) == OK &&
		     reply.type != REDIS_ERROR;
		if (ok)
			hear(d, i, &reply);
	}
	g->v[i].to_tell |= !ok;
	g->v[i].unsure |= unsure && !ok;
	arena_free(arena);
}

SUSPENDS static void teller(void *arg)
{
	struct daemon *d = arg;
	struct degraded *g = d->degraded;
	bool left = true;

	g->teller = fiber_self();
	while (left && !g->closing) {
		left = false;
		for (size_t i = 0; i < daemon_buffers(d); i++) {
			if (g->v[i].to_tell)
				tell(d, i);
			left |= g->v[i].to_tell;
		}
		if (left && sleep_ms(d->loop, TELL_MS, (struct deadline){INT64_MAX}) != OK)
			break;
	}
	g->teller = NULL;
}

/* `sure`: it is done, with the versions that stand in its rows. */
static void leave_word(const struct change *c, bool sure)
{
	struct daemon *d = c->req->daemon;
	struct degraded *g = degraded_of(d);
	size_t i = c->req->who.buffer;

	if (i >= daemon_buffers(d))
		return;
	for (size_t k = 0; sure && k < c->n_rows; k++)
		learn(d, i, ((const struct row *)c->items[k].row)->version);
	if (!sure)
		learn(d, i, loop_real_us(d->loop) + CLOCKS_US);
	g->v[i].unsure |= !sure;
	g->v[i].to_tell = true;
	/* Without a fiber the next such write tries again; this process knows anyway. */
	if (!g->teller && !g->closing)
		IGNORE(fiber_spawn(d->loop, "degraded", teller, d));
}

struct redis_op *degraded_ask(struct req *req, bool now)
{
	struct daemon *d = req->daemon;
	struct degraded *g = degraded_of(d);
	size_t i = req->who.buffer;

	if (!g->writes || i >= daemon_buffers(d))
		return NULL;
	if (!now && g->v[i].asked_us != 0 && loop_mono_us(d->loop) < g->v[i].asked_us + ASK_US)
		return NULL;
	g->v[i].asked_us = loop_mono_us(d->loop);
	return redis_start(daemon_buffer_at(d, i), REDIS_ARGS(STR("GET"), flag_key(d, req->arena)));
}

void degraded_heard(struct req *req, struct redis_op *op, struct deadline d)
{
	struct redis_reply reply;

	if (!op)
		return;
	if (redis_finish(op, req->arena, d, &reply) == OK)
		hear(req->daemon, req->who.buffer, &reply);
	else
		req->daemon->degraded->v[req->who.buffer].asked_us = 0;
}

int64_t degraded_until(const struct req *req)
{
	const struct degraded *g = req->daemon->degraded;
	size_t i = req->who.buffer;

	if (!g || i >= BUFFERS_MAX || loop_real_us(daemon_loop(req->daemon)) >= g->v[i].since_us + KEPT_S * US_PER_S)
		return 0;
	return g->v[i].until_us;
}

void degraded_cancel(struct daemon *d)
{
	if (!d->degraded)
		return;
	d->degraded->closing = true;
	if (d->degraded->teller)
		fiber_cancel(d->degraded->teller);
}

void degraded_close(struct daemon *d)
{
	free(d->degraded);
	d->degraded = NULL;
}

/* ---- the write ---- */

enum err degraded_commit(struct change *c)
{
	struct degraded *g = degraded_of(c->req->daemon);
	enum err e;

	if (g->running >= DEGRADED_MOST) {
		write_counts_degraded(c->req->daemon, DEGRADED_REFUSED);
		c->req->retry_after_s = 2;
		return req_fail(c->req, ERR_OVERLOAD, "Writing is slow at the moment");
	}
	g->running++;
	e = commit_all(c);
	g->running--;
	if (e <= OK) /* any other is an answer of the table, and would be the same at any time */
		write_counts_degraded(c->req->daemon, e == OK ? DEGRADED_WRITTEN : DEGRADED_REFUSED);
	/* What may have been written counts as written. */
	if (e == OK || e == ERR_UNCERTAIN || e == ERR_TIMEOUT || e == ERR_CANCELLED)
		leave_word(c, e == OK);
	return e;
}
