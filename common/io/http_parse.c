/* SPDX-License-Identifier: Apache-2.0 */
/* The strict parser of request and reply heads: pure functions over bytes, no I/O, no allocation. */
#include <string.h>

#include "base/str.h"
#include "io/http_internal.h"

/* clang-format off */
const uint8_t http_chars[256] = {
	 0,  0,  0,  0,  0,  0,  0,  0,  0,  4,  0,  0,  0,  0,  0,  0,
	 0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,
	 4, 15,  6,  5, 15, 15, 15, 15, 14, 14, 15, 15,  6, 15, 15,  6,
	31, 31, 31, 31, 31, 31, 31, 31, 31, 31, 14, 14,  6, 14,  6,  6,
	 6, 31, 31, 31, 31, 31, 31, 15, 15, 15, 15, 15, 15, 15, 15, 15,
	15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 14,  6, 14,  7, 15,
	 7, 31, 31, 31, 31, 31, 31, 15, 15, 15, 15, 15, 15, 15, 15, 15,
	15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15,  6,  7,  6, 15,  0,
	 4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,
	 4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,
	 4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,
	 4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,
	 4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,
	 4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,
	 4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,
	 4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,
};
/* clang-format on */

enum { METHOD_MAX = 24, GOOD = 1, MORE = 0 };

/* Steps return GOOD, MORE (the bytes end here) or the negative status. The cursor moves only on GOOD. */
struct cursor {
	const char *p, *end;
};

/* What the header fields say about connection and body; common to requests and replies. */
struct framing {
	int64_t content_length;
	bool chunked, other_coding, has_transfer_encoding, close, keep_alive, expect_continue;
	unsigned hosts;
};

const char *http_method_name(enum http_method m)
{
	static const char *const names[] = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "OTHER"};

	return (size_t)m < ARRAY_LEN(names) ? names[m] : "OTHER";
}

static enum http_method method_of(struct str text)
{
	for (enum http_method m = HTTP_GET; m < HTTP_OTHER; m++) {
		if (str_is(text, http_method_name(m)))
			return m;
	}
	return HTTP_OTHER;
}

/* Eight bytes at a time: true when none is below 0x20 or 0x7f. A tab is caught too, and looked at by the slow loop. */
static inline bool eight_plain(const char *p)
{
	const uint64_t ones = UINT64_C(0x0101010101010101), highs = UINT64_C(0x8080808080808080);
	uint64_t v, low, del;

	memcpy(&v, p, sizeof(v));
	low = (v - ones * 0x20) & ~v & highs;
	v ^= ones * 0x7f;
	del = (v - ones) & ~v & highs;
	return (low | del) == 0;
}

static inline const char *skip_value(const char *p, const char *end)
{
	for (;;) {
		while (end - p >= 8 && eight_plain(p))
			p += 8;
		if (p == end || !http_is(*p, HTTP_C_VALUE))
			return p;
		p++;
	}
}

static inline const char *skip(const char *p, const char *end, unsigned set)
{
	while (p != end && http_is(*p, set))
		p++;
	return p;
}

static int line_end(struct cursor *c, const char *p)
{
	if (p == c->end)
		return MORE;
	if (*p != '\r')
		return -400;
	if (p + 1 == c->end)
		return MORE;
	if (p[1] != '\n')
		return -400;
	c->p = p + 2;
	return GOOD;
}

/* "HTTP/1.x": GOOD with the minor version behind p. */
static int version(struct cursor *c, int *ret_minor)
{
	static const char name[] = "HTTP/";
	size_t left = (size_t)(c->end - c->p), fixed = sizeof(name) - 1;

	if (left == 0)
		return MORE;
	if (memcmp(c->p, name, left < fixed ? left : fixed) != 0)
		return -400;
	for (size_t i = fixed; i < fixed + 3 && i < left; i++) {
		bool ok = i == fixed + 1 ? c->p[i] == '.' : c->p[i] >= '0' && c->p[i] <= '9';

		if (!ok)
			return -400;
	}
	if (left < fixed + 3)
		return MORE;
	if (c->p[fixed] != '1' || c->p[fixed + 2] > '1')
		return -505;
	*ret_minor = c->p[fixed + 2] - '0';
	c->p += fixed + 3;
	return GOOD;
}

/* One field line. GOOD with an empty name: the empty line that ends the block. */
static int field(struct cursor *c, struct http_header *to)
{
	const char *p, *value, *value_end;
	struct cursor at = *c;
	int r;

	if (at.p == at.end)
		return MORE;
	if (*at.p == '\r') {
		to->name = (struct str){NULL, 0};
		return line_end(c, at.p);
	}
	/* A line that begins with white space (obs-fold), a space before the colon and an empty name all end here. */
	p = skip(at.p, at.end, HTTP_C_TOKEN);
	if (p == at.end)
		return MORE;
	if (*p != ':' || p == at.p)
		return -400;
	value = p + 1;
	while (value != at.end && (*value == ' ' || *value == '\t'))
		value++;
	value_end = skip_value(value, at.end);
	r = line_end(&at, value_end);
	if (r != GOOD)
		return r;
	while (value_end > value && (value_end[-1] == ' ' || value_end[-1] == '\t'))
		value_end--;
	to->name = (struct str){c->p, (size_t)(p - c->p)};
	to->value = (struct str){value, (size_t)(value_end - value)};
	c->p = at.p;
	return GOOD;
}

