/* SPDX-License-Identifier: Apache-2.0 */
/* The smallest server: "/" answers from the loop, "/fiber" from a fiber. hello.py compares it with nginx. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/str.h"
#include "io/fiber.h"
#include "io/http.h"
#include "io/loop.h"

static struct http_plan on_head(void *ctx, struct http_exchange *x)
{
	(void)ctx, (void)x;
	return (struct http_plan){.body = HTTP_BODY_NONE};
}

static void answer(void *arg)
{
	http_answer(arg, 200, STR("Content-Type: text/plain\r\n"), STR("hello\n"));
}

static void on_run(void *ctx, struct http_exchange *x)
{
	if (x->path.n <= 1)
		answer(x);
	else if (fiber_run(ctx, "hello", answer, x) != OK)
		http_answer(x, 503, STR(""), STR(""));
}

static void stop(void *loop)
{
	loop_stop(loop);
}

int main(int argc, char **argv)
{
	struct loop *loop = loop_new();
	struct http_listener listener = {.ctx = loop, .head = on_head, .run = on_run};
	struct http_server *server;
	enum err e;

	/* No connection may end during the measurement: the load generator would count its reset. */
	struct http_limits limits = http_limits_default;

	limits.requests = 1000000000;
	e = http_server_open(loop, argc > 1 ? argv[1] : "127.0.0.1:0", &listener, &limits, &server);
	if (e != OK) {
		fprintf(stderr, "%s\n", err_name(e));
		return 1;
	}
	printf("%d\n", http_server_port(server));
	fflush(stdout);
	loop_on_signal(loop, SIGTERM, stop, loop);
	loop_on_signal(loop, SIGINT, stop, loop);
	loop_run(loop);
	http_server_close(server);
	loop_free(loop);
	return 0;
}
