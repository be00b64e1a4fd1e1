/* SPDX-License-Identifier: Apache-2.0 */
/* A daemon that writes: reads its bases (buffer, then table), merges, PUTs one to a few records in one call, and repeats what it knows nothing of. */
#include <stdio.h>

#include "base/timefmt.h"
#include "sim.h"

#define DEADLINE_S 40 /* from the first base on; below the marker's 60 */
#define READ_YOUR_WRITES "I1: a reader finds version %lld, and %lld is acknowledged"

struct base {
	int64_t version; /* of whatever is there, alive or not; 0: nothing */
	int64_t sum;
	bool live;
	unsigned list;
};

static struct uuid list_of(unsigned list)
{
	return (struct uuid){{0x77, [15] = (uint8_t)list}};
}

static enum err read_buffer(struct actor *a, size_t doc, struct base *ret)
{
	const struct doc *d = &a->w->docs[doc];
	const struct entity *e = &sim_entities[d->kind];
	struct redis_reply reply;
	struct buffer_record record;
	void *row;
	const struct sim_doc *r;
	enum err err;

	err = a->io.call(a->io.ctx, REDIS_ARGS(STR("GET"), buffer_key(a->arena, e, d->id)), a->arena, &reply);
	if (err != OK)
		return err;
	if (reply.type == REDIS_NIL)
		return ERR_NOT_FOUND;
	err = buffer_record_parse(reply.s, &record);
	if (err == OK)
		err = buffer_record_row(e, d->id, &record, a->arena, &row);
	if (err != OK) {
		wrong(a->w, &a->w->counts->broken, doc, "a record that cannot be read: %s", err_name(err));
		return ERR_CORRUPT;
	}
	r = row;
	*ret = (struct base){r->row.version, r->sum, !record.deleted, r->list_id.b[15]};
	return OK;
}

static enum err read_base(struct actor *a, size_t doc, struct base *ret)
{
	struct world *w = a->w;
	int64_t acked = w->docs[doc].acked;
	const struct row_there *row;
	enum err e = read_buffer(a, doc, ret);

	if (e != OK && e != ERR_NOT_FOUND)
		return e;
	if (e == ERR_NOT_FOUND) {
		actor_yield(a);
		if (w->now_us < w->db_away_until_us)
			return ERR_DB;
		row = &w->docs[doc].row;
		*ret = (struct base){row->version, row->sum, row->there && !row->deleted,
				     row->there ? w->writes[row->write].list : 0};
	}
	if (ret->version < acked)
		wrong(w, &w->counts->lost, doc, READ_YOUR_WRITES, (long long)ret->version, (long long)acked);
	actor_yield(a);
	return OK;
}

/* The row that a change replaces, as far as lists are concerned. */
static const struct sim_doc *row_before(struct actor *a, const struct doc *d, const struct base *base)
{
	struct sim_doc *row = arena_zalloc(a->arena, sizeof(*row));

	if (!base->live || (a->w->mutant && a->w->mutant->no_old))
		return NULL;
	FIELD_PUT(row, sim_doc, list_id, list_of(base->list));
	if (d->kind == CHILD)
		FIELD_PUT(row, sim_doc, parent_id, a->w->docs[d->parent].id);
	return row;
}

static struct sim_doc *make_row(struct actor *a, const struct write *wr, size_t index)
{
	struct sim_doc *row = arena_zalloc(a->arena, sizeof(*row));
	const struct doc *d = &a->w->docs[wr->doc];

	row->row = (struct row){.id = d->id, .school_id = sim_school, .created_at = 1, .updated_at = a->w->now_us};
	row->row.deleted_at = wr->deleted ? a->w->now_us : 0;
	FIELD_PUT(row, sim_doc, value, (int64_t)index);
	FIELD_PUT(row, sim_doc, sum, wr->sum);
	FIELD_PUT(row, sim_doc, list_id, list_of(wr->list));
	if (d->kind == CHILD)
		FIELD_PUT(row, sim_doc, parent_id, a->w->docs[d->parent].id);
	return row;
}

