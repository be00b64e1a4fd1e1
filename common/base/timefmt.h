/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Instants are int64_t microseconds since 1970 UTC (`_us`); dates are int32_t days since 1970-01-01 (`_day`).
 * Text is RFC 3339 / YYYY-MM-DD. Zones are io/tz.h's business. The clock is the loop's (io/loop.h), never time().
 */
#ifndef S24_BASE_TIMEFMT_H
#define S24_BASE_TIMEFMT_H

#include "base/defs.h"

#define US_PER_S INT64_C(1000000)
#define US_PER_MS INT64_C(1000)
#define TIME_TEXT 27 /* 2026-11-21T09:52:03.123456Z */
#define DATE_TEXT 10

bool time_parse(struct str s, int64_t *ret_us);        /* RFC 3339, offset required, years 1 to 9999; leap second 60 refused */
size_t time_text(int64_t us, char to[TIME_TEXT + 1]);  /* always UTC with Z; fraction left out when zero; clamped to years 1 to 9999; returns length */
bool date_parse(struct str s, int32_t *ret_day);
void date_text(int32_t day, char to[DATE_TEXT + 1]);
void date_split(int32_t day, int *ret_y, int *ret_m, int *ret_d);
int32_t date_join(int y, int m, int d);                /* proleptic Gregorian; month 13 is January of the next year, day 0 the last of the month before */
int date_weekday(int32_t day);                          /* 0: Monday … 6: Sunday */
size_t time_http(int64_t us, char to[30]);             /* IMF-fixdate */

int64_t clock_real_us(void);  /* CLOCK_REALTIME */
int64_t clock_mono_us(void);  /* CLOCK_MONOTONIC */

#endif
