/* SPDX-License-Identifier: Apache-2.0 */
/* The sweep of files and documents in a whole daemon, every second, over a real PostgreSQL and a real Redis. */
#include "documents_world.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "unit/real_redis.h"

#define PAPER_FIELDS(F, T) F(T, TEXT, title, .max = 200)
ROW_STRUCT(paper, PAPER_FIELDS);
ROW_TABLE(paper, PAPER_FIELDS, 1);

static const struct entity paper_entity = {
	.name = "paper", .table = "quiz.papers", .schema = &paper_schema, .write = BUFFERED, .level = 1};
static const struct entity *const entities[] = {&paper_entity, NULL};
static const struct entity_sql entity_sql[] = {{.entity = "paper"}, {0}};
/* As a file of the service's sql/ would say it. */
static const struct pg_stmt named_files = {
	.name = "named_files",
	.sql = "SELECT school_id || '/' || sha256 AS key FROM paper_files WHERE school_id || '/' || sha256 = ANY($1)"};

/* clang-format off */
static const struct route routes[] = {
	{HTTP_GET, "/wait", ROLE_ANYONE, MAY_PUBLIC, .handler = wait_a_little},
	ROUTE_END,
};
/* clang-format on */
static const struct service service = {.name = "quiz",
				       .routes = routes,
				       .entities = entities,
				       .entity_sql = entity_sql,
				       .flags = SERVICE_STORAGE | SERVICE_DOCUMENTS,
				       .named_files = &named_files};

static struct real_redis buffer;

static int start(void **state)
{
	IGNORE(start_postgres(state)); /* it ends the test itself */
	real_redis_start(&buffer, NULL);
	setenv("REDIS_BUFFER_URLS", buffer.url, 1);
	setenv("S24_SWEEP_INTERVAL_S", "1", 1);
	unsetenv("S24_MONGO_URI");
	real_pg_sql(server, "CREATE TABLE quiz.paper_files (school_id uuid, sha256 text);"
			    "GRANT SELECT ON quiz.paper_files TO schools24_quiz;"
			    "ALTER TABLE quiz.paper_files ENABLE ROW LEVEL SECURITY;"
			    "CREATE POLICY own ON quiz.paper_files USING (school_id = nullif(current_setting('app.school_id', "
			    "true), '')::uuid);"
			    "INSERT INTO quiz.paper_files VALUES ('01900000-0000-7000-8000-000000000001', repeat('a', 64)),"
			    "('01900000-0000-7000-8000-000000000002', repeat('b', 64))");
	return 0;
}

static int stop(void **state)
{
	real_redis_stop(&buffer);
	return stop_postgres(state);
}

static void redis_say(const char *words)
{
	char command[256];

	snprintf(command, sizeof(command), "redis-cli -s %s %s >/dev/null", buffer.path, words);
	assert_int_equal(system(command), 0);
}

static bool is_claimed(void)
{
	char command[256];

	snprintf(command, sizeof(command), "redis-cli -s %s EXISTS sweep:quiz | grep -q 1", buffer.path);
	return system(command) == 0;
}

static int setup(void **state)
{
	redis_say("FLUSHALL");
	*state = kit_open(&service);
	return 0;
}

static int teardown(void **state)
{
	kit_close(*state);
	return 0;
}

static const char *path_of(struct kit *k, int school, char letter)
{
	char hash[65] = {0};

	memset(hash, letter, 64);
	return arena_printf(k->arena, "%s/quiz/01900000-0000-7000-8000-00000000000%d/%s", k->folder, school, hash);
}

static void file_of(struct kit *k, int school, char letter, int days)
{
	const char *path = path_of(k, school, letter);
	char *folder = arena_strdup(k->arena, path);
	struct timespec times[2] = {{.tv_sec = clock_real_us() / US_PER_S - INT64_C(86400) * days}};
	int fd;

	times[1] = times[0];
	*strrchr(folder, '/') = '\0';
	assert_true(mkdir(folder, 0750) == 0 || errno == EEXIST);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0640);
	assert_true(fd >= 0 && futimens(fd, times) == 0);
	close(fd);
}

static bool is_there(struct kit *k, int school, char letter)
{
	return access(path_of(k, school, letter), F_OK) == 0;
}

