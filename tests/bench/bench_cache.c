/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the cache engine does with a Redis that somebody else has started; bench_cache.py runs it beside redis-benchmark, Node and nginx.
 *
 *	bench_cache ops URL COUNT                set and get, 64 in flight, without and with a tag
 *	bench_cache tags URL ENTRIES A_TAG       invalidation: raised alone, and dropped through the index
 *	bench_cache million URL ENTRIES          one tag of so many, dropped
 *	bench_cache ping URL SECONDS             the longest that another client of Redis waits
 *	bench_cache herd URL PROCESSES CALLERS   all want one missing key
 *	bench_cache serve URL KEY                a GET behind the kit's HTTP server, without engine, router, authentication
 *
 * Each prints one JSON object (serve: its port). Memory of the process (L1) is off, but for herd.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/str.h"
#include "base/timefmt.h"
#include "cache/cache.h"
#include "cache/cache_index.h"
#include "io/fiber.h"
#include "io/http.h"
#include "io/redis.h"

enum { FIBERS = 64, KEYS = 10000, VALUE_BYTES = 1126, TAGS_OF_A_CALL = 32, HERD_MOST = 64, SOURCE_MS = 100 };

static struct loop *loop;
static struct redis *redis;
static struct cache *cache;
static const struct uuid school = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}};

static int64_t now_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static void must(bool holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "bench_cache: %s\n", what);
	exit(1);
}

static void up(const char *url, size_t memory_bytes)
{
	const struct redis_conf conf = {.name = "cache", .url = url, .connections = 1, .fault = ERR_CACHE};
	struct cache_conf mine = {.url = url,
				  .env = "bench",
				  .service = "bench",
				  .timeout_ms = 5000,
				  .memory_bytes = memory_bytes,
				  .codec = CODEC_SNAPPY};

	loop = loop_new();
	must(redis_open(loop, &conf, &redis) == OK, "the address of Redis");
	mine.redis = redis;
	must(cache_open(loop, &mine, &cache) == OK, "the engine");
	for (int i = 0; i < 5000 && !(cache_stats(cache).up && cache_stats(cache).news_up); i++)
		loop_turn(loop, 1000);
	must(cache_stats(cache).up, "Redis is away");
}

static void down(void)
{
	cache_close(cache);
	must(fiber_drain(loop, deadline_in(loop, 10000)), "fibers are left");
	cache = cache_free(cache);
	redis = redis_close(redis);
	loop = loop_free(loop);
}

static struct deadline patient(void)
{
	return deadline_in(loop, 60000);
}

/* ---- many at once ---- */

struct work {
	void (*one)(struct arena *arena, int at);
	int next, count, running;
};

static void worker(void *arg)
{
	struct work *w = arg;
	struct arena *arena = arena_new();

	while (w->next < w->count) {
		w->one(arena, w->next++);
		arena_clear(arena);
	}
	arena_free(arena);
	w->running--;
}

struct took {
	double wall_s, cpu_us, redis_us; /* CPU of this process and of Redis, for each */
};

static double redis_has_used_us;

/* "used_cpu_sys:1.5", of INFO, in seconds. */
static double number_behind(struct str text, const char *name)
{
	const char *at = memmem(text.p, text.n, name, strlen(name));

	return at ? strtod(at + strlen(name), NULL) : 0;
}

static void ask_redis_cpu(void *arg)
{
	struct arena *arena = arena_new();
	struct redis_reply reply;

	must(redis_call(redis, arena, patient(), REDIS_ARGS(STR("INFO"), STR("cpu")), &reply) == OK, "INFO");
	redis_has_used_us = 1e6 * (number_behind(reply.s, "used_cpu_sys:") + number_behind(reply.s, "used_cpu_user:"));
	arena_free(arena);
	*(bool *)arg = true;
}

static double redis_cpu_us(void)
{
	bool done = false;

	must(fiber_spawn(loop, "cpu", ask_redis_cpu, &done) == OK, "a fiber");
	while (!done)
		loop_turn(loop, 1000);
	return redis_has_used_us;
}

static struct took all(void (*one)(struct arena *arena, int at), int count, int fibers)
{
	struct work w = {one, 0, count, fibers};
	double theirs = redis_cpu_us();
	int64_t wall = now_ns(CLOCK_MONOTONIC), cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID);

	for (int i = 0; i < fibers; i++)
		must(fiber_spawn(loop, "bench", worker, &w) == OK, "a fiber");
	while (w.running > 0)
		loop_turn(loop, 10000);
	wall = now_ns(CLOCK_MONOTONIC) - wall;
	cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
	return (struct took){(double)wall / 1e9, (double)cpu / 1e3 / count, (redis_cpu_us() - theirs) / count};
}

