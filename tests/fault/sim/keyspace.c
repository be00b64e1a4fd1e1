/* SPDX-License-Identifier: Apache-2.0 */
/* The small Redis: keys, members, expiry, and the commands that the buffer's scripts use. */
#include "keyspace.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/str.h"
#include "base/timefmt.h"

#define BUCKETS 4096
#define REPLY_MOST 2048

enum type { STRING, HASH, ZSET, STREAM };

struct member {
	char *name, *value;
	size_t n_name, n_value;
	double score;
};

struct key {
	struct key *next;
	char *name;
	size_t n_name;
	enum type type;
	struct buf text;
	struct member *v; /* a sorted set's are in order */
	size_t n, cap;
	int64_t expires_us; /* 0: never */
};

struct keyspace {
	struct key *buckets[BUCKETS];
	int64_t now_us;
	struct redis_reply items[REPLY_MOST];
	char numbers[4][40];
};

static void broken(const char *what, struct str s)
{
	fprintf(stderr, "the small Redis does not know %s %.*s\n", what, STR_FMT(s));
	abort();
}

static char *copy_of(struct str s)
{
	char *p = mem_alloc(s.n + 1);

	if (s.n != 0)
		memcpy(p, s.p, s.n);
	p[s.n] = '\0';
	return p;
}

static void key_free(struct key *k)
{
	for (size_t i = 0; i < k->n; i++) {
		free(k->v[i].name);
		free(k->v[i].value);
	}
	free(k->v);
	free(k->name);
	buf_done(&k->text);
	free(k);
}

struct keyspace *keyspace_new(void)
{
	return mem_zalloc(sizeof(struct keyspace));
}

void keyspace_free(struct keyspace *ks)
{
	for (size_t i = 0; i < BUCKETS; i++) {
		for (struct key *k = ks->buckets[i], *next; k; k = next) {
			next = k->next;
			key_free(k);
		}
	}
	free(ks);
}

void keyspace_clock(struct keyspace *ks, int64_t now_us)
{
	ks->now_us = now_us;
}

static struct key **place_of(struct keyspace *ks, struct str name)
{
	struct key **at = &ks->buckets[str_hash(name, 7) % BUCKETS];

	for (; *at; at = &(*at)->next) {
		struct key *k = *at;

		if (k->n_name != name.n || memcmp(k->name, name.p, name.n) != 0)
			continue;
		if (k->expires_us == 0 || k->expires_us > ks->now_us)
			break;
		*at = k->next;
		key_free(k);
		return place_of(ks, name);
	}
	return at;
}

static struct key *find(struct keyspace *ks, struct str name)
{
	return *place_of(ks, name);
}

static struct key *find_or_make(struct keyspace *ks, struct str name, enum type type)
{
	struct key **at = place_of(ks, name), *k = *at;

	if (!k) {
		k = mem_zalloc(sizeof(*k));
		k->name = copy_of(name);
		k->n_name = name.n;
		k->type = type;
		*at = k;
	}
	if (k->type != type)
		broken("that type of", name);
	return k;
}

static bool drop(struct keyspace *ks, struct str name)
{
	struct key **at = place_of(ks, name), *k = *at;

	if (!k)
		return false;
	*at = k->next;
	key_free(k);
	return true;
}

static size_t member_index(const struct key *k, struct str name)
{
	size_t i = 0;

	while (k && i < k->n && (k->v[i].n_name != name.n || memcmp(k->v[i].name, name.p, name.n) != 0))
		i++;
	return i;
}

static struct member *member_of(const struct key *k, struct str name)
{
	size_t i = member_index(k, name);

	return k && i < k->n ? &k->v[i] : NULL;
}

static struct member *insert(struct key *k, size_t at, struct str name)
{
	if (k->n == k->cap) {
		k->cap = k->cap ? 2 * k->cap : 8;
		k->v = mem_realloc(k->v, k->cap * sizeof(*k->v));
	}
	memmove(k->v + at + 1, k->v + at, (k->n - at) * sizeof(*k->v));
	k->n++;
	k->v[at] = (struct member){.name = copy_of(name), .n_name = name.n};
	return &k->v[at];
}

