/* SPDX-License-Identifier: Apache-2.0 */
/* Warming (cache.md E1, E2, E3): two daemons of one fleet on one Redis; what is warmed is what the next reader finds. */
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

static enum err who(struct req *req)
{
	struct str name = http_header(req->x, "X-As");

	if (req->daemon != NULL && req->x->n_headers != 0) { /* a request that somebody sent */
		req->who.school_id = school;
		memset(&req->who.user_id, name.n != 0 ? name.p[0] : 'a', sizeof(req->who.user_id));
		req->who.teacher_id = req->who.user_id;
	}
	return uuid_is_nil(req->who.user_id) ? req_fail(req, ERR_FORBIDDEN, "nobody") : OK;
}

static enum err answer(struct req *req)
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

static enum err show(struct req *req)
{
	who(req) == OK ? 0 : abort();
	return answer(req);
}

/* What change_commit does behind its PUT, without a buffer. */
static enum err change(struct req *req)
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

static enum err warm_it(struct req *req)
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

static void turn_both(int n)
{
	for (int i = 0; i < n; i++) {
		loop_turn(kits[0]->daemon.loop, 500);
		loop_turn(kits[1]->daemon.loop, 500);
	}
}

static int setup(void **state)
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

static int teardown(void **state)
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

static void read_fiber(void *arg)
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

static struct cache_note read_as(int which, enum role role, const char *target)
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

static void tick_fiber(void *arg)
{
	struct tick *t = arg;

	warm_tick(t->w, t->at_start);
	(*t->left)--;
}

static void ticks(bool first, bool second, bool at_start)
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

static void make_active(int which)
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

static void say_fiber(void *arg)
{
	struct said *s = arg;

	s->e = redis_call(kits[0]->daemon.cache, s->arena, deadline_in(kits[0]->daemon.loop, 5000), s->args, &s->reply);
}

static struct redis_reply say(struct redis_args args)
{
	struct said s = {.args = args, .e = ERR_BUG, .arena = kits[0]->arena};

	assert_int_equal(fiber_spawn(kits[0]->daemon.loop, "say", say_fiber, &s), OK);
	for (int i = 0; i < 10000 && s.e == ERR_BUG; i++)
		turn_both(1);
	assert_int_equal(s.e, OK);
	return s.reply;
}

/* As if no job had ever run. */
static void forget_table(void)
{
	say(REDIS_ARGS(STR("DEL"), TABLE));
}

static struct warm_job *job(int which)
{
	return &kits[which]->daemon.warm->jobs[0];
}

/* ---- E1 ---- */

static void what_is_warmed_is_what_readers_find_with_no_call_of_the_source(void **state)
{
	struct cache_note note;

	(void)state;
	make_active(0);
	ticks(true, false, true);
	assert_int_equal(runs, 2); /* each role has its own */
	assert_int_equal(job(0)->result.warmed, 2);
	note = read_as(1, ROLE_TEACHER, "/api/v1/classes"); /* in another process */
	assert_int_equal(note.state, CACHE_HIT);
	note = read_as(1, ROLE_STUDENT, "/api/v1/classes");
	assert_int_equal(note.state, CACHE_HIT);
	assert_int_equal(runs, 2);
	assert_true(note.fresh_until_us - note.written_us == 100 * US_PER_S); /* the route's own lifetime */
	assert_int_equal(cache_stats(kits[0]->daemon.caches).misses, 0);      /* a warming is nobody's miss */
	assert_int_equal(cache_stats(kits[0]->daemon.caches).fills, 2);
}

/* The tokens of these tests name no school, so its answers are those of the school of no name. */
static void a_reader_over_http_finds_it_by_the_same_key(void **state)
{
	const struct uuid mine = school;

	(void)state;
	school = (struct uuid){{0}};
	make_active(0);
	ticks(true, false, true);
	school = mine;
	assert_int_equal(runs, 2);
	for (int i = 0; i < 2; i++) {
		k = kits[i];
		assert_string_equal(kit_header(k, kit_get(k, "/api/v1/classes", AS("teacher", "t")), "X-Cache"), "HIT");
		assert_string_equal(kit_header(k, kit_get(k, "/api/v1/classes?x=1", AS("student", "s")), "X-Cache"), "HIT");
	}
	assert_int_equal(runs, 2);
	assert_int_equal(cache_stats(kits[1]->daemon.caches).misses, 0);
}

