/* SPDX-License-Identifier: Apache-2.0 */
/* What nobody needs any more goes: the functions of db/migrations/0008_worker_duties.sql delete it, a batch a statement; here is only when. */
#include "base/log.h"
#include "base/timefmt.h"
#include "duties.h"
#include "io/loop.h"
#include "worker_sql.h"

#define FIRST_MS 2000
#define PERIOD_MS 600000
#define AGAIN_MS 60000
#define SPACING_MS 50 /* between batches: this is nobody's hurry */
#define PG_MS 5000
#define BATCH 1000

#define GONE_FIELDS(F, T) F(T, TEXT, of_table) F(T, INT, gone)
SCHEMA_STRUCT(gone, GONE_FIELDS);
SCHEMA_TABLE(gone, GONE_FIELDS);

static int64_t *counter_of(struct duties *d, struct str table)
{
	return str_is(table, "outbox")        ? &d->removed.outbox
	       : str_is(table, "idempotency") ? &d->removed.idempotency
					      : &d->removed.dead_letter;
}

/* A batch of each table; *ret_more: one of them was full. */
SUSPENDS static enum err some_of_schema(struct worker *w, struct arena *arena, struct str daemon, bool *ret_more)
{
	struct pg_scope scope = {.arena = arena, .deadline = deadline_in(w->loop, PG_MS)};
	struct list rows;
	enum err e = pg_query(daemon_pg(w->daemon), &scope, &SQL_WORKER_RETAIN,
			      PG_PARAMS(PG_TEXT(daemon), PG_INT8(w->conf->keep_outbox_s), PG_INT8(w->conf->keep_idempotency_s),
					PG_INT8(w->conf->keep_dead_letters_s), PG_INT8(BATCH)),
			      &gone_schema, &rows);
	const struct gone *v = rows.v;

	*ret_more = false;
	for (size_t i = 0; e == OK && i < rows.n; i++) {
		*counter_of(w->duties, v[i].of_table) += v[i].gone;
		*ret_more |= v[i].gone >= BATCH;
	}
	return e;
}

SUSPENDS static enum err some_runs(struct worker *w, struct arena *arena, bool *ret_more)
{
	struct pg_scope scope = {.arena = arena, .deadline = deadline_in(w->loop, PG_MS)};
	struct gone row;
	enum err e = pg_query_one(daemon_pg(w->daemon), &scope, &SQL_WORKER_RETAIN_RUNS,
				  PG_PARAMS(PG_INT8(w->conf->keep_runs_s), PG_INT8(BATCH)), &gone_schema, &row);

	if (e == OK)
		w->duties->removed.runs += row.gone;
	*ret_more = e == OK && row.gone >= BATCH;
	return e;
}

SUSPENDS static enum err clean(struct worker *w, struct arena *arena)
{
	struct list schemas;
	enum err e = duties_schemas(w, arena, &schemas);
	const struct schema_name *v = schemas.v;
	bool more = true;

	for (size_t i = 0; e == OK && i < schemas.n; i++)
		for (more = true; e == OK && more;) {
			e = some_of_schema(w, arena, v[i].daemon, &more);
			if (e == OK && !worker_pause(w, SPACING_MS))
				e = ERR_CANCELLED;
		}
	for (more = true; e == OK && more;) {
		e = some_runs(w, arena, &more);
		if (e == OK && !worker_pause(w, SPACING_MS))
			e = ERR_CANCELLED;
	}
	return e;
}

void retain_run(struct worker *w)
{
	int64_t wait_ms = FIRST_MS;

	while (worker_pause(w, wait_ms)) {
		struct arena *arena = arena_new();
		enum err e = board_is_open(&w->board, DATABASE_ROWS) ? ERR_DB : clean(w, arena);

		wait_ms = e == OK ? PERIOD_MS : AGAIN_MS;
		if (e != OK && e != ERR_CANCELLED)
			log_warn("old rows could not be removed", LOG_E(e));
		arena_free(arena);
	}
}
