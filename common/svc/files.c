/* SPDX-License-Identifier: Apache-2.0 */
/* Stored files as answers: names by RFC 6266, one range by RFC 9110, bytes streamed at the client's pace. */
#include <stdio.h>

#include "base/str.h"
#include "io/loop.h"
#include "svc/kit.h"

#define WRITE_MS 60000 /* one piece to a slow client */

/* Shown in the browser only when it cannot run anything; the rest is saved. */
static bool may_be_viewed(struct str type)
{
	static const char *const types[] = {"application/pdf", "image/png",  "image/jpeg",
					    "image/gif",       "image/webp", "text/plain"};
	struct str bare = str_trim(str_split(&type, ';'));

	for (size_t i = 0; i < ARRAY_LEN(types); i++)
		if (str_ieq(bare, str_of(types[i])))
			return true;
	return false;
}

static bool is_attr_char(unsigned char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       (c != '\0' && strchr("!#$&+-.^_`|~", c) != NULL);
}

/* filename= for old clients in ASCII, filename*= with the real name. */
static void put_disposition(struct buf *out, struct str name, bool inline_view)
{
	bool plain = true;

	buf_printf(out, "Content-Disposition: %s; filename=\"", inline_view ? "inline" : "attachment");
	for (size_t i = 0; i < name.n; i++) {
		unsigned char c = (unsigned char)name.p[i];

		if (c >= 0x80 && c < 0xc0)
			continue; /* one underscore a letter */
		if (c < ' ' || c >= 127 || c == '"' || c == '\\' || c == '%') {
			buf_putc(out, '_');
			plain = false;
		} else {
			buf_putc(out, (char)c);
		}
	}
	buf_putc(out, '"');
	if (!plain) {
		buf_puts(out, STR("; filename*=UTF-8''"));
		for (size_t i = 0; i < name.n; i++) {
			unsigned char c = (unsigned char)name.p[i];

			if (is_attr_char(c))
				buf_putc(out, (char)c);
			else
				buf_printf(out, "%%%02X", (unsigned)c);
		}
	}
	buf_puts(out, STR("\r\n"));
}

struct range {
	enum { RANGE_NONE, RANGE_PART, RANGE_OUTSIDE } kind;
	int64_t from, to; /* both inside */
};

/* One range of bytes; several, or anything unknown, is the whole file, as the RFC allows. */
static struct range parse_range(struct str header, int64_t size)
{
	const struct range none = {.kind = RANGE_NONE};
	struct str rest, first;
	int64_t from, to = size - 1;

	if (!str_has_prefix(header, STR("bytes=")) || memchr(header.p, ',', header.n) != NULL)
		return none;
	rest = str_trim((struct str){header.p + 6, header.n - 6});
	if (memchr(rest.p, '-', rest.n) == NULL)
		return none;
	first = str_split(&rest, '-');
	if (first.n == 0) {
		int64_t last;

		if (!str_to_i64(rest, &last) || last < 0)
			return none;
		if (last == 0 || size == 0)
			return (struct range){.kind = RANGE_OUTSIDE};
		return (struct range){.kind = RANGE_PART, .from = last < size ? size - last : 0, .to = size - 1};
	}
	if (!str_to_i64(first, &from) || from < 0 || (rest.n != 0 && (!str_to_i64(rest, &to) || to < from)))
		return none;
	if (from >= size)
		return (struct range){.kind = RANGE_OUTSIDE};
	return (struct range){.kind = RANGE_PART, .from = from, .to = to < size ? to : size - 1};
}

/* Bytes behind the last slash of the key are the content's hash: a strong tag. */
static struct str file_tag(struct arena *arena, struct str key)
{
	struct str rest = key, part = key;

	while (rest.p != NULL)
		part = str_split(&rest, '/');
	return str_of(arena_printf(arena, "\"%.*s\"", STR_FMT(part)));
}

static enum err answer_outside(struct req *req, int64_t size)
{
	struct problem_text p = {
		.status = 416, .code = "range_not_satisfiable", .title = "The range lies outside the file", .id = req->id};

