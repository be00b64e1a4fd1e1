/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who calls. A signature check costs ten times a whole request, so verified tokens are remembered until they expire, by the full token; the
 * session behind one is read with the request's first Redis turn unless this process's copy is younger than a second (architecture.md 7).
 */
#include "svc/authn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/timefmt.h"
#include "base/uuid.h"
#include "svc/authn_internal.h"
#include "svc/buffers.h"
#include "svc/cache_admin.h"
#include "svc/token.h"

#define TOKEN_MAX 4096
#define SESSION_FRESH_US US_PER_S
#define SESSION_TRY_MS 500

SCHEMA_TABLE(token, TOKEN_FIELDS);
SCHEMA_TABLE(service_token, SERVICE_TOKEN_FIELDS);
SCHEMA_TABLE(session, SESSION_FIELDS);

struct authn *authn_of(const struct daemon *d)
{
	return d->authn;
}

/* ---- keys ---- */

static void free_keys(struct authn *a)
{
	while (a->n_keys > 0)
		jwt_key_free(a->keys[--a->n_keys]);
}

static enum err load_keys(struct daemon *d, struct authn *a)
{
	struct str rest = str_of(d->settings.public_keys), path;

	while (rest.p) {
		char *name;
		enum err e;

		path = str_trim(str_split(&rest, ','));
		if (path.n == 0)
			continue;
		if (a->n_keys == KEYS_MAX) {
			log_error("too many public keys", LOG_I("most", KEYS_MAX));
			return ERR_INVALID;
		}
		name = arena_cstr(d->arena, path);
		e = jwt_key_load(name, &a->keys[a->n_keys]);
		if (e != OK) {
			log_error("public key cannot be used", LOG_S("path", name), LOG_E(e));
			return ERR_INVALID;
		}
		a->n_keys++;
	}
	return OK;
}

static enum err load_service_token(struct daemon *d, struct authn *a)
{
	const char *path = d->settings.service_token_file;
	char *text; /* not on the stack: a frame is at most 4 KiB */
	size_t n;
	FILE *f;

	if (path[0] == '\0')
		return OK;
	text = mem_alloc(TOKEN_MAX);
	f = fopen(path, "re");
	n = f ? fread(text, 1, TOKEN_MAX - 1, f) : 0;
	if (f)
		fclose(f);
	if (n == 0) {
		free(text);
		log_error("service token cannot be read", LOG_S("path", path));
		return ERR_INVALID;
	}
	text[n] = '\0';
	free(a->service_token);
	a->service_token = text;
	a->service_token[strcspn(a->service_token, "\r\n")] = '\0';
	return OK;
}

/* Rotated keys and tokens come in by SIGHUP; what cannot be used leaves the old ones in force. */
static void reload(struct daemon *d)
{
	struct authn *a = d->authn, fresh = {0};

	if (load_keys(d, &fresh) == OK) {
		free_keys(a);
		memcpy(a->keys, fresh.keys, sizeof(a->keys));
		a->n_keys = fresh.n_keys;
		lru_clear(a->tokens);
	} else {
		free_keys(&fresh);
	}
	IGNORE(load_service_token(d, a)); /* it has logged; the old one stays */
}

enum err authn_open(struct daemon *d)
{
	struct authn *a = mem_zalloc(sizeof(*a));
	enum err e;

	d->authn = a;
	a->tokens = lru_new(50000, 32u << 20);
	a->sessions = lru_new(50000, 16u << 20);
	a->limits = lru_new(100000, 16u << 20);
	e = load_keys(d, a);
	if (e == OK)
		e = load_service_token(d, a);
	daemon_on_reload(d, reload);
	return e;
}

void authn_close(struct daemon *d)
{
	struct authn *a = d->authn;

	if (!a)
		return;
	free_keys(a);
	lru_free(a->tokens);
	lru_free(a->sessions);
	lru_free(a->limits);
	free(a->service_token);
	free(a);
	d->authn = NULL;
}

/* ---- tokens ---- */

