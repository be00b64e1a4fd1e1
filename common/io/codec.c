/* SPDX-License-Identifier: Apache-2.0 */
/* The envelope of stored bytes: checksum, compression where it helps, and every declared size checked before room is made for it. */
#include "io/codec.h"

#include <lz4.h>
#include <snappy-c.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "base/crc32c.h"
#include "base/str.h"

enum {
	HEAD = 6,     /* layout, dictionary, checksum */
	LZ4_HEAD = 4, /* a block of LZ4 does not say how long it becomes: u32 little-endian before it */
	ZSTD_LEVEL = 1,
	ZSTD_DICT_LEVEL = 3, /* its tables are made once, not for each record */
	SNAPPY_RATIO = 32,   /* above the most that one byte can become */
	LZ4_RATIO = 256,
	IDLE_MAX = 16,                      /* contexts kept; the worker has ten threads */
	SEALED_MAX = HEAD + CODEC_SIZE_MAX, /* what does not become smaller is stored raw */
};

static const char *const names[CODEC_COUNT] = {"raw", "snappy", "lz4", "zstd"};

bool codec_parse(const char *name, enum codec *ret)
{
	for (size_t i = 0; i < CODEC_COUNT; i++) {
		if (strcmp(name, names[i]) == 0) {
			*ret = (enum codec)i;
			return true;
		}
	}
	return false;
}

const char *codec_name(enum codec c)
{
	return (unsigned)c < CODEC_COUNT ? names[c] : "?";
}

static void put_u32(char *to, uint32_t v)
{
	for (unsigned i = 0; i < 4; i++)
		to[i] = (char)(v >> (8 * i));
}

static uint32_t get_u32(const char *from)
{
	uint32_t v = 0;

	for (unsigned i = 0; i < 4; i++)
		v |= (uint32_t)(uint8_t)from[i] << (8 * i);
	return v;
}

/* ---- zstd's contexts and dictionaries ---- */

/* A context costs more to make than a record to pack, and nobody who seals or opens has a place to keep one: a fiber, a thread of the worker and a
 * test call the same functions. So what is idle waits here; whoever takes one has it alone until it is given back. */
static void *_Atomic idle_packers[IDLE_MAX], *_Atomic idle_unpackers[IDLE_MAX];

static void *take(void *_Atomic *idle)
{
	for (size_t i = 0; i < IDLE_MAX; i++) {
		void *one = atomic_load(&idle[i]) ? atomic_exchange(&idle[i], NULL) : NULL;

		if (one)
			return one;
	}
	return NULL;
}

static bool give_back(void *_Atomic *idle, void *one)
{
	for (size_t i = 0; i < IDLE_MAX; i++) {
		void *none = NULL;

		if (atomic_compare_exchange_strong(&idle[i], &none, one))
			return true;
	}
	return false;
}

/* Without memory, or with a dictionary of ours that is none: as any small allocation. */
static void *must_be(void *made)
{
	if (!made)
		abort();
	return made;
}

static ZSTD_CCtx *packer_take(void)
{
	void *idle = take(idle_packers);

	return idle ? idle : must_be(ZSTD_createCCtx());
}

static void packer_give_back(ZSTD_CCtx *c)
{
	if (!give_back(idle_packers, c))
		ZSTD_freeCCtx(c);
}

static ZSTD_DCtx *unpacker_take(void)
{
	void *idle = take(idle_unpackers);

	return idle ? idle : must_be(ZSTD_createDCtx());
}

static void unpacker_give_back(ZSTD_DCtx *d)
{
	if (!give_back(idle_unpackers, d))
		ZSTD_freeDCtx(d);
}

/* Two threads may make it at the same time: the second one's is thrown away. */
static const ZSTD_CDict *dict_packing(struct codec_dict *d)
{
	void *theirs = atomic_load(&d->pack), *mine;

	if (theirs)
		return theirs;
	mine = must_be(ZSTD_createCDict(d->bytes.p, d->bytes.n, ZSTD_DICT_LEVEL));
	if (atomic_compare_exchange_strong(&d->pack, &theirs, mine))
		return mine;
	ZSTD_freeCDict(mine);
	return theirs;
}

