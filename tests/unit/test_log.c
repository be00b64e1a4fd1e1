/* SPDX-License-Identifier: Apache-2.0 */
/* The log: what arrives on stderr is one JSON object a line, read back by jansson. */
#include "unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"
#include "base/timefmt.h"

static int old_stderr, fd;
static char *text;
static size_t text_n;

static int catch_stderr(void **state)
{
	(void)state;
	fflush(stderr);
	old_stderr = dup(STDERR_FILENO);
	fd = memfd_create("log", MFD_CLOEXEC);
	fcntl(fd, F_SETFL, O_APPEND); /* as a log file is opened: the end is part of the write */
	dup2(fd, STDERR_FILENO);
	log_setup("homework", LOG_INFO);
	return 0;
}

static int let_stderr_go(void **state)
{
	(void)state;
	dup2(old_stderr, STDERR_FILENO);
	close(old_stderr);
	close(fd);
	free(text);
	text = NULL;
	return 0;
}

static size_t caught(void)
{
	off_t n = lseek(fd, 0, SEEK_END);

	free(text);
	text = malloc((size_t)n + 1);
	text_n = (size_t)n;
	assert_int_equal(pread(fd, text, (size_t)n, 0), n);
	text[n] = '\0';
	return text_n;
}

/* The only line, as an object. */
static json_t *line(void)
{
	json_t *v;

	caught();
	assert_true(text_n > 0 && text[text_n - 1] == '\n');
	assert_ptr_equal(strchr(text, '\n'), text + text_n - 1);
	v = json_loadb(text, text_n, JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(v);
	return v;
}

static const char *get(const json_t *v, const char *name)
{
	const char *s = json_string_value(json_object_get(v, name));

	return s ? s : "(none)";
}

static void a_line_has_head_and_fields(void **state)
{
	int64_t us;
	json_t *v;

	(void)state;
	log_info("flushed", LOG_S("entity", "submission"), LOG_I("rows", -100), LOG_D("ms", 1.5), LOG_B("late", true),
		 LOG_STR("key", ((struct str){"abcdef", 3})), LOG_E(ERR_DB), LOG_S("none", (const char *)NULL));
	v = line();
	assert_string_equal(get(v, "level"), "info");
	assert_string_equal(get(v, "service"), "homework");
	assert_string_equal(get(v, "msg"), "flushed");
	assert_string_equal(get(v, "entity"), "submission");
	assert_int_equal(json_integer_value(json_object_get(v, "rows")), -100);
	assert_true(json_real_value(json_object_get(v, "ms")) == 1.5);
	assert_true(json_is_true(json_object_get(v, "late")));
	assert_string_equal(get(v, "key"), "abc");
	assert_string_equal(get(v, "err"), "ERR_DB");
	assert_string_equal(get(v, "none"), "");
	assert_true(time_parse(str_of(get(v, "time")), &us));
	assert_true(llabs(us - clock_real_us()) < 60 * US_PER_S);
	json_decref(v);
}

static void a_value_cannot_forge_a_line(void **state)
{
	json_t *v;

	(void)state;
	log_error("bad\n{\"level\":\"info\"}", LOG_S("path", "/a\r\n\x1b[31m\"\\\xFF"));
	v = line();
	assert_string_equal(get(v, "msg"), "bad\n{\"level\":\"info\"}");
	assert_string_equal(get(v, "path"), "/a\r\n\x1b[31m\"\\\xEF\xBF\xBD");
	json_decref(v);
}

static void numbers_that_json_has_not_are_null(void **state)
{
	json_t *v;

	(void)state;
	log_info("n", LOG_D("nan", (double)NAN), LOG_D("inf", (double)INFINITY), LOG_D("big", 1e300), LOG_I("least", INT64_MIN));
	v = line();
	assert_true(json_is_null(json_object_get(v, "nan")));
	assert_true(json_is_null(json_object_get(v, "inf")));
	assert_true(json_number_value(json_object_get(v, "big")) == 1e300);
	assert_true(json_integer_value(json_object_get(v, "least")) == INT64_MIN);
	json_decref(v);
}

static void lines_below_the_level_are_not_written(void **state)
{
	enum log_level level;

	(void)state;
	log_debug("quiet");
	assert_int_equal(caught(), 0);
	assert_true(log_level_parse("ERROR", &level));
	log_setup("homework", level);
	log_warn("quiet");
	assert_int_equal(caught(), 0);
	log_error("loud");
	assert_true(caught() > 0);
	assert_false(log_level_parse("loud", &level));
	assert_false(log_level_parse("", &level));
	assert_int_equal(level, LOG_ERROR);
	assert_true(log_level_parse("warn", &level) && level == LOG_WARN);
}

static void a_line_is_at_most_8_kib_and_still_json(void **state)
{
	static char big[20000];
	json_t *v;

	(void)state;
	memset(big, 1, sizeof(big) - 1); /* every byte becomes six */
	log_info(big, LOG_S("a", big), LOG_S("b", big), LOG_I("small", 5));
	v = line();
	assert_true(text_n <= 8192);
	assert_true(json_is_true(json_object_get(v, "cut")));
	assert_int_equal(json_integer_value(json_object_get(v, "small")), 5);
	json_decref(v);
}

static void a_long_value_is_cut_between_characters(void **state)
{
	static char big[4001];
	json_t *v;

	(void)state;
	big[0] = 'x'; /* so that the cut would fall into a character */
	for (int i = 1; i + 3 < 4000; i += 3)
		memcpy(big + i, "\xE0\xA4\x95", 3);
	log_info("m", LOG_S("v", big));
	v = line();
	assert_null(strstr(get(v, "v"), "\xEF\xBF\xBD"));
	assert_in_range(strlen(get(v, "v")), 1000, 1024);
	assert_memory_equal(get(v, "v"), big, strlen(get(v, "v")));
	assert_true(json_is_true(json_object_get(v, "cut")));
	json_decref(v);
}

static void errno_survives(void **state)
{
	(void)state;
	errno = EPIPE;
	log_info("m");
	assert_int_equal(errno, EPIPE);
}

static void a_closed_stderr_is_no_reason_to_stop(void **state)
{
	(void)state;
	close(STDERR_FILENO);
	log_error("nobody hears");
	dup2(fd, STDERR_FILENO);
	assert_int_equal(caught(), 0);
}

static void *shout(void *name)
{
	for (int i = 0; i < 200; i++)
		log_info("from a thread", LOG_S("who", (const char *)name), LOG_I("i", i));
	return NULL;
}

static void lines_of_threads_do_not_mix(void **state)
{
	char names[4][500];
	pthread_t t[4];
	size_t lines = 0;

	(void)state;
	for (int i = 0; i < 4; i++) {
		memset(names[i], 'a' + i, sizeof(names[i]));
		names[i][499] = '\0';
		assert_int_equal(pthread_create(&t[i], NULL, shout, names[i]), 0);
	}
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	caught();
	for (char *p = text; p < text + text_n; lines++) {
		char *end = strchr(p, '\n');
		json_t *v = json_loadb(p, (size_t)(end - p), 0, NULL);

		assert_non_null(v);
		json_decref(v);
		p = end + 1;
	}
	assert_int_equal(lines, 800);
}

#define caught_test(name) cmocka_unit_test_setup_teardown(name, catch_stderr, let_stderr_go)

int main(void)
{
	const struct CMUnitTest tests[] = {
		caught_test(a_line_has_head_and_fields),
		caught_test(a_value_cannot_forge_a_line),
		caught_test(numbers_that_json_has_not_are_null),
		caught_test(lines_below_the_level_are_not_written),
		caught_test(a_line_is_at_most_8_kib_and_still_json),
		caught_test(a_long_value_is_cut_between_characters),
		caught_test(errno_survives),
		caught_test(a_closed_stderr_is_no_reason_to_stop),
		caught_test(lines_of_threads_do_not_mix),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
