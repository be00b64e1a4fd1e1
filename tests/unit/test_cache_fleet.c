/* SPDX-License-Identifier: Apache-2.0 */
/* Real processes that ask for one thing, one of which dies; and answers made of kept rows while others raise their tags (cache.md C3, B7). */
#include "unit/flight_case.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- C3: real processes ---- */

static const char *self; /* this program */

struct shared_source {
	int64_t takes_ms;
};

/* The source is Redis' own counter, so that all processes count in one place. */
static enum err counted_fill(void *ctx, struct buf *out)
{
	const struct shared_source *s = ctx;
	struct redis_reply reply;
	struct arena *mine = arena_new();
	enum err e = redis_call(redis[0], mine, in_ms(5000), REDIS_ARGS(STR("INCR"), STR("source:calls")), &reply);

	arena_free(mine);
	if (e == OK)
		e = sleep_ms(loop, s->takes_ms, in_ms(60000));
	buf_puts(out, STR("from the source"));
	return e;
}

static struct shared_source shared;
static size_t served;

static void read_shared(void *arg)
{
	struct source unused = {.text = ""};
	struct cache_call call = call_of(0, "a", &tags, &unused);
	struct arena *mine = arena_new();
	struct cache_note note;
	struct str got;

	call.fill = counted_fill;
	call.ctx = &shared;
	served += cache_read(caches[0], mine, in_ms(*(int64_t *)arg), &call, &got, &note) == OK && str_is(got, "from the source");
	arena_free(mine);
	running--;
}

/* Another process: `callers` readers at once, then it ends with 0 when each was answered. */
static int be_a_process(const char *url, size_t callers, int64_t takes_ms)
{
	const struct redis_conf conf = {
		.name = "cache", .url = url, .connections = 1, .fault = ERR_CACHE, .connect_ms = 1000, .grace_ms = 2000};
	struct cache_conf mine = {.url = url, .env = "test", .service = "homework", .timeout_ms = 5000, .memory_bytes = 1 << 20};
	static int64_t patience_ms = 20000;

	loop = loop_new();
	arena = arena_new();
	shared.takes_ms = takes_ms;
	if (redis_open(loop, &conf, &redis[0]) != OK)
		return 2;
	mine.redis = redis[0];
	if (cache_open(loop, &mine, &caches[0]) != OK)
		return 3;
	for (int i = 0; i < 5000 && !(cache_stats(caches[0]).up && cache_stats(caches[0]).news_up); i++)
		loop_turn(loop, 1000);
	name_tags();
	for (size_t i = 0; i < callers; i++) {
		running++;
		if (fiber_spawn(loop, "reader", read_shared, &patience_ms) != OK)
			return 4;
	}
	while (running > 0)
		loop_turn(loop, 1000);
	cache_close(caches[0]);
	if (!fiber_drain(loop, in_ms(5000)))
		return 5;
	caches[0] = cache_free(caches[0]);
	redis[0] = redis_close(redis[0]);
	arena_free(arena);
	loop = loop_free(loop);
	return served == callers ? 0 : 6;
}

static pid_t start_process(size_t callers, int64_t takes_ms)
{
	char many[16], ms[16];
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	snprintf(many, sizeof(many), "%zu", callers);
	snprintf(ms, sizeof(ms), "%lld", (long long)takes_ms);
	execl(self, self, server.url, many, ms, (char *)NULL);
	_exit(98);
}

static int64_t counted(void)
{
	struct redis_reply reply;
	int64_t n = 0;

	return command(REDIS_ARGS(STR("GET"), STR("source:calls")), &reply) && reply.type == REDIS_STRING &&
			       str_to_i64(reply.s, &n)
		       ? n
		       : 0;
}

/* *ret_code: its exit code; -1: it was killed. False: it still runs. */
static bool has_ended(pid_t pid, int *ret_code)
{
	int status;

	if (waitpid(pid, &status, WNOHANG) != pid)
		return false;
	*ret_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	return true;
}

CACHE_TEST(four_processes_with_fifty_callers_each_ask_once)
{
	pid_t pids[4];
	int code;

	for (size_t i = 0; i < ARRAY_LEN(pids); i++)
		pids[i] = start_process(50, 500);
	for (size_t i = 0; i < ARRAY_LEN(pids); i++) {
		while (!has_ended(pids[i], &code))
			CHECK(sleep_ms(loop, 5, in_ms(1000)) == OK);
		CHECK(code == 0);
	}
	CHECK(counted() == 1);
	DONE();
}

