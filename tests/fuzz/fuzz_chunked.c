/* SPDX-License-Identifier: Apache-2.0 */
/* The chunked coding: pieces of the size in the first byte decode like the whole. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "io/http_internal.h"

static int decode(const uint8_t *data, size_t size, size_t piece, struct buf *out, size_t *ret_used)
{
	struct http_chunked d = {0};
	size_t at = 0;

	while (at < size && d.state < HTTP_CHUNKED_DONE) {
		size_t n = size - at < piece ? size - at : piece, used, decoded;
		char *copy = malloc(n);

		memcpy(copy, data + at, n);
		decoded = http_chunked_decode(&d, copy, n, &used);
		if (decoded > used || used > n || (used < n && d.state < HTTP_CHUNKED_DONE))
			abort();
		buf_put(out, copy, decoded);
		free(copy);
		at += used;
	}
	*ret_used = at;
	return d.state < HTTP_CHUNKED_DONE ? -1 : d.state;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf whole = {0}, pieces = {0};
	size_t used, used_in_pieces;
	int a, b;

	if (size < 2)
		return 0;
	a = decode(data + 1, size - 1, size, &whole, &used);
	b = decode(data + 1, size - 1, (size_t)data[0] % 16 + 1, &pieces, &used_in_pieces);
	if (a != b || used != used_in_pieces || whole.n != pieces.n || (whole.n > 0 && memcmp(whole.p, pieces.p, whole.n) != 0)) {
		fprintf(stderr, "pieces decode to something else\n");
		abort();
	}
	buf_done(&whole);
	buf_done(&pieces);
	return 0;
}
