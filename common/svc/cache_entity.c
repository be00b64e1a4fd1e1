/* SPDX-License-Identifier: Apache-2.0 */
/* Rows in the cache: keys, tags and bytes, and the one case in which a kept row is the base of a write. */
#include "svc/cache_entity.h"

#include <string.h>

#include "base/uuid.h"
#include "cache/cache.h"
#include "svc/buffers.h"
#include "svc/cache_http.h"
#include "svc/daemon.h"
#include "svc/degraded.h"

bool row_cache_applies(const struct req *req, const struct entity *e)
{
	/* Without the buffer an answer says that it is of the database only, and a kept row would not. */
	return req->daemon->caches && e->ttl_s != 0 && e->write != APPEND &&
	       (e->write == THROUGH || redis_is_up(req_buffer(req)));
}

/* ---- names ---- */

static struct str row_key(const struct req *req, const struct entity *e, struct uuid id)
{
	char text[UUID_TEXT + 1];
	struct str parts[3];

	uuid_text(id, text);
	parts[0] = str_of(e->name);
	parts[1] = str_of(
		arena_printf(req->arena, "%u", e->schema->layout)); /* daemons of two versions do not read each other's rows */
	parts[2] = (struct str){text, UUID_TEXT};
	return cache_key(req->daemon->caches, req->arena, req->who.school_id, "row", parts, ARRAY_LEN(parts));
}

static void row_tags(const struct req *req, const struct entity *e, struct uuid id, struct cache_tags *tags)
{
	struct cache_tags flushed = {.school = req->who.school_id};

	tags->school = req->who.school_id;
	cache_tag_id(tags, req->arena, arena_printf(req->arena, "%s:", e->name), id);
	cache_tag(tags, req->arena, "bulk:", str_of(e->table));
	touch_flushed(e, id, req->arena, &flushed);
	for (size_t i = 0; i < flushed.n; i++) {
		struct str value = flushed.v[i], kind = str_split(&value, ':');

		if (!str_is(kind, "table")) /* a row is told about by its own tags, and need not go with every other row */
			cache_tag(tags, req->arena, arena_printf(req->arena, "%.*s:", STR_FMT(kind)), value);
	}
}

/* ---- bytes ---- */

enum { ROW_BUFFERED = 1, ROW_CREATION = 2, ROW_DATABASE_ONLY = 4, ROW_NONE = 8 };
struct row_head {
	int64_t version;
	uint32_t flags;
};
#define ROW_HEAD 12

static void put_base(const struct req *req, const struct base *base, struct buf *out)
{
	const struct row *row = base->row;
	struct row_head head = {.version = base->floor};

	head.flags = (base->buffered ? ROW_BUFFERED : 0u) | (base->creation ? ROW_CREATION : 0u) |
		     (req->database_only ? ROW_DATABASE_ONLY : 0u) | (row ? 0u : ROW_NONE);
	buf_put(out, &head.version, sizeof(head.version));
	buf_put(out, &head.flags, sizeof(head.flags));
	if (row)
		row_pack(base->entity->schema, row, out);
}

static enum err take_base(struct req *req, struct str bytes, struct base *base, uint32_t *ret_flags)
{
	const struct schema *s = base->entity->schema;
	struct row *row = arena_zalloc(req->arena, s->size);
	struct row_head head;
	enum err e;

	if (bytes.n < ROW_HEAD)
		return ERR_CORRUPT;
	memcpy(&head.version, bytes.p, sizeof(head.version));
	memcpy(&head.flags, bytes.p + sizeof(head.version), sizeof(head.flags));
	base->floor = head.version;
	base->buffered = (head.flags & ROW_BUFFERED) != 0;
	base->creation = (head.flags & ROW_CREATION) != 0;
	*ret_flags = head.flags;
	if ((head.flags & ROW_NONE) != 0)
		return OK;
	row->id = base->id;
	row->school_id = req->who.school_id;
	row->version = head.version;
	e = row_unpack(s, s->layout, (struct str){bytes.p + ROW_HEAD, bytes.n - ROW_HEAD}, req->arena, row);
	base->row = e == OK ? row : NULL;
	return e;
}

