/* SPDX-License-Identifier: Apache-2.0 */
/* Cached routes as a client sees them: whose an answer is, what is kept, what is said about it (cache.md A5, F1 to F6). */
#include <signal.h>

#include "answers_world.h"

/* ---- F1: the key ---- */

static void an_answer_is_kept_for_its_path_and_query_however_the_query_is_spelt(void **state)
{
	struct kit_answer a = get("/api/v1/mine?page=2&q=x", AS("a"));

	(void)state;
	assert_int_equal(a.status, 200);
	assert_header(a, "X-Cache", "MISS");
	assert_true(same(a, get("/api/v1/mine?q=x&page=2", AS("a"))));
	assert_true(same(a, get("/api/v1/mine?q=%78&page=2&unknown=1", AS("a"))));
	assert_int_equal(runs, 1);
	assert_false(same(a, get("/api/v1/mine?page=2&q=y", AS("a"))));
	assert_false(same(a, get("/api/v1/mine?page=3&q=x", AS("a"))));
	assert_false(same(a, get("/api/v1/mine", AS("a"))));
	assert_false(same(a, get("/api/v1/others?page=2&q=x", AS("a"))));
	assert_int_equal(runs, 5);
}

static void one_path_has_an_answer_for_each_thing(void **state)
{
	struct kit_answer a = get("/api/v1/things/" ID_A, AS("a"));

	(void)state;
	assert_false(same(a, get("/api/v1/things/" ID_B, AS("a"))));
	assert_true(same(a, get("/api/v1/things/01900000-0000-7000-8000-00000000000A", AS("a"))));
}

static void two_users_of_one_path_never_get_each_others_answer(void **state)
{
	struct kit_answer a = get("/api/v1/mine", AS("a")), b = get("/api/v1/mine", AS("b"));

	(void)state;
	assert_int_equal(runs, 2);
	assert_false(same(a, b));
	for (int i = 0; i < 3; i++) {
		assert_true(same(a, get("/api/v1/mine", AS("a"))));
		assert_true(same(b, get("/api/v1/mine", AS("b"))));
	}
	assert_int_equal(runs, 2);
	assert_header(a, "Vary", "Authorization");
}

static void the_roles_of_one_user_are_kept_apart(void **state)
{
	struct kit_answer a = get("/api/v1/mine", AS("a"));

	(void)state;
	assert_false(same(a, get("/api/v1/mine", "Authorization: Bearer student\r\nX-As: a\r\n")));
	a = get("/api/v1/school", AS("a"));
	assert_false(same(a, get("/api/v1/school", "Authorization: Bearer student\r\nX-As: a\r\n")));
}

static void what_a_school_shares_is_one_answer_for_all_its_users_and_none_of_another_school(void **state)
{
	struct kit_answer a = get("/api/v1/school", AS("a"));

	(void)state;
	assert_true(same(a, get("/api/v1/school", AS("b"))));
	assert_int_equal(runs, 1);
	school.b[0] = 8;
	assert_false(same(a, get("/api/v1/school", AS("a"))));
	school.b[0] = 7;
}

static void a_students_answer_is_the_students_whoever_asks(void **state)
{
	struct kit_answer a = get("/api/v1/child", AS("a"));

	(void)state;
	assert_false(same(a, get("/api/v1/child", AS("b"))));
	assert_true(same(a, get("/api/v1/child", AS("a"))));
}

static void who_may_not_see_it_gets_no_kept_answer(void **state)
{
	(void)state;
	assert_int_equal(get("/api/v1/school", AS("a")).status, 200);
	assert_int_equal(get("/api/v1/school", AS("nobody")).status, 403);
	assert_int_equal(get("/api/v1/school", "").status, 401);
	assert_int_equal(runs, 1);
}

/* ---- F2: what may be stored ---- */

static void assert_not_kept(int with, int status)
{
	int before = runs;

	mode = with;
	assert_int_equal(get("/api/v1/school", AS("a")).status, status);
	assert_int_equal(get("/api/v1/school", AS("b")).status, status);
	assert_int_equal(runs, before + 2);
}

