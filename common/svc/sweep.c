/* SPDX-License-Identifier: Apache-2.0 */
/* Removes what nothing names any more: when, by whom, and whom it asks first. */
#include "svc/sweep.h"

#include "base/log.h"
#include "base/str.h"
#include "base/timefmt.h"
#include "base/uuid.h"
#include "io/crypto.h"
#include "io/fiber.h"
#include "svc/buffer.h"
#include "svc/daemon.h"
#include "svc/metrics.h"

#define DAY_S 86400
#define TOMBSTONE_S (30 * DAY_S)
#define FIRST_MAX_S 600 /* after a start; the key in Redis keeps many starts from many sweeps */
#define CALL_MS 3000
#define RUN_MS (INT64_C(1800) * 1000)

// clang-format off
#define NAMED_FIELDS(F, T) F(T, TEXT, key)
// clang-format on
SCHEMA_STRUCT(named_file, NAMED_FIELDS);
SCHEMA_TABLE(named_file, NAMED_FIELDS);

static bool sweeps_files(const struct daemon *d)
{
	return d->storage != NULL && d->pg != NULL && d->service->named_files != NULL;
}

/* ---- do records wait that may name a file? ---- */

struct asked_buffer {
	struct daemon *daemon;
	size_t index;
};

SUSPENDS static enum err io_eval(void *ctx, const struct redis_script *script, struct redis_args args, struct arena *arena,
				 struct redis_reply *ret)
{
	const struct asked_buffer *b = ctx;
	struct daemon *d = b->daemon;

	return redis_script_call(daemon_buffer_at(d, b->index), script, args, arena, deadline_in(d->loop, CALL_MS), ret);
}

static bool has_waited(const struct buffer_status *status, int64_t before_ms)
{
	for (size_t i = 0; i < ARRAY_LEN(status->first_ms); i++)
		if (status->first_ms[i] != 0 && status->first_ms[i] < before_ms)
			return true;
	return status->dead != 0;
}

/* ERR_CONFLICT: records wait. */
SUSPENDS static enum err nothing_waits_in(struct asked_buffer *b, struct arena *arena)
{
	const struct buffer_io io = {.ctx = b, .eval = io_eval};
	struct daemon *d = b->daemon;
	int64_t before_ms = loop_real_us(d->loop) / US_PER_MS - INT64_C(1000) * DAY_S / 2;
	struct buffer_status status;
	enum err e = OK;

	for (const struct entity *const *entity = d->service->entities; entity != NULL && *entity != NULL && e == OK; entity++) {
		if ((*entity)->write != BUFFERED)
			continue;
		e = buffer_status(&io, *entity, arena, &status);
		if (e == OK && has_waited(&status, before_ms))
			e = ERR_CONFLICT;
	}
	return e;
}

/* In any buffer: while one is away, nobody knows what waits there. */
SUSPENDS static enum err nothing_waits(struct daemon *d, struct arena *arena)
{
	enum err e = OK;

	for (size_t i = 0; (d->service->flags & SERVICE_NO_BUFFER) == 0 && i < daemon_buffers(d) && e == OK; i++)
		e = nothing_waits_in(&(struct asked_buffer){.daemon = d, .index = i}, arena);
	return e;
}

/* ---- files ---- */

struct asked {
	const struct str *keys;
	bool *named;
	size_t n;
};

static void mark(const struct asked *asked, struct str key)
{
	for (size_t i = 0; i < asked->n; i++)
		asked->named[i] = asked->named[i] || str_eq(asked->keys[i], key);
}

/* Keys of one school, whose rows only its own scope shows. */
SUSPENDS static enum err ask_school(struct daemon *d, const struct asked *asked, struct deadline deadline)
{
	struct arena *arena = arena_new();
	struct pg_scope scope = {.arena = arena, .deadline = deadline};
	struct str *keys = arena_dup(arena, asked->keys, asked->n * sizeof(*keys));
	struct named_file *rows;
	struct list list;
	enum err e = ERR_BUG;

	if (uuid_parse((struct str){keys[0].p, UUID_TEXT}, &scope.school))
		e = pg_query(d->pg, &scope, d->service->named_files, PG_PARAMS(PG_TEXTS(((struct list){keys, asked->n}))),
			     &named_file_schema, &list);
	if (e == OK) {
		memset(asked->named, 0, asked->n * sizeof(bool));
		rows = list.v;
		for (size_t i = 0; i < list.n; i++)
			mark(asked, rows[i].key);
	}
	arena_free(arena);
	return e;
}

/* Files of a school come together. */
SUSPENDS static enum err ask_rows(void *ctx, const struct str *keys, size_t n, bool *ret_named, struct deadline d)
{
	enum err e = OK;

	for (size_t from = 0, to; from < n && e == OK; from = to) {
		for (to = from + 1; to < n && memcmp(keys[to].p, keys[from].p, UUID_TEXT) == 0;)
			to++;
		e = ask_school(ctx, &(struct asked){keys + from, ret_named + from, to - from}, d);
	}
	return e;
}

