/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Field tables: a struct's members described once, for JSON in, JSON out, forms, the packed record, PostgreSQL rows and the docs.
 *
 * A list macro names every field once; the struct, its bit numbers and its table come from it:
 *
 *	#define SUBMIT_FIELDS(F, T)                                      \
 *		F(T, TEXT,  submission_text, .max = 20000)               \
 *		F(T, TEXTS, attachments,     .max = 200, .max_items = 5)
 *	SCHEMA_STRUCT(submit_in, SUBMIT_FIELDS);                       -- in the header: struct submit_in, enum submit_in__…
 *	SCHEMA_TABLE(submit_in, SUBMIT_FIELDS);                        -- in one .c: const struct schema submit_in_schema
 *	ROW_STRUCT(submission, SUBMISSION_FIELDS, …);                  -- the same behind a `struct row` (id, school, version, times)
 *
 *	if (FIELD_HAS(in, submit_in, submission_text)) …               -- present and not null
 *	FIELD_PUT(sub, submission, feedback, in->feedback);            -- assigns and marks present
 *
 * Order of a row's list is the layout of the packed record: append only, with .since = the layout version that added the field.
 * At most 64 fields. Member types: UUID struct uuid; TEXT, JSON struct str; INT, TIME (µs), MONEY and DECIMAL (hundredths)
 * int64_t; DATE int32_t (days); BOOL bool; FLOAT double; ENUM int (index of the name); UUIDS, TEXTS, INTS, LIST struct list.
 */
#ifndef S24_BASE_SCHEMA_H
#define S24_BASE_SCHEMA_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

enum field_type {
	FIELD_UUID,
	FIELD_TEXT,
	FIELD_INT,
	FIELD_DECIMAL, /* hundredths; JSON number with up to two decimals, no trailing zeros */
	FIELD_MONEY,   /* minor units; JSON number with exactly two decimals */
	FIELD_FLOAT,
	FIELD_BOOL,
	FIELD_TIME, /* µs; JSON RFC 3339 */
	FIELD_DATE, /* days; JSON YYYY-MM-DD */
	FIELD_ENUM,
	FIELD_JSON, /* any JSON text, well formed and bounded by max bytes */
	FIELD_UUIDS,
	FIELD_TEXTS,
	FIELD_INTS,
	FIELD_LIST, /* array of objects of .sub */
};

enum {
	REQUIRED = 1 << 0, /* in a body: must be there and not null; in a table: NOT NULL */
	NATURAL = 1 << 1,  /* part of the natural id, in list order; implies REQUIRED */
	SERVER = 1 << 2,   /* the server sets it: what a body says is ignored */
	HIDDEN = 1 << 3,   /* never in JSON out */
	OMIT = 1 << 4,     /* JSON out leaves it away when absent, instead of null */
	RAW_TEXT = 1 << 5, /* TEXT kept as it came: not trimmed (passwords) */
	BLANK_NULL = 1 << 6, /* in a body "" means null: the frontend clears fields so */
	JSON_TEXT = 1 << 7,  /* an array that a JSON body may also give as text with the array's JSON in it; a form may always */
};

struct enum_names {
	const char *const *v;
	size_t n;
};
/* For initializers only: `.names = ENUM_NAMES("draft", "open")`, in static tables too. */
#define ENUM_NAMES(...)                                                                            \
	{                                                                                          \
		(const char *const[]){__VA_ARGS__}, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *) \
	}

struct list {
	void *v; /* struct uuid *, struct str *, int64_t *, or structs of .sub */
	size_t n;
};

struct schema;

struct field {
	const char *name; /* in JSON, and the column unless .column says otherwise */
	const char *column;
	enum field_type type;
	size_t offset;
	unsigned flags;
	/* INT, INTS, DECIMAL, MONEY, FLOAT: the value (hundredths count as they are stored), both 0: any; TEXT, TEXTS: characters (code
	 * points, after trimming); JSON: bytes. max 0: the type's bound below. */
	int64_t min, max;
	size_t max_items;   /* arrays; 0: 5000. JSON: of an array, when given */
	struct enum_names names;
	const struct schema *sub;
	unsigned since;     /* layout version that added it; 0 and 1 are the same */
	unsigned roles;     /* who may see it in JSON out: bits of enum role (svc/auth.h); 0: everybody who gets the object */
	/* Value in records of older layouts: types that are whole numbers inside. A REQUIRED field gets it always, another when it is not
	 * 0; a REQUIRED TEXT gets "", a REQUIRED array is empty. */
	int64_t fallback;
	size_t name_n;      /* length of the name; the macros fill it in, 0 in a table made by hand means strlen */
};

#define SCHEMA_TEXT_MAX 10000
#define SCHEMA_JSON_MAX 65536
#define SCHEMA_ITEMS_MAX 5000
#define SCHEMA_DEPTH_MAX 32

/* Head of every described struct: bit i belongs to field i. `nulls` are fields that a body gave as null. */
struct fields {
	uint64_t set, nulls;
};

