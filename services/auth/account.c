/* SPDX-License-Identifier: Apache-2.0 */
/* The caller's own account: who he is, where he is signed in, his password; and the public keys. */
#include <string.h>

#include "auth.h"
#include "auth_sql.h"
#include "base/timefmt.h"
#include "base/uuid.h"

SUSPENDS static enum err my_account(struct req *req, struct account *ret)
{
	return db_query_one(req, &SQL_ACCOUNT_GET, PG_PARAMS(PG_UUID(req->who.user_id)), &account_schema, ret);
}

enum err auth_me(struct req *req)
{
	struct account account = {0};
	enum err e = my_account(req, &account);

	if (e != OK)
		return e;
	req->version = account.version;
	return req_reply_as(req, "user", &account_schema, &account);
}

/* ---- PUT /auth/me ---- */

static struct str json_of(struct req *req, const struct account *account)
{
	struct buf out = buf_in(req->arena);

	json_encode_some(&account_schema, account,
			 UINT64_C(1) << account__full_name | UINT64_C(1) << account__phone |
				 UINT64_C(1) << account__profile_picture_url,
			 &out);
	return buf_str(&out);
}

enum err auth_me_update(struct req *req)
{
	const struct profile_in *in = req->in;
	struct account old = {0}, account;
	struct tx *tx;
	enum err e = tx_begin(req, &tx);

	if (e != OK)
		return e;
	e = tx_query_one(tx, &SQL_ACCOUNT_GET, PG_PARAMS(PG_UUID(req->who.user_id)), &account_schema, &old);
	account = old;
	if (e == OK) {
		row_merge(&account_schema, &account, &profile_in_schema, in);
		e = tx_query_one(
			tx, &SQL_ACCOUNT_UPDATE,
			PG_PARAMS(PG_UUID(account.id), PG_TEXT(account.full_name),
				  PG_IF(FIELD_HAS(&account, account, phone), PG_TEXT(account.phone)),
				  PG_IF(FIELD_HAS(&account, account, profile_picture_url), PG_TEXT(account.profile_picture_url))),
			&account_schema, &account);
	}
	if (e == OK)
		e = tx_audit(tx, "update", "user", account.id, json_of(req, &old), json_of(req, &account));
	if (e == OK)
		e = directory_person_changed(req, tx, account.id, !str_eq(old.full_name, account.full_name));
	if (e == OK)
		e = tx_event(tx, "user.updated", account.id, STR("{}"));
	if (e == OK)
		e = req_reply_as(req, "user", &account_schema, &account);
	e = tx_end(tx, e);
	req->version = account.version;
	return e;
}

/* ---- POST /auth/change-password ---- */

#define SID_FIELDS(F, T) F(T, UUID, id)
SCHEMA_STRUCT(sid, SID_FIELDS);
SCHEMA_TABLE(sid, SID_FIELDS);

SUSPENDS static enum err store_password(struct req *req, const char *hash, struct list *ret_ended)
{
	struct list none;
	struct tx *tx;
	enum err e = tx_begin(req, &tx);

	if (e != OK)
		return e;
	e = tx_query(tx, &SQL_PASSWORD_UPDATE, PG_PARAMS(PG_UUID(req->who.user_id), PG_TEXT(str_of(hash))), NULL, &none);
	if (e == OK)
		e = tx_query(tx, &SQL_SESSIONS_END_OTHERS, PG_PARAMS(PG_UUID(req->who.user_id), PG_UUID(req->who.sid)),
			     &sid_schema, ret_ended);
	if (e == OK)
		e = tx_audit(tx, "change_password", "user", req->who.user_id, (struct str){NULL, 0}, (struct str){NULL, 0});
	if (e == OK)
		e = directory_person_changed(req, tx, req->who.user_id, false); /* the account shows when it was changed */
	if (e == OK)
		e = req_reply_message(req, "Password changed");
	return tx_end(tx, e);
}

enum err auth_change_password(struct req *req)
{
	const struct password_in *in = req->in;
	struct account account = {0};
	char hash[PASSWORD_HASH_SIZE];
	struct list ended = {0};
	struct uuid *sids;
	enum err e = my_account(req, &account);

	if (e == OK)
		e = password_check(req, arena_cstr(req->arena, account.password_hash), in->current_password);
	if (e == ERR_UNAUTHENTICATED) /* somebody who is signed in: never 401 */
		return req_fail_code(req, ERR_MALFORMED, "invalid_password", "The current password is wrong");
	if (e == OK)
		e = password_accept(req, in->new_password, &account);
	if (e == OK)
		e = password_make(req, in->new_password, hash);
	if (e == OK)
		e = store_password(req, hash, &ended);
	if (e != OK)
		return e;
	sids = arena_array(req->arena, ended.n, sizeof(*sids));
	for (size_t i = 0; i < ended.n; i++)
		sids[i] = ((struct sid *)ended.v)[i].id;
	sessions_drop(req, sids, ended.n);
	req->status = 200;
	return OK;
}

/* ---- GET /auth/sessions, /auth/verify, /.well-known/jwks.json ---- */

enum err auth_sessions(struct req *req)
{
	struct list rows;
	enum err e = db_query(req, &SQL_SESSIONS_OF_USER, PG_PARAMS(PG_UUID(req->who.user_id), PG_UUID(req->who.sid)),
			      &session_row_schema, &rows);

	return e != OK ? e : req_reply_list(req, "sessions", &session_row_schema, &rows);
}

enum err auth_verify(struct req *req)
{
	req_header(req, "X-Auth-Role", "%s", role_name(req->who.role));
	return req_reply_message(req, "The token is good");
}

enum err auth_jwks(struct req *req)
{
	const struct auth_state *state = daemon_state(req->daemon);

	req_json_begin(req);
	req_json_key(req, "keys");
	buf_putc(&req->body, '[');
	jwt_key_jwk(state->key, &req->body);
	buf_putc(&req->body, ']');
	req_json_end(req);
	req_header(req, "Cache-Control", "public, max-age=300");
	return OK;
}
