/* SPDX-License-Identifier: Apache-2.0 */
/* A hostile packed record; what is taken packs and unpacks to itself, and its memory is in proportion. */
#include <stdint.h>
#include <stdlib.h>

#include "../every.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
	if (!holds)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *arena = arena_new();
	struct every row = {0}, back = {0}, *copy;
	struct buf out = buf_in(arena), text = buf_in(arena);
	size_t before = arena_size(arena);

	if (row_unpack(&every_schema, 1, (struct str){(const char *)data, size}, arena, &row) == OK) {
		must(arena_size(arena) - before <= 4096 + size * 2 * sizeof(struct branch));
		row_pack(&every_schema, &row, &out);
		must(row_unpack(&every_schema, 1, buf_str(&out), arena, &back) == OK);
		must(row_equal(&every_schema, &row, &back));
		copy = row_dup(&every_schema, &row, arena);
		must(row_equal(&every_schema, &row, copy));
		must(!row_merge(&every_schema, copy, &every_schema, &row));
		json_encode(&every_schema, &row, 0, &text);
	}
	arena_free(arena);
	return 0;
}
