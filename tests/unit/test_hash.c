/* SPDX-License-Identifier: Apache-2.0 */
/* The table against a plain array, and its edges. */
#include "unit/unit.h"

#include "base/hash.h"
#include "base/str.h"

static void an_empty_table_has_nothing(void **state)
{
	struct hash h = {0};
	struct str key;
	size_t at = 0;
	void *value;

	(void)state;
	assert_null(hash_get(&h, STR("a")));
	assert_null(hash_remove(&h, STR("a")));
	assert_false(hash_next(&h, &at, &key, &value));
	hash_clear(&h);
	hash_done(&h);
	hash_done(&h);
}

static void put_tells_what_it_replaced(void **state)
{
	struct hash h = {0};
	int one, two;

	(void)state;
	assert_null(hash_put(&h, STR("a"), &one));
	assert_ptr_equal(hash_put(&h, STR("a"), &two), &one);
	assert_int_equal(h.n, 1);
	assert_ptr_equal(hash_get(&h, STR("a")), &two);
	assert_ptr_equal(hash_remove(&h, STR("a")), &two);
	assert_null(hash_get(&h, STR("a")));
	assert_int_equal(h.n, 0);
	hash_done(&h);
}

static void the_replaced_key_is_not_used_any_more(void **state)
{
	struct hash h = {0};
	char *first = strdup("key"), *second = strdup("key");
	int v;

	(void)state;
	hash_put(&h, str_of(first), &v);
	hash_put(&h, str_of(second), &v);
	free(first); /* the sanitizer sees any look at it */
	assert_ptr_equal(hash_get(&h, STR("key")), &v);
	hash_done(&h);
	free(second);
}

static void keys_may_be_empty_or_hold_any_bytes(void **state)
{
	struct hash h = {0};
	int a, b, c;

	(void)state;
	hash_put(&h, STR(""), &a);
	hash_put(&h, STR("\0"), &b);
	hash_put(&h, STR("\0\0"), &c);
	assert_ptr_equal(hash_get(&h, (struct str){NULL, 0}), &a);
	assert_ptr_equal(hash_get(&h, STR("\0")), &b);
	assert_ptr_equal(hash_get(&h, STR("\0\0")), &c);
	hash_done(&h);
}

static void it_behaves_like_an_array(void **state)
{
	enum { KEYS = 400 };
	static char names[KEYS][16];
	static char values[KEYS];
	bool there[KEYS] = {false};
	struct hash h = {0};
	uint64_t seed = 11;
	size_t n = 0;

	(void)state;
	for (int i = 0; i < KEYS; i++)
		snprintf(names[i], sizeof(names[i]), "k%d", i);
	for (int step = 0; step < 200000; step++) {
		size_t i = unit_random(&seed) % KEYS;
		/* waves of filling and emptying, so that long probe chains are built and taken apart */
		bool put = unit_random(&seed) % 100 < (step / 5000 % 2 ? 20U : 80U);
		void *was = put ? hash_put(&h, str_of(names[i]), &values[i]) : hash_remove(&h, str_of(names[i]));

		assert_ptr_equal(was, there[i] ? &values[i] : NULL);
		n = n + (put && !there[i]) - (!put && there[i]);
		there[i] = put;
		assert_int_equal(h.n, n);
		if (step % 1000 == 0) {
			size_t at = 0, seen = 0;
			struct str key;
			void *value;

			for (size_t j = 0; j < KEYS; j++)
				assert_ptr_equal(hash_get(&h, str_of(names[j])), there[j] ? &values[j] : NULL);
			while (hash_next(&h, &at, &key, &value)) {
				size_t j = (size_t)((char *)value - values);

				assert_true(there[j]);
				assert_str(key, str_of(names[j]));
				seen++;
			}
			assert_int_equal(seen, n);
		}
	}
	hash_clear(&h);
	assert_int_equal(h.n, 0);
	assert_null(hash_get(&h, str_of(names[0])));
	hash_done(&h);
}

static void two_tables_have_two_seeds(void **state)
{
	struct hash a = {0}, b = {0};
	int v;

	(void)state;
	hash_put(&a, STR("x"), &v);
	hash_put(&b, STR("x"), &v);
	assert_true(a.seed != b.seed);
	hash_done(&a);
	hash_done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_empty_table_has_nothing),
		cmocka_unit_test(put_tells_what_it_replaced),
		cmocka_unit_test(the_replaced_key_is_not_used_any_more),
		cmocka_unit_test(keys_may_be_empty_or_hold_any_bytes),
		cmocka_unit_test(it_behaves_like_an_array),
		cmocka_unit_test(two_tables_have_two_seeds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
