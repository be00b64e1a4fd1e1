/* SPDX-License-Identifier: Apache-2.0 */
/* The few words that every file of the tree may use. */
#ifndef S24_BASE_DEFS_H
#define S24_BASE_DEFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define NORETURN __attribute__((noreturn))
#define NEVER_NULL __attribute__((returns_nonnull))

/* May suspend the running fiber. A function without the mark may not call one with it: tests/lint/suspends.py checks. */
#define SUSPENDS

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr) - offsetof(type, member)))

/* Drops the result of a MUST_CHECK function on purpose; a comment beside it says why. */
#define IGNORE(expr)                                                                               \
	do {                                                                                       \
		if (expr) {                                                                        \
		}                                                                                  \
	} while (0)

/* A slice of bytes that somebody else owns. Not terminated; p may be NULL only when n is 0. */
struct str {
	const char *p;
	size_t n;
};

#define STR(literal) ((struct str){(literal), sizeof(literal) - 1})
#define STR_FMT(s) (int)(s).n, (s).p /* for "%.*s" */

struct uuid {
	uint8_t b[16];
};

#endif
