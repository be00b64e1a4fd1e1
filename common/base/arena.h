/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory of one request: bump allocation, freed at once.
 *
 * The one rule: what a request allocates belongs to its arena, and dies with it.
 *	struct arena *a = arena_new();
 *	char *s = arena_printf(a, "homework:%s", id);
 *	arena_defer(a, (arena_fn)PQclear_wrapper, result);    -- runs at clear, last first
 *	arena_free(a);
 * Allocation never fails: every size that a client drives is bounded before it gets here, so running out of memory aborts.
 * Under AddressSanitizer every allocation is a malloc of its own, so an overflow into a neighbour is seen.
 */
#ifndef S24_BASE_ARENA_H
#define S24_BASE_ARENA_H

#include <stdarg.h>

#include "base/defs.h"

struct arena;
typedef void (*arena_fn)(void *ptr);

struct arena *arena_new(void) NEVER_NULL;
void *arena_free(struct arena *arena); /* NULL is fine; returns NULL */
void arena_clear(struct arena *arena); /* runs the deferred, keeps the first chunk */

void *arena_alloc(struct arena *arena, size_t size) NEVER_NULL;  /* aligned to 16, not zeroed */
void *arena_zalloc(struct arena *arena, size_t size) NEVER_NULL; /* zeroed */
void *arena_array(struct arena *arena, size_t count, size_t size) NEVER_NULL; /* zeroed; overflow aborts */
void *arena_dup(struct arena *arena, const void *bytes, size_t size) NEVER_NULL;
/* Makes an allocation of this arena larger: in place when it was the last one, else a copy. ptr may be NULL when old_size is 0. */
void *arena_regrow(struct arena *arena, void *ptr, size_t old_size, size_t new_size) NEVER_NULL;
char *arena_strdup(struct arena *arena, const char *s) NEVER_NULL;
char *arena_cstr(struct arena *arena, struct str s) NEVER_NULL; /* terminated copy of a slice */
struct str arena_str(struct arena *arena, struct str s);        /* copy of a slice (terminated too) */
char *arena_printf(struct arena *arena, const char *fmt, ...) PRINTF(2, 3) NEVER_NULL;
char *arena_vprintf(struct arena *arena, const char *fmt, va_list ap) PRINTF(2, 0) NEVER_NULL;
void arena_defer(struct arena *arena, arena_fn fn, void *ptr);
size_t arena_size(const struct arena *arena); /* bytes held, for metrics and limits */

/* malloc and friends for what outlives a request; abort instead of NULL. */
void *mem_alloc(size_t size) NEVER_NULL;
void *mem_zalloc(size_t size) NEVER_NULL;
void *mem_realloc(void *ptr, size_t size) NEVER_NULL;
char *mem_strdup(const char *s) NEVER_NULL;

#endif
