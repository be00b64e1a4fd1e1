/* SPDX-License-Identifier: Apache-2.0 */
/* Copies of dead letters in PostgreSQL, so that they survive Redis. The record itself stays in the buffer until it is replayed or discarded. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

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

SUSPENDS static enum err insert(struct worker *w, struct arena *arena, const struct flush_target *t, struct uuid id,
				struct str value, const struct redis_reply *meta, int64_t died_ms)
{
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
			     PG_PARAMS(PG_TEXT(str_of(w->services[t->index]->name)), PG_TEXT(str_of(t->entity->name)),
				       PG_UUID(id), PG_UUID(r.school), PG_INT8(r.version),
				       PG_JSONB(payload(arena, t->entity, id, &r, parsed, value, with_row != 0)),
				       PG_TEXT(meta->n == 2 && meta->v[0].type == REDIS_STRING ? meta->v[0].s : STR("")),
				       PG_INT8(attempts), PG_TIME(r.first_ms * US_PER_MS), PG_TIME(died_ms * US_PER_MS)),
			     NULL, &none);
		if (e != ERR_INVALID)
			break;
	}
	return e;
}

SUSPENDS static enum err copy_one(struct worker *w, struct arena *arena, const struct flush_target *t, struct str id_text,
				  int64_t died_ms)
{
	struct buffer_io io = worker_buffer_io(w);
	struct redis_reply value, meta;
	struct uuid id;
	enum err e;

	if (!uuid_parse(id_text, &id))
		return OK;
	e = io.call(io.ctx, REDIS_ARGS(STR("GET"), buffer_key(arena, t->entity, id)), arena, &value);
	if (e == OK)
		e = io.call(io.ctx, REDIS_ARGS(STR("HMGET"), buffer_meta_key(arena, t->entity, id), STR("err"), STR("attempts")),
			    arena, &meta);
	if (e != OK || value.type != REDIS_STRING) /* it has been written anew meanwhile, or discarded */
		return e;
	e = insert(w, arena, t, id, value.s, &meta, died_ms);
	w->copied_dead += e == OK;
	return e;
}

/* Those that died since the last copy; of the same moment once more, which changes nothing. */
SUSPENDS static enum err copy_entity(struct worker *w, const struct flush_target *t)
{
	struct arena *arena = arena_new();
	struct buffer_io io = worker_buffer_io(w);
	double last = w->copied_to[t->index];
	const char *set = arena_printf(arena, "wb:dlq:%s", t->entity->name), *from = arena_printf(arena, "%.0f", last);
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
			e = copy_one(w, arena, t, reply.v[i].s, (int64_t)last);
		}
	}
	if (e == OK)
		w->copied_to[t->index] = last;
	arena_free(arena);
	return e;
}

void copier_fiber(void *arg)
{
	struct worker *w = arg;
	int64_t since_ms = 0;

	w->copier = fiber_self();
	while (worker_pause(w, STEP_MS)) {
		enum err e = OK;

		since_ms += STEP_MS;
		if (!w->buffer_up || (since_ms < PERIOD_MS && !w->copy_now))
			continue;
		since_ms = 0;
		w->copy_now = false;
		for (size_t i = 0; e == OK && i < w->n; i++)
			if (w->seen[i].status.dead > 0)
				e = copy_entity(w, &w->targets[i]);
		if (e != OK)
			log_warn("dead letters could not be copied", LOG_E(e));
	}
	w->copier = NULL;
}
