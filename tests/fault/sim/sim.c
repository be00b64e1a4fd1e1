/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulator's program: sim [--seed N] [--documents N] [--steps N] [--world N] [--mutants]
 * Worlds of sixteen documents, steps for each document. One line says what happened; a violation ends it with exit code 1 and tells how the
 * document came to it. --world runs that one world alone.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sim.h"

struct options {
	uint64_t seed, documents, steps, world;
	bool mutants, one;
};

// clang-format off
static const struct mutant mutants[] = {
	{"ack_without_comparison", "ack", "if version <= database then", "if true then", false, false},
	{"no_guard", NULL, NULL, NULL, true, false},
	{"reaped_stays_in_retry", "ack", "< #ids then", "< 0 then", false, false},
	{"claim_takes_unread", "claim", "drop_first(set, taken)", "drop_first(set, taken + 1)", false, false},
	{"no_marker", "ack", "call('EXPIRE', meta, MARKER_S)", "call('DEL', meta)", false, false},
	{"leased_made_pending", "put", "redis.call('ZREM', 'wb:dlq:' .. r.entity, r.id) == 0",
	 "redis.call('ZREM', 'wb:dlq:' .. r.entity, r.id) == 0 and not redis.call('ZSCORE', 'wb:lease:' .. r.entity, r.id)", false, false},
	{"scopes_not_united", "put", "local list = r.old_scopes", "local list = ''", false, false},
	{"calls_forgotten", "put", "earlier = calls:sub(1, EARLIER * CALL_SIZE)", "earlier = ''", false, false},
	{"deleted_not_known", "put", "expect == 0 and version > floor",
	 "expect == 0 and version > floor and not (old and old:byte(2) % 2 == 1 or redis.call('HGET', 'meta:' .. key, 'deleted') == '1')",
	 false, false},
	{"old_scopes_forgotten", NULL, NULL, NULL, false, true},
};
// clang-format on

static uint64_t world_seed(uint64_t seed, uint64_t world)
{
	return (seed + 1) * UINT64_C(0xd1342543de82ef95) ^ (world + 1) * UINT64_C(0x2545f4914f6cdd1d);
}

static void tell(const struct world *w, uint64_t seed, uint64_t world)
{
	const struct doc *d = &w->docs[w->failed_doc];
	size_t n = d->n_events < EVENTS ? d->n_events : EVENTS;

	printf("violation seed=%" PRIu64 " world=%" PRIu64 " document=%zu (%s %s): %s\n", seed, world, w->failed_doc,
	       sim_entities[d->kind].name, d->text, w->why);
	for (size_t i = d->n_events - n; i < d->n_events; i++) {
		const struct event *e = &d->events[i % EVENTS];

		printf("  %12" PRId64 " us  %s %d  %-14s version %" PRId64 " write %zu\n", e->at_us - INT64_C(1790000000000000),
		       e->actor < WRITERS ? "writer" : "worker", e->actor, e->what, e->version, e->write);
	}
}

/* True: every invariant held. */
static bool run_worlds(const struct options *o, const struct mutant *mutant, struct scripts *scripts, struct counts *counts,
		       char why[200])
{
	uint64_t n = (o->documents + DOCS - 1) / DOCS;
	bool well = true;

	for (uint64_t i = o->one ? o->world : 0; well && i < (o->one ? o->world + 1 : n); i++) {
		static struct world w;

		world_new(&w, world_seed(o->seed, i), scripts, mutant, counts);
		well = world_run(&w, DOCS * o->steps);
		counts->documents += DOCS;
		if (!well && !mutant)
			tell(&w, o->seed, i);
		memcpy(why, w.why, sizeof(w.why));
		world_free(&w);
	}
	return well;
}

