/* SPDX-License-Identifier: Apache-2.0 */
/* Structs as JSON by their field table, straight into the buffer. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/field_in.h"
#include "base/timefmt.h"
#include "base/uuid.h"

/* More than any scalar but text takes, with the name's quotes, colon and comma. */
#define SCALAR_ROOM 64

static char *put_raw(char *w, const void *p, size_t n)
{
	memcpy(w, p, n);
	return w + n;
}

static char *put_uint(char *w, uint64_t v)
{
	char digits[20];
	size_t n = sizeof(digits);

	do {
		digits[--n] = (char)('0' + v % 10);
		v /= 10;
	} while (v != 0);
	return put_raw(w, digits + n, sizeof(digits) - n);
}

static uint64_t put_sign(char **w, int64_t v)
{
	if (v >= 0)
		return (uint64_t)v;
	*(*w)++ = '-';
	return 0 - (uint64_t)v;
}

static char *put_int(char *w, int64_t v)
{
	uint64_t size = put_sign(&w, v);

	return put_uint(w, size);
}

/* Hundredths: money always has two decimals, other decimals none that is a trailing zero. */
static char *put_hundredths(char *w, int64_t v, bool both)
{
	uint64_t size = put_sign(&w, v), part = size % 100;

	w = put_uint(w, size / 100);
	if (part == 0 && !both)
		return w;
	*w++ = '.';
	*w++ = (char)('0' + part / 10);
	if (part % 10 != 0 || both)
		*w++ = (char)('0' + part % 10);
	return w;
}

/* The shortest of three precisions that reads back as the same number. */
static char *put_float(char *w, double v)
{
	if (!isfinite(v))
		return put_raw(w, "null", 4);
	for (int precision = 15;; precision++) {
		int n = snprintf(w, 40, "%.*g", precision, v);

		if (precision == 17 || strtod(w, NULL) == v)
			return w + n;
	}
}

static char *put_uuid(char *w, const struct uuid *id)
{
	*w = '"';
	uuid_text(*id, w + 1);
	w[1 + UUID_TEXT] = '"';
	return w + UUID_TEXT + 2;
}

static char *put_time(char *w, int64_t us)
{
	size_t n;

	*w = '"';
	n = time_text(us, w + 1);
	w[1 + n] = '"';
	return w + n + 2;
}

static char *put_date(char *w, int32_t day)
{
	*w = '"';
	date_text(day, w + 1);
	w[1 + DATE_TEXT] = '"';
	return w + DATE_TEXT + 2;
}

/* ---- text ---- */

