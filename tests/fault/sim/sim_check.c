/* SPDX-License-Identifier: Apache-2.0 */
/* The invariants. What the buffer has executed must be in the buffer or in the table, in one place of the queues, and in the lists that name it. */
#include <stdio.h>

#include "base/str.h"
#include "sim.h"

static const char *const sets[] = {"pending", "retry", "lease", "dlq"};

static struct str set_key(struct world *w, const char *set, enum kind kind)
{
	return str_of(arena_printf(w->check_arena, "wb:%s:%s", set, sim_entities[kind].name));
}

bool record_of(struct world *w, const struct doc *d, struct str *ret)
{
	char key[100];
	int n = snprintf(key, sizeof(key), "write_buffer:%s:%s", sim_entities[d->kind].name, d->text);

	return keyspace_string(w->ks, (struct str){key, (size_t)n}, ret);
}

/* ---- when a PUT was executed ---- */

static void executed_one(struct world *w, int actor, size_t index, int64_t version, bool was_buffered)
{
	struct write *wr = &w->writes[index];
	struct doc *d = &w->docs[wr->doc];
	const struct write *before = d->last != 0 ? &w->writes[d->last] : NULL;

	note(w, wr->doc, actor, "put", version, index);
	if (wr->version != 0)
		wrong(w, &w->counts->duplicated, wr->doc, "one call is done twice, at versions %lld and %lld",
		      (long long)wr->version, (long long)version);
	if (before && version <= before->version)
		wrong(w, &w->counts->regressed, wr->doc, "I3: version %lld is issued after %lld", (long long)version,
		      (long long)before->version);
	if (before && wr->base != 0 && wr->base != before->version)
		wrong(w, &w->counts->lost, wr->doc, "I1: a write on base %lld overwrites version %lld, which it has not seen",
		      (long long)wr->base, (long long)before->version);
	if (before && wr->base == 0 && before->version > wr->floor)
		wrong(w, &w->counts->lost, wr->doc, "I1: a creation behind %lld overwrites version %lld, which it has not seen",
		      (long long)wr->floor, (long long)before->version);
	wr->version = version;
	d->last = index;
	d->sum = wr->sum;
	d->lists = (was_buffered ? d->lists : 0) | wr->old_list | 1u << wr->list;
	if (d->row.there && !d->row.deleted && (d->lists >> w->writes[d->row.write].list & 1) == 0)
		wrong(w, &w->counts->broken, wr->doc, "I9: the list that the table shows the row in is not overlaid");
	memmove(d->recent + 1, d->recent, sizeof(d->recent) - sizeof(d->recent[0]));
	d->recent[0] = index;
}

void executed(struct world *w, int actor, const size_t *writes, size_t n, int64_t version, const bool *was_buffered)
{
	for (size_t i = 0; i < n; i++)
		executed_one(w, actor, writes[i], version, was_buffered[i]);
}

/* A conflict is with somebody. */
void conflicted(struct world *w, size_t index)
{
	const struct write *wr = &w->writes[index];
	const struct doc *d = &w->docs[wr->doc];
	const struct write *last = &w->writes[d->last];

	if (wr->base != 0 ? last->version == wr->base : d->last == 0 || last->version <= wr->floor)
		wrong(w, &w->counts->broken, wr->doc, "a write on base %lld meets a conflict, and nobody has written since",
		      (long long)wr->floor);
}

/* ---- I9 ---- */

struct tally {
	size_t in[KINDS][ARRAY_LEN(sets)], owned[KINDS], scoped;
	struct str keys[KINDS][ARRAY_LEN(sets)], own[KINDS];
};

static void check_scopes(struct world *w, const struct doc *d, const struct buffer_record *r, struct tally *t)
{
	const char *name = sim_entities[d->kind].name;
	unsigned named = 0;
	struct str none;

	for (size_t at = 0; at < r->scopes.n; at += 1 + (uint8_t)r->scopes.p[at]) {
		struct str scope = {r->scopes.p + at + 1, (uint8_t)r->scopes.p[at]};
		char key[200];
		int n = snprintf(key, sizeof(key), "wb:scope:%s:%.*s", name, STR_FMT(scope));
		struct uuid list;

		t->scoped++;
		if (!keyspace_field(w->ks, (struct str){key, (size_t)n}, str_of(d->text), &none))
			wrong(w, &w->counts->broken, (size_t)(d - w->docs), "I9: the record names %.*s, which does not have it",
			      STR_FMT(scope));
		if (str_has_prefix(scope, STR("list_id:")) && uuid_parse((struct str){scope.p + 8, scope.n - 8}, &list))
			named |= 1u << list.b[15];
	}
	if (d->kind != ENTRY && (d->lists & ~named) != 0)
		wrong(w, &w->counts->broken, (size_t)(d - w->docs),
		      "I9: a list that the record has left unsynced is not overlaid");
}

/* Dead is what the table refuses, or what has failed twelve times. */
static void check_dead(struct world *w, const struct doc *d)
{
	struct str key = str_of(arena_printf(w->check_arena, "meta:write_buffer:%s:%s", sim_entities[d->kind].name, d->text));
	struct str attempts;
	int64_t n = 0;

	if (w->writes[d->last].poison)
		return;
	if (!keyspace_field(w->ks, key, STR("attempts"), &attempts) || !str_to_i64(attempts, &n) || n < 12)
		wrong(w, &w->counts->broken, (size_t)(d - w->docs), "I8: a good write is dead after %lld tries", (long long)n);
}

