/* SPDX-License-Identifier: Apache-2.0 */
/* Cached routes as a client sees them: a daemon on real sockets, a real Redis behind it (cache.md F1 to F9, C6, C7, D6). */
#include <stdatomic.h>

#include "kit_fixture.h"
#include "real_redis.h"

#include "base/timefmt.h"
#include "base/uuid.h"
#include "io/fiber.h"
#include "svc/cache_http.h"

#define QUERY_FIELDS(F, T) PAGE_FIELDS(F, T) F(T, TEXT, q, .max = 100) F(T, UUID, thing_id)
SCHEMA_STRUCT(query, QUERY_FIELDS);
SCHEMA_TABLE(query, QUERY_FIELDS);

#define ID_A "01900000-0000-7000-8000-00000000000a"
#define ID_B "01900000-0000-7000-8000-00000000000b"
#define AS(who) TEACHER "X-As: " who "\r\n"

/* ---- what the handlers do ---- */

static int runs, rules; /* how often they were asked */
static enum { PLAIN, COOKIE, NO_STORE, PRIVATE, MISSING, FAULT, IN_FLIGHT, DATABASE_ONLY, REFUSED, ACCEPTED, SHORT_LIVED } mode;
static int64_t takes_ms;
static int version; /* of what the rule loads */
static bool changes_behind_the_rule;
static struct uuid school = {{7, 7, 7}};

/* The caller's name is in a header of the test's own. It is verified by now, as a token would be. */
static enum err who(struct req *req)
{
	struct str name = http_header(req->x, "X-As");

	rules++;
	if (str_is(name, "nobody"))
		return req_fail(req, ERR_FORBIDDEN, "not you");
	if (name.n != 0) {
		memset(&req->who.user_id, name.p[0], sizeof(req->who.user_id));
		req->student_id = req->who.user_id;
	}
	req->who.school_id = school;
	req->object = arena_printf(req->arena, "%d", version);
	if (changes_behind_the_rule) {
		struct cache_tags tags = {.school = school};

		changes_behind_the_rule = false;
		version++;
		cache_tag(&tags, req->arena, "lists", STR(""));
		return cache_raise(req->daemon->caches, req->arena, &tags);
	}
	return OK;
}

static enum err answer(struct req *req)
{
	static const int statuses[] = {[REFUSED] = 0, [ACCEPTED] = 202};
	int mine = ++runs;

	if (takes_ms != 0 && sleep_ms(req->daemon->loop, takes_ms, req->deadline) != OK)
		return ERR_CANCELLED;
	if (mode == MISSING)
		return req_fail(req, ERR_NOT_FOUND, "run %d has found nothing", mine);
	if (mode == FAULT) {
		req_header(req, "X-Half", "done");
		return ERR_DB;
	}
	if (mode == REFUSED)
		return req_invalid(req, "/q", "unknown", "is not known");
	req_header(req, "X-Extra", "zwei %d", mine);
	if (mode == COOKIE)
		req_header(req, "Set-Cookie", "sid=%d", mine);
	if (mode == NO_STORE)
		req_header(req, "Cache-Control", "no-store");
	if (mode == PRIVATE)
		req_header(req, "Cache-Control", "private, max-age=5");
	if (mode == SHORT_LIVED)
		req_good_until(req, req->now_us + 5 * US_PER_S);
	req->sync = mode == IN_FLIGHT ? SYNC_IN_FLIGHT : SYNC_NONE;
	req->database_only = mode == DATABASE_ONLY;
	req->status = mode == ACCEPTED ? statuses[mode] : 0;
	req_json_begin(req);
	req_json_int(req, "run", mine);
	req_json_text(req, "text", STR("a\x01 \"quoted\" gr\xc3\xb6\xc3\x9f\x65"));
	req_json_text(req, "object", req->object ? str_of(req->object) : STR(""));
	req_json_end(req);
	return OK;
}

static enum err change(struct req *req)
{
	req_touch(req, "thing:", req->params[0]);
	return mode == FAULT ? ERR_UNCERTAIN : req_reply_message(req, "changed");
}