static bool bearer(const struct req *req, struct str *ret)
{
	struct str header = http_header(req->x, "authorization");

	if (header.n < 8 || !str_ieq((struct str){header.p, 7}, STR("bearer ")))
		return false;
	*ret = str_trim((struct str){header.p + 7, header.n - 7});
	return ret->n != 0 && ret->n <= TOKEN_MAX;
}

/* The payload, verified now or before; the latter are remembered already. */
static enum err verified(struct req *req, const char *type, struct str token, struct str *ret_payload, bool *ret_known)
{
	struct authn *a = req->daemon->authn;
	struct str remembered;

	*ret_known = lru_get(a->tokens, token, req->now_us, &remembered);
	if (*ret_known) {
		*ret_payload = arena_str(req->arena, remembered);
		return OK;
	}
	return jwt_verify((const struct jwt_key *const *)a->keys, a->n_keys, type, token, req->arena, ret_payload);
}

static enum err refuse(struct req *req, const char *why)
{
	return req_fail(req, ERR_UNAUTHENTICATED, "%s", why);
}

/* A peer that asks for no school's sake says none: then it is the first. */
static enum err use_buffer_of_peer(struct req *req)
{
	struct str name = http_header(req->x, "x-school-buffer");

	return name.n == 0 ? OK : req_use_buffer(req, arena_str(req->arena, name));
}

static enum err check_service(struct req *req, struct str token)
{
	const struct service *s = req->daemon->service;
	struct problems problems = {.arena = req->arena};
	struct service_token claims;
	struct str payload;
	const struct str *aud;
	bool for_me = false, known;
	enum err e = verified(req, SERVICE_TOKEN_TYPE, token, &payload, &known);

	if (e == OK)
		e = json_decode(&service_token_schema, payload, req->arena, &claims, &problems);
	if (e != OK || !str_is(claims.iss, TOKEN_ISSUER) || claims.exp * US_PER_S <= req->now_us)
		return refuse(req, "the service token is not valid");
	aud = claims.aud.v;
	for (size_t i = 0; i < claims.aud.n; i++)
		for_me |= str_is(aud[i], s->name);
	if (!for_me)
		return refuse(req, "the service token is not for this service");
	if (!known)
		lru_put(((struct authn *)req->daemon->authn)->tokens, token, payload, claims.exp * US_PER_S);
	req->who.role = ROLE_SERVICE;
	req->who.service = claims.sub;
	/* The peer has checked its caller; what it says of him is as good as its token. */
	IGNORE(!uuid_parse(http_header(req->x, "x-school-id"), &req->who.school_id));
	IGNORE(!uuid_parse(http_header(req->x, "x-user-id"), &req->who.user_id));
	if ((req->route->flags & ROUTE_DASHBOARD) != 0 && str_is(claims.sub, CACHE_ADMIN_PEER))
		return use_buffer_of_peer(req);
	for (size_t i = 0; i < ARRAY_LEN(s->used_by) && s->used_by[i] && (req->route->flags & ROUTE_DASHBOARD) == 0; i++) {
		if (str_is(claims.sub, s->used_by[i]))
			return use_buffer_of_peer(req);
	}
	return req_fail(req, ERR_FORBIDDEN, "this service does not answer %.*s", STR_FMT(claims.sub));
}

/* ---- sessions ---- */

SUSPENDS static enum err ask_auth(struct req *req, struct str sid, struct str *ret_json)
{
	struct http_reply reply;
	enum err e = peer_call(req, "auth", HTTP_GET, arena_printf(req->arena, "/internal/sessions/%.*s", STR_FMT(sid)),
			       (struct str){NULL, 0}, &reply);

	if (e != OK)
		return ERR_PEER;
	if (reply.status == 404)
		return ERR_UNAUTHENTICATED;
	if (reply.status != 200)
		return ERR_PEER;
	*ret_json = reply.body;
	return OK;
}

