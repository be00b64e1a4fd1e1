/* SPDX-License-Identifier: Apache-2.0 */
/* The write buffer's protocol: our arguments and the real scripts on a real Redis. */
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

static enum err eval(void *ctx, const struct redis_script *script, struct redis_args args, struct arena *to,
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

static enum err call(void *ctx, struct redis_args args, struct arena *to, struct redis_reply *ret)
{
	(void)ctx;
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
	assert_in_range(ms, 1, 1000);
}

static uint64_t no_chance(void *ctx)
{
	(void)ctx;
	return 7;
}

static const struct buffer_io io = {NULL, eval, call, now, no_pause, no_chance};

static int fresh(void **state)
{
	(void)state;
	memset(&net, 0, sizeof(net));
	arena = arena_new();
	real_redis_start(&server, NULL);
	return redis_sync_open(server.url, 2000, &redis) == OK ? 0 : -1;
}

static int stale(void **state)
{
	(void)state;
	redis = redis_sync_close(redis);
	real_redis_stop(&server);
	arena_free(arena);
	return 0;
}

/* ---- rows ---- */

static struct homework *row_of(uint8_t id, struct uuid class_id, const char *title)
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

static struct buffer_put *new_put(struct uuid school)
{
	uint64_t tag = ++tags;
	uint8_t bytes[8];

	memcpy(bytes, &tag, sizeof(bytes));
	return buffer_put_new(arena, school, bytes);
}

static struct put_result sent(struct buffer_put *p)
{
	struct put_result r;

	assert_int_equal(buffer_put_send(&io, p, arena, 1000000, &r), OK);
	return r;
}

static struct put_result put(const struct homework *hw, struct put_options o)
{
	struct buffer_put *p = new_put(hw->row.school_id);

	buffer_put_row(p, &homework_entity, hw, o);
	return sent(p);
}

static int64_t put_new(const struct homework *hw)
{
	struct put_result r = put(hw, (struct put_options){.creation = true});

	assert_int_equal(r.outcome, PUT_OK);
	return r.version;
}

static struct redis_reply ask(struct redis_args args)
{
	struct redis_reply r;

	assert_int_equal(redis_sync_call(redis, arena, args, &r), OK);
	return r;
}

static struct str stored(const struct homework *hw)
{
	struct redis_reply r = ask(REDIS_ARGS(STR("GET"), buffer_key(arena, &homework_entity, hw->row.id)));

	return r.type == REDIS_STRING ? r.s : (struct str){NULL, 0};
}

static struct buffer_record record_of(const struct homework *hw)
{
	struct buffer_record r;

	assert_int_equal(buffer_record_parse(stored(hw), &r), OK);
	return r;
}

static bool in_scope(const struct homework *hw, const char *kind, struct uuid value)
{
	char text[UUID_TEXT + 1], id[UUID_TEXT + 1];

	uuid_text(value, text);
	uuid_text(hw->row.id, id);
	return ask(REDIS_ARGS(STR("HEXISTS"), buffer_scope_key(arena, &homework_entity, kind, (struct str){text, UUID_TEXT}),
			      (struct str){id, UUID_TEXT}))
		       .i == 1;
}

static struct buffer_status status(void)
{
	struct buffer_status s;

	assert_int_equal(buffer_status(&io, &homework_entity, arena, &s), OK);
	return s;
}

static struct claim_result claim(int64_t delay_ms)
{
	struct claim_result r;

	assert_int_equal(buffer_claim(&io, &homework_entity, STR("w1"), 100, 1 << 20, 60000, delay_ms, arena, &r), OK);
	return r;
}

static void assert_ack(struct uuid id, int64_t version, int64_t removed, int64_t newer)
{
	int64_t got_removed, got_newer;

	assert_int_equal(
		buffer_ack(&io, &homework_entity, STR("w1"), &(struct acked){id, version}, 1, arena, &got_removed, &got_newer),
		OK);
	assert_int_equal(got_removed, removed);
	assert_int_equal(got_newer, newer);
}

/* ---- PUT ---- */

static void a_row_comes_back_as_it_was(void **state)
{
	static const enum codec codecs[] = {CODEC_RAW, CODEC_SNAPPY, CODEC_LZ4, CODEC_ZSTD};
	char *text = arena_alloc(arena, 5001);

	(void)state;
	memset(text, 'x', 5000);
	text[5000] = '\0';
	for (size_t i = 0; i < ARRAY_LEN(codecs); i++) {
		struct homework *hw = row_of((uint8_t)(i + 1), CLASS_A, "Photosynthesis"), *back;
		struct put_result r;
		struct buffer_record rec;

		FIELD_PUT(hw, homework, description, str_of(text));
		r = put(hw, (struct put_options){.creation = true, .codec = codecs[i]});
		assert_int_equal(r.outcome, PUT_OK);
		rec = record_of(hw);
		assert_true(rec.creation && !rec.deleted && !rec.urgent && !rec.blind);
		assert_int_equal(rec.codec, codecs[i]);
		assert_int_equal(rec.version, r.version);
		assert_true(rec.size > 5000);
		assert_true(codecs[i] == CODEC_RAW ? rec.sealed.n > 5000 : rec.sealed.n < 1000);
		assert_true(uuid_eq(rec.school, SCHOOL));
		assert_int_equal(buffer_record_row(&homework_entity, hw->row.id, &rec, arena, (void **)&back), OK);
		assert_str(back->title, STR("Photosynthesis"));
		assert_str(back->description, str_of(text));
		assert_int_equal(back->due_date, 20000);
		assert_int_equal(back->row.created_at, hw->row.created_at);
		assert_int_equal(back->row.version, r.version);
		assert_true(uuid_eq(back->row.id, hw->row.id) && uuid_eq(back->class_id, CLASS_A));
		assert_false(FIELD_HAS(back, homework, close_date));
	}
}

static void a_call_that_is_made_again_is_the_same_call(void **state)
{
	struct homework *hw = row_of(1, CLASS_A, "x");
	struct buffer_put *p = new_put(SCHOOL);
	struct put_result first, again;

	(void)state;
	buffer_put_row(p, &homework_entity, hw, (struct put_options){.creation = true});
	first = sent(p);
	assert_int_equal(first.outcome, PUT_OK);
	put(hw, (struct put_options){.expect = first.version});
	again = sent(p);
	assert_int_equal(again.outcome, PUT_SAME);
	assert_int_equal(again.version, first.version);
}

static void an_old_base_is_a_conflict_that_names_record_and_version(void **state)
{
	struct homework *a = row_of(1, CLASS_A, "a"), *b = row_of(2, CLASS_A, "b");
	int64_t version = put_new(b), newer;
	struct buffer_put *p = new_put(SCHOOL);
	struct put_result r;

	(void)state;
	newer = put(b, (struct put_options){.expect = version}).version;
	assert_true(newer > version);
	buffer_put_row(p, &homework_entity, a, (struct put_options){.creation = true});
	buffer_put_row(p, &homework_entity, b, (struct put_options){.expect = version});
	r = sent(p);
	assert_int_equal(r.outcome, PUT_CONFLICT);
	assert_int_equal(r.record, 1);
	assert_int_equal(r.version, newer);
	assert_null(stored(a).p); /* all or nothing */
	assert_int_equal(put(b, (struct put_options){.creation = true}).outcome, PUT_CONFLICT);
	assert_int_equal(put(b, (struct put_options){.expect = BUFFER_ANY}).outcome, PUT_OK);
}

static void another_schools_id_is_refused(void **state)
{
	struct homework *mine = row_of(1, CLASS_A, "mine"), *theirs = row_of(1, CLASS_A, "theirs"),
			*new = row_of(2, CLASS_A, "new");
	struct buffer_put *p = new_put(OTHER_SCHOOL);
	struct put_result r;

	(void)state;
	put_new(mine);
	theirs->row.school_id = new->row.school_id = OTHER_SCHOOL;
	buffer_put_row(p, &homework_entity, new, (struct put_options){.creation = true});
	buffer_put_row(p, &homework_entity, theirs, (struct put_options){.expect = BUFFER_ANY});
	r = sent(p);
	assert_int_equal(r.outcome, PUT_REFUSED);
	assert_int_equal(r.record, 1);
	assert_null(stored(new).p);
	assert_true(uuid_eq(record_of(mine).school, SCHOOL));
}

static void a_key_replays_its_result_behind_the_version(void **state)
{
	struct homework *hw = row_of(1, CLASS_A, "x"), *other = row_of(2, CLASS_A, "y");
	struct buffer_put *p = new_put(SCHOOL), *again = new_put(SCHOOL);
	struct put_result first, replay;
	struct str rest, version;
	int64_t v;

	(void)state;
	buffer_put_idem(p, STR("homework:k"), 100, STR("f00d 201 {\"a\":1}"));
	buffer_put_row(p, &homework_entity, hw, (struct put_options){.creation = true});
	first = sent(p);
	buffer_put_idem(again, STR("homework:k"), 100, STR("other"));
	buffer_put_row(again, &homework_entity, other, (struct put_options){.creation = true});
	replay = sent(again);
	assert_int_equal(replay.outcome, PUT_REPLAY);
	rest = replay.replay;
	version = str_split(&rest, ' ');
	assert_true(str_to_i64(version, &v));
	assert_int_equal(v, first.version);
	assert_str(rest, STR("f00d 201 {\"a\":1}"));
	assert_null(stored(other).p);
}

static void a_tombstone_is_the_whole_last_row(void **state)
{
	struct homework *hw = row_of(1, CLASS_A, "gone"), *back;
	int64_t version = put_new(hw);
	struct buffer_record rec;

	(void)state;
	hw->row.deleted_at = 1700000000000001;
	assert_int_equal(put(hw, (struct put_options){.expect = version}).outcome, PUT_OK);
	rec = record_of(hw);
	assert_true(rec.deleted);
	assert_int_equal(buffer_record_row(&homework_entity, hw->row.id, &rec, arena, (void **)&back), OK);
	assert_int_equal(back->row.deleted_at, hw->row.deleted_at);
	assert_str(back->title, STR("gone"));
	assert_true(in_scope(hw, "class_id", CLASS_A));
	hw->row.deleted_at = 0;
	assert_int_equal(put(hw, (struct put_options){.expect = 0, .floor = rec.version}).outcome, PUT_OK);
}

static void a_creation_that_arrives_behind_the_deletion_revives_nothing(void **state)
{
	struct homework *hw = row_of(1, CLASS_A, "late");
	struct put_options creation = {.creation = true};
	int64_t version = put_new(hw);

	(void)state;
	hw->row.deleted_at = 1700000000000001;
	version = put(hw, (struct put_options){.expect = version}).version;
	hw->row.deleted_at = 0;
	assert_int_equal(put(hw, creation).outcome, PUT_CONFLICT);
	assert_int_equal(claim(0).n, 1);
	assert_ack(hw->row.id, version, 1, 0);
	assert_int_equal(put(hw, creation).outcome, PUT_CONFLICT); /* the marker knows it as well */
	creation.floor = version - 1;
	assert_int_equal(put(hw, creation).outcome, PUT_CONFLICT);
	creation.floor = version;
	assert_int_equal(put(hw, creation).outcome, PUT_OK); /* who has seen that it is deleted may create it again */
}

static void a_row_that_moves_stands_in_both_lists_until_it_is_synced(void **state)
{
	struct homework *hw = row_of(1, CLASS_A, "moves");
	int64_t version = put_new(hw);

	(void)state;
	assert_true(in_scope(hw, "class_id", CLASS_A) && in_scope(hw, "teacher_id", TEACHER));
	FIELD_PUT(hw, homework, class_id, CLASS_B);
	version = put(hw, (struct put_options){.expect = version}).version;
	assert_true(in_scope(hw, "class_id", CLASS_A) && in_scope(hw, "class_id", CLASS_B));
	assert_int_equal(claim(0).n, 1);
	assert_ack(hw->row.id, version, 1, 0);
	assert_false(in_scope(hw, "class_id", CLASS_A) || in_scope(hw, "class_id", CLASS_B) ||
		     in_scope(hw, "teacher_id", TEACHER));
}

static void the_floor_keeps_versions_above_the_table(void **state)
{
	struct homework *hw = row_of(1, CLASS_A, "x");
	int64_t ahead = clock_real_us() + 3600 * US_PER_S;
	struct put_result r = put(hw, (struct put_options){.expect = ahead, .floor = ahead});

	(void)state;
	assert_int_equal(r.outcome, PUT_OK);
	assert_int_equal(r.version, ahead + 1);
	assert_true(put_new(row_of(2, CLASS_A, "y")) > r.version);
}

static void events_stand_in_the_stream_with_the_version(void **state)
{
	struct homework *hw = row_of(1, CLASS_A, "x");
	struct buffer_put *p = new_put(SCHOOL);
	struct put_result r;
	struct redis_reply entries;
	int64_t v;

	(void)state;
	buffer_put_row(p, &homework_entity, hw, (struct put_options){.creation = true});
	buffer_put_event(p, "homework", STR("{\"type\":\"one\"}"));
	buffer_put_event(p, "homework", STR("{\"type\":\"two\"}"));
	r = sent(p);
	assert_int_equal(r.outcome, PUT_OK);
	entries = ask(REDIS_ARGS(STR("XRANGE"), STR("events:homework"), STR("-"), STR("+")));
	assert_int_equal(entries.n, 2);
	assert_str(entries.v[1].v[1].v[0].s, STR("e"));
	assert_str(entries.v[1].v[1].v[1].s, STR("{\"type\":\"two\"}"));
	assert_str(entries.v[1].v[1].v[2].s, STR("v"));
	assert_true(str_to_i64(entries.v[1].v[1].v[3].s, &v));
	assert_int_equal(v, r.version);
}

/* ---- lost answers ---- */

static void a_lost_answer_is_asked_for_again(void **state)
{
	struct homework *hw = row_of(1, CLASS_A, "x");
	struct put_result r;

	(void)state;
	net.lost_answers = 2;
	r = put(hw, (struct put_options){.creation = true});
	assert_int_equal(r.outcome, PUT_SAME);
	assert_int_equal(r.version, record_of(hw).version);
	assert_int_equal(net.evals, 3);
}

static void a_conflict_behind_a_lost_answer_is_unknown(void **state)
{
	struct homework *hw = row_of(1, CLASS_A, "x");
	int64_t version = put_new(hw);
	struct put_result other, r;

	(void)state;
	other = put(hw, (struct put_options){.expect = version});
	net.lost_calls = 1;
	r = put(hw, (struct put_options){.expect = version});
	assert_int_equal(r.outcome, PUT_UNKNOWN);
	assert_int_equal(record_of(hw).version, other.version);
}

static void what_was_not_sent_is_not_sent_again(void **state)
{
	struct buffer_put *p = new_put(SCHOOL);
	struct put_result r;

	(void)state;
	buffer_put_row(p, &homework_entity, row_of(1, CLASS_A, "x"), (struct put_options){.creation = true});
	net.fails = ERR_BUFFER;
	assert_int_equal(buffer_put_send(&io, p, arena, 1000000, &r), ERR_BUFFER);
	assert_int_equal(net.evals, 1);
}

static void an_outcome_that_stays_unknown_is_said_to_be(void **state)
{
	struct buffer_put *p = new_put(SCHOOL);
	struct put_result r;

	(void)state;
	buffer_put_row(p, &homework_entity, row_of(1, CLASS_A, "x"), (struct put_options){.creation = true});
	net.lost_calls = 100;
	assert_int_equal(buffer_put_send(&io, p, arena, 1000000, &r), ERR_UNCERTAIN);
	assert_in_range(net.evals, 2, 6);
}

static void a_call_of_no_rows_or_too_many_is_refused_before_it_is_sent(void **state)
{
	struct buffer_put *p = new_put(SCHOOL);
	struct put_result r;

	(void)state;
	assert_int_equal(buffer_put_send(&io, p, arena, 1000000, &r), ERR_TOO_LARGE);
	for (int i = 0; i < 1001; i++)
		buffer_put_row(p, &homework_entity, row_of((uint8_t)i, CLASS_A, "x"), (struct put_options){.expect = BUFFER_ANY});
	assert_int_equal(buffer_put_send(&io, p, arena, 1000000, &r), ERR_TOO_LARGE);
	assert_int_equal(net.evals, 0);
}

/* ---- stored records ---- */

static void damaged_records_are_corrupt_and_never_rows(void **state)
{
	struct homework *hw = row_of(1, CLASS_A, "x");
	struct str whole;
	struct buffer_record rec;
	char *copy;
	void *row;

	(void)state;
	put_new(hw);
	whole = stored(hw);
	for (size_t n = 0; n < whole.n; n++) {
		char *part = mem_alloc(n + 1); /* exactly as long, for the sanitizer */

		memcpy(part, whole.p, n);
		if (buffer_record_parse((struct str){part, n}, &rec) == OK)
			assert_int_equal(buffer_record_row(&homework_entity, hw->row.id, &rec, arena, &row), ERR_CORRUPT);
		free(part);
	}
	copy = arena_dup(arena, whole.p, whole.n);
	for (size_t i = whole.n - 20; i < whole.n; i++) {
		copy[i] ^= 1;
		assert_int_equal(buffer_record_parse((struct str){copy, whole.n}, &rec), OK);
		assert_int_equal(buffer_record_row(&homework_entity, hw->row.id, &rec, arena, &row), ERR_CORRUPT);
		copy[i] ^= 1;
	}
	copy[0] = 1;
	assert_int_equal(buffer_record_parse((struct str){copy, whole.n}, &rec), ERR_CORRUPT);
}

static void a_layout_of_tomorrow_waits(void **state)
{
	struct homework *hw = row_of(1, CLASS_A, "x");
	struct buffer_record rec;
	char *sealed;
	void *row;

	(void)state;
	put_new(hw);
	rec = record_of(hw);
	sealed = arena_dup(arena, rec.sealed.p, rec.sealed.n);
	sealed[0] = 99;
	rec.sealed.p = sealed;
	assert_int_equal(buffer_record_row(&homework_entity, hw->row.id, &rec, arena, &row), ERR_CONFLICT);
}

/* ---- the worker's side ---- */

static void claimed_and_acknowledged_is_gone_but_for_the_marker(void **state)
{
	struct homework *hw = row_of(1, CLASS_A, "x");
	int64_t version = put_new(hw);
	struct claim_result c;
	struct put_result r;

	(void)state;
	assert_int_equal(status().pending, 1);
	assert_int_equal(status().last_version, version);
	assert_int_equal(claim(3600000).n, 0); /* not due */
	c = claim(0);
	assert_int_equal(c.n, 1);
	assert_int_equal(c.reaped + c.dropped, 0);
	assert_true(uuid_eq(c.v[0].id, hw->row.id));
	assert_str(c.v[0].value, stored(hw));
	assert_int_equal(status().leased, 1);
	assert_int_equal(claim(0).n, 0);
	assert_ack(hw->row.id, version, 1, 0);
	assert_ack(hw->row.id, version, 0, 0); /* twice is right */
	assert_null(stored(hw).p);
	assert_int_equal(status().pending + status().leased + status().retry + status().dead, 0);
	/* A base from before the flush still meets its conflict. */
	assert_int_equal(put(hw, (struct put_options){.expect = 0}).outcome, PUT_CONFLICT);
	r = put(hw, (struct put_options){.expect = version, .floor = version});
	assert_int_equal(r.outcome, PUT_OK);
	assert_true(r.version > version);
}

static void what_is_written_during_a_flush_is_kept(void **state)
{
	struct homework *hw = row_of(1, CLASS_A, "x");
	int64_t version = put_new(hw), newer;

	(void)state;
	assert_int_equal(claim(0).n, 1);
	newer = put(hw, (struct put_options){.expect = version}).version;
	assert_ack(hw->row.id, version, 0, 1);
	assert_int_equal(record_of(hw).version, newer);
	assert_int_equal(status().pending, 1);
	assert_int_equal(claim(0).n, 1);
	assert_ack(hw->row.id, newer, 1, 0);
}

static void nack(struct uuid id, int64_t version, int64_t backoff_ms, bool count, bool permanent, int64_t retried, int64_t dead)
{
	int64_t got_retried, got_dead;

	assert_int_equal(buffer_nack(&io, &homework_entity, STR("w1"), backoff_ms, count, STR("22001"), permanent,
				     &(struct acked){id, version}, 1, arena, &got_retried, &got_dead),
			 OK);
	assert_int_equal(got_retried, retried);
	assert_int_equal(got_dead, dead);
}

static void given_back_it_comes_again_after_its_backoff_with_its_tries(void **state)
{
	struct homework *hw = row_of(1, CLASS_A, "x");
	int64_t version = put_new(hw);
	struct claim_result c;

	(void)state;
	assert_int_equal(claim(0).n, 1);
	nack(hw->row.id, version, 3600000, true, false, 1, 0);
	assert_int_equal(status().retry, 1);
	assert_int_equal(claim(0).n, 0);
	/* A newer write does not wait less, but a change of the same row is counted from nothing. */
	nack(hw->row.id, version, 0, true, false, 0, 0); /* not leased any more: nothing happens */
	assert_int_equal(put(hw, (struct put_options){.expect = version, .urgent = true}).outcome, PUT_OK);
	c = claim(3600000);
	assert_int_equal(c.n, 1);
	assert_int_equal(c.v[0].attempts, 0);
	nack(hw->row.id, record_of(hw).version, 0, true, false, 1, 0);
	c = claim(3600000);
	assert_int_equal(c.n, 1);
	assert_int_equal(c.v[0].attempts, 1);
}

static void dead_letters_are_replayed_or_discarded_at_the_version_that_was_seen(void **state)
{
	struct homework *hw = row_of(1, CLASS_A, "x");
	int64_t version = put_new(hw), n;

	(void)state;
	assert_int_equal(claim(0).n, 1);
	nack(hw->row.id, version, 0, true, true, 0, 1);
	assert_int_equal(status().dead, 1);
	assert_non_null(stored(hw).p); /* readers still see it */
	assert_int_equal(buffer_replay(&io, &homework_entity, &hw->row.id, 1, arena, &n), OK);
	assert_int_equal(n, 1);
	assert_int_equal(buffer_replay(&io, &homework_entity, &hw->row.id, 1, arena, &n), OK);
	assert_int_equal(n, 0);
	assert_int_equal(claim(3600000).n, 1);
	nack(hw->row.id, version, 0, true, true, 0, 1);
	assert_int_equal(buffer_discard(&io, &homework_entity, &(struct acked){hw->row.id, version + 1}, 1, arena, &n), OK);
	assert_int_equal(n, 0);
	assert_int_equal(buffer_discard(&io, &homework_entity, &(struct acked){hw->row.id, version}, 1, arena, &n), OK);
	assert_int_equal(n, 1);
	assert_null(stored(hw).p);
	assert_false(in_scope(hw, "class_id", CLASS_A));
	assert_int_equal(status().dead, 0);
}

static void a_new_write_revives_the_dead(void **state)
{
	struct homework *hw = row_of(1, CLASS_A, "x");
	int64_t version = put_new(hw);

	(void)state;
	assert_int_equal(claim(0).n, 1);
	nack(hw->row.id, version, 0, true, true, 0, 1);
	assert_int_equal(put(hw, (struct put_options){.expect = version}).outcome, PUT_OK);
	assert_int_equal(status().dead, 0);
	assert_int_equal(status().pending, 1);
}

static void urged_records_are_due_at_once(void **state)
{
	struct homework *a = row_of(1, CLASS_A, "a"), *b = row_of(2, CLASS_A, "b"), *c = row_of(3, CLASS_A, "c");
	struct uuid ids[] = {a->row.id, b->row.id};

	(void)state;
	put_new(a);
	put_new(b);
	assert_int_equal(put(c, (struct put_options){.creation = true, .urgent = true}).outcome, PUT_OK);
	assert_true(record_of(c).urgent);
	assert_int_equal(claim(3600000).n, 1);
	assert_int_equal(buffer_urge(&io, &homework_entity, ids, 2, arena), OK);
	assert_int_equal(status().retry, 2);
	assert_int_equal(claim(3600000).n, 2);
}

static void a_batch_is_bounded_by_bytes_but_never_empty(void **state)
{
	struct claim_result c;

	(void)state;
	for (uint8_t i = 1; i <= 10; i++)
		put_new(row_of(i, CLASS_A, "x"));
	assert_int_equal(buffer_claim(&io, &homework_entity, STR("w1"), 100, 1, 60000, 0, arena, &c), OK);
	assert_int_equal(c.n, 1);
	assert_int_equal(buffer_claim(&io, &homework_entity, STR("w1"), 3, 1 << 20, 60000, 0, arena, &c), OK);
	assert_int_equal(c.n, 3);
}

#define T(name) cmocka_unit_test_setup_teardown(name, fresh, stale)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_row_comes_back_as_it_was),
		T(a_call_that_is_made_again_is_the_same_call),
		T(an_old_base_is_a_conflict_that_names_record_and_version),
		T(another_schools_id_is_refused),
		T(a_key_replays_its_result_behind_the_version),
		T(a_tombstone_is_the_whole_last_row),
		T(a_creation_that_arrives_behind_the_deletion_revives_nothing),
		T(a_row_that_moves_stands_in_both_lists_until_it_is_synced),
		T(the_floor_keeps_versions_above_the_table),
		T(events_stand_in_the_stream_with_the_version),
		T(a_lost_answer_is_asked_for_again),
		T(a_conflict_behind_a_lost_answer_is_unknown),
		T(what_was_not_sent_is_not_sent_again),
		T(an_outcome_that_stays_unknown_is_said_to_be),
		T(a_call_of_no_rows_or_too_many_is_refused_before_it_is_sent),
		T(damaged_records_are_corrupt_and_never_rows),
		T(a_layout_of_tomorrow_waits),
		T(claimed_and_acknowledged_is_gone_but_for_the_marker),
		T(what_is_written_during_a_flush_is_kept),
		T(given_back_it_comes_again_after_its_backoff_with_its_tries),
		T(dead_letters_are_replayed_or_discarded_at_the_version_that_was_seen),
		T(a_new_write_revives_the_dead),
		T(urged_records_are_due_at_once),
		T(a_batch_is_bounded_by_bytes_but_never_empty),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