SUSPENDS static enum err sweep_files(struct daemon *d, struct arena *arena, struct deadline deadline)
{
	size_t removed = 0;
	enum err e = nothing_waits(d, arena);

	if (e == ERR_CONFLICT) {
		d->sweep.skipped++;
		log_warn("files are not swept, for records wait in the buffer or are dead letters");
		return OK;
	}
	if (e == OK)
		e = storage_sweep(d->storage, DAY_S, ask_rows, d, deadline, &removed);
	d->sweep.files += (int64_t)removed;
	return e;
}

/* ---- one turn ---- */

SUSPENDS static enum err sweep_all(struct daemon *d, struct arena *arena)
{
	struct deadline deadline = deadline_in(d->loop, RUN_MS);
	int64_t files = d->sweep.files, documents = 0;
	enum err e = sweeps_files(d) ? sweep_files(d, arena, deadline) : OK;

	if (e == OK && d->documents.store != NULL)
		e = docstore_sweep(d->documents.store, TOMBSTONE_S, deadline, &documents);
	d->sweep.documents += documents;
	if (e == OK) {
		d->sweep.runs++;
		log_info("swept", LOG_I("files", d->sweep.files - files), LOG_I("documents", documents));
	}
	return e;
}

/* Another replica's sweep is this one's too, until the key ends. */
SUSPENDS static enum err claim(struct daemon *d, struct arena *arena, struct str key, bool *ret_mine)
{
	int64_t life_s = d->settings.sweep_interval_s * 9 / 10;
	struct redis_reply reply;
	enum err e;

	*ret_mine = true;
	if (daemon_buffer(d) == NULL)
		return OK; /* to sweep twice is only work */
	e = redis_call(daemon_buffer(d), arena, deadline_in(d->loop, CALL_MS),
		       REDIS_ARGS(STR("SET"), key, STR("1"), STR("NX"), STR("EX"),
				  str_of(arena_printf(arena, "%lld", (long long)(life_s < 1 ? 1 : life_s)))),
		       &reply);
	if (e == OK && reply.type == REDIS_ERROR)
		e = ERR_BUFFER;
	*ret_mine = e == OK && reply.type == REDIS_STATUS;
	return e;
}

SUSPENDS static void sweep_turn(struct daemon *d)
{
	struct arena *arena = arena_new();
	struct str key = str_of(arena_printf(arena, "sweep:%s", d->service->name));
	bool mine = false;
	enum err e = claim(d, arena, key, &mine);

	if (e == OK && mine) {
		e = sweep_all(d, arena);
		if (e != OK && daemon_buffer(d) != NULL)
			redis_post(daemon_buffer(d), REDIS_ARGS(STR("DEL"), key)); /* the next turn tries again, whoever has it */
	}
	if (e != OK && e != ERR_CANCELLED)
		log_warn("the sweep ended early", LOG_E(e));
	arena_free(arena);
}

/* Up to a tenth later, so that replicas that start together do not stay together. */
static int64_t jittered_ms(int64_t s)
{
	uint32_t r;

	random_bytes((uint8_t *)&r, sizeof(r));
	return s * 1000 + (int64_t)(r % (uint64_t)(s * 100 + 1));
}

SUSPENDS static void sweep_fiber(void *arg)
{
	struct daemon *d = arg;
	int64_t interval_s = d->settings.sweep_interval_s;
	int64_t wait_ms = jittered_ms(interval_s < FIRST_MAX_S ? interval_s : FIRST_MAX_S);

	d->sweep.fiber = fiber_self();
	while (!d->sweep.closing && sleep_ms(d->loop, wait_ms, (struct deadline){INT64_MAX}) == OK) {
		sweep_turn(d);
		wait_ms = jittered_ms(interval_s);
	}
	d->sweep.fiber = NULL;
}

enum err sweep_start(struct daemon *d)
{
	if (d->settings.sweep_interval_s == 0 || (!sweeps_files(d) && d->documents.store == NULL))
		return OK;
	return fiber_spawn(d->loop, "sweep", sweep_fiber, d);
}

void sweep_cancel(struct daemon *d)
{
	d->sweep.closing = true; /* for a fiber that has not run yet */
	if (d->sweep.fiber != NULL)
		fiber_cancel(d->sweep.fiber);
}

void sweep_metrics(const struct daemon *d, struct buf *out)
{
	if (!sweeps_files(d) && d->documents.store == NULL)
		return;
	metrics_head(out, "schools24_sweeps_total", "counter", "Sweeps that this replica has finished.");
	metrics_put_i64(out, "schools24_sweeps_total", d->sweep.runs, NULL);
	metrics_head(out, "schools24_sweep_removed_total", "counter", "What they removed.");
	metrics_put_i64(out, "schools24_sweep_removed_total", d->sweep.files, "what", "files", NULL);
	metrics_put_i64(out, "schools24_sweep_removed_total", d->sweep.documents, "what", "documents", NULL);
	metrics_head(out, "schools24_sweeps_skipped_total", "counter",
		     "Sweeps of files left out because records wait in the buffer.");
	metrics_put_i64(out, "schools24_sweeps_skipped_total", d->sweep.skipped, NULL);
}
