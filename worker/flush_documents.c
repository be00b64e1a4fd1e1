/* SPDX-License-Identifier: Apache-2.0 */
/* Documents instead of rows: one bulk for each school of a batch, and what became of each document. */
#include "flush_documents.h"

#include <stdio.h>
#include <string.h>

#include "base/uuid.h"
#include "svc/document_row.h"

#define OUTCOME_FIELDS(F, T) F(T, INT, i) F(T, INT, outcome)
SCHEMA_STRUCT(put_done, OUTCOME_FIELDS);
SCHEMA_TABLE(put_done, OUTCOME_FIELDS);

/* The documents of one school, and what came of them. */
struct school_batch {
	struct uuid school;
	struct doc *docs;
	enum doc_outcome *outcomes;
	int64_t *stored;
	size_t n;
};

static enum err begin(void *ctx, const struct flush_target *t)
{
	struct flush_documents *d = ctx;

	(void)t;
	d->n = 0;
	d->stored = (struct list){0};
	d->fail = (struct pg_fail){0};
	return d->mongo ? OK : pg_sync_begin(*d->pg);
}

static enum err copy(void *ctx, const struct flush_target *t, const void *const *rows, size_t n)
{
	struct flush_documents *d = ctx;

	(void)t;
	d->copied = rows;
	d->n = n;
	return OK;
}

static void add_state(struct list *to, const struct doc *doc, struct uuid school, int64_t version)
{
	((struct row_state *)to->v)[to->n++] = (struct row_state){.id = doc->id, .school_id = school, .version = version};
}

static const char *service_of(const struct flush_target *t, struct arena *arena)
{
	const char *table = t->entity->table;

	return arena_printf(arena, "%.*s", (int)strcspn(table, "."), table);
}

static enum err put_in_mongo(struct flush_documents *d, const struct flush_target *t, struct arena *arena, struct school_batch *b)
{
	struct doc_batch batch = {.service = service_of(t, arena),
				  .collection = t->entity->collection,
				  .school = b->school,
				  .docs = b->docs,
				  .n = b->n,
				  .append = t->entity->write == APPEND,
				  .arena = arena};
	enum err e = docstore_sync_upsert(d->mongo, &batch, b->outcomes, b->stored);

	/* One of them will never be taken: the group is halved until it stands alone. */
	if (e == ERR_INVALID)
		snprintf(d->fail.sqlstate, sizeof(d->fail.sqlstate), "22000");
	/* Whatever else it was may be over soon. */
	return e == ERR_INVALID || e == ERR_BUG ? e : e == OK ? OK : ERR_DB;
}

static enum err put_in_pg(struct flush_documents *d, const struct flush_target *t, struct arena *arena, struct school_batch *b)
{
	struct uuid *ids = arena_array(arena, b->n, sizeof(*ids));
	int64_t *versions = arena_array(arena, b->n, sizeof(*versions));
	struct str *texts = arena_array(arena, b->n, sizeof(*texts));
	const struct put_done *v;
	struct list list;
	enum err e;

	for (size_t i = 0; i < b->n; i++) {
		ids[i] = b->docs[i].id;
		versions[i] = b->docs[i].version;
		texts[i] = b->docs[i].json.p ? b->docs[i].json : STR("");
	}
	e = pg_sync_query(*d->pg, arena, t->sql->flush,
			  PG_PARAMS(PG_UUID(b->school), PG_UUIDS(((struct list){ids, b->n})),
				    PG_INTS(((struct list){versions, b->n})), PG_TEXTS(((struct list){texts, b->n}))),
			  &put_done_schema, &list);
	if (e != OK)
		return e;
	v = list.v;
	for (size_t i = 0; i < list.n; i++)
		if (v[i].i >= 1 && v[i].i <= (int64_t)b->n)
			b->outcomes[v[i].i - 1] = (enum doc_outcome)v[i].outcome;
	return list.n == b->n ? OK : ERR_BUG;
}

