/* SPDX-License-Identifier: Apache-2.0 */
/* Tickets and counts under one lock. */
#include "board.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/timefmt.h"

#define RUN_LEAST_US US_PER_S

void board_init(struct board *b, size_t n, unsigned threads)
{
	pthread_condattr_t attr;

	*b = (struct board){.n = n, .threads = threads, .v = mem_zalloc((n + 1) * sizeof(struct job))};
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_mutex_init(&b->lock, NULL);
	pthread_cond_init(&b->changed, &attr);
	pthread_condattr_destroy(&attr);
}

void board_done(struct board *b)
{
	pthread_cond_destroy(&b->changed);
	pthread_mutex_destroy(&b->lock);
	free(b->v);
	b->v = NULL;
}

void board_offer(struct board *b, size_t number, unsigned tickets, int64_t delay_ms)
{
	struct job *job = &b->v[number];

	pthread_mutex_lock(&b->lock);
	if (tickets > b->threads)
		tickets = b->threads;
	job->tickets = tickets > job->running ? tickets - job->running : 0;
	job->delay_ms = delay_ms;
	if (job->tickets > 0)
		pthread_cond_broadcast(&b->changed);
	pthread_mutex_unlock(&b->lock);
}

void board_stop(struct board *b)
{
	pthread_mutex_lock(&b->lock);
	b->stop = true;
	pthread_cond_broadcast(&b->changed);
	pthread_mutex_unlock(&b->lock);
}

bool board_stopping(struct board *b)
{
	bool stop;

	pthread_mutex_lock(&b->lock);
	stop = b->stop;
	pthread_mutex_unlock(&b->lock);
	return stop;
}

/* In turn, so that one job with a large backlog does not keep the others waiting. */
static struct job *next_ticket(struct board *b)
{
	for (size_t i = 0; i < b->n; i++) {
		struct job *job = &b->v[(b->next + i) % b->n];

		if (job->tickets == 0 || b->breakers[job->database].open)
			continue;
		b->next = (b->next + i + 1) % b->n;
		return job;
	}
	return NULL;
}

bool board_take(struct board *b, size_t *ret_job, enum database *ret_database, int64_t *ret_delay_ms, int64_t now_us)
{
	struct job *job = NULL;

	pthread_mutex_lock(&b->lock);
	while (!b->stop && (job = next_ticket(b)) == NULL)
		pthread_cond_wait(&b->changed, &b->lock);
	if (!b->stop) {
		job->tickets--;
		job->running++;
		if (job->run_started_us == 0)
			job->run_started_us = now_us;
		*ret_job = (size_t)(job - b->v);
		*ret_database = job->database;
		*ret_delay_ms = job->delay_ms;
	}
	pthread_mutex_unlock(&b->lock);
	return job != NULL;
}

void board_give(struct board *b, size_t number, const struct flush_counts *counts, bool buffer_failed, int64_t now_us)
{
	struct job *job = &b->v[number];

	pthread_mutex_lock(&b->lock);
	job->running--;
	job->run_ended_us = now_us;
	job->buffer_failed = job->buffer_failed || buffer_failed;
	flush_counts_add(&job->run, counts);
	flush_counts_add(&job->total, counts);
	if (counts->error[0] != '\0')
		memcpy(job->last_error, counts->error, sizeof(job->last_error));
	if (counts->away)
		breaker_trip(&b->breakers[job->database], clock_mono_us());
	pthread_mutex_unlock(&b->lock);
}

void board_pause(struct board *b, int64_t ms)
{
	int64_t end_us = clock_mono_us() + ms * US_PER_MS;
	struct timespec end = {.tv_sec = end_us / US_PER_S, .tv_nsec = end_us % US_PER_S * 1000};

	pthread_mutex_lock(&b->lock);
	while (!b->stop && clock_mono_us() < end_us)
		IGNORE(pthread_cond_timedwait(&b->changed, &b->lock, &end)); /* the clock decides */
	pthread_mutex_unlock(&b->lock);
}

bool board_run_finished(struct board *b, size_t number, int64_t now_us, struct finished_run *ret)
{
	struct job *job = &b->v[number];
	bool finished;

	pthread_mutex_lock(&b->lock);
	finished = job->run_started_us != 0 && job->running == 0 && job->tickets == 0 &&
		   now_us - job->run_started_us >= RUN_LEAST_US;
	if (finished) {
		*ret = (struct finished_run){job->run, job->run_started_us, job->run_ended_us};
		finished = job->run.claimed > 0 || job->run.errors > 0;
		if (finished) {
			job->run_count++;
			job->run_us += job->run_ended_us - job->run_started_us;
		}
		job->run = (struct flush_counts){0};
		job->run_started_us = job->run_ended_us = 0;
	}
	pthread_mutex_unlock(&b->lock);
	return finished;
}

void board_wrote(struct board *b, int64_t took_us)
{
	pthread_mutex_lock(&b->lock);
	us_times_add(&b->writes, took_us);
	pthread_mutex_unlock(&b->lock);
}

struct us_times board_writes(struct board *b)
{
	struct us_times t;

	pthread_mutex_lock(&b->lock);
	t = b->writes;
	pthread_mutex_unlock(&b->lock);
	return t;
}

struct job board_look(struct board *b, size_t number)
{
	struct job copy;

	pthread_mutex_lock(&b->lock);
	copy = b->v[number];
	pthread_mutex_unlock(&b->lock);
	return copy;
}

bool board_failed_once(struct board *b, size_t number)
{
	bool failed;

	pthread_mutex_lock(&b->lock);
	failed = b->v[number].buffer_failed;
	b->v[number].buffer_failed = false;
	pthread_mutex_unlock(&b->lock);
	return failed;
}

bool board_is_open(struct board *b, enum database database)
{
	bool open;

	pthread_mutex_lock(&b->lock);
	open = b->breakers[database].open;
	pthread_mutex_unlock(&b->lock);
	return open;
}

int64_t board_opened(struct board *b, enum database database)
{
	int64_t opened;

	pthread_mutex_lock(&b->lock);
	opened = (int64_t)b->breakers[database].opened;
	pthread_mutex_unlock(&b->lock);
	return opened;
}

bool board_wants_probe(struct board *b, enum database database, int64_t now_us)
{
	struct breaker *breaker = &b->breakers[database];
	bool wants;

	pthread_mutex_lock(&b->lock);
	wants = breaker_wants_probe(breaker, now_us);
	if (wants)
		breaker->probe_at_us = now_us + BREAKER_PROBE_US; /* the others need not ask meanwhile */
	pthread_mutex_unlock(&b->lock);
	return wants;
}

void board_probed(struct board *b, enum database database, bool well, int64_t now_us)
{
	pthread_mutex_lock(&b->lock);
	breaker_probed(&b->breakers[database], well, now_us);
	pthread_cond_broadcast(&b->changed);
	pthread_mutex_unlock(&b->lock);
}
