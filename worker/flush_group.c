/* SPDX-License-Identifier: Apache-2.0 */
/* One group of records through one transaction: a state machine whose steps are checked against a table. */
#include "flush_turn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/failpoint.h"
#include "base/str.h"
#include "base/timefmt.h"
#include "base/uuid.h"
#include "verdict.h"

#define TRIES_TRANSIENT 3
#define TRIES_CONTENTION 20
#define TRIES_BUFFER 3
#define PARENT_WAIT_MS 1000
#define ACK_CHUNK 500

/* A try that counts: parked when it was the last. */
static void give_back_counted(struct turn *turn, struct item *item, const char *error)
{
	bool last = item->claimed->attempts + 1 >= TRIES_DEAD;

	turn_give_back_one(turn, item,
			   (struct return_options){.backoff_ms = backoff_counted_ms(item->claimed->attempts, turn_chance(turn)),
						   .count = true,
						   .permanent = last,
						   .error = error});
}

static enum err acknowledge_some(struct turn *turn, const struct acked *v, size_t n)
{
	int64_t removed = 0, newer = 0;
	enum err e = OK;

	for (unsigned i = 0; n > 0 && i < TRIES_BUFFER; i++) {
		e = buffer_ack(turn->f->io, turn->t->entity, turn->f->token, v, n, turn->arena, &removed, &newer);
		if (e == OK)
			break;
		turn_pause_ms(turn, 50 << i);
	}
	turn->counts->newer += newer;
	return e;
}

/* In two calls at least where a test wants to die between them. */
static void acknowledge(struct turn *turn, const struct acked *v, size_t n)
{
	size_t chunk = FAILPOINT_ARMED("ack.mid") ? n / 2 + 1 : ACK_CHUNK;

	for (size_t at = 0; at < n; at += chunk) {
		if (at > 0)
			FAILPOINT("ack.mid");
		/* The rows are in the database whatever Redis says: the lease's end brings the records back, and they are found to be the same. */
		if (acknowledge_some(turn, v + at, n - at < chunk ? n - at : chunk) != OK)
			turn->counts->errors++;
	}
}

static void count_fate(struct turn *turn, const struct item *item)
{
	turn->counts->applied += item->fate == FATE_APPLIED;
	turn->counts->same += item->fate == FATE_SAME;
	turn->counts->superseded += item->fate == FATE_SUPERSEDED;
	turn->counts->bytes_freed += (int64_t)item->claimed->value.n;
}

/* ---- one group: a machine whose steps are checked ------------------------------------------------------------------------- */

enum step {
	STEP_BEGIN,
	STEP_LOOK, /* blind records: is there a living row */
	STEP_COPY,
	STEP_WRITE,
	STEP_COMPARE, /* why rows did not come back */
	STEP_COMMIT,
	STEP_ACK,
	STEP_FAILED, /* rolled back: again, halved, or given back */
	STEP_END,
	STEP_COUNT,
};

#define TO(step) (1u << (step))
static const unsigned may_follow[STEP_COUNT] = {
	[STEP_BEGIN] = TO(STEP_LOOK) | TO(STEP_FAILED),
	[STEP_LOOK] = TO(STEP_COPY) | TO(STEP_COMMIT) | TO(STEP_FAILED),
	[STEP_COPY] = TO(STEP_WRITE) | TO(STEP_FAILED),
	[STEP_WRITE] = TO(STEP_COMPARE) | TO(STEP_FAILED),
	[STEP_COMPARE] = TO(STEP_COMMIT) | TO(STEP_FAILED),
	[STEP_COMMIT] = TO(STEP_ACK) | TO(STEP_FAILED),
	[STEP_ACK] = TO(STEP_END),
	[STEP_FAILED] = TO(STEP_BEGIN) | TO(STEP_END),
};

struct attempt {
	struct turn *turn;
	struct item **items;
	size_t n;
	unsigned tries, clashes;
	enum err err; /* of the step that failed */
	bool split;   /* the caller halves it */
};

static const struct flush_db *db_of(const struct attempt *a)
{
	return a->turn->f->db;
}

static enum step failed(struct attempt *a, enum err e)
{
	a->err = e;
	return STEP_FAILED;
}

static enum step step_begin(struct attempt *a)
{
	enum err e;

