/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The same rows of homework on several ways; prints seconds, and those of this program's CPU. BATCH: records of a batch, as the worker's setting.
 *	bench_rows fill REDIS_URL N             into a write buffer, many in a call
 *	bench_rows drain REDIS_URL N BATCH      out of it by claim and ack, with nothing done between: what Redis alone allows
 *	bench_rows copy PG_URL N                into the table by one plain binary COPY: the limit
 *	bench_rows upsert PG_URL N BATCH        by the worker's statements, batch for batch, without the buffer: what PostgreSQL alone allows
 *	bench_rows commits PG_URL N             the worker's guarded upsert, a row and a commit at a time
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/timefmt.h"
#include "base/uuid.h"
#include "bench/records.h"
#include "homework_entity_sql.h"
#include "io/pg_sync.h"
#include "io/redis_sync.h"
#include "svc/buffer.h"
#include "svc_lua.h"
#include "worker/flush.h"
#include "writer_sql.h"

enum { IN_A_CALL = 200, DIFFERENT = 5000 };

SCHEMA_TABLE(row_state, ROW_STATE_FIELDS);

static struct pg_sync *pg;

struct span {
	int64_t wall_us, cpu_us;
};

static struct span now(void)
{
	struct timespec cpu;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
	return (struct span){clock_mono_us(), cpu.tv_sec * US_PER_S + cpu.tv_nsec / 1000};
}

static struct span since(struct span began)
{
	struct span end = now();

	return (struct span){end.wall_us - began.wall_us, end.cpu_us - began.cpu_us};
}

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

static struct span fill(const char *url, int64_t n)
{
	struct redis_sync *redis;
	struct span began, took;

	must(redis_sync_open(url, 20000, &redis), "redis");
	began = now();
	for (int64_t i = 0; i < n; i += IN_A_CALL) {
		struct arena *arena = arena_new();

		put_some(redis, i, n - i < IN_A_CALL ? n - i : IN_A_CALL, arena);
		arena_free(arena);
	}
	took = since(began);
	redis_sync_close(redis);
	return took;
}

static enum err io_eval(void *ctx, const struct redis_script *script, struct redis_args args, struct arena *arena,
			struct redis_reply *ret)
{
	return redis_sync_script(ctx, script, args, arena, ret);
}

static struct span drain(const char *url, int64_t n, int64_t batch)
{
	const struct flush_limits limits = FLUSH_LIMITS_DEFAULT;
	struct buffer_io io = {.eval = io_eval};
	struct redis_sync *redis;
	int64_t left = n;
	struct span began, took;

	must(redis_sync_open(url, 20000, &redis), "redis");
	io.ctx = redis;
	began = now();
	while (left > 0) {
		struct arena *arena = arena_new();
		struct acked *acked = arena_array(arena, (size_t)batch, sizeof(*acked));
		struct claim_result claim;
		int64_t removed, newer;

		must(buffer_claim(&io, &homework_entity, STR("bench"), (size_t)batch, limits.bytes, limits.lease_ms, 0, arena,
				  &claim),
		     "claim");
		for (size_t i = 0; i < claim.n; i++) {
			struct buffer_record record;

			must(buffer_record_parse(claim.v[i].value, &record), "a record");
			acked[i] = (struct acked){claim.v[i].id, record.version};
		}
		if (claim.n == 0)
			must(ERR_NOT_FOUND, "a record in the buffer");
		must(buffer_ack(&io, &homework_entity, STR("bench"), acked, claim.n, arena, &removed, &newer), "ack");
		left -= removed;
		arena_free(arena);
	}
	took = since(began);
	redis_sync_close(redis);
	return took;
}

static struct span copy(const void *const *rows, int64_t n)
{
	struct span began = now();

	must(pg_sync_begin(pg), "begin");
	must(pg_sync_copy(pg, &SQL_COPY_HOMEWORK, homework_entity.schema, rows, (size_t)n), "copy");
	must(pg_sync_commit(pg), "commit");
	return since(began);
}

static struct span upsert(const void *const *rows, int64_t n, int64_t batch)
{
	const struct entity_sql *sql = &homework_entity_sql[0];
	struct span began = now();

	must(pg_sync_run(pg, sql->copy_table), "the temporary table");
	for (int64_t i = 0; i < n; i += batch) {
		struct arena *arena = arena_new();
		struct list written;

		must(pg_sync_begin(pg), "begin");
		must(pg_sync_copy(pg, sql->copy, homework_entity.schema, rows + i, (size_t)(n - i < batch ? n - i : batch)),
		     "copy");
		must(pg_sync_query(pg, arena, sql->flush, PG_NO_PARAMS, &row_state_schema, &written), "upsert");
		must(pg_sync_commit(pg), "commit");
		arena_free(arena);
	}
	return since(began);
}

static struct span commits(const void *const *rows, int64_t n)
{
	struct span began = now();

	for (int64_t i = 0; i < n; i++) {
		struct arena *arena = arena_new();
		struct list none;

		must(pg_sync_query(pg, arena, homework_entity_sql[0].upsert,
				   pg_row_params(homework_entity.schema, rows[i], arena), NULL, &none),
		     "upsert");
		arena_free(arena);
	}
	return since(began);
}

static struct span into_table(const char *way, const char *url, int64_t n, int64_t batch)
{
	struct arena *arena = arena_new();
	const void **rows = arena_array(arena, (size_t)n, sizeof(*rows));
	struct span took;

	must(pg_sync_open(url, 60000, 5000, &pg), "postgres");
	for (int64_t i = 0; i < n; i++)
		rows[i] = row_at(i, arena);
	must(pg_sync_begin(pg), "postgres"); /* connected */
	must(pg_sync_commit(pg), "postgres");
	if (strcmp(way, "copy") == 0)
		took = copy(rows, n);
	else
		took = strcmp(way, "upsert") == 0 ? upsert(rows, n, batch) : commits(rows, n);
	pg_sync_close(pg);
	arena_free(arena);
	return took;
}

int main(int argc, char **argv)
{
	const char *way = argc > 1 ? argv[1] : "";
	int64_t n, batch = 100;
	struct span took;

	if (argc < 4 || argc > 5 || !str_to_i64(str_of(argv[3]), &n) || n < 1)
		return 2;
	if (argc == 5 && (!str_to_i64(str_of(argv[4]), &batch) || batch < 1 || batch > 1000))
		return 2;
	if (strcmp(way, "fill") == 0)
		took = fill(argv[2], n);
	else
		took = strcmp(way, "drain") == 0 ? drain(argv[2], n, batch) : into_table(way, argv[2], n, batch);
	printf("%.6f %.6f\n", (double)took.wall_us / 1e6, (double)took.cpu_us / 1e6);
	return 0;
}
