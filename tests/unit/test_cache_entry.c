/* SPDX-License-Identifier: Apache-2.0 */
/* One entry of the cache: its bytes, name, lifetime and size, in memory and in Redis (cache.md A1, A2, A3, B6, B12, C1, I1, I2). */
#include "unit/cache_case.h"

#include "base/crc32c.h"

static const struct cache_tags untagged = {.school = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}}};

static struct cache_tags tagged(const char *id)
{
	struct cache_tags tags = {.school = school};

	cache_tag(&tags, arena, "thing:", str_of(id));
	return tags;
}

static struct str key_named(const char *name)
{
	struct str part = str_of(name);

	return cache_key(caches[0], arena, school, "thing", &part, 1);
}

/* A command of another client. */
static bool command(struct redis_args args, struct redis_reply *ret)
{
	return redis_call(redis[1], arena, in_ms(2000), args, ret) == OK && ret->type != REDIS_ERROR;
}

static bool set_raw(struct str key, struct str value)
{
	struct redis_reply r;

	return command(REDIS_ARGS(STR("SET"), key, value, STR("EX"), STR("100")), &r);
}

static int64_t pttl(struct str key)
{
	struct redis_reply r;

	return command(REDIS_ARGS(STR("PTTL"), key), &r) ? r.i : -9;
}

/* How often Redis was asked for something, by its own count. */
static long commands_of(const char *name)
{
	struct redis_reply r;
	char word[64];
	const char *at;

	if (!command(REDIS_ARGS(STR("INFO"), STR("commandstats")), &r))
		return -1;
	snprintf(word, sizeof(word), "cmdstat_%s:calls=", name);
	at = strstr(arena_cstr(arena, r.s), word);
	return at ? strtol(at + strlen(word), NULL, 10) : 0;
}

static void pass(int64_t ms)
{
	loop_clock_set(loop, loop_mono_us(loop), loop_real_us(loop) + ms * 1000);
}

static enum err read_one(int engine, struct str key, struct source *s, const struct cache_tags *tags, struct cache_note *note)
{
	struct cache_call call = call_of(engine, "x", tags, s);
	struct str got;

	call.key = key;
	call.life = (struct cache_life){.ttl_s = 60};
	return cache_read(caches[engine], arena, in_ms(2000), &call, &got, note);
}

/* ---- A1 ---- */

CACHE_TEST(a_lifetime_is_exact_and_none_is_for_ever)
{
	static const unsigned lives[] = {1, 2, 60, 3600, CACHE_LIFE_MAX_S};
	struct cache_note note;
	struct str got, key = key_named("life");

	for (size_t i = 0; i < ARRAY_LEN(lives); i++) {
		struct cache_life life = {.ttl_s = lives[i]};
		int64_t left;

		CHECK(cache_set(caches[0], arena, in_ms(1000), key, &untagged, &life, STR("x")) == OK);
		left = pttl(key);
		CHECK(left > lives[i] * INT64_C(1000) - 1000 && left <= lives[i] * INT64_C(1000));
		CHECK(cache_get(caches[0], arena, in_ms(1000), key, &untagged, &got, &note) == OK);
		CHECK(note.fresh_until_us - note.written_us == lives[i] * US_PER_S);
	}
	CHECK(cache_set(caches[0], arena, in_ms(1000), key, &untagged, &(struct cache_life){.ttl_s = 60}, STR("x")) == OK);
	CHECK(cache_get(caches[0], arena, in_ms(1000), key, &untagged, &got, &note) == OK);
	loop_clock_set(loop, loop_mono_us(loop), note.written_us + 60 * US_PER_S - 1);
	for (int i = 0; i < 2; i++)
		CHECK(cache_get(caches[i], arena, in_ms(1000), key, &untagged, &got, &note) == OK);
	pass(1);
	for (int i = 0; i < 2; i++)
		CHECK(cache_get(caches[i], arena, in_ms(1000), key, &untagged, &got, &note) == ERR_NOT_FOUND);
	DONE();
}

