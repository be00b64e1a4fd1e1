/* SPDX-License-Identifier: Apache-2.0 */
/* The guarded table behind struct flush_db: transactions with row locks, refusals by SQLSTATE, lost answers to COMMIT, and times without a database. */
#include <stdio.h>

#include "base/timefmt.h"
#include "sim.h"

#define LOCK_TIMEOUT_MS 5000

static enum err refused(struct actor *a, const char *sqlstate, enum err e)
{
	snprintf(a->tx.fail.sqlstate, sizeof(a->tx.fail.sqlstate), "%s", sqlstate);
	return e;
}

static bool away(struct actor *a)
{
	return a->w->now_us < a->w->db_away_until_us;
}

/* Whatever PostgreSQL says now and then, which has nothing to do with the rows. */
static enum err weather(struct actor *a)
{
	static const char *const states[] = {"40001", "40P01", "55P03", "53300", "57P01", "08006", "25006", ""};
	struct world *w = a->w;

	a->tx.fail = (struct pg_fail){0};
	if (away(a))
		return refused(a, one_in(w, 2) ? "57P03" : "", ERR_DB);
	if (a->tx.stale)
		return refused(a, "42P01", ERR_BUG);
	if (one_in(w, 2000) && w->now_us > a->stale_us + 60 * US_PER_S) {
		a->stale_us = w->now_us;
		a->tx.stale = true; /* a migration: until the connection is made anew; never two in one turn */
		return refused(a, "42P01", ERR_BUG);
	}
	if (one_in(w, 3000))
		return refused(a, "XX000", ERR_DB); /* counts against whoever was there */
	if (one_in(w, 150))
		return refused(a, states[chance(w) % ARRAY_LEN(states)], ERR_DB);
	return OK;
}

static void unlock(struct actor *a)
{
	for (size_t i = 0; i < a->tx.n; i++)
		a->w->docs[a->tx.v[i].doc].row.locked_by = 0;
	a->tx.n = 0;
	a->tx.open = a->tx.committing = false;
}

static enum err db_begin(void *ctx, const struct flush_target *t)
{
	struct actor *a = ctx;
	enum err e;

	(void)t;
	actor_yield(a);
	unlock(a);
	e = weather(a);
	a->tx.open = e == OK;
	return e;
}

static enum err db_copy(void *ctx, const struct flush_target *t, const void *const *rows, size_t n)
{
	struct actor *a = ctx;

	(void)t;
	actor_yield(a);
	memcpy(a->tx.copied, rows, n * sizeof(*rows));
	a->tx.n_copied = n;
	return weather(a);
}

static bool wait_for_locks(struct actor *a)
{
	for (int64_t waited = 0; waited < LOCK_TIMEOUT_MS; waited += 100) {
		bool locked = false;

		for (size_t i = 0; i < a->tx.n_copied; i++) {
			const struct doc *d = doc_of(a->w, ((const struct row *)a->tx.copied[i])->id);

			locked = locked || (d->row.locked_by != 0 && d->row.locked_by != a->number + 1);
		}
		if (!locked)
			return true;
		actor_sleep(a, 100);
	}
	return false;
}

static enum err refuse_row(struct actor *a, const struct sim_doc *r)
{
	struct world *w = a->w;
	const struct doc *d = doc_of(w, r->row.id);

	if ((size_t)r->value < w->n_writes && w->writes[r->value].poison)
		return refused(a, "23514", ERR_INVALID);
	if (d->kind == CHILD && !w->docs[d->parent].row.there)
		return refused(a, "23503", ERR_CONFLICT);
	return OK;
}

static enum err db_flush(void *ctx, const struct flush_target *t, struct arena *arena, struct list *ret)
{
	struct actor *a = ctx;
	struct world *w = a->w;
	struct row_state *out = arena_array(arena, a->tx.n_copied + 1, sizeof(*out));
	enum err e;

