/* SPDX-License-Identifier: Apache-2.0 */
/* What a platform administrator may ask of the worker. */
#include "routes.h"

#include "svc/req.h"
#include "worker.h"

SCHEMA_TABLE(flush_in, FLUSH_FIELDS);
SCHEMA_TABLE(pause_in, PAUSE_FIELDS);
SCHEMA_TABLE(dead_list_in, DEAD_LIST_FIELDS);
SCHEMA_TABLE(replay_in, REPLAY_FIELDS);
SCHEMA_TABLE(dead_version, DEAD_VERSION_FIELDS);
SCHEMA_TABLE(discard_in, DISCARD_FIELDS);
SCHEMA_TABLE(runs_in, RUNS_IN_FIELDS);
SCHEMA_TABLE(sync_entity, SYNC_ENTITY_FIELDS);
SCHEMA_TABLE(sync_buffer, SYNC_BUFFER_FIELDS);
SCHEMA_TABLE(flushed, FLUSHED_FIELDS);
SCHEMA_TABLE(dead_letter, DEAD_LETTER_FIELDS);
SCHEMA_TABLE(run_out, RUN_FIELDS);

/* The role is the whole rule: what is in the buffer belongs to no school alone. */
SUSPENDS static enum err platform(struct req *req)
{
	return req->who.role == ROLE_SUPER_ADMIN ? OK : ERR_FORBIDDEN;
}

/* clang-format off */
#define PLATFORM ROLE_SUPER_ADMIN, MAY_CHECK(platform)
const struct route worker_routes[] = {
	{HTTP_GET, "/sync/status", PLATFORM, .out = &sync_entity_schema, .handler = sync_status,
		.summary = "What waits, is in flight and is dead, for each entity"},
	{HTTP_POST, "/sync/flush", PLATFORM, .in = &flush_in_schema, .handler = sync_flush,
		.summary = "Flush now; answers when the backlog is drained, or with what remains"},
	{HTTP_POST, "/sync/pause", PLATFORM, .in = &pause_in_schema, .handler = sync_pause, .summary = "Claim no more records of an entity, or of all"},
	{HTTP_POST, "/sync/resume", PLATFORM, .in = &pause_in_schema, .handler = sync_resume, .summary = "Claim them again"},
	{HTTP_GET, "/sync/runs", PLATFORM, .query = &runs_in_schema, .out = &run_out_schema, .handler = sync_runs, .summary = "The newest runs"},
	{HTTP_GET, "/sync/dead-letter/{entity}", PLATFORM, .query = &dead_list_in_schema, .out = &dead_letter_schema, .handler = dead_list,
		.summary = "Records that could not be written, with the reason"},
	{HTTP_POST, "/sync/dead-letter/{entity}/replay", PLATFORM, .in = &replay_in_schema, .handler = dead_replay, .summary = "Try them again"},
	{HTTP_POST, "/sync/dead-letter/{entity}/discard", PLATFORM, .in = &discard_in_schema, .handler = dead_discard,
		.summary = "Remove them for good, each at the version seen"},
	ROUTE_END,
};
/* clang-format on */
