/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Three engines on one real Redis, as three processes, do everything at once, and the model watches what readers get (cache.md B6, B7, B12, I2, I3, I4).
 *
 * The truth is a version for each tag; a key's value tells its own name and the versions of its tags as the source was asked. A writer puts a version up and
 * raises the tag. A read that starts after that was answered must not see an older version: of Redis, or by the writer's engine, at once; out of
 * another engine's memory, where the call allows that, after 100 ms. Meanwhile keys are evicted, Redis is emptied, stands still, dies, names begin anew,
 * fillers fail or are cancelled, and the clock jumps.
 *
 * The choices are repeated by S24_MODEL_SEED, though not Redis' timing; S24_MODEL_STEPS makes it longer.
 */
#define CACHE_ENGINES 3
#define CACHE_CALL_MS 100
#include "unit/cache_case.h"

#include <inttypes.h>
#include <time.h>

#include "cache/cache_index.h"

enum { KEYS = 25, TAGS = 12, READERS = 12, WRITERS = 2, OWN_KEY = KEYS - 1, OWN_TAG = TAGS - 1 };
#define OTHERS_MS 100

static struct {
	uint64_t seed;
	int steps;  /* of each fiber */
	bool blind; /* the mutant: Redis forgets that anything was raised, so epochs are as good as not looked at */
	int version[TAGS];
	int by_engine[CACHE_ENGINES][TAGS]; /* raised by it, answered however */
	int answered[TAGS];                 /* raised and answered OK, or out of the journal since */
	int waiting[CACHE_ENGINES][TAGS];   /* in the journal */
	struct {
		int64_t at_us;
		int tag, version;
	} * log; /* of answered */
	size_t n_log, cap_log;
	int64_t ahead_us; /* of the real clock */
	int working;
	int reads, seen_memory, seen_redis, seen_stale, fills, raises, away, restarts;
	struct fiber *readers[READERS];
	char violation[240];
} m;

static int64_t clock_of(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (int64_t)ts.tv_sec * US_PER_S + ts.tv_nsec / 1000;
}

static bool has_tag(int key, int tag)
{
	if (key == OWN_KEY)
		return tag == OWN_TAG;
	return tag == key % OWN_TAG || (key % 2 == 0 && tag == (key * 7 + 3) % OWN_TAG) ||
	       (key % 5 == 0 && tag == (key * 3 + 1) % OWN_TAG);
}

static struct cache_tags tags_of(struct arena *in, int key)
{
	struct cache_tags tags = {.school = school};
	char text[12];

	for (int i = 0; i < TAGS; i++) {
		snprintf(text, sizeof(text), "%d", i);
		if (has_tag(key, i))
			cache_tag(&tags, in, "tag:", arena_str(in, str_of(text)));
	}
	return tags;
}

static void violated(const char *what, int engine, int key, int tag, int got, int least)
{
	if (m.violation[0] == '\0')
		snprintf(m.violation, sizeof(m.violation),
			 "%s: engine %d, key %d, tag %d: version %d, but at least %d (now %d) was to be seen", what, engine, key,
			 tag, got, least, m.version[tag]);
}

static int64_t roll(uint64_t *state, int64_t most)
{
	return (int64_t)(unit_random(state) % (uint64_t)most);
}

static void pause_of(uint64_t *state, int64_t most_ms)
{
	IGNORE(sleep_ms(loop, roll(state, most_ms + 1), in_ms(10000))); /* cancelled: the caller looks */
}

/* ---- the source ---- */

struct asked {
	int key;
	uint64_t random;
};

/* Every fourth version of its first tag: there is none. */
static bool is_absent(int key, int version)
{
	return key % 8 == 1 && version % 4 == 3;
}

static int first_tag(int key)
{
	for (int i = 0; i < TAGS; i++)
		if (has_tag(key, i))
			return i;
	abort();
}

static void put_value(int key, struct buf *out)
{
	buf_printf(out, "k%d", key);
	for (int i = 0; i < TAGS; i++)
		if (has_tag(key, i))
			buf_printf(out, " %d=%d", i, m.version[i]);
	for (int i = key * 13; i > 0; i--)
		buf_putc(out, '.');
}

