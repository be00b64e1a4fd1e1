/* SPDX-License-Identifier: Apache-2.0 */
/* Streamed bodies, both ways: back-pressure, rates, limits, cuts. */
#include "unit/http_world.h"

/* Reads like a slow client: a little, then a few turns. */
static bool hear_slowly(int fd, struct buf *b, size_t at_most)
{
	for (int idle = 0; idle < 3000 && b->n < at_most;) {
		ssize_t n = recv(fd, buf_room(b, 30000), 30000, 0);

		if (n == 0 || (n < 0 && errno != EAGAIN))
			return false;
		idle = n > 0 ? 0 : idle + 1;
		b->n += n > 0 ? (size_t)n : 0;
		loop_turn(w.loop, 100);
	}
	return true;
}

/* The plain bytes of a chunked answer, checked on the way. */
static size_t unchunk(struct buf *b)
{
	char *p = memmem(b->p, b->n, "\r\n\r\n", 4), *end = b->p + b->n;
	size_t total = 0;

	assert_non_null(p);
	p += 4;
	for (int i = 0;; i++) {
		char *after;
		size_t n = strtoul(p, &after, 16);

		assert_true(after + 2 <= end && memcmp(after, "\r\n", 2) == 0);
		p = after + 2;
		if (n == 0)
			break;
		assert_true((size_t)(end - p) >= n + 2);
		for (size_t k = 0; k < n; k++)
			assert_int_equal(p[k], 'a' + i % 26);
		total += n;
		p += n;
		assert_memory_equal(p, "\r\n", 2);
		p += 2;
	}
	assert_true(end - p == 2);
	return total;
}

static void a_chunked_answer_waits_for_a_slow_reader(void **state)
{
	struct buf b = {0};
	int fd = dial();

	(void)state;
	say(fd, REQUEST("GET /down", "\r\n"));
	turns(100);
	assert_int_equal(w.dones, 0); /* ten megabytes do not fit into the kernel's buffers */
	assert_int_equal(fiber_stats().live, 1);
	assert_true(hear_slowly(fd, &b, SIZE_MAX));
	assert_int_equal(w.dones, 1);
	assert_int_equal(w.last_error, OK);
	assert_int_equal(w.last_sent, b.n);
	assert_true(has(&b, "Transfer-Encoding: chunked\r\n") && has(&b, "X-Kind: stream\r\n"));
	buf_putc(&b, 0);
	b.n--;
	assert_int_equal(unchunk(&b), DOWN_PIECE * DOWN_PIECES);
	/* The connection is as good as before. */
	say(fd, REQUEST("GET /", "\r\n"));
	assert_true(hear(fd, &b));
	assert_int_equal(status_in(&b), 200);
	close(fd);
	buf_done(&b);
}

static void small_pieces_are_chunks_of_their_own(void **state)
{
	struct buf b = {0};
	bool open;

	(void)state;
	assert_int_equal(ask(REQUEST("GET /down?small", "\r\n"), &b, &open), 200);
	assert_true(open);
	buf_cstr(&b);
	assert_int_equal(unchunk(&b), 10 * DOWN_PIECES);
	buf_done(&b);
}

static void an_answer_with_a_length_has_no_chunks(void **state)
{
	struct buf b = {0};
	int fd = dial();

	(void)state;
	say(fd, REQUEST("GET /down?length", "\r\n"));
	hear_bytes(fd, &b, (size_t)DOWN_PIECE * DOWN_PIECES + 50);
	assert_int_equal(status_in(&b), 200);
	assert_true(has(&b, "Content-Length: 10000000\r\n") && !has(&b, "chunked"));
	assert_int_equal(b.n, w.last_sent);
	close(fd);
	buf_done(&b);
}

static void a_cut_answer_does_not_look_complete(void **state)
{
	struct buf b = {0};
	bool open;

	(void)state;
	ask(REQUEST("GET /down?cut", "\r\n"), &b, &open);
	assert_false(open);
	assert_false(has(&b, "\r\n0\r\n\r\n"));
	assert_int_equal(w.last_status, 200);
	buf_done(&b);
}

static void a_reader_that_stands_still_is_cut(void **state)
{
	int fd = dial();

	(void)state;
	say(fd, REQUEST("GET /down", "\r\n"));
	turns(50);
	assert_int_equal(w.dones, 0);
	clock_forward(w.limits.stall_ms - 1000);
	assert_int_equal(w.dones, 0);
	clock_forward(1001);
	turns(3);
	assert_int_equal(w.last_error, ERR_CANCELLED);
	assert_int_equal(w.dones, 1);
	assert_int_equal(http_server_stats(w.server).connections, 0);
	close(fd);
}

static void a_reader_that_leaves_ends_the_stream(void **state)
{
	int fd = dial();

	(void)state;
	say(fd, REQUEST("GET /down", "\r\n"));
	turns(50);
	assert_int_equal(w.dones, 0);
	close(fd);
	turns(5);
	assert_int_equal(w.last_error, ERR_CANCELLED);
	assert_int_equal(w.dones, 1);
}

