/* SPDX-License-Identifier: Apache-2.0 */
/* What the coordinator looks at now and then: the buffer's durability and memory, and how far the two clocks are apart. */
#include <inttypes.h>
#include <math.h>

#include "base/log.h"
#include "base/timefmt.h"
#include "io/loop.h"
#include "plan.h"
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

SUSPENDS static enum err info(struct source *s, struct arena *arena, struct str section, struct str *ret)
{
	struct buffer_io io = source_io(s);
	struct redis_reply reply;
	enum err e = io.call(io.ctx, REDIS_ARGS(STR("INFO"), section), arena, &reply);

	if (e == OK && reply.type != REDIS_STRING)
		return ERR_BUFFER;
	if (e == OK)
		*ret = reply.s;
	return e;
}

SUSPENDS static enum err config_value(struct source *s, struct arena *arena, struct str name, struct str *ret)
{
	struct buffer_io io = source_io(s);
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

/* "<word> <unix ms>", for the daemons. */
SUSPENDS static enum err tell(struct source *s, struct arena *arena, struct str key, const char *word)
{
	struct buffer_io io = source_io(s);
	const char *text = arena_printf(arena, "%s %" PRId64, word, loop_real_us(s->w->loop) / 1000);
	struct redis_reply reply;
	enum err e = io.call(io.ctx, REDIS_ARGS(STR("SET"), key, str_of(text)), arena, &reply);

	return e == OK && reply.type == REDIS_ERROR ? ERR_BUFFER : e;
}

void watch_durability(struct source *s)
{
	struct arena *arena = arena_new();
	struct facts f;
	enum err e = config_value(s, arena, STR("appendonly"), &f.append_only);

	if (e == OK)
		e = config_value(s, arena, STR("appendfsync"), &f.fsync);
	if (e == OK)
		e = config_value(s, arena, STR("maxmemory-policy"), &f.policy);
	if (e == OK)
		e = info(s, arena, STR("persistence"), &f.persistence);
	if (e == OK)
		e = info(s, arena, STR("replication"), &f.replication);
	if (e == OK) {
		s->durability = verdict(&f);
		e = tell(s, arena, STR("wb:durability"), s->durability);
		log_debug("the buffer's durability was verified", LOG_S("buffer", s->name), LOG_S("mode", s->durability));
	}
	if (e != OK) {
		log_warn("the buffer's durability cannot be verified", LOG_S("buffer", s->name), LOG_E(e));
		s->durability_at_us = 0; /* again at the next look */
	}
	arena_free(arena);
}

void watch_pressure(struct source *s)
{
	static const char *const words[] = {[PRESSURE_NONE] = "none", [PRESSURE_HIGH] = "high", [PRESSURE_FULL] = "full"};
	const struct settings *settings = daemon_settings(s->w->daemon);
	struct fullness f = {.high_mark = settings->high_mark, .limit = settings->limit};
	struct arena *arena = arena_new();
	enum pressure was = s->pressure;
	struct str text;
	enum err e;

	for (size_t i = 0; i < s->w->n_targets; i++) {
		const struct buffer_status *status = &s->queues[i].status;

		f.backlog += status->pending + status->retry + status->leased;
	}
	e = info(s, arena, STR("memory"), &text);
	if (e == OK && (!str_to_i64(info_value(text, "used_memory"), &f.used_bytes) ||
			!str_to_i64(info_value(text, "maxmemory"), &f.most_bytes)))
		e = ERR_BUFFER;
	if (e == OK) {
		s->backlog = f.backlog;
		s->used_bytes = f.used_bytes;
		s->most_bytes = f.most_bytes;
		s->pressure = plan_pressure(was, &f);
		e = tell(s, arena, STR("wb:pressure"), words[s->pressure]);
	}
	if (s->pressure != was)
		log_warn(s->pressure != PRESSURE_NONE ? "the buffer fills up: everything is flushed at once"
						      : "the buffer has room again",
			 LOG_S("buffer", s->name), LOG_S("pressure", words[s->pressure]), LOG_I("backlog", f.backlog),
			 LOG_I("used_bytes", f.used_bytes), LOG_I("max_bytes", f.most_bytes));
	if (e != OK)
		log_debug("the buffer's pressure was not told", LOG_S("buffer", s->name),
			  LOG_E(e)); /* the next look tries again */
	arena_free(arena);
}

enum err watch_database(struct worker *w, int64_t *ret_us)
{
	struct arena *arena = arena_new();
	struct pg_scope scope = {.arena = arena, .deadline = deadline_in(w->loop, PG_MS)};
	struct clock_row row;
	enum err e = pg_query_one(daemon_pg(w->daemon), &scope, &SQL_WORKER_CLOCK, PG_NO_PARAMS, &clock_row_schema, &row);

	if (e == OK)
		*ret_us = row.now_us;
	arena_free(arena);
	return e;
}

void watch_clock(struct source *s)
{
	struct arena *arena = arena_new();
	int64_t before, database, after;
	double was = s->clock_difference_s;

	if (source_now(s, arena, &before) == OK && watch_database(s->w, &database) == OK && source_now(s, arena, &after) == OK)
		s->clock_difference_s = ((double)before + (double)after) / 2e6 - (double)database / 1e6;
	if (fabs(s->clock_difference_s) > CLOCKS_APART_S && fabs(was) <= CLOCKS_APART_S)
		log_warn("the clocks of buffer and database differ", LOG_S("buffer", s->name),
			 LOG_D("seconds", s->clock_difference_s));
	arena_free(arena);
}

double watch_clock_difference_s(const struct worker *w)
{
	double worst = 0;

	for (size_t i = 0; i < w->n_sources; i++)
		if (fabs(w->sources[i].clock_difference_s) > fabs(worst))
			worst = w->sources[i].clock_difference_s;
	return worst;
}
