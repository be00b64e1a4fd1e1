/* SPDX-License-Identifier: Apache-2.0 */
/* The query cache: keys from statements and parameters, tags from the tables that they declare. */
#include "svc/cache_query.h"

#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "io/crypto.h"
#include "svc/buffers.h"
#include "svc/daemon.h"
#include "svc/directory.h"
#include "svc/service.h"

/* ---- tags ---- */

/* Rows come into it by the worker's flush, which raises `table:` and no lists. */
static bool is_flushed(const struct req *req, const char *table)
{
	const struct entity *const *e = daemon_service(req->daemon)->entities;

	for (size_t i = 0; e && e[i]; i++) {
		if (e[i]->write != THROUGH && strcmp(e[i]->table, table) == 0)
			return true;
	}
	return false;
}

static struct cache_tags tags_of(struct req *req, const struct pg_stmt *stmt, const struct cache_tags *scope)
{
	struct cache_tags tags = {.school = req->who.school_id};
	bool scoped = scope && scope->n != 0;

	if (scoped) { /* names as they are: cache_tag would escape them once more */
		tags.v = arena_array(req->arena, scope->n, sizeof(*tags.v));
		memcpy(tags.v, scope->v, scope->n * sizeof(*tags.v));
		tags.n = tags.cap = scope->n;
	}
	for (const char *const *t = stmt->tables; *t; t++) {
		cache_tag(&tags, req->arena, "bulk:", str_of(*t));
		if (!scoped || (!stmt->live && is_flushed(req, *t)))
			cache_tag(&tags, req->arena, "table:", str_of(*t));
	}
	return tags;
}

void query_writes(const struct pg_stmt *stmt, struct arena *arena, struct cache_tags *to)
{
	for (const char *const *t = stmt->writes; t && *t; t++)
		cache_tag(to, arena, "", str_of(*t));
}

static bool names_rows(const struct cache_tags *tags)
{
	for (size_t i = 0; tags && i < tags->n; i++) {
		if (!str_has_prefix(tags->v[i], STR("table:")) && !str_has_prefix(tags->v[i], STR("bulk:")))
			return true;
	}
	return false;
}

void query_wrote(struct req *req, const struct cache_tags *tables)
{
	bool named = names_rows(req->touched);

	if (!req->daemon->caches || tables->n == 0)
		return;
	if (!req->touched) {
		req->touched = arena_zalloc(req->arena, sizeof(*req->touched));
		req->touched->school = req->who.school_id;
	}
	for (size_t i = 0; i < tables->n; i++) {
		cache_tag(req->touched, req->arena, "table:", tables->v[i]);
		if (!named)
			cache_tag(req->touched, req->arena, "bulk:", tables->v[i]);
		if (!named && str_has_prefix(tables->v[i], STR("auth."))) /* kept by other names than its tables' */
			cache_tag(req->touched, req->arena, DIRECTORY_BULK, STR(""));
	}
}

/* ---- keys ---- */

static void put_sized(struct buf *b, const void *p, size_t n)
{
	buf_put_varint(b, n);
	buf_put(b, p, n);
}

static void put_list(struct buf *b, const struct pg_param *p)
{
	buf_put_varint(b, p->list.n);
	for (size_t i = 0; i < p->list.n; i++) {
		const struct str *texts = p->list.v;

		if (p->type == PG_T_TEXTS)
			put_sized(b, texts[i].p, texts[i].n);
	}
	if (p->type == PG_T_UUIDS)
		buf_put(b, p->list.v, p->list.n * sizeof(struct uuid));
	else if (p->type == PG_T_INTS)
		buf_put(b, p->list.v, p->list.n * sizeof(int64_t));
}

/* A type has one length or says its own, so different parameters never make the same bytes. */
static void put_param(struct buf *b, const struct pg_param *p)
{
	buf_putc(b, (char)p->type);
	buf_putc(b, p->null ? 1 : 0);
	if (p->null)
		return;
	switch (p->type) {
	case PG_T_NULL:
		break;
	case PG_T_UUID:
		buf_put(b, &p->uuid, sizeof(p->uuid));
		break;
	case PG_T_TEXT:
	case PG_T_JSONB:
	case PG_T_BYTEA:
		put_sized(b, p->s.p, p->s.n);
		break;
	case PG_T_INT4:
	case PG_T_INT8:
	case PG_T_TIME:
	case PG_T_DATE:
		buf_put(b, &p->i, sizeof(p->i));
		break;
	case PG_T_FLOAT8:
		buf_put(b, &p->d, sizeof(p->d));
		break;
	case PG_T_BOOL:
		buf_putc(b, p->b ? 1 : 0);
		break;
	case PG_T_UUIDS:
	case PG_T_TEXTS:
	case PG_T_INTS:
		put_list(b, p);
		break;
	}
}

