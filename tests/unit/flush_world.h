/* SPDX-License-Identifier: Apache-2.0 */
/* The flush protocol over fake calls: a buffer, a database and a clock in memory. For test_worker_flush*.c. */
#ifndef S24_UNIT_FLUSH_WORLD_H
#define S24_UNIT_FLUSH_WORLD_H

#include "unit/unit.h"

#include "base/timefmt.h"
#include "base/uuid.h"
#include "flush.h"
#include "verdict.h"

#define NOTE_FIELDS(F, T) F(T, TEXT, text) F(T, UUID, parent_id)
ROW_STRUCT(note, NOTE_FIELDS);
ROW_TABLE(note, NOTE_FIELDS, 1);

static const struct entity parent = {
	.name = "parent", .table = "s.parents", .schema = &note_schema, .write = BUFFERED, .level = 1};
static const struct entity note = {.name = "note", .table = "s.notes", .schema = &note_schema, .write = BUFFERED, .level = 2};
static const struct entity entry = {.name = "entry", .table = "s.entries", .schema = &note_schema, .write = APPEND, .level = 2};
static const struct entity *const parents[] = {&parent, NULL};

#define MOST 100
enum place { NOWHERE, LEASED, ACKED, BACK, COUNTED, DEAD };

static struct world {
	struct arena *arena, *turn_arena;
	struct flush_target target;
	/* the buffer */
	size_t n;
	struct uuid ids[MOST];
	int64_t versions[MOST], attempts[MOST], acked_as[MOST], backoff_ms[MOST];
	struct str values[MOST];
	enum place place[MOST];
	char errors[MOST][96];
	bool parent_waits, parent_dead, urged, redis_away;
	unsigned acks, nacks;
	/* the database: rows, and what the transaction will make of them */
	size_t n_rows, n_copied;
	struct row_state rows[MOST], before[MOST];
	size_t n_before;
	const struct row *copied[MOST];
	bool poison[MOST], orphan[MOST];
	const char *fail_at; /* "begin", "copy", "flush", "versions", "commit" */
	unsigned fail_times, begins, resets, lost_commits;
	enum err fail_err;
	struct pg_fail fail;
	char fail_state[6];
	/* the clock */
	int64_t now_us, paused_ms, begin_costs_us;
	unsigned pauses, stop_after;
	/* whom it told of whose rows */
	size_t n_told;
	struct flushed_row told[MOST];
} w;

static inline struct uuid id_of(size_t i, uint8_t kind)
{
	struct uuid id = {{kind, 1}};

	id.b[15] = (uint8_t)i;
	return id;
}

static const struct uuid school = {{7}}, other_school = {{8}};

static inline struct str record_of(size_t i, int64_t version, unsigned flags)
{
	struct note *row = arena_zalloc(w.arena, sizeof(*row));
	struct buf packed = buf_in(w.arena), b = buf_in(w.arena);
	int64_t first = 1000;
	uint32_t size;

	row->row.created_at = row->row.updated_at = 1;
	FIELD_PUT(row, note, text, STR("text"));
	FIELD_PUT(row, note, parent_id, id_of(i, 0xab));
	row_pack(&note_schema, row, &packed);
	size = (uint32_t)packed.n;
	buf_putc(&b, 2);
	buf_putc(&b, (char)flags);
	buf_put(&b, &version, 8);
	buf_put(&b, &first, 8);
	buf_put(&b, &size, 4);
	buf_put(&b, "\0\0\0\0\0\0\0\0", 8);
	buf_put(&b, school.b, 16);
	buf_put(&b, "\0\0\0", 3);
	codec_seal(CODEC_RAW, 1, buf_str(&packed), &b);
	return buf_str(&b);
}

static inline size_t add(int64_t version, unsigned flags)
{
	size_t i = w.n++;

	w.ids[i] = id_of(i, 0x11);
	w.versions[i] = version;
	w.values[i] = record_of(i, version, flags);
	return i;
}

static inline size_t index_of_id(struct uuid id)
{
	for (size_t i = 0; i < w.n; i++)
		if (uuid_eq(w.ids[i], id))
			return i;
	fail_msg("an id that nobody has");
	return 0;
}

static inline size_t index_of(struct str text)
{
	struct uuid id;

	assert_true(uuid_parse(text, &id));
	return index_of_id(id);
}

/* ---- Redis ---- */

static inline struct redis_reply integer(int64_t i)
{
	return (struct redis_reply){.type = REDIS_INTEGER, .i = i};
}

static inline struct redis_reply text_reply(struct arena *arena, struct uuid id)
{
	char *p = arena_alloc(arena, UUID_TEXT + 1);

	uuid_text(id, p);
	return (struct redis_reply){.type = REDIS_STRING, .s = {p, UUID_TEXT}};
}

