/* SPDX-License-Identifier: Apache-2.0 */
/* The verifier on a real Redis: each kind of fault, made on purpose, is found and mended; writers and workers at the same time are no fault. */
#include "unit/unit.h"

#include "base/str.h"
#include "base/uuid.h"
#include "homework.h"
#include "io/redis_sync.h"
#include "unit/real_redis.h"
#include "verify.h"

static const struct uuid SCHOOL = {{0x51}}, CLASSES[] = {{{0xa}}, {{0xb}}, {{0xc}}}, TEACHER = {{0x7}};
static const char ID[] = "01000000-0000-7000-8000-000000000000";
static const char KEY[] = "write_buffer:homework:01000000-0000-7000-8000-000000000000";
static const char LIST[] = "wb:scope:homework:class_id:0a000000-0000-0000-0000-000000000000";

static struct real_redis server;
static struct redis_sync *redis;
static struct arena *arena;
static struct verify verify;
static uint64_t chance, tags;
static bool storming; /* the buffer is used between any two calls of the verifier */
static int64_t puts_done, claims_done, acks_done;
static char last_found[256];

static void storm(void);

static enum err eval(void *ctx, const struct redis_script *script, struct redis_args args, struct arena *to,
		     struct redis_reply *ret)
{
	if (ctx != NULL && storming)
		storm();
	return redis_sync_script(redis, script, args, to, ret);
}

static enum err call(void *ctx, struct redis_args args, struct arena *to, struct redis_reply *ret)
{
	if (ctx != NULL && storming)
		storm();
	return redis_sync_call(redis, to, args, ret);
}

static int64_t now(void *ctx)
{
	(void)ctx;
	return 0;
}

static void no_pause(void *ctx, int64_t ms)
{
	(void)ctx;
	(void)ms;
}

static uint64_t no_chance(void *ctx)
{
	(void)ctx;
	return 7;
}

static const struct buffer_io io = {NULL, eval, call, now, no_pause, no_chance};
static const struct buffer_io verifiers_io = {&verify, eval, call, now, no_pause, no_chance};

static bool knows(void *ctx, struct str entity)
{
	(void)ctx;
	return str_is(entity, homework_entity.name);
}

static void found(void *ctx, enum violation what, const struct verify_item *item)
{
	(void)ctx;
	snprintf(last_found, sizeof(last_found), "%s %.*s %.*s %.*s", violation_name(what), STR_FMT(item->entity),
		 STR_FMT(item->id), STR_FMT(item->scope));
}

static int fresh(void **state)
{
	(void)state;
	chance = 1;
	tags = 0;
	storming = false;
	puts_done = claims_done = acks_done = 0;
	last_found[0] = '\0';
	arena = arena_new();
	verify_init(&verify, 10, (struct verify_hooks){NULL, knows, found});
	real_redis_start(&server, NULL);
	return redis_sync_open(server.url, 2000, &redis) == OK ? 0 : -1;
}

static int stale(void **state)
{
	(void)state;
	redis = redis_sync_close(redis);
	real_redis_stop(&server);
	verify_done(&verify);
	arena_free(arena);
	return 0;
}

/* ---- using the buffer ---- */

static struct redis_reply ask(struct redis_args args)
{
	struct redis_reply r;

	assert_int_equal(redis_sync_call(redis, arena, args, &r), OK);
	assert_int_not_equal(r.type, REDIS_ERROR);
	return r;
}
#define ASK(...) ask(REDIS_ARGS(__VA_ARGS__))

static void put_in(struct arena *in, uint8_t id, struct uuid class_id, bool urgent)
{
	struct homework *hw = arena_zalloc(in, sizeof(*hw));
	uint64_t tag = ++tags;
	struct buffer_put *p;
	struct put_result r;
	uint8_t bytes[8];

	memcpy(bytes, &tag, sizeof(bytes));
	hw->row.id = (struct uuid){{id, 0, 0, 0, 0, 0, 0x70, 0, 0x80}};
	hw->row.school_id = SCHOOL;
	hw->row.created_at = hw->row.updated_at = 1700000000000000;
	FIELD_PUT(hw, homework, title, STR("title"));
	FIELD_PUT(hw, homework, class_id, class_id);
	FIELD_PUT(hw, homework, subject_id, TEACHER);
	FIELD_PUT(hw, homework, teacher_id, TEACHER);
	FIELD_PUT(hw, homework, due_date, 20000);
	FIELD_PUT(hw, homework, status, HOMEWORK_ACTIVE);
	p = buffer_put_new(in, SCHOOL, bytes);
	buffer_put_row(p, &homework_entity, hw, (struct put_options){.expect = BUFFER_ANY, .urgent = urgent});
	assert_int_equal(buffer_put_send(&io, p, in, 1000000, &r), OK);
	assert_int_equal(r.outcome, PUT_OK);
	puts_done++;
}

