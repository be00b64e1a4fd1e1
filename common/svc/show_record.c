/* SPDX-License-Identifier: Apache-2.0 */
/* `--show-record ENTITY ID`: a record of the write buffer from standard input as JSON, for `./s24 buffer show`; only the daemon knows its fields. */
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "svc/buffer.h"
#include "svc/kit.h"

#define RECORD_MAX (8u << 20) /* far above what PUT takes */

static const struct entity *find(const struct service *s, const char *name)
{
	for (size_t i = 0; s->entities != NULL && s->entities[i] != NULL; i++) {
		if (strcmp(s->entities[i]->name, name) == 0)
			return s->entities[i];
	}
	return NULL;
}

enum err show_record(const struct service *s, const char *entity, const char *id, FILE *from, struct buf *out)
{
	const struct entity *e = find(s, entity);
	_cleanup_(buf_done) struct buf value = {0};
	struct buffer_record record;
	struct arena *arena;
	struct uuid key;
	char piece[2048];
	void *row;
	enum err err;
	size_t n;

	if (e == NULL || !uuid_parse(str_of(id), &key))
		return ERR_NOT_FOUND;
	while ((n = fread(piece, 1, sizeof(piece), from)) > 0) {
		if (value.n + n > RECORD_MAX)
			return ERR_TOO_LARGE;
		buf_puts(&value, (struct str){piece, n});
	}
	arena = arena_new();
	err = buffer_record_parse(buf_str(&value), &record);
	if (err == OK)
		err = buffer_record_row(e, key, &record, arena, &row);
	if (err == OK) {
		json_encode(e->schema, row, UINT_MAX,
			    out); /* every role's fields: the reader holds the keys of the buffer anyway */
		buf_putc(out, '\n');
	}
	arena_free(arena);
	return err;
}
