/* SPDX-License-Identifier: Apache-2.0 */
/* What can be said of a route row alone; apart from the router, so that what only prints tables links little. */
#include "base/arena.h"
#include "base/str.h"
#include "svc/router.h"

const char *route_path(const struct route *route, struct arena *arena)
{
	return arena_printf(arena, "%s%s", (route->flags & ROUTE_BARE) != 0 || route_is_internal(route) ? "" : ROUTE_PREFIX,
			    route->path);
}

bool route_param(struct str segment, struct str *ret_name)
{
	if (segment.n < 3 || segment.p[0] != '{' || segment.p[segment.n - 1] != '}')
		return false;
	*ret_name = (struct str){segment.p + 1, segment.n - 2};
	return true;
}
