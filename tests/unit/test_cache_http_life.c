/* SPDX-License-Identifier: Apache-2.0 */
/* Cached routes in time: changes, aged answers, many at once, and without the cache (cache.md C1, C6, C7, D6, F7 to F9). */
#include "answers_world.h"

/* ---- F7, D6: changes ---- */

static void a_change_drops_what_shows_it_before_it_is_answered(void **state)
{
	struct kit_answer a = get("/api/v1/things/" ID_A, AS("a")), b = get("/api/v1/things/" ID_B, AS("a"));

	(void)state;
	get("/api/v1/filtered?thing_id=" ID_A, AS("b"));
	assert_int_equal(kit_send(k, kit_port(k), "POST", "/api/v1/things/" ID_A, AS("a"), STR("")).status, 200);
	assert_header(get("/api/v1/things/" ID_A, AS("a")), "X-Cache", "MISS");
	assert_false(same(a, get("/api/v1/things/" ID_A, AS("a"))));
	assert_header(get("/api/v1/filtered?thing_id=" ID_A, AS("b")), "X-Cache", "MISS");
	assert_true(same(b, get("/api/v1/things/" ID_B, AS("a"))));
}

/* The second request stands on the wire before the first is answered, and is read as soon as it is. */
static void whoever_asks_at_once_behind_the_answer_sees_the_change(void **state)
{
	static const char post[] = "POST /api/v1/things/" ID_A " HTTP/1.1\r\nHost: test\r\n" AS("a") "Content-Length: 0\r\n\r\n";
	static const char then[] = "GET /api/v1/things/" ID_A " HTTP/1.1\r\nHost: test\r\nConnection: close\r\n" AS("a") "\r\n";
	struct str both;

	(void)state;
	get("/api/v1/things/" ID_A, AS("a"));
	both = kit_exchange(k, kit_port(k), str_of(arena_printf(k->arena, "%s%s", post, then)));
	assert_int_equal(count(both, "HTTP/1.1 200"), 2);
	assert_int_equal(count(both, "\"run\":2"), 1);
	assert_int_equal(count(both, "X-Cache: MISS"), 1);
}

static void a_change_is_raised_once(void **state)
{
	uint64_t before = cache_stats(k->daemon.caches).raised_tags;

	(void)state;
	kit_send(k, kit_port(k), "POST", "/api/v1/things/" ID_A, AS("a"), STR(""));
	assert_int_equal(cache_stats(k->daemon.caches).raised_tags, before + 1);
}

static void a_tag_of_two_values_drops_what_both_name_alone(void **state)
{
	struct kit_answer a = get("/api/v1/essays/" ID_A, AS("a")), b = get("/api/v1/essays/" ID_A, AS("b")),
			  c = get("/api/v1/essays/" ID_B, AS("a"));

	(void)state;
	assert_int_equal(kit_send(k, kit_port(k), "POST", "/api/v1/essays/" ID_A, AS("a"), STR("")).status, 200);
	assert_false(same(a, get("/api/v1/essays/" ID_A, AS("a"))));
	assert_true(same(b, get("/api/v1/essays/" ID_A, AS("b"))));
	assert_true(same(c, get("/api/v1/essays/" ID_B, AS("a"))));
}

static void a_change_whose_outcome_is_unknown_drops_it_too(void **state)
{
	(void)state;
	get("/api/v1/things/" ID_A, AS("a"));
	mode = FAULT;
	assert_int_equal(kit_send(k, kit_port(k), "POST", "/api/v1/things/" ID_A, AS("a"), STR("")).status, 503);
	mode = PLAIN;
	assert_header(get("/api/v1/things/" ID_A, AS("a")), "X-Cache", "MISS");
}

static void what_the_rule_read_before_the_epochs_is_read_again(void **state)
{
	struct kit_answer a;

	(void)state;
	changes_behind_the_rule = true;
	a = get("/api/v1/school", AS("a"));
	assert_holds(a.body, "\"object\":\"1\"");
	assert_header(get("/api/v1/school", AS("a")), "X-Cache", "HIT");
}

