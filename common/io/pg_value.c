/* SPDX-License-Identifier: Apache-2.0 */
/* Our values as PostgreSQL's binary ones: parameters of statements, rows as parameters, cells of a binary COPY. */
#include "io/pg_value.h"

#include <assert.h>
#include <limits.h>
#include <string.h>

#include "io/pg_oid.h"

#define VALUE_BYTES_MAX (64u << 20) /* a bound for arithmetic with libpq's ints; bodies are far smaller */

static void put_be16(char *p, uint16_t v)
{
	v = __builtin_bswap16(v);
	memcpy(p, &v, sizeof(v));
}

static void put_be32(char *p, uint32_t v)
{
	v = __builtin_bswap32(v);
	memcpy(p, &v, sizeof(v));
}

static void put_be64(char *p, uint64_t v)
{
	v = __builtin_bswap64(v);
	memcpy(p, &v, sizeof(v));
}

static void buf_be16(struct buf *b, uint16_t v)
{
	put_be16(buf_room(b, 2), v);
	b->n += 2;
}

static void buf_be32(struct buf *b, uint32_t v)
{
	put_be32(buf_room(b, 4), v);
	b->n += 4;
}

static void buf_be64(struct buf *b, uint64_t v)
{
	put_be64(buf_room(b, 8), v);
	b->n += 8;
}

static bool day_to_pg(int64_t day, int32_t *ret)
{
	int64_t v;

	if (__builtin_sub_overflow(day, (int64_t)PG_EPOCH_DAYS, &v) || v <= INT32_MIN || v >= INT32_MAX)
		return false; /* the ends mean infinity */
	*ret = (int32_t)v;
	return true;
}

static bool time_to_pg(int64_t us, int64_t *ret)
{
	return !__builtin_sub_overflow(us, PG_EPOCH_US, ret) && *ret != INT64_MIN && *ret != INT64_MAX;
}

/* ---- arrays -------------------------------------------------------------------------------------------------------------- */

static void array_head(struct buf *b, size_t n, Oid element)
{
	buf_be32(b, n == 0 ? 0 : 1); /* dimensions */
	buf_be32(b, 0);              /* no nulls */
	buf_be32(b, element);
	if (n == 0)
		return;
	buf_be32(b, (uint32_t)n);
	buf_be32(b, 1); /* first index */
}

static enum err array_put(struct buf *b, const struct list *list, enum field_type type, Oid element)
{
	array_head(b, list->n, element);
	for (size_t i = 0; i < list->n; i++) {
		if (type == FIELD_UUIDS) {
			buf_be32(b, 16);
			buf_put(b, ((const struct uuid *)list->v)[i].b, 16);
		} else if (type == FIELD_TEXTS) {
			const struct str *s = &((const struct str *)list->v)[i];

			if (s->n > VALUE_BYTES_MAX || b->n > VALUE_BYTES_MAX)
				return ERR_INVALID;
			buf_be32(b, (uint32_t)s->n);
			buf_puts(b, *s);
		} else {
			int64_t v = ((const int64_t *)list->v)[i];

			if (element == OID_INT4) {
				if (v < INT32_MIN || v > INT32_MAX)
					return ERR_INVALID;
				buf_be32(b, 4);
				buf_be32(b, (uint32_t)v);
			} else {
				buf_be32(b, 8);
				buf_be64(b, (uint64_t)v);
			}
		}
	}
	return OK;
}

/* ---- parameters ---------------------------------------------------------------------------------------------------------- */

// clang-format off
static const Oid param_oid[] = {
	[PG_T_NULL] = 0,
	[PG_T_UUID] = OID_UUID,
	[PG_T_TEXT] = OID_TEXT,
	[PG_T_INT4] = OID_INT4,
	[PG_T_INT8] = OID_INT8,
	[PG_T_FLOAT8] = OID_FLOAT8,
	[PG_T_BOOL] = OID_BOOL,
	[PG_T_TIME] = OID_TIMESTAMPTZ,
	[PG_T_DATE] = OID_DATE,
	[PG_T_JSONB] = OID_JSONB,
	[PG_T_BYTEA] = OID_BYTEA,
	[PG_T_UUIDS] = OID_UUIDS,
	[PG_T_TEXTS] = OID_TEXTS,
	[PG_T_INTS] = OID_INT8S,
};
// clang-format on

