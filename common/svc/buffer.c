/* SPDX-License-Identifier: Apache-2.0 */
/* The write buffer's records and PUT: what goes to common/svc/lua/put.lua and what comes back. */
#include "svc/buffer.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/timefmt.h"
#include "svc/dicts.h"
#include "svc_lua.h"

#define HEADER_SIZE 49
#define RECORD_FORMAT 2
#define PUT_ROWS_MAX 1000
#define PUT_EVENTS_MAX 100
#define PUT_TRIES 4
#define SCOPES_OF_RECORD_MAX 255 /* put.lua's */

/* ---- keys ---- */

static struct str key_of(struct arena *arena, const char *prefix, const struct entity *e, struct uuid id)
{
	size_t n_prefix = strlen(prefix), n_name = strlen(e->name), n = n_prefix + n_name + 1 + UUID_TEXT;
	char *key = arena_alloc(arena, n + 1);

	memcpy(key, prefix, n_prefix);
	memcpy(key + n_prefix, e->name, n_name);
	key[n_prefix + n_name] = ':';
	uuid_text(id, key + n_prefix + n_name + 1);
	return (struct str){key, n};
}

struct str buffer_key(struct arena *arena, const struct entity *e, struct uuid id)
{
	return key_of(arena, "write_buffer:", e, id);
}

struct str buffer_meta_key(struct arena *arena, const struct entity *e, struct uuid id)
{
	return key_of(arena, "meta:write_buffer:", e, id);
}

struct str buffer_scope_key(struct arena *arena, const struct entity *e, const char *kind, struct str value)
{
	size_t n_kind = strcspn(kind, "[");

	return str_of(arena_printf(arena, "wb:scope:%s:%.*s:%.*s", e->name, (int)n_kind, kind, STR_FMT(value)));
}

/* ---- records ---- */

static uint64_t little_endian(const char *p, size_t n)
{
	uint64_t v = 0;

	while (n-- > 0)
		v = v << 8 | (uint8_t)p[n];
	return v;
}

enum err buffer_record_parse(struct str value, struct buffer_record *ret)
{
	size_t scopes, calls;
	uint8_t flags;

	if (value.n < HEADER_SIZE || value.p[0] != RECORD_FORMAT)
		return ERR_CORRUPT;
	flags = (uint8_t)value.p[1];
	scopes = (size_t)little_endian(value.p + 46, 2);
	calls = (uint8_t)value.p[48];
	if (value.n < HEADER_SIZE + scopes + calls || (flags >> 2 & 7) >= CODEC_COUNT)
		return ERR_CORRUPT;
	*ret = (struct buffer_record){
		.deleted = flags & 1,
		.urgent = flags >> 1 & 1,
		.codec = (enum codec)(flags >> 2 & 7),
		.creation = flags >> 5 & 1,
		.blind = flags >> 6 & 1,
		.version = (int64_t)little_endian(value.p + 2, 8),
		.first_ms = (int64_t)little_endian(value.p + 10, 8),
		.size = (uint32_t)little_endian(value.p + 18, 4),
		.scopes = {value.p + HEADER_SIZE, scopes},
		.calls = {value.p + HEADER_SIZE + scopes, calls},
		.sealed = {value.p + HEADER_SIZE + scopes + calls, value.n - HEADER_SIZE - scopes - calls},
	};
	memcpy(ret->school.b, value.p + 30, 16);
	return OK;
}

enum err buffer_record_row(const struct entity *e, struct uuid id, const struct buffer_record *r, struct arena *arena,
			   void **ret_row)
{
	struct row *row;
	struct str packed;
	uint8_t layout;
	enum err err;

	err = codec_open_with(r->codec, dict_numbered(e->name, codec_dict_number(r->sealed)), r->sealed, arena, &layout, &packed);
	if (err != OK)
		return err;
	if (layout > e->schema->layout)
		return ERR_CONFLICT;
	row = arena_zalloc(arena, e->schema->size);
	err = row_unpack(e->schema, layout, packed, arena, row);
	if (err != OK)
		return err;
	row->id = id;
	row->school_id = r->school;
	row->version = r->version;
	if (r->deleted && row->deleted_at == 0)
		return ERR_CORRUPT;
	*ret_row = row;
	return OK;
}

