/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The write buffers of a daemon: a school lives on one of them (write-path.md 9), and how full each is.
 *
 * The name of a school's buffer is in its row, chosen once; it travels in the access token, and between daemons in X-School-Buffer, so nobody
 * looks it up. What belongs to no school is on the first of REDIS_BUFFER_URLS. Each buffer is watched by a fiber of its own, so that one which
 * does not answer delays nothing of the others.
 */
#ifndef S24_SVC_BUFFERS_H
#define S24_SVC_BUFFERS_H

#include "io/redis.h"
#include "svc/req.h"

/* The buffer of the caller's school; the first one before a caller is known. NULL: this daemon has none. */
struct redis *req_buffer(const struct req *req);
/* Its name, also where this daemon has none: rows of the outbox and calls of peers carry it. */
struct str req_buffer_name(const struct req *req);
/* From here on the request is about a school of that buffer. ERR_BUFFER, told and logged, when this daemon does not know it: never another's. */
MUST_CHECK enum err req_use_buffer(struct req *req, struct str name);

/* How full that is. HIGH: writes are urgent and wait for their flush; FULL: they are refused. */
enum pressure { PRESSURE_NONE, PRESSURE_HIGH, PRESSURE_FULL };
enum pressure req_pressure(const struct req *req);

/* Where a new school goes, of n > 0 names: rendezvous, so another name draws only its share, and what is stored moves nowhere. */
const char *buffers_choose(const char *const *names, size_t n, struct uuid school);
/* The same of the configured ones; the daemon need not be open. NULL: there is none. */
const char *buffers_for_school(const struct daemon *d, struct uuid school);

/* ---- for the files of common/svc ---- */
struct buffers;
MUST_CHECK enum err buffers_open(struct daemon *d); /* connects in the background */
MUST_CHECK enum err buffers_watch(struct daemon *d);
void buffers_cancel(struct daemon *d); /* ends the watching */
void buffers_close(struct daemon *d);  /* when no fiber is left */
struct redis_conf buffers_conf(const struct daemon *d, size_t i);
bool buffers_any_up(const struct daemon *d);
/* NULL: no reason not to be ready. */
const char *buffers_not_able(const struct daemon *d);
/* Of those that were looked at; "unknown". */
const char *buffers_durability(const struct daemon *d);
enum pressure buffers_pressure(const struct daemon *d, size_t i);
void buffers_metrics(const struct daemon *d, struct buf *out);
/* What the worker writes under wb:pressure, "high 1763719200000"; NONE when it is no verdict, or of another time than now. */
enum pressure pressure_said(struct str text, int64_t now_ms);

#endif
