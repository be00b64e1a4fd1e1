/* SPDX-License-Identifier: Apache-2.0 */
/* Settings: precedence, bounds, files, and that every problem is told but no secret. */
#include "unit/unit.h"

#include <sys/stat.h>
#include <unistd.h>

#include "base/conf.h"
#include "base/str.h"

struct settings {
	const char *host, *password, *needed;
	int64_t interval_s, offset;
	bool enabled, plain;
};

static const struct conf_row rows[] = {
	CONF_STR("T_HOST", struct settings, host, "localhost", "where | it is"),
	CONF_SECRET_STR("T_PASSWORD", struct settings, password, "hunter0", "how it is opened"),
	CONF_INT("T_INTERVAL", struct settings, interval_s, "3600", 1, 86400, "seconds"),
	CONF_INT("T_OFFSET", struct settings, offset, NULL, -10, 10, "may be negative"),
	CONF_BOOL("T_ENABLED", struct settings, enabled, "true", "is it on"),
	CONF_BOOL("T_PLAIN", struct settings, plain, NULL, "no default"),
	CONF_END,
};
static const struct conf_row needing[] = {
	CONF_REQUIRED_SECRET("T_NEEDED", struct settings, needed, "cannot do without"),
	CONF_END,
};

static struct arena *arena;
static struct buf problems;
static struct settings s;
static char path[] = "/tmp/test_conf_XXXXXX";

