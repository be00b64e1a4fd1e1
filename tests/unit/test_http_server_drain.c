/* SPDX-License-Identifier: Apache-2.0 */
/* The server over real sockets: deadlines, limits, clients that leave, drain. */
#include <sys/resource.h>

#include "unit/http_world.h"

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
