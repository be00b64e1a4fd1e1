/* SPDX-License-Identifier: Apache-2.0 */
/* UUIDs (RFC 9562): version 7 for new rows, version 5 for natural ids and idempotency keys. Canonical text is lower case. */
#ifndef S24_BASE_UUID_H
#define S24_BASE_UUID_H

#include <string.h>

#include "base/defs.h"

#define UUID_TEXT 36

struct uuid uuid_v7(int64_t now_us); /* ordered within this process even inside one millisecond */
struct uuid uuid_v5(struct uuid space, struct str name); /* SHA-1, own implementation free of libraries */
/* Natural id (domain.md): v5 in the school's namespace over entity and key parts joined by U+001F. */
struct uuid uuid_natural(struct uuid school, const char *entity, const struct str *parts, size_t n);
bool uuid_parse(struct str s, struct uuid *ret); /* canonical form, either case */
void uuid_text(struct uuid id, char to[UUID_TEXT + 1]);

static inline bool uuid_eq(struct uuid a, struct uuid b)
{
	return memcmp(a.b, b.b, 16) == 0;
}

static inline bool uuid_is_nil(struct uuid a)
{
	return uuid_eq(a, (struct uuid){{0}});
}

/* Cryptographic random bytes (getrandom); aborts when the kernel has none. */
void random_bytes(void *to, size_t n);

#endif