	for (size_t i = 0; i < a->n; i++)
		a->items[i]->fate = FATE_OPEN;
	a->turn->counts->statements++;
	e = db_of(a)->begin(db_of(a)->ctx, a->turn->t);
	return e == OK ? STEP_LOOK : failed(a, e);
}

/* Rows mostly come back in the order of the records, so the search begins behind the row that was found before. */
static const struct row_state *state_of(const struct list *states, struct uuid id, size_t *next)
{
	const struct row_state *v = states->v;

	for (size_t i = 0; i < states->n; i++) {
		size_t at = *next + i < states->n ? *next + i : *next + i - states->n;

		if (!uuid_eq(v[at].id, id))
			continue;
		*next = at + 1 < states->n ? at + 1 : 0;
		return &v[at];
	}
	return NULL;
}

/* Did an earlier call of this record write the version? A lost ACK must not make a record its own obstacle. */
static bool wrote(const struct buffer_record *r, int64_t version)
{
	uint64_t earlier;

	if (r->version == version)
		return true;
	for (size_t at = 8; at + 8 <= r->calls.n; at += 16) {
		memcpy(&earlier, r->calls.p + at, sizeof(earlier)); /* little-endian, as the machine */
		if ((int64_t)earlier == version)
			return true;
	}
	return false;
}

/* The states of the chosen items' rows. */
static enum err look_up(struct attempt *a, bool (*chosen)(const struct item *item), struct list *ret, size_t *ret_n)
{
	struct uuid *ids = arena_array(a->turn->arena, a->n, sizeof(*ids));
	size_t n = 0;

	for (size_t i = 0; i < a->n; i++)
		if (chosen(a->items[i]))
			ids[n++] = a->items[i]->claimed->id;
	*ret_n = n;
	*ret = (struct list){0};
	return n == 0 ? OK : db_of(a)->versions(db_of(a)->ctx, a->turn->t, ids, n, a->turn->arena, ret);
}

static bool is_blind(const struct item *item)
{
	return item->record.blind;
}

static bool is_open(const struct item *item)
{
	return item->fate == FATE_OPEN;
}

static enum step step_look(struct attempt *a)
{
	struct list states;
	size_t n_blind, open = 0, next = 0;
	enum err e = look_up(a, is_blind, &states, &n_blind);

	if (e != OK)
		return failed(a, e);
	for (size_t i = 0; i < a->n; i++) {
		struct item *item = a->items[i];
		const struct row_state *s = n_blind > 0 && is_blind(item) ? state_of(&states, item->claimed->id, &next) : NULL;

		if (s != NULL && s->deleted_at == 0 && !wrote(&item->record, s->version))
			item->fate = FATE_EXISTS;
		open += is_open(item);
	}
	return open > 0 ? STEP_COPY : STEP_COMMIT;
}

static enum step step_copy(struct attempt *a)
{
	const void **rows = arena_array(a->turn->arena, a->n, sizeof(*rows));
	size_t n = 0;
	enum err e;

	for (size_t i = 0; i < a->n; i++)
		if (is_open(a->items[i]))
			rows[n++] = a->items[i]->row;
	e = db_of(a)->copy(db_of(a)->ctx, a->turn->t, rows, n);
	return e == OK ? STEP_WRITE : failed(a, e);
}

static enum step step_write(struct attempt *a)
{
	struct list written;
	size_t next = 0;
	enum err e = db_of(a)->flush(db_of(a)->ctx, a->turn->t, a->turn->arena, &written);

	if (e != OK)
		return failed(a, e);
	for (size_t i = 0; i < a->n; i++) {
		struct item *item = a->items[i];
		const struct row_state *s = is_open(item) ? state_of(&written, item->claimed->id, &next) : NULL;

		if (s == NULL)
			continue;
		item->fate = s->version > 0 ? FATE_APPLIED : FATE_REFUSED;
		item->version = s->version;
	}
	return STEP_COMPARE;
}

static void compare(const struct flush_target *t, struct item *item, const struct row_state *s)
{
	int64_t version = item->record.version;

	if (s == NULL) {
		item->fate = FATE_UNSEEN;
	} else if (!uuid_eq(s->school_id, item->record.school)) {
		item->fate = FATE_FOREIGN;
	} else if (t->entity->write == APPEND) {
		/* Whoever inserted it, it is there, and nothing changes it. */
		item->fate = FATE_SAME;
		item->version = s->version > version ? s->version : version;
	} else if (s->version < version) {
		item->fate = FATE_UNSEEN;
	} else {
		item->fate = s->version == version ? FATE_SAME : FATE_SUPERSEDED;
		item->version = s->version;
	}
}

