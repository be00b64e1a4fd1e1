/* SPDX-License-Identifier: Apache-2.0 */
/* The Redis client against a real server: values, pipelining, scripts, addresses and passwords. */
#include "unit/redis_case.h"

/* ---- values */

static void all_types(void *arg)
{
	struct redis_reply r;

	(void)arg;
	assert_int_equal(call(REDIS_ARGS(STR("SET"), STR("k"), STR("v")), &r), OK);
	assert_int_equal(r.type, REDIS_STATUS);
	assert_str(r.s, STR("OK"));
	assert_int_equal(call(REDIS_ARGS(STR("GET"), STR("k")), &r), OK);
	assert_int_equal(r.type, REDIS_STRING);
	assert_str(r.s, STR("v"));
	assert_int_equal(call(REDIS_ARGS(STR("GET"), STR("none")), &r), OK);
	assert_int_equal(r.type, REDIS_NIL);
	assert_int_equal(call(REDIS_ARGS(STR("INCRBY"), STR("n"), STR("-9007199254740993")), &r), OK);
	assert_int_equal(r.type, REDIS_INTEGER);
	assert_true(r.i == INT64_C(-9007199254740993));
	assert_int_equal(call(REDIS_ARGS(STR("NONSENSE")), &r), OK);
	assert_int_equal(r.type, REDIS_ERROR);
	assert_true(str_has_prefix(r.s, STR("ERR unknown command")));
	assert_int_equal(call(REDIS_ARGS(STR("EVAL"), STR("return {1, {'a', {}, false}, {err = 'E x'}, 'z'}"), STR("0")), &r),
			 OK);
	assert_int_equal(r.type, REDIS_ARRAY);
	assert_int_equal(r.n, 4);
	assert_int_equal(r.v[0].i, 1);
	assert_int_equal(r.v[1].n, 3);
	assert_str(r.v[1].v[0].s, STR("a"));
	assert_int_equal(r.v[1].v[1].type, REDIS_ARRAY);
	assert_int_equal(r.v[1].v[1].n, 0);
	assert_int_equal(r.v[1].v[2].type, REDIS_NIL);
	assert_int_equal(r.v[2].type, REDIS_ERROR);
	assert_str(r.v[3].s, STR("z"));
	assert_int_equal(redis_stats(redis).errors, 1);
	ended++;
}

static void every_type_of_reply_is_decoded(void **state)
{
	(void)state;
	on_fiber(all_types, NULL);
	assert_int_equal(ended, 1);
}

static void binary(void *arg)
{
	static const size_t sizes[] = {0, 1, 2, 100, 200, 255, 4000, 4096, 20000, 1000000};
	uint64_t seed = 5;

	(void)arg;
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		char *bytes = arena_alloc(arena, sizes[i] + 1);
		struct str value = {bytes, sizes[i]};
		struct redis_reply r;

		for (size_t j = 0; j < sizes[i]; j++)
			bytes[j] = (char)unit_random(&seed);
		assert_int_equal(call(REDIS_ARGS(STR("SET"), STR("a \r\n\0%s$*"), value), &r), OK);
		assert_int_equal(call(REDIS_ARGS(STR("GET"), STR("a \r\n\0%s$*")), &r), OK);
		assert_str(r.s, value);
		assert_int_equal(r.s.p[r.s.n], '\0');
	}
	ended++;
}

static void values_of_any_bytes_and_size_come_back(void **state)
{
	(void)state;
	on_fiber(binary, NULL);
	assert_int_equal(ended, 1);
}

static void many_elements(void *arg)
{
	struct redis_reply r, one;
	static char text[16];

	(void)arg;
	for (int i = 0; i < 3000; i++) {
		snprintf(text, sizeof(text), "%d", i);
		assert_int_equal(call(REDIS_ARGS(STR("RPUSH"), STR("list"), str_of(text)), &one), OK);
	}
	assert_int_equal(call(REDIS_ARGS(STR("LRANGE"), STR("list"), STR("0"), STR("-1")), &r), OK);
	assert_int_equal(call(REDIS_ARGS(STR("LRANGE"), STR("list"), STR("0"), STR("3")), &one), OK);
	assert_int_equal(r.n, 3000);
	for (int i = 0; i < 3000; i++) {
		snprintf(text, sizeof(text), "%d", i);
		assert_str(r.v[i].s, str_of(text));
	}
	assert_str(one.v[3].s, STR("3"));
	ended++;
}