static bool take(struct keyspace *ks, struct str key, struct str name)
{
	struct key *k = find(ks, key);
	size_t i = member_index(k, name);

	if (!k || i == k->n)
		return false;
	free(k->v[i].name);
	free(k->v[i].value);
	k->n--;
	memmove(k->v + i, k->v + i + 1, (k->n - i) * sizeof(*k->v));
	if (k->n == 0)
		drop(ks, key);
	return true;
}

static void place(struct key *k, struct str name, double score)
{
	size_t at = k->n;

	while (at > 0 && (k->v[at - 1].score > score || (k->v[at - 1].score == score && strcmp(k->v[at - 1].name, name.p) > 0)))
		at--;
	insert(k, at, name)->score = score;
}

/* ---- replies ---- */

static struct redis_reply integer(int64_t i)
{
	return (struct redis_reply){.type = REDIS_INTEGER, .i = i};
}

static struct redis_reply text(const char *p, size_t n)
{
	return (struct redis_reply){.type = REDIS_STRING, .s = {p, n}};
}

static struct redis_reply number_text(struct keyspace *ks, size_t slot, double v)
{
	int n = snprintf(ks->numbers[slot], sizeof(ks->numbers[slot]), "%.17g", v);

	return text(ks->numbers[slot], (size_t)n);
}

static struct redis_reply nothing(void)
{
	return (struct redis_reply){.type = REDIS_NIL};
}

static struct redis_reply done(void)
{
	return (struct redis_reply){.type = REDIS_STATUS, .s = STR("OK")};
}

static struct redis_reply list(struct keyspace *ks, size_t n)
{
	return (struct redis_reply){.type = REDIS_ARRAY, .v = ks->items, .n = n};
}

static double real(struct str s)
{
	char b[64];

	snprintf(b, sizeof(b), "%.*s", STR_FMT(s));
	return str_is(s, "-inf") ? -HUGE_VAL : strtod(b, NULL);
}

static int64_t whole(struct str s)
{
	return (int64_t)real(s);
}

/* ---- strings ---- */

static struct redis_reply cmd_get(struct keyspace *ks, const struct str *a, size_t n)
{
	struct key *k = find(ks, a[1]);

	(void)n;
	if (k && k->type != STRING)
		broken("GET of", a[1]);
	return k ? text(k->text.p, k->text.n) : nothing();
}

static struct redis_reply cmd_mget(struct keyspace *ks, const struct str *a, size_t n)
{
	if (n - 1 > REPLY_MOST)
		broken("so many keys of", a[0]);
	for (size_t i = 1; i < n; i++)
		ks->items[i - 1] = cmd_get(ks, a + i - 1, 2);
	return list(ks, n - 1);
}

static struct redis_reply cmd_set(struct keyspace *ks, const struct str *a, size_t n)
{
	struct key *k;

	drop(ks, a[1]);
	k = find_or_make(ks, a[1], STRING);
	buf_puts(&k->text, a[2]);
	if (n == 5)
		k->expires_us = ks->now_us + whole(a[4]) * (str_is(a[3], "EX") ? US_PER_S : US_PER_MS);
	return done();
}

static struct redis_reply cmd_setrange(struct keyspace *ks, const struct str *a, size_t n)
{
	struct key *k = find(ks, a[1]);
	size_t at = (size_t)whole(a[2]);

	(void)n;
	if (!k || at + a[3].n > k->text.n)
		broken("SETRANGE behind the end of", a[1]);
	else
		memcpy(k->text.p + at, a[3].p, a[3].n);
	return done();
}

static struct redis_reply cmd_getrange(struct keyspace *ks, const struct str *a, size_t n)
{
	struct key *k = find(ks, a[1]);
	size_t from = (size_t)whole(a[2]), to = (size_t)whole(a[3]) + 1;

	(void)n;
	if (!k || from >= k->text.n)
		return text("", 0);
	return text(k->text.p + from, (to < k->text.n ? to : k->text.n) - from);
}

static struct redis_reply cmd_del(struct keyspace *ks, const struct str *a, size_t n)
{
	int64_t dropped = 0;

	for (size_t i = 1; i < n; i++)
		dropped += drop(ks, a[i]);
	return integer(dropped);
}

static struct redis_reply cmd_exists(struct keyspace *ks, const struct str *a, size_t n)
{
	(void)n;
	return integer(find(ks, a[1]) != NULL);
}

static struct redis_reply cmd_expire(struct keyspace *ks, const struct str *a, size_t n)
{
	struct key *k = find(ks, a[1]);

