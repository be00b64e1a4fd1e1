/* SPDX-License-Identifier: Apache-2.0 */
/* The server over real sockets: keeping, closing, pipelining, bodies, refusing. */
#include "unit/http_world.h"

static void a_connection_is_kept_and_answers_again(void **state)
{
	struct buf b = {0};
	int fd = dial();

	(void)state;
	for (int i = 0; i < 3; i++) {
		say(fd, REQUEST("GET /", "\r\n"));
		assert_true(hear(fd, &b));
		assert_int_equal(status_in(&b), 200);
		assert_true(has(&b, "\r\nContent-Length: 5\r\n"));
		assert_true(has(&b, "\r\nDate: "));
		assert_false(has(&b, "\r\nConnection:"));
		assert_true(has(&b, "\r\n\r\nhello"));
	}
	assert_int_equal(http_server_stats(w.server).connections, 1);
	assert_int_equal(http_server_stats(w.server).requests, 3);
	assert_int_equal(w.last_sent, b.n);
	close(fd);
	turns(3);
	assert_int_equal(http_server_stats(w.server).connections, 0);
	buf_done(&b);
}

static void head_and_bodiless_statuses_send_no_body(void **state)
{
	struct buf b = {0};
	bool open;

	(void)state;
	assert_int_equal(ask(REQUEST("HEAD /", "\r\n"), &b, &open), 200);
	assert_true(has(&b, "Content-Length: 5\r\n") && !has(&b, "hello") && open);
	assert_int_equal(ask(REQUEST("GET /204", "\r\n"), &b, &open), 204);
	assert_true(!has(&b, "Content-Length") && !has(&b, "not sent") && open);
	assert_int_equal(ask(REQUEST("GET /304", "\r\n"), &b, &open), 304);
	assert_true(has(&b, "ETag: \"1\"\r\n") && !has(&b, "not sent") && open);
	assert_int_equal(ask(REQUEST("HEAD /down", "\r\n"), &b, &open), 200);
	assert_true(has(&b, "Transfer-Encoding: chunked\r\n") && open);
	assert_true(memcmp(b.p + b.n - 4, "\r\n\r\n", 4) == 0);
	buf_done(&b);
}

static void http_1_0_closes_unless_asked(void **state)
{
	struct buf b = {0};
	bool open;

	(void)state;
	assert_int_equal(ask(STR("GET / HTTP/1.0\r\n\r\n"), &b, &open), 200);
	assert_true(!open && has(&b, "Connection: close\r\n"));
	assert_int_equal(ask(STR("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"), &b, &open), 200);
	assert_true(open && has(&b, "Connection: keep-alive\r\n"));
	assert_int_equal(ask(STR("GET /down?small HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"), &b, &open), 200);
	assert_true(!open && !has(&b, "chunked") && has(&b, "Connection: close\r\n"));
	buf_done(&b);
}

static void close_is_obeyed(void **state)
{
	struct buf b = {0};
	bool open;

	(void)state;
	assert_int_equal(ask(REQUEST("GET /", "Connection: close\r\n\r\n"), &b, &open), 200);
	assert_true(!open && has(&b, "Connection: close\r\n"));
	buf_done(&b);
}

static void a_thousand_pipelined_requests_are_answered_in_order(void **state)
{
	struct buf all = {0}, b = {0};
	const char *p;
	int fd = dial();

	(void)state;
	for (int i = 0; i < 1000; i++)
		buf_printf(&all, "GET /%s?%d HTTP/1.1\r\nHost: a\r\n\r\n", i % 100 == 50 ? "down" : "", i);
	say(fd, buf_str(&all));
	assert_true(hear(fd, &b));
	assert_int_equal(w.runs, 1000);
	assert_int_equal(count_in(&b, "HTTP/1.1 200 OK\r\n"), 1000);
	p = b.p;
	for (int i = 0; i < 1000; i++) {
		char text[32];

		if (i % 100 == 50)
			continue;
		snprintf(text, sizeof(text), "\r\n\r\n%d", i);
		p = memmem(p, (size_t)(b.p + b.n - p), text, strlen(text));
		if (!p)
			fail_msg("answer %d is missing or late", i);
	}
	close(fd);
	buf_done(&all);
	buf_done(&b);
}

