/* SPDX-License-Identifier: Apache-2.0 */
/* Copies of dead letters in PostgreSQL, so that they survive Redis. The record itself stays in the buffer until it is replayed or discarded. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/failpoint.h"
#include "base/log.h"
#include "base/timefmt.h"
#include "io/fiber.h"
#include "io/loop.h"
#include "worker.h"
#include "worker_sql.h"

#define PERIOD_MS 60000
#define STEP_MS 500
#define PAGE 50
#define PG_MS 5000

static void put_hex(struct buf *out, struct str bytes)
{
	for (size_t i = 0; i < bytes.n; i++)
		buf_printf(out, "%02x", (unsigned)(uint8_t)bytes.p[i]);
}

/* {"row": the fields or null, "record": the whole record in hex}. Text with a null character is no JSON of PostgreSQL's: then without the row. */
static struct str payload(struct arena *arena, const struct entity *e, struct uuid id, const struct buffer_record *r, bool parsed,
			  struct str value, bool with_row)
{
	struct buf out = buf_in(arena);
	void *row = NULL;

	if (!parsed || !with_row || buffer_record_row(e, id, r, arena, &row) != OK)
		row = NULL;
	buf_puts(&out, STR("{\"row\":"));
	if (row != NULL)
		json_encode(e->schema, row, ROLE_SUPER_ADMIN, &out);
	else
		buf_puts(&out, STR("null"));
	buf_puts(&out, STR(",\"record\":\""));
	put_hex(&out, value);
	buf_puts(&out, STR("\"}"));
	return buf_str(&out);
}

SUSPENDS static enum err insert(struct queue *q, struct arena *arena, struct uuid id, struct str value,
				const struct redis_reply *meta, int64_t died_ms)
{
	struct worker *w = q->w;
	struct pg_scope scope = {.arena = arena, .deadline = deadline_in(w->loop, PG_MS)};
	struct buffer_record r = {0};
	bool parsed = buffer_record_parse(value, &r) == OK;
	int64_t attempts = 0;
	struct list none;
	enum err e = ERR_BUG;

	if (meta->n == 2 && meta->v[1].type == REDIS_STRING)
		IGNORE(!str_to_i64(meta->v[1].s, &attempts)); /* then it has none */
	for (int with_row = 1; with_row >= 0; with_row--) {
		e = pg_query(daemon_pg(w->daemon), &scope, &SQL_WORKER_DEAD_LETTER_PUT,
			     PG_PARAMS(PG_TEXT(str_of(worker_service_name(w, q->target))),
				       PG_TEXT(str_of(q->target->entity->name)), PG_UUID(id), PG_UUID(r.school),
				       PG_INT8(r.version),
				       PG_JSONB(payload(arena, q->target->entity, id, &r, parsed, value, with_row != 0)),
				       PG_TEXT(meta->n == 2 && meta->v[0].type == REDIS_STRING ? meta->v[0].s : STR("")),
				       PG_INT8(attempts), PG_TIME(r.first_ms * US_PER_MS), PG_TIME(died_ms * US_PER_MS)),
			     NULL, &none);
		if (e != ERR_INVALID)
			break;
	}
	return e;
}

SUSPENDS static enum err copy_one(struct queue *q, struct arena *arena, struct str id_text, int64_t died_ms)
{
	struct buffer_io io = source_io(q->source);
	struct redis_reply value, meta;
	struct uuid id;
	enum err e;

	if (!uuid_parse(id_text, &id))
		return OK;
	e = io.call(io.ctx, REDIS_ARGS(STR("GET"), buffer_key(arena, q->target->entity, id)), arena, &value);
	if (e == OK)
		e = io.call(io.ctx,
			    REDIS_ARGS(STR("HMGET"), buffer_meta_key(arena, q->target->entity, id), STR("err"), STR("attempts")),
			    arena, &meta);
	if (e != OK || value.type != REDIS_STRING) /* it has been written anew meanwhile, or discarded */
		return e;
	FAILPOINT("dlq.before_copy");
	e = insert(q, arena, id, value.s, &meta, died_ms);
	q->w->copied_dead += e == OK;
	return e;
}

/* Those that died since the last copy; of the same moment once more, which changes nothing. */
SUSPENDS static enum err copy_queue(struct queue *q)
{
	struct arena *arena = arena_new();
	struct buffer_io io = source_io(q->source);
	double last = q->copied_to;
	const char *set = arena_printf(arena, "wb:dlq:%s", q->target->entity->name), *from = arena_printf(arena, "%.0f", last);
	enum err e = OK;

	for (size_t offset = 0; e == OK; offset += PAGE) {
		const char *skip = arena_printf(arena, "%zu", offset), *page = arena_printf(arena, "%d", PAGE);
		struct redis_reply reply;

		e = io.call(io.ctx,
			    REDIS_ARGS(STR("ZRANGEBYSCORE"), str_of(set), str_of(from), STR("+inf"), STR("WITHSCORES"),
				       STR("LIMIT"), str_of(skip), str_of(page)),
			    arena, &reply);
		if (e != OK || reply.n < 2)
			break;
		for (size_t i = 0; e == OK && i + 1 < reply.n; i += 2) {
			last = strtod(arena_cstr(arena, reply.v[i + 1].s), NULL);
			e = copy_one(q, arena, reply.v[i].s, (int64_t)last);
		}
	}
	if (e == OK)
		q->copied_to = last;
	arena_free(arena);
	return e;
}

/* A buffer that is away keeps its dead letters until it is back. */
void copier_run(struct worker *w)
{
	int64_t since_ms = 0;

	while (worker_pause(w, STEP_MS)) {
		since_ms += STEP_MS;
		if ((since_ms < PERIOD_MS && !w->copy_now) || board_is_open(&w->board, DATABASE_ROWS))
			continue;
		since_ms = 0;
		w->copy_now = false;
		for (size_t i = 0; i < w->n_queues; i++) {
			struct queue *q = &w->queues[i];
			enum err e = q->source->up && q->status.dead > 0 ? copy_queue(q) : OK;

			if (e != OK)
				log_warn("dead letters could not be copied", LOG_S("entity", q->target->entity->name), LOG_E(e));
		}
	}
}
