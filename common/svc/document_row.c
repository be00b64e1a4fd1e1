/* SPDX-License-Identifier: Apache-2.0 */
/* Rows as documents: the entity's own field table, without what it says about clients. */
#include "svc/document_row.h"

#include <limits.h>
#include <string.h>

#include "base/timefmt.h"

/* Bounds and roles are for what comes and goes by HTTP; what is stored was judged when it was put. */
static const struct schema *as_stored(const struct schema *s, struct arena *arena)
{
	struct field *fields = arena_dup(arena, s->fields, s->n * sizeof(*fields));
	struct schema *stored = arena_dup(arena, s, sizeof(*s));

	for (size_t i = 0; i < s->n; i++) {
		struct field *f = &fields[i];

		f->flags = f->type == FIELD_TEXT || f->type == FIELD_TEXTS ? RAW_TEXT : 0;
		f->roles = 0;
		f->min = 0;
		f->max = f->type == FIELD_TEXT || f->type == FIELD_TEXTS || f->type == FIELD_JSON ? DOC_SIZE_MAX : 0;
		f->max_items = f->type == FIELD_JSON ? 0 : DOC_SIZE_MAX;
		if (f->sub)
			f->sub = as_stored(f->sub, arena);
	}
	stored->fields = fields;
	return stored;
}

struct str document_of_row(const struct entity *e, const void *row, struct arena *arena)
{
	struct buf out = buf_in(arena);

	if (((const struct row *)row)->deleted_at != 0)
		return (struct str){NULL, 0};
	json_encode(as_stored(e->schema, arena), row, UINT_MAX, &out);
	return buf_str(&out);
}

static bool instant(struct str json, const char *name, int64_t *ret)
{
	struct str text;

	*ret = 0;
	if (!json_member(json, name, &text))
		return false;
	if (str_is(text, "null"))
		return true;
	return text.n > 2 && time_parse((struct str){text.p + 1, text.n - 2}, ret);
}

enum err document_row(const struct entity *e, struct uuid school, const struct doc *doc, struct arena *arena, void **ret_row)
{
	struct problems problems = {.arena = arena};
	struct row *row = arena_zalloc(arena, e->schema->size);
	int64_t created_at, updated_at;

	if (json_decode(as_stored(e->schema, arena), doc->json, arena, row, &problems) != OK ||
	    !instant(doc->json, "created_at", &created_at) || !instant(doc->json, "updated_at", &updated_at))
		return ERR_CORRUPT;
	row->id = doc->id;
	row->school_id = school;
	row->version = doc->version;
	row->created_at = created_at;
	row->updated_at = updated_at;
	*ret_row = row;
	return OK;
}
