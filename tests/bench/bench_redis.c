/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands a second of 64 fibers over one connection, beside redis-benchmark's 64 clients on the same server: bench_redis [rounds].
 * The second figure of each line is this process's own CPU time for one command.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "io/fiber.h"
#include "io/redis.h"
#include "unit/real_redis.h"

enum { FIBERS = 64 };

struct run {
	struct loop *loop;
	struct redis *redis;
	struct redis_args args;
	int left;
};

static int64_t now_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static void client(void *arg)
{
	struct run *run = arg;
	struct arena *arena = arena_new();

	while (run->left-- > 0) {
		struct redis_reply reply;

		if (redis_call(run->redis, arena, deadline_in(run->loop, 5000), run->args, &reply) != OK ||
		    reply.type == REDIS_ERROR)
			abort();
		arena_clear(arena);
	}
	arena_free(arena);
}

static void measure(struct run *run, const char *name, int rounds, struct redis_args args)
{
	int64_t wall = now_ns(CLOCK_MONOTONIC), cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID);

	run->args = args;
	run->left = rounds;
	for (int i = 0; i < FIBERS; i++)
		if (fiber_spawn(run->loop, "bench", client, run) != OK)
			abort();
	if (!fiber_drain(run->loop, deadline_in(run->loop, 600000)))
		abort();
	wall = now_ns(CLOCK_MONOTONIC) - wall;
	cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
	printf("%-10s %8.0f ops/s  %5.0f ns CPU\n", name, 1e9 * rounds / (double)wall, (double)cpu / rounds);
}

static void warm(void *arg)
{
	struct run *run = arg;
	struct arena *arena = arena_new();
	struct redis_reply reply;

	if (redis_call(run->redis, arena, deadline_in(run->loop, 5000), REDIS_ARGS(STR("PING")), &reply) != OK)
		abort();
	arena_free(arena);
}

int main(int argc, char **argv)
{
	static const char value[1024];
	int rounds = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 1000000;
	struct real_redis server;
	struct run run = {.loop = loop_new()};
	struct redis_conf conf = {.name = "bench", .connections = 1, .fault = ERR_BUFFER};
	char n[24], clients[8];
	pid_t pid;

	real_redis_start(&server, NULL);
	conf.url = server.url;
	if (redis_open(run.loop, &conf, &run.redis) != OK || fiber_run(run.loop, "warm", warm, &run) != OK)
		return 1;
	fiber_drain(run.loop, deadline_in(run.loop, 1000));
	measure(&run, "SET 3 B", rounds, REDIS_ARGS(STR("SET"), STR("key:1"), STR("xxx")));
	measure(&run, "GET 3 B", rounds, REDIS_ARGS(STR("GET"), STR("key:1")));
	measure(&run, "SET 1 KiB", rounds, REDIS_ARGS(STR("SET"), STR("key:2"), {value, sizeof(value)}));
	measure(&run, "GET 1 KiB", rounds, REDIS_ARGS(STR("GET"), STR("key:2")));
	redis_close(run.redis);
	loop_free(run.loop);
	fflush(stdout);
	snprintf(n, sizeof(n), "%d", rounds);
	snprintf(clients, sizeof(clients), "%d", FIBERS);
	for (int pipelined = 0; pipelined < 2; pipelined++) {
		pid = fork();
		if (pid == 0) {
			printf("redis-benchmark, %s clients%s\n", clients, pipelined ? ", each with 64 commands at once" : "");
			fflush(stdout);
			execlp("redis-benchmark", "redis-benchmark", "-s", server.path, "-n", n, "-c", pipelined ? "1" : clients,
			       "-P", pipelined ? "64" : "1", "-t", "set,get", "--csv", (char *)NULL);
			_exit(127);
		}
		waitpid(pid, NULL, 0);
	}
	real_redis_stop(&server);
	return 0;
}
