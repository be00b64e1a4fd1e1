/* SPDX-License-Identifier: Apache-2.0 */
/* Dates and instants to text and back, in the proleptic Gregorian calendar and without the C library's locale. */
#include "base/timefmt.h"

#include <string.h>
#include <time.h>

enum {
	DAY_MIN = -719162, /* 0001-01-01 */
	DAY_MAX = 2932896, /* 9999-12-31 */
	S_PER_DAY = 86400,
	DAYS_PER_ERA = 146097, /* 400 years */
	EPOCH_DAY = 719468,    /* from 0000-03-01 to 1970-01-01 */
};

static const int64_t TIME_MIN = (int64_t)DAY_MIN * S_PER_DAY * US_PER_S;
static const int64_t TIME_MAX = ((int64_t)DAY_MAX + 1) * S_PER_DAY * US_PER_S - 1;

static int64_t floor_div(int64_t a, int64_t b)
{
	return a / b - (a % b < 0);
}

/* Years are counted from March, so that the leap day is the last of its year and month lengths follow one formula. */
int32_t date_join(int y, int m, int d)
{
	int64_t months = (int64_t)y * 12 + m - 1;
	int64_t year = floor_div(months, 12);
	int64_t month = months - year * 12; /* 0 = January */
	int64_t era, year_of_era, day_of_year, day;

	month -= 2;
	if (month < 0) {
		month += 12;
		year--;
	}
	era = floor_div(year, 400);
	year_of_era = year - era * 400;
	day_of_year = (153 * month + 2) / 5 + d - 1;
	day = era * DAYS_PER_ERA + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - EPOCH_DAY;
	if (day < INT32_MIN)
		return INT32_MIN;
	return day > INT32_MAX ? INT32_MAX : (int32_t)day;
}

void date_split(int32_t day, int *ret_y, int *ret_m, int *ret_d)
{
	int64_t since = (int64_t)day + EPOCH_DAY;
	int64_t era = floor_div(since, DAYS_PER_ERA);
	int64_t day_of_era = since - era * DAYS_PER_ERA;
	int64_t year = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
	int64_t day_of_year = day_of_era - (year * 365 + year / 4 - year / 100);
	int64_t month = (5 * day_of_year + 2) / 153; /* 0 = March */

	*ret_d = (int)(day_of_year - (153 * month + 2) / 5 + 1);
	*ret_m = (int)(month < 10 ? month + 3 : month - 9);
	*ret_y = (int)(year + era * 400 + (month >= 10));
}

/* Reads exactly `n` digits at `at`; -1: one of them is none. */
static int digits(struct str s, size_t at, size_t n)
{
	int v = 0;

	if (s.n < at + n)
		return -1;
	for (size_t i = 0; i < n; i++) {
		int digit = s.p[at + i] - '0';

		if (digit < 0 || digit > 9)
			return -1;
		v = v * 10 + digit;
	}
	return v;
}

