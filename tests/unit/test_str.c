/* SPDX-License-Identifier: Apache-2.0 */
/* Slices: numbers, splitting, UTF-8 (against a second decoder), percent escapes, hashes. */
#include "unit/unit.h"

#include "base/str.h"

static void comparing_knows_case_and_length(void **state)
{
	(void)state;
	assert_true(str_eq(STR(""), (struct str){NULL, 0}));
	assert_true(str_eq(STR("a\0b"), STR("a\0b")));
	assert_false(str_eq(STR("a\0b"), STR("a\0c")));
	assert_false(str_eq(STR("ab"), STR("abc")));
	assert_true(str_is(STR("abc"), "abc"));
	assert_true(str_is((struct str){NULL, 0}, NULL));
	assert_true(str_ieq(STR("Content-TYPE"), STR("content-type")));
	assert_false(str_ieq(STR("["), STR("{"))); /* differ in the case bit, but are no letters */
	assert_false(str_ieq(STR("@"), STR("`")));
	assert_false(str_ieq(STR("\xC3\x84"), STR("\xC3\xA4"))); /* ASCII only */
	assert_true(str_has_prefix(STR("abc"), STR("ab")));
	assert_true(str_has_prefix(STR("abc"), STR("")));
	assert_false(str_has_prefix(STR("ab"), STR("abc")));
}

static void trimming_stops_at_text(void **state)
{
	(void)state;
	assert_str(str_trim(STR(" \t\r\n\v\fa b\n ")), STR("a b"));
	assert_str(str_trim(STR("   ")), STR(""));
	assert_str(str_trim(STR("")), STR(""));
	assert_str(str_trim(STR("\x1Cx\xC2\xA0")), STR("\x1Cx\xC2\xA0"));
}

static void splitting_tells_an_empty_end_from_no_end(void **state)
{
	struct str rest = STR("a,,b,");

	(void)state;
	assert_str(str_split(&rest, ','), STR("a"));
	assert_str(str_split(&rest, ','), STR(""));
	assert_str(str_split(&rest, ','), STR("b"));
	assert_non_null(rest.p); /* something, though empty, is left behind the last comma */
	assert_str(str_split(&rest, ','), STR(""));
	assert_null(rest.p);
	assert_int_equal(rest.n, 0);
	assert_str(str_split(&rest, ','), STR(""));

	rest = STR("whole");
	assert_str(str_split(&rest, ','), STR("whole"));
	assert_null(rest.p);
}

static void numbers_go_to_both_ends_and_no_further(void **state)
{
	static const char *const bad[] = {"",
					  "-",
					  "+1",
					  " 1",
					  "1 ",
					  "1.0",
					  "0x10",
					  "1e3",
					  "--1",
					  "9223372036854775808",
					  "-9223372036854775809",
					  "18446744073709551616",
					  "99999999999999999999999",
					  "1/",
					  "1:",
					  "\xD9\xA1"};
	uint64_t seed = 2;
	int64_t v = 77;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_false(str_to_i64(str_of(bad[i]), &v));
	assert_false(str_to_i64(STR("1\0"), &v));
	assert_int_equal(v, 77); /* untouched on failure */
	assert_true(str_to_i64(STR("9223372036854775807"), &v) && v == INT64_MAX);
	assert_true(str_to_i64(STR("-9223372036854775808"), &v) && v == INT64_MIN);
	assert_true(str_to_i64(STR("-0"), &v) && v == 0);
	assert_true(str_to_i64(STR("0000000000000000000000012"), &v) && v == 12);
	for (int i = 0; i < 10000; i++) {
		int64_t want = (int64_t)(unit_random(&seed) >> (i % 64));
		char text[32];

		snprintf(text, sizeof(text), "%lld", (long long)want);
		assert_true(str_to_i64(str_of(text), &v));
		assert_true(v == want);
	}
}

/* A second decoder, written the other way round: decode, then look at the value. */
static bool naive_utf8(const unsigned char *p, size_t n, size_t *ret_len)
{
	*ret_len = 0;
	for (size_t i = 0; i < n; (*ret_len)++) {
		static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
		size_t len = p[i] < 0x80 ? 1 : p[i] >> 5 == 6 ? 2 : p[i] >> 4 == 14 ? 3 : p[i] >> 3 == 30 ? 4 : 0;
		uint32_t c;

		if (len == 0 || i + len > n)
			return false;
		c = len == 1 ? p[i] : p[i] & (0xFFU >> (len + 1));
		for (size_t j = 1; j < len; j++) {
			if (p[i + j] >> 6 != 2)
				return false;
			c = c << 6 | (p[i + j] & 0x3F);
		}
		if (c < least[len] || c > 0x10FFFF || (c >= 0xD800 && c < 0xE000) || c == 0)
			return false;
		i += len;
	}
	return true;
}

