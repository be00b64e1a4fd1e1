/* SPDX-License-Identifier: Apache-2.0 */
/* Waiting: deadlines, cancellation, operations that outlive their waiter, groups, and queues of waiters. */
#include "unit/unit.h"

#include "io/fiber.h"

static struct loop *loop;
static char trace[64];
static unsigned freed;
static struct fiber *parent;

static const struct deadline never = {INT64_MAX};

static void mark(const char *s)
{
	strncat(trace, s, sizeof(trace) - strlen(trace) - 1);
}

static int fresh(void **state)
{
	(void)state;
	trace[0] = '\0';
	freed = 0;
	loop = loop_new();
	loop_clock_set(loop, 1000000, 0);
	return 0;
}

static int stale(void **state)
{
	(void)state;
	assert_int_equal(fiber_stats().live, 0);
	loop = loop_free(loop);
	return 0;
}

static void turn(void)
{
	loop_turn(loop, 0);
}

static void pass_ms(int64_t ms)
{
	loop_clock_set(loop, loop_mono_us(loop) + ms * 1000, 0);
	turn();
}

/* An operation that a test completes by hand. */
struct answer {
	struct op op;
	int value;
};

static void answer_free(struct op *op)
{
	freed++;
	free(CONTAINER_OF(op, struct answer, op));
}

static struct answer *answer_new(void)
{
	struct answer *a = calloc(1, sizeof(*a));

	op_init(&a->op, "answer", answer_free);
	return a;
}

static enum err seen;
static int value;

static void waits_50ms(void *arg)
{
	struct answer *a = arg;

	parent = fiber_self();
	seen = await(&a->op, deadline_in(loop, 50));
	if (seen == OK)
		value = a->value;
	op_unref(&a->op);
	mark("w");
}

static struct answer *start(void)
{
	struct answer *a = answer_new();

	seen = ERR_BUG;
	assert_int_equal(fiber_run(loop, "waiter", waits_50ms, a), OK);
	assert_string_equal(trace, "");
	return a;
}

static void a_result_arrives_with_its_value_and_not_inside_the_callback(void **state)
{
	struct answer *a = start();

	(void)state;
	a->value = 42;
	op_complete(&a->op, OK);
	assert_string_equal(trace, "");
	assert_int_equal(freed, 0);
	turn();
	assert_int_equal(seen, OK);
	assert_int_equal(value, 42);
	assert_int_equal(freed, 1);
}

static void an_operation_that_is_done_is_not_waited_for(void **state)
{
	struct answer *a = answer_new();

	(void)state;
	op_complete(&a->op, ERR_NOT_FOUND);
	assert_int_equal(fiber_run(loop, "waiter", waits_50ms, a), OK);
	assert_int_equal(seen, ERR_NOT_FOUND);
	assert_int_equal(freed, 1);
}

static void an_answer_after_the_deadline_frees_what_the_waiter_left(void **state)
{
	struct answer *a = start();

	(void)state;
	pass_ms(49);
	assert_int_equal(seen, ERR_BUG);
	pass_ms(1);
	assert_int_equal(seen, ERR_TIMEOUT);
	assert_int_equal(freed, 0);
	op_complete(&a->op, OK);
	assert_int_equal(freed, 1);
}

static void an_answer_in_the_turn_of_the_deadline_counts(void **state)
{
	struct answer *a = start();

	(void)state;
	loop_clock_set(loop, loop_mono_us(loop) + 60000, 0);
	op_complete(&a->op, OK);
	turn();
	assert_int_equal(seen, OK);
	assert_int_equal(freed, 1);
}

static void a_cancelled_waiter_walks_away(void **state)
{
	struct answer *a = start();

	(void)state;
	fiber_cancel(parent);
	turn();
	assert_int_equal(seen, ERR_CANCELLED);
	op_complete(&a->op, OK);
	assert_int_equal(freed, 1);
}

