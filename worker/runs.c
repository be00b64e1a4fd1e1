/* SPDX-License-Identifier: Apache-2.0 */
/* A run's line in the log and its row in worker.runs. */
#include <inttypes.h>
#include <stdio.h>

#include "base/log.h"
#include "base/timefmt.h"
#include "io/loop.h"
#include "worker.h"
#include "worker_sql.h"

#define PG_MS 3000

static void log_run(const struct queue *q, const struct finished_run *run)
{
	const struct flush_counts *c = &run->counts;
	char pattern[96];

	snprintf(pattern, sizeof(pattern), "write_buffer:%s:*", q->target->entity->name);
	log_at(c->dead > 0 || c->errors > 0 ? LOG_WARN : LOG_INFO, "batch sync", LOG_S("pattern", pattern),
	       LOG_S("buffer", q->source->name), LOG_I("success", c->applied + c->same + c->superseded),
	       LOG_I("errors", c->errors), LOG_I("claimed", c->claimed), LOG_I("applied", c->applied), LOG_I("same", c->same),
	       LOG_I("superseded", c->superseded), LOG_I("retried", c->retried), LOG_I("dead", c->dead),
	       LOG_I("reaped", c->reaped), LOG_I("duration_ms", (run->ended_us - run->started_us) / 1000),
	       LOG_I("memory_freed_bytes", c->bytes_freed), LOG_S("last_error", c->error), LOG_END);
}

void runs_record(struct queue *q, const struct finished_run *run)
{
	const struct flush_counts *c = &run->counts;
	struct worker *w = q->w;
	struct arena *arena = arena_new();
	struct pg_scope scope = {.arena = arena, .deadline = deadline_in(w->loop, PG_MS)};
	struct buf detail = buf_in(arena);
	struct list none;
	enum err e = OK;

	log_run(q, run);
	buf_puts(&detail, STR("{\"buffer\":"));
	buf_put_json(&detail, str_of(q->source->name));
	buf_printf(&detail, ",\"claimed\":%" PRId64 ",\"same\":%" PRId64 ",\"reaped\":%" PRId64 ",\"newer\":%" PRId64, c->claimed,
		   c->same, c->reaped, c->newer);
	buf_printf(&detail, ",\"transactions\":%" PRId64 ",\"last_error\":", c->statements);
	buf_put_json(&detail, str_of(c->error));
	buf_putc(&detail, '}');
	if (!board_is_open(&w->board, DATABASE_ROWS))
		e = pg_query(daemon_pg(w->daemon), &scope, &SQL_WORKER_RUN_INSERT,
			     PG_PARAMS(PG_UUID(uuid_v7(clock_real_us())), PG_TEXT(str_of(w->identity)), PG_TIME(run->started_us),
				       PG_TIME(run->ended_us), PG_TEXT(str_of(q->target->entity->name)), PG_INT8(c->applied),
				       PG_INT8(c->superseded), PG_INT8(c->retried), PG_INT8(c->dead), PG_INT8(c->errors),
				       PG_INT8(c->bytes_freed), PG_JSONB(buf_str(&detail))),
			     NULL, &none);
	if (e != OK)
		log_warn("a run was not recorded", LOG_E(e));
	arena_free(arena);
}
