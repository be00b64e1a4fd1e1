/* SPDX-License-Identifier: Apache-2.0 */
/* Answers in PostgreSQL's binary format as our structs, column by column, by the field table. Never reads outside a value. */
#include <math.h>
#include <string.h>

#include "io/pg_oid.h"
#include "io/pg_value.h"

struct column {
	const struct field *field;
	unsigned bit; /* NO_BIT: one of struct row's own */
	Oid type;
};

#define NO_BIT UINT32_MAX
#define COLUMNS_MAX 128
#define ARRAY_MAX 100000

static uint16_t get_be16(const char *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return __builtin_bswap16(v);
}

static uint32_t get_be32(const char *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return __builtin_bswap32(v);
}

static uint64_t get_be64(const char *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return __builtin_bswap64(v);
}

/* ---- values -------------------------------------------------------------------------------------------------------------- */

/* A numeric, times 10^scale, exactly; false: more decimals, too large, NaN or infinite. */
static bool numeric_get(struct str s, unsigned scale, int64_t *ret)
{
	int64_t v = 0, unit;
	int weight;
	uint16_t n, sign;

	if (s.n < 8)
		return false;
	n = get_be16(s.p);
	weight = (int16_t)get_be16(s.p + 2);
	sign = get_be16(s.p + 4);
	if (s.n != 8 + 2 * (size_t)n || (sign != 0 && sign != 0x4000))
		return false;
	for (unsigned i = 0; i < n; i++, weight--) {
		int64_t digit = (int64_t)get_be16(s.p + 8 + 2 * (size_t)i), part;

		if (digit > 9999 || (digit != 0 && weight > 4))
			return false;
		if (digit == 0)
			continue;
		if (weight >= 0) {
			unit = scale == 2 ? 100 : 1;
			for (int w = weight; w > 0; w--)
				unit *= 10000; /* weight ≤ 4: at most 10^18 */
			if (__builtin_mul_overflow(digit, unit, &part))
				return false;
		} else {
			if (scale != 2 || weight < -1 || digit % 100 != 0)
				return false;
			part = digit / 100;
		}
		/* Downwards, so that the smallest number fits. */
		if (__builtin_sub_overflow(v, part, &v))
			return false;
	}
	if (sign == 0x4000) {
		*ret = v;
		return true;
	}
	return !__builtin_sub_overflow((int64_t)0, v, ret);
}

static enum err int_get(const struct field *f, Oid type, struct str s, int64_t *ret)
{
	switch (type) {
	case OID_INT8:
		if (s.n != 8)
			return ERR_CORRUPT;
		*ret = (int64_t)get_be64(s.p);
		return OK;
	case OID_INT4:
		if (s.n != 4)
			return ERR_CORRUPT;
		*ret = (int32_t)get_be32(s.p);
		return OK;
	case OID_INT2:
		if (s.n != 2)
			return ERR_CORRUPT;
		*ret = (int16_t)get_be16(s.p);
		return OK;
	default:
		return numeric_get(s, f->type == FIELD_INT ? 0 : 2, ret) ? OK : ERR_CORRUPT;
	}
}

static enum err float_get(Oid type, struct str s, double *ret)
{
	if (type == OID_FLOAT8 && s.n == 8) {
		uint64_t bits = get_be64(s.p);

		memcpy(ret, &bits, sizeof(bits));
	} else if (type == OID_FLOAT4 && s.n == 4) {
		uint32_t bits = get_be32(s.p);
		float small;

		memcpy(&small, &bits, sizeof(bits));
		*ret = (double)small;
	} else {
		return ERR_CORRUPT;
	}
	return isfinite(*ret) ? OK : ERR_CORRUPT; /* JSON has no word for the others */
}

static enum err time_get(struct str s, int64_t *ret)
{
	int64_t us;

	if (s.n != 8)
		return ERR_CORRUPT;
	us = (int64_t)get_be64(s.p);
	/* The ends mean infinity. */
	if (us == INT64_MIN || us == INT64_MAX || __builtin_add_overflow(us, PG_EPOCH_US, ret))
		return ERR_CORRUPT;
	return OK;
}