static const ZSTD_DDict *dict_unpacking(struct codec_dict *d)
{
	void *theirs = atomic_load(&d->unpack), *mine;

	if (theirs)
		return theirs;
	mine = must_be(ZSTD_createDDict(d->bytes.p, d->bytes.n));
	if (atomic_compare_exchange_strong(&d->unpack, &theirs, mine))
		return mine;
	ZSTD_freeDDict(mine);
	return theirs;
}

void codec_dict_done(struct codec_dict *d)
{
	ZSTD_freeCDict(atomic_exchange(&d->pack, NULL));
	ZSTD_freeDDict(atomic_exchange(&d->unpack, NULL));
}

/* ---- packing ---- */

/* Bytes of room that a codec wants for the worst case; 0: no compression. */
static size_t room_for(enum codec codec, size_t n)
{
	switch (codec) {
	case CODEC_SNAPPY:
		return snappy_max_compressed_length(n);
	case CODEC_LZ4:
		return LZ4_HEAD + (size_t)LZ4_compressBound((int)n);
	case CODEC_ZSTD:
		return ZSTD_compressBound(n);
	case CODEC_RAW:
	case CODEC_COUNT:
		break;
	}
	return 0;
}

static size_t compress_zstd(struct codec_dict *dict, struct str bytes, char *to, size_t room)
{
	ZSTD_CCtx *c = packer_take();
	size_t n = dict ? ZSTD_compress_usingCDict(c, to, room, bytes.p, bytes.n, dict_packing(dict))
			: ZSTD_compressCCtx(c, to, room, bytes.p, bytes.n, ZSTD_LEVEL);

	packer_give_back(c);
	return ZSTD_isError(n) ? 0 : n;
}

/* Returns the length, 0: the codec failed, which means that the bytes stay as they are. */
static size_t compress_to(enum codec codec, struct codec_dict *dict, struct str bytes, char *to, size_t room)
{
	size_t n = room;
	int lz4_n;

	switch (codec) {
	case CODEC_SNAPPY:
		return snappy_compress(bytes.p, bytes.n, to, &n) == SNAPPY_OK ? n : 0;
	case CODEC_LZ4:
		put_u32(to, (uint32_t)bytes.n);
		lz4_n = LZ4_compress_default(bytes.p, to + LZ4_HEAD, (int)bytes.n, (int)(room - LZ4_HEAD));
		return lz4_n > 0 ? LZ4_HEAD + (size_t)lz4_n : 0;
	case CODEC_ZSTD:
		return compress_zstd(dict, bytes, to, room);
	case CODEC_RAW:
	case CODEC_COUNT:
		break;
	}
	return 0;
}

enum codec codec_seal_with(enum codec codec, struct codec_dict *dict, uint8_t layout, struct str bytes, struct buf *out)
{
	size_t room = bytes.n != 0 && bytes.n <= CODEC_SIZE_MAX ? room_for(codec, bytes.n) : 0, n = 0;
	char *head = buf_room(out, HEAD + (room > bytes.n ? room : bytes.n)), *body = head + HEAD;

	if (room != 0)
		n = compress_to(codec, dict, bytes, body, room);
	if (n == 0 || n >= bytes.n) {
		codec = CODEC_RAW;
		n = bytes.n;
		if (n != 0)
			memcpy(body, bytes.p, n);
	}
	head[0] = (char)layout;
	head[1] = (char)(codec == CODEC_ZSTD && dict ? dict->number : 0);
	put_u32(head + 2, crc32c(0, body, n));
	out->n += HEAD + n;
	return codec;
}

enum codec codec_seal(enum codec codec, uint8_t layout, struct str bytes, struct buf *out)
{
	return codec_seal_with(codec, NULL, layout, bytes, out);
}

/* ---- unpacking ---- */

uint8_t codec_dict_number(struct str sealed)
{
	return sealed.n >= HEAD ? (uint8_t)sealed.p[1] : 0;
}

