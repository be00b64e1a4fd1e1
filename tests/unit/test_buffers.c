/* SPDX-License-Identifier: Apache-2.0 */
/* Which buffer a school goes to, what the settings take for buffers, and two real ones: events of both, readiness with one away, pressure. */
#include "kit_fixture.h"

#include "base/timefmt.h"
#include "base/uuid.h"
#include "io/fiber.h"
#include "real_redis.h"
#include "svc/buffers.h"
#include "unit/heard.h"

/* ---- where a new school goes ---- */

static struct uuid school_number(uint32_t n)
{
	struct uuid id = {0};

	for (size_t i = 0; i < 4; i++)
		id.b[12 + i] = (uint8_t)(n >> (24 - 8 * i));
	return id;
}

/* What tools/s24/seed.py computes as well. */
static void the_choice_is_the_same_on_every_machine(void **state)
{
	static const char *const names[] = {"main", "west"};
	struct uuid sunrise;

	(void)state;
	assert_true(uuid_parse(STR("80240d1f-1fe8-51e8-a9a2-73f9bcbdf11e"), &sunrise));
	assert_string_equal(buffers_choose(names, 2, sunrise), "main");
	assert_string_equal(buffers_choose(names, 1, sunrise), "main");
}

static void another_name_draws_its_share_and_moves_nothing_else(void **state)
{
	static const char *const names[] = {"main", "west", "north", "south"};
	size_t moved = 0, held[4] = {0}, schools = 4000;

	(void)state;
	for (uint32_t i = 0; i < schools; i++) {
		const char *before = buffers_choose(names, 3, school_number(i)),
			   *after = buffers_choose(names, 4, school_number(i));

		for (size_t k = 0; k < 4; k++)
			held[k] += after == names[k];
		if (before == after)
			continue;
		assert_string_equal(after, "south");
		moved++;
	}
	assert_int_equal(moved, held[3]);
	for (size_t k = 0; k < 4; k++)
		assert_in_range(held[k], schools / 4 - 150, schools / 4 + 150);
}

static void the_order_of_the_names_does_not_matter(void **state)
{
	static const char *const one[] = {"main", "west", "north"}, *const other[] = {"north", "main", "west"};

	(void)state;
	for (uint32_t i = 0; i < 200; i++)
		assert_string_equal(buffers_choose(one, 3, school_number(i)), buffers_choose(other, 3, school_number(i)));
}

/* ---- the setting ---- */

static const struct service bare = {.name = "bare", .flags = SERVICE_NO_PG};

static bool load(const char *urls, struct settings *ret, char *said, size_t size)
{
	struct daemon d = {0};
	struct buf problems = {0};
	enum err e;

	setenv("REDIS_BUFFER_URLS", urls, 1);
	e = daemon_load(&d, &bare, NULL, &problems);
	unsetenv("REDIS_BUFFER_URLS");
	snprintf(said, size, "%.*s", (int)problems.n, problems.p != NULL ? problems.p : "");
	*ret = d.settings;
	for (size_t i = 0; i < d.settings.n_buffers; i++) {
		ret->buffers[i].name = strdup(d.settings.buffers[i].name);
		ret->buffers[i].url = strdup(d.settings.buffers[i].url);
	}
	buf_done(&problems);
	arena_free(d.arena);
	return e == OK;
}

static void release(struct settings *s)
{
	for (size_t i = 0; i < s->n_buffers; i++) {
		free((void *)(uintptr_t)s->buffers[i].name);
		free((void *)(uintptr_t)s->buffers[i].url);
	}
}

static void buffers_have_names_and_a_bare_address_is_main(void **state)
{
	struct settings s;
	char said[512];

	(void)state;
	assert_true(load("redis://u:a=b@h:1/0, west-2=redis://h:2", &s, said, sizeof(said)));
	assert_int_equal(s.n_buffers, 2);
	assert_string_equal(s.buffers[0].name, "main");
	assert_string_equal(s.buffers[0].url, "redis://u:a=b@h:1/0");
	assert_string_equal(s.buffers[1].name, "west-2");
	assert_string_equal(s.buffers[1].url, "redis://h:2");
	release(&s);
}

