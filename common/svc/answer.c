/* SPDX-License-Identifier: Apache-2.0 */
/* From what a handler has left in its request to the bytes of the answer: headers, validators, the sync member. */
#include <stdarg.h>
#include <stdio.h>

#include "base/log.h"
#include "base/str.h"
#include "base/timefmt.h"
#include "svc/cache_http.h"
#include "svc/kit.h"

/* Every answer's: no sniffing, and nothing of it runs or is framed should a browser show it. */
#define SECURITY_LINES                                                            \
	"X-Content-Type-Options: nosniff\r\n"                                     \
	"Content-Security-Policy: default-src 'none'; frame-ancestors 'none'\r\n" \
	"Referrer-Policy: no-referrer\r\n"
#define JSON_LINES "Content-Type: application/json; charset=utf-8\r\n" SECURITY_LINES

/* ---- bodies ----------------------------------------------------------------------------------------------------------------------- */

void req_json_begin(struct req *req)
{
	req->body.n = 0;
	buf_putc(&req->body, '{');
}

void req_json_key(struct req *req, const char *name)
{
	if (req->body.n > 0 && req->body.p[req->body.n - 1] != '{')
		buf_putc(&req->body, ',');
	buf_put_json(&req->body, str_of(name));
	buf_putc(&req->body, ':');
}

void req_json_text(struct req *req, const char *name, struct str value)
{
	req_json_key(req, name);
	buf_put_json(&req->body, value);
}

void req_json_int(struct req *req, const char *name, int64_t value)
{
	req_json_key(req, name);
	buf_put_i64(&req->body, value);
}

void req_json_id(struct req *req, const char *name, struct uuid value)
{
	req_json_key(req, name);
	buf_putc(&req->body, '"');
	buf_put_uuid(&req->body, value);
	buf_putc(&req->body, '"');
}

void req_json_date(struct req *req, const char *name, int32_t day)
{
	char text[DATE_TEXT + 1];

	date_text(day, text);
	req_json_text(req, name, (struct str){text, DATE_TEXT});
}

void req_json_bool(struct req *req, const char *name, bool value)
{
	req_json_key(req, name);
	buf_puts(&req->body, value ? STR("true") : STR("false"));
}

void req_json_null(struct req *req, const char *name)
{
	req_json_key(req, name);
	buf_puts(&req->body, STR("null"));
}

void req_json_object(struct req *req, const char *name, const struct schema *s, const void *object)
{
	req_json_key(req, name);
	json_encode(s, object, req->who.role, &req->body);
}

void req_json_list(struct req *req, const char *name, const struct schema *s, const struct list *rows)
{
	req_json_key(req, name);
	json_encode_list(s, rows, req->who.role, &req->body);
}

void req_json_end(struct req *req)
{
	buf_putc(&req->body, '}');
}

/* A row is the resource: its version is the answer's. */
static void take_version(struct req *req, const struct schema *s, const void *object)
{
	if (s->row && req->version == 0)
		req->version = ((const struct row *)object)->version;
}

enum err req_reply(struct req *req, const struct schema *s, const void *object)
{
	req->body.n = 0;
	take_version(req, s, object);
	json_encode(s, object, req->who.role, &req->body);
	return OK;
}

enum err req_reply_as(struct req *req, const char *name, const struct schema *s, const void *object)
{
	take_version(req, s, object);
	req_json_begin(req);
	req_json_object(req, name, s, object);
	req_json_end(req);
	return OK;
}

enum err req_reply_list(struct req *req, const char *name, const struct schema *s, const struct list *rows)
{
	req_json_begin(req);
	req_json_list(req, name, s, rows);
	req_json_end(req);
	return OK;
}

enum err req_reply_message(struct req *req, const char *message_text)
{
	req_json_begin(req);
	req_json_text(req, "message", str_of(message_text));
	req_json_end(req);
	return OK;
}

/* Other parameters than the page number that the route knows. What it does not is not handed on: an answer may be kept for others, who did not ask so. */
static bool is_linked(const struct req *req, struct str pair)
{
	struct str name = str_split(&pair, '=');
	char *decoded = arena_alloc(req->arena, name.n + 1);
	size_t n;

	if (!req->route->query || !str_percent_decode(decoded, name, true, &n))
		return false;
	name = (struct str){decoded, n};
	return !str_is(name, "page") && schema_find(req->route->query, name) != NULL;
}

