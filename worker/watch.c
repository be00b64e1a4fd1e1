/* SPDX-License-Identifier: Apache-2.0 */
/* What the coordinator looks at now and then: the buffer's durability and memory, and how far the two clocks are apart. */
#include <inttypes.h>
#include <math.h>

#include "base/log.h"
#include "base/timefmt.h"
#include "io/loop.h"
#include "svc/daemon.h"
#include "worker.h"
#include "worker_sql.h"

#define PG_MS 4000
#define CLOCKS_APART_S 0.25

#define CLOCK_FIELDS(F, T) F(T, INT, now_us)
SCHEMA_STRUCT(clock_row, CLOCK_FIELDS);
SCHEMA_TABLE(clock_row, CLOCK_FIELDS);

/* "name:value" of an INFO text; empty when there is none. */
static struct str info_value(struct str text, const char *name)
{
	while (text.p != NULL) {
		struct str line = str_trim(str_split(&text, '\n')), key = str_split(&line, ':');

		if (str_is(key, name))
			return line;
	}
	return STR("");
}

SUSPENDS static enum err info(struct worker *w, struct arena *arena, struct str section, struct str *ret)
{
	struct buffer_io io = worker_buffer_io(w);
	struct redis_reply reply;
	enum err e = io.call(io.ctx, REDIS_ARGS(STR("INFO"), section), arena, &reply);

	if (e == OK && reply.type != REDIS_STRING)
		return ERR_BUFFER;
	if (e == OK)
		*ret = reply.s;
	return e;
}

SUSPENDS static enum err config_value(struct worker *w, struct arena *arena, struct str name, struct str *ret)
{
	struct buffer_io io = worker_buffer_io(w);
	struct redis_reply reply;
	enum err e = io.call(io.ctx, REDIS_ARGS(STR("CONFIG"), STR("GET"), name), arena, &reply);

	if (e == OK && (reply.type != REDIS_ARRAY || reply.n != 2))
		return ERR_BUFFER;
	if (e == OK)
		*ret = reply.v[1].s;
	return e;
}

struct facts {
	struct str append_only, fsync, policy, persistence, replication;
};

static const char *verdict(const struct facts *f)
{
	int64_t replicas = 0;

	/* What may be evicted, or is not written at all, is not kept: no mode has a name for that, so no daemon is ready. */
	if (!str_is(f->policy, "noeviction") || !str_is(f->append_only, "yes") ||
	    !str_is(info_value(f->persistence, "aof_last_write_status"), "ok"))
		return "none";
	if (!str_is(f->fsync, "always"))
		return str_is(f->fsync, "everysec") ? "memory" : "none";
	IGNORE(!str_to_i64(info_value(f->replication, "connected_slaves"), &replicas)); /* then there are none */
	return replicas > 0 ? "replicated" : "aof";
}

void watch_durability(struct worker *w)
{
	struct buffer_io io = worker_buffer_io(w);
	struct arena *arena = arena_new();
	struct redis_reply reply;
	struct facts f;
	enum err e = config_value(w, arena, STR("appendonly"), &f.append_only);

	if (e == OK)
		e = config_value(w, arena, STR("appendfsync"), &f.fsync);
	if (e == OK)
		e = config_value(w, arena, STR("maxmemory-policy"), &f.policy);
	if (e == OK)
		e = info(w, arena, STR("persistence"), &f.persistence);
	if (e == OK)
		e = info(w, arena, STR("replication"), &f.replication);
	if (e == OK) {
		const char *mode = verdict(&f);
		const char *text = arena_printf(arena, "%s %" PRId64, mode, loop_real_us(w->loop) / 1000);

		e = io.call(io.ctx, REDIS_ARGS(STR("SET"), STR("wb:durability"), str_of(text)), arena, &reply);
		if (e == OK && reply.type == REDIS_ERROR)
			e = ERR_BUFFER;
		log_debug("the buffer's durability was verified", LOG_S("mode", mode));
	}
	if (e != OK) {
		log_warn("the buffer's durability cannot be verified", LOG_E(e));
		w->durability_at_us = 0; /* again at the next look */
	}
	arena_free(arena);
}

void watch_pressure(struct worker *w)
{
	struct arena *arena = arena_new();
	int64_t used = 0, most = 0, pending = 0;
	struct str text;
	bool was = w->pressed;

	if (info(w, arena, STR("memory"), &text) == OK && str_to_i64(info_value(text, "used_memory"), &used) &&
	    str_to_i64(info_value(text, "maxmemory"), &most)) {
		for (size_t i = 0; i < w->n; i++)
			pending += w->seen[i].status.pending;
		w->pressed = pending > daemon_settings(w->daemon)->high_mark || (most > 0 && used > most / 10 * 6);
	}
	if (w->pressed != was)
		log_warn(w->pressed ? "the buffer fills up: everything is flushed at once" : "the buffer has room again",
			 LOG_I("pending", pending), LOG_I("used_bytes", used), LOG_I("max_bytes", most));
	arena_free(arena);
}

enum err watch_clock(struct worker *w)
{
	struct arena *arena = arena_new();
	struct pg_scope scope = {.arena = arena, .deadline = deadline_in(w->loop, PG_MS)};
	struct clock_row row;
	int64_t before, after;
	double was = w->clock_difference_s;
	enum err known = worker_redis_now(w, arena, &before);
	enum err e = pg_query_one(daemon_pg(w->daemon), &scope, &SQL_WORKER_CLOCK, PG_NO_PARAMS, &clock_row_schema, &row);

	if (known == OK && e == OK && worker_redis_now(w, arena, &after) == OK)
		w->clock_difference_s = ((double)before + (double)after) / 2e6 - (double)row.now_us / 1e6;
	if (fabs(w->clock_difference_s) > CLOCKS_APART_S && fabs(was) <= CLOCKS_APART_S)
		log_warn("the clocks of buffer and database differ", LOG_D("seconds", w->clock_difference_s));
	arena_free(arena);
	return e;
}
