/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A deterministic simulator of the write path. One world has a few hot documents, writers, workers, the real scripts over a small Redis, a guarded
 * table and a clock. Each outside call of the real protocol code is a place where anybody else may go on, or where the caller may die.
 *
 * The model knows which call the buffer has executed at which version, so it judges every single step, not only the end.
 */
#ifndef S24_FAULT_SIM_H
#define S24_FAULT_SIM_H

#include "base/schema.h"
#include "coro.h"
#include "flush.h"
#include "keyspace.h"

#define SIM_FIELDS(F, T) F(T, INT, value) F(T, INT, sum) F(T, UUID, list_id) F(T, UUID, parent_id)
ROW_STRUCT(sim_doc, SIM_FIELDS);

enum kind { PARENT, CHILD, ENTRY, KINDS };

enum { DOCS = 16, WRITERS = 5, WORKERS = 3, ACTORS = WRITERS + WORKERS, LISTS = 4, CALL_WRITES = 8, EVENTS = 24, LATE = 16, WRITES_MOST = 20000, DOCS_MOST = 8000 };

enum outcome { OPEN, ACKED, UNKNOWN, NOT_DONE };

struct write { /* one record of one call; its index is the value that the row carries */
	size_t doc;
	int64_t base;    /* version it expects; 0: no live row */
	int64_t floor;   /* version that it has seen, alive or not */
	int64_t version; /* at which the buffer executed it; 0: not */
	int64_t sum;
	unsigned list, old_list; /* old_list: of the row that it changes, as a set */
	bool deleted, poison;
	enum outcome outcome;
};

struct event {
	int64_t at_us, version;
	const char *what;
	int actor;
	size_t write;
};

struct row_there {
	bool there, deleted;
	int64_t version, sum;
	size_t write;
	int locked_by; /* 0: nobody, else the actor's number plus one */
};

struct doc {
	enum kind kind;
	struct uuid id;
	char text[UUID_TEXT + 1];
	size_t parent; /* of a child */
	size_t last;   /* write executed last; 0: none */
	int64_t acked; /* highest acknowledged version */
	int64_t sum;   /* as it must be after `last` */
	size_t recent[8]; /* the last executed writes, newest first */
	unsigned lists;  /* named while unsynced */
	uint64_t n_acked, n_unknown; /* counters' adds */
	bool counter, settled;  /* settled: an entry that is in the table, and nothing changes it any more */
	struct row_there row;
	struct event events[EVENTS];
	size_t n_events;
};

struct change_of_row {
	size_t doc, write;
	int64_t version, sum;
	bool deleted;
};

struct tx {
	struct change_of_row v[64];
	size_t n;
	bool open, committing;
	const void *copied[1024];
	size_t n_copied;
	struct pg_fail fail;
	bool stale; /* prepared before a migration: until a new connection */
};

struct world;
struct actor {
	struct world *w;
	int number;
	bool worker, alive;
	struct coro *coro;
	struct arena *arena;
	int64_t wake_us, deadline_us;
	struct buffer_io io;
	struct flush_db db;
	struct tx tx;
	char token[32];
	uint64_t lives, call;
	int64_t stale_us; /* when a migration last went by under its connection */
	size_t writes[CALL_WRITES], n_writes; /* of the call on its way */
};

struct counts {
	uint64_t documents, steps, calls, acked, unknown, conflicts, refused, same, replays;
	uint64_t crashes, stalls, lost_replies, late, outages, clock_steps, reaped, applied, repeated, superseded, dead, revived, replayed;
	uint64_t lost, duplicated, regressed, invented, broken;
};

struct mutant {
	const char *name, *script, *from, *to;
	bool no_guard, no_old; /* no_old: PUT is not told which row was read */
};

/* A request whose sender has given it up, and which arrives all the same. */
struct late {
	struct arena *arena;
	const struct redis_script *script; /* NULL: none */
	struct redis_args args;
	int64_t at_us;
	int actor;
	size_t writes[CALL_WRITES], n_writes;
};

struct world {
	uint64_t random;
	int64_t now_us, redis_offset_us, redis_away_until_us, redis_full_until_us, db_away_until_us;
	bool quiet;    /* nothing goes wrong any more, nobody starts anything */
	bool reviving; /* the dead get a new version */
	struct keyspace *ks;
	struct scripts *scripts;
	const struct mutant *mutant;
	struct flush_target targets[KINDS];
	struct actor actors[ACTORS];
	struct late late[LATE];
	struct doc *docs;
	size_t n_docs;
	struct write *writes;
	size_t n_writes;
	struct arena *check_arena;
	uint64_t n_calls;
	struct counts *counts;
	unsigned check_every, since_check;
	bool failed;
	size_t failed_doc;
	char why[200];
};

extern const struct entity sim_entities[KINDS];
extern const struct uuid sim_school;

/* sim_world.c */
uint64_t chance(struct world *w);
static inline bool one_in(struct world *w, uint64_t n)
{
	return !w->quiet && chance(w) % n == 0;
}
void world_new(struct world *w, uint64_t seed, struct scripts *scripts, const struct mutant *mutant, struct counts *counts);
void world_free(struct world *w);
bool world_run(struct world *w, uint64_t steps); /* false: an invariant is broken */
size_t doc_add(struct world *w, enum kind kind);
struct doc *doc_of(struct world *w, struct uuid id);
void note(struct world *w, size_t doc, int actor, const char *what, int64_t version, size_t write);
void wrong(struct world *w, uint64_t *count, size_t doc, const char *format, ...) PRINTF(4, 5);

/* sim_actor.c: what an actor's outside calls do */
void actor_init(struct actor *a, struct world *w, int number);
void actor_start(struct actor *a);
void actor_die(struct actor *a);
void actor_yield(struct actor *a);
void actor_sleep(struct actor *a, int64_t ms);
void late_arrive(struct world *w); /* requests whose time has come */

/* sim_writer.c, sim_worker.c, sim_table.c */
void writer_main(void *arg);
enum err writer_revive(struct actor *a, size_t doc);
void worker_main(void *arg);
void table_db(struct actor *a);
void table_abandon(struct actor *a);

/* sim_check.c */
void executed(struct world *w, int actor, const size_t *writes, size_t n, int64_t version, const bool *was_buffered);
void conflicted(struct world *w, size_t write);
void check_everything(struct world *w);
void check_end(struct world *w);
bool record_of(struct world *w, const struct doc *d, struct str *ret);

#endif