static enum err date_get(struct str s, int32_t *ret)
{
	int32_t day;

	if (s.n != 4)
		return ERR_CORRUPT;
	day = (int32_t)get_be32(s.p);
	if (day == INT32_MIN || day == INT32_MAX || __builtin_add_overflow(day, PG_EPOCH_DAYS, ret))
		return ERR_CORRUPT;
	return OK;
}

static enum err enum_get(const struct field *f, struct str s, int *ret)
{
	for (size_t i = 0; i < f->names.n; i++)
		if (str_is(s, f->names.v[i])) {
			*ret = (int)i;
			return OK;
		}
	return ERR_CORRUPT;
}

static bool json_get(Oid type, struct str s, struct str *ret)
{
	if (type == OID_JSONB) {
		if (s.n == 0 || s.p[0] != 1)
			return false;
		s.p++;
		s.n--;
	}
	*ret = s;
	return true;
}

/* One element of an array, checked against what is left. */
static bool element_next(struct str *rest, struct str *ret)
{
	uint32_t n;

	if (rest->n < 4)
		return false;
	n = get_be32(rest->p);
	if (n > rest->n - 4) /* also null, which is −1: our arrays hold none */
		return false;
	*ret = (struct str){rest->p + 4, n};
	rest->p += 4 + n;
	rest->n -= 4 + n;
	return true;
}

static enum err element_get(enum field_type type, Oid array, struct str s, void *v, size_t i)
{
	static const struct field whole = {.type = FIELD_INT};
	Oid element = array == OID_INT8S ? OID_INT8 : array == OID_INT4S ? OID_INT4 : OID_INT2;

	if (type == FIELD_UUIDS) {
		if (s.n != 16)
			return ERR_CORRUPT;
		memcpy(((struct uuid *)v)[i].b, s.p, 16);
		return OK;
	}
	if (type == FIELD_TEXTS) {
		((struct str *)v)[i] = s;
		return OK;
	}
	return int_get(&whole, element, s, &((int64_t *)v)[i]);
}

static enum err array_get(enum field_type type, Oid array, struct str s, struct arena *arena, struct list *ret)
{
	static const size_t sizes[] = {
		[FIELD_UUIDS] = sizeof(struct uuid), [FIELD_TEXTS] = sizeof(struct str), [FIELD_INTS] = sizeof(int64_t)};
	uint32_t dimensions, n;
	struct str rest, one;
	void *v;

	if (s.n < 12)
		return ERR_CORRUPT;
	dimensions = get_be32(s.p);
	if (dimensions == 0) {
		*ret = (struct list){NULL, 0};
		return OK;
	}
	if (dimensions != 1 || s.n < 20)
		return ERR_CORRUPT;
	n = get_be32(s.p + 12);
	rest = (struct str){s.p + 20, s.n - 20};
	if (n > ARRAY_MAX || n > rest.n / 4)
		return ERR_CORRUPT;
	v = arena_array(arena, n, sizes[type]);
	for (uint32_t i = 0; i < n; i++) {
		enum err e;

		if (!element_next(&rest, &one))
			return ERR_CORRUPT;
		e = element_get(type, array, one, v, i);
		if (e != OK)
			return e;
	}
	if (rest.n != 0)
		return ERR_CORRUPT;
	*ret = (struct list){v, n};
	return OK;
}

/* Objects in a jsonb array, by the same table that a body is read with. */
static enum err objects_get(const struct field *f, struct str json, struct arena *arena, struct list *ret)
{
	size_t most = f->max_items ? f->max_items : SCHEMA_ITEMS_MAX, n = 0;
	struct str rest = json, one;
	char *v;

