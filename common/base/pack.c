/* SPDX-License-Identifier: Apache-2.0 */
/* Packed records: a row by position under a layout version. What is read may be hostile; what is written is ours. */
#include "base/field_in.h"

static uint64_t zigzag(int64_t v)
{
	return (uint64_t)v << 1 ^ (v < 0 ? UINT64_MAX : 0);
}

static int64_t unzigzag(uint64_t v)
{
	return (int64_t)(v >> 1 ^ (0 - (v & 1)));
}

static unsigned since_of(const struct field *f)
{
	return f->since == 0 ? 1 : f->since;
}

/* ---- writing ---- */

static void put_u64(struct buf *out, uint64_t v)
{
	char *w = buf_room(out, 8);

	for (size_t i = 0; i < 8; i++)
		w[i] = (char)(v >> (8 * i));
	out->n += 8;
}

static void put_text(struct buf *out, struct str s)
{
	buf_put_varint(out, s.n);
	buf_puts(out, s);
}

static void pack_fields(const struct schema *s, const void *from, struct buf *out);

static void pack_list(const struct field *f, const struct list *list, struct buf *out)
{
	size_t size = field_element_size(f);

	buf_put_varint(out, list->n);
	for (size_t i = 0; i < list->n; i++) {
		const void *v = (const char *)list->v + i * size;

		switch ((int)f->type) {
		case FIELD_UUIDS:
			buf_put(out, v, sizeof(struct uuid));
			break;
		case FIELD_TEXTS:
			put_text(out, *(const struct str *)v);
			break;
		case FIELD_INTS:
			buf_put_varint(out, zigzag(*(const int64_t *)v));
			break;
		default:
			pack_fields(f->sub, v, out);
			break;
		}
	}
}

static void pack_value(const struct field *f, const void *v, struct buf *out)
{
	uint64_t bits;

	switch (f->type) {
	case FIELD_UUID:
		buf_put(out, v, sizeof(struct uuid));
		break;
	case FIELD_TEXT:
	case FIELD_JSON:
		put_text(out, *(const struct str *)v);
		break;
	case FIELD_INT:
	case FIELD_DECIMAL:
	case FIELD_MONEY:
		buf_put_varint(out, zigzag(*(const int64_t *)v));
		break;
	case FIELD_TIME:
		put_u64(out, (uint64_t) * (const int64_t *)v);
		break;
	case FIELD_FLOAT:
		memcpy(&bits, v, sizeof(bits));
		put_u64(out, bits);
		break;
	case FIELD_BOOL:
		buf_putc(out, *(const bool *)v);
		break;
	case FIELD_DATE:
		buf_put_varint(out, zigzag(*(const int32_t *)v));
		break;
	case FIELD_ENUM:
		buf_put_varint(out, (uint64_t) * (const int *)v);
		break;
	case FIELD_UUIDS:
	case FIELD_TEXTS:
	case FIELD_INTS:
	case FIELD_LIST:
		pack_list(f, v, out);
		break;
	}
}

static void pack_fields(const struct schema *s, const void *from, struct buf *out)
{
	const struct fields *head = from;
	uint64_t set = head->set;

	for (size_t i = 0; i < s->n; i += 8)
		buf_putc(out, (char)(set >> i & (s->n - i >= 8 ? 0xff : (1u << (s->n - i)) - 1)));
	for (size_t i = 0; i < s->n; i++) {
		const struct field *f = &s->fields[i];

		if ((set >> i & 1) != 0)
			pack_value(f, (const char *)from + f->offset, out);
	}
}

void row_pack(const struct schema *s, const void *row, struct buf *out)
{
	const struct row *head = row;

	put_u64(out, (uint64_t)head->created_at);
	buf_put_varint(out, zigzag((int64_t)((uint64_t)head->updated_at - (uint64_t)head->created_at)));
	buf_put_varint(out, zigzag(head->deleted_at));
	pack_fields(s, row, out);
}

