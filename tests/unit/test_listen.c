/* SPDX-License-Identifier: Apache-2.0 */
/* A daemon beside a real Redis: events by channel and from the stream, once each; readiness follows the buffer and its durability. */
#include "kit_fixture.h"

#include "io/fiber.h"
#include "io/redis.h"
#include "real_redis.h"
#include "svc/tail.h"
#include "unit/heard.h"

static const struct listen_row listens[] = {{"homework:assigned", hear}, {.channel = NULL}};
static const struct service service = {.name = "listener", .listens = listens, .flags = SERVICE_NO_PG};

struct world {
	struct real_redis redis;
	struct kit *kit;
};

static int setup(void **state)
{
	struct world *w = mem_zalloc(sizeof(*w));

	heard[0] = '\0';
	real_redis_start(&w->redis, NULL);
	setenv("REDIS_BUFFER_URLS", w->redis.url, 1);
	w->kit = kit_open(&service);
	unsetenv("REDIS_BUFFER_URLS");
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	kit_close(w->kit);
	real_redis_stop(&w->redis);
	free(w);
	return 0;
}

/* ---- commands of the test's own, on a fiber while the loop turns ---- */

struct command {
	struct daemon *daemon;
	struct arena *arena;
	struct redis_args args;
	bool done;
	enum err e;
	struct redis_reply reply;
};

static void command_fiber(void *arg)
{
	struct command *c = arg;

	c->e = redis_call(daemon_buffer(c->daemon), c->arena, deadline_in(c->daemon->loop, 3000), c->args, &c->reply);
	c->done = true;
}

static struct redis_reply tell_args(struct kit *k, struct redis_args args)
{
	struct command c = {.daemon = &k->daemon, .arena = k->arena, .args = args};

	assert_int_equal(fiber_spawn(k->daemon.loop, "test", command_fiber, &c), OK);
	while (!c.done)
		loop_turn(k->daemon.loop, 1000);
	assert_int_equal(c.e, OK);
	assert_int_not_equal(c.reply.type, REDIS_ERROR);
	return c.reply;
}
#define tell(k, ...) tell_args((k), REDIS_ARGS(__VA_ARGS__))

static void publish(struct kit *k, const char *envelope)
{
	tell(k, STR("XADD"), STR("events:homework"), STR("*"), STR("e"), str_of(envelope), STR("v"), STR("1"));
	tell(k, STR("PUBLISH"), STR("homework:assigned"), str_of(envelope));
}

/* What is only in the stream, as if it was published while nobody listened. */
static void store(struct kit *k, const char *envelope)
{
	tell(k, STR("XADD"), STR("events:homework"), STR("*"), STR("e"), str_of(envelope), STR("v"), STR("1"));
}

static void until_heard(struct kit *k, const char *what)
{
	for (int i = 0; i < 5000 && strstr(heard, what) == NULL; i++)
		loop_turn(k->daemon.loop, 1000);
	if (strstr(heard, what) == NULL)
		fail_msg("heard \"%s\", not %s", heard, what);
}

static void until_subscribed(struct kit *k)
{
	for (int i = 0; i < 5000; i++) {
		struct redis_reply r = tell(k, STR("PUBSUB"), STR("NUMSUB"), STR("homework:assigned"));

		if (r.n == 2 && r.v[1].i == 1)
			return;
		loop_turn(k->daemon.loop, 1000);
	}
	fail_msg("never subscribed");
}

/* Time for some looks at the streams. */
static void wait_ms(struct kit *k, int64_t ms)
{
	int64_t end_us = loop_mono_us(k->daemon.loop) + ms * 1000;

	while (loop_mono_us(k->daemon.loop) < end_us)
		loop_turn(k->daemon.loop, 1000);
}

static void an_event_reaches_its_handler(void **state)
{
	struct kit *k = ((struct world *)*state)->kit;

	until_subscribed(k);
	publish(k, ENVELOPE("a1", "assigned"));
	until_heard(k, "a1");
	assert_string_equal(heard, "a1 ");
}