static int start(void **state)
{
	static const char *const names[] = {"T_HOST",   "T_PASSWORD", "T_PASSWORD_FILE", "T_INTERVAL",
					    "T_OFFSET", "T_ENABLED",  "T_NEEDED",        "T_NEEDED_FILE"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		unsetenv(names[i]);
	arena = arena_new();
	problems = buf_in(arena);
	memset(&s, 0x5A, sizeof(s));
	return 0;
}

static int end(void **state)
{
	(void)state;
	arena = arena_free(arena);
	return 0;
}

#define tested(name) cmocka_unit_test_setup_teardown(name, start, end)
#define load(...)                                                    \
	conf_load(rows, &s, (const struct conf_pair[]){__VA_ARGS__}, \
		  sizeof((const struct conf_pair[]){__VA_ARGS__}) / sizeof(struct conf_pair), arena, &problems)
#define told(text) assert_non_null(strstr(buf_cstr(&problems), text))
#define not_told(text) assert_null(strstr(buf_cstr(&problems), text))

static size_t lines(void)
{
	size_t n = 0;

	for (size_t i = 0; i < problems.n; i++)
		n += problems.p[i] == '\n';
	return n;
}

static void without_anything_the_defaults_hold(void **state)
{
	(void)state;
	assert_int_equal(conf_load(rows, &s, NULL, 0, arena, &problems), OK);
	assert_string_equal(s.host, "localhost");
	assert_string_equal(s.password, "hunter0");
	assert_int_equal(s.interval_s, 3600);
	assert_int_equal(s.offset, 0);
	assert_true(s.enabled);
	assert_false(s.plain);
	assert_int_equal(problems.n, 0);
}

static void the_file_beats_the_default_and_the_environment_both(void **state)
{
	(void)state;
	setenv("T_INTERVAL", "20", 1);
	setenv("T_HOST", "", 1);
	assert_int_equal(load({STR("t_interval"), STR("10"), 1}, {STR("t_offset"), STR("-10"), 2}, {STR("t_host"), STR("db"), 3},
			      {STR("other"), STR("passed over"), 4}),
			 OK);
	assert_int_equal(s.interval_s, 20);
	assert_int_equal(s.offset, -10);
	assert_string_equal(s.host, ""); /* set to nothing is set */
}

static void booleans_have_eight_words(void **state)
{
	static const char *const yes[] = {"true", "yes", "on", "1", "TRUE"}, *const no[] = {"false", "no", "off", "0", "Off"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
		assert_int_equal(load({STR("t_plain"), str_of(yes[i]), 1}), OK);
		assert_true(s.plain);
		assert_int_equal(load({STR("t_plain"), str_of(no[i]), 1}), OK);
		assert_false(s.plain);
	}
	assert_int_equal(load({STR("t_plain"), STR("maybe"), 4}), ERR_INVALID);
	told("T_PLAIN: \"maybe\" is not true or false (line 4)\n");
}

static void bounds_are_inclusive(void **state)
{
	(void)state;
	assert_int_equal(load({STR("t_interval"), STR("1"), 1}), OK);
	assert_int_equal(load({STR("t_interval"), STR("86400"), 1}), OK);
	assert_int_equal(load({STR("t_interval"), STR("0"), 1}), ERR_INVALID);
	assert_int_equal(load({STR("t_interval"), STR("86401"), 1}), ERR_INVALID);
	told("T_INTERVAL: \"86401\" is not between 1 and 86400 (line 1)\n");
}

static void every_problem_is_told(void **state)
{
	(void)state;
	setenv("T_OFFSET", "99999999999999999999", 1);
	setenv("T_ENABLED", "", 1);
	assert_int_equal(load({STR("t_interval"), STR("12 s"), 7}, {STR("t_host"), STR("a\xFF"), 8},
			      {STR("t_plain"), STR("true"), 9}, {STR("t_plain"), STR("true"), 10}),
			 ERR_INVALID);
	told("T_INTERVAL: \"12 s\" is not a whole number (line 7)\n");
	told("T_HOST: not UTF-8 text (line 8)\n");
	told("T_OFFSET: \"99999999999999999999\" is not a whole number (environment)\n");
	told("T_ENABLED: \"\" is not true or false (environment)\n");
	told("T_PLAIN: set twice, first in line 9 (line 10)\n");
	assert_int_equal(lines(), 5);
	assert_string_equal(s.host, ""); /* never NULL */
}

static void a_fault_in_the_file_is_told_though_the_environment_wins(void **state)
{
	(void)state;
	setenv("T_INTERVAL", "20", 1);
	assert_int_equal(load({STR("t_interval"), STR("many"), 7}), ERR_INVALID);
	told("(line 7)");
}

static void text_holds_no_nul(void **state)
{
	(void)state;
	assert_int_equal(load({STR("t_host"), STR("a\0b"), 1}), ERR_INVALID);
	told("T_HOST");
}

static void a_long_or_hostile_value_stays_one_short_line(void **state)
{
	static char big[100001];

	(void)state;
	memset(big, '\n', 100000);
	setenv("T_INTERVAL", big, 1);
	setenv("T_HOST", big, 1);
	assert_int_equal(conf_load(rows, &s, NULL, 0, arena, &problems), ERR_INVALID);
	assert_int_equal(lines(), 2);
	assert_true(problems.n < 500);
	told("T_HOST: longer than 65536 bytes (environment)");
}

static void required_must_be_there_and_not_empty(void **state)
{
	(void)state;
	assert_int_equal(conf_load(needing, &s, NULL, 0, arena, &problems), ERR_INVALID);
	assert_string_equal(buf_cstr(&problems), "T_NEEDED: required, but not set\n");
	setenv("T_NEEDED", "", 1);
	assert_int_equal(conf_load(needing, &s, NULL, 0, arena, &problems), ERR_INVALID);
	told("T_NEEDED: required, but empty (environment)\n");
	setenv("T_NEEDED", "x", 1);
	assert_int_equal(conf_load(needing, &s, NULL, 0, arena, &problems), OK);
	assert_string_equal(s.needed, "x");
}

static void write_file(const char *bytes, size_t n)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(bytes, 1, n, f), n);
	fclose(f);
}

static void a_secret_comes_from_a_file_without_its_line_end(void **state)
{
	(void)state;
	setenv("T_PASSWORD_FILE", path, 1);
	write_file("hunter2\n", 8);
	assert_int_equal(conf_load(rows, &s, NULL, 0, arena, &problems), OK);
	assert_string_equal(s.password, "hunter2");
	write_file("hunter3\r\n", 9);
	assert_int_equal(conf_load(rows, &s, NULL, 0, arena, &problems), OK);
	assert_string_equal(s.password, "hunter3");
	write_file(" two\n\n", 6); /* one line end goes, all else is the secret's */
	assert_int_equal(conf_load(rows, &s, NULL, 0, arena, &problems), OK);
	assert_string_equal(s.password, " two\n");
	write_file("", 0);
	assert_int_equal(conf_load(rows, &s, NULL, 0, arena, &problems), OK);
	assert_string_equal(s.password, "");
}

