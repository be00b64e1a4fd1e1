/* SPDX-License-Identifier: Apache-2.0 */
/* Signing in and staying signed in: login, refresh with rotation and reuse detection, logout. */
#include <string.h>

#include "auth.h"
#include "auth_sql.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "base/timefmt.h"
#include "base/uuid.h"
#include "svc/buffers.h"
#include "svc_lua.h"

#define REFRESH_TOKEN_BYTES 32
#define REUSE_TOLERANCE_US (10 * US_PER_S) /* a lost answer on a mobile network; the same device only */

/* clang-format off */
#define OWNER_FIELDS(F, T) F(T, UUID, user_id) F(T, UUID, school_id) F(T, UUID, session_id)
SCHEMA_STRUCT(owner, OWNER_FIELDS);
SCHEMA_TABLE(owner, OWNER_FIELDS);

#define REFRESHED_FIELDS(F, T) F(T, UUID, user_id) F(T, TIME, expires_at) F(T, TIME, revoked_at) F(T, TIME, used_at) F(T, TEXT, device) F(T, TEXT, buffer)
SCHEMA_STRUCT(refreshed, REFRESHED_FIELDS);
SCHEMA_TABLE(refreshed, REFRESHED_FIELDS);
/* clang-format on */

/* ---- how often somebody may guess ---- */

/* Counts the try before the password is looked at, so parallel guesses count too. Delays, never locks: 1-2-4-8 s up to 15 min per address and
 * account, so a guesser elsewhere does not keep the owner out. With Redis away the listener's own limit remains. No school is known yet, and an
 * address that nobody has counts as well, so the gate is on the first buffer. */
SUSPENDS static enum err gate(struct req *req, struct str email, struct str *ret_key)
{
	struct buf name = buf_in(req->arena);
	struct redis_reply reply;
	uint8_t hash[32];
	char hex[33];

	buf_puts(&name, email);
	buf_putc(&name, '\n');
	buf_puts(&name, req_client_ip(req));
	sha256(buf_str(&name), hash);
	hex_text(hash, 16, hex);
	*ret_key = str_of(arena_printf(req->arena, "rate:auth:login:%s", hex));
	if (redis_script_call(daemon_buffer(req->daemon), &LUA_LOGIN_GATE, REDIS_ARGS(*ret_key), req->arena, req->deadline,
			      &reply) != OK ||
	    reply.type != REDIS_INTEGER || reply.i <= 0)
		return OK;
	req->retry_after_s = (reply.i + 999) / 1000;
	return req_fail(req, ERR_RATE_LIMITED, "Too many wrong passwords: wait %lld s", (long long)req->retry_after_s);
}

static struct str lower_case(struct req *req, struct str s)
{
	char *copy = arena_dup(req->arena, s.p, s.n);

	for (size_t i = 0; i < s.n; i++)
		copy[i] = copy[i] >= 'A' && copy[i] <= 'Z' ? (char)(copy[i] + 32) : copy[i];
	return (struct str){copy, s.n};
}

/* ---- the session that begins ---- */

struct grant {
	struct uuid sid;
	int64_t session_end_us, token_end_s;
	struct str refresh_token; /* empty: none */
};

static struct str new_refresh_token(struct req *req, uint8_t hash[32])
{
	uint8_t bytes[REFRESH_TOKEN_BYTES];
	struct buf text = buf_in(req->arena);

	random_bytes(bytes, sizeof(bytes));
	base64url_put(&text, (struct str){(const char *)bytes, sizeof(bytes)});
	sha256(buf_str(&text), hash);
	return buf_str(&text);
}

SUSPENDS static enum err keep_refresh_token(struct tx *tx, struct req *req, struct uuid sid, struct str *ret_token)
{
	uint8_t hash[32];
	struct list none;
	struct str token = new_refresh_token(req, hash);
	enum err e = tx_query(tx, &SQL_REFRESH_INSERT,
			      PG_PARAMS(PG_UUID(uuid_v7(req->now_us)), PG_UUID(req->who.school_id), PG_UUID(sid),
					PG_BYTEA(((struct str){(char *)hash, 32}))),
			      NULL, &none);

	*ret_token = token;
	return e;
}

static void reply_grant(struct req *req, const struct account *account, const struct grant *grant, struct str token)
{
	req_json_begin(req);
	req_json_text(req, "access_token", token);
	req_json_text(req, "token_type", STR("Bearer"));
	req_json_int(req, "expires_in", grant->token_end_s - req->now_us / US_PER_S);
	if (grant->refresh_token.n != 0)
		req_json_text(req, "refresh_token", grant->refresh_token);
	req_json_key(req, "user");
	json_encode(&account_schema, account, req->who.role, &req->body);
	req_json_end(req);
	req->version = -1;
	req_header(req, "Cache-Control", "no-store");
}