/* ---- uploads ---- */

enum { UPLOAD = 20 << 20 };

static uint64_t sum_of(size_t n)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < n; i++)
		sum = sum * 31 + (unsigned char)('a' + i % 23);
	return sum;
}

static void put_bytes(struct buf *b, size_t from, size_t n)
{
	for (size_t i = from; i < from + n; i++)
		buf_putc(b, (char)('a' + i % 23));
}

static void an_upload_larger_than_every_buffer_streams_through(void **state)
{
	struct buf all = {0}, b = {0};

	(void)state;
	for (int chunked = 0; chunked < 2; chunked++) {
		int fd = dial();

		all.n = 0;
		if (chunked) {
			buf_puts(&all, REQUEST("POST /up", "Transfer-Encoding: chunked\r\n\r\n"));
			for (size_t at = 0, n; at < UPLOAD; at += n) {
				n = at / 64 % 7 == 0 ? 1 : 70001;
				n = n < UPLOAD - at ? n : UPLOAD - at;
				buf_printf(&all, "%zx%s\r\n", n, at < 500000 ? ";q=1" : "");
				put_bytes(&all, at, n);
				buf_puts(&all, STR("\r\n"));
			}
			buf_puts(&all, STR("0\r\n\r\n"));
		} else {
			buf_printf(&all, "POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", UPLOAD);
			put_bytes(&all, 0, UPLOAD);
		}
		buf_puts(&all, REQUEST("GET /?behind", "\r\n"));
		say(fd, buf_str(&all));
		/* A window that was full opens in the kernel's own time, up to some hundred milliseconds. */
		for (int i = 0; i < 3000 && w.dones < 2 * (chunked + 1); i++)
			loop_turn(w.loop, 1000);
		assert_true(hear(fd, &b));
		assert_int_equal(w.last_error, OK);
		assert_int_equal(w.uploaded, UPLOAD);
		assert_true(w.upload_sum == sum_of(UPLOAD));
		assert_int_equal(count_in(&b, "HTTP/1.1 200"), 2);
		assert_true(has(&b, "behind"));
		close(fd);
	}
	buf_done(&all);
	buf_done(&b);
}

static void a_small_upload_is_read_where_it_is(void **state)
{
	struct buf b = {0};
	bool open;

	(void)state;
	assert_int_equal(
		ask(STR("POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /?behind HTTP/1.1\r\nHost: a\r\n\r\n"),
		    &b, &open),
		200);
	assert_int_equal(w.uploaded, 3);
	assert_true(open && has(&b, "behind"));
	assert_int_equal(ask(REQUEST("POST /up", "Content-Length: 0\r\n\r\n"), &b, &open), 200);
	assert_int_equal(w.uploaded, 0);
	buf_done(&b);
}

static void an_upload_asks_for_its_body_when_it_reads(void **state)
{
	struct buf b = {0};
	int fd = dial();

	(void)state;
	say(fd, REQUEST("POST /up", "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"));
	assert_true(hear(fd, &b));
	assert_true(str_eq(buf_str(&b), STR("HTTP/1.1 100 Continue\r\n\r\n")));
	say(fd, STR("abc"));
	assert_true(hear(fd, &b));
	assert_int_equal(status_in(&b), 200);
	close(fd);
	buf_done(&b);
}

static void an_upload_past_its_limit_is_an_error_of_the_read(void **state)
{
	struct buf b = {0};
	bool open;

	(void)state;
	assert_int_equal(ask(REQUEST("POST /small", "Content-Length: 11\r\n\r\nabc"), &b, &open), 413);
	assert_int_equal(w.runs, 0);
	assert_int_equal(ask(REQUEST("POST /small", "Transfer-Encoding: chunked\r\n\r\nb\r\nabcdefghijk\r\n5\r\n"), &b, &open),
			 413);
	assert_int_equal(w.last_error, ERR_TOO_LARGE);
	assert_false(open);
	assert_int_equal(ask(REQUEST("POST /small", "Transfer-Encoding: chunked\r\n\r\n+1\r\na\r\n0\r\n\r\n"), &b, &open), 400);
	assert_int_equal(w.last_error, ERR_MALFORMED);
	assert_false(open);
	buf_done(&b);
}

static void an_upload_slower_than_its_rate_is_408(void **state)
{
	struct buf b = {0}, piece = {0};
	int fd = dial();

	(void)state;
	put_bytes(&piece, 0, 30000);
	say(fd, REQUEST("POST /up", "Content-Length: 10000000\r\n\r\n"));
	/* 15,000 bytes a second are enough. */
	for (int i = 0; i < 20; i++) {
		clock_forward(2000);
		say(fd, buf_str(&piece));
	}
	assert_int_equal(w.dones, 0);
	/* A hundredth is not. */
	for (int i = 0; i < 20 && w.dones == 0; i++) {
		clock_forward(2000);
		say(fd, (struct str){piece.p, 200});
	}
	assert_false(hear(fd, &b));
	assert_int_equal(status_in(&b), 408);
	assert_int_equal(w.last_error, ERR_TIMEOUT);
	assert_int_equal(w.last_status, 408);
	close(fd);
	buf_done(&b);
	buf_done(&piece);
}

