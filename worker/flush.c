/* SPDX-License-Identifier: Apache-2.0 */
/* A turn: claim, unpack, order, and groups that are halved when a row in them is refused. */
#include "flush_turn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/failpoint.h"
#include "base/str.h"
#include "base/timefmt.h"
#include "base/uuid.h"
#include "verdict.h"

SCHEMA_TABLE(row_state, ROW_STATE_FIELDS);

#define TRIES_BUFFER 3
#define LAYOUT_WAIT_MS 30000

void flush_counts_add(struct flush_counts *to, const struct flush_counts *more)
{
	to->claimed += more->claimed;
	to->reaped += more->reaped;
	to->dropped += more->dropped;
	to->applied += more->applied;
	to->same += more->same;
	to->superseded += more->superseded;
	to->newer += more->newer;
	to->retried += more->retried;
	to->dead += more->dead;
	to->errors += more->errors;
	to->statements += more->statements;
	to->bytes_freed += more->bytes_freed;
	to->away = to->away || more->away;
	if (more->error[0] != '\0')
		memcpy(to->error, more->error, sizeof(to->error));
}

int64_t turn_now_us(const struct turn *turn)
{
	return turn->f->io->now_us(turn->f->io->ctx);
}

uint64_t turn_chance(const struct turn *turn)
{
	return turn->f->io->random(turn->f->io->ctx);
}

void turn_pause_ms(const struct turn *turn, int64_t ms)
{
	turn->f->io->pause_ms(turn->f->io->ctx, ms);
}

bool turn_stopping(const struct turn *turn)
{
	return turn->f->stopping != NULL && turn->f->stopping(turn->f->ctx);
}

void turn_tell_flushed(const struct turn *turn, const struct flushed_row *rows, size_t n)
{
	if (turn->f->flushed != NULL && n != 0)
		turn->f->flushed(turn->f->ctx, turn->t, rows, n);
}

/* ---- giving back and acknowledging --------------------------------------------------------------------------------------- */

void turn_give_back(struct turn *turn, struct item *const *items, size_t n, struct return_options o)
{
	struct acked *v = arena_array(turn->arena, n + 1, sizeof(*v));
	struct flushed_row *rows = arena_array(turn->arena, n + 1, sizeof(*rows));
	int64_t retried = 0, dead = 0;
	size_t n_v = 0;
	enum err e = OK;

	for (size_t i = 0; i < n; i++) {
		if (items[i]->settled)
			continue;
		items[i]->settled = true;
		rows[n_v] = (struct flushed_row){items[i]->record.school, items[i]->claimed->id};
		v[n_v++] = (struct acked){items[i]->claimed->id, items[i]->record.version};
	}
	if (n_v == 0)
		return;
	FAILPOINT("nack.before");
	for (unsigned i = 0; i < TRIES_BUFFER; i++) {
		e = buffer_nack(turn->f->io, turn->t->entity, turn->f->token, o.backoff_ms, o.count, str_of(o.error), o.permanent,
				v, n_v, turn->arena, &retried, &dead);
		if (e == OK)
			break;
		turn_pause_ms(turn, 50 << i);
	}
	turn->counts->errors += e != OK;
	turn->counts->retried += retried;
	turn->counts->dead += dead;
	if (o.permanent || dead != 0) /* who looks at such a row is told that it will not get there by itself */
		turn_tell_flushed(turn, rows, n_v);
	if (o.count || o.permanent)
		snprintf(turn->counts->error, sizeof(turn->counts->error), "%s", o.error);
}

void turn_give_back_one(struct turn *turn, struct item *item, struct return_options o)
{
	turn_give_back(turn, &item, 1, o);
}

/* ---- the turn ------------------------------------------------------------------------------------------------------------- */

/* Halves of a refused group go on a stack, deepest first, so at most one waits for each doubling of a thousand. */
#define GROUPS_MAX 64
#define SUSPECTS_MAX 20 /* of a turn */

