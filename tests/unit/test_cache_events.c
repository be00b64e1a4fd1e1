/* SPDX-License-Identifier: Apache-2.0 */
/* Events and the cache: what a change has touched stands in its event, and is raised again when whoever made it has died. */
#include "unit/events_world.h"

/* ---- what stands in events ---- */

static void an_event_says_what_its_change_has_touched(void **state)
{
	struct uuid id = {{0}};
	struct str event;

	(void)state;
	assert_int_equal(one(put, "noted", &id), OK); /* the table of events has none for it */
	event = newest_event();
	assert_holds(event, "org.schools24.fee.touched.v1");
	assert_holds(event, arena_printf(kit->arena, "\"cachetags\":\"table:fee.notes note:%s student:%s\"", text_of(id),
					 text_of(student)));
	assert_int_equal(one(put_seat, "seated", &id), OK);
	assert_int_equal(count("SELECT count(*) FROM fee.outbox"), 1);
	assert_int_equal(count("SELECT count(*) FROM fee.outbox WHERE channel = 'fee:seated' AND envelope ->> 'cachetags' LIKE "
			       "'table:fee.seats seat:%'"),
			 1);
}

static void what_a_transaction_touches_stands_in_its_event_or_in_one_of_its_own(void **state)
{
	static const char sql[] = "SELECT count(*) FROM fee.outbox WHERE channel = '%s' AND envelope ->> 'cachetags' = "
				  "'user:%s table:fee.notes'";

	(void)state;
	assert_int_equal(one(commit_with_event, "", NULL), OK);
	assert_int_equal(count("SELECT count(*) FROM fee.outbox"), 1);
	assert_int_equal(count(arena_printf(kit->arena, sql, "fee:paid", text_of(student))), 1);
	assert_int_equal(one(commit_without_event, "", NULL), OK);
	assert_int_equal(count("SELECT count(*) FROM fee.outbox"), 2);
	assert_int_equal(count(arena_printf(kit->arena, sql, "fee:touched", text_of(student))), 1);
}

static void what_fits_no_event_is_said_of_its_tables(void **state)
{
	struct call call = {.req = a_request(&own_routes[1], NULL)};
	struct str text;

	(void)state;
	req_touch_name(call.req, "table:", "fee.notes");
	for (unsigned i = 0; i < 2 * EVENT_TAGS_MAX; i++)
		req_touch_name(call.req, "student:", arena_printf(kit->arena, "%u", i));
	text = event_with_tags(call.req, STR("{\"id\":\"x\"}"));
	assert_holds(text, "{\"cachetags\":\"bulk:fee.notes table:fee.notes student:0 ");
	assert_true(text.n < EVENT_TAGS_MAX * 16);
	assert_int_equal(call.req->touched->n, 2 * EVENT_TAGS_MAX + 1); /* raised are all */
	free_calls(&call, 1);
}

/* ---- what nobody has raised (D1, B12) ---- */

static void what_a_dead_daemon_did_not_raise_is_raised_within_a_second(void **state)
{
	struct uuid id = school_number(50);
	int64_t before_us;

	(void)state;
	pass_ms(1200); /* they have looked */
	in_table("old");
	for (int i = 0; i < 2; i++) {
		use(i);
		assert_int_equal(one(look, "old", &id), OK);
	}
	in_table("new");
	leave_event("*", "fee", "fee.seated", arena_printf(kit->arena, "\"cachetags\":\"table:fee.notes note:%s\"", text_of(id)));
	before_us = clock_real_us();
	assert_int_equal(one(look, "old", &id), OK); /* nobody has said anything */
	assert_true(wait_for_repeating());
	assert_true(clock_real_us() - before_us < 1800 * 1000); /* 1 s, and what the sanitizers take */
	assert_int_equal(repeated() % 2, 0);                    /* counted: two tags, by whoever was first, or both */
	pass_ms(100);
	for (int i = 0; i < 2; i++) {
		use(i);
		assert_int_equal(one(look, "new", &id), OK);
	}
}

static void what_was_raised_is_not_raised_again(void **state)
{
	struct uuid id = {{0}};

	(void)state;
	assert_int_equal(one(put, "noted", &id), OK);
	use(1);
	assert_int_equal(one(put_three, "", NULL), OK);
	pass_ms(1800);
	assert_int_equal(repeated(), 0);
	for (int i = 0; i < 2; i++)
		assert_true(
			cache_was_raised(daemons[i]->daemon.caches, event_name(&daemons[i]->daemon, kit->arena, newest_event())));
}

/* An event of another's stream that tells of tags is that one's to raise. */
static void tags_in_events_of_others_are_theirs(void **state)
{
	(void)state;
	pass_ms(1200);
	leave_event("*", "fee", "homework.assigned", "\"cachetags\":\"table:homework.homework\"");
	pass_ms(1800);
	assert_int_equal(repeated(), 0);
}

/* Whatever its event is about: auth tells of "user.updated". */
static void an_event_is_its_sources_own_whatever_its_name(void **state)
{
	(void)state;
	pass_ms(1200);
	leave_event("*", "fee", "user.updated", "\"source\":\"/services/fee\",\"cachetags\":\"table:fee.notes\"");
	assert_true(wait_for_repeating());
}

