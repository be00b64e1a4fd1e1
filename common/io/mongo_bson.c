/* SPDX-License-Identifier: Apache-2.0 */
/* JSON to BSON and back, and filters. Built by appending, never by text, so a value cannot become an operator. */
#include "io/mongo_bson.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "base/timefmt.h"

void mongo_id(struct uuid school, struct uuid id, uint8_t to[MONGO_ID_SIZE])
{
	memcpy(to, school.b, 16);
	memcpy(to + 16, id.b, 16);
}

static void append_id(bson_t *to, const char *name, struct uuid school, struct uuid id)
{
	uint8_t bytes[MONGO_ID_SIZE];

	mongo_id(school, id, bytes);
	bson_append_binary(to, name, -1, BSON_SUBTYPE_BINARY, bytes, sizeof(bytes));
}

bool mongo_append_json(bson_t *to, const char *name, struct str value)
{
	_cleanup_(buf_done) struct buf text = {0};
	bson_error_t error;
	bson_iter_t iter;
	bson_t *wrapped;
	bool ok;

	buf_puts(&text, STR("{\"x\":"));
	buf_puts(&text, value);
	buf_putc(&text, '}');
	wrapped = bson_new_from_json((const uint8_t *)text.p, (ssize_t)text.n, &error);
	ok = wrapped != NULL && bson_iter_init_find(&iter, wrapped, "x") && bson_append_iter(to, name, -1, &iter);
	bson_destroy(wrapped);
	return ok;
}

/* ---- BSON to JSON ---------------------------------------------------------------------------------------------------------------- */

/* The shortest text that reads back as the same number. */
static void put_double(struct buf *out, double v)
{
	char text[40];

	for (int digits = 15; digits <= 17; digits++) {
		snprintf(text, sizeof(text), "%.*g", digits, v);
		if (strtod(text, NULL) >= v && strtod(text, NULL) <= v)
			break;
	}
	buf_puts(out, str_of(text));
}

static bool put_value(struct buf *out, bson_iter_t *iter, unsigned depth);

static bool is_store_key(const char *key)
{
	return strcmp(key, "_id") == 0 || strcmp(key, "_expire") == 0 || strcmp(key, "school_id") == 0 || strcmp(key, "v") == 0 ||
	       strcmp(key, "deleted_at") == 0;
}

static bool put_members(struct buf *out, bson_iter_t *iter, bool object, unsigned depth)
{
	bool first = true;

	if (depth > SCHEMA_DEPTH_MAX)
		return false;
	buf_putc(out, object ? '{' : '[');
	while (bson_iter_next(iter)) {
		if (depth == 0 && is_store_key(bson_iter_key(iter)))
			continue;
		if (!first)
			buf_putc(out, ',');
		first = false;
		if (object) {
			buf_put_json(out, str_of(bson_iter_key(iter)));
			buf_putc(out, ':');
		}
		if (!put_value(out, iter, depth))
			return false;
	}
	buf_putc(out, object ? '}' : ']');
	return true;
}

static bool put_value(struct buf *out, bson_iter_t *iter, unsigned depth)
{
	bson_type_t type = bson_iter_type(iter);
	bson_iter_t child;
	const char *text;
	uint32_t n;

	if (type == BSON_TYPE_DOCUMENT || type == BSON_TYPE_ARRAY)
		return bson_iter_recurse(iter, &child) && put_members(out, &child, type == BSON_TYPE_DOCUMENT, depth + 1);
	if (type == BSON_TYPE_UTF8) {
		text = bson_iter_utf8(iter, &n);
		buf_put_json(out, (struct str){text, n});
	} else if (type == BSON_TYPE_INT32 || type == BSON_TYPE_INT64) {
		buf_put_i64(out, bson_iter_as_int64(iter));
	} else if (type == BSON_TYPE_DOUBLE && isfinite(bson_iter_double(iter))) {
		put_double(out, bson_iter_double(iter));
	} else if (type == BSON_TYPE_BOOL) {
		buf_puts(out, bson_iter_bool(iter) ? STR("true") : STR("false"));
	} else if (type == BSON_TYPE_NULL) {
		buf_puts(out, STR("null"));
	} else {
		return false;
	}
	return true;
}

