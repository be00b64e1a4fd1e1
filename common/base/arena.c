/* SPDX-License-Identifier: Apache-2.0 */
/* Bump allocation in chunks; the only file that may call malloc. */
#include "base/arena.h"

#include <stdalign.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define ARENA_MALLOC_EACH 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ARENA_MALLOC_EACH 1
#endif
#endif
#ifndef ARENA_MALLOC_EACH
#define ARENA_MALLOC_EACH 0
#endif

enum {
	ALIGN = 16,
	FIRST_CHUNK = 4096,    /* arena, header and memory of a small request in one page */
	CHUNK_MAX = 64 * 1024, /* chunks double up to here */
	SPARE_MAX = 256,       /* cleared arenas kept for the next arena_new: 1 MiB */
};

struct chunk {
	struct chunk *next;
	size_t size; /* with this header */
};

struct deferred {
	struct deferred *next;
	arena_fn fn;
	void *ptr;
};

struct arena {
	alignas(ALIGN) char *p; /* free bytes of the current chunk */
	char *end;
	struct chunk *chunks; /* all but the first */
	struct deferred *deferred;
	size_t held;
	size_t next_chunk;
	struct arena *next_spare;
};

enum {
	CHUNK_HEAD = (sizeof(struct chunk) + ALIGN - 1) / ALIGN * ALIGN,
	ARENA_HEAD = (sizeof(struct arena) + ALIGN - 1) / ALIGN * ALIGN,
};

/* Spare arenas are shared by all threads. Nobody waits for the lock: who does not get it at once asks malloc instead. */
static struct {
	atomic_flag taken;
	struct arena *first;
	size_t n;
} spares = {.taken = ATOMIC_FLAG_INIT};

static NORETURN void out_of_memory(void)
{
	static const char text[] = "out of memory\n";

	IGNORE(write(STDERR_FILENO, text, sizeof(text) - 1) < 0); /* nothing is left to do about it */
	abort();
}

void *mem_alloc(size_t size)
{
	void *p = malloc(size != 0 ? size : 1);

	if (p == NULL)
		out_of_memory();
	return p;
}

void *mem_zalloc(size_t size)
{
	void *p = calloc(1, size != 0 ? size : 1);

	if (p == NULL)
		out_of_memory();
	return p;
}

void *mem_realloc(void *ptr, size_t size)
{
	void *p = realloc(ptr, size != 0 ? size : 1);

	if (p == NULL)
		out_of_memory();
	return p;
}

char *mem_strdup(const char *s)
{
	size_t size = strlen(s) + 1;

	return memcpy(mem_alloc(size), s, size);
}

static void arena_reset(struct arena *arena)
{
	*arena = (struct arena){
		.p = (char *)arena + ARENA_HEAD,
		.end = (char *)arena + FIRST_CHUNK,
		.held = FIRST_CHUNK,
		.next_chunk = (size_t)FIRST_CHUNK * 2,
	};
}

static struct arena *spare_take(void)
{
	struct arena *arena;

	if (ARENA_MALLOC_EACH || atomic_flag_test_and_set_explicit(&spares.taken, memory_order_acquire))
		return NULL;
	arena = spares.first;
	if (arena != NULL) {
		spares.first = arena->next_spare;
		spares.n--;
	}
	atomic_flag_clear_explicit(&spares.taken, memory_order_release);
	return arena;
}

static bool spare_give(struct arena *arena)
{
	bool kept = false;

	if (ARENA_MALLOC_EACH || atomic_flag_test_and_set_explicit(&spares.taken, memory_order_acquire))
		return false;
	if (spares.n < SPARE_MAX) {
		arena->next_spare = spares.first;
		spares.first = arena;
		spares.n++;
		kept = true;
	}
	atomic_flag_clear_explicit(&spares.taken, memory_order_release);
	return kept;
}

struct arena *arena_new(void)
{
	struct arena *arena = spare_take();

	if (arena == NULL)
		arena = mem_alloc(FIRST_CHUNK);
	arena_reset(arena);
	return arena;
}

void arena_clear(struct arena *arena)
{
	/* A deferred function may itself allocate or defer, so the list is taken one by one. */
	while (arena->deferred != NULL) {
		struct deferred *d = arena->deferred;

		arena->deferred = d->next;
		d->fn(d->ptr);
	}
	while (arena->chunks != NULL) {
		struct chunk *chunk = arena->chunks;

		arena->chunks = chunk->next;
		free(chunk);
	}
	arena_reset(arena);
}

void *arena_free(struct arena *arena)
{
	if (arena == NULL)
		return NULL;
	arena_clear(arena);
	if (!spare_give(arena))
		free(arena);
	return NULL;
}

