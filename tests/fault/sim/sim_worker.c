/* SPDX-License-Identifier: Apache-2.0 */
/* A worker: which entity may go, then the real turn. */
#include "base/str.h"
#include "plan.h"
#include "sim.h"

#define DELAY_MS 3000
#define LEASE_MS 10000

static int64_t due(struct actor *a, const char *set, enum kind kind, int64_t before_ms)
{
	struct str key = str_of(arena_printf(a->arena, "wb:%s:%s", set, sim_entities[kind].name));
	size_t n = keyspace_size(a->w->ks, key), count = 0;
	double score;

	for (size_t i = 0; i < n; i++)
		count += keyspace_score(a->w->ks, key, keyspace_member(a->w->ks, key, i), &score) && score <= (double)before_ms;
	return (int64_t)count;
}

/* A leased record whose lease is over is due too, or nobody would look. */
static void look(struct actor *a, struct plan_row rows[KINDS])
{
	int64_t now_ms = (a->w->now_us + a->w->redis_offset_us) / 1000;

	for (enum kind k = 0; k < KINDS; k++) {
		rows[k] = (struct plan_row){.service = a->w, .level = sim_entities[k].level};
		rows[k].due = due(a, "lease", k, now_ms) + due(a, "retry", k, now_ms) + due(a, "pending", k, now_ms - DELAY_MS);
		rows[k].overdue = due(a, "retry", k, now_ms - PLAN_OVERDUE_MS) +
				  due(a, "pending", k, now_ms - DELAY_MS - PLAN_OVERDUE_MS) +
				  due(a, "lease", k, now_ms - PLAN_OVERDUE_MS);
	}
	plan_levels(rows, KINDS);
}

void worker_main(void *arg)
{
	struct actor *a = arg;
	struct world *w = a->w;
	struct flusher f = {.io = &a->io, .db = &a->db, .token = str_of(a->token)};
	struct plan_row rows[KINDS];

	for (;;) {
		struct flush_counts counts = {0};
		bool did = false;

		arena_clear(a->arena);
		look(a, rows);
		f.limits = (struct flush_limits){.records = 1 + chance(w) % 12,
						 .bytes = chance(w) % 4 == 0 ? 500 : 4u << 20,
						 .lease_ms = LEASE_MS,
						 .patience_ms = LEASE_MS * 3 / 4};
		for (enum kind k = 0; k < KINDS && !did; k++) {
			if (!rows[k].claim)
				continue;
			did = flush_turn(&f, &w->targets[k], DELAY_MS, a->arena, &counts) == OK && !counts.away;
		}
		if (counts.dropped > 0)
			wrong(w, &w->counts->broken, 0, "I9: CLAIM met an id without a record");
		w->counts->reaped += (uint64_t)counts.reaped;
		w->counts->applied += (uint64_t)counts.applied;
		w->counts->repeated += (uint64_t)counts.same;
		w->counts->superseded += (uint64_t)counts.superseded;
		w->counts->dead += (uint64_t)counts.dead;
		actor_sleep(a, did ? 1 : counts.away ? 5000 : 50 + (int64_t)(chance(w) % 1000));
	}
}
