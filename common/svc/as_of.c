/* SPDX-License-Identifier: Apache-2.0 */
/* Up to when the tables are complete: the oldest record that they do not have yet. */
#include "svc/as_of.h"

#include "base/buf.h"
#include "base/timefmt.h"
#include "svc/bases.h"
#include "svc/req.h"
#include "svc_lua.h"

#define ENTITIES_MOST 16
#define LOOK_AT_MOST 1000 /* of retries, leases and dead letters of an entity; beyond that the answer says null */

enum err as_of_ask(const struct buffer_io *io, const struct entity *const *entities, size_t n, struct arena *arena,
		   struct as_of *ret)
{
	struct str *args = arena_array(arena, n + 1, sizeof(*args));
	struct buf most = buf_in(arena);
	struct redis_reply r;
	enum err e;

	if (n == 0 || n > ENTITIES_MOST)
		return ERR_BUG;
	buf_put_i64(&most, LOOK_AT_MOST);
	args[0] = buf_str(&most);
	for (size_t i = 0; i < n; i++)
		args[i + 1] = str_of(entities[i]->name);
	e = io->eval(io->ctx, &LUA_AS_OF, (struct redis_args){args, n + 1}, arena, &r);
	if (e != OK)
		return e;
	if (r.type != REDIS_ARRAY || r.n != 3 || r.v[0].type != REDIS_INTEGER || r.v[1].type != REDIS_INTEGER ||
	    r.v[2].type != REDIS_INTEGER)
		return ERR_BUG;
	*ret = (struct as_of){.known = r.v[1].i >= 0,
			      .counted = true,
			      .at_us = r.v[1].i > 0 ? r.v[1].i * US_PER_MS : r.v[2].i,
			      .pending = r.v[0].i};
	return OK;
}

enum err entity_as_of(struct req *req, const struct entity *const *entities, size_t n, struct as_of *ret)
{
	struct buffer_io io = request_buffer_io(req);
	enum err e = as_of_ask(&io, entities, n, req->arena, ret);

	if (!buffer_is_away(e))
		return e;
	req->database_only = true;
	*ret = (struct as_of){0};
	return OK;
}
