/* SPDX-License-Identifier: Apache-2.0 */
/* Failpoints: what the environment arms strikes as often as it says; the rest does nothing. */
#include "unit/unit.h"

#include <sys/wait.h>
#include <unistd.h>

#include "base/failpoint.h"
#include "base/timefmt.h"

static void points_strike_as_often_as_armed(void **state)
{
	int struck = 0;

	(void)state;
#ifndef S24_FAILPOINTS
	skip();
#endif
	assert_true(FAILPOINT_ARMED("a.twice"));
	for (int i = 0; i < 5; i++)
		struck += FAILPOINT_ERR("a.twice");
	assert_int_equal(struck, 2);
	assert_false(FAILPOINT_ARMED("a.twice"));
	for (int i = 0; i < 5; i++)
		struck += FAILPOINT_ERR("a.never") + FAILPOINT_ERR("not.armed");
	assert_int_equal(struck, 2);
	for (int i = 0; i < 1000; i++)
		struck += FAILPOINT_ERR("a.half");
	assert_in_range(struck, 400, 600);
}

static void sleeping_takes_its_time_and_goes_on(void **state)
{
	int64_t before = clock_mono_us();

	(void)state;
#ifndef S24_FAILPOINTS
	skip();
#endif
	assert_false(FAILPOINT_ERR("a.sleep"));
	assert_true(clock_mono_us() - before >= 20 * US_PER_MS);
}

static void a_killed_process_is_dead_at_once(void **state)
{
	int status = 0;
	pid_t pid;

	(void)state;
#ifndef S24_FAILPOINTS
	skip();
#endif
	pid = fork();
	if (pid == 0) {
		FAILPOINT("a.kill");
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGKILL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(points_strike_as_often_as_armed),
		cmocka_unit_test(sleeping_takes_its_time_and_goes_on),
		cmocka_unit_test(a_killed_process_is_dead_at_once),
	};

	setenv("S24_FAILPOINTS", "a.twice=err:1:2,a.never=err:0, a.half=err:0.5,a.sleep=sleep(20),a.kill=kill", 1);
	setenv("S24_FAILPOINT_SEED", "7", 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
