/* SPDX-License-Identifier: Apache-2.0 */
/* The journal of what was raised while the cache's Redis was away (cache.md I4): nothing of it is lost on the way out. */
#define CACHE_ENGINES 3 /* the third is nobody, whose connection nothing holds up */
#define CACHE_CALL_MS 100
#include "unit/cache_case.h"

static struct cache_tags tags_of(const char *id)
{
	struct cache_tags tags = {.school = school};

	cache_tag(&tags, arena, "thing:", str_of(id));
	return tags;
}

static enum err ask_redis(struct redis_args args)
{
	struct redis_reply reply;

	return redis_call(redis[2], arena, in_ms(1000), args, &reply);
}

/* Redis answers reads, and lets scripts that write wait: a call of the journal can be looked at while it is under way. */
CACHE_TEST(what_is_raised_again_while_the_journal_is_told_is_told_again)
{
	struct cache_tags tags = tags_of("a");
	uint64_t heard;

	CHECK(cache_raise(caches[0], arena, &tags) == OK);
	CHECK(ask_redis(REDIS_ARGS(STR("CLIENT"), STR("PAUSE"), STR("10000"), STR("WRITE"))) == OK);
	for (int i = 0; i < 3; i++)
		CHECK(cache_raise(caches[0], arena, &tags) == ERR_CACHE);
	CHECK(caches[0]->shut);
	for (int i = 0; i < 1000 && !caches[0]->journal.replaying; i++)
		CHECK(sleep_ms(loop, 1, in_ms(1000)) == OK);
	CHECK(caches[0]->journal.replaying && !link_is_open(caches[0]));
	CHECK(cache_raise(caches[0], arena, &tags) == ERR_CACHE); /* not sent: the gate is shut */
	CHECK(caches[0]->journal.set.n == 1);
	heard = cache_stats(caches[1]).dropped_by_news;
	CHECK(ask_redis(REDIS_ARGS(STR("CLIENT"), STR("UNPAUSE"))) == OK);
	for (int i = 0; i < 3000 && !both_up(); i++)
		CHECK(sleep_ms(loop, 1, in_ms(1000)) == OK);
	CHECK(both_up());
	CHECK(sleep_ms(loop, 50, in_ms(1000)) == OK);
	CHECK(cache_stats(caches[1]).dropped_by_news - heard >=
	      2); /* the journal alone; of the calls that nobody waited for Redis may have dropped some */
	DONE();
}

CACHE_TEST(what_could_not_be_told_stays_in_the_journal)
{
	struct cache_tags tags = tags_of("a");
	struct cache_tags other = tags_of("b");

	CHECK(ask_redis(REDIS_ARGS(STR("CLIENT"), STR("PAUSE"), STR("10000"), STR("WRITE"))) == OK);
	for (int i = 0; i < 3; i++)
		CHECK(cache_raise(caches[0], arena, i == 0 ? &other : &tags) == ERR_CACHE);
	for (int i = 0; i < 1000 && !caches[0]->journal.replaying; i++)
		CHECK(sleep_ms(loop, 1, in_ms(1000)) == OK);
	CHECK(caches[0]->journal.set.n == 0);
	for (int i = 0; i < 3000 && caches[0]->journal.replaying; i++) /* it gives up after a second */
		CHECK(sleep_ms(loop, 1, in_ms(1000)) == OK);
	CHECK(caches[0]->journal.set.n == 2 && !link_is_open(caches[0]));
	CHECK(ask_redis(REDIS_ARGS(STR("CLIENT"), STR("UNPAUSE"))) == OK);
	for (int i = 0; i < 3000 && !both_up(); i++)
		CHECK(sleep_ms(loop, 1, in_ms(1000)) == OK);
	CHECK(both_up() && caches[0]->journal.set.n == 0);
	DONE();
}

/* More than it has room for: everything gets new names, and nothing is given out while that is under way. */
CACHE_TEST(a_journal_that_overflows_is_a_new_generation)
{
	int64_t before = caches[0]->generation;
	char id[16];

	real_redis_freeze(&server);
	for (int i = 0; i < 10010; i++) {
		struct cache_tags tags;

		snprintf(id, sizeof(id), "%d", i);
		tags = tags_of(id);
		CHECK(cache_raise(caches[0], arena, &tags) == ERR_CACHE);
	}
	CHECK(caches[0]->journal.all && !link_is_open(caches[0]));
	real_redis_thaw(&server);
	for (int i = 0; i < 3000 && !both_up(); i++)
		CHECK(sleep_ms(loop, 1, in_ms(1000)) == OK);
	CHECK(both_up() && caches[0]->generation > before);
	for (int i = 0; i < 3000 && caches[1]->generation != caches[0]->generation; i++)
		CHECK(sleep_ms(loop, 1, in_ms(1000)) == OK);
	CHECK(caches[1]->generation == caches[0]->generation);
	DONE();
}

