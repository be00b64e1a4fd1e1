/* SPDX-License-Identifier: Apache-2.0 */
/* What a write has changed, as tags: from an entity's descriptor, or named by a handler. Raised once, before the answer. */
#include <string.h>

#include "base/failpoint.h"
#include "base/log.h"
#include "base/str.h"
#include "base/uuid.h"
#include "svc/audit.h"
#include "svc/buffer.h"
#include "svc/cache_http.h"
#include "svc/cache_warm.h"
#include "svc/daemon.h"

static struct cache_tags *touched(struct req *req)
{
	if (!req->touched) {
		req->touched = arena_zalloc(req->arena, sizeof(*req->touched));
		req->touched->school = req->who.school_id;
	}
	return req->touched;
}

void req_touch(struct req *req, const char *kind, struct uuid id)
{
	if (req->daemon->caches)
		cache_tag_id(touched(req), req->arena, kind, id);
}

void req_touch_name(struct req *req, const char *kind, const char *name)
{
	if (req->daemon->caches)
		cache_tag(touched(req), req->arena, kind, str_of(name));
}

void req_good_until(struct req *req, int64_t at_us)
{
	if (req->good_until_us == 0 || at_us < req->good_until_us)
		req->good_until_us = at_us;
}

static bool put_value(const struct entity *e, struct str name, const void *row, struct buf *out)
{
	const struct row *r = row;

	if (!str_is(name, "id") && !str_is(name, "school_id"))
		return buffer_field_text(schema_find(e->schema, name), row, out);
	buf_put_uuid(out, str_is(name, "id") ? r->id : r->school_id);
	return true;
}

/* "class:{class_id}" → "class:" and the field's text; "work:{homework_id}.{student_id}" of several. False: the row lacks a value. */
static bool expand(const struct entity *e, const char *tag, const void *row, struct arena *arena, struct cache_tags *to)
{
	struct str rest = str_of(tag), kind = str_split(&rest, '{');
	struct buf value = buf_in(arena);

	while (rest.p) {
		if (!put_value(e, str_split(&rest, '}'), row, &value))
			return false;
		buf_puts(&value, str_split(&rest, '{'));
	}
	cache_tag(to, arena, arena_cstr(arena, kind), buf_str(&value));
	return true;
}

/* Of the id alone, so that it can be told without the row. */
static bool is_of_id(const char *tag)
{
	struct str rest = str_of(tag);

	str_split(&rest, '{');
	return rest.n >= 3 && memcmp(rest.p, "id}", 3) == 0 && memchr(rest.p, '{', rest.n) == NULL;
}

/* Does the update leave what lists show as it was? */
static bool is_aside(const struct entity *e, const void *old, const void *row)
{
	uint64_t shown = 0;

	if (!old || !row || ((const struct row *)row)->deleted_at != 0 || !e->list_fields[0])
		return false;
	for (size_t i = 0; i < LIST_FIELDS_MAX && e->list_fields[i]; i++)
		shown |= UINT64_C(1) << (entity_field(e, e->list_fields[i]) - e->schema->fields);
	return (row_changes(e->schema, old, row) & shown) == 0;
}

static bool lives(const void *row)
{
	return row && ((const struct row *)row)->deleted_at == 0;
}

static bool has(const struct entity *e, const struct field *f, const void *row)
{
	return lives(row) && (((const struct fields *)row)->set >> (f - e->schema->fields) & 1) != 0;
}

static bool is_changed(const struct entity *e, const struct field *f, const void *old, const void *row)
{
	bool was = has(e, f, old), is = has(e, f, row);

	return was != is || (was && (row_changes(e->schema, old, row) >> (f - e->schema->fields) & 1) != 0);
}

static bool reads(const struct field *f, const void *row, const char *text, struct arena *arena)
{
	struct buf b = buf_in(arena);

	return buffer_field_text(f, row, &b) && str_is(buf_str(&b), text);
}

/* What only this very change of a field touches; a row that is made or deleted changes all that it has. */
static void add_when(const struct entity *e, const void *old, const void *row, struct arena *arena, struct cache_tags *to)
{
	for (size_t i = 0; i < TAG_WHENS_MAX && e->when[i].tag; i++) {
		const struct tag_when *w = &e->when[i];
		const struct field *f = entity_field(e, w->field);
		struct cache_tags there = {0}, here = {0};
		bool moved;

		if (has(e, f, old))
			IGNORE(!expand(e, w->tag, old, arena, &there)); /* the row has no such value */
		if (lives(row))
			IGNORE(!expand(e, w->tag, row, arena, &here)); /* nor has this one */
		moved = there.n != 0 && here.n != 0 && !str_eq(there.v[0], here.v[0]);
		if ((!moved && !is_changed(e, f, old, row)) ||
		    (w->becomes && !(has(e, f, row) && reads(f, row, w->becomes, arena))))
			continue;
		if (there.n != 0)
			cache_tag_again(to, arena, there.v[0]);
		if (here.n != 0)
			cache_tag_again(to, arena, here.v[0]);
	}
}

