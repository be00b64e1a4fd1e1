/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IANA zones: what is the school's date now, when does its day end.
 *
 * Read from the system's compiled files (RFC 9636: TZDIR or /usr/share/zoneinfo), not through libical: that one turns the transitions into
 * recurrence rules and back, behind a lock, and is wrong where a zone's history is irregular. Here an answer is one binary search.
 * Any thread may ask.
 */
#ifndef S24_IO_TZ_H
#define S24_IO_TZ_H

#include "base/err.h"
#include "base/str.h"

struct tz;
const struct tz *tz_find(struct str name); /* NULL: unknown; cached, never freed */
int32_t tz_date(const struct tz *zone, int64_t at_us);                /* the local date of an instant */
int64_t tz_at(const struct tz *zone, int32_t day, int seconds_of_day); /* the instant of local wall time; a gap gives its end, a fold the first */
static inline int64_t tz_day_end(const struct tz *zone, int32_t day)   /* first instant of the next day */
{
	return tz_at(zone, day + 1, 0);
}
int tz_offset_s(const struct tz *zone, int64_t at_us);

/* For tests: a zone from the bytes of a compiled file. NULL: damaged. tz_done frees it. */
struct tz *tz_parse(struct str bytes);
struct tz *tz_done(struct tz *zone);
#endif
