/* SPDX-License-Identifier: Apache-2.0 */
/* What an aggregate says of its age: the real script on a real Redis, with records in each of a buffer's places. */
#include "unit/unit.h"

#include "base/str.h"
#include "base/timefmt.h"
#include "base/uuid.h"
#include "io/redis_sync.h"
#include "svc/as_of.h"
#include "unit/real_redis.h"

#define NOTE_FIELDS(F, T) F(T, TEXT, text)
ROW_STRUCT(note, NOTE_FIELDS);
ROW_TABLE(note, NOTE_FIELDS, 1);
#define REPORT_FIELDS(F, T) F(T, INT, total) AS_OF_FIELDS(F, T)
SCHEMA_STRUCT(report_out, REPORT_FIELDS);
SCHEMA_TABLE(report_out, REPORT_FIELDS);

static const struct entity notes = {.name = "note", .table = "s.notes", .schema = &note_schema, .write = BUFFERED};
static const struct entity others = {.name = "other", .table = "s.others", .schema = &note_schema, .write = BUFFERED};
static const struct entity *const both[] = {&notes, &others};

static struct real_redis server;
static struct redis_sync *redis;
static struct arena *arena;
static uint64_t tags;

static enum err eval(void *ctx, const struct redis_script *script, struct redis_args args, struct arena *to,
		     struct redis_reply *ret)
{
	(void)ctx;
	return redis_sync_script(redis, script, args, to, ret);
}

static int64_t now(void *ctx)
{
	(void)ctx;
	return 0;
}

static const struct buffer_io io = {.eval = eval, .now_us = now};

static int fresh(void **state)
{
	(void)state;
	arena = arena_new();
	real_redis_start(&server, NULL);
	return redis_sync_open(server.url, 2000, &redis) == OK ? 0 : -1;
}

static int stale(void **state)
{
	(void)state;
	redis = redis_sync_close(redis);
	real_redis_stop(&server);
	arena = arena_free(arena);
	return 0;
}

static struct acked put(const struct entity *e, uint16_t n)
{
	struct note row = {
		.row = {.id = {{1, (uint8_t)(n >> 8), (uint8_t)n}}, .school_id = {{2}}, .created_at = 1, .updated_at = 1}};
	uint64_t tag = ++tags;
	struct buffer_put *p = buffer_put_new(arena, row.row.school_id, (const uint8_t *)&tag);
	struct put_result result;

	buffer_put_row(p, e, &row, (struct put_options){0});
	assert_int_equal(buffer_put_send(&io, p, arena, 0, &result), OK);
	assert_int_equal(result.outcome, PUT_OK);
	return (struct acked){row.row.id, result.version};
}

static void nack(const struct entity *e, struct acked one, int64_t backoff_ms, bool permanent)
{
	int64_t retried, dead;

	assert_int_equal(buffer_nack(&io, e, STR("w"), backoff_ms, false, STR("x"), permanent, &one, 1, arena, &retried, &dead),
			 OK);
	assert_int_equal(retried + dead, 1);
}

static struct claim_result claim(const struct entity *e, size_t most)
{
	struct claim_result r;

	assert_int_equal(buffer_claim(&io, e, STR("w"), most, 1 << 20, 60000, 0, arena, &r), OK);
	return r;
}

static struct as_of ask(void)
{
	struct as_of a = {0};

	assert_int_equal(as_of_ask(&io, both, 2, arena, &a), OK);
	return a;
}

/* The next call's record is unsynced at a later millisecond: the clock of Redis is the only one here. */
static void a_millisecond(void)
{
	struct redis_reply r;
	int64_t from = 0, at = 0;

	while (at <= from + 1000) {
		assert_int_equal(redis_sync_call(redis, arena, REDIS_ARGS(STR("TIME")), &r), OK);
		assert_true(str_to_i64(r.v[1].s, &at));
		from = from == 0 || at < from ? at : from;
	}
}

