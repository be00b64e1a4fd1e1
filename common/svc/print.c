/* SPDX-License-Identifier: Apache-2.0 */
/* The tables as text for other programs: the gateway's map, grants, statements, contract tests. Needs nothing but the tables. */
#include <stdio.h>

#include "base/str.h"
#include "svc/kit.h"

static const char *const rule_names[] = {
	[RULE_NONE] = "none",         [RULE_PUBLIC] = "public",     [RULE_SELF] = "self",       [RULE_SCHOOL] = "school",
	[RULE_OWNS] = "owns",         [RULE_ASSIGNED] = "assigned", [RULE_TEACHES] = "teaches", [RULE_ABOUT_ME] = "about_me",
	[RULE_INTERNAL] = "internal", [RULE_CHECK] = "check",
};

static const struct {
	unsigned flag;
	const char *name;
} flag_names[] = {
	{ROUTE_MULTIPART, "multipart"}, {ROUTE_FULL_STATE, "full_state"}, {ROUTE_BARE, "bare"},
	{ROUTE_NO_KEY, "no_key"},       {ROUTE_STREAM, "stream"},         {ROUTE_BODY_OPTIONAL, "body_optional"},
	{ROUTE_THROUGH, "through"},     {ROUTE_BYTES, "bytes"},           {ROUTE_DASHBOARD, "dashboard"},
};

static void put_roles(unsigned roles, struct buf *out)
{
	const char *sep = "";

	for (unsigned bit = 1; bit <= ROLE_ANYONE; bit <<= 1) {
		if ((roles & bit) == 0)
			continue;
		buf_printf(out, "%s%s", sep, role_name((enum role)bit));
		sep = ",";
	}
}

static void put_flags(unsigned flags, struct buf *out)
{
	const char *sep = "";

	for (size_t i = 0; i < ARRAY_LEN(flag_names); i++) {
		if ((flags & flag_names[i].flag) == 0)
			continue;
		buf_printf(out, "%s%s", sep, flag_names[i].name);
		sep = ",";
	}
	if (*sep == '\0')
		buf_putc(out, '-');
}

static size_t body_limit(const struct route *r)
{
	if (r->in == NULL)
		return 0;
	return (r->flags & ROUTE_MULTIPART) != 0 ? (size_t)KIT_FILES_MAX * KIT_FILE_MAX + 2 * KIT_FORM_MAX : KIT_JSON_MAX;
}

void print_routes(const struct service *s, struct buf *out)
{
	struct arena *arena = arena_new();

	for (const struct route *r = s->routes; r != NULL && r->path != NULL; r++) {
		buf_printf(out, "%s\t%s\t", http_method_name(r->method), route_path(r, arena));
		put_roles(r->roles, out);
		buf_printf(out, "\t%s", rule_names[r->rule.kind]);
		if (r->rule.entity != NULL)
			buf_printf(out, "(%s)", r->rule.entity->name);
		buf_printf(out, "\t%zu\t", body_limit(r));
		put_flags(r->flags, out);
		buf_printf(out, "\t%s\n", r->cache.policy != NULL ? r->cache.policy : "-");
	}
	arena_free(arena);
}

/* ---- entities ---- */

static const char *const write_names[] = {[BUFFERED] = "buffer", [APPEND] = "append", [THROUGH] = "through"};
static const char *const type_names[] = {
	[FIELD_UUID] = "uuid",   [FIELD_TEXT] = "text",   [FIELD_INT] = "int",   [FIELD_DECIMAL] = "decimal",
	[FIELD_MONEY] = "money", [FIELD_FLOAT] = "float", [FIELD_BOOL] = "bool", [FIELD_TIME] = "time",
	[FIELD_DATE] = "date",   [FIELD_ENUM] = "enum",   [FIELD_JSON] = "json", [FIELD_UUIDS] = "uuids",
	[FIELD_TEXTS] = "texts", [FIELD_INTS] = "ints",   [FIELD_LIST] = "list",
};
static const struct {
	unsigned flag;
	const char *name;
} field_flags[] = {
	{REQUIRED, "required"}, {NATURAL, "natural"},   {SERVER, "server"},         {HIDDEN, "hidden"},
	{OMIT, "omit"},         {RAW_TEXT, "raw_text"}, {BLANK_NULL, "blank_null"}, {JSON_TEXT, "json_text"},
};