	(void)n;
	if (k)
		k->expires_us = ks->now_us + whole(a[2]) * US_PER_S;
	return integer(k != NULL);
}

static struct redis_reply cmd_time(struct keyspace *ks, const struct str *a, size_t n)
{
	(void)a;
	(void)n;
	ks->items[0] = number_text(ks, 0, floor((double)ks->now_us / 1e6));
	ks->items[1] = number_text(ks, 1, (double)(ks->now_us % US_PER_S));
	return list(ks, 2);
}

/* ---- hashes ---- */

static bool field_set(struct key *k, struct str name, struct str value)
{
	struct member *m = member_of(k, name);
	bool made = m == NULL;

	if (made)
		m = insert(k, k->n, name);
	free(m->value);
	m->value = copy_of(value);
	m->n_value = value.n;
	return made;
}

static struct redis_reply cmd_hset(struct keyspace *ks, const struct str *a, size_t n)
{
	struct key *k = find_or_make(ks, a[1], HASH);
	int64_t made = 0;

	for (size_t i = 2; i + 1 < n; i += 2)
		made += field_set(k, a[i], a[i + 1]);
	return integer(made);
}

static struct redis_reply field_reply(struct key *k, struct str name)
{
	struct member *m = member_of(k, name);

	return m ? text(m->value, m->n_value) : nothing();
}

static struct redis_reply cmd_hget(struct keyspace *ks, const struct str *a, size_t n)
{
	(void)n;
	return field_reply(find(ks, a[1]), a[2]);
}

static struct redis_reply cmd_hmget(struct keyspace *ks, const struct str *a, size_t n)
{
	for (size_t i = 2; i < n; i++)
		ks->items[i - 2] = field_reply(find(ks, a[1]), a[i]);
	return list(ks, n - 2);
}

static struct redis_reply cmd_remove(struct keyspace *ks, const struct str *a, size_t n)
{
	int64_t taken = 0;

	for (size_t i = 2; i < n; i++)
		taken += take(ks, a[1], a[i]);
	return integer(taken);
}

static struct redis_reply cmd_hincrby(struct keyspace *ks, const struct str *a, size_t n)
{
	struct key *k = find_or_make(ks, a[1], HASH);
	struct member *m = member_of(k, a[2]);
	int64_t v = whole(a[3]) + (m ? whole((struct str){m->value, m->n_value}) : 0);

	(void)n;
	field_set(k, a[2], number_text(ks, 0, (double)v).s);
	return integer(v);
}

/* ---- sorted sets ---- */

static struct redis_reply cmd_zadd(struct keyspace *ks, const struct str *a, size_t n)
{
	bool lower = str_is(a[2], "LT");
	int64_t made = 0;

	for (size_t i = lower ? 3 : 2; i + 1 < n; i += 2) {
		double score = real(a[i]);
		struct member *m = member_of(find(ks, a[1]), a[i + 1]);

		if (m && (m->score == score || (lower && m->score < score)))
			continue;
		made += m == NULL;
		if (m)
			take(ks, a[1], a[i + 1]);
		place(find_or_make(ks, a[1], ZSET), a[i + 1], score);
	}
	return integer(made);
}

static struct redis_reply cmd_zscore(struct keyspace *ks, const struct str *a, size_t n)
{
	struct member *m = member_of(find(ks, a[1]), a[2]);

	(void)n;
	return m ? number_text(ks, 0, m->score) : nothing();
}

static struct redis_reply cmd_zcard(struct keyspace *ks, const struct str *a, size_t n)
{
	(void)n;
	return integer((int64_t)keyspace_size(ks, a[1]));
}

static struct redis_reply members(struct keyspace *ks, struct str key, double most, size_t limit)
{
	struct key *k = find(ks, key);
	size_t n = 0;

	for (; k && n < k->n && n < limit && n < REPLY_MOST && k->v[n].score <= most; n++)
		ks->items[n] = text(k->v[n].name, k->v[n].n_name);
	return list(ks, n);
}

static struct redis_reply cmd_zrange(struct keyspace *ks, const struct str *a, size_t n)
{
	(void)n;
	return members(ks, a[1], HUGE_VAL, (size_t)whole(a[3]) + 1);
}

