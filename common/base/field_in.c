/* SPDX-License-Identifier: Apache-2.0 */
/* One value of a field from its text: types, bounds, and the problems that people read. */
#include "base/field_in.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/timefmt.h"
#include "base/uuid.h"

static void put_pointer(struct buf *out, const struct field_path *at)
{
	if (at->up == NULL)
		return;
	put_pointer(out, at->up);
	buf_putc(out, '/');
	if (at->name == NULL) {
		buf_put_i64(out, (int64_t)at->index);
		return;
	}
	for (const char *p = at->name; *p != '\0'; p++) {
		if (*p == '~')
			buf_put(out, "~0", 2);
		else if (*p == '/')
			buf_put(out, "~1", 2);
		else
			buf_putc(out, *p);
	}
}

static bool has_room(const struct field_in *in)
{
	return in->problems != NULL && in->problems->n < ARRAY_LEN(in->problems->v);
}

void field_problem(struct field_in *in, const struct field_path *at, const char *code, const char *fmt, ...)
{
	struct buf pointer = buf_in(in->arena);
	char message[512];
	va_list ap;

	in->invalid = true;
	if (!has_room(in))
		return;
	put_pointer(&pointer, at);
	va_start(ap, fmt);
	vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	problem_add(in->problems, buf_cstr(&pointer), code, message);
}

void field_wrong_type(struct field_in *in, const struct field *f, enum field_type type, const struct field_path *at)
{
	static const char *const wants[] = {
		[FIELD_UUID] = "must be text with a UUID",
		[FIELD_TEXT] = "must be text",
		[FIELD_INT] = "must be a whole number, written without fraction and exponent",
		[FIELD_DECIMAL] = "must be a number with at most two decimals",
		[FIELD_MONEY] = "must be an amount with at most two decimals",
		[FIELD_FLOAT] = "must be a number",
		[FIELD_BOOL] = "must be true or false",
		[FIELD_TIME] = "must be text with a time",
		[FIELD_DATE] = "must be text with a date",
		[FIELD_ENUM] = "must be text",
		[FIELD_JSON] = "must be JSON",
		[FIELD_UUIDS] = "must be an array of UUIDs",
		[FIELD_TEXTS] = "must be an array of texts",
		[FIELD_INTS] = "must be an array of whole numbers",
		[FIELD_LIST] = "must be an array of objects",
	};

	field_problem(in, at, "type", "%s",
		      type == FIELD_LIST && f->type == FIELD_LIST && at->name == NULL ? "must be an object" : wants[type]);
}

void field_required(struct field_in *in, const struct schema *s, const struct field_path *at, const struct fields *head,
		    uint64_t seen)
{
	for (size_t i = 0; i < s->n; i++) {
		const struct field *f = &s->fields[i];

		if (((head->set | (seen & ~head->nulls)) >> i & 1) != 0 || !field_is_required(f) || (f->flags & SERVER) != 0)
			continue;
		field_problem(in, &(struct field_path){.up = at, .name = f->name}, "required", "is required");
	}
}

/* Code points, counted only where the bytes leave a doubt. */
static bool text_fits(struct field_in *in, const struct field *f, const struct field_path *at, struct str text)
{
	size_t max = f->max != 0 ? (size_t)f->max : SCHEMA_TEXT_MAX, min = f->min > 0 ? (size_t)f->min : 0;

	if (text.n > max && str_utf8_len(text) > max) {
		field_problem(in, at, "too_long", "must be at most %zu characters", max);
		return false;
	}
	if (text.n < 4 * min && str_utf8_len(text) < min) {
		field_problem(in, at, "too_short", "must be at least %zu characters", min);
		return false;
	}
	return true;
}

static bool enum_value(struct field_in *in, const struct field *f, const struct field_path *at, struct str text, int *to)
{
	struct buf names;

	for (size_t i = 0; i < f->names.n; i++) {
		if (str_is(text, f->names.v[i])) {
			*to = (int)i;
			return true;
		}
	}
	in->invalid = true;
	if (!has_room(in))
		return false;
	names = buf_in(in->arena);
	for (size_t i = 0; i < f->names.n; i++) {
		if (i != 0)
			buf_puts(&names, STR(", "));
		buf_puts(&names, str_of(f->names.v[i]));
	}
	field_problem(in, at, "enum", "must be one of: %s", buf_cstr(&names));
	return false;
}

bool field_text(struct field_in *in, const struct field *f, enum field_type type, const struct field_path *at, struct str text,
		void *to)
{
	switch ((int)type) {
	case FIELD_TEXT:
		if ((f->flags & RAW_TEXT) == 0)
			text = str_trim(text);
		if (!text_fits(in, f, at, text))
			return false;
		*(struct str *)to = text;
		return true;
	case FIELD_UUID:
		if (uuid_parse(text, to))
			return true;
		field_problem(in, at, "uuid", "must be a UUID");
		return false;
	case FIELD_TIME:
		if (time_parse(text, to))
			return true;
		field_problem(in, at, "time", "must be a time like 2026-11-21T09:52:03Z or with an offset");
		return false;
	case FIELD_DATE:
		if (date_parse(text, to))
			return true;
		field_problem(in, at, "date", "must be a date like 2026-11-21");
		return false;
	case FIELD_ENUM:
		return enum_value(in, f, at, text, to);
	default:
		field_wrong_type(in, f, type, at);
		return false;
	}
}

