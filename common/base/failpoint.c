/* SPDX-License-Identifier: Apache-2.0 */
/* Failpoints: what the environment arms, and what happens when a process comes by. */
#include "base/failpoint.h"

#ifdef S24_FAILPOINTS

#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/uuid.h"

#define POINTS_MAX 32

struct point {
	char name[48];
	enum { ACT_KILL, ACT_SLEEP, ACT_ERR } action;
	int sleep_ms;
	double probability;
	int64_t left; /* -1: no end */
};

static struct {
	pthread_mutex_t lock;
	bool loaded;
	struct point v[POINTS_MAX];
	size_t n;
	uint64_t seed;
} points = {.lock = PTHREAD_MUTEX_INITIALIZER};

static uint64_t next_random(void)
{
	uint64_t z = points.seed += UINT64_C(0x9E3779B97F4A7C15);

	z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
	return z ^ z >> 31;
}

/* A name that is spelt wrong would make a test pass without its fault: the process ends. */
static NORETURN void refuse(struct str what)
{
	fprintf(stderr, "S24_FAILPOINTS: cannot read \"%.*s\"\n", STR_FMT(what));
	abort();
}

static void load_one(struct str text)
{
	struct str rest = text, name = str_split(&rest, '='), action = str_split(&rest, ':');
	struct str probability = str_split(&rest, ':'), count = rest;
	struct point *p = &points.v[points.n];
	char number[32];
	int64_t ms;

	if (points.n == POINTS_MAX || name.n == 0 || name.n >= sizeof(p->name) || probability.n >= sizeof(number))
		refuse(text);
	*p = (struct point){.probability = 1, .left = -1};
	memcpy(p->name, name.p, name.n);
	if (str_is(action, "kill")) {
		p->action = ACT_KILL;
	} else if (str_is(action, "err")) {
		p->action = ACT_ERR;
	} else if (str_has_prefix(action, STR("sleep(")) && action.p[action.n - 1] == ')' &&
		   str_to_i64((struct str){action.p + 6, action.n - 7}, &ms) && ms >= 0 && ms <= 600000) {
		p->action = ACT_SLEEP;
		p->sleep_ms = (int)ms;
	} else {
		refuse(text);
	}
	if (probability.n != 0) {
		memcpy(number, probability.p, probability.n);
		number[probability.n] = '\0';
		p->probability = strtod(number, NULL);
	}
	if (count.n != 0 && !str_to_i64(count, &p->left))
		refuse(text);
	points.n++;
}

static void load(void)
{
	const char *text = getenv("S24_FAILPOINTS"), *seed = getenv("S24_FAILPOINT_SEED");
	struct str rest = str_of(text);

	points.loaded = true;
	if (text == NULL || text[0] == '\0')
		return;
	random_bytes(&points.seed, sizeof(points.seed));
	if (seed != NULL)
		points.seed = strtoull(seed, NULL, 10);
	fprintf(stderr, "failpoints \"%s\", seed %" PRIu64 "\n", text, points.seed);
	while (rest.p != NULL)
		load_one(str_trim(str_split(&rest, ',')));
}

static struct point *find(const char *name)
{
	if (!points.loaded)
		load();
	for (size_t i = 0; i < points.n; i++)
		if (strcmp(points.v[i].name, name) == 0)
			return &points.v[i];
	return NULL;
}

bool failpoint_armed(const char *name)
{
	const struct point *p;
	bool armed;

	pthread_mutex_lock(&points.lock);
	p = find(name);
	armed = p != NULL && p->left != 0;
	pthread_mutex_unlock(&points.lock);
	return armed;
}

bool failpoint_hit(const char *name)
{
	struct point *p, copy;
	bool strikes;

	pthread_mutex_lock(&points.lock);
	p = find(name);
	strikes = p != NULL && p->left != 0 && (double)(next_random() >> 11) / 9007199254740992.0 < p->probability;
	if (strikes) {
		copy = *p;
		if (p->left > 0)
			p->left--;
	}
	pthread_mutex_unlock(&points.lock);
	if (!strikes)
		return false;
	if (copy.action == ACT_KILL)
		raise(SIGKILL);
	if (copy.action == ACT_SLEEP)
		poll(NULL, 0, copy.sleep_ms);
	return copy.action == ACT_ERR;
}

#else
/* A translation unit must not be empty. */
_Static_assert(true, "no failpoints in this build");
#endif
