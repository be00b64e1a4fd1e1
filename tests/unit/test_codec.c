/* SPDX-License-Identifier: Apache-2.0 */
/* The envelope of stored bytes: round trips, and that no damaged byte passes. */
#include "unit/unit.h"

#include <pthread.h>
#include <zstd.h>

#include "base/crc32c.h"
#include "base/str.h"
#include "io/codec.h"

static void put_envelope(struct buf *out, struct str body)
{
	uint32_t crc = crc32c(0, body.p, body.n);

	buf_put(out, "\x01\x00", 2);
	for (unsigned i = 0; i < 4; i++)
		buf_putc(out, (char)(crc >> (8 * i)));
	buf_puts(out, body);
}

static void names_are_parsed_and_given_back(void **state)
{
	enum codec codec;

	(void)state;
	for (int i = 0; i < CODEC_COUNT; i++) {
		assert_true(codec_parse(codec_name((enum codec)i), &codec));
		assert_int_equal(codec, i);
	}
	assert_true(codec_parse("snappy", &codec) && codec == CODEC_SNAPPY);
	assert_false(codec_parse("gzip", &codec));
	assert_false(codec_parse("", &codec));
}

static void the_envelope_is_as_documented(void **state)
{
	struct buf out = {0};

	(void)state;
	assert_int_equal(codec_seal(CODEC_RAW, 3, STR("123456789"), &out), CODEC_RAW);
	assert_str(buf_str(&out), STR("\x03\x00\x83\x92\x06\xe3"
				      "123456789")); /* 0xe3069283 is the check value of CRC-32C */
	buf_done(&out);
}

static void every_codec_gives_back_what_it_took(void **state)
{
	uint64_t seed = 11;

	(void)state;
	for (int i = 0; i < 400; i++) {
		struct arena *arena = arena_new();
		size_t n = unit_random(&seed) % (i < 300 ? 300 : 70000);
		char *bytes = arena_alloc(arena, n + 1);
		unsigned letters = 1 + (unsigned)(unit_random(&seed) % 255);

		for (size_t k = 0; k < n; k++)
			bytes[k] = (char)(unit_random(&seed) % letters);
		for (int codec = 0; codec < CODEC_COUNT; codec++) {
			struct buf out = {0};
			struct str back;
			uint8_t layout = 0;
			enum codec used;

			buf_puts(&out, STR("before")); /* it appends */
			used = codec_seal((enum codec)codec, (uint8_t)i, (struct str){bytes, n}, &out);
			assert_true(used == (enum codec)codec || used == CODEC_RAW);
			assert_true(out.n <= 6 + 6 + n);
			assert_true(used == CODEC_RAW || out.n < 6 + 6 + n);
			assert_int_equal(codec_open(used, (struct str){out.p + 6, out.n - 6}, arena, &layout, &back), OK);
			assert_int_equal(layout, (uint8_t)i);
			assert_str(back, ((struct str){bytes, n}));
			buf_done(&out);
		}
		arena_free(arena);
	}
}

static void what_does_not_shrink_stays_raw(void **state)
{
	char same[1000];
	struct buf out = {0};

	(void)state;
	memset(same, 'x', sizeof(same));
	for (int codec = CODEC_SNAPPY; codec < CODEC_COUNT; codec++) {
		assert_int_equal(codec_seal((enum codec)codec, 1, STR("q8#kZ"), &out), CODEC_RAW);
		assert_int_equal(codec_seal((enum codec)codec, 1, STR(""), &out), CODEC_RAW);
		assert_int_equal(codec_seal((enum codec)codec, 1, (struct str){same, sizeof(same)}, &out), codec);
	}
	buf_done(&out);
}

static void every_damage_is_seen(void **state)
{
	static const char text[] = "homework homework homework homework homework homework homework homework";
	struct arena *arena = arena_new();

	(void)state;
	for (int codec = 0; codec < CODEC_COUNT; codec++) {
		struct buf out = {0};
		struct str back = STR("untouched");
		uint8_t layout = 9;

		assert_int_equal(codec_seal((enum codec)codec, 1, str_of(text), &out), codec);
		for (size_t n = 0; n < out.n; n++) {
			char *cut = malloc(n ? n : 1); /* of exactly its length, so that a read behind it is seen */

			memcpy(cut, out.p, n);
			assert_int_equal(codec_open((enum codec)codec, (struct str){cut, n}, arena, &layout, &back), ERR_CORRUPT);
			free(cut);
		}
		for (size_t bit = 8; bit < out.n * 8; bit++) { /* the layout alone is not covered */
			out.p[bit / 8] ^= (char)(1 << bit % 8);
			assert_int_equal(codec_open((enum codec)codec, buf_str(&out), arena, &layout, &back), ERR_CORRUPT);
			out.p[bit / 8] ^= (char)(1 << bit % 8);
		}
		assert_int_equal(layout, 9);
		assert_str(back, STR("untouched"));
		assert_int_equal(codec_open(CODEC_COUNT, buf_str(&out), arena, &layout, &back), ERR_CORRUPT);
		buf_done(&out);
	}
	arena_free(arena);
}

