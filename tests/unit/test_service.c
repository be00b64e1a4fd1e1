/* SPDX-License-Identifier: Apache-2.0 */
/* A whole daemon without databases: probes, description, downloads, draining, and its command line. */
#include <jansson.h>
#include <signal.h>
#include <sys/wait.h>

#include "kit_fixture.h"

#include "base/schema.h"
#include "io/fiber.h"

#define FILE_BYTES 200000 /* more than one read of the storage */
#define LETTER(i) ((char)('a' + (i) % 23))

static char file_key[128];

static enum err put_file(struct req *req)
{
	struct storage_writer *w;
	struct stored_file file;
	char *bytes = arena_alloc(req->arena, FILE_BYTES);
	enum err e = storage_begin(daemon_storage(req->daemon), req->who.school_id, req->arena, req->deadline, &w);

	for (size_t i = 0; i < FILE_BYTES; i++)
		bytes[i] = LETTER(i);
	if (e == OK)
		e = storage_append(w, (struct str){bytes, FILE_BYTES}, req->deadline);
	if (e == OK)
		e = storage_commit(w, req->deadline, &file);
	if (e == OK)
		snprintf(file_key, sizeof(file_key), "%.*s", STR_FMT(file.key));
	return e;
}

static enum err get_file(struct req *req)
{
	return req_send_file(req, str_of(file_key), STR("M\xc3\xa4rz \"1\".pdf"), STR("application/pdf"), false);
}

static enum err view_html(struct req *req)
{
	return req_send_file(req, str_of(file_key), STR("page.html"), STR("text/html"), true);
}

static enum err view_image(struct req *req)
{
	return req_send_file(req, str_of(file_key), STR("a.png"), STR("image/png"), true);
}

static enum err get_lost(struct req *req)
{
	return req_send_file(req,
			     STR("00000000-0000-0000-0000-000000000000/"
				 "0000000000000000000000000000000000000000000000000000000000000000"),
			     STR("a"), STR("text/plain"), false);
}

static enum err slow(struct req *req)
{
	enum err e = sleep_ms(req->daemon->loop, 150, req->deadline);

	return e != OK ? e : req_reply_message(req, "slept");
}

static enum err drain_and_answer(struct req *req)
{
	daemon_drain(req->daemon);
	return slow(req);
}

static enum err too_slow(struct req *req)
{
	return sleep_ms(req->daemon->loop, 5000, req->deadline);
}

static enum err inside(struct req *req)
{
	return req_reply_message(req, "inside");
}

static bool well = true;

static enum err look(struct daemon *d, struct buf *why)
{
	(void)d;
	buf_puts(why, STR("the key is missing"));
	return well ? OK : ERR_DB;
}

/* clang-format off */
static const struct route routes[] = {
	{HTTP_POST, "/file", ROLE_TEACHER, MAY_SELF, .handler = put_file},
	{HTTP_GET, "/file", ROLE_TEACHER, MAY_SELF, .flags = ROUTE_STREAM, .handler = get_file},
	{HTTP_GET, "/html", ROLE_TEACHER, MAY_SELF, .flags = ROUTE_STREAM, .handler = view_html},
	{HTTP_GET, "/image", ROLE_TEACHER, MAY_SELF, .flags = ROUTE_STREAM, .handler = view_image},
	{HTTP_GET, "/lost", ROLE_TEACHER, MAY_SELF, .flags = ROUTE_STREAM, .handler = get_lost},
	{HTTP_GET, "/slow", ROLE_ANYONE, MAY_PUBLIC, .handler = slow},
	{HTTP_GET, "/drain", ROLE_ANYONE, MAY_PUBLIC, .handler = drain_and_answer},
	{HTTP_GET, "/too-slow", ROLE_ANYONE, MAY_PUBLIC, .handler = too_slow},
	{HTTP_GET, "/internal/thing", ROLE_SERVICE, MAY_INTERNAL, .handler = inside},
	ROUTE_END,
};
/* clang-format on */
static const struct service service = {
	.name = "tiny", .routes = routes, .flags = SERVICE_NO_PG | SERVICE_NO_BUFFER | SERVICE_STORAGE, .ready = look};