CACHE_TEST(lifetimes_that_are_none_are_refused_and_leave_what_is_there)
{
	static const struct cache_life bad[] = {{.ttl_s = 0},
						{.ttl_s = (unsigned)-1},
						{.ttl_s = CACHE_LIFE_MAX_S + 1},
						{.ttl_s = 60, .swr_s = (unsigned)-60},
						{.ttl_s = 60, .sie_s = (unsigned)-1},
						{.ttl_s = 60, .sie_s = CACHE_LIFE_MAX_S - 59},
						{.ttl_s = 60, .negative_s = CACHE_LIFE_MAX_S + 1}};
	struct cache_note note;
	struct str got, key = key_named("life");
	struct source s = {.text = "fresh"};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct cache_call call = call_of(0, "other", &untagged, &s);

		CHECK(cache_set(caches[0], arena, in_ms(1000), key, &untagged, &(struct cache_life){.ttl_s = 60}, STR("x")) ==
		      OK);
		CHECK(cache_set(caches[0], arena, in_ms(1000), key, &untagged, &bad[i], STR("y")) == ERR_INVALID);
		CHECK(cache_get(caches[1], arena, in_ms(1000), key, &untagged, &got, &note) == OK && str_is(got, "x"));
		call.life = bad[i]; /* a route's: its answer is told and not kept */
		CHECK(cache_read(caches[0], arena, in_ms(1000), &call, &got, &note) == OK && str_is(got, "fresh"));
		CHECK(pttl(call.key) == -2);
	}
	CHECK(s.calls == (int)ARRAY_LEN(bad));
	DONE();
}

CACHE_TEST(what_is_too_large_is_refused)
{
	char *bytes = arena_zalloc(arena, CACHE_ENTRY_MAX + 1);

	CHECK(cache_set(caches[0], arena, in_ms(5000), key_named("big"), &untagged, &(struct cache_life){.ttl_s = 60},
			(struct str){bytes, CACHE_ENTRY_MAX + 1}) == ERR_TOO_LARGE);
	CHECK(pttl(key_named("big")) == -2);
	DONE();
}

/* Whatever its size and content, with tags and without, through memory and through Redis. */
CACHE_TEST(random_bytes_come_back)
{
	struct cache_life life = {.ttl_s = 60};
	struct cache_tags tags = tagged("a");
	uint64_t seed = 11;

	for (int i = 0; i < 300; i++) {
		struct str key = key_named("bytes"), got;
		size_t n = unit_random(&seed) % (i % 10 == 0 ? 200000 : 300);
		char *bytes = arena_alloc(arena, n + 1);
		const struct cache_tags *with = i % 2 ? &tags : &untagged;
		struct cache_note note;

		for (size_t k = 0; k < n; k++)
			bytes[k] = (char)(i % 3 ? unit_random(&seed) : (uint64_t)k / 7);
		caches[0]->conf.codec = (enum codec)(i % CODEC_COUNT);
		CHECK(cache_set(caches[0], arena, in_ms(2000), key, with, &life, (struct str){bytes, n}) == OK);
		for (int e = 0; e < 2; e++) {
			CHECK(cache_get(caches[e], arena, in_ms(2000), key, with, &got, &note) == OK);
			CHECK(got.n == n && (n == 0 || memcmp(got.p, bytes, n) == 0));
			if (e == 0 && with->n != 0)
				memory_forget(&caches[1]->memory);
		}
		memory_forget(&caches[1]->memory);
	}
	DONE();
}

/* ---- A2 ---- */

/* With the checksum of its head made good, so that only what was changed is wrong. */
static struct str sealed_head(struct str value, size_t at, char byte)
{
	char *copy = arena_alloc(arena, value.n);
	size_t head;
	uint32_t crc;

	memcpy(copy, value.p, value.n);
	copy[at] = byte;
	head = 40 + 16 * (size_t)(uint8_t)value.p[3];
	crc = crc32c(0, copy, head);
	for (int i = 0; i < 4; i++)
		copy[head + (size_t)i] = (char)(crc >> (8 * i));
	return (struct str){copy, value.n};
}

/* A miss, counted, and the next filling mends it. */
static bool is_mended(struct str key, struct str value, struct cache_tags *tags)
{
	struct source s = {.text = "from the source"};
	uint64_t corrupt = cache_stats(caches[0]).corrupt;
	struct cache_note note;

	memory_forget(&caches[0]->memory);
	memory_forget(&caches[1]->memory);
	if (!set_raw(key, value) || read_one(0, key, &s, tags, &note) != OK || note.state != CACHE_MISS || s.calls != 1)
		return false;
	if (cache_stats(caches[0]).corrupt == corrupt)
		return false;
	return read_one(1, key, &s, tags, &note) == OK && note.state == CACHE_HIT && s.calls == 1;
}