static int content_length(struct framing *f, struct str value)
{
	int64_t v = 0;

	if (f->content_length >= 0 || value.n == 0)
		return -400;
	for (size_t i = 0; i < value.n; i++) {
		int digit = value.p[i] - '0';

		if (digit < 0 || digit > 9)
			return -400;
		if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, digit, &v))
			return -400;
	}
	f->content_length = v;
	return GOOD;
}

/* Only "chunked" alone is served. Another coding is 501; chunked anywhere but alone at the end is a mistake of the sender. */
static int transfer_encoding(struct framing *f, struct str value)
{
	struct str rest = value;
	bool chunked = false, other = false;

	if (f->has_transfer_encoding)
		return -400;
	f->has_transfer_encoding = true;
	if (str_ieq(value, STR("chunked"))) {
		f->chunked = true;
		return GOOD;
	}
	while (rest.p) {
		struct str coding = str_trim(str_split(&rest, ','));

		if (chunked || coding.n == 0)
			return -400;
		chunked = str_ieq(coding, STR("chunked"));
		other = other || !chunked;
		for (size_t i = 0; i < coding.n && coding.p[i] != ';'; i++) {
			if (!http_is(coding.p[i], HTTP_C_TOKEN))
				return -400;
		}
	}
	f->other_coding = other;
	return other ? GOOD : -400;
}

static int connection(struct framing *f, struct str value)
{
	while (value.p) {
		struct str option = str_trim(str_split(&value, ','));

		if (str_ieq(option, STR("close")))
			f->close = true;
		else if (str_ieq(option, STR("keep-alive")))
			f->keep_alive = true;
	}
	return GOOD;
}

static int host(struct framing *f, struct str value)
{
	f->hosts++;
	if (value.n == 0 || f->hosts > 1)
		return -400;
	for (size_t i = 0; i < value.n; i++) {
		if (!http_is(value.p[i], HTTP_C_HOST))
			return -400;
	}
	return GOOD;
}

static int framing_add(struct framing *f, const struct http_header *h)
{
	switch (h->name.n) {
	case 4:
		return str_ieq(h->name, STR("host")) ? host(f, h->value) : GOOD;
	case 6:
		if (!str_ieq(h->name, STR("expect")))
			return GOOD;
		f->expect_continue = str_ieq(h->value, STR("100-continue"));
		return f->expect_continue ? GOOD : -417;
	case 10:
		return str_ieq(h->name, STR("connection")) ? connection(f, h->value) : GOOD;
	case 14:
		return str_ieq(h->name, STR("content-length")) ? content_length(f, h->value) : GOOD;
	case 17:
		return str_ieq(h->name, STR("transfer-encoding")) ? transfer_encoding(f, h->value) : GOOD;
	default:
		return GOOD;
	}
}

static int fields(struct cursor *c, struct http_header *headers, size_t max, size_t *ret_n, struct framing *f)
{
	size_t n = 0;
	int r;

	for (;;) {
		struct http_header h;

		r = field(c, &h);
		if (r != GOOD)
			return r;
		if (h.name.n == 0)
			break;
		if (n == max)
			return -431;
		headers[n++] = h;
		r = framing_add(f, &h);
		if (r != GOOD)
			return r;
	}
	*ret_n = n;
	/* Whoever has read the other of the two saw another end of this message. */
	if (f->has_transfer_encoding && f->content_length >= 0)
		return -400;
	return f->other_coding ? -501 : GOOD;
}

static bool target_is_absolute(struct str t, size_t *ret_authority)
{
	const struct str schemes[] = {STR("http://"), STR("https://")};

	for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
		if (t.n > schemes[i].n && str_ieq((struct str){t.p, schemes[i].n}, schemes[i])) {
			*ret_authority = schemes[i].n;
			return true;
		}
	}
	return false;
}

static bool target_is_good(const struct http_head *head)
{
	struct str t = head->target;
	size_t at;

	if (t.n == 0)
		return false;
	if (t.p[0] == '/')
		return true;
	if (t.n == 1 && t.p[0] == '*')
		return head->method == HTTP_OPTIONS;
	if (!target_is_absolute(t, &at) || t.p[at] == '/' || t.p[at] == '?')
		return false;
	for (; at < t.n && t.p[at] != '/' && t.p[at] != '?'; at++) {
		if (!http_is(t.p[at], HTTP_C_HOST))
			return false;
	}
	return true;
}

