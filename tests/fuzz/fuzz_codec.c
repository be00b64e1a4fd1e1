/* SPDX-License-Identifier: Apache-2.0 */
/* Hostile envelopes, with the checksum put right so that the codecs behind it are reached; and every input sealed and opened. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/str.h"
#include "io/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
	if (!holds)
		abort();
}

static struct codec_dict dict = {.number = 1, .bytes = {"homework homework_submission Solve problems from the text book", 62}};

/* The first byte chooses the codec and whether a dictionary is named, the rest is the body. */
static void hostile(enum codec codec, bool named, struct str body, struct arena *arena)
{
	struct buf sealed = buf_in(arena);
	uint32_t crc = crc32c(0, body.p, body.n);
	struct str bytes;
	uint8_t layout;

	buf_put(&sealed, named ? "\x01\x01" : "\x01\x00", 2);
	for (unsigned i = 0; i < 4; i++)
		buf_putc(&sealed, (char)(crc >> (8 * i)));
	buf_puts(&sealed, body);
	if (codec_open_with(codec, &dict, buf_str(&sealed), arena, &layout, &bytes) == OK)
		must(bytes.n <= CODEC_SIZE_MAX && layout == 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *arena = arena_new();
	struct str all = {(const char *)data, size}, bytes;
	struct buf sealed = buf_in(arena);
	uint8_t layout;

	if (size != 0) {
		enum codec codec = (enum codec)(data[0] % CODEC_COUNT), used;

		hostile(codec, data[0] >= 128, (struct str){all.p + 1, all.n - 1}, arena);
		used = codec_seal(codec, data[0], all, &sealed);
		must(codec_open(used, buf_str(&sealed), arena, &layout, &bytes) == OK);
		must(layout == data[0] && str_eq(bytes, all));
		sealed.n = 0;
		used = codec_seal_with(codec, &dict, data[0], all, &sealed);
		must(codec_open_with(used, &dict, buf_str(&sealed), arena, &layout, &bytes) == OK);
		must(layout == data[0] && str_eq(bytes, all));
	}
	IGNORE(codec_open(CODEC_RAW, all, arena, &layout, &bytes)); /* whatever it says, it must come back */
	arena_free(arena);
	return 0;
}
