/* SPDX-License-Identifier: Apache-2.0 */
/* Who asks the source: one of many, in this process and in another, also when he fails or goes; and when it is asked again (cache.md C1 to C5, J2). */
#include "unit/flight_case.h"

/* ---- C1 ---- */

CACHE_TEST(a_failed_source_is_told_and_not_kept)
{
	static const enum err results[] = {ERR_DB, ERR_TIMEOUT, ERR_CONFLICT, ERR_FORBIDDEN, ERR_BUG};
	struct source s = {.text = "one"};

	name_tags();
	for (size_t i = 0; i < ARRAY_LEN(results); i++) {
		struct reader r[2] = {reader_of(0, &s), reader_of(1, &s)};

		s.result = results[i];
		for (int k = 0; k < 2; k++) {
			start(&r[k], 1);
			wait_for_readers();
			CHECK(r[k].result == results[i] && r[k].note.state == CACHE_MISS);
		}
		CHECK(s.calls == 2 * (int)(i + 1) && nobody_flies());
	}
	DONE();
}

CACHE_TEST(an_answer_that_says_so_is_told_to_all_who_wait_and_not_kept)
{
	struct source s = {.text = "one", .takes_ms = 30};
	struct reader r[10];

	/* ERR_GONE of a source: here it is, but do not keep it. */
	name_tags();
	s.result = ERR_GONE;
	for (size_t i = 0; i < ARRAY_LEN(r); i++)
		r[i] = reader_of(0, &s);
	start(r, ARRAY_LEN(r));
	wait_for_readers();
	for (size_t i = 0; i < ARRAY_LEN(r); i++)
		CHECK(r[i].result == OK);
	CHECK(s.calls < (int)ARRAY_LEN(r));
	s = (struct source){.text = "two"};
	r[0] = reader_of(0, &s);
	start(r, 1);
	wait_for_readers();
	CHECK(s.calls == 1 && strcmp(r[0].text, "two") == 0);
	DONE();
}

/* ---- C2 ---- */

CACHE_TEST(leaders_that_go_are_followed_until_one_stays)
{
	struct source s = {.text = "one"};
	struct reader r[6];
	int cancelled = 0;

	name_tags();
	held = true;
	for (size_t i = 0; i < ARRAY_LEN(r); i++)
		r[i] = reader_of(0, &s);
	start(r, ARRAY_LEN(r));
	for (int i = 1; i <= 3; i++) {
		CHECK(asked(&s, i));
		fiber_cancel(leader);
	}
	held = false;
	wait_for_readers();
	for (size_t i = 0; i < ARRAY_LEN(r); i++) {
		cancelled += r[i].result == ERR_CANCELLED;
		CHECK(r[i].result == ERR_CANCELLED || (r[i].result == OK && strcmp(r[i].text, "one") == 0));
	}
	CHECK(cancelled == 3);
	CHECK(s.calls == 4 && nobody_flies());
	DONE();
}

CACHE_TEST(a_follower_that_goes_takes_nobody_with_him)
{
	struct source s = {.text = "one"};
	struct reader r[5];

	name_tags();
	held = true;
	for (size_t i = 0; i < ARRAY_LEN(r); i++)
		r[i] = reader_of(0, &s);
	r[2].patience_ms = 20;
	start(r, 1);
	CHECK(asked(&s, 1));
	start(r + 1, 4);
	CHECK(ended(&r[2])); /* in its own time */
	fiber_cancel(r[1].fiber);
	CHECK(ended(&r[1]));
	held = false;
	wait_for_readers();
	CHECK(r[1].result == ERR_CANCELLED && r[2].result == ERR_TIMEOUT);
	CHECK(r[0].result == OK && r[3].result == OK && r[4].result == OK && s.calls == 1 && nobody_flies());
	DONE();
}

/* ---- C3, J2: the lock ---- */

CACHE_TEST(the_lock_has_an_owner_and_an_end)
{
	struct source s = {.text = "one"};
	struct reader r = reader_of(0, &s);
	struct redis_reply reply;
	struct str lock;

	name_tags();
	held = true;
	lock = lock_of("a");
	start(&r, 1);
	CHECK(asked(&s, 1));
	CHECK(command(REDIS_ARGS(STR("GET"), lock), &reply) && reply.type == REDIS_STRING && reply.s.n == 16);
	CHECK(command(REDIS_ARGS(STR("PTTL"), lock), &reply) && reply.i > 0 && reply.i <= LOCK_MS);
	held = false;
	wait_for_readers();
	CHECK(command(REDIS_ARGS(STR("EXISTS"), lock), &reply) && reply.i == 0);
	DONE();
}