static enum err ask(void *ctx, struct buf *out)
{
	struct asked *a = ctx;
	bool absent;

	m.fills++;
	if (roll(&a->random, 3) == 0)
		pause_of(&a->random, 5);
	absent = is_absent(a->key, m.version[first_tag(a->key)]);
	if (!absent)
		put_value(a->key, out);
	if (roll(&a->random, 2) == 0)
		pause_of(&a->random, 20); /* what was read may be old by now */
	if (fiber_is_cancelled())
		return ERR_CANCELLED;
	if (roll(&a->random, 25) == 0)
		return ERR_DB;
	return absent ? ERR_NOT_FOUND : OK;
}

/* ---- what must be seen ---- */

struct least {
	int v[TAGS];
};

static struct least least_of(int engine, bool memory)
{
	int64_t now = clock_of(CLOCK_MONOTONIC);
	struct least l;

	for (int i = 0; i < TAGS; i++) {
		l.v[i] = m.by_engine[engine][i];
		if (!memory && m.answered[i] > l.v[i])
			l.v[i] = m.answered[i];
	}
	for (size_t i = 0; memory && i < m.n_log; i++)
		if (m.log[i].at_us <= now - OTHERS_MS * 1000 && m.log[i].version > l.v[m.log[i].tag])
			l.v[m.log[i].tag] = m.log[i].version;
	return l;
}

static void check_value(int engine, int key, struct str got, const struct least *l, bool memory)
{
	char text[16];
	struct str word = str_split(&got, ' ');

	snprintf(text, sizeof(text), "k%d", key);
	if (!str_is(word, text))
		violated("another key's value", engine, key, 0, 0, 0);
	for (int i = 0; i < TAGS; i++) {
		int64_t version;
		struct str name;

		if (!has_tag(key, i))
			continue;
		word = str_split(&got, ' ');
		name = str_split(&word, '=');
		while (word.n != 0 && word.p[word.n - 1] == '.')
			word.n--;
		snprintf(text, sizeof(text), "%d", i);
		if (!str_is(name, text) || !str_to_i64(word, &version) || version > m.version[i])
			violated("a value that never was", engine, key, i, 0, 0);
		else if (version < l->v[i])
			violated(memory ? "an old value out of memory" : "an old value", engine, key, i, (int)version, l->v[i]);
	}
}

static void check_absent(int engine, int key, const struct least *l)
{
	int tag = first_tag(key);

	for (int v = l->v[tag]; v <= m.version[tag]; v++)
		if (is_absent(key, v))
			return;
	violated("absent, though it was not", engine, key, tag, 0, l->v[tag]);
}

/* ---- readers ---- */

static struct cache_call call_for(struct arena *in, int engine, int key, const struct cache_tags *tags, struct asked *a)
{
	char name[12];
	struct str part;

	snprintf(name, sizeof(name), "%d", key);
	part = arena_str(in, str_of(name));
	return (struct cache_call){.key = cache_key(caches[engine], in, school, "thing", &part, 1),
				   .tags = tags,
				   .life = {.ttl_s = 20, .soft_s = 15, .swr_s = 10, .sie_s = 60, .negative_s = 10},
				   .fill = ask,
				   .ctx = a};
}

static void read_one(uint64_t *random)
{
	struct arena *mine = arena_new();
	int engine = (int)roll(random, CACHE_ENGINES), key = (int)roll(random, OWN_KEY);
	struct cache_tags tags = tags_of(mine, key);
	struct asked a = {key, unit_random(random)};
	struct cache_call call = call_for(mine, engine, key, &tags, &a);
	struct deadline d = in_ms(roll(random, 10) == 0 ? 1 + roll(random, 10) : 3000);
	struct cache_note note;
	struct least l;
	struct str got;
	enum err e;

	call.life.memory = roll(random, 2) == 0;
	call.ask_source = roll(random, 20) == 0;
	l = least_of(engine, call.life.memory);
	e = cache_read(caches[engine], mine, d, &call, &got, &note);
	m.reads++;
	m.seen_memory += note.level == LEVEL_MEMORY;
	m.seen_redis += note.level == LEVEL_REDIS;
	m.seen_stale += note.state == CACHE_STALE;
	if (e == OK)
		check_value(engine, key, got, &l, call.life.memory);
	else if (e == ERR_NOT_FOUND)
		check_absent(engine, key, &l);
	else if (e != ERR_DB && e != ERR_TIMEOUT && e != ERR_CANCELLED)
		violated(err_name(e), engine, key, 0, 0, 0);
	if (note.refresh && e == OK)
		cache_refresh(caches[engine], mine, in_ms(3000), &call);
	arena_free(mine);
}

