/* SPDX-License-Identifier: Apache-2.0 */
/* A preloaded library that refuses memory to a program of the C library's allocator (Redis has another one, so this is not in shim.c). */
#include "shim.h"

#include <errno.h>

static struct shim_control idle, *control = &idle;

__attribute__((constructor)) static void shim_open(void)
{
	control = shim_map(&idle);
}

/* The C library's own doors, so that nothing has to be looked up before the first allocation. */
extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t n);

static bool refuse(void)
{
	static _Atomic uint64_t state = 88172645463325252u;
	uint64_t x;

	if (control->malloc_ppb == 0)
		return false;
	x = atomic_fetch_add(&state, 0x9e3779b97f4a7c15u) + control->seed;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	if ((x ^ x >> 31) % 1000000000u >= control->malloc_ppb)
		return false;
	atomic_fetch_add(&control->failed, 1);
	errno = ENOMEM;
	return true;
}

void *malloc(size_t n)
{
	return refuse() ? NULL : __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
	return refuse() ? NULL : __libc_calloc(n, size);
}

void *realloc(void *p, size_t n)
{
	return refuse() ? NULL : __libc_realloc(p, n);
}
