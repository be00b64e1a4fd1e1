/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lexer under json_in.c, form.c and json_out.c; for common/base alone.
 *
 * Strict RFC 8259 over a slice that need not be terminated; nothing is copied and nothing behind `end` is read. A function that
 * returns false leaves `p` where the text stops being JSON.
 */
#ifndef S24_BASE_JSON_SCAN_H
#define S24_BASE_JSON_SCAN_H

#include "base/schema.h"

#if defined(__SSE2__) && !defined(S24_PORTABLE)
#include <emmintrin.h>
#define JSON_SCAN_SSE2 1
#else
#define JSON_SCAN_SSE2 0
#endif

struct json_scan {
	const char *p, *end;
	bool unfit; /* an escape gave U+0000 or half of a surrogate pair: JSON, but no text that we store; the reader clears it */
	bool deep;  /* why a scan failed, when it was the depth */
};

struct json_text {
	struct str raw; /* between the quotes */
	bool escaped;   /* needs json_unescape */
	bool ascii;
};

struct json_number {
	struct str text;
	bool whole; /* neither fraction nor exponent */
};

static inline struct json_scan json_scan_of(struct str text)
{
	return (struct json_scan){.p = text.p, .end = text.n != 0 ? text.p + text.n : text.p};
}

/* `p` is behind the opening quote, and then behind the closing one. */
bool json_scan_string(struct json_scan *s, struct json_text *ret_text);
bool json_scan_number(struct json_scan *s, struct json_number *ret_number);
bool json_scan_literal(struct json_scan *s, const char *word);
/* Any value; `depth` is how many arrays and objects are open around it. */
bool json_scan_value(struct json_scan *s, unsigned depth);
/* Text of a string that json_scan_string took; `to` has room for raw.n bytes. Returns the length. */
size_t json_unescape(char *to, struct str raw);

/* Length of the well-formed UTF-8 sequence at p (its first byte is ≥ 0x80), 0: none. */
static inline size_t json_utf8_step(const char *at, const char *end)
{
	const unsigned char *p = (const unsigned char *)at;
	size_t n = (size_t)(end - at);

	if (p[0] < 0xe0)
		return p[0] >= 0xc2 && n >= 2 && (p[1] & 0xc0) == 0x80 ? 2 : 0;
	if (p[0] < 0xf0) {
		if (n < 3 || (p[1] & 0xc0) != 0x80 || (p[2] & 0xc0) != 0x80)
			return 0;
		return (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ? 0 : 3;
	}
	if (p[0] > 0xf4 || n < 4 || (p[1] & 0xc0) != 0x80 || (p[2] & 0xc0) != 0x80 || (p[3] & 0xc0) != 0x80)
		return 0;
	return (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f) ? 0 : 4;
}

/* The first byte that a string cannot take as it is: quote, backslash, control, or not ASCII; or `end`. */
static inline const char *json_plain_end(const char *p, const char *end)
{
#if JSON_SCAN_SSE2
	const __m128i space = _mm_set1_epi8(0x20), quote = _mm_set1_epi8('"'), slash = _mm_set1_epi8('\\');

	while (end - p >= 16) {
		__m128i x = _mm_loadu_si128((const __m128i *)(const void *)p);
		/* The comparison is signed, so bytes from 0x80 on are below the space too. */
		__m128i odd = _mm_or_si128(_mm_cmplt_epi8(x, space),
					   _mm_or_si128(_mm_cmpeq_epi8(x, quote), _mm_cmpeq_epi8(x, slash)));
		unsigned hits = (unsigned)_mm_movemask_epi8(odd);

		if (hits != 0)
			return p + __builtin_ctz(hits);
		p += 16;
	}
#endif
	while (p < end && (unsigned char)(*p - 0x20) < 0x60 && *p != '"' && *p != '\\')
		p++;
	return p;
}

/* The next byte behind white space, not consumed; 0 at the end (and for a NUL, which no caller accepts). */
static inline char json_peek(struct json_scan *s)
{
	while (s->p < s->end) {
		if ((unsigned char)*s->p > ' ' || (*s->p != ' ' && *s->p != '\n' && *s->p != '\t' && *s->p != '\r'))
			return *s->p;
		s->p++;
	}
	return 0;
}

/* Nothing but white space is left. */
static inline bool json_at_end(struct json_scan *s)
{
	return json_peek(s) == 0 && s->p == s->end;
}

#endif
