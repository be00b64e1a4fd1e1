/* SPDX-License-Identifier: Apache-2.0 */
/* The server over real sockets: keeping, closing, pipelining, refusing, deadlines, drain. */
#include <sys/resource.h>

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

/* ---- deadlines ---- */

static void a_head_in_drops_is_cut_at_its_deadline(void **state)
{
	struct buf b = {0};
	int fd = dial();

	(void)state;
	say(fd, STR("GET / HTTP/1.1\r\nHost: a\r\nX: "));
	for (int i = 0; i < 8; i++) {
		clock_forward(600);
		say(fd, STR("y"));
		turns(2);
	}
	assert_int_equal(http_server_stats(w.server).connections, 1);
	clock_forward(600);
	assert_false(hear(fd, &b));
	assert_int_equal(status_in(&b), 408);
	assert_int_equal(http_server_stats(w.server).timed_out, 1);
	close(fd);
	buf_done(&b);
}

static void a_slow_body_is_cut_at_its_deadline(void **state)
{
	struct buf b = {0};
	int fd = dial();

	(void)state;
	say(fd, REQUEST("POST /echo", "Content-Length: 100\r\n\r\n"));
	for (int i = 0; i < 9; i++) {
		clock_forward(110);
		say(fd, STR("y"));
		turns(2);
	}
	assert_int_equal(http_server_stats(w.server).connections, 1);
	clock_forward(110);
	assert_false(hear(fd, &b));
	assert_int_equal(status_in(&b), 408);
	assert_int_equal(w.last_status, 408);
	close(fd);
	buf_done(&b);
}

static void a_silent_connection_is_closed_without_a_word(void **state)
{
	struct buf b = {0};
	int silent = dial(), used = dial();

	(void)state;
	clock_forward(20000);
	say(used, REQUEST("GET /", "\r\n"));
	assert_true(hear(used, &b));
	clock_forward(10001);
	assert_false(hear(silent, &b));
	assert_int_equal(b.n, 0);
	assert_int_equal(http_server_stats(w.server).connections, 1);
	clock_forward(20000);
	assert_false(hear(used, &b));
	assert_int_equal(b.n, 0);
	close(silent);
	close(used);
	buf_done(&b);
}

static void a_connection_has_a_life_time_and_a_number_of_requests(void **state)
{
	struct buf b = {0};
	int fd = dial();

	(void)state;
	for (int i = 0; i < 124; i++) {
		clock_forward(29000);
		say(fd, REQUEST("GET /", "\r\n"));
		assert_true(hear(fd, &b));
	}
	clock_forward(w.limits.lifetime_ms - 124 * 29000);
	say(fd, REQUEST("GET /", "\r\n"));
	assert_false(hear(fd, &b));
	assert_int_equal(status_in(&b), 200);
	assert_true(has(&b, "Connection: close\r\n"));
	close(fd);

	http_server_close(w.server);
	w.limits.requests = 3;
	open_server();
	fd = dial();
	say(fd, STR("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nGET / "
		    "HTTP/1.1\r\nHost: a\r\n\r\n"));
	assert_false(hear(fd, &b));
	assert_int_equal(count_in(&b, "HTTP/1.1 200"), 3);
	assert_int_equal(count_in(&b, "Connection: close\r\n"), 1);
	close(fd);
	buf_done(&b);
}

static void connections_past_the_limit_wait_to_be_accepted(void **state)
{
	struct buf b = {0};
	int fd[3];

	(void)state;
	http_server_close(w.server);
	w.limits.connections = 2;
	open_server();
	for (int i = 0; i < 3; i++) {
		fd[i] = dial();
		say(fd[i], REQUEST("GET /", "\r\n"));
	}
	assert_int_equal(http_server_stats(w.server).connections, 2);
	assert_true(hear(fd[2], &b));
	assert_int_equal(b.n, 0);
	close(fd[0]);
	assert_true(hear(fd[2], &b));
	assert_int_equal(status_in(&b), 200);
	close(fd[1]);
	close(fd[2]);
	buf_done(&b);
}

