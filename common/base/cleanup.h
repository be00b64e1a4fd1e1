/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Release at the end of the scope, for what is not in an arena.
 *
 *	_cleanup_(freep) char *text = mem_strdup(s);       -- freed at every return
 *	_cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
 *	_cleanup_(buf_done) struct buf b = {0};            -- any void f(T *) serves
 *	return TAKE_PTR(text);                             -- gives it away: text is NULL when the scope ends
 *
 * CLEANUP_FREE(lru_free, struct lru *) makes lru_freep from a destructor that takes the pointer itself. Always initialise the
 * variable where it is declared: the release runs on whatever is in it.
 */
#ifndef S24_BASE_CLEANUP_H
#define S24_BASE_CLEANUP_H

#include <stdlib.h>
#include <unistd.h>

#include "base/defs.h"

#define _cleanup_(fn) __attribute__((cleanup(fn)))

#define TAKE_PTR(ptr)                                                                              \
	__extension__({                                                                            \
		__auto_type taken_ = (ptr);                                                        \
		(ptr) = NULL;                                                                      \
		taken_;                                                                            \
	})

#define CLEANUP_FREE(destroy, type)                                                                \
	static inline void destroy##p(type *at)                                                    \
	{                                                                                          \
		if (*at != NULL)                                                                   \
			destroy(*at);                                                              \
	}                                                                                          \
	struct cleanup_needs_semicolon_

static inline void freep(void *at)
{
	free(*(void **)at);
}

static inline void closep(const int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

#endif