/* ---- set and get ---- */

static char value[VALUE_BYTES];
static bool tagged;
static struct str keys[KEYS];

/* As a list of records looks: names that come again, ids that do not. */
static void make_value(void)
{
	uint64_t z = 1;
	size_t n = 0;

	while (n < sizeof(value)) {
		char one[160];
		int some = snprintf(one, sizeof(one),
				    "{\"homework_id\":\"%016" PRIx64
				    "\",\"title\":\"Quadratic equations\",\"status\":\"active\",\"max_marks\":%d},",
				    z, (int)(z % 90));

		z = z * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		some = (size_t)some < sizeof(value) - n ? some : (int)(sizeof(value) - n);
		memcpy(value + n, one, (size_t)some);
		n += (size_t)some;
	}
}

static struct str key_of(struct arena *arena, int at)
{
	struct str part = str_of(arena_printf(arena, "%d", at));

	return cache_key(cache, arena, school, "list", &part, 1);
}

static struct cache_tags tag_number(struct arena *arena, int number)
{
	struct cache_tags tags = {.school = school};

	cache_tag(&tags, arena, "teacher:", str_of(arena_printf(arena, "%d", number)));
	return tags;
}

/* A machine that is busy with other programs may keep Redis from answering for so long that the gate shuts for a moment. */
static void set_surely(struct arena *arena, struct str key, const struct cache_tags *tags, struct str bytes)
{
	const struct cache_life life = {.ttl_s = 3600};

	for (int i = 0; i < 500; i++) {
		if (cache_set(cache, arena, patient(), key, tags, &life, bytes) == OK)
			return;
		must(sleep_ms(loop, 20, patient()) == OK, "sleep");
	}
	must(false, "set");
}

static void set_one(struct arena *arena, int at)
{
	struct cache_tags tags = tagged ? tag_number(arena, at % KEYS / 10) : (struct cache_tags){.school = school};

	set_surely(arena, keys[at % KEYS], &tags, (struct str){value, sizeof(value)});
}

static void get_one(struct arena *arena, int at)
{
	struct cache_tags tags = tagged ? tag_number(arena, at % KEYS / 10) : (struct cache_tags){.school = school};
	struct cache_note note;
	struct str got;

	for (int i = 0; i < 500; i++) {
		if (cache_get(cache, arena, patient(), keys[at % KEYS], &tags, &got, &note) == OK && got.n == sizeof(value))
			return;
		must(sleep_ms(loop, 20, patient()) == OK, "sleep");
	}
	must(false, "get");
}

static void print_took(const char *name, struct took took, double count, bool first)
{
	printf("%s\"%s\": {\"rate\": %.0f, \"cpu_us\": %.3f, \"redis_us\": %.3f}", first ? "" : ", ", name, count / took.wall_s,
	       took.cpu_us, took.redis_us);
}

static int ops(const char *url, int count)
{
	struct arena *arena = arena_new();
	static const char *const names[2][2] = {{"set", "get"}, {"set_tagged", "get_tagged"}};

	up(url, 0);
	make_value();
	for (int i = 0; i < KEYS; i++)
		keys[i] = key_of(arena, i);
	printf("{");
	for (int i = 0; i < 2; i++) {
		tagged = i == 1;
		all(set_one, KEYS, FIBERS);
		print_took(names[i][0], all(set_one, count, FIBERS), count, i == 0);
		print_took(names[i][1], all(get_one, count, FIBERS), count, false);
	}
	printf("}\n");
	down();
	arena_free(arena);
	return 0;
}

/* ---- tags ---- */

static int a_tag, n_tags;
static uint64_t dropped;

static void fill_one(struct arena *arena, int at)
{
	struct cache_tags tags = tag_number(arena, at / a_tag);

	set_surely(arena, key_of(arena, at), &tags, (struct str){value, 64});
}

static struct cache_tags some_tags(struct arena *arena, int at)
{
	struct cache_tags tags = {.school = school};

	for (int i = at * TAGS_OF_A_CALL; i < (at + 1) * TAGS_OF_A_CALL && i < n_tags; i++)
		cache_tag(&tags, arena, "teacher:", str_of(arena_printf(arena, "%d", i)));
	return tags;
}

static void raise_some(struct arena *arena, int at)
{
	struct cache_tags tags = some_tags(arena, at);

	must(cache_raise(cache, arena, &tags) == OK, "raise");
}

static void raise_one(struct arena *arena, int at)
{
	struct cache_tags tags = tag_number(arena, at);

	must(cache_raise(cache, arena, &tags) == OK, "raise");
}

