/* SPDX-License-Identifier: Apache-2.0 */
/* A value that is made anew on a thread of its own while its owner goes on with the old one. */
#include "io/afresh.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/timefmt.h"

struct afresh_job {
	const struct afresh_kind *kind;
	void *arg, *made;
	atomic_bool is_done;
	atomic_int users; /* the owner and the thread: the last one frees */
};

static void leave(struct afresh_job *job)
{
	if (atomic_fetch_sub_explicit(&job->users, 1, memory_order_acq_rel) != 1)
		return;
	if (job->made)
		job->kind->drop(job->made);
	job->kind->release(job->arg);
	free(job);
}

static void *thread_main(void *arg)
{
	struct afresh_job *job = arg;

	job->made = job->kind->make(job->arg);
	atomic_store_explicit(&job->is_done, true, memory_order_release);
	leave(job);
	return NULL;
}

void *afresh_take(struct afresh *a)
{
	void *made;

	if (!a->job || !atomic_load_explicit(&a->job->is_done, memory_order_acquire))
		return NULL;
	made = a->job->made;
	a->job->made = NULL;
	leave(a->job);
	a->job = NULL;
	return made;
}

bool afresh_is_due(const struct afresh *a, int64_t now_us)
{
	return !a->job && now_us - a->begun_us >= US_PER_S;
}

void afresh_begin(struct afresh *a, const struct afresh_kind *kind, void *arg, int64_t now_us)
{
	struct afresh_job *job = mem_zalloc(sizeof(*job));
	sigset_t every, before;
	pthread_t thread;
	int failed;

	job->kind = kind;
	job->arg = arg;
	atomic_init(&job->users, 2);
	a->begun_us = now_us;
	sigfillset(&every);
	pthread_sigmask(SIG_SETMASK, &every, &before); /* signals are the loop's */
	failed = pthread_create(&thread, NULL, thread_main, job);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (failed) { /* the old value goes on, and a second later it is tried again */
		atomic_store_explicit(&job->users, 1, memory_order_relaxed);
		leave(job);
		return;
	}
	pthread_detach(thread);
	a->job = job;
}

void afresh_done(struct afresh *a)
{
	if (a->job)
		leave(a->job);
	a->job = NULL;
}