static bool open_snappy(struct str packed, struct arena *arena, struct str *ret)
{
	size_t n;
	char *to;

	if (snappy_uncompressed_length(packed.p, packed.n, &n) != SNAPPY_OK || n > CODEC_SIZE_MAX || n > packed.n * SNAPPY_RATIO)
		return false;
	to = arena_alloc(arena, n);
	if (snappy_uncompress(packed.p, packed.n, to, &n) != SNAPPY_OK)
		return false;
	*ret = (struct str){to, n};
	return true;
}

static bool open_lz4(struct str packed, struct arena *arena, struct str *ret)
{
	size_t n;
	char *to;

	if (packed.n <= LZ4_HEAD)
		return false;
	n = get_u32(packed.p);
	packed = (struct str){packed.p + LZ4_HEAD, packed.n - LZ4_HEAD};
	if (n > CODEC_SIZE_MAX || n > packed.n * LZ4_RATIO)
		return false;
	to = arena_alloc(arena, n);
	if (LZ4_decompress_safe(packed.p, to, (int)packed.n, (int)n) != (int)n)
		return false;
	*ret = (struct str){to, n};
	return true;
}

/* The frame names its dictionary too: the number before it is not covered by the checksum, and another dictionary would give other bytes. */
static bool open_zstd(struct codec_dict *dict, struct str packed, struct arena *arena, struct str *ret)
{
	unsigned long long n = ZSTD_getFrameContentSize(packed.p, packed.n);
	const ZSTD_DDict *with = dict ? dict_unpacking(dict) : NULL;
	ZSTD_DCtx *d;
	size_t got;
	char *to;

	/* The two error values are far above the limit. One frame only: a second one would have a size that nobody looked at. */
	if (n > CODEC_SIZE_MAX || ZSTD_findFrameCompressedSize(packed.p, packed.n) != packed.n)
		return false;
	if (ZSTD_getDictID_fromFrame(packed.p, packed.n) != (with ? ZSTD_getDictID_fromDDict(with) : 0))
		return false;
	to = arena_alloc(arena, (size_t)n);
	d = unpacker_take();
	got = with ? ZSTD_decompress_usingDDict(d, to, (size_t)n, packed.p, packed.n, with)
		   : ZSTD_decompressDCtx(d, to, (size_t)n, packed.p, packed.n);
	unpacker_give_back(d);
	if (got != n)
		return false;
	*ret = (struct str){to, (size_t)n};
	return true;
}

enum err codec_open_with(enum codec codec, struct codec_dict *dict, struct str sealed, struct arena *arena, uint8_t *ret_layout,
			 struct str *ret_bytes)
{
	struct str body, bytes;
	uint8_t number = codec_dict_number(sealed);
	bool ok = false;

	if (sealed.n < HEAD || sealed.n > SEALED_MAX || (number != 0 && codec != CODEC_ZSTD))
		return ERR_CORRUPT;
	body = (struct str){sealed.p + HEAD, sealed.n - HEAD};
	if (crc32c(0, body.p, body.n) != get_u32(sealed.p + 2))
		return ERR_CORRUPT;
	if (number == 0)
		dict = NULL;
	else if (!dict || dict->number != number)
		return ERR_CONFLICT;
	bytes = body;
	switch (codec) {
	case CODEC_RAW:
		ok = body.n <= CODEC_SIZE_MAX;
		break;
	case CODEC_SNAPPY:
		ok = open_snappy(body, arena, &bytes);
		break;
	case CODEC_LZ4:
		ok = open_lz4(body, arena, &bytes);
		break;
	case CODEC_ZSTD:
		ok = open_zstd(dict, body, arena, &bytes);
		break;
	case CODEC_COUNT:
		break;
	}
	if (!ok)
		return ERR_CORRUPT;
	*ret_layout = (uint8_t)sealed.p[0];
	*ret_bytes = bytes;
	return OK;
}

enum err codec_open(enum codec codec, struct str sealed, struct arena *arena, uint8_t *ret_layout, struct str *ret_bytes)
{
	enum err e = codec_open_with(codec, NULL, sealed, arena, ret_layout, ret_bytes);

	return e == ERR_CONFLICT ? ERR_CORRUPT : e; /* no dictionary was spoken of: nothing to wait for */
}
