/* SPDX-License-Identifier: Apache-2.0 */
/* OpenAPI 3.1 from the tables: what the daemon checks is what the description says. */
#include <stdio.h>

#include "base/arena.h"
#include "base/str.h"
#include "svc/kit.h"

#define SCHEMAS_MAX 256

struct writer {
	struct buf *out;
	struct arena *arena;
	struct {
		const struct schema *schema;
		bool in; /* as a body: without what the server sets */
	} schemas[SCHEMAS_MAX];
	size_t n;
};

/* A comma unless the container has just begun. */
static void sep(struct buf *out)
{
	char last = out->p[out->n - 1];

	if (last != '{' && last != '[')
		buf_putc(out, ',');
}

static void key(struct buf *out, const char *name)
{
	sep(out);
	buf_put_json(out, str_of(name));
	buf_putc(out, ':');
}

static void text(struct buf *out, const char *name, const char *value)
{
	key(out, name);
	buf_put_json(out, str_of(value));
}

static void integer(struct buf *out, const char *name, int64_t value)
{
	key(out, name);
	buf_put_i64(out, value);
}

/* ---- schemas ---- */

/* Those of bodies carry the suffix only when the same table also describes an answer. */
static const char *schema_name(struct writer *w, const struct schema *s, bool in)
{
	for (size_t i = 0; i < w->n && in; i++)
		if (w->schemas[i].schema == s && !w->schemas[i].in)
			return arena_printf(w->arena, "%s.request", s->name);
	return s->name;
}

static void collect(struct writer *w, const struct schema *s, bool in)
{
	if (s == NULL)
		return;
	for (size_t i = 0; i < w->n; i++)
		if (w->schemas[i].schema == s && w->schemas[i].in == in)
			return;
	if (w->n == SCHEMAS_MAX)
		return;
	w->schemas[w->n].schema = s;
	w->schemas[w->n++].in = in;
	for (size_t i = 0; i < s->n; i++)
		collect(w, s->fields[i].sub, in);
}

static void put_ref(struct writer *w, const struct schema *s, bool in)
{
	key(w->out, "$ref");
	buf_put_json(w->out, str_of(arena_printf(w->arena, "#/components/schemas/%s", schema_name(w, s, in))));
}

static void put_type(struct buf *out, const char *type, bool nullable)
{
	if (!nullable) {
		text(out, "type", type);
		return;
	}
	key(out, "type");
	buf_printf(out, "[\"%s\",\"null\"]", type);
}

static void put_hundredths(struct buf *out, const char *name, int64_t v)
{
	key(out, name);
	buf_printf(out, "%s%lld.%02d", v < 0 ? "-" : "", (long long)(v < 0 ? -v : v) / 100, (int)((v < 0 ? -v : v) % 100));
}

static void put_bounds(struct buf *out, const struct field *f)
{
	if (f->min == 0 && f->max == 0)
		return;
	if (f->type == FIELD_DECIMAL || f->type == FIELD_MONEY) {
		put_hundredths(out, "minimum", f->min);
		put_hundredths(out, "maximum", f->max);
	} else {
		integer(out, "minimum", f->min);
		integer(out, "maximum", f->max);
	}
}

static void put_length(struct buf *out, const struct field *f)
{
	if (f->min > 0)
		integer(out, "minLength", f->min);
	integer(out, "maxLength", f->max > 0 ? f->max : SCHEMA_TEXT_MAX);
}

static void put_format(struct buf *out, const char *format, bool nullable)
{
	put_type(out, "string", nullable);
	text(out, "format", format);
}

static void put_enum(struct buf *out, const struct field *f, bool nullable)
{
	put_type(out, "string", nullable);
	key(out, "enum");
	buf_putc(out, '[');
	for (size_t i = 0; i < f->names.n; i++) {
		sep(out);
		buf_put_json(out, str_of(f->names.v[i]));
	}
	if (nullable)
		buf_puts(out, STR(",null"));
	buf_putc(out, ']');
}