static struct redis_reply cmd_zrangebyscore(struct keyspace *ks, const struct str *a, size_t n)
{
	if (n != 7 || !str_is(a[2], "-inf"))
		broken("this form of", a[0]);
	return members(ks, a[1], real(a[3]), (size_t)whole(a[6]));
}

static struct redis_reply cmd_zremrangebyrank(struct keyspace *ks, const struct str *a, size_t n)
{
	size_t count = (size_t)whole(a[3]) + 1;

	(void)n;
	if (whole(a[2]) != 0 || whole(a[3]) < 0)
		broken("this form of", a[0]);
	for (size_t i = 0; i < count; i++) {
		struct key *k = find(ks, a[1]);

		if (!k)
			return integer((int64_t)i);
		take(ks, a[1], (struct str){k->v[0].name, k->v[0].n_name});
	}
	return integer((int64_t)count);
}

/* A stream counts what was added: that is all anyone here asks. */
static struct redis_reply cmd_xadd(struct keyspace *ks, const struct str *a, size_t n)
{
	(void)n;
	find_or_make(ks, a[1], STREAM);
	return text("0-1", 3);
}

static const struct {
	const char *name;
	size_t least;
	struct redis_reply (*fn)(struct keyspace *ks, const struct str *a, size_t n);
} commands[] = {
	{"GET", 2, cmd_get},
	{"SET", 3, cmd_set},
	{"MGET", 2, cmd_mget},
	{"DEL", 2, cmd_del},
	{"TIME", 1, cmd_time},
	{"HSET", 4, cmd_hset},
	{"HGET", 3, cmd_hget},
	{"HMGET", 3, cmd_hmget},
	{"HDEL", 3, cmd_remove},
	{"ZADD", 4, cmd_zadd},
	{"ZREM", 3, cmd_remove},
	{"ZSCORE", 3, cmd_zscore},
	{"ZCARD", 2, cmd_zcard},
	{"ZRANGE", 4, cmd_zrange},
	{"EXISTS", 2, cmd_exists},
	{"EXPIRE", 3, cmd_expire},
	{"HINCRBY", 4, cmd_hincrby},
	{"XADD", 4, cmd_xadd},
	{"SETRANGE", 4, cmd_setrange},
	{"GETRANGE", 4, cmd_getrange},
	{"ZRANGEBYSCORE", 4, cmd_zrangebyscore},
	{"ZREMRANGEBYRANK", 4, cmd_zremrangebyrank},
};

struct redis_reply keyspace_command(struct keyspace *ks, const struct str *a, size_t n)
{
	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		if (!str_is(a[0], commands[i].name))
			continue;
		if (n < commands[i].least)
			broken("so few arguments of", a[0]);
		return commands[i].fn(ks, a, n);
	}
	broken("the command", a[0]);
	return nothing();
}

/* ---- for the checks ---- */

bool keyspace_string(struct keyspace *ks, struct str key, struct str *ret)
{
	struct key *k = find(ks, key);

	*ret = k ? buf_str(&k->text) : (struct str){0};
	return k != NULL;
}

bool keyspace_score(struct keyspace *ks, struct str key, struct str member, double *ret)
{
	struct member *m = member_of(find(ks, key), member);

	*ret = m ? m->score : 0;
	return m != NULL;
}

bool keyspace_field(struct keyspace *ks, struct str key, struct str field, struct str *ret)
{
	struct member *m = member_of(find(ks, key), field);

	*ret = m ? (struct str){m->value, m->n_value} : (struct str){0};
	return m != NULL;
}

size_t keyspace_size(struct keyspace *ks, struct str key)
{
	struct key *k = find(ks, key);

	return k ? k->n : 0;
}

struct str keyspace_member(struct keyspace *ks, struct str key, size_t i)
{
	struct key *k = find(ks, key);

	return (struct str){k->v[i].name, k->v[i].n_name};
}

size_t keyspace_prefix(struct keyspace *ks, struct str prefix, void (*fn)(void *ctx, struct str key), void *ctx)
{
	size_t n = 0;

	for (size_t i = 0; i < BUCKETS; i++) {
		for (struct key *k = ks->buckets[i]; k; k = k->next) {
			struct str name = {k->name, k->n_name};

			if (!str_has_prefix(name, prefix) || (k->expires_us != 0 && k->expires_us <= ks->now_us))
				continue;
			n++;
			if (fn)
				fn(ctx, name);
		}
	}
	return n;
}