/* ---- reading ---- */

struct reading {
	struct req *req;
	const struct entity *entity;
	struct uuid id;
	SUSPENDS enum err (*read)(struct req *req, const struct entity *e, struct uuid id, struct base **ret);
	struct base *own; /* what this very request has read */
};

SUSPENDS static enum err fill(void *ctx, struct buf *out)
{
	struct reading *r = ctx;
	enum err e = r->read(r->req, r->entity, r->id, &r->own);

	if (e != OK)
		return e;
	if (!r->own->row && !r->req->database_only)
		return ERR_NOT_FOUND;
	put_base(r->req, r->own, out);
	/* What the database alone says is told to whoever waits, and not kept: the buffer may know better. So is what was written blind. */
	return r->req->database_only || r->own->blind ? ERR_GONE : OK;
}

enum err row_cache_read(struct req *req, const struct entity *e, struct uuid id,
			enum err (*read)(struct req *req, const struct entity *e, struct uuid id, struct base **ret),
			struct base **ret)
{
	struct reading r = {.req = req, .entity = e, .id = id, .read = read};
	struct base base = {.entity = e, .id = id, .kept = true};
	struct cache_tags tags = {0};
	struct cache_call call = {.key = row_key(req, e, id),
				  .tags = &tags,
				  .life = {.ttl_s = e->ttl_s, .negative_s = e->negative_ttl_s},
				  .fill = fill,
				  .ctx = &r};
	struct cache_note note;
	struct str bytes;
	uint32_t flags = 0;
	enum err err;

	row_tags(req, e, id, &tags);
	err = cache_read(req->daemon->caches, req->arena, req->deadline, &call, &bytes, &note);
	if (r.own) {
		*ret = r.own;
		return OK;
	}
	if (err == OK)
		err = take_base(req, bytes, &base, &flags);
	if (err == ERR_CORRUPT) { /* packed by other code than this: what counts is the source */
		err = read(req, e, id, ret);
		return err;
	}
	if (err != OK && err != ERR_NOT_FOUND)
		return err;
	req->database_only = req->database_only || (flags & ROW_DATABASE_ONLY) != 0;
	*ret = base_add(req, &base);
	return OK;
}

/*
 * Nothing kept is the base of a write, but for this: PostgreSQL is away, the buffer has answered that it holds no record of the row, and the cache has
 * the living row, fresh, its epochs asked for just now. Why a write that expects this row's version is right then:
 *
 * Another write of the row has gone through the buffer (PostgreSQL takes none), before or after the row was kept. Before: the epochs were
 * taken before buffer and table were read, so the kept row has it, or has been dropped. After: it raised the epochs after its PUT and before
 * its answer, and so did its flush, so the kept row is dropped and this is not reached. Were both lost (their processes died in between), its record
 * still lies in the buffer, or its marker does for a minute past the flush: PUT compares the expected version with either, and the
 * write is a conflict. And what is buffered has a higher version than its base, which the flush compares with the row's once more.
 *
 * What was written past the buffer (degraded.h) leaves neither record nor marker: while some of that may be newer than the kept row, it is no base.
 */
enum err row_cache_base(struct req *req, struct base *base)
{
	struct cache_tags tags = {0};
	struct cache_note note;
	struct base found = {.entity = base->entity, .id = base->id};
	struct str bytes;
	uint32_t flags = 0;
	enum err e;

	if (!row_cache_applies(req, base->entity) || req->database_only || base->entity->write != BUFFERED)
		return ERR_NOT_FOUND;
	row_tags(req, base->entity, base->id, &tags);
	e = cache_get(req->daemon->caches, req->arena, req->deadline, row_key(req, base->entity, base->id), &tags, &bytes, &note);
	if (e == OK)
		e = take_base(req, bytes, &found, &flags);
	if (e != OK || !found.row)
		return e == ERR_CANCELLED ? e : ERR_NOT_FOUND;
	if (found.floor <= degraded_until(req) && degraded_writes(req, base->entity))
		return ERR_NOT_FOUND;
	found.buffered = false; /* it was flushed since: the buffer holds none */
	found.creation = false;
	*base = found;
	return OK;
}
