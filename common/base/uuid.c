/* SPDX-License-Identifier: Apache-2.0 */
/* UUIDs of version 7 and 5, with the SHA-1 that version 5 asks for. SHA-1 guards nothing here: ids are not secrets. */
#include "base/uuid.h"
#include "base/str.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/random.h>

struct sha1 {
	uint32_t h[5];
	uint8_t block[64];
	uint64_t n; /* bytes so far */
};

static uint32_t rotl(uint32_t v, unsigned by)
{
	return v << by | v >> (32 - by);
}

static void sha1_block(struct sha1 *s)
{
	uint32_t w[80], a = s->h[0], b = s->h[1], c = s->h[2], d = s->h[3], e = s->h[4];

	for (size_t i = 0; i < 16; i++) {
		const uint8_t *p = s->block + i * 4;

		w[i] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
	}
	for (size_t i = 16; i < 80; i++)
		w[i] = rotl(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
	for (size_t i = 0; i < 80; i++) {
		uint32_t f, k, t;

		if (i < 20) {
			f = (b & c) | (~b & d);
			k = 0x5A827999;
		} else if (i < 40) {
			f = b ^ c ^ d;
			k = 0x6ED9EBA1;
		} else if (i < 60) {
			f = (b & c) | (b & d) | (c & d);
			k = 0x8F1BBCDC;
		} else {
			f = b ^ c ^ d;
			k = 0xCA62C1D6;
		}
		t = rotl(a, 5) + f + e + k + w[i];
		e = d;
		d = c;
		c = rotl(b, 30);
		b = a;
		a = t;
	}
	s->h[0] += a;
	s->h[1] += b;
	s->h[2] += c;
	s->h[3] += d;
	s->h[4] += e;
}

static void sha1_init(struct sha1 *s)
{
	*s = (struct sha1){.h = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0}};
}

static void sha1_put(struct sha1 *s, const void *bytes, size_t n)
{
	const uint8_t *p = bytes;

	while (n != 0) {
		size_t at = s->n % 64, part = 64 - at < n ? 64 - at : n;

		memcpy(s->block + at, p, part);
		s->n += part;
		p += part;
		n -= part;
		if (s->n % 64 == 0)
			sha1_block(s);
	}
}

static void sha1_end(struct sha1 *s, uint8_t to[20])
{
	static const uint8_t pad[64] = {0x80};
	uint64_t bits = s->n * 8;
	uint8_t length[8];

	sha1_put(s, pad, 1 + (119 - s->n % 64) % 64);
	for (size_t i = 0; i < 8; i++)
		length[i] = (uint8_t)(bits >> (56 - i * 8));
	sha1_put(s, length, 8);
	for (size_t i = 0; i < 20; i++)
		to[i] = (uint8_t)(s->h[i / 4] >> (24 - i % 4 * 8));
}

static struct uuid from_sha1(struct sha1 *s)
{
	uint8_t digest[20];
	struct uuid id;

	sha1_end(s, digest);
	memcpy(id.b, digest, 16);
	id.b[6] = (uint8_t)((id.b[6] & 0x0F) | 0x50);
	id.b[8] = (uint8_t)((id.b[8] & 0x3F) | 0x80);
	return id;
}

struct uuid uuid_v5(struct uuid space, struct str name)
{
	struct sha1 s;

	sha1_init(&s);
	sha1_put(&s, space.b, 16);
	sha1_put(&s, name.p, name.n);
	return from_sha1(&s);
}

struct uuid uuid_natural(struct uuid school, const char *entity, const struct str *parts, size_t n)
{
	struct sha1 s;

	sha1_init(&s);
	sha1_put(&s, school.b, 16);
	sha1_put(&s, entity, strlen(entity));
	for (size_t i = 0; i < n; i++) {
		sha1_put(&s, "\x1F", 1);
		sha1_put(&s, parts[i].p, parts[i].n);
	}
	return from_sha1(&s);
}