SUSPENDS static enum err open_session(struct req *req, const struct account *account, const struct login_in *in,
				      struct grant *grant)
{
	struct str agent = http_header(req->x, "user-agent");
	struct list none;
	struct tx *tx;
	enum err e = tx_begin(req, &tx);

	if (e != OK)
		return e;
	if (!str_is_utf8(agent) || agent.n > 512)
		agent = STR("");
	e = tx_query(tx, &SQL_SESSION_INSERT,
		     PG_PARAMS(PG_UUID(grant->sid), PG_UUID(account->school_id), PG_UUID(account->id), PG_TEXT_OR_NULL(agent),
			       PG_TEXT(req_client_ip(req)), PG_BOOL(in->remember_me), PG_TIME(grant->session_end_us)),
		     NULL, &none);
	if (e == OK && in->refresh)
		e = keep_refresh_token(tx, req, grant->sid, &grant->refresh_token);
	if (e == OK)
		e = tx_audit(tx, "login", "session", grant->sid, (struct str){NULL, 0}, (struct str){NULL, 0});
	e = tx_end(tx, e);
	return e;
}

/* ---- POST /auth/login ---- */

SUSPENDS static enum err find_account(struct req *req, struct str email, struct account *ret)
{
	struct owner owner = {0};
	enum err e = db_query_one(req, &SQL_SCHOOL_OF_EMAIL, PG_PARAMS(PG_TEXT(email)), &owner_schema, &owner);

	if (e != OK)
		return e;
	req->who.school_id = owner.school_id;
	e = db_query_one(req, &SQL_ACCOUNT_GET, PG_PARAMS(PG_UUID(owner.user_id)), &account_schema, ret);
	req->who.user_id = owner.user_id;
	return e;
}

static enum err wrong(struct req *req)
{
	log_info("login refused", LOG_S("request_id", req->id), LOG_STR("address", req_client_ip(req)));
	return req_fail_code(req, ERR_UNAUTHENTICATED, "invalid_credentials", "E-mail or password is wrong");
}

enum err auth_login(struct req *req)
{
	const struct auth_conf *conf = daemon_conf(req->daemon);
	const struct auth_state *state = daemon_state(req->daemon);
	const struct login_in *in = req->in;
	struct account account = {0};
	struct grant grant = {.sid = uuid_v7(req->now_us)};
	struct str gate_key, token, email = lower_case(req, in->email);
	struct redis_reply reply;
	bool known;
	enum err e = gate(req, email, &gate_key);

	if (e != OK)
		return e;
	e = find_account(req, email, &account);
	if (e != OK && e != ERR_NOT_FOUND)
		return e;
	/* Equal time and equal answer whether the address is known or not. */
	known = e == OK;
	e = password_check(req, known ? arena_cstr(req->arena, account.password_hash) : state->dummy_hash, in->password);
	if (err_is_fault(e))
		return e;
	if (e != OK || !known || !account.is_active || account.is_suspended)
		return wrong(req);
	e = req_use_buffer(req, account.buffer);
	if (e != OK)
		return e;
	IGNORE(!role_parse(account.role, &req->who.role)); /* the table holds roles alone */
	req->who.full_name = account.full_name;
	grant.session_end_us = req->now_us + (in->remember_me ? conf->remember_s : conf->session_s) * US_PER_S;
	grant.token_end_s = in->refresh ? req->now_us / US_PER_S + conf->short_token_s : grant.session_end_us / US_PER_S;
	e = open_session(req, &account, in, &grant);
	if (e == OK)
		e = access_token(req, &account, grant.sid, grant.token_end_s, &token);
	if (e != OK)
		return e;
	session_publish(req, grant.sid, &account, grant.session_end_us);
	IGNORE(redis_call(daemon_buffer(req->daemon), req->arena, req->deadline, REDIS_ARGS(STR("DEL"), gate_key),
			  &reply)); /* it expires */
	req->status = 200;
	reply_grant(req, &account, &grant, token);
	return OK;
}

/* ---- POST /auth/refresh ---- */

/* A token that was used before, by somebody who may not be the first: the whole family ends. */
SUSPENDS static enum err end_family(struct req *req, struct tx *tx, struct uuid sid)
{
	struct list none;
	enum err e = tx_query(tx, &SQL_SESSION_REVOKE, PG_PARAMS(PG_UUID(sid)), NULL, &none);

	if (e == OK)
		e = tx_audit(tx, "refresh_token_reused", "session", sid, (struct str){NULL, 0}, (struct str){NULL, 0});
	if (e == OK)
		e = tx_commit(tx);
	if (e != OK)
		return e;
	sessions_drop(req, &sid, 1);
	log_warn("refresh token used twice: its session has been ended", LOG_S("request_id", req->id));
	return req_fail_code(req, ERR_UNAUTHENTICATED, "refresh_token_reused", "The session has ended");
}

