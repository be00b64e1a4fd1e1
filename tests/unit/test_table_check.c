/* SPDX-License-Identifier: Apache-2.0 */
/* Each mistake of a table is told, and a right table passes. */
#include "unit.h"

#include "base/buf.h"
#include "base/schema.h"
#include "base/str.h"
#include "svc/kit.h"

#define ESSAY_FIELDS(F, T)                      \
	F(T, UUID, class_id, .flags = REQUIRED) \
	F(T, UUID, teacher_id) F(T, UUIDS, student_ids) F(T, TEXT, title, .max = 100) F(T, DATE, date)
ROW_STRUCT(essay, ESSAY_FIELDS);
ROW_TABLE(essay, ESSAY_FIELDS, 1);

static const struct entity essay_entity = {
	.name = "essay",
	.table = "school.essays",
	.schema = &essay_schema,
	.write = BUFFERED,
	.level = 2,
	.scopes = {"class_id", "date+class_id", "student_ids[]"},
	.tags = {"essay:{id}", "class:{class_id}"},
	.owner = "teacher_id",
	.class_field = "class_id",
};
static const struct entity *const essays[] = {&essay_entity, NULL};

static enum err nothing(struct req *req)
{
	(void)req;
	return OK;
}

#define GOOD                                                                                             \
	{                                                                                                \
		HTTP_GET, "/essays/{essay_id}", ROLE_TEACHER, MAY_OWN(&essay_entity), .handler = nothing \
	}

static char told[4096];

static enum err check(struct service service)
{
	struct buf problems = {0};
	enum err e;

	service.name = "essay";
	e = table_check(&service, &problems);
	snprintf(told, sizeof(told), "%.*s", (int)problems.n, problems.n != 0 ? problems.p : "");
	buf_done(&problems);
	return e;
}

static void expect_route(struct route wrong, const char *complaint)
{
	const struct route routes[] = {GOOD, wrong, ROUTE_END};

	assert_int_equal(check((struct service){.routes = routes, .entities = essays}), ERR_INVALID);
	if (strstr(told, complaint) == NULL)
		fail_msg("wanted \"%s\", told: %s", complaint, told);
}

static void a_right_table_passes(void **state)
{
	const struct event_row events[] = {{"essay.set", &essay_entity, ON_CREATE, {"title"}, {"id", "class_id"}},
					   {.type = NULL}};
	const struct route routes[] = {
		GOOD,
		{HTTP_POST, "/essays", ROLE_TEACHER, MAY_TEACH, .in = &essay_schema, .flags = ROUTE_FULL_STATE,
		 .creates = &essay_entity, .handler = nothing},
		{HTTP_GET, "/terms", ROLE_ANYONE, MAY_PUBLIC, .cache = {.policy = "cdn", .ttl_s = 60}, .handler = nothing},
		{HTTP_GET, "/rooms", ROLE_TEACHER, MAY_SCHOOL, .cache = {.policy = "full", .names = "class"}, .handler = nothing},
		{HTTP_POST, "/hooks/{gateway}", ROLE_ANYONE, MAY_CHECK(nothing), .handler = nothing},
		{HTTP_GET, "/internal/essays/{essay_id}", ROLE_SERVICE, MAY_INTERNAL, .handler = nothing},
		ROUTE_END,
	};

	(void)state;
	assert_int_equal(check((struct service){.routes = routes, .entities = essays, .events = events}), OK);
	assert_string_equal(told, "");
}