/* Memory, Redis, auth: a missing key is no answer yet, auth has the row. */
SUSPENDS static enum err find_session(struct req *req, struct uuid id, struct str *ret_json)
{
	struct authn *a = req->daemon->authn;
	char text[UUID_TEXT + 1];
	struct str sid = {text, UUID_TEXT}, remembered;
	struct redis_reply reply = {0};
	enum err e = ERR_BUFFER;

	uuid_text(id, text);
	if (lru_get(a->sessions, sid, req->now_us, &remembered)) {
		*ret_json = arena_str(req->arena, remembered);
		return OK;
	}
	if (req_buffer(req)) {
		struct deadline d = deadline_sooner(req->deadline, deadline_in(req->daemon->loop, SESSION_TRY_MS));

		e = redis_call(req_buffer(req), req->arena, d,
			       REDIS_ARGS(STR("GET"), str_of(arena_printf(req->arena, "session:%s", text))), &reply);
	}
	if (e == OK && reply.type == REDIS_STRING && reply.s.n == 0)
		return ERR_UNAUTHENTICATED; /* auth has just ended it */
	if (e == OK && reply.type == REDIS_STRING)
		*ret_json = reply.s;
	else
		e = ask_auth(req, sid, ret_json);
	if (e == OK)
		lru_put(a->sessions, sid, *ret_json, req->now_us + SESSION_FRESH_US);
	return e;
}

static bool session_matches(const struct session *s, const struct token *t, const struct req *req)
{
	return uuid_eq(s->user_id, t->user_id) && uuid_eq(s->school_id, t->school_id) && str_eq(s->role, t->role) &&
	       s->expires_at * US_PER_S > req->now_us;
}

SUSPENDS static enum err check_person(struct req *req, struct str bearer_token)
{
	struct problems problems = {.arena = req->arena};
	struct token t;
	struct session s;
	struct str payload, json;
	enum role role;
	bool known;
	enum err e = verified(req, TOKEN_TYPE, bearer_token, &payload, &known);

	if (e == OK)
		e = json_decode(&token_schema, payload, req->arena, &t, &problems);
	if (e != OK || !str_is(t.iss, TOKEN_ISSUER) || !str_is(t.aud, TOKEN_AUDIENCE) || !role_parse(t.role, &role))
		return refuse(req, "the access token is not valid");
	if (t.exp * US_PER_S <= req->now_us)
		return refuse(req, "the access token has expired");
	if (!known)
		lru_put(((struct authn *)req->daemon->authn)->tokens, bearer_token, payload, t.exp * US_PER_S);
	/* Tokens from before buffers had names say none. */
	e = req_use_buffer(req, FIELD_HAS(&t, token, buffer) ? t.buffer : STR(BUFFER_DEFAULT));
	if (e != OK)
		return e;
	e = find_session(req, t.sid, &json);
	if (e == ERR_UNAUTHENTICATED)
		return refuse(req, "the session has ended");
	if (e != OK) {
		req->retry_after_s = 5;
		return e;
	}
	if (json_decode(&session_schema, json, req->arena, &s, &problems) != OK || !session_matches(&s, &t, req))
		return refuse(req, "the session has ended");
	req->who = (struct caller){.role = role,
				   .user_id = t.user_id,
				   .school_id = t.school_id,
				   .sid = t.sid,
				   .teacher_id = s.teacher_id,
				   .student_id = s.student_id,
				   .staff_id = s.staff_id,
				   .email = t.email,
				   .full_name = t.full_name,
				   .rights = s.rights,
				   .buffer = req->who.buffer,
				   .buffer_name = req->who.buffer_name,
				   .token_expires_s = t.exp};
	return OK;
}

enum err authn_check(struct req *req)
{
	struct str token;

	if (!bearer(req, &token))
		return refuse(req, "an access token is needed");
	return (req->route->roles & ROLE_SERVICE) != 0 ? check_service(req, token) : check_person(req, token);
}

void authn_forget_session(struct daemon *d, struct uuid sid)
{
	char text[UUID_TEXT + 1];

	uuid_text(sid, text);
	lru_remove(((struct authn *)d->authn)->sessions, (struct str){text, UUID_TEXT});
}