static void add_write(struct actor *a, struct buffer_put *put, size_t doc, const struct base *base, bool plain)
{
	struct world *w = a->w;
	struct doc *d = &w->docs[doc];
	size_t index = w->n_writes++;
	struct write *wr = &w->writes[index];
	struct put_options o = {.expect = base->live ? base->version : 0, .floor = base->version};

	o.creation = base->version == 0;
	o.old = row_before(a, d, base);
	o.urgent = chance(w) % 8 == 0;
	o.codec = chance(w) % 4 == 0 ? CODEC_SNAPPY : CODEC_RAW;
	*wr = (struct write){
		.doc = doc, .base = o.expect, .floor = o.floor, .sum = base->live ? base->sum + 1 : 1, .list = base->list};
	wr->old_list = base->live ? 1u << base->list : 0;
	if (!plain && !d->counter && d->kind != ENTRY) {
		wr->deleted = base->live && chance(w) % 6 == 0;
		wr->poison = chance(w) % 80 == 0;
		if (!base->live || chance(w) % 3 == 0)
			wr->list = (unsigned)(chance(w) % LISTS);
	}
	buffer_put_row(put, &sim_entities[d->kind], make_row(a, wr, index), o);
	a->writes[a->n_writes++] = index;
}

static bool chosen(const struct actor *a, size_t doc)
{
	for (size_t i = 0; i < a->n_writes; i++)
		if (a->w->writes[a->writes[i]].doc == doc)
			return true;
	return false;
}

/* A child is only written when its parent is, or comes in the same call. */
static enum err add_doc(struct actor *a, struct buffer_put *put, size_t doc)
{
	struct world *w = a->w;
	const struct doc *d = &w->docs[doc];
	struct base base;
	enum err e;

	if (chosen(a, doc))
		return OK;
	if (d->kind == CHILD && w->docs[d->parent].last == 0) {
		e = add_doc(a, put, d->parent);
		if (e != OK)
			return e;
	}
	e = read_base(a, doc, &base);
	if (e == OK)
		add_write(a, put, doc, &base, false);
	return e;
}

static void settle(struct actor *a, enum outcome outcome, int64_t version, const char *what)
{
	struct world *w = a->w;

	for (size_t i = 0; i < a->n_writes; i++) {
		struct write *wr = &w->writes[a->writes[i]];
		struct doc *d = &w->docs[wr->doc];

		wr->outcome = outcome;
		note(w, wr->doc, a->number, what, version, a->writes[i]);
		d->n_acked += outcome == ACKED;
		d->n_unknown += outcome == UNKNOWN;
		if (outcome == NOT_DONE && wr->version != 0)
			wrong(w, &w->counts->broken, wr->doc, "the answer is no, and the call was done");
		if (outcome != ACKED)
			continue;
		if (wr->version != version)
			wrong(w, &w->counts->lost, wr->doc, "version %lld is acknowledged, and the call was done at %lld",
			      (long long)version, (long long)wr->version);
		if (version > d->acked)
			d->acked = version;
	}
	a->n_writes = 0;
}

/* A call that was done is remembered until four others have written every one of its records: a conflict before that is a memory lost. */
static void check_memory(struct actor *a)
{
	struct world *w = a->w;

	for (size_t i = 0; i < a->n_writes; i++) {
		const struct write *wr = &w->writes[a->writes[i]];
		const struct doc *d = &w->docs[wr->doc];

		for (size_t k = 0; wr->version != 0 && k < 4; k++)
			if (d->recent[k] == a->writes[i])
				wrong(w, &w->counts->broken, wr->doc,
				      "a call is forgotten after %zu others: its repetition meets a conflict", k);
	}
}