/* The members of a field's schema, without braces. */
static void put_field(struct writer *w, const struct field *f, bool in, bool nullable)
{
	struct buf *out = w->out;
	struct field item = *f;

	switch (f->type) {
	case FIELD_UUID:
		put_format(out, "uuid", nullable);
		return;
	case FIELD_TEXT:
		put_type(out, "string", nullable);
		if (in)
			put_length(out, f);
		return;
	case FIELD_INT:
		put_type(out, "integer", nullable);
		if (in)
			put_bounds(out, f);
		return;
	case FIELD_DECIMAL:
	case FIELD_MONEY:
	case FIELD_FLOAT:
		put_type(out, "number", nullable);
		if (in)
			put_bounds(out, f);
		return;
	case FIELD_BOOL:
		put_type(out, "boolean", nullable);
		return;
	case FIELD_TIME:
		put_format(out, "date-time", nullable);
		return;
	case FIELD_DATE:
		put_format(out, "date", nullable);
		return;
	case FIELD_ENUM:
		put_enum(out, f, nullable);
		return;
	case FIELD_JSON:
		text(out, "description", "any JSON value");
		return;
	case FIELD_UUIDS:
		item.type = FIELD_UUID;
		break;
	case FIELD_TEXTS:
		item.type = FIELD_TEXT;
		break;
	case FIELD_INTS:
		item.type = FIELD_INT;
		break;
	case FIELD_LIST:
		break;
	}
	put_type(out, "array", nullable);
	if (in)
		integer(out, "maxItems", f->max_items > 0 ? (int64_t)f->max_items : SCHEMA_ITEMS_MAX);
	key(out, "items");
	buf_putc(out, '{');
	if (f->type == FIELD_LIST && f->sub != NULL)
		put_ref(w, f->sub, in);
	else if (f->type != FIELD_LIST)
		put_field(w, &item, in, false);
	buf_putc(out, '}');
}

static void put_row_head(struct buf *out)
{
	buf_puts(out, STR("\"id\":{\"type\":\"string\",\"format\":\"uuid\"},\"created_at\":{\"type\":[\"string\",\"null\"],"
			  "\"format\":\"date-time\"},"
			  "\"updated_at\":{\"type\":[\"string\",\"null\"],\"format\":\"date-time\"}"));
}

static void put_schema(struct writer *w, const struct schema *s, bool in)
{
	struct buf *out = w->out;
	unsigned unseen = in ? SERVER : HIDDEN;

	key(out, schema_name(w, s, in));
	buf_puts(out, STR("{\"type\":\"object\",\"properties\":{"));
	if (s->row && !in)
		put_row_head(out);
	for (size_t i = 0; i < s->n; i++) {
		const struct field *f = &s->fields[i];

		if ((f->flags & unseen) != 0)
			continue;
		key(out, f->name);
		buf_putc(out, '{');
		put_field(w, f, in, (f->flags & (REQUIRED | NATURAL)) == 0);
		buf_putc(out, '}');
	}
	buf_putc(out, '}');
	if (in) {
		buf_puts(out, STR(",\"required\":["));
		for (size_t i = 0; i < s->n; i++) {
			if ((s->fields[i].flags & (REQUIRED | NATURAL)) == 0 || (s->fields[i].flags & SERVER) != 0)
				continue;
			sep(out);
			buf_put_json(out, str_of(s->fields[i].name));
		}
		buf_putc(out, ']');
	}
	buf_putc(out, '}');
}

/* ---- operations ---- */

static void put_path_params(struct writer *w, const char *path)
{
	struct str rest = str_of(path), name;

	while (rest.p != NULL) {
		if (!route_param(str_split(&rest, '/'), &name))
			continue;
		sep(w->out);
		buf_puts(w->out, STR("{\"name\":"));
		buf_put_json(w->out, name);
		buf_printf(w->out, ",\"in\":\"path\",\"required\":true,\"schema\":{\"type\":\"string\"%s}}",
			   route_param_is_id(name) ? ",\"format\":\"uuid\"" : "");
	}
}

static void put_query_params(struct writer *w, const struct schema *query)
{
	for (size_t i = 0; query != NULL && i < query->n; i++) {
		const struct field *f = &query->fields[i];

		sep(w->out);
		buf_puts(w->out, STR("{\"name\":"));
		buf_put_json(w->out, str_of(f->name));
		buf_printf(w->out, ",\"in\":\"query\",\"required\":%s,\"schema\":{",
			   (f->flags & REQUIRED) != 0 ? "true" : "false");
		put_field(w, f, true, false);
		buf_puts(w->out, STR("}}"));
	}
}

