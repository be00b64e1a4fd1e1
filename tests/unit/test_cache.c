/* SPDX-License-Identifier: Apache-2.0 */
/* The cache engine over a real Redis, two engines as two processes: what is given out, what is not, and who asks the source (cache.md; more of A and I in
 * test_cache_entry.c, of C in test_cache_flight.c). */
#include "unit/cache_case.h"

#include "base/uuid.h"

static struct cache_tags tags_of(const char *id)
{
	struct cache_tags tags = {.school = school};

	cache_tag(&tags, arena, "thing:", str_of(id));
	return tags;
}

/* C1, I2 */
CACHE_TEST(a_second_reader_in_either_process_finds_it)
{
	struct cache_tags tags = tags_of("a");
	struct source s = {.text = "one"};
	struct cache_note note;
	struct str got;

	for (int i = 0; i < 4; i++) {
		struct cache_call call = call_of(i % 2, "a", &tags, &s);

		CHECK(cache_read(caches[i % 2], arena, in_ms(2000), &call, &got, &note) == OK);
		CHECK(str_is(got, "one"));
		CHECK(note.state == (i == 0 ? CACHE_MISS : CACHE_HIT));
		if (i == 1)
			CHECK(note.level == LEVEL_REDIS);
		if (i > 1)
			CHECK(note.level == LEVEL_MEMORY);
	}
	CHECK(s.calls == 1);
	DONE();
}

/* B6, B12 */
CACHE_TEST(what_was_raised_is_read_anew_everywhere)
{
	struct cache_tags tags = tags_of("a"), other = tags_of("b");
	struct source s = {.text = "one"}, t = {.text = "other"};
	struct cache_note note;
	struct str got;

	for (int i = 0; i < 2; i++) {
		struct cache_call call = call_of(i, "a", &tags, &s), kept = call_of(i, "b", &other, &t);

		CHECK(cache_read(caches[i], arena, in_ms(2000), &call, &got, &note) == OK);
		CHECK(cache_read(caches[i], arena, in_ms(2000), &kept, &got, &note) == OK);
	}
	s.text = "two";
	CHECK(cache_raise(caches[0], arena, &tags) == OK);
	for (int i = 0; i < 2; i++) {
		struct cache_call call = call_of(i, "a", &tags, &s), kept = call_of(i, "b", &other, &t);

		CHECK(cache_read(caches[i], arena, in_ms(2000), &call, &got, &note) == OK);
		CHECK(str_is(got, "two"));
		CHECK(cache_read(caches[i], arena, in_ms(2000), &kept, &got, &note) == OK);
		CHECK(note.state == CACHE_HIT);
	}
	CHECK(s.calls == 2 && t.calls == 1);
	DONE();
}

struct slow {
	int engine;
	struct source *source;
	const struct cache_tags *tags;
	struct cache_note note;
	enum err result;
	char text[32];
};

static void read_slowly(void *arg)
{
	struct slow *r = arg;
	struct cache_call call = call_of(r->engine, "a", r->tags, r->source);
	struct arena *mine = arena_new();
	struct str got;

	r->result = cache_read(caches[r->engine], mine, in_ms(5000), &call, &got, &r->note);
	snprintf(r->text, sizeof(r->text), "%.*s", STR_FMT(got));
	arena_free(mine);
	running--;
}

/* B7 */
CACHE_TEST(a_fill_that_an_invalidation_overtakes_is_nobodys_answer_later)
{
	struct cache_tags tags = tags_of("a");
	struct source s = {.text = "old", .takes_ms = 100};
	struct slow r = {.engine = 0, .source = &s, .tags = &tags};
	struct cache_note note;
	struct str got;

	start_fiber(read_slowly, &r);
	CHECK(sleep_ms(loop, 40, in_ms(1000)) == OK);
	s.text = "new";
	CHECK(cache_raise(caches[1], arena, &tags) == OK);
	while (running > 1)
		CHECK(sleep_ms(loop, 5, in_ms(1000)) == OK);
	for (int i = 0; i < 2; i++) {
		struct cache_call call = call_of(i, "a", &tags, &s);

		CHECK(cache_read(caches[i], arena, in_ms(2000), &call, &got, &note) == OK);
		CHECK(str_is(got, "new"));
	}
	DONE();
}

