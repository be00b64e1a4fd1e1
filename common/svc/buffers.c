/* SPDX-License-Identifier: Apache-2.0 */
/* Which write buffer a request uses, what each guarantees, and how full it is. */
#include "svc/buffers.h"

#include <stdlib.h>

#include "base/log.h"
#include "base/str.h"
#include "base/timefmt.h"
#include "base/uuid.h"
#include "io/crypto.h"
#include "io/fiber.h"
#include "io/loop.h"
#include "svc/daemon.h"
#include "svc/metrics.h"

#define WATCH_MS 2000
#define LOOK_MS 1000
#define SAID_MS 15000 /* an older verdict is of a worker that is gone: then only our own count is left */
#define UNKNOWN_RETRY_S 30

struct buffer_link {
	struct daemon *daemon;
	size_t index;
	const char *name, *label; /* label: in logs and /ready */
	struct redis *redis;
	struct fiber *watch;
	bool looked;           /* it has answered the question for wb:durability at least once */
	bool durability_known; /* it holds a verdict of the worker */
	enum durability durability;
	int64_t backlog;    /* unsynced records of this daemon's entities, dead letters apart */
	enum pressure said; /* by the worker, of all entities and of memory … */
	int64_t said_ms;    /* … at this real time */
};

struct buffers {
	struct buffer_link v[BUFFERS_MAX];
	size_t n;
	bool closing;
};

static bool needs_buffer(const struct daemon *d)
{
	return (d->service->flags & SERVICE_NO_BUFFER) == 0;
}

/* ---- which one ---- */

size_t daemon_buffers(const struct daemon *d)
{
	return d->buffers != NULL ? d->buffers->n : 0;
}

struct redis *daemon_buffer_at(const struct daemon *d, size_t i)
{
	return i < daemon_buffers(d) ? d->buffers->v[i].redis : NULL;
}

const char *daemon_buffer_name(const struct daemon *d, size_t i)
{
	return i < daemon_buffers(d) ? d->buffers->v[i].name : BUFFER_DEFAULT;
}

struct redis *daemon_buffer(const struct daemon *d)
{
	return daemon_buffer_at(d, 0);
}

struct redis *req_buffer(const struct req *req)
{
	return daemon_buffer_at(req->daemon, req->who.buffer);
}

struct str req_buffer_name(const struct req *req)
{
	return req->who.buffer_name.n != 0 ? req->who.buffer_name : str_of(daemon_buffer_name(req->daemon, req->who.buffer));
}

enum err req_use_buffer(struct req *req, struct str name)
{
	size_t n = daemon_buffers(req->daemon);

	for (size_t i = 0; i < n; i++) {
		if (!str_is(name, daemon_buffer_name(req->daemon, i)))
			continue;
		req->who.buffer = i;
		req->who.buffer_name = name;
		return OK;
	}
	req->who.buffer_name = name;
	req->who.buffer = BUFFERS_MAX; /* nobody's */
	if (n == 0)                    /* it writes nothing there, and asks auth for sessions */
		return OK;
	log_error("a school's buffer is not in REDIS_BUFFER_URLS", LOG_STR("buffer", name), LOG_S("request_id", req->id));
	req->retry_after_s = UNKNOWN_RETRY_S;
	return req_fail(req, ERR_BUFFER, "The school cannot be reached at the moment");
}

/* Highest random weight: what a name weighs for a school depends on nothing but the two. */
const char *buffers_choose(const char *const *names, size_t n, struct uuid school)
{
	const char *best = names[0];
	uint64_t best_weight = 0;

	for (size_t i = 0; i < n; i++) {
		struct buf text = {0};
		uint64_t weight = 0;
		uint8_t hash[32];

		buf_printf(&text, "%s\n", names[i]);
		buf_put_uuid(&text, school);
		sha256(buf_str(&text), hash);
		buf_done(&text);
		for (size_t k = 0; k < 8; k++)
			weight = weight << 8 | hash[k];
		if (i == 0 || weight > best_weight || (weight == best_weight && strcmp(names[i], best) < 0)) {
			best = names[i];
			best_weight = weight;
		}
	}
	return best;
}

