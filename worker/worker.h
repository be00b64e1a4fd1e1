/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker's parts and what they share. The loop's thread has the coordinator (what is due, levels, breaker, durability), the relay of outboxes,
 * the copies of dead letters and the routes; threads claim and flush. Both sides meet on the board, under its lock.
 */
#ifndef S24_WORKER_H
#define S24_WORKER_H

#include "board.h"
#include "io/await.h"
#include "io/redis.h"
#include "services.h"
#include "svc/buffer.h"
#include "svc/service.h"

#define WORKER_LEVELS 16

struct worker_conf {
	bool enabled;
	int64_t parallel_workers, batch_size;
};

/* What the coordinator saw of an entity in Redis. */
struct seen {
	struct buffer_status status;
	int64_t due, overdue;                    /* of pending and retry; leases that have ended count as due */
	int64_t oldest_first_ms;                 /* first unsynced of the oldest record seen waiting; 0: none */
	int64_t retry_peak_ms, retry_peak_at_us; /* the oldest retry that came to the head lately */
	bool paused;
	bool news;              /* look at it now, not when the second is over */
	int64_t flush_until_us; /* claims wait for nothing until then (POST /sync/flush) */
	int64_t not_before_us;  /* after a turn that failed in Redis */
};

/* What a thread posts when it has given a ticket back. */
struct note {
	struct worker *w;
	size_t target;
};

struct worker {
	struct daemon *daemon;
	struct loop *loop;
	const struct worker_conf *conf;
	int64_t interval_s, ttl_s;
	struct flush_target *targets;
	const struct worker_service **services; /* of each target */
	struct seen *seen;
	struct note *notes;
	size_t n;
	struct board board;
	struct threads *threads;
	struct redis_sub *hints;
	struct waitq wake;
	bool awake; /* a wake-up came while nobody waited */
	int64_t full_look_us;
	bool stopping;
	struct fiber *coordinator, *relay, *copier;
	bool buffer_up, pressed;
	int64_t tick_us; /* monotonic time of the last look */
	double clock_difference_s;
	int64_t clock_at_us, durability_at_us, pressure_at_us;
	int64_t relayed, copied_dead;
	bool copy_now;
	double *copied_to; /* of each target: time of death up to which its dead letters have been copied */
	char identity[96]; /* host:pid:start */
};

struct worker *worker_of(const struct daemon *d);
/* News of an entity, or of all (target w->n): the coordinator looks at once. Loop context. */
void worker_wake(struct worker *w, size_t target);
void worker_ticket_done(void *note);                 /* for loop_post: its service has news */
struct buffer_io worker_buffer_io(struct worker *w); /* on fibers, through the daemon's own connections */
SUSPENDS MUST_CHECK enum err worker_redis_now(struct worker *w, struct arena *arena, int64_t *ret_us);
/* By name among what this worker flushes; NULL. */
const struct flush_target *worker_target(const struct worker *w, struct str entity);
SUSPENDS bool worker_pause(struct worker *w, int64_t ms); /* false: stop */

/* ---- service hooks ---- */
extern const struct conf_row worker_conf[];
extern const struct route worker_routes[];
extern const struct entity *const worker_entities[];
extern const struct entity worker_audit_entity;
enum err worker_start(struct daemon *d);
void worker_stop(struct daemon *d);
void worker_metrics(struct daemon *d, struct buf *out);

/* ---- coordinator.c ---- */
SUSPENDS void coordinator_fiber(void *worker);
/* ---- watch.c: durability, memory pressure, clocks ---- */
SUSPENDS void watch_durability(struct worker *w);
SUSPENDS void watch_pressure(struct worker *w);
/* Asks the database for its time: also the breaker's probe. */
SUSPENDS MUST_CHECK enum err watch_clock(struct worker *w);
/* ---- relay.c ---- */
SUSPENDS void relay_fiber(void *worker);
/* ---- dead.c ---- */
SUSPENDS void copier_fiber(void *worker);
/* ---- runs.c ---- */
SUSPENDS void runs_record(struct worker *w, size_t target, const struct finished_run *run);
/* ---- threads.c ---- */
struct threads *threads_start(struct worker *w, const char *redis_url, const char *pg_url, unsigned n);
struct threads *threads_stop(struct threads *t); /* waits for running batches */

#endif
