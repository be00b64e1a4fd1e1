/* SPDX-License-Identifier: Apache-2.0 */
/* Servers that move: their names are looked up again while nobody waits. The resolver is this program's own, and the test holds it. */
#include "unit/unit.h"

#include <dlfcn.h>
#include <netdb.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>

#include "base/arena.h"
#include "base/timefmt.h"
#include "io/afresh.h"
#include "io/pg.h"
#include "io/pg_sync.h"
#include "io/redis.h"
#include "unit/real_pg.h"
#include "unit/real_redis.h"

#define NAME "moving.test"

static atomic_int lookups, answered,
	held; /* how often the name was asked for, and an address told; how many answers wait for the test */
static sem_t may_answer;

/* First where nobody listens, then where the server is: as if it had moved between. */
int getaddrinfo(const char *restrict node, const char *restrict service, const struct addrinfo *restrict hints,
		struct addrinfo **restrict ret)
{
	int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
	bool first;

	*(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
	if (!node || strcmp(node, NAME) != 0)
		return real(node, service, hints, ret);
	first = atomic_fetch_add(&lookups, 1) == 0;
	if (!first) {
		atomic_fetch_add(&held, 1);
		sem_wait(&may_answer);
		atomic_fetch_sub(&held, 1);
	}
	atomic_fetch_add(&answered, 1);
	return real(first ? "127.0.0.9" : "127.0.0.1", service, hints, ret);
}

static int fresh(void **state)
{
	(void)state;
	atomic_store(&lookups, 0);
	atomic_store(&answered, 0);
	sem_init(&may_answer, 0, 0);
	return 0;
}

/* Questions whose owners have left are answered too, before the next test begins. */
static int all_answered(void **state)
{
	const struct timespec pause = {.tv_nsec = 1000000};

	(void)state;
	for (int i = 0; i < 10000 && atomic_load(&answered) != atomic_load(&lookups); i++) {
		sem_post(&may_answer);
		nanosleep(&pause, NULL);
	}
	return atomic_load(&answered) == atomic_load(&lookups) ? 0 : -1;
}

/* ---- the value ---- */

static atomic_int made_n, dropped_n, released_n;

static void *make(void *arg)
{
	sem_wait(&may_answer);
	atomic_fetch_add(&made_n, 1);
	return arg;
}

static void drop(void *made)
{
	(void)made;
	atomic_fetch_add(&dropped_n, 1);
}

static void release(void *arg)
{
	(void)arg;
	atomic_fetch_add(&released_n, 1);
}

static const struct afresh_kind counted = {make, drop, release};

static void until(atomic_int *n, int wanted)
{
	const struct timespec pause = {.tv_nsec = 1000000};

	for (int i = 0; i < 10000 && atomic_load(n) < wanted; i++)
		nanosleep(&pause, NULL);
	assert_int_equal(atomic_load(n), wanted);
}

static void a_value_is_taken_once_and_only_when_it_is_there(void **state)
{
	struct afresh a = {0};
	int value;

	(void)state;
	assert_null(afresh_take(&a));
	assert_true(afresh_is_due(&a, US_PER_S));
	afresh_begin(&a, &counted, &value, US_PER_S);
	assert_null(afresh_take(&a));
	assert_false(afresh_is_due(&a, 3 * US_PER_S)); /* one is running */
	sem_post(&may_answer);
	for (int i = 0; a.job && i < 1000000; i++) {
		void *got = afresh_take(&a);

		assert_true(!got || (got == &value && !a.job));
	}
	assert_null(a.job);
	until(&released_n, 1);
	assert_int_equal(atomic_load(&dropped_n), 0);
	assert_false(afresh_is_due(&a, US_PER_S + US_PER_S / 2)); /* too soon */
	assert_true(afresh_is_due(&a, 2 * US_PER_S));
	afresh_done(&a);
}

static void an_owner_who_leaves_waits_for_nobody_and_nothing_is_left(void **state)
{
	struct afresh a = {0};
	int value, made = atomic_load(&made_n), released = atomic_load(&released_n);

	(void)state;
	afresh_begin(&a, &counted, &value, US_PER_S);
	afresh_done(&a);
	assert_int_equal(atomic_load(&made_n), made);
	sem_post(&may_answer);
	until(&released_n, released + 1);
	assert_int_equal(atomic_load(&dropped_n), 1);
}

/* ---- servers ---- */

static struct loop *loop;

static int free_port(void)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof(to);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&to, &n), 0);
	close(fd);
	return ntohs(to.sin_port);
}

