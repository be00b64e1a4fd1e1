/* SPDX-License-Identifier: Apache-2.0 */
/* The error table. */
#include "unit/unit.h"

#include "base/err.h"

static const enum err all[] = {
#define ROW(symbol, value, status, code, title) symbol,
	ERR_TABLE(ROW)
#undef ROW
};

static void every_error_has_a_name_a_code_and_a_status(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		assert_true(strlen(err_name(all[i])) > 1);
		assert_true(strlen(err_code(all[i])) > 1);
		assert_true(strlen(err_title(all[i])) > 1);
		assert_true(err_status(all[i]) == 200 || (err_status(all[i]) >= 400 && err_status(all[i]) < 600));
	}
}

static void codes_on_the_wire_are_unique(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		for (size_t j = 0; j < i; j++)
			assert_string_not_equal(err_code(all[i]), err_code(all[j]));
	}
}

static void faults_are_5xx_and_outcomes_4xx(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		if (all[i] != OK && all[i] != ERR_NOT_CACHED) /* what the client asked for is a 504 (RFC 9111 5.2.1.7) */
			assert_int_equal(err_status(all[i]) / 100, err_is_fault(all[i]) ? 5 : 4);
	}
	assert_false(err_is_fault(OK));
}

static void known_rows_read_as_written(void **state)
{
	(void)state;
	assert_string_equal(err_name(ERR_CONFLICT), "ERR_CONFLICT");
	assert_string_equal(err_code(ERR_CONFLICT), "conflict");
	assert_int_equal(err_status(ERR_CONFLICT), 409);
	assert_string_equal(err_name(OK), "OK");
}

static void a_value_outside_the_table_is_an_internal_error(void **state)
{
	(void)state;
	assert_int_equal(err_status((enum err)77), 500);
	assert_string_equal(err_code((enum err) - 77), "internal");
	assert_non_null(err_name((enum err)77));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_error_has_a_name_a_code_and_a_status),
		cmocka_unit_test(codes_on_the_wire_are_unique),
		cmocka_unit_test(faults_are_5xx_and_outcomes_4xx),
		cmocka_unit_test(known_rows_read_as_written),
		cmocka_unit_test(a_value_outside_the_table_is_an_internal_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
