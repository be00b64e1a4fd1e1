/* SPDX-License-Identifier: Apache-2.0 */
/* The Redis client when the real server dies, freezes, refuses or comes back. */
#include "unit/redis_case.h"

static bool is_away(void)
{
	return !redis_is_up(redis);
}

static void a_server_killed_with_commands_under_way_leaves_them_uncertain(void **state)
{
	(void)state;
	turns_until(is_up, 1000);
	real_redis_freeze(&server);
	for (intptr_t i = 0; i < 2; i++)
		assert_int_equal(fiber_run(loop, "set", one_set, (void *)i), OK);
	loop_turn(loop, 0); /* they leave */
	assert_int_equal(redis_stats(redis).in_flight, 2);
	real_redis_kill(&server);
	assert_int_equal(fiber_run(loop, "unsent", one_set, (void *)2), OK);
	turns_until(is_away, 1000);
	assert_true(fiber_drain(loop, in_ms(5000)));
	assert_int_equal(results[0], ERR_UNCERTAIN);
	assert_int_equal(results[1], ERR_UNCERTAIN);
	/* Whether the third left before the end was seen is a race; it was not answered in either case. */
	assert_true(results[2] == ERR_UNCERTAIN || results[2] == ERR_BUFFER);
}

static void what_did_not_leave_is_a_fault_and_not_uncertain(void **state)
{
	(void)state;
	turns_until(is_up, 1000);
	assert_int_equal(fiber_run(loop, "set", one_set, (void *)0), OK);
	redis = redis_close(redis); /* before the turn's end, when it would be written */
	assert_true(fiber_drain(loop, in_ms(5000)));
	assert_int_equal(results[0], ERR_BUFFER);
	open_with(server.url, 1, 2000);
}

static void half_written(void *arg)
{
	struct str big = {arena_zalloc(arena, 8 << 20), 8 << 20};
	struct redis_op *whole = redis_start(redis, REDIS_ARGS(STR("SET"), STR("a"), STR("b"))),
			*part = redis_start(redis, REDIS_ARGS(STR("SET"), STR("c"), big));

	(void)arg;
	results[0] = redis_finish(whole, arena, in_ms(5000), NULL);
	results[1] = redis_finish(part, arena, in_ms(5000), NULL);
	ended++;
}

static void a_command_of_which_a_part_left_was_not_done(void **state)
{
	(void)state;
	turns_until(is_up, 1000);
	real_redis_freeze(&server); /* the socket's buffer takes less than 8 MiB */
	assert_int_equal(fiber_run(loop, "half", half_written, NULL), OK);
	loop_turn(loop, 0);
	real_redis_kill(&server);
	assert_true(fiber_drain(loop, in_ms(5000)));
	assert_int_equal(results[0], ERR_UNCERTAIN);
	assert_int_equal(results[1], ERR_BUFFER);
}

static void commands_fail_at_once_while_it_is_down_and_work_again_afterwards(void **state)
{
	int64_t before;

	(void)state;
	turns_until(is_up, 1000);
	real_redis_kill(&server);
	turns_until(is_away, 1000);
	for (int i = 0; i < 200; i++)
		loop_turn(loop, 1000); /* the first attempts fail */
	before = loop_mono_us(loop);
	on_fiber(one_set, (void *)0);
	assert_int_equal(results[0], ERR_BUFFER);
	assert_true(loop_mono_us(loop) - before < 50000);
	assert_true(strlen(redis_last_error(redis)) > 0);
	real_redis_again(&server);
	turns_until(is_up, 10000);
	on_fiber(one_set, (void *)0);
	assert_int_equal(results[0], OK);
	assert_int_equal(redis_stats(redis).reconnects, 1);
}