static void put(uint8_t id)
{
	put_in(arena, id, CLASSES[0], false);
}

static struct claim_result claim_in(struct arena *in, size_t most)
{
	struct claim_result r;

	assert_int_equal(buffer_claim(&io, &homework_entity, STR("w1"), most, 1 << 20, 60000, 0, in, &r), OK);
	claims_done += (int64_t)r.n;
	return r;
}

static void give_back(struct arena *in, const struct claim_result *c)
{
	struct acked *v = arena_array(in, c->n + 1, sizeof(*v));
	int64_t one, two;

	for (size_t i = 0; i < c->n; i++) {
		struct buffer_record r;

		assert_int_equal(buffer_record_parse(c->v[i].value, &r), OK);
		v[i] = (struct acked){c->v[i].id, r.version};
	}
	if (c->n == 0)
		return;
	switch (unit_random(&chance) % 4) {
	case 0:
		assert_int_equal(buffer_nack(&io, &homework_entity, STR("w1"), 0, true, STR("e"), false, v, c->n, in, &one, &two),
				 OK);
		break;
	case 1:
		assert_int_equal(buffer_nack(&io, &homework_entity, STR("w1"), 0, true, STR("e"), true, v, c->n, in, &one, &two),
				 OK);
		break;
	default:
		assert_int_equal(buffer_ack(&io, &homework_entity, STR("w1"), v, c->n, in, &one, &two), OK);
		acks_done += one;
		break;
	}
}

/* A few random steps of writers and of a worker, whose claims stay out while the verifier goes on. */
static void storm(void)
{
	static struct claim_result out;
	static struct arena *outs;
	struct arena *mine = arena_new();

	for (size_t steps = unit_random(&chance) % 4; steps > 0; steps--) {
		uint8_t id = (uint8_t)(unit_random(&chance) % 60);

		switch (unit_random(&chance) % 4) {
		case 0:
			if (outs == NULL) {
				outs = arena_new();
				out = claim_in(outs, 1 + unit_random(&chance) % 10);
			}
			break;
		case 1:
			if (outs != NULL) {
				give_back(outs, &out);
				outs = arena_free(outs);
			}
			break;
		default:
			put_in(mine, id, CLASSES[unit_random(&chance) % 3], unit_random(&chance) % 8 == 0);
			break;
		}
	}
	arena_free(mine);
	if (!storming && outs != NULL)
		outs = arena_free(outs);
}

/* ---- the verifier ---- */

static void pass(void)
{
	int64_t before = verify.passes, cost;

	for (int steps = 0; verify.passes == before; steps++) {
		assert_true(steps < 100000);
		assert_int_equal(verify_step(&verify, &verifiers_io, &cost), OK);
		assert_true(cost > 0);
	}
}

static int64_t all_violations(void)
{
	int64_t n = 0;

	for (size_t i = 0; i < VIOLATION_N; i++)
		n += verify.violations[i];
	return n;
}

/* This many of one kind and no other; the next pass finds nothing. */
static void assert_found(enum violation what, int64_t n)
{
	verify.errors = 0;
	memset(verify.violations, 0, sizeof(verify.violations));
	pass();
	if (verify.violations[what] != n || all_violations() != n)
		fail_msg("%s: %lld of %lld, last: %s", violation_name(what), (long long)verify.violations[what],
			 (long long)all_violations(), last_found);
	memset(verify.violations, 0, sizeof(verify.violations));
	pass();
	assert_int_equal(all_violations(), 0);
	assert_int_equal(verify.errors, 0);
}

static void a_buffer_in_order_has_no_violation(void **state)
{
	(void)state;
	for (uint8_t i = 1; i <= 100; i++)
		put(i);
	claim_in(arena, 20);
	pass();
	assert_int_equal(all_violations(), 0);
	assert_int_equal(verify.errors, 0);
	/* Each record by itself, in its set and in its lists; the leased in own too. */
	assert_true(verify.verified >= 100 + 100 + 100 + 20);
}

