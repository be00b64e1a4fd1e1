/* SPDX-License-Identifier: Apache-2.0 */
/* The pool of threads: results, the bound of its queue, deadlines of queued and of running jobs, and who frees what. */
#include "unit/unit.h"

#include <pthread.h>
#include <stdatomic.h>

#include "io/fiber.h"
#include "io/work.h"

static struct loop *loop;
static struct work_pool *pool;
static atomic_uint started;
static unsigned released;

static const struct deadline never = {INT64_MAX};

/* A door that holds a job until the test opens it. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool open;
} door = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false};

static void door_set(bool open)
{
	pthread_mutex_lock(&door.lock);
	door.open = open;
	pthread_cond_broadcast(&door.changed);
	pthread_mutex_unlock(&door.lock);
}

static void door_pass(void)
{
	pthread_mutex_lock(&door.lock);
	while (!door.open)
		pthread_cond_wait(&door.changed, &door.lock);
	pthread_mutex_unlock(&door.lock);
}

static int fresh(void **state)
{
	(void)state;
	atomic_store(&started, 0);
	released = 0;
	door_set(true);
	loop = loop_new();
	pool = work_pool_new(loop, "test", 1, 2);
	return 0;
}

static int stale(void **state)
{
	(void)state;
	assert_int_equal(fiber_stats().live, 0);
	pool = work_pool_free(pool);
	loop = loop_free(loop);
	return 0;
}

struct task {
	int in, out;
	enum err result;
};

static enum err twice(void *arg)
{
	struct task *t = arg;

	atomic_fetch_add(&started, 1);
	door_pass();
	t->out = t->in * 2;
	return t->result;
}

static void take(void *arg, void *to)
{
	*(int *)to = ((struct task *)arg)->out;
}

static void release(void *arg)
{
	released++;
	free(arg);
}

struct caller {
	int in, out;
	enum err job_result;
	int64_t ms;
	enum err result;
	struct fiber *fiber;
};

static void caller_main(void *arg)
{
	struct caller *c = arg;
	struct task *t = malloc(sizeof(*t));

	*t = (struct task){c->in, 0, c->job_result};
	c->fiber = fiber_self();
	c->result = work_run(pool, (struct work_job){twice, take, release, t, &c->out}, c->ms ? deadline_in(loop, c->ms) : never);
	c->fiber = NULL;
}

static void call(struct caller *c)
{
	c->result = ERR_BUG;
	c->out = -1;
	assert_int_equal(fiber_run(loop, "caller", caller_main, c), OK);
}

static void drain(void)
{
	assert_true(fiber_drain(loop, (struct deadline){loop_mono_us(loop) + 20000000}));
}

static void wait_for_started(unsigned n)
{
	while (atomic_load(&started) < n)
		sched_yield();
}

/* Answers of jobs whose fiber has left still come through the loop. */
static void wait_for_released(unsigned n)
{
	for (int i = 0; released < n && i < 1000; i++)
		loop_turn(loop, 10000);
	assert_int_equal(released, n);
}

static void a_job_returns_its_result(void **state)
{
	struct caller c = {.in = 21};

	(void)state;
	call(&c);
	drain();
	assert_int_equal(c.result, OK);
	assert_int_equal(c.out, 42);
	assert_int_equal(released, 1);
	assert_int_equal(work_stats(pool).done, 1);
}

static void an_outcome_is_collected_and_a_fault_is_not(void **state)
{
	struct caller outcome = {.in = 1, .job_result = ERR_CONFLICT}, fault = {.in = 1, .job_result = ERR_IO};

	(void)state;
	call(&outcome);
	call(&fault);
	drain();
	assert_int_equal(outcome.result, ERR_CONFLICT);
	assert_int_equal(outcome.out, 2);
	assert_int_equal(fault.result, ERR_IO);
	assert_int_equal(fault.out, -1);
	assert_int_equal(released, 2);
}

static void a_full_queue_refuses_at_once(void **state)
{
	struct caller c[4] = {{.in = 1}, {.in = 2}, {.in = 3}, {.in = 4}};

	(void)state;
	door_set(false);
	call(&c[0]);
	wait_for_started(1);
	call(&c[1]);
	call(&c[2]);
	call(&c[3]);
	assert_int_equal(c[3].result, ERR_OVERLOAD);
	assert_int_equal(released, 1);
	assert_int_equal(work_stats(pool).queued, 2);
	assert_int_equal(work_stats(pool).running, 1);
	assert_int_equal(work_stats(pool).refused, 1);
	door_set(true);
	drain();
	assert_int_equal(c[2].result, OK);
	assert_int_equal(c[2].out, 6);
	assert_int_equal(released, 4);
}