static void wrong_names_are_told_without_the_secret(void **state)
{
	static const struct {
		const char *urls, *why;
	} cases[] = {
		{"West=redis://u:secret@h:1", "a name is up to 32"},
		{"=redis://u:secret@h:1", "a name is up to 32"},
		{"west=redis://u:secret@h:1,west=redis://h:2", "two buffers are called \"west\""},
		{"redis://u:secret@h:1,main=redis://h:2", "two buffers are called \"main\""},
		{"a=r:,b=r:,c=r:,d=r:,e=r:,f=r:,g=r:,h=r:,i=r:secret", "at most 8"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct settings s;
		char said[512];

		assert_false(load(cases[i].urls, &s, said, sizeof(said)));
		if (strstr(said, cases[i].why) == NULL)
			fail_msg("%s: \"%s\"", cases[i].urls, said);
		assert_null(strstr(said, "secret"));
		release(&s);
	}
}

/* ---- the worker's verdict ---- */

static void a_verdict_of_another_time_is_none(void **state)
{
	int64_t now = INT64_C(1763719200000);

	(void)state;
	assert_int_equal(pressure_said(STR("high 1763719200000"), now), PRESSURE_HIGH);
	assert_int_equal(pressure_said(STR("full 1763719186000"), now), PRESSURE_FULL);
	assert_int_equal(pressure_said(STR("full 1763719184000"), now), PRESSURE_NONE);
	assert_int_equal(pressure_said(STR("full 1763719300000"), now), PRESSURE_NONE);
	assert_int_equal(pressure_said(STR("none 1763719200000"), now), PRESSURE_NONE);
	assert_int_equal(pressure_said(STR("full"), now), PRESSURE_NONE);
	assert_int_equal(pressure_said(STR(""), now), PRESSURE_NONE);
}

/* ---- two buffers ---- */

static const struct listen_row listens[] = {{"homework:assigned", hear}, {.channel = NULL}};
static const struct service service = {.name = "two", .listens = listens, .flags = SERVICE_NO_PG};

struct world {
	struct real_redis redis[2];
	struct kit *kit;
};

static int setup(void **state)
{
	struct world *w = mem_zalloc(sizeof(*w));
	char urls[256];

	heard[0] = '\0';
	for (size_t i = 0; i < 2; i++)
		real_redis_start(&w->redis[i], NULL);
	snprintf(urls, sizeof(urls), "main=%s,west=%s", w->redis[0].url, w->redis[1].url);
	setenv("REDIS_BUFFER_URLS", urls, 1);
	setenv("WRITE_BUFFER_HIGH_MARK", "3", 1);
	setenv("WRITE_BUFFER_LIMIT", "5", 1);
	w->kit = kit_open(&service);
	unsetenv("REDIS_BUFFER_URLS");
	unsetenv("WRITE_BUFFER_HIGH_MARK");
	unsetenv("WRITE_BUFFER_LIMIT");
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	kit_close(w->kit);
	for (size_t i = 0; i < 2; i++)
		real_redis_stop(&w->redis[i]);
	free(w);
	return 0;
}

struct command {
	struct kit *kit;
	size_t buffer;
	struct redis_args args;
	bool done;
	struct redis_reply reply;
};

static void command_fiber(void *arg)
{
	struct command *c = arg;
	struct daemon *d = &c->kit->daemon;

	assert_int_equal(
		redis_call(daemon_buffer_at(d, c->buffer), c->kit->arena, deadline_in(d->loop, 3000), c->args, &c->reply), OK);
	assert_int_not_equal(c->reply.type, REDIS_ERROR);
	c->done = true;
}

static struct redis_reply tell_args(struct kit *k, size_t buffer, struct redis_args args)
{
	struct command c = {.kit = k, .buffer = buffer, .args = args};

	assert_int_equal(fiber_spawn(k->daemon.loop, "test", command_fiber, &c), OK);
	while (!c.done)
		loop_turn(k->daemon.loop, 1000);
	return c.reply;
}
#define tell(k, buffer, ...) tell_args((k), (buffer), REDIS_ARGS(__VA_ARGS__))

static void events_of_both_are_heard(void **state)
{
	struct kit *k = ((struct world *)*state)->kit;

	for (size_t i = 0; i < 2; i++)
		while (tell(k, i, STR("PUBSUB"), STR("NUMSUB"), STR("homework:assigned")).v[1].i == 0)
			loop_turn(k->daemon.loop, 1000);
	tell(k, 0, STR("PUBLISH"), STR("homework:assigned"), STR(ENVELOPE("a1", "assigned")));
	tell(k, 1, STR("PUBLISH"), STR("homework:assigned"), STR(ENVELOPE("b1", "assigned")));
	for (int i = 0; i < 5000 && (strstr(heard, "a1") == NULL || strstr(heard, "b1") == NULL); i++)
		loop_turn(k->daemon.loop, 1000);
	assert_non_null(strstr(heard, "a1"));
	assert_non_null(strstr(heard, "b1"));
}

static struct kit_answer until_ready_says(struct kit *k, const char *what)
{
	struct kit_answer a = {0};

	for (int i = 0; i < 600; i++) {
		a = kit_admin_get(k, "/ready");
		if (memmem(a.body.p, a.body.n, what, strlen(what)) != NULL)
			return a;
		usleep(10000);
	}
	fail_msg("/ready says %.*s, not %s", STR_FMT(a.body), what);
	return a;
}

static void one_of_two_away_is_degraded_and_ready(void **state)
{
	struct world *w = *state;
	struct kit *k = w->kit;
	struct kit_answer a;

	tell(k, 0, STR("SET"), STR("wb:durability"), STR("aof 1763719200000"));
	assert_int_equal(until_ready_says(k, "nobody has verified").status, 503);
	tell(k, 1, STR("SET"), STR("wb:durability"), STR("aof 1763719200000"));
	until_ready_says(k, "\"status\":\"ready\"");
	real_redis_kill(&w->redis[1]);
	a = until_ready_says(k, "\"away\":[\"buffer west\"]");
	assert_int_equal(a.status, 200);
	assert_holds(a.body, "\"status\":\"degraded\"");
	real_redis_kill(&w->redis[0]);
	a = until_ready_says(k, "nothing that it needs");
	assert_int_equal(a.status, 503);
	assert_holds(a.body, "\"away\":[\"buffer\"]");
}

static enum pressure until_pressure(struct kit *k, size_t buffer, enum pressure wanted)
{
	for (int i = 0; i < 6000 && buffers_pressure(&k->daemon, buffer) != wanted; i++)
		loop_turn(k->daemon.loop, 1000);
	return buffers_pressure(&k->daemon, buffer);
}

/* The worker is dead here: the daemon counts what waits of its own. */
static void the_own_backlog_presses_on_its_buffer_alone(void **state)
{
	struct kit *k = ((struct world *)*state)->kit;

	tell(k, 1, STR("ZADD"), STR("wb:pending:two_audit"), STR("1"), STR("a"), STR("1"), STR("b"));
	tell(k, 1, STR("ZADD"), STR("wb:lease:two_audit"), STR("1"), STR("c"));
	assert_int_equal(until_pressure(k, 1, PRESSURE_HIGH), PRESSURE_HIGH);
	assert_int_equal(buffers_pressure(&k->daemon, 0), PRESSURE_NONE);
	tell(k, 1, STR("ZADD"), STR("wb:retry:two_audit"), STR("1"), STR("d"), STR("1"), STR("e"));
	assert_int_equal(until_pressure(k, 1, PRESSURE_FULL), PRESSURE_FULL);
	assert_holds(kit_admin_get(k, "/metrics").body, "schools24_buffer_pressure{buffer=\"main\"} 0\n"
							"schools24_buffer_pressure{buffer=\"west\"} 2\n");
	tell(k, 1, STR("DEL"), STR("wb:pending:two_audit"), STR("wb:lease:two_audit"), STR("wb:retry:two_audit"));
	assert_int_equal(until_pressure(k, 1, PRESSURE_NONE), PRESSURE_NONE);
}

static void the_higher_of_own_count_and_verdict_counts(void **state)
{
	struct kit *k = ((struct world *)*state)->kit;
	const char *said = arena_printf(k->arena, "high %lld", (long long)(loop_real_us(k->daemon.loop) / US_PER_MS));

	tell(k, 0, STR("SET"), STR("wb:pressure"), str_of(said));
	assert_int_equal(until_pressure(k, 0, PRESSURE_HIGH), PRESSURE_HIGH);
	tell(k, 0, STR("SET"), STR("wb:pressure"), STR("full 1763719200000"));
	assert_int_equal(until_pressure(k, 0, PRESSURE_NONE), PRESSURE_NONE);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_choice_is_the_same_on_every_machine),
		cmocka_unit_test(another_name_draws_its_share_and_moves_nothing_else),
		cmocka_unit_test(the_order_of_the_names_does_not_matter),
		cmocka_unit_test(buffers_have_names_and_a_bare_address_is_main),
		cmocka_unit_test(wrong_names_are_told_without_the_secret),
		cmocka_unit_test(a_verdict_of_another_time_is_none),
		T(events_of_both_are_heard),
		T(one_of_two_away_is_degraded_and_ready),
		T(the_own_backlog_presses_on_its_buffer_alone),
		T(the_higher_of_own_count_and_verdict_counts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