static void what_nobody_has_published_is_read_from_the_stream(void **state)
{
	struct kit *k = ((struct world *)*state)->kit;
	int64_t before_us;

	wait_ms(k, 1200); /* it has looked */
	before_us = loop_mono_us(k->daemon.loop);
	store(k, ENVELOPE("a2", "assigned"));
	store(k, ENVELOPE("b1", "deleted"));
	store(k, ENVELOPE("a3", "assigned"));
	until_heard(k, "a3");
	assert_true(loop_mono_us(k->daemon.loop) - before_us < 2500000);
	assert_string_equal(heard, "a2 a3 "); /* nobody here listens to deletions */
}

static void what_comes_both_ways_is_handed_over_once(void **state)
{
	struct kit *k = ((struct world *)*state)->kit;

	until_subscribed(k);
	publish(k, ENVELOPE("a1", "assigned"));
	publish(k, ENVELOPE("a2", "assigned"));
	wait_ms(k, 2500);
	assert_string_equal(heard, "a1 a2 ");
}

static void a_cut_loses_nothing_and_doubles_nothing(void **state)
{
	struct kit *k = ((struct world *)*state)->kit;

	until_subscribed(k);
	publish(k, ENVELOPE("a1", "assigned"));
	until_heard(k, "a1");
	wait_ms(k, 1200);
	tell(k, STR("CLIENT"), STR("KILL"), STR("TYPE"), STR("pubsub"));
	publish(k, ENVELOPE("a2", "assigned"));
	until_heard(k, "a2");
	until_subscribed(k);
	publish(k, ENVELOPE("a3", "assigned"));
	wait_ms(k, 1500);
	assert_string_equal(heard, "a1 a2 a3 ");
}

static void nothing_old_is_replayed_at_start(void **state)
{
	struct world *w = *state;

	store(w->kit, ENVELOPE("old", "assigned"));
	kit_close(w->kit);
	heard[0] = '\0';
	setenv("REDIS_BUFFER_URLS", w->redis.url, 1);
	w->kit = kit_open(&service);
	unsetenv("REDIS_BUFFER_URLS");
	until_subscribed(w->kit);
	wait_ms(w->kit, 1200);
	publish(w->kit, ENVELOPE("a1", "assigned"));
	wait_ms(w->kit, 1200);
	assert_string_equal(heard, "a1 ");
}

/* ---- a stream's end ---- */

struct seen {
	unsigned n, gaps;
	char first[16], last[16];
};

static void seen_entries(void *ctx, struct arena *entries_arena, const struct str *texts, size_t n)
{
	struct seen *s = ctx;

	(void)entries_arena;
	assert_true(n <= TAIL_COUNT);
	if (s->n == 0)
		snprintf(s->first, sizeof(s->first), "%.*s", STR_FMT(texts[0]));
	snprintf(s->last, sizeof(s->last), "%.*s", STR_FMT(texts[n - 1]));
	s->n += (unsigned)n;
}

static void seen_gap(void *ctx, const char *stream)
{
	struct seen *s = ctx;

	assert_string_equal(stream, "events:own");
	s->gaps++;
}

static struct tail *follow(struct kit *k, struct seen *s, struct tail_conf conf)
{
	struct tail *t = NULL;

	conf.daemon = &k->daemon;
	conf.streams[0] = "events:own";
	conf.n = 1;
	conf.every_ms = 200;
	conf.ctx = s;
	conf.entries = seen_entries;
	conf.gap = seen_gap;
	assert_int_equal(tail_open(&conf, &t), OK);
	return t;
}

static void unfollow(struct kit *k, struct tail *t)
{
	tail_close(t);
	wait_ms(k, 50);
	tail_free(t);
}

/* All at once, so that no look falls in between. */
static void add_many(struct kit *k, const char *how_many, const char *left)
{
	tell(k, STR("EVAL"),
	     STR("for i = 1, ARGV[1] do redis.call('XADD', KEYS[1], '*', 'e', i) end redis.call('XTRIM', KEYS[1], 'MAXLEN', "
		 "ARGV[2])"),
	     STR("1"), STR("events:own"), str_of(how_many), str_of(left));
}

