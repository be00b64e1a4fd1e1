/* SPDX-License-Identifier: Apache-2.0 */
/* A body of its exact length and what became of it: for test_json_in.c and test_json_in_jansson.c. */
#ifndef S24_UNIT_JSON_CASE_H
#define S24_UNIT_JSON_CASE_H

#include "unit/unit.h"

#include "../every.h"
#include "base/timefmt.h"
#include "base/uuid.h"

#define ID "0192f3a4-5b6c-7d8e-9fa0-b1c2d3e4f506"
#define HEAD "\"class_id\":\"" ID "\",\"title\":\"t\""

struct decoded {
	struct arena *arena;
	struct every row;
	struct problems problems;
	char *body; /* of exactly its length, so that a read behind it is seen */
	enum err e;
};

static inline void decode_str(struct decoded *d, struct str body)
{
	d->arena = arena_new();
	d->problems = (struct problems){.arena = d->arena};
	d->body = malloc(body.n ? body.n : 1);
	memcpy(d->body, body.p, body.n);
	d->e = json_decode(&every_schema, (struct str){d->body, body.n}, d->arena, &d->row, &d->problems);
}

static inline void decoded_done(struct decoded *d)
{
	free(d->body);
	arena_free(d->arena);
}

/* The problems as "pointer code" lines. */
static inline const char *problems_text(struct decoded *d)
{
	struct buf b = buf_in(d->arena);

	for (size_t i = 0; i < d->problems.n; i++)
		buf_printf(&b, "%s%.*s %s", i ? "|" : "", STR_FMT(d->problems.v[i].pointer), d->problems.v[i].code);
	return buf_cstr(&b);
}

#endif