static void an_empty_buffer_says_now_and_none(void **state)
{
	struct as_of a = ask();
	int64_t real = clock_real_us();

	(void)state;
	assert_true(a.known && a.counted);
	assert_int_equal(a.pending, 0);
	assert_in_range(a.at_us, (uintmax_t)(real - 5 * US_PER_S), (uintmax_t)(real + 5 * US_PER_S));
}

/* Wherever it is by now, the oldest record bounds what the table has. */
static void the_oldest_record_counts_in_every_place(void **state)
{
	struct acked first;
	int64_t bound;

	(void)state;
	first = put(&notes, 1);
	bound = first.version / 1000 * 1000;
	a_millisecond();
	put(&others, 2);
	assert_int_equal(ask().pending, 2);
	assert_in_range(ask().at_us, (uintmax_t)(bound - 1000), (uintmax_t)bound);
	assert_int_equal(claim(&notes, 1).n, 1); /* in flight */
	assert_int_equal(ask().pending, 2);
	assert_in_range(ask().at_us, (uintmax_t)(bound - 1000), (uintmax_t)bound);
	nack(&notes, first, 0, false); /* waits to be tried again */
	assert_in_range(ask().at_us, (uintmax_t)(bound - 1000), (uintmax_t)bound);
	assert_int_equal(claim(&notes, 1).n, 1);
	nack(&notes, first, 0, true); /* parked */
	assert_in_range(ask().at_us, (uintmax_t)(bound - 1000), (uintmax_t)bound);
	assert_int_equal(ask().pending, 2);
}

/* Retries stand in the order in which they are due: an old record with a long backoff is behind a young one. */
static void an_old_retry_behind_a_young_one_counts(void **state)
{
	struct acked old, young;
	int64_t bound;

	(void)state;
	old = put(&notes, 1);
	bound = old.version / 1000 * 1000;
	a_millisecond();
	a_millisecond();
	young = put(&notes, 2);
	assert_int_equal(claim(&notes, 2).n, 2);
	nack(&notes, old, 50000, false);
	nack(&notes, young, 1000, false);
	assert_in_range(ask().at_us, (uintmax_t)(bound - 1000), (uintmax_t)bound);
}

static void too_many_to_look_at_are_counted_and_no_time_is_claimed(void **state)
{
	struct as_of a;

	(void)state;
	for (uint16_t i = 1; i <= 1001; i++)
		put(&notes, i);
	a = ask();
	assert_true(a.known); /* pending is in the order of age */
	assert_int_equal(claim(&notes, 600).n + claim(&notes, 600).n, 1001);
	a = ask();
	assert_false(a.known);
	assert_int_equal(a.pending, 1001);
}

static void an_answer_has_both_members_or_null(void **state)
{
	struct report_out out = {0}, unknown = {0};
	const struct as_of a = {.known = true, .counted = true, .at_us = 1700000000000000, .pending = 3}, none = {0};
	struct buf json = buf_in(arena);

	(void)state;
	FIELD_PUT(&out, report_out, total, 7);
	AS_OF_PUT(&out, report_out, a);
	AS_OF_PUT(&unknown, report_out, none);
	json_encode(&report_out_schema, &out, 0, &json);
	assert_str(buf_str(&json), STR("{\"total\":7,\"as_of\":\"2023-11-14T22:13:20Z\",\"pending\":3}"));
	json = buf_in(arena);
	json_encode(&report_out_schema, &unknown, 0, &json);
	assert_str(buf_str(&json), STR("{\"total\":null,\"as_of\":null,\"pending\":null}"));
}

#define T(name) cmocka_unit_test_setup_teardown(name, fresh, stale)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(an_empty_buffer_says_now_and_none),      T(the_oldest_record_counts_in_every_place),
		T(an_old_retry_behind_a_young_one_counts), T(too_many_to_look_at_are_counted_and_no_time_is_claimed),
		T(an_answer_has_both_members_or_null),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