/* ---- PUT ---- */

struct args {
	struct str *v;
	size_t n, cap;
};

struct buffer_put {
	struct arena *arena;
	struct str head[5];
	struct args rows, events, all;
	size_t n_rows, n_events;
	bool too_many_scopes;
};

static void args_add(struct arena *arena, struct args *a, struct str s)
{
	if (a->n == a->cap) {
		size_t cap = a->cap ? 2 * a->cap : 32;
		struct str *v = arena_array(arena, cap, sizeof(*v));

		if (a->n != 0)
			memcpy(v, a->v, a->n * sizeof(*v));
		a->v = v;
		a->cap = cap;
	}
	a->v[a->n++] = s;
}

static struct str number_text(struct arena *arena, int64_t v)
{
	struct buf b = buf_in(arena);

	buf_put_i64(&b, v);
	return buf_str(&b);
}

struct buffer_put *buffer_put_new(struct arena *arena, struct uuid school, const uint8_t tag[8])
{
	struct buffer_put *p = arena_zalloc(arena, sizeof(*p));

	p->arena = arena;
	p->head[0] = (struct str){arena_dup(arena, school.b, 16), 16};
	p->head[1] = (struct str){arena_dup(arena, tag, 8), 8};
	p->head[2] = STR("");
	p->head[3] = STR("0");
	p->head[4] = STR("");
	return p;
}

void buffer_put_idem(struct buffer_put *p, struct str key, int64_t ttl_s, struct str result)
{
	p->head[2] = key;
	p->head[3] = number_text(p->arena, ttl_s);
	p->head[4] = result;
}

/* ---- scopes: "class_id", "date+class_id", "student_ids[]" → "class_id:<uuid>" ---- */

bool buffer_field_text(const struct field *f, const void *row, struct buf *out)
{
	const char *p = (const char *)row + f->offset;
	char date[DATE_TEXT + 1];
	int32_t day;

	switch (f->type) {
	case FIELD_UUID:
		buf_put_uuid(out, *(const struct uuid *)(const void *)p);
		return true;
	case FIELD_DATE:
		memcpy(&day, p, sizeof(day));
		date_text(day, date);
		buf_put(out, date, DATE_TEXT);
		return true;
	case FIELD_INT:
		buf_put_i64(out, *(const int64_t *)(const void *)p);
		return true;
	case FIELD_TEXT:
		buf_puts(out, *(const struct str *)(const void *)p);
		return true;
	case FIELD_ENUM:
		buf_puts(out, str_of(f->names.v[*(const int *)(const void *)p]));
		return true;
	case FIELD_DECIMAL:
	case FIELD_MONEY:
	case FIELD_FLOAT:
	case FIELD_BOOL:
	case FIELD_TIME:
	case FIELD_JSON:
	case FIELD_UUIDS:
	case FIELD_TEXTS:
	case FIELD_INTS:
	case FIELD_LIST:
		break;
	}
	return false;
}

static bool field_is_set(const struct schema *s, const struct field *f, const void *row)
{
	return (((const struct fields *)row)->set >> (f - s->fields) & 1) != 0;
}

/* A row that stays in a list names it once, not as the old and as the new one. */
static void scope_add(struct buffer_put *p, struct args *to, struct str scope)
{
	for (size_t i = 0; i < to->n; i++) {
		if (str_eq(to->v[i], scope))
			return;
	}
	args_add(p->arena, to, scope);
}

