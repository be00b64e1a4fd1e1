/* SPDX-License-Identifier: Apache-2.0 */
/* Building answers, and the write path: straight to the kernel, and only what it does not take is kept. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/str.h"
#include "base/timefmt.h"
#include "io/fiber.h"
#include "io/http_internal.h"

enum { COPY_MAX = 8192, HEAD_EXTRA = 256, POOL_OUTS = 256, OUT_KEEP = 32768 };

#define NOTHING ((struct str){NULL, 0})

/* ---- the write path ---- */

static struct http_out *out_take(struct http_conn *c)
{
	struct http_server *s = c->server;
	struct http_out *out = s->outs;

	if (out) {
		s->outs = out->next;
		s->n_outs--;
	} else {
		out = mem_zalloc(sizeof(*out));
	}
	out->head.n = out->head_at = 0;
	out->ref = out->tail = NOTHING;
	c->out = out;
	return out;
}

void http_out_free(struct http_server *s, struct http_out *out)
{
	if (!out)
		return;
	if (s->n_outs < POOL_OUTS && out->head.cap <= OUT_KEEP) {
		out->next = s->outs;
		s->outs = out;
		s->n_outs++;
		return;
	}
	buf_done(&out->head);
	free(out);
}

static struct str behind(struct str s, size_t *n)
{
	size_t gone = *n < s.n ? *n : s.n;

	*n -= gone;
	return (struct str){s.p + gone, s.n - gone};
}

/* Bytes taken; 0: the socket is full; -1: broken. */
static ssize_t send_parts(int fd, struct str a, struct str b, struct str c)
{
	const struct str parts[] = {a, b, c};
	/* struct iovec is the same pair, but for a const that sending does not need gone. */
	union {
		struct str s;
		struct iovec v;
	} at;
	struct iovec v[ARRAY_LEN(parts)];
	struct msghdr m = {.msg_iov = v};
	ssize_t n;

	_Static_assert(offsetof(struct iovec, iov_len) == offsetof(struct str, n), "an iovec is a pointer and a length");
	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		at.s = parts[i];
		if (parts[i].n > 0)
			v[m.msg_iovlen++] = at.v;
	}
	do
		n = m.msg_iovlen == 1 ? send(fd, v[0].iov_base, v[0].iov_len, MSG_NOSIGNAL) : sendmsg(fd, &m, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN ? 0 : -1;
	return n;
}

static enum http_send flush_bytes(struct http_conn *c)
{
	struct http_out *out = c->out;
	bool moved = false;

	for (;;) {
		struct str head = {out->head.p + out->head_at, out->head.n - out->head_at};
		ssize_t n = send_parts(c->fd, head, out->ref, out->tail);
		size_t gone = (size_t)n;

		if (n < 0)
			return HTTP_BROKEN;
		if (n == 0)
			break;
		moved = true;
		head = behind(head, &gone);
		out->head_at = out->head.n - head.n;
		out->ref = behind(out->ref, &gone);
		out->tail = behind(out->tail, &gone);
		if (head.n == 0 && out->ref.n == 0 && out->tail.n == 0) {
			http_out_free(c->server, out);
			c->out = NULL;
			return HTTP_SENT;
		}
	}
	if (moved && c->wait == HTTP_W_STALL) /* it goes on: the time of standing still begins anew */
		http_wait_set(c, HTTP_W_STALL);
	return HTTP_PENDING;
}

enum http_send http_send(struct http_conn *c, struct str first, struct str ref, struct str tail, bool cork)
{
	struct http_out *out = c->out;
	size_t gone = 0;

	if (!out && !cork) {
		ssize_t n = send_parts(c->fd, first, ref, tail);

		if (n < 0)
			return HTTP_BROKEN;
		gone = (size_t)n;
		if (gone == first.n + ref.n + tail.n)
			return HTTP_SENT;
	}
	if (!out)
		out = out_take(c);
	assert(out->ref.n == 0 && "an answer before the last one was written");
	first = behind(first, &gone);
	buf_puts(&out->head, first);
	out->ref = behind(ref, &gone);
	out->tail = behind(tail, &gone);
	if (cork)
		return HTTP_SENT;
	return flush_bytes(c);
}

