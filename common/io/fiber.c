/* SPDX-License-Identifier: Apache-2.0 */
/* Fibers on boost.context: switching, stacks and their pool, and the list of those that live. */
#include "io/fiber.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/arena.h"
#include "io/loop_internal.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FIBER_ASAN 1
#elif __has_feature(thread_sanitizer)
#define FIBER_TSAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define FIBER_ASAN 1
#elif defined(__SANITIZE_THREAD__)
#define FIBER_TSAN 1
#endif

#ifdef FIBER_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#include <sanitizer/lsan_interface.h>
#endif
#ifdef FIBER_TSAN
#include <sanitizer/tsan_interface.h>
#endif

/* From boost.context's assembly. */
struct transfer {
	void *ctx;
	void *data;
};
extern struct transfer jump_fcontext(void *to, void *vp);
extern void *make_fcontext(void *sp, size_t size, void (*fn)(struct transfer));

enum {
	STACK_SIZE = 256 * 1024,
	LIVE_MOST = 20000,
	HOT_MOST = 256,     /* pooled with their pages */
	COLD_MOST = 2048,   /* pooled without; more than these are unmapped */
	SAMPLE_EVERY = 512, /* how often a dying fiber's stack is measured: that is a system call */
};

struct fiber {
	struct deferred resume; /* in the loop's ready queue */
	struct fiber *next, *prev;
	struct loop *loop;
	void *ctx;   /* where it stands while it does not run */
	void *above; /* where the loop stands while it runs */
	fiber_fn fn;
	void *arg;
	const char *label, *waits_for;
	int64_t born_us;
	struct timer timer;
	bool cancelled, parked;
	char *stack; /* its lowest page is the guard */
#ifdef FIBER_ASAN
	void *fake_stack;
#endif
#ifdef FIBER_TSAN
	void *tsan;
#endif
};

/* One loop per process, so one set of fibers: see architecture.md on globals. */
static struct {
	struct fiber *current, *live, *hot, *cold;
	size_t n_live, n_hot, n_cold, peak, limit, high_water, page, ended;
#ifdef FIBER_ASAN
	void *loop_fake_stack;
	const void *loop_stack;
	size_t loop_stack_size;
#endif
#ifdef FIBER_TSAN
	void *loop_tsan;
#endif
} fibers = {.limit = LIVE_MOST};

/* ---- switching */

static void ended(struct fiber *f);

static void fiber_enter(void *ctx)
{
	struct fiber *f = ctx;
	struct transfer t;

	assert(!fibers.current);
	fibers.current = f;
#ifdef FIBER_ASAN
	__sanitizer_start_switch_fiber(&fibers.loop_fake_stack, f->stack + fibers.page, STACK_SIZE);
#endif
#ifdef FIBER_TSAN
	fibers.loop_tsan = __tsan_get_current_fiber();
	__tsan_switch_to_fiber(f->tsan, 0);
#endif
	t = jump_fcontext(f->ctx, f);
#ifdef FIBER_ASAN
	__sanitizer_finish_switch_fiber(fibers.loop_fake_stack, NULL, NULL);
#endif
	fibers.current = NULL;
	f->ctx = t.ctx;
	if (t.data == NULL)
		ended(f);
}

static void fiber_main(struct transfer t)
{
	struct fiber *f = t.data;

#ifdef FIBER_ASAN
	__sanitizer_finish_switch_fiber(NULL, &fibers.loop_stack, &fibers.loop_stack_size);
#endif
	f->above = t.ctx;
	f->fn(f->arg);
#ifdef FIBER_ASAN
	__sanitizer_start_switch_fiber(NULL, fibers.loop_stack, fibers.loop_stack_size);
#endif
#ifdef FIBER_TSAN
	__tsan_switch_to_fiber(fibers.loop_tsan, 0);
#endif
	jump_fcontext(f->above, NULL);
	abort(); /* nobody enters an ended fiber */
}