const char *buffers_for_school(const struct daemon *d, struct uuid school)
{
	const struct settings *s = &d->settings;
	const char *names[BUFFERS_MAX];

	for (size_t i = 0; i < s->n_buffers; i++)
		names[i] = s->buffers[i].name;
	return s->n_buffers != 0 ? buffers_choose(names, s->n_buffers, school) : NULL;
}

/* ---- what it guarantees ---- */

static bool is_durable(const struct buffer_link *b)
{
	enum durability wanted = DURABILITY_AOF;

	IGNORE(durability_parse(str_of(b->daemon->settings.durability), &wanted)); /* checked at start */
	return b->durability_known && b->durability >= wanted;
}

static const char *durability_name(const struct buffer_link *b)
{
	static const char *const names[] = {
		[DURABILITY_MEMORY] = "memory", [DURABILITY_AOF] = "aof", [DURABILITY_REPLICATED] = "replicated"};

	/* What nobody has verified is not promised. */
	return names[b->durability_known ? b->durability : DURABILITY_MEMORY];
}

const char *daemon_durability_at(const struct daemon *d, size_t i)
{
	return i < daemon_buffers(d) ? durability_name(&d->buffers->v[i]) : "memory";
}

/* The weakest: no answer may promise more. */
static const struct buffer_link *weakest(const struct daemon *d)
{
	const struct buffer_link *found = NULL;

	for (size_t i = 0; i < daemon_buffers(d); i++) {
		const struct buffer_link *b = &d->buffers->v[i];

		if (found == NULL || (b->looked && !found->looked) ||
		    (b->looked == found->looked && (!b->durability_known || b->durability < found->durability)))
			found = b;
	}
	return found;
}

const char *daemon_durability(const struct daemon *d)
{
	const struct buffer_link *b = weakest(d);

	return b != NULL ? durability_name(b) : "memory";
}

const char *buffers_durability(const struct daemon *d)
{
	const struct buffer_link *b = weakest(d);

	return b != NULL && b->durability_known ? durability_name(b) : "unknown";
}

bool buffers_any_up(const struct daemon *d)
{
	for (size_t i = 0; i < daemon_buffers(d); i++)
		if (redis_is_up(d->buffers->v[i].redis))
			return true;
	return false;
}

/* An acknowledgement would promise more than the buffer keeps. With a buffer away nothing is acknowledged from it, and one that is just back, and
 * not looked at yet, must not take away the schools of another. */
const char *buffers_not_able(const struct daemon *d)
{
	bool waits = false, some = false;

	if (!needs_buffer(d))
		return NULL;
	for (size_t i = 0; i < daemon_buffers(d); i++) {
		const struct buffer_link *b = &d->buffers->v[i];

		some |= is_durable(b);
		if (!redis_is_up(b->redis) || is_durable(b))
			continue;
		if (b->looked)
			return b->durability_known ? "the buffer is less durable than configured"
						   : "nobody has verified the buffer's durability";
		waits = true;
	}
	return waits && !some ? "nobody has verified the buffer's durability" : NULL;
}

/* ---- how full it is ---- */

enum pressure pressure_said(struct str text, int64_t now_ms)
{
	static const char *const names[] = {[PRESSURE_NONE] = "none", [PRESSURE_HIGH] = "high", [PRESSURE_FULL] = "full"};
	struct str rest = text, level = str_split(&rest, ' ');
	int64_t at_ms;

	if (!str_to_i64(rest, &at_ms) || at_ms < now_ms - SAID_MS || at_ms > now_ms + SAID_MS)
		return PRESSURE_NONE;
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (str_is(level, names[i]))
			return (enum pressure)i;
	return PRESSURE_NONE;
}

static enum pressure pressure_of(const struct buffer_link *b)
{
	const struct settings *s = &b->daemon->settings;
	int64_t now_ms = loop_real_us(b->daemon->loop) / US_PER_MS;
	enum pressure own = b->backlog >= s->limit ? PRESSURE_FULL : b->backlog >= s->high_mark ? PRESSURE_HIGH : PRESSURE_NONE;

	return now_ms - b->said_ms <= SAID_MS && b->said > own ? b->said : own;
}

enum pressure buffers_pressure(const struct daemon *d, size_t i)
{
	return i < daemon_buffers(d) ? pressure_of(&d->buffers->v[i]) : PRESSURE_NONE;
}

