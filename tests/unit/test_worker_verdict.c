/* SPDX-License-Identifier: Apache-2.0 */
/* What a failure means, how long one waits, the breaker: the worker's small rules. */
#include "unit/unit.h"

#include "verdict.h"

static void each_class_has_its_verdict(void **state)
{
	static const struct {
		enum err err;
		const char *sqlstate;
		enum verdict want;
	} cases[] = {
		{ERR_DB, "", VERDICT_TRANSIENT},
		{ERR_DB, "08006", VERDICT_TRANSIENT},
		{ERR_DB, "57P01", VERDICT_TRANSIENT},
		{ERR_DB, "57P03", VERDICT_TRANSIENT},
		{ERR_DB, "53100", VERDICT_TRANSIENT},
		{ERR_DB, "53300", VERDICT_TRANSIENT},
		{ERR_DB, "25P03", VERDICT_TRANSIENT},
		{ERR_UNCERTAIN, "", VERDICT_TRANSIENT},
		{ERR_UNCERTAIN, "57P01", VERDICT_TRANSIENT},
		{ERR_DB, "40001", VERDICT_CONTENTION},
		{ERR_DB, "40P01", VERDICT_CONTENTION},
		{ERR_TIMEOUT, "55P03", VERDICT_CONTENTION},
		{ERR_CONFLICT, "23503", VERDICT_PARENT},
		{ERR_INVALID, "22001", VERDICT_PERMANENT},
		{ERR_INVALID, "22003", VERDICT_PERMANENT},
		{ERR_INVALID, "23502", VERDICT_PERMANENT},
		{ERR_INVALID, "23514", VERDICT_PERMANENT},
		{ERR_EXISTS, "23505", VERDICT_PERMANENT},
		{ERR_BUG, "42P01", VERDICT_PERMANENT},
		{ERR_BUG, "0A000", VERDICT_PERMANENT},
		{ERR_TIMEOUT, "57014", VERDICT_UNKNOWN},
		{ERR_BUG, "XX000", VERDICT_UNKNOWN},
		{ERR_CONFLICT, "23P01", VERDICT_UNKNOWN},
		{ERR_CONFLICT, "P0001", VERDICT_UNKNOWN},
		{ERR_BUG, "", VERDICT_UNKNOWN},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		if (verdict_of(cases[i].err, cases[i].sqlstate) != cases[i].want)
			fail_msg("%s \"%s\": %d", err_name(cases[i].err), cases[i].sqlstate,
				 (int)verdict_of(cases[i].err, cases[i].sqlstate));
}

static void waiting_grows_with_jitter_and_has_an_end(void **state)
{
	(void)state;
	assert_int_equal(backoff_transient_ms(0, 0), 200);
	assert_int_equal(backoff_transient_ms(1, 399), 400 + 399);
	assert_int_equal(backoff_transient_ms(2, 800), 800);
	assert_int_equal(backoff_counted_ms(0, 0), 1000);
	assert_int_equal(backoff_counted_ms(3, 0), 8000);
	assert_int_equal(backoff_counted_ms(11, 0), 180000);
	assert_true(backoff_counted_ms(INT64_MAX, UINT64_MAX) <= 225000);
	assert_true(backoff_away_ms(UINT64_MAX) <= 60000);
}

static void twelve_tries_without_a_parent_are_a_quarter_of_an_hour(void **state)
{
	int64_t sum = 0;

	(void)state;
	for (int64_t attempts = 0; attempts + 1 < TRIES_DEAD; attempts++)
		sum += backoff_counted_ms(attempts, 0);
	assert_in_range(sum, 12 * 60000, 15 * 60000);
}

static void a_breaker_opens_is_probed_and_closes(void **state)
{
	struct breaker b = {0};

	(void)state;
	assert_false(breaker_wants_probe(&b, 1000));
	breaker_trip(&b, 1000);
	breaker_trip(&b, 2000);
	assert_true(b.open);
	assert_int_equal(b.opened, 1);
	assert_false(breaker_wants_probe(&b, 2000));
	assert_true(breaker_wants_probe(&b, 2000 + BREAKER_PROBE_US));
	breaker_probed(&b, false, 2000 + BREAKER_PROBE_US);
	assert_true(b.open);
	assert_false(breaker_wants_probe(&b, 2001 + BREAKER_PROBE_US));
	breaker_probed(&b, true, 2000 + 2 * BREAKER_PROBE_US);
	assert_false(b.open);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_class_has_its_verdict),
		cmocka_unit_test(waiting_grows_with_jitter_and_has_an_end),
		cmocka_unit_test(twelve_tries_without_a_parent_are_a_quarter_of_an_hour),
		cmocka_unit_test(a_breaker_opens_is_probed_and_closes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