static int setup(void **state)
{
	setenv("REQUEST_TIMEOUT_MS", "1000", 1);
	well = true;
	*state = kit_open(&service);
	return 0;
}

static int teardown(void **state)
{
	kit_close(*state);
	return 0;
}

static void the_process_is_healthy_and_ready(void **state)
{
	struct kit_answer a = kit_admin_get(*state, "/health");

	assert_int_equal(a.status, 200);
	assert_str(a.body, STR("{\"status\":\"ok\",\"service\":\"tiny\"}"));
	assert_string_equal(kit_header(*state, a, "Cache-Control"), "no-store");
	a = kit_admin_get(*state, "/ready");
	assert_int_equal(a.status, 200);
	assert_str(a.body, STR("{\"away\":[],\"status\":\"ready\"}"));
}

static void a_service_may_say_that_it_is_not_ready(void **state)
{
	struct kit_answer a;

	well = false;
	a = kit_admin_get(*state, "/ready");
	assert_int_equal(a.status, 503);
	assert_holds(a.body, "\"why\":\"the key is missing\",\"status\":\"not_ready\"");
	assert_int_equal(kit_admin_get(*state, "/health").status, 200);
}

static void both_listeners_describe_the_api(void **state)
{
	struct kit_answer a = kit_get(*state, "/openapi.json", ""), b = kit_admin_get(*state, "/openapi.json");
	json_t *all = json_loadb(a.body.p, a.body.n, 0, NULL);

	assert_int_equal(a.status, 200);
	assert_str(b.body, a.body);
	assert_non_null(json_object_get(json_object_get(all, "paths"), "/api/v1/file"));
	json_decref(all);
}

static void probes_and_internal_routes_are_not_for_people(void **state)
{
	struct kit *k = *state;

	assert_int_equal(kit_get(k, "/metrics", TEACHER).status, 404);
	assert_int_equal(kit_get(k, "/ready", TEACHER).status, 404);
	assert_int_equal(kit_get(k, "/internal/thing", TEACHER).status, 404);
	assert_int_equal(kit_admin_get(k, "/internal/thing").status, 401);
	assert_int_equal(kit_admin_get(k, "/api/v1/slow").status, 404);
	assert_int_equal(
		kit_send(k, kit_admin_port(k), "GET", "/internal/thing", "Authorization: Bearer service\r\n", STR("")).status,
		200);
	assert_int_equal(kit_send(k, kit_admin_port(k), "GET", "/internal/thing", TEACHER, STR("")).status, 403);
}

static void running_fibers_are_listed(void **state)
{
	struct kit_answer a = kit_admin_get(*state, "/debug/fibers");
	json_t *all = json_loadb(a.body.p, a.body.n, 0, NULL), *first = json_array_get(json_object_get(all, "fibers"), 0);

	assert_string_equal(json_string_value(json_object_get(first, "label")), "/debug/fibers");
	json_decref(all);
}

static void a_request_past_its_deadline_is_a_503(void **state)
{
	struct kit_answer a = kit_get(*state, "/api/v1/too-slow", "");

	assert_int_equal(a.status, 503);
	assert_holds(a.body, "\"code\":\"timeout\"");
	assert_string_equal(kit_header(*state, a, "Retry-After"), "2");
}

/* ---- downloads ---- */

static struct kit_answer ranged(struct kit *k, const char *range)
{
	return kit_get(k, "/api/v1/file", arena_printf(k->arena, TEACHER "Range: %s\r\n", range));
}

static void expect_part(struct kit *k, const char *range, size_t from, size_t n)
{
	struct kit_answer a = ranged(k, range);
	char want[64];

	snprintf(want, sizeof(want), "bytes %zu-%zu/%d", from, from + n - 1, FILE_BYTES);
	assert_int_equal(a.status, 206);
	assert_string_equal(kit_header(k, a, "Content-Range"), want);
	assert_int_equal(a.body.n, n);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(a.body.p[i], LETTER(from + i));
}