/* It had ended, and is another's by now. */
CACHE_TEST(a_late_leader_leaves_the_next_ones_lock_alone)
{
	static const enum err results[] = {OK, ERR_DB};

	name_tags();
	for (size_t i = 0; i < ARRAY_LEN(results); i++) {
		struct source s = {.text = "one", .result = results[i]};
		struct reader r = reader_of(0, &s);
		struct redis_reply reply;
		struct str lock = lock_of("a");

		held = true;
		start(&r, 1);
		CHECK(asked(&s, 1));
		CHECK(command(REDIS_ARGS(STR("SET"), lock, STR("of another"), STR("EX"), STR("60")), &reply));
		held = false;
		wait_for_readers();
		CHECK(sleep_ms(loop, 20, in_ms(1000)) == OK);
		CHECK(command(REDIS_ARGS(STR("GET"), lock), &reply) && str_is(reply.s, "of another"));
		CHECK(command(REDIS_ARGS(STR("FLUSHALL")), &reply));
		memory_forget(&caches[0]->memory);
	}
	DONE();
}

CACHE_TEST(a_leaders_error_lets_the_other_process_lead_at_once)
{
	struct source fails = {.result = ERR_DB}, works = {.text = "one"};
	struct reader first = reader_of(0, &fails), second = reader_of(1, &works);

	name_tags();
	held = true;
	start(&first, 1);
	CHECK(asked(&fails, 1));
	start(&second, 1);
	CHECK(sleep_ms(loop, 20, in_ms(1000)) == OK);
	held = false;
	wait_for_readers();
	CHECK(first.result == ERR_DB && second.result == OK && strcmp(second.text, "one") == 0);
	CHECK(fails.calls == 1 && works.calls == 1);
	CHECK(took_ms(&second) < LOCK_MS / 4);
	DONE();
}

CACHE_TEST(who_waits_for_another_process_waits_no_longer_than_he_may)
{
	struct source s = {.text = "one"};
	struct reader first = reader_of(0, &s), second = reader_of(1, &s);

	name_tags();
	held = true;
	second.patience_ms = 150;
	start(&first, 1);
	CHECK(asked(&s, 1));
	start(&second, 1);
	CHECK(ended(&second) && first.till_us == 0);
	held = false;
	wait_for_readers();
	CHECK(first.result == OK && second.result == ERR_TIMEOUT && s.calls == 1);
	CHECK(took_ms(&second) >= 140);
	CHECK(nobody_flies());
	DONE();
}

/* By the message, not by looking again each 50 ms: the best of some turns, for the machine has other things to do. */
CACHE_TEST(who_waits_in_another_process_is_woken_by_the_filling)
{
	int64_t best_us = INT64_MAX;

	name_tags();
	for (int i = 0; i < 6; i++) {
		struct source s = {.text = "one", .takes_ms = 60}; /* the first look comes at 50, the second at 100 */
		struct reader first = reader_of(0, &s), second = reader_of(1, &s);
		int64_t late_us;

		start(&first, 1);
		while (s.calls == 0)
			CHECK(sleep_ms(loop, 1, in_ms(1000)) == OK);
		start(&second, 1);
		wait_for_readers();
		CHECK(second.result == OK);
		late_us = s.calls == 1 && second.note.coalesced ? second.till_us - first.till_us : INT64_MAX;
		best_us = late_us < best_us ? late_us : best_us;
		CHECK(cache_raise(caches[0], arena, &tags) == OK);
	}
	CHECK(best_us < 20000);
	DONE();
}

/* ---- C4 ---- */

static struct cache_call aging(int engine, struct source *s)
{
	struct cache_call call = call_of(engine, "a", &tags, s);

	call.life = (struct cache_life){.ttl_s = 60, .soft_s = 30};
	return call;
}

static void refresh_it(void *arg)
{
	struct reader *r = arg;
	struct cache_call call = aging(r->engine, r->source);
	struct arena *mine = arena_new();

	cache_refresh(caches[r->engine], mine, in_ms(r->patience_ms), &call);
	arena_free(mine);
	running--;
}

static void pass(int64_t s)
{
	loop_clock_set(loop, loop_mono_us(loop), loop_real_us(loop) + s * US_PER_S);
}

CACHE_TEST(what_ages_is_given_out_at_once_and_refreshed_once_by_the_fleet)
{
	struct source s = {.text = "one"};
	struct reader r[40];
	struct cache_call call;
	struct cache_note note;
	struct cache_stats was[2];
	struct redis_reply reply;
	struct str got;

	name_tags();
	call = aging(0, &s);
	CHECK(cache_read(caches[0], arena, in_ms(1000), &call, &got, &note) == OK && !note.refresh);
	pass(29);
	CHECK(cache_read(caches[0], arena, in_ms(1000), &call, &got, &note) == OK && note.state == CACHE_HIT && !note.refresh);
	pass(2);
	s.text = "two";
	was[0] = cache_stats(caches[0]);
	was[1] = cache_stats(caches[1]);
	for (int i = 0; i < 2; i++) {
		call = aging(i, &s);
		CHECK(cache_read(caches[i], arena, in_ms(1000), &call, &got, &note) == OK);
		CHECK(note.state == CACHE_HIT && note.refresh && str_is(got, "one") && s.calls == 1);
	}
	for (size_t i = 0; i < ARRAY_LEN(r); i++) {
		r[i] = reader_of(i % 2, &s);
		start_fiber(refresh_it, &r[i]);
	}
	while (running > 1) /* the clock stands still, so nobody may sleep */
		CHECK(command(REDIS_ARGS(STR("PING")), &reply));
	CHECK(s.calls == 2);
	CHECK(cache_stats(caches[0]).refreshes + cache_stats(caches[1]).refreshes == was[0].refreshes + was[1].refreshes + 1);
	for (int i = 0; i < 2; i++) {
		uint64_t before = was[i].hits_memory + was[i].hits_redis;
		struct cache_stats is = cache_stats(caches[i]);

		CHECK(is.hits_memory + is.hits_redis == before + 1); /* what is refreshed was a hit too */
		call = aging(i, &s);
		CHECK(cache_read(caches[i], arena, in_ms(1000), &call, &got, &note) == OK && str_is(got, "two") && !note.refresh);
	}
	CHECK(s.calls == 2 && nobody_flies());
	DONE();
}

