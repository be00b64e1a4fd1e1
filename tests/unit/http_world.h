/* SPDX-License-Identifier: Apache-2.0 */
/* A server, its clients and a clock that stands still, all on one thread: for test_http_server*.c and test_http_stream.c. */
#ifndef S24_TESTS_HTTP_WORLD_H
#define S24_TESTS_HTTP_WORLD_H

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/str.h"
#include "base/timefmt.h"
#include "io/fiber.h"
#include "io/http.h"
#include "io/loop.h"

static struct world {
	struct loop *loop;
	struct http_server *server;
	struct http_limits limits;
	struct waitq gate; /* handlers of /wait stand here */
	int64_t now_us;
	int port;
	int heads, runs, dones, last_status, idles;
	size_t last_sent;
	enum err last_error; /* of a handler's http_read or http_write */
	bool saw_gone;
	int64_t uploaded;
	uint64_t upload_sum;
} w;

static inline void clock_forward(int64_t ms)
{
	w.now_us += ms * 1000;
	loop_clock_set(w.loop, w.now_us, w.now_us + INT64_C(1700000000000000));
	loop_turn(w.loop, 0);
	loop_turn(w.loop, 0);
}

static inline void turns(int n)
{
	while (n-- > 0)
		loop_turn(w.loop, 0);
}

/* ---- clients ---- */

