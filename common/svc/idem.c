/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Idempotency keys (write-path.md 3): `SET idem:…:claim <fingerprint> NX EX 60` keeps twins apart; the answer is stored by the write itself.
 *
 * Stored result: "<fingerprint> <status> <body>" behind the version that PUT adds. Routes that commit in PostgreSQL (ROUTE_THROUGH) keep theirs in the
 * schema's table, in the transaction; so do those that go past an absent buffer (ROUTE_FULL_STATE).
 */
#include "svc/idem.h"

#include <string.h>

#include "base/uuid.h"
#include "io/crypto.h"
#include "svc/bases.h"
#include "svc/buffers.h"
#include "svc/degraded.h"
#include "svc/service.h"
#include "svc_sql.h"

#define KEY_MAX 255
#define CLAIM_S "60"

struct idem {
	struct str key;   /* behind "idem:" */
	struct str claim; /* the claim's whole Redis key */
	char fingerprint[2 * 16 + 1];
	bool claimed;
};

struct str idem_key(const struct req *req)
{
	return req->idem->key;
}

const char *idem_fingerprint(const struct req *req)
{
	return req->idem->fingerprint;
}

struct str idem_result(struct req *req)
{
	struct buf b = buf_in(req->arena);

	buf_printf(&b, "%s %d ", req->idem->fingerprint, req->status != 0 ? req->status : 200);
	buf_puts(&b, buf_str(&req->body));
	return buf_str(&b);
}

struct uuid idem_row_id(const struct req *req, unsigned n)
{
	struct arena *scratch = arena_new();
	struct str name = str_of(arena_printf(scratch, "%.*s\x1f%u", STR_FMT(req->idem->key), n));
	struct uuid id = uuid_v5(req->who.school_id, name);

	arena_free(scratch);
	return id;
}

/* A quoted string of RFC 8941, or the bare token that many clients send. */
static bool key_text(struct str header, struct str *ret)
{
	if (header.n >= 2 && header.p[0] == '"' && header.p[header.n - 1] == '"')
		header = (struct str){header.p + 1, header.n - 2};
	if (header.n == 0 || header.n > KEY_MAX)
		return false;
	for (size_t i = 0; i < header.n; i++) {
		if (header.p[i] < 0x21 || header.p[i] > 0x7e || header.p[i] == '"' || header.p[i] == '\\')
			return false;
	}
	*ret = header;
	return true;
}

static void fingerprint(struct req *req, struct idem *idem)
{
	struct sha256_stream *s = sha256_new();
	struct buf form = buf_in(req->arena);
	uint8_t hash[32];

	sha256_add(s, req->x->target);
	if (req->x->body.n != 0) {
		sha256_add(s, req->x->body);
	} else if (req->in) { /* a multipart body has another boundary each time: its fields count, and the files' contents */
		json_encode(req->route->in, req->in, ~0u, &form);
		sha256_add(s, buf_str(&form));
	}
	for (size_t i = 0; i < req->n_files; i++) {
		sha256_add(s, req->files[i].file_name);
		sha256_add(s, (struct str){(const char *)req->files[i].file.sha256, 32});
	}
	sha256_end(s, hash);
	hex_text(hash, 16, idem->fingerprint);
}

static struct idem *idem_new(struct req *req, struct str key)
{
	struct idem *idem = arena_zalloc(req->arena, sizeof(*idem));
	struct buf b = buf_in(req->arena), name = buf_in(req->arena);
	uint8_t hash[32];
	char hex[33];

	buf_printf(&b, "%s %s\x1f%.*s", http_method_name(req->route->method), req->route->path, STR_FMT(key));
	sha256(buf_str(&b), hash);
	hex_text(hash, 16, hex);
	buf_printf(&name, "%s:", daemon_service(req->daemon)->name);
	buf_put_uuid(&name, req->who.school_id);
	buf_putc(&name, ':');
	buf_put_uuid(&name, req->who.user_id);
	buf_printf(&name, ":%s", hex);
	idem->key = buf_str(&name);
	idem->claim = str_of(arena_printf(req->arena, "idem:%.*s:claim", STR_FMT(idem->key)));
	fingerprint(req, idem);
	return idem;
}

static enum err take_stored(struct req *req, struct str print, int64_t status, int64_t version, struct str body)
{
	if (!str_is(print, req->idem->fingerprint))
		return req_fail(req, ERR_KEY_REUSED, "This Idempotency-Key was used for another request");
	req->status = (int)status;
	req->version = version > 0 ? version : -1;
	req->body = (struct buf){.arena = req->arena};
	buf_puts(&req->body, body);
	req->sync = version > 0 ? SYNC_PENDING : SYNC_NONE;
	req->replayed = true;
	req_header(req, "Idempotency-Replayed", "true");
	return OK;
}