/* ---- C7, C6: aged answers ---- */

static void settle(void)
{
	for (int i = 0; i < 300; i++)
		loop_turn(k->daemon.loop, 1000);
}

static void an_aged_answer_is_given_out_and_refreshed_once_behind_it(void **state)
{
	struct kit_answer a = get("/api/v1/mine?q=x", AS("a")), b;

	(void)state;
	later(101);
	for (int i = 0; i < 3; i++) {
		takes_ms = i == 0 ? 0 : takes_ms;
		b = get("/api/v1/mine?q=x", AS("a"));
		if (i == 0) {
			assert_header(b, "X-Cache", "STALE");
			assert_true(atoi(header(b, "Age")) >= 101);
			assert_true(same(a, b));
		}
		settle();
	}
	assert_int_equal(runs, 2);
	assert_header(b, "X-Cache", "HIT");
	assert_holds(b.body, "\"run\":2");
}

static void an_answer_in_its_last_fifth_is_refreshed_ahead(void **state)
{
	(void)state;
	get("/api/v1/mine", AS("a"));
	later(85);
	assert_header(get("/api/v1/mine", AS("a")), "X-Cache", "HIT");
	settle();
	assert_int_equal(runs, 2);
	assert_holds(get("/api/v1/mine", AS("a")).body, "\"run\":2");
}

static void a_refresh_that_fails_leaves_what_is_kept(void **state)
{
	(void)state;
	get("/api/v1/mine", AS("a"));
	later(101);
	mode = FAULT;
	assert_header(get("/api/v1/mine", AS("a")), "X-Cache", "STALE");
	settle();
	assert_int_equal(runs, 2);
	assert_holds(get("/api/v1/mine", AS("a")).body, "\"run\":1");
}

static void an_aged_answer_stands_in_for_a_fault_and_never_for_a_refusal(void **state)
{
	struct kit_answer a = get("/api/v1/mine", AS("a")), b;

	(void)state;
	later(160);
	mode = FAULT;
	b = get("/api/v1/mine", AS("a"));
	assert_int_equal(b.status, 200);
	assert_header(b, "X-Cache", "STALE");
	assert_header(b, "X-Half", "");
	assert_string_equal(header(a, "X-Extra"), header(b, "X-Extra"));
	assert_true(same(a, b));
	mode = MISSING;
	assert_int_equal(get("/api/v1/mine", AS("a")).status, 404);
	mode = FAULT;
	later(150); /* past its grace */
	assert_int_equal(get("/api/v1/mine", AS("a")).status, 503);
}

static void an_answer_is_not_kept_past_the_instant_it_names(void **state)
{
	(void)state;
	mode = SHORT_LIVED;
	get("/api/v1/mine", AS("a"));
	assert_header(get("/api/v1/mine", AS("a")), "X-Cache", "HIT");
	later(6);
	assert_header(get("/api/v1/mine", AS("a")), "X-Cache", "MISS");
}

static void what_says_pending_is_kept_until_its_row_was_due(void **state)
{
	const int64_t wait_s = 30;

	(void)state;
	kit_close(k);
	setenv("BATCH_PROCESSOR_INTERVAL", "30", 1);
	k = kit_open(&service);
	unsetenv("BATCH_PROCESSOR_INTERVAL");
	wait_until(true);
	mode = PENDING;
	written_us = loop_real_us(k->daemon.loop);
	get("/api/v1/mine", AS("a"));
	later((int)wait_s - 3);
	assert_header(get("/api/v1/mine", AS("a")), "X-Cache", "HIT"); /* its flush would have dropped it */
	later(4);
	assert_header(get("/api/v1/mine", AS("a")), "X-Cache", "MISS"); /* overdue by now */
	later(6);
	assert_header(get("/api/v1/mine", AS("a")), "X-Cache", "MISS");
}

/* ---- F8: many at once ---- */

#define MANY 20
static atomic_int left;

static void stop_after_all(void *loop)
{
	if (atomic_fetch_sub(&left, 1) == 1)
		loop_stop(loop);
}