static void a_job_whose_deadline_passed_in_the_queue_is_not_started(void **state)
{
	struct caller first = {.in = 1}, late = {.in = 2, .ms = 50};

	(void)state;
	loop_clock_set(loop, 1000000, 0);
	door_set(false);
	call(&first);
	wait_for_started(1);
	call(&late);
	loop_clock_set(loop, 1050000, 0);
	loop_turn(loop, 0);
	assert_int_equal(late.result, ERR_TIMEOUT);
	assert_int_equal(released, 1);
	assert_int_equal(work_stats(pool).queued, 0);
	door_set(true);
	drain();
	assert_int_equal(atomic_load(&started), 1);
}

static void the_thread_too_sees_that_a_deadline_has_passed(void **state)
{
	struct caller first = {.in = 1}, late = {.in = 2, .ms = 5};

	(void)state;
	door_set(false);
	call(&first);
	wait_for_started(1);
	call(&late);
	/* The loop is kept from noticing while the thread comes to the job too late. */
	nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
	door_set(true);
	while (work_stats(pool).done < 2)
		sched_yield();
	drain();
	assert_int_equal(late.result, ERR_TIMEOUT);
	assert_int_equal(atomic_load(&started), 1);
	assert_int_equal(released, 2);
}

static void a_running_job_outlives_its_caller(void **state)
{
	struct caller c = {.in = 1, .ms = 50};

	(void)state;
	loop_clock_set(loop, 0, 0);
	door_set(false);
	call(&c);
	wait_for_started(1);
	loop_clock_set(loop, 50000, 0);
	loop_turn(loop, 0);
	assert_int_equal(c.result, ERR_TIMEOUT);
	assert_int_equal(released, 0);
	door_set(true);
	wait_for_released(1);
	assert_int_equal(c.out, -1);
}

static void a_cancelled_caller_takes_its_job_out_of_the_queue(void **state)
{
	struct caller first = {.in = 1}, second = {.in = 2};

	(void)state;
	door_set(false);
	call(&first);
	wait_for_started(1);
	call(&second);
	fiber_cancel(second.fiber);
	loop_turn(loop, 0);
	assert_int_equal(second.result, ERR_CANCELLED);
	assert_int_equal(released, 1);
	door_set(true);
	drain();
	assert_int_equal(atomic_load(&started), 1);
}

static void *opens_later(void *arg)
{
	nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
	door_set(true);
	return arg;
}

static void freeing_the_pool_waits_for_what_runs_and_cancels_what_is_queued(void **state)
{
	struct caller running = {.in = 1}, queued = {.in = 2};
	pthread_t thread;

	(void)state;
	door_set(false);
	call(&running);
	wait_for_started(1);
	call(&queued);
	pthread_create(&thread, NULL, opens_later, NULL);
	pool = work_pool_free(pool);
	pthread_join(thread, NULL);
	drain();
	assert_int_equal(running.result, OK);
	assert_int_equal(running.out, 2);
	assert_int_equal(queued.result, ERR_CANCELLED);
	assert_int_equal(released, 2);
}

static void a_waiter_whose_deadline_passes_after_the_pool_is_gone_is_safe(void **state)
{
	struct caller c = {.in = 1, .ms = 50};

	(void)state;
	loop_clock_set(loop, 0, 0);
	call(&c);
	wait_for_started(1);
	pool = work_pool_free(pool);
	fiber_cancel(c.fiber);
	drain();
	wait_for_released(1);
}

static void many_jobs_on_four_threads_all_return(void **state)
{
	enum { N = 2000 };
	static struct caller c[N];

	(void)state;
	work_pool_free(pool);
	pool = work_pool_new(loop, "many", 4, N);
	for (int i = 0; i < N; i++) {
		c[i] = (struct caller){.in = i};
		call(&c[i]);
	}
	drain();
	for (int i = 0; i < N; i++) {
		assert_int_equal(c[i].result, OK);
		assert_int_equal(c[i].out, 2 * i);
	}
	assert_int_equal(released, N);
}

#define T(name) cmocka_unit_test_setup_teardown(name, fresh, stale)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_job_returns_its_result),
		T(an_outcome_is_collected_and_a_fault_is_not),
		T(a_full_queue_refuses_at_once),
		T(a_job_whose_deadline_passed_in_the_queue_is_not_started),
		T(the_thread_too_sees_that_a_deadline_has_passed),
		T(a_running_job_outlives_its_caller),
		T(a_cancelled_caller_takes_its_job_out_of_the_queue),
		T(freeing_the_pool_waits_for_what_runs_and_cancels_what_is_queued),
		T(a_waiter_whose_deadline_passes_after_the_pool_is_gone_is_safe),
		T(many_jobs_on_four_threads_all_return),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
