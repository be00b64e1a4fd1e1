/* SPDX-License-Identifier: Apache-2.0 */
/* Buffers and their writers; JSON strings are read back by jansson. */
#include "unit/unit.h"

#include <jansson.h>

#include "base/buf.h"
#include "base/str.h"
#include "base/uuid.h"

static void a_buffer_grows_on_the_heap_and_in_an_arena(void **state)
{
	struct arena *a = arena_new();
	struct buf heap = {0}, in = buf_in(a);

	(void)state;
	for (int i = 0; i < 5000; i++) {
		buf_putc(&heap, (char)('a' + i % 26));
		buf_putc(&in, (char)('a' + i % 26));
		if (i % 100 == 0)
			memset(arena_alloc(a, 8), 0xEE, 8); /* so that it cannot always grow in place */
	}
	assert_int_equal(heap.n, 5000);
	for (int i = 0; i < 5000; i++) {
		assert_int_equal(heap.p[i], 'a' + i % 26);
		assert_int_equal(in.p[i], 'a' + i % 26);
	}
	buf_done(&heap);
	assert_null(heap.p);
	buf_done(&heap);
	buf_done(&in);
	arena_free(a);
}

static void nothing_is_a_valid_piece(void **state)
{
	struct buf b = {0};

	(void)state;
	buf_put(&b, NULL, 0);
	buf_puts(&b, (struct str){NULL, 0});
	assert_string_equal(buf_cstr(&b), "");
	assert_int_equal(b.n, 0);
	buf_puts(&b, STR("ab"));
	assert_string_equal(buf_cstr(&b), "ab");
	buf_puts(&b, STR("c")); /* goes on over the NUL */
	assert_str(buf_str(&b), STR("abc"));
	buf_done(&b);
}

static void printf_grows_at_every_length(void **state)
{
	(void)state;
	for (int n = 0; n < 600; n++) {
		struct buf b = {0};
		static char want[700];

		memset(want, 'x', sizeof(want));
		want[n] = '\0';
		buf_printf(&b, "%s", want);
		buf_printf(&b, "<%d>", n);
		assert_int_equal(b.n, strlen(want) + (n < 10 ? 3 : n < 100 ? 4 : 5));
		assert_memory_equal(b.p, want, n);
		buf_done(&b);
	}
}

static void integers_are_decimal(void **state)
{
	struct buf b = {0};
	uint64_t seed = 5;

	(void)state;
	buf_put_i64(&b, 0);
	buf_putc(&b, ' ');
	buf_put_i64(&b, INT64_MIN);
	buf_putc(&b, ' ');
	buf_put_i64(&b, INT64_MAX);
	assert_str(buf_str(&b), STR("0 -9223372036854775808 9223372036854775807"));
	for (int i = 0; i < 5000; i++) {
		int64_t v = (int64_t)unit_random(&seed) >> (i % 64);
		char want[32];

		snprintf(want, sizeof(want), "%lld", (long long)v);
		b.n = 0;
		buf_put_i64(&b, v);
		assert_str(buf_str(&b), str_of(want));
	}
	buf_done(&b);
}

static void varints_are_leb128(void **state)
{
	struct buf b = {0};

	(void)state;
	buf_put_varint(&b, 0);
	buf_put_varint(&b, 127);
	buf_put_varint(&b, 128);
	buf_put_varint(&b, 624485); /* the example of the DWARF standard */
	buf_put_varint(&b, UINT64_MAX);
	assert_str(buf_str(&b), STR("\x00\x7F\x80\x01\xE5\x8E\x26\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01"));
	buf_done(&b);
}

static void uuids_are_36_characters(void **state)
{
	struct buf b = {0};
	struct uuid id = {{0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF, 0xFE, 0xDC, 0xBA, 0x98, 0x76, 0x54, 0x32, 0x10}};

	(void)state;
	buf_put_uuid(&b, id);
	buf_put_uuid(&b, id);
	assert_str(buf_str(&b), STR("01234567-89ab-cdef-fedc-ba987654321001234567-89ab-cdef-fedc-ba9876543210"));
	buf_done(&b);
}