static inline void claim(struct arena *arena, struct redis_reply *ret)
{
	struct redis_reply *v = arena_array(arena, 2 + 3 * w.n, sizeof(*v));

	*ret = (struct redis_reply){.type = REDIS_ARRAY, .v = v, .n = 2};
	v[0] = v[1] = integer(0);
	for (size_t i = 0; i < w.n; i++) {
		if (w.place[i] != NOWHERE)
			continue;
		w.place[i] = LEASED;
		v[ret->n++] = text_reply(arena, w.ids[i]);
		v[ret->n++] = integer(w.attempts[i]);
		v[ret->n++] = (struct redis_reply){.type = REDIS_STRING, .s = w.values[i]};
	}
}

static inline int64_t number_of(struct str s)
{
	int64_t v;

	assert_true(str_to_i64(s, &v));
	return v;
}

static inline void ack(struct redis_args args)
{
	w.acks++;
	for (size_t at = 2; at < args.n; at += 2) {
		size_t i = index_of(args.v[at]);

		assert_int_equal(w.place[i], LEASED);
		w.place[i] = ACKED;
		w.acked_as[i] = number_of(args.v[at + 1]);
	}
}

static inline void nack(struct redis_args args)
{
	w.nacks++;
	for (size_t at = 6; at < args.n; at += 2) {
		size_t i = index_of(args.v[at]);

		assert_int_equal(w.place[i], LEASED);
		assert_int_equal(number_of(args.v[at + 1]), w.versions[i]);
		w.backoff_ms[i] = number_of(args.v[2]);
		w.place[i] = str_is(args.v[5], "1") ? DEAD : str_is(args.v[3], "1") ? COUNTED : BACK;
		snprintf(w.errors[i], sizeof(w.errors[i]), "%.*s", STR_FMT(args.v[4]));
	}
}

static inline enum err io_eval(void *ctx, const struct redis_script *script, struct redis_args args, struct arena *arena,
			struct redis_reply *ret)
{
	struct redis_reply *two = arena_array(arena, 2, sizeof(*two));

	(void)ctx;
	if (w.redis_away)
		return ERR_BUFFER;
	two[0] = two[1] = integer(0);
	*ret = (struct redis_reply){.type = REDIS_ARRAY, .v = two, .n = 2};
	if (strcmp(script->name, "claim") == 0) {
		claim(arena, ret);
	} else if (strcmp(script->name, "ack") == 0) {
		ack(args);
	} else if (strcmp(script->name, "nack") == 0) {
		nack(args);
	} else {
		assert_string_equal(script->name, "urge");
		assert_str(args.v[0], STR("parent"));
		w.urged = true;
		*ret = integer(1);
	}
	return OK;
}

static inline enum err io_call(void *ctx, struct redis_args args, struct arena *arena, struct redis_reply *ret)
{
	(void)ctx;
	(void)arena;
	if (str_is(args.v[0], "EXISTS")) {
		assert_true(str_has_prefix(args.v[1], STR("write_buffer:parent:")));
		*ret = integer(w.parent_waits || w.parent_dead);
	} else {
		assert_str(args.v[1], STR("wb:dlq:parent"));
		*ret = w.parent_dead ? (struct redis_reply){.type = REDIS_STRING, .s = STR("1")} : (struct redis_reply){0};
	}
	return OK;
}

static inline int64_t io_now(void *ctx)
{
	(void)ctx;
	return w.now_us;
}

static inline void io_pause(void *ctx, int64_t ms)
{
	(void)ctx;
	w.now_us += ms * US_PER_MS;
	w.paused_ms += ms;
	w.pauses++;
}

static inline uint64_t io_random(void *ctx)
{
	(void)ctx;
	return 0;
}

/* ---- PostgreSQL ---- */

static inline enum err step(const char *name)
{
	if (w.fail_at == NULL || strcmp(w.fail_at, name) != 0 || w.fail_times == 0)
		return OK;
	w.fail_times--;
	memcpy(w.fail.sqlstate, w.fail_state, sizeof(w.fail.sqlstate));
	return w.fail_err;
}

static inline enum err refused(const char *sqlstate, const char *constraint, enum err e)
{
	snprintf(w.fail.sqlstate, sizeof(w.fail.sqlstate), "%s", sqlstate);
	snprintf(w.fail.constraint, sizeof(w.fail.constraint), "%s", constraint);
	return e;
}

static inline enum err db_begin(void *ctx, const struct flush_target *t)
{
	(void)ctx;
	(void)t;
	w.begins++;
	w.now_us += w.begin_costs_us;
	w.fail = (struct pg_fail){0};
	w.n_before = w.n_rows;
	memcpy(w.before, w.rows, sizeof(w.rows));
	return step("begin");
}

static inline enum err db_copy(void *ctx, const struct flush_target *t, const void *const *rows, size_t n)
{
	(void)ctx;
	(void)t;
	memcpy(w.copied, rows, n * sizeof(*rows));
	w.n_copied = n;
	return step("copy");
}

static inline struct row_state *row_of(struct uuid id)
{
	for (size_t i = 0; i < w.n_rows; i++)
		if (uuid_eq(w.rows[i].id, id))
			return &w.rows[i];
	return NULL;
}

static inline int64_t version_in_table(struct uuid id)
{
	const struct row_state *row = row_of(id);

	return row != NULL ? row->version : 0;
}

static inline void insert_row(struct uuid id, struct uuid of, int64_t version)
{
	w.rows[w.n_rows++] = (struct row_state){.id = id, .school_id = of, .version = version};
}