static bool is_repeat(struct req *req, const struct refreshed *row)
{
	return req->now_us - row->used_at < REUSE_TOLERANCE_US && FIELD_HAS(row, refreshed, device) &&
	       str_eq(row->device, http_header(req->x, "user-agent"));
}

SUSPENDS static enum err rotate(struct req *req, struct tx *tx, struct uuid sid, struct str hash, struct refreshed *row,
				struct grant *grant)
{
	enum err e = tx_query_one(tx, &SQL_REFRESH_LOCK, PG_PARAMS(PG_BYTEA(hash)), &refreshed_schema, row);

	if (e == OK)
		e = req_use_buffer(req, row->buffer);
	if (e != OK)
		return e;
	if (FIELD_HAS(row, refreshed, revoked_at) || row->expires_at <= req->now_us)
		return req_fail(req, ERR_UNAUTHENTICATED, "The session has ended");
	if (FIELD_HAS(row, refreshed, used_at) && !is_repeat(req, row))
		return end_family(req, tx, sid);
	grant->sid = sid;
	grant->session_end_us = row->expires_at;
	return keep_refresh_token(tx, req, sid, &grant->refresh_token);
}

enum err auth_refresh(struct req *req)
{
	const struct auth_conf *conf = daemon_conf(req->daemon);
	const struct refresh_in *in = req->in;
	struct owner owner = {0};
	struct refreshed row = {0};
	struct account account = {0};
	struct grant grant = {0};
	struct str token, hash;
	uint8_t bytes[32];
	struct tx *tx;
	enum err e;

	sha256(in->refresh_token, bytes);
	hash = (struct str){arena_dup(req->arena, bytes, 32), 32};
	e = db_query_one(req, &SQL_SCHOOL_OF_REFRESH_TOKEN, PG_PARAMS(PG_BYTEA(hash)), &owner_schema, &owner);
	if (e == ERR_NOT_FOUND)
		return req_fail(req, ERR_UNAUTHENTICATED, "The refresh token is not valid");
	if (e != OK)
		return e;
	req->who.school_id = owner.school_id;
	e = tx_begin(req, &tx);
	if (e != OK)
		return e;
	e = rotate(req, tx, owner.session_id, hash, &row, &grant);
	if (e == OK)
		e = tx_query_one(tx, &SQL_ACCOUNT_GET, PG_PARAMS(PG_UUID(row.user_id)), &account_schema, &account);
	if (e == OK && (!account.is_active || account.is_suspended))
		e = req_fail(req, ERR_UNAUTHENTICATED, "The session has ended");
	e = tx_end(tx, e);
	if (e != OK)
		return e;
	FAILPOINT("refresh.after_rotate_before_reply");
	grant.token_end_s = req->now_us / US_PER_S + conf->short_token_s;
	e = access_token(req, &account, grant.sid, grant.token_end_s, &token);
	if (e != OK)
		return e;
	session_publish(req, grant.sid, &account, grant.session_end_us);
	req->status = 200;
	reply_grant(req, &account, &grant, token);
	return OK;
}

/* ---- POST /auth/logout, DELETE /auth/sessions/{session_id} ---- */

SUSPENDS static enum err end_session(struct req *req, struct uuid sid, const char *action)
{
	struct list ended;
	struct tx *tx;
	enum err e = tx_begin(req, &tx);

	if (e != OK)
		return e;
	e = tx_query(tx, &SQL_SESSION_END, PG_PARAMS(PG_UUID(sid), PG_UUID(req->who.user_id)), &owner_schema, &ended);
	if (e == OK && ended.n == 0)
		e = ERR_NOT_FOUND;
	if (e == OK)
		e = tx_audit(tx, action, "session", sid, (struct str){NULL, 0}, (struct str){NULL, 0});
	if (e == OK)
		e = req_reply_message(req, "The session has ended");
	e = tx_end(tx, e);
	if (e == OK)
		sessions_drop(req, &sid, 1);
	return e;
}

enum err auth_logout(struct req *req)
{
	enum err e = end_session(req, req->who.sid, "logout");

	req->status = 200;
	return e == ERR_NOT_FOUND ? req_reply_message(req, "The session has ended") : e;
}

enum err auth_session_end(struct req *req)
{
	return end_session(req, req->params[0], "session_ended");
}
