/* SPDX-License-Identifier: Apache-2.0 */
/* Slices of text: comparing, splitting, numbers, UTF-8. */
#include "base/str.h"

static unsigned char fold(char c)
{
	unsigned char u = (unsigned char)c;

	return u >= 'A' && u <= 'Z' ? (unsigned char)(u + ('a' - 'A')) : u;
}

bool str_ieq(struct str a, struct str b)
{
	if (a.n != b.n)
		return false;
	for (size_t i = 0; i < a.n; i++) {
		if (fold(a.p[i]) != fold(b.p[i]))
			return false;
	}
	return true;
}

bool str_has_prefix(struct str s, struct str prefix)
{
	return s.n >= prefix.n && (prefix.n == 0 || memcmp(s.p, prefix.p, prefix.n) == 0);
}

static bool is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

struct str str_trim(struct str s)
{
	while (s.n > 0 && is_space(s.p[0])) {
		s.p++;
		s.n--;
	}
	while (s.n > 0 && is_space(s.p[s.n - 1]))
		s.n--;
	return s;
}

struct str str_split(struct str *rest, char sep)
{
	struct str part = *rest;
	const char *at = rest->n != 0 ? memchr(rest->p, sep, rest->n) : NULL;

	if (at == NULL) {
		*rest = (struct str){NULL, 0};
		return part;
	}
	part.n = (size_t)(at - part.p);
	*rest = (struct str){at + 1, rest->n - part.n - 1};
	return part;
}

bool str_to_i64(struct str s, int64_t *ret_v)
{
	bool negative = s.n > 0 && s.p[0] == '-';
	int64_t v = 0;

	if (s.n == (negative ? 1U : 0U))
		return false;
	/* Counts downwards, because there is one negative number more than positive ones. */
	for (size_t i = negative ? 1 : 0; i < s.n; i++) {
		int digit = s.p[i] - '0';

		if (digit < 0 || digit > 9)
			return false;
		if (__builtin_mul_overflow(v, 10, &v) || __builtin_sub_overflow(v, digit, &v))
			return false;
	}
	if (!negative && __builtin_sub_overflow(0, v, &v))
		return false;
	*ret_v = v;
	return true;
}

/* Table 3-7 of the Unicode standard: the second byte's range depends on the first, all others are 80..BF. */
size_t str_utf8_step(struct str s, bool *ret_ok)
{
	const unsigned char *p = (const unsigned char *)s.p;
	unsigned char low = 0x80, high = 0xBF;
	size_t want, n;

	*ret_ok = false;
	if (p[0] < 0x80) {
		*ret_ok = true;
		return 1;
	}
	if (p[0] < 0xC2 || p[0] > 0xF4)
		return 1;
	if (p[0] < 0xE0) {
		want = 2;
	} else if (p[0] < 0xF0) {
		want = 3;
		if (p[0] == 0xE0)
			low = 0xA0;
		else if (p[0] == 0xED)
			high = 0x9F;
	} else {
		want = 4;
		if (p[0] == 0xF0)
			low = 0x90;
		else if (p[0] == 0xF4)
			high = 0x8F;
	}
	for (n = 1; n < want && n < s.n; n++) {
		if (p[n] < low || p[n] > high)
			return n;
		low = 0x80;
		high = 0xBF;
	}
	*ret_ok = n == want;
	return n;
}

/* How many bytes at the start are ASCII and not NUL, eight at a time. */
static size_t ascii_run(struct str s)
{
	size_t i = 0;

	for (; i + 8 <= s.n; i += 8) {
		uint64_t w;

		memcpy(&w, s.p + i, 8);
		/* The subtraction borrows into a byte's top bit only where a byte is zero, or behind one. */
		if (((w | (w - UINT64_C(0x0101010101010101))) & UINT64_C(0x8080808080808080)) != 0)
			break;
	}
	while (i < s.n && s.p[i] != '\0' && (unsigned char)s.p[i] < 0x80)
		i++;
	return i;
}