CACHE_TEST(what_is_damaged_or_of_another_version_is_a_miss_and_is_mended)
{
	struct cache_tags tags = tagged("a");
	struct source s = {.text = "from the source, and long enough that it is made smaller smaller smaller smaller smaller"};
	struct str key = key_named("damaged"), whole;
	struct redis_reply r;
	struct cache_note note;

	CHECK(read_one(0, key, &s, &tags, &note) == OK);
	CHECK(command(REDIS_ARGS(STR("GET"), key), &r) && r.type == REDIS_STRING);
	whole = arena_str(arena, r.s);
	CHECK(!is_mended(key, whole, &tags)); /* this test can see a hit */
	for (size_t i = 0; i < whole.n; i++) {
		char *copy = arena_alloc(arena, whole.n);

		CHECK(is_mended(key, (struct str){whole.p, i}, &tags));
		memcpy(copy, whole.p, whole.n);
		copy[i] = (char)(copy[i] ^ 1 << i % 8);
		CHECK(is_mended(key, (struct str){copy, whole.n}, &tags));
	}
	CHECK(is_mended(key, sealed_head(whole, 0, 2), &tags)); /* a later version */
	CHECK(is_mended(key, sealed_head(whole, 0, 0), &tags));
	CHECK(is_mended(key, sealed_head(whole, 1, 77), &tags)); /* a codec that is none */
	CHECK(is_mended(key, sealed_head(whole, 4, 9), &tags));  /* another size */
	CHECK(is_mended(key, STR("{\"value\":\"of another program\"}"), &tags));
	CHECK(is_mended(key, STR("x"), &tags));
	DONE();
}

/* I1: a declared size is checked before anything is allocated for it. */
CACHE_TEST(a_bomb_is_a_miss)
{
	struct cache_tags tags = tagged("a");
	static char zeroes[100000];
	struct str key = key_named("bomb"), whole;
	struct redis_reply r;

	for (int codec = CODEC_RAW; codec < CODEC_COUNT; codec++) {
		caches[0]->conf.codec = (enum codec)codec;
		CHECK(cache_set(caches[0], arena, in_ms(1000), key, &tags, &(struct cache_life){.ttl_s = 60},
				(struct str){zeroes, sizeof(zeroes)}) == OK);
		CHECK(command(REDIS_ARGS(STR("GET"), key), &r) && r.type == REDIS_STRING);
		whole = arena_str(arena, r.s);
		CHECK((whole.n < 20000) == (codec != CODEC_RAW)); /* it is made smaller, and says so */
		CHECK((enum codec)whole.p[1] == (enum codec)codec);
		CHECK(is_mended(key, sealed_head(whole, 7, 127), &tags)); /* 2 GB */
		CHECK(is_mended(key, sealed_head(whole, 6, 63), &tags));  /* 4 MB */
	}
	DONE();
}

/* ---- A3 ---- */

static struct str random_part(uint64_t *seed)
{
	static const char *const pieces[] = {":", "%", "%3A", "{",  "}",    "~", "*",  "a", "b",
					     "",  "_", ".",   "\n", "\xff", "é", "3A", "25"};
	struct buf b = buf_in(arena);
	size_t n = unit_random(seed) % 5;

	if (unit_random(seed) % 20 == 0)
		n += 120; /* past the bound */
	for (size_t i = 0; i < n; i++)
		buf_puts(&b, str_of(pieces[unit_random(seed) % ARRAY_LEN(pieces)]));
	if (unit_random(seed) % 8 == 0)
		buf_putc(&b, '\0');
	return buf_str(&b);
}

struct name {
	struct str parts[3];
	size_t n;
};

static bool same_name(const struct name *a, const struct name *b)
{
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++) {
		if (!str_eq(a->parts[i], b->parts[i]))
			return false;
	}
	return true;
}

static void different_names_are_different_keys(void **state)
{
	struct name *names = arena_array(arena, 4000, sizeof(*names));
	struct hash seen = {0};
	uint64_t seed = 5;
	size_t longest = 0, same = 0;

	(void)state;
	for (size_t i = 0; i < 4000; i++) {
		struct name *old;
		struct str key;

		names[i].n = unit_random(&seed) % 4;
		for (size_t k = 0; k < names[i].n; k++)
			names[i].parts[k] = random_part(&seed);
		if (i % 4 == 1 && names[i - 1].n != 0) { /* one that differs from the last one in its end alone */
			names[i] = names[i - 1];
			names[i].parts[names[i].n - 1] = str_of(
				arena_printf(arena, "%.*sx", STR_FMT(names[i].parts[names[i].n - 1])));
		}
		key = cache_key(caches[0], arena, school, "k", names[i].parts, names[i].n);
		assert_true(key.n <= CACHE_KEY_MAX);
		assert_true(str_has_prefix(key, STR("cache:test:homework:v0:{01020304-0506-0708-090a-0b0c0d0e0f10}:k")));
		assert_null(memchr(key.p, '*', key.n));
		assert_null(memchr(key.p, '\n', key.n));
		longest += key.n == CACHE_KEY_MAX;
		old = hash_get(&seen, key);
		if (old) {
			assert_true(same_name(old, &names[i])); /* and the same name is the same key */
			same++;
		} else {
			hash_put(&seen, key, &names[i]);
		}
	}
	assert_true(longest > 50 && same > 50);
	hash_done(&seen);
}

