/* SPDX-License-Identifier: Apache-2.0 */
/* Two daemons of one fleet on one Redis, what they warm, and who reads it: for test_cache_warm.c and test_cache_warm_after.c. */
#ifndef S24_UNIT_WARM_WORLD_H
#define S24_UNIT_WARM_WORLD_H

#include "kit_fixture.h"
#include "real_redis.h"

#include "base/log.h"
#include "base/timefmt.h"
#include "base/uuid.h"
#include "cache/cache_internal.h"
#include "io/fiber.h"
#include "svc/cache_http.h"
#include "svc/cache_warm.h"

/* ---- a service ---- */

#define THING_FIELDS(F, T) F(T, UUID, teacher_id) F(T, TEXT, status, .max = 20)
ROW_STRUCT(thing, THING_FIELDS);
ROW_TABLE(thing, THING_FIELDS, 1);
static const struct entity thing_entity = {.name = "thing", .table = "tiny.things", .schema = &thing_schema, .write = BUFFERED};

#define TABLE STR("cache:test:jobs:tiny")
#define LOCK STR("cache:test:jobs:tiny:classes:lock")

static int runs, together, most_together;
static int64_t takes_ms;
static bool broken, not_lasting, steals;
static struct uuid school = {{7, 7, 7}};

static inline enum err who(struct req *req)
{
	struct str name = http_header(req->x, "X-As");

	if (req->daemon != NULL && req->x->n_headers != 0) { /* a request that somebody sent */
		req->who.school_id = school;
		memset(&req->who.user_id, name.n != 0 ? name.p[0] : 'a', sizeof(req->who.user_id));
		req->who.teacher_id = req->who.user_id;
	}
	return uuid_is_nil(req->who.user_id) ? req_fail(req, ERR_FORBIDDEN, "nobody") : OK;
}

static inline enum err answer(struct req *req)
{
	runs++;
	if (++together > most_together)
		most_together = together;
	if (steals) /* while the job runs */
		redis_post(req->daemon->cache, REDIS_ARGS(STR("SET"), LOCK, STR("another's")));
	steals = false;
	if (takes_ms != 0 && sleep_ms(req->daemon->loop, takes_ms, req->deadline) != OK) {
		together--;
		return ERR_CANCELLED;
	}
	together--;
	if (broken)
		return ERR_DB;
	req->database_only = not_lasting;
	req_json_begin(req);
	req_json_id(req, "school", req->who.school_id);
	req_json_end(req);
	return OK;
}

static inline enum err show(struct req *req)
{
	who(req) == OK ? 0 : abort();
	return answer(req);
}

/* What change_commit does behind its PUT, without a buffer. */
static inline enum err change(struct req *req)
{
	struct thing *old = arena_zalloc(req->arena, sizeof(*old)), *now = arena_zalloc(req->arena, sizeof(*now));
	bool created = str_is(req->x->query, "new");

	now->row.id = (struct uuid){{9}};
	FIELD_PUT(now, thing, status, str_is(req->x->query, "active") ? STR("active") : STR("draft"));
	FIELD_PUT(old, thing, status, STR("draft"));
	req_touch(req, "teacher:", req->who.teacher_id);
	touch_raise(req);
	if (!str_is(req->x->query, "quiet"))
		cache_warm_changed(req, &thing_entity, created ? NULL : old, now);
	return req_reply_message(req, "changed");
}

static inline enum err warm_it(struct req *req)
{
	return cache_warm_answer(req);
}

#define TEACHERS ROLE_TEACHER
/* clang-format off */
static const struct route routes[] = {
	{HTTP_GET, "/classes", ROLE_TEACHER | ROLE_STUDENT, MAY_SCHOOL, .handler = answer, .cache = {.policy = "redis", .ttl_s = 100, .tags = {"classes"}, .vary = "school"}},
	{HTTP_GET, "/slow", ROLE_TEACHER | ROLE_STUDENT | ROLE_ADMIN | ROLE_STAFF | ROLE_PARENT, MAY_SCHOOL, .handler = answer, .cache = {.policy = "redis", .ttl_s = 100, .tags = {"slow"}, .vary = "school"}},
	{HTTP_GET, "/things", TEACHERS, MAY_CHECK(who), .handler = answer, .cache = {.policy = "redis", .ttl_s = 100, .tags = {"teacher:{me.teacher_id}"}}},
	{HTTP_GET, "/things/{thing_id}", TEACHERS, MAY_CHECK(who), .handler = answer, .cache = {.policy = "redis", .ttl_s = 100, .tags = {"teacher:{me.teacher_id}"}}},
	{HTTP_POST, "/things", TEACHERS | ROLE_STUDENT, MAY_CHECK(who), .handler = change},
	{HTTP_GET, "/me", TEACHERS, MAY_SELF, .handler = show, .cache = {.policy = "redis", .ttl_s = 100, .tags = {"user:{me.user_id}"}}},
	{HTTP_POST, "/warm", ROLE_ADMIN | ROLE_SUPER_ADMIN, MAY_SELF, .in = &warm_in_schema, .flags = ROUTE_BODY_OPTIONAL, .handler = warm_it},
	ROUTE_END,
};
static const struct warm_row warms[] = {
	{"classes", "/classes", .roles = ROLE_TEACHER | ROLE_STUDENT, .when = WARM_AT_START | WARM_SCHEDULED | WARM_ON_DEMAND, .interval_s = 600},
	{"slow", "/slow", .roles = ROLE_TEACHER | ROLE_STUDENT | ROLE_ADMIN | ROLE_STAFF | ROLE_PARENT, .when = WARM_ON_DEMAND},
	{"first page", "/things", .after = &thing_entity, .on = ON_CREATE},
	{"detail", "/things/{id}", .after = &thing_entity, .on = ON_UPDATE, .field = "status", .becomes = "active"},
	{NULL},
};
/* clang-format on */
static const struct service service = {
	.name = "tiny", .routes = routes, .warms = warms, .flags = SERVICE_NO_PG | SERVICE_NO_BUFFER};

