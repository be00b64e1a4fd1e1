/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kept rows: what entity_look gives out, and what an edit may stand on while PostgreSQL is away. Internal to the entity engine.
 *
 * A row is kept packed under its id, tagged <entity>:<id>, with the other tags of its descriptor that name {id} alone, and bulk:<table>. It is filled as
 * entity_get reads (the buffer, then the database), with the epochs taken before both.
 */
#ifndef S24_SVC_CACHE_ENTITY_H
#define S24_SVC_CACHE_ENTITY_H

#include "svc/bases.h"

/* The request may go to the cache for this row: there is one, the descriptor has a lifetime, and the buffer is there to be believed. */
bool row_cache_applies(const struct req *req, const struct entity *e);
/* The row, kept or read by `read` (which leaves what it read in the request's bases), as a base that is no base of a write. base->row NULL: none alive. */
SUSPENDS MUST_CHECK enum err row_cache_read(struct req *req, const struct entity *e, struct uuid id,
					    SUSPENDS enum err (*read)(struct req *req, const struct entity *e, struct uuid id, struct base **ret),
					    struct base **ret);
/* With PostgreSQL away: a living row that is kept and fresh, as a base of a write. ERR_NOT_FOUND: nothing that can be stood on. */
SUSPENDS MUST_CHECK enum err row_cache_base(struct req *req, struct base *base);

#endif
