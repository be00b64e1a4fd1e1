/* SPDX-License-Identifier: Apache-2.0 */
/* A run's line in the log and its row in worker.runs. */
#include <stdio.h>

#include "base/log.h"
#include "base/timefmt.h"
#include "io/loop.h"
#include "worker.h"
#include "worker_sql.h"

#define PG_MS 3000

static void log_run(const struct worker *w, size_t target, const struct finished_run *run)
{
	const struct flush_counts *c = &run->counts;
	char pattern[96];

	snprintf(pattern, sizeof(pattern), "write_buffer:%s:*", w->targets[target].entity->name);
	log_at(c->dead > 0 || c->errors > 0 ? LOG_WARN : LOG_INFO, "batch sync", LOG_S("pattern", pattern),
	       LOG_I("success", c->applied + c->same + c->superseded), LOG_I("errors", c->errors), LOG_I("claimed", c->claimed),
	       LOG_I("applied", c->applied), LOG_I("same", c->same), LOG_I("superseded", c->superseded),
	       LOG_I("retried", c->retried), LOG_I("dead", c->dead), LOG_I("reaped", c->reaped),
	       LOG_I("duration_ms", (run->ended_us - run->started_us) / 1000), LOG_I("memory_freed_bytes", c->bytes_freed),
	       LOG_S("last_error", c->error), LOG_END);
}

void runs_record(struct worker *w, size_t target, const struct finished_run *run)
{
	const struct flush_counts *c = &run->counts;
	struct arena *arena = arena_new();
	struct pg_scope scope = {.arena = arena, .deadline = deadline_in(w->loop, PG_MS)};
	struct buf detail = buf_in(arena);
	struct list none;
	enum err e = OK;

	log_run(w, target, run);
	buf_printf(
		&detail, "{\"claimed\":%lld,\"same\":%lld,\"reaped\":%lld,\"newer\":%lld,\"transactions\":%lld,\"last_error\":",
		(long long)c->claimed, (long long)c->same, (long long)c->reaped, (long long)c->newer, (long long)c->statements);
	buf_put_json(&detail, str_of(c->error));
	buf_putc(&detail, '}');
	if (!board_breaker(&w->board).open)
		e = pg_query(daemon_pg(w->daemon), &scope, &SQL_WORKER_RUN_INSERT,
			     PG_PARAMS(PG_UUID(uuid_v7(clock_real_us())), PG_TEXT(str_of(w->identity)), PG_TIME(run->started_us),
				       PG_TIME(run->ended_us), PG_TEXT(str_of(w->targets[target].entity->name)),
				       PG_INT8(c->applied), PG_INT8(c->superseded), PG_INT8(c->retried), PG_INT8(c->dead),
				       PG_INT8(c->errors), PG_INT8(c->bytes_freed), PG_JSONB(buf_str(&detail))),
			     NULL, &none);
	if (e != OK)
		log_warn("a run was not recorded", LOG_E(e));
	arena_free(arena);
}
