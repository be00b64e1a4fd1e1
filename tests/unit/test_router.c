/* SPDX-License-Identifier: Apache-2.0 */
/* The route tree against a matcher that tries every route in turn. */
#include "unit.h"

#include "base/arena.h"
#include "base/str.h"
#include "base/uuid.h"
#include "svc/router.h"

#define ID1 "0192f0c4-1111-7000-8000-000000000001"
#define ID2 "0192F0C4-2222-7000-8000-000000000002"
#define R(method_, path_)                                                      \
	{                                                                      \
		.method = HTTP_##method_, .path = (path_), .flags = ROUTE_BARE \
	}

static const struct route table[] = {
	R(GET, "/"),
	R(GET, "/classes"),
	R(POST, "/classes"),
	R(GET, "/classes/{class_id}"),
	R(DELETE, "/classes/{class_id}"),
	R(GET, "/classes/catalog"),
	R(GET, "/classes/{name}/rooms"),
	R(GET, "/classes/{class_id}/students"),
	R(GET, "/files/{kind}/{file_id}/{part}"),
	R(GET, "/teacher/homework/{homework_id}/submissions/{submission_id}"),
	{.method = HTTP_GET, .path = "/homework"},
	{.method = HTTP_DELETE, .path = "/keys/{key}", .flags = ROUTE_BARE | ROUTE_BYTES},
	R(GET, "/keys/{key}"),
	ROUTE_END,
};

struct fixture {
	struct router *router;
	struct arena *arena;
};

static int setup(void **state)
{
	struct fixture *f = mem_zalloc(sizeof(*f));

	f->router = router_new();
	f->arena = arena_new();
	for (const struct route *r = table; r->path != NULL; r++)
		router_add(f->router, r);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	router_free(f->router);
	arena_free(f->arena);
	free(f);
	return 0;
}

static enum err match(struct fixture *f, enum http_method m, const char *path, struct route_match *ret)
{
	return router_match(f->router, m, str_of(path), f->arena, ret);
}

static void expect(struct fixture *f, enum http_method m, const char *path, const char *template)
{
	struct route_match got;

	assert_int_equal(match(f, m, path, &got), OK);
	assert_string_equal(got.entry->path, template);
}

static void routes_below_api_v1_unless_bare(void **state)
{
	struct route_match got;

	expect(*state, HTTP_GET, "/api/v1/homework", "/api/v1/homework");
	assert_int_equal(match(*state, HTTP_GET, "/homework", &got), ERR_NOT_FOUND);
	expect(*state, HTTP_GET, "/", "/");
}

static void a_literal_wins_over_a_parameter(void **state)
{
	expect(*state, HTTP_GET, "/classes/catalog", "/classes/catalog");
	expect(*state, HTTP_GET, "/classes/" ID1, "/classes/{class_id}");
}

static void an_id_parameter_takes_uuids_alone(void **state)
{
	struct route_match got;

	assert_int_equal(match(*state, HTTP_GET, "/classes/7", &got), ERR_NOT_FOUND);
	assert_int_equal(match(*state, HTTP_GET, "/classes/" ID1 "0", &got), ERR_NOT_FOUND);
	assert_int_equal(match(*state, HTTP_GET, "/classes/" ID2, &got), OK);
	assert_int_equal(got.n, 1);
	assert_int_equal(got.id[0].b[15], 2);
}

static void an_id_falls_back_to_a_text_parameter(void **state)
{
	struct route_match got;

	expect(*state, HTTP_GET, "/classes/" ID1 "/students", "/classes/{class_id}/students");
	assert_int_equal(match(*state, HTTP_GET, "/classes/" ID1 "/rooms", &got), OK);
	assert_string_equal(got.entry->path, "/classes/{name}/rooms");
	assert_str(got.text[0], STR(ID1));
	assert_true(uuid_is_nil(got.id[0]));
}

