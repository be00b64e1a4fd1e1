/* SPDX-License-Identifier: Apache-2.0 */
/* Fibers: starting, limits, pooling of stacks, the list of the living, and draining. */
#include "unit/unit.h"

#include <sys/wait.h>
#include <unistd.h>

#include "io/fiber.h"

#if defined(__SANITIZE_THREAD__)
enum { MANY = 2000 }; /* ThreadSanitizer counts fibers as threads and knows 8,000 of them */
#else
enum { MANY = 10000 };
#endif

/* What a fiber is given is not const, and what marks the trace is. */
#define TEXT(literal) ((void *)(uintptr_t)(literal))

static struct loop *loop;
static char trace[64];
static unsigned ended;

static const struct deadline never = {INT64_MAX};

static void mark(const char *s)
{
	strncat(trace, s, sizeof(trace) - strlen(trace) - 1);
}

static int fresh(void **state)
{
	(void)state;
	trace[0] = '\0';
	ended = 0;
	loop = loop_new();
	return 0;
}

static int stale(void **state)
{
	(void)state;
	fiber_limit(20000);
	assert_int_equal(fiber_stats().live, 0);
	loop = loop_free(loop);
	return 0;
}

static void drain(void)
{
	assert_true(fiber_drain(loop, deadline_in(loop, 20000)));
}

static void says(void *arg)
{
	assert_true(fiber_active());
	assert_non_null(fiber_self());
	mark(arg);
}

static void run_runs_now_and_spawn_runs_in_the_next_turn(void **state)
{
	(void)state;
	assert_int_equal(fiber_spawn(loop, "spawned", says, TEXT("s")), OK);
	assert_int_equal(fiber_run(loop, "run", says, TEXT("r")), OK);
	assert_string_equal(trace, "r");
	assert_false(fiber_active());
	assert_null(fiber_self());
	loop_turn(loop, 0);
	assert_string_equal(trace, "rs");
}

static void spawns(void *arg)
{
	assert_int_equal(fiber_spawn(loop, "inner", says, arg), OK);
	mark("o");
}

static void a_fiber_starts_others_that_run_after_it(void **state)
{
	(void)state;
	assert_int_equal(fiber_run(loop, "outer", spawns, TEXT("i")), OK);
	assert_string_equal(trace, "o");
	drain();
	assert_string_equal(trace, "oi");
}

static void sleeps(void *arg)
{
	assert_int_equal(sleep_ms(loop, (int64_t)(intptr_t)arg, never), OK);
	ended++;
}

static void ten_thousand_fibers_sleep_and_end(void **state)
{
	struct fiber_stats s;

	(void)state;
	loop_clock_set(loop, 0, 0);
	for (intptr_t i = 0; i < MANY; i++)
		assert_int_equal(fiber_spawn(loop, "sleeper", sleeps, (void *)(1 + i % 100)), OK);
	while (fiber_stats().live > 0 && loop_mono_us(loop) <= 100000) {
		loop_turn(loop, 0);
		loop_turn(loop, 0);
		loop_turn(loop, 0);
		loop_clock_set(loop, loop_mono_us(loop) + 1000, 0);
	}
	s = fiber_stats();
	assert_int_equal(ended, MANY);
	assert_int_equal(s.live, 0);
	assert_true(s.peak >= MANY);
	assert_true(s.stacks_pooled > 0 && s.stacks_pooled < 4000);
	assert_true(s.stack_high_water_bytes >= 4096 && s.stack_high_water_bytes < 256 * 1024);
}

static void above_the_limit_a_fiber_is_refused(void **state)
{
	(void)state;
	fiber_limit(2);
	assert_int_equal(fiber_spawn(loop, "1", says, TEXT("1")), OK);
	assert_int_equal(fiber_spawn(loop, "2", says, TEXT("2")), OK);
	assert_int_equal(fiber_spawn(loop, "3", says, TEXT("3")), ERR_OVERLOAD);
	assert_int_equal(fiber_run(loop, "3", says, TEXT("3")), ERR_OVERLOAD);
	drain();
	assert_int_equal(fiber_run(loop, "4", says, TEXT("4")), OK);
	assert_string_equal(trace, "124");
}