CACHE_TEST(a_leader_that_dies_is_replaced_within_the_locks_life)
{
	struct source s = {.text = "by the next"};
	struct reader r = reader_of(0, &s);
	pid_t pid = start_process(1, 60000);
	struct redis_reply reply;
	int code;

	name_tags();
	while (counted() == 0)
		CHECK(sleep_ms(loop, 5, in_ms(1000)) == OK);
	kill(pid, SIGKILL);
	while (!has_ended(pid, &code))
		CHECK(sleep_ms(loop, 5, in_ms(1000)) == OK);
	CHECK(code == -1);
	CHECK(command(REDIS_ARGS(STR("EXISTS"), lock_of("a")), &reply) && reply.i == 1); /* as it left it */
	start(&r, 1);
	wait_for_readers();
	CHECK(r.result == OK && strcmp(r.text, "by the next") == 0 && s.calls == 1);
	CHECK(took_ms(&r) <= LOCK_MS);
	DONE();
}

/* ---- B7: an answer that is made of kept rows ---- */

static struct cache_tags of_rows, of_answer;
static struct source rows_source;
static bool reading;

static enum err fill_answer(void *ctx, struct buf *out)
{
	struct cache_call call = call_of(1, "rows", &of_rows, &rows_source);
	struct arena *mine = arena_new();
	struct cache_note note;
	struct str got;
	enum err e = cache_read(caches[1], mine, in_ms(2000), &call, &got, &note);

	(void)ctx;
	if (e == OK)
		buf_puts(out, got);
	arena_free(mine);
	return e;
}

static enum err read_rows(void)
{
	struct cache_call call = call_of(1, "rows", &of_rows, &rows_source);
	struct cache_note note;
	struct str got;

	return cache_read(caches[1], arena, in_ms(2000), &call, &got, &note);
}

static enum err read_answer(char text[16])
{
	struct cache_call call = call_of(1, "answer", &of_answer, &rows_source);
	struct arena *mine = arena_new();
	struct cache_note note;
	struct str got = {NULL, 0};
	enum err e;

	call.fill = fill_answer;
	e = cache_read(caches[1], mine, in_ms(2000), &call, &got, &note);
	snprintf(text, 16, "%.*s", STR_FMT(got));
	arena_free(mine);
	return e;
}

static void read_answers(void *arg)
{
	char text[16];

	(void)arg;
	while (reading && failure == NULL)
		IGNORE(read_answer(text)); /* the test's own reading counts */
	running--;
}

/* Its own tag is raised in the first call, that of its rows in the last: in between it is made anew, of rows that nobody has dropped yet. */
CACHE_TEST(what_is_raised_in_several_calls_leaves_no_answer_of_old_rows)
{
	struct cache_tags many = {.school = school};
	char texts[20][16], text[16];

	name_tags();
	of_rows = of_answer = (struct cache_tags){.school = school};
	cache_tag(&of_answer, arena, "answer:", STR("a"));
	cache_tag(&of_rows, arena, "rows:", STR("a"));
	cache_tag_again(&many, arena, of_answer.v[0]);
	for (int i = 0; i < 3000; i++)
		cache_tag(&many, arena, "other:", str_of(arena_printf(arena, "%d", i)));
	cache_tag_again(&many, arena, of_rows.v[0]);
	caches[0]->conf.timeout_ms = caches[1]->conf.timeout_ms = 2000;
	rows_source = (struct source){.text = "first"};
	reading = true;
	start_fiber(read_answers, NULL);
	for (size_t i = 0; i < ARRAY_LEN(texts) && failure == NULL; i++) {
		snprintf(texts[i], sizeof(texts[i]), "%zu", i);
		CHECK(read_rows() == OK && read_answer(text) == OK); /* both are there, and old */
		rows_source.text = texts[i];
		CHECK(cache_raise(caches[0], arena, &many) == OK);
		CHECK(sleep_ms(loop, 1, in_ms(1000)) == OK);
		CHECK(read_answer(text) == OK && strcmp(text, texts[i]) == 0);
	}
	reading = false;
	wait_for_readers();
	DONE();
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		T(four_processes_with_fifty_callers_each_ask_once),
		T(a_leader_that_dies_is_replaced_within_the_locks_life),
		T(what_is_raised_in_several_calls_leaves_no_answer_of_old_rows),
	};

	if (argc == 4)
		return be_a_process(argv[1], strtoul(argv[2], NULL, 10), strtoll(argv[3], NULL, 10));
	self = "/proc/self/exe";
	return cmocka_run_group_tests(tests, NULL, NULL);
}
