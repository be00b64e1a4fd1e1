/* SPDX-License-Identifier: Apache-2.0 */
/* An entry's bytes: what is known of it in front, then its content, sealed. One value, so nothing of it can be missing. */
#include <string.h>

#include "base/crc32c.h"
#include "base/str.h"
#include "cache/cache_internal.h"

#define VERSION 1
#define HEAD 40 /* up to the tags */

static void put_u32(struct buf *b, uint32_t v)
{
	uint8_t bytes[4] = {(uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24)};

	buf_put(b, bytes, sizeof(bytes));
}

static void put_u64(struct buf *b, uint64_t v)
{
	put_u32(b, (uint32_t)v);
	put_u32(b, (uint32_t)(v >> 32));
}

static uint32_t get_u32(const char *p)
{
	const uint8_t *b = (const uint8_t *)p;

	return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static uint64_t get_u64(const char *p)
{
	return get_u32(p) | (uint64_t)get_u32(p + 4) << 32;
}

uint64_t entry_tag_hash(struct str epoch_key)
{
	return str_hash(epoch_key, UINT64_C(0x7a95));
}

void entry_write(struct entry *e, enum codec codec, struct str bytes, struct buf *out)
{
	struct buf sealed = {.arena = out->arena};
	size_t from = out->n;
	char *p;

	e->size = (uint32_t)bytes.n;
	e->codec = CODEC_RAW;
	if (bytes.n <= CODEC_SIZE_MAX) {
		e->codec = codec_seal(codec, VERSION, bytes, &sealed);
	} else {
		put_u32(&sealed, crc32c(0, bytes.p, bytes.n));
		buf_puts(&sealed, bytes);
	}
	p = buf_room(out, 4);
	p[0] = VERSION;
	p[1] = (char)e->codec;
	p[2] = (char)e->flags;
	p[3] = (char)e->n_tags;
	out->n += 4;
	put_u32(out, e->size);
	put_u64(out, (uint64_t)e->written_us);
	put_u64(out, (uint64_t)e->soft_us);
	put_u64(out, (uint64_t)e->fresh_until_us);
	put_u64(out, (uint64_t)e->end_us);
	for (size_t i = 0; i < e->n_tags; i++) {
		put_u64(out, e->tags[i]);
		put_u64(out, (uint64_t)e->epochs[i]);
	}
	put_u32(out, crc32c(0, out->p + from, out->n - from));
	buf_puts(out, buf_str(&sealed));
	if (!out->arena)
		buf_done(&sealed);
}

enum err entry_read(struct str value, struct entry *ret)
{
	struct entry e = {0};
	size_t head;

	if (value.n < HEAD + 4 || value.p[0] != VERSION)
		return ERR_CORRUPT;
	e.codec = (enum codec)(uint8_t)value.p[1];
	e.flags = (uint8_t)value.p[2];
	e.n_tags = (uint8_t)value.p[3];
	head = HEAD + 16 * e.n_tags;
	if (e.n_tags > CACHE_TAGS_MAX || value.n < head + 4 || get_u32(value.p + head) != crc32c(0, value.p, head))
		return ERR_CORRUPT;
	e.size = get_u32(value.p + 4);
	e.written_us = (int64_t)get_u64(value.p + 8);
	e.soft_us = (int64_t)get_u64(value.p + 16);
	e.fresh_until_us = (int64_t)get_u64(value.p + 24);
	e.end_us = (int64_t)get_u64(value.p + 32);
	for (size_t i = 0; i < e.n_tags; i++) {
		e.tags[i] = get_u64(value.p + HEAD + 16 * i);
		e.epochs[i] = (int64_t)get_u64(value.p + HEAD + 16 * i + 8);
	}
	e.sealed = (struct str){value.p + head + 4, value.n - head - 4};
	*ret = e;
	return OK;
}

enum err entry_bytes(const struct entry *e, struct arena *arena, struct str *ret)
{
	uint8_t layout;
	enum err err;

	if (e->size > CACHE_ENTRY_MAX)
		return ERR_CORRUPT;
	if (e->size > CODEC_SIZE_MAX) {
		struct str bytes = {e->sealed.p + 4, e->sealed.n - 4};

		if (e->sealed.n < 4 || bytes.n != e->size || get_u32(e->sealed.p) != crc32c(0, bytes.p, bytes.n))
			return ERR_CORRUPT;
		*ret = bytes;
		return OK;
	}
	err = codec_open(e->codec, e->sealed, arena, &layout, ret);
	return err == OK && (layout != VERSION || ret->n != e->size) ? ERR_CORRUPT : err;
}
