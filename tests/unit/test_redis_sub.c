/* SPDX-License-Identifier: Apache-2.0 */
/* Pub/sub against a real server: delivery, subscribing again after a loss, a silent peer, and closing from inside a message. */
#include "unit/unit.h"

#include "io/redis.h"
#include "io/redis_sync.h"
#include "unit/real_redis.h"

static struct loop *loop;
static struct real_redis server;
static struct redis_sub *sub;
static struct arena *arena;
static unsigned connections, messages;
static bool close_at_message;
static char last[128];

static const char *const channels[] = {"homework:assigned", "homework:graded"};

static void on_message(void *ctx, struct str channel, struct str payload)
{
	assert_ptr_equal(ctx, &loop);
	snprintf(last, sizeof(last), "%.*s=%.*s", STR_FMT(channel), STR_FMT(payload));
	messages++;
	if (close_at_message)
		sub = redis_sub_close(sub);
}

static void on_connected(void *ctx)
{
	assert_ptr_equal(ctx, &loop);
	connections++;
}

static void open_sub(const char *url)
{
	const struct redis_conf conf = {.name = "sub", .url = url, .fault = ERR_BUFFER, .connect_ms = 300};
	const struct redis_sub_events events = {&loop, on_message, on_connected};

	assert_int_equal(redis_sub_open(loop, &conf, channels, 2, &events, &sub), OK);
}

static int fresh(void **state)
{
	(void)state;
	connections = messages = 0;
	close_at_message = false;
	loop = loop_new();
	arena = arena_new();
	real_redis_start(&server, NULL);
	open_sub(server.url);
	return 0;
}

static int stale(void **state)
{
	(void)state;
	sub = redis_sub_close(sub);
	real_redis_stop(&server);
	arena_free(arena);
	loop = loop_free(loop);
	return 0;
}

static void turns_until(const unsigned *counter, unsigned n)
{
	for (int i = 0; i < 10000 && *counter < n; i++)
		loop_turn(loop, 1000);
	assert_int_equal(*counter, n);
}

static int64_t command(struct redis_args args)
{
	struct redis_sync *r;
	struct redis_reply reply;

	assert_int_equal(redis_sync_open(server.url, 1000, &r), OK);
	assert_int_equal(redis_sync_call(r, arena, args, &reply), OK);
	assert_int_not_equal(reply.type, REDIS_ERROR);
	redis_sync_close(r);
	return reply.i;
}

static void publish(struct str channel, struct str payload, int64_t receivers)
{
	assert_int_equal(command(REDIS_ARGS(STR("PUBLISH"), channel, payload)), receivers);
}

static void messages_of_the_channels_arrive(void **state)
{
	(void)state;
	turns_until(&connections, 1);
	publish(STR("homework:graded"), STR("{\"id\":1}"), 1);
	turns_until(&messages, 1);
	assert_string_equal(last, "homework:graded={\"id\":1}");
	publish(STR("other"), STR("x"), 0);
	publish(STR("homework:assigned"), STR(""), 1);
	turns_until(&messages, 2);
	assert_string_equal(last, "homework:assigned=");
}

static void after_a_loss_it_subscribes_again_and_says_so(void **state)
{
	(void)state;
	turns_until(&connections, 1);
	real_redis_kill(&server);
	for (int i = 0; i < 100; i++)
		loop_turn(loop, 1000);
	real_redis_again(&server);
	turns_until(&connections, 2);
	publish(STR("homework:assigned"), STR("again"), 1);
	turns_until(&messages, 1);
	assert_string_equal(last, "homework:assigned=again");
}

static void one_that_the_server_throws_out_comes_back(void **state)
{
	(void)state;
	turns_until(&connections, 1);
	assert_int_equal(command(REDIS_ARGS(STR("CLIENT"), STR("KILL"), STR("TYPE"), STR("pubsub"))), 1);
	turns_until(&connections, 2);
}

static void a_peer_that_fell_silent_is_asked_and_then_given_up(void **state)
{
	int64_t now = loop_mono_us(loop);

	(void)state;
	turns_until(&connections, 1);
	/* While it answers, quiet hours are no loss. */
	for (int i = 0; i < 20; i++) {
		loop_clock_set(loop, now += 10000000, 0);
		for (int j = 0; j < 20; j++)
			loop_turn(loop, 1000);
	}
	assert_int_equal(connections, 1);
	real_redis_freeze(&server);
	for (int i = 0; i < 3; i++) {
		loop_clock_set(loop, now += 10000000, 0);
		for (int j = 0; j < 20; j++)
			loop_turn(loop, 1000);
	}
	real_redis_thaw(&server);
	for (int i = 0; i < 20 && connections < 2; i++) {
		loop_clock_set(loop, now += 1000000, 0);
		for (int j = 0; j < 20; j++)
			loop_turn(loop, 1000);
	}
	assert_int_equal(connections, 2);
}

static void a_subscriber_may_close_itself_in_a_message(void **state)
{
	(void)state;
	turns_until(&connections, 1);
	close_at_message = true;
	publish(STR("homework:assigned"), STR("a"), 1);
	turns_until(&messages, 1);
	assert_null(sub);
	for (int i = 0; i < 10; i++)
		loop_turn(loop, 1000);
}

static void a_channel_that_is_forbidden_does_not_count_as_connected(void **state)
{
	char url[160];

	(void)state;
	sub = redis_sub_close(sub);
	real_redis_stop(&server);
	real_redis_start(&server, "user app on >x +@all resetchannels &homework:assigned");
	snprintf(url, sizeof(url), "unix://app:x@%s", server.path);
	open_sub(url);
	for (int i = 0; i < 100; i++)
		loop_turn(loop, 1000);
	assert_int_equal(connections, 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, fresh, stale)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(messages_of_the_channels_arrive),
		T(after_a_loss_it_subscribes_again_and_says_so),
		T(one_that_the_server_throws_out_comes_back),
		T(a_peer_that_fell_silent_is_asked_and_then_given_up),
		T(a_subscriber_may_close_itself_in_a_message),
		T(a_channel_that_is_forbidden_does_not_count_as_connected),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