static void a_file_that_cannot_serve_is_a_problem(void **state)
{
	static char big[70000];

	(void)state;
	setenv("T_PASSWORD_FILE", "/nonexistent/hunter2", 1);
	assert_int_equal(conf_load(rows, &s, NULL, 0, arena, &problems), ERR_INVALID);
	told("T_PASSWORD: T_PASSWORD_FILE cannot be opened: ENOENT");
	assert_string_equal(s.password, "");
	setenv("T_PASSWORD_FILE", "/", 1);
	assert_int_equal(conf_load(rows, &s, NULL, 0, arena, &problems), ERR_INVALID);
	told("cannot be read: EISDIR");
	memset(big, 'x', sizeof(big));
	write_file(big, sizeof(big));
	setenv("T_PASSWORD_FILE", path, 1);
	assert_int_equal(conf_load(rows, &s, NULL, 0, arena, &problems), ERR_INVALID);
	told("T_PASSWORD: longer than");
	setenv("T_PASSWORD", "hunter2", 1);
	assert_int_equal(conf_load(rows, &s, NULL, 0, arena, &problems), ERR_INVALID);
	told("T_PASSWORD: set twice, with and without _FILE");
}

static void no_message_shows_a_secret(void **state)
{
	static const struct conf_row secret_number[] = {
		{.name = "T_PASSWORD",
		 .type = CONF_T_INT,
		 .offset = offsetof(struct settings, offset),
		 .max = 5,
		 .flags = CONF_SECRET},
		CONF_END,
	};
	struct conf_pair pair = {STR("t_password"), STR("hunter2"), 1};
	struct buf help = buf_in(arena);

	(void)state;
	assert_int_equal(conf_load(secret_number, &s, &pair, 1, arena, &problems), ERR_INVALID);
	told("T_PASSWORD: the value is not a whole number");
	setenv("T_PASSWORD", "hunter2\xFF", 1);
	assert_int_equal(conf_load(rows, &s, &pair, 1, arena, &problems), ERR_INVALID);
	not_told("hunter");
	conf_help(rows, &help);
	assert_null(strstr(buf_cstr(&help), "hunter"));
}

static void keys_are_lower_case_names(void **state)
{
	(void)state;
	assert_true(conf_knows(rows, STR("t_interval")));
	assert_false(conf_knows(rows, STR("T_INTERVAL")));
	assert_false(conf_knows(rows, STR("t_interva")));
	assert_false(conf_knows(rows, STR("t_interval2")));
	assert_false(conf_knows(rows, STR("")));
}

static void help_is_a_table(void **state)
{
	struct buf help = buf_in(arena);

	(void)state;
	conf_help(rows, &help);
	conf_help(needing, &help);
	buf_cstr(&help);
	assert_non_null(strstr(help.p, "| `T_HOST` | `localhost` |  | where \\| it is |\n"));
	assert_non_null(strstr(help.p, "| `T_INTERVAL` | `3600` | 1 to 86400 | seconds |\n"));
	assert_non_null(strstr(help.p, "| `T_PASSWORD` |  | secret; or `T_PASSWORD_FILE` | how it is opened |\n"));
	assert_non_null(strstr(help.p, "| `T_NEEDED` | required | secret; or `T_NEEDED_FILE` | cannot do without |\n"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		tested(without_anything_the_defaults_hold),
		tested(the_file_beats_the_default_and_the_environment_both),
		tested(booleans_have_eight_words),
		tested(bounds_are_inclusive),
		tested(every_problem_is_told),
		tested(a_fault_in_the_file_is_told_though_the_environment_wins),
		tested(text_holds_no_nul),
		tested(a_long_or_hostile_value_stays_one_short_line),
		tested(required_must_be_there_and_not_empty),
		tested(a_secret_comes_from_a_file_without_its_line_end),
		tested(a_file_that_cannot_serve_is_a_problem),
		tested(no_message_shows_a_secret),
		tested(keys_are_lower_case_names),
		tested(help_is_a_table),
	};
	int failed;

	close(mkstemp(path));
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(path);
	return failed;
}