enum http_send http_flush(struct http_conn *c)
{
	struct http_exchange_own *x = c->x;
	enum http_send r = flush_bytes(c);

	if (r == HTTP_BROKEN)
		http_conn_break(c);
	if (r != HTTP_SENT || !x)
		return r;
	if (x->writer) {
		struct op *op = x->writer;

		x->writer = NULL;
		op_complete(op, OK);
	}
	if (x->ending)
		http_conn_finish(x);
	return r;
}

bool http_continue_send(struct http_conn *c)
{
	c->x->expect = false;
	return http_send(c, STR("HTTP/1.1 100 Continue\r\n\r\n"), NOTHING, NOTHING, false) != HTTP_BROKEN;
}

/* ---- heads ---- */

static char *put(char *to, const char *p, size_t n)
{
	memcpy(to, p, n);
	return to + n;
}
#define PUT(to, literal) put((to), (literal), sizeof(literal) - 1)

static char *put_number(char *to, uint64_t v)
{
	char digits[20];
	size_t n = 0;

	do
		digits[sizeof(digits) - ++n] = (char)('0' + v % 10);
	while ((v /= 10) > 0);
	return put(to, digits + sizeof(digits) - n, n);
}

static struct str reason(int status)
{
	/* clang-format off */
	static const struct {
		int status;
		const char *text;
	} rows[] = {
		{200, "OK"}, {201, "Created"}, {202, "Accepted"}, {204, "No Content"}, {206, "Partial Content"}, {207, "Multi-Status"},
		{301, "Moved Permanently"}, {302, "Found"}, {303, "See Other"}, {304, "Not Modified"}, {307, "Temporary Redirect"},
		{308, "Permanent Redirect"},
		{400, "Bad Request"}, {401, "Unauthorized"}, {403, "Forbidden"}, {404, "Not Found"}, {405, "Method Not Allowed"},
		{406, "Not Acceptable"}, {408, "Request Timeout"}, {409, "Conflict"}, {410, "Gone"}, {411, "Length Required"},
		{412, "Precondition Failed"}, {413, "Content Too Large"}, {414, "URI Too Long"}, {415, "Unsupported Media Type"},
		{416, "Range Not Satisfiable"}, {417, "Expectation Failed"}, {422, "Unprocessable Content"}, {428, "Precondition Required"},
		{429, "Too Many Requests"}, {431, "Request Header Fields Too Large"},
		{500, "Internal Server Error"}, {501, "Not Implemented"}, {502, "Bad Gateway"}, {503, "Service Unavailable"},
		{504, "Gateway Timeout"}, {505, "HTTP Version Not Supported"},
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (rows[i].status == status)
			return str_of(rows[i].text);
	}
	return STR("Unknown");
}

size_t http_status_put(struct http_server *s, int status, char *to)
{
	int64_t now_s = loop_real_us(s->loop) / US_PER_S;
	char *p = to, date[30];

	if (now_s != s->date_s) {
		size_t n = time_http(now_s * US_PER_S, date);

		p = put(PUT(s->date, "Date: "), date, n);
		s->date_n = (size_t)(PUT(p, "\r\n") - s->date);
		s->date_s = now_s;
	}
	if (status == 200) {
		p = PUT(to, "HTTP/1.1 200 OK\r\n");
	} else {
		struct str text = reason(status);

		p = put_number(PUT(to, "HTTP/1.1 "), (unsigned)status);
		*p++ = ' ';
		p = PUT(put(p, text.p, text.n), "\r\n");
	}
	return (size_t)(put(p, s->date, s->date_n) - to);
}

static bool status_has_body(int status)
{
	return status >= 200 && status != 204 && status != 304;
}