/* The elements of an array: a scope each; above 64 the class stands for them (write-path.md 3). */
static void scope_elements(struct buffer_put *p, struct args *to, const struct entity *e, const char *kind, const void *row)
{
	struct str name = {kind, strcspn(kind, "[")};
	const struct field *f = schema_find(e->schema, name);
	const struct list *ids;
	const struct uuid *v;

	if (!field_is_set(e->schema, f, row))
		return;
	ids = (const struct list *)(const void *)((const char *)row + f->offset);
	v = ids->v;
	for (size_t i = 0; ids->n <= 64 && i < ids->n; i++) {
		struct buf b = buf_in(p->arena);

		buf_puts(&b, name);
		buf_putc(&b, ':');
		buf_put_uuid(&b, v[i]);
		scope_add(p, to, buf_str(&b));
	}
}

/* A column of a scope: the row's head has two that are in no table. */
static bool scope_column(const struct entity *e, struct str name, const void *row, struct buf *out)
{
	const struct row *head = row;
	const struct field *f;

	if (str_is(name, "school_id") || str_is(name, "id")) {
		buf_put_uuid(out, name.n == 2 ? head->id : head->school_id);
		return true;
	}
	f = schema_find(e->schema, name);
	return f && field_is_set(e->schema, f, row) && buffer_field_text(f, row, out);
}

bool buffer_scope_text(const struct entity *e, const char *kind, const void *row, struct buf *out)
{
	struct str rest = str_of(kind);

	buf_puts(out, rest);
	while (rest.p) {
		struct str name = str_split(&rest, '+');

		buf_putc(out, ':');
		if (!scope_column(e, name, row, out))
			return false;
	}
	return out->n < 256; /* the script's bound; ids and dates never reach it */
}

static void scope_columns(struct buffer_put *p, struct args *to, const struct entity *e, const char *kind, const void *row)
{
	struct buf b = buf_in(p->arena);

	if (buffer_scope_text(e, kind, row, &b))
		scope_add(p, to, buf_str(&b));
}

static void scopes_of(struct buffer_put *p, struct args *to, const struct entity *e, const void *row)
{
	for (size_t i = 0; i < SCOPES_MAX && e->scopes[i]; i++) {
		if (strchr(e->scopes[i], '['))
			scope_elements(p, to, e, e->scopes[i], row);
		else
			scope_columns(p, to, e, e->scopes[i], row);
	}
}

/* The lists of the row and those of the row before it: until the flush the table still shows that one in them, unless they are overlaid. */
static void row_scopes(struct buffer_put *p, const struct entity *e, const void *row, const void *old)
{
	struct args scopes = {0};

	scopes_of(p, &scopes, e, row);
	if (old)
		scopes_of(p, &scopes, e, old);
	p->too_many_scopes = p->too_many_scopes || scopes.n > SCOPES_OF_RECORD_MAX;
	args_add(p->arena, &p->rows, number_text(p->arena, (int64_t)scopes.n));
	for (size_t i = 0; i < scopes.n; i++)
		args_add(p->arena, &p->rows, scopes.v[i]);
}

void buffer_put_row(struct buffer_put *p, const struct entity *e, const void *row, struct put_options o)
{
	const struct row *r = row;
	struct buf packed = buf_in(p->arena), sealed = buf_in(p->arena);
	char id[UUID_TEXT + 1];
	enum codec used;
	int flags;

	row_pack(e->schema, row, &packed);
	used = codec_seal_with(o.codec, o.codec == CODEC_ZSTD ? dict_newest(e->name) : NULL, (uint8_t)e->schema->layout,
			       buf_str(&packed), &sealed);
	flags = (r->deleted_at != 0) | o.urgent << 1 | (int)used << 2 | o.creation << 5 | o.blind << 6;
	uuid_text(r->id, id);
	args_add(p->arena, &p->rows, str_of(e->name));
	args_add(p->arena, &p->rows, (struct str){arena_dup(p->arena, id, UUID_TEXT), UUID_TEXT});
	args_add(p->arena, &p->rows, number_text(p->arena, flags));
	args_add(p->arena, &p->rows, o.expect == BUFFER_ANY ? STR("") : number_text(p->arena, o.expect));
	args_add(p->arena, &p->rows, number_text(p->arena, o.floor));
	args_add(p->arena, &p->rows, number_text(p->arena, (int64_t)packed.n));
	row_scopes(p, e, row, o.old);
	args_add(p->arena, &p->rows, buf_str(&sealed));
	p->n_rows++;
}

