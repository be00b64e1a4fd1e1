/* SPDX-License-Identifier: Apache-2.0 */
/* The document store's embedded driver: JSONB in PostgreSQL. What it does is in db/migrations/0005_documents.sql; the role's search_path finds it. */
#include <stdlib.h>

#include "base/uuid.h"
#include "io/docstore_driver.h"
#include "io_sql.h"

#define SWEEP_MOST 1000

struct docstore_pg {
	struct docstore port;
	struct pg *pg;
};

// clang-format off
#define DOC_PUT_FIELDS(F, T)  \
	F(T, INT, i)          \
	F(T, INT, outcome)
#define DOC_ROW_FIELDS(F, T)  \
	F(T, UUID, id)        \
	F(T, INT, v)          \
	F(T, JSON, doc)       \
	F(T, JSON, key)
#define DOC_INDEX_FIELDS(F, T) \
	F(T, BOOL, made)
#define DOC_SWEEP_FIELDS(F, T) \
	F(T, INT, gone)
// clang-format on
SCHEMA_STRUCT(doc_put_row, DOC_PUT_FIELDS);
SCHEMA_STRUCT(doc_row, DOC_ROW_FIELDS);
SCHEMA_STRUCT(doc_index_row, DOC_INDEX_FIELDS);
SCHEMA_STRUCT(doc_sweep_row, DOC_SWEEP_FIELDS);
SCHEMA_TABLE(doc_put_row, DOC_PUT_FIELDS);
SCHEMA_TABLE(doc_row, DOC_ROW_FIELDS);
SCHEMA_TABLE(doc_index_row, DOC_INDEX_FIELDS);
SCHEMA_TABLE(doc_sweep_row, DOC_SWEEP_FIELDS);

static struct pg *pg_of(struct docstore *s)
{
	return CONTAINER_OF(s, struct docstore_pg, port)->pg;
}

static struct pg_scope pg_scope_of(const struct doc_scope *scope)
{
	return (struct pg_scope){.school = scope->school, .arena = scope->arena, .deadline = scope->deadline};
}

static void close_pg(struct docstore *s)
{
	free(CONTAINER_OF(s, struct docstore_pg, port)); /* the pool is the caller's */
}

SUSPENDS static enum err ping_pg(struct docstore *s, struct deadline d)
{
	(void)d;
	return pg_is_up(pg_of(s)) ? OK : ERR_DB; /* the pool knows */
}

SUSPENDS static enum err upsert_pg(struct docstore *s, const struct doc_scope *scope, const char *collection,
				   const struct doc *docs, size_t n, enum doc_outcome *outcomes)
{
	struct uuid *ids = arena_array(scope->arena, n, sizeof(*ids));
	int64_t *versions = arena_array(scope->arena, n, sizeof(*versions));
	struct str *texts = arena_array(scope->arena, n, sizeof(*texts));
	struct pg_scope pg_scope = pg_scope_of(scope);
	struct doc_put_row *rows;
	struct list list;
	enum err e;

	for (size_t i = 0; i < n; i++) {
		ids[i] = docs[i].id;
		versions[i] = docs[i].version;
		texts[i] = docs[i].json.p != NULL ? docs[i].json : STR("");
	}
	e = pg_query(pg_of(s), &pg_scope, &SQL_DOCUMENTS_PUT,
		     PG_PARAMS(PG_UUID(scope->school), PG_TEXT(str_of(collection)), PG_UUIDS(((struct list){ids, n})),
			       PG_INTS(((struct list){versions, n})), PG_TEXTS(((struct list){texts, n}))),
		     &doc_put_row_schema, &list);
	if (e != OK)
		return e;
	rows = list.v;
	for (size_t i = 0; i < list.n; i++) {
		if (rows[i].i >= 1 && rows[i].i <= (int64_t)n)
			outcomes[rows[i].i - 1] = (enum doc_outcome)rows[i].outcome;
	}
	return list.n == n ? OK : ERR_BUG;
}

SUSPENDS static enum err get_pg(struct docstore *s, const struct doc_scope *scope, const char *collection, struct uuid id,
				struct doc *ret)
{
	struct pg_scope pg_scope = pg_scope_of(scope);
	struct doc_row row;
	enum err e = pg_query_one(pg_of(s), &pg_scope, &SQL_DOCUMENTS_GET,
				  PG_PARAMS(PG_UUID(scope->school), PG_TEXT(str_of(collection)), PG_UUID(id)), &doc_row_schema,
				  &row);

	if (e != OK)
		return e;
	*ret = (struct doc){.id = id, .version = row.v, .json = row.doc};
	return OK;
}

static struct str conds_json(const struct doc_find *find, struct arena *arena)
{
	static const char *const ops[] = {
		[DOC_EQ] = "eq", [DOC_IN] = "in",   [DOC_GT] = "gt",     [DOC_GTE] = "gte",
		[DOC_LT] = "lt", [DOC_LTE] = "lte", [DOC_TEXT] = "text",
	};
	struct buf b = buf_in(arena);