static void nothing_is_warmed_where_nobody_is_active(void **state)
{
	(void)state;
	ticks(true, false, true);
	assert_int_equal(runs, 0);
	assert_string_equal(job(0)->row->name, "classes");
	assert_true(job(0)->last_ms != 0);
}

static void what_is_there_is_skipped_and_what_fails_is_counted(void **state)
{
	(void)state;
	make_active(0);
	read_as(0, ROLE_TEACHER, "/api/v1/classes");
	ticks(true, false, true);
	assert_true(job(0)->result.warmed == 1 && job(0)->result.skipped == 1 && job(0)->result.failed == 0);
	assert_int_equal(runs, 2);
}

static void a_source_that_fails_and_an_answer_that_cannot_be_kept_are_failures(void **state)
{
	(void)state;
	make_active(0);
	broken = true;
	ticks(true, false, true);
	assert_int_equal(job(0)->result.failed, 2);
	assert_true(job(0)->failed);
	broken = false;
	not_lasting = true;
	forget_table();
	runs = 0;
	ticks(true, false, true);
	assert_int_equal(runs, 2);
	assert_int_equal(job(0)->result.failed, 2);
	assert_int_equal(job(0)->result.warmed, 0);
}

static struct kit_answer warm(const char *body)
{
	return kit_json(k, "POST", "/api/v1/warm", AS("super_admin", "s"), body);
}

/* E1: bounded, and twice at once is once */
static void demands_are_bounded_and_respect_who_fills(void **state)
{
	struct kit_answer a;

	(void)state;
	make_active(0);
	ticks(true, false, true); /* tells Redis who is active */
	takes_ms = 20;
	a = warm("{\"critical_queries\": [\"slow\"]}");
	assert_int_equal(a.status, 200);
	assert_holds(a.body, "\"warmed\":5,\"skipped\":0,\"failed\":0");
	assert_int_equal(most_together, 2);
	assert_holds(warm("").body, "\"warmed\":0,\"skipped\":7,\"failed\":0");
	assert_int_equal(warm("{\"critical_queries\": [\"SELECT 1\"]}").status, 422);
}

/* E1: a reader and a warming of the same thing are one call of the source */
static void a_warming_joins_a_readers_filling(void **state)
{
	struct read r = {.kit = kits[1], .role = ROLE_TEACHER, .target = "/api/v1/classes"};

	(void)state;
	make_active(0);
	takes_ms = 50;
	assert_int_equal(fiber_spawn(kits[1]->daemon.loop, "read", read_fiber, &r), OK);
	for (int i = 0; i < 1000 && together == 0; i++)
		turn_both(1);
	ticks(true, false, true);
	for (int i = 0; i < 5000 && !r.done; i++)
		turn_both(1);
	assert_int_equal(runs, 2); /* teacher by the reader, student by the job */
	assert_true(job(0)->result.warmed == 1 && job(0)->result.skipped == 1);
}

/* ---- E2 ---- */

static void a_job_runs_once_in_the_fleet_and_both_know_of_it(void **state)
{
	int64_t interval_ms;

	(void)state;
	make_active(0);
	make_active(1);
	takes_ms = 30; /* they meet */
	ticks(true, true, false);
	assert_int_equal(runs, 2);
	assert_int_equal(job(0)->runs + job(1)->runs, 1);
	ticks(true, true, false);
	assert_int_equal(runs, 2); /* not due */
	assert_int_equal(job(0)->last_ms, job(1)->last_ms);
	assert_int_equal(job(0)->next_ms, job(1)->next_ms);
	assert_int_equal(job(1)->result.warmed, 2);
	assert_true(job(0)->took_ms >= 30);
	interval_ms = job(0)->next_ms - job(0)->last_ms;
	assert_true(interval_ms >= 540000 && interval_ms <= 660000); /* a tenth sooner or later */
}

static void intervals_differ_from_run_to_run(void **state)
{
	int64_t first;

	(void)state;
	ticks(true, false, true);
	first = job(0)->next_ms - job(0)->last_ms;
	for (int i = 0; i < 3; i++) {
		forget_table();
		job(0)->next_ms = 0;
		ticks(true, false, false);
		if (job(0)->next_ms - job(0)->last_ms != first)
			return;
	}
	fail_msg("four intervals are the same to the millisecond");
}

static void a_dead_processs_lock_ends_by_itself(void **state)
{
	(void)state;
	make_active(0);
	say(REDIS_ARGS(STR("SET"), LOCK, STR("a dead one's"), STR("PX"), STR("60000")));
	ticks(true, true, false);
	assert_int_equal(runs, 0);
	say(REDIS_ARGS(STR("PEXPIRE"), LOCK, STR("1"))); /* a minute later */
	turn_both(20);
	ticks(true, true, false);
	assert_int_equal(runs, 2);
}

