/* SPDX-License-Identifier: Apache-2.0 */
/* Zones: known instants, the two ends of daylight saving, and thousands of random ones against Python's zoneinfo on the same tzdata. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/timefmt.h"
#include "io/tz.h"

static int64_t instant(const char *text)
{
	int64_t us;

	assert_true(time_parse(str_of(text), &us));
	return us;
}

static int32_t day(const char *text)
{
	int32_t d;

	assert_true(date_parse(str_of(text), &d));
	return d;
}

static const struct tz *zone(const char *name)
{
	const struct tz *z = tz_find(str_of(name));

	if (z == NULL)
		fail_msg("no zone %s", name);
	return z;
}

static void kolkata_is_five_and_a_half_hours_ahead(void **state)
{
	const struct tz *z = zone("Asia/Kolkata");

	(void)state;
	assert_int_equal(tz_offset_s(z, instant("2026-11-21T09:52:03Z")), 19800);
	assert_int_equal(tz_date(z, instant("2026-11-21T18:29:59.999999Z")), day("2026-11-21"));
	assert_int_equal(tz_date(z, instant("2026-11-21T18:30:00Z")), day("2026-11-22"));
	assert_int_equal(tz_at(z, day("2026-11-21"), 0), instant("2026-11-20T18:30:00Z"));
	assert_int_equal(tz_day_end(z, day("2026-11-21")), instant("2026-11-21T18:30:00Z"));
	assert_int_equal(tz_day_end(z, day("2026-12-31")), instant("2026-12-31T18:30:00Z"));
}

static void a_gap_gives_its_end(void **state)
{
	const struct tz *z = zone("Europe/London");

	(void)state;
	/* 29 March 2026: 01:00 GMT is 02:00 BST. */
	assert_int_equal(tz_at(z, day("2026-03-29"), 3599), instant("2026-03-29T00:59:59Z"));
	assert_int_equal(tz_at(z, day("2026-03-29"), 3600), instant("2026-03-29T01:00:00Z"));
	assert_int_equal(tz_at(z, day("2026-03-29"), 5400), instant("2026-03-29T01:00:00Z"));
	assert_int_equal(tz_at(z, day("2026-03-29"), 7199), instant("2026-03-29T01:00:00Z"));
	assert_int_equal(tz_at(z, day("2026-03-29"), 7200), instant("2026-03-29T01:00:00Z"));
	assert_int_equal(tz_at(z, day("2026-03-29"), 7201), instant("2026-03-29T01:00:01Z"));
	assert_int_equal(tz_day_end(z, day("2026-03-29")) - tz_at(z, day("2026-03-29"), 0), 23 * 3600 * US_PER_S);
	/* A day that begins in a gap: midnight does not exist, the day begins at one. */
	assert_int_equal(tz_at(zone("Asia/Beirut"), day("2022-03-27"), 0), instant("2022-03-26T22:00:00Z"));
	/* A whole day that Samoa never had. */
	assert_int_equal(tz_at(zone("Pacific/Apia"), day("2011-12-30"), 43200), instant("2011-12-30T10:00:00Z"));
	assert_int_equal(tz_date(zone("Pacific/Apia"), instant("2011-12-30T09:59:59Z")), day("2011-12-29"));
	assert_int_equal(tz_date(zone("Pacific/Apia"), instant("2011-12-30T10:00:00Z")), day("2011-12-31"));
}