static void a_wrong_method_tells_the_right_ones(void **state)
{
	struct route_match got;

	assert_int_equal(match(*state, HTTP_PUT, "/classes", &got), ERR_METHOD);
	assert_int_equal(got.allowed, 1 << HTTP_GET | 1 << HTTP_HEAD | 1 << HTTP_POST);
	assert_int_equal(match(*state, HTTP_OTHER, "/classes/" ID1, &got), ERR_METHOD);
	assert_int_equal(got.allowed, 1 << HTTP_GET | 1 << HTTP_HEAD | 1 << HTTP_DELETE);
}

static void head_goes_to_gets_route(void **state)
{
	struct route_match got;

	expect(*state, HTTP_HEAD, "/classes", "/classes");
	assert_int_equal(match(*state, HTTP_HEAD, "/nothing", &got), ERR_NOT_FOUND);
}

static void escapes_are_decoded_once_and_dots_refused(void **state)
{
	struct route_match got;

	assert_int_equal(match(*state, HTTP_GET, "/classes/5%20a%252f/rooms", &got), OK);
	assert_str(got.text[0], STR("5 a%2f"));
	expect(*state, HTTP_GET, "/%63lasses", "/classes");
	assert_int_equal(match(*state, HTTP_GET, "/classes/%2e%2e/rooms", &got), ERR_NOT_FOUND);
	assert_int_equal(match(*state, HTTP_GET, "/classes/./rooms", &got), ERR_NOT_FOUND);
	assert_int_equal(match(*state, HTTP_GET, "/classes/%zz/rooms", &got), ERR_NOT_FOUND);
	assert_int_equal(match(*state, HTTP_GET, "/classes/%00/rooms", &got), ERR_NOT_FOUND);
	assert_int_equal(match(*state, HTTP_GET, "/classes/%ff/rooms", &got), ERR_NOT_FOUND);
}

static void empty_segments_and_long_paths_are_nothing(void **state)
{
	static const char *const paths[] = {"",
					    "classes",
					    "*",
					    "//",
					    "/classes/",
					    "//classes",
					    "/classes//rooms",
					    "/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17/18"};
	struct route_match got;

	for (size_t i = 0; i < ARRAY_LEN(paths); i++)
		assert_int_equal(match(*state, HTTP_GET, paths[i], &got), ERR_NOT_FOUND);
}

/* ---- the property ---- */

enum { LITERAL, ID, TEXT, NO_MATCH };

static int segment_kind(struct str pattern, struct str segment)
{
	struct uuid id;
	struct str name;

	if (!route_param(pattern, &name))
		return str_eq(pattern, segment) ? LITERAL : NO_MATCH;
	if (route_param_is_id(name))
		return uuid_parse(segment, &id) ? ID : NO_MATCH;
	return segment.n != 0 && !str_is(segment, ".") && !str_is(segment, "..") ? TEXT : NO_MATCH;
}

/* Ranks how a route takes the path: one digit a segment, the smaller the better; -1: it does not. */
static int64_t naive_rank(const char *template, struct str path)
{
	struct str p = str_of(template + 1), s = {path.p + 1, path.n - 1};
	int64_t rank = 0;

	while (p.p != NULL && s.p != NULL) {
		int kind = segment_kind(str_split(&p, '/'), str_split(&s, '/'));

		if (kind == NO_MATCH)
			return -1;
		rank = rank * 4 + kind;
	}
	return p.p == NULL && s.p == NULL ? rank : -1;
}