static inline int dial(void)
{
	struct sockaddr_in to = {
		.sin_family = AF_INET, .sin_port = htons((uint16_t)w.port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	assert_int_equal(connect(fd, (const struct sockaddr *)&to, sizeof(to)), 0);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	turns(2);
	return fd;
}

static inline void say(int fd, struct str bytes)
{
	for (int idle = 0; bytes.n > 0 && idle < 10000;) {
		ssize_t n = send(fd, bytes.p, bytes.n, MSG_NOSIGNAL);

		if (n > 0)
			bytes = (struct str){bytes.p + n, bytes.n - (size_t)n};
		else if (errno != EAGAIN)
			return; /* the server has refused: what it said is what counts */
		idle = n > 0 ? 0 : idle + 1;
		loop_turn(w.loop, n > 0 ? 0 : 100);
	}
}

/* What has come; false at the end of the stream. */
static inline bool hear_some(int fd, struct buf *b)
{
	for (;;) {
		ssize_t n = recv(fd, buf_room(b, 65536), 65536, 0);

		if (n <= 0)
			return n < 0 && errno == EAGAIN;
		b->n += (size_t)n;
	}
}

/* Everything until the server has closed, or nothing more comes. */
static inline bool hear(int fd, struct buf *b)
{
	b->n = 0;
	for (int idle = 0; idle < 30; idle++) {
		size_t before = b->n;

		loop_turn(w.loop, 100);
		if (!hear_some(fd, b))
			return false;
		if (b->n != before)
			idle = 0;
	}
	return true;
}

/* Patiently, until so many bytes have come: a full window opens in the kernel's own time, up to some hundred milliseconds. */
static inline void hear_bytes(int fd, struct buf *b, size_t n)
{
	b->n = 0;
	for (int i = 0; i < 5000 && b->n < n; i++) {
		loop_turn(w.loop, 1000);
		assert_true(hear_some(fd, b));
	}
}

/* The status of the first answer in b; 0: none. */
static inline int status_in(const struct buf *b)
{
	return b->n > 12 && memcmp(b->p, "HTTP/1.1 ", 9) == 0 ? atoi((char[]){b->p[9], b->p[10], b->p[11], 0}) : 0;
}

static inline size_t count_in(const struct buf *b, const char *text)
{
	size_t n = 0;

	for (const char *p = b->p, *end = b->p + b->n; b->n > 0 && (p = memmem(p, (size_t)(end - p), text, strlen(text))) != NULL;
	     p++)
		n++;
	return n;
}

static inline bool has(const struct buf *b, const char *text)
{
	return count_in(b, text) > 0;
}

/* One connection, one saying: the status; *ret_open: did the server keep it. */
static inline int ask(struct str bytes, struct buf *b, bool *ret_open)
{
	int fd = dial();

	say(fd, bytes);
	*ret_open = hear(fd, b);
	close(fd);
	turns(3);
	return status_in(b);
}

/* ---- handlers ---- */

static struct http_plan on_head(void *ctx, struct http_exchange *x)
{
	struct http_plan plan = {.body = HTTP_BODY_NONE};

	(void)ctx;
	w.heads++;
	if (str_is(x->path, "/echo"))
		plan = (struct http_plan){.body = HTTP_BODY_WHOLE, .body_max = 1 << 20, .body_ms = 1000};
	else if (str_is(x->path, "/up"))
		plan = (struct http_plan){
			.body = HTTP_BODY_STREAM, .body_max = 256 << 20, .body_ms = 20000, .min_rate_bps = 8192};
	else if (str_is(x->path, "/hold") || str_is(x->path, "/talk"))
		plan = (struct http_plan){.body = HTTP_BODY_STREAM, .body_max = 1 << 20, .body_ms = 1000};
	else if (str_is(x->path, "/small"))
		plan = (struct http_plan){.body = HTTP_BODY_STREAM, .body_max = 10, .body_ms = 1000};
	else if (str_is(x->path, "/refuse"))
		plan.body = HTTP_BODY_REFUSE;
	return plan;
}

static inline void upload(void *arg)
{
	struct http_exchange *x = arg;
	struct str bytes;
	enum err e;

	w.uploaded = 0;
	w.upload_sum = 0;
	while ((e = http_read(x, &bytes, deadline_in(w.loop, 3600000))) == OK && bytes.n > 0) {
		w.uploaded += (int64_t)bytes.n;
		for (size_t i = 0; i < bytes.n; i++)
			w.upload_sum = w.upload_sum * 31 + (unsigned char)bytes.p[i];
	}
	w.last_error = e;
	if (e == OK)
		http_answer(x, 200, STR(""), str_of(arena_printf(x->arena, "%lld", (long long)w.uploaded)));
	else
		http_answer(x, err_status(e), STR(""), STR(""));
}

enum { DOWN_PIECE = 50000, DOWN_PIECES = 200 };

static inline void download(void *arg)
{
	struct http_exchange *x = arg;
	bool with_length = str_is(x->query, "length"), cut = str_is(x->query, "cut"), small = str_is(x->query, "small");
	size_t n = small ? 10 : DOWN_PIECE;
	char *piece = arena_alloc(x->arena, n);
	enum err e = OK;

	http_answer_begin(x, 200, STR("X-Kind: stream\r\n"), with_length ? (int64_t)DOWN_PIECE * DOWN_PIECES : -1);
	for (int i = 0; i < DOWN_PIECES && e == OK; i++) {
		memset(piece, 'a' + i % 26, n);
		e = http_write(x, (struct str){piece, n}, deadline_in(w.loop, 3600000));
		if (cut && i == 3)
			break;
	}
	w.last_error = e;
	if (cut)
		http_answer_cut(x);
	else
		http_answer_end(x);
}

/* Keeps what it has read while it waits for something else. */
static inline void hold(void *arg)
{
	struct http_exchange *x = arg;
	struct str bytes = {NULL, 0};
	bool same = true;

	w.last_error = http_read(x, &bytes, deadline_in(w.loop, 3600000));
	IGNORE(waitq_wait(&w.gate, deadline_in(w.loop, 3600000))); /* the gate's word does not matter here */
	for (size_t i = 0; i < bytes.n; i++)
		same = same && bytes.p[i] == bytes.p[0];
	w.uploaded = same ? (int64_t)bytes.n : -1;
	http_answer(x, 200, STR(""), STR(""));
}

/* Answers while it reads. */
static inline void talk(void *arg)
{
	struct http_exchange *x = arg;
	struct str bytes;

	http_answer_begin(x, 200, STR(""), -1);
	while ((w.last_error = http_read(x, &bytes, deadline_in(w.loop, 3600000))) == OK && bytes.n > 0) {
		if (http_write(x, bytes, deadline_in(w.loop, 3600000)) != OK)
			break;
	}
	http_answer_end(x);
}

static inline void wait_at_gate(void *arg)
{
	struct http_exchange *x = arg;
	enum err e = waitq_wait(&w.gate, deadline_in(w.loop, 3600000));

	w.last_error = e;
	w.saw_gone = http_client_gone(x);
	http_answer(x, 200, STR(""), STR("waited"));
}

static inline void on_run(void *ctx, struct http_exchange *x)
{
	static const struct {
		const char *path;
		fiber_fn fn;
	} fibers[] = {{"/hold", hold},    {"/talk", talk},     {"/up", upload},
		      {"/small", upload}, {"/down", download}, {"/wait", wait_at_gate}};

	(void)ctx;
	w.runs++;
	for (size_t i = 0; i < ARRAY_LEN(fibers); i++) {
		if (str_is(x->path, fibers[i].path)) {
			assert_int_equal(fiber_run(w.loop, "handler", fibers[i].fn, x), OK);
			return;
		}
	}
	if (str_is(x->path, "/echo"))
		http_answer(x, 200, STR("Content-Type: text/plain\r\n"), x->body);
	else if (str_is(x->path, "/big"))
		http_answer(x, 200, STR(""), (struct str){memset(arena_alloc(x->arena, 10 << 20), 'b', 10 << 20), 10 << 20});
	else if (str_is(x->path, "/204"))
		http_answer(x, 204, STR(""), STR("not sent"));
	else if (str_is(x->path, "/304"))
		http_answer(x, 304, STR("ETag: \"1\"\r\n"), STR("not sent"));
	else if (str_is(x->path, "/refuse"))
		http_answer(x, 403, STR(""), STR("no"));
	else
		http_answer(x, 200, STR(""), x->query.n > 0 ? x->query : STR("hello"));
}

static inline void on_done(void *ctx, struct http_exchange *x, int status, size_t sent)
{
	(void)ctx;
	assert_non_null(x->path.p);
	assert_true(str_is(x->peer, "127.0.0.1"));
	w.dones++;
	w.last_status = status;
	w.last_sent = sent;
}

static inline void on_idle(void *ctx)
{
	(void)ctx;
	w.idles++;
}

static inline void open_server(void)
{
	const struct http_listener listener = {.head = on_head, .run = on_run, .done = on_done};

	assert_int_equal(http_server_open(w.loop, "127.0.0.1:0", &listener, &w.limits, &w.server), OK);
	w.port = http_server_port(w.server);
}

static inline int setup(void **state)
{
	(void)state;
	memset(&w, 0, sizeof(w));
	w.loop = loop_new();
	w.limits = http_limits_default;
	w.now_us = INT64_C(1000000000);
	loop_clock_set(w.loop, w.now_us, w.now_us + INT64_C(1700000000000000));
	open_server();
	return 0;
}

static inline int teardown(void **state)
{
	(void)state;
	waitq_wake(&w.gate, SIZE_MAX, ERR_CANCELLED);
	turns(3);
	http_server_close(w.server);
	turns(3);
	assert_int_equal(fiber_stats().live, 0);
	/* Whatever a listener's head has seen is told its end, once. */
	assert_int_equal(w.dones, w.heads);
	waitq_done(&w.gate);
	loop_free(w.loop);
	return 0;
}

#define WORLD_TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
#define REQUEST(line, rest) STR(line " HTTP/1.1\r\nHost: a\r\n" rest)

#endif
