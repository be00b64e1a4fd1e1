/* SPDX-License-Identifier: Apache-2.0 */
/* The directory: asked for once, kept for every daemon, dropped with what it shows, and what stands in when auth is away. */
#include "kit_fixture.h"
#include "real_redis.h"

#include "base/timefmt.h"
#include "base/uuid.h"
#include "cache/cache.h"
#include "io/tz.h"
#include "svc/directory.h"

#define SOMEBODY "01900000-0000-7000-8000-00000000000a"
static struct uuid school = {{7, 7, 7}};

/* ---- auth ---- */

static int asked;
static bool away;

enum err peer_call(struct req *req, const char *service, enum http_method method, const char *target, struct str body,
		   struct http_reply *ret)
{
	const char *kind = target + strlen("/internal/directory/");
	const char *list = strncmp(kind, "roster", 6) == 0     ? "\"class_id\":\"" SOMEBODY "\",\"students\":[{"
			   : strncmp(kind, "children", 8) == 0 ? "\"user_id\":\"" SOMEBODY "\",\"students\":[{"
							       : NULL;

	(void)body;
	assert_string_equal(service, "auth");
	assert_int_equal(method, HTTP_GET);
	asked++;
	if (away)
		return ERR_PEER;
	ret->status = strncmp(kind, "subject", 7) == 0 ? 404 : 200;
	ret->body = str_of(arena_printf(req->arena, "{%s\"id\":\"" SOMEBODY "\",\"%s\":\"Run %d\"%s}", list ? list : "",
					strncmp(kind, "class", 5) == 0 ? "name" : "full_name", asked, list ? "}]" : ""));
	return OK;
}

/* ---- a daemon that asks ---- */

static enum err who(struct req *req)
{
	req->who.school_id = school;
	return OK;
}

static enum err name_of(struct req *req, struct str kind, struct str *ret)
{
	struct uuid id;
	struct dir_class class;
	struct dir_teacher teacher;
	struct dir_user user;
	struct dir_student student;
	struct dir_subject subject;
	struct dir_roster roster = {0};
	struct dir_children children = {0};
	enum err e;

	assert_true(uuid_parse(STR(SOMEBODY), &id));
#define ASK(kind_, field)                               \
	if (str_is(kind, #kind_)) {                     \
		e = directory_##kind_(req, id, &kind_); \
		*ret = e == OK ? kind_.field : STR(""); \
		return e;                               \
	}
	ASK(class, name)
	ASK(teacher, full_name)
	ASK(user, full_name)
	ASK(student, full_name)
	ASK(subject, name)
#undef ASK
	if (str_is(kind, "roster")) {
		e = directory_roster(req, id, &roster);
		*ret = e == OK ? ((const struct dir_student *)roster.students.v)->full_name : STR("");
	} else {
		e = directory_children(req, id, &children);
		*ret = e == OK ? ((const struct dir_student *)children.students.v)->full_name : STR("");
	}
	return e;
}

static enum err ask(struct req *req)
{
	struct str name, again;
	enum err e = name_of(req, req_param_text(req, "kind"), &name);

	if (e != OK)
		return e;
	assert_int_equal(name_of(req, req_param_text(req, "kind"), &again), OK);
	assert_true(str_eq(name, again)); /* one request, one truth */
	req_json_begin(req);
	req_json_text(req, "name", name);
	req_json_end(req);
	return OK;
}

static enum err change(struct req *req)
{
	struct str tag = req_param_text(req, "tag");