/* clang-format off */
static void every_mistake_of_a_route_is_told(void **state)
{
	(void)state;
	expect_route((struct route){HTTP_GET, "/x", 0, MAY_SELF, .handler = nothing}, "GET /x: no role");
	expect_route((struct route){HTTP_GET, "/x", ROLE_TEACHER, {0}, .handler = nothing}, "no rule");
	expect_route((struct route){HTTP_GET, "/x", ROLE_TEACHER, MAY_SELF}, "no handler");
	expect_route((struct route){HTTP_GET, "/x", ROLE_TEACHER, MAY_PUBLIC, .handler = nothing}, "MAY_PUBLIC is for ROLE_ANYONE");
	expect_route((struct route){HTTP_GET, "/x", ROLE_ANYONE, MAY_SELF, .handler = nothing}, "ROLE_ANYONE goes with");
	expect_route((struct route){HTTP_GET, "/x", ROLE_ANYONE | ROLE_ADMIN, MAY_PUBLIC, .handler = nothing}, "ROLE_ANYONE and other roles");
	expect_route((struct route){HTTP_GET, "/x", ROLE_SERVICE, MAY_SELF, .handler = nothing}, "ROLE_SERVICE goes with MAY_INTERNAL");
	expect_route((struct route){HTTP_GET, "/internal/x", ROLE_TEACHER, MAY_INTERNAL, .handler = nothing}, "for ROLE_SERVICE alone");
	expect_route((struct route){HTTP_GET, "/x", ROLE_SERVICE, MAY_INTERNAL, .handler = nothing}, "below /internal/");
	expect_route((struct route){HTTP_GET, "x", ROLE_TEACHER, MAY_SELF, .handler = nothing}, "does not begin with /");
	expect_route((struct route){HTTP_GET, "/x//y", ROLE_TEACHER, MAY_SELF, .handler = nothing}, "is no path segment");
	expect_route((struct route){HTTP_GET, "/x/{Y}", ROLE_TEACHER, MAY_SELF, .handler = nothing}, "no parameter name");
	expect_route((struct route){HTTP_GET, "/x/{y}/{y}", ROLE_TEACHER, MAY_SELF, .handler = nothing}, "{y} stands twice");
	expect_route((struct route){HTTP_GET, "/{a}/{b}/{c}/{d}/{e}", ROLE_TEACHER, MAY_SELF, .handler = nothing}, "more than 4 parameters");
	expect_route((struct route){HTTP_GET, "/x", ROLE_TEACHER, MAY_OWN(&essay_entity), .handler = nothing}, "no {essay_id}");
	expect_route((struct route){HTTP_GET, "/x/{essay_id}", ROLE_STUDENT, MAY_ABOUT_ME(&essay_entity), .handler = nothing}, "names no student_field");
	expect_route((struct route){HTTP_GET, "/x", ROLE_TEACHER, MAY_CHECK(NULL), .handler = nothing}, "MAY_CHECK without");
	expect_route((struct route){HTTP_GET, "/x", ROLE_TEACHER, MAY_SELF, .in = &essay_schema, .handler = nothing}, "GET takes no body");
	expect_route((struct route){HTTP_POST, "/x", ROLE_TEACHER, MAY_SELF, .flags = ROUTE_MULTIPART, .handler = nothing}, "ROUTE_MULTIPART without");
	expect_route((struct route){HTTP_POST, "/x", ROLE_TEACHER, MAY_SELF, .flags = ROUTE_FULL_STATE, .handler = nothing}, "needs .creates");
	expect_route((struct route){HTTP_GET, "/x", ROLE_TEACHER, MAY_SELF, .cache = {.policy = "cdn"}, .handler = nothing}, "a public cache");
	expect_route((struct route){HTTP_GET, "/x", ROLE_TEACHER, MAY_SELF, .cache = {.policy = "redis"}, .handler = nothing}, "nothing can drop it");
	expect_route((struct route){HTTP_GET, "/x", ROLE_TEACHER, MAY_SELF, .cache = {.policy = "ever", .tags = {"x"}}, .handler = nothing}, "no cache policy \"ever\"");
	expect_route((struct route){HTTP_POST, "/x", ROLE_TEACHER, MAY_SELF, .cache = {.policy = "full", .tags = {"x"}}, .handler = nothing}, "only the answer of a GET");
	expect_route((struct route){HTTP_GET, "/x", ROLE_TEACHER, MAY_SELF, .flags = ROUTE_STREAM, .cache = {.policy = "redis", .tags = {"x"}}, .handler = nothing}, "that is not streamed");
	expect_route((struct route){HTTP_GET, "/x/{y}", ROLE_TEACHER, MAY_SELF, .cache = {.policy = "full", .tags = {"y:{y}", "z:{y}.{z}"}}, .handler = nothing}, "\"z:{y}.{z}\" names what");
	expect_route((struct route){HTTP_GET, "/x/{y}", ROLE_TEACHER, MAY_SELF, .cache = {.policy = "full", .tags = {"y:{y"}}, .handler = nothing}, "lacks its }");
	expect_route((struct route){HTTP_GET, "/x", ROLE_TEACHER, MAY_SELF, .cache = {.policy = "full", .tags = {"x"}, .vary = "class"}, .handler = nothing}, "differ by \"class\"");
	expect_route((struct route){HTTP_HEAD, "/x", ROLE_TEACHER, MAY_SELF, .handler = nothing}, "HEAD and OPTIONS");
	expect_route((struct route){HTTP_GET, "/essays/{other_id}", ROLE_TEACHER, MAY_SELF, .handler = nothing}, "GET /essays/{other_id}: stands twice");
}
/* clang-format on */

static void expect_entity(struct entity wrong, const char *complaint)
{
	const struct entity *const entities[] = {&wrong, NULL};

	assert_int_equal(check((struct service){.entities = entities}), ERR_INVALID);
	if (strstr(told, complaint) == NULL)
		fail_msg("wanted \"%s\", told: %s", complaint, told);
}