static void an_upload_that_stops_is_408_after_the_read_deadline(void **state)
{
	struct buf b = {0};
	int fd = dial();

	(void)state;
	http_server_close(w.server);
	w.limits.rate_window_ms = 60000;
	open_server();
	close(fd);
	fd = dial();
	say(fd, REQUEST("POST /up", "Content-Length: 100\r\n\r\nabc"));
	clock_forward(19999);
	assert_int_equal(w.dones, 0);
	clock_forward(2);
	assert_false(hear(fd, &b));
	assert_int_equal(status_in(&b), 408);
	assert_int_equal(w.dones, 1);
	close(fd);
	buf_done(&b);
}

static void an_upload_whose_client_leaves_is_cancelled(void **state)
{
	int fd = dial();

	(void)state;
	say(fd, REQUEST("POST /up", "Content-Length: 100\r\n\r\nabc"));
	turns(2);
	assert_int_equal(w.uploaded, 3);
	close(fd);
	turns(5);
	assert_int_equal(w.last_error, ERR_CANCELLED);
	assert_int_equal(w.last_status, 0);
	assert_int_equal(w.dones, 1);
}

static void what_a_handler_has_read_outlives_its_client(void **state)
{
	struct linger reset = {1, 0};
	struct buf a = {0}, b = {0};
	int fd = dial(), other;

	(void)state;
	for (int i = 0; i < 2000; i++) {
		buf_putc(&a, 'A');
		buf_putc(&b, 'B');
	}
	say(fd, REQUEST("POST /hold", "Content-Length: 9000\r\n\r\n"));
	say(fd, buf_str(&a));
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(fd);
	turns(3);
	assert_int_equal(http_server_stats(w.server).connections, 0);
	/* Whoever comes next reads into the buffers that were given back. */
	other = dial();
	say(other, REQUEST("POST /up", "Content-Length: 9000\r\n\r\n"));
	say(other, buf_str(&b));
	waitq_wake(&w.gate, 1, OK);
	turns(3);
	assert_int_equal(w.uploaded, 2000);
	assert_int_equal(w.dones, 1);
	close(other);
	turns(3);
	buf_done(&a);
	buf_done(&b);
}

static void a_handler_may_answer_while_it_reads(void **state)
{
	struct buf b = {0};
	int fd = dial();

	(void)state;
	say(fd, REQUEST("POST /talk", "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"));
	assert_true(hear(fd, &b));
	assert_true(has(&b, "\r\n\r\n3\r\nabc\r\n") && !has(&b, "100 Continue"));
	say(fd, STR("3\r\ndef\r\n0\r\n\r\n"));
	/* It had not asked for the rest when it began to answer, so it could not promise to find the next request. */
	assert_false(hear(fd, &b));
	assert_true(str_eq(buf_str(&b), STR("3\r\ndef\r\n0\r\n\r\n")));
	close(fd);
	fd = dial();
	/* Silence in the middle ends the answer without its end, and without another one inside it. */
	say(fd, REQUEST("POST /talk", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"));
	assert_true(hear(fd, &b));
	clock_forward(1001);
	b.n = 0;
	hear_some(fd, &b);
	assert_int_equal(b.n, 0);
	assert_int_equal(w.last_error, ERR_TIMEOUT);
	assert_int_equal(w.dones, 2);
	close(fd);
	buf_done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_TEST(a_chunked_answer_waits_for_a_slow_reader),
		WORLD_TEST(small_pieces_are_chunks_of_their_own),
		WORLD_TEST(an_answer_with_a_length_has_no_chunks),
		WORLD_TEST(a_cut_answer_does_not_look_complete),
		WORLD_TEST(a_reader_that_stands_still_is_cut),
		WORLD_TEST(a_reader_that_leaves_ends_the_stream),
		WORLD_TEST(an_upload_larger_than_every_buffer_streams_through),
		WORLD_TEST(a_small_upload_is_read_where_it_is),
		WORLD_TEST(an_upload_asks_for_its_body_when_it_reads),
		WORLD_TEST(an_upload_past_its_limit_is_an_error_of_the_read),
		WORLD_TEST(an_upload_slower_than_its_rate_is_408),
		WORLD_TEST(an_upload_that_stops_is_408_after_the_read_deadline),
		WORLD_TEST(what_a_handler_has_read_outlives_its_client),
		WORLD_TEST(a_handler_may_answer_while_it_reads),
		WORLD_TEST(an_upload_whose_client_leaves_is_cancelled),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