struct worker {
	int slot, left;
	uint64_t random;
};
static struct worker reader_of[READERS];

/* Cancelled, it ends, and another goes on in its place. */
static void reader(void *arg)
{
	struct worker *w = arg;

	m.readers[w->slot] = fiber_self();
	while (w->left > 0 && m.violation[0] == '\0' && !fiber_is_cancelled()) {
		w->left--;
		read_one(&w->random);
		pause_of(&w->random, 3);
	}
	m.readers[w->slot] = NULL;
	if (w->left > 0 && m.violation[0] == '\0' && fiber_spawn(loop, "reader", reader, w) == OK)
		return;
	m.working--;
}

/* ---- writers ---- */

static void note_answered(int tag, int version)
{
	if (version > m.answered[tag])
		m.answered[tag] = version;
	if (m.n_log == m.cap_log) {
		m.cap_log = m.cap_log ? 2 * m.cap_log : 256;
		m.log = realloc(m.log, m.cap_log * sizeof(*m.log));
	}
	m.log[m.n_log].at_us = clock_of(CLOCK_MONOTONIC);
	m.log[m.n_log].tag = tag;
	m.log[m.n_log++].version = version;
}

static void note_raised(int engine, unsigned which, const int *versions, enum err e)
{
	m.raises++;
	m.away += e != OK;
	for (int i = 0; i < TAGS; i++) {
		if ((which >> i & 1) == 0)
			continue;
		if (versions[i] > m.by_engine[engine][i])
			m.by_engine[engine][i] = versions[i];
		if (e == OK)
			note_answered(i, versions[i]);
		else if (versions[i] > m.waiting[engine][i])
			m.waiting[engine][i] = versions[i];
	}
}

/* The epochs of the tags as the mutant found them. */
static void keep_epochs(struct arena *in, const struct cache_tags *tags, struct redis_reply *kept)
{
	for (size_t i = 0; i < tags->n; i++)
		if (redis_call(redis[0], in, in_ms(1000),
			       REDIS_ARGS(STR("GET"), link_epoch_key(caches[0], in, school, tags->v[i])), &kept[i]) != OK)
			kept[i].type = REDIS_NIL;
}

static void put_epochs_back(struct arena *in, const struct cache_tags *tags, const struct redis_reply *kept)
{
	struct redis_reply reply;

	for (size_t i = 0; i < tags->n; i++)
		if (kept[i].type == REDIS_STRING)
			IGNORE(redis_call(redis[0], in, in_ms(1000), /* away: the mutant is one for once */
					  REDIS_ARGS(STR("SET"), link_epoch_key(caches[0], in, school, tags->v[i]), kept[i].s),
					  &reply));
}

static void write_one(uint64_t *random)
{
	struct arena *mine = arena_new();
	int engine = (int)roll(random, CACHE_ENGINES);
	unsigned which = 1u << roll(random, OWN_TAG) | (roll(random, 3) == 0 ? 1u << roll(random, OWN_TAG) : 0);
	struct cache_tags tags = {.school = school};
	struct cache_dropped dropped;
	struct redis_reply kept[TAGS];
	int versions[TAGS] = {0};
	char text[12];
	enum err e;

	for (int i = 0; i < TAGS; i++) {
		if ((which >> i & 1) == 0)
			continue;
		snprintf(text, sizeof(text), "%d", i);
		cache_tag(&tags, mine, "tag:", arena_str(mine, str_of(text)));
	}
	if (m.blind)
		keep_epochs(mine, &tags, kept);
	for (int i = 0; i < TAGS; i++)
		if ((which >> i & 1) != 0)
			versions[i] = ++m.version[i]; /* the COMMIT */
	e = roll(random, 3) == 0 ? cache_drop_tags(caches[engine], mine, in_ms(1000), &tags, false, &dropped)
				 : cache_raise(caches[engine], mine, &tags);
	if (m.blind)
		put_epochs_back(mine, &tags, kept);
	note_raised(engine, which, versions, e);
	arena_free(mine);
}

