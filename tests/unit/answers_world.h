/* SPDX-License-Identifier: Apache-2.0 */
/* A daemon on real sockets with cached routes, a real Redis behind it: what the tests of kept answers share. */
#ifndef S24_UNIT_ANSWERS_WORLD_H
#define S24_UNIT_ANSWERS_WORLD_H

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
static enum {
	PLAIN,
	COOKIE,
	NO_STORE,
	PRIVATE,
	MISSING,
	FAULT,
	IN_FLIGHT,
	DATABASE_ONLY,
	REFUSED,
	ACCEPTED,
	SHORT_LIVED,
	HUGE,
	ONE_HOP,
	PENDING
} mode;
static int64_t takes_ms;
static int version;        /* of what the rule loads */
static int64_t written_us; /* the row of PENDING */
static bool changes_behind_the_rule;
static struct uuid school = {{7, 7, 7}};

/* The caller's name is in a header of the test's own. It is verified by now, as a token would be. */
static inline enum err who(struct req *req)
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

static inline void put_huge(struct req *req)
{
	req_json_key(req, "huge");
	buf_putc(&req->body, '"');
	for (size_t i = 0; i < CACHE_ENTRY_MAX / 16; i++)
		buf_puts(&req->body, STR("0123456789abcdef"));
	buf_putc(&req->body, '"');
}

static inline enum err answer(struct req *req)
{
	static const int statuses[] = {[REFUSED] = 0, [ACCEPTED] = 202};
	int mine = ++runs;

	if (takes_ms != 0 && sleep_ms(req->daemon->loop, takes_ms, req->deadline) != OK)
		return ERR_CANCELLED;
	if (mode == SHORT_LIVED)
		req_good_until(req, req->now_us + 5 * US_PER_S);
	if (mode == MISSING || (mode == SHORT_LIVED && strcmp(req->route->path, "/absent") == 0))
		return req_fail(req, ERR_NOT_FOUND, "run %d has found nothing", mine);
	if (mode == FAULT) {
		req_header(req, "X-Half", "done");
		return ERR_DB;
	}
	if (mode == REFUSED)
		return req_invalid(req, "/q", "unknown", "is not known");
	req_header(req, "X-Extra", "zwei %d", mine);
	req->version = 1000 + mine; /* stands in the ETag */
	if (mode == COOKIE)
		req_header(req, "Set-Cookie", "sid=%d", mine);
	if (mode == NO_STORE)
		req_header(req, "Cache-Control", "no-store");
	if (mode == PRIVATE)
		req_header(req, "Cache-Control", "private, max-age=5");
	if (mode == ONE_HOP) {
		req_header(req, "Keep-Alive", "timeout=5");
		req_header(req, "proxy-connection", "keep-alive");
	}
	if (mode == PENDING)
		req->version = written_us;
	req->sync = mode == IN_FLIGHT ? SYNC_IN_FLIGHT : mode == PENDING ? SYNC_PENDING : SYNC_NONE;
	req->database_only = mode == DATABASE_ONLY;
	req->status = mode == ACCEPTED ? statuses[mode] : 0;
	req_json_begin(req);
	req_json_int(req, "run", mine);
	req_json_text(req, "text", STR("a\x01 \"quoted\" gr\xc3\xb6\xc3\x9f\x65"));
	req_json_text(req, "object", req->object ? str_of(req->object) : STR(""));
	if (mode == HUGE)
		put_huge(req);
	req_json_end(req);
	return OK;
}

static inline enum err change(struct req *req)
{
	req_touch(req, "thing:", req->params[0]);
	req_touch(req, "thing:", req->params[0]); /* raised once */
	return mode == FAULT ? ERR_UNCERTAIN : req_reply_message(req, "changed");
}

/* The caller's own work on the thing, and nobody else's. */
static inline enum err hand_in(struct req *req)
{
	char thing[UUID_TEXT + 1], me[UUID_TEXT + 1];

	uuid_text(req->params[0], thing);
	uuid_text(req->who.user_id, me);
	req_touch_name(req, "work:", arena_printf(req->arena, "%s.%s", thing, me));
	return req_reply_message(req, "handed in");
}

