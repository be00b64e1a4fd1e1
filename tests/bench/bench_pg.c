/* SPDX-License-Identifier: Apache-2.0 */
/* Queries per second for one row by key: 64 fibers over 4 connections, alone on a connection and sharing its pipeline. bench_pg [seconds] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/timefmt.h"
#include "io/fiber.h"
#include "io/pg.h"
#include "unit/real_pg.h"

#define FIBERS 64

#define ROW_FIELDS(F, T) \
	F(T, INT, id)    \
	F(T, TEXT, name)
SCHEMA_STRUCT(bench_row, ROW_FIELDS);
SCHEMA_TABLE(bench_row, ROW_FIELDS);

static const struct pg_stmt by_id = {"by_id", "SELECT id, name FROM bench_rows WHERE id = $1"};
static struct loop *loop;
static struct pg *pg;
static int64_t until_us;
static uint64_t done, failed, waited_us;

static void worker(void *arg)
{
	int64_t id = (intptr_t)arg;

	while (clock_mono_us() < until_us) {
		struct arena *arena = arena_new();
		struct pg_scope scope = {.arena = arena, .deadline = deadline_in(loop, 5000)};
		int64_t began = clock_mono_us();
		struct bench_row row;

		id = id * 31 % 997 + 1;
		if (pg_query_one(pg, &scope, &by_id, PG_PARAMS(PG_INT8(id)), &bench_row_schema, &row) == OK && row.id == id)
			done++;
		else
			failed++;
		waited_us += (uint64_t)(clock_mono_us() - began);
		arena_free(arena);
	}
}

static void measure(struct real_pg *server, unsigned depth, double seconds)
{
	struct pg_conf conf = {.url = real_pg_url(server, NULL), .connections = 4, .pipeline = depth};
	int64_t began;

	loop = loop_new();
	if (pg_open(loop, &conf, &pg) != OK)
		exit(1);
	done = failed = waited_us = 0;
	began = clock_mono_us();
	until_us = began + (int64_t)(seconds * 1e6);
	for (intptr_t i = 0; i < FIBERS; i++)
		IGNORE(fiber_spawn(loop, "bench", worker, (void *)i) != OK); /* far below the limit */
	IGNORE(fiber_drain(loop, deadline_in(loop, 600000)));                /* each ends by the clock */
	printf("pipeline %2u: %8.0f queries/s, mean %5.0f us, %llu failed\n", depth,
	       (double)done * 1e6 / (double)(clock_mono_us() - began), (double)waited_us / (double)(done + failed),
	       (unsigned long long)failed);
	pg = pg_close(pg);
	loop = loop_free(loop);
}

int main(int argc, char **argv)
{
	double seconds = argc > 1 ? strtod(argv[1], NULL) : 3;
	static const unsigned depths[] = {1, 4, 16, 1, 4, 16};
	struct real_pg *server = real_pg_start();

	real_pg_sql(server,
		    "CREATE TABLE bench_rows AS SELECT i::bigint AS id, 'name ' || i AS name FROM generate_series(1, 1000) i;"
		    "ALTER TABLE bench_rows ADD PRIMARY KEY (id); ANALYZE bench_rows");
	for (size_t i = 0; i < ARRAY_LEN(depths); i++)
		measure(server, depths[i], seconds);
	real_pg_free(server);
	return 0;
}
