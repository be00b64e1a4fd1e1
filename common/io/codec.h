/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The envelope of stored bytes (write-path.md 3): layout u8, dictionary u8 (0: none), CRC32C u32 little-endian of what follows, bytes.
 * The codec's number stands beside it (bits 2-7 of the buffer record's flags). Compressed only when that is smaller.
 */
#ifndef S24_IO_CODEC_H
#define S24_IO_CODEC_H

#include "base/buf.h"
#include "base/err.h"

enum codec { CODEC_RAW, CODEC_SNAPPY, CODEC_LZ4, CODEC_ZSTD, CODEC_COUNT };
#define CODEC_SIZE_MAX (4u << 20) /* declared size of what is unpacked, checked before allocating */

bool codec_parse(const char *name, enum codec *ret);
const char *codec_name(enum codec c);
/* Appends the envelope of `bytes` (at most CODEC_SIZE_MAX: more could not be opened again); returns the codec that was used (CODEC_RAW when the other would not be smaller). */
enum codec codec_seal(enum codec codec, uint8_t layout, struct str bytes, struct buf *out);
/* Checks and unpacks. ERR_CORRUPT: checksum, size, codec or dictionary unknown. Bytes are in the arena or point into `sealed`. */
MUST_CHECK enum err codec_open(enum codec codec, struct str sealed, struct arena *arena, uint8_t *ret_layout, struct str *ret_bytes);
#endif
