/* SPDX-License-Identifier: Apache-2.0 */
/* Two daemons whose notes have tags, over a real buffer, cache and PostgreSQL: what the tests of raising share. */
#ifndef S24_UNIT_EVENTS_WORLD_H
#define S24_UNIT_EVENTS_WORLD_H

#include "unit/kept_world.h"

#include "cache/cache_internal.h"
#include "svc/buffers.h"
#include "svc/cache_events.h"
#include "svc/cache_query.h"

static struct entity note; /* note_entity, with a tag */
static const struct entity *entities[] = {&seat_entity, &badge_entity, &note, &fee_audit_entity, NULL};
static const struct uuid student = {{9}};

/* ---- handlers ---- */

static inline enum err fail_behind_a_change(struct req *req)
{
	struct note *row = entity_edit(req, &note, NULL);
	enum err e;

	FIELD_PUT(row, note, student_id, student);
	FIELD_PUT(row, note, name, str_of("written"));
	e = entity_put(req, &note, row);
	req_touch(req, "class:", student); /* of what it has done besides */
	req_touch(req, "class:", student);
	return e == OK ? req_fail(req, ERR_CONFLICT, "and then something else fails") : e;
}

/* clang-format off */
static const struct route own_routes[] = {
	{HTTP_POST, "/seats", ROLE_ADMIN, MAY_SELF, .out = &seat_schema, .flags = ROUTE_THROUGH, .handler = no_handler},
	{HTTP_POST, "/notes", ROLE_ADMIN, MAY_SELF, .out = &note_schema, .flags = ROUTE_FULL_STATE, .creates = &note_entity, .handler = fail_behind_a_change},
	ROUTE_END,
};
static const struct listen_row listens[] = {
	{"homework:assigned", NULL, {"class:{class_id}", "student:{student_ids}", "homework:{subject}", "bulk:fee.notes"}},
	{.channel = NULL},
};
/* clang-format on */
static const struct service service = {.name = "fee",
				       .routes = own_routes,
				       .entities = entities,
				       .entity_sql = fee_entity_sql,
				       .events = events,
				       .listens = listens};

static inline enum err put(struct call *call)
{
	struct note *row = entity_edit(call->req, &note, NULL);
	enum err e;

	FIELD_PUT(row, note, student_id, student);
	FIELD_PUT(row, note, name, str_of(call->name));
	e = entity_put(call->req, &note, row);
	call->id = row->row.id;
	return e;
}

static inline enum err put_seat(struct call *call)
{
	struct seat *row = entity_edit(call->req, &seat_entity, NULL);
	enum err e;

	FIELD_PUT(row, seat, name, str_of(call->name));
	FIELD_PUT(row, seat, place, call->place);
	e = entity_put(call->req, &seat_entity, row);
	call->id = row->row.id;
	return e;
}

/* Three rows, and a tag that two of them have. */
static inline enum err put_three(struct call *call)
{
	struct change *c = change_new(call->req);

	for (uint8_t i = 0; i < 3; i++) {
		struct note *row = entity_edit(call->req, &note, NULL);
		struct uuid pupil = {{(uint8_t)(40 + i / 2)}};

		FIELD_PUT(row, note, student_id, pupil);
		FIELD_PUT(row, note, name, str_of("one of three"));
		row->row.id = school_number(60u + i);
		change_put(c, &note, row);
	}
	req_touch(call->req, "class:", student);
	return change_commit(c);
}

/* An edit on a base that another one has changed meanwhile. */
static inline enum err change_too_late(struct call *call)
{
	struct note *old, *row;
	struct call other = {.req = a_request(&own_routes[1], NULL), .fn = put, .name = "faster"};
	enum err e = entity_get(call->req, &note, call->id, &old);

	if (e == OK)
		e = put(&other);
	arena_free(other.req->arena);
	if (e != OK)
		return e;
	row = entity_edit(call->req, &note, old);
	FIELD_PUT(row, note, name, str_of("too late"));
	return entity_put(call->req, &note, row);
}

