/* SPDX-License-Identifier: Apache-2.0 */
/* Every failure is problem+json with `error` and without `message`, and one line of the log. */
#include <jansson.h>

#include "kit_fixture.h"

#include "base/log.h"

static enum err fail_with; /* by /fail */
static const char *code;

static enum err failing(struct req *req)
{
	req_header(req, "Link", "<x>");
	req->version = 5;
	req_json_begin(req);
	if (fail_with == ERR_INVALID) {
		enum err e = req_invalid(req, "/due_date", "date", "is before \"today\"");

		return req_invalid_at(req, "max", "is above 100", "/questions/%d/marks", 2) == e ? e : ERR_BUG;
	}
	if (fail_with == ERR_OVERLOAD)
		req->retry_after_s = 11;
	if (code != NULL)
		return req_fail_code(req, fail_with, code, "the class still has %d students", 30);
	return fail_with;
}

/* clang-format off */
static const struct route routes[] = {
	{HTTP_POST, "/fail", ROLE_TEACHER, MAY_SELF, .handler = failing},
	{HTTP_GET, "/things/{thing_id}", ROLE_TEACHER, MAY_SELF, .handler = failing},
	{HTTP_PUT, "/things/{thing_id}", ROLE_TEACHER, MAY_SELF, .handler = failing},
	ROUTE_END,
};
/* clang-format on */
static const struct service service = {.name = "problem", .routes = routes, .flags = SERVICE_NO_PG | SERVICE_NO_BUFFER};

static int setup(void **state)
{
	code = NULL;
	limited = 0;
	*state = kit_open(&service);
	return 0;
}

static int teardown(void **state)
{
	kit_close(*state);
	return 0;
}

/* Everything that each problem must have. */
static json_t *expect(struct kit *k, struct kit_answer a, int status, const char *wanted)
{
	json_t *body = json_loadb(a.body.p, a.body.n, 0, NULL);

	if (body == NULL)
		fail_msg("no JSON: %.*s %.*s", STR_FMT(a.head), STR_FMT(a.body));
	assert_int_equal(a.status, status);
	assert_string_equal(kit_header(k, a, "Content-Type"), "application/problem+json");
	assert_int_equal(json_integer_value(json_object_get(body, "status")), status);
	assert_string_equal(json_string_value(json_object_get(body, "code")), wanted);
	assert_string_equal(json_string_value(json_object_get(body, "error")), wanted);
	assert_non_null(json_string_value(json_object_get(body, "title")));
	assert_non_null(strstr(json_string_value(json_object_get(body, "type")), wanted));
	assert_non_null(strstr(json_string_value(json_object_get(body, "instance")), kit_header(k, a, "X-Request-Id")));
	assert_null(json_object_get(body, "message"));
	assert_string_equal(kit_header(k, a, "Cache-Control"), "no-store");
	return body;
}

static void expect_only(struct kit *k, struct kit_answer a, int status, const char *wanted)
{
	json_decref(expect(k, a, status, wanted));
}

static struct kit_answer post(struct kit *k, enum err e)
{
	fail_with = e;
	return kit_json(k, "POST", "/api/v1/fail", TEACHER, "");
}

static void every_error_is_a_problem_with_its_status(void **state)
{
#define ROW(symbol, value, status, code_, title) {symbol, status, code_},
	const struct {
		enum err e;
		int status;
		const char *code;
	} rows[] = {ERR_TABLE(ROW)};

	for (size_t i = 1; i < ARRAY_LEN(rows); i++)
		expect_only(*state, post(*state, rows[i].e), rows[i].status, rows[i].code);
}

static void a_handlers_code_and_sentence_are_told(void **state)
{
	json_t *body;

	code = "class_has_students";
	body = expect(*state, post(*state, ERR_CONFLICT), 409, "class_has_students");
	assert_string_equal(json_string_value(json_object_get(body, "detail")), "the class still has 30 students");
	json_decref(body);
}

static void each_wrong_field_has_its_pointer(void **state)
{
	json_t *body = expect(*state, post(*state, ERR_INVALID), 422, "validation_failed"),
	       *errors = json_object_get(body, "errors");

	assert_int_equal(json_array_size(errors), 2);
	assert_string_equal(json_string_value(json_object_get(json_array_get(errors, 0), "pointer")), "/due_date");
	assert_string_equal(json_string_value(json_object_get(json_array_get(errors, 0), "message")), "is before \"today\"");
	assert_string_equal(json_string_value(json_object_get(json_array_get(errors, 1), "code")), "max");
	json_decref(body);
}

