/* SPDX-License-Identifier: Apache-2.0 */
/* Dates and instants, against the C library's calendar. */
#include "unit/unit.h"

#include <time.h>

#include "base/str.h"
#include "base/timefmt.h"

enum { FIRST_DAY = -719162, LAST_DAY = 2932896 };

static void every_day_of_9999_years_agrees_with_the_c_library(void **state)
{
	(void)state;
	for (int32_t day = FIRST_DAY; day <= LAST_DAY; day++) {
		time_t t = (time_t)day * 86400;
		struct tm tm;
		int y, m, d;

		assert_non_null(gmtime_r(&t, &tm));
		date_split(day, &y, &m, &d);
		if (y != tm.tm_year + 1900 || m != tm.tm_mon + 1 || d != tm.tm_mday || date_join(y, m, d) != day)
			fail_msg("day %d: %d-%d-%d", day, y, m, d);
	}
}

static void every_day_has_text_that_reads_back(void **state)
{
	int32_t back;
	char text[DATE_TEXT + 1];

	(void)state;
	for (int32_t day = FIRST_DAY; day <= LAST_DAY; day++) {
		date_text(day, text);
		if (!date_parse((struct str){text, DATE_TEXT}, &back) || back != day)
			fail_msg("day %d: %s", day, text);
	}
	date_text(0, text);
	assert_string_equal(text, "1970-01-01");
	date_text(FIRST_DAY, text);
	assert_string_equal(text, "0001-01-01");
	date_text(LAST_DAY, text);
	assert_string_equal(text, "9999-12-31");
}

static void a_day_knows_its_weekday(void **state)
{
	(void)state;
	assert_int_equal(date_weekday(date_join(2026, 11, 23)), 0);
	assert_int_equal(date_weekday(date_join(2026, 11, 22)), 6);
	assert_int_equal(date_weekday(0), 3);
	assert_int_equal(date_weekday(-4), 6); /* before 1970, and no negative rest */
	assert_int_equal(date_weekday(INT32_MAX), (INT32_MAX % 7 + 3) % 7);
}

static void days_outside_the_years_are_clamped_in_text(void **state)
{
	char text[DATE_TEXT + 1];

	(void)state;
	date_text(INT32_MIN, text);
	assert_string_equal(text, "0001-01-01");
	date_text(INT32_MAX, text);
	assert_string_equal(text, "9999-12-31");
}

static void months_and_days_carry_over(void **state)
{
	int y, m, d;

	(void)state;
	assert_int_equal(date_join(2026, 13, 1), date_join(2027, 1, 1));
	assert_int_equal(date_join(2026, 0, 15), date_join(2025, 12, 15));
	assert_int_equal(date_join(2026, -11, 1), date_join(2025, 1, 1));
	assert_int_equal(date_join(2024, 3, 0), date_join(2024, 2, 29));
	assert_int_equal(date_join(2026, 1, 366), date_join(2027, 1, 1));
	assert_int_equal(date_join(0, 3, 1), -719468);
	assert_int_equal(date_join(INT32_MAX, 1, 1), INT32_MAX);
	assert_int_equal(date_join(INT32_MIN, 1, 1), INT32_MIN);
	date_split(INT32_MIN, &y, &m, &d);
	assert_int_equal(date_join(y, m, d), INT32_MIN);
	date_split(INT32_MAX, &y, &m, &d);
	assert_int_equal(date_join(y, m, d), INT32_MAX);
}

static void dates_that_do_not_exist_are_refused(void **state)
{
	static const char *const bad[] = {"2026-02-29",  "1900-02-29",  "2100-02-29",  "2026-04-31", "2026-00-10", "2026-13-01",
					  "2026-01-00",  "2026-01-32",  "0000-01-01",  "2026-1-01",  "2026/01/01", "20260101",
					  "+026-01-01",  "2026-01-0a",  "2026-01-01 ", " 026-01-01", "2026-01--1", "",
					  "2026-01-011", "10000-01-01", "2026-01-1"};
	int32_t day = 5;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		if (date_parse(str_of(bad[i]), &day))
			fail_msg("%s was read", bad[i]);
	}
	assert_int_equal(day, 5);
	assert_true(date_parse(STR("2000-02-29"), &day));
	assert_true(date_parse(STR("2024-02-29"), &day));
	assert_int_equal(day, 19782);
}