static void check_record(struct world *w, struct doc *d, struct str value, struct tally *t)
{
	size_t doc = (size_t)(d - w->docs), places = 0, leased = 0;
	struct buffer_record r;
	struct str owner;
	bool owned = keyspace_field(w->ks, t->own[d->kind], str_of(d->text), &owner);
	double score;

	for (size_t s = 0; s < ARRAY_LEN(sets); s++) {
		bool in = keyspace_score(w->ks, t->keys[d->kind][s], str_of(d->text), &score);

		t->in[d->kind][s] += in;
		places += in;
		leased += in && s == 2;
		if (in && s == 3)
			check_dead(w, d);
	}
	t->owned[d->kind] += owned;
	if (places != 1)
		wrong(w, &w->counts->broken, doc, "I9: the record is in %zu of pending, retry, lease and dlq", places);
	if (owned != (leased == 1))
		wrong(w, &w->counts->broken, doc, "I9: own and lease disagree");
	if (buffer_record_parse(value, &r) != OK)
		wrong(w, &w->counts->broken, doc, "a record that cannot be read");
	else if (d->last == 0 || r.version != w->writes[d->last].version)
		wrong(w, &w->counts->lost, doc, "I1: the buffer has version %lld, and not what was written last",
		      (long long)r.version);
	else
		check_scopes(w, d, &r, t);
}

static void check_doc(struct world *w, struct doc *d, struct tally *t)
{
	const struct write *last = d->last != 0 ? &w->writes[d->last] : NULL;
	struct str value;

	if (record_of(w, d, &value))
		check_record(w, d, value, t);
	else if (last && (!d->row.there || d->row.write != d->last || d->row.version != last->version))
		wrong(w, &w->counts->lost, (size_t)(d - w->docs),
		      "I1: version %lld is neither in the buffer nor in the table, which has %lld", (long long)last->version,
		      (long long)(d->row.there ? d->row.version : 0));
	else
		d->settled = d->kind == ENTRY && last;
}

static void add_size(void *ctx, struct str key)
{
	struct world *w = ((void **)ctx)[0];

	*(size_t *)((void **)ctx)[1] += keyspace_size(w->ks, key);
}

static size_t size_of_scopes(struct world *w)
{
	size_t n = 0;
	void *ctx[] = {w, &n};

	keyspace_prefix(w->ks, STR("wb:scope:"), add_size, ctx);
	return n;
}

static void prepare(struct world *w, struct tally *t)
{
	arena_clear(w->check_arena);
	for (enum kind k = 0; k < KINDS; k++) {
		for (size_t s = 0; s < ARRAY_LEN(sets); s++)
			t->keys[k][s] = set_key(w, sets[s], k);
		t->own[k] = set_key(w, "own", k);
	}
}

void check_everything(struct world *w)
{
	struct tally t = {0};

	prepare(w, &t);
	for (size_t i = 0; i < w->n_docs && !w->failed; i++)
		if (!w->docs[i].settled)
			check_doc(w, &w->docs[i], &t);
	for (enum kind k = 0; k < KINDS && !w->failed; k++) {
		for (size_t s = 0; s < ARRAY_LEN(sets); s++)
			if (keyspace_size(w->ks, t.keys[k][s]) != t.in[k][s])
				wrong(w, &w->counts->broken, 0, "I9: wb:%s:%s has an id without a record", sets[s],
				      sim_entities[k].name);
		if (keyspace_size(w->ks, t.own[k]) != t.owned[k])
			wrong(w, &w->counts->broken, 0, "I9: wb:own:%s has an id without a record", sim_entities[k].name);
	}
	if (!w->failed && size_of_scopes(w) != t.scoped)
		wrong(w, &w->counts->broken, 0, "I9: a scope has an id whose record does not name it");
}

/* ---- at the end: everything is in the table, as the clients know it ---- */

static void check_doc_at_end(struct world *w, size_t i)
{
	struct doc *d = &w->docs[i];
	const struct write *last = &w->writes[d->last];
	uint64_t sum;

	if (d->last == 0)
		return;
	if (!d->row.there || d->row.write != d->last || d->row.version < d->acked)
		wrong(w, &w->counts->lost, i, "I1: at the end the table has version %lld, and %lld is acknowledged",
		      (long long)d->row.version, (long long)d->acked);
	else if (d->row.deleted != last->deleted)
		wrong(w, &w->counts->lost, i, "I7: deleted is %d, and should be %d", d->row.deleted, last->deleted);
	else if (d->row.sum != d->sum)
		wrong(w, &w->counts->lost, i, "I5: the sum is %lld, and should be %lld", (long long)d->row.sum,
		      (long long)d->sum);
	sum = (uint64_t)d->row.sum;
	if (d->counter && (sum < d->n_acked || sum > d->n_acked + d->n_unknown))
		wrong(w, &w->counts->lost, i, "I5: the counter is %lld after %lld acknowledged additions", (long long)d->row.sum,
		      (long long)d->n_acked);
}

void check_end(struct world *w)
{
	check_everything(w);
	for (size_t i = 0; i < w->n_docs && !w->failed; i++)
		check_doc_at_end(w, i);
	if (!w->failed && keyspace_prefix(w->ks, STR("write_buffer:"), NULL, NULL) != 0)
		wrong(w, &w->counts->broken, 0, "a record does not leave the buffer");
	if (!w->failed && keyspace_prefix(w->ks, STR("wb:"), NULL, NULL) > 1) /* wb:hlc stays */
		wrong(w, &w->counts->broken, 0, "I9: the queues are not empty");
}
