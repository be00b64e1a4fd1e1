/* SPDX-License-Identifier: Apache-2.0 */
/* Time zones from compiled tzdata files (RFC 9636), with the rule for the future expanded once. */
#include "io/tz.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/timefmt.h"

#define TZ_NAME_MAX 64
#define TZ_FILE_MAX (1u << 20)
#define TZ_TRANSITIONS_MAX 10000
#define TZ_ZONES_MAX 1024 /* tzdata has 600 names */
#define DAY_S INT64_C(86400)
/* The calendar repeats after 400 years, weekdays included, so one such span of the rule's transitions answers for ever. */
#define CYCLE_YEARS 400
#define CYCLE_S (INT64_C(146097) * DAY_S)

struct tz {
	struct tz *next;
	char name[TZ_NAME_MAX + 1];
	int32_t before_s; /* the offset before the first transition */
	size_t n, cap;
	int64_t *at; /* seconds since 1970, ascending */
	int32_t *offset_s;
	int64_t cycle_from; /* from here on the last CYCLE_S repeat; INT64_MAX: they do not */
};

/* ---- the table of transitions ---------------------------------------------------------------------------------------------- */

static void add(struct tz *zone, int64_t at, int32_t offset_s)
{
	if (zone->n == zone->cap) {
		zone->cap = zone->cap != 0 ? zone->cap * 2 : 64;
		zone->at = mem_realloc(zone->at, zone->cap * sizeof(*zone->at));
		zone->offset_s = mem_realloc(zone->offset_s, zone->cap * sizeof(*zone->offset_s));
	}
	zone->at[zone->n] = at;
	zone->offset_s[zone->n++] = offset_s;
}