static void pipelined_requests_wait_for_the_one_before(void **state)
{
	struct buf b = {0};
	int fd = dial();

	(void)state;
	say(fd, STR("GET /wait HTTP/1.1\r\nHost: a\r\n\r\nGET /?second HTTP/1.1\r\nHost: a\r\n\r\n"));
	assert_true(hear(fd, &b));
	assert_int_equal(b.n, 0);
	assert_int_equal(w.runs, 1);
	waitq_wake(&w.gate, 1, OK);
	assert_true(hear(fd, &b));
	assert_int_equal(count_in(&b, "HTTP/1.1 200"), 2);
	assert_true(memmem(b.p, b.n, "waited", 6) < memmem(b.p, b.n, "second", 6));
	close(fd);
	buf_done(&b);
}

static void a_client_that_reads_nothing_is_not_answered_without_end(void **state)
{
	struct buf all = {0};
	int fd = dial();

	(void)state;
	for (int i = 0; i < 20; i++)
		buf_puts(&all, REQUEST("GET /big", "\r\n"));
	say(fd, buf_str(&all));
	turns(50);
	assert_true(w.runs < 10);
	/* Nothing moves for the stall limit: it is cut. */
	clock_forward(w.limits.stall_ms + 1);
	assert_int_equal(http_server_stats(w.server).connections, 0);
	assert_true(http_server_stats(w.server).timed_out == 1);
	close(fd);
	buf_done(&all);
}

/* ---- bodies ---- */

static void bodies_arrive_whole_in_pieces_of_any_size(void **state)
{
	static const char *const bodies[] = {
		"Content-Length: 11\r\n\r\nhello world",
		"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nT: u\r\n\r\n"};
	struct buf all = {0}, b = {0};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bodies); i++) {
		all.n = 0;
		buf_printf(&all, "POST /echo HTTP/1.1\r\nHost: a\r\n%sGET /?next HTTP/1.1\r\nHost: a\r\n\r\n", bodies[i]);
		for (size_t piece = 1; piece <= all.n; piece += piece < 8 ? 1 : 13) {
			int fd = dial();

			for (size_t at = 0; at < all.n; at += piece)
				say(fd, (struct str){all.p + at, all.n - at < piece ? all.n - at : piece});
			assert_true(hear(fd, &b));
			assert_int_equal(count_in(&b, "HTTP/1.1 200"), 2);
			assert_true(has(&b, "\r\n\r\nhello world") && has(&b, "\r\n\r\nnext"));
			close(fd);
		}
	}
	buf_done(&all);
	buf_done(&b);
}

static void a_large_body_comes_back_unchanged(void **state)
{
	struct buf all = {0}, b = {0};

	(void)state;
	for (int chunked = 0; chunked < 2; chunked++) {
		size_t body_n = 1 << 20;
		int fd = dial();

		all.n = 0;
		buf_puts(&all, REQUEST("POST /echo", ""));
		if (chunked)
			buf_printf(&all, "Transfer-Encoding: chunked\r\n\r\n%zx\r\n", body_n);
		else
			buf_printf(&all, "Content-Length: %zu\r\n\r\n", body_n);
		for (size_t i = 0; i < body_n; i++)
			buf_putc(&all, (char)('a' + i * 7 % 26));
		if (chunked)
			buf_puts(&all, STR("\r\n0\r\n\r\n"));
		say(fd, buf_str(&all));
		hear_bytes(fd, &b, body_n + 100);
		assert_int_equal(status_in(&b), 200);
		assert_true(b.n > body_n);
		for (size_t i = 0; i < body_n; i++) {
			if (b.p[b.n - body_n + i] != (char)('a' + i * 7 % 26))
				fail_msg("byte %zu is wrong", i);
		}
		close(fd);
	}
	buf_done(&all);
	buf_done(&b);
}

static void a_body_past_its_limit_is_413_without_reading_on(void **state)
{
	struct buf b = {0};
	bool open;

	(void)state;
	assert_int_equal(ask(REQUEST("POST /echo", "Content-Length: 1048577\r\n\r\nabc"), &b, &open), 413);
	assert_true(!open && has(&b, "application/problem+json") && has(&b, "\"error\":\"too_large\""));
	assert_int_equal(ask(REQUEST("POST /echo", "Transfer-Encoding: chunked\r\n\r\n100001\r\n"), &b, &open), 0);
	assert_int_equal(w.runs, 0);
	assert_int_equal(w.last_status, 0);
	buf_done(&b);
}

static void a_chunked_body_past_its_limit_is_413(void **state)
{
	struct buf all = {0}, b = {0};
	bool open;

	(void)state;
	buf_puts(&all, REQUEST("POST /echo", "Transfer-Encoding: chunked\r\n\r\n110000\r\n"));
	while (all.n < 0x110000)
		buf_putc(&all, 'x');
	assert_int_equal(ask(buf_str(&all), &b, &open), 413);
	assert_false(open);
	assert_int_equal(w.runs, 0);
	assert_int_equal(w.last_status, 413);
	buf_done(&all);
	buf_done(&b);
}

