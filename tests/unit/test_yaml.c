/* SPDX-License-Identifier: Apache-2.0 */
/* Flat configuration files: what is read, and every form that is refused with its line. */
#include "unit/unit.h"

#include <unistd.h>

#include "base/str.h"
#include "io/yaml.h"

struct fixture {
	struct arena *arena;
	struct buf problems;
	struct conf_pair *pairs;
	size_t n;
};

static int setup(void **state)
{
	struct fixture *f = mem_zalloc(sizeof(*f));

	f->arena = arena_new();
	f->problems = buf_in(f->arena);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	arena_free(f->arena);
	free(f);
	return 0;
}

static enum err parse(struct fixture *f, const char *text)
{
	f->problems.n = 0;
	f->pairs = NULL;
	f->n = 0;
	return yaml_parse(str_of(text), f->arena, &f->pairs, &f->n, &f->problems);
}

static void expect_problem(struct fixture *f, const char *text, const char *want)
{
	if (parse(f, text) != ERR_INVALID)
		fail_msg("taken:\n%s", text);
	assert_null(f->pairs);
	if (strstr(buf_cstr(&f->problems), want) == NULL)
		fail_msg("\"%s\" is not in:\n%s", want, buf_cstr(&f->problems));
}

static void pairs_come_with_text_and_line(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(parse(f, "# a comment\nport: 8080\n\nname: \"a: b\\n\"  # another\nempty:\nnothing: ~\nquoted_null: "
				  "'null'\non: yes\n"
				  "folded: >\n  two\n  words\nlist_like: a, b\nहिन्दी: स्कूल\n"),
			 OK);
	assert_int_equal(f->n, 9);
	assert_str(f->pairs[0].key, STR("port"));
	assert_str(f->pairs[0].value, STR("8080"));
	assert_int_equal(f->pairs[0].line, 2);
	assert_str(f->pairs[1].value, STR("a: b\n"));
	assert_int_equal(f->pairs[1].line, 4);
	assert_str(f->pairs[2].value, STR(""));
	assert_str(f->pairs[3].value, STR(""));
	assert_str(f->pairs[4].value, STR("null"));
	assert_str(f->pairs[5].value, STR("yes"));
	assert_str(f->pairs[6].value, STR("two words\n"));
	assert_str(f->pairs[8].value, STR("स्कूल"));
	assert_int_equal(f->problems.n, 0);
}

static void nothing_is_no_pairs(void **state)
{
	static const char *const empty[] = {"", "\n\n", "# only a comment\n", "---\n", "--- # x\n...\n", "{}"};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(empty); i++) {
		assert_int_equal(parse(f, empty[i]), OK);
		assert_int_equal(f->n, 0);
	}
	assert_int_equal(yaml_parse((struct str){NULL, 0}, f->arena, &f->pairs, &f->n, &f->problems), OK);
}

static void duplicates_name_both_lines(void **state)
{
	struct fixture *f = *state;

	expect_problem(f, "a: 1\nb: 2\na: 3\n", "line 3: a is here twice, first in line 1");
	expect_problem(f, "a: 1\n\"a\": 1\n", "line 2: a is here twice");
}

static void nesting_is_refused(void **state)
{
	struct fixture *f = *state;

	expect_problem(f, "a: 1\nredis:\n  host: x\n", "line 3: redis must be plain text, not a map");
	expect_problem(f, "a: [1, 2]\n", "line 1: a must be plain text, not a list");
	expect_problem(f, "a:\n- 1\n", "a must be plain text, not a list");
	expect_problem(f, "? [x]\n: 1\n", "a name must be plain text");
	expect_problem(f, "- a\n- b\n", "line 1: the file must be a map");
	expect_problem(f, "just text\n", "line 1: the file must be a map");
	expect_problem(f, "a: 1\n---\nb: 2\n", "line 2: a second document begins");
	expect_problem(f, "\"\": 1\n", "line 1: a name is missing");
}

static void anchors_aliases_and_tags_are_refused(void **state)
{
	struct fixture *f = *state;

	expect_problem(f, "a: &x 1\n", "line 1: a has an anchor");
	expect_problem(f, "b: 1\n&k a: 1\n", "line 2: a name has an anchor");
	expect_problem(f, "a: 1\nb: *x\n", "line 2: b is an alias");
	expect_problem(f, "a: !!int 1\n", "line 1: a has a tag");
	expect_problem(f, "&top\na: 1\n", "anchor");
	expect_problem(f, "--- !!map\na: 1\n", "tag");
	expect_problem(f, "a: \"x\\0y\"\n", "line 1: a has a NUL");
}

