/* SPDX-License-Identifier: Apache-2.0 */
/* Forms: the first line is the Content-Type, its first byte the size of the pieces; pieces give the parts of the whole. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/str.h"
#include "io/multipart.h"

static enum err on_begin(void *ctx, const struct multipart_part *part)
{
	buf_puts(ctx, part->name);
	buf_putc(ctx, part->file_name.p ? 'f' : 'p');
	buf_puts(ctx, part->file_name);
	buf_putc(ctx, '|');
	buf_puts(ctx, part->content_type);
	buf_putc(ctx, '|');
	return OK;
}

static enum err on_data(void *ctx, struct str bytes)
{
	if (bytes.n == 0)
		abort();
	buf_puts(ctx, bytes);
	return OK;
}

static enum err on_end(void *ctx)
{
	buf_putc(ctx, '\n');
	return OK;
}

static enum err parse(struct str type, struct str body, size_t piece, struct buf *out)
{
	const struct multipart_events events = {out, on_begin, on_data, on_end};
	struct arena *arena = arena_new();
	struct multipart *m;
	enum err e = multipart_new(type, arena, &events, &m);

	for (size_t at = 0; at < body.n && e == OK; at += piece) {
		size_t n = body.n - at < piece ? body.n - at : piece;
		char *copy = malloc(n);

		memcpy(copy, body.p + at, n);
		e = multipart_feed(m, (struct str){copy, n});
		free(copy);
	}
	if (e == OK)
		e = multipart_finish(m);
	arena_free(arena);
	return e;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str body = {(const char *)data, size}, type = str_split(&body, '\n');
	struct buf whole = {0}, pieces = {0};
	enum err a, b;

	if (type.n < 2)
		return 0;
	type = (struct str){type.p + 1, type.n - 1};
	a = parse(type, body, size, &whole);
	b = parse(type, body, data[0] % 16 + 1, &pieces);
	if (a != b || whole.n != pieces.n || (whole.n > 0 && memcmp(whole.p, pieces.p, whole.n) != 0)) {
		fprintf(stderr, "pieces give something else\n");
		abort();
	}
	buf_done(&whole);
	buf_done(&pieces);
	return 0;
}
