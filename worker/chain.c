/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The audit chains. What is in the chain and how it is proven is SQL (db/migrations/0008_worker_duties.sql), so that an operator can do it with
 * one statement or with ./s24 audit; here is only when. Every step is a statement of its own that either happens or does not, and finds by
 * itself what is not chained yet, so a worker may die anywhere.
 */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/timefmt.h"
#include "base/uuid.h"
#include "duties.h"
#include "io/loop.h"
#include "worker_sql.h"

#define TICK_MS 5000
#define PG_MS 5000
#define BATCH 500      /* links of a transaction */
#define BATCHES_MAX 20 /* of a schema in a tick */
#define LATE_STEP 5000 /* rows looked at in a tick for those that came very late */
#define LATE_US (3600 * US_PER_S)
#define PROVE_STEP 1000 /* links proven in a tick */

#define APPENDED_FIELDS(F, T) F(T, INT, chained) F(T, INT, waiting)
SCHEMA_STRUCT(appended, APPENDED_FIELDS);
SCHEMA_TABLE(appended, APPENDED_FIELDS);
#define LATE_FIELDS(F, T) F(T, INT, chained) F(T, UUID, next_id)
SCHEMA_STRUCT(late, LATE_FIELDS);
SCHEMA_TABLE(late, LATE_FIELDS);
#define LINK_FIELDS(F, T) F(T, INT, seq) F(T, UUID, audit_id) F(T, TEXT, hash) F(T, TEXT, why)
SCHEMA_STRUCT(link, LINK_FIELDS);
SCHEMA_TABLE(link, LINK_FIELDS);
#define PRESENT_FIELDS(F, T) F(T, BOOL, present)
SCHEMA_STRUCT(present, PRESENT_FIELDS);
SCHEMA_TABLE(present, PRESENT_FIELDS);

static struct pg_scope scope_in(const struct worker *w, struct arena *arena)
{
	return (struct pg_scope){.arena = arena, .deadline = deadline_in(w->loop, PG_MS)};
}

/* ---- chaining ---- */

SUSPENDS static enum err append(struct worker *w, struct chain *c, struct arena *arena)
{
	for (int i = 0; i < BATCHES_MAX; i++) {
		struct pg_scope scope = scope_in(w, arena);
		struct appended done;
		enum err e = pg_query_one(daemon_pg(w->daemon), &scope, &SQL_WORKER_AUDIT_APPEND,
					  PG_PARAMS(PG_TEXT(str_of(c->daemon)), PG_INT4(BATCH)), &appended_schema, &done);

		if (e != OK)
			return e;
		c->chained += done.chained;
		c->waiting = done.waiting;
		if (done.chained < BATCH)
			break;
	}
	return OK;
}

/* A page of the walk over all rows, for those that came when their time had long been chained. */
SUSPENDS static enum err append_late(struct worker *w, struct chain *c, struct arena *arena)
{
	struct pg_scope scope = scope_in(w, arena);
	struct late done;
	enum err e;

	if (loop_mono_us(w->loop) < c->late_at_us)
		return OK;
	e = pg_query_one(daemon_pg(w->daemon), &scope, &SQL_WORKER_AUDIT_LATE,
			 PG_PARAMS(PG_TEXT(str_of(c->daemon)), PG_UUID(c->late_after), PG_INT4(LATE_STEP)), &late_schema, &done);
	if (e != OK)
		return e;
	c->chained += done.chained;
	c->late_after = FIELD_HAS(&done, late, next_id) ? done.next_id : (struct uuid){{0}};
	if (!FIELD_HAS(&done, late, next_id))
		c->late_at_us = loop_mono_us(w->loop) + LATE_US;
	return OK;
}

/* ---- proving ---- */

static void report(struct chain *c, int64_t seq, struct str why)
{
	c->broken++;
	log_error("an audit chain is broken", LOG_S("schema", c->daemon), LOG_I("seq", seq), LOG_STR("why", why));
}

