/* SPDX-License-Identifier: Apache-2.0 */
/* Turns, timers on a moved clock, deferred work, posts from other threads, and signals. */
#include "unit/unit.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "io/loop.h"

/* What a callback is given is not const, and what marks the trace is. */
#define TEXT(literal) ((void *)(uintptr_t)(literal))

static char trace[64];

static void mark(void *ctx)
{
	strncat(trace, ctx, sizeof(trace) - strlen(trace) - 1);
}

static int fresh(void **state)
{
	trace[0] = '\0';
	*state = loop_new();
	return 0;
}

static int stale(void **state)
{
	loop_free(*state);
	return 0;
}

static void timers_fire_in_the_order_of_their_time(void **state)
{
	struct loop *loop = *state;
	struct timer a = {0}, b = {0}, c = {0}, d = {0};

	loop_clock_set(loop, 1000000, 0);
	timer_set(&c, loop, 3000, mark, TEXT("c"));
	timer_set(&a, loop, 1000, mark, TEXT("a"));
	timer_set(&d, loop, 4000, mark, TEXT("d"));
	timer_set(&b, loop, 2000, mark, TEXT("b"));
	loop_turn(loop, 0);
	assert_string_equal(trace, "");
	loop_clock_set(loop, 1001000, 0);
	loop_turn(loop, 0);
	assert_string_equal(trace, "a");
	loop_clock_set(loop, 1004000, 0);
	loop_turn(loop, 0);
	assert_string_equal(trace, "abcd");
}

static void a_timer_that_is_set_again_moves(void **state)
{
	struct loop *loop = *state;
	struct timer a = {0}, b = {0};

	loop_clock_set(loop, 0, 0);
	timer_set(&a, loop, 10, mark, TEXT("a"));
	timer_set(&b, loop, 20, mark, TEXT("b"));
	timer_set(&a, loop, 30, mark, TEXT("A"));
	timer_set(&b, loop, 5, mark, TEXT("B"));
	loop_clock_set(loop, 29, 0);
	loop_turn(loop, 0);
	assert_string_equal(trace, "B");
	loop_clock_set(loop, 30, 0);
	loop_turn(loop, 0);
	assert_string_equal(trace, "BA");
}

static void a_stopped_timer_does_not_fire(void **state)
{
	struct loop *loop = *state;
	struct timer t[100] = {0};

	loop_clock_set(loop, 0, 0);
	for (int i = 0; i < 100; i++)
		timer_set(&t[i], loop, (i * 37) % 100, mark, TEXT(i % 10 ? "x" : "."));
	for (int i = 0; i < 100; i++)
		if (i % 10)
			timer_stop(&t[i]);
	timer_stop(&t[1]);
	loop_clock_set(loop, 1000, 0);
	loop_turn(loop, 0);
	assert_string_equal(trace, "..........");
}

static int64_t last_us;
static unsigned fired;

static void in_order(void *ctx)
{
	struct timer *t = ctx;

	assert_true(t->at_us >= last_us);
	last_us = t->at_us;
	fired++;
}

static void thousands_of_timers_keep_their_order(void **state)
{
	enum { N = 5000 };
	static struct timer t[N];
	struct loop *loop = *state;
	uint64_t seed = 7;
	unsigned stopped = 0;

	loop_clock_set(loop, 0, 0);
	for (int i = 0; i < N; i++)
		timer_set(&t[i], loop, (int64_t)(unit_random(&seed) % 100000), in_order, &t[i]);
	for (int i = 0; i < N; i += 3)
		timer_set(&t[i], loop, (int64_t)(unit_random(&seed) % 100000), in_order, &t[i]);
	for (int i = 0; i < N; i += 7, stopped++)
		timer_stop(&t[i]);
	last_us = 0;
	fired = 0;
	for (int64_t now = 0; now <= 100000; now += 1000) {
		loop_clock_set(loop, now, 0);
		loop_turn(loop, 0);
	}
	assert_int_equal(fired, N - stopped);
}

struct again {
	struct loop *loop;
	struct timer timer;
};

static void again(void *ctx)
{
	struct again *a = ctx;

	mark(TEXT("x"));
	timer_set(&a->timer, a->loop, 0, again, a);
}

static void a_timer_that_sets_itself_for_now_fires_once_a_turn(void **state)
{
	struct again a = {.loop = *state};

	timer_set(&a.timer, a.loop, 0, again, &a);
	loop_turn(a.loop, 0);
	loop_turn(a.loop, 0);
	assert_string_equal(trace, "xx");
	timer_stop(&a.timer);
}

static void stop(void *ctx)
{
	loop_stop(ctx);
}

static void a_real_timer_ends_the_sleep(void **state)
{
	struct loop *loop = *state;
	struct timer late = {0}, soon = {0};
	int64_t before = loop_mono_us(loop);

	timer_set(&late, loop, 60000000, mark, TEXT("late"));
	timer_set(&soon, loop, 20000, stop, loop);
	loop_run(loop);
	assert_true(loop_mono_us(loop) - before >= 20000);
	assert_true(loop_mono_us(loop) - before < 20000000);
	assert_string_equal(trace, "");
}