void http_target_split(struct str target, struct str *ret_path, struct str *ret_query)
{
	const char *mark;
	size_t at;

	if (target.n > 0 && target.p[0] != '/' && target_is_absolute(target, &at)) {
		while (at < target.n && target.p[at] != '/' && target.p[at] != '?')
			at++;
		target = (struct str){target.p + at, target.n - at};
	}
	mark = target.n ? memchr(target.p, '?', target.n) : NULL;
	*ret_query = mark ? (struct str){mark + 1, target.n - (size_t)(mark - target.p) - 1}
			  : (struct str){target.p + target.n, 0};
	*ret_path = mark ? (struct str){target.p, (size_t)(mark - target.p)} : target;
	if (ret_path->n == 0) /* "http://host" means its root */
		*ret_path = STR("/");
}

static int request_line(struct cursor *c, const struct http_limits *limits, struct http_head *head)
{
	struct cursor at = *c;
	const char *p;
	int r;

	p = skip(at.p, at.end, HTTP_C_TOKEN);
	if (p - at.p > METHOD_MAX)
		return -501;
	if (p == at.end)
		return MORE;
	if (*p != ' ' || p == at.p)
		return -400;
	head->method_text = (struct str){at.p, (size_t)(p - at.p)};
	head->method = method_of(head->method_text);

	at.p = p + 1;
	p = skip(at.p, at.end, HTTP_C_TARGET);
	if ((size_t)(p - at.p) > limits->target_bytes)
		return -414;
	if (p == at.end)
		return MORE;
	if (*p != ' ')
		return -400;
	head->target = (struct str){at.p, (size_t)(p - at.p)};
	if (str_is(head->method_text, "CONNECT"))
		return -501;
	if (!target_is_good(head))
		return -400;

	at.p = p + 1;
	r = version(&at, &head->minor);
	if (r != GOOD)
		return r;
	r = line_end(&at, at.p);
	if (r == GOOD)
		c->p = at.p;
	return r;
}

static int whole_head(struct cursor *c, const struct http_limits *limits, struct http_head *head, struct framing *f)
{
	size_t max = head->max_headers < limits->header_fields ? head->max_headers : limits->header_fields;
	int r;

	/* RFC 9112 2.2: an empty line before the request line, left over by an old client's POST, is skipped. */
	if (c->p != c->end && *c->p == '\r') {
		r = line_end(c, c->p);
		if (r != GOOD)
			return r;
	}
	r = request_line(c, limits, head);
	if (r != GOOD)
		return r;
	r = fields(c, head->headers, max, &head->n_headers, f);
	if (r != GOOD)
		return r;
	if (head->minor == 0 && f->has_transfer_encoding)
		return -400;
	if (head->minor == 1 && f->hosts != 1)
		return -400;
	return GOOD;
}

int http_parse_head(const char *bytes, size_t n, const struct http_limits *limits, struct http_head *head)
{
	size_t most = limits->header_bytes < n ? limits->header_bytes : n;
	struct cursor c = {bytes, bytes + most};
	struct framing f = {.content_length = -1};
	int r = whole_head(&c, limits, head, &f);

	if (r == MORE)
		return n >= limits->header_bytes ? -431 : 0;
	if (r != GOOD)
		return r;
	head->content_length = f.content_length;
	head->chunked = f.chunked;
	head->expect_continue = f.expect_continue && head->minor == 1;
	head->keep_alive = !f.close && (head->minor == 1 || f.keep_alive);
	return (int)(c.p - bytes);
}

static int status_line(struct cursor *c, struct http_reply_head *head)
{
	struct cursor at = *c;
	int status = 0, r;
	const char *p;

	r = version(&at, &head->minor);
	if (r != GOOD)
		return r;
	for (size_t i = 0; i < 4; i++, at.p++) {
		if (at.p == at.end)
			return MORE;
		if (i == 0 ? *at.p != ' ' : *at.p < '0' || *at.p > '9')
			return -400;
		status = i == 0 ? 0 : status * 10 + (*at.p - '0');
	}
	/* Some servers leave the space before an empty reason away. */
	p = at.p != at.end && *at.p == ' ' ? skip_value(at.p, at.end) : at.p;
	r = line_end(&at, p);
	if (r != GOOD)
		return r;
	if (status < 100 || status > 599)
		return -400;
	head->status = status;
	c->p = at.p;
	return GOOD;
}

int http_parse_reply(const char *bytes, size_t n, const struct http_limits *limits, struct http_reply_head *head)
{
	size_t most = limits->header_bytes < n ? limits->header_bytes : n;
	size_t max = head->max_headers < limits->header_fields ? head->max_headers : limits->header_fields;
	struct cursor c = {bytes, bytes + most};
	struct framing f = {.content_length = -1};
	int r;

	r = status_line(&c, head);
	if (r == GOOD)
		r = fields(&c, head->headers, max, &head->n_headers, &f);
	if (r == MORE)
		return n >= limits->header_bytes ? -431 : 0;
	if (r != GOOD)
		return r;
	head->content_length = f.content_length;
	head->chunked = f.chunked;
	head->keep_alive = !f.close && (head->minor == 1 || f.keep_alive);
	return (int)(c.p - bytes);
}