#define assert_json(in, want)                        \
	do {                                         \
		struct buf b_ = {0};                 \
		buf_put_json(&b_, STR(in));          \
		assert_str(buf_str(&b_), STR(want)); \
		buf_done(&b_);                       \
	} while (0)

static void json_strings_escape_what_they_must(void **state)
{
	(void)state;
	assert_json("", "\"\"");
	assert_json("plain", "\"plain\"");
	assert_json("a\"b\\c/d", "\"a\\\"b\\\\c/d\"");
	assert_json("\b\f\n\r\t", "\"\\b\\f\\n\\r\\t\"");
	assert_json("\0\x01\x1F\x7F", "\"\\u0000\\u0001\\u001f\x7F\"");
	assert_json("क\xE2\x80\xA8\xF0\x9F\x98\x80", "\"क\xE2\x80\xA8\xF0\x9F\x98\x80\"");
}

#define R "\xEF\xBF\xBD"
static void invalid_utf8_is_replaced_by_maximal_subparts(void **state)
{
	(void)state;
	/* the examples of the Unicode standard, tables 3-8 to 3-11 */
	assert_json("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41", "\"" R R R R R R R R "A\"");
	assert_json("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41", "\"" R R R R R R R R "A\"");
	assert_json("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42", "\"" R R R R R "A" R R "B\"");
	assert_json("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", "\"" R R R R "A\"");
	/* cut off at the end */
	assert_json("a\xE0\xA4", "\"a" R "\"");
	assert_json("\xF0\x9F\x98", "\"" R "\"");
	assert_json("\xC3", "\"" R "\"");
	assert_json("0123456789abcde\xFFxyz", "\"0123456789abcde" R "xyz\"");
}

static void jansson_reads_back_what_was_written(void **state)
{
	static const char *const pieces[] = {"\"",
					     "\\",
					     "\n",
					     "\x01",
					     "\x1F",
					     " ",
					     "a",
					     "0123456789abcdef",
					     "\xC3\xA9",
					     "\xE0\xA4\x95",
					     "\xF0\x9F\x98\x80",
					     "\x7F",
					     "/",
					     "</script>",
					     "\xE2\x80\xA9"};
	uint64_t seed = 6;

	(void)state;
	for (int i = 0; i < 20000; i++) {
		struct buf in = {0}, out = {0};
		json_t *v;

		for (size_t n = unit_random(&seed) % 12; n > 0; n--)
			buf_puts(&in, str_of(pieces[unit_random(&seed) % ARRAY_LEN(pieces)]));
		buf_put_json(&out, buf_str(&in));
		v = json_loadb(out.p, out.n, JSON_DECODE_ANY, NULL);
		assert_non_null(v);
		assert_str(((struct str){json_string_value(v), json_string_length(v)}), buf_str(&in));
		json_decref(v);
		buf_done(&in);
		buf_done(&out);
	}
}

static void any_bytes_become_a_json_string(void **state)
{
	uint64_t seed = 7;

	(void)state;
	for (int i = 0; i < 50000; i++) {
		char p[40];
		size_t n = unit_random(&seed) % sizeof(p);
		struct buf out = {0};
		json_t *v;

		for (size_t j = 0; j < n; j++)
			p[j] = (char)unit_random(&seed);
		buf_put_json(&out, (struct str){p, n});
		v = json_loadb(out.p, out.n, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
		assert_non_null(v);
		/* well-formed text comes back as it was, the rest at least as text */
		if (str_is_utf8((struct str){p, n}))
			assert_str(((struct str){json_string_value(v), json_string_length(v)}), ((struct str){p, n}));
		json_decref(v);
		buf_done(&out);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_buffer_grows_on_the_heap_and_in_an_arena),
		cmocka_unit_test(nothing_is_a_valid_piece),
		cmocka_unit_test(printf_grows_at_every_length),
		cmocka_unit_test(integers_are_decimal),
		cmocka_unit_test(varints_are_leb128),
		cmocka_unit_test(uuids_are_36_characters),
		cmocka_unit_test(json_strings_escape_what_they_must),
		cmocka_unit_test(invalid_utf8_is_replaced_by_maximal_subparts),
		cmocka_unit_test(jansson_reads_back_what_was_written),
		cmocka_unit_test(any_bytes_become_a_json_string),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
