/* SPDX-License-Identifier: Apache-2.0 */
/* What a handler leaves becomes headers, validators, links and the sync member. */
#include "kit_fixture.h"

#include "base/schema.h"

#define THING_FIELDS(F, T) F(T, TEXT, name) F(T, INT, amount)
ROW_STRUCT(thing, THING_FIELDS);
ROW_TABLE(thing, THING_FIELDS, 1);
#define LIST_FIELDS(F, T) PAGE_FIELDS(F, T) F(T, TEXT, search)
SCHEMA_STRUCT(list_in, LIST_FIELDS);
SCHEMA_TABLE(list_in, LIST_FIELDS);

static int64_t version = 1700000000000001;
static const char *name = "slate";

static void thing_fill(struct thing *t)
{
	memset(t, 0, sizeof(*t));
	t->row.version = version;
	t->row.id.b[0] = 7;
	FIELD_PUT(t, thing, name, str_of(name));
	FIELD_PUT(t, thing, amount, 3);
}

static enum err get_thing(struct req *req)
{
	struct thing t;

	thing_fill(&t);
	return req_reply(req, &thing_schema, &t);
}

static enum err get_wrapped(struct req *req)
{
	struct thing t;

	thing_fill(&t);
	req->version = -1;
	return req_reply_as(req, "thing", &thing_schema, &t);
}

static enum err get_free(struct req *req)
{
	struct thing t;
	struct uuid id = {{9}};

	thing_fill(&t);
	req_json_begin(req);
	req_json_date(req, "date", 0);
	req_json_bool(req, "is_open", true);
	req_json_null(req, "next");
	req_json_id(req, "id", id);
	req_json_object(req, "thing", &thing_schema, &t);
	req_json_int(req, "n", -1);
	req_json_end(req);
	return OK;
}

static enum err get_list(struct req *req)
{
	struct page page = req_page(req, 2);
	struct thing v[2];
	struct list rows = {v, page.number <= 2 ? 2 : 1};

	thing_fill(&v[0]);
	thing_fill(&v[1]);
	return req_reply_page(req, "things", &thing_schema, &rows, 5);
}

static enum err get_plain_list(struct req *req)
{
	struct list rows = {NULL, 0};

	return req_reply_list(req, "things", &thing_schema, &rows);
}

static enum err post_thing(struct req *req)
{
	struct thing t;

	thing_fill(&t);
	req->status = 201;
	req->sync = SYNC_PENDING;
	req->due_us = 1700000000000000;
	return req_reply(req, &thing_schema, &t);
}

static enum err get_degraded(struct req *req)
{
	struct thing t;

	thing_fill(&t);
	req->database_only = true;
	return req_reply(req, &thing_schema, &t);
}

static enum err get_absent_degraded(struct req *req)
{
	req->database_only = true;
	return ERR_NOT_FOUND;
}

static enum err put_message(struct req *req)
{
	req_header(req, "X-Note", "%s", "a\r\nSet-Cookie: b");
	return req_reply_message(req, "done \"well\"");
}

static enum err delete_thing(struct req *req)
{
	(void)req;
	return OK;
}

/* clang-format off */
static const struct route routes[] = {
	{HTTP_GET, "/thing", ROLE_PEOPLE, MAY_SELF, .handler = get_thing},
	{HTTP_GET, "/wrapped", ROLE_PEOPLE, MAY_SELF, .handler = get_wrapped},
	{HTTP_GET, "/free", ROLE_PEOPLE, MAY_SELF, .handler = get_free},
	{HTTP_GET, "/things", ROLE_PEOPLE, MAY_SELF, .query = &list_in_schema, .handler = get_list},
	{HTTP_GET, "/empty", ROLE_PEOPLE, MAY_SELF, .handler = get_plain_list},
	{HTTP_POST, "/things", ROLE_PEOPLE, MAY_SELF, .handler = post_thing},
	{HTTP_GET, "/degraded", ROLE_PEOPLE, MAY_SELF, .handler = get_degraded},
	{HTTP_GET, "/degraded/absent", ROLE_PEOPLE, MAY_SELF, .handler = get_absent_degraded},
	{HTTP_PUT, "/thing", ROLE_PEOPLE, MAY_SELF, .handler = put_message},
	{HTTP_DELETE, "/thing", ROLE_PEOPLE, MAY_SELF, .handler = delete_thing},
	{HTTP_GET, "/token", ROLE_PEOPLE, MAY_SELF, .cache = {.policy = "no-store"}, .handler = get_thing},
	{HTTP_GET, "/public", ROLE_ANYONE, MAY_PUBLIC, .cache = {.policy = "cdn", .ttl_s = 60, .swr_s = 30}, .handler = get_wrapped},
	ROUTE_END,
};
/* clang-format on */
static const struct service service = {.name = "answer", .routes = routes, .flags = SERVICE_NO_PG | SERVICE_NO_BUFFER};