enum { LENGTH_CHUNKED = -1, LENGTH_UNTIL_CLOSE = -2 };

/* The whole head; `to` has room for HEAD_EXTRA and the headers. */
static size_t head_put(struct http_exchange_own *x, int status, struct str headers, int64_t length, char *to)
{
	char *p = to + http_status_put(x->server, status, to);

	if (length >= 0 && (status_has_body(status) || length > 0))
		p = PUT(put_number(PUT(p, "Content-Length: "), (uint64_t)length), "\r\n");
	else if (length == LENGTH_CHUNKED)
		p = PUT(p, "Transfer-Encoding: chunked\r\n");
	if (x->close)
		p = PUT(p, "Connection: close\r\n");
	else if (x->minor == 0)
		p = PUT(p, "Connection: keep-alive\r\n");
	if (headers.n > 0)
		p = put(p, headers.p, headers.n);
	return (size_t)(PUT(p, "\r\n") - to);
}

/* ---- whole answers ---- */

static struct http_exchange_own *own(struct http_exchange *x)
{
	return CONTAINER_OF(x, struct http_exchange_own, x);
}

/* The last bytes of the answer are on their way. */
static void ended(struct http_exchange_own *x, enum http_send r)
{
	switch (r) {
	case HTTP_SENT:
		http_conn_finish(x);
		return;
	case HTTP_PENDING:
		x->ending = true;
		http_resume(x->conn);
		return;
	case HTTP_BROKEN:
		x->ending = true;
		if (!x->streaming)
			x->sent = 0;
		http_conn_break(x->conn);
		return;
	}
}

void http_answer(struct http_exchange *public, int status, struct str headers, struct str body)
{
	struct http_exchange_own *x = own(public);
	struct http_conn *c = x->conn;
	struct http_server *s = x->server;
	bool with_body;
	struct buf large = {0};
	char *to = s->scratch;
	enum http_send r;
	size_t n;

	assert(x->running && !x->answered);
	if (!c) {
		http_exchange_give(x, x->status);
		return;
	}
	x->answered = true;
	x->status = status;
	x->close = http_conn_must_close(c);
	with_body = status_has_body(status) && x->x.method != HTTP_HEAD;
	if (headers.n > sizeof(s->scratch) - COPY_MAX - HEAD_EXTRA)
		to = buf_room(&large, headers.n + HEAD_EXTRA);
	n = head_put(x, status, headers, status_has_body(status) ? (int64_t)body.n : 0, to);
	x->sent = n;
	if (with_body)
		x->sent += body.n;
	if (!with_body || (body.n <= COPY_MAX && to == s->scratch)) {
		bool cork = c->going && c->at < c->end && !x->close;

		if (with_body && body.n > 0) {
			memcpy(to + n, body.p, body.n);
			n += body.n;
		}
		r = http_send(c, (struct str){to, n}, NOTHING, NOTHING, cork);
	} else {
		r = http_send(c, (struct str){to, n}, body, NOTHING, false);
	}
	buf_done(&large);
	ended(x, r);
}

/* ---- streamed answers ---- */

void http_answer_begin(struct http_exchange *public, int status, struct str headers, int64_t length)
{
	struct http_exchange_own *x = own(public);
	struct buf head = {0};

	assert(x->running && !x->answered);
	x->answered = x->streaming = true;
	x->out_left = length;
	x->no_body_out = x->x.method == HTTP_HEAD || !status_has_body(status);
	if (!x->conn)
		return;
	x->status = status;
	x->close = http_conn_must_close(x->conn);
	if (length < 0 && x->minor == 0) {
		length = LENGTH_UNTIL_CLOSE;
		x->close = true;
	}
	x->chunked_out = length == LENGTH_CHUNKED && !x->no_body_out;
	if (!status_has_body(status))
		length = LENGTH_UNTIL_CLOSE; /* no body, and no word about it */
	head.n = head_put(x, status, headers, length, buf_room(&head, headers.n + HEAD_EXTRA));
	x->sent = head.n;
	/* It leaves with the first bytes of the body, or at the end of this turn. */
	IGNORE(http_send(x->conn, buf_str(&head), NOTHING, NOTHING, true) != HTTP_SENT); /* corked: always taken */
	buf_done(&head);
	http_resume(x->conn);
}