static void an_answer_beats_a_cancellation_of_the_same_turn(void **state)
{
	struct answer *a = start();

	(void)state;
	fiber_cancel(parent);
	op_complete(&a->op, OK);
	turn();
	assert_int_equal(seen, OK);
}

static void waits_too_late(void *arg)
{
	struct answer *a = arg;

	seen = await(&a->op, (struct deadline){loop_mono_us(loop)});
	op_unref(&a->op);
}

static void a_deadline_that_has_passed_is_a_timeout_at_once(void **state)
{
	struct answer *a = answer_new();

	(void)state;
	assert_int_equal(fiber_run(loop, "late", waits_too_late, a), OK);
	assert_int_equal(seen, ERR_TIMEOUT);
	op_complete(&a->op, OK);
	assert_int_equal(freed, 1);
}

static void deadlines_count_down_to_zero(void **state)
{
	struct deadline d = deadline_in(loop, 10);

	(void)state;
	assert_int_equal(deadline_left_ms(loop, d), 10);
	loop_clock_set(loop, loop_mono_us(loop) + 9999, 0);
	assert_int_equal(deadline_left_ms(loop, d), 1);
	loop_clock_set(loop, loop_mono_us(loop) + 1, 0);
	assert_int_equal(deadline_left_ms(loop, d), 0);
	assert_int_equal(deadline_left_ms(loop, never), INT64_MAX);
	assert_int_equal(deadline_in(loop, INT64_MAX).at_us, INT64_MAX);
	assert_int_equal(deadline_sooner(d, never).at_us, d.at_us);
}

static void sleeps_past_its_deadline(void *arg)
{
	(void)arg;
	seen = sleep_ms(loop, 100, deadline_in(loop, 30));
	mark("s");
}

static void a_sleep_longer_than_its_deadline_times_out(void **state)
{
	(void)state;
	assert_int_equal(fiber_run(loop, "sleeper", sleeps_past_its_deadline, NULL), OK);
	pass_ms(29);
	assert_string_equal(trace, "");
	pass_ms(1);
	assert_string_equal(trace, "s");
	assert_int_equal(seen, ERR_TIMEOUT);
}

/* ---- groups: a child sleeps, then returns what its row says */

struct child_row {
	int64_t ms;
	enum err result, slept;
	bool started;
};

static enum err child(void *arg)
{
	struct child_row *row = arg;

	row->started = true;
	row->slept = sleep_ms(loop, row->ms, never);
	return row->slept == OK ? row->result : row->slept;
}

struct family {
	enum group_mode mode;
	struct child_row row[3];
	int64_t deadline_ms;
	enum err result;
};

static void family_main(void *arg)
{
	struct family *f = arg;
	struct group *g = group_new(loop, f->mode);

	parent = fiber_self();
	for (size_t i = 0; i < ARRAY_LEN(f->row); i++)
		group_spawn(g, "child", child, &f->row[i]);
	f->result = group_wait(g, f->deadline_ms ? deadline_in(loop, f->deadline_ms) : never);
	mark("g");
}

static void fail_fast_returns_the_first_error_and_cancels_the_rest(void **state)
{
	struct family f = {GROUP_FAIL_FAST, {{30, OK}, {10, ERR_CONFLICT}, {20, ERR_DB}}};

	(void)state;
	assert_int_equal(fiber_run(loop, "parent", family_main, &f), OK);
	turn();
	pass_ms(9);
	assert_string_equal(trace, "");
	pass_ms(1);
	turn();
	assert_string_equal(trace, "g");
	assert_int_equal(f.result, ERR_CONFLICT);
	assert_int_equal(f.row[0].slept, ERR_CANCELLED);
	assert_int_equal(f.row[2].slept, ERR_CANCELLED);
}