static void utf8_agrees_with_a_second_decoder(void **state)
{
	static const unsigned char edges[] = {0x00, 0x01, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2,
					      0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF};
	unsigned char p[24];
	uint64_t seed = 3;
	size_t len;

	(void)state;
	/* every combination of four edge bytes, alone */
	for (size_t i = 0; i < ARRAY_LEN(edges) * ARRAY_LEN(edges) * ARRAY_LEN(edges) * ARRAY_LEN(edges); i++) {
		size_t left = i;

		for (size_t j = 0; j < 4; j++, left /= ARRAY_LEN(edges))
			p[j] = edges[left % ARRAY_LEN(edges)];
		for (size_t n = 1; n <= 4; n++) {
			struct str s = {(char *)p, n};
			bool want = naive_utf8(p, n, &len);

			assert_true(str_is_utf8(s) == want);
			if (want)
				assert_int_equal(str_utf8_len(s), len);
		}
	}
	/* and behind ASCII, at every alignment of the eight-byte scan */
	for (int i = 0; i < 200000; i++) {
		memset(p, 'a', sizeof(p));
		for (size_t j = unit_random(&seed) % 22, k = j + 1 + unit_random(&seed) % 3; j < k && j < 24; j++)
			p[j] = edges[unit_random(&seed) % ARRAY_LEN(edges)];
		assert_true(str_is_utf8((struct str){(char *)p, 24}) == naive_utf8(p, 24, &len));
	}
}

static void every_code_point_is_one_step(void **state)
{
	(void)state;
	for (uint32_t c = 0; c < 0x110000; c++) {
		unsigned char p[4] = {0};
		size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
		bool ok;

		p[0] = (unsigned char)(n == 1 ? c : (0xF00U >> n & 0xFF) | c >> (6 * (n - 1)));
		for (size_t j = 1; j < n; j++)
			p[j] = (unsigned char)(0x80 | (c >> (6 * (n - 1 - j)) & 0x3F));
		if (c >= 0xD800 && c < 0xE000) {
			assert_int_equal(str_utf8_step((struct str){(char *)p, n}, &ok), 1);
			assert_false(ok);
		} else {
			assert_int_equal(str_utf8_step((struct str){(char *)p, n}, &ok), n);
			assert_true(ok);
		}
	}
}

static void percent_escapes_decode_or_are_refused(void **state)
{
	static const char *const bad[] = {"%", "%4", "a%", "%zz", "%4g", "%g4", "%00", "%%41", "%-1", "% 1"};
	char to[64];
	size_t n = 99;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_false(str_percent_decode(to, str_of(bad[i]), false, &n));
	assert_false(str_percent_decode(to, STR("a\0b"), false, &n));
	assert_int_equal(n, 99);
	assert_true(str_percent_decode(to, STR("a%2Fb%e0%A4%95+c%25"), false, &n));
	assert_str(((struct str){to, n}), STR("a/b\xE0\xA4\x95+c%"));
	assert_true(str_percent_decode(to, STR("a+b%2B"), true, &n));
	assert_str(((struct str){to, n}), STR("a b+"));
	assert_true(str_percent_decode(to, STR(""), true, &n));
	assert_int_equal(n, 0);
	memcpy(to, "x%41y", 5); /* in place */
	assert_true(str_percent_decode(to, (struct str){to, 5}, true, &n));
	assert_str(((struct str){to, n}), STR("xAy"));
}

static void hashes_depend_on_every_bit(void **state)
{
	char p[40];
	uint64_t seed = 4;

	(void)state;
	for (size_t n = 0; n <= sizeof(p); n++) {
		uint64_t h;

		for (size_t i = 0; i < n; i++)
			p[i] = (char)unit_random(&seed);
		h = str_hash((struct str){p, n}, 9);
		assert_true(h == str_hash((struct str){p, n}, 9));
		assert_true(h != str_hash((struct str){p, n}, 10));
		for (size_t bit = 0; bit < n * 8; bit++) {
			p[bit / 8] = (char)(p[bit / 8] ^ 1 << bit % 8);
			assert_true(h != str_hash((struct str){p, n}, 9));
			p[bit / 8] = (char)(p[bit / 8] ^ 1 << bit % 8);
		}
	}
	assert_true(str_hash(STR("\0"), 1) != str_hash(STR("\0\0"), 1));
}

static void hashes_spread_over_the_low_bits(void **state)
{
	unsigned count[256] = {0};

	(void)state;
	for (int i = 0; i < 256 * 100; i++) {
		char text[16];

		snprintf(text, sizeof(text), "key:%d", i);
		count[str_hash(str_of(text), 0) & 255]++;
	}
	for (int i = 0; i < 256; i++)
		assert_in_range(count[i], 50, 150); /* 100 expected, five deviations */
}

static void secrets_compare_like_text(void **state)
{
	(void)state;
	assert_true(str_eq_secret(STR("token"), STR("token")));
	assert_false(str_eq_secret(STR("token"), STR("tokem")));
	assert_false(str_eq_secret(STR("Token"), STR("token")));
	assert_false(str_eq_secret(STR("token"), STR("toke")));
	assert_false(str_eq_secret(STR("a\x80"), STR("a\x00")));
	assert_true(str_eq_secret(STR(""), (struct str){NULL, 0}));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(comparing_knows_case_and_length),
		cmocka_unit_test(trimming_stops_at_text),
		cmocka_unit_test(splitting_tells_an_empty_end_from_no_end),
		cmocka_unit_test(numbers_go_to_both_ends_and_no_further),
		cmocka_unit_test(utf8_agrees_with_a_second_decoder),
		cmocka_unit_test(every_code_point_is_one_step),
		cmocka_unit_test(percent_escapes_decode_or_are_refused),
		cmocka_unit_test(hashes_depend_on_every_bit),
		cmocka_unit_test(hashes_spread_over_the_low_bits),
		cmocka_unit_test(secrets_compare_like_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
