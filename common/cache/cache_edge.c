/* SPDX-License-Identifier: Apache-2.0 */
/* Dependency edges between tags: what else an entry depends on, by the table of its service (cache.h). */
#include <string.h>

#include "base/str.h"
#include "cache/cache_internal.h"

/* "class:*" and "class:5": *ret_value is "5". A pattern without * is the whole tag. */
static bool fits(const char *pattern, struct str tag, struct str *ret_value)
{
	size_t n = strlen(pattern);

	*ret_value = (struct str){NULL, 0};
	if (n == 0 || pattern[n - 1] != '*')
		return str_is(tag, pattern);
	if (!str_has_prefix(tag, (struct str){pattern, n - 1}))
		return false;
	*ret_value = (struct str){tag.p + n - 1, tag.n - (n - 1)};
	return true;
}

static struct str filled_in(struct arena *arena, const char *pattern, struct str value)
{
	size_t n = strlen(pattern);

	if (n == 0 || pattern[n - 1] != '*')
		return str_of(pattern);
	return str_of(arena_printf(arena, "%.*s%.*s", (int)(n - 1), pattern, STR_FMT(value)));
}

const struct cache_tags *edges_follow(const struct cache *c, struct arena *arena, const struct cache_tags *tags)
{
	struct cache_tags *all = NULL;
	const struct cache_tags *seen = tags;
	struct str value;

	if (c->conf.edges == NULL)
		return tags;
	/* What is added is looked at too. A tag stands in the list once, so the walk would end though the edges went in a circle, but for values that
	 * grow on the way; what has too many is not kept, and need not be followed further. */
	for (size_t i = 0; i < seen->n && seen->n <= CACHE_TAGS_MAX; i++) {
		for (const struct cache_edge *edge = c->conf.edges; edge->from != NULL; edge++) {
			if (!fits(edge->to, seen->v[i], &value))
				continue;
			if (all == NULL) {
				all = arena_alloc(arena, sizeof(*all));
				*all = *tags;
				all->cap = tags->n; /* the caller's own array is not written to */
				seen = all;
			}
			cache_tag_again(all, arena, filled_in(arena, edge->from, value));
		}
	}
	return seen;
}

struct cache_call edges_of_call(const struct cache *c, struct arena *arena, const struct cache_call *call)
{
	struct cache_call whole = *call;

	whole.tags = edges_follow(c, arena, call->tags);
	return whole;
}
