/* SPDX-License-Identifier: Apache-2.0 */
/* multipart/form-data, fed in pieces of any size: what could still be a delimiter is held back, everything else goes on at once. */
#include "io/multipart.h"

#include <string.h>

#include "base/buf.h"
#include "base/str.h"
#include "io/http_internal.h"

enum { PARTS_MAX = 64, HEADERS_MAX = 4096, BOUNDARY_MAX = 70, PADDING_MAX = 64, NAME_MAX_BYTES = 255 };

/*
 *  PREAMBLE --delimiter--> AFTER --CRLF--> HEADERS --empty line--> DATA --delimiter--> AFTER
 *                            '--"--"--> EPILOGUE
 */
enum state { PREAMBLE, AFTER, HEADERS, DATA, EPILOGUE };

struct multipart {
	struct arena *arena;
	struct multipart_events events;
	enum state state;
	enum err failed;                  /* what every later call returns */
	char delimiter[BOUNDARY_MAX + 4]; /* CR LF "--" boundary */
	size_t delimiter_n;
	size_t matched; /* bytes of the delimiter seen at the end of what was fed */
	size_t implied; /* of these: its CRLF when it stood for something else (the beginning, the end of the headers) and is no data */
	char last; /* AFTER: the byte before, if it matters */
	size_t padding;
	struct buf headers;
	size_t parts;
};

/* One parameter of a header value: ; name=token or ; name="quoted". Moves *rest behind it. */
static bool parameter(struct str *rest, struct arena *arena, struct str *ret_name, struct str *ret_value)
{
	struct str r = str_trim(*rest);
	size_t i = 1;

	if (r.n == 0 || r.p[0] != ';')
		return false;
	while (i < r.n && (r.p[i] == ' ' || r.p[i] == '\t'))
		i++;
	ret_name->p = r.p + i;
	while (i < r.n && http_is(r.p[i], HTTP_C_TOKEN))
		i++;
	ret_name->n = (size_t)(r.p + i - ret_name->p);
	if (ret_name->n == 0 || i == r.n || r.p[i++] != '=')
		return false;
	if (i < r.n && r.p[i] == '"') {
		char *to = arena_alloc(arena, r.n), *start = to;

		for (i++; i < r.n && r.p[i] != '"'; i++) {
			/* Browsers escape the quote alone (as %22 or \"); a lone backslash is a character of a Windows path. */
			if (r.p[i] == '\\' && i + 1 < r.n && (r.p[i + 1] == '"' || r.p[i + 1] == '\\'))
				i++;
			*to++ = r.p[i];
		}
		if (i == r.n)
			return false;
		i++;
		*ret_value = (struct str){start, (size_t)(to - start)};
	} else {
		ret_value->p = r.p + i;
		while (i < r.n && http_is(r.p[i], HTTP_C_TOKEN))
			i++;
		ret_value->n = (size_t)(r.p + i - ret_value->p);
		if (ret_value->n == 0)
			return false;
	}
	*rest = (struct str){r.p + i, r.n - i};
	return true;
}

static bool boundary_is_good(struct str b)
{
	for (size_t i = 0; i < b.n; i++) {
		if (!http_is(b.p[i], HTTP_C_TOKEN) && !strchr("'()+_,-./:=? ", b.p[i]))
			return false;
	}
	return b.n > 0 && b.n <= BOUNDARY_MAX && b.p[b.n - 1] != ' ';
}

enum err multipart_new(struct str content_type, struct arena *arena, const struct multipart_events *events,
		       struct multipart **ret)
{
	struct str rest = content_type, name, value, boundary = {NULL, 0};
	const struct str type = STR("multipart/form-data");
	struct multipart *m;