static void a_file_is_sent_whole_or_in_part(void **state)
{
	struct kit *k = *state;
	struct kit_answer a = kit_json(k, "POST", "/api/v1/file", TEACHER, "");

	assert_int_equal(a.status, 204);
	a = kit_get(k, "/api/v1/file", TEACHER);
	assert_int_equal(a.status, 200);
	assert_int_equal(a.body.n, FILE_BYTES);
	assert_string_equal(kit_header(k, a, "Accept-Ranges"), "bytes");
	assert_string_equal(kit_header(k, a, "Content-Type"), "application/pdf");
	assert_string_equal(kit_header(k, a, "X-Content-Type-Options"), "nosniff");
	assert_string_equal(kit_header(k, a, "Content-Disposition"),
			    "attachment; filename=\"M_rz _1_.pdf\"; filename*=UTF-8''M%C3%A4rz%20%221%22.pdf");
	expect_part(k, "bytes=0-0", 0, 1);
	expect_part(k, "bytes=100-149", 100, 50);
	expect_part(k, "bytes=65530-131080", 65530, 65551);
	expect_part(k, "bytes=199990-", 199990, 10);
	expect_part(k, "bytes=-7", 199993, 7);
	expect_part(k, "bytes=199990-999999999", 199990, 10);
	expect_part(k, "bytes=-999999999", 0, FILE_BYTES);
}

static void ranges_that_mean_nothing_are_the_whole_file(void **state)
{
	static const char *const ranges[] = {"bytes=5-2", "bytes=a-b", "bytes=1-2,4-5",
					     "lines=1-2", "bytes=-",   "bytes=99999999999999999999-"};
	struct kit *k = *state;

	kit_json(k, "POST", "/api/v1/file", TEACHER, "");
	for (size_t i = 0; i < ARRAY_LEN(ranges); i++)
		assert_int_equal(ranged(k, ranges[i]).status, 200);
}

static void a_range_outside_is_a_416(void **state)
{
	struct kit *k = *state;
	struct kit_answer a;

	kit_json(k, "POST", "/api/v1/file", TEACHER, "");
	a = ranged(k, "bytes=200000-");
	assert_int_equal(a.status, 416);
	assert_string_equal(kit_header(k, a, "Content-Range"), "bytes */200000");
	assert_holds(a.body, "\"error\":\"range_not_satisfiable\"");
	assert_int_equal(ranged(k, "bytes=-0").status, 416);
}

static void a_files_tag_saves_sending_it_again(void **state)
{
	struct kit *k = *state;
	const char *tag;
	struct kit_answer a;

	kit_json(k, "POST", "/api/v1/file", TEACHER, "");
	tag = kit_header(k, kit_get(k, "/api/v1/file", TEACHER), "ETag");
	assert_int_equal(strlen(tag), 66);
	a = kit_get(k, "/api/v1/file", arena_printf(k->arena, TEACHER "If-None-Match: %s\r\n", tag));
	assert_int_equal(a.status, 304);
	assert_string_equal(kit_header(k, a, "ETag"), tag);
	a = kit_get(k, "/api/v1/file", arena_printf(k->arena, TEACHER "Range: bytes=0-1\r\nIf-Range: %s\r\n", tag));
	assert_int_equal(a.status, 206);
	a = kit_get(k, "/api/v1/file", TEACHER "Range: bytes=0-1\r\nIf-Range: \"other\"\r\n");
	assert_int_equal(a.status, 200);
}

static void only_what_cannot_run_is_shown_in_the_browser(void **state)
{
	struct kit *k = *state;
	struct kit_answer a;

	kit_json(k, "POST", "/api/v1/file", TEACHER, "");
	assert_string_equal(kit_header(k, kit_get(k, "/api/v1/html", TEACHER), "Content-Disposition"),
			    "attachment; filename=\"page.html\"");
	assert_string_equal(kit_header(k, kit_get(k, "/api/v1/image", TEACHER), "Content-Disposition"),
			    "inline; filename=\"a.png\"");
	a = kit_send(k, kit_port(k), "HEAD", "/api/v1/file", TEACHER, STR(""));
	assert_int_equal(a.status, 200);
	assert_string_equal(kit_header(k, a, "Content-Length"), "200000");
	assert_int_equal(a.body.n, 0);
	assert_int_equal(kit_get(k, "/api/v1/lost", TEACHER).status, 404);
}