/* C2, C3 */
CACHE_TEST(a_hundred_callers_of_two_processes_ask_the_source_once)
{
	struct cache_tags tags = tags_of("a");
	struct source s = {.text = "one", .takes_ms = 60};
	struct slow r[100];

	for (size_t i = 0; i < ARRAY_LEN(r); i++) {
		r[i] = (struct slow){.engine = i % 2, .source = &s, .tags = &tags};
		start_fiber(read_slowly, &r[i]);
	}
	while (running > 1)
		CHECK(sleep_ms(loop, 1, in_ms(1000)) == OK);
	CHECK(s.calls == 1);
	for (size_t i = 0; i < ARRAY_LEN(r); i++)
		CHECK(r[i].result == OK && strcmp(r[i].text, "one") == 0);
	DONE();
}

/* C1, C2 */
CACHE_TEST(an_error_is_everybodys_and_nobody_keeps_it)
{
	struct cache_tags tags = tags_of("a");
	struct source s = {.text = "one", .takes_ms = 30, .result = ERR_DB};
	struct slow r[20];
	struct cache_call call = call_of(1, "a", &tags, &s);
	struct cache_note note;
	struct str got;

	for (size_t i = 0; i < ARRAY_LEN(r); i++) {
		r[i] = (struct slow){.engine = 0, .source = &s, .tags = &tags};
		start_fiber(read_slowly, &r[i]);
	}
	while (running > 1)
		CHECK(sleep_ms(loop, 1, in_ms(1000)) == OK);
	CHECK(s.calls == 1);
	for (size_t i = 0; i < ARRAY_LEN(r); i++)
		CHECK(r[i].result == ERR_DB);
	s.result = OK;
	CHECK(cache_read(caches[1], arena, in_ms(2000), &call, &got, &note) == OK && str_is(got, "one"));
	DONE();
}

/* A5 */
CACHE_TEST(that_there_is_none_is_remembered)
{
	struct cache_tags tags = tags_of("a");
	struct source s = {.result = ERR_NOT_FOUND};
	struct cache_note note;
	struct str got;

	for (int i = 0; i < 3; i++) {
		struct cache_call call = call_of(i % 2, "a", &tags, &s);

		CHECK(cache_read(caches[i % 2], arena, in_ms(2000), &call, &got, &note) == ERR_NOT_FOUND);
		CHECK(note.negative == (i > 0));
	}
	CHECK(s.calls == 1);
	CHECK(cache_raise(caches[0], arena, &tags) == OK);
	s = (struct source){.text = "now there is"};
	for (int i = 0; i < 2; i++) {
		struct cache_call call = call_of(i, "a", &tags, &s);

		CHECK(cache_read(caches[i], arena, in_ms(2000), &call, &got, &note) == OK);
	}
	DONE();
}

/* B6, I3 */
CACHE_TEST(a_lost_epoch_is_a_miss)
{
	struct cache_tags tags = tags_of("a");
	struct source s = {.text = "one"};
	struct cache_call call = call_of(0, "a", &tags, &s);
	struct str key = link_epoch_key(caches[0], arena, school, tags.v[0]);
	struct redis_reply reply;
	struct cache_note note;
	struct str got;

	CHECK(cache_read(caches[0], arena, in_ms(2000), &call, &got, &note) == OK);
	CHECK(redis_call(redis[1], arena, in_ms(1000), REDIS_ARGS(STR("DEL"), key), &reply) == OK && reply.i == 1);
	s.text = "two";
	CHECK(cache_read(caches[0], arena, in_ms(2000), &call, &got, &note) == OK && str_is(got, "two"));
	DONE();
}