static enum step step_compare(struct attempt *a)
{
	struct list states;
	size_t n, next = 0;
	enum err e = look_up(a, is_open, &states, &n);

	if (e != OK)
		return failed(a, e);
	for (size_t i = 0; i < a->n; i++)
		if (is_open(a->items[i]))
			compare(a->turn->t, a->items[i], state_of(&states, a->items[i]->claimed->id, &next));
	return STEP_COMMIT;
}

static enum step step_commit(struct attempt *a)
{
	enum err e;

	if (FAILPOINT_ERR("flush.before_commit"))
		return failed(a, ERR_DB);
	e = db_of(a)->commit(db_of(a)->ctx);
	FAILPOINT("flush.after_commit_before_ack");
	return e == OK ? STEP_ACK : failed(a, e);
}

static void refuse(struct turn *turn, struct item *item)
{
	switch (item->fate) {
	case FATE_EXISTS:
		turn_give_back_one(turn, item, (struct return_options){.permanent = true, .error = "row exists"});
		break;
	case FATE_FOREIGN:
		turn_give_back_one(turn, item, (struct return_options){.permanent = true, .error = "row of another school"});
		break;
	case FATE_UNSEEN:
		give_back_counted(turn, item, "row neither written nor found");
		break;
	case FATE_REFUSED:
		turn_give_back_one(turn, item,
				   (struct return_options){.permanent = true,
							   .error = item->version == ROW_REFUSED_INDEX
									    ? "another document has its unique value"
									    : "it cannot be a document"});
		break;
	case FATE_OPEN:
	case FATE_APPLIED:
	case FATE_SAME:
	case FATE_SUPERSEDED:
		break;
	}
}

static enum step step_ack(struct attempt *a)
{
	struct acked *v = arena_array(a->turn->arena, a->n, sizeof(*v));
	struct flushed_row *rows = arena_array(a->turn->arena, a->n, sizeof(*rows));
	size_t n = 0;

	for (size_t i = 0; i < a->n; i++) {
		struct item *item = a->items[i];

		if (item->fate != FATE_APPLIED && item->fate != FATE_SAME && item->fate != FATE_SUPERSEDED)
			continue;
		rows[n] = (struct flushed_row){item->record.school, item->claimed->id};
		v[n++] = (struct acked){item->claimed->id, item->version};
		item->settled = true;
		count_fate(a->turn, item);
	}
	acknowledge(a->turn, v, n);
	turn_tell_flushed(a->turn, rows, n);
	for (size_t i = 0; i < a->n; i++)
		refuse(a->turn, a->items[i]);
	return STEP_END;
}

/* ---- after a failure ------------------------------------------------------------------------------------------------------ */

static bool found_waiting(struct turn *turn, const struct entity *parent, struct uuid id)
{
	char text[UUID_TEXT + 1];
	const char *dead = arena_printf(turn->arena, "wb:dlq:%s", parent->name);
	struct redis_reply reply;
	const struct buffer_io *io = turn->f->io;

	uuid_text(id, text);
	if (io->call(io->ctx, REDIS_ARGS(STR("EXISTS"), buffer_key(turn->arena, parent, id)), turn->arena, &reply) != OK ||
	    reply.type != REDIS_INTEGER || reply.i == 0)
		return false;
	if (io->call(io->ctx, REDIS_ARGS(STR("ZSCORE"), str_of(dead), str_of(text)), turn->arena, &reply) != OK ||
	    reply.type != REDIS_NIL)
		return false;
	IGNORE(buffer_urge(io, parent, &id, 1, turn->arena)); /* the child waits either way */
	return true;
}

/* Is a row that this one may point to in the buffer, and alive? Then it is made due at once, and waiting for it counts for nothing. */
static bool parent_is_coming(struct turn *turn, const struct item *item)
{
	const struct schema *s = turn->t->entity->schema;
	const struct fields *set = item->row;

	for (size_t i = 0; i < s->n; i++) {
		struct uuid id;

		if (s->fields[i].type != FIELD_UUID || (set->set >> i & 1) == 0)
			continue;
		memcpy(&id, (const char *)item->row + s->fields[i].offset, sizeof(id));
		for (size_t p = 0; p < turn->t->n_parents; p++)
			if (found_waiting(turn, turn->t->parents[p], id))
				return true;
	}
	return false;
}

