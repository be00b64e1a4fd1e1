/* SPDX-License-Identifier: Apache-2.0 */
/* CRC32C: the vectors of RFC 3720, and both ways of computing it. */
#include "unit/unit.h"

#include "base/crc32c.h"

typedef uint32_t crc_fn(uint32_t crc, const void *bytes, size_t n);
static crc_fn *const both[] = {crc32c, crc32c_portable};

static void both_ways_have_the_published_vectors(void **state)
{
	uint8_t up[32], down[32], zero[32] = {0}, ones[32];

	(void)state;
	for (int i = 0; i < 32; i++) {
		up[i] = (uint8_t)i;
		down[i] = (uint8_t)(31 - i);
		ones[i] = 0xFF;
	}
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(both[i](0, "", 0), 0);
		assert_int_equal(both[i](0, "123456789", 9), 0xE3069283);
		assert_int_equal(both[i](0, zero, 32), 0x8A9136AA);
		assert_int_equal(both[i](0, ones, 32), 0x62A8AB43);
		assert_int_equal(both[i](0, up, 32), 0x46DD794E);
		assert_int_equal(both[i](0, down, 32), 0x113FDB5C);
	}
}

static void both_ways_agree_at_every_length_and_alignment(void **state)
{
	static uint8_t p[600];
	uint64_t seed = 10;

	(void)state;
	for (size_t i = 0; i < sizeof(p); i++)
		p[i] = (uint8_t)unit_random(&seed);
	for (size_t from = 0; from < 16; from++) {
		for (size_t n = 0; n < 500; n++) {
			uint32_t start = (uint32_t)unit_random(&seed);

			assert_int_equal(crc32c(start, p + from, n), crc32c_portable(start, p + from, n));
		}
	}
}

static void pieces_make_the_whole(void **state)
{
	const char text[] = "a mark in a pupil's record";
	size_t n = sizeof(text) - 1;

	(void)state;
	for (size_t cut = 0; cut <= n; cut++)
		assert_int_equal(crc32c(crc32c(0, text, cut), text + cut, n - cut), crc32c(0, text, n));
}

static void one_changed_bit_changes_the_sum(void **state)
{
	uint8_t p[64] = {0};
	uint32_t sum = crc32c(0, p, 64);

	(void)state;
	for (size_t bit = 0; bit < 512; bit++) {
		p[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_int_not_equal(crc32c(0, p, 64), sum);
		p[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_ways_have_the_published_vectors),
		cmocka_unit_test(both_ways_agree_at_every_length_and_alignment),
		cmocka_unit_test(pieces_make_the_whole),
		cmocka_unit_test(one_changed_bit_changes_the_sum),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
