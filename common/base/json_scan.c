/* SPDX-License-Identifier: Apache-2.0 */
/* Strict JSON, lexed in one pass without a tree: strings, numbers, and skipping of whole values. */
#include "base/json_scan.h"

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The four digits behind \u; -1 when they are not four. */
static int32_t hex4(const char *p, const char *end)
{
	int32_t v = 0;

	if (end - p < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		int digit = hex_value(p[i]);

		if (digit < 0)
			return -1;
		v = v << 4 | digit;
	}
	return v;
}

static bool is_high(int32_t unit)
{
	return (unit & 0xfc00) == 0xd800;
}

static bool is_low(int32_t unit)
{
	return (unit & 0xfc00) == 0xdc00;
}

/* The low half that follows a high one at p ("\udc00"), -1: none. */
static int32_t low_half(const char *p, const char *end)
{
	int32_t unit;

	if (end - p < 6 || p[0] != '\\' || p[1] != 'u')
		return -1;
	unit = hex4(p + 2, end);
	return is_low(unit) ? unit : -1;
}

/* Steps over the escape at p; NULL: not one. */
static const char *scan_escape(struct json_scan *s, const char *p)
{
	int32_t unit;

	if (s->end - p < 2)
		return NULL;
	switch (p[1]) {
	case '"':
	case '\\':
	case '/':
	case 'b':
	case 'f':
	case 'n':
	case 'r':
	case 't':
		return p + 2;
	case 'u':
		break;
	default:
		return NULL;
	}
	unit = hex4(p + 2, s->end);
	if (unit < 0)
		return NULL;
	p += 6;
	if (is_high(unit)) {
		if (low_half(p, s->end) >= 0)
			return p + 6;
		s->unfit = true;
	} else if (unit == 0 || is_low(unit)) {
		s->unfit = true;
	}
	return p;
}

bool json_scan_string(struct json_scan *s, struct json_text *ret_text)
{
	const char *p = s->p, *end = s->end, *next;
	struct json_text text = {.raw = {.p = p}, .ascii = true};

	for (;;) {
		p = json_plain_end(p, end);
		if (p == end || (unsigned char)*p < 0x20)
			break;
		if (*p == '"') {
			text.raw.n = (size_t)(p - text.raw.p);
			s->p = p + 1;
			*ret_text = text;
			return true;
		}
		if (*p == '\\') {
			text.escaped = true;
			next = scan_escape(s, p);
			if (next == NULL)
				break;
			p = next;
			continue;
		}
		text.ascii = false;
		do {
			size_t n = json_utf8_step(p, end);

			if (n == 0) {
				s->p = p;
				return false;
			}
			p += n;
		} while (p < end && (unsigned char)*p >= 0x80);
	}
	s->p = p;
	return false;
}

static const char *digits(const char *p, const char *end)
{
	while (p < end && (unsigned char)(*p - '0') < 10)
		p++;
	return p;
}

bool json_scan_number(struct json_scan *s, struct json_number *ret_number)
{
	const char *p = s->p, *end = s->end, *from;
	bool whole = true;

	if (p < end && *p == '-')
		p++;
	from = p;
	p = digits(p, end);
	if (p == from || (*from == '0' && p - from > 1))
		goto bad;
	if (p < end && *p == '.') {
		whole = false;
		from = ++p;
		p = digits(p, end);
		if (p == from)
			goto bad;
	}
	if (p < end && (*p | 0x20) == 'e') {
		whole = false;
		p++;
		if (p < end && (*p == '+' || *p == '-'))
			p++;
		from = p;
		p = digits(p, end);
		if (p == from)
			goto bad;
	}
	*ret_number = (struct json_number){.text = {s->p, (size_t)(p - s->p)}, .whole = whole};
	s->p = p;
	return true;
bad:
	s->p = p;
	return false;
}

bool json_scan_literal(struct json_scan *s, const char *word)
{
	size_t n = strlen(word);

	if ((size_t)(s->end - s->p) < n || memcmp(s->p, word, n) != 0)
		return false;
	s->p += n;
	return true;
}

static bool scan_scalar(struct json_scan *s, char first)
{
	struct json_number number;
	struct json_text text;

	switch (first) {
	case '"':
		s->p++;
		return json_scan_string(s, &text);
	case 't':
		return json_scan_literal(s, "true");
	case 'f':
		return json_scan_literal(s, "false");
	case 'n':
		return json_scan_literal(s, "null");
	default:
		return json_scan_number(s, &number);
	}
}

/* A member's name and its colon. */
static bool scan_name(struct json_scan *s)
{
	struct json_text name;

	if (json_peek(s) != '"')
		return false;
	s->p++;
	if (!json_scan_string(s, &name) || json_peek(s) != ':')
		return false;
	s->p++;
	return true;
}

