/* SPDX-License-Identifier: Apache-2.0 */
/* Invalidation by tags that have to be looked for, and dependency edges, over a real Redis: what goes, what stays, and what is counted. */
#include "unit/cache_case.h"

#include "base/uuid.h"
#include "cache/cache_index.h"

static const struct uuid second = {{9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9}};
static const struct uuid nobodys = {{0}};

static struct cache_tags tags_of(struct uuid of, const char *first, const char *more)
{
	struct cache_tags tags = {.school = of};

	cache_tag_again(&tags, arena, str_of(first));
	if (more != NULL)
		cache_tag_again(&tags, arena, str_of(more));
	return tags;
}

static struct str key_of(struct uuid of, const char *name)
{
	struct str part = str_of(name);

	return cache_key(caches[0], arena, of, "thing", &part, 1);
}

static enum err put(int engine, const char *name, struct cache_tags tags)
{
	const struct cache_life life = {.ttl_s = 60};

	return cache_set(caches[engine], arena, in_ms(2000), key_of(tags.school, name), &tags, &life, str_of(name));
}

static bool has(int engine, const char *name, struct cache_tags tags)
{
	struct cache_note note;
	struct str got;

	return cache_get(caches[engine], arena, in_ms(2000), key_of(tags.school, name), &tags, &got, &note) == OK;
}

#define GROUP(...)                                                                                                             \
	{                                                                                                                      \
		.tags = (const struct str[]){__VA_ARGS__}, .n = sizeof((const struct str[]){__VA_ARGS__}) / sizeof(struct str) \
	}

/* B8, B10: patterns of tags, each group with its own sum, an entry in the first group that has it; a dry run says the same. */
CACHE_TEST(groups_of_patterns_count_each_entry_once_and_a_dry_run_says_the_same)
{
	for (int dry = 1; dry >= 0; dry--) {
		struct cache_group groups[] = {GROUP(STR("table:*.users"), STR("bulk:*.users")), GROUP(STR("class:*")),
					       GROUP(STR("none:*"))};

		if (dry == 1) {
			for (int i = 0; i < 20; i++)
				CHECK(put(0, arena_printf(arena, "a%d", i),
					  tags_of(school, "table:auth.users", arena_printf(arena, "class:%d", i))) == OK);
			CHECK(put(0, "b", tags_of(second, "bulk:auth.users", "table:auth.users")) == OK);
			CHECK(put(0, "c", tags_of(second, "class:2", NULL)) == OK);
			CHECK(put(0, "d", tags_of(nobodys, "class:3", NULL)) == OK);
			CHECK(put(0, "kept", tags_of(school, "table:auth.users_old", "subclass:1")) == OK);
		}
		CHECK(cache_drop_groups(caches[1], arena, in_ms(5000), NULL, groups, 3, dry) == OK);
		CHECK(groups[0].dropped.live == 21 && groups[1].dropped.live == 2 && groups[2].dropped.live == 0);
		CHECK(groups[0].dropped.stale == 0 && groups[1].dropped.complete);
		CHECK(has(0, "a1", tags_of(school, "table:auth.users", "class:1")) == dry);
		CHECK(has(0, "d", tags_of(nobodys, "class:3", NULL)) == dry);
	}
	CHECK(has(0, "kept", tags_of(school, "table:auth.users_old", "subclass:1")));
	DONE();
}

CACHE_TEST(a_dry_run_of_several_tags_counts_each_entry_once)
{
	struct cache_tags both = tags_of(school, "class:1", "user:1");
	struct cache_dropped n;

	for (int i = 0; i < 1500; i++)
		CHECK(put(0, arena_printf(arena, "n%d", i), both) == OK);
	CHECK(put(0, "one", tags_of(school, "user:1", NULL)) == OK);
	CHECK(cache_drop_tags(caches[1], arena, in_ms(5000), &both, true, &n) == OK && n.live == 1501 && n.stale == 0);
	CHECK(cache_drop_tags(caches[1], arena, in_ms(5000), &both, false, &n) == OK && n.live == 1501);
	DONE();
}

CACHE_TEST(one_school_is_left_alone_by_what_is_dropped_in_another)
{
	struct cache_group groups[] = {GROUP(STR("class:*"))};

	CHECK(put(0, "a", tags_of(school, "class:1", NULL)) == OK && put(0, "b", tags_of(second, "class:1", NULL)) == OK);
	CHECK(cache_drop_groups(caches[1], arena, in_ms(5000), &second, groups, 1, false) == OK && groups[0].dropped.live == 1);
	CHECK(has(0, "a", tags_of(school, "class:1", NULL)) && !has(0, "b", tags_of(second, "class:1", NULL)));
	DONE();
}