void random_bytes(void *to, size_t n)
{
	uint8_t *p = to;

	while (n != 0) {
		ssize_t got = getrandom(p, n, 0);

		if (got < 0) {
			if (errno == EINTR)
				continue;
			abort();
		}
		p += got;
		n -= (size_t)got;
	}
}

/* ---- random tails: fetched together, because a system call for each costs more than the rest of an id ---- */

static struct {
	atomic_flag busy;
	bool known_to_fork;
	size_t left;
	uint8_t bytes[256];
} spare = {.busy = ATOMIC_FLAG_INIT};

/* A forked child must not draw what its parent draws. */
static void spare_forget(void)
{
	spare.left = 0;
	atomic_flag_clear(&spare.busy);
}

static void random_tail(uint8_t to[8])
{
	if (atomic_flag_test_and_set_explicit(&spare.busy, memory_order_acquire)) {
		random_bytes(to, 8); /* another thread is at it: asking the kernel is faster than waiting */
		return;
	}
	if (!spare.known_to_fork)
		spare.known_to_fork = pthread_atfork(NULL, NULL, spare_forget) == 0;
	if (spare.left == 0) {
		random_bytes(spare.bytes, sizeof(spare.bytes));
		spare.left = sizeof(spare.bytes);
	}
	spare.left -= 8;
	memcpy(to, spare.bytes + spare.left, 8);
	memset(spare.bytes + spare.left, 0, 8);
	atomic_flag_clear_explicit(&spare.busy, memory_order_release);
}

/* RFC 9562 section 6.2, method 3: the 12 bits behind the milliseconds carry their fraction, and no value is given twice: 60 bits of
 * time that only grow. When the clock stands still or goes back the counter goes on by one and borrows from the time to come. */
struct uuid uuid_v7(int64_t now_us)
{
	static _Atomic uint64_t last;
	uint64_t us = now_us > 0 ? (uint64_t)now_us : 0;
	uint64_t tick = (us / 1000) << 12 | (us % 1000) * 4096 / 1000;
	uint64_t before = atomic_load_explicit(&last, memory_order_relaxed);
	uint64_t next;
	struct uuid id;

	do {
		next = tick > before ? tick : before + 1;
	} while (!atomic_compare_exchange_weak_explicit(&last, &before, next, memory_order_relaxed, memory_order_relaxed));

	for (size_t i = 0; i < 6; i++)
		id.b[i] = (uint8_t)(next >> (52 - i * 8));
	id.b[6] = (uint8_t)(0x70 | (next >> 8 & 0x0F));
	id.b[7] = (uint8_t)next;
	random_tail(id.b + 8);
	id.b[8] = (uint8_t)((id.b[8] & 0x3F) | 0x80);
	return id;
}

/* ---- text ---- */

/* Where the two digits of each byte stand. */
static const uint8_t text_at[16] = {0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34};

bool uuid_parse(struct str s, struct uuid *ret)
{
	const unsigned char *p = (const unsigned char *)s.p;
	struct uuid id;

	if (s.n != UUID_TEXT || p[8] != '-' || p[13] != '-' || p[18] != '-' || p[23] != '-')
		return false;
	for (size_t i = 0; i < 16; i++) {
		unsigned high = str_hex_plus_one[p[text_at[i]]], low = str_hex_plus_one[p[text_at[i] + 1]];

		if (high == 0 || low == 0)
			return false;
		id.b[i] = (uint8_t)((high - 1) << 4 | (low - 1));
	}
	*ret = id;
	return true;
}

void uuid_text(struct uuid id, char to[UUID_TEXT + 1])
{
	static const char hex[] = "0123456789abcdef";

	to[8] = to[13] = to[18] = to[23] = '-';
	for (size_t i = 0; i < 16; i++) {
		to[text_at[i]] = hex[id.b[i] >> 4];
		to[text_at[i] + 1] = hex[id.b[i] & 15];
	}
	to[UUID_TEXT] = '\0';
}
