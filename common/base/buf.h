/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A growing byte buffer, and the writers that every format needs.
 *
 * `struct buf b = {0};` is a valid empty heap buffer (buf_done frees it). With .arena set it grows inside that arena and is never
 * freed by itself. Appending never fails (see arena.h on memory). The bytes are not terminated; buf_cstr terminates them.
 */
#ifndef S24_BASE_BUF_H
#define S24_BASE_BUF_H

#include <string.h>

#include "base/arena.h"

struct buf {
	char *p;
	size_t n, cap;
	struct arena *arena;
};

static inline struct buf buf_in(struct arena *arena)
{
	return (struct buf){.arena = arena};
}

void buf_done(struct buf *b);                       /* frees a heap buffer and zeroes it */
void buf_grow(struct buf *b, size_t more);          /* room for `more` bytes behind n */
void buf_printf(struct buf *b, const char *fmt, ...) PRINTF(2, 3);
char *buf_cstr(struct buf *b) NEVER_NULL;           /* puts a NUL behind the bytes (not counted) */
void buf_put_i64(struct buf *b, int64_t v);         /* decimal */
void buf_put_json(struct buf *b, struct str s);     /* quoted and escaped; invalid UTF-8 becomes U+FFFD */
void buf_put_uuid(struct buf *b, struct uuid id);   /* 36 characters */
void buf_put_varint(struct buf *b, uint64_t v);     /* LEB128 */

static inline char *buf_room(struct buf *b, size_t more)
{
	if (b->cap - b->n < more)
		buf_grow(b, more);
	return b->p + b->n;
}

static inline void buf_put(struct buf *b, const void *p, size_t n)
{
	if (n != 0)
		memcpy(buf_room(b, n), p, n);
	b->n += n;
}

static inline void buf_puts(struct buf *b, struct str s)
{
	buf_put(b, s.p, s.n);
}

static inline void buf_putc(struct buf *b, char c)
{
	*buf_room(b, 1) = c;
	b->n++;
}

static inline struct str buf_str(const struct buf *b)
{
	return (struct str){b->p, b->n};
}

#endif