static void set_beside(void *arg)
{
	const struct cache_tags none = {.school = school};
	const struct cache_life life = {.ttl_s = 60};
	struct arena *mine = arena_new();

	*(enum err *)arg = cache_set(caches[1], mine, in_ms(1000), call_of(1, "a", &none, NULL).key, &none, &life,
				     STR("by another"));
	arena_free(mine);
	running--;
}

static void unpause(void *arg)
{
	(void)arg;
	if (sleep_ms(loop, 40, in_ms(1000)) == OK)
		IGNORE(ask_redis(REDIS_ARGS(STR("CLIENT"), STR("UNPAUSE")))); /* it ends by itself, then too late for the test */
	running--;
}

/* C3: between a caller's look, which found nothing, and his lock another process has filled it. */
CACHE_TEST(who_gets_the_lock_after_another_has_filled_does_not_ask_the_source)
{
	const struct cache_tags none = {.school = school};
	struct source s = {.text = "by the source"};
	struct cache_call call = call_of(0, "a", &none, &s);
	struct cache_note note;
	enum err set = ERR_BUG;
	struct str got;

	CHECK(ask_redis(REDIS_ARGS(STR("CLIENT"), STR("PAUSE"), STR("10000"), STR("WRITE"))) == OK);
	start_fiber(set_beside, &set);
	CHECK(sleep_ms(loop, 10, in_ms(1000)) == OK); /* its SET waits in Redis, before the lock that is asked for now */
	start_fiber(unpause, NULL);
	CHECK(cache_read(caches[0], arena, in_ms(2000), &call, &got, &note) == OK);
	while (running > 1)
		CHECK(sleep_ms(loop, 1, in_ms(1000)) == OK);
	CHECK(set == OK && s.calls == 0 && str_is(got, "by another"));
	DONE();
}

/* It may have got the lock from a Redis that answered too late; were it left, everybody would wait for the entry until it ends. */
CACHE_TEST(who_heard_nothing_of_the_lock_gives_it_back)
{
	struct source s = {.text = "one"};
	struct cache_tags tags;
	struct cache_call call;
	struct cache_note note;
	struct str got;
	int64_t began;

	tags = tags_of("roster");
	call = call_of(0, "roster", &tags, &s);
	CHECK(cache_read(caches[0], arena, in_ms(1000), &call, &got, &note) == OK); /* the script is known */
	real_redis_freeze(&server);
	call = call_of(0, "another", &tags, &s);
	call.ask_source = true; /* its first call asks for the lock */
	CHECK(cache_read(caches[0], arena, in_ms(9000), &call, &got, &note) == OK && note.state == CACHE_BYPASS);
	real_redis_thaw(&server);
	for (int i = 0; i < 3000 && !both_up(); i++)
		CHECK(sleep_ms(loop, 1, in_ms(1000)) == OK);
	began = loop_mono_us(loop);
	for (int i = 0; i < 2; i++) {
		call = call_of(i, "another", &tags, &s);
		CHECK(cache_read(caches[i], arena, in_ms(9000), &call, &got, &note) == OK && str_is(got, "one"));
	}
	CHECK(note.state == CACHE_HIT && loop_mono_us(loop) - began < 500 * 1000);
	DONE();
}

/* Between the call and its end Redis has answered others: it is slow, and one that had to wait is no reason to do without it. */
CACHE_TEST(a_slow_redis_is_not_a_silent_one)
{
	int64_t now = loop_mono_us(loop);

	caches[0]->alive_us = now;
	for (int i = 0; i < 2; i++)
		CHECK(link_judge(caches[0], ERR_TIMEOUT, NULL, now - 1000) == ERR_CACHE && !caches[0]->shut);
	CHECK(link_judge(caches[0], ERR_TIMEOUT, NULL, now - 1000) == ERR_CACHE && caches[0]->shut); /* three in a row */
	CHECK(link_judge(caches[1], ERR_TIMEOUT, NULL, loop_mono_us(loop) + 1000) == ERR_CACHE && caches[1]->shut);
	DONE();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(what_is_raised_again_while_the_journal_is_told_is_told_again),
		T(what_could_not_be_told_stays_in_the_journal),
		T(a_journal_that_overflows_is_a_new_generation),
		T(who_gets_the_lock_after_another_has_filled_does_not_ask_the_source),
		T(who_heard_nothing_of_the_lock_gives_it_back),
		T(a_slow_redis_is_not_a_silent_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