static void run_groups(struct turn *turn)
{
	struct group stack[GROUPS_MAX];
	size_t n = 0;

	for (size_t i = turn->n_alone; i-- > 0;)
		stack[n++] = (struct group){turn->n_order + i, 1};
	if (turn->n_order > 0)
		stack[n++] = (struct group){0, turn->n_order};
	while (n > 0) {
		struct group g = stack[--n];
		size_t half = g.n / 2;

		if (turn_stopping(turn) || turn_now_us(turn) >= turn->give_up_us || turn->counts->away) {
			turn_give_back(
				turn, turn->order + g.from, g.n,
				(struct return_options){.backoff_ms = turn->counts->away ? backoff_away_ms(turn_chance(turn)) : 0,
							.error = ""});
			continue;
		}
		if (!turn_run_group(turn, g))
			continue;
		if (n + 2 > GROUPS_MAX)
			abort();
		stack[n++] = (struct group){g.from + half, g.n - half};
		stack[n++] = (struct group){g.from, half};
	}
}

/* The version of a record that cannot be read otherwise, so that NACK knows it; 0: not even that. */
static int64_t version_of(struct str value)
{
	int64_t version = 0;

	if (value.n >= 10)
		memcpy(&version, value.p + 2, sizeof(version));
	return version > 0 ? version : 0;
}

static void unpack(struct turn *turn, struct item *item)
{
	enum err e = buffer_record_parse(item->claimed->value, &item->record);

	if (e == OK)
		e = buffer_record_row(turn->t->entity, item->claimed->id, &item->record, turn->arena, &item->row);
	if (e == OK && item->claimed->attempts < TRIES_DEAD)
		return;
	if (e == OK) {
		turn_give_back_one(turn, item,
				   (struct return_options){.permanent = true, .error = "its workers died or failed too often"});
	} else if (e == ERR_CONFLICT) {
		turn_give_back_one(turn, item,
				   (struct return_options){.backoff_ms = LAYOUT_WAIT_MS + (int64_t)(turn_chance(turn) % 10000),
							   .error = ""});
	} else {
		item->record.version = version_of(item->claimed->value);
		turn_give_back_one(turn, item,
				   (struct return_options){
					   .backoff_ms = 60000, .permanent = true, .count = true, .error = "corrupt record"});
	}
}

/* Ordinary records together, and behind them those that have failed before, each alone, so that one that brings the worker down has harmed few.
 * What has failed often is alone among its like: the others go back, and nothing under suspicion is on lease but the one that is tried, so each
 * is judged by its own deeds before it is parked. */
static void put_in_order(struct turn *turn)
{
	struct item **suspects = arena_array(turn->arena, turn->n + 1, sizeof(struct item *));
	size_t n = 0, tried;
	bool strict = false;

	turn->order = arena_array(turn->arena, turn->n + 1, sizeof(struct item *));
	for (size_t i = 0; i < turn->n; i++) {
		struct item *item = &turn->items[i];

		if (item->settled)
			continue;
		if (item->claimed->attempts < TRIES_ALONE) {
			turn->order[turn->n_order++] = item;
			continue;
		}
		suspects[n++] = item;
		if (item->claimed->attempts >= TRIES_STRICT && !strict) { /* the first of them is the one */
			strict = true;
			suspects[n - 1] = suspects[0];
			suspects[0] = item;
		}
	}
	tried = strict ? 1 : n < SUSPECTS_MAX ? n : SUSPECTS_MAX;
	turn_give_back(turn, suspects + tried, n - tried, (struct return_options){.error = ""});
	for (size_t i = 0; i < tried; i++)
		turn->order[turn->n_order + i] = suspects[i];
	turn->n_alone = tried;
}

enum err flush_turn(const struct flusher *f, const struct flush_target *t, int64_t delay_ms, struct arena *arena,
		    struct flush_counts *counts)
{
	struct flush_counts own = {0};
	struct turn turn = {.f = f, .t = t, .arena = arena, .counts = &own};
	struct claim_result claim;
	enum err e;

	e = buffer_claim(f->io, t->entity, f->token, f->limits.records, f->limits.bytes, f->limits.lease_ms, delay_ms, arena,
			 &claim);
	if (e != OK)
		return e;
	FAILPOINT("claim.after");
	turn.give_up_us = turn_now_us(&turn) + f->limits.patience_ms * US_PER_MS;
	turn.n = claim.n;
	turn.items = arena_array(arena, claim.n + 1, sizeof(*turn.items));
	own.claimed = (int64_t)claim.n;
	own.reaped = claim.reaped;
	own.dropped = claim.dropped;
	for (size_t i = 0; i < claim.n; i++) {
		turn.items[i].claimed = &claim.v[i];
		unpack(&turn, &turn.items[i]);
	}
	put_in_order(&turn);
	run_groups(&turn);
	flush_counts_add(counts, &own);
	return OK;
}