static void a_name_has_its_environment_service_generation_kind_and_school(void **state)
{
	struct str part = STR("a"), keys[7];
	struct uuid other = school;

	(void)state;
	other.b[15]++;
	keys[0] = cache_key(caches[0], arena, school, "k", &part, 1);
	keys[1] = cache_key(caches[0], arena, other, "k", &part, 1);
	keys[2] = cache_key(caches[0], arena, (struct uuid){{0}}, "k", &part, 1);
	keys[3] = cache_key(caches[0], arena, school, "kk", &part, 1);
	keys[4] = cache_key_of(caches[0], arena, "directory", school, "k", &part, 1);
	keys[5] = link_epoch_key(caches[0], arena, school, STR("k:a"));
	keys[6] = link_index_key(caches[0], arena, school, STR("k:a"));
	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		for (size_t k = 0; k < i; k++)
			assert_false(str_eq(keys[i], keys[k]));
		assert_true(str_has_prefix(keys[i], STR("cache:test:"))); /* and nothing of the cache outside of it */
	}
	/* One entry's keys share a slot of a cluster: the school in braces. */
	assert_non_null(memmem(keys[0].p, keys[0].n, "{01020304-", 10));
	assert_non_null(memmem(keys[5].p, keys[5].n, "{01020304-", 10));
}

/* ---- B6 ---- */

CACHE_TEST(an_epoch_never_falls_and_outlives_every_entry)
{
	struct cache_tags tags = tagged("a");
	struct str key = link_epoch_key(caches[0], arena, school, tags.v[0]);
	struct redis_reply r;
	int64_t was = 0, is;

	for (int i = 0; i < 5; i++) {
		if (i == 3) /* of a server whose clock was ahead */
			CHECK(set_raw(key, STR("9000000000000000")));
		CHECK(cache_raise(caches[i % 2], arena, &tags) == OK);
		CHECK(command(REDIS_ARGS(STR("GET"), key), &r) && str_to_i64(r.s, &is));
		CHECK(is > was && (i < 3 || is > INT64_C(9000000000000000)));
		CHECK(pttl(key) > CACHE_LIFE_MAX_S * INT64_C(1000));
		was = is;
	}
	/* Nor can it be filled back: a reader makes the epoch that is missing, never one that is there. */
	CHECK(read_one(0, key_named("x"), &(struct source){.text = "x"}, &tags, &(struct cache_note){0}) == OK);
	CHECK(command(REDIS_ARGS(STR("GET"), key), &r) && str_to_i64(r.s, &is) && is == was);
	DONE();
}

/* ---- I1 ---- */

CACHE_TEST(what_does_not_get_smaller_stays_as_it_is_and_sizes_are_counted)
{
	struct cache_life life = {.ttl_s = 60};
	char noise[5000], text[5000];
	uint64_t seed = 9;

	for (size_t i = 0; i < sizeof(noise); i++) {
		noise[i] = (char)unit_random(&seed);
		text[i] = "a list of things. "[i % 18];
	}
	for (int codec = CODEC_RAW; codec < CODEC_COUNT; codec++) {
		struct cache_stats before = cache_stats(caches[0]), after;
		struct redis_reply r;

		caches[0]->conf.codec = (enum codec)codec;
		CHECK(cache_set(caches[0], arena, in_ms(1000), key_named("noise"), &untagged, &life,
				(struct str){noise, sizeof(noise)}) == OK);
		CHECK(command(REDIS_ARGS(STR("GET"), key_named("noise")), &r) && r.s.p[1] == CODEC_RAW);
		CHECK(r.s.n < sizeof(noise) + 80);
		CHECK(cache_set(caches[0], arena, in_ms(1000), key_named("small"), &untagged, &life, STR("ab")) == OK);
		CHECK(command(REDIS_ARGS(STR("GET"), key_named("small")), &r) && r.s.p[1] == CODEC_RAW);
		CHECK(cache_set(caches[0], arena, in_ms(1000), key_named("text"), &untagged, &life,
				(struct str){text, sizeof(text)}) == OK);
		CHECK(command(REDIS_ARGS(STR("GET"), key_named("text")), &r) && r.s.p[1] == codec);
		after = cache_stats(caches[0]);
		CHECK(after.bytes_raw - before.bytes_raw == sizeof(noise) + 2 + sizeof(text));
		if (codec != CODEC_RAW)
			CHECK(after.bytes_stored - before.bytes_stored < sizeof(noise) + 1000);
	}
	DONE();
}

