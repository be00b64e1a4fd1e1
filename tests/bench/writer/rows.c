/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The same rows of homework on three ways; prints seconds.
 *	bench_rows fill REDIS_URL N     into a write buffer, many in a call
 *	bench_rows copy PG_URL N        into the table by one plain binary COPY: the limit
 *	bench_rows commits PG_URL N     the worker's guarded upsert, a row and a commit at a time
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/timefmt.h"
#include "base/uuid.h"
#include "bench/records.h"
#include "homework_entity_sql.h"
#include "io/pg_sync.h"
#include "io/redis_sync.h"
#include "lua_scripts.h"
#include "svc/buffer.h"
#include "writer_sql.h"

enum { IN_A_CALL = 200, DIFFERENT = 5000 };

static struct pg_sync *pg;

static void must(enum err e, const char *what)
{
	if (e == OK)
		return;
	fprintf(stderr, "bench_rows: %s: %s %s\n", what, err_name(e), pg ? pg_sync_fail(pg)->sqlstate : "");
	exit(1);
}

/* Ids as the daemons make them: they grow with time, so that the index grows at its end. */
static const struct row *row_at(int64_t i, struct arena *arena)
{
	struct row *row = records_row(RECORDS_MEASURE, &homework_entity, (uint64_t)(i % DIFFERENT), arena);

	row->id = uuid_v7(clock_real_us());
	row->version = clock_real_us() + i;
	return row;
}

static void put_some(struct redis_sync *redis, int64_t from, int64_t n, struct arena *arena)
{
	const uint8_t no_tag[8] = {0};
	struct buffer_put *put = NULL;
	struct redis_reply reply;

	for (int64_t i = from; i < from + n; i++) {
		const struct row *row = row_at(i, arena);

		if (!put)
			put = buffer_put_new(arena, row->school_id, no_tag);
		buffer_put_row(put, &homework_entity, row,
			       (struct put_options){.expect = BUFFER_ANY, .codec = CODEC_SNAPPY, .creation = true});
	}
	must(redis_sync_script(redis, &LUA_PUT, buffer_put_args(put), arena, &reply), "put");
	if (reply.type != REDIS_ARRAY || !str_is(reply.v[0].s, "OK"))
		must(ERR_BUFFER, "the buffer's answer");
}

static double fill(const char *url, int64_t n)
{
	struct redis_sync *redis;
	int64_t began;

	must(redis_sync_open(url, 20000, &redis), "redis");
	began = clock_mono_us();
	for (int64_t i = 0; i < n; i += IN_A_CALL) {
		struct arena *arena = arena_new();

		put_some(redis, i, n - i < IN_A_CALL ? n - i : IN_A_CALL, arena);
		arena_free(arena);
	}
	redis_sync_close(redis);
	return (double)(clock_mono_us() - began) / 1e6;
}

static double copy(const void *const *rows, int64_t n)
{
	int64_t began = clock_mono_us();

	must(pg_sync_begin(pg), "begin");
	must(pg_sync_copy(pg, &SQL_COPY_HOMEWORK, homework_entity.schema, rows, (size_t)n), "copy");
	must(pg_sync_commit(pg), "commit");
	return (double)(clock_mono_us() - began) / 1e6;
}

static double commits(const void *const *rows, int64_t n)
{
	int64_t began = clock_mono_us();

	for (int64_t i = 0; i < n; i++) {
		struct arena *arena = arena_new();
		struct list none;

		must(pg_sync_query(pg, arena, homework_entity_sql[0].upsert,
				   pg_row_params(homework_entity.schema, rows[i], arena), NULL, &none),
		     "upsert");
		arena_free(arena);
	}
	return (double)(clock_mono_us() - began) / 1e6;
}

static double into_table(const char *way, const char *url, int64_t n)
{
	struct arena *arena = arena_new();
	const void **rows = arena_array(arena, (size_t)n, sizeof(*rows));
	double seconds;

	must(pg_sync_open(url, 60000, 5000, &pg), "postgres");
	for (int64_t i = 0; i < n; i++)
		rows[i] = row_at(i, arena);
	must(pg_sync_begin(pg), "postgres"); /* connected */
	must(pg_sync_commit(pg), "postgres");
	seconds = strcmp(way, "copy") == 0 ? copy(rows, n) : commits(rows, n);
	pg_sync_close(pg);
	arena_free(arena);
	return seconds;
}

int main(int argc, char **argv)
{
	int64_t n;

	if (argc != 4 || !str_to_i64(str_of(argv[3]), &n) || n < 1)
		return 2;
	printf("%.6f\n", strcmp(argv[1], "fill") == 0 ? fill(argv[2], n) : into_table(argv[1], argv[2], n));
	return 0;
}
