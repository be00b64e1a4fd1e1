/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies and answers of /sync/…, and their handlers. */
#ifndef S24_WORKER_ROUTES_H
#define S24_WORKER_ROUTES_H

#include "svc/req.h"

/* clang-format off */
#define FLUSH_FIELDS(F, T) F(T, TEXT, entity, .max = 64, .flags = BLANK_NULL) F(T, TEXT, reason, .min = 1, .max = 1000, .flags = REQUIRED)
SCHEMA_STRUCT(flush_in, FLUSH_FIELDS);
#define PAUSE_FIELDS(F, T) F(T, TEXT, entity, .max = 64, .flags = BLANK_NULL) F(T, TEXT, reason, .min = 1, .max = 1000, .flags = REQUIRED)
SCHEMA_STRUCT(pause_in, PAUSE_FIELDS);
#define RUNS_IN_FIELDS(F, T) F(T, INT, limit, .min = 1, .max = 1000)
SCHEMA_STRUCT(runs_in, RUNS_IN_FIELDS);
#define DEAD_LIST_FIELDS(F, T) F(T, INT, limit, .min = 1, .max = 200) F(T, TEXT, buffer, .max = 64, .flags = BLANK_NULL)
SCHEMA_STRUCT(dead_list_in, DEAD_LIST_FIELDS);
#define REPLAY_FIELDS(F, T)                                                                        \
	F(T, UUIDS, ids, .max_items = 1000, .flags = REQUIRED)                                     \
	F(T, TEXT, reason, .min = 1, .max = 1000, .flags = REQUIRED) F(T, TEXT, buffer, .max = 64, .flags = BLANK_NULL)
SCHEMA_STRUCT(replay_in, REPLAY_FIELDS);
#define DEAD_VERSION_FIELDS(F, T) F(T, UUID, id, .flags = REQUIRED) F(T, INT, version, .min = 0, .max = INT64_MAX, .flags = REQUIRED)
SCHEMA_STRUCT(dead_version, DEAD_VERSION_FIELDS);
#define DISCARD_FIELDS(F, T)                                                                       \
	F(T, LIST, records, .sub = &dead_version_schema, .max_items = 1000, .flags = REQUIRED)     \
	F(T, TEXT, reason, .min = 1, .max = 1000, .flags = REQUIRED) F(T, TEXT, buffer, .max = 64, .flags = BLANK_NULL)
SCHEMA_STRUCT(discard_in, DISCARD_FIELDS);

#define SYNC_ENTITY_FIELDS(F, T)                                                                   \
	F(T, TEXT, entity) F(T, TEXT, service) F(T, TEXT, buffer) F(T, INT, level) F(T, INT, pending) F(T, INT, due) F(T, INT, retry) \
	F(T, INT, leased) F(T, INT, dead) F(T, FLOAT, oldest_age_seconds) F(T, FLOAT, rows_per_second) F(T, INT, applied)             \
	F(T, INT, superseded) F(T, BOOL, paused) F(T, TEXT, breaker) F(T, TEXT, durability) F(T, TEXT, last_error)
SCHEMA_STRUCT(sync_entity, SYNC_ENTITY_FIELDS);
#define SYNC_BUFFER_FIELDS(F, T)                                                                   \
	F(T, TEXT, buffer) F(T, BOOL, up) F(T, TEXT, durability) F(T, TEXT, pressure) F(T, INT, backlog) F(T, INT, used_bytes)        \
	F(T, INT, most_bytes) F(T, FLOAT, clock_difference_seconds) F(T, TIME, as_of)
SCHEMA_STRUCT(sync_buffer, SYNC_BUFFER_FIELDS);
/* Left by a flush; `remaining` is missing where the buffer does not say. */
#define FLUSHED_FIELDS(F, T) F(T, TEXT, entity) F(T, TEXT, buffer) F(T, INT, remaining) F(T, BOOL, paused)
SCHEMA_STRUCT(flushed, FLUSHED_FIELDS);
#define DEAD_LETTER_FIELDS(F, T)                                                                   \
	F(T, UUID, id) F(T, TEXT, buffer) F(T, UUID, school_id) F(T, INT, version) F(T, BOOL, deleted) F(T, TEXT, error) F(T, INT, attempts)            \
	F(T, TIME, first_at) F(T, TIME, died_at) F(T, JSON, row)
SCHEMA_STRUCT(dead_letter, DEAD_LETTER_FIELDS);
#define RUN_FIELDS(F, T)                                                                           \
	F(T, UUID, id) F(T, TEXT, worker) F(T, TIME, started_at) F(T, TIME, finished_at) F(T, TEXT, entity) F(T, INT, applied)       \
	F(T, INT, superseded) F(T, INT, retried) F(T, INT, dead) F(T, INT, errors) F(T, INT, bytes_freed) F(T, JSON, detail)
SCHEMA_STRUCT(run_out, RUN_FIELDS);
/* clang-format on */

SUSPENDS enum err sync_status(struct req *req);
SUSPENDS enum err sync_flush(struct req *req);
SUSPENDS enum err sync_pause(struct req *req);
SUSPENDS enum err sync_resume(struct req *req);
SUSPENDS enum err sync_runs(struct req *req);
SUSPENDS enum err dead_list(struct req *req);
SUSPENDS enum err dead_replay(struct req *req);
SUSPENDS enum err dead_discard(struct req *req);

/* Queues of an entity in a buffer; an empty name stands for all. None: there is no such. */
struct queues {
	struct queue **v;
	size_t n;
};
struct queues sync_queues(struct req *req, struct str entity, struct str buffer);
/* The record of what an operator did, as the last deed of a handler: the answer is set. */
SUSPENDS MUST_CHECK enum err sync_audit(struct req *req, const char *action, const char *entity, struct str reason,
					struct str values_json);

#endif