/* ---- draining ---- */

static void a_request_in_flight_is_answered_while_draining(void **state)
{
	struct kit *k = *state;
	struct kit_call call = {.loop = k->daemon.loop, .port = kit_port(k)};
	pthread_t thread;
	struct kit_answer a;

	call.bytes = STR("GET /api/v1/drain HTTP/1.1\r\nHost: a\r\n\r\n");
	assert_int_equal(pthread_create(&thread, NULL, kit_client, &call), 0);
	/* It ends by itself: nothing else stops the loop before the last answer is out. */
	while (!k->daemon.drained)
		daemon_run(&k->daemon);
	pthread_join(thread, NULL);
	a = kit_split(k, (struct str){call.answer, call.n});
	assert_int_equal(a.status, 200);
	assert_holds(a.body, "slept");
	assert_string_equal(kit_header(k, a, "Connection"), "close");
	free(call.answer);
	assert_int_equal(fiber_stats().live, 0);
}

static void a_draining_daemon_serves_on_but_is_not_ready(void **state)
{
	struct kit *k = *state;
	struct kit_answer a;

	k->daemon.settings.drain_wait_ms = 60000;
	daemon_drain(&k->daemon);
	a = kit_admin_get(k, "/ready");
	assert_int_equal(a.status, 503);
	assert_holds(a.body, "\"why\":\"draining\"");
	assert_int_equal(kit_get(k, "/api/v1/slow", "").status, 200);
	assert_int_equal(kit_admin_get(k, "/health").status, 200);
}

/* ---- the command line, in a child ---- */

static int run(const struct service *s, const char *const *words, int stop_with, char *out, size_t size)
{
	int status, pipe_fd[2];
	size_t n = 0;
	ssize_t got;
	pid_t pid;

	assert_int_equal(pipe(pipe_fd), 0);
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		char *argv[8] = {(char *)(uintptr_t) "tiny"};
		int argc = 1;

		for (; words[argc - 1] != NULL; argc++)
			argv[argc] = (char *)(uintptr_t)words[argc - 1];
		dup2(pipe_fd[1], STDOUT_FILENO);
		dup2(pipe_fd[1], STDERR_FILENO);
		close(pipe_fd[0]);
		close(pipe_fd[1]);
		status = service_main(argc, argv, s);
		fflush(NULL);
		_exit(status);
	}
	close(pipe_fd[1]);
	while ((got = read(pipe_fd[0], out + n, size - 1 - n)) > 0) {
		n += (size_t)got;
		out[n] = '\0';
		if (stop_with != 0 && strstr(out, "\"listening\"") != NULL) {
			kill(pid, stop_with);
			stop_with = 0;
		}
	}
	out[n] = '\0';
	close(pipe_fd[0]);
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

static char said[1 << 16];

static void the_command_line_prints_and_refuses(void **state)
{
	(void)state;
	setenv("STORAGE_URL", "file:///tmp", 1);
	setenv("LISTEN", "127.0.0.1:0", 1);
	setenv("ADMIN_LISTEN", "127.0.0.1:0", 1);
	assert_int_equal(run(&service, WORDS("--version"), 0, said, sizeof(said)), 0);
	assert_non_null(strstr(said, "schools24-tiny "));
	assert_int_equal(run(&service, WORDS("--help"), 0, said, sizeof(said)), 0);
	assert_non_null(strstr(said, "S24_DRAIN_WAIT_MS"));
	assert_int_equal(run(&service, WORDS("--print-routes"), 0, said, sizeof(said)), 0);
	assert_non_null(strstr(said, "GET\t/api/v1/slow\tanyone"));
	assert_int_equal(run(&service, WORDS("--print-openapi"), 0, said, sizeof(said)), 0);
	assert_int_equal(run(&service, WORDS("--check-config"), 0, said, sizeof(said)), 0);
	assert_int_equal(run(&service, WORDS("--what"), 0, said, sizeof(said)), 2);
	assert_non_null(strstr(said, "unknown option --what"));
}