static enum err list_encode(const struct pg_param *p, enum field_type type, Oid element, struct arena *arena, struct str *ret)
{
	struct buf b = buf_in(arena);
	enum err e;

	if (p->list.n > PG_ROWS_MAX)
		return ERR_INVALID;
	e = array_put(&b, &p->list, type, element);
	if (e == OK)
		*ret = buf_str(&b);
	return e;
}

static enum err text_encode(const struct pg_param *p, struct str *ret)
{
	if (p->s.n > VALUE_BYTES_MAX)
		return ERR_INVALID;
	/* libpq takes a NULL pointer for SQL's null. */
	*ret = p->s.p ? p->s : STR("");
	return OK;
}

static enum err jsonb_encode(const struct pg_param *p, struct arena *arena, struct str *ret)
{
	char *to;

	if (p->s.n > VALUE_BYTES_MAX)
		return ERR_INVALID;
	to = arena_alloc(arena, p->s.n + 1);
	to[0] = 1; /* version of jsonb's binary form */
	if (p->s.n != 0)
		memcpy(to + 1, p->s.p, p->s.n);
	*ret = (struct str){to, p->s.n + 1};
	return OK;
}

static enum err number_encode(const struct pg_param *p, char *to, struct str *ret)
{
	int32_t day;
	int64_t us;
	uint64_t bits;

	*ret = (struct str){to, 8};
	if (p->type == PG_T_INT4) {
		if (p->i < INT32_MIN || p->i > INT32_MAX)
			return ERR_INVALID;
		put_be32(to, (uint32_t)p->i);
		ret->n = 4;
	} else if (p->type == PG_T_DATE) {
		if (!day_to_pg(p->i, &day))
			return ERR_INVALID;
		put_be32(to, (uint32_t)day);
		ret->n = 4;
	} else if (p->type == PG_T_TIME) {
		if (!time_to_pg(p->i, &us))
			return ERR_INVALID;
		put_be64(to, (uint64_t)us);
	} else if (p->type == PG_T_FLOAT8) {
		memcpy(&bits, &p->d, sizeof(bits));
		put_be64(to, bits);
	} else {
		put_be64(to, (uint64_t)p->i);
	}
	return OK;
}

static enum err param_encode(const struct pg_param *p, struct arena *arena, struct str *ret)
{
	char *to;

	switch (p->type) {
	case PG_T_UUID:
		*ret = (struct str){(const char *)p->uuid.b, 16};
		return OK;
	case PG_T_TEXT:
	case PG_T_BYTEA:
		return text_encode(p, ret);
	case PG_T_JSONB:
		return jsonb_encode(p, arena, ret);
	case PG_T_BOOL:
		*ret = p->b ? STR("\1") : STR("\0");
		return OK;
	case PG_T_INT4:
	case PG_T_INT8:
	case PG_T_FLOAT8:
	case PG_T_TIME:
	case PG_T_DATE:
		to = arena_alloc(arena, 8);
		return number_encode(p, to, ret);
	case PG_T_UUIDS:
		return list_encode(p, FIELD_UUIDS, OID_UUID, arena, ret);
	case PG_T_TEXTS:
		return list_encode(p, FIELD_TEXTS, OID_TEXT, arena, ret);
	case PG_T_INTS:
		return list_encode(p, FIELD_INTS, OID_INT8, arena, ret);
	case PG_T_NULL:
		break;
	}
	return ERR_BUG;
}

enum err pg_wire_encode(struct pg_params params, struct arena *arena, struct pg_wire *ret_wire)
{
	struct pg_wire w = {0};