static int setup(void **state)
{
	version = 1700000000000001;
	name = "slate";
	*state = kit_open(&service);
	return 0;
}

static int teardown(void **state)
{
	kit_close(*state);
	return 0;
}

static void a_row_is_answered_with_its_version_and_hash(void **state)
{
	struct kit_answer a = kit_get(*state, "/api/v1/thing", TEACHER), b;
	const char *tag = kit_header(*state, a, "ETag");

	assert_int_equal(a.status, 200);
	assert_holds(a.body, "\"name\":\"slate\",\"amount\":3");
	assert_int_equal(strncmp(tag, "\"1700000000000001-", 18), 0);
	/* The same version with another body is another answer. */
	name = "chalk";
	b = kit_get(*state, "/api/v1/thing", TEACHER);
	assert_string_not_equal(kit_header(*state, b, "ETag"), tag);
}

static void personal_answers_are_private_and_revalidated(void **state)
{
	struct kit_answer a = kit_get(*state, "/api/v1/thing", TEACHER);

	assert_string_equal(kit_header(*state, a, "Cache-Control"), "private, no-cache");
	assert_string_equal(kit_header(*state, a, "X-Content-Type-Options"), "nosniff");
	assert_string_equal(kit_header(*state, a, "Content-Type"), "application/json; charset=utf-8");
	assert_int_equal(strlen(kit_header(*state, a, "X-Request-Id")), 32);
	assert_string_equal(kit_header(*state, a, "RateLimit"), "\"user\";r=0");
	a = kit_get(*state, "/api/v1/token", TEACHER);
	assert_string_equal(kit_header(*state, a, "Cache-Control"), "no-store");
	a = kit_get(*state, "/api/v1/public", "");
	assert_string_equal(kit_header(*state, a, "Cache-Control"), "public, max-age=60, stale-while-revalidate=30");
}

static void if_none_match_is_a_304_without_body(void **state)
{
	struct kit *k = *state;
	const char *tag = kit_header(k, kit_get(k, "/api/v1/thing", TEACHER), "ETag");
	struct kit_answer a = kit_get(k, "/api/v1/thing", arena_printf(k->arena, TEACHER "If-None-Match: \"x\", W/%s\r\n", tag));

	assert_int_equal(a.status, 304);
	assert_int_equal(a.body.n, 0);
	assert_string_equal(kit_header(k, a, "ETag"), tag);
	a = kit_get(k, "/api/v1/thing", TEACHER "If-None-Match: \"x\"\r\n");
	assert_int_equal(a.status, 200);
	a = kit_get(k, "/api/v1/thing", TEACHER "If-None-Match: *\r\n");
	assert_int_equal(a.status, 304);
}

static void free_form_answers_have_members_of_every_type(void **state)
{
	struct str body = kit_get(*state, "/api/v1/free", TEACHER).body;

	assert_holds(body, "{\"date\":\"1970-01-01\",\"is_open\":true,\"next\":null,\"id\":\"09000000-");
	assert_holds(body, "\"thing\":{\"id\":\"07000000-");
	assert_holds(body, "},\"n\":-1}");
}

static void composed_answers_carry_a_weak_tag_or_none(void **state)
{
	assert_int_equal(strncmp(kit_header(*state, kit_get(*state, "/api/v1/empty", TEACHER), "ETag"), "W/\"", 3), 0);
	assert_string_equal(kit_header(*state, kit_get(*state, "/api/v1/wrapped", TEACHER), "ETag"), "");
	assert_holds(kit_get(*state, "/api/v1/wrapped", TEACHER).body, "{\"thing\":{\"id\":\"07000000-");
	assert_str(kit_get(*state, "/api/v1/empty", TEACHER).body, STR("{\"things\":[]}"));
}

static void head_has_the_headers_of_get(void **state)
{
	struct kit *k = *state;
	struct kit_answer get = kit_get(k, "/api/v1/thing", TEACHER),
			  head = kit_send(k, kit_port(k), "HEAD", "/api/v1/thing", TEACHER, STR(""));

	assert_int_equal(head.status, 200);
	assert_int_equal(head.body.n, 0);
	assert_string_equal(kit_header(k, head, "ETag"), kit_header(k, get, "ETag"));
	assert_string_equal(kit_header(k, head, "Content-Length"), kit_header(k, get, "Content-Length"));
}

