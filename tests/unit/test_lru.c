/* SPDX-License-Identifier: Apache-2.0 */
/* The bounded memory: order, both bounds, expiry, and a model to compare with. */
#include "unit/unit.h"

#include "base/cleanup.h"
#include "base/lru.h"
#include "base/str.h"

CLEANUP_FREE(lru_free, struct lru *);

static bool has(struct lru *lru, const char *key)
{
	struct str v;

	return lru_get(lru, str_of(key), 0, &v);
}

static void what_is_put_is_got(void **state)
{
	_cleanup_(lru_freep) struct lru *lru = lru_new(10, 10000);
	char key[] = "key", value[] = "value";
	struct str v = STR("before");

	(void)state;
	assert_false(lru_get(lru, STR("key"), 0, &v));
	assert_str(v, STR("before"));
	assert_true(lru_put(lru, str_of(key), str_of(value), LRU_NEVER));
	memset(key, 'x', 3); /* both were copied */
	memset(value, 'x', 5);
	assert_true(lru_get(lru, STR("key"), INT64_MAX, &v));
	assert_str(v, STR("value"));
	assert_true(lru_put(lru, STR("key"), STR(""), LRU_NEVER));
	assert_true(lru_get(lru, STR("key"), 0, &v));
	assert_int_equal(v.n, 0);
	assert_true(lru_remove(lru, STR("key")));
	assert_false(lru_remove(lru, STR("key")));
	assert_null(lru_free(NULL));
}

static void the_least_recently_used_goes_first(void **state)
{
	_cleanup_(lru_freep) struct lru *lru = lru_new(3, 10000);
	struct lru_stats stats;

	(void)state;
	lru_put(lru, STR("a"), STR("1"), LRU_NEVER);
	lru_put(lru, STR("b"), STR("2"), LRU_NEVER);
	lru_put(lru, STR("c"), STR("3"), LRU_NEVER);
	assert_true(has(lru, "a"));
	lru_put(lru, STR("d"), STR("4"), LRU_NEVER);
	assert_false(has(lru, "b"));
	assert_true(has(lru, "a"));
	assert_true(has(lru, "c"));
	lru_put(lru, STR("d"), STR("5"), LRU_NEVER); /* a replacement pushes nobody out */
	assert_true(has(lru, "a"));
	assert_true(has(lru, "c"));
	lru_stats(lru, &stats);
	assert_int_equal(stats.entries, 3);
	assert_int_equal(stats.evictions, 1);
	assert_int_equal(stats.hits, 5);
	assert_int_equal(stats.misses, 1);
}

static void an_entry_ends_at_its_time(void **state)
{
	_cleanup_(lru_freep) struct lru *lru = lru_new(3, 10000);
	struct lru_stats stats;
	struct str v;

	(void)state;
	lru_put(lru, STR("a"), STR("1"), 1000);
	assert_true(lru_get(lru, STR("a"), 999, &v));
	assert_false(lru_get(lru, STR("a"), 1000, &v));
	lru_stats(lru, &stats);
	assert_int_equal(stats.entries, 0);
	assert_int_equal(stats.bytes, 0);
	assert_false(lru_get(lru, STR("a"), 0, &v)); /* it is gone, not hidden */
}

static void bytes_are_bounded_with_their_bookkeeping(void **state)
{
	_cleanup_(lru_freep) struct lru *lru = lru_new(1000000, 100000);
	struct lru_stats stats;
	char key[16];

	(void)state;
	for (int i = 0; i < 10000; i++) {
		snprintf(key, sizeof(key), "%d", i);
		assert_true(lru_put(lru, str_of(key), STR(""), LRU_NEVER));
		lru_stats(lru, &stats);
		assert_true(stats.bytes <= 100000);
	}
	assert_in_range(stats.entries, 100, 2000);
	assert_true(has(lru, "9999"));
	assert_false(has(lru, "0"));
}

