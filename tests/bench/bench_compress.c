/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a record of every entity takes: bytes as JSON, packed, and sealed with each codec; memory in Redis while it is pending, with all its
 * indexes, beside the JSON as a plain string key. The records are another school's than the dictionaries were trained on, with a third of its
 * sentences its own; what a school saves that has none in common with them is said beside it, as bytes_strange.
 */
#define ZDICT_STATIC_LINKING_ONLY /* to say the id */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zdict.h>

#include "base/str.h"
#include "bench/records.h"
#include "bench/writer/writer.h"
#include "io/redis_sync.h"
#include "services.h"
#include "svc/buffer.h"
#include "svc/dicts.h"
#include "svc_lua.h"
#include "unit/real_redis.h"

enum { RECORDS = 2000, SIDES = CODEC_COUNT + 1, WITH_DICT = CODEC_COUNT };

static const struct goal {
	const char *entity;
	double saved, memory; /* at least, of JSON; at most, times a plain key */
} goals[] = {{"homework", 0.72, 1.0}, {"quiz_like", 0.75, 0.7}};

struct sums {
	double json, packed, sealed[SIDES];
	double plain, pending[SIDES]; /* memory */
	double strange_json, strange;
};

static struct redis_sync *redis;
static int missed;
static struct codec_dict trained; /* of an entity that has none in the tree */

/* As train_dictionaries makes them, but for this run alone. */
static struct codec_dict *dict_for(const struct entity *e)
{
	enum { SAMPLES = 3000, WANTED = 8 << 10 };
	static char bytes[WANTED];
	static size_t sizes[SAMPLES];
	static const struct entity *of;
	ZDICT_fastCover_params_t how = {.d = 8, .steps = 4, .nbThreads = 1, .zParams = {.compressionLevel = 3, .dictID = 255}};
	struct buf all = {0};
	size_t n;

	if (dict_newest(e->name) || of == e)
		return of == e ? &trained : dict_newest(e->name);
	codec_dict_done(&trained);
	records_samples(e, SAMPLES, &all, sizes);
	n = ZDICT_optimizeTrainFromBuffer_fastCover(bytes, WANTED, all.p, sizes, SAMPLES, &how);
	buf_done(&all);
	if (ZDICT_isError(n)) {
		fprintf(stderr, "bench_compress: no dictionary for %s: %s\n", e->name, ZDICT_getErrorName(n));
		exit(1);
	}
	of = e;
	trained = (struct codec_dict){.number = 255, .bytes = {bytes, n}};
	return &trained;
}

static const char *side_name(int side)
{
	return side == WITH_DICT ? "zstd+dict" : codec_name((enum codec)side);
}

static void must(enum err e)
{
	if (e != OK) {
		fprintf(stderr, "bench_compress: %s: %s\n", err_name(e), redis_sync_error(redis));
		exit(1);
	}
}

/* ---- bytes ---- */

static void add_bytes(const struct entity *e, const void *row, struct sums *sums)
{
	struct buf json = {0}, packed = {0};

	json_encode(e->schema, row, UINT_MAX, &json);
	row_pack(e->schema, row, &packed);
	sums->json += (double)json.n;
	sums->packed += (double)packed.n;
	for (int side = 0; side < SIDES; side++) {
		struct codec_dict *dict = side == WITH_DICT ? dict_for(e) : NULL;
		struct buf sealed = {0};

		codec_seal_with(side == WITH_DICT ? CODEC_ZSTD : (enum codec)side, dict, 1, buf_str(&packed), &sealed);
		sums->sealed[side] += (double)sealed.n;
		buf_done(&sealed);
	}
	buf_done(&json);
	buf_done(&packed);
}

static void add_strange(const struct entity *e, const void *row, struct sums *sums)
{
	struct sums one = {0};

	add_bytes(e, row, &one);
	sums->strange_json += one.json;
	sums->strange += one.sealed[WITH_DICT];
}

/* ---- memory ---- */

static struct redis_reply call(struct arena *arena, struct redis_args args)
{
	struct redis_reply reply;

	must(redis_sync_call(redis, arena, args, &reply));
	return reply;
}

/* Of all keys that there are. */
static double memory_of_keys(void)
{
	struct arena *arena = arena_new();
	struct redis_reply keys = call(arena, REDIS_ARGS(STR("KEYS"), STR("*")));
	double sum = 0;

	for (size_t i = 0; i < keys.n; i++)
		sum += (double)call(arena, REDIS_ARGS(STR("MEMORY"), STR("USAGE"), keys.v[i].s, STR("SAMPLES"), STR("0"))).i;
	call(arena, REDIS_ARGS(STR("FLUSHALL")));
	arena_free(arena);
	return sum;
}

static double memory_plain(const struct entity *e)
{
	for (uint64_t i = 0; i < RECORDS; i++) {
		struct arena *arena = arena_new();
		const struct row *row = records_row(RECORDS_MEASURE, e, i, arena);
		struct buf key = buf_in(arena), json = buf_in(arena);

		buf_puts(&key, str_of(e->name));
		buf_putc(&key, ':');
		buf_put_uuid(&key, row->id);
		json_encode(e->schema, row, UINT_MAX, &json);
		call(arena, REDIS_ARGS(STR("SET"), buf_str(&key), buf_str(&json)));
		arena_free(arena);
	}
	return memory_of_keys();
}