/* I4 */
CACHE_TEST(a_frozen_redis_costs_little_and_nothing_stale_comes_out_of_it)
{
	struct cache_tags tags = tags_of("a");
	struct source s = {.text = "one"};
	struct cache_call call = call_of(0, "a", &tags, &s);
	struct cache_note note;
	struct str got;
	int64_t from;

	call.life.memory = true;
	CHECK(cache_read(caches[0], arena, in_ms(2000), &call, &got, &note) == OK);
	CHECK(cache_read(caches[0], arena, in_ms(2000), &call, &got, &note) == OK && note.level == LEVEL_MEMORY);
	real_redis_freeze(&server);
	s.text = "two";
	CHECK(cache_raise(caches[0], arena, &tags) == ERR_CACHE);
	from = loop_mono_us(loop);
	for (int i = 0; i < 10; i++) {
		CHECK(cache_read(caches[0], arena, in_ms(2000), &call, &got, &note) == OK);
		CHECK(str_is(got, "two") && note.state == CACHE_BYPASS);
	}
	CHECK(loop_mono_us(loop) - from < 1000000);
	real_redis_thaw(&server);
	for (int i = 0; i < 3000 && !both_up(); i++)
		CHECK(sleep_ms(loop, 1, in_ms(1000)) == OK);
	CHECK(both_up() && cache_stats(caches[0]).journal == 0);
	call = call_of(1, "a", &tags, &s);
	CHECK(cache_read(caches[1], arena, in_ms(2000), &call, &got, &note) == OK && str_is(got, "two"));
	DONE();
}

/* A3, H2 */
CACHE_TEST(a_new_generation_forgets_everything)
{
	struct cache_tags tags = tags_of("a");
	struct source s = {.text = "one"};
	struct cache_note note;
	struct str got;

	for (int i = 0; i < 2; i++) {
		struct cache_call call = call_of(i, "a", &tags, &s);

		CHECK(cache_read(caches[i], arena, in_ms(2000), &call, &got, &note) == OK);
	}
	s.text = "two";
	CHECK(cache_new_generation(caches[0], arena) == OK);
	CHECK(sleep_ms(loop, 100, in_ms(1000)) == OK);
	for (int i = 0; i < 2; i++) {
		struct cache_call call = call_of(i, "a", &tags, &s);

		CHECK(cache_read(caches[i], arena, in_ms(2000), &call, &got, &note) == OK && str_is(got, "two"));
	}
	DONE();
}

/* A1 */
CACHE_TEST(any_bytes_come_back_and_lives_are_checked)
{
	static const size_t sizes[] = {0, 1, 100, 70000, 5 << 20, 10 << 20};
	struct cache_tags tags = tags_of("a"), none = {.school = school};
	struct cache_life life = {.ttl_s = 5},
			  bad[] = {{.ttl_s = 0}, {.ttl_s = CACHE_LIFE_MAX_S + 1}, {.ttl_s = CACHE_LIFE_MAX_S, .sie_s = 1}};
	uint64_t seed = 3;
	struct cache_note note;
	struct str got, key = cache_key(caches[0], arena, school, "thing", &STR("bytes"), 1);
	bool existed;

	caches[0]->conf.timeout_ms = caches[1]->conf.timeout_ms = 5000;
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		char *bytes = arena_alloc(arena, sizes[i] + 1);

		for (size_t j = 0; j < sizes[i]; j++)
			bytes[j] = (char)(i % 2 ? unit_random(&seed) : j / 100);
		CHECK(cache_set(caches[0], arena, in_ms(5000), key, i % 2 ? &tags : &none, &life,
				(struct str){bytes, sizes[i]}) == OK);
		CHECK(cache_get(caches[1], arena, in_ms(5000), key, i % 2 ? &tags : &none, &got, &note) == OK);
		CHECK(got.n == sizes[i] && memcmp(got.p, bytes, sizes[i]) == 0);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		CHECK(cache_set(caches[0], arena, in_ms(5000), key, &tags, &bad[i], STR("x")) == ERR_INVALID);
	CHECK(cache_delete(caches[0], arena, in_ms(5000), key, &existed) == OK && existed);
	CHECK(cache_delete(caches[0], arena, in_ms(5000), key, &existed) == OK && !existed);
	CHECK(cache_get(caches[0], arena, in_ms(5000), key, &none, &got, &note) == ERR_NOT_FOUND);
	DONE();
}

static void cancelled_leader(void *arg)
{
	*(struct fiber **)arg = fiber_self();
	read_slowly((char *)arg + sizeof(struct fiber *));
}