static void a_long_end_is_read_whole_and_what_was_trimmed_is_told(void **state)
{
	struct kit *k = ((struct world *)*state)->kit;
	struct seen s = {0};
	struct tail *t;

	until_subscribed(k);
	t = follow(k, &s, (struct tail_conf){0});
	wait_ms(k, 400);
	add_many(k, "1", "1000");
	wait_ms(k, 500);
	assert_int_equal(s.n, 1);
	add_many(k, "450", "1000");
	wait_ms(k, 600);
	assert_int_equal(s.n, 451);
	assert_int_equal(s.gaps, 0);
	add_many(k, "450", "300");
	wait_ms(k, 600);
	assert_int_equal(s.n, 751);
	assert_string_equal(s.last, "450");
	assert_int_equal(s.gaps, 1);
	unfollow(k, t);
}

static void who_lags_gives_out_what_the_look_before_has_seen(void **state)
{
	struct kit *k = ((struct world *)*state)->kit;
	struct seen s = {0};
	struct tail *t;
	int64_t before_us;

	until_subscribed(k);
	add_many(k, "2", "1000"); /* not older than it looks back */
	t = follow(k, &s, (struct tail_conf){.back_s = 60, .lagging = true});
	wait_ms(k, 700);
	assert_int_equal(s.n, 2);
	before_us = loop_mono_us(k->daemon.loop);
	add_many(k, "1", "1000");
	while (s.n == 2)
		loop_turn(k->daemon.loop, 1000);
	assert_true(loop_mono_us(k->daemon.loop) - before_us >= 195000);
	assert_true(loop_mono_us(k->daemon.loop) - before_us < 1000000);
	assert_int_equal(s.n, 3);
	unfollow(k, t);
}

/* ---- readiness ---- */

static struct kit_answer until_ready_says(struct kit *k, const char *what)
{
	struct kit_answer a = {0};

	for (int i = 0; i < 400; i++) {
		a = kit_admin_get(k, "/ready");
		if (memmem(a.body.p, a.body.n, what, strlen(what)) != NULL)
			return a;
		usleep(10000);
	}
	fail_msg("/ready says %.*s, not %s", STR_FMT(a.body), what);
	return a;
}

static void it_is_ready_while_the_durability_is_as_configured(void **state)
{
	struct kit *k = ((struct world *)*state)->kit;
	struct kit_answer a = until_ready_says(k, "nobody has verified");

	assert_int_equal(a.status, 503);
	tell(k, STR("SET"), STR("wb:durability"), STR("memory 1763719200000"));
	a = until_ready_says(k, "less durable");
	assert_int_equal(a.status, 503);
	assert_holds(a.body, "\"durability\":\"memory\"");
	tell(k, STR("SET"), STR("wb:durability"), STR("replicated 1763719200000"));
	a = until_ready_says(k, "\"status\":\"ready\"");
	assert_int_equal(a.status, 200);
	assert_holds(a.body, "\"durability\":\"replicated\"");
	assert_holds(kit_admin_get(k, "/metrics").body, "schools24_buffer_durability_ok{buffer=\"main\"} 1\n");
}

/* The buffer is all that this service needs, so without it there is nothing it can do. */
static void it_is_not_ready_with_nothing_left(void **state)
{
	struct world *w = *state;
	struct kit *k = w->kit;
	struct kit_answer a;

	tell(k, STR("SET"), STR("wb:durability"), STR("aof"));
	until_ready_says(k, "\"status\":\"ready\"");
	real_redis_kill(&w->redis);
	a = until_ready_says(k, "nothing that it needs");
	assert_int_equal(a.status, 503);
	assert_holds(a.body, "\"away\":[\"buffer\"]");
	assert_int_equal(kit_admin_get(k, "/health").status, 200);
	real_redis_again(&w->redis);
	until_ready_says(k, "nobody has verified");
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(an_event_reaches_its_handler),
		T(what_nobody_has_published_is_read_from_the_stream),
		T(what_comes_both_ways_is_handed_over_once),
		T(a_cut_loses_nothing_and_doubles_nothing),
		T(nothing_old_is_replayed_at_start),
		T(a_long_end_is_read_whole_and_what_was_trimmed_is_told),
		T(who_lags_gives_out_what_the_look_before_has_seen),
		T(it_is_ready_while_the_durability_is_as_configured),
		T(it_is_not_ready_with_nothing_left),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
