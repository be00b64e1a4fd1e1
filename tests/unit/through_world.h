/* SPDX-License-Identifier: Apache-2.0 */
/* Requests of a daemon with the tables of through/seats.h over a real PostgreSQL, without HTTP: each on a fiber of its own. */
#ifndef S24_UNIT_THROUGH_WORLD_H
#define S24_UNIT_THROUGH_WORLD_H

#include "unit/kit_fixture.h"

#include "base/timefmt.h"
#include "base/uuid.h"
#include "fee_entity_sql.h"
#include "io/fiber.h"
#include "seats.h"
#include "svc/bases.h"
#include "svc/idem.h"
#include "svc/through.h"
#include "unit/real_pg.h"
#include "unit/real_redis.h"

static struct real_pg *server;
static struct kit *kit;
static struct real_redis buffer;
static size_t n_requests;

static enum err no_handler(struct req *req)
{
	(void)req;
	return OK;
}

/* clang-format off */
static const struct route routes[] = {
	{HTTP_POST, "/seats", ROLE_ADMIN, MAY_SELF, .out = &seat_schema, .flags = ROUTE_THROUGH, .handler = no_handler},
	{HTTP_POST, "/notes", ROLE_ADMIN, MAY_SELF, .out = &note_schema, .flags = ROUTE_FULL_STATE, .creates = &note_entity, .handler = no_handler},
	ROUTE_END,
};
static const struct event_row events[] = {
	{"fee.seated", &seat_entity, ON_CREATE | ON_UPDATE, {NULL}, {"name"}},
	{NULL},
};
/* clang-format on */

static inline struct uuid school_number(unsigned n)
{
	struct uuid id = {{0x01, 0x90, 0, 0, 0, 0, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, (uint8_t)n}};

	return id;
}

static inline void start_database(void)
{
	server = real_pg_start();
	real_pg_migrate(server, "0001_roles.sql");
	real_pg_migrate(server, "0002_common.sql");
	real_pg_migrate(server, "0009_outbox_buffer.sql");
	real_pg_sql(server, SEATS_SQL);
	setenv("DATABASE_URL", real_pg_url(server, "schools24_fee"), 1);
	real_redis_start(&buffer, "maxmemory-policy noeviction\nappendonly yes\nappendfsync always");
	setenv("REDIS_BUFFER_URLS", buffer.url, 1);
	setenv("REDIS_CACHE_URL", buffer.url, 1);
}

/* It keeps what it has acknowledged, until this. */
static inline void empty_buffer(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s/appendonlydir", buffer.dir);
	assert_int_equal(system(command), 0);
}

static inline void stop_database(void)
{
	real_redis_kill(&buffer);
	empty_buffer();
	real_redis_stop(&buffer);
	server = real_pg_free(server);
}

/* A request as the filters would have left it to its handler. */
static inline struct req *a_request(const struct route *route, const char *key)
{
	struct arena *arena = arena_new();
	struct req *req = arena_zalloc(arena, sizeof(*req));
	struct http_header *headers = arena_zalloc(arena, sizeof(*headers));

	req->arena = arena;
	req->daemon = &kit->daemon;
	req->route = route;
	req->x = arena_zalloc(arena, sizeof(*req->x));
	req->x->arena = arena;
	req->x->method = HTTP_POST;
	req->x->target = req->x->path = STR("/api/v1/seats");
	req->body = buf_in(arena);
	req->headers = buf_in(arena);
	req->problems.arena = arena;
	req->now_us = clock_real_us();
	req->deadline = deadline_in(kit->daemon.loop, 15000);
	req->who.role = ROLE_ADMIN;
	req->who.school_id = school_number(1);
	req->who.user_id = school_number(200);
	snprintf(req->id, sizeof(req->id), "%zu", ++n_requests);
	if (key) {
		*headers = (struct http_header){STR("Idempotency-Key"), str_of(arena_strdup(arena, key))};
		req->x->headers = headers;
		req->x->n_headers = 1;
	}
	return req;
}

/* ---- several requests at once ---- */

struct call {
	struct req *req;
	enum err (*fn)(struct call *call);
	struct uuid id; /* of the row, when it is known before */
	const char *name;
	int64_t place;
	struct uuid beside;
	enum err e;
	int64_t version;
};
static size_t running;

static inline void call_fiber(void *arg)
{
	struct call *call = arg;

	call->e = call->fn(call);
	call->version = call->req->version;
	running--;
}

static inline void start_call(struct call *call)
{
	running++;
	assert_int_equal(fiber_spawn(kit->daemon.loop, "call", call_fiber, call), OK);
}

static inline void wait_for_calls(void)
{
	for (int i = 0; running > 0 && i < 60000; i++)
		loop_turn(kit->daemon.loop, 1000);
	assert_int_equal(running, 0);
}

static inline void run_calls(struct call *calls, size_t n)
{
	for (size_t i = 0; i < n; i++)
		start_call(&calls[i]);
	wait_for_calls();
}

static inline void free_calls(struct call *calls, size_t n)
{
	for (size_t i = 0; i < n; i++)
		arena_free(calls[i].req->arena);
}

/* A new seat. */
static inline enum err make_seat(struct call *call)
{
	struct req *req = call->req;
	struct seat *seat = entity_edit(req, &seat_entity, NULL);

	if (!uuid_is_nil(call->id))
		seat->row.id = call->id;
	call->id = seat->row.id;
	FIELD_PUT(seat, seat, name, str_of(call->name));
	FIELD_PUT(seat, seat, place, call->place);
	if (!uuid_is_nil(call->beside))
		FIELD_PUT(seat, seat, beside, call->beside);
	return entity_put(req, &seat_entity, seat);
}

/* Another name for a seat that is there. */
static inline enum err rename_seat(struct call *call)
{
	struct seat *old, *seat;
	enum err e = entity_get(call->req, &seat_entity, call->id, &old);

	if (e != OK)
		return e;
	seat = entity_edit(call->req, &seat_entity, old);
	FIELD_PUT(seat, seat, name, str_of(call->name));
	return entity_put(call->req, &seat_entity, seat);
}

static inline struct call a_call(enum err (*fn)(struct call *call), int64_t place, const char *name)
{
	return (struct call){.req = a_request(&routes[0], NULL), .fn = fn, .place = place, .name = name};
}

static inline long count(const char *sql)
{
	return real_pg_number(server, sql);
}

#endif