static void what_holds_for_the_moment_or_one_person_is_not_kept(void **state)
{
	(void)state;
	assert_not_kept(COOKIE, 200);
	assert_not_kept(NO_STORE, 200);
	assert_not_kept(PRIVATE, 200);
	assert_not_kept(MISSING, 404);
	assert_not_kept(FAULT, 503);
	assert_not_kept(REFUSED, 422);
	assert_not_kept(ACCEPTED, 202);
	assert_not_kept(IN_FLIGHT, 200);
	assert_not_kept(DATABASE_ONLY, 200);
	assert_header(get("/api/v1/school", AS("b")), "X-Cache", "BYPASS");
}

static void what_nobody_could_drop_is_not_kept(void **state)
{
	(void)state;
	assert_header(get("/api/v1/filtered", AS("a")), "X-Cache",
		      "BYPASS"); /* its tag is named by a filter that was not given */
	assert_header(get("/api/v1/filtered", AS("a")), "X-Cache", "BYPASS");
	assert_int_equal(runs, 2);
}

static void what_is_too_large_is_told_whole_and_not_kept(void **state)
{
	struct kit_answer a;

	(void)state;
	mode = HUGE;
	for (int i = 1; i <= 2; i++) {
		a = get("/api/v1/school", AS("a"));
		assert_int_equal(a.status, 200);
		assert_true(a.body.n > CACHE_ENTRY_MAX);
		assert_int_equal(runs, i);
		assert_int_equal(cache_stats(k->daemon.caches).fills + cache_stats(k->daemon.caches).errors, 0); /* nor tried */
	}
}

/* A5 */
static void a_404_is_remembered_where_its_row_says_so_and_for_as_long(void **state)
{
	struct kit_answer a;

	(void)state;
	mode = MISSING;
	a = get("/api/v1/absent", AS("a"));
	assert_int_equal(a.status, 404);
	assert_header(a, "X-Cache", "MISS");
	a = get("/api/v1/absent", AS("b"));
	assert_int_equal(a.status, 404);
	assert_int_equal(runs, 1);
	assert_header(a, "X-Cache", "HIT");
	assert_header(a, "Cache-Control", "no-store");
	assert_non_null(strstr(header(a, "Cache-Status"), "; detail=absent"));
	assert_non_null(strstr(a.body.p, "\"status\":404"));
	assert_int_equal(cache_stats(k->daemon.caches).negative, 1);
	later(21);
	assert_int_equal(get("/api/v1/absent", AS("a")).status, 404);
	assert_int_equal(runs, 2);
	mode = PLAIN; /* now it is there, and whoever made it says so */
	assert_int_equal(kit_send(k, kit_port(k), "POST", "/api/v1/things/" ID_A, AS("a"), STR("")).status, 200);
	assert_int_equal(get("/api/v1/absent", AS("a")).status, 200);
}

static void a_404_is_not_remembered_past_the_instant_it_names(void **state)
{
	(void)state;
	mode = SHORT_LIVED;
	get("/api/v1/absent", AS("a"));
	assert_int_equal(get("/api/v1/absent", AS("a")).status, 404);
	assert_int_equal(runs, 1);
	later(6);
	get("/api/v1/absent", AS("a"));
	assert_int_equal(runs, 2);
}

static void only_rows_that_say_so_are_kept(void **state)
{
	(void)state;
	get("/api/v1/uncached", AS("a"));
	assert_header(get("/api/v1/uncached", AS("a")), "X-Cache", "");
	assert_header(get("/api/v1/never", AS("a")), "Cache-Control", "no-store");
	assert_int_equal(runs, 3);
}