/* Names and types of the columns: rows that another version of the daemon kept are not read as this one's. */
static void put_shape(struct buf *b, const struct schema *s)
{
	buf_putc(b, s->row ? 1 : 0);
	buf_put_varint(b, s->n);
	for (size_t i = 0; i < s->n; i++) {
		const struct field *f = &s->fields[i];

		put_sized(b, f->name, strlen(f->name));
		buf_putc(b, (char)f->type);
		buf_put_varint(b, f->names.n);
		for (size_t k = 0; k < f->names.n; k++)
			put_sized(b, f->names.v[k], strlen(f->names.v[k]));
		if (f->sub)
			put_shape(b, f->sub);
	}
}

static struct str hash_part(struct arena *arena, const struct buf *b)
{
	char *text = arena_alloc(arena, 65);
	uint8_t hash[32];

	sha256(buf_str(b), hash);
	hex_text(hash, sizeof(hash), text);
	return (struct str){text, 64};
}

static struct str key_of(struct req *req, const struct pg_stmt *stmt, struct pg_params params, const struct schema *out,
			 const char *fingerprint)
{
	struct buf b = buf_in(req->arena);
	struct str parts[4];

	buf_put_varint(&b, params.n);
	for (size_t i = 0; i < params.n; i++)
		put_param(&b, &params.v[i]);
	put_shape(&b, out);
	parts[0] = str_of(stmt->name);
	parts[1] = str_of(arena_strdup(req->arena, fingerprint));
	parts[2] = str_of(role_name(req->who.role));
	parts[3] = hash_part(req->arena, &b);
	return cache_key(req->daemon->caches, req->arena, req->who.school_id, "query", parts, ARRAY_LEN(parts));
}

/* ---- asking ---- */

struct asking {
	struct req *req;
	const struct pg_stmt *stmt;
	struct pg_params params;
	const struct schema *out;
	SUSPENDS enum err (*read)(struct req *req, void *arg, struct list *ret);
	void *arg;
	struct list rows;
	bool asked; /* by this very request: its rows stand here */
};

/* In front of the rows: whoever waits for them is told that the buffer could not be asked. */
enum { ROWS_COMPLETE, ROWS_DATABASE_ONLY };

SUSPENDS static enum err read_by_statement(struct req *req, void *arg, struct list *ret)
{
	const struct asking *a = arg;

	return db_query(req, a->stmt, a->params, a->out, ret);
}

SUSPENDS static enum err fill(void *ctx, struct buf *to)
{
	struct asking *a = ctx;
	struct daemon *d = a->req->daemon;
	int64_t from = loop_mono_us(daemon_loop(d));
	enum err e = a->read(a->req, a->arg, &a->rows);
	bool partial = a->req->database_only;
	struct query_stat *stat = query_stat_of(d, a->stmt);

	stat->misses++;
	stat->source_us += (uint64_t)(loop_mono_us(daemon_loop(d)) - from);
	stat->errors += e != OK;
	a->asked = e == OK;
	if (e != OK)
		return e;
	buf_putc(to, partial ? ROWS_DATABASE_ONLY : ROWS_COMPLETE);
	query_pack(a->out, &a->rows, to);
	return partial || a->rows.n > QUERY_ROWS_MAX || to->n > QUERY_BYTES_MAX ? ERR_GONE : OK;
}

static void note_kept(struct asking *a, const struct cache_call *call, size_t bytes)
{
	struct query_stat *stat = query_stat_of(a->req->daemon, a->stmt);
	size_t at = 0;

	stat->bytes = bytes;
	stat->rows = a->rows.n;
	stat->cached_at_us = loop_real_us(daemon_loop(a->req->daemon));
	stat->ttl_s = call->life.ttl_s;
	snprintf(stat->key, sizeof(stat->key), "%.*s", STR_FMT(call->key));
	stat->tags[0] = '\0';
	for (size_t i = 0; i < call->tags->n && at + call->tags->v[i].n + 2 < sizeof(stat->tags); i++)
		at += (size_t)snprintf(stat->tags + at, sizeof(stat->tags) - at, "%s%.*s", i != 0 ? " " : "",
				       STR_FMT(call->tags->v[i]));
}