static void a_long_list_lives_as_long_as_its_arena(void **state)
{
	(void)state;
	on_fiber(many_elements, NULL);
	assert_int_equal(ended, 1);
}

/* ---- pipelining */

static void two_at_once(void *arg)
{
	struct redis_op *set = redis_start(redis, REDIS_ARGS(STR("SET"), STR("p"), STR("1"))),
			*get = redis_start(redis, REDIS_ARGS(STR("GET"), STR("p")));
	struct redis_reply r;

	(void)arg;
	assert_int_equal(redis_finish(get, arena, in_ms(5000), &r), OK);
	assert_str(r.s, STR("1"));
	assert_int_equal(redis_finish(set, arena, in_ms(5000), NULL), OK);
	ended++;
}

static void commands_started_together_are_answered_in_any_order_of_waiting(void **state)
{
	(void)state;
	on_fiber(two_at_once, NULL);
	assert_int_equal(ended, 1);
}

static struct str info(struct str section, struct str field)
{
	struct redis_reply r;
	struct str line;

	assert_int_equal(call(REDIS_ARGS(STR("INFO"), section), &r), OK);
	while (r.s.n > 0) {
		line = str_split(&r.s, '\n');
		if (str_has_prefix(line, field))
			return str_trim((struct str){line.p + field.n + 1, line.n - field.n - 1});
	}
	fail_msg("no such field");
	return r.s;
}

static void reads_processed(void *arg)
{
	assert_true(str_to_i64(info(STR("stats"), STR("total_reads_processed")), arg));
	ended++;
}

static void fibers_share_a_connection_and_write_once_a_turn(void **state)
{
	int64_t n = 0, before = 0, after = 0;

	(void)state;
	on_fiber(reads_processed, &before);
	for (int i = 0; i < 64; i++)
		assert_int_equal(fiber_spawn(loop, "inc", increments, NULL), OK);
	assert_true(fiber_drain(loop, in_ms(20000)));
	on_fiber(reads_processed, &after);
	on_fiber(counts, &n);
	assert_int_equal(n, 64 * 50);
	/* 3,200 commands in 50 rounds: each round is one write, or a few when the answers come in parts. */
	assert_true(after - before < 1000);
	assert_int_equal(redis_stats(redis).in_flight, 0);
}

static void several_connections_share_the_commands(void **state)
{
	int64_t n = 0;

	(void)state;
	redis_close(redis);
	open_with(server.url, 4, 2000);
	for (int i = 0; i < 64; i++)
		assert_int_equal(fiber_spawn(loop, "inc", increments, NULL), OK);
	assert_true(fiber_drain(loop, in_ms(20000)));
	on_fiber(counts, &n);
	assert_int_equal(n, 64 * 50);
	assert_int_equal(redis_stats(redis).connected, 4);
}

static void echoes(void *arg)
{
	static char large[4096];
	struct redis_reply r;

	(void)arg;
	for (int i = 0; i < 50; i++)
		assert_int_equal(call(REDIS_ARGS(STR("ECHO"), {large, sizeof(large)}), &r), OK);
	ended++;
}

/* A few small commands fit into one connection's turn; many large ones call for more, up to the limit. */
static void busy_connections_are_joined_by_others(void **state)
{
	struct redis_conf conf = {
		.name = "test", .url = server.url, .connections = 1, .most = 6, .fault = ERR_BUFFER, .connect_ms = 300};

	(void)state;
	redis_close(redis);
	assert_int_equal(redis_open(loop, &conf, &redis), OK);
	on_fiber(increments, NULL);
	assert_int_equal(redis_stats(redis).connected, 1);
	for (int i = 0; i < 64; i++)
		assert_int_equal(fiber_spawn(loop, "echo", echoes, NULL), OK);
	assert_true(fiber_drain(loop, in_ms(20000)));
	assert_int_equal(ended, 65);
	assert_int_equal(redis_stats(redis).connected, 6);
}

static void overloads(void *arg)
{
	enum { N = 4097 };
	static struct redis_op *op[N];
	enum err e = OK;

	(void)arg;
	for (int i = 0; i < N; i++)
		op[i] = redis_start(redis, REDIS_ARGS(STR("PING")));
	for (int i = 0; i < N; i++) {
		assert_int_equal(e, OK);
		e = redis_finish(op[i], arena, in_ms(5000), NULL);
	}
	assert_int_equal(e, ERR_OVERLOAD);
	ended++;
}

