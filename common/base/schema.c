/* SPDX-License-Identifier: Apache-2.0 */
/* Field tables at work on structs in memory: look up, compare, copy, merge. */
#include "base/schema.h"

#include "base/field_in.h"

const struct field *schema_find(const struct schema *s, struct str name)
{
	for (size_t i = 0; i < s->n; i++) {
		if (str_eq(field_name(&s->fields[i]), name))
			return &s->fields[i];
	}
	return NULL;
}

void problem_add(struct problems *p, const char *pointer, const char *code, const char *message)
{
	if (p->n == ARRAY_LEN(p->v))
		return;
	p->v[p->n++] = (struct problem){
		.pointer = arena_str(p->arena, str_of(pointer)), .code = code, .message = arena_strdup(p->arena, message)};
}

static const void *member(const struct field *f, const void *from)
{
	return (const char *)from + f->offset;
}

static size_t scalar_size(enum field_type type)
{
	switch (type) {
	case FIELD_UUID:
		return sizeof(struct uuid);
	case FIELD_INT:
	case FIELD_DECIMAL:
	case FIELD_MONEY:
	case FIELD_TIME:
		return sizeof(int64_t);
	case FIELD_FLOAT:
		return sizeof(double);
	case FIELD_BOOL:
		return sizeof(bool);
	case FIELD_DATE:
		return sizeof(int32_t);
	case FIELD_ENUM:
		return sizeof(int);
	case FIELD_TEXT:
	case FIELD_JSON:
		return sizeof(struct str);
	case FIELD_UUIDS:
	case FIELD_TEXTS:
	case FIELD_INTS:
	case FIELD_LIST:
		break;
	}
	return sizeof(struct list);
}

/* ---- equality ---- */

static bool list_equal(const struct field *f, const struct list *a, const struct list *b)
{
	size_t size = field_element_size(f);

	if (a->n != b->n)
		return false;
	if (a->n == 0)
		return true;
	if (f->type == FIELD_UUIDS || f->type == FIELD_INTS)
		return memcmp(a->v, b->v, a->n * size) == 0;
	for (size_t i = 0; i < a->n; i++) {
		const void *x = (const char *)a->v + i * size, *y = (const char *)b->v + i * size;

		if (f->type == FIELD_TEXTS ? !str_eq(*(const struct str *)x, *(const struct str *)y) : !row_equal(f->sub, x, y))
			return false;
	}
	return true;
}

static bool value_equal(const struct field *f, const void *a, const void *b)
{
	if (field_is_array(f))
		return list_equal(f, a, b);
	if (f->type == FIELD_TEXT || f->type == FIELD_JSON)
		return str_eq(*(const struct str *)a, *(const struct str *)b);
	return memcmp(a, b, scalar_size(f->type)) == 0;
}

bool field_equal(const struct field *f, const void *a, const void *b)
{
	return value_equal(f, member(f, a), member(f, b));
}

bool row_equal(const struct schema *s, const void *a, const void *b)
{
	const struct fields *head = a, *other = b;

	if (head->set != other->set)
		return false;
	for (size_t i = 0; i < s->n; i++) {
		const struct field *f = &s->fields[i];

		if ((head->set >> i & 1) != 0 && !value_equal(f, member(f, a), member(f, b)))
			return false;
	}
	return true;
}

/* ---- deep copies ---- */

static void deepen(const struct schema *s, void *row, struct arena *arena);

static void deepen_list(const struct field *f, struct list *list, struct arena *arena)
{
	size_t size = field_element_size(f);

	if (list->n == 0)
		return;
	list->v = arena_dup(arena, list->v, list->n * size);
	for (size_t i = 0; i < list->n; i++) {
		void *element = (char *)list->v + i * size;

		if (f->type == FIELD_TEXTS)
			*(struct str *)element = arena_str(arena, *(struct str *)element);
		else if (f->type == FIELD_LIST)
			deepen(f->sub, element, arena);
	}
}

static void deepen(const struct schema *s, void *row, struct arena *arena)
{
	const struct fields *head = row;

	for (size_t i = 0; i < s->n; i++) {
		const struct field *f = &s->fields[i];
		void *value = (char *)row + f->offset;

		if ((head->set >> i & 1) == 0)
			continue;
		if (field_is_array(f))
			deepen_list(f, value, arena);
		else if (f->type == FIELD_TEXT || f->type == FIELD_JSON)
			*(struct str *)value = arena_str(arena, *(struct str *)value);
	}
}

void *row_dup(const struct schema *s, const void *row, struct arena *arena)
{
	void *copy = arena_dup(arena, row, s->size);

	deepen(s, copy, arena);
	return copy;
}

/* ---- merge ---- */

/* The index that the row's enum has for the body's name; -1: none. Mostly both tables share one list of names. */
static int enum_index(const struct field *to, const struct field *from, int value)
{
	if (to->names.v == from->names.v)
		return value;
	for (size_t i = 0; i < to->names.n; i++) {
		if (strcmp(to->names.v[i], from->names.v[value]) == 0)
			return (int)i;
	}
	return -1;
}

static bool take(const struct field *f, void *to, bool was_set, const struct field *from, const void *value)
{
	int index;

	if (f->type == FIELD_ENUM) {
		index = enum_index(f, from, *(const int *)value);
		if (index < 0)
			return false;
		value = &index;
	}
	if (was_set && value_equal(f, to, value))
		return false;
	memcpy(to, value, scalar_size(f->type));
	return true;
}

bool row_merge(const struct schema *s, void *row, const struct schema *in_schema, const void *in)
{
	const struct fields *given = in;
	struct fields *head = row;
	bool changed = false;

	for (size_t i = 0; i < in_schema->n; i++) {
		const struct field *from = &in_schema->fields[i], *f;
		uint64_t bit;

		if (((given->set | given->nulls) >> i & 1) == 0)
			continue;
		f = schema_find(s, field_name(from));
		if (f == NULL || (f->flags & (SERVER | NATURAL)) != 0 || f->type != from->type || f->sub != from->sub)
			continue;
		bit = UINT64_C(1) << (f - s->fields);
		if ((given->set >> i & 1) != 0) {
			if (take(f, (char *)row + f->offset, (head->set & bit) != 0, from, member(from, in))) {
				head->set |= bit;
				changed = true;
			}
		} else if ((f->flags & REQUIRED) == 0 && (head->set & bit) != 0) {
			head->set &= ~bit;
			changed = true;
		}
	}
	return changed;
}

void schema_project(const struct schema *s, void *to, const struct schema *from_schema, const void *from)
{
	const struct fields *given = from;
	struct fields *head = to;

	for (size_t i = 0; i < s->n; i++) {
		const struct field *f = &s->fields[i], *source = schema_find(from_schema, field_name(f));

		if (source != NULL && source->type == f->type && source->sub == f->sub &&
		    (given->set >> (source - from_schema->fields) & 1) != 0) {
			if (take(f, (char *)to + f->offset, false, source, member(source, from)))
				head->set |= UINT64_C(1) << i;
		} else if (source == NULL && from_schema->row && f->type == FIELD_UUID && str_is(field_name(f), "id")) {
			memcpy((char *)to + f->offset, &((const struct row *)from)->id, sizeof(struct uuid));
			head->set |= UINT64_C(1) << i;
		} else if (source == NULL && from_schema->row && f->type == FIELD_TIME && str_is(field_name(f), "created_at")) {
			memcpy((char *)to + f->offset, &((const struct row *)from)->created_at, sizeof(int64_t));
			head->set |= UINT64_C(1) << i;
		}
	}
}