bool mongo_put_document(struct buf *out, const bson_t *stored)
{
	bson_iter_t iter;

	return bson_iter_init(&iter, stored) && put_members(out, &iter, true, 0);
}

bool mongo_put_path(struct buf *out, const bson_t *stored, const char *path)
{
	bson_iter_t iter, found;

	if (path != NULL && bson_iter_init(&iter, stored) && bson_iter_find_descendant(&iter, path, &found))
		return put_value(out, &found, 0);
	buf_puts(out, STR("null"));
	return true;
}

/* ---- documents --------------------------------------------------------------------------------------------------------------------- */

bool mongo_expiry(const bson_t *stored, const char *path, int64_t expire_s, int64_t *ret_ms)
{
	bson_iter_t iter, found;
	const char *text;
	int64_t at_us;
	uint32_t n;

	if (!bson_iter_init(&iter, stored) || !bson_iter_find_descendant(&iter, path, &found) || !BSON_ITER_HOLDS_UTF8(&found))
		return false;
	text = bson_iter_utf8(&found, &n);
	if (!time_parse((struct str){text, n}, &at_us))
		return false;
	*ret_ms = at_us / US_PER_MS + expire_s * 1000;
	return true;
}

bool mongo_document(bson_t *to, struct uuid school, const struct doc *doc, int64_t now_us, const char *expire_path,
		    int64_t expire_s)
{
	bson_error_t error;
	int64_t at_ms;
	bson_t *own;
	bool ok;

	append_id(to, "_id", school, doc->id);
	bson_append_binary(to, "school_id", -1, BSON_SUBTYPE_UUID, school.b, 16);
	bson_append_int64(to, "v", -1, doc->version);
	if (doc->json.p == NULL)
		return bson_append_date_time(to, "deleted_at", -1, now_us / US_PER_MS);
	own = bson_new_from_json((const uint8_t *)doc->json.p, (ssize_t)doc->json.n, &error);
	ok = own != NULL && bson_concat(to, own);
	if (ok && expire_path != NULL && mongo_expiry(own, expire_path, expire_s, &at_ms))
		ok = bson_append_date_time(to, "_expire", -1, at_ms);
	bson_destroy(own);
	return ok;
}

/* ---- filters ------------------------------------------------------------------------------------------------------------------------ */

void mongo_living(bson_t *filter, struct uuid school, int64_t now_us)
{
	bson_t range, not_yet;

	bson_append_binary(filter, "school_id", -1, BSON_SUBTYPE_UUID, school.b, 16);
	bson_append_null(filter, "deleted_at", -1); /* null is also what is missing */
	/* The server's own sweep comes once a minute; until then what has expired is hidden. */
	bson_append_document_begin(filter, "_expire", -1, &range);
	bson_append_document_begin(&range, "$not", -1, &not_yet);
	bson_append_date_time(&not_yet, "$lte", -1, now_us / US_PER_MS);
	bson_append_document_end(&range, &not_yet);
	bson_append_document_end(filter, &range);
}

static bool append_op(bson_t *to, const char *path, const char *op, struct str value)
{
	bson_t inner;
	bool ok;

	bson_append_document_begin(to, path, -1, &inner);
	ok = mongo_append_json(&inner, op, value);
	bson_append_document_end(to, &inner);
	return ok;
}

static bool append_cond(bson_t *to, const struct doc_cond *c)
{
	static const char *const ops[] = {
		[DOC_EQ] = "$eq", [DOC_IN] = "$in", [DOC_GT] = "$gt", [DOC_GTE] = "$gte", [DOC_LT] = "$lt", [DOC_LTE] = "$lte",
	};

	return append_op(to, c->path, ops[c->op], c->value);
}

static void append_id_beyond(bson_t *to, const char *beyond, struct uuid school, struct uuid id)
{
	bson_t inner;

	bson_append_document_begin(to, "_id", -1, &inner);
	append_id(&inner, beyond, school, id);
	bson_append_document_end(to, &inner);
}

/* One alternative of the keyset: its place in the array, then what `path` must be. */
struct alternatives {
	bson_t list;
	const char *path;
	unsigned n;
};

static void begin_alternative(struct alternatives *a, bson_t *ret)
{
	char key[12];

	snprintf(key, sizeof(key), "%u", a->n++);
	bson_append_document_begin(&a->list, key, -1, ret);
}

