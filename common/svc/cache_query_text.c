/* SPDX-License-Identifier: Apache-2.0 */
/* A statement's text as its fingerprint sees it, and rows of any schema as bytes. */
#include <string.h>

#include "svc/cache_query.h"

/* ---- text ---- */

static bool is_word(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '$' ||
	       (c & 0x80) != 0;
}

static bool is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Where the comment that begins at i ends; i when there is none. PostgreSQL's block comments nest. */
static size_t after_comment(struct str s, size_t i)
{
	size_t depth = 0;

	if (s.n - i < 2)
		return i;
	if (s.p[i] == '-' && s.p[i + 1] == '-') {
		while (i < s.n && s.p[i] != '\n')
			i++;
		return i;
	}
	if (s.p[i] != '/' || s.p[i + 1] != '*')
		return i;
	do {
		if (s.n - i >= 2 && s.p[i] == '/' && s.p[i + 1] == '*') {
			depth++;
			i += 2;
		} else if (s.n - i >= 2 && s.p[i] == '*' && s.p[i + 1] == '/') {
			depth--;
			i += 2;
		} else {
			i++;
		}
	} while (depth != 0 && i < s.n);
	return i < s.n ? i : s.n;
}

/* Behind a quoted thing; a doubled quote is two things that touch, which comes to the same. */
static size_t after_quote(struct str s, size_t i, bool escapes)
{
	char quote = s.p[i++];

	while (i < s.n && s.p[i] != quote)
		i += escapes && s.p[i] == '\\' && i + 1 < s.n ? 2 : 1;
	return i < s.n ? i + 1 : s.n;
}

/* Behind a $tag$…$tag$ that begins at i; i when none does: $1 is a parameter. */
static size_t after_dollars(struct str s, size_t i)
{
	size_t end = i + 1;
	struct str tag;
	const char *close;

	while (end < s.n && is_word(s.p[end]) && s.p[end] != '$')
		end++;
	if (end >= s.n || s.p[end] != '$' || (end > i + 1 && s.p[i + 1] >= '0' && s.p[i + 1] <= '9'))
		return i;
	tag = (struct str){s.p + i, end + 1 - i};
	close = memmem(s.p + end + 1, s.n - end - 1, tag.p, tag.n);
	return close ? (size_t)(close - s.p) + tag.n : s.n;
}

/* One token that is kept as it is: a literal, a quoted name, a word, or one character. */
static size_t after_token(struct str s, size_t i)
{
	size_t end = i;

	if (s.p[i] == '\'' || s.p[i] == '"')
		return after_quote(s, i, false);
	if (s.p[i] == '$') {
		end = after_dollars(s, i);
		if (end != i)
			return end;
	}
	if (!is_word(s.p[i]))
		return i + 1;
	while (end < s.n && is_word(s.p[end]))
		end++;
	if (end < s.n && s.p[end] == '\'' && end == i + 1 && (s.p[i] == 'E' || s.p[i] == 'e'))
		return after_quote(s, end, true);
	return end;
}

static bool stands_alone(char c)
{
	return c == '(' || c == ')' || c == ',' || c == ';';
}

void query_text(struct str sql, struct buf *out)
{
	bool gap = false;
	size_t i = 0, begin = out->n;

	while (i < sql.n) {
		size_t end = is_space(sql.p[i]) ? i + 1 : after_comment(sql, i);

		if (end != i) {
			gap = true;
			i = end;
			continue;
		}
		end = after_token(sql, i);
		if (gap && out->n != begin && !stands_alone(out->p[out->n - 1]) && !stands_alone(sql.p[i]))
			buf_putc(out, ' ');
		buf_put(out, sql.p + i, end - i);
		gap = false;
		i = end;
	}
	while (out->n != begin && out->p[out->n - 1] == ';')
		out->n--;
}

/* ---- rows ---- */

/* The rows as the one field of a row: so each is packed as an element of a list is, nulls and arrays with it. What a struct row has before its
 * fields stands in front. */
struct packed {
	struct row row;
	struct list rows;
};

static struct schema wrapping(const struct schema *s, struct field *field)
{
	*field = (struct field){.name = "rows", .type = FIELD_LIST, .offset = offsetof(struct packed, rows), .sub = s};
	return (struct schema){.name = "rows", .size = sizeof(struct packed), .fields = field, .n = 1, .row = true};
}

#define HEAD_SIZE (sizeof(struct row) - offsetof(struct row, id))

void query_pack(const struct schema *s, const struct list *rows, struct buf *out)
{
	struct field field;
	struct schema whole = wrapping(s, &field);
	struct packed p = {.row = {.f = {.set = 1}}, .rows = *rows};
	uint32_t n = (uint32_t)rows->n;

	for (size_t i = 0; s->row && i < rows->n; i++)
		buf_put(out, (const char *)rows->v + i * s->size + offsetof(struct row, id), HEAD_SIZE);
	row_pack(&whole, &p, out);
	buf_put(out, &n, sizeof(n));
}

enum err query_unpack(const struct schema *s, struct str bytes, struct arena *arena, struct list *ret)
{
	struct field field;
	struct schema whole = wrapping(s, &field);
	struct packed p = {0};
	uint32_t n;
	size_t heads;
	enum err e;

	if (bytes.n < sizeof(n))
		return ERR_CORRUPT;
	bytes.n -= sizeof(n);
	memcpy(&n, bytes.p + bytes.n, sizeof(n));
	heads = s->row ? n * HEAD_SIZE : 0;
	if (n > QUERY_ROWS_MAX || bytes.n < heads)
		return ERR_CORRUPT;
	e = row_unpack(&whole, UINT32_MAX, (struct str){bytes.p + heads, bytes.n - heads}, arena, &p);
	if (e != OK || p.rows.n != n)
		return ERR_CORRUPT;
	for (size_t i = 0; s->row && i < n; i++)
		memcpy((char *)p.rows.v + i * s->size + offsetof(struct row, id), bytes.p + i * HEAD_SIZE, HEAD_SIZE);
	*ret = p.rows;
	return OK;
}