static void lifetimes_come_from_their_kind_and_are_read_again_in_a_running_daemon(void **state)
{
	(void)state;
	assert_header(get("/api/v1/listed", AS("a")), "X-Cache", "MISS");
	assert_non_null(strstr(header(get("/api/v1/listed", AS("a")), "Cache-Status"), "; ttl=29")); /* of 300 */
	setenv("CACHE_TTL_LIST", "20", 1);
	assert_int_equal(raise(SIGHUP), 0);
	for (int i = 0; i < 1000 && k->daemon.settings.cache_ttl.v[KIND_LIST] != 20; i++)
		loop_turn(k->daemon.loop, 1000);
	unsetenv("CACHE_TTL_LIST");
	assert_header(get("/api/v1/listed", AS("b")), "X-Cache", "MISS");
	assert_non_null(strstr(header(get("/api/v1/listed", AS("b")), "Cache-Status"), "; ttl=19"));
	later(21);
	assert_header(get("/api/v1/listed", AS("b")), "X-Cache", "MISS");
}

/* ---- F3, F4: what is said ---- */

static void a_kept_answer_is_the_first_one_byte_for_byte(void **state)
{
	static const char *const lines[] = {"Content-Type", "X-Extra", "ETag", "Cache-Control", "Vary", "Content-Length"};
	struct kit_answer a = get("/api/v1/mine", AS("a")), b = get("/api/v1/mine", AS("a"));

	(void)state;
	assert_header(b, "X-Cache", "HIT");
	assert_int_equal(a.status, b.status);
	assert_true(same(a, b));
	for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
		assert_true(header(a, lines[i])[0] != '\0');
		assert_string_equal(header(a, lines[i]), header(b, lines[i]));
	}
	assert_header(b, "RateLimit", "\"user\";r=0"); /* this request's own */
}

static void what_is_said_to_one_hop_is_not_kept(void **state)
{
	struct kit_answer a;

	(void)state;
	mode = ONE_HOP;
	a = get("/api/v1/mine", AS("a"));
	assert_header(a, "Keep-Alive", "timeout=5");
	a = get("/api/v1/mine", AS("a"));
	assert_header(a, "X-Cache", "HIT");
	assert_header(a, "Keep-Alive", "");
	assert_header(a, "Proxy-Connection", "");
	assert_header(a, "X-Extra", "zwei 1");
}

static void head_is_answered_from_what_get_has_left(void **state)
{
	struct kit_answer a = get("/api/v1/mine", AS("a"));
	struct kit_answer b = kit_send(k, kit_port(k), "HEAD", "/api/v1/mine", AS("a"), STR(""));

	(void)state;
	assert_int_equal(b.status, 200);
	assert_int_equal(b.body.n, 0);
	assert_int_equal(runs, 1);
	assert_header(b, "X-Cache", "HIT");
	assert_string_equal(header(b, "Content-Length"), header(a, "Content-Length"));
	assert_string_equal(header(b, "ETag"), header(a, "ETag"));
}

static void a_kept_answer_says_where_it_lay_and_how_old_it_is(void **state)
{
	struct kit_answer a = get("/api/v1/mine", AS("a"));

	(void)state;
	assert_header(a, "X-Cache", "MISS");
	assert_header(a, "X-Cache-Level", "");
	assert_header(a, "Cache-Status", "schools24; fwd=uri-miss; stored");
	assert_header(a, "Age", "");
	assert_header(a, "Cache-Control", "private, no-cache");
	later(7);
	a = get("/api/v1/mine", AS("a"));
	assert_header(a, "X-Cache", "HIT");
	assert_header(a, "X-Cache-Level", "MEMORY");
	assert_true(atoi(header(a, "Age")) >= 7 && atoi(header(a, "Age")) <= 9);
	assert_non_null(strstr(header(a, "Cache-Status"), "schools24; hit; ttl=9"));
}

/* The least of some, for the link looks at Redis by itself now and then. */
static uint64_t commands_of(const char *target, const char *headers)
{
	uint64_t least = UINT64_MAX;

	for (int i = 0; i < 5; i++) {
		uint64_t before = redis_stats(k->daemon.cache).commands, n;

		assert_header(get(target, headers), "X-Cache", "HIT");
		n = redis_stats(k->daemon.cache).commands - before;
		least = n < least ? n : least;
	}
	return least;
}

