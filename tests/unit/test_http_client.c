/* SPDX-License-Identifier: Apache-2.0 */
/* The client against our server and against a scripted peer that misbehaves. */
#include "io/http_client.h"
#include "unit/http_world.h"

/* A peer that answers each connection it accepts with the next text, then keeps it open, closes it, or says nothing. */
struct script {
	const char *text;
	bool close;
};
static struct peer {
	int fd, port, accepted, conn[16], answered[16];
	const struct script *script;
	size_t n;
} p;

static void peer_open(const struct script *script, size_t n)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t size = sizeof(at);

	p = (struct peer){.script = script, .n = n, .fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0)};
	assert_int_equal(bind(p.fd, (const struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(p.fd, 16), 0);
	getsockname(p.fd, (struct sockaddr *)&at, &size);
	p.port = ntohs(at.sin_port);
}

static void peer_turn(void)
{
	char bytes[4096];
	int fd = p.fd > 0 ? accept4(p.fd, NULL, NULL, SOCK_NONBLOCK) : -1;

	if (fd >= 0) {
		assert_true((size_t)p.accepted < p.n);
		p.conn[p.accepted++] = fd;
	}
	for (int i = 0; i < p.accepted; i++) {
		const struct script *s = &p.script[i];

		if (p.conn[i] < 0 || recv(p.conn[i], bytes, sizeof(bytes), 0) <= 0 || p.answered[i]++ > 0)
			continue;
		if (s->text)
			assert_int_equal(send(p.conn[i], s->text, strlen(s->text), MSG_NOSIGNAL), strlen(s->text));
		if (s->close) {
			close(p.conn[i]);
			p.conn[i] = -1;
		}
	}
}

static void peer_close(void)
{
	close(p.fd);
	for (int i = 0; i < p.accepted; i++) {
		if (p.conn[i] >= 0)
			close(p.conn[i]);
	}
	p.fd = 0;
}

/* One call on a fiber of its own. */
struct asked {
	struct http_client *client;
	struct http_call call;
	struct arena *arena;
	int64_t ms;
	struct http_reply reply;
	enum err e;
	bool over;
	char base[64];
};

static void ask_fiber(void *arg)
{
	struct asked *a = arg;

	a->e = http_call(a->client, &a->call, a->arena, deadline_in(w.loop, a->ms), &a->reply);
	a->over = true;
}

static void ask_start(struct asked *a, struct http_client *c, int port, enum http_method method, const char *target,
		      struct str body)
{
	*a = (struct asked){.client = c,
			    .arena = arena_new(),
			    .ms = 1000,
			    .call = {.method = method, .target = str_of(target), .body = body}};
	snprintf(a->base, sizeof(a->base), "http://127.0.0.1:%d", port);
	a->call.base = a->base;
	assert_int_equal(fiber_spawn(w.loop, "ask", ask_fiber, a), OK);
}

static void ask_end(struct asked *a)
{
	for (int i = 0; i < 1000 && !a->over; i++) {
		loop_turn(w.loop, 1000);
		peer_turn();
	}
}

static enum err ask_peer(struct http_client *c, enum http_method method, int *ret_status, struct buf *body)
{
	struct asked a;
	enum err e;

	ask_start(&a, c, p.port, method, "/x", (struct str){NULL, 0});
	ask_end(&a);
	assert_true(a.over);
	e = a.e;
	if (e == OK) {
		*ret_status = a.reply.status;
		body->n = 0;
		buf_puts(body, a.reply.body);
	}
	arena_free(a.arena);
	return e;
}

static void calls_reuse_a_connection_and_bring_whole_answers(void **state)
{
	struct http_client *c = http_client_new(w.loop, "test", 4);
	struct buf big = {0};
	struct asked a;

	(void)state;
	while (big.n < 1000000)
		buf_putc(&big, (char)('a' + big.n % 26));
	for (int i = 0; i < 3; i++) {
		ask_start(&a, c, w.port, HTTP_POST, "/echo", buf_str(&big));
		ask_end(&a);
		assert_int_equal(a.e, OK);
		assert_int_equal(a.reply.status, 200);
		assert_true(str_eq(a.reply.body, buf_str(&big)));
		assert_true(a.reply.n_headers >= 3);
		arena_free(a.arena);
	}
	ask_start(&a, c, w.port, HTTP_GET, "/down?small", STR(""));
	ask_end(&a);
	assert_int_equal(a.e, OK);
	assert_int_equal(a.reply.body.n, 10 * DOWN_PIECES);
	arena_free(a.arena);
	ask_start(&a, c, w.port, HTTP_HEAD, "/", STR(""));
	ask_end(&a);
	assert_true(a.e == OK && a.reply.status == 200 && a.reply.body.n == 0);
	arena_free(a.arena);
	ask_start(&a, c, w.port, HTTP_GET, "/204", STR(""));
	ask_end(&a);
	assert_true(a.e == OK && a.reply.status == 204);
	arena_free(a.arena);
	assert_int_equal(http_server_stats(w.server).connections, 1);
	assert_int_equal(http_server_stats(w.server).requests, 6);
	ask_start(&a, c, w.port, HTTP_GET, "/down", STR(""));
	ask_end(&a);
	assert_int_equal(a.e, ERR_TOO_LARGE);
	arena_free(a.arena);
	http_client_free(c);
	turns(5);
	buf_done(&big);
}

static void calls_past_the_limit_of_a_peer_wait_their_turn(void **state)
{
	struct http_client *c = http_client_new(w.loop, "test", 2);
	struct asked a[5];

	(void)state;
	for (int i = 0; i < 5; i++) {
		ask_start(&a[i], c, w.port, HTTP_GET, "/wait", STR(""));
		a[i].ms = 100000;
	}
	turns(20);
	assert_int_equal(http_server_stats(w.server).connections, 2);
	for (int i = 0; i < 5; i++) {
		waitq_wake(&w.gate, 1, OK);
		turns(20);
	}
	for (int i = 0; i < 5; i++) {
		ask_end(&a[i]);
		assert_true(a[i].e == OK && a[i].reply.status == 200);
		arena_free(a[i].arena);
	}
	assert_int_equal(http_server_stats(w.server).connections, 2);
	http_client_free(c);
	turns(3);
}

static void a_slow_answer_is_a_timeout(void **state)
{
	struct http_client *c = http_client_new(w.loop, "test", 2);
	struct asked a;

	(void)state;
	ask_start(&a, c, w.port, HTTP_GET, "/wait", STR(""));
	turns(10);
	assert_false(a.over);
	clock_forward(1001);
	ask_end(&a);
	assert_int_equal(a.e, ERR_TIMEOUT);
	arena_free(a.arena);
	http_client_free(c);
	turns(3);
}

static void a_kept_connection_that_was_closed_is_replaced_for_idempotent_calls(void **state)
{
	static const struct script script[] = {
		{"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", false},
		{"HTTP/1.1 201 OK\r\nContent-Length: 1\r\n\r\nb", true},
		{"HTTP/1.1 202 OK\r\nContent-Length: 1\r\n\r\nc", false},
	};
	struct http_client *c = http_client_new(w.loop, "test", 2);
	struct buf b = {0};
	struct asked a;
	int status;

	(void)state;
	peer_open(script, 3);
	assert_int_equal(ask_peer(c, HTTP_GET, &status, &b), OK);
	/* The request is on its way when the peer closes: it hears nothing and asks again. */
	ask_start(&a, c, p.port, HTTP_GET, "/x", STR(""));
	loop_turn(w.loop, 0);
	close(p.conn[0]);
	p.conn[0] = -1;
	ask_end(&a);
	assert_int_equal(a.e, OK);
	assert_int_equal(a.reply.status, 201);
	arena_free(a.arena);
	assert_int_equal(p.accepted, 2);
	/* A close seen while idle is no failure at all, for a POST neither. */
	turns(5);
	assert_int_equal(ask_peer(c, HTTP_POST, &status, &b), OK);
	assert_int_equal(status, 202);
	ask_start(&a, c, p.port, HTTP_POST, "/x", STR(""));
	loop_turn(w.loop, 0);
	close(p.conn[2]);
	p.conn[2] = -1;
	ask_end(&a);
	assert_int_equal(a.e, ERR_PEER);
	arena_free(a.arena);
	assert_int_equal(p.accepted, 3);
	peer_close();
	http_client_free(c);
	buf_done(&b);
}

static void answers_are_read_as_their_heads_say(void **state)
{
	static const struct {
		struct script s;
		enum err e;
		int status;
		const char *body;
	} rows[] = {
		{{"HTTP/1.1 200 OK\r\n\r\nuntil close", true}, OK, 200, "until close"},
		{{"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", false}, OK, 200, "ok"},
		{{"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: "
		  "2\r\n\r\nok",
		  false},
		 OK,
		 200,
		 "ok"},
		{{"HTTP/1.1 500 Oh\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n", false}, OK, 500, "no"},
		{{"HTTP/1.1 304 \r\nContent-Length: 100\r\n\r\n", false}, OK, 304, ""},
		{{"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", true}, ERR_PEER, 0, ""},
		{{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n", true}, ERR_PEER, 0, ""},
		{{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", false}, ERR_PEER, 0, ""},
		{{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc", false}, ERR_PEER, 0, ""},
		{{"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", false}, ERR_TOO_LARGE, 0, ""},
		{{"SSH-2.0-x\r\n", false}, ERR_PEER, 0, ""},
		{{"", true}, ERR_PEER, 0, ""},
	};
	struct buf b = {0};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct http_client *c = http_client_new(w.loop, "test", 2);
		int status;
		enum err e;

		peer_open(&rows[i].s, 1);
		e = ask_peer(c, HTTP_GET, &status, &b);
		if (e != rows[i].e)
			fail_msg("%s: %s", rows[i].s.text, err_name(e));
		if (e == OK) {
			assert_int_equal(status, rows[i].status);
			assert_true(str_is(buf_str(&b), rows[i].body));
		}
		peer_close();
		http_client_free(c);
	}
	buf_done(&b);
}

static void a_connection_with_bytes_behind_its_answer_is_not_kept(void **state)
{
	static const struct script script[] = {
		{"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nb", false},
		{"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nc", false}};
	struct http_client *c = http_client_new(w.loop, "test", 2);
	struct buf b = {0};
	int status;

	(void)state;
	peer_open(script, 2);
	assert_int_equal(ask_peer(c, HTTP_GET, &status, &b), OK);
	assert_true(str_is(buf_str(&b), "a"));
	assert_int_equal(ask_peer(c, HTTP_GET, &status, &b), OK);
	assert_true(str_is(buf_str(&b), "c"));
	peer_close();
	http_client_free(c);
	buf_done(&b);
}

static void the_breaker_opens_after_failures_and_probes(void **state)
{
	static const struct script script[] = {{"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", false}};
	struct http_client *c = http_client_new(w.loop, "test", 2);
	struct buf b = {0};
	int status, port;

	(void)state;
	peer_open(script, 1);
	port = p.port;
	close(p.fd); /* nobody listens there */
	p.fd = 0;
	for (int i = 0; i < 5; i++)
		assert_int_equal(ask_peer(c, HTTP_GET, &status, &b), ERR_PEER);
	/* Somebody listens again, and is not asked yet. */
	{
		struct sockaddr_in at = {
			.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
		int on = 1;

		p.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		setsockopt(p.fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
		assert_int_equal(bind(p.fd, (const struct sockaddr *)&at, sizeof(at)), 0);
		assert_int_equal(listen(p.fd, 16), 0);
	}
	assert_int_equal(ask_peer(c, HTTP_GET, &status, &b), ERR_PEER);
	assert_int_equal(p.accepted, 0);
	clock_forward(501);
	assert_int_equal(ask_peer(c, HTTP_GET, &status, &b), OK);
	assert_int_equal(p.accepted, 1);
	peer_close();
	http_client_free(c);
	buf_done(&b);
}

static void names_are_looked_up_beside_the_loop(void **state)
{
	struct http_client *c = http_client_new(w.loop, "test", 2);
	struct asked a, bad;

	(void)state;
	ask_start(&a, c, w.port, HTTP_GET, "/", STR(""));
	snprintf(a.base, sizeof(a.base), "http://localhost:%d", w.port);
	ask_start(&bad, c, w.port, HTTP_GET, "/", STR(""));
	snprintf(bad.base, sizeof(bad.base), "http://no-such-name.invalid:1");
	a.ms = bad.ms = 100000;
	for (int i = 0; i < 20000 && !(a.over && bad.over); i++)
		loop_turn(w.loop, 1000);
	assert_true(a.over && bad.over);
	assert_int_equal(bad.e, ERR_PEER);
	/* The name may be ::1 first, where nobody listens: then it is refused, which is an answer of the resolver too. */
	assert_true(a.e == OK || a.e == ERR_PEER);
	arena_free(a.arena);
	arena_free(bad.arena);
	http_client_free(c);
	turns(3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_TEST(calls_reuse_a_connection_and_bring_whole_answers),
		WORLD_TEST(calls_past_the_limit_of_a_peer_wait_their_turn),
		WORLD_TEST(a_slow_answer_is_a_timeout),
		WORLD_TEST(a_kept_connection_that_was_closed_is_replaced_for_idempotent_calls),
		WORLD_TEST(answers_are_read_as_their_heads_say),
		WORLD_TEST(a_connection_with_bytes_behind_its_answer_is_not_kept),
		WORLD_TEST(the_breaker_opens_after_failures_and_probes),
		WORLD_TEST(names_are_looked_up_beside_the_loop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