/* The byte at p cannot stand as it is; returns what comes behind it. */
static const char *put_odd(struct buf *out, const char *p, const char *end)
{
	static const char names[] = "\"\"\\\\\bb\ff\nn\rr\tt";
	static const char hex[] = "0123456789abcdef";
	unsigned char c = (unsigned char)*p;
	size_t n;

	if (c >= 0x80) {
		/* Text was checked on its way in; should any be broken all the same, the answer is still JSON. */
		n = json_utf8_step(p, end);
		if (n == 0)
			buf_put(out, "\xef\xbf\xbd", 3);
		else
			buf_put(out, p, n);
		return p + (n != 0 ? n : 1);
	}
	for (size_t i = 0; i + 1 < sizeof(names); i += 2) {
		if (names[i] == *p) {
			buf_put(out, (char[]){'\\', names[i + 1]}, 2);
			return p + 1;
		}
	}
	buf_put(out, (char[]){'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]}, 6);
	return p + 1;
}

static void put_text(struct buf *out, struct str s)
{
	const char *p = s.p, *end = s.n != 0 ? s.p + s.n : s.p;

	*buf_room(out, s.n + 2) = '"';
	out->n++;
	while (p < end) {
		const char *odd = json_plain_end(p, end);

		/* A run of well-formed letters outside ASCII is copied in one piece with what is before it. */
		while (odd < end && (unsigned char)*odd >= 0x80) {
			size_t n = json_utf8_step(odd, end);

			if (n == 0)
				break;
			odd += n;
			if (odd == end || (unsigned char)*odd < 0x80)
				odd = json_plain_end(odd, end);
		}
		buf_put(out, p, (size_t)(odd - p));
		p = odd < end ? put_odd(out, odd, end) : odd;
	}
	buf_putc(out, '"');
}

/* ---- values ---- */

static void put_array(struct buf *out, const struct field *f, const struct list *list, unsigned role)
{
	size_t size = field_element_size(f);

	if (f->type == FIELD_LIST) {
		json_encode_list(f->sub, list, role, out);
		return;
	}
	buf_putc(out, '[');
	for (size_t i = 0; i < list->n; i++) {
		const void *v = (const char *)list->v + i * size;
		char *w = buf_room(out, SCALAR_ROOM);

		if (i != 0) {
			*w++ = ',';
			out->n++;
		}
		if (f->type == FIELD_TEXTS)
			put_text(out, *(const struct str *)v);
		else
			out->n = (size_t)((f->type == FIELD_INTS ? put_int(w, *(const int64_t *)v) : put_uuid(w, v)) - out->p);
	}
	buf_putc(out, ']');
}

/* `w` has SCALAR_ROOM left. */
static char *put_scalar(char *w, const struct field *f, const void *v)
{
	switch ((int)f->type) {
	case FIELD_UUID:
		return put_uuid(w, v);
	case FIELD_INT:
		return put_int(w, *(const int64_t *)v);
	case FIELD_DECIMAL:
	case FIELD_MONEY:
		return put_hundredths(w, *(const int64_t *)v, f->type == FIELD_MONEY);
	case FIELD_FLOAT:
		return put_float(w, *(const double *)v);
	case FIELD_BOOL:
		return *(const bool *)v ? put_raw(w, "true", 4) : put_raw(w, "false", 5);
	case FIELD_TIME:
		return put_time(w, *(const int64_t *)v);
	case FIELD_DATE:
		return put_date(w, *(const int32_t *)v);
	default:
		return put_raw(w, "null", 4);
	}
}

static void put_value(struct buf *out, const struct field *f, const void *v, unsigned role)
{
	struct str text;

	switch ((int)f->type) {
	case FIELD_TEXT:
		put_text(out, *(const struct str *)v);
		return;
	case FIELD_ENUM:
		put_text(out, str_of(f->names.v[*(const int *)v]));
		return;
	case FIELD_JSON:
		text = *(const struct str *)v;
		buf_puts(out, text.n != 0 ? text : STR("null"));
		return;
	case FIELD_UUIDS:
	case FIELD_TEXTS:
	case FIELD_INTS:
	case FIELD_LIST:
		put_array(out, f, v, role);
		return;
	default:
		out->n = (size_t)(put_scalar(buf_room(out, SCALAR_ROOM), f, v) - out->p);
		return;
	}
}

/* ---- objects ---- */

static bool is_shown(const struct field *f, bool has, unsigned role)
{
	if ((f->flags & HIDDEN) != 0 || (!has && (f->flags & OMIT) != 0))
		return false;
	return f->roles == 0 || (f->roles & role) != 0;
}

/* About how long the object will be: exact enough that the buffer grows once for what has no escapes. */
static size_t size_guess(const struct schema *s, const void *from)
{
	const struct fields *head = from;
	size_t n = s->row ? 160 : 2;

	for (size_t i = 0; i < s->n; i++) {
		const struct field *f = &s->fields[i];
		const void *v = (const char *)from + f->offset;
		const struct list *list = v;

		n += field_name(f).n + 8;
		if ((head->set >> i & 1) == 0)
			continue;
		if (f->type == FIELD_TEXT || f->type == FIELD_JSON)
			n += ((const struct str *)v)->n + 2;
		else if (f->type == FIELD_LIST)
			n += list->n != 0 ? list->n * (size_guess(f->sub, list->v) + 8) : 2;
		else if (field_is_array(f))
			n += list->n * 40 + 2;
		else
			n += 40;
	}
	return n + SCALAR_ROOM;
}

static size_t put_row_head(const struct row *row, struct buf *out)
{
	char *w = buf_room(out, 3 * SCALAR_ROOM);

	w = put_uuid(put_raw(w, "\"id\":", 5), &row->id);
	w = put_raw(w, ",\"created_at\":", 14);
	w = row->created_at != 0 ? put_time(w, row->created_at) : put_raw(w, "null", 4);
	w = put_raw(w, ",\"updated_at\":", 14);
	w = row->updated_at != 0 ? put_time(w, row->updated_at) : put_raw(w, "null", 4);
	out->n = (size_t)(w - out->p);
	return 3;
}

size_t json_encode_members(const struct schema *s, const void *from, unsigned role, struct buf *out)
{
	const struct fields *head = from;
	size_t written = s->row ? put_row_head(from, out) : 0;

	for (size_t i = 0; i < s->n; i++) {
		const struct field *f = &s->fields[i];
		bool has = (head->set >> i & 1) != 0;
		struct str name = field_name(f);
		char *w;

		if (!is_shown(f, has, role))
			continue;
		w = buf_room(out, name.n + SCALAR_ROOM);
		if (written++ != 0)
			*w++ = ',';
		*w++ = '"';
		w = put_raw(w, name.p, name.n);
		*w++ = '"';
		*w++ = ':';
		if (!has)
			w = put_raw(w, "null", 4);
		out->n = (size_t)(w - out->p);
		if (has)
			put_value(out, f, (const char *)from + f->offset, role);
	}
	return written;
}

static void put_object(const struct schema *s, const void *from, unsigned role, struct buf *out)
{
	buf_putc(out, '{');
	json_encode_members(s, from, role, out);
	buf_putc(out, '}');
}

void json_encode_some(const struct schema *s, const void *from, uint64_t mask, struct buf *out)
{
	const struct fields *head = from;
	char separator = '{';

	for (size_t i = 0; i < s->n; i++) {
		const struct field *f = &s->fields[i];

		if ((head->set & mask) >> i & 1 && (f->flags & HIDDEN) == 0) {
			buf_putc(out, separator);
			separator = ',';
			buf_put_json(out, field_name(f));
			buf_putc(out, ':');
			put_value(out, f, (const char *)from + f->offset, ~0u);
		}
	}
	if (separator == '{')
		buf_putc(out, '{');
	buf_putc(out, '}');
}

void json_encode(const struct schema *s, const void *from, unsigned role, struct buf *out)
{
	IGNORE(buf_room(out, size_guess(s, from)) == NULL); /* one growth before the writers look */
	put_object(s, from, role, out);
}

void json_encode_list(const struct schema *s, const struct list *list, unsigned role, struct buf *out)
{
	if (list->n != 0)
		IGNORE(buf_room(out, list->n * size_guess(s, list->v)) == NULL); /* the first stands for all */
	buf_putc(out, '[');
	for (size_t i = 0; i < list->n; i++) {
		if (i != 0)
			buf_putc(out, ',');
		put_object(s, (const char *)list->v + i * s->size, role, out);
	}
	buf_putc(out, ']');
}