static void fail_text(const struct attempt *a, char to[96])
{
	const struct pg_fail *fail = db_of(a)->fail(db_of(a)->ctx);

	if (fail->sqlstate[0] == '\0')
		snprintf(to, 96, "%s", err_name(a->err));
	else
		snprintf(to, 96, "%s%s%s", fail->sqlstate, fail->constraint[0] != '\0' ? " " : "", fail->constraint);
}

static enum step give_up(struct attempt *a, int64_t backoff_ms)
{
	turn_give_back(a->turn, a->items, a->n, (struct return_options){.backoff_ms = backoff_ms, .error = ""});
	return STEP_END;
}

static enum step after_transient(struct attempt *a, const char *error)
{
	struct turn *turn = a->turn;

	memcpy(turn->counts->error, error, sizeof(turn->counts->error));
	if (++a->tries < TRIES_TRANSIENT && turn_now_us(turn) < turn->give_up_us && !turn_stopping(turn)) {
		turn_pause_ms(turn, backoff_transient_ms(a->tries - 1, turn_chance(turn)));
		return STEP_BEGIN;
	}
	turn->counts->away = true;
	return give_up(a, backoff_away_ms(turn_chance(turn)));
}

static enum step after_contention(struct attempt *a)
{
	struct turn *turn = a->turn;

	if (++a->clashes < TRIES_CONTENTION && turn_now_us(turn) < turn->give_up_us && !turn_stopping(turn)) {
		turn_pause_ms(turn, 1 + (int64_t)(turn_chance(turn) % 50));
		return STEP_BEGIN;
	}
	return give_up(a, 1000 + (int64_t)(turn_chance(turn) % 1000));
}

static enum step after_parent(struct attempt *a, const char *error)
{
	struct item *item = a->items[0];

	if (parent_is_coming(a->turn, item))
		return give_up(a, PARENT_WAIT_MS + (int64_t)(turn_chance(a->turn) % 1000));
	give_back_counted(a->turn, item, error);
	return STEP_END;
}

static enum step after_permanent(struct attempt *a, const char *error)
{
	struct turn *turn = a->turn;

	/* Tables may have changed under this connection: once in a turn a new one is asked. */
	if (verdict_is_of_schema(db_of(a)->fail(db_of(a)->ctx)->sqlstate) && !turn->renewed) {
		turn->renewed = true;
		db_of(a)->reset(db_of(a)->ctx);
		return STEP_BEGIN;
	}
	turn_give_back(turn, a->items, a->n, (struct return_options){.count = true, .permanent = true, .error = error});
	return STEP_END;
}

static enum step step_failed(struct attempt *a)
{
	enum verdict verdict;
	char error[96];

	fail_text(a, error);
	verdict = verdict_of(a->err, db_of(a)->fail(db_of(a)->ctx)->sqlstate);
	db_of(a)->rollback(db_of(a)->ctx);
	a->turn->counts->errors++;
	switch (verdict) {
	case VERDICT_TRANSIENT:
		return after_transient(a, error);
	case VERDICT_CONTENTION:
		return after_contention(a);
	case VERDICT_PARENT:
	case VERDICT_PERMANENT:
		if (a->n > 1) {
			a->split = true;
			return STEP_END;
		}
		return verdict == VERDICT_PARENT ? after_parent(a, error) : after_permanent(a, error);
	case VERDICT_UNKNOWN:
		break;
	}
	for (size_t i = 0; i < a->n; i++)
		give_back_counted(a->turn, a->items[i], error);
	return STEP_END;
}

bool turn_run_group(struct turn *turn, struct group g)
{
	static enum step (*const steps[STEP_COUNT])(struct attempt * a) = {
		[STEP_BEGIN] = step_begin,     [STEP_LOOK] = step_look,     [STEP_COPY] = step_copy, [STEP_WRITE] = step_write,
		[STEP_COMPARE] = step_compare, [STEP_COMMIT] = step_commit, [STEP_ACK] = step_ack,   [STEP_FAILED] = step_failed,
	};
	struct attempt a = {.turn = turn, .items = turn->order + g.from, .n = g.n};

	for (enum step at = STEP_BEGIN, next; at != STEP_END; at = next) {
		next = steps[at](&a);
		if ((may_follow[at] & TO(next)) == 0)
			abort();
	}
	return a.split;
}
