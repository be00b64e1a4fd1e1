/* SPDX-License-Identifier: Apache-2.0 */
/* Groups of rows that are written through: who waits, who goes together, and what becomes of each. */
#include "svc/through.h"

#include <stdlib.h>
#include <string.h>

#include "base/failpoint.h"
#include "base/timefmt.h"
#include "io/fiber.h"
#include "svc/daemon.h"

#define GROUP_ROWS 256
#define GROUP_BYTES (1u << 20)
#define LANE_FLIGHTS 2  /* groups of one entity and school on their way */
#define QUEUE_ROWS 8192 /* of a daemon, waiting */
#define QUEUE_BYTES (64u << 20)
#define FLIGHTS_MAX 64
#define TRIES_AWAY 2
#define TRIES_CONTENTION 5
#define SETTLE_MS 10000
#define LANES 64 /* buckets */

SCHEMA_TABLE(through_done, THROUGH_DONE_FIELDS);

/* A row on its way: its texts are its own, because the request may leave. */
struct write {
	struct op op; /* first */
	struct write *next;
	struct lane *lane;
	struct uuid audit; /* of the record, to find out later what was done */
	int64_t until_us;
	bool queued, gone; /* gone: the request has left, nobody reads the result */
	struct through_row row;
	size_t bytes;
	struct through_result result;
	char text[];
};

/* What waits for one entity of one school; there is one while somebody waits or is on the way. */
struct lane {
	struct lane *next;       /* in its bucket */
	struct lane *next_ready; /* waiting for a flight */
	struct through *t;
	const struct entity *entity;
	const struct pg_stmt *stmt;
	struct uuid school;
	struct write *first, *last;
	size_t n;
	unsigned flights;
	bool ready;
};

struct through {
	struct loop *loop;
	struct pg *pg;
	struct lane *lanes[LANES];
	struct lane *ready_first, *ready_last;
	size_t rows, bytes; /* waiting */
	struct fiber *fibers[FLIGHTS_MAX];
	unsigned flights, most;
	bool closing;
	struct deferred kick;
};

/* ---- lanes ---- */

static struct lane **bucket_of(struct through *t, const struct entity *e, struct uuid school)
{
	uint64_t hash = str_hash((struct str){(const char *)school.b, 16}, (uint64_t)(uintptr_t)e);

	return &t->lanes[hash % LANES];
}

static struct lane *lane_of(struct through *t, struct req *req, const struct entity *e)
{
	struct lane **bucket = bucket_of(t, e, req->who.school_id), *lane = *bucket;

	while (lane && (lane->entity != e || !uuid_eq(lane->school, req->who.school_id)))
		lane = lane->next;
	if (lane)
		return lane;
	lane = mem_zalloc(sizeof(*lane));
	*lane = (struct lane){
		.next = *bucket, .t = t, .entity = e, .stmt = entity_statements(req, e)->through, .school = req->who.school_id};
	*bucket = lane;
	return lane;
}

static void lane_drop_if_idle(struct lane *lane)
{
	struct lane **at = bucket_of(lane->t, lane->entity, lane->school);

	if (lane->n != 0 || lane->flights != 0 || lane->ready)
		return;
	while (*at != lane)
		at = &(*at)->next;
	*at = lane->next;
	free(lane);
}

static void lane_may_fly(struct lane *lane)
{
	struct through *t = lane->t;

	if (lane->ready || lane->n == 0 || lane->flights == LANE_FLIGHTS)
		return;
	lane->ready = true;
	lane->next_ready = NULL;
	if (t->ready_last)
		t->ready_last->next_ready = lane;
	else
		t->ready_first = lane;
	t->ready_last = lane;
}

static struct lane *next_lane(struct through *t)
{
	struct lane *lane = t->ready_first;

	if (!lane)
		return NULL;
	t->ready_first = lane->next_ready;
	if (!t->ready_first)
		t->ready_last = NULL;
	lane->ready = false;
	return lane;
}

/* Takes the write behind `before` (NULL: the first) out of its lane. */
static struct write *unlink_write(struct lane *lane, struct write *before)
{
	struct write *w = before ? before->next : lane->first;

	if (before)
		before->next = w->next;
	else
		lane->first = w->next;
	if (lane->last == w)
		lane->last = before;
	lane->n--;
	lane->t->rows--;
	lane->t->bytes -= w->bytes;
	w->queued = false;
	w->next = NULL;
	return w;
}

/* ---- a group ---- */