static void unknown_paths_and_ids_are_404(void **state)
{
	struct kit *k = *state;

	expect_only(k, kit_get(k, "/api/v1/nothing", TEACHER), 404, "not_found");
	expect_only(k, kit_get(k, "/api/v1/things/7", TEACHER), 404, "not_found");
	expect_only(k, kit_get(k, "/nothing?page=x", ""), 404, "not_found");
}

static void a_wrong_method_is_405_with_allow(void **state)
{
	struct kit *k = *state;
	struct kit_answer a = kit_json(k, "PATCH", "/api/v1/things/0192f0c4-1111-7000-8000-000000000001", TEACHER, "{}");

	expect_only(k, a, 405, "method_not_allowed");
	assert_string_equal(kit_header(k, a, "Allow"), "GET, HEAD, PUT, OPTIONS");
	a = kit_send(k, kit_port(k), "OPTIONS", "/api/v1/fail", "", STR(""));
	assert_int_equal(a.status, 204);
	assert_string_equal(kit_header(k, a, "Allow"), "POST, OPTIONS");
}

static void callers_are_told_to_authenticate_or_stay_out(void **state)
{
	struct kit *k = *state;
	struct kit_answer a = kit_json(k, "POST", "/api/v1/fail", "", "");

	expect_only(k, a, 401, "unauthenticated");
	assert_string_equal(kit_header(k, a, "WWW-Authenticate"), "Bearer realm=\"schools24\"");
	expect_only(k, kit_json(k, "POST", "/api/v1/fail", "Authorization: Bearer student\r\n", ""), 403, "forbidden");
}

static void whoever_must_come_back_is_told_when(void **state)
{
	struct kit *k = *state;

	assert_string_equal(kit_header(k, post(k, ERR_OVERLOAD), "Retry-After"), "11");
	assert_string_equal(kit_header(k, post(k, ERR_DB), "Retry-After"), "2");
	assert_string_equal(kit_header(k, post(k, ERR_CONFLICT), "Retry-After"), "");
	limited = 1;
	assert_string_equal(kit_header(k, post(k, OK), "Retry-After"), "7");
}

static void what_the_handler_had_prepared_is_dropped(void **state)
{
	struct kit_answer a = post(*state, ERR_CONFLICT);

	assert_string_equal(kit_header(*state, a, "Link"), "");
	assert_string_equal(kit_header(*state, a, "ETag"), "");
	assert_string_equal(kit_header(*state, a, "RateLimit"), "\"user\";r=0");
}

static void what_the_server_refuses_is_a_problem_too(void **state)
{
	struct kit *k = *state;
	struct kit_answer a = kit_split(k, kit_exchange(k, kit_port(k), STR("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")));

	assert_int_equal(a.status, 400);
	assert_string_equal(kit_header(k, a, "Content-Type"), "application/problem+json");
	assert_holds(a.body, "\"error\":\"");
	assert_holds(a.body, "\"title\":\"The request cannot be read\"");
	assert_lacks(a.body, "\"message\"");
}

static void a_failed_request_is_one_line_of_the_log(void **state)
{
	struct kit *k = *state;
	FILE *log = tmpfile();
	int kept = dup(STDERR_FILENO);
	char line[2048], more[2];

	log_setup("problem", LOG_INFO);
	fflush(stderr);
	dup2(fileno(log), STDERR_FILENO);
	code = "class_has_students";
	post(k, ERR_CONFLICT);
	fflush(stderr);
	dup2(kept, STDERR_FILENO);
	close(kept);
	log_setup("problem", LOG_ERROR);
	rewind(log);
	assert_non_null(fgets(line, sizeof(line), log));
	assert_null(fgets(more, sizeof(more), log));
	fclose(log);
	assert_non_null(strstr(line, "\"route\":\"/api/v1/fail\""));
	assert_non_null(strstr(line, "\"err\":\"ERR_CONFLICT\""));
	assert_non_null(strstr(line, "test_problem.c:"));
	assert_non_null(strstr(line, "\"code\":\"class_has_students\""));
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(every_error_is_a_problem_with_its_status), T(a_handlers_code_and_sentence_are_told),
		T(each_wrong_field_has_its_pointer),         T(unknown_paths_and_ids_are_404),
		T(a_wrong_method_is_405_with_allow),         T(callers_are_told_to_authenticate_or_stay_out),
		T(whoever_must_come_back_is_told_when),      T(what_the_handler_had_prepared_is_dropped),
		T(what_the_server_refuses_is_a_problem_too), T(a_failed_request_is_one_line_of_the_log),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