static void collect_waits_for_all_and_returns_the_first_error(void **state)
{
	struct family f = {GROUP_COLLECT, {{30, OK}, {10, ERR_CONFLICT}, {20, ERR_DB}}};

	(void)state;
	assert_int_equal(fiber_run(loop, "parent", family_main, &f), OK);
	turn();
	pass_ms(10);
	pass_ms(10);
	assert_string_equal(trace, "");
	pass_ms(10);
	assert_string_equal(trace, "g");
	assert_int_equal(f.result, ERR_CONFLICT);
	assert_int_equal(f.row[0].slept, OK);
	assert_int_equal(f.row[2].slept, OK);
}

static void a_group_without_errors_is_ok(void **state)
{
	struct family f = {GROUP_FAIL_FAST, {{3, OK}, {1, OK}, {2, OK}}};

	(void)state;
	assert_int_equal(fiber_run(loop, "parent", family_main, &f), OK);
	turn();
	pass_ms(3);
	assert_string_equal(trace, "g");
	assert_int_equal(f.result, OK);
}

static void a_group_past_its_deadline_takes_its_children_along(void **state)
{
	struct family f = {GROUP_COLLECT, {{30, OK}, {1, OK}, {20, OK}}, .deadline_ms = 10};

	(void)state;
	assert_int_equal(fiber_run(loop, "parent", family_main, &f), OK);
	turn();
	pass_ms(10);
	turn();
	assert_int_equal(f.result, ERR_TIMEOUT);
	assert_int_equal(f.row[0].slept, ERR_CANCELLED);
	assert_int_equal(f.row[1].slept, OK);
}

static void a_child_that_had_not_begun_is_not_begun_after_a_failure(void **state)
{
	struct family f = {GROUP_FAIL_FAST, {{1, OK}, {1, OK}, {1, OK}}};

	(void)state;
	fiber_limit(fiber_stats().live + 3); /* the parent, two children, and no third */
	assert_int_equal(fiber_run(loop, "parent", family_main, &f), OK);
	fiber_limit(20000);
	turn();
	turn();
	assert_int_equal(f.result, ERR_OVERLOAD);
	assert_false(f.row[0].started || f.row[1].started || f.row[2].started);
}

static enum err grandchildren(void *arg)
{
	struct family *f = arg;
	struct group *g = group_new(loop, f->mode);

	for (size_t i = 0; i < ARRAY_LEN(f->row); i++)
		group_spawn(g, "grandchild", child, &f->row[i]);
	f->result = group_wait(g, never);
	return f->result;
}

static void grandparent(void *arg)
{
	struct family *f = arg;
	struct group *g = group_new(loop, GROUP_COLLECT);

	parent = fiber_self();
	group_spawn(g, "left", grandchildren, &f[0]);
	group_spawn(g, "right", grandchildren, &f[1]);
	seen = group_wait(g, never);
	mark("G");
}

static void a_cancellation_reaches_nested_groups(void **state)
{
	struct family f[2] = {{GROUP_FAIL_FAST, {{30, OK}, {30, OK}, {30, OK}}}, {GROUP_COLLECT, {{5, OK}, {30, OK}, {30, OK}}}};

	(void)state;
	assert_int_equal(fiber_run(loop, "grandparent", grandparent, f), OK);
	turn();
	pass_ms(5);
	fiber_cancel(parent);
	turn();
	turn();
	assert_string_equal(trace, "G");
	assert_int_equal(seen, ERR_CANCELLED);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(f[i].result, ERR_CANCELLED);
		assert_int_equal(f[i].row[2].slept, ERR_CANCELLED);
	}
	assert_int_equal(f[1].row[0].slept, OK);
}

static void nested_groups_end_with_their_children(void **state)
{
	struct family f[2] = {{GROUP_FAIL_FAST, {{3, OK}, {2, OK}, {1, OK}}}, {GROUP_COLLECT, {{5, OK}, {6, ERR_GONE}, {7, OK}}}};

	(void)state;
	assert_int_equal(fiber_run(loop, "grandparent", grandparent, f), OK);
	turn();
	for (int i = 0; i < 10; i++)
		pass_ms(1);
	assert_string_equal(trace, "G");
	assert_int_equal(seen, ERR_GONE);
	assert_int_equal(f[0].result, OK);
}