/* Who has lost his lock does not take another's away, nor write into the table what may be older. */
static void a_run_without_its_lock_is_not_noted(void **state)
{
	(void)state;
	make_active(0);
	takes_ms = 200;
	steals = true;
	ticks(true, false, false);
	assert_int_equal(runs, 2);
	assert_int_equal(say(REDIS_ARGS(STR("HEXISTS"), TABLE, STR("classes"))).i, 0);
	assert_true(str_is(say(REDIS_ARGS(STR("GET"), LOCK)).s, "another's"));
}

static void a_paused_job_does_not_run_anywhere_until_it_is_resumed(void **state)
{
	struct kit_answer a;

	(void)state;
	make_active(1);
	assert_int_equal(kit_json(k, "POST", "/api/v1/warm", AS("admin", "s"), "{\"pause\": [\"classes\"]}").status, 403);
	a = warm("{\"pause\": [\"classes\"]}");
	assert_int_equal(a.status, 200);
	assert_holds(a.body, "\"paused\":true");
	ticks(true, true, false);
	ticks(true, true, true);
	assert_int_equal(runs, 0);
	a = warm("{\"resume\": [\"classes\"]}");
	assert_holds(a.body,
		     "{\"name\":\"classes\",\"path\":\"/classes\",\"interval_s\":600,\"last_run\":null,\"next_run\":null,");
	assert_lacks(a.body, "\"paused\":true");
	ticks(true, true, false);
	assert_int_equal(runs, 2);
}

/* ---- E3 ---- */

static int64_t all_dropped(void)
{
	return kits[0]->daemon.warm->coalesced + kits[0]->daemon.warm->dropped;
}

/* The first daemon's clock stands still from here on, but for this: what is due in a moment waits, however slow the machine is. */
static void clock_on(int64_t ms)
{
	struct loop *loop = kits[0]->daemon.loop;

	loop_clock_set(loop, loop_mono_us(loop) + ms * US_PER_MS, loop_real_us(loop) + ms * US_PER_MS);
}

static void wait_for_runs(int n)
{
	for (int i = 0; i < 2000 && runs < n; i++)
		turn_both(1);
}

static void after_a_change_its_callers_page_is_there_a_moment_later(void **state)
{
	(void)state;
	assert_int_equal(kit_get(k, "/api/v1/things", AS("teacher", "t")).status, 200);
	assert_int_equal(runs, 1);
	clock_on(0);
	assert_int_equal(kit_json(k, "POST", "/api/v1/things?new", AS("teacher", "t"), "").status, 200);
	clock_on(WARM_AFTER_MS - 1);
	turn_both(50);
	assert_int_equal(runs, 1);
	clock_on(1);
	wait_for_runs(2);
	turn_both(50);
	assert_int_equal(runs, 2);
	assert_int_equal(kits[0]->daemon.warm->after.warmed, 1);
	assert_string_equal(kit_header(k, kit_get(k, "/api/v1/things", AS("teacher", "t")), "X-Cache"), "HIT");
	assert_string_equal(kit_header(k, kit_get(k, "/api/v1/things", AS("teacher", "u")), "X-Cache"),
			    "MISS"); /* nobody else's */
	assert_int_equal(runs, 3);
}

static void ten_changes_are_one_warming(void **state)
{
	(void)state;
	for (int i = 0; i < 10; i++) {
		clock_on(50);
		kit_json(k, "POST", "/api/v1/things?new", AS("teacher", "t"), "");
	}
	clock_on(99);
	turn_both(50);
	assert_int_equal(runs, 0);
	clock_on(1);
	wait_for_runs(1);
	turn_both(50);
	clock_on(1000);
	turn_both(50);
	assert_int_equal(runs, 1);
	assert_int_equal(all_dropped(), 9);
}

static void what_is_invalidated_again_is_not_warmed(void **state)
{
	(void)state;
	clock_on(0);
	kit_json(k, "POST", "/api/v1/things?new", AS("teacher", "t"), "");
	turn_both(20);
	kit_json(k, "POST", "/api/v1/things?quiet", AS("teacher", "u"), ""); /* another's list: it stays */
	assert_int_equal(all_dropped(), 0);
	kit_json(k, "POST", "/api/v1/things?quiet", AS("teacher", "t"), "");
	assert_int_equal(kits[0]->daemon.warm->dropped, 1);
	assert_int_equal(kits[0]->daemon.warm->n_waiting, 0);
	clock_on(1000);
	turn_both(100);
	assert_int_equal(runs, 0);
}

