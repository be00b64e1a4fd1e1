/* SPDX-License-Identifier: Apache-2.0 */
/* Raising behind a shut gate: the journal has the tags, and Redis is told all the same. */
#include "unit/cache_case.h"

static void note_roster(struct cache_tags *tags)
{
	*tags = (struct cache_tags){.school = school};
	cache_tag(tags, arena, "class:", STR("10a"));
}

/* D6, I4: a process to which Redis is slow must not let the others read around its change. */
CACHE_TEST(what_is_raised_behind_a_shut_gate_is_not_read_by_the_others)
{
	struct source s = {.text = "old"};
	struct cache_tags tags;
	struct cache_call call;
	struct cache_note note;
	struct str got;

	note_roster(&tags);
	call = call_of(1, "roster", &tags, &s);
	CHECK(cache_read(caches[1], arena, in_ms(1000), &call, &got, &note) == OK);
	CHECK(cache_raise(caches[0], arena, &tags) == OK); /* its server knows the script */
	CHECK(cache_read(caches[1], arena, in_ms(1000), &call, &got, &note) == OK);
	CHECK(cache_read(caches[1], arena, in_ms(1000), &call, &got, &note) == OK && note.state == CACHE_HIT);
	s.text = "new";
	caches[0]->shut = true;
	CHECK(cache_raise(caches[0], arena, &tags) == ERR_CACHE);
	CHECK(caches[0]->journal.set.n == 1); /* the keeper has not had its turn */
	CHECK(cache_read(caches[1], arena, in_ms(1000), &call, &got, &note) == OK && str_is(got, "new"));
	DONE();
}

CACHE_TEST(the_journal_is_written_out_as_well)
{
	struct cache_tags tags;

	note_roster(&tags);
	CHECK(cache_raise(caches[0], arena, &tags) == OK);
	caches[0]->shut = true;
	CHECK(cache_raise(caches[0], arena, &tags) == ERR_CACHE);
	for (int i = 0; i < 200 && !cache_stats(caches[0]).up; i++)
		CHECK(sleep_ms(loop, 5, in_ms(5000)) == OK);
	CHECK(cache_stats(caches[0]).up && cache_stats(caches[0]).journal == 0);
	DONE();
}

/* ---- many at once ---- */

struct writer {
	struct cache_tags tags;
	struct fiber *fiber;
	enum err e;
	bool left;
};

static void raise_fiber(void *arg)
{
	struct writer *w = arg;
	struct arena *own = arena_new(); /* a request's, which goes with it */

	w->fiber = fiber_self();
	w->e = cache_raise(caches[0], own, &w->tags);
	arena_free(own);
	w->left = true;
	running--;
}

/* A tag that all have, and `own` ones of each. */
static struct writer *start_writers(size_t n, size_t own)
{
	struct writer *v = arena_array(arena, n, sizeof(*v));

	for (size_t i = 0; i < n; i++) {
		v[i] = (struct writer){.tags.school = school};
		cache_tag(&v[i].tags, arena, "class:", STR("10a"));
		for (size_t k = 0; k < own; k++)
			cache_tag(&v[i].tags, arena, "homework:", str_of(arena_printf(arena, "%zu.%zu", i, k)));
	}
	for (size_t i = 0; i < n; i++)
		start_fiber(raise_fiber, &v[i]);
	return v;
}

static bool all_have_left(const struct writer *v, size_t n)
{
	for (int turn = 0; turn < 1000; turn++) {
		size_t left = 0;

		while (left < n && v[left].left)
			left++;
		if (left == n)
			return true;
		if (sleep_ms(loop, 2, in_ms(5000)) != OK)
			return false;
	}
	return false;
}

/* What is kept under each writer's last tag. */
static bool is_kept(struct writer *w, enum cache_state state)
{
	struct source s = {.text = "kept"};
	struct cache_tags tags = {.school = school};
	struct cache_call call;
	struct cache_note note;
	struct str got;

	cache_tag_again(&tags, arena, w->tags.v[w->tags.n - 1]);
	call = call_of(1, arena_cstr(arena, tags.v[0]), &tags, &s);
	return cache_read(caches[1], arena, in_ms(1000), &call, &got, &note) == OK && note.state == state;
}

enum { WRITERS = 40 };