/* ---- two of it ---- */

static struct real_redis server;
static struct kit *kits[2], *k;

static inline void turn_both(int n)
{
	for (int i = 0; i < n; i++) {
		loop_turn(kits[0]->daemon.loop, 500);
		loop_turn(kits[1]->daemon.loop, 500);
	}
}

static inline int setup(void **state)
{
	(void)state;
	runs = together = most_together = 0;
	takes_ms = 0;
	broken = not_lasting = steals = false;
	real_redis_start(&server, NULL);
	setenv("REDIS_CACHE_URL", server.url, 1);
	setenv("CACHE_TIMEOUT_MS", "1000", 1);
	setenv("CACHE_JITTER_PERCENT", "0", 1);
	setenv("CACHE_WARM_CONCURRENCY", "2", 1);
	for (int i = 0; i < 2; i++)
		kits[i] = kit_open(&service);
	k = kits[0];
	for (int i = 0; i < 5000 && !(cache_stats(kits[0]->daemon.caches).up && cache_stats(kits[1]->daemon.caches).up &&
				      cache_stats(kits[0]->daemon.caches).news_up && cache_stats(kits[1]->daemon.caches).news_up);
	     i++)
		turn_both(1);
	for (int i = 0; i < 2; i++) { /* ticks are the test's */
		if (kits[i]->daemon.warm->fiber != NULL)
			fiber_cancel(kits[i]->daemon.warm->fiber);
	}
	turn_both(5);
	for (int i = 0; i < 2; i++)
		kits[i]->daemon.warm->closing = false;
	return 0;
}

static inline int teardown(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++)
		kit_close(kits[i]);
	real_redis_stop(&server);
	return 0;
}

#define AS(role, name) "Authorization: Bearer " role "\r\nX-As: " name "\r\n"

/* MAY_SCHOOL needs to know the school, which a token would say: the fixture's tokens name roles alone. */
struct read {
	struct kit *kit;
	enum role role;
	const char *target;
	struct cache_note note;
	enum err e;
	bool done;
};

static inline void read_fiber(void *arg)
{
	struct read *r = arg;
	struct caller caller = {.role = r->role, .school_id = school};
	struct arena *arena = arena_new();
	struct req *req;

	r->e = inner_request_as(&r->kit->daemon, arena, str_of(r->target), &caller, true, &req);
	if (r->e == OK)
		r->e = http_cache_fill(req, false, &r->note);
	r->done = true;
	arena_free(arena);
}

static inline struct cache_note read_as(int which, enum role role, const char *target)
{
	struct read r = {.kit = kits[which], .role = role, .target = target};

	assert_int_equal(fiber_spawn(kits[which]->daemon.loop, "read", read_fiber, &r), OK);
	for (int i = 0; i < 20000 && !r.done; i++)
		turn_both(1);
	assert_int_equal(r.e, OK);
	return r.note;
}

struct tick {
	struct warm *w;
	bool at_start;
	int *left;
};

static inline void tick_fiber(void *arg)
{
	struct tick *t = arg;

	warm_tick(t->w, t->at_start);
	(*t->left)--;
}

static inline void ticks(bool first, bool second, bool at_start)
{
	int left = first + second;
	struct tick t[2] = {{kits[0]->daemon.warm, at_start, &left}, {kits[1]->daemon.warm, at_start, &left}};

	for (int i = 0; i < 2; i++) {
		if (i == 0 ? first : second)
			assert_int_equal(fiber_spawn(kits[i]->daemon.loop, "tick", tick_fiber, &t[i]), OK);
	}
	for (int i = 0; i < 60000 && left > 0; i++)
		turn_both(1);
	assert_int_equal(left, 0);
}

static inline void make_active(int which)
{
	struct warm_school *s = &kits[which]->daemon.warm->seen[school.b[15] % 64];

	*s = (struct warm_school){.id = school, .seen_us = loop_real_us(kits[which]->daemon.loop)};
}

/* One command of the cache's Redis, as somebody else would say it. */
struct said {
	struct redis_args args;
	enum err e;
	struct redis_reply reply;
	struct arena *arena;
};

static inline void say_fiber(void *arg)
{
	struct said *s = arg;

	s->e = redis_call(kits[0]->daemon.cache, s->arena, deadline_in(kits[0]->daemon.loop, 5000), s->args, &s->reply);
}

static inline struct redis_reply say(struct redis_args args)
{
	struct said s = {.args = args, .e = ERR_BUG, .arena = kits[0]->arena};

	assert_int_equal(fiber_spawn(kits[0]->daemon.loop, "say", say_fiber, &s), OK);
	for (int i = 0; i < 10000 && s.e == ERR_BUG; i++)
		turn_both(1);
	assert_int_equal(s.e, OK);
	return s.reply;
}

/* As if no job had ever run. */
static inline void forget_table(void)
{
	say(REDIS_ARGS(STR("DEL"), TABLE));
}

static inline struct warm_job *job(int which)
{
	return &kits[which]->daemon.warm->jobs[0];
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

#endif