static void a_declared_size_is_judged_before_room_is_made(void **state)
{
	static const struct {
		enum codec codec;
		struct str body;
	} rows[] = {
		{CODEC_SNAPPY, {"\xff\xff\xff\xff\x0f\x00x", 7}}, /* 4 GiB */
		{CODEC_SNAPPY, {"\x80\x80\x80\x01\x00x", 6}},     /* 2 MiB out of six bytes */
		{CODEC_LZ4, {"\xff\xff\xff\xff\x10x", 6}},        /* 4 GiB */
		{CODEC_LZ4, {"\x00\x00\x20\x00\x10x", 6}},        /* 2 MiB out of two bytes */
		{CODEC_LZ4, {"\x05\x00\x00\x00", 4}},             /* a size and nothing else */
		{CODEC_ZSTD, {"\x28\xb5\x2f\xfd\xe0\xff\xff\xff\xff\xff\xff\xff\x00", 13}},
		{CODEC_ZSTD, {"\x28\xb5\x2f\xfd\x00\x58\x01\x00\x00", 9}}, /* a frame that does not say its size */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct arena *arena = arena_new();
		size_t before = arena_size(arena);
		struct buf out = {0};
		struct str back;
		uint8_t layout;

		put_envelope(&out, rows[i].body);
		assert_int_equal(codec_open(rows[i].codec, buf_str(&out), arena, &layout, &back), ERR_CORRUPT);
		assert_int_equal(arena_size(arena), before);
		buf_done(&out);
		arena_free(arena);
	}
}

static void two_frames_are_not_one(void **state)
{
	struct arena *arena = arena_new();
	struct buf body = {0}, out = {0};
	struct str back;
	uint8_t layout;
	char frame[200];
	size_t n = ZSTD_compress(frame, sizeof(frame), "aaaaaaaaaaaaaaaaaaaaaaaaa", 25, 1);

	(void)state;
	buf_put(&body, frame, n);
	put_envelope(&out, buf_str(&body));
	assert_int_equal(codec_open(CODEC_ZSTD, buf_str(&out), arena, &layout, &back), OK);
	assert_int_equal(back.n, 25);
	buf_put(&body, "\x50\x2a\x4d\x18\x00\x00\x00\x00", 8); /* a frame to skip, which would decompress to the same */
	out.n = 0;
	put_envelope(&out, buf_str(&body));
	assert_int_equal(codec_open(CODEC_ZSTD, buf_str(&out), arena, &layout, &back), ERR_CORRUPT);
	buf_done(&body);
	buf_done(&out);
	arena_free(arena);
}

/* ---- dictionaries ---- */

static const char known[] =
	"Solve problems from the text book. Show every step of the factorisation and check each root by putting it back.";

static struct codec_dict text_dict(uint8_t number)
{
	return (struct codec_dict){.number = number, .bytes = {known, sizeof(known) - 1}};
}

static void a_dictionary_makes_small_texts_smaller(void **state)
{
	static const struct str text = STR("Show every step of the factorisation and check each root");
	struct arena *arena = arena_new();
	struct codec_dict dict = text_dict(7);
	struct buf with = {0}, without = {0};
	struct str back;
	uint8_t layout;

	(void)state;
	assert_int_equal(codec_seal(CODEC_ZSTD, 3, text, &without), CODEC_RAW);
	for (int i = 0; i < 3; i++) { /* the first makes the tables */
		with.n = 0;
		assert_int_equal(codec_seal_with(CODEC_ZSTD, &dict, 3, text, &with), CODEC_ZSTD);
		assert_true(with.n < without.n / 2);
		assert_int_equal(codec_dict_number(buf_str(&with)), 7);
		assert_int_equal(codec_open_with(CODEC_ZSTD, &dict, buf_str(&with), arena, &layout, &back), OK);
		assert_int_equal(layout, 3);
		assert_str(back, text);
	}
	assert_int_equal(codec_open_with(CODEC_RAW, &dict, buf_str(&without), arena, &layout, &back), OK); /* it needs none */
	codec_dict_done(&dict);
	buf_done(&with);
	buf_done(&without);
	arena_free(arena);
}