/* ---- numbers ---- */

static bool past_bound(struct field_in *in, const struct field_path *at, const char *code, enum field_type type, int64_t bound)
{
	const char *what = *code == 'm' && code[1] == 'i' ? "least" : "most";
	uint64_t size = bound < 0 ? 0 - (uint64_t)bound : (uint64_t)bound;

	if (type != FIELD_DECIMAL && type != FIELD_MONEY)
		field_problem(in, at, code, "must be at %s %" PRId64, what, bound);
	else
		field_problem(in, at, code, "must be at %s %s%" PRIu64 ".%02u", what, bound < 0 ? "-" : "", size / 100,
			      (unsigned)(size % 100));
	return false;
}

/* Both bounds 0: any number. `past` says that the value itself was cut to the type's range. */
static bool number_fits(struct field_in *in, const struct field *f, enum field_type type, const struct field_path *at, int64_t v,
			bool past)
{
	int64_t min = f->min != 0 || f->max != 0 ? f->min : INT64_MIN, max = f->max != 0 ? f->max : INT64_MAX;

	if (v < min || (past && v == INT64_MIN))
		return past_bound(in, at, "min", type, min);
	if (v > max || past)
		return past_bound(in, at, "max", type, max);
	return true;
}

/* `text` is a number without exponent and with at most `decimals` decimals; true: it did not fit and is cut. */
static bool scaled_value(struct str text, unsigned decimals, int64_t *ret)
{
	bool negative = text.p[0] == '-', past = false, behind = false;
	uint64_t v = 0;

	for (size_t i = negative; i < text.n; i++) {
		if (text.p[i] == '.') {
			behind = true;
			continue;
		}
		decimals -= behind;
		past = past || __builtin_mul_overflow(v, 10u, &v) || __builtin_add_overflow(v, (uint64_t)(text.p[i] - '0'), &v);
	}
	for (; decimals != 0; decimals--)
		past = past || __builtin_mul_overflow(v, 10u, &v);
	past = past || v > (uint64_t)INT64_MAX + negative;
	if (past)
		*ret = negative ? INT64_MIN : INT64_MAX;
	else
		*ret = negative ? (int64_t)(0 - v) : (int64_t)v;
	return past;
}

/* At most two decimals and no exponent; the text is a JSON number. */
static bool is_hundredths(struct json_number number)
{
	const char *dot;

	if (number.whole)
		return true;
	dot = memchr(number.text.p, '.', number.text.n);
	if (dot == NULL || memchr(number.text.p, 'e', number.text.n) != NULL || memchr(number.text.p, 'E', number.text.n) != NULL)
		return false;
	return number.text.p + number.text.n - dot <= 3;
}

static bool float_value(struct field_in *in, const struct field *f, const struct field_path *at, struct str text, double *to)
{
	/* A slice is not terminated, and strtod wants it to be. A short one, as nearly all are, needs no memory. */
	char small[64], *copy = text.n < sizeof(small) ? small : arena_alloc(in->arena, text.n + 1);
	double v;

	memcpy(copy, text.p, text.n);
	copy[text.n] = '\0';
	v = strtod(copy, NULL);
	if ((f->min != 0 || f->max != 0) && v < (double)f->min)
		return past_bound(in, at, "min", FIELD_FLOAT, f->min);
	if (f->max != 0 && v > (double)f->max)
		return past_bound(in, at, "max", FIELD_FLOAT, f->max);
	if (isinf(v)) {
		field_problem(in, at, v < 0 ? "min" : "max", "is out of range");
		return false;
	}
	*to = v;
	return true;
}

bool field_number(struct field_in *in, const struct field *f, enum field_type type, const struct field_path *at,
		  struct json_number number, void *to)
{
	bool hundredths = type == FIELD_DECIMAL || type == FIELD_MONEY, past;
	int64_t v;

	if (type == FIELD_FLOAT)
		return float_value(in, f, at, number.text, to);
	if (hundredths ? !is_hundredths(number) : type != FIELD_INT || !number.whole) {
		field_wrong_type(in, f, type, at);
		return false;
	}
	past = scaled_value(number.text, hundredths ? 2 : 0, &v);
	if (!number_fits(in, f, type, at, v, past))
		return false;
	*(int64_t *)to = v;
	return true;
}

bool field_json(struct field_in *in, const struct field *f, const struct field_path *at, struct str text, struct str *to)
{
	size_t max = f->max != 0 ? (size_t)f->max : SCHEMA_JSON_MAX, items = 0;
	struct str rest = text, item;

	if (text.n > max) {
		field_problem(in, at, "too_long", "must be at most %zu bytes", max);
		return false;
	}
	while (f->max_items != 0 && text.p[0] == '[' && json_next(&rest, &item))
		items++;
	if (items > field_max_items(f)) {
		field_problem(in, at, "too_many", "must have at most %zu items", f->max_items);
		return false;
	}
	*to = text;
	return true;
}