enum pressure req_pressure(const struct req *req)
{
	return buffers_pressure(req->daemon, req->who.buffer);
}

/* ---- watching ---- */

/* "aof 1763719200000" and "none 1763719200000": the worker's verdicts and their times. */
SUSPENDS static enum err look_at_verdicts(struct buffer_link *b, struct arena *arena)
{
	bool was = is_durable(b);
	struct redis_reply reply;
	struct str text[2], rest;
	enum err e = redis_call(b->redis, arena, deadline_in(b->daemon->loop, LOOK_MS),
				REDIS_ARGS(STR("MGET"), STR("wb:durability"), STR("wb:pressure")), &reply);

	/* An unreachable buffer has not become weaker: what was seen last stands. */
	if (e != OK)
		return e;
	for (size_t i = 0; i < 2; i++)
		text[i] = reply.type == REDIS_ARRAY && reply.n == 2 && reply.v[i].type == REDIS_STRING ? reply.v[i].s : STR("");
	rest = text[0];
	b->durability_known = durability_parse(str_split(&rest, ' '), &b->durability);
	if (was != is_durable(b) || !b->looked)
		log_at(is_durable(b) ? LOG_INFO : LOG_WARN, "the buffer's durability", LOG_S("buffer", b->name),
		       LOG_S("is", b->durability_known ? durability_name(b) : "unknown"),
		       LOG_S("wanted", b->daemon->settings.durability), LOG_END);
	b->looked = true;
	b->said_ms = loop_real_us(b->daemon->loop) / US_PER_MS;
	b->said = pressure_said(text[1], b->said_ms);
	rest = text[1];
	str_split(&rest, ' ');
	if (b->said != PRESSURE_NONE)
		IGNORE(!str_to_i64(rest, &b->said_ms)); /* pressure_said has read it */
	return OK;
}

static void ask_sizes(struct buffer_link *b, struct arena *arena, struct str entity, struct redis_op **ops, size_t *n)
{
	static const char *const sets[] = {"pending", "retry", "lease"};

	for (size_t i = 0; i < ARRAY_LEN(sets); i++)
		ops[(*n)++] = redis_start(
			b->redis, REDIS_ARGS(STR("ZCARD"), str_of(arena_printf(arena, "wb:%s:%.*s", sets[i], STR_FMT(entity)))));
}

/* The worker counts all entities, but may be dead exactly when the backlog grows: so each daemon counts its own, too. */
SUSPENDS static void count_backlog(struct buffer_link *b, struct arena *arena)
{
	const struct service *service = b->daemon->service;
	const struct entity *const *entities = service->entities;
	struct redis_op **ops;
	size_t n = 0, n_entities = 0;
	int64_t sum = 0;
	struct str audit = str_of(arena_printf(arena, "%s_audit", service->name));
	bool whole = true, listed = false;

	while (entities != NULL && entities[n_entities] != NULL)
		n_entities++;
	ops = arena_array(arena, (n_entities + 1) * 3, sizeof(struct redis_op *));
	for (size_t i = 0; i < n_entities; i++) {
		listed |= str_is(audit, entities[i]->name);
		if (entities[i]->write != THROUGH)
			ask_sizes(b, arena, str_of(entities[i]->name), ops, &n);
	}
	/* Audit records are every service's; some have their table's entity in the list. */
	if (!listed)
		ask_sizes(b, arena, audit, ops, &n);
	for (size_t i = 0; i < n; i++) {
		struct redis_reply reply;
		enum err e = redis_finish(ops[i], arena, deadline_in(b->daemon->loop, LOOK_MS), &reply);

		whole &= e == OK && reply.type == REDIS_INTEGER;
		sum += e == OK && reply.type == REDIS_INTEGER ? reply.i : 0;
	}
	if (whole)
		b->backlog = sum;
}

SUSPENDS static void look(struct buffer_link *b)
{
	struct arena *arena = arena_new();
	enum pressure was = pressure_of(b);

	if (look_at_verdicts(b, arena) == OK)
		count_backlog(b, arena);
	if (pressure_of(b) != was)
		log_at(pressure_of(b) > was ? LOG_WARN : LOG_INFO, "the buffer's pressure", LOG_S("buffer", b->name),
		       LOG_I("is", pressure_of(b)), LOG_I("was", was), LOG_I("own_records", b->backlog), LOG_END);
	arena_free(arena);
}