	if (str_is(tag, "bulk"))
		req_touch_name(req, DIRECTORY_BULK, "");
	else
		req_touch_name(req, DIRECTORY_KIND, arena_cstr(req->arena, tag));
	return req_reply_message(req, "changed");
}

static const struct route routes[] = {
	{HTTP_GET, "/ask/{kind}", ROLE_TEACHER, MAY_CHECK(who), .handler = ask},
	{HTTP_POST, "/change/{tag}", ROLE_TEACHER, MAY_CHECK(who), .handler = change},
	ROUTE_END,
};
static const struct service first = {.name = "tiny", .routes = routes, .flags = SERVICE_NO_PG | SERVICE_NO_BUFFER};
static const struct service second = {.name = "other", .routes = routes, .flags = SERVICE_NO_PG | SERVICE_NO_BUFFER};

static struct real_redis server;
static struct kit *k;

static void open_daemon(const struct service *service)
{
	struct cache_stats s;
	int turns = 0;

	k = kit_open(service);
	do {
		loop_turn(k->daemon.loop, 1000);
		s = cache_stats(k->daemon.caches);
	} while (!(s.up && s.news_up) && ++turns < 5000);
	assert_true(s.up && s.news_up);
}

static int setup(void **state)
{
	(void)state;
	asked = 0;
	away = false;
	real_redis_start(&server, NULL);
	setenv("REDIS_CACHE_URL", server.url, 1);
	setenv("CACHE_TIMEOUT_MS", "500", 1);
	open_daemon(&first);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	kit_close(k);
	real_redis_stop(&server);
	return 0;
}

static struct kit_answer get(const char *kind)
{
	return kit_get(k, arena_printf(k->arena, "/api/v1/ask/%s", kind), TEACHER);
}

/* Who was asked for `kind` now: auth, or somebody who knew? */
static bool is_asked(const char *kind)
{
	int before = asked;

	assert_int_equal(get(kind).status, 200);
	return asked != before;
}

static void drop(const char *tag)
{
	struct kit_answer a = kit_send(k, kit_port(k), "POST", arena_printf(k->arena, "/api/v1/change/%s", tag), TEACHER,
				       STR(""));

	assert_int_equal(a.status, 200);
}

static void it_is(int64_t real_us)
{
	loop_clock_set(k->daemon.loop, loop_mono_us(k->daemon.loop), real_us);
}

/* ---- tests ---- */

static const char *const kinds[] = {"class", "teacher", "user", "student", "roster", "children"};

static void an_entry_is_asked_for_once_by_all_daemons_together(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		assert_true(is_asked(kinds[i]));
		assert_false(is_asked(kinds[i]));
	}
	kit_close(k);
	open_daemon(&second);
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
		assert_false(is_asked(kinds[i]));
	assert_int_equal(asked, (int)ARRAY_LEN(kinds));
	school.b[0] = 8;
	assert_true(is_asked("class")); /* another school's */
	school.b[0] = 7;
}

static void an_entry_goes_with_what_it_shows(void **state)
{
	static const struct {
		const char *changed, *goes;
	} cases[] = {{"student", "class roster children"},
		     {"subject", "teacher"},
		     {"class", "teacher"},
		     {"school", "teacher"},
		     {"bulk", "class teacher user student roster children"}};

	(void)state;
	for (size_t c = 0; c < ARRAY_LEN(cases); c++) {
		for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
			assert_int_equal(get(kinds[i]).status, 200);
		drop(cases[c].changed);
		for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
			bool goes = strstr(cases[c].goes, kinds[i]) != NULL;

			if (is_asked(kinds[i]) != goes)
				fail_msg("a changed %s and the %s", cases[c].changed, kinds[i]);
		}
	}
}

static void what_nobody_has_is_not_found(void **state)
{
	(void)state;
	assert_int_equal(get("subject").status, 404);
	away = true;
	assert_int_equal(get("subject").status, 503);
	assert_int_equal(get("class").status, 503);
}

static void a_known_entry_stands_in_for_auth_unless_it_was_changed(void **state)
{
	(void)state;
	it_is(INT64_C(1800000000) * US_PER_S);
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
		get(kinds[i]);
	it_is((INT64_C(1800000000) + 2 * 3600) * US_PER_S); /* past every lifetime, on the same day: it was 8 o'clock */
	away = true;
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
		assert_true(is_asked(kinds[i]));
	drop("student");
	assert_int_equal(get("children").status, 503);
	assert_int_equal(get("teacher").status, 200);
}

static void a_parents_link_is_not_given_out_on_the_next_day(void **state)
{
	const int64_t midnight = INT64_C(1800057600) * US_PER_S;

	(void)state;
	assert_int_equal(midnight % (86400 * US_PER_S), 0);
	it_is(midnight - 60 * US_PER_S);
	get("children");
	get("class");
	it_is(midnight - 30 * US_PER_S);
	assert_false(is_asked("children"));
	it_is(midnight);
	assert_false(is_asked("class"));
	away = true;
	assert_int_equal(get("children").status, 503);
	away = false;
	assert_true(is_asked("children"));
}

static void without_a_cache_each_request_asks(void **state)
{
	(void)state;
	kit_close(k);
	setenv("CACHE_ENABLED", "false", 1);
	k = kit_open(&first);
	unsetenv("CACHE_ENABLED");
	assert_true(is_asked("class"));
	assert_true(is_asked("class"));
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(an_entry_is_asked_for_once_by_all_daemons_together),
		T(an_entry_goes_with_what_it_shows),
		T(what_nobody_has_is_not_found),
		T(a_known_entry_stands_in_for_auth_unless_it_was_changed),
		T(a_parents_link_is_not_given_out_on_the_next_day),
		T(without_a_cache_each_request_asks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