	if (params.n > PG_PARAMS_MAX)
		return ERR_BUG;
	if (params.n == 0) {
		*ret_wire = w;
		return OK;
	}
	w.n = (int)params.n;
	w.types = arena_array(arena, params.n, sizeof(*w.types));
	w.values = arena_array(arena, params.n, sizeof(*w.values));
	w.lengths = arena_array(arena, params.n, sizeof(*w.lengths));
	w.formats = arena_array(arena, params.n, sizeof(*w.formats));
	for (size_t i = 0; i < params.n; i++) {
		const struct pg_param *p = &params.v[i];
		struct str bytes;
		enum err e;

		w.types[i] = param_oid[p->type];
		w.formats[i] = 1;
		if (p->null)
			continue;
		e = param_encode(p, arena, &bytes);
		if (e != OK)
			return e;
		w.values[i] = bytes.p;
		w.lengths[i] = (int)bytes.n;
	}
	*ret_wire = w;
	return OK;
}

/* ---- rows as parameters -------------------------------------------------------------------------------------------------- */

static const struct field head_before[] = {
	{.name = "id", .type = FIELD_UUID, .offset = offsetof(struct row, id)},
	{.name = "school_id", .type = FIELD_UUID, .offset = offsetof(struct row, school_id)},
};
static const struct field head_after[] = {
	{.name = "version", .type = FIELD_INT, .offset = offsetof(struct row, version)},
	{.name = "created_at", .type = FIELD_TIME, .offset = offsetof(struct row, created_at)},
	{.name = "updated_at", .type = FIELD_TIME, .offset = offsetof(struct row, updated_at)},
	{.name = "deleted_at", .type = FIELD_TIME, .offset = offsetof(struct row, deleted_at)},
};

size_t pg_row_width(const struct schema *s)
{
	return ARRAY_LEN(head_before) + s->n + ARRAY_LEN(head_after);
}

const struct field *pg_row_column(const struct schema *s, size_t i)
{
	if (i < ARRAY_LEN(head_before))
		return &head_before[i];
	i -= ARRAY_LEN(head_before);
	if (i < s->n)
		return &s->fields[i];
	assert(i - s->n < ARRAY_LEN(head_after));
	return &head_after[i - s->n];
}

static bool column_is_null(const struct schema *s, size_t i, const void *row)
{
	size_t field = i - ARRAY_LEN(head_before);
	int64_t us;

	if (i < ARRAY_LEN(head_before))
		return false;
	if (field < s->n)
		return (((const struct fields *)row)->set >> field & 1) == 0;
	if (field == s->n)
		return false; /* version */
	memcpy(&us, (const char *)row + pg_row_column(s, i)->offset, sizeof(us));
	return us == 0;
}

static const char *enum_text(const struct field *f, const void *member)
{
	int v = *(const int *)member;

	/* Whoever filled the struct has checked the value against the same table. */
	assert(v >= 0 && (size_t)v < f->names.n);
	return f->names.v[v];
}

static struct str list_json(const struct field *f, const void *member, struct arena *arena)
{
	struct buf b = buf_in(arena);

	json_encode_list(f->sub, member, UINT_MAX, &b);
	return buf_str(&b);
}

static struct pg_param member_param(const struct field *f, const void *member, struct arena *arena)
{
	switch (f->type) {
	case FIELD_UUID:
		return PG_UUID(*(const struct uuid *)member);
	case FIELD_TEXT:
		return PG_TEXT(*(const struct str *)member);
	case FIELD_INT:
	case FIELD_DECIMAL:
	case FIELD_MONEY:
		return PG_INT8(*(const int64_t *)member);
	case FIELD_FLOAT:
		return PG_FLOAT8(*(const double *)member);
	case FIELD_BOOL:
		return PG_BOOL(*(const bool *)member);
	case FIELD_TIME:
		return PG_TIME(*(const int64_t *)member);
	case FIELD_DATE:
		return PG_DATE(*(const int32_t *)member);
	case FIELD_ENUM:
		return PG_TEXT(str_of(enum_text(f, member)));
	case FIELD_JSON:
		return PG_JSONB(*(const struct str *)member);
	case FIELD_UUIDS:
		return PG_UUIDS(*(const struct list *)member);
	case FIELD_TEXTS:
		return PG_TEXTS(*(const struct list *)member);
	case FIELD_INTS:
		return PG_INTS(*(const struct list *)member);
	case FIELD_LIST:
		return PG_JSONB(list_json(f, member, arena));
	}
	return PG_NULL(PG_T_NULL);
}