	if (content_type.n < type.n || !str_ieq((struct str){content_type.p, type.n}, type))
		return ERR_MEDIA_TYPE;
	rest = (struct str){rest.p + type.n, rest.n - type.n};
	while (parameter(&rest, arena, &name, &value)) {
		if (!str_ieq(name, STR("boundary")))
			continue;
		if (boundary.p) /* two: readers would differ on where the parts end */
			return ERR_MEDIA_TYPE;
		boundary = value;
	}
	if (str_trim(rest).n != 0 || !boundary_is_good(boundary))
		return ERR_MEDIA_TYPE;

	m = arena_zalloc(arena, sizeof(*m));
	m->arena = arena;
	m->events = *events;
	m->headers = buf_in(arena);
	m->delimiter_n = boundary.n + 4;
	memcpy(m->delimiter, "\r\n--", 4);
	memcpy(m->delimiter + 4, boundary.p, boundary.n);
	m->matched = m->implied = 2; /* the first delimiter may stand at the very beginning, without its CRLF */
	*ret = m;
	return OK;
}

/* ---- the headers of a part ---- */

static enum err disposition(struct multipart *m, struct str value, struct multipart_part *part)
{
	struct str rest, name, v;
	const struct str type = STR("form-data");

	if (value.n < type.n || !str_ieq((struct str){value.p, type.n}, type))
		return ERR_MALFORMED;
	rest = (struct str){value.p + type.n, value.n - type.n};
	while (parameter(&rest, m->arena, &name, &v)) {
		struct str *to = str_ieq(name, STR("name"))       ? &part->name
				 : str_ieq(name, STR("filename")) ? &part->file_name
								  : NULL;

		if (!to)
			continue; /* filename* is not for form-data (RFC 7578 4.2) */
		if (to->p || v.n > NAME_MAX_BYTES || !str_is_utf8(v))
			return ERR_MALFORMED;
		*to = v;
	}
	return str_trim(rest).n == 0 ? OK : ERR_MALFORMED;
}

static enum err header_line(struct multipart *m, struct str line, struct multipart_part *part, bool *seen)
{
	struct str value = line, name = str_split(&value, ':');
	enum { DISPOSITION, TYPE };

	if (name.n == 0 || !value.p)
		return ERR_MALFORMED;
	for (size_t i = 0; i < name.n; i++) {
		if (!http_is(name.p[i], HTTP_C_TOKEN))
			return ERR_MALFORMED;
	}
	for (size_t i = 0; i < value.n; i++) {
		if (!http_is(value.p[i], HTTP_C_VALUE))
			return ERR_MALFORMED;
	}
	value = str_trim(value);
	if (str_ieq(name, STR("content-disposition"))) {
		if (seen[DISPOSITION])
			return ERR_MALFORMED;
		seen[DISPOSITION] = true;
		return disposition(m, value, part);
	}
	if (str_ieq(name, STR("content-type"))) {
		if (seen[TYPE])
			return ERR_MALFORMED;
		seen[TYPE] = true;
		part->content_type = value;
	}
	/* An encoded part would reach the file as it is: senders may not (RFC 7578 4.7), so it is refused instead. */
	if (str_ieq(name, STR("content-transfer-encoding")) && !str_ieq(value, STR("binary")) && !str_ieq(value, STR("8bit")) &&
	    !str_ieq(value, STR("7bit")))
		return ERR_MALFORMED;
	return OK;
}

static enum err part_begin(struct multipart *m)
{
	struct multipart_part part = {0};
	struct str rest = arena_str(m->arena, buf_str(&m->headers));
	bool seen[2] = {false, false};

	while (rest.n > 0) {
		struct str line = str_split(&rest, '\n');
		enum err e;

		line.n--; /* the CR, checked when it was collected */
		if (line.n == 0)
			break;
		e = header_line(m, line, &part, seen);
		if (e != OK)
			return e;
	}
	if (!part.name.p || part.name.n == 0 || ++m->parts > PARTS_MAX)
		return ERR_MALFORMED;
	m->headers.n = 0;
	m->matched = m->implied = 2; /* an empty part: the delimiter follows the headers' last CRLF */
	m->state = DATA;
	return m->events.begin ? m->events.begin(m->events.ctx, &part) : OK;
}

