/* SPDX-License-Identifier: Apache-2.0 */
/* Hostile entries of the cache, as they are and with both checksums put right, so that what lies behind them is reached; and every input kept and read again. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/str.h"
#include "cache/cache_internal.h"

#define HEAD 40
#define TAG 16

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
	if (!holds)
		abort();
}

static void put_crc(char *to, const char *from, size_t n)
{
	uint32_t crc = crc32c(0, from, n);

	for (unsigned i = 0; i < 4; i++)
		to[i] = (char)(crc >> (8 * i));
}

/* Whatever is accepted keeps within the bounds that the engine relies on. */
static void read_whatever(struct str value, struct arena *arena)
{
	struct entry e;
	struct str bytes;

	if (entry_read(value, &e) != OK)
		return;
	must(e.n_tags <= CACHE_TAGS_MAX && e.sealed.p + e.sealed.n == value.p + value.n);
	if (entry_bytes(&e, arena, &bytes) == OK)
		must(bytes.n == e.size && bytes.n <= CACHE_ENTRY_MAX);
}

static void hostile(struct str all, struct arena *arena)
{
	struct str value = arena_str(arena, all);
	char *p = (char *)(uintptr_t)value.p, *sealed;
	size_t head = value.n > 3 ? HEAD + TAG * (size_t)(uint8_t)p[3] : 0;

	if (value.n <= 3 || value.n < head + 4)
		return;
	p[0] = 1;
	put_crc(p + head, p, head);
	sealed = p + head + 4;
	if (value.n >= head + 4 + 6) /* layout, dictionary, checksum: codec.h */
		put_crc(sealed + 2, sealed + 6, value.n - head - 10);
	read_whatever(value, arena);
	if (value.n >= head + 8) /* past CODEC_SIZE_MAX: checksum, bytes */
		put_crc(sealed, sealed + 4, value.n - head - 8);
	read_whatever(value, arena);
}

static void kept_and_read(struct str all, struct arena *arena)
{
	uint8_t first = (uint8_t)all.p[0];
	struct entry e = {.flags = first & ENTRY_NEGATIVE,
			  .written_us = 1,
			  .soft_us = INT64_MIN,
			  .fresh_until_us = INT64_MAX,
			  .end_us = -1},
		     got;
	struct buf value = buf_in(arena);
	struct str bytes;

	e.n_tags = first % (CACHE_TAGS_MAX + 1);
	for (size_t i = 0; i < e.n_tags; i++) {
		e.tags[i] = entry_tag_hash((struct str){all.p, i < all.n ? i : all.n});
		e.epochs[i] = (int64_t)e.tags[i] >> i;
	}
	entry_write(&e, (enum codec)(first % CODEC_COUNT), all, &value);
	must(entry_read(buf_str(&value), &got) == OK && entry_bytes(&got, arena, &bytes) == OK && str_eq(bytes, all));
	must(got.codec == e.codec && got.flags == e.flags && got.written_us == e.written_us && got.soft_us == e.soft_us &&
	     got.fresh_until_us == e.fresh_until_us && got.end_us == e.end_us && got.n_tags == e.n_tags);
	must(memcmp(got.tags, e.tags, sizeof(e.tags)) == 0 && memcmp(got.epochs, e.epochs, sizeof(e.epochs)) == 0);

	/* One bit of it wrong, wherever: never other bytes. */
	value.p[first * 131u % value.n] ^= (char)(1 << (first & 7));
	if (entry_read(buf_str(&value), &got) == OK && entry_bytes(&got, arena, &bytes) == OK)
		must(str_eq(bytes, all));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *arena = arena_new();
	struct str all = {(const char *)data, size};

	read_whatever(all, arena);
	if (size != 0) {
		hostile(all, arena);
		kept_and_read(all, arena);
	}
	arena_free(arena);
	return 0;
}