	buf_putc(&b, '[');
	for (size_t i = 0; i < find->n_conds; i++) {
		buf_printf(&b, "%s{\"op\":\"%s\",\"path\":\"%s\",\"value\":", i != 0 ? "," : "", ops[find->conds[i].op],
			   find->conds[i].path);
		buf_puts(&b, find->conds[i].value);
		buf_putc(&b, '}');
	}
	buf_putc(&b, ']');
	return buf_str(&b);
}

static struct str after_json(const struct doc_after *after, struct arena *arena)
{
	struct buf b = buf_in(arena);

	if (!after->set)
		return (struct str){NULL, 0};
	buf_puts(&b, STR("{\"id\":\""));
	buf_put_uuid(&b, after->id);
	buf_puts(&b, STR("\",\"key\":"));
	buf_puts(&b, after->key);
	buf_putc(&b, '}');
	return buf_str(&b);
}

SUSPENDS static enum err find_pg(struct docstore *s, const struct doc_scope *scope, const char *collection,
				 const struct doc_find *find, const struct doc_after *after, struct doc_page *ret)
{
	struct pg_param from = {.type = PG_T_JSONB, .null = !after->set, .s = after_json(after, scope->arena)};
	struct pg_scope pg_scope = pg_scope_of(scope);
	struct doc_page page;
	struct doc_row *rows;
	struct list list;
	enum err e;

	e = pg_query(pg_of(s), &pg_scope, &SQL_DOCUMENTS_FIND,
		     PG_PARAMS(PG_UUID(scope->school), PG_TEXT(str_of(collection)), PG_JSONB(conds_json(find, scope->arena)),
			       PG_TEXT_OR_NULL(str_of(find->sort)), PG_BOOL(find->descending), PG_INT4((int64_t)find->limit + 1),
			       from),
		     &doc_row_schema, &list);
	if (e != OK)
		return e;
	rows = list.v;
	page = (struct doc_page){arena_array(scope->arena, list.n, sizeof(struct doc)),
				 arena_array(scope->arena, list.n, sizeof(struct str)), list.n};
	for (size_t i = 0; i < list.n; i++) {
		page.docs[i] = (struct doc){rows[i].id, rows[i].v, rows[i].doc};
		page.keys[i] = rows[i].key;
	}
	*ret = page;
	return OK;
}

SUSPENDS static enum err create_index_pg(struct docstore *s, const struct doc_index *index, size_t n_paths, struct deadline d)
{
	struct arena *arena = arena_new();
	struct pg_scope scope = {.arena = arena, .deadline = d};
	struct str *paths = arena_array(arena, n_paths, sizeof(*paths));
	struct doc_index_row row;
	enum err e;

	for (size_t i = 0; i < n_paths; i++)
		paths[i] = str_of(index->paths[i]);
	e = pg_query_one(pg_of(s), &scope, &SQL_DOCUMENTS_INDEX,
			 PG_PARAMS(PG_TEXT(str_of(index->collection)), PG_TEXT(str_of(index->name)),
				   PG_TEXTS(((struct list){paths, n_paths})), PG_BOOL(index->unique), PG_BOOL(index->text),
				   PG_INT8(index->expire_s)),
			 &doc_index_row_schema, &row);
	if (e == OK && !row.made)
		e = ERR_CONFLICT;
	arena_free(arena);
	/* A unique index over documents that are equal already. */
	return e == ERR_EXISTS ? ERR_CONFLICT : e;
}

/* In portions, so that no statement takes long. */
SUSPENDS static enum err sweep_pg(struct docstore *s, int64_t older_s, struct deadline d, int64_t *ret_removed)
{
	struct arena *arena = arena_new();
	struct pg_scope scope = {.arena = arena, .deadline = d};
	struct doc_sweep_row row = {.gone = SWEEP_MOST};
	int64_t removed = 0;
	enum err e = OK;

	while (e == OK && row.gone == SWEEP_MOST) {
		e = pg_query_one(pg_of(s), &scope, &SQL_DOCUMENTS_SWEEP, PG_PARAMS(PG_INT8(older_s), PG_INT8(SWEEP_MOST)),
				 &doc_sweep_row_schema, &row);
		removed += e == OK ? row.gone : 0;
	}
	arena_free(arena);
	*ret_removed = removed;
	return e;
}

static const struct docstore_driver driver = {.close = close_pg,
					      .ping = ping_pg,
					      .sweep = sweep_pg,
					      .upsert = upsert_pg,
					      .get = get_pg,
					      .find = find_pg,
					      .create_index = create_index_pg};

enum err docstore_open_pg(struct pg *pg, const char *service, struct docstore **ret)
{
	struct docstore_pg *s = mem_zalloc(sizeof(*s));

	(void)service; /* its role's search_path begins with its schema */
	*s = (struct docstore_pg){.port = {&driver}, .pg = pg};
	*ret = &s->port;
	return OK;
}