static void drop_some(struct arena *arena, int at)
{
	struct cache_tags tags = some_tags(arena, at);
	struct cache_dropped got;

	must(cache_drop_tags(cache, arena, patient(), &tags, false, &got) == OK && got.complete, "drop");
	dropped += got.live;
}

static int tags(const char *url, int entries, int each)
{
	struct took filled, raised, raised_alone, gone;
	int calls;

	a_tag = each;
	n_tags = (entries + each - 1) / each;
	calls = (n_tags + TAGS_OF_A_CALL - 1) / TAGS_OF_A_CALL;
	up(url, 0);
	make_value();
	filled = all(fill_one, entries, FIBERS);
	gone = all(drop_some, calls, 4);
	must(dropped == (uint64_t)entries, "not every entry was dropped");
	all(fill_one, entries, FIBERS);
	raised = all(raise_some, calls, 4);
	raised_alone = all(raise_one, n_tags, FIBERS);
	all(drop_some, calls, 4); /* leaves nothing for the next run */
	/* For each key: a call has many. */
	gone.cpu_us *= (double)calls / entries;
	gone.redis_us *= (double)calls / entries;
	raised.cpu_us *= (double)calls / entries;
	raised.redis_us *= (double)calls / entries;
	raised_alone.cpu_us *= (double)n_tags / entries;
	raised_alone.redis_us *= (double)n_tags / entries;
	printf("{");
	print_took("fill", filled, entries, true);
	print_took("drop", gone, entries, false);
	print_took("raise", raised, entries, false);
	print_took("raise_alone", raised_alone, entries, false);
	printf("}\n");
	down();
	return 0;
}

static int million(const char *url, int entries)
{
	struct took filled, gone;

	a_tag = entries;
	n_tags = 1;
	up(url, 0);
	make_value();
	filled = all(fill_one, entries, FIBERS);
	fprintf(stderr, "filled\n"); /* whoever pings begins now */
	must(getchar() != EOF, "nobody says go");
	gone = all(drop_some, 1, 1);
	must(dropped == (uint64_t)entries, "not every entry was dropped");
	printf("{\"fill\": %.0f, \"drop_s\": %.3f, \"keys\": %.0f, \"call_ms\": %.3f}\n", entries / filled.wall_s, gone.wall_s,
	       entries / gone.wall_s, gone.redis_us / 1e3 * INDEX_CHUNK / entries);
	down();
	return 0;
}

/* ---- somebody else's patience ---- */

static struct {
	int64_t longest_ns, until_ns, over_ms;
	int count;
} pings;

static void ping_one(void *arg)
{
	struct arena *arena = arena_new();

	(void)arg;
	while (now_ns(CLOCK_MONOTONIC) < pings.until_ns) {
		int64_t from = now_ns(CLOCK_MONOTONIC);
		struct redis_reply reply;

		must(redis_call(redis, arena, patient(), REDIS_ARGS(STR("PING")), &reply) == OK, "ping");
		from = now_ns(CLOCK_MONOTONIC) - from;
		pings.longest_ns = from > pings.longest_ns ? from : pings.longest_ns;
		pings.over_ms += from > 1000000;
		pings.count++;
		arena_clear(arena);
		if (sleep_ms(loop, 1, patient()) != OK)
			break;
	}
	arena_free(arena);
}

static int ping(const char *url, double seconds)
{
	up(url, 0);
	pings.until_ns = now_ns(CLOCK_MONOTONIC) + (int64_t)(seconds * 1e9);
	must(fiber_spawn(loop, "ping", ping_one, NULL) == OK, "a fiber");
	while (now_ns(CLOCK_MONOTONIC) < pings.until_ns)
		loop_turn(loop, 1000);
	printf("{\"longest_ms\": %.2f, \"over_1_ms\": %d, \"pings\": %d}\n", (double)pings.longest_ns / 1e6, (int)pings.over_ms,
	       pings.count);
	down();
	return 0;
}

/* ---- a herd ---- */

static struct herd { /* shared by the processes */
	_Atomic int ready, calls, wrong;
	_Atomic int64_t filled_ns, last_ns;
} * herd;
static int callers_left;

static enum err source(void *ctx, struct buf *out)
{
	(void)ctx;
	herd->calls++;
	if (sleep_ms(loop, SOURCE_MS, patient()) != OK)
		return ERR_CANCELLED;
	buf_put(out, value, sizeof(value));
	herd->filled_ns = now_ns(CLOCK_MONOTONIC);
	return OK;
}