static void every_mistake_of_an_entity_is_told(void **state)
{
	struct entity e = essay_entity;

	(void)state;
	e.table = "essays";
	expect_entity(e, "no schema");
	e = essay_entity;
	e.scopes[0] = "room_id";
	expect_entity(e, ".scopes names the field \"room_id\"");
	e = essay_entity;
	e.tags[0] = "room:{room_id}";
	expect_entity(e, ".tags names the field \"room_id\"");
	e.tags[0] = "room:{class_id";
	expect_entity(e, "lacks its }");
	e = essay_entity;
	e.when[0] = (struct tag_when){"done_at", NULL, "class:{class_id}"};
	expect_entity(e, ".when names the field \"done_at\"");
	e = essay_entity;
	e.when[0] = (struct tag_when){"title", NULL, "room:{room_id}"};
	expect_entity(e, ".tags names the field \"room_id\"");
	e = essay_entity;
	e.list_fields[0] = "colour";
	expect_entity(e, ".list_fields names");
	e = essay_entity;
	e.owner = "nobody_id";
	expect_entity(e, ".owner names");
	e = essay_entity;
	e.name = "Essay";
	expect_entity(e, "lower case");
}

static void statements_out_of_order_are_told(void **state)
{
	const struct entity_sql sql[] = {{.entity = "other"}, {0}};

	(void)state;
	assert_int_equal(check((struct service){.entities = essays, .entity_sql = sql}), ERR_INVALID);
	assert_non_null(strstr(told, "order"));
	assert_int_equal(check((struct service){.entities = essays, .flags = SERVICE_NO_BUFFER}), ERR_INVALID);
	assert_non_null(strstr(told, "SERVICE_NO_BUFFER"));
}

static void every_mistake_of_an_event_is_told(void **state)
{
	const struct event_row events[] = {
		{"essay", &essay_entity, 0, {"nothing"}, {"neither"}}, {"essay.lost", NULL, ON_CREATE, {0}, {0}}, {.type = NULL}};

	(void)state;
	assert_int_equal(check((struct service){.entities = essays, .events = events}), ERR_INVALID);
	assert_non_null(strstr(told, "not domain.event"));
	assert_non_null(strstr(told, "no .on"));
	assert_non_null(strstr(told, "\"nothing\""));
	assert_non_null(strstr(told, "\"neither\""));
	assert_non_null(strstr(told, "none of the service's"));
}

static void all_mistakes_are_told_at_once(void **state)
{
	const struct route routes[] = {{HTTP_GET, "/a", 0, {0}}, {HTTP_GET, "/b", 0, {0}}, ROUTE_END};
	size_t lines = 0;

	(void)state;
	assert_int_equal(check((struct service){.routes = routes}), ERR_INVALID);
	for (const char *p = told; *p != '\0'; p++)
		lines += *p == '\n';
	assert_int_equal(lines, 6);
}

/* B11: a circle of any length, and what cannot be followed. */
static void expect_edges(const struct cache_edge *edges, const char *complaint)
{
	enum err e = check((struct service){.cache_edges = edges});

	assert_int_equal(e, complaint != NULL ? ERR_INVALID : OK);
	if (complaint != NULL && strstr(told, complaint) == NULL)
		fail_msg("wanted \"%s\", told: %s", complaint, told);
}

static void edges_of_tags_that_go_in_a_circle_are_refused(void **state)
{
	struct cache_edge edges[CACHE_EDGES_MAX + 2] = {
		{"class:*", "dashboard:*"}, {"dashboard:*", "report:*"}, {"calendar", "dashboard:*"}};

	(void)state;
	expect_edges(edges, NULL);
	edges[3] = (struct cache_edge){"report:*", "class:*"};
	expect_edges(edges, "class:* -> dashboard:*: goes in a circle");
	edges[3] = (struct cache_edge){"report:5", "class:5"}; /* of one value alone it is one too */
	expect_edges(edges, "goes in a circle");
	edges[3] = (struct cache_edge){"report:*", "report:*"};
	expect_edges(edges, "report:* -> report:*: goes in a circle");
	edges[3] = (struct cache_edge){"report:*", "class"};
	expect_edges(edges, "the value of report:* is in no tag that depends on it");
	edges[3] = (struct cache_edge){"rep*ort:*", "class:*"};
	expect_edges(edges, "the * stands for the end of a tag");
	edges[3] = (struct cache_edge){"class:*", "dashboard:*"};
	expect_edges(edges, "stands twice");
	edges[3] = (struct cache_edge){"*", "class:*"};
	expect_edges(edges, "names no kind of tags");
	edges[3] = (struct cache_edge){"report:*", NULL};
	expect_edges(edges, "names no kind of tags");
	for (int i = 0; i < CACHE_EDGES_MAX + 1; i++)
		edges[i] = (struct cache_edge){"class:*", "dashboard:*"};
	expect_edges(edges, "one too many");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_right_table_passes),
		cmocka_unit_test(every_mistake_of_a_route_is_told),
		cmocka_unit_test(every_mistake_of_an_entity_is_told),
		cmocka_unit_test(statements_out_of_order_are_told),
		cmocka_unit_test(every_mistake_of_an_event_is_told),
		cmocka_unit_test(all_mistakes_are_told_at_once),
		cmocka_unit_test(edges_of_tags_that_go_in_a_circle_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
