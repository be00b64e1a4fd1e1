/* SPDX-License-Identifier: Apache-2.0 */
/* Two daemons with the tables of through/seats.h, a buffer, a cache of its own and a PostgreSQL: what the tests of kept rows and statements share. */
#ifndef S24_UNIT_KEPT_WORLD_H
#define S24_UNIT_KEPT_WORLD_H

#include "unit/through_world.h"

#include "svc/cache_http.h"

static struct real_redis cache_server;
static struct kit *daemons[2];
static const struct service *served;

static inline bool all_up(void)
{
	for (int i = 0; i < 2; i++) {
		struct cache_stats s = cache_stats(daemons[i]->daemon.caches);

		if (!s.up || !s.news_up || !redis_is_up(daemon_buffer(&daemons[i]->daemon)))
			return false;
	}
	return true;
}

static inline void turn_both(void)
{
	loop_turn(daemons[0]->daemon.loop, 500);
	loop_turn(daemons[1]->daemon.loop, 500);
}

static inline void wait_until_all_up(void)
{
	for (int i = 0; i < 10000 && !all_up(); i++)
		turn_both();
	assert_true(all_up());
}

static inline void use(int i)
{
	kit = daemons[i];
}

static inline int open_daemons(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++)
		daemons[i] = kit_open(served);
	wait_until_all_up();
	use(0);
	return 0;
}

static inline int close_daemons(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++)
		kit_close(daemons[i]);
	real_redis_kill(&buffer);
	empty_buffer();
	real_redis_again(&buffer);
	real_redis_kill(&cache_server);
	real_redis_again(&cache_server);
	real_pg_sql(server, "TRUNCATE fee.seats, fee.badges, fee.notes, fee.audit_logs, fee.outbox, fee.idempotency CASCADE");
	return 0;
}

static inline int run_world(const struct CMUnitTest *tests, size_t n, const struct service *service)
{
	int failed;

	served = service;
	start_database();
	real_redis_start(&cache_server, NULL);
	setenv("REDIS_CACHE_URL", cache_server.url, 1);
	setenv("CACHE_TIMEOUT_MS", "1000", 1); /* under sanitizers a round trip takes its time */
	setenv("CACHE_JITTER_PERCENT", "0", 1);
	failed = _cmocka_run_group_tests("tests", tests, n, NULL, NULL);
	stop_database();
	real_redis_stop(&cache_server);
	return failed;
}

static inline struct req *a_read(const struct route *route)
{
	struct req *req = a_request(route, NULL);

	req->x->method = HTTP_GET;
	return req;
}

static inline uint64_t asked(void)
{
	return pg_stats(kit->daemon.pg).queries;
}

#endif
