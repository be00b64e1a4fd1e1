/* SPDX-License-Identifier: Apache-2.0 */
/* Values for every type of field, from the field's place in its table. */
#include "layouts.h"

#include <string.h>

#include "base/uuid.h"

#define CREATED_US INT64_C(1790000000123456)

/* Of the bounds that a field may have; both 0: none. */
static int64_t bounded(const struct field *f, int64_t v)
{
	if (f->min == 0 && f->max == 0)
		return v;
	if (v < f->min)
		return f->min;
	return v > f->max ? f->max : v;
}

static struct str text_of(const struct field *f, size_t i, struct arena *arena)
{
	const char *text = arena_printf(arena, "Größe №%zu \"½\"", i);

	if (f->max > 0 && f->max < 16)
		return STR("x");
	/* Long ones are worth compressing. */
	return str_of(f->max < 200 ? text : arena_printf(arena, "%s, and again: %s, %s, %s.", text, text, text, text));
}

static struct uuid id_of(size_t i)
{
	return (struct uuid){{0x01, 0x9a, (uint8_t)i, 0xff, 0, 0, 0x70, (uint8_t)(i * 7), 0x80, [15] = (uint8_t)(200 + i)}};
}

static void fill(const struct schema *s, struct fields *to, struct arena *arena);

static struct list list_of(const struct field *f, size_t i, struct arena *arena)
{
	struct list list = {.n = f->max_items == 1 ? 1 : 2};
	struct uuid *ids = arena_array(arena, 2, sizeof(*ids));
	struct str *texts = arena_array(arena, 2, sizeof(*texts));
	int64_t *numbers = arena_array(arena, 2, sizeof(*numbers));

	for (size_t k = 0; k < 2; k++) {
		ids[k] = id_of(i + k + 1);
		texts[k] = text_of(f, i + k, arena);
		numbers[k] = bounded(f, k == 0 ? -3 : INT64_C(5000000000));
	}
	list.v = f->type == FIELD_UUIDS ? (void *)ids : f->type == FIELD_TEXTS ? (void *)texts : (void *)numbers;
	if (f->type == FIELD_LIST) {
		char *rows = arena_zalloc(arena, 2 * f->sub->size);

		for (size_t k = 0; k < list.n; k++)
			fill(f->sub, (struct fields *)(void *)(rows + k * f->sub->size), arena);
		list.v = rows;
	}
	return list;
}

static void fill_field(const struct field *f, size_t i, char *at, struct arena *arena)
{
	int64_t number = 0;
	int32_t day = 20400 + (int32_t)i;
	int name = (int)(i % (f->names.n > 0 ? f->names.n : 1));
	double real = 0.25 + (double)i;
	bool yes = true;

	switch (f->type) {
	case FIELD_UUID:
		*(struct uuid *)(void *)at = id_of(i);
		return;
	case FIELD_TEXT:
		*(struct str *)(void *)at = text_of(f, i, arena);
		return;
	case FIELD_JSON:
		*(struct str *)(void *)at = str_of(f->max_items > 0 ? "[{\"a\":[1,null]}]" : "{\"a\":[1,null],\"b\":\"ü\"}");
		return;
	case FIELD_INT:
	case FIELD_DECIMAL:
	case FIELD_MONEY:
		number = bounded(f, 12345 + (int64_t)i);
		break;
	case FIELD_TIME:
		number = CREATED_US + (int64_t)i * 1000003;
		break;
	case FIELD_DATE:
		memcpy(at, &day, sizeof(day));
		return;
	case FIELD_ENUM:
		memcpy(at, &name, sizeof(name));
		return;
	case FIELD_FLOAT:
		memcpy(at, &real, sizeof(real));
		return;
	case FIELD_BOOL:
		memcpy(at, &yes, sizeof(yes));
		return;
	case FIELD_UUIDS:
	case FIELD_TEXTS:
	case FIELD_INTS:
	case FIELD_LIST:
		*(struct list *)(void *)at = list_of(f, i, arena);
		return;
	}
	memcpy(at, &number, sizeof(number));
}

static void fill(const struct schema *s, struct fields *to, struct arena *arena)
{
	for (size_t i = 0; i < s->n; i++) {
		fill_field(&s->fields[i], i, (char *)to + s->fields[i].offset, arena);
		to->set |= UINT64_C(1) << i;
	}
}

void *layouts_full(const struct schema *s, struct arena *arena)
{
	struct row *row = arena_zalloc(arena, s->size);

	fill(s, &row->f, arena);
	row->created_at = CREATED_US;
	row->updated_at = CREATED_US + 3600000001;
	return row;
}

void *layouts_empty(const struct schema *s, struct arena *arena)
{
	struct row *row = arena_zalloc(arena, s->size);

	row->created_at = CREATED_US;
	row->updated_at = CREATED_US;
	row->deleted_at = CREATED_US + 1;
	return row;
}