static void the_clock_stands_within_a_turn_and_moves_between_turns(void **state)
{
	struct loop *loop = *state;
	int64_t mono = loop_mono_us(loop), real = loop_real_us(loop);

	usleep(2000);
	assert_int_equal(loop_mono_us(loop), mono);
	assert_int_equal(loop_real_us(loop), real);
	loop_turn(loop, 0);
	assert_true(loop_mono_us(loop) >= mono + 2000);
	assert_true(real > INT64_C(1600000000) * 1000000);
}

struct chain {
	struct loop *loop;
	struct deferred first, second;
};

static void defer_second(void *ctx)
{
	struct chain *c = ctx;

	mark(TEXT("1"));
	loop_defer(c->loop, &c->second);
}

static void deferred_work_runs_once_before_the_loop_sleeps(void **state)
{
	struct chain c = {.loop = *state, .first = {.fn = defer_second, .ctx = &c}, .second = {.fn = mark, .ctx = TEXT("2")}};
	struct timer t = {0};

	timer_set(&t, c.loop, 60000000, mark, TEXT("late"));
	loop_defer(c.loop, &c.first);
	loop_defer(c.loop, &c.first);
	loop_turn(c.loop, INT64_MAX);
	assert_string_equal(trace, "12");
	timer_stop(&t);
}

static void undeferred_work_does_not_run(void **state)
{
	struct loop *loop = *state;
	struct deferred d[3];

	for (int removed = 0; removed < 3; removed++) {
		trace[0] = '\0';
		for (int i = 0; i < 3; i++) {
			static const char *const names[] = {"a", "b", "c"};

			d[i] = (struct deferred){.fn = mark, .ctx = TEXT(names[i])};
			loop_defer(loop, &d[i]);
		}
		loop_undefer(loop, &d[removed]);
		loop_undefer(loop, &d[removed]);
		loop_defer(loop, &d[removed]);
		loop_turn(loop, 0);
		/* It is queued once more, behind the others. */
		assert_int_equal(strlen(trace), 3);
		assert_int_equal(trace[2], 'a' + removed);
	}
}

enum { POSTERS = 4, POSTS = 5000 };
struct poster {
	struct loop *loop;
	pthread_t thread;
	unsigned seen;
};
struct note {
	struct poster *poster;
	unsigned number;
};
static unsigned posts_seen;

static void posted(void *ctx)
{
	struct note *note = ctx;

	/* Of one thread, in its order. */
	assert_int_equal(note->number, note->poster->seen++);
	if (++posts_seen == POSTERS * POSTS)
		loop_stop(note->poster->loop);
	free(note);
}

static void *poster_main(void *ctx)
{
	struct poster *p = ctx;

	for (unsigned i = 0; i < POSTS; i++) {
		struct note *note = malloc(sizeof(*note));

		*note = (struct note){p, i};
		loop_post(p->loop, posted, note);
	}
	return NULL;
}

static void posts_of_four_threads_all_arrive_in_each_threads_order(void **state)
{
	struct poster p[POSTERS] = {0};

	posts_seen = 0;
	for (int i = 0; i < POSTERS; i++) {
		p[i].loop = *state;
		pthread_create(&p[i].thread, NULL, poster_main, &p[i]);
	}
	loop_run(*state);
	for (int i = 0; i < POSTERS; i++) {
		pthread_join(p[i].thread, NULL);
		assert_int_equal(p[i].seen, POSTS);
	}
}

static void what_was_posted_runs_even_when_the_loop_ends(void **state)
{
	struct loop *loop = loop_new();

	(void)state;
	loop_post(loop, mark, TEXT("p"));
	loop_free(loop);
	assert_string_equal(trace, "p");
}

static void a_signal_is_handled_on_the_loop(void **state)
{
	loop_on_signal(*state, SIGHUP, mark, TEXT("h"));
	loop_on_signal(*state, SIGTERM, stop, *state);
	kill(getpid(), SIGHUP);
	kill(getpid(), SIGTERM);
	loop_run(*state);
	loop_turn(*state, 0);
	assert_string_equal(trace, "h");
}

static void a_broken_pipe_is_an_error_and_not_a_signal(void **state)
{
	int fd[2];

	(void)state;
	assert_int_equal(pipe(fd), 0);
	close(fd[0]);
	assert_int_equal(write(fd[1], "x", 1), -1);
	close(fd[1]);
}

#define T(name) cmocka_unit_test_setup_teardown(name, fresh, stale)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(timers_fire_in_the_order_of_their_time),
		T(a_timer_that_is_set_again_moves),
		T(a_stopped_timer_does_not_fire),
		T(thousands_of_timers_keep_their_order),
		T(a_timer_that_sets_itself_for_now_fires_once_a_turn),
		T(a_real_timer_ends_the_sleep),
		T(the_clock_stands_within_a_turn_and_moves_between_turns),
		T(deferred_work_runs_once_before_the_loop_sleeps),
		T(undeferred_work_does_not_run),
		T(posts_of_four_threads_all_arrive_in_each_threads_order),
		T(what_was_posted_runs_even_when_the_loop_ends),
		T(a_signal_is_handled_on_the_loop),
		T(a_broken_pipe_is_an_error_and_not_a_signal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