static void above_the_cap_a_command_is_refused(void **state)
{
	(void)state;
	on_fiber(overloads, NULL); /* before there is a connection */
	turns_until(is_up, 1000);
	on_fiber(overloads, NULL);
	assert_int_equal(ended, 2);
}

/* ---- scripts */

static const struct redis_script twice = {
	.name = "twice", .text = "return {'twice', 2 * ARGV[1]}", .sha = "c7fac4fbe5f1d6af0d3a8d3a2a0a1a7e2b8a8a2e"};
static struct redis_script script;

static void scripted(void *arg)
{
	struct redis_reply r;

	(void)arg;
	assert_int_equal(redis_script_call(redis, &script, REDIS_ARGS(STR("21")), arena, in_ms(5000), &r), OK);
	assert_int_equal(r.type, REDIS_ARRAY);
	assert_str(r.v[0].s, STR("twice"));
	assert_int_equal(r.v[1].i, 42);
	ended++;
}

static void loads_sha(void *arg)
{
	struct redis_reply r;
	struct redis_script *s = arg;

	assert_int_equal(call(REDIS_ARGS(STR("SCRIPT"), STR("LOAD"), str_of(s->text)), &r), OK);
	assert_int_equal(r.s.n, 40);
	memcpy(s->sha, r.s.p, 40);
	assert_int_equal(call(REDIS_ARGS(STR("SCRIPT"), STR("FLUSH")), &r), OK);
}

static void a_script_is_loaded_when_the_server_does_not_know_it(void **state)
{
	(void)state;
	script = twice;
	on_fiber(loads_sha, &script);
	on_fiber(scripted, NULL);
	on_fiber(scripted, NULL);
	assert_int_equal(ended, 2);
}

static void wrong_sha(void *arg)
{
	struct redis_reply r;

	(void)arg;
	assert_int_equal(redis_script_call(redis, &twice, REDIS_ARGS(STR("21")), arena, in_ms(5000), &r), ERR_BUFFER);
	assert_true(str_has_prefix(str_of(redis_last_error(redis)), STR("NOSCRIPT")));
	ended++;
}

static void a_script_under_a_wrong_name_is_a_fault_and_no_endless_loop(void **state)
{
	(void)state;
	on_fiber(wrong_sha, NULL);
	assert_int_equal(ended, 1);
}

static void puts_a_record(void *arg)
{
	static const char school[] = "0123456789abcdef", tag[8] = "callcall";
	const struct redis_args put = REDIS_ARGS({school, 16}, {tag, 8}, STR(""), STR("0"), STR(""), STR("1"), STR("homework"),
						 STR("id-1"), STR("0"), STR(""), STR("0"), STR("7"), STR("1"), STR("class:7a"),
						 STR("payload"), STR("1"), STR("homework"), STR("2"), STR("e"), STR("{}"));
	struct redis_reply first, again;

	(void)arg;
	assert_int_equal(redis_script_call(redis, &script, put, arena, in_ms(5000), &first), OK);
	assert_int_equal(first.type, REDIS_ARRAY);
	assert_int_equal(first.n, 2);
	assert_str(first.v[0].s, STR("OK"));
	assert_int_equal(first.v[1].type, REDIS_INTEGER);
	assert_true(first.v[1].i > INT64_C(1600000000000000));
	assert_int_equal(redis_script_call(redis, &script, put, arena, in_ms(5000), &again), OK);
	assert_str(again.v[0].s, STR("SAME"));
	assert_true(again.v[1].i == first.v[1].i);
	ended++;
}

static void the_put_script_of_the_buffer_answers_through_it(void **state)
{
	static char text[65536];
	FILE *f = fopen(S24_SOURCE_DIR "/common/svc/lua/put.lua", "re");

	(void)state;
	assert_non_null(f);
	text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
	fclose(f);
	script = (struct redis_script){.name = "put", .text = text};
	on_fiber(loads_sha, &script);
	on_fiber(puts_a_record, NULL);
	assert_int_equal(ended, 1);
}

/* ---- addresses and passwords */

