/* SPDX-License-Identifier: Apache-2.0 */
/* JSON into a struct by its field table: one pass over the text, no tree, no copy of text that has no escapes. */
#include "base/field_in.h"

/* A function returns false when the text is not JSON; everything else that is wrong becomes a problem and reading goes on. */
struct reader {
	struct json_scan scan;
	struct field_in in;
};

static bool read_object(struct reader *r, const struct schema *s, const struct field_path *at, unsigned depth, void *to);

/* Says once that a value had U+0000 or half a surrogate pair, and starts afresh. */
static bool was_unfit(struct reader *r, const struct field_path *at)
{
	if (!r->scan.unfit)
		return false;
	r->scan.unfit = false;
	field_problem(&r->in, at, "utf8", "must not have U+0000 or half of a surrogate pair");
	return true;
}

static bool skip(struct reader *r, const struct field_path *at, unsigned depth)
{
	if (!json_scan_value(&r->scan, depth))
		return false;
	IGNORE(was_unfit(r, at)); /* whatever the value is, the problem is told */
	return true;
}

static struct str text_of(struct reader *r, const struct json_text *text)
{
	char *plain;

	if (!text->escaped)
		return text->raw;
	plain = arena_alloc(r->in.arena, text->raw.n);
	return (struct str){plain, json_unescape(plain, text->raw)};
}

/* ---- members ---- */

/* The field of a name, from `guess` on and around: bodies mostly come in the table's order. */
static size_t lookup(const struct schema *s, struct str name, size_t guess)
{
	size_t i = guess;

	for (size_t left = s->n; left != 0; left--) {
		const struct field *f = &s->fields[i];
		struct str have = field_name(f);

		if (have.n == name.n && have.p[0] == name.p[0] && memcmp(have.p, name.p, name.n) == 0)
			return i;
		i = i + 1 == s->n ? 0 : i + 1;
	}
	return s->n;
}

/* Reads a name and its colon; *ret_i is the field's number, or s->n. */
static bool read_name(struct reader *r, const struct schema *s, const struct field_path *at, size_t guess, size_t *ret_i)
{
	struct str want = field_name(&s->fields[guess]), name;
	struct json_text text;
	char plain[6 * 64];

	if (json_peek(&r->scan) != '"')
		return false;
	r->scan.p++;
	if ((size_t)(r->scan.end - r->scan.p) > want.n && r->scan.p[want.n] == '"' && memcmp(r->scan.p, want.p, want.n) == 0) {
		r->scan.p += want.n + 1;
		*ret_i = guess;
	} else {
		if (!json_scan_string(&r->scan, &text))
			return false;
		name = text.raw;
		/* An escape takes at most six bytes a byte, so a longer name is none of the table's. */
		if (text.escaped)
			name = name.n > sizeof(plain) ? (struct str){NULL, 0} : (struct str){plain, json_unescape(plain, name)};
		*ret_i = was_unfit(r, at) || name.n == 0 ? s->n : lookup(s, name, guess);
	}
	if (json_peek(&r->scan) != ':')
		return false;
	r->scan.p++;
	return true;
}

/* ---- values ---- */

enum value_state { VALUE_BAD, VALUE_WRONG, VALUE_NULL, VALUE_SET }; /* not JSON; a problem was told; null; taken */

static enum value_state wrong(struct reader *r, const struct field *f, enum field_type type, const struct field_path *at,
			      unsigned depth)
{
	if (!json_scan_value(&r->scan, depth))
		return VALUE_BAD;
	r->scan.unfit = false;
	field_wrong_type(&r->in, f, type, at);
	return VALUE_WRONG;
}

/* A string whose opening quote is next: VALUE_SET with *ret, VALUE_NULL where blank means null, else what is wrong. */
static enum value_state read_string(struct reader *r, const struct field_path *at, bool blank_null, bool trimmed, struct str *ret)
{
	struct json_text text;

	r->scan.p++;
	if (!json_scan_string(&r->scan, &text))
		return VALUE_BAD;
	if (was_unfit(r, at))
		return VALUE_WRONG;
	*ret = text_of(r, &text);
	return blank_null && (trimmed ? str_trim(*ret).n : ret->n) == 0 ? VALUE_NULL : VALUE_SET;
}

static enum value_state read_text(struct reader *r, const struct field *f, enum field_type type, const struct field_path *at,
				  void *to)
{
	bool blank_null = type == f->type && (f->flags & BLANK_NULL) != 0;
	struct str s;
	enum value_state state = read_string(r, at, blank_null, (f->flags & RAW_TEXT) == 0, &s);

	if (state != VALUE_SET)
		return state;
	return field_text(&r->in, f, type, at, s, to) ? VALUE_SET : VALUE_WRONG;
}