/* C1 */
static void a_hit_is_one_turn_to_redis_and_none_where_the_row_says_so(void **state)
{
	(void)state;
	get("/api/v1/mine", AS("a"));
	assert_int_equal(commands_of("/api/v1/mine", AS("a")), 1);
	get("/api/v1/public", "");
	assert_int_equal(commands_of("/api/v1/public", ""), 0);
}

static void another_process_finds_it_in_redis(void **state)
{
	struct kit_answer b;
	char *first;

	(void)state;
	first = strdup(get("/api/v1/mine", AS("a")).body.p); /* the answers of a daemon go with it */
	kit_close(k);
	k = kit_open(&service);
	wait_until(true);
	b = get("/api/v1/mine", AS("a"));
	assert_string_equal(first, b.body.p);
	free(first);
	assert_header(b, "X-Cache-Level", "REDIS");
	assert_int_equal(runs, 1);
}

static void the_next_version_does_not_give_out_answers_that_lack_its_fields(void **state)
{
	static const struct route changed[] = {
		{HTTP_GET, "/school", ROLE_TEACHER | ROLE_STUDENT, MAY_CHECK(who), .out = &query_schema, .handler = answer,
		 KEPT(.tags = {"lists"}, .vary = "school")},
		ROUTE_END,
	};
	static const struct service next = {.name = "tiny", .routes = changed, .flags = SERVICE_NO_PG | SERVICE_NO_BUFFER};

	(void)state;
	get("/api/v1/school", AS("a"));
	kit_close(k);
	k = kit_open(&next);
	wait_until(true);
	assert_header(get("/api/v1/school", AS("a")), "X-Cache", "MISS");
	assert_int_equal(runs, 2);
}

static void a_handlers_own_word_stands_alone(void **state)
{
	struct kit_answer a;

	(void)state;
	mode = PRIVATE;
	a = get("/api/v1/mine", AS("a"));
	assert_int_equal(count(a.head, "\nCache-Control:"), 1);
	assert_header(a, "Cache-Control", "private, max-age=5");
	assert_header(a, "Vary", "Authorization");
	assert_header(a, "Cache-Status", "schools24; fwd=uri-miss");
	mode = FAULT;
	a = get("/api/v1/mine", AS("b"));
	assert_int_equal(count(a.head, "\nCache-Control:"), 1);
	assert_header(a, "Cache-Control", "no-store");
	assert_header(a, "X-Half", "");
}

static void public_answers_say_so_to_browsers_and_shared_caches(void **state)
{
	struct kit_answer a = get("/api/v1/cdn", "");

	(void)state;
	assert_non_null(strstr(header(a, "Cache-Control"), "public, max-age="));
	assert_true(atoi(header(a, "Cache-Control") + strlen("public, max-age=")) < 600); /* a browser cannot be told to forget */
	assert_header(a, "CDN-Cache-Control", "public, max-age=600, stale-if-error=60");
	assert_header(a, "Surrogate-Control", "public, max-age=600, stale-if-error=60");
	assert_header(a, "Vary", "");
	get("/api/v1/cdn", "");
	assert_int_equal(runs, 2); /* by others, not here */
	a = get("/api/v1/public", "");
	assert_header(a, "CDN-Cache-Control", "public, max-age=600, stale-while-revalidate=30");
	assert_header(get("/api/v1/public", ""), "X-Cache-Level", "MEMORY");
	assert_int_equal(runs, 3);
}

static void who_has_the_kept_answer_gets_304(void **state)
{
	struct kit_answer a = get("/api/v1/mine", AS("a")), b;
	const char *tag = header(a, "ETag");

	(void)state;
	b = get("/api/v1/mine", arena_printf(k->arena, AS("a") "If-None-Match: %s\r\n", tag));
	assert_int_equal(b.status, 304);
	assert_int_equal(b.body.n, 0);
	assert_header(b, "X-Cache", "HIT");
	assert_string_equal(header(b, "ETag"), tag);
	assert_string_equal(header(b, "Vary"), "Authorization");
	assert_int_equal(runs, 1);
	assert_int_equal(get("/api/v1/mine", AS("a") "If-None-Match: \"other\"\r\n").status, 200);
}