static void send_until_known(struct actor *a, struct buffer_put *put)
{
	struct world *w = a->w;
	struct put_result result;
	bool unknown = false;
	int64_t version = 0;
	enum err e;

	for (int tries = 0;; tries++) {
		e = buffer_put_send(&a->io, put, a->arena, a->deadline_us, &result);
		if (e != ERR_UNCERTAIN)
			break;
		unknown = true;
		if (tries == 3 || chance(w) % 3 == 0 || w->now_us > a->deadline_us)
			break;
		actor_sleep(a, 20 + (int64_t)(chance(w) % 2000));
	}
	if (e != OK) {
		w->counts->unknown += unknown;
		w->counts->refused += !unknown;
		settle(a, unknown ? UNKNOWN : NOT_DONE, 0, unknown ? "unknown" : "refused");
	} else if (result.outcome == PUT_OK || result.outcome == PUT_SAME || result.outcome == PUT_REPLAY) {
		version = result.version;
		if (result.outcome == PUT_REPLAY)
			str_to_i64(str_split(&result.replay, ' '), &version);
		w->counts->acked++;
		w->counts->same += result.outcome == PUT_SAME;
		w->counts->replays += result.outcome == PUT_REPLAY;
		settle(a, ACKED, version, "acknowledged");
	} else if (result.outcome == PUT_REFUSED) {
		wrong(w, &w->counts->broken, 0, "another school's id");
	} else if (unknown || result.outcome == PUT_UNKNOWN) {
		check_memory(a);
		w->counts->unknown++;
		settle(a, UNKNOWN, 0, "unknown");
	} else {
		w->counts->conflicts++;
		settle(a, NOT_DONE, 0, "conflict");
	}
}

static struct buffer_put *new_put(struct actor *a)
{
	uint64_t tag = (a->call = ++a->w->n_calls) | UINT64_C(1) << 63;

	a->w->counts->calls++;
	a->n_writes = 0;
	a->deadline_us = a->w->now_us + DEADLINE_S * US_PER_S;
	return buffer_put_new(a->arena, sim_school, (const uint8_t *)&tag);
}

static void one_call(struct actor *a)
{
	struct world *w = a->w;
	struct buffer_put *put = new_put(a);
	size_t n = chance(w) % 4 == 0 ? 2 + chance(w) % 2 : 1;
	enum err e = OK;

	for (size_t i = 0; e == OK && i < n; i++)
		e = add_doc(a, put, chance(w) % DOCS);
	if (e == OK && chance(w) % 4 == 0) /* the audit record of the call: an id of its own, so that a repetition doubles none */
		add_write(a, put, doc_add(w, ENTRY), &(struct base){0}, true);
	if (one_in(w, 16)) /* a slow request: meanwhile others create and delete what it has not seen */
		actor_sleep(a, (int64_t)(chance(w) % 10000));
	if (chance(w) % 8 == 0)
		buffer_put_event(put, "sim", STR("{}"));
	if (chance(w) % 4 == 0)
		buffer_put_idem(put, str_of(arena_printf(a->arena, "call:%llu", (unsigned long long)a->call)), 86400, STR("201"));
	if (e == OK) {
		send_until_known(a, put);
		return;
	}
	w->counts->refused++;
	settle(a, NOT_DONE, 0, "no base");
}

/* A new, good write over one that can never reach the table. */
enum err writer_revive(struct actor *a, size_t doc)
{
	struct buffer_put *put = new_put(a);
	struct base base;
	enum err e = read_base(a, doc, &base);

	if (e != OK)
		return e;
	add_write(a, put, doc, &base, true);
	send_until_known(a, put);
	return OK;
}

void writer_main(void *arg)
{
	struct actor *a = arg;
	struct world *w = a->w;

	while (!w->quiet) {
		arena_clear(a->arena);
		if (w->n_writes + CALL_WRITES < WRITES_MOST && w->n_docs + 1 < DOCS_MOST)
			one_call(a);
		actor_sleep(a, (int64_t)(chance(w) % 400));
	}
	/* Behind the end: what cannot be written is superseded, so that nothing stays behind. */
	for (size_t i = (size_t)a->number; w->reviving && i < DOCS; i += WRITERS) {
		size_t last = w->docs[i].last;

		arena_clear(a->arena);
		if (last != 0 && w->writes[last].poison && writer_revive(a, i) == OK)
			w->counts->revived++;
	}
}