/* However long there was none: how far the stream was raised stands in the cache. */
static void what_died_with_the_last_daemon_is_raised_by_the_next(void **state)
{
	const char *place = "cache:test:place:fee:main:events:fee";
	char left[32];
	struct str kept;

	(void)state;
	leave_event(ago(7200), "fee", "fee.seated", "\"cachetags\":\"table:fee.seats\"");
	pass_ms(1500);
	assert_int_equal(repeated(), 0);               /* nobody has been here before, and two hours ago is not now */
	snprintf(left, sizeof(left), "%s", ago(3600)); /* past the arena of this daemon */
	leave_event(left, "fee", "fee.seated", "\"cachetags\":\"table:fee.seats\"");
	in_cache(STR("SET"), str_of(place), str_of(ago(4000)));
	open_again(&service);
	assert_true(wait_for_repeating());
	pass_ms(1200);
	kept = in_cache(STR("GET"), str_of(place)).s;
	assert_true(str_is(kept, left)); /* it has gone on from there */
	open_again(&service);
	pass_ms(1500);
	assert_int_equal(repeated(), 0); /* … and once is enough */
}

/* ---- a stretch that nobody has read: what it said is not known, so everything is forgotten ---- */

/* The one that both know. */
static int64_t generation(void)
{
	int64_t first = daemons[0]->daemon.caches->generation, second = daemons[1]->daemon.caches->generation;

	return first < second ? first : second;
}

static bool wait_for_generation_above(int64_t old)
{
	for (int64_t end_us = clock_real_us() + 3 * US_PER_S; clock_real_us() < end_us && generation() <= old;)
		turn_both();
	return generation() > old;
}

#define ADD_AND_TRIM \
	"for i = 1, 300 do redis.call('XADD', KEYS[1], '*', 'e', '{}') end redis.call('XTRIM', KEYS[1], 'MAXLEN', ARGV[1])"

static void a_trimmed_stretch_makes_everything_unreachable(void **state)
{
	static const char *const left[] = {"40", "250"};
	static const char *const names[] = {"old", "new", "newest"};
	struct uuid id = school_number(50);

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(left); i++) {
		int64_t old;

		leave_event("*", "fee", "fee.seated", "\"cachetags\":\"table:fee.seats\"");
		pass_ms(1500);
		in_table(names[i]);
		assert_int_equal(one(look, names[i], &id), OK);
		in_table(names[i + 1]);
		assert_int_equal(one(look, names[i], &id), OK);
		old = generation();
		in_buffer(STR("EVAL"), STR(ADD_AND_TRIM), STR("1"), STR("events:fee"), str_of(left[i]));
		assert_true(wait_for_generation_above(old));
		assert_int_equal(one(look, names[i + 1], &id), OK);
	}
}

static void a_whole_stream_that_is_lost_makes_everything_unreachable(void **state)
{
	int64_t old = generation();

	(void)state;
	leave_event("*", "fee", "fee.seated", "\"cachetags\":\"table:fee.seats\"");
	pass_ms(1500);
	assert_int_equal(generation(), old);
	in_buffer(STR("DEL"), STR("events:fee"));
	assert_true(wait_for_generation_above(old));
	pass_ms(1000);
	old = generation();
	pass_ms(1500);
	assert_int_equal(generation(), old); /* each daemon notices once */
}

static void what_was_trimmed_while_no_daemon_was_there_is_noticed(void **state)
{
	const char *place = "cache:test:place:fee:main:events:fee";
	int64_t old = generation();

	(void)state;
	in_buffer(STR("EVAL"), STR(ADD_AND_TRIM), STR("1"), STR("events:fee"), STR("40"));
	pass_ms(1200);
	in_cache(STR("SET"), str_of(place), str_of(ago(4000)));
	open_again(&service);
	assert_true(wait_for_generation_above(old));
}

/* ---- what others' events make untrue ---- */

#define ASSIGNED "\"data\":{\"class_id\":\"c1\",\"student_ids\":[\"s1\",\"s2\"],\"title\":\"x\"}"

static void rows_say_what_others_events_make_untrue(void **state)
{
	static const char *const tags[] = {"class:c1", "student:s1", "student:s2", "bulk:fee.notes"};

	(void)state;
	pass_ms(1200);
	leave_event("*", "homework", "homework.assigned", ASSIGNED); /* in the stream alone */
	pass_ms(1800);
	for (size_t i = 0; i < ARRAY_LEN(tags); i++)
		assert_true(is_raised(tags[i]));
	assert_true(is_raised(arena_printf(kit->arena, "homework:%s", text_of(school_number(77)))));
	assert_false(is_raised("class:{class_id}"));
}

/* A listener that was not there hears nothing; what its daemons keep is told all the same. */
static void what_others_said_while_no_daemon_was_there_is_made_untrue(void **state)
{
	(void)state;
	pass_ms(700);
	leave_event(ago(3600), "homework", "homework.assigned", ASSIGNED);
	in_cache(STR("SET"), STR("cache:test:place:fee:main:events:homework"), str_of(ago(4000)));
	open_again(&service);
	pass_ms(1500);
	assert_true(is_raised("class:c1") && is_raised("bulk:fee.notes"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(an_event_says_what_its_change_has_touched),
		T(what_a_transaction_touches_stands_in_its_event_or_in_one_of_its_own),
		T(what_fits_no_event_is_said_of_its_tables),
		T(what_a_dead_daemon_did_not_raise_is_raised_within_a_second),
		T(what_was_raised_is_not_raised_again),
		T(tags_in_events_of_others_are_theirs),
		T(an_event_is_its_sources_own_whatever_its_name),
		T(what_died_with_the_last_daemon_is_raised_by_the_next),
		T(a_trimmed_stretch_makes_everything_unreachable),
		T(a_whole_stream_that_is_lost_makes_everything_unreachable),
		T(what_was_trimmed_while_no_daemon_was_there_is_noticed),
		T(rows_say_what_others_events_make_untrue),
		T(what_others_said_while_no_daemon_was_there_is_made_untrue),
	};

	return run_events_world(tests, ARRAY_LEN(tests));
}