/* B8: the intersection, in each school by itself. */
CACHE_TEST(all_of_several_tags_are_looked_for_in_every_school)
{
	struct cache_tags both = tags_of(nobodys, "class:1", "user:1");
	struct cache_dropped n;

	CHECK(put(0, "a", tags_of(school, "class:1", "user:1")) == OK && put(0, "b", tags_of(second, "user:1", "class:1")) == OK);
	CHECK(put(0, "c", tags_of(second, "user:1", NULL)) == OK && put(0, "d", tags_of(school, "class:1", "user:2")) == OK);
	CHECK(cache_drop_all_of_everywhere(caches[1], arena, in_ms(5000), &both, true, &n) == OK && n.live == 2 && n.complete);
	CHECK(cache_drop_all_of_everywhere(caches[1], arena, in_ms(5000), &both, false, &n) == OK && n.live == 2 && n.complete);
	CHECK(sleep_ms(loop, 50, in_ms(1000)) == OK);
	CHECK(!has(0, "a", tags_of(school, "class:1", "user:1")) && !has(0, "b", tags_of(second, "user:1", "class:1")));
	CHECK(has(0, "c", tags_of(second, "user:1", NULL)) && has(0, "d", tags_of(school, "class:1", "user:2")));
	DONE();
}

/* Everything of a school, what is filled in the meantime included; nothing of another one, and nothing of nobody's. */
CACHE_TEST(a_school_goes_as_a_whole)
{
	struct cache_dropped n;

	for (int i = 0; i < 30; i++) {
		CHECK(put(0, arena_printf(arena, "a%d", i), tags_of(school, arena_printf(arena, "class:%d", i % 7), "x")) == OK);
		CHECK(put(0, arena_printf(arena, "b%d", i), tags_of(second, "class:1", NULL)) == OK);
	}
	CHECK(put(0, "all", tags_of(nobodys, "class:1", NULL)) == OK);
	CHECK(cache_drop_school(caches[1], arena, in_ms(5000), school, true, &n) == OK && n.live == 30);
	CHECK(has(0, "a3", tags_of(school, "class:3", "x")));
	CHECK(cache_drop_school(caches[1], arena, in_ms(5000), school, false, &n) == OK && n.live == 30 && n.complete);
	for (int i = 0; i < 30; i++)
		CHECK(!has(0, arena_printf(arena, "a%d", i), tags_of(school, arena_printf(arena, "class:%d", i % 7), "x")));
	CHECK(has(0, "b7", tags_of(second, "class:1", NULL)) && has(0, "all", tags_of(nobodys, "class:1", NULL)));
	CHECK(cache_drop_school(caches[1], arena, in_ms(5000), nobodys, false, &n) == OK && n.live == 1);
	CHECK(!has(0, "all", tags_of(nobodys, "class:1", NULL)));
	DONE();
}

CACHE_TEST(the_indexes_are_counted_without_what_has_expired)
{
	struct cache_tags tags = tags_of(school, "class:1", "x");
	const struct cache_life life = {.ttl_s = 1};
	struct cache_index_size size;

	CHECK(put(0, "a", tags) == OK && put(0, "b", tags_of(second, "class:1", NULL)) == OK);
	CHECK(cache_set(caches[0], arena, in_ms(2000), key_of(school, "short"), &tags, &life, STR("x")) == OK);
	CHECK(cache_index_count(caches[1], arena, in_ms(2000), &size) == OK && size.tags == 3 && size.members == 5);
	CHECK(sleep_ms(loop, 1100, in_ms(3000)) == OK);
	CHECK(cache_index_count(caches[1], arena, in_ms(2000), &size) == OK && size.tags == 3 && size.members == 3);
	DONE();
}

/* B9: rate-limited: of one process one walk at a time, and the second caller is told. */
static enum err second_walk;
static void walker(void *arg)
{
	struct cache_dropped n;

	(void)arg;
	second_walk = cache_drop_pattern(caches[0], arena, in_ms(5000), STR("*"), true, &n);
	running--;
}

CACHE_TEST(two_walks_of_one_process_do_not_go_together)
{
	struct cache_dropped n;

	for (int i = 0; i < 2500; i++)
		CHECK(put(0, arena_printf(arena, "n%d", i), tags_of(school, "class:1", NULL)) == OK);
	second_walk = OK;
	start_fiber(walker, NULL);
	CHECK(cache_drop_pattern(caches[0], arena, in_ms(5000), STR("*"), true, &n) == OK && n.live == 2500);
	CHECK(second_walk == ERR_IN_PROGRESS);
	CHECK(cache_drop_pattern(caches[0], arena, in_ms(5000), STR("*"), false, &n) == OK && n.live == 2500);
	DONE();
}

/* ---- B11: dependency edges ---- */

static const struct cache_edge edges[] = {
	{"class:*", "dashboard:*"}, {"dashboard:*", "report:*"}, {"calendar", "dashboard:*"}, {NULL, NULL}};
static const struct cache_edge circle[] = {
	{"class:*", "dashboard:*"}, {"dashboard:*", "class:*"}, {"dashboard:x*", "dashboard:*"}, {NULL, NULL}};

