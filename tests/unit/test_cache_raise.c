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

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(what_is_raised_behind_a_shut_gate_is_not_read_by_the_others),
		T(the_journal_is_written_out_as_well),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