/* Head of every entity's struct. */
struct row {
	struct fields f;
	struct uuid id, school_id;
	int64_t version; /* µs of the buffer's clock, or of PostgreSQL's; 0: not stored yet */
	int64_t created_at, updated_at;
	int64_t deleted_at; /* 0: alive */
};

struct schema {
	const char *name;
	size_t size; /* of the struct */
	const struct field *fields;
	size_t n;
	bool row;        /* begins with struct row, else with struct fields */
	unsigned layout; /* of a packed row: the highest .since */
};

#define FIELD_C_UUID struct uuid
#define FIELD_C_TEXT struct str
#define FIELD_C_INT int64_t
#define FIELD_C_DECIMAL int64_t
#define FIELD_C_MONEY int64_t
#define FIELD_C_FLOAT double
#define FIELD_C_BOOL bool
#define FIELD_C_TIME int64_t
#define FIELD_C_DATE int32_t
#define FIELD_C_ENUM int
#define FIELD_C_JSON struct str
#define FIELD_C_UUIDS struct list
#define FIELD_C_TEXTS struct list
#define FIELD_C_INTS struct list
#define FIELD_C_LIST struct list

/* F(T, TYPE, name, options…) with or without options: the name and the rest of the list apart, without an empty "...". */
#define SCHEMA_FIRST_(first, ...) first
#define SCHEMA_TEXT_(first, ...) #first
#define SCHEMA_REST_(first, ...) __VA_ARGS__
#define SCHEMA_BIT_NAME_(T, name) T##__##name
#define SCHEMA_BIT_OF_(T, name) SCHEMA_BIT_NAME_(T, name)
#define SCHEMA_MEMBER_(T, kind, ...) FIELD_C_##kind SCHEMA_FIRST_(__VA_ARGS__, 0);
#define SCHEMA_BIT_(T, kind, ...) SCHEMA_BIT_OF_(T, SCHEMA_FIRST_(__VA_ARGS__, 0)),
#define SCHEMA_ROW_(T, kind, ...) \
	{.name = SCHEMA_TEXT_(__VA_ARGS__, 0), .name_n = sizeof(SCHEMA_TEXT_(__VA_ARGS__, 0)) - 1, \
	 .offset = offsetof(struct T, SCHEMA_FIRST_(__VA_ARGS__, 0)), SCHEMA_REST_(__VA_ARGS__, .type = FIELD_##kind)},

#define SCHEMA_STRUCT(T, LIST)                                                                     \
	struct T {                                                                                 \
		struct fields f;                                                                   \
		LIST(SCHEMA_MEMBER_, T)                                                            \
	};                                                                                         \
	enum { LIST(SCHEMA_BIT_, T) T##__count };                                                  \
	_Static_assert(T##__count <= 64, "a schema has at most 64 fields");                        \
	extern const struct schema T##_schema

#define ROW_STRUCT(T, LIST)                                                                        \
	struct T {                                                                                 \
		struct row row;                                                                    \
		LIST(SCHEMA_MEMBER_, T)                                                            \
	};                                                                                         \
	enum { LIST(SCHEMA_BIT_, T) T##__count };                                                  \
	_Static_assert(T##__count <= 64, "a schema has at most 64 fields");                        \
	extern const struct schema T##_schema

#define SCHEMA_TABLE_(T, LIST, ...)                                                                \
	static const struct field T##_fields[] = {LIST(SCHEMA_ROW_, T)};                           \
	const struct schema T##_schema = {                                                         \
		.name = #T, .size = sizeof(struct T), .fields = T##_fields, .n = T##__count, __VA_ARGS__}
#define SCHEMA_TABLE(T, LIST) SCHEMA_TABLE_(T, LIST, .row = false)
#define ROW_TABLE(T, LIST, layout_) SCHEMA_TABLE_(T, LIST, .row = true, .layout = (layout_))

#define FIELD_HAS(ptr, T, name) ((((const struct fields *)(const void *)(ptr))->set >> T##__##name & 1) != 0)
#define FIELD_NULLED(ptr, T, name) ((((const struct fields *)(const void *)(ptr))->nulls >> T##__##name & 1) != 0)
#define FIELD_MARK(ptr, T, name) (((struct fields *)(void *)(ptr))->set |= UINT64_C(1) << T##__##name)
#define FIELD_CLEAR(ptr, T, name) (((struct fields *)(void *)(ptr))->set &= ~(UINT64_C(1) << T##__##name))
#define FIELD_PUT(ptr, T, name_, value) ((ptr)->name_ = (value), (void)FIELD_MARK(ptr, T, name_))

const struct field *schema_find(const struct schema *s, struct str name); /* by JSON name; NULL: none */
static inline struct str field_name(const struct field *f)
{
	return (struct str){f->name, f->name_n != 0 ? f->name_n : strlen(f->name)};
}
static inline const char *field_column(const struct field *f)
{
	return f->column ? f->column : f->name;
}

/* ---- problems of a body: all of them, in order, at most 50 --------------------------------------------------------------- */

struct problem {
	struct str pointer; /* RFC 6901: "/questions/2/marks" */
	const char *code;   /* required type too_short too_long min max enum uuid date time too_many duplicate utf8 json depth */
	const char *message;
};

struct problems {
	struct arena *arena;
	struct problem v[50];
	size_t n;
};

/* Copies pointer and message into p->arena; `code` is a literal. Past the fiftieth it does nothing. */
void problem_add(struct problems *p, const char *pointer, const char *code, const char *message);

/* ---- JSON in (json_in.c): one pass, no tree ---------------------------------------------------------------------------------
 * Fills `to` (zeroed first, head too). Text without escapes points into `body`, which must live as long as the arena; the rest is
 * copied. Unknown members are skipped but must be well formed. Text must be UTF-8 without U+0000; numbers for INT must be whole.
 * Values are judged in the order of the body, then what an object lacks. A member that the table knows may come once; names that
 * it does not know are not compared with each other. Problems are added behind those that are there already.
 * OK; ERR_MALFORMED: not JSON, too deep, or not an object: then one problem (`json` or `depth`) says where; ERR_INVALID: problems
 * has every field that is wrong. What `to` holds after an error is unspecified. */
MUST_CHECK enum err json_decode(const struct schema *s, struct str body, struct arena *arena, void *to, struct problems *problems);
/* Pairs of text (query string, multipart fields) by the same table: "true"/"false", decimal digits; arrays by repetition,
 * or as the JSON text of an array. "" for a field that is not TEXT means absent. Never ERR_MALFORMED. Values must live as long
 * as the arena. */
struct form_pair {
	struct str name, value;
};
MUST_CHECK enum err form_decode(const struct schema *s, const struct form_pair *pairs, size_t n, struct arena *arena, void *to,
				struct problems *problems);
/* Is it one well-formed JSON value, depth ≤ 32, without U+0000 and lone surrogates (PostgreSQL's jsonb takes neither)? */
bool json_is_valid(struct str text);
/* A member of a JSON object's text, unparsed: "{"a":1}", "a" → "1". False: no well-formed object or no such member; the last counts. */
bool json_member(struct str object, const char *name, struct str *ret_value);
/* Walks an array's text: set *rest first to the array, then call until false. *rest is {NULL, 0} behind a malformed element. */
bool json_next(struct str *rest, struct str *ret_value);

/* ---- JSON out (json_out.c) ----------------------------------------------------------------------------------------------- */

/* One object of the fields in table order; `role` is one bit of enum role, 0: fields without roles only. For rows, id, created_at
 * and updated_at come first (a time of 0 is null). FIELD_JSON is copied as it is; a FLOAT that is no number is null. */
void json_encode(const struct schema *s, const void *from, unsigned role, struct buf *out);
void json_encode_list(const struct schema *s, const struct list *list, unsigned role, struct buf *out);
/* The members without the braces, so that a caller can add more: returns how many were written. */
size_t json_encode_members(const struct schema *s, const void *from, unsigned role, struct buf *out);

/* One object of the fields in the mask that are set, hidden ones apart: audit records and events. No head of a row. */
void json_encode_some(const struct schema *s, const void *from, uint64_t mask, struct buf *out);

/* ---- packed records (pack.c): write-path.md 3 ----------------------------------------------------------------------------
 * For rows only. created_at (8 bytes), updated_at - created_at and deleted_at (zigzag LEB128), a bit per field (1: there is a
 * value), then the values by position: UUID 16 bytes, INT, DECIMAL, MONEY, DATE zigzag LEB128, ENUM its index and every length and
 * count LEB128, BOOL a byte, TIME and FLOAT 8 bytes; little-endian; an element of a LIST is its bits and values. Id, school and
 * version are not in it: the buffer's header and key have them. */
void row_pack(const struct schema *s, const void *row, struct buf *out);
/* Reads a record of `layout` (≤ s->layout; newer is the caller's to refuse); fields added later get their fallback or are null.
 * Text points into `bytes`. Id, school and version of `row` are kept, all else is overwritten. ERR_CORRUPT: any length or value
 * that does not fit, or bytes left over; never reads outside, allocates at most the bytes times the size of a list's element. */
MUST_CHECK enum err row_unpack(const struct schema *s, unsigned layout, struct str bytes, struct arena *arena, void *row);
/* Same values in every field? For tests and for "nothing changed". The head (id, times, version) is not compared. */
bool row_equal(const struct schema *s, const void *a, const void *b);
/* One field of two structs, both set: the same value? */
bool field_equal(const struct field *f, const void *a, const void *b);
/* Fills a zeroed struct of `s` with the set fields of the same name and type in `from`; a UUID `id` comes from a row's head. Not deep. */
void schema_project(const struct schema *s, void *to, const struct schema *from_schema, const void *from);
/* Copies a row (or a body) with all that it points to. */
void *row_dup(const struct schema *s, const void *row, struct arena *arena) NEVER_NULL;
/* Takes over every field that `in` gives (set or null) and the row's table has under the same name, unless SERVER or NATURAL.
 * The merge of a PUT body into a row. Returns true if anything changed. Values are not copied deep. Left alone: a null for a field
 * that the row REQUIREs, and fields whose types differ (the handler converts those). */
bool row_merge(const struct schema *s, void *row, const struct schema *in_schema, const void *in);

#endif