static void every_problem_is_told(void **state)
{
	struct fixture *f = *state;

	expect_problem(f, "a: 1\nb: {c: 2}\na: 2\nd: &e 1\nf: *e\n", "line 2: b must");
	assert_non_null(strstr(buf_cstr(&f->problems), "line 3: a is here twice"));
	assert_non_null(strstr(buf_cstr(&f->problems), "line 4: d has an anchor"));
	assert_non_null(strstr(buf_cstr(&f->problems), "line 5: f is an alias"));
}

static void broken_text_is_refused(void **state)
{
	static const char *const broken[] = {"a: \"x\n",  "a: 1\n\tb: 2\n", "{a: 1",       "a: b: c\n", "%YAML 9.9\n---\na: 1\n",
					     "a: \x01\n", "a: \xff\n",      "a: 'b\n\n\n", "a: [\n",    "}\n"};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(broken); i++)
		expect_problem(f, broken[i], "line ");
	expect_problem(f, "a: 1\nb: \"x\n", "line ");
}

static void size_and_depth_are_bounded(void **state)
{
	struct fixture *f = *state;
	char *text = arena_alloc(f->arena, YAML_SIZE_MAX + 2);
	struct buf many = buf_in(f->arena);

	memset(text, '#', YAML_SIZE_MAX + 1);
	assert_int_equal(yaml_parse((struct str){text, YAML_SIZE_MAX}, f->arena, &f->pairs, &f->n, &f->problems), OK);
	assert_int_equal(yaml_parse((struct str){text, YAML_SIZE_MAX + 1}, f->arena, &f->pairs, &f->n, &f->problems),
			 ERR_TOO_LARGE);
	/* As deep as the size allows: refused in time that does not grow with a power of it, and without the stack. */
	memset(text, '[', YAML_SIZE_MAX);
	memcpy(text, "a: ", 3);
	assert_int_equal(yaml_parse((struct str){text, 20000}, f->arena, &f->pairs, &f->n, &f->problems), ERR_INVALID);
	memset(text + 3, '{', 20000);
	assert_int_equal(yaml_parse((struct str){text, 20000}, f->arena, &f->pairs, &f->n, &f->problems), ERR_INVALID);
	for (int i = 0; i < 1001; i++)
		buf_printf(&many, "k%d: 1\n", i);
	expect_problem(f, buf_cstr(&many), "line 1001: more than 1000 settings");
}

static void a_file_names_itself_in_its_problems(void **state)
{
	struct fixture *f = *state;
	char path[] = "/tmp/s24-yaml-XXXXXX";
	int fd = mkstemp(path);

	f->problems.n = 0;
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "a: 1\na: 2\n", 10), 10);
	assert_int_equal(yaml_load(path, f->arena, &f->pairs, &f->n, &f->problems), ERR_INVALID);
	assert_str(buf_str(&f->problems), str_of(arena_printf(f->arena, "%s:2: a is here twice, first in line 1\n", path)));
	f->problems.n = 0;
	assert_int_equal(ftruncate(fd, 5), 0);
	assert_int_equal(yaml_load(path, f->arena, &f->pairs, &f->n, &f->problems), OK);
	assert_int_equal(f->n, 1);
	assert_int_equal(ftruncate(fd, YAML_SIZE_MAX + 1), 0);
	assert_int_equal(yaml_load(path, f->arena, &f->pairs, &f->n, &f->problems), ERR_TOO_LARGE);
	close(fd);
	unlink(path);
	f->problems.n = 0;
	assert_int_equal(yaml_load(path, f->arena, &f->pairs, &f->n, &f->problems), ERR_NOT_FOUND);
	assert_non_null(strstr(buf_cstr(&f->problems), "cannot be read"));
	assert_int_equal(yaml_load("/tmp", f->arena, &f->pairs, &f->n, &f->problems), ERR_IO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pairs_come_with_text_and_line),
		cmocka_unit_test(nothing_is_no_pairs),
		cmocka_unit_test(duplicates_name_both_lines),
		cmocka_unit_test(nesting_is_refused),
		cmocka_unit_test(anchors_aliases_and_tags_are_refused),
		cmocka_unit_test(every_problem_is_told),
		cmocka_unit_test(broken_text_is_refused),
		cmocka_unit_test(size_and_depth_are_bounded),
		cmocka_unit_test(a_file_names_itself_in_its_problems),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