static void malformed_chunks_are_400_and_the_end(void **state)
{
	static const char *const rows[] = {"+3\r\nabc\r\n0\r\n\r\n", "0x3\r\nabc\r\n0\r\n\r\n", "3\nabc\n0\n\n",
					   "3\r\nabcd\r\n0\r\n\r\n", "FFFFFFFFFFFFFFFFFF\r\n",  "0\r\nX\r\n\r\n"};
	struct buf all = {0}, b = {0};
	bool open;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		all.n = 0;
		buf_printf(&all, "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%s", rows[i]);
		buf_puts(&all, REQUEST("GET /smuggled", "\r\n"));
		assert_int_equal(ask(buf_str(&all), &b, &open), 400);
		assert_false(open);
		assert_int_equal(count_in(&b, "\r\nDate: "), 1);
		assert_int_equal(w.runs, 0);
	}
	buf_done(&all);
	buf_done(&b);
}

static void continue_is_sent_only_when_the_body_is_wanted(void **state)
{
	struct buf b = {0};
	bool open;
	int fd = dial();

	(void)state;
	say(fd, REQUEST("POST /echo", "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"));
	assert_true(hear(fd, &b));
	assert_true(str_eq(buf_str(&b), STR("HTTP/1.1 100 Continue\r\n\r\n")));
	say(fd, STR("abc"));
	assert_true(hear(fd, &b));
	assert_int_equal(status_in(&b), 200);
	assert_true(has(&b, "\r\n\r\nabc"));
	close(fd);
	/* The body was already on its way. */
	assert_int_equal(ask(REQUEST("POST /echo", "Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc"), &b, &open), 200);
	assert_false(has(&b, "100 Continue"));
	assert_int_equal(ask(REQUEST("POST /refuse", "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"), &b, &open), 403);
	assert_true(!has(&b, "100 Continue") && !open);
	assert_int_equal(ask(REQUEST("POST /echo", "Expect: 100-continue\r\nContent-Length: 2000000\r\n\r\n"), &b, &open), 413);
	assert_true(!has(&b, "100 Continue") && !open);
	assert_int_equal(ask(REQUEST("POST /echo", "Expect: a-cake\r\nContent-Length: 2\r\n\r\n"), &b, &open), 417);
	assert_false(open);
	buf_done(&b);
}

static void an_unwanted_body_is_skipped_when_small_and_closes_when_large(void **state)
{
	struct buf all = {0}, b = {0};
	bool open;

	(void)state;
	assert_int_equal(ask(STR("POST /none HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nGET /"
				 "POST /none HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nGET /\r\n0\r\n\r\n"
				 "GET /?last HTTP/1.1\r\nHost: a\r\n\r\n"),
			     &b, &open),
			 200);
	assert_true(open && count_in(&b, "HTTP/1.1 200") == 3 && has(&b, "last"));
	assert_int_equal(w.runs, 3);
	buf_puts(&all, REQUEST("POST /none", "Content-Length: 500000\r\n\r\n"));
	while (all.n < 400000)
		buf_putc(&all, 'x');
	assert_int_equal(ask(buf_str(&all), &b, &open), 200);
	assert_true(!open && has(&b, "Connection: close\r\n"));
	assert_int_equal(ask(REQUEST("POST /refuse", "Content-Length: 3\r\n\r\nabc"), &b, &open), 403);
	assert_true(open);
	assert_int_equal(ask(REQUEST("POST /refuse", "Content-Length: 4\r\n\r\nabc"), &b, &open), 403);
	assert_false(open);
	buf_done(&all);
	buf_done(&b);
}

/* ---- attacks: every row is refused, nothing behind it is taken for a request ---- */