/* ---- reading ---- */

struct unpack {
	const uint8_t *p, *end;
	struct arena *arena;
	unsigned layout;
};

static size_t left(const struct unpack *u)
{
	return (size_t)(u->end - u->p);
}

static bool get_varint(struct unpack *u, uint64_t *ret)
{
	uint64_t v = 0;

	for (unsigned shift = 0; shift < 64 && u->p < u->end; shift += 7) {
		uint8_t byte = *u->p++;

		if (shift == 63 && byte > 1)
			return false;
		v |= (uint64_t)(byte & 0x7f) << shift;
		if (byte < 0x80) {
			*ret = v;
			return true;
		}
	}
	return false;
}

static bool get_u64(struct unpack *u, uint64_t *ret)
{
	uint64_t v = 0;

	if (left(u) < 8)
		return false;
	for (unsigned i = 0; i < 8; i++)
		v |= (uint64_t)u->p[i] << (8 * i);
	u->p += 8;
	*ret = v;
	return true;
}

static bool get_int(struct unpack *u, int64_t *ret)
{
	uint64_t v;

	if (!get_varint(u, &v))
		return false;
	*ret = unzigzag(v);
	return true;
}

static bool get_text(struct unpack *u, struct str *ret)
{
	uint64_t n;

	if (!get_varint(u, &n) || n > left(u))
		return false;
	*ret = (struct str){(const char *)u->p, (size_t)n};
	u->p += n;
	return true;
}

static bool get_uuid(struct unpack *u, struct uuid *ret)
{
	if (left(u) < sizeof(ret->b))
		return false;
	memcpy(ret->b, u->p, sizeof(ret->b));
	u->p += sizeof(ret->b);
	return true;
}

static bool unpack_fields(struct unpack *u, const struct schema *s, void *to);

/* Fewest bytes that an element can take, so that a count is judged before room is made for it. */
static size_t element_least(const struct unpack *u, const struct field *f)
{
	size_t n = 0;

	if (f->type == FIELD_UUIDS)
		return sizeof(struct uuid);
	if (f->type != FIELD_LIST)
		return 1;
	for (size_t i = 0; i < f->sub->n; i++)
		n += since_of(&f->sub->fields[i]) <= u->layout;
	return (n + 7) / 8;
}

static bool unpack_list(struct unpack *u, const struct field *f, struct list *ret)
{
	size_t size = field_element_size(f), least = element_least(u, f);
	struct list list;
	uint64_t n;

	if (!get_varint(u, &n) || (n != 0 && (least == 0 || n > left(u) / least)))
		return false;
	list = (struct list){.v = n != 0 ? arena_array(u->arena, (size_t)n, size) : NULL, .n = (size_t)n};
	for (size_t i = 0; i < list.n; i++) {
		void *v = (char *)list.v + i * size;
		bool ok;

		switch ((int)f->type) {
		case FIELD_UUIDS:
			ok = get_uuid(u, v);
			break;
		case FIELD_TEXTS:
			ok = get_text(u, v);
			break;
		case FIELD_INTS:
			ok = get_int(u, v);
			break;
		default:
			ok = unpack_fields(u, f->sub, v);
			break;
		}
		if (!ok)
			return false;
	}
	*ret = list;
	return true;
}

static bool unpack_small(struct unpack *u, const struct field *f, void *to)
{
	uint64_t v;
	int64_t i;

	if (f->type == FIELD_BOOL) {
		if (left(u) == 0 || *u->p > 1)
			return false;
		*(bool *)to = *u->p++ == 1;
		return true;
	}
	if (f->type == FIELD_DATE) {
		if (!get_int(u, &i) || i < INT32_MIN || i > INT32_MAX)
			return false;
		*(int32_t *)to = (int32_t)i;
		return true;
	}
	if (!get_varint(u, &v) || v >= f->names.n)
		return false;
	*(int *)to = (int)v;
	return true;
}