/* A process of another configuration reads it all the same. */
CACHE_TEST(each_codec_is_read_by_all)
{
	static const char text[] = "some text some text some text some text some text some text some text some text some text";
	struct cache_life life = {.ttl_s = 60};
	struct cache_note note;
	struct str got;

	for (int codec = CODEC_RAW; codec < CODEC_COUNT; codec++) {
		caches[0]->conf.codec = (enum codec)codec;
		caches[1]->conf.codec = (enum codec)((codec + 1) % CODEC_COUNT);
		CHECK(cache_set(caches[0], arena, in_ms(1000), key_named("x"), &untagged, &life, STR(text)) == OK);
		memory_forget(&caches[1]->memory);
		CHECK(cache_get(caches[1], arena, in_ms(1000), key_named("x"), &untagged, &got, &note) == OK);
		CHECK(note.level == LEVEL_REDIS && str_is(got, text));
	}
	DONE();
}

/* ---- I2, C1 ---- */

CACHE_TEST(memory_holds_an_entry_no_longer_than_redis_does)
{
	struct cache_tags tags = tagged("a");
	struct source s = {.text = "one"};
	struct cache_call call = call_of(0, "a", &tags, &s);
	struct cache_note note;
	struct str got;

	call.life = (struct cache_life){.ttl_s = 60, .memory = true};
	CHECK(cache_read(caches[0], arena, in_ms(2000), &call, &got, &note) == OK);
	pass(59000); /* the second process takes it late */
	CHECK(cache_read(caches[1], arena, in_ms(2000), &call, &got, &note) == OK && note.level == LEVEL_REDIS);
	CHECK(cache_read(caches[1], arena, in_ms(2000), &call, &got, &note) == OK && note.level == LEVEL_MEMORY);
	CHECK(s.calls == 1);
	pass(1001);
	CHECK(cache_read(caches[1], arena, in_ms(2000), &call, &got, &note) == OK && note.state == CACHE_MISS);
	CHECK(s.calls == 2);
	DONE();
}

CACHE_TEST(a_hit_is_one_round_trip_and_out_of_memory_none)
{
	struct cache_tags tags = tagged("a");
	struct source s = {.text = "one"};
	struct cache_call call = call_of(0, "a", &tags, &s);
	struct cache_note note;
	struct str got;
	long mget, eval, get;

	CHECK(cache_read(caches[0], arena, in_ms(2000), &call, &got, &note) == OK);
	for (int with = 0; with < 2; with++) {
		call.life.memory = with == 1;
		mget = commands_of("mget");
		eval = commands_of("evalsha");
		get = commands_of("get");
		for (int i = 0; i < 50; i++) {
			CHECK(cache_read(caches[0], arena, in_ms(2000), &call, &got, &note) == OK && note.level == LEVEL_MEMORY);
			if (i == 0 && with == 0) {
				memory_forget(&caches[0]->memory);
				CHECK(cache_read(caches[0], arena, in_ms(2000), &call, &got, &note) == OK &&
				      note.level == LEVEL_REDIS);
			}
		}
		CHECK(commands_of("mget") - mget == (with == 0 ? 51 : 0));
		CHECK(commands_of("evalsha") == eval && commands_of("get") == get);
	}
	DONE();
}

/* ---- B12 ---- */

static struct cache_call told_of(int engine, const struct cache_tags *tags, struct source *s)
{
	struct cache_call call = call_of(engine, "told", tags, s);

	call.life.memory = true;
	return call;
}