static int run_mutants(const struct options *o, struct scripts *scripts)
{
	size_t detected = 0;

	for (size_t i = 0; i < ARRAY_LEN(mutants); i++) {
		struct counts counts = {0};
		char why[200];
		bool well;

		if (mutants[i].script)
			scripts_patch(scripts, mutants[i].script, mutants[i].from, mutants[i].to);
		well = run_worlds(o, &mutants[i], scripts, &counts, why);
		scripts_patch(scripts, NULL, NULL, NULL);
		detected += !well;
		printf("mutant=%s detected=%s documents=%" PRIu64 " steps=%" PRIu64 " by=\"%s\"\n", mutants[i].name,
		       well ? "no" : "yes", counts.documents, counts.steps, why);
	}
	printf("run=SIM seed=%" PRIu64 " mutants=%zu detected=%zu\n", o->seed, ARRAY_LEN(mutants), detected);
	return detected == ARRAY_LEN(mutants) ? 0 : 1;
}

static void print_line(const struct options *o, const struct counts *c, double seconds)
{
	printf("run=SIM seed=%" PRIu64 " secs=%.1f documents=%" PRIu64 " steps=%" PRIu64 " calls=%" PRIu64 " acked=%" PRIu64
	       " unknown=%" PRIu64 " rejected=%" PRIu64 " conflicts=%" PRIu64 " same=%" PRIu64 " replays=%" PRIu64
	       " faults{crash=%" PRIu64 ",stall=%" PRIu64 ",lost=%" PRIu64 ",late=%" PRIu64 ",outage=%" PRIu64 ",clock=%" PRIu64
	       "}=%" PRIu64,
	       o->seed, seconds, c->documents, c->steps, c->calls, c->acked, c->unknown, c->refused, c->conflicts, c->same,
	       c->replays, c->crashes, c->stalls, c->lost_replies, c->late, c->outages, c->clock_steps,
	       c->crashes + c->stalls + c->lost_replies + c->outages + c->clock_steps);
	printf(" reaped=%" PRIu64 " applied=%" PRIu64 " repeated=%" PRIu64 " superseded=%" PRIu64 " dead=%" PRIu64
	       " revived=%" PRIu64 " replayed=%" PRIu64 " lost=%" PRIu64 " duplicated=%" PRIu64 " regressed=%" PRIu64
	       " invented=%" PRIu64 " broken=%" PRIu64 "\n",
	       c->reaped, c->applied, c->repeated, c->superseded, c->dead, c->revived, c->replayed, c->lost, c->duplicated,
	       c->regressed, c->invented, c->broken);
}

static bool parse(int argc, char **argv, struct options *o)
{
	struct {
		const char *name;
		uint64_t *to;
	} const numbers[] = {
		{"--seed", &o->seed}, {"--documents", &o->documents}, {"--steps", &o->steps}, {"--world", &o->world}};

	for (int i = 1; i < argc; i++) {
		size_t k = 0;
		char *end;

		if (strcmp(argv[i], "--mutants") == 0) {
			o->mutants = true;
			continue;
		}
		while (k < ARRAY_LEN(numbers) && strcmp(argv[i], numbers[k].name) != 0)
			k++;
		if (k == ARRAY_LEN(numbers) || ++i == argc)
			return false;
		*numbers[k].to = strtoull(argv[i], &end, 10);
		o->one = o->one || k == 3;
		if (*end != '\0')
			return false;
	}
	return o->documents > 0 && o->steps > 0 && o->steps <= 1000;
}

int main(int argc, char **argv)
{
	struct options o = {.seed = (uint64_t)time(NULL), .documents = 20000, .steps = 200};
	struct counts counts = {0};
	struct scripts *scripts;
	struct timespec from, to;
	char why[200];
	int code;

	if (!parse(argc, argv, &o)) {
		fprintf(stderr, "usage: %s [--seed N] [--documents N] [--steps N (at most 1000)] [--world N] [--mutants]\n",
			argv[0]);
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	scripts = scripts_new();
	if (o.mutants) {
		code = run_mutants(&o, scripts);
	} else {
		clock_gettime(CLOCK_MONOTONIC, &from);
		code = run_worlds(&o, NULL, scripts, &counts, why) ? 0 : 1;
		clock_gettime(CLOCK_MONOTONIC, &to);
		print_line(&o, &counts, (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9);
	}
	scripts_free(scripts);
	return code;
}
