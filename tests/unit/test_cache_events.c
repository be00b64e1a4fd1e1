/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events and the cache over a real buffer, cache and PostgreSQL: what a change has touched stands in its event, is raised once, and again when whoever
 * made it has died; what was certainly not made raises nothing.
 */
#include "unit/kept_world.h"

#include "svc/buffers.h"
#include "svc/cache_events.h"
#include "svc/cache_internal.h"
#include "svc/cache_query.h"

static struct entity note; /* note_entity, with a tag */
static const struct entity *entities[] = {&seat_entity, &badge_entity, &note, &fee_audit_entity, NULL};
static const struct uuid student = {{9}};

/* ---- handlers ---- */

static enum err fail_behind_a_change(struct req *req)
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

static enum err put(struct call *call)
{
	struct note *row = entity_edit(call->req, &note, NULL);
	enum err e;

	FIELD_PUT(row, note, student_id, student);
	FIELD_PUT(row, note, name, str_of(call->name));
	e = entity_put(call->req, &note, row);
	call->id = row->row.id;
	return e;
}

static enum err put_seat(struct call *call)
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
static enum err put_three(struct call *call)
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
static enum err change_too_late(struct call *call)
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

static enum err look(struct call *call)
{
	struct note *row;
	enum err e = entity_look(call->req, &note, call->id, &row);

	return e == OK && !str_is(row->name, call->name) ? ERR_CORRUPT : e;
}

/* ---- a transaction ---- */

static const char *const written_tables[] = {"fee.notes", NULL};
static const struct pg_stmt declared = {.name = "declared", .sql = "SELECT 1", .writes = written_tables};
static const struct pg_stmt wrong = {.name = "wrong", .sql = "SELECT 1 / 0"};

static enum err in_transaction(struct call *call, const struct pg_stmt *last, bool event)
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

static enum err commit_with_event(struct call *call)
{
	return in_transaction(call, NULL, true);
}

static enum err commit_without_event(struct call *call)
{
	return in_transaction(call, NULL, false);
}

static enum err roll_back(struct call *call)
{
	return in_transaction(call, &wrong, true);
}

/* What was done beside the transaction stays done. */
static enum err roll_back_beside(struct call *call)
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

static void raise_fiber(void *arg)
{
	touch_raise(((struct call *)arg)->req);
	running--;
}

static enum err one(enum err (*fn)(struct call *call), const char *name, struct uuid *id)
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

static void command_fiber(void *arg)
{
	struct command *c = arg;

	c->e = redis_call(c->redis, c->arena, deadline_in(kit->daemon.loop, 5000), c->args, &c->reply);
	running--;
}

static struct redis_reply ask(struct redis *redis, struct redis_args args)
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
static long said(void)
{
	struct str info = in_cache(STR("INFO"), STR("commandstats")).s;
	const char *at = memmem(info.p, info.n, "cmdstat_publish:calls=", 22);

	return at ? strtol(at + 22, NULL, 10) : 0;
}

static void pass_ms(int64_t ms)
{
	int64_t end_us = clock_real_us() + ms * 1000;

	while (clock_real_us() < end_us)
		turn_both();
}

static uint64_t repeated(void)
{
	return cache_stats(daemons[0]->daemon.caches).repeated + cache_stats(daemons[1]->daemon.caches).repeated;
}

static bool wait_for_repeating(void)
{
	for (int64_t end_us = clock_real_us() + 3 * US_PER_S; clock_real_us() < end_us && repeated() == 0;)
		turn_both();
	return repeated() != 0;
}

/* The newest event's text; the stream's, not that of a channel. */
static struct str newest_event(void)
{
	struct redis_reply r = in_buffer(STR("XREVRANGE"), STR("events:fee"), STR("+"), STR("-"), STR("COUNT"), STR("1"));

	assert_int_equal(r.n, 1);
	return r.v[0].v[1].v[1].s;
}

static const char *text_of(struct uuid id)
{
	char *text = arena_alloc(kit->arena, UUID_TEXT + 1);

	uuid_text(id, text);
	return text;
}

/* As a daemon leaves it that died behind its writing. `id` of the stream: "*" or an old one. */
static void leave_event(const char *stream_id, const char *domain, const char *name, const char *member)
{
	const char *stream = arena_printf(kit->arena, "events:%s", domain);
	const char *envelope = arena_printf(
		kit->arena, "{%s,\"id\":\"%s\",\"type\":\"org.schools24.%s.v1\",\"schoolid\":\"%s\",\"subject\":\"%s\"}", member,
		text_of(uuid_v7(clock_real_us())), name, text_of(school_number(1)), text_of(school_number(77)));

	in_buffer(STR("XADD"), str_of(stream), str_of(stream_id), STR("e"), str_of(envelope), STR("v"), STR("1"));
}