/* "<version> <fingerprint> <status> <body>" */
enum err idem_replay(struct req *req, struct str stored)
{
	struct str version = str_split(&stored, ' '), print = str_split(&stored, ' '), status = str_split(&stored, ' ');
	int64_t v, s;

	if (!stored.p || !str_to_i64(version, &v) || !str_to_i64(status, &s))
		return ERR_CORRUPT;
	return take_stored(req, print, s, v, stored);
}

#define STORED_FIELDS(F, T) F(T, TEXT, fingerprint) F(T, TEXT, answer) F(T, INT, status) F(T, INT, version)
SCHEMA_STRUCT(idem_stored, STORED_FIELDS);
SCHEMA_TABLE(idem_stored, STORED_FIELDS);

enum err idem_replay_table(struct req *req)
{
	struct idem_stored row = {0};
	enum err e = db_query_one(req, &SQL_IDEM_GET, PG_PARAMS(PG_TEXT(req->idem->key)), &idem_stored_schema, &row);

	if (e == ERR_NOT_FOUND)
		return OK;
	if (e != OK)
		return e;
	/* It is in the database, so nothing is to be synced; the row's present version may be another one. */
	return take_stored(req, row.fingerprint, row.status, 0, row.answer);
}

SUSPENDS static enum err claim(struct req *req)
{
	struct idem *idem = req->idem;
	struct redis *buffer = req_buffer(req);
	struct str print = str_of(idem->fingerprint);
	struct redis_op *get = redis_start(
		buffer, REDIS_ARGS(STR("GET"), str_of(arena_printf(req->arena, "idem:%.*s", STR_FMT(idem->key)))));
	struct redis_op *set = redis_start(
		buffer, REDIS_ARGS(STR("SET"), idem->claim, print, STR("NX"), STR("GET"), STR("EX"), STR(CLAIM_S)));
	struct deadline d = deadline_sooner(req->deadline, deadline_in(daemon_loop(req->daemon), BUFFER_TRY_MS));
	/* Was anything written past this buffer lately? Then the answer may be in the table. */
	struct redis_op *word = (req->route->flags & ROUTE_FULL_STATE) != 0 ? degraded_ask(req, true) : NULL;
	struct redis_reply stored, other;
	enum err e = redis_finish(get, req->arena, d, &stored), f = redis_finish(set, req->arena, d, &other);

	degraded_heard(req, word, d);
	if (e != OK || f != OK)
		return e != OK ? e : f;
	idem->claimed = other.type == REDIS_NIL;
	if (stored.type == REDIS_STRING)
		return idem_replay(req, stored.s);
	if (idem->claimed)
		return OK;
	if (!str_eq(other.s, print))
		return req_fail(req, ERR_KEY_REUSED, "This Idempotency-Key was used for another request");
	req->retry_after_s = 1;
	return req_fail(req, ERR_IN_PROGRESS, "The first request with this Idempotency-Key is still running");
}

/* The key is in force, or its answer was found. */
SUSPENDS static enum err begin(struct req *req)
{
	unsigned flags = req->route->flags;
	bool away, degraded;
	enum err e;

	if (daemon_service(req->daemon)->flags & SERVICE_NO_BUFFER)
		return (flags & ROUTE_THROUGH) != 0 ? idem_replay_table(req) : OK;
	e = claim(req);
	/* With the buffer away nothing tells twins apart before the row; its id, made of the key, does, and the table's key. */
	away = buffer_is_away(e);
	if (away && (flags & (ROUTE_FULL_STATE | ROUTE_THROUGH)) != 0)
		e = OK;
	degraded = (flags & ROUTE_FULL_STATE) != 0 && degraded_until(req) != 0;
	if (e == OK && !req->replayed && ((flags & ROUTE_THROUGH) != 0 || away || degraded))
		e = idem_replay_table(req);
	return e;
}

enum err idem_begin(struct req *req)
{
	struct str key;
	enum err e;

	if (!key_text(http_header(req->x, "idempotency-key"), &key))
		return req_fail(req, ERR_MALFORMED, "Idempotency-Key must be 1 to 255 visible characters");
	req->idem = idem_new(req, key);
	e = begin(req);
	if (e != OK || req->replayed)
		idem_end(req, OK); /* the handler does not run: nothing can have been written */
	return e;
}

void idem_end(struct req *req, enum err e)
{
	bool unknown = e == ERR_UNCERTAIN || e == ERR_TIMEOUT || e == ERR_CANCELLED;

	/* What may have been written keeps its claim until it expires: a twin must not run beside it. */
	if (req->idem && req->idem->claimed && !unknown)
		redis_post(req_buffer(req), REDIS_ARGS(STR("DEL"), req->idem->claim));
}