static void leave(struct fiber *f)
{
	struct transfer t;

#ifdef FIBER_ASAN
	__sanitizer_start_switch_fiber(&f->fake_stack, fibers.loop_stack, fibers.loop_stack_size);
#endif
#ifdef FIBER_TSAN
	__tsan_switch_to_fiber(fibers.loop_tsan, 0);
#endif
	t = jump_fcontext(f->above, f);
#ifdef FIBER_ASAN
	__sanitizer_finish_switch_fiber(f->fake_stack, &fibers.loop_stack, &fibers.loop_stack_size);
#endif
	f->above = t.ctx;
}

static void on_time(void *ctx)
{
	fiber_wake(ctx);
}

SUSPENDS void fiber_park(const char *waits_for, int64_t until_us)
{
	struct fiber *f = fibers.current;

	assert(f && "waiting outside a fiber");
	if (until_us != INT64_MAX)
		timer_set_at(&f->timer, f->loop, until_us, on_time, f);
	f->waits_for = waits_for;
	f->parked = true;
	leave(f);
	f->parked = false;
	f->waits_for = NULL;
	timer_stop(&f->timer);
}

void fiber_wake(struct fiber *f)
{
	loop_ready(f->loop, &f->resume);
}

/* ---- stacks */

static struct fiber *stack_map(void)
{
	struct fiber *f;
	char *stack;

	if (fibers.page == 0)
		fibers.page = (size_t)sysconf(_SC_PAGESIZE);
	stack = mmap(NULL, fibers.page + STACK_SIZE, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);
	if (stack == MAP_FAILED)
		return NULL;
	if (mprotect(stack, fibers.page, PROT_NONE) != 0) {
		munmap(stack, fibers.page + STACK_SIZE);
		return NULL;
	}
	f = mem_zalloc(sizeof(*f));
	f->stack = stack;
#ifdef FIBER_ASAN
	__lsan_register_root_region(stack + fibers.page, STACK_SIZE);
#endif
	return f;
}

static void stack_unmap(struct fiber *f)
{
#ifdef FIBER_ASAN
	__lsan_unregister_root_region(f->stack + fibers.page, STACK_SIZE);
#endif
	munmap(f->stack, fibers.page + STACK_SIZE);
	free(f);
}

/* Pages stay resident once touched, so the lowest resident one tells how deep the stack has been. */
static void stack_measure(const struct fiber *f)
{
	unsigned char resident[STACK_SIZE / 4096];
	size_t pages = STACK_SIZE / fibers.page, untouched = 0;

	if (mincore(f->stack + fibers.page, STACK_SIZE, resident) != 0)
		return;
	while (untouched < pages && !(resident[untouched] & 1))
		untouched++;
	if ((pages - untouched) * fibers.page > fibers.high_water)
		fibers.high_water = (pages - untouched) * fibers.page;
}

static struct fiber *pool_take(void)
{
	struct fiber *f = fibers.hot;

	if (f) {
		fibers.hot = f->next;
		fibers.n_hot--;
	} else if ((f = fibers.cold) != NULL) {
		fibers.cold = f->next;
		fibers.n_cold--;
	} else {
		f = stack_map();
	}
	return f;
}

static void pool_put(struct fiber *f)
{
	if (++fibers.ended % SAMPLE_EVERY == 1)
		stack_measure(f);
	if (fibers.n_hot < HOT_MOST) {
		f->next = fibers.hot;
		fibers.hot = f;
		fibers.n_hot++;
		return;
	}
	if (fibers.n_cold >= COLD_MOST) {
		stack_unmap(f);
		return;
	}
	madvise(f->stack + fibers.page, STACK_SIZE, MADV_DONTNEED);
	f->next = fibers.cold;
	fibers.cold = f;
	fibers.n_cold++;
}

/* ---- life */

static enum err born(struct loop *loop, const char *label, fiber_fn fn, void *arg, struct fiber **ret)
{
	struct fiber *f;