static void a_fold_gives_the_first(void **state)
{
	const struct tz *z = zone("Europe/London");

	(void)state;
	/* 25 October 2026: 02:00 BST is 01:00 GMT again. */
	assert_int_equal(tz_at(z, day("2026-10-25"), 3599), instant("2026-10-24T23:59:59Z"));
	assert_int_equal(tz_at(z, day("2026-10-25"), 3600), instant("2026-10-25T00:00:00Z"));
	assert_int_equal(tz_at(z, day("2026-10-25"), 7199), instant("2026-10-25T00:59:59Z"));
	assert_int_equal(tz_at(z, day("2026-10-25"), 7200), instant("2026-10-25T02:00:00Z"));
	assert_int_equal(tz_offset_s(z, instant("2026-10-25T00:59:59.999999Z")), 3600);
	assert_int_equal(tz_offset_s(z, instant("2026-10-25T01:00:00Z")), 0);
	assert_int_equal(tz_day_end(z, day("2026-10-25")) - tz_at(z, day("2026-10-25"), 0), 25 * 3600 * US_PER_S);
}

static void dates_before_1970_and_fractions_are_floored(void **state)
{
	(void)state;
	assert_int_equal(tz_date(zone("UTC"), -1), day("1969-12-31"));
	assert_int_equal(tz_date(zone("UTC"), 0), day("1970-01-01"));
	assert_int_equal(tz_date(zone("Asia/Kolkata"), instant("1969-12-31T18:29:59.999999Z")), day("1969-12-31"));
	assert_int_equal(tz_at(zone("UTC"), day("0001-01-01"), 0), instant("0001-01-01T00:00:00Z"));
}

static void the_rule_goes_on_for_ever(void **state)
{
	const struct tz *z = zone("Europe/London");

	(void)state;
	assert_int_equal(tz_offset_s(z, instant("2300-07-01T00:00:00Z")), 3600);
	assert_int_equal(tz_offset_s(z, instant("2300-12-01T00:00:00Z")), 0);
	for (int year = 2030; year < 9000; year += 7) {
		int64_t summer = date_join(year, 7, 1) * INT64_C(86400) * US_PER_S;

		assert_int_equal(tz_offset_s(z, summer), 3600);
		assert_int_equal(tz_offset_s(z, date_join(year, 12, 1) * INT64_C(86400) * US_PER_S), 0);
		assert_int_equal(tz_at(z, date_join(year, 7, 1), 3600), summer);
	}
}

static void names_outside_the_data_are_unknown(void **state)
{
	static const char *const unknown[] = {
		"",       "Nowhere/City",  "../../etc/passwd", "/etc/localtime", "Europe/../Europe/London",
		"Europe", "Europe/",       "zone.tab",         "tzdata.zi",      "Europe/London\n",
		".",      "europe london", "leapseconds"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(unknown); i++) {
		if (tz_find(str_of(unknown[i])) != NULL)
			fail_msg("\"%s\" was found", unknown[i]);
	}
	assert_null(tz_find((struct str){"Europe/London\0", 14}));
	assert_ptr_equal(zone("Europe/London"), zone("Europe/London"));
}

static void damaged_files_are_refused(void **state)
{
	FILE *f = fopen("/usr/share/zoneinfo/Europe/Dublin", "rb");
	char bytes[8192];
	size_t n;
	unsigned seed = 1;

	(void)state;
	assert_non_null(f);
	n = fread(bytes, 1, sizeof(bytes), f);
	fclose(f);
	tz_done(tz_parse((struct str){bytes, n}));
	for (size_t cut = 0; cut < n; cut++) {
		char *part = malloc(cut + 1); /* so that a read beyond is seen */

		memcpy(part, bytes, cut);
		assert_null(tz_parse((struct str){part, cut}));
		free(part);
	}
	for (int i = 0; i < 5000; i++) {
		char *bad = malloc(n);

		memcpy(bad, bytes, n);
		bad[(unsigned)rand_r(&seed) % n] = (char)rand_r(&seed);
		bad[(unsigned)rand_r(&seed) % 200] = (char)rand_r(&seed);
		tz_done(tz_parse((struct str){bad, n}));
		free(bad);
	}
}

