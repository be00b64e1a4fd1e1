/* SPDX-License-Identifier: Apache-2.0 */
/* The head parser and the chunked coding: what is accepted, what is refused and with which status, and that pieces make no difference. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/str.h"
#include "io/http_internal.h"

struct sample {
	const char *what;
	struct str bytes;
	int status; /* 0: accepted */
	enum http_method method;
	const char *target;
	size_t headers;
	int64_t length; /* -1: none, -2: chunked */
	bool keep_alive;
};
#define GET(rest) STR("GET / HTTP/1.1\r\nHost: a\r\n" rest)

/* clang-format off */
static const struct sample *samples(size_t *ret_n)
{
	static struct sample rows[128];
	const struct sample all[] = {
		{"the least", GET("\r\n"), 0, HTTP_GET, "/", 1, -1, true},
		{"with a query", STR("GET /a/b?c=d&e HTTP/1.1\r\nhost:a:80\r\n\r\n"), 0, HTTP_GET, "/a/b?c=d&e", 1, -1, true},
		{"an empty line before", STR("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), 0, HTTP_GET, "/", 1, -1, true},
		{"HTTP/1.0", STR("GET / HTTP/1.0\r\n\r\n"), 0, HTTP_GET, "/", 0, -1, false},
		{"HTTP/1.0 kept", STR("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"), 0, HTTP_GET, "/", 1, -1, true},
		{"close", GET("Connection: foo , CLOSE\r\n\r\n"), 0, HTTP_GET, "/", 2, -1, false},
		{"length", STR("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\n"), 0, HTTP_POST, "/", 2, 12, true},
		{"length 0", STR("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 000\r\n\r\n"), 0, HTTP_PUT, "/", 2, 0, true},
		{"the largest length", GET("Content-Length: 9223372036854775807\r\n\r\n"), 0, HTTP_GET, "/", 2, INT64_MAX, true},
		{"chunked", STR("PATCH / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\tChunked \r\n\r\n"), 0, HTTP_PATCH, "/", 2, -2, true},
		{"an empty value", GET("X:\r\n\r\n"), 0, HTTP_GET, "/", 2, -1, true},
		{"tabs and high bytes in a value", GET("X: \t a\tb \xc3\xa4\xff \t\r\n\r\n"), 0, HTTP_GET, "/", 2, -1, true},
		{"an absolute target", STR("GET http://h:1/p?q HTTP/1.1\r\nHost: a\r\n\r\n"), 0, HTTP_GET, "http://h:1/p?q", 1, -1, true},
		{"OPTIONS *", STR("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"), 0, HTTP_OPTIONS, "*", 1, -1, true},
		{"another method", STR("PROPFIND /x HTTP/1.1\r\nHost: a\r\n\r\n"), 0, HTTP_OTHER, "/x", 1, -1, true},
		{"an IPv6 host", STR("DELETE / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n"), 0, HTTP_DELETE, "/", 1, -1, true},
		{"an expectation", GET("Expect: 100-Continue\r\n\r\n"), 0, HTTP_GET, "/", 2, -1, true},

		{"two lengths", GET("Content-Length: 3\r\nContent-Length: 30\r\n\r\n"), 400},
		{"two equal lengths", GET("Content-Length: 3\r\nContent-Length: 3\r\n\r\n"), 400},
		{"a list of lengths", GET("Content-Length: 3, 3\r\n\r\n"), 400},
		{"a space before the colon", GET("Content-Length : 3\r\n\r\n"), 400},
		{"a tab before the colon", GET("Content-Length\t: 3\r\n\r\n"), 400},
		{"a length with a sign", GET("Content-Length: +3\r\n\r\n"), 400},
		{"a negative length", GET("Content-Length: -3\r\n\r\n"), 400},
		{"a hexadecimal length", GET("Content-Length: 0x3\r\n\r\n"), 400},
		{"an empty length", GET("Content-Length:\r\n\r\n"), 400},
		{"a length with a space inside", GET("Content-Length: 1 2\r\n\r\n"), 400},
		{"a length with a fraction", GET("Content-Length: 3.0\r\n\r\n"), 400},
		{"a length past 63 bits", GET("Content-Length: 9223372036854775808\r\n\r\n"), 400},
		{"a length past everything", GET("Content-Length: 99999999999999999999999999\r\n\r\n"), 400},
		{"length and chunked", GET("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"), 400},
		{"chunked and length", GET("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n"), 400},
		{"chunked and length 0", GET("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n"), 400},
		{"gzip, chunked and length", GET("Content-Length: 3\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"), 400},
		{"xchunked and length", GET("Transfer-Encoding: xchunked\r\nContent-Length: 3\r\n\r\n"), 400},
		{"xchunked", GET("Transfer-Encoding: xchunked\r\n\r\n"), 501},
		{"identity", GET("Transfer-Encoding: identity\r\n\r\n"), 501},
		{"gzip, chunked", GET("Transfer-Encoding: gzip, chunked\r\n\r\n"), 501},
		{"chunked, chunked", GET("Transfer-Encoding: chunked, chunked\r\n\r\n"), 400},
		{"chunked, gzip", GET("Transfer-Encoding: chunked, gzip\r\n\r\n"), 400},
		{"chunked twice", GET("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"), 400},
		{"chunked and a comma", GET("Transfer-Encoding: chunked,\r\n\r\n"), 400},
		{"a comma and chunked", GET("Transfer-Encoding: ,chunked\r\n\r\n"), 400},
		{"an empty coding", GET("Transfer-Encoding:\r\n\r\n"), 400},
		{"quoted chunked", GET("Transfer-Encoding: \"chunked\"\r\n\r\n"), 400},
		{"chunked behind a vertical tab", GET("Transfer-Encoding: \vchunked\r\n\r\n"), 400},
		{"chunked in HTTP/1.0", STR("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400},
		{"bare LF everywhere", STR("GET / HTTP/1.1\nHost: a\n\n"), 400},
		{"bare LF after the request line", STR("GET / HTTP/1.1\nHost: a\r\n\r\n"), 400},
		{"bare LF after a field", STR("GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n"), 400},
		{"bare LF at the end", STR("GET / HTTP/1.1\r\nHost: a\r\n\n"), 400},
		{"bare CR in a value", GET("X: a\rb\r\n\r\n"), 400},
		{"bare CR in the request line", STR("GET / HTTP/1.1\rHost: a\r\n\r\n"), 400},
		{"NUL in a value", GET("X: a\0b\r\n\r\n"), 400},
		{"NUL in a name", GET("X\0: a\r\n\r\n"), 400},
		{"NUL in the target", STR("GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n"), 400},
		{"DEL in a value", GET("X: a\x7f\r\n\r\n"), 400},
		{"a control character in a value", GET("X: abcdefgh\x1bijkl\r\n\r\n"), 400},
		{"a folded line", GET("X: a\r\n b\r\n\r\n"), 400},
		{"a folded line of tabs", GET("X: a\r\n\tb\r\n\r\n"), 400},
		{"a folded first line", STR("GET / HTTP/1.1\r\n Host: a\r\n\r\n"), 400},
		{"an empty name", GET(": a\r\n\r\n"), 400},
		{"no colon", GET("X\r\n\r\n"), 400},
		{"a name with a space", GET("X Y: a\r\n\r\n"), 400},
		{"a name with a high byte", GET("X\xc3\xa4: a\r\n\r\n"), 400},
		{"a name in brackets", GET("X(): a\r\n\r\n"), 400},
		{"no Host", STR("GET / HTTP/1.1\r\n\r\n"), 400},
		{"two Hosts", GET("Host: b\r\n\r\n"), 400},
		{"two Hosts in HTTP/1.0", STR("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n"), 400},
		{"an empty Host", STR("GET / HTTP/1.1\r\nHost:\r\n\r\n"), 400},
		{"a Host with a path", STR("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"), 400},
		{"a Host with a user", STR("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"), 400},
		{"a Host with a space", STR("GET / HTTP/1.1\r\nHost: a b\r\n\r\n"), 400},
		{"a Host list", STR("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"), 400},
		{"another expectation", GET("Expect: cake\r\n\r\n"), 417},
		{"HTTP/2.0", STR("GET / HTTP/2.0\r\nHost: a\r\n\r\n"), 505},
		{"HTTP/1.2", STR("GET / HTTP/1.2\r\nHost: a\r\n\r\n"), 505},
		{"HTTP/0.9", STR("GET / HTTP/0.9\r\n\r\n"), 505},
		{"the preface of HTTP/2", STR("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 400},
		{"no version", STR("GET /\r\n\r\n"), 400},
		{"lower-case http", STR("GET / http/1.1\r\nHost: a\r\n\r\n"), 400},
		{"HTTP/1.10", STR("GET / HTTP/1.10\r\nHost: a\r\n\r\n"), 400},
		{"HTTP/11", STR("GET / HTTP/11\r\nHost: a\r\n\r\n"), 400},
		{"two spaces", STR("GET  / HTTP/1.1\r\nHost: a\r\n\r\n"), 400},
		{"two spaces before the version", STR("GET /  HTTP/1.1\r\nHost: a\r\n\r\n"), 400},
		{"a space after the version", STR("GET / HTTP/1.1 \r\nHost: a\r\n\r\n"), 400},
		{"a tab for a space", STR("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n"), 400},
		{"a space before the method", STR(" GET / HTTP/1.1\r\nHost: a\r\n\r\n"), 400},
		{"a method of strange characters", STR("G{T / HTTP/1.1\r\nHost: a\r\n\r\n"), 400},
		{"a method without end", STR("GETGETGETGETGETGETGETGETGETGETGET / HTTP/1.1\r\nHost: a\r\n\r\n"), 501},
		{"a target without slash", STR("GET a HTTP/1.1\r\nHost: a\r\n\r\n"), 400},
		{"a target with a fragment", STR("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"), 400},
		{"a target with a high byte", STR("GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n"), 400},
		{"GET *", STR("GET * HTTP/1.1\r\nHost: a\r\n\r\n"), 400},
		{"an absolute target without host", STR("GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n"), 400},
		{"an absolute target with a user", STR("GET http://u@h/ HTTP/1.1\r\nHost: a\r\n\r\n"), 400},
		{"CONNECT", STR("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n"), 501},
		{"TLS", STR("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), 400},
		{"two empty lines before", STR("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), 400},
	};

	_Static_assert(ARRAY_LEN(all) <= ARRAY_LEN(rows), "room for the samples");
	memcpy(rows, all, sizeof(all));
	*ret_n = ARRAY_LEN(all);
	return rows;
}
/* clang-format on */

/* Exactly so many bytes on the heap, so that AddressSanitizer sees a read past them. */
static int parse(struct str bytes, size_t n, struct http_head *head, struct http_header *headers)
{
	char *copy = malloc(n ? n : 1);
	int r;

	memcpy(copy, bytes.p, n);
	*head = (struct http_head){.headers = headers, .max_headers = 64};
	r = http_parse_head(copy, n, &http_limits_default, head);
	if (r > 0) { /* slices of the caller's bytes again */
		head->target.p = bytes.p + (head->target.p - copy);
		head->method_text.p = bytes.p + (head->method_text.p - copy);
	}
	free(copy);
	return r;
}

static void every_sample_gets_its_verdict(void **state)
{
	struct http_header headers[64];
	struct http_head head;
	size_t n;
	const struct sample *all = samples(&n);

	(void)state;
	for (const struct sample *s = all; s < all + n; s++) {
		int r = parse(s->bytes, s->bytes.n, &head, headers);

		if (r != (s->status ? -s->status : (int)s->bytes.n))
			fail_msg("%s: %d", s->what, r);
		if (s->status)
			continue;
		assert_int_equal(head.method, s->method);
		assert_true(str_is(head.target, s->target));
		assert_int_equal(head.n_headers, s->headers);
		assert_int_equal(head.chunked ? -2 : head.content_length, s->length);
		assert_int_equal(head.keep_alive, s->keep_alive);
	}
}

static void pieces_get_the_verdict_of_the_whole(void **state)
{
	struct http_header headers[64];
	struct http_head head;
	size_t n;
	const struct sample *all = samples(&n);

	(void)state;
	for (const struct sample *s = all; s < all + n; s++) {
		int r = 0;

		for (size_t i = 0; i <= s->bytes.n && r == 0; i++)
			r = parse(s->bytes, i, &head, headers);
		if (r != (s->status ? -s->status : (int)s->bytes.n))
			fail_msg("%s in pieces: %d", s->what, r);
	}
}

static void bytes_behind_the_head_are_not_used(void **state)
{
	struct http_header headers[64];
	struct http_head head;
	struct str bytes = GET("\r\nGET /next");

	(void)state;
	assert_int_equal(parse(bytes, bytes.n, &head, headers), bytes.n - 9);
}

static void names_and_values_are_slices_without_outer_space(void **state)
{
	struct http_header headers[64];
	struct http_head head = {.headers = headers, .max_headers = 64};
	struct str bytes = GET("X-Name: \t value with space \t \r\n\r\n");

	(void)state;
	assert_true(http_parse_head(bytes.p, bytes.n, &http_limits_default, &head) > 0);
	assert_true(str_is(headers[1].name, "X-Name"));
	assert_true(str_is(headers[1].value, "value with space"));
}

static int parse_text(const char *text, const struct http_limits *limits)
{
	struct http_header headers[64];
	struct http_head head = {.headers = headers, .max_headers = 64};

	return http_parse_head(text, strlen(text), limits, &head);
}

static void limits_have_their_own_statuses(void **state)
{
	struct http_limits limits = http_limits_default;
	struct buf b = {0};

	(void)state;
	buf_puts(&b, STR("GET /"));
	for (int i = 0; i < 2047; i++)
		buf_putc(&b, 'a');
	buf_puts(&b, STR(" HTTP/1.1\r\nHost: a\r\n\r\n"));
	assert_true(parse_text(buf_cstr(&b), &limits) > 0);
	limits.target_bytes = 2047;
	assert_int_equal(parse_text(buf_cstr(&b), &limits), -414);
	b.n = 0; /* one that does not even end */
	buf_puts(&b, STR("GET /"));
	for (int i = 0; i < 3000; i++)
		buf_putc(&b, 'a');
	assert_int_equal(parse_text(buf_cstr(&b), &http_limits_default), -414);

	limits = http_limits_default;
	b.n = 0;
	buf_puts(&b, GET(""));
	for (int i = 1; i < 64; i++)
		buf_printf(&b, "X-%d: y\r\n", i);
	buf_puts(&b, STR("\r\n"));
	assert_true(parse_text(buf_cstr(&b), &limits) > 0);
	limits.header_fields = 63;
	assert_int_equal(parse_text(buf_cstr(&b), &limits), -431);

	limits = http_limits_default;
	b.n = 0;
	buf_puts(&b, GET("X: "));
	while (b.n < 8192 - 4)
		buf_putc(&b, 'x');
	buf_puts(&b, STR("\r\n\r\n"));
	assert_int_equal(b.n, 8192);
	assert_int_equal(parse_text(buf_cstr(&b), &limits), 8192);
	limits.header_bytes = 8191;
	assert_int_equal(parse_text(buf_cstr(&b), &limits), -431);
	buf_done(&b);
}

static void targets_are_split_into_path_and_query(void **state)
{
	static const char *const rows[][3] = {
		{"/a/b?c=d?e", "/a/b", "c=d?e"}, {"/", "/", ""},           {"/?", "/", ""},           {"http://h/p?q", "/p", "q"},
		{"http://h", "/", ""},           {"HTTP://h?q", "/", "q"}, {"https://h:1/", "/", ""}, {"*", "*", ""},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct str path, query;

		http_target_split(str_of(rows[i][0]), &path, &query);
		assert_true(str_is(path, rows[i][1]));
		assert_true(str_is(query, rows[i][2]));
	}
}

/* ---- replies ---- */

static void replies_are_parsed_as_strictly(void **state)
{
	static const struct {
		const char *text;
		int status; /* 0: refused */
		int64_t length;
	} rows[] = {
		{"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", 200, 3},
		{"HTTP/1.1 204 \r\n\r\n", 204, -1},
		{"HTTP/1.1 204\r\n\r\n", 204, -1},
		{"HTTP/1.0 404 Not Found at all\r\nTransfer-Encoding: chunked\r\n\r\n", 404, -2},
		{"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n", 0, 0},
		{"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 0, 0},
		{"HTTP/1.1 200 OK\nContent-Length: 3\n\n", 0, 0},
		{"HTTP/1.1 20 OK\r\n\r\n", 0, 0},
		{"HTTP/1.1 999 OK\r\n\r\n", 0, 0},
		{"HTTP/1.1  200 OK\r\n\r\n", 0, 0},
		{"HTTP/2 200 OK\r\n\r\n", 0, 0},
		{"SSH-2.0-OpenSSH\r\n\r\n", 0, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct http_header headers[64];
		struct http_reply_head head = {.headers = headers, .max_headers = 64};
		int r = http_parse_reply(rows[i].text, strlen(rows[i].text), &http_limits_default, &head);

		if ((r > 0) != (rows[i].status > 0))
			fail_msg("%s: %d", rows[i].text, r);
		if (r <= 0)
			continue;
		assert_int_equal(head.status, rows[i].status);
		assert_int_equal(head.chunked ? -2 : head.content_length, rows[i].length);
	}
}

/* ---- the chunked coding ---- */

static bool decode(const char *coded, size_t piece, char *to, size_t *ret_n, size_t *ret_used)
{
	struct http_chunked d = {0};
	size_t left = strlen(coded);

	*ret_n = *ret_used = 0;
	while (left > 0 && d.state < HTTP_CHUNKED_DONE) {
		size_t n = piece < left ? piece : left, used, out;
		char *copy = malloc(n);

		memcpy(copy, coded + *ret_used, n);
		out = http_chunked_decode(&d, copy, n, &used);
		memcpy(to + *ret_n, copy, out);
		free(copy);
		*ret_n += out;
		*ret_used += used;
		left -= used;
	}
	return d.state == HTTP_CHUNKED_DONE;
}

static void chunks_decode_the_same_in_pieces_of_any_size(void **state)
{
	static const struct {
		const char *coded, *plain; /* plain NULL: refused, or not over */
	} rows[] = {
		{"0\r\n\r\n", ""},
		{"3\r\nabc\r\n0\r\n\r\n", "abc"},
		{"3\r\nabc\r\n00A\r\n0123456789\r\n000\r\n\r\n", "abc0123456789"},
		{"3;a=b\r\nabc\r\n0;last\r\n\r\n", "abc"},
		{"3;a=\"b c\"\r\nabc\r\n0\r\nX-Trailer: y\r\nZ:\r\n\r\n", "abc"},
		{"+3\r\nabc\r\n0\r\n\r\n", NULL},
		{"0x3\r\nabc\r\n0\r\n\r\n", NULL},
		{"-1\r\nabc\r\n0\r\n\r\n", NULL},
		{" 3\r\nabc\r\n0\r\n\r\n", NULL},
		{"3 \r\nabc\r\n0\r\n\r\n", NULL},
		{"\r\nabc\r\n0\r\n\r\n", NULL},
		{";a\r\nabc\r\n0\r\n\r\n", NULL},
		{"3\nabc\n0\n\n", NULL},
		{"3\r\nabc\n0\r\n\r\n", NULL},
		{"3\r\nabcd\r\n0\r\n\r\n", NULL},
		{"3\r\nabc0\r\n\r\n", NULL},
		{"3;a\nb\r\nabc\r\n0\r\n\r\n", NULL},
		{"3;a\rb\r\nabc\r\n0\r\n\r\n", NULL},
		{"FFFFFFFFFFFFFFFFF\r\nabc", NULL},
		{"0\r\n X: folded\r\n\r\n", NULL},
		{"0\r\nX : y\r\n\r\n", NULL},
		{"0\r\nX: y\n\r\n", NULL},
		{"0\r\nGET / HTTP/1.1\r\n\r\n", NULL},
		{"3\r\nab", NULL},
	};
	char plain[256];
	size_t n, used;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		for (size_t piece = 1; piece <= strlen(rows[i].coded); piece++) {
			bool ok = decode(rows[i].coded, piece, plain, &n, &used);

			if (ok != (rows[i].plain != NULL))
				fail_msg("%s in pieces of %zu", rows[i].coded, piece);
			if (!ok)
				continue;
			assert_int_equal(used, strlen(rows[i].coded));
			assert_true(str_eq((struct str){plain, n}, str_of(rows[i].plain)));
		}
	}
}

static void what_follows_the_last_chunk_is_left(void **state)
{
	char plain[64];
	size_t n, used;

	(void)state;
	assert_true(decode("1\r\na\r\n0\r\n\r\nGET /", 100, plain, &n, &used));
	assert_int_equal(used, 11);
}

static void extensions_and_trailers_are_bounded(void **state)
{
	struct http_chunked d = {0};
	char text[8192];
	size_t used;

	(void)state;
	memset(text, 'x', sizeof(text));
	memcpy(text, "1;", 2);
	http_chunked_decode(&d, text, sizeof(text), &used);
	assert_int_equal(d.state, HTTP_CHUNKED_BAD);

	d = (struct http_chunked){0};
	memset(text, 'x', sizeof(text));
	memcpy(text, "0\r\n", 3);
	http_chunked_decode(&d, text, sizeof(text), &used);
	assert_int_equal(d.state, HTTP_CHUNKED_BAD);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_sample_gets_its_verdict),
		cmocka_unit_test(pieces_get_the_verdict_of_the_whole),
		cmocka_unit_test(bytes_behind_the_head_are_not_used),
		cmocka_unit_test(names_and_values_are_slices_without_outer_space),
		cmocka_unit_test(limits_have_their_own_statuses),
		cmocka_unit_test(targets_are_split_into_path_and_query),
		cmocka_unit_test(replies_are_parsed_as_strictly),
		cmocka_unit_test(chunks_decode_the_same_in_pieces_of_any_size),
		cmocka_unit_test(what_follows_the_last_chunk_is_left),
		cmocka_unit_test(extensions_and_trailers_are_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