CACHE_TEST(another_processs_memory_is_told_within_100_ms)
{
	struct cache_tags tags = tagged("a");
	struct source s = {.text = "old"};
	struct cache_call call = told_of(1, &tags, &s);
	struct cache_note note;
	struct str got;

	for (int i = 0; i < 20; i++) {
		int64_t from;

		s.text = "old";
		CHECK(cache_raise(caches[1], arena, &tags) == OK);
		for (int k = 0; k < 2; k++)
			CHECK(cache_read(caches[1], arena, in_ms(2000), &call, &got, &note) == OK && str_is(got, "old"));
		s.text = "new";
		CHECK(cache_raise(caches[0], arena, &tags) == OK);
		from = loop_mono_us(loop);
		do {
			CHECK(loop_mono_us(loop) - from < 100000);
			CHECK(cache_read(caches[1], arena, in_ms(2000), &call, &got, &note) == OK);
			if (str_is(got, "old"))
				CHECK(sleep_ms(loop, 1, in_ms(1000)) == OK);
		} while (str_is(got, "old"));
	}
	CHECK(s.calls <= 60);
	DONE();
}

/* A message that got lost with its connection: nothing is given out unasked until the channel is there again, and then nothing of before. */
CACHE_TEST(memory_is_not_believed_without_the_news)
{
	struct cache_tags tags = tagged("a");
	struct source s = {.text = "old"};
	struct cache_call call = told_of(1, &tags, &s);
	struct redis_reply r;
	struct cache_note note;
	struct str got;

	for (int k = 0; k < 2; k++)
		CHECK(cache_read(caches[1], arena, in_ms(2000), &call, &got, &note) == OK);
	CHECK(note.level == LEVEL_MEMORY);
	CHECK(command(REDIS_ARGS(STR("CLIENT"), STR("PAUSE"), STR("1"), STR("ALL")), &r));
	CHECK(command(REDIS_ARGS(STR("CLIENT"), STR("KILL"), STR("TYPE"), STR("pubsub")), &r) && r.i == 2);
	s.text = "new";
	/* Past all engines: nobody says a word of it. */
	CHECK(command(REDIS_ARGS(STR("INCR"), link_epoch_key(caches[0], arena, school, tags.v[0])), &r));
	for (int i = 0; i < 2000 && cache_stats(caches[1]).news_up; i++)
		CHECK(sleep_ms(loop, 1, in_ms(1000)) == OK);
	CHECK(cache_read(caches[1], arena, in_ms(2000), &call, &got, &note) == OK && str_is(got, "new"));
	for (int i = 0; i < 5000 && !both_up(); i++)
		CHECK(sleep_ms(loop, 1, in_ms(1000)) == OK);
	CHECK(both_up());
	CHECK(cache_read(caches[1], arena, in_ms(2000), &call, &got, &note) == OK && str_is(got, "new"));
	DONE();
}

CACHE_TEST(memory_is_bounded_by_bytes)
{
	struct cache_life life = {.ttl_s = 60};
	static char bytes[50000];
	struct cache_stats stats;
	struct cache_note note;
	struct str got;

	for (int i = 0; i < 300; i++) {
		char name[16];

		snprintf(name, sizeof(name), "%d", i);
		CHECK(cache_set(caches[0], arena, in_ms(1000), key_named(name), &untagged, &life,
				(struct str){bytes, sizeof(bytes)}) == OK);
		stats = cache_stats(caches[0]);
		CHECK(stats.memory_bytes <= caches[0]->conf.memory_bytes);
	}
	CHECK(stats.memory_evictions > 200 && stats.memory_entries > 50);
	CHECK(cache_get(caches[0], arena, in_ms(1000), key_named("0"), &untagged, &got, &note) == OK &&
	      note.level == LEVEL_REDIS);
	DONE();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_lifetime_is_exact_and_none_is_for_ever),
		T(lifetimes_that_are_none_are_refused_and_leave_what_is_there),
		T(what_is_too_large_is_refused),
		T(random_bytes_come_back),
		T(what_is_damaged_or_of_another_version_is_a_miss_and_is_mended),
		T(a_bomb_is_a_miss),
		T(different_names_are_different_keys),
		T(a_name_has_its_environment_service_generation_kind_and_school),
		T(an_epoch_never_falls_and_outlives_every_entry),
		T(what_does_not_get_smaller_stays_as_it_is_and_sizes_are_counted),
		T(each_codec_is_read_by_all),
		T(memory_holds_an_entry_no_longer_than_redis_does),
		T(a_hit_is_one_round_trip_and_out_of_memory_none),
		T(another_processs_memory_is_told_within_100_ms),
		T(memory_is_not_believed_without_the_news),
		T(memory_is_bounded_by_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
