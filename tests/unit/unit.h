/* SPDX-License-Identifier: Apache-2.0 */
/* What every unit program includes: cmocka with what it needs before it, and comparisons of slices. */
#ifndef S24_UNIT_H
#define S24_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/defs.h"

#define assert_str(got, want)                                                                      \
	do {                                                                                       \
		struct str got_ = (got), want_ = (want);                                           \
		if (got_.n != want_.n || (got_.n != 0 && memcmp(got_.p, want_.p, got_.n) != 0))    \
			fail_msg("got \"%.*s\" (%zu), want \"%.*s\" (%zu)", STR_FMT(got_), got_.n, \
				 STR_FMT(want_), want_.n);                                         \
	} while (0)

/* Deterministic pseudo-random numbers (splitmix64): a failure can be repeated. */
static inline uint64_t unit_random(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);

	z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
	return z ^ z >> 31;
}

#endif