struct group {
	struct through *t;
	struct lane *lane;
	struct arena *arena; /* of the present try */
	struct write **v;
	size_t n;
};

/* Is the row in the group already? It may stand there once; another change of it goes with a later group. */
static bool has_row(struct write *const *v, size_t n, uint64_t seen[64], struct uuid id)
{
	uint16_t bits;
	uint64_t bit;
	bool maybe;

	memcpy(&bits, id.b + 14, sizeof(bits));
	bit = UINT64_C(1) << (bits & 63);
	maybe = (seen[bits >> 6 & 63] & bit) != 0;
	seen[bits >> 6 & 63] |= bit;
	for (size_t i = 0; maybe && i < n; i++) {
		if (uuid_eq(v[i]->row.id, id))
			return true;
	}
	return false;
}

static size_t take_writes(struct lane *lane, struct write **v)
{
	uint64_t seen[64] = {0};
	struct write *before = NULL, *w;
	size_t n = 0, bytes = 0;

	while (n < GROUP_ROWS && (w = before ? before->next : lane->first) != NULL) {
		if (n > 0 && bytes + w->bytes > GROUP_BYTES)
			break;
		if (has_row(v, n, seen, w->row.id)) {
			before = w;
			continue;
		}
		bytes += w->bytes;
		v[n++] = unlink_write(lane, before);
	}
	return n;
}

static void finish(struct write *w, enum err e)
{
	op_complete(&w->op, e);
}

static void finish_all(struct write **v, size_t n, enum err e, const struct pg_fail *fail)
{
	for (size_t i = 0; i < n; i++) {
		v[i]->result.fail = *fail;
		finish(v[i], e);
	}
}

/* Who is done, who is refused. ret[i] belongs to v[i]; NULL: refused. */
static void match(struct write *const *v, size_t n, const struct list *done, const struct through_done **ret)
{
	const struct through_done *rows = done->v;
	size_t at = 0;

	for (size_t k = 0; k < done->n; k++) {
		/* They come in about the order in which they went. */
		for (size_t tries = 0; tries < n && !uuid_eq(v[at]->row.id, rows[k].id); tries++)
			at = at + 1 == n ? 0 : at + 1;
		ret[at] = &rows[k];
	}
}

/* Nobody waits for these any more, and nothing of them was done: a further try leaves them out. */
static void leave_out_gone(struct group *g)
{
	size_t kept = 0;

	for (size_t i = 0; i < g->n; i++) {
		if (g->v[i]->gone)
			finish(g->v[i], ERR_CANCELLED);
		else
			g->v[kept++] = g->v[i];
	}
	g->n = kept;
}

/* Takes out of the group those whose key another request has used. True: there were some, so the transaction must not be committed. */
static bool take_out_twins(struct group *g, const struct through_done *const *done)
{
	size_t kept = 0, n = g->n;

	for (size_t i = 0; i < n; i++) {
		if (!done[i] || done[i]->keyed) {
			g->v[kept++] = g->v[i];
			continue;
		}
		g->v[i]->result.key_taken = true;
		finish(g->v[i], OK);
	}
	g->n = kept;
	return kept != n;
}

static struct deadline latest(const struct group *g)
{
	struct deadline d = {0};

	for (size_t i = 0; i < g->n; i++) {
		if (g->v[i]->until_us > d.at_us)
			d.at_us = g->v[i]->until_us;
	}
	return d;
}

SUSPENDS static enum err commit(struct group *g, struct pg_tx *tx, const struct through_done *const *done)
{
	struct deadline d = deadline_sooner(latest(g), deadline_in(g->t->loop, SETTLE_MS));
	enum err e;

	if (FAILPOINT_ERR("wt.before_commit")) {
		pg_rollback(tx);
		return ERR_DB;
	}
	e = pg_commit(tx);
	if (FAILPOINT_ERR("wt.after_commit_before_reply"))
		e = ERR_UNCERTAIN;
	for (size_t i = 0; e == ERR_UNCERTAIN && i < g->n; i++) {
		if (done[i]) /* one tells about all */
			return through_settle(g->t->pg, g->t->loop, g->lane->school, done[i]->transaction, g->v[i]->audit, d);
	}
	return e == ERR_UNCERTAIN ? OK : e; /* nothing was to be written */
}

enum step { STEP_DONE, STEP_AGAIN, STEP_FAILED };