static void writer_free(struct op *op)
{
	free(op);
}

/* Until all that is pending has gone out. */
static SUSPENDS enum err wait_written(struct http_exchange_own *x, struct deadline d)
{
	struct op *op = mem_alloc(sizeof(*op));
	enum err e;

	op_init(op, "http_write", writer_free);
	x->writer = op;
	http_resume(x->conn);
	e = await(op, d);
	if (x->writer == op) {
		x->writer = NULL;
		op_complete(op, e);
	}
	op_unref(op);
	/* Half a chunk is out: nobody can go on from here. */
	if (e != OK && x->conn)
		http_conn_break(x->conn);
	return e;
}

enum err http_write(struct http_exchange *public, struct str bytes, struct deadline d)
{
	struct http_exchange_own *x = own(public);
	struct http_conn *c = x->conn;
	char *to = x->server->scratch, prefix[24];
	struct str tail = NOTHING;
	enum http_send r;
	size_t n = 0;

	assert(x->streaming);
	if (!c || x->gone)
		return ERR_CANCELLED;
	if (bytes.n == 0 || x->no_body_out)
		return OK;
	if (x->out_left >= 0) {
		if ((uint64_t)x->out_left < bytes.n)
			return ERR_BUG;
		x->out_left -= (int64_t)bytes.n;
	}
	if (x->chunked_out) {
		n = (size_t)snprintf(prefix, sizeof(prefix), "%zx\r\n", bytes.n);
		tail = STR("\r\n");
	}
	x->sent += n + bytes.n + tail.n;
	if (bytes.n <= COPY_MAX) {
		char *p = put(put(to, prefix, n), bytes.p, bytes.n);

		if (tail.n > 0)
			p = put(p, tail.p, tail.n);
		r = http_send(c, (struct str){to, (size_t)(p - to)}, NOTHING, NOTHING, false);
	} else {
		r = http_send(c, (struct str){prefix, n}, bytes, tail, false);
	}
	if (r == HTTP_BROKEN) {
		http_conn_break(c);
		return ERR_CANCELLED;
	}
	return r == HTTP_SENT ? OK : wait_written(x, d);
}

void http_answer_end(struct http_exchange *public)
{
	struct http_exchange_own *x = own(public);
	struct http_conn *c = x->conn;

	assert(x->streaming && !x->ending);
	if (!c) {
		http_exchange_give(x, x->sent > 0 ? x->status : 0);
		return;
	}
	if (x->gone || (x->out_left > 0 && !x->no_body_out)) {
		http_answer_cut(public);
		return;
	}
	if (x->chunked_out) {
		x->sent += 5;
		ended(x, http_send(c, STR("0\r\n\r\n"), NOTHING, NOTHING, false));
		return;
	}
	ended(x, c->out ? flush_bytes(c) : HTTP_SENT);
}

void http_answer_cut(struct http_exchange *public)
{
	struct http_exchange_own *x = own(public);

	assert(x->streaming && !x->ending);
	if (x->conn) {
		/* A reset, not an orderly end: an answer without length or chunks would look complete. */
		setsockopt(x->conn->fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
		http_conn_break(x->conn);
	}
	http_exchange_give(x, x->sent > 0 ? x->status : 0);
}

bool http_client_gone(const struct http_exchange *public)
{
	const struct http_exchange_own *x = (const void *)public;

	return !x->conn || x->gone;
}

struct str http_header(const struct http_exchange *x, const char *name)
{
	struct str wanted = str_of(name);

	for (size_t i = 0; i < x->n_headers; i++) {
		if (str_ieq(x->headers[i].name, wanted))
			return x->headers[i].value;
	}
	return NOTHING;
}
