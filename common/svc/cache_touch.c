/* SPDX-License-Identifier: Apache-2.0 */
/* What a write has changed, as tags: from an entity's descriptor, or named by a handler. Raised once, before the answer. */
#include <string.h>

#include "base/log.h"
#include "base/str.h"
#include "base/uuid.h"
#include "svc/buffer.h"
#include "svc/cache_http.h"
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

/* "class:{class_id}" → "class:" and the field's text. False: the row has no such value. */
static bool expand(const struct entity *e, const char *tag, const void *row, struct arena *arena, struct cache_tags *to)
{
	struct str rest = str_of(tag), kind = str_split(&rest, '{'), name = str_split(&rest, '}');
	struct buf text = buf_in(arena);
	const struct row *r = row;

	if (name.n == 0)
		cache_tag(to, arena, arena_cstr(arena, kind), (struct str){NULL, 0});
	else if (str_is(name, "id"))
		cache_tag_id(to, arena, arena_cstr(arena, kind), r->id);
	else if (str_is(name, "school_id"))
		cache_tag_id(to, arena, arena_cstr(arena, kind), r->school_id);
	else if (buffer_field_text(schema_find(e->schema, name), row, &text))
		cache_tag(to, arena, arena_cstr(arena, kind), buf_str(&text));
	else
		return false;
	return true;
}

static void add_row(const struct entity *e, const void *row, struct arena *arena, struct cache_tags *to)
{
	cache_tag(to, arena, "table:", str_of(e->table));
	cache_tag_id(to, arena, arena_printf(arena, "%s:", e->name),
		     ((const struct row *)row)->id); /* kept by itself (cache_entity.c) */
	for (size_t i = 0; i < TAGS_MAX && e->tags[i]; i++)
		IGNORE(!expand(e, e->tags[i], row, arena, to)); /* a list that the row is in none of */
}

void touch_row(struct req *req, const struct entity *e, const void *row)
{
	if (row && req->daemon->caches && e->write != APPEND)
		add_row(e, row, req->arena, touched(req));
}

void touch_flushed(const struct entity *e, struct uuid id, struct arena *arena, struct cache_tags *to)
{
	struct row row = {.id = id};

	cache_tag(to, arena, "table:", str_of(e->table));
	cache_tag_id(to, arena, arena_printf(arena, "%s:", e->name), id);
	for (size_t i = 0; i < TAGS_MAX && e->tags[i]; i++) {
		if (strstr(e->tags[i], "{id}"))
			IGNORE(!expand(e, e->tags[i], &row, arena, to)); /* it names the id alone */
	}
}

void touch_raise(struct req *req)
{
	struct cache_tags *tags = req->touched;

	req->touched = NULL; /* a later change of the same request is raised anew */
	if (tags && cache_raise(req->daemon->caches, req->arena, tags) != OK)
		log_debug("tags are raised later", LOG_I("tags", tags->n));
}