/* ---- the bytes ---- */

static enum err on_data(struct multipart *m, const char *p, size_t n)
{
	if (m->state != DATA || n == 0 || !m->events.data)
		return OK;
	return m->events.data(m->events.ctx, (struct str){p, n});
}

static enum err on_delimiter(struct multipart *m)
{
	bool ends_part = m->state == DATA;

	m->state = AFTER;
	m->matched = m->implied = m->padding = 0;
	m->last = 0;
	return ends_part && m->events.end ? m->events.end(m->events.ctx) : OK;
}

/* PREAMBLE and DATA: looks for the delimiter. CR occurs in it only as its first byte, so after a mismatch the search starts at the byte that
 * did not fit; what was held back until then, perhaps from earlier calls, is a prefix of the delimiter and is given from there. */
static enum err scan(struct multipart *m, struct str *bytes)
{
	const char *p = bytes->p, *end = p + bytes->n;

	while (p != end) {
		size_t held, implied;
		enum err e;

		if (m->matched == 0) {
			const char *cr = memchr(p, '\r', (size_t)(end - p)), *stop = cr ? cr : end;

			e = on_data(m, p, (size_t)(stop - p));
			if (e != OK)
				return e;
			p = stop;
		}
		while (p != end && m->matched < m->delimiter_n && *p == m->delimiter[m->matched]) {
			m->matched++;
			p++;
		}
		if (m->matched == m->delimiter_n) {
			*bytes = (struct str){p, (size_t)(end - p)};
			return on_delimiter(m);
		}
		if (p == end)
			break;
		implied = m->implied;
		held = m->matched - implied;
		m->matched = m->implied = 0;
		e = on_data(m, m->delimiter + implied, held);
		if (e != OK)
			return e;
	}
	*bytes = (struct str){end, 0};
	return OK;
}

/* Behind a delimiter: "--" ends everything, else white space and CRLF begin a part. */
static enum err after(struct multipart *m, char c)
{
	switch (m->last) {
	case 0:
		if (c == ' ' || c == '\t')
			return ++m->padding <= PADDING_MAX ? OK : ERR_MALFORMED;
		if (c != '\r' && (c != '-' || m->padding > 0))
			return ERR_MALFORMED;
		m->last = c;
		return OK;
	case '-':
		m->state = EPILOGUE;
		return c == '-' ? OK : ERR_MALFORMED;
	default:
		m->state = HEADERS;
		m->headers.n = 0;
		return c == '\n' ? OK : ERR_MALFORMED;
	}
}

static enum err header_byte(struct multipart *m, char c)
{
	struct buf *h = &m->headers;
	bool cr = h->n > 0 && h->p[h->n - 1] == '\r';

	if (cr != (c == '\n') || h->n == HEADERS_MAX)
		return ERR_MALFORMED;
	buf_putc(h, c);
	if (c == '\n' && (h->n == 2 || (h->n >= 4 && h->p[h->n - 3] == '\n')))
		return part_begin(m);
	return OK;
}

static enum err step(struct multipart *m, struct str *bytes)
{
	enum err e;

	switch (m->state) {
	case PREAMBLE:
	case DATA:
		return scan(m, bytes);
	case AFTER:
		e = after(m, *bytes->p);
		break;
	case HEADERS:
		e = header_byte(m, *bytes->p);
		break;
	case EPILOGUE:
		bytes->n = 0; /* ignored (RFC 2046 5.1.1) */
		return OK;
	default:
		return ERR_BUG;
	}
	bytes->p++;
	bytes->n--;
	return e;
}

enum err multipart_feed(struct multipart *m, struct str bytes)
{
	while (m->failed == OK && bytes.n > 0)
		m->failed = step(m, &bytes);
	return m->failed;
}

enum err multipart_finish(struct multipart *m)
{
	if (m->failed == OK && m->state != EPILOGUE)
		m->failed = ERR_MALFORMED;
	return m->failed;
}