/* The end of the last proof must be there still: nobody sees by the chain alone that its end was cut off. */
SUSPENDS static enum err prove_head(struct worker *w, struct chain *c, struct arena *arena)
{
	struct pg_scope scope = scope_in(w, arena);
	struct present found;
	enum err e;

	if (c->head[0] == '\0')
		return OK;
	e = pg_query_one(daemon_pg(w->daemon), &scope, &SQL_WORKER_AUDIT_HAS,
			 PG_PARAMS(PG_TEXT(str_of(c->daemon)), PG_INT8(c->head_seq), PG_TEXT(str_of(c->head))), &present_schema,
			 &found);
	if (e == OK && !found.present)
		report(c, c->head_seq, STR("a link that was proven before is gone or another"));
	return e;
}

static void end_proof(struct worker *w, struct chain *c)
{
	memcpy(c->head, c->at, sizeof(c->head));
	c->head_seq = c->at_seq;
	c->at[0] = '\0';
	c->at_seq = 0;
	c->prove_at_us = loop_mono_us(w->loop) + w->conf->audit_check_s * US_PER_S;
	/* Outside of the database, so that who rewrites the whole chain there is found out by the log. */
	log_info("an audit chain was proven", LOG_S("schema", c->daemon), LOG_I("head_seq", c->head_seq), LOG_S("head", c->head),
		 LOG_I("broken", c->broken));
}

SUSPENDS static enum err prove(struct worker *w, struct chain *c, struct arena *arena)
{
	struct pg_scope scope = scope_in(w, arena);
	const struct link *v;
	struct list links;
	enum err e = OK;

	if (w->conf->audit_check_s == 0 || loop_mono_us(w->loop) < c->prove_at_us)
		return OK;
	if (c->at_seq == 0)
		e = prove_head(w, c, arena);
	if (e == OK)
		e = pg_query(daemon_pg(w->daemon), &scope, &SQL_WORKER_AUDIT_CHECK,
			     PG_PARAMS(PG_TEXT(str_of(c->daemon)), PG_INT8(c->at_seq), PG_TEXT_OR_NULL(str_of(c->at)),
				       PG_INT8(PROVE_STEP)),
			     &link_schema, &links);
	if (e != OK)
		return e;
	v = links.v;
	for (size_t i = 0; i < links.n; i++)
		if (FIELD_HAS(&v[i], link, why))
			report(c, v[i].seq, v[i].why);
	/* The last row says how far it came. */
	if (links.n == 0 || !FIELD_HAS(&v[links.n - 1], link, seq)) {
		end_proof(w, c);
		return OK;
	}
	c->checked++;
	c->at_seq = v[links.n - 1].seq;
	snprintf(c->at, sizeof(c->at), "%.*s", STR_FMT(v[links.n - 1].hash));
	return OK;
}

/* ---- rounds ---- */

static struct chain *chain_of(struct duties *d, struct str daemon)
{
	struct chain *c;

	for (size_t i = 0; i < d->n_chains; i++)
		if (str_is(daemon, d->chains[i].daemon))
			return &d->chains[i];
	if (d->n_chains == CHAINS_MAX)
		return NULL;
	c = &d->chains[d->n_chains++];
	snprintf(c->daemon, sizeof(c->daemon), "%.*s", STR_FMT(daemon));
	return c;
}

SUSPENDS static enum err look_after(struct worker *w, struct chain *c)
{
	struct arena *arena = arena_new();
	enum err e = append(w, c, arena);

	if (e == OK)
		e = append_late(w, c, arena);
	if (e == OK)
		e = prove(w, c, arena);
	arena_free(arena);
	return e;
}

SUSPENDS static enum err round_of_all(struct worker *w)
{
	struct arena *arena = arena_new();
	struct list schemas;
	enum err e = duties_schemas(w, arena, &schemas);
	const struct schema_name *v = schemas.v;

	for (size_t i = 0; e == OK && i < schemas.n; i++) {
		struct chain *c = chain_of(w->duties, v[i].daemon);

		if (c != NULL)
			e = look_after(w, c);
	}
	arena_free(arena);
	return e;
}

void chain_run(struct worker *w)
{
	w->duties->chains = mem_zalloc(CHAINS_MAX * sizeof(struct chain));
	while (worker_pause(w, TICK_MS)) {
		enum err e = board_is_open(&w->board, DATABASE_ROWS) ? OK : round_of_all(w);

		if (e != OK && e != ERR_CANCELLED)
			log_warn("the audit chains could not be continued", LOG_E(e));
	}
}
