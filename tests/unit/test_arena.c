/* SPDX-License-Identifier: Apache-2.0 */
/* Arenas: alignment, growth, deferred functions, recycling, and what must abort. */
#include "unit/unit.h"

#include <pthread.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/cleanup.h"

static void allocations_are_aligned_and_do_not_overlap(void **state)
{
	enum { N = 3000 };
	static unsigned char *p[N];
	static size_t size[N];
	struct arena *a = arena_new();
	uint64_t seed = 1;

	(void)state;
	for (size_t i = 0; i < N; i++) {
		size[i] = unit_random(&seed) % (i % 50 == 0 ? 40000 : 200);
		p[i] = arena_alloc(a, size[i]);
		assert_int_equal((uintptr_t)p[i] % 16, 0);
		memset(p[i], (int)(i & 0xFF), size[i]);
	}
	for (size_t i = 0; i < N; i++) {
		for (size_t j = 0; j < size[i]; j++)
			assert_int_equal(p[i][j], i & 0xFF);
	}
	arena_free(a);
}

static void zeroed_memory_is_zero_even_when_recycled(void **state)
{
	struct arena *a = arena_new();

	(void)state;
	memset(arena_alloc(a, 3000), 0xAA, 3000);
	arena_clear(a);
	for (int round = 0; round < 2; round++) {
		const unsigned char *p = round == 0 ? arena_zalloc(a, 1500) : arena_array(a, 300, 5);

		for (size_t i = 0; i < 1500; i++)
			assert_int_equal(p[i], 0);
	}
	arena_free(a);
}

static void copies_are_equal_and_terminated(void **state)
{
	struct arena *a = arena_new();
	char raw[3] = {'x', 'y', 'z'};
	struct str s = arena_str(a, (struct str){raw, 3});

	(void)state;
	assert_str(s, STR("xyz"));
	assert_int_equal(s.p[3], 0);
	assert_string_equal(arena_cstr(a, (struct str){NULL, 0}), "");
	assert_string_equal(arena_cstr(a, (struct str){raw, 2}), "xy");
	assert_string_equal(arena_strdup(a, "hello"), "hello");
	assert_memory_equal(arena_dup(a, raw, 3), raw, 3);
	assert_non_null(arena_dup(a, NULL, 0));
	arena_free(a);
}

static void printf_has_any_length(void **state)
{
	struct arena *a = arena_new();
	static char want[5001];

	(void)state;
	assert_string_equal(arena_printf(a, "%s:%d", "homework", 7), "homework:7");
	assert_string_equal(arena_printf(a, "%s", ""), "");
	for (int n = 250; n < 262; n++) {
		memset(want, 'q', sizeof(want));
		want[n] = '\0';
		assert_string_equal(arena_printf(a, "%s", want), want);
	}
	memset(want, 'w', sizeof(want));
	want[5000] = '\0';
	assert_string_equal(arena_printf(a, "%s", want), want);
	arena_free(a);
}

static char trace[8];
static size_t traced;
static void leave_trace(void *ptr)
{
	trace[traced++] = *(const char *)ptr;
}

static void deferred_functions_run_last_first_and_once(void **state)
{
	struct arena *a = arena_new();
	char names[] = "abc";

	(void)state;
	traced = 0;
	for (int i = 0; i < 3; i++)
		arena_defer(a, leave_trace, &names[i]);
	assert_int_equal(traced, 0);
	arena_clear(a);
	assert_memory_equal(trace, "cba", 3);
	arena_free(a);
	assert_int_equal(traced, 3);
}

static struct arena *reentered;
static void defer_again(void *ptr)
{
	arena_defer(reentered, leave_trace, ptr);
	assert_string_equal(arena_printf(reentered, "%d", 5), "5");
}

static void a_deferred_function_may_use_the_arena(void **state)
{
	struct arena *a = arena_new();
	char name = 'n';

	(void)state;
	traced = 0;
	reentered = a;
	arena_defer(a, defer_again, &name);
	arena_free(a);
	assert_int_equal(traced, 1);
	assert_int_equal(trace[0], 'n');
}

static void clear_returns_to_the_first_size(void **state)
{
	struct arena *a = arena_new();
	size_t first = arena_size(a);

	(void)state;
	arena_alloc(a, 1 << 20);
	for (int i = 0; i < 1000; i++)
		arena_alloc(a, 500);
	assert_true(arena_size(a) >= first + (1 << 20) + 500000);
	arena_clear(a);
	assert_int_equal(arena_size(a), first);
	arena_free(a);
	assert_null(arena_free(NULL));
}