static void a_frozen_server_costs_the_deadline_and_then_its_connection(void **state)
{
	int64_t before;

	(void)state;
	redis_close(redis);
	open_with(server.url, 1, 300);
	turns_until(is_up, 1000);
	real_redis_freeze(&server);
	before = loop_mono_us(loop);
	on_fiber(one_set, (void *)0);
	assert_int_equal(results[0], ERR_TIMEOUT);
	assert_true(loop_mono_us(loop) - before >= 100000 && loop_mono_us(loop) - before < 290000);
	assert_true(is_up());
	assert_int_equal(redis_stats(redis).in_flight, 1);
	turns_until(is_away, 1000);
	assert_int_equal(redis_stats(redis).in_flight, 0);
	assert_string_equal(redis_last_error(redis), "no answer in time");
	/* The kernel still takes connections for it, but nobody answers the greeting: no command is sent. */
	on_fiber(one_set, (void *)0);
	assert_int_equal(results[0], ERR_BUFFER);
	real_redis_thaw(&server);
	turns_until(is_up, 10000);
	on_fiber(one_set, (void *)0);
	assert_int_equal(results[0], OK);
}

static void an_answer_after_its_fiber_left_goes_to_nobody_else(void **state)
{
	int64_t n = 0;

	(void)state;
	on_fiber(increments, NULL);
	real_redis_freeze(&server);
	on_fiber(one_set, (void *)0);
	assert_int_equal(results[0], ERR_TIMEOUT);
	real_redis_thaw(&server);
	on_fiber(counts, &n);
	assert_int_equal(n, 50);
}

static void too_late(void *arg)
{
	struct redis_reply r;

	(void)arg;
	results[0] = redis_call(redis, arena, (struct deadline){loop_mono_us(loop)}, REDIS_ARGS(STR("PING")), &r);
	ended++;
}

static void a_call_past_its_deadline_sends_nothing(void **state)
{
	(void)state;
	turns_until(is_up, 1000);
	on_fiber(too_late, NULL);
	assert_int_equal(results[0], ERR_TIMEOUT);
	assert_int_equal(redis_stats(redis).commands, 0);
}

static void refused(void *arg)
{
	struct redis_reply r;

	(void)arg;
	assert_int_equal(call(REDIS_ARGS(STR("CONFIG"), STR("SET"), STR("maxmemory"), STR("1")), &r), OK);
	results[0] = call(REDIS_ARGS(STR("SET"), STR("x"), STR("y")), &r);
	assert_int_equal(call(REDIS_ARGS(STR("CONFIG"), STR("SET"), STR("maxmemory"), STR("0")), &r), OK);
	ended++;
}

static void a_server_that_cannot_serve_is_a_fault_with_its_text(void **state)
{
	(void)state;
	on_fiber(refused, NULL);
	assert_int_equal(results[0], ERR_BUFFER);
	assert_true(str_has_prefix(str_of(redis_last_error(redis)), STR("OOM ")));
	assert_true(is_up());
}

static void becomes_replica(void *arg)
{
	struct redis_reply r;

	(void)arg;
	assert_int_equal(call(REDIS_ARGS(STR("REPLICAOF"), STR("127.0.0.1"), STR("1")), &r), OK);
	results[0] = call(REDIS_ARGS(STR("SET"), STR("x"), STR("y")), &r);
	ended++;
}

static void a_read_only_server_loses_its_connection(void **state)
{
	(void)state;
	on_fiber(becomes_replica, NULL);
	assert_int_equal(results[0], ERR_BUFFER);
	assert_true(is_away());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_server_killed_with_commands_under_way_leaves_them_uncertain),
		T(what_did_not_leave_is_a_fault_and_not_uncertain),
		T(a_command_of_which_a_part_left_was_not_done),
		T(commands_fail_at_once_while_it_is_down_and_work_again_afterwards),
		T(a_frozen_server_costs_the_deadline_and_then_its_connection),
		T(an_answer_after_its_fiber_left_goes_to_nobody_else),
		T(a_call_past_its_deadline_sends_nothing),
		T(a_server_that_cannot_serve_is_a_fault_with_its_text),
		T(a_read_only_server_loses_its_connection),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