static struct chunk *chunk_add(struct arena *arena, size_t size)
{
	struct chunk *chunk = mem_alloc(size);

	chunk->next = arena->chunks;
	chunk->size = size;
	arena->chunks = chunk;
	arena->held += size;
	return chunk;
}

static void *alloc_slow(struct arena *arena, size_t size)
{
	struct chunk *chunk;

	/* Something large gets a chunk of its own, so that it does not waste the rest of the current one. */
	if (ARENA_MALLOC_EACH || size > arena->next_chunk / 4)
		return (char *)chunk_add(arena, CHUNK_HEAD + size) + CHUNK_HEAD;

	chunk = chunk_add(arena, arena->next_chunk);
	arena->p = (char *)chunk + CHUNK_HEAD + size;
	arena->end = (char *)chunk + chunk->size;
	if (arena->next_chunk < CHUNK_MAX)
		arena->next_chunk *= 2;
	return (char *)chunk + CHUNK_HEAD;
}

void *arena_alloc(struct arena *arena, size_t size)
{
	char *p = arena->p;

	if (size > SIZE_MAX / 2)
		out_of_memory();
	if (ARENA_MALLOC_EACH)
		return alloc_slow(arena, size);
	size = (size + ALIGN - 1) & ~(size_t)(ALIGN - 1);
	if ((size_t)(arena->end - p) < size)
		return alloc_slow(arena, size);
	arena->p = p + size;
	return p;
}

void *arena_regrow(struct arena *arena, void *ptr, size_t old_size, size_t new_size)
{
	size_t have = (old_size + ALIGN - 1) & ~(size_t)(ALIGN - 1);
	size_t want = (new_size + ALIGN - 1) & ~(size_t)(ALIGN - 1);
	void *p;

	if (new_size > SIZE_MAX / 2)
		out_of_memory();
	if (new_size <= old_size)
		return ptr != NULL ? ptr : arena_alloc(arena, new_size);
	if (!ARENA_MALLOC_EACH && ptr != NULL && (char *)ptr + have == arena->p && (size_t)(arena->end - (char *)ptr) >= want) {
		arena->p = (char *)ptr + want;
		return ptr;
	}
	p = arena_alloc(arena, new_size);
	if (ptr != NULL && old_size != 0)
		memcpy(p, ptr, old_size);
	return p;
}

void *arena_zalloc(struct arena *arena, size_t size)
{
	return memset(arena_alloc(arena, size), 0, size);
}

void *arena_array(struct arena *arena, size_t count, size_t size)
{
	size_t total;

	if (__builtin_mul_overflow(count, size, &total))
		out_of_memory();
	return arena_zalloc(arena, total);
}

void *arena_dup(struct arena *arena, const void *bytes, size_t size)
{
	void *p = arena_alloc(arena, size);

	if (size != 0)
		memcpy(p, bytes, size);
	return p;
}

char *arena_cstr(struct arena *arena, struct str s)
{
	char *p = arena_alloc(arena, s.n + 1);

	if (s.n != 0)
		memcpy(p, s.p, s.n);
	p[s.n] = '\0';
	return p;
}

char *arena_strdup(struct arena *arena, const char *s)
{
	return arena_dup(arena, s, strlen(s) + 1);
}

struct str arena_str(struct arena *arena, struct str s)
{
	return (struct str){arena_cstr(arena, s), s.n};
}

char *arena_vprintf(struct arena *arena, const char *fmt, va_list ap)
{
	char small[256];
	va_list again;
	size_t n;
	char *p;
	int r;

	va_copy(again, ap);
	r = vsnprintf(small, sizeof(small), fmt, ap);
	if (r < 0) {
		/* Only a broken format or more than INT_MAX bytes get here: our own mistake. */
		abort();
	}
	n = (size_t)r;
	p = arena_alloc(arena, n + 1);
	if (n < sizeof(small))
		memcpy(p, small, n + 1);
	else if (vsnprintf(p, n + 1, fmt, again) != r)
		abort();
	va_end(again);
	return p;
}

char *arena_printf(struct arena *arena, const char *fmt, ...)
{
	va_list ap;
	char *p;

	va_start(ap, fmt);
	p = arena_vprintf(arena, fmt, ap);
	va_end(ap);
	return p;
}

void arena_defer(struct arena *arena, arena_fn fn, void *ptr)
{
	struct deferred *d = arena_alloc(arena, sizeof(*d));

	*d = (struct deferred){arena->deferred, fn, ptr};
	arena->deferred = d;
}

size_t arena_size(const struct arena *arena)
{
	return arena->held;
}
