/* SPDX-License-Identifier: Apache-2.0 */
/* Names that came by lately: how many are remembered, and what is new again. */
#include "unit/unit.h"

#include "base/recent.h"
#include "base/str.h"

static bool add(struct recent *r, int i)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", i);
	return recent_add(r, str_of(text));
}

static bool has(const struct recent *r, int i)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", i);
	return recent_has(r, str_of(text));
}

static void a_name_is_new_once(void **state)
{
	struct recent r;

	(void)state;
	recent_init(&r, 10);
	assert_false(has(&r, 1));
	assert_true(add(&r, 1));
	assert_false(add(&r, 1));
	assert_true(has(&r, 1));
	assert_false(has(&r, 2));
	recent_done(&r);
}

static void the_last_ones_are_remembered_and_the_oldest_are_not(void **state)
{
	struct recent r;

	(void)state;
	recent_init(&r, 100);
	for (int i = 0; i < 10000; i++) {
		assert_true(add(&r, i));
		for (int k = i > 100 ? i - 100 : 0; k <= i; k++)
			assert_true(has(&r, k));
	}
	assert_false(has(&r, 0));
	assert_true(r.cap <= 256);
	recent_done(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_name_is_new_once),
		cmocka_unit_test(the_last_ones_are_remembered_and_the_oldest_are_not),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