/* clang-format off */
#define KEPT(...) .cache = {.policy = "redis", .ttl_s = 100, __VA_ARGS__}
static const struct route routes[] = {
	{HTTP_GET, "/mine", ROLE_TEACHER | ROLE_STUDENT, MAY_CHECK(who), .query = &query_schema, .handler = answer, KEPT(.tags = {"user:{me.user_id}"}, .swr_s = 50, .sie_s = 200)},
	{HTTP_GET, "/others", ROLE_TEACHER, MAY_CHECK(who), .handler = answer, KEPT(.tags = {"user:{me.user_id}"})},
	{HTTP_GET, "/school", ROLE_TEACHER | ROLE_STUDENT, MAY_CHECK(who), .handler = answer, KEPT(.tags = {"lists"}, .vary = "school")},
	{HTTP_GET, "/child", ROLE_TEACHER, MAY_CHECK(who), .handler = answer, KEPT(.tags = {"student:{student_id}"}, .vary = "student")},
	{HTTP_GET, "/things/{thing_id}", ROLE_TEACHER, MAY_CHECK(who), .handler = answer, KEPT(.tags = {"thing:{thing_id}"})},
	{HTTP_GET, "/filtered", ROLE_TEACHER, MAY_CHECK(who), .query = &query_schema, .handler = answer, KEPT(.tags = {"thing:{thing_id}"})},
	{HTTP_POST, "/things/{thing_id}", ROLE_TEACHER, MAY_CHECK(who), .handler = change},
	{HTTP_GET, "/uncached", ROLE_TEACHER, MAY_CHECK(who), .handler = answer},
	{HTTP_GET, "/never", ROLE_TEACHER, MAY_CHECK(who), .handler = answer, .cache = {.policy = "no-store"}},
	{HTTP_GET, "/public", ROLE_ANYONE, MAY_PUBLIC, .handler = answer, .cache = {.policy = "full", .ttl_s = 600, .swr_s = 30, .tags = {"public"}}},
	{HTTP_GET, "/cdn", ROLE_ANYONE, MAY_PUBLIC, .handler = answer, .cache = {.policy = "cdn", .ttl_s = 600, .sie_s = 60}},
	ROUTE_END,
};
/* clang-format on */
static const struct service service = {.name = "tiny", .routes = routes, .flags = SERVICE_NO_PG | SERVICE_NO_BUFFER};

/* ---- the world ---- */

static struct real_redis server;
static struct kit *k;

static void wait_until(bool up)
{
	for (int i = 0; i < 5000; i++) {
		struct cache_stats s = cache_stats(k->daemon.caches);

		if (s.up == up && (!up || s.news_up))
			return;
		loop_turn(k->daemon.loop, 1000);
	}
	fail_msg("the cache does not become %s", up ? "up" : "down");
}

static int setup(void **state)
{
	(void)state;
	runs = rules = version = 0;
	mode = PLAIN;
	takes_ms = 0;
	changes_behind_the_rule = false;
	real_redis_start(&server, NULL);
	setenv("REDIS_CACHE_URL", server.url, 1);
	setenv("CACHE_TIMEOUT_MS", "200", 1); /* a busy machine is not a frozen Redis; the test of that says its own */
	setenv("CACHE_JITTER_PERCENT", "0", 1);
	k = kit_open(&service);
	wait_until(true);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	real_redis_thaw(&server);
	kit_close(k);
	real_redis_stop(&server);
	unsetenv("CACHE_ENABLED");
	return 0;
}

static struct kit_answer get(const char *target, const char *headers)
{
	return kit_get(k, target, headers);
}

static void later(int seconds)
{
	loop_clock_set(k->daemon.loop, loop_mono_us(k->daemon.loop), loop_real_us(k->daemon.loop) + seconds * US_PER_S);
	/* Redis is not asked what it thinks of the time: what it keeps for longer than a test lasts is there. */
}

static const char *header(struct kit_answer a, const char *name)
{
	return kit_header(k, a, name);
}

#define assert_header(a, name, value) assert_string_equal(header((a), (name)), (value))

static bool same(struct kit_answer a, struct kit_answer b)
{
	return str_eq(a.body, b.body);
}

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
	assert_false(same(a, get("/api/v1/others", AS("a"))));
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