static inline enum err look(struct call *call)
{
	struct note *row;
	enum err e = entity_look(call->req, &note, call->id, &row);

	return e == OK && !str_is(row->name, call->name) ? ERR_CORRUPT : e;
}

/* ---- a transaction ---- */

static const char *const written_tables[] = {"fee.notes", NULL};
static const struct pg_stmt declared = {.name = "declared", .sql = "SELECT 1", .writes = written_tables};
static const struct pg_stmt wrong = {.name = "wrong", .sql = "SELECT 1 / 0"};

static inline enum err in_transaction(struct call *call, const struct pg_stmt *last, bool event)
{
	struct tx *tx;
	struct list none;
	enum err e = tx_begin(call->req, &tx);

	if (e != OK)
		return e;
	e = tx_query(tx, &declared, (struct pg_params){NULL, 0}, NULL, &none);
	req_touch(call->req, "user:", student);
	if (e == OK && event)
		e = tx_event(tx, "fee.paid", student, STR("{}"));
	if (e == OK && last)
		e = tx_query(tx, last, (struct pg_params){NULL, 0}, NULL, &none);
	return tx_end(tx, e);
}

static inline enum err commit_with_event(struct call *call)
{
	return in_transaction(call, NULL, true);
}

static inline enum err commit_without_event(struct call *call)
{
	return in_transaction(call, NULL, false);
}

static inline enum err roll_back(struct call *call)
{
	return in_transaction(call, &wrong, true);
}

/* What was done beside the transaction stays done. */
static inline enum err roll_back_beside(struct call *call)
{
	struct tx *tx;
	struct list none;
	enum err e = tx_begin(call->req, &tx);

	if (e == OK)
		e = db_query(call->req, &declared, (struct pg_params){NULL, 0}, NULL, &none);
	req_touch(call->req, "user:", student);
	tx_rollback(tx);
	return e;
}

/* ---- the steps of tests ---- */

static inline void raise_fiber(void *arg)
{
	touch_raise(((struct call *)arg)->req);
	running--;
}

static inline enum err one(enum err (*fn)(struct call *call), const char *name, struct uuid *id)
{
	struct call call = {.req = fn == look ? a_read(&own_routes[1]) : a_request(&own_routes[fn != put_seat], NULL),
			    .fn = fn,
			    .name = name};

	if (id)
		call.id = *id;
	run_calls(&call, 1);
	if (call.req->touched) { /* what the kit does before the answer */
		running++;
		assert_int_equal(fiber_spawn(kit->daemon.loop, "raise", raise_fiber, &call), OK);
		wait_for_calls();
	}
	if (id)
		*id = call.id;
	free_calls(&call, 1);
	return call.e;
}

/* Any command, of the buffer's Redis or the cache's. */
struct command {
	struct redis *redis;
	struct arena *arena;
	struct redis_args args;
	struct redis_reply reply;
	enum err e;
};

static inline void command_fiber(void *arg)
{
	struct command *c = arg;

	c->e = redis_call(c->redis, c->arena, deadline_in(kit->daemon.loop, 5000), c->args, &c->reply);
	running--;
}

static inline struct redis_reply ask(struct redis *redis, struct redis_args args)
{
	struct command c = {.redis = redis, .arena = kit->arena, .args = args};

	running++;
	assert_int_equal(fiber_spawn(kit->daemon.loop, "command", command_fiber, &c), OK);
	wait_for_calls();
	assert_int_equal(c.e, OK);
	assert_int_not_equal(c.reply.type, REDIS_ERROR);
	return c.reply;
}
#define in_buffer(...) ask(daemon_buffer(&kit->daemon), REDIS_ARGS(__VA_ARGS__))
#define in_cache(...) ask(kit->daemon.caches->conf.redis, REDIS_ARGS(__VA_ARGS__))