	req->status = 416;
	req->content_type = "application/problem+json";
	req->body.n = 0;
	problem_write(&p, &req->body);
	req_header(req, "Content-Range", "bytes */%lld", (long long)size);
	return OK;
}

SUSPENDS static enum err send_bytes(struct req *req, struct storage_reader *reader, int64_t from, int64_t left)
{
	struct loop *loop = daemon_loop(req->daemon);

	while (left > 0) {
		struct deadline d = deadline_in(loop, WRITE_MS);
		struct str bytes;
		enum err e = storage_read(reader, d, &bytes);

		if (e != OK)
			return e;
		if (bytes.n == 0)
			return req_fail(req, ERR_IO, "the stored file is shorter than it was");
		if ((int64_t)bytes.n <= from) {
			from -= (int64_t)bytes.n;
			continue;
		}
		bytes = (struct str){bytes.p + from, bytes.n - (size_t)from};
		from = 0;
		if ((int64_t)bytes.n > left)
			bytes.n = (size_t)left;
		left -= (int64_t)bytes.n;
		e = http_write(req->x, bytes, d);
		if (e != OK)
			return e;
	}
	return OK;
}

static bool wants_range(const struct req *req, struct str tag)
{
	struct str condition = http_header(req->x, "If-Range");

	return req->x->method == HTTP_GET && http_header(req->x, "Range").p != NULL &&
	       (condition.p == NULL || str_eq(condition, tag));
}

SUSPENDS enum err req_send_file(struct req *req, struct str storage_key, struct str file_name, struct str content_type,
				bool inline_view)
{
	struct storage_reader *reader;
	struct range range = {.kind = RANGE_NONE};
	struct buf headers = buf_in(req->arena);
	struct str tag = file_tag(req->arena, storage_key), match = http_header(req->x, "If-None-Match");
	int64_t size;
	enum err e;

	if (daemon_storage(req->daemon) == NULL)
		return req_fail(req, ERR_IO, "this service keeps no files");
	e = storage_read_open(daemon_storage(req->daemon), storage_key, req->arena, req->deadline, &size, &reader);
	if (e == ERR_NOT_FOUND)
		return req_fail(req, ERR_NOT_FOUND, "the file is not there");
	if (e != OK)
		return e;
	if (wants_range(req, tag))
		range = parse_range(http_header(req->x, "Range"), size);
	if (range.kind == RANGE_OUTSIDE)
		return answer_outside(req, size);

	if (match.p != NULL && answer_tag_matches(match, tag)) {
		req->status = 304;
		req->content_type = arena_cstr(req->arena, content_type);
		req_header(req, "ETag", "%.*s", STR_FMT(tag));
		return OK;
	}
	buf_printf(&headers, "ETag: %.*s\r\nAccept-Ranges: bytes\r\nX-Content-Type-Options: nosniff\r\n", STR_FMT(tag));
	buf_printf(&headers,
		   "Content-Security-Policy: default-src 'none'\r\nCache-Control: private, no-cache\r\nX-Request-Id: %s\r\n",
		   req->id);
	buf_puts(&headers, (struct str){req->headers.p, req->kept_headers});
	buf_puts(&headers, STR("Content-Type: "));
	buf_puts(&headers, content_type);
	buf_puts(&headers, STR("\r\n"));
	put_disposition(&headers, file_name, inline_view && may_be_viewed(content_type));
	if (range.kind == RANGE_NONE) {
		range.from = 0;
		range.to = size - 1;
	} else {
		buf_printf(&headers, "Content-Range: bytes %lld-%lld/%lld\r\n", (long long)range.from, (long long)range.to,
			   (long long)size);
	}
	http_answer_begin(req->x, range.kind == RANGE_PART ? 206 : 200, buf_str(&headers), range.to - range.from + 1);
	req->answered = true;
	return req->x->method == HTTP_HEAD ? OK : send_bytes(req, reader, range.from, range.to - range.from + 1);
}