static void put_key(struct buf *out, const char *name)
{
	if (out->p[out->n - 1] != '{' && out->p[out->n - 1] != '[')
		buf_putc(out, ',');
	buf_put_json(out, str_of(name));
	buf_putc(out, ':');
}

static void put_text(struct buf *out, const char *name, const char *value)
{
	put_key(out, name);
	if (value != NULL)
		buf_put_json(out, str_of(value));
	else
		buf_puts(out, STR("null"));
}

static void put_int(struct buf *out, const char *name, int64_t value)
{
	put_key(out, name);
	buf_put_i64(out, value);
}

static void put_texts(struct buf *out, const char *name, const char *const *v, size_t n)
{
	put_key(out, name);
	buf_putc(out, '[');
	for (size_t i = 0; i < n && v[i] != NULL; i++) {
		if (i != 0)
			buf_putc(out, ',');
		buf_put_json(out, str_of(v[i]));
	}
	buf_putc(out, ']');
}

static void put_field(struct buf *out, const struct field *f)
{
	const char *flags[ARRAY_LEN(field_flags)];
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_LEN(field_flags); i++)
		if ((f->flags & field_flags[i].flag) != 0)
			flags[n++] = field_flags[i].name;
	buf_putc(out, '{');
	put_text(out, "name", f->name);
	put_text(out, "column", field_column(f));
	put_text(out, "type", type_names[f->type]);
	put_texts(out, "flags", flags, n);
	put_int(out, "min", f->min);
	put_int(out, "max", f->max);
	put_int(out, "max_items", (int64_t)f->max_items);
	put_int(out, "since", f->since > 0 ? f->since : 1);
	if (f->type == FIELD_ENUM)
		put_texts(out, "values", f->names.v, f->names.n);
	buf_putc(out, '}');
}

/* The database grants a daemon INSERT on what it may write itself when the buffer is away. */
static bool has_full_state(const struct service *s, const struct entity *e)
{
	for (const struct route *r = s->routes; r != NULL && r->path != NULL; r++)
		if ((r->flags & ROUTE_FULL_STATE) != 0 && r->creates == e)
			return true;
	return false;
}

void print_entities(const struct service *s, struct buf *out)
{
	buf_putc(out, '{');
	put_text(out, "service", s->name);
	put_key(out, "entities");
	buf_putc(out, '[');
	for (size_t i = 0; s->entities != NULL && s->entities[i] != NULL; i++) {
		const struct entity *e = s->entities[i];

		buf_puts(out, i != 0 ? STR(",\n{") : STR("\n{"));
		put_text(out, "name", e->name);
		put_text(out, "table", e->table);
		if (e->collection != NULL)
			put_text(out, "collection", e->collection);
		put_text(out, "write", write_names[e->write]);
		put_int(out, "level", e->level);
		put_int(out, "layout", e->schema->layout > 0 ? e->schema->layout : 1);
		put_texts(out, "scopes", e->scopes, SCOPES_MAX);
		put_key(out, "full_state");
		buf_puts(out, has_full_state(s, e) ? STR("true") : STR("false"));
		put_key(out, "fields");
		buf_putc(out, '[');
		for (size_t f = 0; f < e->schema->n; f++) {
			if (f != 0)
				buf_putc(out, ',');
			put_field(out, &e->schema->fields[f]);
		}
		buf_puts(out, STR("]}"));
	}
	buf_puts(out, STR("]}\n"));
}