static enum pg_type field_param_type(enum field_type type)
{
	// clang-format off
	static const enum pg_type types[] = {
		[FIELD_UUID] = PG_T_UUID,   [FIELD_TEXT] = PG_T_TEXT,   [FIELD_INT] = PG_T_INT8,   [FIELD_DECIMAL] = PG_T_INT8,
		[FIELD_MONEY] = PG_T_INT8,  [FIELD_FLOAT] = PG_T_FLOAT8, [FIELD_BOOL] = PG_T_BOOL, [FIELD_TIME] = PG_T_TIME,
		[FIELD_DATE] = PG_T_DATE,   [FIELD_ENUM] = PG_T_TEXT,   [FIELD_JSON] = PG_T_JSONB, [FIELD_UUIDS] = PG_T_UUIDS,
		[FIELD_TEXTS] = PG_T_TEXTS, [FIELD_INTS] = PG_T_INTS,   [FIELD_LIST] = PG_T_JSONB,
	};
	// clang-format on
	return types[type];
}

struct pg_params pg_row_params(const struct schema *s, const void *row, struct arena *arena)
{
	size_t n = pg_row_width(s);
	struct pg_param *v = arena_array(arena, n, sizeof(*v));

	assert(s->row);
	for (size_t i = 0; i < n; i++) {
		const struct field *f = pg_row_column(s, i);

		if (column_is_null(s, i, row))
			v[i] = PG_NULL(field_param_type(f->type));
		else
			v[i] = member_param(f, (const char *)row + f->offset, arena);
	}
	return (struct pg_params){v, n};
}

/* ---- cells of a binary COPY ---------------------------------------------------------------------------------------------- */

/* Hundredths as numeric(…, 2): digits in base 10000, the last one holding the two decimals. */
static void numeric_put(struct buf *b, int64_t hundredths)
{
	uint64_t left = hundredths < 0 ? 0 - (uint64_t)hundredths : (uint64_t)hundredths;
	uint16_t digits[8], n = 0;

	digits[n++] = (uint16_t)(left % 100 * 100);
	for (left /= 100; left != 0; left /= 10000)
		digits[n++] = (uint16_t)(left % 10000);
	buf_be16(b, n);
	buf_be16(b, (uint16_t)(n - 2)); /* weight of the first digit; −1 when there are only decimals */
	buf_be16(b, hundredths < 0 ? 0x4000 : 0);
	buf_be16(b, 2);
	while (n != 0)
		buf_be16(b, digits[--n]);
}

static enum err int_put(struct buf *b, const struct field *f, Oid type, int64_t v)
{
	switch (type) {
	case OID_INT8:
		buf_be64(b, (uint64_t)v);
		return OK;
	case OID_INT4:
		if (v < INT32_MIN || v > INT32_MAX)
			return ERR_INVALID;
		buf_be32(b, (uint32_t)v);
		return OK;
	case OID_INT2:
		if (v < INT16_MIN || v > INT16_MAX)
			return ERR_INVALID;
		buf_be16(b, (uint16_t)v);
		return OK;
	case OID_NUMERIC:
		if (f->type == FIELD_INT)
			return ERR_BUG;
		numeric_put(b, v);
		return OK;
	default:
		return ERR_BUG;
	}
}

static enum err float_put(struct buf *b, Oid type, double d)
{
	if (type == OID_FLOAT8) {
		uint64_t bits;

		memcpy(&bits, &d, sizeof(bits));
		buf_be64(b, bits);
		return OK;
	}
	if (type == OID_FLOAT4) {
		float small = (float)d;
		uint32_t bits;

		memcpy(&bits, &small, sizeof(bits));
		buf_be32(b, bits);
		return OK;
	}
	return ERR_BUG;
}

