/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the coordinator and the threads meet: tickets to flush a job's records, and what came of them. The only shared state, all of it under one lock.
 *
 * A job is an entity in a buffer. A ticket is taken by one thread, which claims and flushes until nothing is due or a second has passed. A run is what happened to a job from its
 * first ticket until none was left or running; it has a length of a second at least, so that single urgent writes do not make a run each.
 */
#ifndef S24_WORKER_BOARD_H
#define S24_WORKER_BOARD_H

#include <pthread.h>

#include "cache/cache_count.h"
#include "flush.h"
#include "verdict.h"

/* Each has its own breaker: a job goes on while another database is away. */
enum database { DATABASE_ROWS, DATABASE_DOCUMENTS, DATABASES };

/* An entity in a buffer. */
struct job {
	enum database database; /* where it writes to; set before the first thread starts */
	unsigned tickets, running;
	int64_t delay_ms;
	struct flush_counts run, total;       /* of the run that goes on; of this process */
	int64_t run_started_us, run_ended_us; /* real time; 0: none */
	int64_t run_count, run_us;            /* of this process */
	bool buffer_failed;                   /* a turn could not claim */
	char last_error[96];
};

struct board {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct job *v;
	size_t n, next;
	unsigned threads;
	bool stop;
	struct breaker breakers[DATABASES];
	struct us_times writes; /* of transactions in PostgreSQL, from BEGIN to the answer of COMMIT */
};

struct finished_run {
	struct flush_counts counts;
	int64_t started_us, ended_us;
};

void board_init(struct board *b, size_t n, unsigned threads);
void board_done(struct board *b);
/* At most so many tickets are out for a job; tickets that nobody has taken are replaced. */
void board_offer(struct board *b, size_t job, unsigned tickets, int64_t delay_ms);
void board_stop(struct board *b); /* everybody who waits returns, tickets are void */
bool board_stopping(struct board *b);
/* Waits for a ticket. False: stop. */
bool board_take(struct board *b, size_t *ret_job, enum database *ret_database, int64_t *ret_delay_ms, int64_t now_us);
void board_give(struct board *b, size_t job, const struct flush_counts *counts, bool buffer_failed, int64_t now_us);
/* Sleeps without the lock held by anybody; sooner when the worker stops. */
void board_pause(struct board *b, int64_t ms);
bool board_run_finished(struct board *b, size_t job, int64_t now_us, struct finished_run *ret);
struct job board_look(struct board *b, size_t job);
void board_wrote(struct board *b, int64_t took_us);
struct us_times board_writes(struct board *b);
bool board_failed_once(struct board *b, size_t job);           /* has a turn failed in Redis since the last question */
bool board_is_open(struct board *b, enum database database);   /* away: nothing is claimed */
int64_t board_opened(struct board *b, enum database database); /* how often it was found away */
/* True for one of those who ask: it probes the database and says what came of it. */
bool board_wants_probe(struct board *b, enum database database, int64_t now_us);
void board_probed(struct board *b, enum database database, bool well, int64_t now_us);

#endif
