/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From method and path to the route: a tree by segments, built once at start.
 *
 * A literal segment wins over {…_id} (which takes UUIDs only), and that over any other {parameter}; the first path from the left that has
 * the method wins, so a literal without the method does not hide a parameter with it. HEAD is answered by GET's route.
 */
#ifndef S24_SVC_ROUTER_H
#define S24_SVC_ROUTER_H

#include "svc/metrics.h"
#include "svc/route.h"

#define ROUTE_PARAMS_MAX 4
#define ROUTE_SEGMENTS_MAX 16
#define ROUTE_PREFIX "/api/v1"

struct route_entry {
	const struct route *route; /* NULL: what matched no route, for the metrics */
	const char *path;          /* "/api/v1/teacher/homework/{homework_id}" */
	struct str params[ROUTE_PARAMS_MAX];
	size_t n_params;
	struct route_times times;
};

struct route_match {
	struct route_entry *entry;
	struct str text[ROUTE_PARAMS_MAX]; /* decoded */
	struct uuid id[ROUTE_PARAMS_MAX];  /* nil for a parameter that is no id */
	size_t n;
	unsigned allowed; /* ERR_METHOD: bits 1 << method */
};

struct router;
struct router *router_new(void) NEVER_NULL;
struct router *router_free(struct router *r);
void router_add(struct router *r, const struct route *route); /* a row that table_check has passed */
MUST_CHECK enum err router_match(const struct router *r, enum http_method method, struct str path, struct arena *arena,
				 struct route_match *ret); /* ERR_NOT_FOUND, ERR_METHOD */
size_t router_size(const struct router *r);
struct route_entry *router_entry(const struct router *r,
				 size_t i); /* in the order of router_add; the last, i == size, is "no route" */

/* The full path of a row, in the arena. */
const char *route_path(const struct route *route, struct arena *arena);
/* Splits "{name}" → name. False: a literal segment. */
bool route_param(struct str segment, struct str *ret_name);
static inline bool route_param_is_id(struct str name)
{
	return name.n >= 3 && memcmp(name.p + name.n - 3, "_id", 3) == 0;
}
/* Is the row for the internal listener? */
static inline bool route_is_internal(const struct route *route)
{
	return route->rule.kind == RULE_INTERNAL;
}

#endif