static int days_of_month(int y, int m)
{
	static const int8_t days[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool leap = y % 4 == 0 && (y % 100 != 0 || y % 400 == 0);

	return m == 2 && leap ? 29 : days[m - 1];
}

bool date_parse(struct str s, int32_t *ret_day)
{
	int y, m, d;

	if (s.n != DATE_TEXT || s.p[4] != '-' || s.p[7] != '-')
		return false;
	y = digits(s, 0, 4);
	m = digits(s, 5, 2);
	d = digits(s, 8, 2);
	if (y < 1 || m < 1 || m > 12 || d < 1 || d > days_of_month(y, m))
		return false;
	*ret_day = date_join(y, m, d);
	return true;
}

/* "Z" or "+05:30": the rest of the text, in seconds east. */
static bool offset_parse(struct str s, int64_t *ret_s)
{
	int h, m;

	if (s.n == 1 && (s.p[0] == 'Z' || s.p[0] == 'z')) {
		*ret_s = 0;
		return true;
	}
	if (s.n != 6 || (s.p[0] != '+' && s.p[0] != '-') || s.p[3] != ':')
		return false;
	h = digits(s, 1, 2);
	m = digits(s, 4, 2);
	if (h < 0 || h > 23 || m < 0 || m > 59)
		return false;
	*ret_s = ((int64_t)h * 60 + m) * 60 * (s.p[0] == '-' ? -1 : 1);
	return true;
}

bool time_parse(struct str s, int64_t *ret_us)
{
	int32_t day;
	int h, m, sec;
	int64_t us = 0, offset_s, at;
	size_t i = 19;

	if (s.n < 20 || !date_parse((struct str){s.p, DATE_TEXT}, &day) || (s.p[10] != 'T' && s.p[10] != 't') || s.p[13] != ':' ||
	    s.p[16] != ':')
		return false;
	h = digits(s, 11, 2);
	m = digits(s, 14, 2);
	sec = digits(s, 17, 2);
	if (h < 0 || h > 23 || m < 0 || m > 59 || sec < 0 || sec > 59)
		return false;
	if (s.p[i] == '.') {
		int64_t unit = US_PER_S;
		size_t first = ++i;

		/* Digits behind the sixth are cut: a stored instant must never be later than the one that was said. */
		for (; i < s.n && s.p[i] >= '0' && s.p[i] <= '9'; i++) {
			unit /= 10;
			us += unit * (s.p[i] - '0');
		}
		if (i == first)
			return false;
	}
	if (!offset_parse((struct str){s.p + i, s.n - i}, &offset_s))
		return false;
	at = (((int64_t)day * S_PER_DAY + (int64_t)(h * 60 + m) * 60 + sec) - offset_s) * US_PER_S + us;
	if (at < TIME_MIN || at > TIME_MAX)
		return false;
	*ret_us = at;
	return true;
}

static void put_digits(char *to, int v, size_t n)
{
	while (n != 0) {
		to[--n] = (char)('0' + v % 10);
		v /= 10;
	}
}

void date_text(int32_t day, char to[DATE_TEXT + 1])
{
	int y, m, d;

	if (day < DAY_MIN)
		day = DAY_MIN;
	if (day > DAY_MAX)
		day = DAY_MAX;
	date_split(day, &y, &m, &d);
	put_digits(to, y, 4);
	to[4] = '-';
	put_digits(to + 5, m, 2);
	to[7] = '-';
	put_digits(to + 8, d, 2);
	to[10] = '\0';
}

struct clock_parts {
	int32_t day;
	int h, m, s, us;
};

/* Instants outside the years 1 to 9999 have no text; they are shown as the nearest one that has. */
static struct clock_parts time_split(int64_t us)
{
	struct clock_parts c;
	int64_t s;

	if (us < TIME_MIN)
		us = TIME_MIN;
	if (us > TIME_MAX)
		us = TIME_MAX;
	s = floor_div(us, US_PER_S);
	c.us = (int)(us - s * US_PER_S);
	c.day = (int32_t)floor_div(s, S_PER_DAY);
	s -= (int64_t)c.day * S_PER_DAY;
	c.h = (int)(s / 3600);
	c.m = (int)(s / 60 % 60);
	c.s = (int)(s % 60);
	return c;
}

static void put_clock(char to[8], const struct clock_parts *c)
{
	put_digits(to, c->h, 2);
	to[2] = ':';
	put_digits(to + 3, c->m, 2);
	to[5] = ':';
	put_digits(to + 6, c->s, 2);
}

size_t time_text(int64_t us, char to[TIME_TEXT + 1])
{
	struct clock_parts c = time_split(us);
	size_t n = 19;

	date_text(c.day, to);
	to[10] = 'T';
	put_clock(to + 11, &c);
	if (c.us != 0) {
		to[n] = '.';
		put_digits(to + n + 1, c.us, 6);
		n += 7;
	}
	to[n++] = 'Z';
	to[n] = '\0';
	return n;
}

int date_weekday(int32_t day)
{
	int at = (int)(((int64_t)day + 3) % 7); /* 1970-01-01 was a Thursday */

	return at < 0 ? at + 7 : at;
}

size_t time_http(int64_t us, char to[30])
{
	static const char days[] = "ThuFriSatSunMonTueWed"; /* day 0 was a Thursday */
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	struct clock_parts c = time_split(us);
	int y, m, d;

	date_split(c.day, &y, &m, &d);
	memcpy(to, days + (size_t)((c.day % 7 + 7) % 7) * 3, 3);
	memcpy(to + 3, ", ", 2);
	put_digits(to + 5, d, 2);
	to[7] = ' ';
	memcpy(to + 8, months + (size_t)(m - 1) * 3, 3);
	to[11] = ' ';
	put_digits(to + 12, y, 4);
	to[16] = ' ';
	put_clock(to + 17, &c);
	memcpy(to + 25, " GMT", 5);
	return 29;
}

static int64_t clock_us(clockid_t id)
{
	struct timespec ts;

	if (clock_gettime(id, &ts) != 0)
		return 0; /* both clocks exist on every Linux, so this is not reached */
	return (int64_t)ts.tv_sec * US_PER_S + ts.tv_nsec / 1000;
}

int64_t clock_real_us(void)
{
	return clock_us(CLOCK_REALTIME);
}

int64_t clock_mono_us(void)
{
	return clock_us(CLOCK_MONOTONIC);
}