static enum value_state read_number(struct reader *r, const struct field *f, enum field_type type, const struct field_path *at,
				    void *to)
{
	struct json_number number;

	if (!json_scan_number(&r->scan, &number))
		return VALUE_BAD;
	return field_number(&r->in, f, type, at, number, to) ? VALUE_SET : VALUE_WRONG;
}

static enum value_state read_json(struct reader *r, const struct field *f, const struct field_path *at, unsigned depth,
				  struct str *to)
{
	const char *from = r->scan.p;

	if (!json_scan_value(&r->scan, depth))
		return VALUE_BAD;
	if (was_unfit(r, at))
		return VALUE_WRONG;
	return field_json(&r->in, f, at, (struct str){from, (size_t)(r->scan.p - from)}, to) ? VALUE_SET : VALUE_WRONG;
}

static enum value_state read_scalar(struct reader *r, const struct field *f, enum field_type type, const struct field_path *at,
				    unsigned depth, char first, void *to)
{
	switch ((int)type) {
	case FIELD_UUID:
	case FIELD_TEXT:
	case FIELD_TIME:
	case FIELD_DATE:
	case FIELD_ENUM:
		return first == '"' ? read_text(r, f, type, at, to) : wrong(r, f, type, at, depth);
	case FIELD_BOOL:
		if (first != 't' && first != 'f')
			return wrong(r, f, type, at, depth);
		*(bool *)to = first == 't';
		return json_scan_literal(&r->scan, first == 't' ? "true" : "false") ? VALUE_SET : VALUE_BAD;
	default:
		return first == '-' || (first >= '0' && first <= '9') ? read_number(r, f, type, at, to)
								      : wrong(r, f, type, at, depth);
	}
}

static enum value_state read_element(struct reader *r, const struct field *f, const struct field_path *at, unsigned depth,
				     void *to)
{
	enum field_type type = field_element_type(f);
	char first = json_peek(&r->scan);
	bool before;

	if (type != FIELD_LIST)
		return read_scalar(r, f, type, at, depth, first, to);
	if (first != '{')
		return wrong(r, f, type, at, depth);
	before = r->in.invalid;
	r->in.invalid = false;
	if (!read_object(r, f->sub, at, depth, to))
		return VALUE_BAD;
	if (!r->in.invalid) {
		r->in.invalid = before;
		return VALUE_SET;
	}
	return VALUE_WRONG;
}

/* Room for one more element behind list->n; the whole array moves when it is full. */
static void *list_room(struct reader *r, struct list *list, size_t *cap, size_t size, size_t max)
{
	if (list->n == *cap) {
		size_t more = *cap == 0 ? 8 : *cap * 4;
		void *v;

		*cap = more < max ? more : max;
		v = arena_array(r->in.arena, *cap, size);
		if (list->n != 0)
			memcpy(v, list->v, list->n * size);
		list->v = v;
	}
	return (char *)list->v + list->n * size;
}

static enum value_state read_array(struct reader *r, const struct field *f, const struct field_path *at, unsigned depth,
				   struct list *to)
{
	size_t cap = 0, size = field_element_size(f), max = field_max_items(f), i;
	enum value_state all = VALUE_SET;
	struct list list = {0};
	bool end;

	if (depth >= SCHEMA_DEPTH_MAX) {
		r->scan.deep = true;
		return VALUE_BAD;
	}
	r->scan.p++;
	end = json_peek(&r->scan) == ']';
	r->scan.p += end;
	for (i = 0; !end; i++) {
		struct field_path here = {.up = at, .index = i};
		char c;

		if (i < max) {
			enum value_state state = read_element(r, f, &here, depth + 1, list_room(r, &list, &cap, size, max));

			if (state == VALUE_BAD)
				return VALUE_BAD;
			list.n++;
			if (state != VALUE_SET)
				all = VALUE_WRONG;
		} else if (!skip(r, &here, depth + 1)) {
			return VALUE_BAD;
		}
		c = json_peek(&r->scan);
		if (c != ',' && c != ']')
			return VALUE_BAD;
		r->scan.p++;
		end = c == ']';
	}
	if (i > max) {
		field_problem(&r->in, at, "too_many", "must have at most %zu items", max);
		all = VALUE_WRONG;
	}
	*to = list;
	return all;
}

/* JSON_TEXT: the array stands in a text. Pointers go on below the field, as if it stood there bare. */
static enum value_state read_array_text(struct reader *r, const struct field *f, const struct field_path *at, struct list *to)
{
	struct str s;
	enum value_state state = read_string(r, at, (f->flags & BLANK_NULL) != 0, true, &s);

	if (state != VALUE_SET)
		return state;
	if (field_is_array_text(s))
		return field_array_text(&r->in, f, at, s, to) ? VALUE_SET : VALUE_WRONG;
	field_problem(&r->in, at, "json", "must be an array, or text with the JSON of one");
	return VALUE_WRONG;
}