/* How many transitions are at or before `at`. */
static size_t passed(const struct tz *zone, int64_t at)
{
	size_t low = 0, high = zone->n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (zone->at[mid] <= at)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static int32_t offset_after(const struct tz *zone, size_t n)
{
	return n == 0 ? zone->before_s : zone->offset_s[n - 1];
}

/* Brings an instant or a wall time beyond the table back into its last cycle; the answer goes forward again by *ret_shift. */
static int64_t into_table(const struct tz *zone, int64_t at, int64_t *ret_shift)
{
	*ret_shift = 0;
	if (at >= zone->cycle_from)
		*ret_shift = ((at - zone->cycle_from) / CYCLE_S + 1) * CYCLE_S;
	return at - *ret_shift;
}

/* ---- the rule for the time behind the last transition (POSIX TZ, with RFC 9636's extensions) --------------------------------- */

struct rule_day {
	char kind; /* 'M' month, week, weekday; 'J' 1 to 365 without 29 February; 'n' 0 to 365 */
	int month, week, day;
	int32_t time_s;
};

struct rule {
	int32_t std_s, dst_s;
	bool has_dst;
	struct rule_day start, end; /* of daylight saving */
};

static bool take(struct str *s, char c)
{
	if (s->n == 0 || s->p[0] != c)
		return false;
	*s = (struct str){s->p + 1, s->n - 1};
	return true;
}

static bool take_int(struct str *s, int most, int *ret)
{
	int v = 0;
	size_t n = 0;

	while (n < s->n && s->p[n] >= '0' && s->p[n] <= '9' && n < 4)
		v = v * 10 + (s->p[n++] - '0');
	if (n == 0 || v > most)
		return false;
	*s = (struct str){s->p + n, s->n - n};
	*ret = v;
	return true;
}

static bool take_time(struct str *s, int32_t *ret_s)
{
	bool minus = take(s, '-');
	int h, m = 0, sec = 0;

	if (!minus)
		IGNORE(take(s, '+')); /* the sign may be left out */
	if (!take_int(s, 167, &h) || (take(s, ':') && (!take_int(s, 59, &m) || (take(s, ':') && !take_int(s, 59, &sec)))))
		return false;
	*ret_s = (minus ? -1 : 1) * (h * 3600 + m * 60 + sec);
	return true;
}

static bool take_name(struct str *s)
{
	bool quoted = take(s, '<');
	size_t n = 0;

	while (n < s->n && (quoted ? s->p[n] != '>' : ((s->p[n] | 0x20) >= 'a' && (s->p[n] | 0x20) <= 'z')))
		n++;
	if (n < 3 || (quoted && n == s->n))
		return false;
	n += quoted;
	*s = (struct str){s->p + n, s->n - n};
	return true;
}

static bool take_day(struct str *s, struct rule_day *ret)
{
	*ret = (struct rule_day){.kind = 'n', .time_s = 7200};
	if (take(s, 'M')) {
		ret->kind = 'M';
		if (!take_int(s, 12, &ret->month) || !take(s, '.') || !take_int(s, 5, &ret->week) || !take(s, '.') ||
		    !take_int(s, 6, &ret->day) || ret->month == 0 || ret->week == 0)
			return false;
	} else {
		if (take(s, 'J'))
			ret->kind = 'J';
		if (!take_int(s, 365, &ret->day) || (ret->kind == 'J' && ret->day == 0))
			return false;
	}
	return !take(s, '/') || take_time(s, &ret->time_s);
}

/* "IST-1GMT0,M10.5.0,M3.5.0/1": offsets in it count west of Greenwich. */
static bool parse_rule(struct str s, struct rule *ret)
{
	*ret = (struct rule){.std_s = 0};
	if (!take_name(&s) || !take_time(&s, &ret->std_s))
		return false;
	ret->std_s = -ret->std_s;
	if (s.n == 0)
		return true;
	ret->has_dst = true;
	ret->dst_s = ret->std_s + 3600;
	if (!take_name(&s))
		return false;
	if (s.n != 0 && s.p[0] != ',') {
		if (!take_time(&s, &ret->dst_s))
			return false;
		ret->dst_s = -ret->dst_s;
	}
	return take(&s, ',') && take_day(&s, &ret->start) && take(&s, ',') && take_day(&s, &ret->end) && s.n == 0;
}

/* The wall time of the rule's day in a year, as seconds since 1970 would count it. */
static int64_t rule_wall(const struct rule_day *r, int year)
{
	int32_t day, first;
	bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

	if (r->kind == 'M') {
		int32_t next = r->month == 12 ? date_join(year + 1, 1, 1) : date_join(year, r->month + 1, 1);

		first = date_join(year, r->month, 1);
		day = first + (r->day - (first + 4) % 7 + 7) % 7 + (r->week - 1) * 7; /* 1970-01-01 was a Thursday */
		if (day >= next)
			day -= 7;
	} else {
		day = date_join(year, 1, 1) + r->day;
		if (r->kind == 'J')
			day += r->day >= 60 && leap ? 0 : -1;
	}
	return day * DAY_S + r->time_s;
}

static void expand(struct tz *zone, const struct rule *rule)
{
	int64_t last = zone->n != 0 ? zone->at[zone->n - 1] : INT64_MIN;
	int year, month, day, from;

	if (!rule->has_dst) {
		if (offset_after(zone, zone->n) != rule->std_s)
			add(zone, zone->n != 0 ? last + 1 : 0, rule->std_s);
		return;
	}
	date_split(zone->n != 0 ? (int32_t)(last / DAY_S) : 0, &year, &month, &day);
	from = year;
	/* One year more than the cycle: the first may lie partly before the last transition of the file. */
	for (; year <= from + CYCLE_YEARS + 1; year++) {
		int64_t start = rule_wall(&rule->start, year) - rule->std_s, end = rule_wall(&rule->end, year) - rule->dst_s;
		int64_t first = start < end ? start : end, second = start < end ? end : start;

		if (first > last)
			add(zone, first, first == start ? rule->dst_s : rule->std_s);
		if (second > last && second != first)
			add(zone, second, second == start ? rule->dst_s : rule->std_s);
	}
	zone->cycle_from = date_join(from + CYCLE_YEARS + 1, 1, 2) * DAY_S;
}

/* ---- the file ------------------------------------------------------------------------------------------------------------------ */

static uint32_t be32(const char *p)
{
	const uint8_t *b = (const uint8_t *)p;

	return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

static int64_t be64(const char *p)
{
	return (int64_t)((uint64_t)be32(p) << 32 | be32(p + 4));
}

struct tz_header {
	size_t isut, isstd, leap, time, type, chars;
};

static bool read_header(struct str s, struct tz_header *ret)
{
	if (s.n < 44 || memcmp(s.p, "TZif", 4) != 0 || s.p[4] < '2')
		return false;
	*ret = (struct tz_header){be32(s.p + 20), be32(s.p + 24), be32(s.p + 28), be32(s.p + 32), be32(s.p + 36), be32(s.p + 40)};
	return ret->isut <= 256 && ret->isstd <= 256 && ret->leap <= 1000 && ret->time <= TZ_TRANSITIONS_MAX && ret->type >= 1 &&
	       ret->type <= 256 && ret->chars <= 4096;
}

static size_t body_size(const struct tz_header *h, size_t time_size)
{
	return h->time * time_size + h->time + h->type * 6 + h->chars + h->leap * (time_size + 4) + h->isstd + h->isut;
}

static bool type_offset(const char *types, size_t type, int32_t *ret_s)
{
	int32_t s = (int32_t)be32(types + 6 * type);

	if (s < -DAY_S * 26 / 24 || s > DAY_S * 26 / 24)
		return false;
	*ret_s = s;
	return true;
}

static bool read_zone(struct str s, struct tz *zone)
{
	const char *times, *indexes, *types;
	struct tz_header h;
	struct rule rule;
	int32_t offset_s;
	size_t body;

	/* The first block repeats the second with 32-bit times, for old readers. */
	if (!read_header(s, &h) || s.n < 44 + (body = body_size(&h, 4)))
		return false;
	s = (struct str){s.p + 44 + body, s.n - 44 - body};
	if (!read_header(s, &h) || s.n < 44 + (body = body_size(&h, 8)) + 2)
		return false;
	times = s.p + 44;
	indexes = times + 8 * h.time;
	types = indexes + h.time;
	if (!type_offset(types, 0, &zone->before_s))
		return false;
	for (size_t i = 0; i < h.time; i++) {
		int64_t at = be64(times + 8 * i);

		if ((uint8_t)indexes[i] >= h.type || !type_offset(types, (uint8_t)indexes[i], &offset_s) ||
		    at < -(INT64_C(1) << 59) || at > INT64_C(1) << 40 || (zone->n != 0 && at <= zone->at[zone->n - 1]))
			return false;
		add(zone, at, offset_s);
	}
	s = (struct str){s.p + 44 + body, s.n - 44 - body};
	if (!take(&s, '\n') || s.n == 0 || s.p[s.n - 1] != '\n')
		return false;
	s.n--;
	if (s.n == 0)
		return true; /* nothing is known of the future: the last offset stays */
	if (!parse_rule(s, &rule))
		return false;
	expand(zone, &rule);
	return true;
}

struct tz *tz_parse(struct str bytes)
{
	struct tz *zone = mem_zalloc(sizeof(*zone));

	zone->cycle_from = INT64_MAX;
	return read_zone(bytes, zone) ? zone : tz_done(zone);
}

struct tz *tz_done(struct tz *zone)
{
	if (zone != NULL) {
		free(zone->at);
		free(zone->offset_s);
	}
	free(zone);
	return NULL;
}

/* Only names that tzdata could have: nothing that leaves its folder. */
static bool name_is_sane(struct str name)
{
	if (name.n == 0 || name.n > TZ_NAME_MAX || name.p[0] == '/' || name.p[name.n - 1] == '/')
		return false;
	for (size_t i = 0; i < name.n; i++) {
		char c = name.p[i];
		bool letter = ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || (c >= '0' && c <= '9');

		if (!letter && c != '_' && c != '-' && c != '+' && c != '/')
			return false;
	}
	return true;
}

static struct tz *load(struct str name)
{
	const char *dir = getenv("TZDIR");
	_cleanup_(buf_done) struct buf path = {0}, bytes = {0};
	_cleanup_(closep) int fd = -1;
	struct stat st;
	struct tz *zone;

	buf_printf(&path, "%s/%.*s", dir != NULL && dir[0] == '/' ? dir : "/usr/share/zoneinfo", STR_FMT(name));
	fd = open(buf_cstr(&path), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size > TZ_FILE_MAX)
		return NULL;
	while (bytes.n <= TZ_FILE_MAX) {
		ssize_t got = read(fd, buf_room(&bytes, 65536), 65536);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		bytes.n += (size_t)got;
	}
	zone = bytes.n != 0 ? tz_parse(buf_str(&bytes)) : NULL;
	if (zone != NULL)
		memcpy(zone->name, name.p, name.n);
	return zone;
}

const struct tz *tz_find(struct str name)
{
	/* The one cache of a process: zones are few, immutable, and held by rows and requests without counting. */
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static struct tz *zones;
	static size_t n_zones;
	struct tz *zone;

	if (!name_is_sane(name))
		return NULL;
	pthread_mutex_lock(&lock);
	for (zone = zones; zone != NULL && !str_is(name, zone->name); zone = zone->next)
		;
	if (zone == NULL && n_zones < TZ_ZONES_MAX && (zone = load(name)) != NULL) {
		zone->next = zones;
		zones = zone;
		n_zones++;
	}
	pthread_mutex_unlock(&lock);
	return zone;
}

/* ---- questions ---------------------------------------------------------------------------------------------------------------------- */

static int64_t floor_div(int64_t a, int64_t b)
{
	return a / b - (a % b < 0);
}

int tz_offset_s(const struct tz *zone, int64_t at_us)
{
	int64_t shift, at = into_table(zone, floor_div(at_us, US_PER_S), &shift);

	return offset_after(zone, passed(zone, at));
}

int32_t tz_date(const struct tz *zone, int64_t at_us)
{
	return (int32_t)floor_div(floor_div(at_us, US_PER_S) + tz_offset_s(zone, at_us), DAY_S);
}

int64_t tz_at(const struct tz *zone, int32_t day, int seconds_of_day)
{
	int64_t shift, wall = into_table(zone, day * DAY_S + seconds_of_day, &shift);

	/* Walk the spans of constant offset from one that surely began earlier; the first whose wall times reach ours has the answer. */
	for (size_t i = passed(zone, wall - 2 * DAY_S);; i++) {
		int32_t offset_s = offset_after(zone, i);

		if (i < zone->n && wall >= zone->at[i] + offset_s)
			continue;
		if (i > 0 && wall - offset_s < zone->at[i - 1])
			return (zone->at[i - 1] + shift) * US_PER_S; /* in the gap before this span */
		return (wall - offset_s + shift) * US_PER_S;
	}
}