static void in_table(const char *name)
{
	real_pg_sql(server, arena_printf(kit->arena,
					 "INSERT INTO fee.notes (id, school_id, student_id, name, version, created_at, "
					 "updated_at) VALUES ('%s', '%s', '%s', "
					 "'%s', 1000, now(), now()) ON CONFLICT (id) DO UPDATE SET name = EXCLUDED.name, version "
					 "= notes.version + 1",
					 text_of(school_number(50)), text_of(school_number(1)), text_of(student), name));
}

static const char *ago(int64_t s)
{
	return arena_printf(kit->arena, "%lld-0", (long long)(clock_real_us() / 1000 - s * 1000));
}

static void open_again(const struct service *what)
{
	for (int i = 0; i < 2; i++)
		kit_close(daemons[i]);
	for (int i = 0; i < 2; i++)
		daemons[i] = kit_open(what);
	wait_until_all_up();
	use(0);
}

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
	assert_true(clock_real_us() - before_us < 1300 * 1000); /* 1 s, and what the sanitizers take */
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

static int64_t generation(void)
{
	return daemons[0]->daemon.caches->generation;
}

static bool wait_for_generation_above(int64_t old)
{
	for (int64_t end_us = clock_real_us() + 3 * US_PER_S; clock_real_us() < end_us && generation() <= old;)
		turn_both();
	return generation() > old && daemons[1]->daemon.caches->generation > old;
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

static bool is_raised(const char *tag)
{
	struct str key = link_epoch_key(kit->daemon.caches, kit->arena, school_number(1), str_of(tag));

	return in_cache(STR("GET"), key).type == REDIS_STRING;
}

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

/* ---- once, and only what is made (D4, D5, F7) ---- */

static void a_change_of_many_rows_is_raised_once(void **state)
{
	long before;

	(void)state;
	pass_ms(600);
	before = said();
	assert_int_equal(one(put_three, "", NULL), OK);
	assert_int_equal(said(), before + 1);
	assert_true(is_raised("class:09000000-0000-0000-0000-000000000000"));
	assert_true(is_raised("student:28000000-0000-0000-0000-000000000000"));
	assert_true(is_raised("student:29000000-0000-0000-0000-000000000000"));
}

static void a_transaction_is_raised_once(void **state)
{
	long before;

	(void)state;
	pass_ms(600);
	before = said();
	assert_int_equal(one(commit_with_event, "", NULL), OK);
	assert_int_equal(said(), before + 1);
	assert_true(is_raised("user:09000000-0000-0000-0000-000000000000") && is_raised("table:fee.notes"));
}

/* Through the kit: the change's own tags with the change, the rest before the answer, although it is a failure. */
static void what_was_committed_is_raised_though_the_body_fails(void **state)
{
	struct kit_answer a;
	long before;

	(void)state;
	pass_ms(600);
	before = said();
	a = kit_json(kit, "POST", "/api/v1/notes", "Authorization: Bearer admin\r\n", "");
	assert_int_equal(a.status, 409);
	assert_int_equal(said(), before + 2); /* the change, and what came behind it, each once */
}

static void what_is_rolled_back_raises_nothing(void **state)
{
	struct uuid id = {{0}};
	long before;

	(void)state;
	assert_int_equal(one(put_seat, "first", &id), OK);
	assert_int_equal(one(put, "noted", &id), OK);
	pass_ms(600);
	before = said();
	assert_int_not_equal(one(roll_back, "", NULL), OK);
	assert_int_equal(said(), before);
	assert_int_equal(one(put_seat, "second on its place", &(struct uuid){{0}}), ERR_CONFLICT);
	assert_int_equal(said(), before);
	assert_false(is_raised("user:09000000-0000-0000-0000-000000000000"));
	assert_int_equal(one(change_too_late, "", &id), ERR_CONFLICT);
	assert_int_equal(said(), before + 1); /* of the faster one */
}

static void what_was_done_beside_a_transaction_that_fails_is_raised(void **state)
{
	(void)state;
	assert_int_equal(one(roll_back_beside, "", NULL), OK);
	assert_true(is_raised("table:fee.notes"));
	assert_false(is_raised("user:09000000-0000-0000-0000-000000000000"));
}

/* ---- the matrix "events to tags" (D2) ---- */

enum { OWN = 1, LISTS = 2, MOVED = 4, ANALYTICS = 8 };
static const struct matrix {
	const char *event;
	const char *was_name, *was_student, *name, *student; /* NULL: no row; name "" of a row: deleted */
	unsigned wanted;
} matrix[] = {
	{"created", NULL, NULL, "a", "s1", OWN | LISTS | ANALYTICS},
	{"nothing that lists show is updated", "a", "s1", "a", "s1", OWN},
	{"what lists show is updated", "a", "s1", "b", "s1", OWN | LISTS},
	{"its owner changes", "a", "s1", "a", "s2", OWN | LISTS | MOVED},
	{"status changes, not to its end", "a", "s1", "active", "s1", OWN | LISTS},
	{"it ends", "active", "s1", "ended", "s1", OWN | LISTS | ANALYTICS},
	{"it had ended, and still has", "ended", "s1", "ended", "s1", OWN},
	{"deleted", "a", "s1", "", "s1", OWN | LISTS | ANALYTICS},
};

static const struct note *note_of(struct req *req, const char *name, const char *student_name)
{
	struct note *row = arena_zalloc(req->arena, sizeof(*row));
	struct uuid pupil = {{(uint8_t)student_name[1]}};

	row->row.id = school_number(50);
	row->row.school_id = school_number(1);
	row->row.deleted_at = name[0] == '\0';
	FIELD_PUT(row, note, student_id, pupil);
	FIELD_PUT(row, note, name, str_of(name[0] == '\0' ? "a" : name));
	return row;
}

static bool touches(const struct req *req, const char *prefix, struct uuid id)
{
	const char *wanted = arena_printf(req->arena, "%s%s", prefix, text_of(id));

	for (size_t i = 0; req->touched && i < req->touched->n; i++)
		if (str_is(req->touched->v[i], wanted))
			return true;
	return false;
}

static void each_line_of_the_matrix_touches_what_it_says(void **state)
{
	struct entity e = note_entity;

	(void)state;
	e.tags[0] = "note:{id}";
	e.tags[1] = "student:{student_id}";
	e.list_fields[0] = "name";
	e.when[0] = (struct tag_when){"name", "ended", "analytics:{id}"};
	for (size_t i = 0; i < ARRAY_LEN(matrix); i++) {
		const struct matrix *m = &matrix[i];
		struct call call = {.req = a_request(&own_routes[1], NULL)};
		struct req *req = call.req;
		unsigned got = 0;

		if (m->wanted & ANALYTICS && strcmp(m->event, "it ends") != 0) /* made or gone: whatever it counts */
			e.when[0].becomes = NULL;
		else
			e.when[0].becomes = "ended";
		touch_change(req, &e, m->was_name ? note_of(req, m->was_name, m->was_student) : NULL,
			     note_of(req, m->name, m->student));
		got |= touches(req, "note:", school_number(50)) ? OWN : 0;
		got |= touches(req, "student:", (struct uuid){{'1'}}) ? LISTS : 0;
		got |= touches(req, "student:", (struct uuid){{'2'}}) ? MOVED : 0;
		got |= touches(req, "analytics:", school_number(50)) ? ANALYTICS : 0;
		if (got != m->wanted)
			fail_msg("%s: touches %u, not %u", m->event, got, m->wanted);
		free_calls(&call, 1);
	}
}

#define T(name) cmocka_unit_test_setup_teardown(name, open_daemons, close_daemons)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(an_event_says_what_its_change_has_touched),
		T(what_a_transaction_touches_stands_in_its_event_or_in_one_of_its_own),
		T(what_fits_no_event_is_said_of_its_tables),
		T(what_a_dead_daemon_did_not_raise_is_raised_within_a_second),
		T(what_was_raised_is_not_raised_again),
		T(tags_in_events_of_others_are_theirs),
		T(what_died_with_the_last_daemon_is_raised_by_the_next),
		T(a_trimmed_stretch_makes_everything_unreachable),
		T(a_whole_stream_that_is_lost_makes_everything_unreachable),
		T(what_was_trimmed_while_no_daemon_was_there_is_noticed),
		T(rows_say_what_others_events_make_untrue),
		T(what_others_said_while_no_daemon_was_there_is_made_untrue),
		T(a_change_of_many_rows_is_raised_once),
		T(a_transaction_is_raised_once),
		T(what_was_committed_is_raised_though_the_body_fails),
		T(what_is_rolled_back_raises_nothing),
		T(what_was_done_beside_a_transaction_that_fails_is_raised),
		T(each_line_of_the_matrix_touches_what_it_says),
	};

	note = note_entity;
	note.tags[0] = "student:{student_id}";
	note.ttl_s = 60;
	return run_world(tests, ARRAY_LEN(tests), &service);
}