	while (json_next(&rest, &one))
		n++;
	if (n > most)
		return ERR_CORRUPT;
	v = arena_array(arena, n ? n : 1, f->sub->size);
	rest = json;
	for (size_t i = 0; i < n && json_next(&rest, &one); i++) {
		struct problems problems = {.arena = arena};

		if (json_decode(f->sub, one, arena, v + i * f->sub->size, &problems) != OK)
			return ERR_CORRUPT;
	}
	*ret = (struct list){v, n};
	return OK;
}

static enum err value_get(const struct column *c, struct str s, struct arena *arena, void *member)
{
	const struct field *f = c->field;
	struct str json;

	switch (f->type) {
	case FIELD_UUID:
		if (s.n != 16)
			return ERR_CORRUPT;
		memcpy(member, s.p, 16);
		return OK;
	case FIELD_TEXT:
		*(struct str *)member = s;
		return OK;
	case FIELD_INT:
	case FIELD_DECIMAL:
	case FIELD_MONEY:
		return int_get(f, c->type, s, member);
	case FIELD_FLOAT:
		return float_get(c->type, s, member);
	case FIELD_BOOL:
		if (s.n != 1)
			return ERR_CORRUPT;
		*(bool *)member = s.p[0] != 0;
		return OK;
	case FIELD_TIME:
		return time_get(s, member);
	case FIELD_DATE:
		return date_get(s, member);
	case FIELD_ENUM:
		return enum_get(f, s, member);
	case FIELD_JSON:
		return json_get(c->type, s, member) ? OK : ERR_CORRUPT;
	case FIELD_UUIDS:
	case FIELD_TEXTS:
	case FIELD_INTS:
		return array_get(f->type, c->type, s, arena, member);
	case FIELD_LIST:
		if (!json_get(c->type, s, &json))
			return ERR_CORRUPT;
		return objects_get(f, json, arena, member);
	}
	return ERR_BUG;
}

/* ---- columns ------------------------------------------------------------------------------------------------------------- */

static bool type_fits(enum field_type type, Oid oid)
{
	switch (type) {
	case FIELD_UUID:
		return oid == OID_UUID;
	case FIELD_TEXT:
		return oid == OID_TEXT || oid == OID_VARCHAR || oid == OID_BPCHAR || oid == OID_NAME || oid == OID_BYTEA ||
		       oid == OID_UNKNOWN;
	case FIELD_ENUM:
		return oid == OID_TEXT || oid == OID_VARCHAR || oid == OID_NAME || oid == OID_CHAR || oid == OID_UNKNOWN;
	case FIELD_INT:
	case FIELD_DECIMAL:
	case FIELD_MONEY:
		return oid == OID_INT8 || oid == OID_INT4 || oid == OID_INT2 || oid == OID_NUMERIC;
	case FIELD_FLOAT:
		return oid == OID_FLOAT8 || oid == OID_FLOAT4;
	case FIELD_BOOL:
		return oid == OID_BOOL;
	case FIELD_TIME:
		return oid == OID_TIMESTAMPTZ;
	case FIELD_DATE:
		return oid == OID_DATE;
	case FIELD_JSON:
	case FIELD_LIST:
		return oid == OID_JSONB || oid == OID_JSON;
	case FIELD_UUIDS:
		return oid == OID_UUIDS;
	case FIELD_TEXTS:
		return oid == OID_TEXTS || oid == OID_VARCHARS;
	case FIELD_INTS:
		return oid == OID_INT8S || oid == OID_INT4S || oid == OID_INT2S;
	}
	return false;
}

/* The field of a column. Statements name columns in the table's order, so the search goes on where the last one ended. */
static bool column_find(const struct schema *s, const char *name, size_t *at, struct column *ret)
{
	for (size_t i = 0; i < s->n; i++) {
		size_t field = (*at + i) % s->n;

		if (strcmp(field_column(&s->fields[field]), name) == 0) {
			*at = field + 1;
			ret->field = &s->fields[field];
			ret->bit = (unsigned)field;
			return true;
		}
	}
	if (!s->row)
		return false;
	for (size_t i = 0; i < pg_row_width(s); i++) {
		const struct field *f = pg_row_column(s, i);

		if ((f < s->fields || f >= s->fields + s->n) && strcmp(f->name, name) == 0) {
			ret->field = f;
			ret->bit = NO_BIT;
			return true;
		}
	}
	return false;
}

