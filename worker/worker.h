/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker's parts and what they share. The loop's thread has a coordinator for each buffer (what is due, levels, breaker, durability), the relay
 * of outboxes, the copies of dead letters and the routes; threads claim and flush. Both sides meet on the board, under its lock.
 *
 * A target is an entity and how it is written; a source is a buffer; a queue is a target's records in a source, and has a job on the board. One
 * buffer is one source, without a case of its own.
 *
 * To add a part that runs beside the coordinators: a function here and a line in the table of worker.c. To add a kind of database: a line in enum
 * database (board.h), its probe in coordinator.c, its calls in threads.c.
 */
#ifndef S24_WORKER_H
#define S24_WORKER_H

#include "board.h"
#include "flush.h"
#include "io/await.h"
#include "io/redis.h"
#include "services.h"
#include "svc/buffer.h"
#include "svc/buffers.h"
#include "svc/service.h"

struct worker_conf {
	bool enabled;
	int64_t parallel_workers, batch_size;
	int64_t verify_keys_per_s, audit_check_s; /* 0: never */
	int64_t keep_runs_s, keep_outbox_s, keep_idempotency_s, keep_dead_letters_s;
};

struct worker;
struct source;

/* Records of one entity in one buffer, and what the coordinator saw of them. */
struct queue {
	struct worker *w;
	struct source *source;
	const struct flush_target *target;
	size_t index; /* in w->queues, and its job on the board */
	struct buffer_status status;
	int64_t due, overdue;                    /* of pending and retry; leases that have ended count as due */
	int64_t oldest_first_ms;                 /* first unsynced of the oldest record seen waiting; 0: none */
	int64_t retry_peak_ms, retry_peak_at_us; /* the oldest retry that came to the head lately */
	bool late;                               /* its oldest record has waited for three quarters of the interval */
	bool paused;
	bool news;              /* look at it now, not when the second is over */
	int64_t flush_until_us; /* claims wait for nothing until then (POST /sync/flush) */
	int64_t not_before_us;  /* after a turn that failed in Redis */
	double copied_to;       /* time of death up to which its dead letters have been copied */
};

/* A buffer that this worker drains. Each has its own coordinator, so that one that is away keeps no other waiting. */
struct source {
	struct worker *w;
	const char *name, *url;
	size_t index;
	struct redis *redis;
	struct queue *queues; /* one for each target, in their order */
	struct redis_sub *hints;
	struct waitq wake;
	bool awake; /* a wake-up came while nobody waited */
	bool up;
	enum pressure pressure;
	int64_t backlog, used_bytes, most_bytes;
	const char *durability; /* the last verdict, "" before it */
	double clock_difference_s;
	int64_t tick_us, full_look_us; /* monotonic time of the last look, and of the last at everything */
	int64_t clock_at_us, durability_at_us;
};

struct worker {
	struct daemon *daemon;
	struct loop *loop;
	const struct worker_conf *conf;
	int64_t interval_s, ttl_s;
	struct flush_target *targets;
	const struct worker_service **services; /* of each target */
	size_t n_targets;
	struct source *sources;
	size_t n_sources;
	struct queue *queues; /* source by source */
	size_t n_queues;
	struct board board;
	struct threads *threads;
	struct part_run *parts;
	struct duties *duties;
	bool stopping;
	int64_t relayed, copied_dead;
	bool copy_now;
	struct forgetting *forgetting; /* forget.c; NULL: without a cache */
	char identity[96];             /* host:pid:start */
};

struct worker *worker_of(const struct daemon *d);
/* By name among what this worker flushes; NULL. */
const struct flush_target *worker_target(const struct worker *w, struct str entity);
const char *worker_service_name(const struct worker *w, const struct flush_target *t);
SUSPENDS bool worker_pause(struct worker *w, int64_t ms); /* false: stop */

/* ---- service hooks ---- */
extern const struct conf_row worker_conf[];
extern const struct route worker_routes[];
extern const struct entity *const worker_entities[];
extern const struct entity worker_audit_entity;
enum err worker_start(struct daemon *d);
void worker_stop(struct daemon *d);
void worker_metrics(struct daemon *d, struct buf *out);

/* ---- source.c ---- */
MUST_CHECK enum err source_open(struct source *s, struct worker *w, size_t index); /* listens for hints */
void source_done(struct source *s);                                   /* after hints are closed and its fiber has ended */
struct source *source_named(const struct worker *w, struct str name); /* NULL */
/* News of a target, or of all (NULL): the coordinator looks at once. Loop context. */
void source_wake(struct source *s, const struct flush_target *t);
void worker_wake(struct worker *w);           /* all of all */
void queue_ticket_done(void *queue);          /* for loop_post: its service has news */
struct buffer_io source_io(struct source *s); /* on fibers, through the daemon's own connections */
SUSPENDS MUST_CHECK enum err source_now(struct source *s, struct arena *arena, int64_t *ret_us);

/* ---- coordinator.c ---- */
SUSPENDS void coordinator_fiber(void *source);
/* ---- watch.c: durability, pressure, clocks ---- */
SUSPENDS void watch_durability(struct source *s);
SUSPENDS void watch_pressure(struct source *s);
/* How far the buffer's clock is from the database's. */
SUSPENDS void watch_clock(struct source *s);
SUSPENDS MUST_CHECK enum err watch_database(struct worker *w,
					    int64_t *ret_us); /* asks it for its time: also the breaker's probe */
double watch_clock_difference_s(const struct worker *w);      /* the worst */
/* ---- relay.c, dead.c: parts, each on a fiber until worker_pause says stop ---- */
SUSPENDS void relay_run(struct worker *w);
SUSPENDS void copier_run(struct worker *w);
/* ---- runs.c ---- */
SUSPENDS void runs_record(struct queue *q, const struct finished_run *run);
/* ---- forget.c: what was cached of rows that a flush has changed ---- */
struct forgetting *forget_open(struct worker *w); /* NULL without a cache */
/* From any thread, without waiting: the cached answers that show these rows' state are dropped soon. */
void forget_rows(struct worker *w, const struct flush_target *t, const struct flushed_row *rows, size_t n);
void forget_done(struct forgetting *f); /* after its fiber has ended */
/* ---- threads.c ---- */
struct threads *threads_start(struct worker *w, const char *pg_url, unsigned n);
struct threads *threads_stop(struct threads *t); /* waits for running batches */

#endif