static void put_header_params(struct writer *w, const struct route *r)
{
	if (r->method == HTTP_POST && (r->flags & ROUTE_NO_KEY) == 0) {
		sep(w->out);
		buf_puts(w->out, STR("{\"$ref\":\"#/components/parameters/IdempotencyKey\"}"));
	}
}

static void put_body(struct writer *w, const struct route *r)
{
	struct buf *out = w->out;

	if (r->in == NULL)
		return;
	key(out, "requestBody");
	buf_printf(out, "{\"required\":%s,\"content\":{\"application/json\":{\"schema\":{",
		   (r->flags & ROUTE_BODY_OPTIONAL) != 0 ? "false" : "true");
	put_ref(w, r->in, true);
	buf_puts(out, STR("}}"));
	if ((r->flags & ROUTE_MULTIPART) != 0) {
		buf_puts(out, STR(",\"multipart/form-data\":{\"schema\":{\"allOf\":[{"));
		put_ref(w, r->in, true);
		buf_printf(
			out,
			"},{\"type\":\"object\",\"additionalProperties\":true}],\"description\":\"at most %d files of %d MiB\"}}",
			KIT_FILES_MAX, (int)(KIT_FILE_MAX >> 20));
	}
	buf_puts(out, STR("}}"));
}

/* The problem answers that the row itself makes possible. */
static void put_problems(struct writer *w, const struct route *r)
{
	bool with_token = (r->roles & ROLE_ANYONE) == 0, loads = strchr(r->path, '{') != NULL;
	const struct {
		int status;
		bool possible;
	} rows[] = {
		{400, r->in != NULL || r->query != NULL},
		{401, with_token},
		{403, with_token},
		{404, loads},
		{409, r->method != HTTP_GET},
		{412, r->method == HTTP_PUT || r->method == HTTP_PATCH || r->method == HTTP_DELETE},
		{413, r->in != NULL},
		{415, r->in != NULL},
		{422, r->in != NULL || r->query != NULL},
		{429, r->rate != RATE_NONE},
		{503, true},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (rows[i].possible)
			buf_printf(w->out, ",\"%d\":{\"$ref\":\"#/components/responses/Problem\"}", rows[i].status);
}

static void put_responses(struct writer *w, const struct route *r)
{
	struct buf *out = w->out;

	key(out, "responses");
	buf_printf(out, "{\"2XX\":{\"description\":\"done\"");
	if ((r->flags & ROUTE_STREAM) != 0) {
		buf_puts(out, STR(",\"content\":{\"application/octet-stream\":{}}"));
	} else if (r->out != NULL) {
		/* The row says what is in the answer, the handler under which name, alone or as a list. */
		buf_puts(out, STR(",\"content\":{\"application/json\":{\"schema\":{\"type\":\"object\",\"x-holds\":{"));
		put_ref(w, r->out, false);
		buf_puts(out, STR("}}}}"));
	} else {
		buf_puts(out, STR(",\"content\":{\"application/json\":{\"schema\":{\"type\":\"object\"}}}"));
	}
	buf_putc(out, '}');
	put_problems(w, r);
	buf_putc(out, '}');
}

static void put_operation_id(struct writer *w, const struct route *r)
{
	struct buf id = buf_in(w->arena);

	buf_puts(&id, str_of(http_method_name(r->method)));
	for (size_t i = 0; i < id.n; i++)
		id.p[i] = (char)(id.p[i] | 0x20);
	for (const char *p = r->path; *p != '\0'; p++) {
		if (*p == '{' || *p == '}')
			continue;
		buf_putc(&id, *p == '/' || *p == '-' || *p == '.' ? '_' : *p);
	}
	text(w->out, "operationId", buf_cstr(&id));
}

static void put_operation(struct writer *w, const struct route *r)
{
	struct buf *out = w->out;
	const char *comma = "";
	char method[8];

	snprintf(method, sizeof(method), "%s", http_method_name(r->method));
	for (char *p = method; *p != '\0'; p++)
		*p = (char)(*p | 0x20);
	key(out, method);
	buf_putc(out, '{');
	put_operation_id(w, r);
	if (r->summary != NULL)
		text(out, "summary", r->summary);
	key(out, "parameters");
	buf_putc(out, '[');
	put_path_params(w, r->path);
	put_query_params(w, r->query);
	put_header_params(w, r);
	buf_putc(out, ']');
	put_body(w, r);
	put_responses(w, r);
	key(out, "security");
	buf_puts(out, (r->roles & ROLE_ANYONE) != 0 ? STR("[]") : STR("[{\"bearer\":[]}]"));
	buf_puts(out, STR(",\"x-roles\":["));
	for (unsigned bit = 1; bit <= ROLE_ANYONE; bit <<= 1) {
		if ((r->roles & bit) == 0)
			continue;
		buf_printf(out, "%s\"%s\"", comma, role_name((enum role)bit));
		comma = ",";
	}
	buf_puts(out, STR("]}"));
}

static void put_paths(struct writer *w, const struct service *s)
{
	struct buf *out = w->out;

	for (const struct route *r = s->routes; r != NULL && r->path != NULL; r++) {
		const char *path = route_path(r, w->arena);
		bool seen = false;

		for (const struct route *before = s->routes; before != r && !seen; before++)
			seen = strcmp(route_path(before, w->arena), path) == 0;
		if (seen)
			continue;
		key(out, path);
		buf_putc(out, '{');
		for (const struct route *same = r; same->path != NULL; same++)
			if (strcmp(route_path(same, w->arena), path) == 0)
				put_operation(w, same);
		buf_putc(out, '}');
	}
}

static const char components[] =
	"\"securitySchemes\":{\"bearer\":{\"type\":\"http\",\"scheme\":\"bearer\",\"bearerFormat\":\"JWT\"}},"
	"\"parameters\":{\"IdempotencyKey\":{\"name\":\"Idempotency-Key\",\"in\":\"header\",\"required\":false,\"schema\":{"
	"\"type\":\"string\"}}},"
	"\"responses\":{\"Problem\":{\"description\":\"a problem (RFC "
	"9457)\",\"content\":{\"application/problem+json\":{\"schema\":"
	"{\"$ref\":\"#/components/schemas/Problem\"}}}}},"
	"\"schemas\":{\"Problem\":{\"type\":\"object\",\"required\":[\"type\",\"title\",\"status\",\"code\",\"error\"],"
	"\"properties\":{"
	"\"type\":{\"type\":\"string\",\"format\":\"uri\"},\"title\":{\"type\":\"string\"},\"status\":{\"type\":\"integer\"},"
	"\"detail\":{\"type\":\"string\"},\"instance\":{\"type\":\"string\",\"format\":\"uri-reference\"},\"code\":{\"type\":"
	"\"string\"},"
	"\"error\":{\"type\":\"string\"},\"errors\":{\"type\":\"array\",\"items\":{\"type\":\"object\",\"properties\":{"
	"\"pointer\":{\"type\":\"string\"},\"code\":{\"type\":\"string\"},\"message\":{\"type\":\"string\"}}}}}}";

void openapi_write(const struct service *s, struct buf *out)
{
	struct arena *arena = arena_new();
	struct writer *w = arena_zalloc(arena, sizeof(*w));

	w->out = out;
	w->arena = arena;
	for (const struct route *r = s->routes; r != NULL && r->path != NULL; r++)
		collect(w, r->out, false);
	for (const struct route *r = s->routes; r != NULL && r->path != NULL; r++)
		collect(w, r->in, true);
	buf_printf(out, "{\"openapi\":\"3.1.0\",\"info\":{\"title\":\"Schools24 %s\",\"version\":\"%s\"},\"paths\":{", s->name,
		   SERVICE_VERSION);
	put_paths(w, s);
	buf_puts(out, STR("},\n\"components\":{"));
	buf_put(out, components, sizeof(components) - 1);
	for (size_t i = 0; i < w->n; i++)
		put_schema(w, w->schemas[i].schema, w->schemas[i].in);
	buf_puts(out, STR("}}}\n"));
	arena_free(arena);
}
