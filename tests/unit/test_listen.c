/* SPDX-License-Identifier: Apache-2.0 */
/* A daemon beside a real Redis: events by channel and, after a cut, from the stream; readiness follows the buffer and its durability. */
#include "kit_fixture.h"

#include "base/schema.h"
#include "io/fiber.h"
#include "io/redis.h"
#include "real_redis.h"
#include "svc/listen.h"

#define ENVELOPE(id, event) "{\"id\":\"" id "\",\"type\":\"org.schools24.homework." event ".v1\",\"data\":{\"n\":1}}"

static char heard[512];

static enum err hear(struct daemon *d, struct str envelope)
{
	struct str id;

	(void)d;
	assert_true(json_member(envelope, "id", &id));
	snprintf(heard + strlen(heard), sizeof(heard) - strlen(heard), "%.*s ", (int)id.n - 2, id.p + 1);
	return OK;
}

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

static void mark_fiber(void *arg)
{
	struct command *c = arg;

	listen_mark(c->daemon->listen, 0);
	c->done = true;
}

static void mark(struct kit *k)
{
	struct command c = {.daemon = &k->daemon};

	assert_int_equal(fiber_spawn(k->daemon.loop, "mark", mark_fiber, &c), OK);
	while (!c.done)
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

static void what_was_said_during_a_cut_is_read_from_the_stream(void **state)
{
	struct kit *k = ((struct world *)*state)->kit;

	until_subscribed(k);
	publish(k, ENVELOPE("a1", "assigned"));
	until_heard(k, "a1");
	mark(k);
	mark(k);
	store(k, ENVELOPE("a2", "assigned"));
	store(k, ENVELOPE("b1", "deleted"));
	store(k, ENVELOPE("a3", "assigned"));
	tell(k, STR("CLIENT"), STR("KILL"), STR("TYPE"), STR("pubsub"));
	until_heard(k, "a3");
	assert_non_null(strstr(heard, "a2"));
	/* Nobody here listens to deletions. */
	assert_null(strstr(heard, "b1"));
}

static void nothing_old_is_replayed_at_start(void **state)
{
	struct kit *k = ((struct world *)*state)->kit;

	store(k, ENVELOPE("old", "assigned"));
	until_subscribed(k);
	publish(k, ENVELOPE("a1", "assigned"));
	until_heard(k, "a1");
	assert_null(strstr(heard, "old"));
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
		T(an_event_reaches_its_handler),      T(what_was_said_during_a_cut_is_read_from_the_stream),
		T(nothing_old_is_replayed_at_start),  T(it_is_ready_while_the_durability_is_as_configured),
		T(it_is_not_ready_with_nothing_left),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