static void a_naive_matcher_agrees_on_random_paths(void **state)
{
	static const char *const words[] = {"a", "b", "ab", "{x_id}", "{y}", "c"};
	static const char *const texts[] = {"a", "b", "ab", ID1, ID2, "zz", "", "."};
	uint64_t seed = 24;

	(void)state;
	for (int round = 0; round < 400; round++) {
		struct arena *arena = arena_new();
		struct router *router = router_new();
		struct route *routes[24];
		size_t n = 0;

		while (n < 1 + unit_random(&seed) % 24) {
			struct buf path = buf_in(arena);
			bool twice = false;
			size_t depth = 1 + unit_random(&seed) % 4;

			for (size_t i = 0; i < depth; i++) {
				buf_printf(&path, "/%s", words[unit_random(&seed) % ARRAY_LEN(words)]);
			}
			struct route *r = arena_zalloc(arena, sizeof(*r));

			*r = (struct route){.method = (enum http_method)(unit_random(&seed) % 2 ? HTTP_GET : HTTP_POST),
					    .path = buf_cstr(&path),
					    .flags = ROUTE_BARE};
			for (size_t i = 0; i < n; i++)
				twice |= routes[i]->method == r->method && strcmp(routes[i]->path, r->path) == 0;
			if (twice)
				break;
			routes[n++] = r;
			router_add(router, r);
		}
		for (int probe = 0; probe < 60; probe++) {
			struct buf text = buf_in(arena);
			struct route_match got;
			enum http_method m = unit_random(&seed) % 2 ? HTTP_GET : HTTP_POST;
			const struct route *best = NULL;
			int64_t best_rank = -1;
			unsigned allowed = 0;
			size_t depth = 1 + unit_random(&seed) % 4;

			for (size_t i = 0; i < depth; i++)
				buf_printf(&text, "/%s", texts[unit_random(&seed) % ARRAY_LEN(texts)]);
			for (size_t i = 0; i < n; i++) {
				int64_t rank = naive_rank(routes[i]->path, buf_str(&text));

				if (rank < 0)
					continue;
				allowed |= 1U << routes[i]->method;
				if (routes[i]->method == m && (best == NULL || rank < best_rank)) {
					best = routes[i];
					best_rank = rank;
				}
			}
			enum err e = router_match(router, m, buf_str(&text), arena, &got);

			assert_int_equal(e, best != NULL ? OK : allowed != 0 ? ERR_METHOD : ERR_NOT_FOUND);
			if (best != NULL)
				assert_ptr_equal(got.entry->route, best);
			else if (allowed != 0)
				assert_int_equal(got.allowed & ~(1U << HTTP_HEAD), allowed);
		}
		router_free(router);
		arena_free(arena);
	}
}

static void any_bytes_reach_a_row_that_takes_them(void **state)
{
	struct fixture *f = *state;
	struct route_match m;

	assert_int_equal(match(f, HTTP_DELETE, "/keys/a%2Fb%25%ff%01", &m), OK);
	assert_int_equal(m.text[0].n, 6);
	assert_memory_equal(m.text[0].p, "a/b%\xff\x01", 6);
	assert_int_equal(match(f, HTTP_GET, "/keys/%ff", &m), ERR_NOT_FOUND);
	assert_int_equal(match(f, HTTP_GET, "/keys/%C3%A4", &m), OK);
	assert_int_equal(match(f, HTTP_DELETE, "/keys/%00", &m), ERR_NOT_FOUND);
	assert_int_equal(match(f, HTTP_DELETE, "/%ff/x", &m), ERR_NOT_FOUND);
	assert_int_equal(match(f, HTTP_PUT, "/keys/%ff", &m), ERR_NOT_FOUND);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(routes_below_api_v1_unless_bare, setup, teardown),
		cmocka_unit_test_setup_teardown(a_literal_wins_over_a_parameter, setup, teardown),
		cmocka_unit_test_setup_teardown(an_id_parameter_takes_uuids_alone, setup, teardown),
		cmocka_unit_test_setup_teardown(an_id_falls_back_to_a_text_parameter, setup, teardown),
		cmocka_unit_test_setup_teardown(a_wrong_method_tells_the_right_ones, setup, teardown),
		cmocka_unit_test_setup_teardown(head_goes_to_gets_route, setup, teardown),
		cmocka_unit_test_setup_teardown(escapes_are_decoded_once_and_dots_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(empty_segments_and_long_paths_are_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(any_bytes_reach_a_row_that_takes_them, setup, teardown),
		cmocka_unit_test(a_naive_matcher_agrees_on_random_paths),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