/* C2, C3 */
CACHE_TEST(a_leader_that_goes_is_followed_by_the_next)
{
	struct cache_tags tags = tags_of("a");
	struct source s = {.text = "one", .takes_ms = 80};
	struct {
		struct fiber *fiber;
		struct slow slow;
	} first = {NULL, {.engine = 0, .source = &s, .tags = &tags}};
	struct slow second = {.engine = 0, .source = &s, .tags = &tags}, third = {.engine = 1, .source = &s, .tags = &tags};

	start_fiber(cancelled_leader, &first);
	CHECK(sleep_ms(loop, 20, in_ms(1000)) == OK);
	start_fiber(read_slowly, &second);
	start_fiber(read_slowly, &third);
	CHECK(sleep_ms(loop, 20, in_ms(1000)) == OK);
	fiber_cancel(first.fiber);
	while (running > 1)
		CHECK(sleep_ms(loop, 1, in_ms(1000)) == OK);
	CHECK(first.slow.result == ERR_CANCELLED);
	CHECK(second.result == OK && third.result == OK && s.calls == 2);
	DONE();
}

/* A3 */
static void names_never_meet(void **state)
{
	struct str ab[] = {STR("a:b"), STR("")}, a_b[] = {STR("a"), STR("b")}, a[] = {STR("a")}, a_[] = {STR("a"), STR("")},
		   glob[] = {STR("*?[{~%")};
	char text[600];
	struct str longer[] = {{text, 599}}, longest[] = {{text, 600}}, got;

	(void)state;
	memset(text, 'x', sizeof(text));
	assert_false(str_eq(cache_key(caches[0], arena, school, "k", ab, 1), cache_key(caches[0], arena, school, "k", a_b, 2)));
	assert_false(str_eq(cache_key(caches[0], arena, school, "k", a, 1), cache_key(caches[0], arena, school, "k", a_, 2)));
	assert_false(str_eq(cache_key(caches[0], arena, school, "k", longer, 1),
			    cache_key(caches[0], arena, school, "k", longest, 1)));
	got = cache_key(caches[0], arena, school, "k", longest, 1);
	assert_int_equal(got.n, CACHE_KEY_MAX);
	got = cache_key(caches[0], arena, school, "k", glob, 1);
	assert_non_null(memmem(got.p, got.n, ":%2A%3F%5B%7B%7E%25", 19));
}

/* I6, of a cluster (docs/decisions/018): what stands in the first braces decides about the slot. */
static void everything_of_a_school_has_the_same_braces(void **state)
{
	char text[600];
	struct str brace[] = {STR("a{b}c")}, longest[] = {{text, 600}}, tag = STR("teacher:1"), names[6];
	char id[UUID_TEXT + 1];

	(void)state;
	memset(text, '{', sizeof(text));
	uuid_text(school, id);
	names[0] = cache_key(caches[0], arena, school, "k", brace, 1);
	names[1] = cache_key(caches[0], arena, school, "k", longest, 1);
	names[2] = cache_key_of(caches[0], arena, "directory", school, "k", brace, 1);
	names[3] = link_epoch_key(caches[0], arena, school, tag);
	names[4] = link_index_key(caches[0], arena, school, tag);
	names[5] = link_epoch_key(caches[0], arena, school, longest[0]);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		const char *open = memchr(names[i].p, '{', names[i].n);

		assert_non_null(open);
		assert_true(names[i].n <= CACHE_KEY_MAX && (size_t)(names[i].p + names[i].n - open) > UUID_TEXT + 1);
		assert_memory_equal(open + 1, id, UUID_TEXT);
		assert_true(open[UUID_TEXT + 1] == '}');
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_second_reader_in_either_process_finds_it),
		T(what_was_raised_is_read_anew_everywhere),
		T(a_fill_that_an_invalidation_overtakes_is_nobodys_answer_later),
		T(a_hundred_callers_of_two_processes_ask_the_source_once),
		T(an_error_is_everybodys_and_nobody_keeps_it),
		T(that_there_is_none_is_remembered),
		T(a_lost_epoch_is_a_miss),
		T(a_frozen_redis_costs_little_and_nothing_stale_comes_out_of_it),
		T(a_new_generation_forgets_everything),
		T(any_bytes_come_back_and_lives_are_checked),
		T(a_leader_that_goes_is_followed_by_the_next),
		T(names_never_meet),
		T(everything_of_a_school_has_the_same_braces),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
