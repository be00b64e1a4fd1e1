/* SPDX-License-Identifier: Apache-2.0 */
/* The description and the printed tables say what the tables say, as JSON that another parser reads. */
#include <jansson.h>

#include "unit.h"

#include "base/buf.h"
#include "base/schema.h"
#include "base/str.h"
#include "svc/kit.h"

#define STEP_FIELDS(F, T) F(T, TEXT, text, .flags = REQUIRED, .max = 40)
SCHEMA_STRUCT(step, STEP_FIELDS);
SCHEMA_TABLE(step, STEP_FIELDS);
#define ESSAY_FIELDS(F, T)                                                 \
	F(T, UUID, class_id, .flags = REQUIRED)                            \
	F(T, TEXT, title, .flags = REQUIRED, .min = 2, .max = 100)         \
	F(T, MONEY, price, .min = 50, .max = 100050)                       \
	F(T, ENUM, state, .names = ENUM_NAMES("open", "closed"))           \
	F(T, UUIDS, student_ids, .max_items = 64)                          \
	F(T, LIST, steps, .sub = &step_schema)                             \
	F(T, TIME, seen_at, .flags = SERVER, .since = 2, .column = "seen") \
	F(T, TEXT, secret, .flags = HIDDEN)
ROW_STRUCT(essay, ESSAY_FIELDS);
ROW_TABLE(essay, ESSAY_FIELDS, 2);
#define LIST_FIELDS(F, T) PAGE_FIELDS(F, T) F(T, TEXT, search, .max = 50)
SCHEMA_STRUCT(list_in, LIST_FIELDS);
SCHEMA_TABLE(list_in, LIST_FIELDS);

static const struct entity essay_entity = {
	.name = "essay",
	.table = "school.essays",
	.schema = &essay_schema,
	.write = BUFFERED,
	.level = 2,
	.scopes = {"class_id", "student_ids[]"},
	.class_field = "class_id",
};
static const struct entity *const essays[] = {&essay_entity, NULL};

static enum err nothing(struct req *req)
{
	(void)req;
	return OK;
}

/* clang-format off */
static const struct route routes[] = {
	{HTTP_GET, "/essays", ROLE_TEACHER | ROLE_ADMIN, MAY_SCHOOL, .query = &list_in_schema, .out = &essay_schema, .handler = nothing, .summary = "All \"essays\""},
	{HTTP_POST, "/essays", ROLE_TEACHER, MAY_TEACH, .in = &essay_schema, .out = &essay_schema, .flags = ROUTE_MULTIPART | ROUTE_FULL_STATE, .creates = &essay_entity, .handler = nothing},
	{HTTP_GET, "/essays/{essay_id}", ROLE_STUDENT, MAY_ASSIGNED(&essay_entity), .out = &essay_schema, .handler = nothing},
	{HTTP_GET, "/essays/{essay_id}/files/{name}", ROLE_STUDENT, MAY_ASSIGNED(&essay_entity), .flags = ROUTE_STREAM, .handler = nothing},
	{HTTP_GET, "/.well-known/jwks.json", ROLE_ANYONE, MAY_PUBLIC, .flags = ROUTE_BARE, .cache = {.policy = "cdn"}, .handler = nothing},
	{HTTP_GET, "/internal/essays/{essay_id}", ROLE_SERVICE, MAY_INTERNAL, .handler = nothing},
	ROUTE_END,
};
/* clang-format on */
static const struct service service = {.name = "essay", .routes = routes, .entities = essays};

static json_t *load(void (*write)(const struct service *s, struct buf *out))
{
	struct buf out = {0};
	json_error_t why;
	json_t *all;

	write(&service, &out);
	all = json_loadb(out.p, out.n, JSON_REJECT_DUPLICATES, &why);
	if (all == NULL)
		fail_msg("%s at %d: %.*s", why.text, why.position, (int)out.n, out.p);
	buf_done(&out);
	return all;
}

/* "paths//essays/get": members joined by '|'. */
static json_t *at(json_t *from, const char *path)
{
	char part[128];

	while (from != NULL && *path != '\0') {
		size_t n = strcspn(path, "|");

		snprintf(part, sizeof(part), "%.*s", (int)n, path);
		from = json_is_array(from) ? json_array_get(from, (size_t)atoi(part)) : json_object_get(from, part);
		path += n + (path[n] == '|');
	}
	if (from == NULL)
		fail_msg("no %s", path);
	return from;
}

static const char *text_at(json_t *from, const char *path)
{
	return json_string_value(at(from, path));
}

static void every_route_is_described(void **state)
{
	json_t *all = load(openapi_write);
	size_t operations = 0;
	const char *path;
	json_t *methods;

	(void)state;
	assert_string_equal(text_at(all, "openapi"), "3.1.0");
	for (const struct route *r = routes; r->path != NULL; r++) {
		struct arena *arena = arena_new();
		char method[8];

		snprintf(method, sizeof(method), "%s", r->method == HTTP_GET ? "get" : "post");
		at(all, arena_printf(arena, "paths|%s|%s|responses", route_path(r, arena), method));
		arena_free(arena);
	}
	json_object_foreach(json_object_get(all, "paths"), path, methods) operations += json_object_size(methods);
	assert_int_equal(operations, ARRAY_LEN(routes) - 1);
	json_decref(all);
}