	if (fibers.n_live >= fibers.limit)
		return ERR_OVERLOAD;
	f = pool_take();
	if (!f)
		return ERR_OVERLOAD;
	f->resume.fn = fiber_enter;
	f->resume.ctx = f;
	f->loop = loop;
	f->fn = fn;
	f->arg = arg;
	f->label = label;
	f->waits_for = NULL;
	f->cancelled = false;
	f->parked = false;
	f->born_us = loop_mono_us(loop);
	f->ctx = make_fcontext(f->stack + fibers.page + STACK_SIZE, STACK_SIZE, fiber_main);
#ifdef FIBER_ASAN
	f->fake_stack = NULL;
	__asan_unpoison_memory_region(f->stack + fibers.page, STACK_SIZE);
#endif
#ifdef FIBER_TSAN
	f->tsan = __tsan_create_fiber(0);
#endif
	f->prev = NULL;
	f->next = fibers.live;
	if (f->next)
		f->next->prev = f;
	fibers.live = f;
	if (++fibers.n_live > fibers.peak)
		fibers.peak = fibers.n_live;
	*ret = f;
	return OK;
}

static void ended(struct fiber *f)
{
	assert(!f->resume.queued);
#ifdef FIBER_TSAN
	__tsan_destroy_fiber(f->tsan);
#endif
	if (f->next)
		f->next->prev = f->prev;
	if (f->prev)
		f->prev->next = f->next;
	else
		fibers.live = f->next;
	fibers.n_live--;
	pool_put(f);
}

enum err fiber_start(struct loop *loop, const char *label, void (*fn)(void *), void *arg, struct fiber **ret)
{
	enum err e = born(loop, label, fn, arg, ret);

	if (e != OK)
		return e;
	loop_ready(loop, &(*ret)->resume);
	return OK;
}

enum err fiber_spawn(struct loop *loop, const char *label, fiber_fn fn, void *arg)
{
	struct fiber *f;

	return fiber_start(loop, label, fn, arg, &f);
}

enum err fiber_run(struct loop *loop, const char *label, fiber_fn fn, void *arg)
{
	struct fiber *f;
	enum err e;

	assert(!fibers.current && "fiber_run on a fiber");
	e = born(loop, label, fn, arg, &f);
	if (e != OK)
		return e;
	fiber_enter(f);
	return OK;
}

bool fiber_active(void)
{
	return fibers.current != NULL;
}

struct fiber *fiber_self(void)
{
	return fibers.current;
}

struct loop *fiber_loop(const struct fiber *f)
{
	return f->loop;
}

void fiber_cancel(struct fiber *f)
{
	f->cancelled = true;
	if (f->parked)
		fiber_wake(f);
}

bool fiber_is_cancelled(void)
{
	return fibers.current && fibers.current->cancelled;
}

void fiber_label(const char *label)
{
	if (fibers.current)
		fibers.current->label = label;
}

void fiber_limit(size_t most)
{
	fibers.limit = most;
}

struct fiber_stats fiber_stats(void)
{
	return (struct fiber_stats){
		.live = fibers.n_live,
		.peak = fibers.peak,
		.limit = fibers.limit,
		.stacks_pooled = fibers.n_hot + fibers.n_cold,
		.stack_high_water_bytes = fibers.high_water,
	};
}

void fiber_each(void (*fn)(void *ctx, const char *label, int64_t age_us, const char *waits_for), void *ctx)
{
	for (struct fiber *f = fibers.live; f; f = f->next) {
		const char *state = f == fibers.current ? "running" : f->parked && !f->resume.queued ? f->waits_for : "ready";

		fn(ctx, f->label, loop_mono_us(f->loop) - f->born_us, state);
	}
}

static int64_t kernel_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static bool any_of(const struct loop *loop)
{
	const struct fiber *f = fibers.live;

	while (f && f->loop != loop)
		f = f->next;
	return f != NULL;
}

bool fiber_drain(struct loop *loop, struct deadline d)
{
	/* In the kernel's time, so that a clock that stands still cannot hold it up for ever. */
	int64_t start = kernel_us(), most = d.at_us, left;

	if (most != INT64_MAX)
		most -= loop_mono_us(loop);
	while (any_of(loop)) {
		left = most == INT64_MAX ? INT64_MAX : most - (kernel_us() - start);
		if (left <= 0)
			return false;
		loop_turn(loop, left);
	}
	return true;
}