static void caller(void *arg)
{
	struct arena *arena = arena_new();
	struct cache_tags tags = tag_number(arena, 1);
	struct cache_call call = {.key = *(struct str *)arg, .tags = &tags, .life = {.ttl_s = 60}, .fill = source};
	struct cache_note note;
	struct str got;
	int64_t now;

	if (cache_read(cache, arena, patient(), &call, &got, &note) != OK || got.n != sizeof(value))
		herd->wrong++;
	now = now_ns(CLOCK_MONOTONIC);
	if (now > herd->last_ns)
		herd->last_ns = now;
	arena_free(arena);
	callers_left--;
}

static void herd_process(const char *url, int processes, int callers, int round)
{
	struct arena *arena = arena_new();
	struct str key;

	up(url, 4 << 20);
	key = key_of(arena, 1000000 + round);
	herd->ready++;
	while (herd->ready < processes)
		loop_turn(loop, 1000);
	callers_left = callers;
	for (int i = 0; i < callers; i++)
		must(fiber_spawn(loop, "caller", caller, &key) == OK, "a fiber");
	while (callers_left > 0)
		loop_turn(loop, 10000);
	arena_free(arena);
	down();
	exit(0);
}

static int herds(const char *url, int processes, int callers)
{
	herd = mmap(NULL, sizeof(*herd), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	must(herd != MAP_FAILED && processes <= HERD_MOST, "processes");
	make_value();
	fflush(stdout);
	for (int i = 0; i < processes; i++)
		if (fork() == 0)
			herd_process(url, processes, callers, (int)getppid());
	for (int i = 0, status; i < processes; i++)
		must(wait(&status) > 0 && status == 0, "a process of the herd");
	printf("{\"source_calls\": %d, \"wrong\": %d, \"released_ms\": %.2f}\n", herd->calls, herd->wrong,
	       (double)(herd->last_ns - herd->filled_ns) / 1e6);
	return 0;
}

/* ---- a bare GET behind the server ---- */

static struct str served;

static struct http_plan on_head(void *ctx, struct http_exchange *x)
{
	(void)ctx, (void)x;
	return (struct http_plan){.body = HTTP_BODY_NONE};
}

static void answer(void *arg)
{
	struct http_exchange *x = arg;
	struct redis_reply reply;

	if (redis_call(redis, x->arena, patient(), REDIS_ARGS(STR("GET"), served), &reply) == OK && reply.type == REDIS_STRING)
		http_answer(x, 200, STR("Content-Type: application/json\r\n"), reply.s);
	else
		http_answer(x, 503, STR(""), STR(""));
}

static void on_run(void *ctx, struct http_exchange *x)
{
	if (fiber_run(ctx, "get", answer, x) != OK)
		http_answer(x, 503, STR(""), STR(""));
}

static void stop(void *arg)
{
	loop_stop(arg);
}

static int serve(const char *url, const char *key)
{
	const struct redis_conf conf = {.name = "cache", .url = url, .connections = 4, .fault = ERR_CACHE};
	struct http_limits limits = http_limits_default;
	struct http_server *server;

	loop = loop_new();
	limits.requests = 1000000000;
	served = str_of(key);
	must(redis_open(loop, &conf, &redis) == OK, "the address of Redis");
	must(http_server_open(loop, "127.0.0.1:0", &(struct http_listener){.ctx = loop, .head = on_head, .run = on_run}, &limits,
			      &server) == OK,
	     "a port");
	printf("%d\n", http_server_port(server));
	fflush(stdout);
	loop_on_signal(loop, SIGTERM, stop, loop);
	loop_run(loop);
	http_server_close(server);
	redis_close(redis);
	loop_free(loop);
	return 0;
}

int main(int argc, char **argv)
{
	const char *what = argc > 2 ? argv[1] : "";
	int first = argc > 3 ? (int)strtol(argv[3], NULL, 10) : 0, second = argc > 4 ? (int)strtol(argv[4], NULL, 10) : 0;

	if (strcmp(what, "ops") == 0 && first > 0)
		return ops(argv[2], first);
	if (strcmp(what, "tags") == 0 && second > 0)
		return tags(argv[2], first, second);
	if (strcmp(what, "million") == 0 && first > 0)
		return million(argv[2], first);
	if (strcmp(what, "ping") == 0 && argc > 3)
		return ping(argv[2], strtod(argv[3], NULL));
	if (strcmp(what, "herd") == 0 && second > 0)
		return herds(argv[2], first, second);
	if (strcmp(what, "serve") == 0 && argc > 3)
		return serve(argv[2], argv[3]);
	fprintf(stderr, "bench_cache ops|tags|million|ping|herd|serve URL …\n");
	return 2;
}