/* clang-format off */
#define KEPT(...) .cache = {.policy = "redis", .ttl_s = 100, __VA_ARGS__}
static const struct route routes[] = {
	{HTTP_GET, "/mine", ROLE_TEACHER | ROLE_STUDENT, MAY_CHECK(who), .query = &query_schema, .handler = answer, KEPT(.tags = {"user:{me.user_id}"}, .swr_s = 50, .sie_s = 200)},
	{HTTP_GET, "/others", ROLE_TEACHER, MAY_CHECK(who), .query = &query_schema, .handler = answer, KEPT(.tags = {"user:{me.user_id}"})},
	{HTTP_GET, "/school", ROLE_TEACHER | ROLE_STUDENT, MAY_CHECK(who), .handler = answer, KEPT(.tags = {"lists"}, .vary = "school")},
	{HTTP_GET, "/child", ROLE_TEACHER, MAY_CHECK(who), .handler = answer, KEPT(.tags = {"student:{student_id}"}, .vary = "student")},
	{HTTP_GET, "/things/{thing_id}", ROLE_TEACHER, MAY_CHECK(who), .handler = answer, KEPT(.tags = {"thing:{thing_id}"})},
	{HTTP_GET, "/filtered", ROLE_TEACHER, MAY_CHECK(who), .query = &query_schema, .handler = answer, KEPT(.tags = {"thing:{thing_id}"})},
	{HTTP_POST, "/things/{thing_id}", ROLE_TEACHER, MAY_CHECK(who), .handler = change},
	{HTTP_GET, "/essays/{thing_id}", ROLE_TEACHER, MAY_CHECK(who), .handler = answer, KEPT(.tags = {"work:{thing_id}.{me.user_id}"})},
	{HTTP_POST, "/essays/{thing_id}", ROLE_TEACHER, MAY_CHECK(who), .handler = hand_in},
	{HTTP_GET, "/absent", ROLE_TEACHER, MAY_CHECK(who), .handler = answer, KEPT(.tags = {"thing:" ID_A}, .vary = "school", .negative_s = 20)},
	{HTTP_GET, "/listed", ROLE_TEACHER, MAY_CHECK(who), .handler = answer, .cache = {.policy = "redis", .kind = KIND_LIST, .tags = {"lists"}}},
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

static inline void wait_until(bool up)
{
	for (int i = 0; i < 5000; i++) {
		struct cache_stats s = cache_stats(k->daemon.caches);

		if (s.up == up && (!up || s.news_up))
			return;
		loop_turn(k->daemon.loop, 1000);
	}
	fail_msg("the cache does not become %s", up ? "up" : "down");
}

static inline int setup(void **state)
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

static inline int teardown(void **state)
{
	(void)state;
	real_redis_thaw(&server);
	kit_close(k);
	real_redis_stop(&server);
	unsetenv("CACHE_ENABLED");
	return 0;
}

static inline struct kit_answer get(const char *target, const char *headers)
{
	return kit_get(k, target, headers);
}

static inline void later(int seconds)
{
	loop_clock_set(k->daemon.loop, loop_mono_us(k->daemon.loop), loop_real_us(k->daemon.loop) + seconds * US_PER_S);
	/* Redis is not asked what it thinks of the time: what it keeps for longer than a test lasts is there. */
}

static inline const char *header(struct kit_answer a, const char *name)
{
	return kit_header(k, a, name);
}

#define assert_header(a, name, value) assert_string_equal(header((a), (name)), (value))

static inline bool same(struct kit_answer a, struct kit_answer b)
{
	return str_eq(a.body, b.body);
}

static inline int count(struct str text, const char *part)
{
	int n = 0;

	for (const char *p = text.p; (p = strcasestr(p, part)) != NULL; p++)
		n++;
	return n;
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