static void a_page_links_to_its_neighbours(void **state)
{
	struct kit_answer a = kit_get(*state, "/api/v1/things?page=2&search=a%20b&x=%3Cb%3E&page_size=2", TEACHER);

	assert_holds(a.body, "\"total\":5,\"page\":2,\"page_size\":2}");
	assert_string_equal(kit_header(*state, a, "Link"), "</api/v1/things?search=a%20b&page_size=2&page=1>; rel=\"first\", "
							   "</api/v1/things?search=a%20b&page_size=2&page=1>; rel=\"prev\", "
							   "</api/v1/things?search=a%20b&page_size=2&page=3>; rel=\"next\"");
	a = kit_get(*state, "/api/v1/things?page=3", TEACHER);
	assert_holds(a.body, "\"page\":3,\"page_size\":2}");
	assert_null(strstr(kit_header(*state, a, "Link"), "next"));
}

static void a_buffered_write_says_where_it_is(void **state)
{
	struct kit_answer a = kit_json(*state, "POST", "/api/v1/things", TEACHER, "{}");

	assert_int_equal(a.status, 201);
	assert_holds(a.body, ",\"sync\":{\"state\":\"pending\",\"version\":1700000000000001,\"durability\":\"memory\",\"due\":"
			     "\"2023-11-14T22:13:20Z\"}}");
	assert_string_equal(kit_header(*state, a, "Cache-Control"), "no-store");
	assert_int_equal(strncmp(kit_header(*state, a, "ETag"), "\"1700000000000001-", 18), 0);
}

static void answers_from_the_database_alone_say_so(void **state)
{
	struct kit_answer a = kit_get(*state, "/api/v1/degraded", TEACHER);

	assert_string_equal(kit_header(*state, a, "ETag"), "");
	assert_string_equal(kit_header(*state, a, "X-Cache"), "BYPASS");
	assert_string_equal(kit_header(*state, a, "X-Data"), "database-only");
	a = kit_get(*state, "/api/v1/degraded/absent", TEACHER);
	assert_int_equal(a.status, 404);
	assert_string_equal(kit_header(*state, a, "X-Cache"), "BYPASS");
	assert_string_equal(kit_header(*state, a, "X-Data"), "database-only");
}

static void a_value_cannot_break_the_header_block(void **state)
{
	struct kit_answer a = kit_json(*state, "PUT", "/api/v1/thing", TEACHER, "");

	assert_str(a.body, STR("{\"message\":\"done \\\"well\\\"\"}"));
	assert_string_equal(kit_header(*state, a, "X-Note"), "a  Set-Cookie: b");
	assert_string_equal(kit_header(*state, a, "Set-Cookie"), "");
}

static void nothing_to_say_is_a_204(void **state)
{
	struct kit_answer a = kit_send(*state, kit_port(*state), "DELETE", "/api/v1/thing", TEACHER, STR(""));

	assert_int_equal(a.status, 204);
	assert_int_equal(a.body.n, 0);
}

static void the_gateways_request_id_is_kept_and_another_is_not(void **state)
{
	struct kit_answer a = kit_get(*state, "/api/v1/thing", TEACHER "X-Request-Id: 0123456789abcdef0123456789abcdef\r\n");

	assert_string_equal(kit_header(*state, a, "X-Request-Id"), "0123456789abcdef0123456789abcdef");
	a = kit_get(*state, "/api/v1/thing", TEACHER "X-Request-Id: ../../etc/passwd\r\n");
	assert_int_equal(strlen(kit_header(*state, a, "X-Request-Id")), 32);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_row_is_answered_with_its_version_and_hash),
		T(personal_answers_are_private_and_revalidated),
		T(if_none_match_is_a_304_without_body),
		T(free_form_answers_have_members_of_every_type),
		T(composed_answers_carry_a_weak_tag_or_none),
		T(head_has_the_headers_of_get),
		T(a_page_links_to_its_neighbours),
		T(a_buffered_write_says_where_it_is),
		T(answers_from_the_database_alone_say_so),
		T(a_value_cannot_break_the_header_block),
		T(nothing_to_say_is_a_204),
		T(the_gateways_request_id_is_kept_and_another_is_not),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