/* One transaction. STEP_DONE: each has its outcome. */
SUSPENDS static enum step try_once(struct group *g, struct pg_fail *fail, enum err *ret_e)
{
	struct pg_scope scope = {.school = g->lane->school,
				 .arena = g->arena,
				 .deadline = latest(g),
				 .fail = fail,
				 .actor = g->lane->entity->name};
	const struct through_row **rows = arena_array(g->arena, g->n, sizeof(*rows));
	const struct through_done **done = arena_array(g->arena, g->n, sizeof(*done));
	struct list list = {0};
	struct pg_tx *tx;
	enum err e;

	for (size_t i = 0; i < g->n; i++)
		rows[i] = &g->v[i]->row;
	e = pg_begin(g->t->pg, &scope, &tx);
	if (e == OK) {
		FAILPOINT("wt.after_begin");
		e = pg_tx_query(tx, g->lane->stmt, through_params(rows, g->n, g->arena), &through_done_schema, &list);
		if (e != OK)
			pg_rollback(tx);
	}
	if (e == OK) {
		match(g->v, g->n, &list, done);
		if (take_out_twins(g, done)) {
			pg_rollback(tx);
			return STEP_AGAIN;
		}
		e = commit(g, tx, done);
	}
	*ret_e = e;
	if (e != OK)
		return STEP_FAILED;
	for (size_t i = 0; i < g->n; i++) {
		g->v[i]->result.refused = !done[i];
		g->v[i]->result.version = done[i] ? done[i]->version : 0;
		finish(g->v[i], OK);
	}
	return STEP_DONE;
}

/* Is it about one of the rows, so that the others may do without it? */
static bool is_of_a_row(enum err e, const struct pg_fail *fail)
{
	return !err_is_fault(e) || e == ERR_BUG || e == ERR_CORRUPT || strcmp(fail->sqlstate, "55P03") == 0 ||
	       strcmp(fail->sqlstate, "57014") == 0 || strncmp(fail->sqlstate, "40", 2) == 0;
}

/* How often the same may be tried again, when nothing of it was done. */
static unsigned tries_for(enum err e, const struct pg_fail *fail)
{
	if (e != ERR_DB)
		return 1;
	return strncmp(fail->sqlstate, "40", 2) == 0 ? TRIES_CONTENTION : TRIES_AWAY;
}

SUSPENDS static void run_group(struct group *g)
{
	static const struct pg_fail none;
	struct pg_fail fail = none;
	enum step step = STEP_AGAIN;
	enum err e = OK;

	for (unsigned tries = 1; step != STEP_DONE && g->n > 0; tries++) {
		g->arena = arena_new();
		step = try_once(g, &fail, &e);
		g->arena = arena_free(g->arena);
		if (step == STEP_FAILED && tries >= tries_for(e, &fail))
			break;
		if (step == STEP_FAILED && sleep_ms(g->t->loop, 5 * tries, latest(g)) != OK)
			break;
		if (step != STEP_DONE)
			leave_out_gone(g);
	}
	if (step == STEP_DONE || g->n == 0)
		return;
	if (g->n > 1 && is_of_a_row(e, &fail)) {
		struct group halves[] = {{g->t, g->lane, NULL, g->v, g->n / 2},
					 {g->t, g->lane, NULL, g->v + g->n / 2, g->n - g->n / 2}};

		run_group(&halves[0]);
		leave_out_gone(&halves[1]);
		run_group(&halves[1]);
		return;
	}
	finish_all(g->v, g->n, e, &fail);
}

/* ---- who flies ---- */

SUSPENDS static void fly(struct through *t, struct lane *lane)
{
	struct write **v = mem_alloc(GROUP_ROWS * sizeof(struct write *));
	struct group g = {.t = t, .lane = lane, .v = v, .n = take_writes(lane, v)};

	lane->flights++;
	lane_may_fly(lane);
	if (t->ready_first)
		loop_defer(t->loop, &t->kick);
	run_group(&g);
	free(v);
	lane->flights--;
	lane_may_fly(lane);
	lane_drop_if_idle(lane);
}

SUSPENDS static void flight(void *arg)
{
	struct through *t = arg;
	struct lane *lane;
	unsigned slot = 0;

	while (t->fibers[slot])
		slot++;
	t->fibers[slot] = fiber_self();
	while ((lane = next_lane(t)) != NULL)
		fly(t, lane);
	t->fibers[slot] = NULL;
	t->flights--;
}

/* The end of a turn: what its requests have written goes together. */
static void on_kick(void *ctx)
{
	struct through *t = ctx;

	while (t->ready_first && t->flights < t->most) {
		t->flights++;
		if (fiber_run(t->loop, "through", flight, t) == OK)
			continue;
		t->flights--; /* too many fibers: one that ends, or the next row, tries again; deadlines end the wait */
		break;
	}
}

