/* SPDX-License-Identifier: Apache-2.0 */
/* A growing byte buffer and its writers. */
#include "base/buf.h"

#include <stdio.h>
#include <stdlib.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "base/str.h"
#include "base/uuid.h"

enum { FIRST_SIZE = 240 };

void buf_done(struct buf *b)
{
	if (b->arena == NULL)
		free(b->p);
	*b = (struct buf){0};
}

void buf_grow(struct buf *b, size_t more)
{
	size_t need, cap;

	if (b->cap - b->n >= more && b->p != NULL)
		return;
	if (__builtin_add_overflow(b->n, more, &need) || need > SIZE_MAX / 4)
		abort();
	cap = b->cap * 2;
	if (cap < FIRST_SIZE)
		cap = FIRST_SIZE;
	if (cap < need)
		cap = need;
	b->p = b->arena != NULL ? arena_regrow(b->arena, b->p, b->cap, cap) : mem_realloc(b->p, cap);
	b->cap = cap;
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap, again;
	size_t room;
	int n;

	va_start(ap, fmt);
	va_copy(again, ap);
	room = b->cap - b->n;
	n = vsnprintf(b->p != NULL ? b->p + b->n : NULL, b->p != NULL ? room : 0, fmt, ap);
	va_end(ap);
	if (n < 0)
		abort(); /* a broken format is our own mistake */
	if ((size_t)n >= room) {
		buf_grow(b, (size_t)n + 1);
		if (vsnprintf(b->p + b->n, (size_t)n + 1, fmt, again) != n)
			abort();
	}
	va_end(again);
	b->n += (size_t)n;
}

char *buf_cstr(struct buf *b)
{
	*buf_room(b, 1) = '\0';
	return b->p;
}

void buf_put_i64(struct buf *b, int64_t v)
{
	char text[20];
	size_t at = sizeof(text);
	uint64_t left = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;

	do {
		text[--at] = (char)('0' + left % 10);
		left /= 10;
	} while (left != 0);
	if (v < 0)
		text[--at] = '-';
	buf_put(b, text + at, sizeof(text) - at);
}

void buf_put_varint(struct buf *b, uint64_t v)
{
	char *p = buf_room(b, 10);
	size_t n = 0;

	for (; v >= 0x80; v >>= 7)
		p[n++] = (char)(v | 0x80);
	p[n++] = (char)v;
	b->n += n;
}

void buf_put_uuid(struct buf *b, struct uuid id)
{
	uuid_text(id, buf_room(b, UUID_TEXT + 1));
	b->n += UUID_TEXT;
}

/* May the byte stand in a JSON string as it is, without looking at its neighbours? */
static bool is_plain(char c)
{
	return (unsigned char)c >= 0x20 && (unsigned char)c < 0x80 && c != '"' && c != '\\';
}

/* How many bytes at the start are plain: text is mostly one long run of them. */
static size_t plain_run(struct str s)
{
	size_t i = 0;

#ifdef __SSE2__
	const __m128i quote = _mm_set1_epi8('"'), backslash = _mm_set1_epi8('\\'), space = _mm_set1_epi8(0x20);

	for (; i + 16 <= s.n; i += 16) {
		__m128i v = _mm_loadu_si128((const __m128i *)(const void *)(s.p + i));
		/* Signed comparison: bytes from 0x80 on are negative, so they are below the space like the controls. */
		__m128i stop = _mm_or_si128(_mm_cmplt_epi8(v, space),
					    _mm_or_si128(_mm_cmpeq_epi8(v, quote), _mm_cmpeq_epi8(v, backslash)));
		int mask = _mm_movemask_epi8(stop);

		if (mask != 0)
			return i + (size_t)__builtin_ctz((unsigned)mask);
	}
#endif
	while (i < s.n && is_plain(s.p[i]))
		i++;
	return i;
}

static void put_escape(struct buf *b, unsigned char c)
{
	static const char hex[] = "0123456789abcdef";
	static const char letters[0x20] = {['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', ['\f'] = 'f', ['\r'] = 'r'};
	char *p = buf_room(b, 6);

	p[0] = '\\';
	if (c >= 0x20 || letters[c] != '\0') {
		p[1] = c >= 0x20 ? (char)c : letters[c];
		b->n += 2;
		return;
	}
	memcpy(p + 1, "u00", 3);
	p[4] = hex[c >> 4];
	p[5] = hex[c & 15];
	b->n += 6;
}

void buf_put_json(struct buf *b, struct str s)
{
	buf_grow(b, s.n + 2);
	buf_putc(b, '"');
	while (s.n != 0) {
		size_t run = plain_run(s);

		/* Well-formed sequences belong to the run, so text in any script is copied in few pieces. */
		while (run < s.n && (unsigned char)s.p[run] >= 0x80) {
			bool ok;
			size_t n = str_utf8_step((struct str){s.p + run, s.n - run}, &ok);

			if (!ok)
				break;
			run += n;
			if (run < s.n && is_plain(s.p[run]))
				run += plain_run((struct str){s.p + run, s.n - run});
		}
		buf_put(b, s.p, run);
		s.p += run;
		s.n -= run;
		if (s.n == 0)
			break;
		if ((unsigned char)s.p[0] < 0x80) {
			put_escape(b, (unsigned char)s.p[0]);
			run = 1;
		} else {
			bool ok;

			run = str_utf8_step(s, &ok);
			buf_put(b, "\xEF\xBF\xBD", 3);
		}
		s.p += run;
		s.n -= run;
	}
	buf_putc(b, '"');
}