static void regrow_keeps_the_bytes(void **state)
{
	struct arena *a = arena_new();
	char *p = arena_regrow(a, NULL, 0, 10);
	char *q;

	(void)state;
	memcpy(p, "0123456789", 10);
	p = arena_regrow(a, p, 10, 100);
	assert_memory_equal(p, "0123456789", 10);
	q = arena_alloc(a, 16);
	memset(q, 'q', 16);
	memset(p + 10, 'p', 90);
	p = arena_regrow(a, p, 100, 9000);
	memset(p + 100, 'r', 8900);
	assert_memory_equal(p, "0123456789pp", 12);
	assert_memory_equal(q, "qqqqqqqqqqqqqqqq", 16);
	assert_ptr_equal(arena_regrow(a, p, 9000, 20), p);
	arena_free(a);
}

static void *churn(void *seed_ptr)
{
	uint64_t seed = (uint64_t)(uintptr_t)seed_ptr;

	for (int i = 0; i < 2000; i++) {
		struct arena *a = arena_new(), *b = arena_new();
		uint64_t mark = unit_random(&seed);
		uint64_t *x = arena_dup(a, &mark, sizeof(mark)), *y = arena_dup(b, &mark, sizeof(mark));

		if (*x != mark || *y != mark)
			return (void *)1;
		arena_free(a);
		arena_free(b);
	}
	return NULL;
}

static void threads_do_not_share_an_arena(void **state)
{
	pthread_t t[4];
	void *bad;

	(void)state;
	for (uintptr_t i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&t[i], NULL, churn, (void *)(i + 1)), 0);
	for (size_t i = 0; i < 4; i++) {
		assert_int_equal(pthread_join(t[i], &bad), 0);
		assert_null(bad);
	}
}

static bool aborts(void (*fn)(void))
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		const struct rlimit none = {0, 0};

		setrlimit(RLIMIT_CORE, &none);
		signal(SIGABRT, SIG_DFL);
		IGNORE(freopen("/dev/null", "w", stderr) == NULL); /* its last words are expected */
		fn();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static volatile size_t huge = SIZE_MAX / 2 + 2;
static void array_that_overflows(void)
{
	arena_array(arena_new(), huge, 4);
}
static void alloc_too_much(void)
{
	arena_alloc(arena_new(), huge);
}
static void regrow_too_much(void)
{
	arena_regrow(arena_new(), NULL, 0, huge);
}

static void sizes_that_overflow_abort(void **state)
{
	(void)state;
	assert_true(aborts(array_that_overflows));
	assert_true(aborts(alloc_too_much));
	assert_true(aborts(regrow_too_much));
}

static char *give_away(void)
{
	_cleanup_(freep) char *kept = mem_strdup("kept");
	_cleanup_(freep) char *dropped = mem_strdup("dropped"); /* the leak checker sees when it is not */
	_cleanup_(closep) int fd = -1;

	assert_int_equal(fd, -1);
	assert_string_equal(dropped, "dropped");
	return TAKE_PTR(kept);
}

static void what_is_taken_survives_the_scope(void **state)
{
	char *kept = give_away();

	(void)state;
	assert_string_equal(kept, "kept");
	free(kept);
}

static void zero_bytes_of_memory_are_a_pointer(void **state)
{
	char *p = mem_alloc(0), *z = mem_zalloc(4);

	(void)state;
	p = mem_realloc(p, 100);
	memset(p, 1, 100);
	p = mem_realloc(p, 0);
	assert_non_null(p);
	assert_memory_equal(z, "\0\0\0\0", 4);
	free(p);
	free(z);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(allocations_are_aligned_and_do_not_overlap),
		cmocka_unit_test(zeroed_memory_is_zero_even_when_recycled),
		cmocka_unit_test(copies_are_equal_and_terminated),
		cmocka_unit_test(printf_has_any_length),
		cmocka_unit_test(deferred_functions_run_last_first_and_once),
		cmocka_unit_test(a_deferred_function_may_use_the_arena),
		cmocka_unit_test(clear_returns_to_the_first_size),
		cmocka_unit_test(regrow_keeps_the_bytes),
		cmocka_unit_test(threads_do_not_share_an_arena),
		cmocka_unit_test(sizes_that_overflow_abort),
		cmocka_unit_test(what_is_taken_survives_the_scope),
		cmocka_unit_test(zero_bytes_of_memory_are_a_pointer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