static void add_types(struct alternatives *a, const char *const *types)
{
	bson_t one, inner, list;
	char key[12];

	begin_alternative(a, &one);
	bson_append_document_begin(&one, a->path, -1, &inner);
	bson_append_array_begin(&inner, "$type", -1, &list);
	for (unsigned i = 0; types[i] != NULL; i++) {
		snprintf(key, sizeof(key), "%u", i);
		bson_append_utf8(&list, key, -1, types[i], -1);
	}
	bson_append_array_end(&inner, &list);
	bson_append_document_end(&one, &inner);
	bson_append_document_end(&a->list, &one);
}

static void add_null(struct alternatives *a, const char *op)
{
	bson_t one, inner;

	begin_alternative(a, &one);
	bson_append_document_begin(&one, a->path, -1, &inner);
	bson_append_null(&inner, op, -1);
	bson_append_document_end(&one, &inner);
	bson_append_document_end(&a->list, &one);
}

/* $gt and $lt stay within one kind of value, the order does not: the kinds behind the cursor's are alternatives of their own. */
static void add_other_kinds(struct alternatives *a, char first, bool descending)
{
	static const char *const above_number[] = {"string", "object", "bool", NULL}, *const above_string[] = {"object", "bool",
													       NULL};
	static const char *const below_string[] = {"number", NULL}, *const below_bool[] = {"number", "string", "object", NULL};
	bool is_bool = first == 't' || first == 'f';

	if (first == 'n') {
		if (!descending)
			add_null(a, "$ne");
	} else if (descending) {
		if (is_bool || first == '"')
			add_types(a, is_bool ? below_bool : below_string);
		add_null(a, "$eq");
	} else if (!is_bool) {
		add_types(a, first == '"' ? above_string : above_number);
	}
}

static bool append_after(bson_t *filter, struct uuid school, const struct doc_find *find, const struct doc_after *after)
{
	const char *beyond = find->descending ? "$lt" : "$gt";
	struct alternatives a = {.path = find->sort};
	struct str key = str_trim(after->key);
	bson_t one;
	bool ok = true;

	if (find->sort == NULL) {
		append_id_beyond(filter, beyond, school, after->id);
		return true;
	}
	bson_append_array_begin(filter, "$or", -1, &a.list);
	begin_alternative(&a, &one);
	ok = append_op(&one, a.path, "$eq", key);
	append_id_beyond(&one, beyond, school, after->id);
	bson_append_document_end(&a.list, &one);
	if (key.p[0] != 'n') {
		begin_alternative(&a, &one);
		ok = append_op(&one, a.path, beyond, key) && ok;
		bson_append_document_end(&a.list, &one);
	}
	add_other_kinds(&a, key.p[0], find->descending);
	bson_append_array_end(filter, &a.list);
	return ok;
}

static bool append_text(bson_t *filter, const struct doc_cond *c)
{
	return append_op(filter, "$text", "$search", c->value);
}

bool mongo_filter(bson_t *filter, struct uuid school, int64_t now_us, const struct doc_find *find, const struct doc_after *after,
		  struct arena *arena)
{
	bson_t all, one;
	unsigned n = 0;
	bool ok = true;

	mongo_living(filter, school, now_us);
	for (size_t i = 0; i < find->n_conds; i++) {
		if (find->conds[i].op == DOC_TEXT)
			ok = append_text(filter, &find->conds[i]) && ok;
		else
			n++;
	}
	/* The same path may be asked twice (from … to), so each condition is a member of $and. */
	if (n != 0) {
		n = 0;
		bson_append_array_begin(filter, "$and", -1, &all);
		for (size_t i = 0; i < find->n_conds; i++) {
			if (find->conds[i].op == DOC_TEXT)
				continue;
			bson_append_document_begin(&all, arena_printf(arena, "%u", n++), -1, &one);
			ok = append_cond(&one, &find->conds[i]) && ok;
			bson_append_document_end(&all, &one);
		}
		bson_append_array_end(filter, &all);
	}
	return (!after->set || append_after(filter, school, find, after)) && ok;
}

void mongo_sort(bson_t *to, const struct doc_find *find)
{
	int direction = find->descending ? -1 : 1;

	if (find->sort != NULL)
		bson_append_int32(to, find->sort, -1, direction);
	bson_append_int32(to, "_id", -1, direction);
}