/* A key of its own tag, so that nobody raises between the reading of the truth and the epochs: cache_set takes bytes, not a source. */
static void set_one(uint64_t *random)
{
	struct arena *mine = arena_new();
	int engine = (int)roll(random, CACHE_ENGINES);
	struct cache_tags tags = tags_of(mine, OWN_KEY);
	struct asked a = {OWN_KEY, unit_random(random)};
	struct cache_call call = call_for(mine, engine, OWN_KEY, &tags, &a);
	struct buf value = buf_in(mine);
	struct least l = least_of(engine, false);
	struct cache_note note;
	struct str got;
	bool existed;

	put_value(OWN_KEY, &value);
	if (roll(random, 4) == 0)
		IGNORE(cache_delete(caches[engine], mine, in_ms(1000), call.key, &existed)); /* away: nothing is deleted */
	else
		IGNORE(cache_set(caches[engine], mine, in_ms(1000), call.key, &tags, &call.life, buf_str(&value)));
	if (cache_get(caches[engine], mine, in_ms(1000), call.key, &tags, &got, &note) == OK)
		check_value(engine, OWN_KEY, got, &l, false);
	arena_free(mine);
}

static void writer(void *arg)
{
	struct worker *w = arg;

	while (w->left-- > 0 && m.violation[0] == '\0') {
		if (roll(&w->random, 4) == 0)
			set_one(&w->random);
		else
			write_one(&w->random);
		pause_of(&w->random,
			 link_is_open(caches[0]) ? 60 : 10); /* so seldom that entries live in memory for longer than 100 ms */
	}
	m.working--;
}

/* ---- mischief ---- */

static void evict(uint64_t *random, struct arena *in)
{
	struct redis_reply key, reply;

	for (int64_t n = 1 + roll(random, 3); n > 0; n--)
		if (redis_call(redis[0], in, in_ms(100), REDIS_ARGS(STR("RANDOMKEY")), &key) == OK && key.type == REDIS_STRING)
			IGNORE(redis_call(redis[0], in, in_ms(100), REDIS_ARGS(STR("UNLINK"), key.s),
					  &reply)); /* away: not evicted */
}

static void stand_still(uint64_t *random)
{
	real_redis_freeze(&server);
	pause_of(random, 250);
	real_redis_thaw(&server);
}

static void die(uint64_t *random)
{
	m.restarts++;
	real_redis_kill(&server);
	pause_of(random, 30);
	real_redis_again(&server);
}

static void mischief_one(uint64_t *random, struct arena *in)
{
	int engine = (int)roll(random, CACHE_ENGINES);
	struct cache_dropped dropped;
	struct cache_index_size size;
	struct redis_reply reply;
	int64_t what = roll(random, 100);

	if (what < 40)
		evict(random, in);
	else if (what < 52 && m.readers[what - 40])
		fiber_cancel(m.readers[what - 40]);
	else if (what < 60)
		m.ahead_us += roll(random, 16) * US_PER_S;
	else if (what < 64)
		IGNORE(cache_drop_pattern(caches[engine], in, in_ms(500), STR("thing:*"), false,
					  &dropped)); /* freed or not, nothing is older for it */
	else if (what < 68)
		IGNORE(cache_index_sweep(caches[engine], in, in_ms(500), &size));
	else if (what < 71)
		IGNORE(cache_new_generation(caches[engine], in)); /* away: the journal has it */
	else if (what < 73)
		IGNORE(redis_call(redis[0], in, in_ms(100), REDIS_ARGS(STR("FLUSHDB")), &reply));
	else if (what < 85) /* nobody hears anything for a moment */
		IGNORE(redis_call(redis[0], in, in_ms(100), REDIS_ARGS(STR("CLIENT"), STR("KILL"), STR("TYPE"), STR("PUBSUB")),
				  &reply));
	else if (what < 90)
		stand_still(random);
	else if (what < 92)
		die(random);
}