static void lists(void *ctx, const char *label, int64_t age_us, const char *waits_for)
{
	char line[128];

	snprintf(line, sizeof(line), "%s %lld %s;", label, (long long)age_us, waits_for);
	strcat(ctx, line);
}

static void relabels(void *arg)
{
	fiber_label(arg);
	IGNORE(sleep_ms(loop, 1000, never)); /* how it ends does not matter */
}

static void the_living_are_listed_with_label_age_and_what_they_wait_for(void **state)
{
	char list[512] = "";

	(void)state;
	loop_clock_set(loop, 0, 0);
	assert_int_equal(fiber_run(loop, "route", relabels, TEXT("homework")), OK);
	loop_clock_set(loop, 500, 0);
	assert_int_equal(fiber_spawn(loop, "young", says, TEXT("")), OK);
	fiber_each(lists, list);
	assert_string_equal(list, "young 0 ready;homework 500 sleep;");
	loop_clock_set(loop, 2000000, 0);
	drain();
}

static void drain_gives_up_at_its_deadline(void **state)
{
	(void)state;
	loop_clock_set(loop, 0, 0);
	assert_int_equal(fiber_spawn(loop, "sleeper", sleeps, (void *)(intptr_t)1000), OK);
	assert_false(fiber_drain(loop, deadline_in(loop, 20)));
	loop_clock_set(loop, 1000000, 0);
	drain();
}

static struct fiber *sleeper;

static void sleeps_until_cancelled(void *arg)
{
	(void)arg;
	sleeper = fiber_self();
	assert_false(fiber_is_cancelled());
	assert_int_equal(sleep_ms(loop, 1000000, never), ERR_CANCELLED);
	assert_true(fiber_is_cancelled());
	assert_int_equal(sleep_ms(loop, 1, never), ERR_CANCELLED);
	ended++;
}

static void a_cancelled_fiber_wakes_and_never_waits_again(void **state)
{
	(void)state;
	assert_int_equal(fiber_run(loop, "sleeper", sleeps_until_cancelled, NULL), OK);
	fiber_cancel(sleeper);
	fiber_cancel(sleeper);
	drain();
	assert_int_equal(ended, 1);
	/* Its stack and record serve again, without the cancellation. */
	assert_int_equal(fiber_run(loop, "next", sleeps, (void *)(intptr_t)1), OK);
	drain();
	assert_int_equal(ended, 2);
}

static __attribute__((noinline)) unsigned dig(unsigned depth)
{
	volatile char room[1024];

	room[depth % sizeof(room)] = (char)depth;
	return depth == 0 ? (unsigned)room[0] : dig(depth - 1) + (unsigned)room[depth % sizeof(room)];
}

static void digs(void *arg)
{
	ended += dig((unsigned)(uintptr_t)arg) > 0;
}

static void a_stack_overflow_hits_the_guard_page(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	assert_int_equal(fiber_run(loop, "fits", digs, (void *)(uintptr_t)50), OK);
	pid = fork();
	if (pid == 0) {
		/* Whoever reports the fault would do so on the very stack that is full. */
		signal(SIGSEGV, SIG_DFL);
		if (!freopen("/dev/null", "w", stderr))
			_exit(0);
		IGNORE(fiber_run(loop, "digger", digs, (void *)(uintptr_t)100000)); /* it does not come back */
		_exit(0);
	}
	waitpid(pid, &status, 0);
	assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) != 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, fresh, stale)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(run_runs_now_and_spawn_runs_in_the_next_turn),
		T(a_fiber_starts_others_that_run_after_it),
		T(ten_thousand_fibers_sleep_and_end),
		T(above_the_limit_a_fiber_is_refused),
		T(the_living_are_listed_with_label_age_and_what_they_wait_for),
		T(drain_gives_up_at_its_deadline),
		T(a_cancelled_fiber_wakes_and_never_waits_again),
		T(a_stack_overflow_hits_the_guard_page),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