static void only_rows_that_say_so_are_kept(void **state)
{
	(void)state;
	get("/api/v1/uncached", AS("a"));
	assert_header(get("/api/v1/uncached", AS("a")), "X-Cache", "");
	assert_header(get("/api/v1/never", AS("a")), "Cache-Control", "no-store");
	assert_int_equal(runs, 3);
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

static int count(struct str text, const char *part)
{
	int n = 0;

	for (const char *p = text.p; (p = strcasestr(p, part)) != NULL; p++)
		n++;
	return n;
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

/* ---- F7, D6: changes ---- */

static void a_change_drops_what_shows_it_before_it_is_answered(void **state)
{
	struct kit_answer a = get("/api/v1/things/" ID_A, AS("a")), b = get("/api/v1/things/" ID_B, AS("a"));

	(void)state;
	get("/api/v1/filtered?thing_id=" ID_A, AS("b"));
	assert_int_equal(kit_send(k, kit_port(k), "POST", "/api/v1/things/" ID_A, AS("a"), STR("")).status, 200);
	assert_header(get("/api/v1/things/" ID_A, AS("a")), "X-Cache", "MISS");
	assert_false(same(a, get("/api/v1/things/" ID_A, AS("a"))));
	assert_header(get("/api/v1/filtered?thing_id=" ID_A, AS("b")), "X-Cache", "MISS");
	assert_true(same(b, get("/api/v1/things/" ID_B, AS("a"))));
}

static void a_change_whose_outcome_is_unknown_drops_it_too(void **state)
{
	(void)state;
	get("/api/v1/things/" ID_A, AS("a"));
	mode = FAULT;
	assert_int_equal(kit_send(k, kit_port(k), "POST", "/api/v1/things/" ID_A, AS("a"), STR("")).status, 503);
	mode = PLAIN;
	assert_header(get("/api/v1/things/" ID_A, AS("a")), "X-Cache", "MISS");
}

static void what_the_rule_read_before_the_epochs_is_read_again(void **state)
{
	struct kit_answer a;

	(void)state;
	changes_behind_the_rule = true;
	a = get("/api/v1/school", AS("a"));
	assert_holds(a.body, "\"object\":\"1\"");
	assert_header(get("/api/v1/school", AS("a")), "X-Cache", "HIT");
}

/* ---- C7, C6: aged answers ---- */

static void settle(void)
{
	for (int i = 0; i < 300; i++)
		loop_turn(k->daemon.loop, 1000);
}

static void an_aged_answer_is_given_out_and_refreshed_once_behind_it(void **state)
{
	struct kit_answer a = get("/api/v1/mine?q=x", AS("a")), b;

	(void)state;
	later(101);
	for (int i = 0; i < 3; i++) {
		takes_ms = i == 0 ? 0 : takes_ms;
		b = get("/api/v1/mine?q=x", AS("a"));
		if (i == 0) {
			assert_header(b, "X-Cache", "STALE");
			assert_true(atoi(header(b, "Age")) >= 101);
			assert_true(same(a, b));
		}
		settle();
	}
	assert_int_equal(runs, 2);
	assert_header(b, "X-Cache", "HIT");
	assert_holds(b.body, "\"run\":2");
}

static void an_answer_in_its_last_fifth_is_refreshed_ahead(void **state)
{
	(void)state;
	get("/api/v1/mine", AS("a"));
	later(85);
	assert_header(get("/api/v1/mine", AS("a")), "X-Cache", "HIT");
	settle();
	assert_int_equal(runs, 2);
	assert_holds(get("/api/v1/mine", AS("a")).body, "\"run\":2");
}

static void a_refresh_that_fails_leaves_what_is_kept(void **state)
{
	(void)state;
	get("/api/v1/mine", AS("a"));
	later(101);
	mode = FAULT;
	assert_header(get("/api/v1/mine", AS("a")), "X-Cache", "STALE");
	settle();
	assert_int_equal(runs, 2);
	assert_holds(get("/api/v1/mine", AS("a")).body, "\"run\":1");
}

static void an_aged_answer_stands_in_for_a_fault_and_never_for_a_refusal(void **state)
{
	struct kit_answer a = get("/api/v1/mine", AS("a")), b;

	(void)state;
	later(160);
	mode = FAULT;
	b = get("/api/v1/mine", AS("a"));
	assert_int_equal(b.status, 200);
	assert_header(b, "X-Cache", "STALE");
	assert_header(b, "X-Half", "");
	assert_string_equal(header(a, "X-Extra"), header(b, "X-Extra"));
	assert_true(same(a, b));
	mode = MISSING;
	assert_int_equal(get("/api/v1/mine", AS("a")).status, 404);
	mode = FAULT;
	later(150); /* past its grace */
	assert_int_equal(get("/api/v1/mine", AS("a")).status, 503);
}

static void an_answer_is_not_kept_past_the_instant_it_names(void **state)
{
	(void)state;
	mode = SHORT_LIVED;
	get("/api/v1/mine", AS("a"));
	assert_header(get("/api/v1/mine", AS("a")), "X-Cache", "HIT");
	later(6);
	assert_header(get("/api/v1/mine", AS("a")), "X-Cache", "MISS");
}

/* ---- F8: many at once ---- */

#define MANY 20
static atomic_int left;

static void stop_after_all(void *loop)
{
	if (atomic_fetch_sub(&left, 1) == 1)
		loop_stop(loop);
}

static void *one_of_many(void *arg)
{
	struct kit_call *call = arg;
	struct sockaddr_in at = {
		.sin_family = AF_INET, .sin_port = htons((uint16_t)call->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct timeval patience = {.tv_sec = 20};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	ssize_t n;

	call->answer = mem_zalloc(call->cap = 1 << 16);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (connect(fd, (struct sockaddr *)&at, sizeof(at)) == 0 &&
	    send(fd, call->bytes.p, call->bytes.n, MSG_NOSIGNAL) == (ssize_t)call->bytes.n) {
		while ((n = recv(fd, call->answer + call->n, call->cap - call->n - 1, 0)) > 0)
			call->n += (size_t)n;
	}
	close(fd);
	loop_post(call->loop, stop_after_all, call->loop);
	return NULL;
}

static void get_many(const char *target, const char *headers, struct kit_answer *to)
{
	struct kit_call calls[MANY];
	pthread_t threads[MANY];

	atomic_store(&left, MANY);
	for (int i = 0; i < MANY; i++) {
		calls[i] = (struct kit_call){.loop = k->daemon.loop, .port = kit_port(k)};
		calls[i].bytes = str_of(
			arena_printf(k->arena, "GET %s HTTP/1.1\r\nHost: test\r\nConnection: close\r\n%s\r\n", target, headers));
		assert_int_equal(pthread_create(&threads[i], NULL, one_of_many, &calls[i]), 0);
	}
	loop_run(k->daemon.loop);
	for (int i = 0; i < MANY; i++) {
		pthread_join(threads[i], NULL);
		to[i] = kit_split(k, arena_str(k->arena, (struct str){calls[i].answer, calls[i].n}));
		free(calls[i].answer);
	}
}

static void twenty_at_once_run_the_handler_once(void **state)
{
	struct kit_answer a[MANY];

	(void)state;
	takes_ms = 300;
	get_many("/api/v1/school", AS("a"), a);
	assert_int_equal(runs, 1);
	for (int i = 0; i < MANY; i++) {
		assert_int_equal(a[i].status, 200);
		assert_true(same(a[i], a[0]));
	}
}

static void what_may_not_be_shared_is_made_for_each_of_twenty(void **state)
{
	struct kit_answer a[MANY];
	bool seen[3 * MANY] = {false};

	(void)state;
	takes_ms = 100;
	mode = COOKIE;
	get_many("/api/v1/school", AS("a"), a);
	for (int i = 0; i < MANY; i++) {
		int mine = atoi(header(a[i], "Set-Cookie") + strlen("sid="));

		assert_int_equal(a[i].status, 200);
		assert_true(mine > 0 && mine < 3 * MANY && !seen[mine]);
		seen[mine] = true;
	}
}

static void each_of_twenty_is_told_why_he_is_refused(void **state)
{
	struct kit_answer a[MANY];

	(void)state;
	takes_ms = 100;
	mode = REFUSED;
	get_many("/api/v1/school", AS("a"), a);
	for (int i = 0; i < MANY; i++) {
		assert_int_equal(a[i].status, 422);
		assert_holds(a[i].body, "\"pointer\":\"/q\"");
	}
}

/* ---- F9: without the cache ---- */

static void with_redis_dead_everything_is_answered_past_it_and_at_once_again_with_it(void **state)
{
	struct kit_answer a = get("/api/v1/mine", AS("a"));

	(void)state;
	real_redis_kill(&server);
	wait_until(false);
	for (int i = 0; i < 3; i++) {
		a = get("/api/v1/mine", AS("a"));
		assert_int_equal(a.status, 200);
		assert_header(a, "X-Cache", "BYPASS");
	}
	assert_int_equal(runs, 4);
	unlink(server.path);
	real_redis_again(&server);
	wait_until(true);
	get("/api/v1/mine", AS("a"));
	assert_header(get("/api/v1/mine", AS("a")), "X-Cache", "HIT");
}

static void a_frozen_redis_costs_no_more_than_its_patience(void **state)
{
	int64_t from;

	(void)state;
	get("/api/v1/mine", AS("a"));
	real_redis_freeze(&server);
	for (int i = 0; i < 3; i++) /* the gate shuts after some */
		assert_int_equal(get("/api/v1/mine", AS("a")).status, 200);
	wait_until(false);
	from = clock_mono_us();
	for (int i = 0; i < 20; i++)
		assert_header(get("/api/v1/mine", AS("a")), "X-Cache", "BYPASS");
	assert_true(clock_mono_us() - from < 20 * 100000); /* not twenty times the timeout */
	real_redis_thaw(&server);
}

static void switched_off_it_is_not_there(void **state)
{
	struct kit_answer a;

	(void)state;
	kit_close(k);
	setenv("CACHE_ENABLED", "false", 1);
	k = kit_open(&service);
	get("/api/v1/mine", AS("a"));
	a = get("/api/v1/mine", AS("a"));
	assert_int_equal(runs, 2);
	assert_header(a, "X-Cache", "");
	assert_header(a, "Cache-Control", "private, no-cache");
	assert_int_equal(kit_send(k, kit_port(k), "POST", "/api/v1/things/" ID_A, AS("a"), STR("")).status, 200);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

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
		T(only_rows_that_say_so_are_kept),
		T(a_kept_answer_is_the_first_one_byte_for_byte),
		T(head_is_answered_from_what_get_has_left),
		T(a_kept_answer_says_where_it_lay_and_how_old_it_is),
		T(another_process_finds_it_in_redis),
		T(a_handlers_own_word_stands_alone),
		T(public_answers_say_so_to_browsers_and_shared_caches),
		T(who_has_the_kept_answer_gets_304),
		T(no_cache_asks_the_handler_and_refreshes_what_is_kept),
		T(no_store_goes_past_and_leaves_what_is_kept),
		T(only_if_cached_never_runs_the_handler),
		T(a_stranger_cannot_make_the_daemon_work_by_a_header),
		T(a_change_drops_what_shows_it_before_it_is_answered),
		T(a_change_whose_outcome_is_unknown_drops_it_too),
		T(what_the_rule_read_before_the_epochs_is_read_again),
		T(an_aged_answer_is_given_out_and_refreshed_once_behind_it),
		T(an_answer_in_its_last_fifth_is_refreshed_ahead),
		T(a_refresh_that_fails_leaves_what_is_kept),
		T(an_aged_answer_stands_in_for_a_fault_and_never_for_a_refusal),
		T(an_answer_is_not_kept_past_the_instant_it_names),
		T(twenty_at_once_run_the_handler_once),
		T(what_may_not_be_shared_is_made_for_each_of_twenty),
		T(each_of_twenty_is_told_why_he_is_refused),
		T(with_redis_dead_everything_is_answered_past_it_and_at_once_again_with_it),
		T(a_frozen_redis_costs_no_more_than_its_patience),
		T(switched_off_it_is_not_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