static enum value_state read_value(struct reader *r, const struct field *f, const struct field_path *at, unsigned depth, void *to)
{
	char first = json_peek(&r->scan);

	if (first == 'n')
		return json_scan_literal(&r->scan, "null") ? VALUE_NULL : VALUE_BAD;
	if (first == '"' && (f->flags & BLANK_NULL) != 0 && r->scan.end - r->scan.p > 1 && r->scan.p[1] == '"') {
		r->scan.p += 2;
		return VALUE_NULL;
	}
	if (f->type == FIELD_JSON)
		return read_json(r, f, at, depth, to);
	if (!field_is_array(f))
		return read_scalar(r, f, f->type, at, depth, first, to);
	if (first == '"' && (f->flags & JSON_TEXT) != 0)
		return read_array_text(r, f, at, to);
	return first == '[' ? read_array(r, f, at, depth, to) : wrong(r, f, f->type, at, depth);
}

/* ---- objects ---- */

static bool read_member(struct reader *r, const struct schema *s, const struct field_path *at, unsigned depth, size_t i,
			uint64_t *seen, void *to)
{
	const struct field *f = i < s->n ? &s->fields[i] : NULL;
	struct field_path here = {.up = at, .name = f != NULL ? f->name : NULL};
	uint64_t bit = f != NULL ? UINT64_C(1) << i : 0;
	struct fields *head = to;

	/* An unknown member has no pointer of its own: its object's says enough, and needs no copy of its name. */
	if (f == NULL)
		return skip(r, at, depth);
	if ((*seen & bit) != 0) {
		field_problem(&r->in, &here, "duplicate", "is there twice");
		return skip(r, &here, depth);
	}
	*seen |= bit;
	if ((f->flags & SERVER) != 0)
		return skip(r, &here, depth);
	switch (read_value(r, f, &here, depth, (char *)to + f->offset)) {
	case VALUE_SET:
		head->set |= bit;
		return true;
	case VALUE_NULL:
		head->nulls |= bit;
		return true;
	case VALUE_WRONG:
		return true;
	case VALUE_BAD:
		break;
	}
	return false;
}

/* `p` is at the opening brace, `depth` levels are open around it, and `to` is zeroed. */
static bool read_object(struct reader *r, const struct schema *s, const struct field_path *at, unsigned depth, void *to)
{
	size_t i, guess = 0;
	uint64_t seen = 0;
	bool end;

	if (depth >= SCHEMA_DEPTH_MAX) {
		r->scan.deep = true;
		return false;
	}
	r->scan.p++;
	end = json_peek(&r->scan) == '}';
	r->scan.p += end;
	while (!end) {
		char c;

		if (!read_name(r, s, at, guess, &i))
			return false;
		IGNORE(json_peek(&r->scan)); /* only for the white space */
		if (!read_member(r, s, at, depth + 1, i, &seen, to))
			return false;
		if (i < s->n)
			guess = i + 1 < s->n ? i + 1 : 0;
		c = json_peek(&r->scan);
		if (c != ',' && c != '}')
			return false;
		r->scan.p++;
		end = c == '}';
	}
	field_required(&r->in, s, at, to, seen);
	return true;
}

static enum err malformed(struct reader *r, struct str body)
{
	struct problems *p = r->in.problems;
	size_t at = body.n != 0 ? (size_t)(r->scan.p - body.p) : 0;

	if (p != NULL) {
		p->n = 0;
		if (r->scan.deep)
			problem_add(p, "", "depth", "is nested too deep");
		else
			problem_add(p, "", "json", arena_printf(r->in.arena, "is not a JSON object: byte %zu", at));
	}
	return ERR_MALFORMED;
}

enum err json_decode(const struct schema *s, struct str body, struct arena *arena, void *to, struct problems *problems)
{
	struct reader r = {.scan = json_scan_of(body), .in = {.arena = arena, .problems = problems}};
	struct field_path root = {0};

	memset(to, 0, s->size);
	if (problems != NULL && problems->arena == NULL)
		problems->arena = arena;
	if (json_peek(&r.scan) != '{' || !read_object(&r, s, &root, 0, to) || !json_at_end(&r.scan))
		return malformed(&r, body);
	return r.in.invalid ? ERR_INVALID : OK;
}

bool field_is_array_text(struct str value)
{
	struct json_scan scan = json_scan_of(value);

	return json_peek(&scan) == '[' && json_scan_value(&scan, 1) && json_at_end(&scan);
}

bool field_array_text(struct field_in *in, const struct field *f, const struct field_path *at, struct str text, struct list *to)
{
	struct reader r = {.scan = json_scan_of(text), .in = *in};
	enum value_state state;

	IGNORE(json_peek(&r.scan)); /* only for the white space */
	state = read_array(&r, f, at, 1, to);
	in->invalid = r.in.invalid;
	return state == VALUE_SET;
}