	actor_yield(a);
	e = weather(a);
	*ret = (struct list){out, 0};
	if (e == OK && !wait_for_locks(a))
		return refused(a, "55P03", ERR_DB);
	for (size_t i = 0; e == OK && i < a->tx.n_copied; i++)
		e = refuse_row(a, a->tx.copied[i]);
	for (size_t i = 0; e == OK && i < a->tx.n_copied; i++) {
		const struct sim_doc *r = a->tx.copied[i];
		struct doc *d = doc_of(w, r->row.id);
		bool guarded = !(w->mutant && w->mutant->no_guard);

		if (d->row.there && (t->entity->write == APPEND || (guarded && d->row.version >= r->row.version)))
			continue;
		d->row.locked_by = a->number + 1;
		a->tx.v[a->tx.n++] = (struct change_of_row){.doc = (size_t)(d - w->docs),
							    .write = (size_t)r->value,
							    .version = r->row.version,
							    .sum = r->sum,
							    .deleted = r->row.deleted_at != 0};
		out[ret->n++] = (struct row_state){.id = r->row.id, .version = r->row.version};
	}
	return e;
}

static enum err db_versions(void *ctx, const struct flush_target *t, const struct uuid *ids, size_t n, struct arena *arena,
			    struct list *ret)
{
	struct actor *a = ctx;
	struct row_state *out = arena_array(arena, n + 1, sizeof(*out));

	(void)t;
	actor_yield(a);
	*ret = (struct list){out, 0};
	for (size_t i = 0; i < n; i++) {
		const struct row_there *row = &doc_of(a->w, ids[i])->row;

		if (row->there)
			out[ret->n++] = (struct row_state){
				.id = ids[i], .school_id = sim_school, .version = row->version, .deleted_at = row->deleted};
	}
	return weather(a);
}

/* What COMMIT makes true. Here nothing may go back, and nothing may appear that nobody wrote. */
static void apply(struct actor *a)
{
	struct world *w = a->w;

	for (size_t i = 0; i < a->tx.n; i++) {
		const struct change_of_row *c = &a->tx.v[i];
		struct row_there *row = &w->docs[c->doc].row;

		note(w, c->doc, a->number, "committed", c->version, c->write);
		if (row->there && c->version <= row->version)
			wrong(w, &w->counts->regressed, c->doc, "I3: the row goes from version %lld to %lld",
			      (long long)row->version, (long long)c->version);
		if (c->write == 0 || c->write >= w->n_writes || w->writes[c->write].doc != c->doc ||
		    w->writes[c->write].version != c->version)
			wrong(w, &w->counts->invented, c->doc, "I2: the row gets a value that nobody wrote at version %lld",
			      (long long)c->version);
		*row = (struct row_there){
			.there = true, .deleted = c->deleted, .version = c->version, .sum = c->sum, .write = c->write};
	}
	unlock(a);
}

static enum err db_commit(void *ctx)
{
	struct actor *a = ctx;
	bool gone;

	a->tx.committing = true;
	actor_yield(a);
	gone = away(a);
	a->tx.fail = (struct pg_fail){0};
	if (gone && one_in(a->w, 2)) {
		unlock(a);
		return ERR_UNCERTAIN;
	}
	apply(a);
	actor_yield(a);
	if (gone || one_in(a->w, 80)) {
		a->w->counts->lost_replies++;
		return ERR_UNCERTAIN;
	}
	return OK;
}

static void db_rollback(void *ctx)
{
	unlock(ctx);
}

static void db_reset(void *ctx)
{
	struct actor *a = ctx;

	unlock(a);
	a->tx.stale = false;
}

static const struct pg_fail *db_fail(void *ctx)
{
	return &((struct actor *)ctx)->tx.fail;
}

void table_db(struct actor *a)
{
	a->db = (struct flush_db){a, db_begin, db_copy, db_flush, db_versions, db_commit, db_rollback, db_reset, db_fail};
}

/* Its connection is gone: a COMMIT that had left is done, or not; anything else is rolled back. */
void table_abandon(struct actor *a)
{
	if (a->tx.committing && one_in(a->w, 2))
		apply(a);
	else
		unlock(a);
}