static void wrong_settings_are_told_all_at_once_with_exit_2(void **state)
{
	char path[] = "/tmp/s24-conf-XXXXXX";
	int fd = mkstemp(path);
	const char *yaml = "listen: nowhere\nlog_level: loud\nlsiten: \"127.0.0.1:1\"\nrequest_timeout_ms: 70000\n";

	(void)state;
	unsetenv("LISTEN");
	unsetenv("LOG_LEVEL");
	unsetenv("REQUEST_TIMEOUT_MS");
	assert_true(write(fd, yaml, strlen(yaml)) > 0);
	close(fd);
	assert_int_equal(run(&service, WORDS("--config", path, "--check-config"), 0, said, sizeof(said)), 2);
	assert_non_null(strstr(said, "lsiten"));
	assert_non_null(strstr(said, "REQUEST_TIMEOUT_MS"));
	unlink(path);
}

static void wrong_tables_do_not_start(void **state)
{
	const struct route wrong[] = {{HTTP_GET, "/x", 0, {0}}, ROUTE_END};
	const struct service broken = {.name = "broken", .routes = wrong, .flags = SERVICE_NO_PG | SERVICE_NO_BUFFER};

	(void)state;
	assert_int_equal(run(&broken, WORDS("--check-config"), 0, said, sizeof(said)), 2);
	assert_non_null(strstr(said, "GET /x: no role"));
	assert_int_equal(run(&broken, WORDS("--print-routes"), 0, said, sizeof(said)), 2);
}

static void needed_settings_are_named(void **state)
{
	const struct service needy = {.name = "needy", .uses = {"auth"}, .flags = SERVICE_STORAGE};

	(void)state;
	unsetenv("STORAGE_URL");
	assert_int_equal(run(&needy, WORDS("--check-config"), 0, said, sizeof(said)), 2);
	assert_non_null(strstr(said, "DATABASE_URL"));
	assert_non_null(strstr(said, "REDIS_BUFFER_URLS"));
	assert_non_null(strstr(said, "STORAGE_URL"));
	assert_non_null(strstr(said, "auth"));
}

static void sigterm_ends_it_with_0(void **state)
{
	(void)state;
	setenv("LISTEN", "127.0.0.1:0", 1);
	setenv("ADMIN_LISTEN", "127.0.0.1:0", 1);
	setenv("STORAGE_URL", "file:///tmp", 1);
	setenv("S24_DRAIN_WAIT_MS", "0", 1);
	setenv("LOG_LEVEL", "info", 1);
	assert_int_equal(run(&service, (const char *const[]){NULL}, SIGTERM, said, sizeof(said)), 0);
	assert_non_null(strstr(said, "\"draining\""));
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(the_process_is_healthy_and_ready),
		T(a_service_may_say_that_it_is_not_ready),
		T(both_listeners_describe_the_api),
		T(probes_and_internal_routes_are_not_for_people),
		T(running_fibers_are_listed),
		T(a_request_past_its_deadline_is_a_503),
		T(a_file_is_sent_whole_or_in_part),
		T(ranges_that_mean_nothing_are_the_whole_file),
		T(a_range_outside_is_a_416),
		T(a_files_tag_saves_sending_it_again),
		T(only_what_cannot_run_is_shown_in_the_browser),
		T(a_request_in_flight_is_answered_while_draining),
		T(a_draining_daemon_serves_on_but_is_not_ready),
		cmocka_unit_test(the_command_line_prints_and_refuses),
		cmocka_unit_test(wrong_settings_are_told_all_at_once_with_exit_2),
		cmocka_unit_test(wrong_tables_do_not_start),
		cmocka_unit_test(needed_settings_are_named),
		cmocka_unit_test(sigterm_ends_it_with_0),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