static void what_is_too_large_is_refused_and_forgotten(void **state)
{
	_cleanup_(lru_freep) struct lru *lru = lru_new(10, 4000);
	static char big[1001];

	(void)state;
	assert_true(lru_put(lru, STR("a"), STR("small"), LRU_NEVER));
	assert_true(lru_put(lru, STR("b"), STR("small"), LRU_NEVER));
	assert_false(lru_put(lru, STR("a"), (struct str){big, sizeof(big)}, LRU_NEVER));
	assert_false(has(lru, "a")); /* never the old value for a key that has a new one */
	assert_true(has(lru, "b"));
	assert_false(lru_put(lru, (struct str){big, sizeof(big)}, STR(""), LRU_NEVER));
	assert_false(lru_put(lru, STR("b"), (struct str){big, SIZE_MAX - 50}, LRU_NEVER));
}

static void a_value_may_be_put_back_as_a_slice_of_itself(void **state)
{
	_cleanup_(lru_freep) struct lru *lru = lru_new(10, 10000);
	struct str v;

	(void)state;
	lru_put(lru, STR("a"), STR("abcdef"), LRU_NEVER);
	assert_true(lru_get(lru, STR("a"), 0, &v));
	assert_true(lru_put(lru, STR("a"), (struct str){v.p + 2, 3}, LRU_NEVER));
	assert_true(lru_get(lru, STR("a"), 0, &v));
	assert_str(v, STR("cde"));
}

/* The model: an array in order of use. */
struct model {
	int key[16];
	uint32_t value[16];
	int64_t expires[16];
	size_t n;
};

static void model_remove(struct model *m, size_t i)
{
	for (; i + 1 < m->n; i++) {
		m->key[i] = m->key[i + 1];
		m->value[i] = m->value[i + 1];
		m->expires[i] = m->expires[i + 1];
	}
	m->n--;
}

static size_t model_find(const struct model *m, int key)
{
	size_t i = 0;

	while (i < m->n && m->key[i] != key)
		i++;
	return i;
}

static void model_push(struct model *m, int key, uint32_t value, int64_t expires)
{
	m->key[m->n] = key;
	m->value[m->n] = value;
	m->expires[m->n++] = expires;
}

static void it_behaves_like_the_model(void **state)
{
	_cleanup_(lru_freep) struct lru *lru = lru_new(15, 1000000);
	struct model m = {.n = 0};
	uint64_t seed = 12;

	(void)state;
	for (int64_t now = 0; now < 100000; now++) {
		int key = (int)(unit_random(&seed) % 30);
		struct str k = {(char *)&key, sizeof(key)}, v;
		size_t i = model_find(&m, key);

		switch (unit_random(&seed) % 8) {
		case 0: {
			assert_true(lru_remove(lru, k) == (i < m.n));
			if (i < m.n)
				model_remove(&m, i);
			break;
		}
		case 1:
		case 2:
		case 3: {
			uint32_t value = (uint32_t)unit_random(&seed);
			int64_t expires = now + 1 + (int64_t)(unit_random(&seed) % 60);

			assert_true(lru_put(lru, k, (struct str){(char *)&value, sizeof(value)}, expires));
			if (i < m.n)
				model_remove(&m, i);
			else if (m.n == 15)
				model_remove(&m, 0);
			model_push(&m, key, value, expires);
			break;
		}
		default: {
			bool got = lru_get(lru, k, now, &v);

			assert_true(got == (i < m.n && m.expires[i] > now));
			if (got) {
				uint32_t value = m.value[i];
				int64_t expires = m.expires[i];

				assert_memory_equal(v.p, &value, sizeof(value));
				model_remove(&m, i);
				model_push(&m, key, value, expires);
			} else if (i < m.n) {
				model_remove(&m, i);
			}
		}
		}
	}
	lru_clear(lru);
	assert_false(has(lru, "a"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_put_is_got),
		cmocka_unit_test(the_least_recently_used_goes_first),
		cmocka_unit_test(an_entry_ends_at_its_time),
		cmocka_unit_test(bytes_are_bounded_with_their_bookkeeping),
		cmocka_unit_test(what_is_too_large_is_refused_and_forgotten),
		cmocka_unit_test(a_value_may_be_put_back_as_a_slice_of_itself),
		cmocka_unit_test(it_behaves_like_the_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
