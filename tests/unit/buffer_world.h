/* SPDX-License-Identifier: Apache-2.0 */
/* A Redis of its own and rows of homework, with calls that can be lost: for test_buffer.c and test_buffer_claims.c. */
#ifndef S24_UNIT_BUFFER_WORLD_H
#define S24_UNIT_BUFFER_WORLD_H

#include "unit/unit.h"

#include "base/str.h"
#include "base/timefmt.h"
#include "base/uuid.h"
#include "homework.h"
#include "io/redis_sync.h"
#include "svc/buffer.h"
#include "unit/real_redis.h"

static const struct uuid SCHOOL = {{0x51}}, OTHER_SCHOOL = {{0x52}}, CLASS_A = {{0xa}}, CLASS_B = {{0xb}}, TEACHER = {{0x7}};

static struct real_redis server;
static struct redis_sync *redis;
static struct arena *arena;
static uint64_t tags;

/* ---- calls, and what can happen to them ---- */

static struct {
	int evals, lost_answers, lost_calls;
	enum err fails; /* the next call's, instead of being made */
} net;

static inline enum err eval(void *ctx, const struct redis_script *script, struct redis_args args, struct arena *to,
		     struct redis_reply *ret)
{
	enum err e;

	(void)ctx;
	net.evals++;
	if (net.fails != OK) {
		e = net.fails;
		net.fails = OK;
		return e;
	}
	if (net.lost_calls > 0) {
		net.lost_calls--;
		return ERR_TIMEOUT;
	}
	e = redis_sync_script(redis, script, args, to, ret);
	if (net.lost_answers > 0) {
		net.lost_answers--;
		return ERR_UNCERTAIN;
	}
	return e;
}

static inline enum err call(void *ctx, struct redis_args args, struct arena *to, struct redis_reply *ret)
{
	(void)ctx;
	return redis_sync_call(redis, to, args, ret);
}

static inline int64_t now(void *ctx)
{
	(void)ctx;
	return 0;
}

static inline void no_pause(void *ctx, int64_t ms)
{
	(void)ctx;
	assert_in_range(ms, 1, 1000);
}

static inline uint64_t no_chance(void *ctx)
{
	(void)ctx;
	return 7;
}

static const struct buffer_io io = {NULL, eval, call, now, no_pause, no_chance};

static inline int fresh(void **state)
{
	(void)state;
	memset(&net, 0, sizeof(net));
	arena = arena_new();
	real_redis_start(&server, NULL);
	return redis_sync_open(server.url, 2000, &redis) == OK ? 0 : -1;
}

static inline int stale(void **state)
{
	(void)state;
	redis = redis_sync_close(redis);
	real_redis_stop(&server);
	arena_free(arena);
	return 0;
}

/* ---- rows ---- */

static inline struct homework *row_of(uint8_t id, struct uuid class_id, const char *title)
{
	struct homework *hw = arena_zalloc(arena, sizeof(*hw));

	hw->row.id = (struct uuid){{id, 0, 0, 0, 0, 0, 0x70, 0, 0x80}};
	hw->row.school_id = SCHOOL;
	hw->row.created_at = hw->row.updated_at = 1700000000000000;
	FIELD_PUT(hw, homework, title, str_of(title));
	FIELD_PUT(hw, homework, class_id, class_id);
	FIELD_PUT(hw, homework, subject_id, CLASS_B);
	FIELD_PUT(hw, homework, teacher_id, TEACHER);
	FIELD_PUT(hw, homework, due_date, 20000);
	FIELD_PUT(hw, homework, status, HOMEWORK_ACTIVE);
	return hw;
}

static inline struct buffer_put *new_put(struct uuid school)
{
	uint64_t tag = ++tags;
	uint8_t bytes[8];

	memcpy(bytes, &tag, sizeof(bytes));
	return buffer_put_new(arena, school, bytes);
}

static inline struct put_result sent(struct buffer_put *p)
{
	struct put_result r;

	assert_int_equal(buffer_put_send(&io, p, arena, 1000000, &r), OK);
	return r;
}

static inline struct put_result put(const struct homework *hw, struct put_options o)
{
	struct buffer_put *p = new_put(hw->row.school_id);

	buffer_put_row(p, &homework_entity, hw, o);
	return sent(p);
}

static inline int64_t put_new(const struct homework *hw)
{
	struct put_result r = put(hw, (struct put_options){.creation = true});

	assert_int_equal(r.outcome, PUT_OK);
	return r.version;
}

static inline struct redis_reply ask(struct redis_args args)
{
	struct redis_reply r;

	assert_int_equal(redis_sync_call(redis, arena, args, &r), OK);
	return r;
}

static inline struct str stored(const struct homework *hw)
{
	struct redis_reply r = ask(REDIS_ARGS(STR("GET"), buffer_key(arena, &homework_entity, hw->row.id)));

	return r.type == REDIS_STRING ? r.s : (struct str){NULL, 0};
}

static inline struct buffer_record record_of(const struct homework *hw)
{
	struct buffer_record r;

	assert_int_equal(buffer_record_parse(stored(hw), &r), OK);
	return r;
}

static inline bool in_scope(const struct homework *hw, const char *kind, struct uuid value)
{
	char text[UUID_TEXT + 1], id[UUID_TEXT + 1];

	uuid_text(value, text);
	uuid_text(hw->row.id, id);
	return ask(REDIS_ARGS(STR("HEXISTS"), buffer_scope_key(arena, &homework_entity, kind, (struct str){text, UUID_TEXT}),
			      (struct str){id, UUID_TEXT}))
		       .i == 1;
}

static inline struct buffer_status status(void)
{
	struct buffer_status s;

	assert_int_equal(buffer_status(&io, &homework_entity, arena, &s), OK);
	return s;
}

static inline struct claim_result claim(int64_t delay_ms)
{
	struct claim_result r;

	assert_int_equal(buffer_claim(&io, &homework_entity, STR("w1"), 100, 1 << 20, 60000, delay_ms, arena, &r), OK);
	return r;
}

static inline void assert_ack(struct uuid id, int64_t version, int64_t removed, int64_t newer)
{
	int64_t got_removed, got_newer;

	assert_int_equal(
		buffer_ack(&io, &homework_entity, STR("w1"), &(struct acked){id, version}, 1, arena, &got_removed, &got_newer),
		OK);
	assert_int_equal(got_removed, removed);
	assert_int_equal(got_newer, newer);
}

#define T(name) cmocka_unit_test_setup_teardown(name, fresh, stale)

#endif