static void old_files_that_no_row_names_go(void **state)
{
	struct kit *k = *state;

	file_of(k, 1, 'a', 2); /* named */
	file_of(k, 1, 'b', 2); /* named by another school's row only */
	file_of(k, 2, 'b', 2); /* named */
	file_of(k, 2, 'c', 2); /* not named */
	file_of(k, 2, 'd', 0); /* not named yet */
	assert_true(becomes(k, "/metrics", "schools24_sweeps_total 1\n"));
	assert_true(is_there(k, 1, 'a') && is_there(k, 2, 'b') && is_there(k, 2, 'd'));
	assert_false(is_there(k, 1, 'b') || is_there(k, 2, 'c'));
	assert_holds(kit_admin_get(k, "/metrics").body, "schools24_sweep_removed_total{what=\"files\"} 2\n");
	assert_true(becomes(k, "/metrics", "schools24_sweeps_total 2\n")); /* and again */
	assert_true(is_there(k, 1, 'a'));
}

static void a_dead_letter_may_name_any_file(void **state)
{
	struct kit *k = *state;

	redis_say("ZADD wb:dlq:paper 1 01900000-0000-7000-8000-00000000000a");
	file_of(k, 1, 'c', 2);
	assert_true(becomes(k, "/metrics", "schools24_sweeps_skipped_total 1\n"));
	assert_true(is_there(k, 1, 'c'));
	redis_say("DEL wb:dlq:paper");
	assert_true(becomes(k, "/metrics", "schools24_sweep_removed_total{what=\"files\"} 1\n"));
	assert_false(is_there(k, 1, 'c'));
}

static void another_replicas_sweep_is_enough(void **state)
{
	struct kit *k = *state;

	redis_say("SET sweep:quiz 1 EX 3");
	file_of(k, 1, 'c', 2);
	for (int i = 0; i < 22; i++) /* two intervals */
		assert_int_equal(kit_get(k, "/api/v1/wait", "").status, 200);
	assert_true(is_there(k, 1, 'c'));
	assert_true(becomes(k, "/metrics", "schools24_sweeps_total 1\n")); /* the key has ended */
	assert_false(is_there(k, 1, 'c'));
}

static void without_an_answer_of_the_rows_nothing_goes(void **state)
{
	struct kit *k = *state;
	int claimed = 0;

	real_pg_sql(server, "REVOKE SELECT ON quiz.paper_files FROM schools24_quiz");
	file_of(k, 1, 'c', 2);
	for (int i = 0; i < 22; i++) {
		assert_int_equal(kit_get(k, "/api/v1/wait", "").status, 200);
		claimed += is_claimed();
	}
	assert_in_range(claimed, 0, 4); /* a failed one gives the key back: it would live for ten of these waits */
	assert_true(is_there(k, 1, 'c'));
	real_pg_sql(server, "GRANT SELECT ON quiz.paper_files TO schools24_quiz");
	assert_true(becomes(k, "/metrics", "schools24_sweeps_total 1\n"));
	assert_false(is_there(k, 1, 'c'));
}

static void documents_that_nobody_finds_go(void **state)
{
	struct kit *k = *state;

	real_pg_sql(server, "INSERT INTO quiz.documents (school_id, collection, id, v, deleted_at, expires_at, doc) SELECT "
			    "gen_random_uuid(), 'c', gen_random_uuid(), 1,"
			    "CASE i WHEN 1 THEN now() - interval '31 days' WHEN 2 THEN now() - interval '29 days' END,"
			    "CASE i WHEN 3 THEN now() - interval '1 second' WHEN 4 THEN now() + interval '1 day' END,"
			    "CASE WHEN i > 2 THEN '{}'::jsonb END FROM generate_series(1, 5) i");
	assert_true(becomes(k, "/metrics", "schools24_sweep_removed_total{what=\"documents\"} 2\n"));
	assert_int_equal(real_pg_number(server, "SELECT count(*) FROM quiz.documents"), 3);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(old_files_that_no_row_names_go),   T(a_dead_letter_may_name_any_file),
		T(another_replicas_sweep_is_enough), T(without_an_answer_of_the_rows_nothing_goes),
		T(documents_that_nobody_finds_go),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
