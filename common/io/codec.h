/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The envelope of stored bytes (write-path.md 3): layout u8, dictionary u8 (0: none), CRC32C u32 little-endian of what follows, bytes.
 * The codec's number stands beside it (bits 2-7 of the buffer record's flags). Compressed only when that is smaller.
 * A dictionary is zstd's alone, and belongs to whoever knows what the bytes are: the functions with _with take it, and hand nothing else on.
 */
#ifndef S24_IO_CODEC_H
#define S24_IO_CODEC_H

#include <stdatomic.h>

#include "base/buf.h"
#include "base/err.h"

enum codec { CODEC_RAW, CODEC_SNAPPY, CODEC_LZ4, CODEC_ZSTD, CODEC_COUNT };
#define CODEC_SIZE_MAX (4u << 20) /* declared size of what is unpacked, checked before allocating */

/* What zstd knows before it begins. Storage is the caller's, and lives as long as anybody seals or opens with it: fill in the first two. All threads
 * may use one at once. Its bytes are a trained dictionary whose own id is the number (so that a damaged number is seen), or any text. */
struct codec_dict {
	uint8_t number; /* 1-255 */
	struct str bytes;
	void *_Atomic pack, *_Atomic unpack; /* made from the bytes at the first use */
};
void codec_dict_done(struct codec_dict *d);

bool codec_parse(const char *name, enum codec *ret);
const char *codec_name(enum codec c);
/* Appends the envelope of `bytes` (at most CODEC_SIZE_MAX: more could not be opened again); returns the codec that was used (CODEC_RAW when the other would not be smaller). */
enum codec codec_seal(enum codec codec, uint8_t layout, struct str bytes, struct buf *out);
/* Checks and unpacks. ERR_CORRUPT: checksum, size, codec or dictionary unknown. Bytes are in the arena or point into `sealed`. */
MUST_CHECK enum err codec_open(enum codec codec, struct str sealed, struct arena *arena, uint8_t *ret_layout, struct str *ret_bytes);
/* The same with a dictionary; NULL: without. Another codec than zstd does not use it, and what stays raw does not name it. */
enum codec codec_seal_with(enum codec codec, struct codec_dict *dict, uint8_t layout, struct str bytes, struct buf *out);
uint8_t codec_dict_number(struct str sealed); /* which one codec_open_with wants; 0: none */
/* The same with the dictionary of that number; NULL: it is not known here. ERR_CONFLICT: it is needed (whoever was deployed before us has it: wait). */
MUST_CHECK enum err codec_open_with(enum codec codec, struct codec_dict *dict, struct str sealed, struct arena *arena, uint8_t *ret_layout, struct str *ret_bytes);
#endif