static void addresses_are_checked(void **state)
{
	static const char *const bad[] = {
		"",
		"localhost",
		"http://localhost",
		"rediss://localhost",
		"redis://",
		"redis://:6379",
		"redis://localhost:",
		"redis://localhost:0",
		"redis://localhost:65536",
		"redis://localhost:6a",
		"redis://localhost/x",
		"redis://localhost/-1",
		"redis://localhost/1/2",
		"redis://[::1",
		"redis://[::1]x",
		"redis://us%zzer@localhost",
		"redis://a%00b@localhost",
		"unix://",
		"unix://relative",
		"unix:///",
		"unix:///tmp/x?db=",
		"unix:///tmp/x?db=x",
		"unix:///tmp/x?timeout=1",
	};
	static const char *const good[] = {
		"redis://127.0.0.1",
		"redis://127.0.0.1:1/3",
		"redis://[::1]:1",
		"redis://:secret@127.0.0.1:1",
		"redis://user:p%40ss@127.0.0.1:1/0",
		"unix:///tmp/nothing-here?db=2",
	};
	struct redis_conf conf = {.name = "bad", .fault = ERR_BUFFER};
	struct redis *r;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		conf.url = bad[i];
		if (redis_open(loop, &conf, &r) != ERR_INVALID)
			fail_msg("%s is taken", bad[i]);
	}
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		conf.url = good[i];
		assert_int_equal(redis_open(loop, &conf, &r), OK);
		redis_close(r);
	}
}

static void selects(void *arg)
{
	struct redis_reply r;
	struct str line;

	assert_int_equal(call(REDIS_ARGS(STR("CLIENT"), STR("INFO")), &r), OK);
	while (r.s.n > 0) {
		line = str_split(&r.s, ' ');
		ended += str_eq(line, str_of(arg));
	}
}

/* A server with these lines, and a client of it. */
static void restart_with(const char *lines, const char *user, const char *query)
{
	char url[160];

	redis = redis_close(redis);
	real_redis_stop(&server);
	real_redis_start(&server, lines);
	snprintf(url, sizeof(url), "unix://%s%s%s", user, server.path, query);
	open_with(url, 1, 2000);
}

static void the_password_and_the_database_of_the_address_are_used(void **state)
{
	(void)state;
	restart_with("requirepass secret", ":secret@", "?db=3");
	on_fiber(selects, (void *)(uintptr_t) "db=3");
	assert_int_equal(ended, 1);
	restart_with("user app on >p@ss:word ~* &* +@all", "app:p%40ss:word@", "");
	on_fiber(selects, (void *)(uintptr_t) "user=app");
	assert_int_equal(ended, 2);
}

static void a_wrong_password_is_a_fault_and_says_so(void **state)
{
	(void)state;
	restart_with("requirepass secret", ":wrong@", "");
	on_fiber(one_set, (void *)0);
	assert_int_equal(results[0], ERR_BUFFER);
	assert_true(str_has_prefix(str_of(redis_last_error(redis)), STR("WRONGPASS")));
}

static void is_empty(void *arg)
{
	struct redis_reply r;

	(void)arg;
	assert_int_equal(call(REDIS_ARGS(STR("DBSIZE")), &r), OK);
	assert_int_equal(r.i, 0);
	ended++;
}

static void a_database_that_does_not_exist_is_never_written_to(void **state)
{
	(void)state;
	restart_with("databases 2", "", "?db=7");
	on_fiber(one_set, (void *)0);
	assert_int_equal(results[0], ERR_BUFFER);
	redis = redis_close(redis);
	open_with(server.url, 1, 2000);
	on_fiber(is_empty, NULL);
	assert_int_equal(ended, 2);
}

static void a_user_without_ping_is_served(void **state)
{
	(void)state;
	restart_with("user app on nopass ~* +set", "app:x@", "");
	on_fiber(one_set, (void *)0);
	assert_int_equal(results[0], OK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(every_type_of_reply_is_decoded),
		T(values_of_any_bytes_and_size_come_back),
		T(a_long_list_lives_as_long_as_its_arena),
		T(commands_started_together_are_answered_in_any_order_of_waiting),
		T(fibers_share_a_connection_and_write_once_a_turn),
		T(several_connections_share_the_commands),
		T(busy_connections_are_joined_by_others),
		T(above_the_cap_a_command_is_refused),
		T(a_script_is_loaded_when_the_server_does_not_know_it),
		T(a_script_under_a_wrong_name_is_a_fault_and_no_endless_loop),
		T(the_put_script_of_the_buffer_answers_through_it),
		T(addresses_are_checked),
		T(the_password_and_the_database_of_the_address_are_used),
		T(a_wrong_password_is_a_fault_and_says_so),
		T(a_database_that_does_not_exist_is_never_written_to),
		T(a_user_without_ping_is_served),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