static int64_t instant(const char *text)
{
	int64_t us = 0;

	if (!time_parse(str_of(text), &us))
		fail_msg("%s was not read", text);
	return us;
}

static void instants_of_rfc_3339_are_read(void **state)
{
	(void)state;
	assert_int_equal(instant("1970-01-01T00:00:00Z"), 0);
	assert_int_equal(instant("1969-12-31T23:59:59.999999Z"), -1);
	assert_int_equal(instant("1985-04-12T23:20:50.52Z"), INT64_C(482196050520000)); /* the RFC's examples */
	assert_int_equal(instant("1996-12-19T16:39:57-08:00"), instant("1996-12-20T00:39:57Z"));
	assert_int_equal(instant("1937-01-01T12:00:27.87+00:20"), instant("1937-01-01T11:40:27.870Z"));
	assert_int_equal(instant("2026-11-21t09:52:03z"), instant("2026-11-21T15:22:03+05:30"));
	assert_int_equal(instant("2026-11-21T09:52:03-00:00"), instant("2026-11-21T09:52:03Z"));
	assert_int_equal(instant("2026-11-21T09:52:03.1234569Z"), instant("2026-11-21T09:52:03.123456Z")); /* cut, not rounded */
	assert_int_equal(instant("2026-11-21T23:59:59.99999999999999999999999999Z"), instant("2026-11-21T23:59:59.999999Z"));
	assert_int_equal(instant("0001-01-01T00:00:00Z"), (int64_t)FIRST_DAY * 86400 * US_PER_S);
	assert_int_equal(instant("9999-12-31T23:59:59.999999Z"), ((int64_t)LAST_DAY + 1) * 86400 * US_PER_S - 1);
}

static void other_instants_are_refused(void **state)
{
	static const char *const bad[] = {
		"",
		"2026-11-21",
		"2026-11-21T09:52:03",  /* no offset */
		"2026-11-21 09:52:03Z", /* no T */
		"2026-11-21T09:52Z",    /* no seconds */
		"2026-11-21T24:00:00Z", /* the day has 24 hours: 00 to 23 */
		"2026-11-21T09:60:00Z",
		"2016-12-31T23:59:60Z", /* a leap second, refused on purpose */
		"2026-02-29T09:00:00Z",
		"2026-11-21T09:52:03.Z",
		"2026-11-21T09:52:03,5Z",
		"2026-11-21T09:52:03.-5Z",
		"2026-11-21T09:52:03ZZ",
		"2026-11-21T09:52:03Z ",
		"2026-11-21T09:52:03+0530",
		"2026-11-21T09:52:03+05",
		"2026-11-21T09:52:03+24:00",
		"2026-11-21T09:52:03+05:60",
		"2026-11-21T09:52:03+5:300",
		"2026-11-21T09:52:03 05:30",
		"2026-11-21T9:52:03Z0",
		"-026-11-21T09:52:03Z",
		"0000-12-31T23:59:59Z",
		"0001-01-01T00:00:00+00:01", /* in the year 0 */
		"9999-12-31T23:59:59-00:01", /* in the year 10000 */
		"9999-12-31T23:59:00-00:01", /* the first of its instants */
		"2026-11-21T+9:52:03Z",
		"2026-11-21T09:52:+3Z",
	};
	int64_t us = 5;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		if (time_parse(str_of(bad[i]), &us))
			fail_msg("%s was read", bad[i]);
	}
	assert_int_equal(us, 5);
}

static void no_cut_of_a_good_text_is_read_outside(void **state)
{
	static const char good[] = "2026-11-21T09:52:03.123456+05:30";
	int64_t us;

	(void)state;
	for (size_t n = 0; n < sizeof(good) - 1; n++) {
		char *exact = malloc(n + 1); /* so that the sanitizer sees a read behind the slice */
		char *p = exact + 1;

		memcpy(p, good, n);
		assert_false(time_parse((struct str){p, n}, &us));
		free(exact);
	}
}