static enum err text_put(struct buf *b, Oid type, struct str s)
{
	if (type != OID_TEXT && type != OID_VARCHAR && type != OID_BPCHAR && type != OID_BYTEA)
		return ERR_BUG;
	if (s.n > VALUE_BYTES_MAX)
		return ERR_INVALID;
	buf_puts(b, s);
	return OK;
}

static enum err json_put(struct buf *b, Oid type, struct str s)
{
	if (type != OID_JSONB && type != OID_JSON)
		return ERR_BUG;
	if (s.n > VALUE_BYTES_MAX)
		return ERR_INVALID;
	if (type == OID_JSONB)
		buf_putc(b, 1);
	buf_puts(b, s);
	return OK;
}

static enum err times_put(struct buf *b, const struct field *f, Oid type, const void *member)
{
	int64_t us;
	int32_t day;

	if (f->type == FIELD_TIME && type == OID_TIMESTAMPTZ) {
		if (!time_to_pg(*(const int64_t *)member, &us))
			return ERR_INVALID;
		buf_be64(b, (uint64_t)us);
		return OK;
	}
	if (f->type == FIELD_DATE && type == OID_DATE) {
		if (!day_to_pg(*(const int32_t *)member, &day))
			return ERR_INVALID;
		buf_be32(b, (uint32_t)day);
		return OK;
	}
	return ERR_BUG;
}

static enum err list_put(struct buf *b, const struct field *f, Oid type, const void *member)
{
	const struct list *list = member;

	if (f->type == FIELD_UUIDS && type == OID_UUIDS)
		return array_put(b, list, f->type, OID_UUID);
	if (f->type == FIELD_TEXTS && (type == OID_TEXTS || type == OID_VARCHARS))
		return array_put(b, list, f->type, type == OID_TEXTS ? OID_TEXT : OID_VARCHAR);
	if (f->type == FIELD_INTS && (type == OID_INT4S || type == OID_INT8S))
		return array_put(b, list, f->type, type == OID_INT4S ? OID_INT4 : OID_INT8);
	return ERR_BUG;
}

static enum err member_put(struct buf *b, const struct field *f, Oid type, const void *member)
{
	struct buf json = {0};
	enum err e;

	switch (f->type) {
	case FIELD_UUID:
		if (type != OID_UUID)
			return ERR_BUG;
		buf_put(b, member, 16);
		return OK;
	case FIELD_TEXT:
		return text_put(b, type, *(const struct str *)member);
	case FIELD_ENUM:
		return text_put(b, type, str_of(enum_text(f, member)));
	case FIELD_INT:
	case FIELD_DECIMAL:
	case FIELD_MONEY:
		return int_put(b, f, type, *(const int64_t *)member);
	case FIELD_FLOAT:
		return float_put(b, type, *(const double *)member);
	case FIELD_BOOL:
		if (type != OID_BOOL)
			return ERR_BUG;
		buf_putc(b, *(const bool *)member ? 1 : 0);
		return OK;
	case FIELD_TIME:
	case FIELD_DATE:
		return times_put(b, f, type, member);
	case FIELD_JSON:
		return json_put(b, type, *(const struct str *)member);
	case FIELD_UUIDS:
	case FIELD_TEXTS:
	case FIELD_INTS:
		return list_put(b, f, type, member);
	case FIELD_LIST:
		json_encode_list(f->sub, member, UINT_MAX, &json);
		e = json_put(b, type, buf_str(&json));
		buf_done(&json);
		return e;
	}
	return ERR_BUG;
}

enum err pg_cell_encode(const struct schema *s, size_t i, Oid type, const void *row, struct buf *out)
{
	const struct field *f = pg_row_column(s, i);
	size_t start = out->n;
	enum err e;

	if (column_is_null(s, i, row)) {
		buf_be32(out, UINT32_MAX); /* −1 */
		return OK;
	}
	buf_be32(out, 0);
	e = member_put(out, f, type, (const char *)row + f->offset);
	if (e == OK)
		put_be32(out->p + start, (uint32_t)(out->n - start - 4));
	else
		out->n = start;
	return e;
}
