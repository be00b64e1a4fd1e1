/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What JSON and form input share: one scalar of a field checked and converted, and problems with their pointers. For common/base.
 *
 * A path is a chain on the stack of the reader, so naming a place costs nothing until something is wrong there.
 */
#ifndef S24_BASE_FIELD_IN_H
#define S24_BASE_FIELD_IN_H

#include "base/json_scan.h"

struct field_path {
	const struct field_path *up; /* NULL: the whole body, whose name does not count */
	const char *name;            /* NULL: an element, `index` */
	size_t index;
};

struct field_in {
	struct arena *arena;
	struct problems *problems;
	bool invalid;
};

/* The message is formatted only while there is room for a problem, so a hostile body cannot fill the arena with them. */
void field_problem(struct field_in *in, const struct field_path *at, const char *code, const char *fmt, ...) PRINTF(4, 5);
/* `type` is not always the field's: an element of UUIDS is judged as a UUID. All report what is wrong and then return false. */
bool field_text(struct field_in *in, const struct field *f, enum field_type type, const struct field_path *at, struct str text,
		void *to);
bool field_number(struct field_in *in, const struct field *f, enum field_type type, const struct field_path *at,
		  struct json_number number, void *to);
bool field_json(struct field_in *in, const struct field *f, const struct field_path *at, struct str text, struct str *to);
void field_wrong_type(struct field_in *in, const struct field *f, enum field_type type, const struct field_path *at);
/* Reports each field that must be there and is not; `seen` has those about which something was said already. */
void field_required(struct field_in *in, const struct schema *s, const struct field_path *at, const struct fields *head,
		    uint64_t seen);
/* Well-formed text of an array; what its strings are worth is the reader's to judge. */
bool field_is_array_text(struct str value);
/* The JSON text of an array into an array field, for forms and JSON_TEXT. The text has passed field_is_array_text. */
bool field_array_text(struct field_in *in, const struct field *f, const struct field_path *at, struct str text, struct list *to);

static inline bool field_is_array(const struct field *f)
{
	return f->type >= FIELD_UUIDS;
}

static inline bool field_is_required(const struct field *f)
{
	return (f->flags & (REQUIRED | NATURAL)) != 0;
}

static inline size_t field_max_items(const struct field *f)
{
	return f->max_items != 0 ? f->max_items : SCHEMA_ITEMS_MAX;
}

static inline enum field_type field_element_type(const struct field *f)
{
	return f->type == FIELD_UUIDS   ? FIELD_UUID
	       : f->type == FIELD_TEXTS ? FIELD_TEXT
	       : f->type == FIELD_INTS  ? FIELD_INT
					: FIELD_LIST;
}

static inline size_t field_element_size(const struct field *f)
{
	switch ((int)field_element_type(f)) {
	case FIELD_UUID:
		return sizeof(struct uuid);
	case FIELD_TEXT:
		return sizeof(struct str);
	case FIELD_INT:
		return sizeof(int64_t);
	default:
		return f->sub->size;
	}
}

#endif