static void mischief(void *arg)
{
	struct worker *w = arg;
	struct arena *mine = arena_new();

	while (w->left-- > 0 && m.violation[0] == '\0') {
		mischief_one(&w->random, mine);
		arena_clear(mine);
		pause_of(&w->random, 40);
	}
	arena_free(mine);
	m.working--;
}

/* What was in a journal is everybody's as soon as its engine reads Redis again. */
static void watch_journals(void)
{
	for (int i = 0; i < CACHE_ENGINES; i++) {
		if (!link_is_open(caches[i]))
			continue;
		for (int tag = 0; tag < TAGS; tag++) {
			if (m.waiting[i][tag] != 0)
				note_answered(tag, m.waiting[i][tag]);
			m.waiting[i][tag] = 0;
		}
	}
}

static void turn(void)
{
	loop_clock_set(loop, clock_of(CLOCK_MONOTONIC), clock_of(CLOCK_REALTIME) + m.ahead_us);
	loop_turn(loop, 1000);
	watch_journals();
}

static void play(uint64_t seed, int steps, bool blind)
{
	static struct worker writers[WRITERS], spoiler;
	int64_t give_up = clock_of(CLOCK_MONOTONIC) + 90 * US_PER_S;

	free(m.log);
	memset(&m, 0, sizeof(m));
	m.seed = seed;
	m.steps = steps;
	m.blind = blind;
	m.working = READERS + WRITERS + !blind;
	wait_until_up();
	for (int i = 0; i < READERS; i++) {
		reader_of[i] = (struct worker){i, steps, unit_random(&seed)};
		assert_int_equal(fiber_spawn(loop, "reader", reader, &reader_of[i]), OK);
	}
	for (int i = 0; i < WRITERS; i++) {
		writers[i] = (struct worker){i, steps / 4, unit_random(&seed)};
		assert_int_equal(fiber_spawn(loop, "writer", writer, &writers[i]), OK);
	}
	spoiler = (struct worker){0, steps / 6, unit_random(&seed)};
	if (!blind)
		assert_int_equal(fiber_spawn(loop, "mischief", mischief, &spoiler), OK);
	while (m.working > 0 && clock_of(CLOCK_MONOTONIC) < give_up)
		turn();
	if (server.pid == 0)
		real_redis_again(&server);
	print_message("S24_MODEL_SEED=%" PRIu64
		      ": %d reads (%d out of memory, %d out of Redis, %d stale), %d fills, %d raised, %d of them while Redis was "
		      "away, %d deaths of Redis\n",
		      m.seed, m.reads, m.seen_memory, m.seen_redis, m.seen_stale, m.fills, m.raises, m.away, m.restarts);
	assert_int_equal(m.working, 0);
}

static uint64_t number_of(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text ? strtoull(text, NULL, 10) : otherwise;
}

static int steps_of(int most)
{
	return (int)number_of("S24_MODEL_STEPS", (uint64_t)most);
}

static uint64_t a_seed(void)
{
	return number_of("S24_MODEL_SEED", (uint64_t)clock_of(CLOCK_REALTIME));
}

static void nobody_reads_what_is_older_than_he_may_or_is_anothers(void **state)
{
	(void)state;
	play(a_seed(), steps_of(600), false);
	if (m.violation[0] != '\0')
		fail_msg("seed %" PRIu64 ": %s", m.seed, m.violation);
	assert_true(m.seen_memory > 0 && m.seen_redis > 0 && m.raises > 0); /* or it has watched nothing */
}

/* The model can see: where raising does not reach the epochs, which is what a reader that does not check them has, it says so. */
static void readers_that_do_not_check_epochs_are_seen(void **state)
{
	(void)state;
	play(a_seed(), steps_of(600), true);
	assert_true(strstr(m.violation, "an old value") != NULL);
}

static int gone(void **state)
{
	free(m.log);
	m.log = NULL;
	return stale(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(nobody_reads_what_is_older_than_he_may_or_is_anothers, fresh, gone),
		cmocka_unit_test_setup_teardown(readers_that_do_not_check_epochs_are_seen, fresh, gone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
