/* SPDX-License-Identifier: Apache-2.0 */
/* The write buffer's protocol, the worker's side: stored records, claims, what is given back, dead letters. */
#include "unit/buffer_world.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
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