static inline enum err db_flush(void *ctx, const struct flush_target *t, struct arena *arena, struct list *ret)
{
	struct row_state *out = arena_array(arena, w.n_copied + 1, sizeof(*out));
	enum err e = step("flush");

	(void)ctx;
	if (e != OK)
		return e;
	*ret = (struct list){out, 0};
	for (size_t i = 0; i < w.n_copied; i++) {
		const struct row *r = w.copied[i];
		struct row_state *old = row_of(r->id);

		if (w.poison[r->id.b[15]])
			return refused("23514", "notes_text_check", ERR_INVALID);
		if (w.orphan[r->id.b[15]])
			return refused("23503", "notes_parent_fkey", ERR_CONFLICT);
		if (old != NULL &&
		    (t->entity->write == APPEND || old->version >= r->version || !uuid_eq(old->school_id, r->school_id)))
			continue;
		if (old != NULL)
			old->version = r->version;
		else
			insert_row(r->id, r->school_id, r->version);
		out[ret->n++] = (struct row_state){.id = r->id, .version = r->version};
	}
	return OK;
}

static inline enum err db_versions(void *ctx, const struct flush_target *t, const struct uuid *ids, size_t n, struct arena *arena,
			    struct list *ret)
{
	struct row_state *out = arena_array(arena, n + 1, sizeof(*out));
	enum err e = step("versions");

	(void)ctx;
	(void)t;
	*ret = (struct list){out, 0};
	for (size_t i = 0; i < n; i++)
		if (row_of(ids[i]) != NULL)
			out[ret->n++] = *row_of(ids[i]);
	return e;
}

static inline void db_rollback(void *ctx)
{
	(void)ctx;
	w.n_rows = w.n_before;
	memcpy(w.rows, w.before, sizeof(w.rows));
}

static inline enum err db_commit(void *ctx)
{
	enum err e = step("commit");

	if (e == OK && w.lost_commits > 0) {
		/* It is done, and nobody says so: a rollback comes too late. */
		w.lost_commits--;
		w.n_before = w.n_rows;
		memcpy(w.before, w.rows, sizeof(w.rows));
		return ERR_UNCERTAIN;
	}
	if (e != OK)
		db_rollback(ctx);
	w.n_before = w.n_rows;
	return e;
}

static inline void db_reset(void *ctx)
{
	(void)ctx;
	w.resets++;
	if (w.fail_at != NULL)
		w.fail_times = 0;
}

static inline const struct pg_fail *db_fail(void *ctx)
{
	(void)ctx;
	return &w.fail;
}

static inline bool stopping(void *ctx)
{
	(void)ctx;
	return w.stop_after != 0 && w.begins >= w.stop_after;
}

static inline void told(void *ctx, const struct flush_target *t, const struct flushed_row *rows, size_t n)
{
	(void)ctx;
	assert_ptr_equal(t, &w.target);
	assert_true(n > 0);
	for (size_t i = 0; i < n; i++) {
		enum place place = w.place[index_of_id(rows[i].id)];

		assert_true(place == ACKED || place == DEAD); /* never before */
		w.told[w.n_told++] = rows[i];
	}
}

/* ---- a turn ---- */

static inline struct flush_counts turn(void)
{
	static const struct buffer_io io = {NULL, io_eval, io_call, io_now, io_pause, io_random};
	static const struct flush_db db = {NULL,      db_begin,    db_copy,  db_flush, db_versions,
					   db_commit, db_rollback, db_reset, db_fail};
	const struct flusher f = {.io = &io,
				  .db = &db,
				  .token = STR("host:1"),
				  .limits = FLUSH_LIMITS_DEFAULT,
				  .stopping = stopping,
				  .flushed = told};
	struct flush_counts counts = {0};

	arena_clear(w.turn_arena);
	assert_int_equal(flush_turn(&f, &w.target, 0, w.turn_arena, &counts), OK);
	for (size_t i = 0; i < w.n; i++)
		if (w.place[i] == LEASED)
			fail_msg("record %zu is still on lease", i);
	return counts;
}

static inline int fresh(void **state)
{
	(void)state;
	w = (struct world){.arena = arena_new(), .turn_arena = arena_new()};
	w.target = (struct flush_target){.entity = &note, .parents = parents, .n_parents = 1};
	return 0;
}

static inline int stale(void **state)
{
	(void)state;
	arena_free(w.arena);
	arena_free(w.turn_arena);
	return 0;
}

static inline void fails(const char *at, unsigned times, enum err e, const char *sqlstate)
{
	w.fail_at = at;
	w.fail_times = times;
	w.fail_err = e;
	snprintf(w.fail_state, sizeof(w.fail_state), "%s", sqlstate);
}

static inline size_t count(enum place place)
{
	size_t n = 0;

	for (size_t i = 0; i < w.n; i++)
		n += w.place[i] == place;
	return n;
}

#define TURN_TEST(name) static void name(void **state __attribute__((unused)))

#define T(name) cmocka_unit_test_setup_teardown(name, fresh, stale)

#endif
