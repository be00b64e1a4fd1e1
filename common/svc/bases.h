/* SPDX-License-Identifier: Apache-2.0 */
/* What a request has read: the base of each later write (internal to the entity engine). */
#ifndef S24_SVC_BASES_H
#define S24_SVC_BASES_H

#include "svc/buffer.h"
#include "svc/req.h"

struct base {
	const struct entity *entity;
	struct uuid id;
	const void *row;    /* NULL: none alive */
	int64_t floor;      /* its version, also of a tombstone; 0: there was nothing */
	bool creation;      /* struct buffer_record's */
	bool blind;         /* the table could not be asked */
	bool buffered;      /* found in the buffer */
	bool kept;          /* out of the cache: told to the client, and no base of a write */
};

struct bases {
	struct base *v;
	size_t n, cap;
	unsigned new_rows;  /* ids from one Idempotency-Key are counted */
	bool lost_race;     /* the last commit met another writer */
	struct pg_fail refusal; /* the rule of a table that has refused the last change */
};

struct base *base_find(struct req *req, const struct entity *e, struct uuid id); /* NULL: not read yet, or a kept row */
struct base *base_seen(struct req *req, const struct entity *e, struct uuid id); /* kept ones too: for what is told about a row */
struct base *base_add(struct req *req, const struct base *base);
void bases_forget(struct req *req); /* before a fresh try: all but the one of the object that the rule has loaded */

/* overlay.c: a row as the JSON that json(b)_populate_recordset reads, by column; `columns` is the entity's schema made so. */
struct schema entity_columns(struct arena *arena, const struct schema *s);
void entity_columns_json(const struct schema *columns, const struct row *row, struct buf *out);

const struct entity_sql *entity_statements(struct req *req, const struct entity *e);
/* The buffer's calls on fibers, one try each at most try_ms long. */
struct buffer_io request_buffer_io(struct req *req);
/* Is the buffer's failure one after which the database may answer? */
bool buffer_is_away(enum err e);
#define BUFFER_TRY_MS 800

#endif
