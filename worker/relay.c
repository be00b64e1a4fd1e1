/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The relay: events of write-through changes, from each schema's outbox to the stream of their domain and to their channel. At least once: a
 * consumer knows an event by the id in its envelope.
 */
#include <inttypes.h>

#include "base/failpoint.h"
#include "base/log.h"
#include "base/timefmt.h"
#include "io/fiber.h"
#include "io/loop.h"
#include "worker.h"
#include "worker_sql.h"

#define BATCH 100
#define QUIET_MS 1000
#define AWAY_MS 5000
#define TX_MS 8000
#define STRAYS_US (60 * US_PER_S)

#define OUTBOX_FIELDS(F, T) F(T, UUID, id) F(T, INT, version) F(T, TEXT, domain) F(T, TEXT, channel) F(T, TEXT, envelope)
SCHEMA_STRUCT(outbox_row, OUTBOX_FIELDS);
SCHEMA_TABLE(outbox_row, OUTBOX_FIELDS);
#define DAEMON_FIELDS(F, T) F(T, TEXT, daemon)
SCHEMA_STRUCT(daemon_row, DAEMON_FIELDS);
SCHEMA_TABLE(daemon_row, DAEMON_FIELDS);
#define STRAY_FIELDS(F, T) F(T, TEXT, daemon) F(T, TEXT, buffer)
SCHEMA_STRUCT(stray_row, STRAY_FIELDS);
SCHEMA_TABLE(stray_row, STRAY_FIELDS);

SUSPENDS static enum err send(struct source *s, struct arena *arena, const struct outbox_row *row)
{
	struct buffer_io io = source_io(s);
	const char *stream = arena_printf(arena, "events:%.*s", STR_FMT(row->domain));
	const char *version = arena_printf(arena, "%" PRId64, row->version);
	struct redis_reply reply;
	enum err e = io.call(io.ctx,
			     REDIS_ARGS(STR("XADD"), str_of(stream), STR("MAXLEN"), STR("~"), STR("100000"), STR("*"), STR("e"),
					row->envelope, STR("v"), str_of(version)),
			     arena, &reply);

	if (e == OK && reply.type == REDIS_ERROR)
		return ERR_BUFFER;
	if (e == OK)
		redis_post(s->redis, REDIS_ARGS(STR("PUBLISH"), row->channel, row->envelope));
	return e;
}

/* One transaction: rows locked, sent, marked. */
SUSPENDS static enum err relay_some(struct source *s, struct arena *arena, struct str daemon, size_t *ret_n)
{
	struct pg_scope scope = {.arena = arena, .deadline = deadline_in(s->w->loop, TX_MS)};
	struct list rows, ids, none;
	struct pg_tx *tx;
	enum err e = pg_begin(daemon_pg(s->w->daemon), &scope, &tx);

	if (e != OK)
		return e;
	e = pg_tx_query(tx, &SQL_WORKER_OUTBOX_TAKE, PG_PARAMS(PG_TEXT(daemon), PG_TEXT(str_of(s->name)), PG_INT4(BATCH)),
			&outbox_row_schema, &rows);
	if (e == OK && rows.n > 0) {
		const struct outbox_row *v = rows.v;
		struct uuid *sent = arena_array(arena, rows.n, sizeof(*sent));

		for (ids = (struct list){sent, 0}; e == OK && ids.n < rows.n; ids.n++) {
			e = send(s, arena, &v[ids.n]);
			sent[ids.n] = v[ids.n].id;
		}
		FAILPOINT("outbox.after_xadd_before_mark");
		if (e == OK)
			e = pg_tx_query(tx, &SQL_WORKER_OUTBOX_SENT, PG_PARAMS(PG_TEXT(daemon), PG_UUIDS(ids)), NULL, &none);
	}
	if (e != OK) {
		pg_rollback(tx);
		return e;
	}
	*ret_n = rows.n;
	return pg_commit(tx);
}

/* The events of one buffer: those of another that is away do not keep them waiting. */
SUSPENDS static enum err relay_source(struct source *s, struct arena *arena, size_t *n_sent)
{
	struct pg_scope scope = {.arena = arena, .deadline = deadline_in(s->w->loop, TX_MS)};
	struct list daemons;
	enum err e = pg_query(daemon_pg(s->w->daemon), &scope, &SQL_WORKER_OUTBOX_WAITING, PG_PARAMS(PG_TEXT(str_of(s->name))),
			      &daemon_row_schema, &daemons);
	const struct daemon_row *v = daemons.v;

	for (size_t i = 0; e == OK && i < daemons.n; i++) {
		size_t n = 0;

		e = relay_some(s, arena, v[i].daemon, &n);
		*n_sent += n;
	}
	return e;
}

/* Events for a buffer of another name wait for a worker that serves it, if there is one. */
SUSPENDS static enum err look_for_strays(struct worker *w, struct arena *arena)
{
	struct pg_scope scope = {.arena = arena, .deadline = deadline_in(w->loop, TX_MS)};
	struct str *names = arena_array(arena, w->n_sources, sizeof(*names));
	struct list strays;
	enum err e;

	for (size_t i = 0; i < w->n_sources; i++)
		names[i] = str_of(w->sources[i].name);
	e = pg_query(daemon_pg(w->daemon), &scope, &SQL_WORKER_OUTBOX_STRAYS,
		     PG_PARAMS(PG_TEXTS(((struct list){names, w->n_sources}))), &stray_row_schema, &strays);
	for (size_t i = 0; e == OK && i < strays.n; i++) {
		const struct stray_row *v = strays.v;

		log_warn("an outbox has events for a buffer that is not served here",
			 LOG_S("daemon", arena_cstr(arena, v[i].daemon)), LOG_S("buffer", arena_cstr(arena, v[i].buffer)));
	}
	return e;
}

SUSPENDS static enum err relay_once(struct worker *w, struct arena *arena, size_t *n_sent)
{
	enum err e = OK;

	for (size_t i = 0; i < w->n_sources; i++) {
		enum err one = w->sources[i].up ? relay_source(&w->sources[i], arena, n_sent) : OK;

		e = e == OK ? one : e;
	}
	return e;
}

void relay_run(struct worker *w)
{
	int64_t wait_ms = 0, strays_at_us = loop_mono_us(w->loop);

	while (worker_pause(w, wait_ms)) {
		struct arena *arena = arena_new();
		size_t n = 0;
		enum err e = relay_once(w, arena, &n);

		if (e == OK && loop_mono_us(w->loop) >= strays_at_us) {
			e = look_for_strays(w, arena);
			strays_at_us = loop_mono_us(w->loop) + STRAYS_US;
		}
		w->relayed += (int64_t)n;
		if (e != OK)
			log_warn("the outboxes could not be relayed", LOG_E(e));
		wait_ms = e != OK ? AWAY_MS : n > 0 ? 0 : QUIET_MS;
		arena_free(arena);
	}
}
