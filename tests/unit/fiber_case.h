/* SPDX-License-Identifier: Apache-2.0 */
/* Tests that run on a fiber: FIBER_TEST(name) { … CHECK(…); }. The program makes and frees `loop` in its setup and teardown. */
#ifndef S24_UNIT_FIBER_CASE_H
#define S24_UNIT_FIBER_CASE_H

#include "unit/unit.h"

#include "base/timefmt.h"
#include "io/fiber.h"

static struct loop *loop;

/* A failed assertion must not jump off a fiber's stack: it is noted, the fiber ends, and the test fails on its own stack. */
static const char *failure;
static int failure_line;
#define CHECK(cond)                              \
	do {                                     \
		if (!(cond)) {                   \
			failure = #cond;         \
			failure_line = __LINE__; \
			return;                  \
		}                                \
	} while (0)
#define FIBER_TEST(name)                    \
	static void name##_body(void *arg); \
	static void name(void **state)      \
	{                                   \
		(void)state;                \
		run(name##_body);           \
	}                                   \
	static void name##_body(void *arg __attribute__((unused)))

static inline void run(fiber_fn body)
{
	failure = NULL;
	assert_int_equal(fiber_run(loop, "test", body, NULL), OK);
	assert_true(fiber_drain(loop, (struct deadline){loop_mono_us(loop) + 90 * US_PER_S}));
	if (failure != NULL)
		fail_msg("line %d: %s", failure_line, failure);
}

#endif