/* The documents of the school of copied[from], behind it too; those that cannot be documents are refused here. */
static struct school_batch batch_from(struct flush_documents *d, const struct flush_target *t, size_t from, bool *taken,
				      struct arena *arena, struct list *ret)
{
	struct school_batch b = {.school = ((const struct row *)d->copied[from])->school_id,
				 .docs = arena_array(arena, d->n, sizeof(*b.docs)),
				 .outcomes = arena_zalloc(arena, d->n * sizeof(*b.outcomes)),
				 .stored = arena_zalloc(arena, d->n * sizeof(*b.stored))};

	for (size_t i = from; i < d->n; i++) {
		const struct row *row = d->copied[i];
		struct doc doc = {row->id, row->version, document_of_row(t->entity, row, arena)};

		if (taken[i] || !uuid_eq(row->school_id, b.school))
			continue;
		taken[i] = true;
		if (doc.json.p && doc_check(doc.json) != OK)
			add_state(ret, &doc, b.school, ROW_REFUSED_FORM);
		else
			b.docs[b.n++] = doc;
	}
	return b;
}

static void note_outcomes(struct flush_documents *d, const struct school_batch *b, struct list *ret)
{
	for (size_t i = 0; i < b->n; i++) {
		if (b->outcomes[i] == DOC_APPLIED)
			add_state(ret, &b->docs[i], b->school, b->docs[i].version);
		else if (b->outcomes[i] == DOC_REFUSED)
			add_state(ret, &b->docs[i], b->school, ROW_REFUSED_INDEX);
		else
			add_state(&d->stored, &b->docs[i], b->school, b->stored[i]);
	}
}

static enum err flush(void *ctx, const struct flush_target *t, struct arena *arena, struct list *ret)
{
	struct flush_documents *d = ctx;
	bool *taken = arena_zalloc(arena, d->n + 1);
	enum err e = OK;

	*ret = (struct list){arena_array(arena, d->n + 1, sizeof(struct row_state)), 0};
	d->stored = (struct list){arena_array(arena, d->n + 1, sizeof(struct row_state)), 0};
	for (size_t i = 0; e == OK && i < d->n; i++) {
		struct school_batch b;

		if (taken[i])
			continue;
		b = batch_from(d, t, i, taken, arena, ret);
		if (b.n > 0)
			e = d->mongo ? put_in_mongo(d, t, arena, &b) : put_in_pg(d, t, arena, &b);
		if (e == OK)
			note_outcomes(d, &b, ret);
	}
	return e;
}

/* Why documents did not come back: MongoDB has said it with the write. */
static enum err versions(void *ctx, const struct flush_target *t, const struct uuid *ids, size_t n, struct arena *arena,
			 struct list *ret)
{
	struct flush_documents *d = ctx;
	struct list list = {arena_dup(arena, ids, n * sizeof(*ids)), n};

	if (!d->mongo)
		return pg_sync_query(*d->pg, arena, t->sql->versions, PG_PARAMS(PG_UUIDS(list)), &row_state_schema, ret);
	*ret = d->stored;
	return OK;
}

static enum err commit(void *ctx)
{
	struct flush_documents *d = ctx;

	return d->mongo ? OK : pg_sync_commit(*d->pg);
}

static void rollback(void *ctx)
{
	struct flush_documents *d = ctx;

	if (!d->mongo)
		d->rows->rollback(d->rows->ctx);
}

static void reset(void *ctx)
{
	struct flush_documents *d = ctx;

	if (!d->mongo)
		d->rows->reset(d->rows->ctx);
}

static const struct pg_fail *fail(void *ctx)
{
	struct flush_documents *d = ctx;

	return d->mongo ? &d->fail : d->rows->fail(d->rows->ctx);
}

struct flush_db flush_documents_db(struct flush_documents *d)
{
	return (struct flush_db){d, begin, copy, flush, versions, commit, rollback, reset, fail};
}
