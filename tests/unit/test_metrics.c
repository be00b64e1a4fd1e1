/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers of requests by method, template and status; the text is what Prometheus reads. */
#include "kit_fixture.h"

#define BUCKET "http_server_request_duration_seconds_bucket"
#define COUNT "http_server_request_duration_seconds_count"
#define ID1 "0192f0c4-1111-7000-8000-000000000001"
#define ID2 "0192f0c4-1111-7000-8000-000000000002"

static enum err done(struct req *req)
{
	return req_reply_message(req, "done");
}

static void more(struct daemon *d, struct buf *out)
{
	(void)d;
	metrics_head(out, "schools24_essays", "gauge", "Essays.");
	metrics_put_double(out, "schools24_essays", 1.5, "kind", "a\"b\\c\nd", NULL);
}

/* clang-format off */
static const struct route routes[] = {
	{HTTP_GET, "/things/{thing_id}", ROLE_TEACHER, MAY_SELF, .handler = done},
	{HTTP_POST, "/things", ROLE_TEACHER, MAY_SELF, .handler = done},
	ROUTE_END,
};
/* clang-format on */
static const struct service service = {
	.name = "metrics", .routes = routes, .flags = SERVICE_NO_PG | SERVICE_NO_BUFFER, .metrics = more};

static int setup(void **state)
{
	*state = kit_open(&service);
	return 0;
}

static int teardown(void **state)
{
	kit_close(*state);
	return 0;
}

static void durations_fall_into_the_conventions_buckets(void **state)
{
	struct route_times t = {0};

	(void)state;
	route_times_add(&t, HTTP_GET, 200, 5000);
	route_times_add(&t, HTTP_GET, 200, 5001);
	route_times_add(&t, HTTP_GET, 200, 10000001);
	route_times_add(&t, HTTP_GET, 404, -5);
	assert_int_equal(t.n, 2);
	assert_int_equal(t.v[0]->bucket[0], 1);
	assert_int_equal(t.v[0]->bucket[1], 1);
	assert_int_equal(t.v[0]->count, 3);
	assert_int_equal(t.v[0]->sum_us, 10010002);
	assert_int_equal(t.v[1]->bucket[0], 1);
	for (int status = 500; status < 540; status++)
		route_times_add(&t, HTTP_GET, status, 1);
	assert_int_equal(t.n, METRICS_STATUSES);
	route_times_done(&t);
}

static void requests_are_counted_by_template_never_by_id(void **state)
{
	struct kit *k = *state;
	struct kit_answer a;

	kit_get(k, "/api/v1/things/" ID1, TEACHER);
	kit_get(k, "/api/v1/things/" ID2, TEACHER);
	kit_get(k, "/api/v1/things/" ID2, "");
	kit_send(k, kit_port(k), "HEAD", "/api/v1/things/" ID1, TEACHER, STR(""));
	kit_get(k, "/api/v1/nothing", "");
	kit_json(k, "DELETE", "/api/v1/nothing", "", "");
	a = kit_admin_get(k, "/metrics");
	assert_int_equal(a.status, 200);
	assert_string_equal(kit_header(k, a, "Content-Type"), "text/plain; version=0.0.4; charset=utf-8");
	assert_holds(a.body, COUNT "{method=\"GET\",route=\"/api/v1/things/{thing_id}\",status=\"200\"} 2\n");
	assert_holds(a.body, COUNT "{method=\"GET\",route=\"/api/v1/things/{thing_id}\",status=\"401\"} 1\n");
	assert_holds(a.body, COUNT "{method=\"HEAD\",route=\"/api/v1/things/{thing_id}\",status=\"200\"} 1\n");
	assert_holds(a.body, COUNT "{method=\"_OTHER\",route=\"unmatched\",status=\"404\"} 2\n");
	assert_holds(a.body, BUCKET "{method=\"GET\",route=\"/api/v1/things/{thing_id}\",status=\"200\",le=\"+Inf\"} 2\n");
	assert_lacks(a.body, ID1);
	assert_lacks(a.body, "/api/v1/nothing");
}

static void the_process_and_the_service_are_there(void **state)
{
	struct kit_answer a = kit_admin_get(*state, "/metrics");

	assert_holds(a.body, "schools24_build_info{service=\"metrics\",version=\"");
	assert_holds(a.body, "\nschools24_fibers 1\n");
	assert_holds(a.body, "\nschools24_requests_in_flight 1\n");
	assert_holds(a.body, "\nschools24_draining 0\n");
	assert_holds(a.body, "schools24_essays{kind=\"a\\\"b\\\\c\\nd\"} 1.5\n");
}

/* No series twice, every one behind its own HELP and TYPE: what promtool would say, for where it is not installed. */
static void the_text_is_well_formed(void **state)
{
	struct kit *k = *state;
	struct str rest, seen[2048], type = STR("");
	size_t n = 0;

	kit_get(k, "/api/v1/things/" ID1, TEACHER);
	kit_get(k, "/openapi.json", "");
	kit_admin_get(k, "/openapi.json");
	rest = kit_admin_get(k, "/metrics").body;
	while (rest.n != 0) {
		struct str line = str_split(&rest, '\n'), name = line;

		if (line.n == 0)
			continue;
		if (str_has_prefix(line, STR("# HELP ")))
			continue;
		if (str_has_prefix(line, STR("# TYPE "))) {
			name = (struct str){line.p + 7, line.n - 7};
			type = str_split(&name, ' ');
			assert_true(str_is(name, "gauge") || str_is(name, "counter") || str_is(name, "histogram"));
			continue;
		}
		assert_true(str_has_prefix(line, type));
		while (line.n != 0 && line.p[line.n - 1] != ' ')
			line.n--;
		assert_true(line.n > 1 && n < ARRAY_LEN(seen));
		for (size_t i = 0; i < n; i++)
			if (str_eq(seen[i], line))
				fail_msg("twice: %.*s", STR_FMT(line));
		seen[n++] = line;
	}
	assert_true(n > 30);
}

static void promtool_accepts_it(void **state)
{
	struct kit *k = *state;
	struct str text;
	FILE *pipe;

	if (system("command -v promtool >/dev/null 2>&1") != 0) {
		print_message("promtool is not installed: its look at the text is left out\n");
		return;
	}
	text = kit_admin_get(k, "/metrics").body;
	pipe = popen("promtool check metrics", "w");
	assert_non_null(pipe);
	assert_int_equal(fwrite(text.p, 1, text.n, pipe), text.n);
	/* 3: lint only, about names that conventions give. */
	assert_true(WEXITSTATUS(pclose(pipe)) != 1);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(durations_fall_into_the_conventions_buckets),
		T(requests_are_counted_by_template_never_by_id),
		T(the_process_and_the_service_are_there),
		T(the_text_is_well_formed),
		T(promtool_accepts_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