SUSPENDS static void watch_fiber(void *arg)
{
	struct buffer_link *b = arg;
	struct daemon *d = b->daemon;

	b->watch = fiber_self();
	while (!d->buffers->closing) {
		look(b);
		if (sleep_ms(d->loop, WATCH_MS, (struct deadline){INT64_MAX}) != OK)
			break;
	}
	b->watch = NULL;
}

/* ---- life ---- */

/* One fsync covers what arrived in one turn of Redis, and a connection brings at most 16 KiB a turn: where the disk is waited for, load opens more. */
#define DISK_CONNECTIONS 64

struct redis_conf buffers_conf(const struct daemon *d, size_t i)
{
	enum durability durability = DURABILITY_AOF;

	IGNORE(durability_parse(str_of(d->settings.durability), &durability)); /* checked at start */
	return (struct redis_conf){.name = d->buffers->v[i].label,
				   .url = d->settings.buffers[i].url,
				   .connections = d->settings.buffer_connections,
				   .most = durability == DURABILITY_MEMORY ? 0 : DISK_CONNECTIONS,
				   .fault = ERR_BUFFER,
				   .connect_ms = 1000,
				   .grace_ms = 2000};
}

enum err buffers_open(struct daemon *d)
{
	const struct settings *s = &d->settings;
	struct buffers *all;

	if (s->n_buffers == 0)
		return OK;
	all = d->buffers = mem_zalloc(sizeof(*all));
	for (; all->n < s->n_buffers; all->n++) {
		struct buffer_link *b = &all->v[all->n];
		const char *name = s->buffers[all->n].name;
		struct redis_conf conf;
		enum err e;

		*b = (struct buffer_link){.daemon = d, .index = all->n, .name = name, .label = "buffer"};
		if (s->n_buffers > 1)
			b->label = arena_printf(d->arena, "buffer %s", name);
		conf = buffers_conf(d, all->n);
		e = redis_open(d->loop, &conf, &b->redis);
		if (e != OK)
			return e;
	}
	return OK;
}

enum err buffers_watch(struct daemon *d)
{
	enum err e = OK;

	if (!needs_buffer(d))
		return OK;
	for (size_t i = 0; i < daemon_buffers(d) && e == OK; i++)
		e = fiber_spawn(d->loop, "watch", watch_fiber, &d->buffers->v[i]);
	return e;
}

void buffers_cancel(struct daemon *d)
{
	if (d->buffers == NULL)
		return;
	d->buffers->closing = true; /* for a fiber that has not run yet */
	for (size_t i = 0; i < d->buffers->n; i++)
		if (d->buffers->v[i].watch != NULL)
			fiber_cancel(d->buffers->v[i].watch);
}

void buffers_close(struct daemon *d)
{
	if (d->buffers == NULL)
		return;
	for (size_t i = 0; i < d->buffers->n; i++)
		redis_close(d->buffers->v[i].redis);
	free(d->buffers);
	d->buffers = NULL;
}

/* ---- numbers ---- */

void buffers_metrics(const struct daemon *d, struct buf *out)
{
	size_t n = needs_buffer(d) ? daemon_buffers(d) : 0;

	if (n == 0)
		return;
	metrics_head(out, "schools24_buffer_durability_ok", "gauge", "1 while the write buffer guarantees what is configured.");
	for (size_t i = 0; i < n; i++)
		metrics_put_i64(out, "schools24_buffer_durability_ok", is_durable(&d->buffers->v[i]), "buffer",
				d->buffers->v[i].name, NULL);
	metrics_head(out, "schools24_buffer_pressure", "gauge",
		     "0 none, 1 high: writes wait for the database, 2 full: they are refused.");
	for (size_t i = 0; i < n; i++)
		metrics_put_i64(out, "schools24_buffer_pressure", buffers_pressure(d, i), "buffer", d->buffers->v[i].name, NULL);
	metrics_head(out, "schools24_buffer_own_records", "gauge", "Unsynced records of this service's entities.");
	for (size_t i = 0; i < n; i++)
		metrics_put_i64(out, "schools24_buffer_own_records", d->buffers->v[i].backlog, "buffer", d->buffers->v[i].name,
				NULL);
}