/* ---- queues of waiters */

static struct waitq q;

struct guest {
	const char *name;
	int64_t ms;
	enum err result;
	struct fiber *fiber;
};

static void guest_main(void *arg)
{
	struct guest *g = arg;

	g->fiber = fiber_self();
	g->result = waitq_wait(&q, g->ms ? deadline_in(loop, g->ms) : never);
	mark(g->name);
}

static void come(struct guest *g)
{
	g->result = ERR_BUG;
	assert_int_equal(fiber_run(loop, "guest", guest_main, g), OK);
}

static void waiters_are_woken_first_come_first_served(void **state)
{
	struct guest a = {"a"}, b = {"b"}, c = {"c"};

	(void)state;
	come(&a);
	come(&b);
	come(&c);
	waitq_wake(&q, 2, OK);
	turn();
	assert_string_equal(trace, "ab");
	waitq_wake(&q, 5, ERR_GONE);
	turn();
	assert_string_equal(trace, "abc");
	assert_int_equal(c.result, ERR_GONE);
	waitq_done(&q);
}

static void one_who_left_does_not_use_up_a_turn(void **state)
{
	struct guest a = {"a", 10}, b = {"b"}, c = {"c"};

	(void)state;
	come(&a);
	come(&b);
	come(&c);
	pass_ms(10);
	assert_int_equal(a.result, ERR_TIMEOUT);
	fiber_cancel(b.fiber);
	turn();
	assert_int_equal(b.result, ERR_CANCELLED);
	waitq_wake(&q, 1, OK);
	turn();
	assert_string_equal(trace, "abc");
	assert_int_equal(c.result, OK);
	waitq_done(&q);
}

static void those_who_left_are_forgotten_while_nobody_wakes(void **state)
{
	struct guest stays = {""}, g[64];

	(void)state;
	come(&stays);
	for (int round = 0; round < 200; round++) {
		for (size_t i = 0; i < ARRAY_LEN(g); i++) {
			g[i] = (struct guest){"", 1};
			come(&g[i]);
		}
		pass_ms(1);
	}
	assert_true(q.cap <= 512);
	waitq_wake(&q, 1, OK);
	turn();
	assert_int_equal(stays.result, OK);
	waitq_done(&q);
}

static void a_queue_that_ends_cancels_its_waiters(void **state)
{
	struct guest a = {"a"}, b = {"b"};

	(void)state;
	come(&a);
	come(&b);
	waitq_done(&q);
	turn();
	assert_int_equal(a.result, ERR_CANCELLED);
	assert_int_equal(b.result, ERR_CANCELLED);
}

#define T(name) cmocka_unit_test_setup_teardown(name, fresh, stale)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_result_arrives_with_its_value_and_not_inside_the_callback),
		T(an_operation_that_is_done_is_not_waited_for),
		T(an_answer_after_the_deadline_frees_what_the_waiter_left),
		T(an_answer_in_the_turn_of_the_deadline_counts),
		T(a_cancelled_waiter_walks_away),
		T(an_answer_beats_a_cancellation_of_the_same_turn),
		T(a_deadline_that_has_passed_is_a_timeout_at_once),
		T(deadlines_count_down_to_zero),
		T(a_sleep_longer_than_its_deadline_times_out),
		T(fail_fast_returns_the_first_error_and_cancels_the_rest),
		T(collect_waits_for_all_and_returns_the_first_error),
		T(a_group_without_errors_is_ok),
		T(a_group_past_its_deadline_takes_its_children_along),
		T(a_child_that_had_not_begun_is_not_begun_after_a_failure),
		T(a_cancellation_reaches_nested_groups),
		T(nested_groups_end_with_their_children),
		T(waiters_are_woken_first_come_first_served),
		T(one_who_left_does_not_use_up_a_turn),
		T(those_who_left_are_forgotten_while_nobody_wakes),
		T(a_queue_that_ends_cancels_its_waiters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