/* ---- F5: what a client may ask for ---- */

static void no_cache_asks_the_handler_and_refreshes_what_is_kept(void **state)
{
	struct kit_answer a = get("/api/v1/mine", AS("a")), b = get("/api/v1/mine", AS("a") "Cache-Control: no-cache\r\n");

	(void)state;
	assert_int_equal(runs, 2);
	assert_false(same(a, b));
	assert_header(b, "Cache-Status", "schools24; fwd=request; stored");
	a = get("/api/v1/mine", AS("a"));
	assert_header(a, "X-Cache", "HIT");
	assert_true(same(a, b));
	get("/api/v1/mine", AS("a") "Cache-Control: foo, Max-Age=0\r\n");
	assert_int_equal(runs, 3);
}

static void no_store_goes_past_and_leaves_what_is_kept(void **state)
{
	struct kit_answer a = get("/api/v1/mine", AS("a")), b = get("/api/v1/mine", AS("a") "Cache-Control: no-store\r\n");

	(void)state;
	assert_int_equal(runs, 2);
	assert_header(b, "X-Cache", "BYPASS");
	assert_header(b, "Cache-Status", "schools24; fwd=bypass");
	assert_true(same(a, get("/api/v1/mine", AS("a"))));
}

static void only_if_cached_never_runs_the_handler(void **state)
{
	(void)state;
	assert_int_equal(get("/api/v1/mine", AS("a") "Cache-Control: only-if-cached\r\n").status, 504);
	assert_int_equal(runs, 0);
	get("/api/v1/mine", AS("a"));
	assert_int_equal(get("/api/v1/mine", AS("a") "Cache-Control: only-if-cached\r\n").status, 200);
	assert_int_equal(runs, 1);
}

static void a_stranger_cannot_make_the_daemon_work_by_a_header(void **state)
{
	(void)state;
	get("/api/v1/public", "");
	get("/api/v1/public", "Cache-Control: no-cache\r\n");
	get("/api/v1/public", "Cache-Control: max-age=0\r\n");
	assert_int_equal(runs, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(an_answer_is_kept_for_its_path_and_query_however_the_query_is_spelt),
		T(one_path_has_an_answer_for_each_thing),
		T(two_users_of_one_path_never_get_each_others_answer),
		T(the_roles_of_one_user_are_kept_apart),
		T(what_a_school_shares_is_one_answer_for_all_its_users_and_none_of_another_school),
		T(a_students_answer_is_the_students_whoever_asks),
		T(who_may_not_see_it_gets_no_kept_answer),
		T(what_holds_for_the_moment_or_one_person_is_not_kept),
		T(what_nobody_could_drop_is_not_kept),
		T(what_is_too_large_is_told_whole_and_not_kept),
		T(a_404_is_remembered_where_its_row_says_so_and_for_as_long),
		T(a_404_is_not_remembered_past_the_instant_it_names),
		T(only_rows_that_say_so_are_kept),
		T(lifetimes_come_from_their_kind_and_are_read_again_in_a_running_daemon),
		T(a_kept_answer_is_the_first_one_byte_for_byte),
		T(what_is_said_to_one_hop_is_not_kept),
		T(head_is_answered_from_what_get_has_left),
		T(a_kept_answer_says_where_it_lay_and_how_old_it_is),
		T(a_hit_is_one_turn_to_redis_and_none_where_the_row_says_so),
		T(another_process_finds_it_in_redis),
		T(the_next_version_does_not_give_out_answers_that_lack_its_fields),
		T(a_handlers_own_word_stands_alone),
		T(public_answers_say_so_to_browsers_and_shared_caches),
		T(who_has_the_kept_answer_gets_304),
		T(no_cache_asks_the_handler_and_refreshes_what_is_kept),
		T(no_store_goes_past_and_leaves_what_is_kept),
		T(only_if_cached_never_runs_the_handler),
		T(a_stranger_cannot_make_the_daemon_work_by_a_header),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
