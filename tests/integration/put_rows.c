/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Puts rows into a write buffer as the homework daemon would: put_rows REDIS_URL KIND N [FIRST [MARKS]]
 * KIND: homework, submission (a child of homework of the same number), poison (its title is too long for the table), late (urgent children first),
 * blind. Row i has an id that follows from i, and its text from i and MARKS; prints one line for each: id, version.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/timefmt.h"
#include "homework.h"
#include "io/redis_sync.h"
#include "svc/buffer.h"

static struct redis_sync *redis;

static enum err io_eval(void *ctx, const struct redis_script *script, struct redis_args args, struct arena *arena,
			struct redis_reply *ret)
{
	(void)ctx;
	return redis_sync_script(redis, script, args, arena, ret);
}

static enum err io_call(void *ctx, struct redis_args args, struct arena *arena, struct redis_reply *ret)
{
	(void)ctx;
	return redis_sync_call(redis, arena, args, ret);
}

static int64_t io_now(void *ctx)
{
	(void)ctx;
	return clock_mono_us();
}

static void io_pause(void *ctx, int64_t ms)
{
	(void)ctx;
	(void)ms;
}

static uint64_t io_random(void *ctx)
{
	(void)ctx;
	return 4; /* a test's */
}

static struct uuid id_of(uint8_t kind, int64_t i)
{
	struct uuid id = {{0}};

	id.b[0] = kind;
	for (size_t k = 0; k < 8; k++)
		id.b[15 - k] = (uint8_t)((uint64_t)i >> 8 * k);
	return id;
}

static void head(struct row *row, uint8_t kind, int64_t i)
{
	row->id = id_of(kind, i);
	row->school_id = id_of(0xaa, 1);
	row->created_at = row->updated_at = clock_real_us();
}

static struct homework *homework_row(struct arena *arena, int64_t i, int64_t marks, bool poison)
{
	struct homework *hw = arena_zalloc(arena, sizeof(*hw));
	struct buf title = buf_in(arena);

	head(&hw->row, poison ? 0x0b : 0x0a, i);
	buf_printf(&title, "homework %" PRId64 " %" PRId64, i, marks);
	while (poison && title.n <= 200)
		buf_putc(&title, 'x');
	FIELD_PUT(hw, homework, title, buf_str(&title));
	FIELD_PUT(hw, homework, class_id, id_of(0xcc, i % 7));
	FIELD_PUT(hw, homework, subject_id, id_of(0xdd, i % 5));
	FIELD_PUT(hw, homework, teacher_id, id_of(0xee, i % 3));
	FIELD_PUT(hw, homework, due_date, (int32_t)(20000 + i % 100));
	FIELD_PUT(hw, homework, max_marks, marks);
	FIELD_PUT(hw, homework, status, HOMEWORK_ACTIVE);
	return hw;
}

static struct submission *submission_row(struct arena *arena, int64_t i, int64_t marks)
{
	struct submission *sub = arena_zalloc(arena, sizeof(*sub));

	head(&sub->row, 0x0c, i);
	FIELD_PUT(sub, submission, homework_id, id_of(0x0a, i));
	FIELD_PUT(sub, submission, student_id, id_of(0xff, i));
	FIELD_PUT(sub, submission, class_id, id_of(0xcc, i % 7));
	FIELD_PUT(sub, submission, teacher_id, id_of(0xee, i % 3));
	FIELD_PUT(sub, submission, status, SUBMISSION_SUBMITTED);
	FIELD_PUT(sub, submission, is_late, false);
	FIELD_PUT(sub, submission, marks_obtained, marks * 100);
	return sub;
}

static enum err put(struct arena *arena, const struct buffer_io *io, const char *kind, int64_t i, int64_t marks)
{
	bool child = strcmp(kind, "submission") == 0 || strcmp(kind, "late") == 0;
	const struct entity *e = child ? &submission_entity : &homework_entity;
	const void *row = child ? (const void *)submission_row(arena, i, marks)
				: homework_row(arena, i, marks, strcmp(kind, "poison") == 0);
	struct put_options o = {.expect = strcmp(kind, "blind") == 0 ? 0 : BUFFER_ANY,
				.codec = CODEC_SNAPPY,
				.urgent = strcmp(kind, "late") == 0,
				.blind = strcmp(kind, "blind") == 0};
	uint8_t tag[8];
	struct buffer_put *p;
	struct put_result result;
	char id[UUID_TEXT + 1];
	enum err err;

	random_bytes(tag, sizeof(tag));
	p = buffer_put_new(arena, ((const struct row *)row)->school_id, tag);
	buffer_put_row(p, e, row, o);
	err = buffer_put_send(io, p, arena, clock_mono_us() + 5 * US_PER_S, &result);
	if (err == OK && result.outcome != PUT_OK)
		err = ERR_CONFLICT;
	uuid_text(((const struct row *)row)->id, id);
	if (err == OK)
		printf("%s %" PRId64 "\n", id, result.version);
	return err;
}

static int64_t number(int argc, char **argv, int at, int64_t otherwise)
{
	int64_t v = otherwise;

	if (argc > at && !str_to_i64(str_of(argv[at]), &v))
		exit(2);
	return v;
}

int main(int argc, char **argv)
{
	const struct buffer_io io = {NULL, io_eval, io_call, io_now, io_pause, io_random};
	int64_t n = number(argc, argv, 3, 1), first = number(argc, argv, 4, 0), marks = number(argc, argv, 5, 0);
	enum err e = argc > 3 ? redis_sync_open(argv[1], 5000, &redis) : ERR_INVALID;

	for (int64_t i = first; e == OK && i < first + n; i++) {
		struct arena *arena = arena_new();

		e = put(arena, &io, argv[2], i, marks);
		arena_free(arena);
	}
	if (e != OK)
		fprintf(stderr, "put_rows: %s\n", err_name(e));
	redis_sync_close(redis);
	return e == OK ? 0 : 1;
}