bool json_scan_value(struct json_scan *s, unsigned depth)
{
	uint64_t objects = 0; /* a bit for each level that this call opened: object or array; SCHEMA_DEPTH_MAX fits */
	unsigned open = 0;

	do {
		char c;

		if ((objects & 1) != 0 && !scan_name(s))
			return false;
		c = json_peek(s);
		if (c == '{' || c == '[') {
			if (depth + open >= SCHEMA_DEPTH_MAX) {
				s->deep = true;
				return false;
			}
			s->p++;
			objects = objects << 1 | (c == '{');
			open++;
			if (json_peek(s) != (c == '{' ? '}' : ']'))
				continue;
		} else if (!scan_scalar(s, c)) {
			return false;
		}
		while (open != 0) {
			c = json_peek(s);
			if (c == ',') {
				s->p++;
				break;
			}
			if (c != ((objects & 1) != 0 ? '}' : ']'))
				return false;
			s->p++;
			objects >>= 1;
			open--;
		}
	} while (open != 0);
	return true;
}

static size_t utf8_put(char *to, uint32_t c)
{
	if (c < 0x80) {
		to[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		to[0] = (char)(0xc0 | c >> 6);
		to[1] = (char)(0x80 | (c & 0x3f));
		return 2;
	}
	if (c < 0x10000) {
		to[0] = (char)(0xe0 | c >> 12);
		to[1] = (char)(0x80 | (c >> 6 & 0x3f));
		to[2] = (char)(0x80 | (c & 0x3f));
		return 3;
	}
	to[0] = (char)(0xf0 | c >> 18);
	to[1] = (char)(0x80 | (c >> 12 & 0x3f));
	to[2] = (char)(0x80 | (c >> 6 & 0x3f));
	to[3] = (char)(0x80 | (c & 0x3f));
	return 4;
}

static char escape_char(char c)
{
	switch (c) {
	case 'b':
		return '\b';
	case 'f':
		return '\f';
	case 'n':
		return '\n';
	case 'r':
		return '\r';
	case 't':
		return '\t';
	default:
		return c;
	}
}

size_t json_unescape(char *to, struct str raw)
{
	const char *p = raw.p, *end = raw.p + raw.n;
	char *w = to;

	while (p < end) {
		const char *run = memchr(p, '\\', (size_t)(end - p));
		size_t n = (size_t)((run != NULL ? run : end) - p);
		int32_t unit, low;

		memcpy(w, p, n);
		w += n;
		if (run == NULL)
			break;
		p = run + 2;
		if (run[1] != 'u') {
			*w++ = escape_char(run[1]);
			continue;
		}
		unit = hex4(p, end);
		p += 4;
		if (is_high(unit) && (low = low_half(p, end)) >= 0) {
			unit = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
			p += 6;
		}
		w += utf8_put(w, (uint32_t)unit);
	}
	return (size_t)(w - to);
}

bool json_is_valid(struct str text)
{
	struct json_scan s = json_scan_of(text);

	return text.n != 0 && json_scan_value(&s, 0) && json_at_end(&s) && !s.unfit;
}

static bool name_is(struct json_text name, const char *want)
{
	char plain[6 * 64];

	if (!name.escaped)
		return str_is(name.raw, want);
	if (name.raw.n > sizeof(plain))
		return false;
	return str_is((struct str){plain, json_unescape(plain, name.raw)}, want);
}

bool json_member(struct str object, const char *name, struct str *ret_value)
{
	struct json_scan s = json_scan_of(object);
	struct str found = {NULL, 0};

	if (object.n == 0 || json_peek(&s) != '{')
		return false;
	s.p++;
	if (json_peek(&s) == '}')
		return false;
	for (;;) {
		struct json_text text;
		const char *from;
		char c;

		if (json_peek(&s) != '"')
			return false;
		s.p++;
		if (!json_scan_string(&s, &text) || json_peek(&s) != ':')
			return false;
		s.p++;
		IGNORE(json_peek(&s)); /* only for the white space */
		from = s.p;
		if (!json_scan_value(&s, 1))
			return false;
		if (name_is(text, name))
			found = (struct str){from, (size_t)(s.p - from)};
		c = json_peek(&s);
		if (c != ',' && c != '}')
			return false;
		s.p++;
		if (c == '}')
			break;
	}
	if (found.p == NULL || !json_at_end(&s))
		return false;
	*ret_value = found;
	return true;
}

bool json_next(struct str *rest, struct str *ret_value)
{
	struct json_scan s = json_scan_of(*rest);
	const char *from;
	bool first;
	char c;

	if (rest->n == 0)
		return false;
	c = json_peek(&s);
	first = c == '[';
	if (c != '[' && c != ',') {
		*rest = c == ']' ? (struct str){s.p, 0} : (struct str){NULL, 0};
		return false;
	}
	s.p++;
	c = json_peek(&s);
	from = s.p;
	if (first && c == ']') {
		*rest = (struct str){s.p, 0};
		return false;
	}
	if (!json_scan_value(&s, 1)) {
		*rest = (struct str){NULL, 0};
		return false;
	}
	*ret_value = (struct str){from, (size_t)(s.p - from)};
	*rest = (struct str){s.p, (size_t)(s.end - s.p)};
	return true;
}