/* The request's own address with another page number. */
static void put_link(struct req *req, const char *rel, int64_t number, const char *before)
{
	struct str rest = req->x->query;
	char sep = '?';

	buf_printf(&req->headers, "%s<", before);
	buf_puts(&req->headers, req->x->path);
	while (rest.n != 0) {
		struct str pair = str_split(&rest, '&');

		if (!is_linked(req, pair))
			continue;
		buf_putc(&req->headers, sep);
		for (size_t i = 0; i < pair.n; i++) {
			char c = pair.p[i];

			/* What would end the address or the parameter. */
			if (c == '<' || c == '>' || c == '"' || c <= ' ' || c == 127)
				buf_printf(&req->headers, "%%%02X", (unsigned)(unsigned char)c);
			else
				buf_putc(&req->headers, c);
		}
		sep = '&';
	}
	buf_printf(&req->headers, "%cpage=%lld>; rel=\"%s\"", sep, (long long)number, rel);
}

enum err req_reply_page(struct req *req, const char *name, const struct schema *s, const struct list *rows, int64_t total)
{
	struct page page = req_page(req, req->page_size > 0 ? req->page_size : rows->n > 0 ? (int64_t)rows->n : 1);

	IGNORE(req_reply_list(req, name, s, rows)); /* it cannot fail */
	req->body.n--;
	buf_printf(&req->body, ",\"total\":%lld,\"page\":%lld,\"page_size\":%lld}", (long long)total, (long long)page.number,
		   (long long)page.size);
	put_link(req, "first", 1, "Link: ");
	if (page.number > 1)
		put_link(req, "prev", page.number - 1, ", ");
	if (page.offset + (int64_t)rows->n < total && rows->n != 0)
		put_link(req, "next", page.number + 1, ", ");
	buf_puts(&req->headers, STR("\r\n"));
	return OK;
}

void req_header(struct req *req, const char *name, const char *fmt, ...)
{
	va_list ap;
	const char *value;

	va_start(ap, fmt);
	value = arena_vprintf(req->arena, fmt, ap);
	va_end(ap);
	buf_printf(&req->headers, "%s: ", name);
	/* A line break in a value would be a header of its own. */
	for (; *value != '\0'; value++)
		buf_putc(&req->headers, (unsigned char)*value < ' ' || *value == 127 ? ' ' : *value);
	buf_puts(&req->headers, STR("\r\n"));
}

/* ---- sync -------------------------------------------------------------------------------------------------------------------------- */

static const char *const sync_names[] = {
	[SYNC_NONE] = "", [SYNC_PENDING] = "pending", [SYNC_IN_FLIGHT] = "in_flight", [SYNC_DEAD] = "dead", [SYNC_DONE] = "done",
};

static const char *durability_of(const struct req *req)
{
	if (req->durability != NULL)
		return req->durability;
	if (req->sync == SYNC_DONE || req->database_only)
		return "database";
	return daemon_durability_at(req->daemon, req->who.buffer);
}

static void put_sync(struct req *req)
{
	struct buf *out = &req->body;

	if (req->sync == SYNC_NONE || out->n < 2 || out->p[out->n - 1] != '}')
		return;
	out->n--;
	buf_puts(out, out->n > 1 ? STR(",\"sync\":{\"state\":\"") : STR("\"sync\":{\"state\":\""));
	buf_puts(out, str_of(sync_names[req->sync]));
	buf_puts(out, STR("\",\"version\":"));
	buf_put_i64(out, req->version > 0 ? req->version : 0);
	buf_puts(out, STR(",\"durability\":\""));
	buf_puts(out, str_of(durability_of(req)));
	if (req->due_us != 0) {
		char due[TIME_TEXT + 1];

		time_text(req->due_us, due);
		buf_puts(out, STR("\",\"due\":\""));
		buf_puts(out, str_of(due));
	}
	buf_puts(out, STR("\"}}"));
}

/* ---- validators and caching ----------------------------------------------------------------------------------------------------------- */

static bool is_read(const struct req *req)
{
	return req->x->method == HTTP_GET || req->x->method == HTTP_HEAD;
}

uint64_t answer_hash(struct str body)
{
	return str_hash(body, UINT64_C(0x5c7001524));
}

/* Empty: none. The body's hash belongs to it, because bodies carry counts and names that change without the row. By hand: printf costs more
 * than all the rest of a small answer. */
static struct str make_tag(const struct req *req, struct buf *to)
{
	uint64_t hash;