static bool unpack_value(struct unpack *u, const struct field *f, void *to)
{
	uint64_t bits;

	switch (f->type) {
	case FIELD_UUID:
		return get_uuid(u, to);
	case FIELD_TEXT:
	case FIELD_JSON:
		return get_text(u, to);
	case FIELD_INT:
	case FIELD_DECIMAL:
	case FIELD_MONEY:
		return get_int(u, to);
	case FIELD_TIME:
	case FIELD_FLOAT:
		if (!get_u64(u, &bits))
			return false;
		memcpy(to, &bits, sizeof(bits));
		return true;
	case FIELD_BOOL:
	case FIELD_DATE:
	case FIELD_ENUM:
		return unpack_small(u, f, to);
	case FIELD_UUIDS:
	case FIELD_TEXTS:
	case FIELD_INTS:
	case FIELD_LIST:
		return unpack_list(u, f, to);
	}
	return false;
}

/* A field that the record's layout did not have yet: true when it gets a value. The struct is zeroed. */
static bool fall_back(const struct field *f, void *to)
{
	bool required = field_is_required(f);

	switch (f->type) {
	case FIELD_INT:
	case FIELD_DECIMAL:
	case FIELD_MONEY:
	case FIELD_TIME:
		*(int64_t *)to = f->fallback;
		return required || f->fallback != 0;
	case FIELD_BOOL:
		*(bool *)to = f->fallback != 0;
		return required || f->fallback != 0;
	case FIELD_DATE:
		*(int32_t *)to = (int32_t)f->fallback;
		return required || f->fallback != 0;
	case FIELD_ENUM:
		*(int *)to = (int)f->fallback;
		return required || f->fallback != 0;
	case FIELD_TEXT:
	case FIELD_UUIDS:
	case FIELD_TEXTS:
	case FIELD_INTS:
	case FIELD_LIST:
		return required;
	case FIELD_UUID:
	case FIELD_FLOAT:
	case FIELD_JSON:
		break;
	}
	return false;
}

static bool unpack_fields(struct unpack *u, const struct schema *s, void *to)
{
	struct fields *head = to;
	uint64_t set = 0;
	size_t n = 0, k = 0;

	for (size_t i = 0; i < s->n; i++)
		n += since_of(&s->fields[i]) <= u->layout;
	if (left(u) < (n + 7) / 8)
		return false;
	for (size_t i = 0; i < n; i += 8)
		set |= (uint64_t)*u->p++ << i;
	if (n < 64 && set >> n != 0)
		return false;
	for (size_t i = 0; i < s->n; i++) {
		const struct field *f = &s->fields[i];
		void *value = (char *)to + f->offset;

		if (since_of(f) > u->layout) {
			if (fall_back(f, value))
				head->set |= UINT64_C(1) << i;
			continue;
		}
		if ((set >> k++ & 1) == 0)
			continue;
		if (!unpack_value(u, f, value))
			return false;
		head->set |= UINT64_C(1) << i;
	}
	return true;
}

enum err row_unpack(const struct schema *s, unsigned layout, struct str bytes, struct arena *arena, void *row)
{
	const uint8_t *p = (const uint8_t *)bytes.p;
	struct unpack u = {.p = p, .end = bytes.n != 0 ? p + bytes.n : p, .arena = arena, .layout = layout == 0 ? 1 : layout};
	struct row *head = row, kept = *head;
	int64_t updated, deleted;
	uint64_t created;

	memset(row, 0, s->size);
	head->id = kept.id;
	head->school_id = kept.school_id;
	head->version = kept.version;
	if (!get_u64(&u, &created) || !get_int(&u, &updated) || !get_int(&u, &deleted) || !unpack_fields(&u, s, row) ||
	    u.p != u.end)
		return ERR_CORRUPT;
	head->created_at = (int64_t)created;
	head->updated_at = (int64_t)(created + (uint64_t)updated);
	head->deleted_at = deleted;
	return OK;
}