static void parameters_and_bounds_are_those_of_the_tables(void **state)
{
	json_t *all = load(openapi_write), *essay = at(all, "components|schemas|essay.request");

	(void)state;
	assert_string_equal(text_at(all, "paths|/api/v1/essays|get|parameters|0|name"), "page");
	assert_int_equal(json_integer_value(at(all, "paths|/api/v1/essays|get|parameters|1|schema|maximum")), 500);
	assert_string_equal(text_at(all, "paths|/api/v1/essays/{essay_id}|get|parameters|0|schema|format"), "uuid");
	assert_string_equal(text_at(all, "paths|/api/v1/essays/{essay_id}/files/{name}|get|parameters|1|name"), "name");
	assert_int_equal(json_integer_value(at(essay, "properties|title|minLength")), 2);
	assert_int_equal(json_integer_value(at(essay, "properties|title|maxLength")), 100);
	assert_true(json_number_value(at(essay, "properties|price|minimum")) == 0.5);
	assert_true(json_number_value(at(essay, "properties|price|maximum")) == 1000.5);
	assert_string_equal(text_at(essay, "properties|state|enum|1"), "closed");
	assert_int_equal(json_integer_value(at(essay, "properties|student_ids|maxItems")), 64);
	assert_string_equal(text_at(essay, "required|1"), "title");
	assert_null(json_object_get(at(essay, "properties"), "seen_at"));
	json_decref(all);
}

static void answers_hide_what_is_hidden_and_references_resolve(void **state)
{
	json_t *all = load(openapi_write), *essay = at(all, "components|schemas|essay");

	(void)state;
	assert_null(json_object_get(at(essay, "properties"), "secret"));
	at(essay, "properties|seen_at");
	at(essay, "properties|created_at");
	assert_string_equal(text_at(essay, "properties|steps|items|$ref"), "#/components/schemas/step");
	at(all, "components|schemas|step");
	assert_string_equal(text_at(all, "paths|/api/v1/essays|post|requestBody|content|application/json|schema|$ref"),
			    "#/components/schemas/essay.request");
	at(all, "paths|/api/v1/essays|post|requestBody|content|multipart/form-data");
	at(all, "components|responses|Problem");
	json_decref(all);
}

static void roles_and_problems_follow_from_the_row(void **state)
{
	json_t *all = load(openapi_write);

	(void)state;
	assert_string_equal(text_at(all, "paths|/api/v1/essays|get|x-roles|0"), "admin");
	at(all, "paths|/api/v1/essays|post|responses|415");
	at(all, "paths|/api/v1/essays/{essay_id}|get|responses|404");
	assert_null(json_object_get(at(all, "paths|/api/v1/essays/{essay_id}|get|responses"), "415"));
	assert_null(json_object_get(at(all, "paths|/.well-known/jwks.json|get|responses"), "401"));
	assert_int_equal(json_array_size(at(all, "paths|/.well-known/jwks.json|get|security")), 0);
	json_decref(all);
}

static void routes_print_one_line_each(void **state)
{
	struct buf out = {0};

	(void)state;
	print_routes(&service, &out);
	assert_str(buf_str(&out), STR("GET\t/api/v1/essays\tadmin,teacher\tschool\t0\t-\t-\n"
				      "POST\t/api/v1/essays\tteacher\tteaches\t105381888\tmultipart,full_state\t-\n"
				      "GET\t/api/v1/essays/{essay_id}\tstudent\tassigned(essay)\t0\t-\t-\n"
				      "GET\t/api/v1/essays/{essay_id}/files/{name}\tstudent\tassigned(essay)\t0\tstream\t-\n"
				      "GET\t/.well-known/jwks.json\tanyone\tpublic\t0\tbare\tcdn\n"
				      "GET\t/internal/essays/{essay_id}\tservice\tinternal\t0\t-\t-\n"));
	buf_done(&out);
}

static void entities_print_what_builders_need(void **state)
{
	json_t *all = load(print_entities);

	(void)state;
	assert_string_equal(text_at(all, "service"), "essay");
	assert_string_equal(text_at(all, "entities|0|name"), "essay");
	assert_string_equal(text_at(all, "entities|0|table"), "school.essays");
	assert_string_equal(text_at(all, "entities|0|write"), "buffer");
	assert_int_equal(json_integer_value(at(all, "entities|0|level")), 2);
	assert_int_equal(json_integer_value(at(all, "entities|0|layout")), 2);
	assert_string_equal(text_at(all, "entities|0|scopes|1"), "student_ids[]");
	assert_true(json_is_true(at(all, "entities|0|full_state")));
	assert_int_equal(json_array_size(at(all, "entities|0|fields")), 8);
	assert_string_equal(text_at(all, "entities|0|fields|6|column"), "seen");
	assert_string_equal(text_at(all, "entities|0|fields|6|type"), "time");
	assert_string_equal(text_at(all, "entities|0|fields|6|flags|0"), "server");
	assert_int_equal(json_integer_value(at(all, "entities|0|fields|6|since")), 2);
	json_decref(all);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_route_is_described),
		cmocka_unit_test(parameters_and_bounds_are_those_of_the_tables),
		cmocka_unit_test(answers_hide_what_is_hidden_and_references_resolve),
		cmocka_unit_test(roles_and_problems_follow_from_the_row),
		cmocka_unit_test(routes_print_one_line_each),
		cmocka_unit_test(entities_print_what_builders_need),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