bool str_is_utf8(struct str s)
{
	size_t i = 0;

	while (i < s.n) {
		bool ok;

		i += ascii_run((struct str){s.p + i, s.n - i});
		if (i == s.n)
			break;
		if (s.p[i] == '\0')
			return false;
		i += str_utf8_step((struct str){s.p + i, s.n - i}, &ok);
		if (!ok)
			return false;
	}
	return true;
}

size_t str_utf8_len(struct str s)
{
	size_t n = 0;

	for (size_t i = 0; i < s.n; i++)
		n += ((unsigned char)s.p[i] & 0xC0) != 0x80;
	return n;
}

const uint8_t str_hex_plus_one[256] = {
	['0'] = 1,  ['1'] = 2,  ['2'] = 3,  ['3'] = 4,  ['4'] = 5,  ['5'] = 6,  ['6'] = 7,  ['7'] = 8,
	['8'] = 9,  ['9'] = 10, ['a'] = 11, ['b'] = 12, ['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16,
	['A'] = 11, ['B'] = 12, ['C'] = 13, ['D'] = 14, ['E'] = 15, ['F'] = 16,
};

bool str_percent_decode(char *to, struct str s, bool plus_is_space, size_t *ret_n)
{
	size_t n = 0;

	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];

		if (c == '%') {
			unsigned high, low;

			if (s.n - i < 3)
				return false;
			high = str_hex_plus_one[(unsigned char)s.p[i + 1]];
			low = str_hex_plus_one[(unsigned char)s.p[i + 2]];
			if (high == 0 || low == 0)
				return false;
			c = (char)((high - 1) << 4 | (low - 1));
			i += 2;
		} else if (c == '+' && plus_is_space) {
			c = ' ';
		}
		if (c == '\0')
			return false;
		to[n++] = c;
	}
	*ret_n = n;
	return true;
}

static uint64_t rotl(uint64_t v, unsigned by)
{
	return v << by | v >> (64 - by);
}

struct sip {
	uint64_t a, b, c, d;
};

/* Inlined by force, so that the state stays in registers: that is a third of a hash's time. */
static inline __attribute__((always_inline)) void sip_round(struct sip *v)
{
	v->a += v->b;
	v->b = rotl(v->b, 13) ^ v->a;
	v->a = rotl(v->a, 32);
	v->c += v->d;
	v->d = rotl(v->d, 16) ^ v->c;
	v->a += v->d;
	v->d = rotl(v->d, 21) ^ v->a;
	v->c += v->b;
	v->b = rotl(v->b, 17) ^ v->c;
	v->c = rotl(v->c, 32);
}

/* SipHash-1-3, so that a client who chooses keys cannot choose collisions as long as the seed is random. */
uint64_t str_hash(struct str s, uint64_t seed)
{
	uint64_t k1 = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
	struct sip v = {seed ^ UINT64_C(0x736F6D6570736575), k1 ^ UINT64_C(0x646F72616E646F6D),
			seed ^ UINT64_C(0x6C7967656E657261), k1 ^ UINT64_C(0x7465646279746573)};
	uint64_t last = (uint64_t)s.n << 56;
	size_t i = 0;

	for (; i + 8 <= s.n; i += 8) {
		uint64_t w;

		memcpy(&w, s.p + i, 8);
		v.d ^= w;
		sip_round(&v);
		v.a ^= w;
	}
	for (unsigned shift = 0; i < s.n; i++, shift += 8)
		last |= (uint64_t)(unsigned char)s.p[i] << shift;
	v.d ^= last;
	sip_round(&v);
	v.a ^= last;
	v.c ^= 0xFF;
	sip_round(&v);
	sip_round(&v);
	sip_round(&v);
	return v.a ^ v.b ^ v.c ^ v.d;
}

bool str_eq_secret(struct str a, struct str b)
{
	/* volatile, so that the compiler does not leave the loop at the first difference */
	volatile unsigned char diff = 0;

	if (a.n != b.n)
		return false;
	for (size_t i = 0; i < a.n; i++)
		diff = (unsigned char)(diff | (unsigned char)(a.p[i] ^ b.p[i]));
	return diff == 0;
}
