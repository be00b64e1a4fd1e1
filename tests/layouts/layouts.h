/* SPDX-License-Identifier: Apache-2.0 */
/* Rows for samples: the same bytes on every machine, a value in every field or in none. */
#ifndef S24_TESTS_LAYOUTS_H
#define S24_TESTS_LAYOUTS_H

#include "base/schema.h"

void *layouts_full(const struct schema *s, struct arena *arena);
void *layouts_empty(const struct schema *s, struct arena *arena); /* no field at all, and deleted */

#endif