/* As the daemon writes it. zstd without a dictionary cannot be asked for where there is one: its figure stays empty. */
static double memory_pending(const struct entity *e, enum codec codec)
{
	static const uint8_t tag[8] = {1};

	for (uint64_t i = 0; i < RECORDS; i++) {
		struct arena *arena = arena_new();
		const struct row *row = records_row(RECORDS_MEASURE, e, i, arena);
		struct buffer_put *p = buffer_put_new(arena, row->school_id, tag);
		struct redis_reply reply;

		buffer_put_row(p, e, row, (struct put_options){.expect = BUFFER_ANY, .codec = codec, .creation = true});
		must(redis_sync_script(redis, &LUA_PUT, buffer_put_args(p), arena, &reply));
		if (reply.type != REDIS_ARRAY || reply.n == 0 || !str_is(reply.v[0].s, "OK")) {
			fprintf(stderr, "bench_compress: the buffer does not take a record\n");
			exit(1);
		}
		arena_free(arena);
	}
	return memory_of_keys();
}

/* ---- the report ---- */

static void line(const struct entity *e, const char *side, const char *what, double ours, double reference, double goal, bool met)
{
	printf("{\"name\":\"compress.%s.%s.%s\",\"ours\":%.1f,\"reference\":%.1f,\"ratio\":%.3f", e->name, side, what, ours,
	       reference, ours / reference);
	if (goal > 0)
		printf(",\"goal\":%.2f,\"met\":%s", goal, met ? "true" : "false");
	printf("}\n");
	if (goal > 0 && !met)
		missed++;
}

static void report(const struct entity *e, const struct sums *s)
{
	struct goal goal = {0};

	for (size_t i = 0; i < ARRAY_LEN(goals); i++) {
		if (strcmp(goals[i].entity, e->name) == 0)
			goal = goals[i];
	}
	printf("\n%s, %d records         bytes   saved   memory   times plain\n", e->name, RECORDS);
	printf("  %-22s %9.1f  %5.1f %% %8.1f\n", "JSON", s->json, 0.0, s->plain);
	printf("  %-22s %9.1f  %5.1f %%\n", "packed", s->packed, 100 * (1 - s->packed / s->json));
	for (int i = 0; i < SIDES; i++) {
		printf("  %-22s %9.1f  %5.1f %%", side_name(i), s->sealed[i], 100 * (1 - s->sealed[i] / s->json));
		if (s->pending[i] > 0)
			printf(" %8.1f %8.2f", s->pending[i], s->pending[i] / s->plain);
		printf("\n");
	}
	printf("  %-22s %9.1f  %5.1f %%  of %.1f\n", "no sentence in common", s->strange,
	       100 * (1 - s->strange / s->strange_json), s->strange_json);
	line(e, "zstd+dict", "bytes_strange", s->strange, s->strange_json, 0, true);
	line(e, "packed", "bytes", s->packed, s->json, 0, true);
	for (int i = 0; i < SIDES; i++) {
		bool ours = i == WITH_DICT;

		line(e, side_name(i), "bytes", s->sealed[i], s->json, ours && goal.saved > 0 ? 1 - goal.saved : 0,
		     s->sealed[i] <= (1 - goal.saved) * s->json);
		if (s->pending[i] > 0)
			line(e, side_name(i), "memory", s->pending[i], s->plain,
			     ours || (i == CODEC_ZSTD && !dict_newest(e->name)) ? goal.memory : 0,
			     s->pending[i] <= goal.memory * s->plain);
	}
}

static void measure(const struct entity *e)
{
	struct sums s = {0};

	for (uint64_t i = 0; i < RECORDS; i++) {
		struct arena *arena = arena_new();

		add_bytes(e, records_row(RECORDS_MEASURE, e, i, arena), &s);
		add_strange(e, records_row(RECORDS_STRANGE, e, i, arena), &s);
		arena_free(arena);
	}
	s.strange_json /= RECORDS;
	s.strange /= RECORDS;
	s.json /= RECORDS;
	s.packed /= RECORDS;
	for (int i = 0; i < SIDES; i++)
		s.sealed[i] /= RECORDS;
	s.plain = memory_plain(e) / RECORDS;
	for (int i = 0; i < CODEC_ZSTD; i++)
		s.pending[i] = memory_pending(e, (enum codec)i) / RECORDS;
	s.pending[dict_newest(e->name) ? WITH_DICT : CODEC_ZSTD] = memory_pending(e, CODEC_ZSTD) / RECORDS;
	report(e, &s);
}

int main(void)
{
	struct real_redis server;

	real_redis_start(&server, NULL);
	must(redis_sync_open(server.url, 5000, &redis));
	for (size_t i = 0; homework_entities[i]; i++)
		measure(homework_entities[i]);
	for (const struct worker_service *w = worker_services; w->name; w++) {
		for (size_t i = 0; w->entities[i]; i++) {
			if (w->entities[i]->write != THROUGH)
				measure(w->entities[i]);
		}
	}
	measure(&quiz_entity);
	redis_sync_close(redis);
	real_redis_stop(&server);
	return missed == 0 ? 0 : 1;
}
