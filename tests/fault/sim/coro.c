/* SPDX-License-Identifier: Apache-2.0 */
/* Coroutines on boost.context. The daemons' fibers belong to a loop and are never dropped half way, so these are their own. */
#include "coro.h"

#include <stdlib.h>

#include "base/arena.h"

#if defined(__SANITIZE_ADDRESS__)
#define CORO_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CORO_ASAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define CORO_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define CORO_TSAN 1
#endif
#endif

#ifdef CORO_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef CORO_TSAN
#include <sanitizer/tsan_interface.h>
#endif

#define STACK_SIZE (256 * 1024)

struct transfer {
	void *ctx, *data;
};
extern struct transfer jump_fcontext(void *to, void *vp);
extern void *make_fcontext(void *sp, size_t size, void (*fn)(struct transfer));

struct coro {
	char *stack;
	void *ctx, *above; /* where it stands, and where its caller does */
	void (*fn)(void *arg);
	void *arg;
#ifdef CORO_TSAN
	void *tsan, *tsan_above;
#endif
};

static struct coro *running;
#ifdef CORO_ASAN
static const void *caller_stack;
static size_t caller_size;
#endif

struct coro *coro_new(void)
{
	struct coro *c = mem_zalloc(sizeof(*c));

	c->stack = mem_alloc(STACK_SIZE);
	return c;
}

void coro_free(struct coro *c)
{
#ifdef CORO_TSAN
	if (c->tsan)
		__tsan_destroy_fiber(c->tsan);
#endif
	free(c->stack);
	free(c);
}

static void entry(struct transfer t);

void coro_start(struct coro *c, void (*fn)(void *arg), void *arg)
{
#ifdef CORO_ASAN
	ASAN_UNPOISON_MEMORY_REGION(c->stack, STACK_SIZE);
#endif
#ifdef CORO_TSAN
	if (c->tsan)
		__tsan_destroy_fiber(c->tsan);
	c->tsan = __tsan_create_fiber(0);
#endif
	c->fn = fn;
	c->arg = arg;
	c->ctx = make_fcontext(c->stack + STACK_SIZE, STACK_SIZE, entry);
}

/* The two ends of a switch, as the sanitizers want to hear of it. No fake stacks: a dropped coroutine would leave its own behind. */
static void leaving(const void *stack, size_t size)
{
#ifdef CORO_ASAN
	__sanitizer_start_switch_fiber(NULL, stack, size);
#else
	(void)stack;
	(void)size;
#endif
}

static void entry(struct transfer t)
{
	struct coro *c = t.data;

#ifdef CORO_ASAN
	__sanitizer_finish_switch_fiber(NULL, &caller_stack, &caller_size);
#endif
	c->above = t.ctx;
	c->fn(c->arg);
#ifdef CORO_ASAN
	leaving(caller_stack, caller_size);
#else
	leaving(NULL, 0);
#endif
#ifdef CORO_TSAN
	__tsan_switch_to_fiber(c->tsan_above, 0);
#endif
	jump_fcontext(c->above, NULL);
	abort();
}

bool coro_resume(struct coro *c)
{
	struct transfer t;

	running = c;
	leaving(c->stack, STACK_SIZE);
#ifdef CORO_TSAN
	c->tsan_above = __tsan_get_current_fiber();
	__tsan_switch_to_fiber(c->tsan, 0);
#endif
	t = jump_fcontext(c->ctx, c);
#ifdef CORO_ASAN
	__sanitizer_finish_switch_fiber(NULL, NULL, NULL);
#endif
	running = NULL;
	c->ctx = t.ctx;
	return t.data != NULL;
}

void coro_yield(void)
{
	struct coro *c = running;
	struct transfer t;

#ifdef CORO_ASAN
	leaving(caller_stack, caller_size);
#endif
#ifdef CORO_TSAN
	__tsan_switch_to_fiber(c->tsan_above, 0);
#endif
	t = jump_fcontext(c->above, c);
#ifdef CORO_ASAN
	__sanitizer_finish_switch_fiber(NULL, &caller_stack, &caller_size);
#endif
	c->above = t.ctx;
}
