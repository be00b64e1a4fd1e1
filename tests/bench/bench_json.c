/* SPDX-License-Identifier: Apache-2.0 */
/* Decode, validate and encode by field table against jansson's parse and dump of the same body: alternated rounds, medians, one line. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/schema.h"
#include "base/timefmt.h"

#define HOMEWORK_FIELDS(F, T)                                                  \
	F(T, UUID, class_id, .flags = REQUIRED)                                \
	F(T, UUID, subject_id, .flags = REQUIRED)                              \
	F(T, TEXT, title, .flags = REQUIRED, .min = 1, .max = 200)             \
	F(T, TEXT, description, .max = 5000)                                   \
	F(T, DATE, due_date, .flags = REQUIRED)                                \
	F(T, INT, max_marks, .max = 1000)                                      \
	F(T, BOOL, allow_late)                                                 \
	F(T, ENUM, status, .names = ENUM_NAMES("draft", "assigned", "closed")) \
	F(T, TEXTS, attachments, .max = 200, .max_items = 5)
SCHEMA_STRUCT(bench_homework, HOMEWORK_FIELDS);
SCHEMA_TABLE(bench_homework, HOMEWORK_FIELDS);

#define ANSWER_FIELDS(F, T)                                \
	F(T, TEXT, question, .flags = REQUIRED, .max = 40) \
	F(T, INTS, selected, .max = 20, .max_items = 20)   \
	F(T, INT, seconds, .max = 7200)
SCHEMA_STRUCT(bench_answer, ANSWER_FIELDS);
SCHEMA_TABLE(bench_answer, ANSWER_FIELDS);

#define SUBMISSION_FIELDS(F, T)                                                               \
	F(T, UUID, quiz_id, .flags = REQUIRED)                                                \
	F(T, UUID, attempt_id, .flags = REQUIRED)                                             \
	F(T, TIME, started_at, .flags = REQUIRED)                                             \
	F(T, LIST, answers, .flags = REQUIRED, .sub = &bench_answer_schema, .max_items = 200) \
	F(T, TEXT, client, .max = 100)
SCHEMA_STRUCT(bench_submission, SUBMISSION_FIELDS);
SCHEMA_TABLE(bench_submission, SUBMISSION_FIELDS);

static const char homework_body[] =
	"{\"class_id\":\"0192f3a4-5b6c-7d8e-9fa0-b1c2d3e4f506\",\"subject_id\":\"0192f3a4-5b6c-7d8e-9fa0-b1c2d3e4f507\","
	"\"title\":\"Quadratic equations, exercise 4.3\",\"description\":\"Solve problems 1 to 12 from the text book, page "
	"87.\\nShow every "
	"step of the factorisation and check each root by putting it back. Bring a graph of problem 7 on squared paper, in "
	"a pencil only.\","
	"\"due_date\":\"2026-11-28\",\"max_marks\":25,\"allow_late\":true,\"status\":\"assigned\","
	"\"attachments\":[\"worksheet-4-3.pdf\",\"graph-paper.pdf\"]}";

enum { ROUNDS = 31, PER_ROUND = 4000 };

struct subject {
	const char *name;
	const struct schema *schema;
	void *to;
	struct str body;
	struct arena *arena;
	struct problems problems;
};

static void build_submission(struct buf *out)
{
	buf_puts(out, STR("{\"quiz_id\":\"0192f3a4-5b6c-7d8e-9fa0-b1c2d3e4f506\",\"attempt_id\":\"0192f3a4-5b6c-7d8e-9fa0-"
			  "b1c2d3e4f5ff\","
			  "\"started_at\":\"2026-11-21T09:52:03.123456Z\",\"answers\":["));
	for (int i = 1; i <= 20; i++)
		buf_printf(out, "%s{\"question\":\"que-%03d\",\"selected\":[%d,%d],\"seconds\":%d}", i == 1 ? "" : ",", i, i % 4,
			   i % 3 + 1, 20 + i);
	buf_puts(out, STR("],\"client\":\"web 4.2.1-rc1.23\"}"));
}

static void fail(const char *what)
{
	fprintf(stderr, "bench_json: %s\n", what);
	exit(1);
}

/* Nanoseconds a body of one round. */
static double ours(struct subject *s)
{
	int64_t start = clock_mono_us();

	for (int i = 0; i < PER_ROUND; i++) {
		struct buf out;

		arena_clear(s->arena);
		out = buf_in(s->arena);
		s->problems.n = 0;
		if (json_decode(s->schema, s->body, s->arena, s->to, &s->problems) != OK)
			fail("the body is refused");
		json_encode(s->schema, s->to, 0, &out);
		if (out.n != s->body.n)
			fail("the answer is not the body");
	}
	return (double)(clock_mono_us() - start) * 1000 / PER_ROUND;
}

static double theirs(struct subject *s)
{
	int64_t start = clock_mono_us();

	for (int i = 0; i < PER_ROUND; i++) {
		json_t *root = json_loadb(s->body.p, s->body.n, 0, NULL);
		char *text = root != NULL ? json_dumps(root, JSON_COMPACT) : NULL;

		if (text == NULL)
			fail("jansson refuses the body");
		free(text);
		json_decref(root);
	}
	return (double)(clock_mono_us() - start) * 1000 / PER_ROUND;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *v)
{
	qsort(v, ROUNDS, sizeof(*v), by_value);
	return v[ROUNDS / 2];
}

static void measure(struct subject *s, struct buf *line)
{
	double mine[ROUNDS], other[ROUNDS], ratio[ROUNDS];

	IGNORE(ours(s) > theirs(s)); /* a round to warm up */
	for (int i = 0; i < ROUNDS; i++) {
		mine[i] = ours(s);
		other[i] = theirs(s);
		ratio[i] = other[i] / mine[i];
	}
	buf_printf(line, "%s\"%s\":{\"bytes\":%zu,\"ours_ns\":%.0f,\"jansson_ns\":%.0f,\"ratio\":%.2f}", line->n > 1 ? "," : "",
		   s->name, s->body.n, median(mine), median(other), median(ratio));
}

int main(void)
{
	struct arena *arena = arena_new();
	struct bench_homework homework;
	struct bench_submission submission;
	struct buf body = {0}, line = {0};

	build_submission(&body);
	buf_putc(&line, '{');
	measure(&(struct subject){.name = "homework",
				  .schema = &bench_homework_schema,
				  .to = &homework,
				  .arena = arena,
				  .body = {homework_body, sizeof(homework_body) - 1}},
		&line);
	measure(&(struct subject){.name = "quiz_submission",
				  .schema = &bench_submission_schema,
				  .to = &submission,
				  .arena = arena,
				  .body = buf_str(&body)},
		&line);
	printf("%s,\"goal\":8}\n", buf_cstr(&line));
	buf_done(&line);
	buf_done(&body);
	arena_free(arena);
	return 0;
}