/* The loop turns, many times, while the resolver is silent. */
static void turn_until_held(void)
{
	int64_t end = clock_mono_us() + 20 * US_PER_S, longest = 0;

	while (atomic_load(&held) == 0 && clock_mono_us() < end)
		loop_turn(loop, 1000);
	assert_int_equal(atomic_load(&held), 1);
	for (int i = 0; i < 300; i++) {
		int64_t began = clock_mono_us();

		loop_turn(loop, 1000);
		longest = clock_mono_us() - began > longest ? clock_mono_us() - began : longest;
	}
	assert_int_equal(atomic_load(&held), 1); /* and one question at a time */
	assert_true(longest < 2 * US_PER_S);
}

static void a_redis_that_has_moved_is_found_and_the_loop_goes_on_meanwhile(void **state)
{
	struct real_redis server;
	struct redis *redis;
	char conf[64], url[64];
	int port = free_port();
	const struct redis_conf how = {.name = "moving", .url = url, .connections = 2, .fault = ERR_BUFFER, .connect_ms = 300};

	(void)state;
	snprintf(conf, sizeof(conf), "port %d\nbind 127.0.0.1", port);
	snprintf(url, sizeof(url), "redis://" NAME ":%d/0", port);
	real_redis_start(&server, conf);
	loop = loop_new();
	assert_int_equal(redis_open(loop, &how, &redis), OK);
	turn_until_held();
	assert_false(redis_is_up(redis));
	sem_post(&may_answer);
	for (int i = 0; i < 20000 && !redis_is_up(redis); i++)
		loop_turn(loop, 1000);
	assert_true(redis_is_up(redis));
	redis_close(redis);
	loop_free(loop);
	real_redis_stop(&server);
}

static void a_postgres_that_has_moved_is_found_and_the_loop_goes_on_meanwhile(void **state)
{
	struct real_pg *server = real_pg_start();
	struct pg_conf how = {.connections = 2, .connect_ms = 300};
	char url[128];
	struct pg *pg;

	(void)state;
	snprintf(url, sizeof(url), "postgresql://postgres@" NAME ":%d/postgres?sslmode=disable", real_pg_port(server));
	how.url = url;
	loop = loop_new();
	assert_int_equal(pg_open(loop, &how, &pg), OK);
	turn_until_held();
	assert_false(pg_is_up(pg));
	sem_post(&may_answer);
	for (int i = 0; i < 20000 && !pg_is_up(pg); i++)
		loop_turn(loop, 1000);
	assert_true(pg_is_up(pg));
	pg_close(pg);
	loop_free(loop);
	real_pg_free(server);
}

static void a_thread_finds_a_postgres_that_has_moved(void **state)
{
	struct real_pg *server = real_pg_start();
	int64_t end = clock_mono_us() + 20 * US_PER_S;
	struct pg_sync *pg;
	char url[128];
	enum err e;

	(void)state;
	snprintf(url, sizeof(url), "postgresql://postgres@" NAME ":%d/postgres?sslmode=disable", real_pg_port(server));
	assert_int_equal(pg_sync_open(url, 1000, 500, &pg), OK);
	for (int i = 0; i < 100; i++)
		sem_post(&may_answer);
	do {
		const struct timespec pause = {.tv_nsec = 20000000};

		e = pg_sync_begin(pg);
		nanosleep(&pause, NULL);
	} while (e != OK && clock_mono_us() < end);
	assert_int_equal(e, OK);
	pg_sync_rollback(pg);
	pg_sync_close(pg);
	real_pg_free(server);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, fresh, all_answered)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_value_is_taken_once_and_only_when_it_is_there),
		T(an_owner_who_leaves_waits_for_nobody_and_nothing_is_left),
		T(a_redis_that_has_moved_is_found_and_the_loop_goes_on_meanwhile),
		T(a_postgres_that_has_moved_is_found_and_the_loop_goes_on_meanwhile),
		T(a_thread_finds_a_postgres_that_has_moved),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