static void a_field_that_becomes_what_a_row_names_warms_its_detail(void **state)
{
	(void)state;
	kit_json(k, "POST", "/api/v1/things?draft", AS("teacher", "t"), "");
	turn_both(20);
	clock_on(1000);
	turn_both(50);
	assert_int_equal(runs, 0);
	kit_json(k, "POST", "/api/v1/things?active", AS("teacher", "t"), "");
	turn_both(20);
	clock_on(1000);
	wait_for_runs(1);
	turn_both(20);
	assert_string_equal(
		kit_header(k, kit_get(k, "/api/v1/things/09000000-0000-0000-0000-000000000000", AS("teacher", "t")), "X-Cache"),
		"HIT");
}

static void who_may_not_see_a_page_does_not_warm_it(void **state)
{
	(void)state;
	assert_int_equal(kit_json(k, "POST", "/api/v1/things?new", AS("student", "s"), "").status, 200);
	turn_both(20);
	clock_on(1000);
	turn_both(50);
	assert_int_equal(runs, 0);
	assert_true(kits[0]->daemon.warm->after.skipped == 1 && kits[0]->daemon.warm->after.failed == 0);
}

static void what_waits_ends_with_its_daemon(void **state)
{
	(void)state;
	kit_json(k, "POST", "/api/v1/things?new", AS("teacher", "t"), "");
	assert_int_equal(kits[0]->daemon.warm->n_waiting, 1); /* teardown closes, and finds no fiber left */
}

/* ---- tables ---- */

static const char *problems_of(const struct warm_row *row)
{
	const struct warm_row table[] = {*row, {NULL}};
	const struct service wrong = {.name = "tiny", .routes = routes, .warms = table};
	struct buf problems = buf_in(k->arena);

	cache_warm_check(&wrong, &problems);
	return buf_cstr(&problems);
}

static void a_persons_answer_is_made_for_that_person_alone(void **state)
{
	(void)state;
	assert_string_equal(problems_of(&warms[0]), "");
	assert_string_equal(problems_of(&warms[3]), "");
	assert_non_null(strstr(problems_of(&(struct warm_row){"x", "/me", .roles = ROLE_TEACHER, .when = WARM_AT_START}),
			       "a person's answer"));
	assert_non_null(strstr(problems_of(&(struct warm_row){"x", "/nothing", .roles = ROLE_TEACHER, .when = WARM_AT_START}),
			       "no kept route"));
	assert_non_null(
		strstr(problems_of(&(struct warm_row){"x", "/classes", .roles = ROLE_PARENT, .when = WARM_AT_START}), "roles"));
	assert_non_null(strstr(problems_of(&(struct warm_row){"x", "/classes", .roles = ROLE_TEACHER}), "never made"));
	assert_non_null(strstr(problems_of(&(struct warm_row){"x", "/things", .after = &thing_entity, .on = ON_DELETE}), ".on"));
	assert_non_null(strstr(problems_of(&(struct warm_row){"x", "/things", .after = &thing_entity, .on = ON_UPDATE,
							      .field = "colour", .becomes = "red"}),
			       ".field"));
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(what_is_warmed_is_what_readers_find_with_no_call_of_the_source),
		T(a_reader_over_http_finds_it_by_the_same_key),
		T(nothing_is_warmed_where_nobody_is_active),
		T(what_is_there_is_skipped_and_what_fails_is_counted),
		T(a_source_that_fails_and_an_answer_that_cannot_be_kept_are_failures),
		T(demands_are_bounded_and_respect_who_fills),
		T(a_warming_joins_a_readers_filling),
		T(a_job_runs_once_in_the_fleet_and_both_know_of_it),
		T(intervals_differ_from_run_to_run),
		T(a_dead_processs_lock_ends_by_itself),
		T(a_run_without_its_lock_is_not_noted),
		T(a_paused_job_does_not_run_anywhere_until_it_is_resumed),
		T(after_a_change_its_callers_page_is_there_a_moment_later),
		T(ten_changes_are_one_warming),
		T(what_is_invalidated_again_is_not_warmed),
		T(a_field_that_becomes_what_a_row_names_warms_its_detail),
		T(who_may_not_see_a_page_does_not_warm_it),
		T(what_waits_ends_with_its_daemon),
		T(a_persons_answer_is_made_for_that_person_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