static void an_orphan_is_pending_again_since_it_was_unsynced(void **state)
{
	struct redis_reply before;

	(void)state;
	put(1);
	before = ASK(STR("ZSCORE"), STR("wb:pending:homework"), str_of(ID));
	ASK(STR("DEL"), STR("wb:pending:homework"));
	assert_found(VIOLATION_ORPHAN, 1);
	assert_string_equal(last_found, "orphan homework 01000000-0000-7000-8000-000000000000 ");
	assert_str(ASK(STR("ZSCORE"), STR("wb:pending:homework"), str_of(ID)).s, before.s);
	assert_int_equal(claim_in(arena, 10).n, 1);
}

static void a_damaged_orphan_is_pending_now_and_its_lists_are_left(void **state)
{
	(void)state;
	put(1);
	ASK(STR("DEL"), STR("wb:pending:homework"));
	ASK(STR("SET"), str_of(KEY), STR("too short"));
	assert_found(VIOLATION_ORPHAN, 1);
	assert_int_equal(ASK(STR("ZCARD"), STR("wb:pending:homework")).i, 1);
	assert_int_equal(ASK(STR("HLEN"), str_of(LIST)).i, 1);
}

static void an_id_in_two_sets_stays_in_one(void **state)
{
	(void)state;
	put(1);
	ASK(STR("ZADD"), STR("wb:retry:homework"), STR("1"), str_of(ID));
	ASK(STR("ZADD"), STR("wb:dlq:homework"), STR("1"), str_of(ID));
	assert_found(VIOLATION_SEVERAL, 2);
	assert_int_equal(ASK(STR("ZCARD"), STR("wb:retry:homework")).i, 1);
	assert_int_equal(ASK(STR("ZCARD"), STR("wb:pending:homework")).i, 0);
	assert_int_equal(ASK(STR("ZCARD"), STR("wb:dlq:homework")).i, 0);
}

static void a_leased_id_stays_leased(void **state)
{
	(void)state;
	put(1);
	claim_in(arena, 10);
	ASK(STR("ZADD"), STR("wb:pending:homework"), STR("1"), str_of(ID));
	assert_found(VIOLATION_SEVERAL, 1);
	assert_int_equal(ASK(STR("ZCARD"), STR("wb:lease:homework")).i, 1);
	assert_str(ASK(STR("HGET"), STR("wb:own:homework"), str_of(ID)).s, STR("w1"));
}

static void ids_without_records_are_removed(void **state)
{
	static const char *const sets[] = {"wb:pending:homework", "wb:retry:homework", "wb:lease:homework", "wb:dlq:homework"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(sets); i++) {
		ASK(STR("ZADD"), str_of(sets[i]), STR("1"), str_of(ID));
		assert_found(VIOLATION_NO_RECORD, 1);
		assert_int_equal(ASK(STR("EXISTS"), str_of(sets[i])).i, 0);
	}
}

static void a_lease_without_an_owner_gets_one_and_ends(void **state)
{
	(void)state;
	put(1);
	claim_in(arena, 10);
	ASK(STR("DEL"), STR("wb:own:homework"));
	assert_found(VIOLATION_OWNER_MISSING, 1);
	ASK(STR("ZADD"), STR("wb:lease:homework"), STR("1"), str_of(ID));
	assert_int_equal(claim_in(arena, 10).n, 1);
}

static void an_owner_without_a_lease_is_forgotten(void **state)
{
	(void)state;
	put(1);
	ASK(STR("HSET"), STR("wb:own:homework"), str_of(ID), STR("w1"));
	assert_found(VIOLATION_OWNER_STALE, 1);
	assert_int_equal(ASK(STR("EXISTS"), STR("wb:own:homework")).i, 0);
}

static void a_list_gets_the_record_that_names_it(void **state)
{
	(void)state;
	put(1);
	assert_int_equal(ASK(STR("DEL"), str_of(LIST)).i, 1);
	assert_found(VIOLATION_SCOPE_MISSING, 1);
	assert_int_equal(ASK(STR("HEXISTS"), str_of(LIST), str_of(ID)).i, 1);
}

static void a_list_forgets_what_does_not_name_it(void **state)
{
	(void)state;
	put(1);
	ASK(STR("HSET"), str_of(LIST), STR("99000000-0000-7000-8000-000000000000"), STR(""));
	assert_found(VIOLATION_SCOPE_STALE, 1);
	ASK(STR("HSET"), STR("wb:scope:homework:class_id:elsewhere"), str_of(ID), STR(""));
	assert_found(VIOLATION_SCOPE_STALE, 1);
	assert_string_equal(last_found, "scope_stale homework 01000000-0000-7000-8000-000000000000 class_id:elsewhere");
	assert_int_equal(ASK(STR("HLEN"), str_of(LIST)).i, 1);
}