static struct through *through_of(struct daemon *d)
{
	struct through *t = d->through;
	unsigned most = (unsigned)d->settings.pg_connections;

	if (t)
		return t;
	t = d->through = mem_zalloc(sizeof(*t));
	t->loop = d->loop;
	t->pg = d->pg;
	t->most = most > 4 ? most - most / 4 : most > 1 ? most - 1 : 1; /* reads need a connection too */
	if (t->most > FLIGHTS_MAX)
		t->most = FLIGHTS_MAX;
	t->kick = (struct deferred){.fn = on_kick, .ctx = t};
	return t;
}

/* ---- one row ---- */

static void write_free(struct op *op)
{
	free((struct write *)(void *)op);
}

static struct str copy_text(char **at, struct str s)
{
	struct str copy = {*at, s.n};

	if (s.n != 0)
		memcpy(*at, s.p, s.n);
	*at += s.n;
	return copy;
}

static struct write *write_new(struct req *req, const struct through_row *row, struct uuid audit)
{
	size_t bytes = row->row.n + row->wanted.n + row->audit.n + row->events.n;
	struct write *w = mem_alloc(sizeof(*w) + bytes);
	char *at = w->text;

	memset(w, 0, sizeof(*w));
	op_init(&w->op, "database", write_free);
	w->audit = audit;
	w->until_us = req->deadline.at_us;
	w->bytes = bytes + sizeof(*w);
	w->row = (struct through_row){.id = row->id,
				      .row = copy_text(&at, row->row),
				      .wanted = copy_text(&at, row->wanted),
				      .audit = copy_text(&at, row->audit),
				      .events = copy_text(&at, row->events)};
	return w;
}

static void enqueue(struct through *t, struct lane *lane, struct write *w)
{
	w->lane = lane;
	w->queued = true;
	if (lane->last)
		lane->last->next = w;
	else
		lane->first = w;
	lane->last = w;
	lane->n++;
	t->rows++;
	t->bytes += w->bytes;
	lane_may_fly(lane);
	loop_defer(t->loop, &t->kick);
}

static void leave(struct write *w)
{
	struct write *before = NULL;

	for (struct write *at = w->lane->first; at != w; at = at->next)
		before = at;
	unlink_write(w->lane, before);
	lane_drop_if_idle(w->lane);
	op_complete(&w->op, ERR_CANCELLED);
}

enum err through_group(struct req *req, const struct entity *e, const struct through_row *row, struct uuid audit,
		       struct through_result *ret)
{
	struct through *t = through_of(req->daemon);
	struct write *w;
	enum err err;

	if (t->closing)
		return ERR_CANCELLED;
	if (t->rows >= QUEUE_ROWS || t->bytes >= QUEUE_BYTES)
		return ERR_OVERLOAD;
	w = write_new(req, row, audit);
	enqueue(t, lane_of(t, req, e), w);
	err = await(&w->op, req->deadline);
	if (w->op.done) { /* perhaps in the same turn in which the deadline passed */
		*ret = w->result;
		err = w->op.result;
	} else if (w->queued) {
		leave(w);
		err = err == ERR_TIMEOUT ? ERR_OVERLOAD : err;
	} else {
		w->gone = true;
		err = ERR_UNCERTAIN;
	}
	op_unref(&w->op);
	return err;
}

/* ---- the end ---- */

void through_cancel(struct daemon *d)
{
	struct through *t = d->through;

	degraded_cancel(d);
	if (!t)
		return;
	t->closing = true;
	loop_undefer(t->loop, &t->kick);
	for (size_t i = 0; i < LANES; i++) {
		for (struct lane *lane = t->lanes[i], *next; lane; lane = next) {
			next = lane->next;
			while (lane->first)
				finish(unlink_write(lane, NULL), ERR_CANCELLED);
		}
	}
	for (size_t i = 0; i < FLIGHTS_MAX; i++) {
		if (t->fibers[i])
			fiber_cancel(t->fibers[i]);
	}
}

void through_close(struct daemon *d)
{
	struct through *t = d->through;

	degraded_close(d);
	if (!t)
		return;
	for (size_t i = 0; i < LANES; i++) {
		while (t->lanes[i]) {
			struct lane *lane = t->lanes[i];

			t->lanes[i] = lane->next;
			free(lane);
		}
	}
	loop_undefer(t->loop, &t->kick);
	free(t);
	d->through = NULL;
}
