/* SPDX-License-Identifier: Apache-2.0 */
/* Readers of one thing and a source that can be held: what the tests of filling share. */
#ifndef S24_UNIT_FLIGHT_CASE_H
#define S24_UNIT_FLIGHT_CASE_H

#include "unit/cache_case.h"

static struct cache_tags tags;
static bool held; /* the source answers when it is let go */

static inline void name_tags(void)
{
	held = false;
	tags = (struct cache_tags){.school = school};
	cache_tag(&tags, arena, "thing:", STR("a"));
}

static inline bool command(struct redis_args args, struct redis_reply *ret)
{
	return redis_call(redis[1], arena, in_ms(2000), args, ret) == OK && ret->type != REDIS_ERROR;
}

static inline struct str lock_of(const char *name)
{
	struct source s = {.text = ""};

	return str_of(arena_printf(arena, "%.*s~lock", STR_FMT(call_of(0, name, &tags, &s).key)));
}

static inline bool nobody_flies(void)
{
	return cache_stats(caches[0]).flights == 0 && cache_stats(caches[1]).flights == 0;
}

struct reader {
	int engine;
	struct source *source;
	int64_t patience_ms;
	struct fiber *fiber;
	struct cache_note note;
	enum err result;
	char text[32];
	int64_t from_us, till_us;
};

static struct fiber *leader;

static inline enum err noted_fill(void *ctx, struct buf *out)
{
	enum err e;

	leader = fiber_self();
	e = source_fill(ctx, out);
	while (held) {
		if (sleep_ms(loop, 1, in_ms(1000)) != OK)
			return ERR_CANCELLED;
	}
	return e;
}

/* Until the source has been asked so often. */
static inline bool asked(const struct source *s, int calls)
{
	while (s->calls < calls && failure == NULL) {
		if (sleep_ms(loop, 1, in_ms(1000)) != OK)
			return false;
	}
	return true;
}

static inline bool ended(const struct reader *r)
{
	while (r->till_us == 0) {
		if (sleep_ms(loop, 1, in_ms(1000)) != OK)
			return false;
	}
	return true;
}

static inline void read_it(void *arg)
{
	struct reader *r = arg;
	struct cache_call call = call_of(r->engine, "a", &tags, r->source);
	struct arena *mine = arena_new();
	struct str got = {NULL, 0};

	call.fill = noted_fill;
	r->fiber = fiber_self();
	r->from_us = loop_mono_us(loop);
	r->result = cache_read(caches[r->engine], mine, in_ms(r->patience_ms), &call, &got, &r->note);
	r->till_us = loop_mono_us(loop);
	snprintf(r->text, sizeof(r->text), "%.*s", STR_FMT(got));
	arena_free(mine);
	running--;
}

static inline struct reader reader_of(int engine, struct source *s)
{
	return (struct reader){.engine = engine, .source = s, .patience_ms = 10000};
}

static inline void start(struct reader *r, size_t n)
{
	for (size_t i = 0; i < n; i++)
		start_fiber(read_it, &r[i]);
}

static inline void wait_for_readers(void)
{
	while (running > 1)
		IGNORE(sleep_ms(loop, 1, in_ms(1000))); /* the test's own patience ends it */
}

static inline int64_t took_ms(const struct reader *r)
{
	return (r->till_us - r->from_us) / 1000;
}

#endif