/* One line for each question: zone, instant, its offset and date; then a wall time and its instant by our rules for gap and fold. */
static const char python[] =
	"/usr/bin/python3 -c '\n"
	"import random, zoneinfo, datetime as d\n"
	"random.seed(24)\n"
	"utc, e = d.timezone.utc, d.datetime(1970, 1, 1)\n"
	"names = sorted(n for n in zoneinfo.available_timezones() if \"/\" in n and not n.startswith((\"posix\", \"right\")))\n"
	"hard = [\"Europe/London\", \"Asia/Kolkata\", \"Africa/Casablanca\", \"America/Sao_Paulo\", \"Australia/Lord_Howe\", "
	"\"Europe/Dublin\", \"America/Nuuk\"]\n"
	"def wall(t, z):\n"
	"    off = lambda u: round((e + d.timedelta(seconds=u)).replace(tzinfo=utc).astimezone(z).utcoffset().total_seconds())\n"
	"    a = t.replace(tzinfo=z)\n"
	"    w = round((t - e).total_seconds())\n"
	"    o0, o1 = (round(a.replace(fold=f).utcoffset().total_seconds()) for f in (0, 1))\n"
	"    if o0 < o1:\n"
	"        lo, hi = w - o1, w - o0\n"
	"        while lo < hi:\n"
	"            mid = (lo + hi) // 2\n"
	"            lo, hi = (lo, mid) if off(mid) == o1 else (mid + 1, hi)\n"
	"        return lo\n"
	"    return w - o0\n"
	"for i in range(20000):\n"
	"    n = random.choice(hard if i % 2 else names)\n"
	"    z = zoneinfo.ZoneInfo(n)\n"
	"    s = random.randrange(-2000000000, 6000000000)\n"
	"    t = (e + d.timedelta(seconds=s)).replace(tzinfo=utc).astimezone(z)\n"
	"    w = e + d.timedelta(seconds=s)\n"
	"    if i % 4 == 0:\n"
	"        w = w.replace(month=random.choice([3, 4, 9, 10, 11]), day=random.randrange(1, 29), hour=random.randrange(4))\n"
	"    print(n, s, round(t.utcoffset().total_seconds()), (t.date() - e.date()).days, (w.date() - e.date()).days,\n"
	"          w.hour * 3600 + w.minute * 60 + w.second, wall(w, z))\n"
	"' 2>/dev/null";

static void random_instants_agree_with_zoneinfo(void **state)
{
	long long at, want_at;
	int offset, date, wall_day, wall_s, n = 0;
	FILE *f = popen(python, "r");
	char name[65];

	(void)state;
	assert_non_null(f);
	while (fscanf(f, "%64s %lld %d %d %d %d %lld", name, &at, &offset, &date, &wall_day, &wall_s, &want_at) == 7) {
		const struct tz *z = zone(name);

		if (tz_offset_s(z, at * US_PER_S) != offset || tz_date(z, at * US_PER_S) != date)
			fail_msg("%s at %lld: offset %d, day %d", name, at, tz_offset_s(z, at * US_PER_S),
				 tz_date(z, at * US_PER_S));
		if (tz_at(z, wall_day, wall_s) != want_at * US_PER_S)
			fail_msg("%s day %d second %d: %lld, not %lld", name, wall_day, wall_s,
				 (long long)(tz_at(z, wall_day, wall_s) / US_PER_S), want_at);
		n++;
	}
	pclose(f);
	if (n == 0) {
		print_message("python3 with zoneinfo is not installed: the comparison is skipped\n");
		skip();
	}
	assert_int_equal(n, 20000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(kolkata_is_five_and_a_half_hours_ahead),
		cmocka_unit_test(a_gap_gives_its_end),
		cmocka_unit_test(a_fold_gives_the_first),
		cmocka_unit_test(dates_before_1970_and_fractions_are_floored),
		cmocka_unit_test(the_rule_goes_on_for_ever),
		cmocka_unit_test(names_outside_the_data_are_unknown),
		cmocka_unit_test(damaged_files_are_refused),
		cmocka_unit_test(random_instants_agree_with_zoneinfo),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
