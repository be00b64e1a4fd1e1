/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Warming: answers of kept routes made before somebody asks for them. A service has a table of rows (service.h, .warms), one each:
 *
 *	{"classes", "/classes", .roles = ROLE_TEACHER | ROLE_STUDENT, .when = WARM_AT_START | WARM_SCHEDULED | WARM_ON_DEMAND},
 *	{"rosters", "/teacher/classes/{id}/students", .roles = ROLE_TEACHER, .when = WARM_SCHEDULED, .each = &SQL_WARM_CLASSES},
 *	{"first list page", "/teacher/homework", .after = &homework_entity, .on = ON_CREATE},
 *
 * A warming is a request that nobody sent, on the very way of one that somebody did: the route's decoding, key, tags, lifetime, single flight and handler. So
 * what it keeps is what the next reader finds, and what is there already, or is being filled, is left alone ("skipped").
 *
 * As whom: no answer of a person is ever made without that person. A row with .roles is refused at start unless its route keeps one answer for a whole school
 * (.vary = "school") and its object rule is about the school or a class of it; it is made once for each of the roles, in each school that somebody has been
 * active in lately, and like any other is given out only to callers whom the route's own rule lets in. A row with .after is made as the caller of the change, whose rule
 * is checked as always: the one person of whom it is known that he looks at the list next, and the only one in whose name anything may be read.
 *
 * Jobs (rows that run by themselves) run once in the fleet: their table is in the cache's Redis, with a lock that has an owner and an end, and a run ends before its lock
 * does. Each next run is a tenth sooner or later than the interval says. After a change the answer is made WARM_AFTER_MS later; one that is due for the
 * same target waits anew, and one whose tags were raised again meanwhile is dropped.
 */
#ifndef S24_SVC_CACHE_WARM_H
#define S24_SVC_CACHE_WARM_H

#include "base/schema.h"
#include "io/pg.h"
#include "svc/entity.h"
#include "svc/role.h"

struct cache_tags;
struct daemon;
struct req;
struct service;
struct warm;

enum { WARM_AT_START = 1, WARM_SCHEDULED = 2, WARM_ON_DEMAND = 4 };
#define WARM_AFTER_MS 100
#define WARM_ROWS_MAX 32
#define WARM_TARGETS_MAX 2000 /* of a run */
#define WARM_SCHOOLS_MAX 200  /* the most lately active */
#define WARM_WAITING_MAX 256  /* after changes, at once */

struct warm_row {
	const char *name; /* NULL ends */
	const char *path; /* below /api/v1, of a kept GET, with its query; {id} stands for an id of .each, or of the changed row */
	unsigned roles;
	unsigned when;
	unsigned interval_s;        /* instead of CACHE_WARM_INTERVAL */
	const struct pg_stmt *each; /* no parameters → a column `id`, in one school's scope */
	const struct entity *after;
	unsigned on;                /* ON_CREATE, ON_UPDATE (service.h) */
	const char *field, *becomes; /* with ON_UPDATE: only when this field becomes that */
};

struct warm_result {
	int64_t warmed, skipped, failed;
};

/* ---- the daemon's ---- */
MUST_CHECK enum err cache_warm_open(struct daemon *d, struct warm **ret); /* NULL without a cache, or without rows */
void cache_warm_cancel(struct warm *w);                                   /* NULL is fine */
struct warm *cache_warm_free(struct warm *w);
/* Every problem of the table, a line each. */
void cache_warm_check(const struct service *s, struct buf *problems);

/* ---- what happens ---- */
void cache_warm_saw(struct req *req); /* somebody of this school is active */
void cache_warm_changed(struct req *req, const struct entity *e, const void *old, const void *row); /* after its tags were raised */
void cache_warm_raised(struct daemon *d, const struct cache_tags *tags);

/* ---- the administration ---- */
#define WARM_IN_FIELDS(F, T)                                                                       \
	F(T, TEXTS, critical_queries, .max = 100, .max_items = WARM_ROWS_MAX)                      \
	F(T, TEXTS, pause, .max = 100, .max_items = WARM_ROWS_MAX)                                 \
	F(T, TEXTS, resume, .max = 100, .max_items = WARM_ROWS_MAX)
SCHEMA_STRUCT(warm_in, WARM_IN_FIELDS);
/* POST /cache/warm {critical_queries?: names of rows, default all with WARM_ON_DEMAND; pause?, resume?: names of jobs}: the caller's school, or
 * all of them for a super_admin, who alone pauses jobs. Data: {warmed, skipped, failed, jobs}. */
SUSPENDS MUST_CHECK enum err cache_warm_answer(struct req *req);
/* The array of jobs, with what Redis knows of their last and next runs. */
SUSPENDS void cache_warm_jobs_put(struct req *req);
size_t cache_warm_jobs(const struct daemon *d);
void cache_warm_metrics(const struct daemon *d, struct buf *out);

/* ---- inside: cache_warm.c, cache_jobs.c, cache_warm_after.c ---- */

struct warm_job {
	const struct warm_row *row;
	int64_t last_ms, next_ms, took_ms; /* real; 0: never. The fleet's, as Redis said last */
	struct warm_result result;
	bool failed, paused;
	struct warm_result total; /* of this process */
	int64_t runs;
};

struct warm_school { /* active lately, not told to Redis yet */
	struct uuid id;
	size_t buffer;
	int64_t seen_us, told_us;
};

struct warm_waiting;
struct warm {
	struct daemon *daemon;
	struct fiber *fiber;
	bool closing;
	struct warm_job jobs[WARM_ROWS_MAX];
	size_t n_jobs;
	struct warm_school seen[64];
	struct warm_waiting *waiting[WARM_WAITING_MAX];
	size_t n_waiting;
	int64_t coalesced, dropped, overflowed; /* after changes */
	struct warm_result after;
};

#define WARM_ID_FIELDS(F, T) F(T, UUID, id)
SCHEMA_STRUCT(warm_id, WARM_ID_FIELDS);

/* One row, in one school (nil: in all that are active). */
SUSPENDS void warm_run(struct warm *w, const struct warm_row *row, struct uuid school, struct deadline d, struct warm_result *ret);
/* One answer as a person or a role; `shared`: the object rule, which knows nobody by that name, is left out. */
enum warm_outcome { WARM_MADE, WARM_SKIPPED, WARM_FAILED };
SUSPENDS enum warm_outcome warm_one(struct daemon *d, struct str target, const struct caller *who, bool shared);
struct str warm_target(const struct warm_row *row, struct uuid id, struct arena *arena);
SUSPENDS void warm_tick(struct warm *w, bool at_start); /* one look at the table, and what is due */
void warm_after_done(struct warm *w);

#endif