static void keys_of_others_are_left_alone(void **state)
{
	(void)state;
	ASK(STR("ZADD"), STR("wb:pending:payment"), STR("1"), str_of(ID));
	ASK(STR("SET"), STR("write_buffer:payment:x"), STR("x"));
	ASK(STR("SET"), STR("write_buffer:homework"), STR("x"));
	ASK(STR("SET"), STR("wb:hlc"), STR("1"));
	ASK(STR("SADD"), STR("wb:paused"), STR("homework"));
	assert_found(VIOLATION_ORPHAN, 0);
	assert_int_equal(verify.verified, 0);
	assert_int_equal(ASK(STR("ZCARD"), STR("wb:pending:payment")).i, 1);
}

static void a_key_of_a_foreign_type_stops_nothing(void **state)
{
	(void)state;
	put(2);
	ASK(STR("DEL"), STR("wb:pending:homework"));
	ASK(STR("SET"), STR("wb:scope:homework:class_id:odd"), STR("no hash"));
	pass();
	pass();
	assert_int_equal(verify.errors, 2);
	assert_int_equal(verify.violations[VIOLATION_ORPHAN], 1);
}

static void a_pass_reaches_large_sets_whole(void **state)
{
	char id[UUID_TEXT + 1];

	(void)state;
	for (int i = 0; i < 1000; i++) {
		snprintf(id, sizeof(id), "0f000000-0000-7000-8000-%012d", i);
		ASK(STR("ZADD"), STR("wb:dlq:homework"), STR("1"), str_of(id));
		ASK(STR("HSET"), str_of(LIST), str_of(id), STR(""));
	}
	pass();
	assert_int_equal(verify.violations[VIOLATION_NO_RECORD], 1000);
	assert_int_equal(verify.violations[VIOLATION_SCOPE_STALE], 1000);
}

static void writers_and_workers_at_the_same_time_are_no_violation(void **state)
{
	(void)state;
	for (uint8_t i = 0; i < 60; i++)
		put(i);
	storming = true;
	for (int i = 0; i < 30; i++)
		pass();
	storming = false;
	storm();
	if (all_violations() != 0)
		fail_msg("%lld false alarms, last: %s", (long long)all_violations(), last_found);
	assert_int_equal(verify.errors, 0);
	assert_true(puts_done > 500 && claims_done > 500 && acks_done > 100);
}

static void faults_are_found_in_the_middle_of_a_storm(void **state)
{
	(void)state;
	for (uint8_t i = 0; i < 60; i++)
		put(i);
	storming = true;
	for (int i = 0; i < 10; i++)
		ASK(STR("ZADD"), STR("wb:pending:homework"), STR("1"),
		    str_of(arena_printf(arena, "ff000000-0000-7000-8000-00000000000%d", i)));
	/* The worker drops those that it claims. */
	pass();
	storming = false;
	storm();
	assert_int_equal(verify.violations[VIOLATION_NO_RECORD], all_violations());
	assert_int_equal(ASK(STR("EXISTS"), STR("write_buffer:homework:ff000000-0000-7000-8000-000000000000")).i, 0);
	assert_int_equal(ASK(STR("ZCOUNT"), STR("wb:pending:homework"), STR("1"), STR("1")).i, 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, fresh, stale)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_buffer_in_order_has_no_violation),
		T(an_orphan_is_pending_again_since_it_was_unsynced),
		T(a_damaged_orphan_is_pending_now_and_its_lists_are_left),
		T(an_id_in_two_sets_stays_in_one),
		T(a_leased_id_stays_leased),
		T(ids_without_records_are_removed),
		T(a_lease_without_an_owner_gets_one_and_ends),
		T(an_owner_without_a_lease_is_forgotten),
		T(a_list_gets_the_record_that_names_it),
		T(a_list_forgets_what_does_not_name_it),
		T(keys_of_others_are_left_alone),
		T(a_key_of_a_foreign_type_stops_nothing),
		T(a_pass_reaches_large_sets_whole),
		T(writers_and_workers_at_the_same_time_are_no_violation),
		T(faults_are_found_in_the_middle_of_a_storm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
