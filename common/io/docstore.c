/* SPDX-License-Identifier: Apache-2.0 */
/* The document store port: what may be asked and stored, cursors, and the way to the driver. */
#include <math.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "base/uuid.h"
#include "io/crypto.h"
#include "io/docstore_driver.h"

#define NAME_MAX_BYTES 48
#define PATH_MAX_BYTES 128
#define KEY_MAX_BYTES 128
#define CONDS_MAX 16
#define IN_MAX 500
#define LIMIT_MAX 500
#define VALUE_MAX_BYTES 4096
#define SORT_KEY_MAX_BYTES 1024
#define CURSOR_MAX_BYTES 2048

/* ---- names and paths ------------------------------------------------------------------------------------------------------- */

static bool is_letter(char c)
{
	return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Collections and indexes: what is a name in every store without quoting. */
static bool name_is_sane(const char *name)
{
	size_t n = name != NULL ? strnlen(name, NAME_MAX_BYTES + 1) : 0;

	if (n == 0 || n > NAME_MAX_BYTES || name[0] < 'a' || name[0] > 'z')
		return false;
	for (size_t i = 0; i < n; i++) {
		if (!(name[i] >= 'a' && name[i] <= 'z') && !is_digit(name[i]) && name[i] != '_')
			return false;
	}
	return true;
}

static bool is_reserved(struct str key)
{
	return str_is(key, "_id") || str_is(key, "_expire") || str_is(key, "school_id") || str_is(key, "v") ||
	       str_is(key, "deleted_at");
}

/* Names joined by dots. A part of digits alone would be an element's place for one store and a name for the other. */
static bool path_is_sane(const char *path)
{
	struct str rest = str_of(path), part;
	bool first = true;

	if (rest.n == 0 || rest.n > PATH_MAX_BYTES || rest.p[rest.n - 1] == '.')
		return false;
	while (rest.p != NULL && rest.n != 0) {
		bool letters = false;

		part = str_split(&rest, '.');
		for (size_t i = 0; i < part.n; i++) {
			if (!is_letter(part.p[i]) && part.p[i] != '_' && !is_digit(part.p[i]))
				return false;
			letters = letters || !is_digit(part.p[i]);
		}
		if (!letters || (first && is_reserved(part)))
			return false;
		first = false;
	}
	return true;
}

/* ---- documents and values ------------------------------------------------------------------------------------------------------ */

static bool number_fits(struct str text)
{
	char copy[512];
	int64_t whole;
	double v;

	for (size_t i = 0; i < text.n; i++) {
		if (text.p[i] != '-' && !is_digit(text.p[i])) {
			if (text.n >= sizeof(copy))
				return false;
			memcpy(copy, text.p, text.n);
			copy[text.n] = '\0';
			v = strtod(copy, NULL);
			return isfinite(v);
		}
	}
	return str_to_i64(text, &whole);
}

/* The string that begins at p[0] == '"', quotes included; the text is valid JSON. */
static size_t string_size(struct str s)
{
	size_t n = 1;

	while (s.p[n] != '"')
		n += s.p[n] == '\\' ? 2 : 1;
	return n + 1;
}

static size_t number_size(struct str s)
{
	size_t n = 0;

	while (n < s.n && (is_digit(s.p[n]) || memchr("+-.eE", s.p[n], 5) != NULL))
		n++;
	return n;
}

static bool key_is_plain(struct str key, bool top)
{
	return key.n != 0 && key.n <= KEY_MAX_BYTES && key.p[0] != '$' && memchr(key.p, '.', key.n) == NULL &&
	       memchr(key.p, '\\', key.n) == NULL && !(top && is_reserved(key));
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static bool has_twice(struct buf *hashes)
{
	size_t n = hashes->n / sizeof(uint64_t);
	uint64_t *v = (uint64_t *)(void *)hashes->p;

	if (n < 2)
		return false;
	qsort(v, n, sizeof(*v), by_value);
	for (size_t i = 1; i < n; i++) {
		if (v[i] == v[i - 1])
			return true;
	}
	return false;
}

/* Walks well-formed JSON and looks at every key and number. A key is known by its hash within its object, so a million keys cost a sort. */
static bool members_are_plain(struct str json)
{
	_cleanup_(buf_done) struct buf hashes = {0};
	uint64_t object[SCHEMA_DEPTH_MAX + 1] = {0}, serial = 0; /* the object's number, 0 for an array */
	size_t depth = 0;
	bool key_next = false;

	for (size_t i = 0; i < json.n;) {
		struct str rest = {json.p + i, json.n - i};
		size_t n = 1;

		if (rest.p[0] == '{' || rest.p[0] == '[') {
			key_next = rest.p[0] == '{';
			object[++depth] = key_next ? ++serial : 0;
		} else if (rest.p[0] == '}' || rest.p[0] == ']') {
			depth--;
			key_next = false;
		} else if (rest.p[0] == ',') {
			key_next = object[depth] != 0;
		} else if (rest.p[0] == '"') {
			n = string_size(rest);
			if (key_next) {
				struct str key = {rest.p + 1, n - 2};
				uint64_t hash = str_hash(key, object[depth]);

				if (!key_is_plain(key, depth == 1))
					return false;
				buf_put(&hashes, &hash, sizeof(hash));
				key_next = false;
			}
		} else if (rest.p[0] == '-' || is_digit(rest.p[0])) {
			n = number_size(rest);
			if (!number_fits((struct str){rest.p, n}))
				return false;
		}
		i += n;
	}
	return !has_twice(&hashes);
}

enum err doc_check(struct str json)
{
	struct str trimmed = str_trim(json);

	if (json.n > DOC_SIZE_MAX)
		return ERR_TOO_LARGE;
	if (trimmed.n == 0 || trimmed.p[0] != '{' || !json_is_valid(json) || !members_are_plain(json))
		return ERR_INVALID;
	return OK;
}

static bool is_scalar(struct str json)
{
	struct str s = str_trim(json);

	return s.n != 0 && s.n <= VALUE_MAX_BYTES && s.p[0] != '{' && s.p[0] != '[' && json_is_valid(json) &&
	       members_are_plain(s);
}

static bool is_list(struct str json)
{
	struct str rest = json, one;
	size_t n = 0;

	if (!json_is_valid(json) || str_trim(json).p[0] != '[')
		return false;
	while (json_next(&rest, &one)) {
		if (!is_scalar(one) || ++n > IN_MAX)
			return false;
	}
	return true;
}

static bool cond_is_sane(const struct doc_cond *c)
{
	struct str value = str_trim(c->value);

	switch (c->op) {
	case DOC_EQ:
		return path_is_sane(c->path) && is_scalar(value);
	case DOC_IN:
		return path_is_sane(c->path) && is_list(value);
	case DOC_GT:
	case DOC_GTE:
	case DOC_LT:
	case DOC_LTE:
		return path_is_sane(c->path) && is_scalar(value) &&
		       (value.p[0] == '"' || value.p[0] == '-' || is_digit(value.p[0]));
	case DOC_TEXT:
		return is_scalar(value) && value.p[0] == '"';
	}
	return false;
}

/* The words of a JSON string as another: what is a sign to either store (quotes for phrases, minus for not) becomes a space. */
static struct str words_only(struct str json, struct arena *arena, bool *ret_any)
{
	struct str s = str_trim(json);
	struct buf b = buf_in(arena);

	*ret_any = false;
	buf_putc(&b, '"');
	for (size_t i = 1; i + 1 < s.n;) {
		bool letter = is_letter(s.p[i]) || is_digit(s.p[i]) || (unsigned char)s.p[i] >= 0x80;
		size_t n = s.p[i] == '\\' ? (s.p[i + 1] == 'u' ? 6 : 2) : 1;

		letter = letter || (n == 6 && memcmp(s.p + i + 2, "00", 2) != 0);
		if (letter)
			buf_put(&b, s.p + i, n);
		else
			buf_putc(&b, ' ');
		*ret_any = *ret_any || letter;
		i += n;
	}
	buf_putc(&b, '"');
	return buf_str(&b);
}

/* ---- cursors --------------------------------------------------------------------------------------------------------------------- */

/* The id's text, then the sort value's JSON. It comes back from clients, so nothing in it is trusted: it can only choose where to go on. */
static struct str cursor_text(struct uuid id, struct str key, struct arena *arena)
{
	struct buf plain = buf_in(arena), out = buf_in(arena);

	buf_put_uuid(&plain, id);
	buf_puts(&plain, key);
	base64url_put(&out, buf_str(&plain));
	return buf_str(&out);
}

static bool cursor_parse(struct str cursor, struct arena *arena, struct doc_after *ret)
{
	struct buf plain = buf_in(arena);

	*ret = (struct doc_after){.set = cursor.n != 0};
	if (cursor.n == 0)
		return true;
	if (cursor.n > CURSOR_MAX_BYTES || !base64url_get(cursor, &plain) || plain.n <= UUID_TEXT ||
	    !uuid_parse((struct str){plain.p, UUID_TEXT}, &ret->id))
		return false;
	ret->key = (struct str){plain.p + UUID_TEXT, plain.n - UUID_TEXT};
	return is_scalar(ret->key);
}

/* ---- the port -------------------------------------------------------------------------------------------------------------------- */

struct docstore *docstore_close(struct docstore *s)
{
	if (s != NULL)
		s->driver->close(s);
	return NULL;
}

enum err docstore_ping(struct docstore *s, struct deadline d)
{
	return s->driver->ping(s, d);
}

enum err docstore_sweep(struct docstore *s, int64_t older_s, struct deadline d, int64_t *ret_removed)
{
	return s->driver->sweep(s, older_s, d, ret_removed);
}

enum err docstore_upsert_many(struct docstore *s, const struct doc_scope *scope, const char *collection, const struct doc *docs,
			      size_t n, enum doc_outcome *outcomes)
{
	size_t bytes = 0;
	enum err e;

	if (!name_is_sane(collection) || uuid_is_nil(scope->school))
		return ERR_INVALID;
	if (n > DOC_BATCH_MAX)
		return ERR_TOO_LARGE;
	for (size_t i = 0; i < n; i++) {
		if (docs[i].version < 1)
			return ERR_INVALID;
		e = docs[i].json.p != NULL ? doc_check(docs[i].json) : OK;
		if (e != OK)
			return e;
		bytes += docs[i].json.n;
	}
	if (bytes > DOC_BATCH_SIZE_MAX)
		return ERR_TOO_LARGE;
	return n == 0 ? OK : s->driver->upsert(s, scope, collection, docs, n, outcomes);
}

enum err docstore_get(struct docstore *s, const struct doc_scope *scope, const char *collection, struct uuid id, struct doc *ret)
{
	if (!name_is_sane(collection) || uuid_is_nil(scope->school))
		return ERR_INVALID;
	return s->driver->get(s, scope, collection, id, ret);
}

enum err docstore_delete(struct docstore *s, const struct doc_scope *scope, const char *collection, struct uuid id,
			 int64_t version)
{
	struct doc tombstone = {.id = id, .version = version};
	enum doc_outcome outcome;

	return docstore_upsert_many(s, scope, collection, &tombstone, 1, &outcome);
}

/* Checks the conditions into *ret, with texts reduced to words. *ret_none: no document can match. */
static bool conds_prepare(const struct doc_find *find, struct arena *arena, struct doc_cond *ret, bool *ret_none)
{
	size_t texts = 0;

	*ret_none = false;
	if (find->n_conds > CONDS_MAX)
		return false;
	for (size_t i = 0; i < find->n_conds; i++) {
		bool any = true;

		if (!cond_is_sane(&find->conds[i]))
			return false;
		ret[i] = find->conds[i];
		if (ret[i].op == DOC_TEXT) {
			texts++;
			ret[i].path = "text";
			ret[i].value = words_only(ret[i].value, arena, &any);
		}
		*ret_none = *ret_none || !any;
	}
	return texts <= 1;
}

enum err docstore_find(struct docstore *s, const struct doc_scope *scope, const char *collection, const struct doc_find *find,
		       struct list *ret_docs, struct str *ret_cursor)
{
	struct doc_cond conds[CONDS_MAX];
	struct doc_find wanted = *find;
	struct doc_page page = {.n = 0};
	struct str cursor = {NULL, 0};
	struct doc_after after;
	bool none;
	enum err e;

	if (!name_is_sane(collection) || uuid_is_nil(scope->school) || find->limit < 1 || find->limit > LIMIT_MAX ||
	    (find->sort != NULL && !path_is_sane(find->sort)) || !conds_prepare(find, scope->arena, conds, &none) ||
	    !cursor_parse(find->cursor, scope->arena, &after))
		return ERR_INVALID;
	wanted.conds = conds;
	if (!none) {
		e = s->driver->find(s, scope, collection, &wanted, &after, &page);
		if (e != OK)
			return e;
	}
	if (page.n > find->limit) {
		page.n = find->limit;
		if (page.keys[page.n - 1].n > SORT_KEY_MAX_BYTES || !is_scalar(page.keys[page.n - 1]))
			return ERR_INVALID;
		cursor = cursor_text(page.docs[page.n - 1].id, page.keys[page.n - 1], scope->arena);
	}
	*ret_docs = (struct list){page.docs, page.n};
	*ret_cursor = cursor;
	return OK;
}

enum err docstore_create_index(struct docstore *s, const struct doc_index *index, struct deadline d)
{
	size_t n = 0;

	if (!name_is_sane(index->collection) || !name_is_sane(index->name) || index->expire_s < 0)
		return ERR_INVALID;
	while (n < ARRAY_LEN(index->paths) && index->paths[n] != NULL) {
		if (!path_is_sane(index->paths[n]))
			return ERR_INVALID;
		n++;
	}
	/* One meaning each. */
	if (n == 0 || index->unique + index->text + (index->expire_s > 0) > 1 || (index->expire_s > 0 && n != 1))
		return ERR_INVALID;
	return s->driver->create_index(s, index, n, d);
}