	if (req->version < 0 || req->database_only || req->body.n == 0 || req->content_type != NULL ||
	    (req->version == 0 && !is_read(req)))
		return (struct str){NULL, 0};
	hash = req->body_hash != 0 ? req->body_hash : answer_hash(buf_str(&req->body));
	if (req->version > 0) {
		buf_putc(to, '"');
		buf_put_i64(to, req->version);
		buf_putc(to, '-');
	} else {
		buf_puts(to, STR("W/\""));
	}
	for (int shift = 60; shift >= 0; shift -= 4)
		buf_putc(to, "0123456789abcdef"[hash >> shift & 15]);
	buf_putc(to, '"');
	return buf_str(to);
}

static struct str opaque(struct str tag)
{
	tag = str_trim(tag);
	return str_has_prefix(tag, STR("W/")) ? (struct str){tag.p + 2, tag.n - 2} : tag;
}

bool answer_tag_matches(struct str header, struct str tag)
{
	struct str rest = str_trim(header);

	if (str_is(rest, "*"))
		return tag.n != 0;
	/* Our tags hold no comma, so splitting at commas finds them whatever else the list holds. */
	while (rest.n != 0)
		if (str_eq(opaque(str_split(&rest, ',')), opaque(tag)))
			return tag.n != 0;
	return false;
}

/* ---- sending ------------------------------------------------------------------------------------------------------------------------------ */

static void put_id(const struct req *req, struct buf *out)
{
	buf_puts(out, STR("X-Request-Id: "));
	buf_puts(out, str_of(req->id));
	buf_puts(out, STR("\r\n"));
}

/* "There is none" is of the database alone as well, when the buffer could not be asked. */
static void put_data(const struct req *req, bool cache_told, struct buf *out)
{
	if (req->database_only)
		buf_puts(out,
			 cache_told ? STR("X-Data: database-only\r\n") : STR("X-Cache: BYPASS\r\nX-Data: database-only\r\n"));
}

static void send_problem(struct req *req, enum err e)
{
	struct buf headers = buf_in(req->arena);
	int status = err_status(e);

	/* What a handler had prepared for its success says nothing about the failure. */
	req->headers.n = req->kept_headers;
	req->body.n = 0;
	buf_puts(&headers, STR("Content-Type: application/problem+json\r\n" SECURITY_LINES));
	put_id(req, &headers);
	http_cache_lines(req, status, &headers);
	put_data(req, false, &headers);
	buf_puts(&headers, buf_str(&req->headers));
	problem_of(req, e, &req->body, &headers);
	problem_log(req, e);
	http_answer(req->x, status, buf_str(&headers), buf_str(&req->body));
}

static void send_options(struct req *req)
{
	struct buf headers = buf_in(req->arena), body = buf_in(req->arena);

	put_id(req, &headers);
	problem_of(req, ERR_METHOD, &body, &headers);
	http_answer(req->x, 204, buf_str(&headers), STR(""));
}

static void send_success(struct req *req)
{
	struct buf headers = buf_in(req->arena), tag_text = buf_in(req->arena);
	struct str tag, match;

	put_sync(req);
	if (req->status == 0)
		req->status = req->body.n == 0 ? 204 : 200;
	tag = req->status == 200 || req->status == 201 ? make_tag(req, &tag_text) : (struct str){NULL, 0};
	buf_grow(&headers, 512);
	if (req->content_type == NULL)
		buf_puts(&headers, STR(JSON_LINES));
	else
		buf_printf(&headers, "Content-Type: %s\r\n" SECURITY_LINES, req->content_type);
	put_id(req, &headers);
	http_cache_lines(req, req->status, &headers);
	if (tag.n != 0) {
		buf_puts(&headers, STR("ETag: "));
		buf_puts(&headers, tag);
		buf_puts(&headers, STR("\r\n"));
	}
	if (req->replayed)
		buf_puts(&headers, STR("Idempotency-Replayed: true\r\n"));
	put_data(req, req->cached != NULL, &headers);
	buf_puts(&headers, buf_str(&req->headers));
	match = is_read(req) && tag.n != 0 && req->status == 200 ? http_header(req->x, "If-None-Match") : (struct str){NULL, 0};
	if (match.p != NULL && answer_tag_matches(match, tag))
		http_answer(req->x, 304, buf_str(&headers), STR(""));
	else
		http_answer(req->x, req->status, buf_str(&headers), buf_str(&req->body));
}

void answer_send(struct req *req, enum err e)
{
	if (req->answered) {
		/* The status is out; ending early cuts the connection, so the client sees that something was wrong. */
		if (e != OK)
			problem_log(req, e);
		http_answer_end(req->x);
	} else if (e != OK) {
		send_problem(req, e);
	} else if (req->route == NULL) {
		send_options(req);
	} else {
		send_success(req);
	}
}