static void text_agrees_with_the_c_library(void **state)
{
	uint64_t seed = 9;
	const int64_t first = (int64_t)FIRST_DAY * 86400, seconds = ((int64_t)LAST_DAY - FIRST_DAY + 1) * 86400;

	(void)state;
	for (int i = 0; i < 200000; i++) {
		time_t t = first + (int64_t)(unit_random(&seed) % (uint64_t)seconds);
		int64_t us = (int64_t)t * US_PER_S + (i % 2 ? (int64_t)(unit_random(&seed) % 1000000) : 0), back;
		char text[TIME_TEXT + 1], want[64], http[30];
		struct tm tm;
		size_t n = time_text(us, text);

		gmtime_r(&t, &tm);
		snprintf(want, sizeof(want), "%04d-%02d-%02dT%02d:%02d:%02d", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday,
			 tm.tm_hour, tm.tm_min, tm.tm_sec);
		if (us % US_PER_S != 0)
			snprintf(want + 19, sizeof(want) - 19, ".%06d", (int)(us - (int64_t)t * US_PER_S));
		strcat(want, "Z");
		assert_string_equal(text, want);
		assert_int_equal(n, strlen(want));
		assert_true(time_parse((struct str){text, n}, &back));
		assert_true(back == us);

		strftime(want, sizeof(want), "%a, %d %b ", &tm);
		snprintf(want + 12, sizeof(want) - 12, "%04d %02d:%02d:%02d GMT", tm.tm_year + 1900, tm.tm_hour, tm.tm_min,
			 tm.tm_sec);
		assert_int_equal(time_http(us, http), 29);
		assert_string_equal(http, want);
	}
}

static void instants_outside_the_years_are_clamped_in_text(void **state)
{
	char text[TIME_TEXT + 1];

	(void)state;
	assert_int_equal(time_text(INT64_MIN, text), 20);
	assert_string_equal(text, "0001-01-01T00:00:00Z");
	assert_int_equal(time_text(INT64_MAX, text), TIME_TEXT);
	assert_string_equal(text, "9999-12-31T23:59:59.999999Z");
	time_text(-1, text);
	assert_string_equal(text, "1969-12-31T23:59:59.999999Z");
}

static void http_dates_are_imf_fixdates(void **state)
{
	char text[30];

	(void)state;
	assert_int_equal(time_http(INT64_C(784111777) * US_PER_S, text), 29);
	assert_string_equal(text, "Sun, 06 Nov 1994 08:49:37 GMT"); /* RFC 9110's example */
	time_http(-1, text);
	assert_string_equal(text, "Wed, 31 Dec 1969 23:59:59 GMT");
}

static void the_clocks_run(void **state)
{
	int64_t a = clock_mono_us(), b = clock_mono_us();

	(void)state;
	assert_true(a > 0 && b >= a);
	assert_true(llabs(clock_real_us() / US_PER_S - (int64_t)time(NULL)) <= 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_day_of_9999_years_agrees_with_the_c_library),
		cmocka_unit_test(every_day_has_text_that_reads_back),
		cmocka_unit_test(a_day_knows_its_weekday),
		cmocka_unit_test(days_outside_the_years_are_clamped_in_text),
		cmocka_unit_test(months_and_days_carry_over),
		cmocka_unit_test(dates_that_do_not_exist_are_refused),
		cmocka_unit_test(instants_of_rfc_3339_are_read),
		cmocka_unit_test(other_instants_are_refused),
		cmocka_unit_test(no_cut_of_a_good_text_is_read_outside),
		cmocka_unit_test(text_agrees_with_the_c_library),
		cmocka_unit_test(instants_outside_the_years_are_clamped_in_text),
		cmocka_unit_test(http_dates_are_imf_fixdates),
		cmocka_unit_test(the_clocks_run),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