/* How often something was said in the news. */
static inline long said(void)
{
	struct str info = in_cache(STR("INFO"), STR("commandstats")).s;
	const char *at = memmem(info.p, info.n, "cmdstat_publish:calls=", 22);

	return at ? strtol(at + 22, NULL, 10) : 0;
}

static inline void pass_ms(int64_t ms)
{
	int64_t end_us = clock_real_us() + ms * 1000;

	while (clock_real_us() < end_us)
		turn_both();
}

static inline uint64_t repeated(void)
{
	return cache_stats(daemons[0]->daemon.caches).repeated + cache_stats(daemons[1]->daemon.caches).repeated;
}

static inline bool wait_for_repeating(void)
{
	for (int64_t end_us = clock_real_us() + 3 * US_PER_S; clock_real_us() < end_us && repeated() == 0;)
		turn_both();
	return repeated() != 0;
}

/* The newest event's text; the stream's, not that of a channel. */
static inline struct str newest_event(void)
{
	struct redis_reply r = in_buffer(STR("XREVRANGE"), STR("events:fee"), STR("+"), STR("-"), STR("COUNT"), STR("1"));

	assert_int_equal(r.n, 1);
	return r.v[0].v[1].v[1].s;
}

static inline const char *text_of(struct uuid id)
{
	char *text = arena_alloc(kit->arena, UUID_TEXT + 1);

	uuid_text(id, text);
	return text;
}

/* As a daemon leaves it that died behind its writing. `id` of the stream: "*" or an old one. */
/* Of the service that the name begins with, unless the member says its source itself. */
static inline void leave_event(const char *stream_id, const char *domain, const char *name, const char *member)
{
	const char *stream = arena_printf(kit->arena, "events:%s", domain);
	const char *source = strstr(member, "\"source\"") != NULL
				     ? ""
				     : arena_printf(kit->arena, ",\"source\":\"/services/%.*s\"", (int)strcspn(name, "."), name);
	const char *envelope = arena_printf(
		kit->arena, "{%s%s,\"id\":\"%s\",\"type\":\"org.schools24.%s.v1\",\"schoolid\":\"%s\",\"subject\":\"%s\"}",
		member, source, text_of(uuid_v7(clock_real_us())), name, text_of(school_number(1)), text_of(school_number(77)));

	in_buffer(STR("XADD"), str_of(stream), str_of(stream_id), STR("e"), str_of(envelope), STR("v"), STR("1"));
}

static inline void in_table(const char *name)
{
	real_pg_sql(server, arena_printf(kit->arena,
					 "INSERT INTO fee.notes (id, school_id, student_id, name, version, created_at, "
					 "updated_at) VALUES ('%s', '%s', '%s', "
					 "'%s', 1000, now(), now()) ON CONFLICT (id) DO UPDATE SET name = EXCLUDED.name, version "
					 "= notes.version + 1",
					 text_of(school_number(50)), text_of(school_number(1)), text_of(student), name));
}

static inline const char *ago(int64_t s)
{
	return arena_printf(kit->arena, "%lld-0", (long long)(clock_real_us() / 1000 - s * 1000));
}

static inline void open_again(const struct service *what)
{
	for (int i = 0; i < 2; i++)
		kit_close(daemons[i]);
	for (int i = 0; i < 2; i++)
		daemons[i] = kit_open(what);
	wait_until_all_up();
	use(0);
}

static inline bool is_raised(const char *tag)
{
	struct str key = link_epoch_key(kit->daemon.caches, kit->arena, school_number(1), str_of(tag));

	return in_cache(STR("GET"), key).type == REDIS_STRING;
}

static inline int run_events_world(const struct CMUnitTest *tests, size_t n)
{
	note = note_entity;
	note.tags[0] = "student:{student_id}";
	note.ttl_s = 60;
	return run_world(tests, n, &service);
}

#define T(name) cmocka_unit_test_setup_teardown(name, open_daemons, close_daemons)

#endif