static void only_zstd_names_a_dictionary_and_only_when_it_helped(void **state)
{
	struct codec_dict dict = text_dict(7);
	struct buf out = {0};

	(void)state;
	for (int codec = 0; codec < CODEC_COUNT; codec++) {
		out.n = 0;
		codec_seal_with((enum codec)codec, &dict, 1, str_of(known), &out);
		assert_int_equal(codec_dict_number(buf_str(&out)), codec == CODEC_ZSTD ? 7 : 0);
	}
	out.n = 0;
	assert_int_equal(codec_seal_with(CODEC_ZSTD, &dict, 1, STR("q8#kZ"), &out), CODEC_RAW);
	assert_int_equal(codec_dict_number(buf_str(&out)), 0);
	assert_int_equal(codec_dict_number(STR("\x01\x07")), 0);
	codec_dict_done(&dict);
	buf_done(&out);
}

static void an_unknown_dictionary_is_waited_for_and_damage_is_not(void **state)
{
	struct arena *arena = arena_new();
	struct codec_dict dict = text_dict(7), other = text_dict(8);
	struct buf out = {0};
	struct str back = STR("untouched");
	uint8_t layout = 9;

	(void)state;
	codec_seal_with(CODEC_ZSTD, &dict, 1, str_of(known), &out);
	assert_int_equal(codec_open_with(CODEC_ZSTD, NULL, buf_str(&out), arena, &layout, &back), ERR_CONFLICT);
	assert_int_equal(codec_open_with(CODEC_ZSTD, &other, buf_str(&out), arena, &layout, &back), ERR_CONFLICT);
	assert_int_equal(codec_open(CODEC_ZSTD, buf_str(&out), arena, &layout, &back), ERR_CORRUPT);
	for (int codec = 0; codec < CODEC_COUNT; codec++) {
		if (codec != CODEC_ZSTD)
			assert_int_equal(codec_open_with((enum codec)codec, &dict, buf_str(&out), arena, &layout, &back),
					 ERR_CORRUPT);
	}
	for (size_t n = 0; n < out.n; n++) {
		char *cut = malloc(n ? n : 1);

		memcpy(cut, out.p, n);
		assert_int_equal(codec_open_with(CODEC_ZSTD, &dict, (struct str){cut, n}, arena, &layout, &back), ERR_CORRUPT);
		free(cut);
	}
	for (size_t bit = 16; bit < out.n * 8; bit++) {
		out.p[bit / 8] ^= (char)(1 << bit % 8);
		assert_int_equal(codec_open_with(CODEC_ZSTD, &dict, buf_str(&out), arena, &layout, &back), ERR_CORRUPT);
		assert_int_equal(codec_open_with(CODEC_ZSTD, NULL, buf_str(&out), arena, &layout, &back), ERR_CORRUPT);
		out.p[bit / 8] ^= (char)(1 << bit % 8);
	}
	assert_int_equal(layout, 9);
	assert_str(back, STR("untouched"));
	codec_dict_done(&dict);
	codec_dict_done(&other);
	buf_done(&out);
	arena_free(arena);
}

static void *seal_and_open(void *arg)
{
	struct codec_dict *dict = arg;

	for (int i = 0; i < 300; i++) {
		struct arena *arena = arena_new();
		struct buf out = buf_in(arena);
		struct str text = {known + i % 50, 60}, back;
		struct codec_dict *with = i % 3 == 0 ? NULL : dict;
		enum codec used = codec_seal_with(CODEC_ZSTD, with, 1, text, &out);
		uint8_t layout;

		if (codec_open_with(used, with, buf_str(&out), arena, &layout, &back) != OK || !str_eq(back, text))
			abort();
		arena_free(arena);
	}
	return NULL;
}

static void threads_share_dictionaries_and_not_contexts(void **state)
{
	enum { THREADS = 20 }; /* more than contexts are kept */
	struct codec_dict dict = text_dict(1);
	pthread_t threads[THREADS];

	(void)state;
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, seal_and_open, &dict), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	codec_dict_done(&dict);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_parsed_and_given_back),
		cmocka_unit_test(the_envelope_is_as_documented),
		cmocka_unit_test(every_codec_gives_back_what_it_took),
		cmocka_unit_test(what_does_not_shrink_stays_raw),
		cmocka_unit_test(every_damage_is_seen),
		cmocka_unit_test(a_declared_size_is_judged_before_room_is_made),
		cmocka_unit_test(two_frames_are_not_one),
		cmocka_unit_test(a_dictionary_makes_small_texts_smaller),
		cmocka_unit_test(only_zstd_names_a_dictionary_and_only_when_it_helped),
		cmocka_unit_test(an_unknown_dictionary_is_waited_for_and_damage_is_not),
		cmocka_unit_test(threads_share_dictionaries_and_not_contexts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