static void *one_of_many(void *arg)
{
	struct kit_call *call = arg;
	struct sockaddr_in at = {
		.sin_family = AF_INET, .sin_port = htons((uint16_t)call->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct timeval patience = {.tv_sec = 20};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	ssize_t n;

	call->answer = mem_zalloc(call->cap = 1 << 16);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (connect(fd, (struct sockaddr *)&at, sizeof(at)) == 0 &&
	    send(fd, call->bytes.p, call->bytes.n, MSG_NOSIGNAL) == (ssize_t)call->bytes.n) {
		while ((n = recv(fd, call->answer + call->n, call->cap - call->n - 1, 0)) > 0)
			call->n += (size_t)n;
	}
	close(fd);
	loop_post(call->loop, stop_after_all, call->loop);
	return NULL;
}

static void get_many(const char *target, const char *headers, struct kit_answer *to)
{
	struct kit_call calls[MANY];
	pthread_t threads[MANY];

	atomic_store(&left, MANY);
	for (int i = 0; i < MANY; i++) {
		calls[i] = (struct kit_call){.loop = k->daemon.loop, .port = kit_port(k)};
		calls[i].bytes = str_of(
			arena_printf(k->arena, "GET %s HTTP/1.1\r\nHost: test\r\nConnection: close\r\n%s\r\n", target, headers));
		assert_int_equal(pthread_create(&threads[i], NULL, one_of_many, &calls[i]), 0);
	}
	loop_run(k->daemon.loop);
	for (int i = 0; i < MANY; i++) {
		pthread_join(threads[i], NULL);
		to[i] = kit_split(k, arena_str(k->arena, (struct str){calls[i].answer, calls[i].n}));
		free(calls[i].answer);
	}
}

static void twenty_at_once_run_the_handler_once(void **state)
{
	struct kit_answer a[MANY];

	(void)state;
	takes_ms = 300;
	get_many("/api/v1/school", AS("a"), a);
	assert_int_equal(runs, 1);
	for (int i = 0; i < MANY; i++) {
		assert_int_equal(a[i].status, 200);
		assert_true(same(a[i], a[0]));
	}
}

static void what_may_not_be_shared_is_made_for_each_of_twenty(void **state)
{
	struct kit_answer a[MANY];
	bool seen[3 * MANY] = {false};

	(void)state;
	takes_ms = 100;
	mode = COOKIE;
	get_many("/api/v1/school", AS("a"), a);
	for (int i = 0; i < MANY; i++) {
		int mine = atoi(header(a[i], "Set-Cookie") + strlen("sid="));

		assert_int_equal(a[i].status, 200);
		assert_true(mine > 0 && mine < 3 * MANY && !seen[mine]);
		seen[mine] = true;
	}
}

static void each_of_twenty_is_told_why_he_is_refused(void **state)
{
	struct kit_answer a[MANY];

	(void)state;
	takes_ms = 100;
	mode = REFUSED;
	get_many("/api/v1/school", AS("a"), a);
	for (int i = 0; i < MANY; i++) {
		assert_int_equal(a[i].status, 422);
		assert_holds(a[i].body, "\"pointer\":\"/q\"");
	}
}

/* ---- F9: without the cache ---- */

static void with_redis_dead_everything_is_answered_past_it_and_at_once_again_with_it(void **state)
{
	struct kit_answer a = get("/api/v1/mine", AS("a"));

	(void)state;
	real_redis_kill(&server);
	wait_until(false);
	for (int i = 0; i < 3; i++) {
		a = get("/api/v1/mine", AS("a"));
		assert_int_equal(a.status, 200);
		assert_header(a, "X-Cache", "BYPASS");
	}
	assert_int_equal(runs, 4);
	unlink(server.path);
	real_redis_again(&server);
	wait_until(true);
	get("/api/v1/mine", AS("a"));
	assert_header(get("/api/v1/mine", AS("a")), "X-Cache", "HIT");
}

static void a_frozen_redis_costs_no_more_than_its_patience(void **state)
{
	int64_t from;

	(void)state;
	get("/api/v1/mine", AS("a"));
	real_redis_freeze(&server);
	for (int i = 0; i < 3; i++) /* the gate shuts after some */
		assert_int_equal(get("/api/v1/mine", AS("a")).status, 200);
	wait_until(false);
	from = clock_mono_us();
	for (int i = 0; i < 20; i++)
		assert_header(get("/api/v1/mine", AS("a")), "X-Cache", "BYPASS");
	assert_true(clock_mono_us() - from < 20 * 100000); /* not twenty times the timeout */
	real_redis_thaw(&server);
}

/* The least of some, for other programs have the machine too. */
static int64_t least_us(const char *method, const char *target, bool frozen)
{
	int64_t least = INT64_MAX;

	for (int i = 0; i < 9; i++) {
		uint64_t errors;
		int64_t from;

		if (frozen) {
			real_redis_thaw(&server);
			wait_until(true);
			real_redis_freeze(&server);
		}
		errors = cache_stats(k->daemon.caches).errors;
		from = clock_mono_us();
		assert_int_equal(kit_send(k, kit_port(k), method, target, AS("a"), STR("")).status, 200);
		if (clock_mono_us() - from < least)
			least = clock_mono_us() - from;
		assert_int_equal(cache_stats(k->daemon.caches).errors, errors + (frozen ? 1 : 0)); /* it has waited once */
	}
	return least;
}

static void a_frozen_redis_adds_no_more_than_five_milliseconds(void **state)
{
	int64_t without, with;

	(void)state;
	kit_close(k);
	unsetenv("CACHE_TIMEOUT_MS"); /* as in production */
	k = kit_open(&service);
	wait_until(true);
	without = least_us("GET", "/api/v1/uncached", false);
	with = least_us("GET", "/api/v1/mine", true);
	if (with - without > 5000 + 4000)
		fail_msg("%lld us instead of %lld", (long long)with, (long long)without);
	with = least_us("POST", "/api/v1/things/" ID_A, true); /* what it has changed is in the journal then */
	if (with - without > 5000 + 4000)
		fail_msg("%lld us instead of %lld for a write", (long long)with, (long long)without);
	real_redis_thaw(&server);
}

static void switched_off_it_is_not_there(void **state)
{
	struct kit_answer a;

	(void)state;
	kit_close(k);
	setenv("CACHE_ENABLED", "false", 1);
	k = kit_open(&service);
	get("/api/v1/mine", AS("a"));
	a = get("/api/v1/mine", AS("a"));
	assert_int_equal(runs, 2);
	assert_header(a, "X-Cache", "");
	assert_header(a, "Cache-Control", "private, no-cache");
	assert_int_equal(kit_send(k, kit_port(k), "POST", "/api/v1/things/" ID_A, AS("a"), STR("")).status, 200);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_change_drops_what_shows_it_before_it_is_answered),
		T(whoever_asks_at_once_behind_the_answer_sees_the_change),
		T(a_change_is_raised_once),
		T(a_tag_of_two_values_drops_what_both_name_alone),
		T(a_change_whose_outcome_is_unknown_drops_it_too),
		T(what_the_rule_read_before_the_epochs_is_read_again),
		T(an_aged_answer_is_given_out_and_refreshed_once_behind_it),
		T(an_answer_in_its_last_fifth_is_refreshed_ahead),
		T(a_refresh_that_fails_leaves_what_is_kept),
		T(an_aged_answer_stands_in_for_a_fault_and_never_for_a_refusal),
		T(an_answer_is_not_kept_past_the_instant_it_names),
		T(what_says_pending_is_kept_until_its_row_was_due),
		T(twenty_at_once_run_the_handler_once),
		T(what_may_not_be_shared_is_made_for_each_of_twenty),
		T(each_of_twenty_is_told_why_he_is_refused),
		T(with_redis_dead_everything_is_answered_past_it_and_at_once_again_with_it),
		T(a_frozen_redis_costs_no_more_than_its_patience),
		T(a_frozen_redis_adds_no_more_than_five_milliseconds),
		T(switched_off_it_is_not_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
