/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The write buffer's protocol (write-path.md 1-3) as pure C: arguments and replies of common/svc/lua/{put,claim,ack,nack,urge,status,replay,discard}.lua.
 * No I/O: outside calls go through struct buffer_io, so daemons (async), the worker (blocking) and a simulator drive the same code.
 */
#ifndef S24_SVC_BUFFER_H
#define S24_SVC_BUFFER_H

#include "base/arena.h"
#include "base/uuid.h"
#include "io/codec.h"
#include "io/redis.h"
#include "svc/entity.h"

struct buffer_io {
	void *ctx;
	enum err (*eval)(void *ctx, const struct redis_script *script, struct redis_args args, struct arena *arena, struct redis_reply *ret);
	enum err (*call)(void *ctx, struct redis_args args, struct arena *arena, struct redis_reply *ret);
	int64_t (*now_us)(void *ctx);
	void (*pause_ms)(void *ctx, int64_t ms);
	uint64_t (*random)(void *ctx);
};

/* ---- a stored record ---- */
struct buffer_record {
	bool deleted, urgent;
	bool creation;    /* made in the buffer and, as far as its writers knew, not flushed since: so its children have no rows either */
	bool blind;       /* written without a look at the table, which was away: the worker parks it if a living row is there */
	enum codec codec;
	int64_t version;  /* µs */
	int64_t first_ms; /* first unsynced */
	uint32_t size;    /* of the packed row before compression */
	struct uuid school;
	struct str scopes, calls, sealed; /* as stored; sealed is io/codec.h's envelope */
};
MUST_CHECK enum err buffer_record_parse(struct str value, struct buffer_record *ret); /* ERR_CORRUPT */
/* The row of a record: id, school, version and deleted_at filled in. ERR_CORRUPT; ERR_CONFLICT: a layout or a dictionary newer than ours (wait for the deploy). */
MUST_CHECK enum err buffer_record_row(const struct entity *e, struct uuid id, const struct buffer_record *r, struct arena *arena, void **ret_row);

/* ---- PUT ---- */
struct buffer_put; /* in an arena */
struct buffer_put *buffer_put_new(struct arena *arena, struct uuid school, const uint8_t tag[8]) NEVER_NULL;
void buffer_put_idem(struct buffer_put *p, struct str key, int64_t ttl_s, struct str result);
#define BUFFER_ANY INT64_C(-1) /* expectation: whatever is there */
struct put_options {
	int64_t expect; /* version; 0: nothing behind floor; BUFFER_ANY */
	int64_t floor;  /* version of the row that was read, a deleted one's too; 0: none */
	enum codec codec;
	bool urgent, creation, blind;
	const void *old; /* the row that was read, NULL: none; the lists that it stood in show the new one's absence at once */
};
/* A row with deleted_at is a tombstone. Scopes come from the descriptor, those of the old row with them. */
void buffer_put_row(struct buffer_put *p, const struct entity *e, const void *row, struct put_options options);
void buffer_put_event(struct buffer_put *p, const char *domain, struct str envelope);
struct redis_args buffer_put_args(struct buffer_put *p); /* what put.lua gets, for benchmarks and tests */
enum put_outcome { PUT_OK, PUT_SAME, PUT_REPLAY, PUT_CONFLICT, PUT_REFUSED,
		   PUT_UNKNOWN /* a conflict behind a lost answer: perhaps with ourselves, nobody can tell */ };
struct put_result {
	enum put_outcome outcome;
	int64_t version;    /* OK, SAME; CONFLICT: the current one */
	size_t record;      /* CONFLICT, REFUSED: from 0 */
	struct str replay;  /* "<version> <result>" */
};
/* Sends it (ERR_TOO_LARGE: too many rows, events, or scopes of one row); an unknown outcome (ERR_UNCERTAIN, ERR_TIMEOUT of one try) is sent again with the same tag, at most 4 times until give_up_us. */
MUST_CHECK enum err buffer_put_send(const struct buffer_io *io, struct buffer_put *p, struct arena *arena, int64_t give_up_us, struct put_result *ret);

/* ---- the worker's side ---- */
struct claimed {
	struct uuid id;
	int64_t attempts;
	struct str value; /* buffer_record_parse */
};
struct claim_result {
	int64_t reaped, dropped;
	struct claimed *v;
	size_t n;
};
MUST_CHECK enum err buffer_claim(const struct buffer_io *io, const struct entity *e, struct str token, size_t max_records, size_t max_bytes,
				 int64_t lease_ms, int64_t delay_ms, struct arena *arena, struct claim_result *ret);
struct acked {
	struct uuid id;
	int64_t version;
};
MUST_CHECK enum err buffer_ack(const struct buffer_io *io, const struct entity *e, struct str token, const struct acked *v, size_t n,
			       struct arena *arena, int64_t *ret_removed, int64_t *ret_newer);
MUST_CHECK enum err buffer_nack(const struct buffer_io *io, const struct entity *e, struct str token, int64_t backoff_ms, bool count, struct str error,
				bool permanent, const struct acked *v, size_t n, struct arena *arena, int64_t *ret_retried, int64_t *ret_dead);
MUST_CHECK enum err buffer_urge(const struct buffer_io *io, const struct entity *e, const struct uuid *ids, size_t n, struct arena *arena);
struct buffer_status {
	int64_t pending, retry, leased, dead;
	int64_t first_ms[4]; /* heads; 0: empty */
	int64_t last_version;
};
MUST_CHECK enum err buffer_status(const struct buffer_io *io, const struct entity *e, struct arena *arena, struct buffer_status *ret);
MUST_CHECK enum err buffer_replay(const struct buffer_io *io, const struct entity *e, const struct uuid *ids, size_t n, struct arena *arena, int64_t *ret_moved);
MUST_CHECK enum err buffer_discard(const struct buffer_io *io, const struct entity *e, const struct acked *v, size_t n, struct arena *arena, int64_t *ret_removed);

/* A field's canonical text, as in scopes and natural ids; false for types that are no key. */
bool buffer_field_text(const struct field *f, const void *row, struct buf *out);
/* A row's scope of a kind without []: "date+class_id:2026-11-21:<uuid>", behind wb:scope:E: the key. False: one of its fields is not set. */
bool buffer_scope_text(const struct entity *e, const char *kind, const void *row, struct buf *out);
/* Keys, in an arena. */
struct str buffer_key(struct arena *arena, const struct entity *e, struct uuid id);      /* write_buffer:E:id */
struct str buffer_meta_key(struct arena *arena, const struct entity *e, struct uuid id); /* meta:write_buffer:E:id */
struct str buffer_scope_key(struct arena *arena, const struct entity *e, const char *kind, struct str value); /* wb:scope:E:kind:value */
#define BUFFER_HINT "hint:wb" /* channel that wakes the worker */

#endif
