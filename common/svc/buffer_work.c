/* SPDX-License-Identifier: Apache-2.0 */
/* The write buffer's other scripts: claim, ack, nack, urge, status, replay, discard. */
#include "base/buf.h"
#include "svc/buffer.h"
#include "svc_lua.h"

static struct str number_text(struct arena *arena, int64_t v)
{
	struct buf b = buf_in(arena);

	buf_put_i64(&b, v);
	return buf_str(&b);
}

static struct str id_text(struct arena *arena, struct uuid id)
{
	char *text = arena_alloc(arena, UUID_TEXT + 1);

	uuid_text(id, text);
	return (struct str){text, UUID_TEXT};
}

/* Calls a script whose reply is an array of integers, or one integer. */
static enum err call_for_numbers(const struct buffer_io *io, const struct redis_script *script, struct redis_args args,
				 struct arena *arena, int64_t *to, size_t n)
{
	struct redis_reply reply;
	enum err e = io->eval(io->ctx, script, args, arena, &reply);

	if (e != OK)
		return e;
	if (reply.type == REDIS_INTEGER && n == 1) {
		to[0] = reply.i;
		return OK;
	}
	if (reply.type != REDIS_ARRAY || reply.n != n)
		return ERR_BUG;
	for (size_t i = 0; i < n; i++) {
		if (reply.v[i].type != REDIS_INTEGER)
			return ERR_BUG;
		to[i] = reply.v[i].i;
	}
	return OK;
}

enum err buffer_claim(const struct buffer_io *io, const struct entity *e, struct str token, size_t max_records, size_t max_bytes,
		      int64_t lease_ms, int64_t delay_ms, struct arena *arena, struct claim_result *ret)
{
	struct redis_args args = REDIS_ARGS(str_of(e->name), token, number_text(arena, (int64_t)max_records),
					    number_text(arena, (int64_t)max_bytes), number_text(arena, lease_ms),
					    number_text(arena, delay_ms));
	struct redis_reply reply;
	enum err err = io->eval(io->ctx, &LUA_CLAIM, args, arena, &reply);

	if (err != OK)
		return err;
	if (reply.type != REDIS_ARRAY || reply.n < 2 || (reply.n - 2) % 3 != 0)
		return ERR_BUG;
	ret->reaped = reply.v[0].i;
	ret->dropped = reply.v[1].i;
	ret->n = (reply.n - 2) / 3;
	ret->v = arena_array(arena, ret->n, sizeof(*ret->v));
	for (size_t i = 0; i < ret->n; i++) {
		const struct redis_reply *r = &reply.v[2 + 3 * i];

		if (!uuid_parse(r[0].s, &ret->v[i].id))
			return ERR_BUG;
		ret->v[i].attempts = r[1].i;
		ret->v[i].value = r[2].s;
	}
	return OK;
}

/* head, then id and version of each. */
static struct redis_args versioned(struct arena *arena, const struct str *head, size_t n_head, const struct acked *v, size_t n)
{
	struct str *args = arena_array(arena, n_head + 2 * n, sizeof(*args));

	memcpy(args, head, n_head * sizeof(*args));
	for (size_t i = 0; i < n; i++) {
		args[n_head + 2 * i] = id_text(arena, v[i].id);
		args[n_head + 2 * i + 1] = number_text(arena, v[i].version);
	}
	return (struct redis_args){args, n_head + 2 * n};
}

enum err buffer_ack(const struct buffer_io *io, const struct entity *e, struct str token, const struct acked *v, size_t n,
		    struct arena *arena, int64_t *ret_removed, int64_t *ret_newer)
{
	struct str head[] = {str_of(e->name), token};
	int64_t reply[2];
	enum err err = call_for_numbers(io, &LUA_ACK, versioned(arena, head, ARRAY_LEN(head), v, n), arena, reply, 2);

	if (err != OK)
		return err;
	*ret_removed = reply[0];
	*ret_newer = reply[1];
	return OK;
}

/* NOLINTNEXTLINE(readability-function-size): the script's arguments */
enum err buffer_nack(const struct buffer_io *io, const struct entity *e, struct str token, int64_t backoff_ms, bool count,
		     struct str error, bool permanent, const struct acked *v, size_t n, struct arena *arena, int64_t *ret_retried,
		     int64_t *ret_dead)
{
	struct str head[] = {str_of(e->name),
			     token,
			     number_text(arena, backoff_ms),
			     count ? STR("1") : STR("0"),
			     error,
			     permanent ? STR("1") : STR("0")};
	int64_t reply[2];
	enum err err = call_for_numbers(io, &LUA_NACK, versioned(arena, head, ARRAY_LEN(head), v, n), arena, reply, 2);

	if (err != OK)
		return err;
	*ret_retried = reply[0];
	*ret_dead = reply[1];
	return OK;
}

static enum err call_with_ids(const struct buffer_io *io, const struct redis_script *script, const struct entity *e,
			      const struct uuid *ids, size_t n, struct arena *arena, int64_t *ret)
{
	struct str *args = arena_array(arena, n + 1, sizeof(*args));

	args[0] = str_of(e->name);
	for (size_t i = 0; i < n; i++)
		args[i + 1] = id_text(arena, ids[i]);
	return call_for_numbers(io, script, (struct redis_args){args, n + 1}, arena, ret, 1);
}

enum err buffer_urge(const struct buffer_io *io, const struct entity *e, const struct uuid *ids, size_t n, struct arena *arena)
{
	int64_t moved;

	return call_with_ids(io, &LUA_URGE, e, ids, n, arena, &moved);
}

enum err buffer_replay(const struct buffer_io *io, const struct entity *e, const struct uuid *ids, size_t n, struct arena *arena,
		       int64_t *ret_moved)
{
	return call_with_ids(io, &LUA_REPLAY, e, ids, n, arena, ret_moved);
}

enum err buffer_discard(const struct buffer_io *io, const struct entity *e, const struct acked *v, size_t n, struct arena *arena,
			int64_t *ret_removed)
{
	struct str head[] = {str_of(e->name)};

	return call_for_numbers(io, &LUA_DISCARD, versioned(arena, head, ARRAY_LEN(head), v, n), arena, ret_removed, 1);
}

enum err buffer_status(const struct buffer_io *io, const struct entity *e, struct arena *arena, struct buffer_status *ret)
{
	int64_t v[9];
	enum err err = call_for_numbers(io, &LUA_STATUS, REDIS_ARGS(str_of(e->name)), arena, v, 9);

	if (err != OK)
		return err;
	*ret = (struct buffer_status){.pending = v[0], .retry = v[1], .leased = v[2], .dead = v[3], .last_version = v[8]};
	memcpy(ret->first_ms, v + 4, sizeof(ret->first_ms));
	return OK;
}
