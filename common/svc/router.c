/* SPDX-License-Identifier: Apache-2.0 */
/* The tree of routes: built once, then read only; matching allocates nothing unless a segment is percent-encoded. */
#include "svc/router.h"

#include <stdlib.h>

#include "base/arena.h"
#include "base/str.h"
#include "base/uuid.h"

struct node {
	struct str segment; /* of a literal */
	struct node **literals;
	size_t n_literals;
	struct node *id, *text; /* {…_id}, any other {parameter} */
	struct route_entry *entry[HTTP_OTHER];
	unsigned methods;
};

struct router {
	struct arena *arena;
	struct node root;
	struct route_entry **entries;
	size_t n, cap;
	struct route_entry *none;
};

struct router *router_new(void)
{
	struct router *r = mem_zalloc(sizeof(*r));

	r->arena = arena_new();
	r->none = arena_zalloc(r->arena, sizeof(*r->none));
	r->none->path = "";
	return r;
}

static void node_done(struct node *node)
{
	if (node->id != NULL)
		node_done(node->id);
	if (node->text != NULL)
		node_done(node->text);
	for (size_t i = 0; i < node->n_literals; i++)
		node_done(node->literals[i]);
	free(node->literals);
}

struct router *router_free(struct router *r)
{
	if (r == NULL)
		return NULL;
	node_done(&r->root);
	for (size_t i = 0; i < r->n; i++)
		route_times_done(&r->entries[i]->times);
	route_times_done(&r->none->times);
	free(r->entries);
	arena_free(r->arena);
	free(r);
	return NULL;
}

/* Length first: cheaper than the bytes, and any order serves. */
static int segment_order(struct str a, struct str b)
{
	if (a.n != b.n)
		return a.n < b.n ? -1 : 1;
	return a.n == 0 ? 0 : memcmp(a.p, b.p, a.n);
}

static struct node *find_literal(const struct node *node, struct str segment)
{
	size_t from = 0, to = node->n_literals;

	while (from < to) {
		size_t mid = (from + to) / 2;
		int order = segment_order(segment, node->literals[mid]->segment);

		if (order == 0)
			return node->literals[mid];
		if (order < 0)
			to = mid;
		else
			from = mid + 1;
	}
	return NULL;
}

static struct node *add_literal(struct router *r, struct node *node, struct str segment)
{
	struct node *child = find_literal(node, segment);
	size_t at = 0;

	if (child != NULL)
		return child;
	while (at < node->n_literals && segment_order(node->literals[at]->segment, segment) < 0)
		at++;
	node->literals = mem_realloc(node->literals, (node->n_literals + 1) * sizeof(struct node *));
	memmove(node->literals + at + 1, node->literals + at, (node->n_literals - at) * sizeof(struct node *));
	child = arena_zalloc(r->arena, sizeof(*child));
	child->segment = segment;
	node->literals[at] = child;
	node->n_literals++;
	return child;
}

static struct node *add_param(struct router *r, struct node **at)
{
	if (*at == NULL)
		*at = arena_zalloc(r->arena, sizeof(struct node));
	return *at;
}

void router_add(struct router *r, const struct route *route)
{
	struct route_entry *entry = arena_zalloc(r->arena, sizeof(*entry));
	struct node *node = &r->root;
	struct str rest, name;

	entry->route = route;
	entry->path = route_path(route, r->arena);
	rest = str_of(entry->path + 1);
	while (rest.p != NULL) {
		struct str segment = str_split(&rest, '/');

		if (!route_param(segment, &name)) {
			node = add_literal(r, node, segment);
			continue;
		}
		if (entry->n_params < ROUTE_PARAMS_MAX)
			entry->params[entry->n_params++] = name;
		node = add_param(r, route_param_is_id(name) ? &node->id : &node->text);
	}
	node->entry[route->method] = entry;
	node->methods |= 1U << route->method;
	if (r->n == r->cap) {
		r->cap = r->cap == 0 ? 32 : r->cap * 2;
		r->entries = mem_realloc(r->entries, r->cap * sizeof(struct route_entry *));
	}
	r->entries[r->n++] = entry;
}

struct walk {
	struct str segments[ROUTE_SEGMENTS_MAX];
	size_t n;
	enum http_method method;
	bool bytes; /* a segment is no UTF-8: for those that take any */
	struct route_match *match;
};

/* Visits a node at most once, so a hostile path costs no more than the tree is large. */
static bool walk(struct walk *w, const struct node *node, size_t i, size_t n_params)
{
	struct str segment;
	const struct node *child;

	if (i == w->n) {
		w->match->allowed |= w->bytes ? 0 : node->methods;
		if (w->method >= HTTP_OTHER || node->entry[w->method] == NULL)
			return false;
		if (w->bytes && (node->entry[w->method]->route->flags & ROUTE_BYTES) == 0)
			return false;
		w->match->entry = node->entry[w->method];
		w->match->n = n_params;
		return true;
	}
	segment = w->segments[i];
	child = find_literal(node, segment);
	if (child != NULL && walk(w, child, i + 1, n_params))
		return true;
	if (n_params == ROUTE_PARAMS_MAX || segment.n == 0)
		return false;
	if (node->id != NULL && uuid_parse(segment, &w->match->id[n_params])) {
		w->match->text[n_params] = segment;
		if (walk(w, node->id, i + 1, n_params + 1))
			return true;
	}
	if (node->text == NULL || str_is(segment, ".") || str_is(segment, ".."))
		return false;
	if (!walk(w, node->text, i + 1, n_params + 1))
		return false;
	w->match->text[n_params] = segment;
	w->match->id[n_params] = (struct uuid){{0}};
	return true;
}

static bool decode(struct arena *arena, struct str *segment, bool *ret_bytes)
{
	char *to;
	size_t n;

	if (segment->n == 0 || memchr(segment->p, '%', segment->n) == NULL)
		return true;
	to = arena_alloc(arena, segment->n + 1);
	if (!str_percent_decode(to, *segment, false, &n))
		return false;
	*segment = (struct str){to, n};
	*ret_bytes |= !str_is_utf8(*segment);
	return true;
}

enum err router_match(const struct router *r, enum http_method method, struct str path, struct arena *arena,
		      struct route_match *ret)
{
	struct walk w = {.method = method == HTTP_HEAD ? HTTP_GET : method, .match = ret};
	struct str rest;

	ret->entry = NULL;
	ret->allowed = 0;
	ret->n = 0;
	if (path.n == 0 || path.p[0] != '/')
		return ERR_NOT_FOUND;
	rest = (struct str){path.p + 1, path.n - 1};
	while (rest.p != NULL) {
		if (w.n == ROUTE_SEGMENTS_MAX)
			return ERR_NOT_FOUND;
		w.segments[w.n] = str_split(&rest, '/');
		if (!decode(arena, &w.segments[w.n], &w.bytes))
			return ERR_NOT_FOUND;
		w.n++;
	}
	if (walk(&w, &r->root, 0, 0))
		return OK;
	if (ret->allowed == 0)
		return ERR_NOT_FOUND;
	if ((ret->allowed & 1U << HTTP_GET) != 0)
		ret->allowed |= 1U << HTTP_HEAD;
	return ERR_METHOD;
}

size_t router_size(const struct router *r)
{
	return r->n;
}

struct route_entry *router_entry(const struct router *r, size_t i)
{
	return i < r->n ? r->entries[i] : r->none;
}