static enum err columns_find(const PGresult *res, const struct schema *out, struct column *columns, int n)
{
	size_t at = 0;

	if (n > COLUMNS_MAX)
		return ERR_BUG;
	for (int i = 0; i < n; i++) {
		if (PQfformat(res, i) != 1 || !column_find(out, PQfname(res, i), &at, &columns[i]))
			return ERR_BUG;
		columns[i].type = PQftype(res, i);
		if (!type_fits(columns[i].field->type, columns[i].type))
			return ERR_BUG;
	}
	return OK;
}

static bool borrows(const struct column *columns, int n)
{
	for (int i = 0; i < n; i++) {
		enum field_type t = columns[i].field->type;

		if (t == FIELD_TEXT || t == FIELD_JSON || t == FIELD_TEXTS || t == FIELD_LIST)
			return true;
	}
	return false;
}

static enum err row_get(const PGresult *res, int r, const struct column *columns, int n, struct arena *arena, void *to)
{
	struct fields *head = to;

	for (int i = 0; i < n; i++) {
		const struct column *c = &columns[i];
		struct str s;
		enum err e;

		if (PQgetisnull(res, r, i))
			continue;
		s = (struct str){PQgetvalue(res, r, i), (size_t)PQgetlength(res, r, i)};
		e = value_get(c, s, arena, (char *)to + c->field->offset);
		if (e != OK)
			return e;
		if (c->bit != NO_BIT)
			head->set |= UINT64_C(1) << c->bit;
	}
	return OK;
}

static void result_clear(void *ptr)
{
	PQclear(ptr);
}

/* Decodes all rows to `to`, an array, and ends the result's life or ties it to the arena. */
static enum err rows_get(PGresult *res, const struct schema *out, struct arena *arena, void *to)
{
	struct column columns[COLUMNS_MAX];
	int n = PQnfields(res), rows = PQntuples(res);
	enum err e;

	e = columns_find(res, out, columns, n);
	if (e != OK) {
		PQclear(res);
		return e;
	}
	if (rows != 0 && borrows(columns, n))
		arena_defer(arena, result_clear, res);
	for (int r = 0; r < rows && e == OK; r++)
		e = row_get(res, r, columns, n, arena, (char *)to + (size_t)r * out->size);
	if (rows == 0 || !borrows(columns, n))
		PQclear(res);
	return e;
}

static size_t affected(PGresult *res)
{
	int64_t n;

	if (PQresultStatus(res) == PGRES_TUPLES_OK)
		return (size_t)PQntuples(res);
	return str_to_i64(str_of(PQcmdTuples(res)), &n) && n > 0 ? (size_t)n : 0;
}

enum err pg_rows_decode(PGresult *res, const struct schema *out, struct arena *arena, struct list *ret_rows)
{
	size_t n = affected(res);
	struct list rows = {NULL, n};
	enum err e = OK;

	if (!out) {
		PQclear(res);
	} else {
		rows.n = (size_t)PQntuples(res);
		if (rows.n > PG_ROWS_MAX) {
			PQclear(res);
			return ERR_TOO_LARGE;
		}
		rows.v = arena_array(arena, rows.n ? rows.n : 1, out->size);
		e = rows_get(res, out, arena, rows.v);
	}
	if (e == OK && ret_rows)
		*ret_rows = rows;
	return e;
}

enum err pg_row_decode(PGresult *res, const struct schema *out, struct arena *arena, void *to)
{
	size_t n = affected(res);

	if (n != 1 || !out) {
		PQclear(res);
		return n == 0 ? ERR_NOT_FOUND : n == 1 ? OK : ERR_BUG;
	}
	if (PQntuples(res) != 1) { /* a change without RETURNING has no row to give */
		PQclear(res);
		return ERR_BUG;
	}
	memset(to, 0, out->size);
	return rows_get(res, out, arena, to);
}