void buffer_put_event(struct buffer_put *p, const char *domain, struct str envelope)
{
	args_add(p->arena, &p->events, str_of(domain));
	args_add(p->arena, &p->events, STR("2"));
	args_add(p->arena, &p->events, STR("e"));
	args_add(p->arena, &p->events, envelope);
	p->n_events++;
}

struct redis_args buffer_put_args(struct buffer_put *p)
{
	p->all.n = 0;
	for (size_t i = 0; i < ARRAY_LEN(p->head); i++)
		args_add(p->arena, &p->all, p->head[i]);
	args_add(p->arena, &p->all, number_text(p->arena, (int64_t)p->n_rows));
	for (size_t i = 0; i < p->rows.n; i++)
		args_add(p->arena, &p->all, p->rows.v[i]);
	args_add(p->arena, &p->all, number_text(p->arena, (int64_t)p->n_events));
	for (size_t i = 0; i < p->events.n; i++)
		args_add(p->arena, &p->all, p->events.v[i]);
	return (struct redis_args){p->all.v, p->all.n};
}

static enum err put_reply(const struct redis_reply *r, struct put_result *ret)
{
	struct str word;

	if (r->type != REDIS_ARRAY || r->n < 2 || (r->v[0].type != REDIS_STRING && r->v[0].type != REDIS_STATUS))
		return ERR_BUG; /* the script refused the arguments: ours are wrong */
	word = r->v[0].s;
	*ret = (struct put_result){0};
	if (str_is(word, "REPLAY")) {
		ret->outcome = PUT_REPLAY;
		ret->replay = r->v[1].s;
	} else if (str_is(word, "OK") || str_is(word, "SAME")) {
		ret->outcome = str_is(word, "OK") ? PUT_OK : PUT_SAME;
		ret->version = r->v[1].i;
	} else if (str_is(word, "CONFLICT") && r->n == 3) {
		ret->outcome = PUT_CONFLICT;
		ret->record = (size_t)r->v[1].i - 1;
		ret->version = r->v[2].i;
	} else if (str_is(word, "REFUSED")) {
		ret->outcome = PUT_REFUSED;
		ret->record = (size_t)r->v[1].i - 1;
	} else {
		return ERR_BUG;
	}
	return OK;
}

enum err buffer_put_send(const struct buffer_io *io, struct buffer_put *p, struct arena *arena, int64_t give_up_us,
			 struct put_result *ret)
{
	struct redis_args args;
	struct redis_reply reply;
	bool unknown = false;
	enum err e = ERR_BUG;

	if (p->n_rows == 0 || p->n_rows > PUT_ROWS_MAX || p->n_events > PUT_EVENTS_MAX || p->too_many_scopes)
		return ERR_TOO_LARGE;
	args = buffer_put_args(p);
	for (int i = 0; i < PUT_TRIES; i++) {
		e = io->eval(io->ctx, &LUA_PUT, args, arena, &reply);
		if (e == OK) {
			e = put_reply(&reply, ret);
			/* A conflict behind an unknown outcome may be with ourselves: nobody can tell (write-path.md 2). */
			if (e == OK && unknown && ret->outcome == PUT_CONFLICT)
				ret->outcome = PUT_UNKNOWN;
			return e;
		}
		if (e == ERR_UNCERTAIN || e == ERR_TIMEOUT)
			unknown = true;
		else if (!unknown)
			return e; /* it was not sent */
		if (io->now_us(io->ctx) >= give_up_us)
			break;
		io->pause_ms(io->ctx, (int64_t)(io->random(io->ctx) % 50) + (20 << i));
	}
	return unknown ? ERR_UNCERTAIN : e;
}