static void without_file_descriptors_accepting_pauses(void **state)
{
	struct rlimit before, tight;
	struct buf b = {0};
	int fd, next = dup(0);

	(void)state;
	close(next);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	tight = before;
	tight.rlim_cur = (rlim_t)next + 1; /* one for the client, none for the server's end */
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
	fd = dial();
	say(fd, REQUEST("GET /", "\r\n"));
	assert_int_equal(http_server_stats(w.server).connections, 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_true(hear(fd, &b));
	assert_int_equal(b.n, 0);
	clock_forward(51);
	assert_true(hear(fd, &b));
	assert_int_equal(status_in(&b), 200);
	close(fd);
	buf_done(&b);
}

/* ---- clients that leave ---- */

static void a_client_that_leaves_is_noticed_and_its_exchange_lives_on(void **state)
{
	struct linger reset = {1, 0};

	(void)state;
	for (int how = 0; how < 2; how++) {
		int fd = dial();

		say(fd, REQUEST("GET /wait", "\r\n"));
		turns(2);
		if (how == 1)
			setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		close(fd);
		turns(3);
		assert_int_equal(w.dones, how);
		waitq_wake(&w.gate, 1, OK);
		turns(3);
		assert_true(w.saw_gone);
		assert_int_equal(w.dones, how + 1);
		assert_int_equal(w.last_status, 0);
		assert_int_equal(http_server_stats(w.server).connections, 0);
	}
}

static void a_client_that_only_stops_sending_is_answered(void **state)
{
	struct buf b = {0};
	int fd = dial();

	(void)state;
	send(fd, "GET /?1 HTTP/1.1\r\nHost: a\r\n\r\nGET /?2 HTTP/1.1\r\nHost: a\r\n\r\n", 58, 0);
	shutdown(fd, SHUT_WR);
	assert_false(hear(fd, &b));
	assert_int_equal(count_in(&b, "HTTP/1.1 200"), 2);
	close(fd);
	buf_done(&b);
}

/* ---- drain ---- */

static void send_and_drain(void *fd)
{
	assert_true(send(*(int *)fd, "GET /?unseen HTTP/1.1\r\nHost: a\r\n\r\n", 34, 0) == 34);
	http_server_drain(w.server, on_idle, NULL);
}

static void drain_looks_once_more_before_it_closes_an_idle_connection(void **state)
{
	struct timer timer = {0};
	struct buf b = {0};
	int fd = dial();

	(void)state;
	say(fd, REQUEST("GET /", "\r\n"));
	assert_true(hear(fd, &b));
	/* Timers run behind the sockets: the request comes when this turn has looked at them. */
	timer_set(&timer, w.loop, 0, send_and_drain, &fd);
	assert_false(hear(fd, &b));
	assert_true(has(&b, "unseen") && has(&b, "Connection: close\r\n"));
	close(fd);
	buf_done(&b);
}

static void drain_answers_what_is_in_flight_and_closes_what_is_idle(void **state)
{
	struct buf b = {0};
	int idle = dial(), busy = dial(), sent = dial(), half = dial();

	(void)state;
	say(idle, REQUEST("GET /", "\r\n"));
	assert_true(hear(idle, &b));
	say(sent, REQUEST("GET /", "\r\n"));
	assert_true(hear(sent, &b));
	say(busy, REQUEST("GET /wait", "\r\n"));
	turns(2);
	say(half, STR("GET / HTT"));
	turns(2);
	/* This one is in the kernel and the loop has not seen it. */
	assert_true(send(sent, "GET /?unseen HTTP/1.1\r\nHost: a\r\n\r\n", 34, 0) == 34);
	http_server_drain(w.server, on_idle, NULL);
	assert_false(hear(idle, &b));
	assert_int_equal(b.n, 0);
	assert_false(hear(sent, &b));
	assert_true(has(&b, "unseen") && has(&b, "Connection: close\r\n"));
	say(half, STR("P/1.1\r\nHost: a\r\n\r\n"));
	assert_false(hear(half, &b));
	assert_true(status_in(&b) == 200 && has(&b, "Connection: close\r\n"));
	assert_int_equal(w.idles, 0);
	waitq_wake(&w.gate, 1, OK);
	assert_false(hear(busy, &b));
	assert_true(has(&b, "waited") && has(&b, "Connection: close\r\n"));
	turns(3);
	assert_int_equal(w.idles, 1);
	assert_int_equal(http_server_stats(w.server).connections, 0);
	close(idle);
	close(busy);
	close(sent);
	close(half);
	buf_done(&b);
}

static void drain_under_load_drops_no_request(void **state)
{
	enum { CLIENTS = 50 };
	int fd[CLIENTS];
	struct buf b[CLIENTS] = {0};
	int asked[CLIENTS] = {0}, answered = 0, total = 0;

	(void)state;
	for (int i = 0; i < CLIENTS; i++)
		fd[i] = dial();
	for (int round = 0; round < 40; round++) {
		for (int i = 0; i < CLIENTS; i++) {
			bool may = !has(&b[i], "Connection: close") && (int)count_in(&b[i], "HTTP/1.1 200") == asked[i];

			if (may && round < 25 && send(fd[i], "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 27, MSG_NOSIGNAL) == 27)
				asked[i]++;
		}
		if (round == 20)
			http_server_drain(w.server, on_idle, NULL);
		turns(1);
		for (int i = 0; i < CLIENTS; i++)
			hear_some(fd[i], &b[i]);
	}
	for (int i = 0; i < CLIENTS; i++) {
		answered += (int)count_in(&b[i], "HTTP/1.1 200");
		total += asked[i];
		close(fd[i]);
		buf_done(&b[i]);
	}
	assert_true(total >= CLIENTS * 15);
	assert_int_equal(answered, total);
	assert_int_equal(w.idles, 1);
}

static void a_new_connection_gets_a_moment_when_drain_begins(void **state)
{
	struct buf b = {0};
	struct sockaddr_in to = {
		.sin_family = AF_INET, .sin_port = htons((uint16_t)w.port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
	int fd = socket(AF_INET, SOCK_STREAM, 0), other = socket(AF_INET, SOCK_STREAM, 0);

	(void)state;
	assert_int_equal(connect(fd, (const struct sockaddr *)&to, sizeof(to)), 0);
	assert_int_equal(connect(other, (const struct sockaddr *)&to, sizeof(to)), 0);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	http_server_drain(w.server, on_idle, NULL);
	turns(3);
	say(fd, REQUEST("GET /", "\r\n"));
	assert_false(hear(fd, &b));
	assert_int_equal(status_in(&b), 200);
	assert_int_equal(w.idles, 0);
	clock_forward(300);
	turns(2);
	assert_int_equal(w.idles, 1);
	close(fd);
	close(other);
	buf_done(&b);
}

static void close_leaves_running_handlers_alive(void **state)
{
	int fd = dial();

	(void)state;
	say(fd, REQUEST("GET /wait", "\r\n"));
	turns(2);
	http_server_close(w.server);
	waitq_wake(&w.gate, 1, OK);
	turns(2);
	assert_int_equal(w.dones, 1);
	assert_int_equal(w.last_status, 0);
	close(fd);
	w.server = NULL;
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
		WORLD_TEST(a_head_in_drops_is_cut_at_its_deadline),
		WORLD_TEST(a_slow_body_is_cut_at_its_deadline),
		WORLD_TEST(a_silent_connection_is_closed_without_a_word),
		WORLD_TEST(a_connection_has_a_life_time_and_a_number_of_requests),
		WORLD_TEST(connections_past_the_limit_wait_to_be_accepted),
		WORLD_TEST(without_file_descriptors_accepting_pauses),
		WORLD_TEST(a_client_that_leaves_is_noticed_and_its_exchange_lives_on),
		WORLD_TEST(a_client_that_only_stops_sending_is_answered),
		WORLD_TEST(drain_answers_what_is_in_flight_and_closes_what_is_idle),
		WORLD_TEST(drain_looks_once_more_before_it_closes_an_idle_connection),
		WORLD_TEST(drain_under_load_drops_no_request),
		WORLD_TEST(a_new_connection_gets_a_moment_when_drain_begins),
		WORLD_TEST(close_leaves_running_handlers_alive),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
