/* SPDX-License-Identifier: Apache-2.0 */
/* Configuration text of any kind: refused with a problem, or pairs whose names differ. */
#include <stdlib.h>

#include "base/str.h"
#include "io/yaml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *arena = arena_new();
	struct buf problems = buf_in(arena);
	struct conf_pair *pairs;
	size_t n;

	if (yaml_parse((struct str){(const char *)data, size}, arena, &pairs, &n, &problems) != OK) {
		if (problems.n == 0)
			abort();
	} else {
		for (size_t i = 0; i < n; i++) {
			if (pairs[i].line < 1 || pairs[i].key.n == 0 || (i > 0 && str_eq(pairs[i].key, pairs[i - 1].key)))
				abort();
		}
	}
	arena_free(arena);
	return 0;
}