CACHE_TEST(a_refresh_that_fails_leaves_what_is_there)
{
	struct source s = {.text = "one"};
	struct cache_call call;
	struct cache_note note;
	struct str got;

	name_tags();
	call = aging(0, &s);
	CHECK(cache_read(caches[0], arena, in_ms(1000), &call, &got, &note) == OK);
	pass(31);
	s.result = ERR_DB;
	cache_refresh(caches[0], arena, in_ms(1000), &call);
	CHECK(s.calls == 2);
	for (int i = 0; i < 2; i++) {
		call = aging(i, &s);
		CHECK(cache_read(caches[i], arena, in_ms(1000), &call, &got, &note) == OK && str_is(got, "one") && note.refresh);
	}
	s.result = OK;
	s.text = "two";
	call = aging(0, &s);
	cache_refresh(caches[0], arena, in_ms(1000), &call); /* the failed one has given its lock back */
	CHECK(s.calls == 3);
	CHECK(cache_read(caches[0], arena, in_ms(1000), &call, &got, &note) == OK && str_is(got, "two"));
	DONE();
}

/* ---- C5 ---- */

#define SAMPLES 400

/* By filling, setting and refreshing, in turn: lifetimes in ms of what was meant to live for 1000 s. */
static bool lifetimes(int64_t v[SAMPLES])
{
	struct source s = {.text = "x"};

	caches[0]->conf.jitter_percent = 10;
	caches[0]->random = 42;
	for (int i = 0; i < SAMPLES; i++) {
		char name[16];
		struct cache_call call;
		struct cache_note note;
		struct str got;
		enum err e = OK;

		snprintf(name, sizeof(name), "%d", i);
		call = call_of(0, name, &tags, &s);
		call.life = (struct cache_life){.ttl_s = 1000};
		if (i % 3 == 0)
			e = cache_read(caches[0], arena, in_ms(1000), &call, &got, &note);
		else if (i % 3 == 1)
			e = cache_set(caches[0], arena, in_ms(1000), call.key, &tags, &call.life, STR("x"));
		else
			cache_refresh(caches[0], arena, in_ms(1000), &call);
		if (e != OK || cache_get(caches[0], arena, in_ms(1000), call.key, &tags, &got, &note) != OK)
			return false;
		v[i] = (note.fresh_until_us - note.written_us) / 1000;
	}
	return true;
}

CACHE_TEST(lifetimes_are_spread_evenly_and_by_their_seed)
{
	static int64_t first[SAMPLES], second[SAMPLES];
	size_t bins[3][4] = {{0}};

	name_tags();
	CHECK(lifetimes(first));
	for (int i = 0; i < SAMPLES; i++) {
		CHECK(first[i] >= 900000 && first[i] <= 1100000);
		bins[i % 3][(first[i] - 900000) * 4 / 200001]++;
	}
	for (int way = 0; way < 3; way++) {
		for (int quarter = 0; quarter < 4; quarter++) /* 33 are expected of each */
			CHECK(bins[way][quarter] > 15 && bins[way][quarter] < 60);
	}
	CHECK(cache_raise(caches[0], arena, &tags) == OK);
	CHECK(lifetimes(second));
	CHECK(memcmp(first, second, sizeof(first)) == 0);
	caches[0]->conf.jitter_percent = 0;
	DONE();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_failed_source_is_told_and_not_kept),
		T(an_answer_that_says_so_is_told_to_all_who_wait_and_not_kept),
		T(leaders_that_go_are_followed_until_one_stays),
		T(a_follower_that_goes_takes_nobody_with_him),
		T(the_lock_has_an_owner_and_an_end),
		T(a_late_leader_leaves_the_next_ones_lock_alone),
		T(a_leaders_error_lets_the_other_process_lead_at_once),
		T(who_waits_for_another_process_waits_no_longer_than_he_may),
		T(who_waits_in_another_process_is_woken_by_the_filling),
		T(what_ages_is_given_out_at_once_and_refreshed_once_by_the_fleet),
		T(a_refresh_that_fails_leaves_what_is_there),
		T(lifetimes_are_spread_evenly_and_by_their_seed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
