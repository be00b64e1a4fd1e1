/* SPDX-License-Identifier: Apache-2.0 */
/* A hostile body into a row of every type; what is taken is written, read again, and must be the same. */
#include <stdint.h>
#include <stdlib.h>

#include "../every.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
	if (!holds)
		abort();
}

static void walk(struct str text)
{
	struct str rest = text, value;

	while (json_next(&rest, &value))
		must(json_is_valid(value) || !json_is_valid(text));
	if (json_member(text, "a", &value))
		must(json_is_valid(value) || !json_is_valid(text));
}

/* The same bytes as a form: "name=value" a line. */
static void as_form(struct str text, struct arena *arena)
{
	struct problems problems = {.arena = arena};
	struct form_pair pairs[40];
	struct every row;
	size_t n = 0;

	while (n < ARRAY_LEN(pairs) && text.n != 0) {
		struct str line = str_split(&text, '\n');

		pairs[n].name = str_split(&line, '=');
		pairs[n++].value = line;
	}
	must((form_decode(&every_schema, pairs, n, arena, &row, &problems) == OK) == (problems.n == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *arena = arena_new();
	struct str body = {(const char *)data, size};
	struct problems problems = {.arena = arena}, again = {.arena = arena};
	struct buf out = buf_in(arena);
	struct every row, back;
	enum err e = json_decode(&every_schema, body, arena, &row, &problems);

	must((e == OK) == (problems.n == 0));
	if (e == OK) {
		must(json_is_valid(body));
		json_encode(&every_schema, &row, 0, &out);
		must(json_decode(&every_schema, buf_str(&out), arena, &back, &again) == OK);
		must(row_equal(&every_schema, &row, &back));
	}
	walk(body);
	as_form(body, arena);
	arena_free(arena);
	return 0;
}