/* Of an update aside of lists: the tags of the row itself, and of those lists that it leaves or enters. */
static void add_aside(const struct entity *e, const void *old, const void *row, struct arena *arena, struct cache_tags *to)
{
	cache_tag(to, arena, "table:", str_of(e->table));
	cache_tag_id(to, arena, arena_printf(arena, "%s:", e->name), ((const struct row *)row)->id);
	for (size_t i = 0; i < TAGS_MAX && e->tags[i]; i++) {
		struct cache_tags was = {0}, is = {0};
		bool there = expand(e, e->tags[i], old, arena, &was), here = expand(e, e->tags[i], row, arena, &is);

		if (there == here && (!here || str_eq(was.v[0], is.v[0])) && !is_of_id(e->tags[i]))
			continue;
		if (there)
			cache_tag_again(to, arena, was.v[0]);
		if (here)
			cache_tag_again(to, arena, is.v[0]);
	}
}

static void add_row(const struct entity *e, const void *row, struct arena *arena, struct cache_tags *to)
{
	cache_tag(to, arena, "table:", str_of(e->table));
	cache_tag_id(to, arena, arena_printf(arena, "%s:", e->name),
		     ((const struct row *)row)->id); /* kept by itself (cache_entity.c) */
	for (size_t i = 0; i < TAGS_MAX && e->tags[i]; i++)
		IGNORE(!expand(e, e->tags[i], row, arena, to)); /* a list that the row is in none of */
}

void touch_change(struct req *req, const struct entity *e, const void *old, const void *row)
{
	if (!req->daemon->caches || e->write == APPEND)
		return;
	if (is_aside(e, old, row)) {
		add_aside(e, old, row, req->arena, touched(req));
	} else {
		if (old)
			add_row(e, old, req->arena, touched(req));
		if (row)
			add_row(e, row, req->arena, touched(req));
	}
	add_when(e, old, row, req->arena, touched(req));
}

void touch_flushed(const struct entity *e, struct uuid id, struct arena *arena, struct cache_tags *to)
{
	struct row row = {.id = id};

	cache_tag(to, arena, "table:", str_of(e->table));
	cache_tag_id(to, arena, arena_printf(arena, "%s:", e->name), id);
	for (size_t i = 0; i < TAGS_MAX && e->tags[i]; i++) {
		if (is_of_id(e->tags[i]))
			IGNORE(!expand(e, e->tags[i], &row, arena, to));
	}
}

struct touch_mark touch_mark(const struct req *req)
{
	return (struct touch_mark){req->touched, req->touched ? req->touched->n : 0};
}

void touch_undo(struct req *req, struct touch_mark mark)
{
	struct cache_tags *tags = req->touched;
	size_t n = tags && tags == mark.tags ? mark.n : 0; /* another list: the marked one has been raised meanwhile */

	if (!tags)
		return;
	if (n < tags->sure)
		n = tags->sure;
	if (n < tags->n)
		tags->n = n;
	if (n < tags->written)
		tags->written = n;
	if (tags->n == 0)
		req->touched = NULL;
}

void touch_told(struct req *req, const struct str *names, size_t n)
{
	struct cache_tags *tags = req->touched;
	struct str *all;

	if (!tags || n == 0)
		return;
	all = arena_array(req->arena, tags->n_told + n, sizeof(*all));
	if (tags->n_told != 0)
		memcpy(all, tags->told, tags->n_told * sizeof(*all));
	memcpy(all + tags->n_told, names, n * sizeof(*all));
	tags->told = all;
	tags->n_told += n;
}

void touch_raise(struct req *req)
{
	struct cache_tags *tags = req->touched;

	req->touched = NULL; /* a later change of the same request is raised anew */
	if (FAILPOINT_ERR("cache.before_raise"))
		return; /* as if this process had died */
	if (tags && cache_raise(req->daemon->caches, req->arena, tags) != OK)
		log_debug("tags are raised later", LOG_I("tags", tags->n));
	if (tags)
		cache_warm_raised(req->daemon, tags);
}
