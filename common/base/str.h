/* SPDX-License-Identifier: Apache-2.0 */
/* Slices of text: comparing, splitting, numbers. Nothing here allocates. */
#ifndef S24_BASE_STR_H
#define S24_BASE_STR_H

#include <string.h>

#include "base/defs.h"

static inline struct str str_of(const char *s) /* NULL gives the empty slice */
{
	return (struct str){s, s ? strlen(s) : 0};
}

static inline bool str_eq(struct str a, struct str b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline bool str_is(struct str a, const char *b)
{
	return str_eq(a, str_of(b));
}

bool str_ieq(struct str a, struct str b);             /* ASCII case folded */
bool str_has_prefix(struct str s, struct str prefix);
struct str str_trim(struct str s);                    /* ASCII white space */
struct str str_split(struct str *rest, char sep);     /* the part before sep; *rest goes on behind it, or {NULL,0} at the end */
bool str_to_i64(struct str s, int64_t *ret_v);        /* whole slice, optional '-', digits; false on overflow or anything else */
bool str_is_utf8(struct str s);                       /* well formed, no NUL, no surrogates */
/* The sequence at s.p (s.n ≥ 1): returns its length 1 to 4 with *ret_ok; of a broken one, the maximal subpart that U+FFFD replaces. */
size_t str_utf8_step(struct str s, bool *ret_ok);
size_t str_utf8_len(struct str s);                    /* code points of well-formed text */
bool str_percent_decode(char *to, struct str s, bool plus_is_space, size_t *ret_n); /* false: bad escape or NUL */
extern const uint8_t str_hex_plus_one[256];           /* value of a hexadecimal digit plus one; 0: no digit */
uint64_t str_hash(struct str s, uint64_t seed);       /* for tables; not for secrets */
bool str_eq_secret(struct str a, struct str b);       /* time depends on the lengths alone */

#endif