/* For the answer's headers: a row out of the source makes it no hit. */
static void note_answer(struct req *req, bool hit, int64_t written_us, int64_t fresh_until_us)
{
	struct query_note *q = &req->queries;

	if (!hit) {
		q->misses++;
		return;
	}
	q->written_us = q->hits == 0 || written_us < q->written_us ? written_us : q->written_us;
	q->fresh_until_us = q->hits == 0 || fresh_until_us < q->fresh_until_us ? fresh_until_us : q->fresh_until_us;
	q->hits++;
}

/* Without the buffer an answer says that it is of the database only, and kept rows would not. */
static bool can_be_kept(struct req *req, const struct pg_stmt *stmt)
{
	return req->daemon->caches && stmt->tables && stmt->tables[0] && !req_is_write(req) &&
	       (!stmt->live || redis_is_up(req_buffer(req)));
}

SUSPENDS static enum err take_rows(struct asking *a, struct str bytes, struct list *ret)
{
	enum err e = ERR_CORRUPT;

	if (bytes.n != 0)
		e = query_unpack(a->out, (struct str){bytes.p + 1, bytes.n - 1}, a->req->arena, ret);
	if (e == ERR_CORRUPT)
		return a->read(a->req, a->arg, ret);
	a->req->database_only = a->req->database_only || bytes.p[0] == ROWS_DATABASE_ONLY;
	return e;
}

SUSPENDS static enum err ask(struct asking *a, const struct query_life *life, const struct cache_tags *scope, struct list *ret)
{
	struct req *req = a->req;
	struct query_stat *stat = query_stat_of(req->daemon, a->stmt);
	unsigned ttl = life->ttl_s != 0 ? life->ttl_s : (unsigned)req->daemon->settings.cache_ttl.v[life->kind];
	struct cache_tags tags = tags_of(req, a->stmt, scope);
	struct cache_call call = {
		.tags = &tags, .life = {.ttl_s = ttl, .memory = life->memory && !req->filling}, .fill = fill, .ctx = a};
	struct cache_note note;
	struct str bytes;
	enum err e;

	call.key = key_of(req, a->stmt, a->params, a->out, stat->fingerprint);
	e = cache_read(req->daemon->caches, req->arena, req->deadline, &call, &bytes, &note);
	note_answer(req, e == OK && !a->asked && note.state == CACHE_HIT, note.written_us, note.fresh_until_us);
	if (e != OK)
		return e;
	if (a->asked) {
		if (note.state == CACHE_MISS && tags.n <= CACHE_TAGS_MAX && a->rows.n <= QUERY_ROWS_MAX &&
		    bytes.n <= QUERY_BYTES_MAX && bytes.p[0] == ROWS_COMPLETE)
			note_kept(a, &call, bytes.n);
		*ret = a->rows;
		return OK;
	}
	query_stat_of(req->daemon, a->stmt)->hits++;
	return take_rows(a, bytes, ret);
}

enum err db_rows_kept(struct req *req, const struct pg_stmt *stmt, struct pg_params params, const struct schema *out,
		      const struct query_life *life, const struct cache_tags *scope,
		      enum err (*read)(struct req *req, void *arg, struct list *ret), void *arg, struct list *ret)
{
	struct asking a = {.req = req, .stmt = stmt, .params = params, .out = out, .read = read, .arg = arg};
	struct query_stat *stat = query_stat_of(req->daemon, stmt);

	stat->calls++;
	if (can_be_kept(req, stmt))
		return ask(&a, life, scope, ret);
	stat->bypassed++;
	req->queries.misses++;
	return read(req, arg, ret);
}

enum err db_query_kept(struct req *req, const struct pg_stmt *stmt, struct pg_params params, const struct schema *out,
		       const struct query_life *life, const struct cache_tags *scope, struct list *ret)
{
	struct asking a = {.req = req, .stmt = stmt, .params = params, .out = out, .read = read_by_statement};
	struct query_stat *stat = query_stat_of(req->daemon, stmt);

	a.arg = &a;
	stat->calls++;
	if (!stmt->live && can_be_kept(req, stmt))
		return ask(&a, life, scope, ret);
	stat->bypassed++;
	req->queries.misses++;
	return db_query(req, stmt, params, out, ret);
}

enum err db_query_one_kept(struct req *req, const struct pg_stmt *stmt, struct pg_params params, const struct schema *out,
			   const struct query_life *life, const struct cache_tags *scope, void *to)
{
	struct list rows;
	enum err e = db_query_kept(req, stmt, params, out, life, scope, &rows);

	if (e != OK)
		return e;
	if (rows.n != 1)
		return rows.n == 0 ? ERR_NOT_FOUND : ERR_BUG;
	memcpy(to, rows.v, out->size);
	return OK;
}