/* Engine 0 is of the service that has edges; engine 1, of another, raises what it changes and knows none. */
CACHE_TEST(raising_a_parent_reaches_its_children_whoever_raises)
{
	struct cache_tags parent = tags_of(school, "class:5", NULL), child = tags_of(school, "dashboard:5", NULL);
	struct cache_tags grandchild = tags_of(school, "report:5", NULL), other = tags_of(school, "report:6", NULL);
	struct cache_tags whole = tags_of(school, "calendar", NULL);
	struct cache_dropped n;

	caches[0]->conf.edges = edges;
	CHECK(put(0, "child", child) == OK && put(0, "grandchild", grandchild) == OK && put(0, "other", other) == OK);
	CHECK(child.n == 1); /* the caller's list is his own */
	CHECK(cache_drop_tags(caches[1], arena, in_ms(2000), &parent, true, &n) == OK && n.live == 2);
	CHECK(has(0, "child", child) && has(0, "grandchild", grandchild));
	CHECK(cache_raise(caches[1], arena, &parent) == OK);
	CHECK(sleep_ms(loop, 50, in_ms(1000)) == OK);
	CHECK(!has(0, "child", child) && !has(0, "grandchild", grandchild) && has(0, "other", other));
	CHECK(put(0, "child", child) == OK && put(0, "grandchild", grandchild) == OK);
	CHECK(cache_raise(caches[1], arena, &child) == OK); /* down the edges only */
	CHECK(sleep_ms(loop, 50, in_ms(1000)) == OK);
	CHECK(!has(0, "child", child) && !has(0, "grandchild", grandchild));
	CHECK(put(0, "parent", parent) == OK && put(0, "child", child) == OK && cache_raise(caches[1], arena, &child) == OK);
	CHECK(has(0, "parent", parent));
	CHECK(cache_raise(caches[1], arena, &whole) == OK && sleep_ms(loop, 50, in_ms(1000)) == OK);
	CHECK(!has(0, "other", other) && has(0, "parent", parent));
	DONE();
}

/* A deployment of new edges needs no clearing. */
CACHE_TEST(what_was_kept_before_its_service_had_edges_is_filled_anew)
{
	struct cache_tags child = tags_of(school, "dashboard:5", NULL);

	CHECK(put(0, "child", child) == OK && has(0, "child", child));
	caches[0]->conf.edges = edges;
	CHECK(!has(0, "child", child));
	CHECK(put(0, "child", child) == OK && has(0, "child", child));
	DONE();
}

/* The epochs of what an entry depends on are those of before its source was asked. */
CACHE_TEST(a_parent_raised_during_a_fill_leaves_the_child_unreachable)
{
	struct cache_tags parent = tags_of(school, "class:5", NULL), child = tags_of(school, "report:5", NULL);
	struct source s = {.text = "old"};
	struct cache_call call = call_of(0, "x", &child, &s);
	struct cache_note note;
	struct str got;

	caches[0]->conf.edges = edges;
	CHECK(cache_read(caches[0], arena, in_ms(2000), &call, &got, &note) == OK && s.calls == 1);
	CHECK(cache_read(caches[0], arena, in_ms(2000), &call, &got, &note) == OK && s.calls == 1 && note.state == CACHE_HIT);
	CHECK(cache_raise(caches[1], arena, &parent) == OK);
	CHECK(cache_read(caches[0], arena, in_ms(2000), &call, &got, &note) == OK && s.calls == 2);
	CHECK(cache_raise(caches[1], arena, &parent) == OK);
	cache_refresh(caches[0], arena, in_ms(2000), &call);
	CHECK(s.calls == 3);
	CHECK(cache_read(caches[0], arena, in_ms(2000), &call, &got, &note) == OK && s.calls == 3);
	DONE();
}

/* table_check lets no such table start; should one come all the same, nothing hangs. */
CACHE_TEST(a_circle_of_edges_ends)
{
	struct cache_tags child = tags_of(school, "dashboard:5", NULL);

	caches[0]->conf.edges = circle;
	CHECK(edges_follow(caches[0], arena, &child)->n > CACHE_TAGS_MAX);
	CHECK(put(0, "x", child) == ERR_TOO_LARGE);
	DONE();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(groups_of_patterns_count_each_entry_once_and_a_dry_run_says_the_same),
		T(a_dry_run_of_several_tags_counts_each_entry_once),
		T(one_school_is_left_alone_by_what_is_dropped_in_another),
		T(all_of_several_tags_are_looked_for_in_every_school),
		T(a_school_goes_as_a_whole),
		T(the_indexes_are_counted_without_what_has_expired),
		T(two_walks_of_one_process_do_not_go_together),
		T(raising_a_parent_reaches_its_children_whoever_raises),
		T(what_was_kept_before_its_service_had_edges_is_filled_anew),
		T(a_parent_raised_during_a_fill_leaves_the_child_unreachable),
		T(a_circle_of_edges_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
