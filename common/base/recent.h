/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names that came by lately, in bounded memory: has this event been heard already? It remembers the last `most` at least, and at most twice as
 * many; what it has forgotten is new again. Names are kept as 64-bit hashes with a random seed.
 */
#ifndef S24_BASE_RECENT_H
#define S24_BASE_RECENT_H

#include "base/defs.h"

struct recent {
	uint64_t *now, *before; /* open addressing, half full at most; 0: free */
	size_t n, cap;
	uint64_t seed;
};

void recent_init(struct recent *r, size_t most);
void recent_done(struct recent *r);
bool recent_has(const struct recent *r, struct str name);
bool recent_add(struct recent *r, struct str name); /* false: it was there */

#endif