CACHE_TEST(who_raises_at_once_shares_a_call)
{
	struct writer *v = start_writers(WRITERS, 2);
	uint64_t before;

	CHECK(all_have_left(v, WRITERS)); /* Redis knows the script */
	for (size_t i = 0; i < WRITERS; i++)
		CHECK(is_kept(&v[i], CACHE_MISS) && is_kept(&v[i], CACHE_HIT));
	before = redis_stats(redis[0]).commands;
	v = start_writers(WRITERS, 2);
	CHECK(all_have_left(v, WRITERS));
	CHECK(redis_stats(redis[0]).commands - before <= 10); /* the keeper's looks among them */
	for (size_t i = 0; i < WRITERS; i++)
		CHECK(v[i].e == OK && is_kept(&v[i], CACHE_MISS));
	DONE();
}

/* It was sent before their changes were made. */
CACHE_TEST(who_comes_while_a_call_is_under_way_shares_the_next)
{
	struct writer *first = start_writers(1, 0), *later;
	uint64_t before;

	CHECK(all_have_left(first, 1) && sleep_ms(loop, 20, in_ms(1000)) == OK);
	before = caches[1]->stats.dropped_by_news;
	real_redis_freeze(&server);
	first = start_writers(1, 0);
	CHECK(sleep_ms(loop, 10, in_ms(1000)) == OK);
	later = start_writers(2, 0);
	CHECK(sleep_ms(loop, 10, in_ms(1000)) == OK);
	real_redis_thaw(&server);
	CHECK(all_have_left(first, 1) && all_have_left(later, 2) && first[0].e == OK && later[0].e == OK && later[1].e == OK);
	CHECK(sleep_ms(loop, 20, in_ms(1000)) == OK);
	CHECK(caches[1]->stats.dropped_by_news - before == 2);
	DONE();
}

CACHE_TEST(what_does_not_fit_into_a_call_goes_into_the_next)
{
	struct writer *v = start_writers(WRITERS, 100);

	for (size_t i = 0; i < WRITERS; i++)
		CHECK(is_kept(&v[i], CACHE_MISS));
	CHECK(all_have_left(v, WRITERS));
	v = start_writers(WRITERS, 100);
	CHECK(all_have_left(v, WRITERS));
	for (size_t i = 0; i < WRITERS; i++)
		CHECK(v[i].e == OK && is_kept(&v[i], CACHE_MISS));
	DONE();
}

/* The change is made: its tags are raised with the others', and stand in the journal besides. */
CACHE_TEST(who_leaves_before_the_call_has_raised_all_the_same)
{
	struct writer *v = start_writers(3, 1), *first;

	CHECK(all_have_left(v, 3));
	CHECK(is_kept(&v[1], CACHE_MISS) && is_kept(&v[1], CACHE_HIT));
	real_redis_freeze(&server);
	first = start_writers(1, 1);
	CHECK(sleep_ms(loop, 10, in_ms(1000)) == OK);
	v = start_writers(3, 1);
	CHECK(sleep_ms(loop, 10, in_ms(1000)) == OK);
	fiber_cancel(v[1].fiber);
	CHECK(sleep_ms(loop, 10, in_ms(1000)) == OK);
	CHECK(v[1].left && v[1].e == ERR_CACHE && caches[0]->journal.set.n == 2 && !v[0].left);
	real_redis_thaw(&server);
	CHECK(all_have_left(first, 1) && all_have_left(v, 3));
	CHECK(v[0].e == OK && v[2].e == OK && is_kept(&v[1], CACHE_MISS));
	DONE();
}

/* Those behind a call that Redis does not answer do not wait for calls of their own. */
CACHE_TEST(a_call_in_vain_ends_the_waiting_of_all)
{
	struct writer *v = start_writers(1, 1);
	int64_t began;

	CHECK(all_have_left(v, 1));
	real_redis_freeze(&server);
	began = loop_mono_us(loop);
	v = start_writers(1, 1);
	CHECK(sleep_ms(loop, CACHE_CALL_MS / 2, in_ms(5000)) == OK);
	v = start_writers(WRITERS, 100);
	CHECK(all_have_left(v, WRITERS));
	CHECK(loop_mono_us(loop) - began < (CACHE_CALL_MS + CACHE_CALL_MS / 2) * INT64_C(1000));
	for (size_t i = 0; i < WRITERS; i++)
		CHECK(v[i].e == ERR_CACHE);
	CHECK(caches[0]->journal.set.n == WRITERS * 100 + 1);
	DONE();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(what_is_raised_behind_a_shut_gate_is_not_read_by_the_others),
		T(the_journal_is_written_out_as_well),
		T(who_raises_at_once_shares_a_call),
		T(who_comes_while_a_call_is_under_way_shares_the_next),
		T(what_does_not_fit_into_a_call_goes_into_the_next),
		T(who_leaves_before_the_call_has_raised_all_the_same),
		T(a_call_in_vain_ends_the_waiting_of_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