static void every_attack_is_refused_and_closes(void **state)
{
	/* clang-format off */
	const struct {
		const char *what;
		struct str bytes;
		int status;
	} rows[] = {
		{"two lengths", REQUEST("POST /echo", "Content-Length: 3\r\nContent-Length: 30\r\n\r\nabc"), 400},
		{"space before the colon", REQUEST("POST /echo", "Content-Length : 3\r\n\r\nabc"), 400},
		{"xchunked", REQUEST("POST /echo", "Transfer-Encoding: xchunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"), 501},
		{"a length with a sign", REQUEST("POST /echo", "Content-Length: +3\r\n\r\nabc"), 400},
		{"chunk size with a sign", REQUEST("POST /echo", "Transfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n"), 400},
		{"chunk size 0x3", REQUEST("POST /echo", "Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n"), 400},
		{"bare LF", STR("GET / HTTP/1.1\nHost: a\n\n"), 400},
		{"a folded line", REQUEST("GET /", "X: a\r\n b\r\n\r\n"), 400},
		{"no Host", STR("GET / HTTP/1.1\r\n\r\n"), 400},
		{"NUL", REQUEST("GET /", "X: a\0b\r\n\r\n"), 400},
		{"length and chunked", REQUEST("POST /echo", "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400},
		{"gzip, chunked and length", REQUEST("POST /echo", "Content-Length: 3\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"), 400},
		{"chunked, chunked", REQUEST("POST /echo", "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"), 400},
		{"chunked in 1.0", STR("POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400},
		{"an empty length", REQUEST("POST /echo", "Content-Length: \r\n\r\n"), 400},
		{"a negative length", REQUEST("POST /echo", "Content-Length: -1\r\n\r\n"), 400},
		{"a length past 63 bits", REQUEST("POST /echo", "Content-Length: 18446744073709551616\r\n\r\n"), 400},
		{"a bare CR", REQUEST("GET /", "X: a\rb\r\n\r\n"), 400},
		{"HTTP/2.0", STR("GET / HTTP/2.0\r\nHost: a\r\n\r\n"), 505},
	};
	/* clang-format on */
	struct buf all = {0}, b = {0};
	bool open;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		all.n = 0;
		buf_puts(&all, rows[i].bytes);
		buf_puts(&all, REQUEST("GET /smuggled", "\r\n"));
		if (ask(buf_str(&all), &b, &open) != rows[i].status || open || count_in(&b, "\r\nDate: ") != 1 || w.runs != 0)
			fail_msg("%s: %.*s", rows[i].what, (int)b.n, b.p);
		assert_true(has(&b, "Content-Type: application/problem+json\r\n") && has(&b, "Connection: close\r\n"));
		assert_true(has(&b, "\"error\":\"") && has(&b, "\"code\":\"") && !has(&b, "\"message\""));
	}
	buf_done(&all);
	buf_done(&b);
}

static void a_chunk_extension_is_no_attack(void **state)
{
	struct buf b = {0};
	bool open;

	(void)state;
	assert_int_equal(ask(REQUEST("POST /echo", "Transfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\n\r\n"), &b, &open),
			 200);
	assert_true(open && has(&b, "\r\n\r\nabc"));
	buf_done(&b);
}

static void endless_headers_are_431_and_long_targets_414(void **state)
{
	struct buf all = {0}, b = {0};
	bool open;

	(void)state;
	buf_puts(&all, REQUEST("GET /", ""));
	while (all.n < (1 << 20))
		buf_printf(&all,
			   "X-%zu: "
			   "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy"
			   "yy\r\n",
			   all.n);
	assert_int_equal(ask(buf_str(&all), &b, &open), 431);
	assert_false(open);
	all.n = 0;
	buf_puts(&all, STR("GET /"));
	while (all.n < (1 << 20))
		buf_putc(&all, 'a');
	assert_int_equal(ask(buf_str(&all), &b, &open), 414);
	assert_false(open);
	buf_done(&all);
	buf_done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_TEST(a_connection_is_kept_and_answers_again),
		WORLD_TEST(head_and_bodiless_statuses_send_no_body),
		WORLD_TEST(http_1_0_closes_unless_asked),
		WORLD_TEST(close_is_obeyed),
		WORLD_TEST(a_thousand_pipelined_requests_are_answered_in_order),
		WORLD_TEST(pipelined_requests_wait_for_the_one_before),
		WORLD_TEST(a_client_that_reads_nothing_is_not_answered_without_end),
		WORLD_TEST(bodies_arrive_whole_in_pieces_of_any_size),
		WORLD_TEST(a_large_body_comes_back_unchanged),
		WORLD_TEST(a_body_past_its_limit_is_413_without_reading_on),
		WORLD_TEST(a_chunked_body_past_its_limit_is_413),
		WORLD_TEST(malformed_chunks_are_400_and_the_end),
		WORLD_TEST(continue_is_sent_only_when_the_body_is_wanted),
		WORLD_TEST(an_unwanted_body_is_skipped_when_small_and_closes_when_large),
		WORLD_TEST(every_attack_is_refused_and_closes),
		WORLD_TEST(a_chunk_extension_is_no_attack),
		WORLD_TEST(endless_headers_are_431_and_long_targets_414),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
