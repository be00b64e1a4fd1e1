/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions in Redis, access tokens, and passwords: what login, refresh and the account's pages share. */
#include <stdlib.h>
#include <string.h>

#include "auth.h"
#include "base/log.h"
#include "base/timefmt.h"
#include "base/uuid.h"
#include "io/fiber.h"
#include "svc/authn.h"
#include "svc/buffers.h"

#define PASSWORD_LEAST 8

/* ---- passwords, in the hashing pool ---- */

struct hash_job {
	char *password;
	size_t n;
	char hash[PASSWORD_HASH_SIZE];
};

static struct hash_job *hash_job_new(struct str password, const char *hash)
{
	struct hash_job *job = mem_zalloc(sizeof(*job));

	job->password = mem_alloc(password.n + 1);
	memcpy(job->password, password.p, password.n);
	job->n = password.n;
	if (hash)
		memcpy(job->hash, hash, strnlen(hash, sizeof(job->hash) - 1));
	return job;
}

static void hash_job_release(void *arg)
{
	struct hash_job *job = arg;

	explicit_bzero(job->password, job->n);
	free(job->password);
	free(job);
}

static enum err verify_job(void *arg)
{
	struct hash_job *job = arg;

	return password_verify(job->hash, (struct str){job->password, job->n}) ? OK : ERR_UNAUTHENTICATED;
}

static enum err make_job(void *arg)
{
	struct hash_job *job = arg;

	return password_hash((struct str){job->password, job->n}, job->hash);
}

static void take_hash(void *arg, void *to)
{
	const struct hash_job *job = arg;

	memcpy(to, job->hash, PASSWORD_HASH_SIZE);
}

SUSPENDS static enum err run_hash(struct req *req, struct work_job job)
{
	struct auth_state *state = daemon_state(req->daemon);
	enum err e = work_run(state->hashing, job, req->deadline);

	if (e == ERR_OVERLOAD)
		req->retry_after_s = 2;
	return e;
}

enum err password_check(struct req *req, const char *hash, struct str password)
{
	return run_hash(req,
			(struct work_job){.fn = verify_job, .release = hash_job_release, .arg = hash_job_new(password, hash)});
}

enum err password_make(struct req *req, struct str password, char to[PASSWORD_HASH_SIZE])
{
	return run_hash(req, (struct work_job){.fn = make_job,
					       .collect = take_hash,
					       .release = hash_job_release,
					       .arg = hash_job_new(password, NULL),
					       .to = to});
}

/* The passwords that every guesser tries first (SecLists' and the NCSC's lists agree on these), lower case. */
static const char *const common_passwords[] = {
	"12345678",   "123456789",  "1234567890", "password",  "password1",  "password12", "password123", "qwerty123",
	"qwertyuiop", "iloveyou",   "11111111",   "00000000",  "88888888",   "87654321",   "abcd1234",    "abc12345",
	"a1b2c3d4",   "football",   "baseball",   "sunshine",  "princess",   "welcome1",   "welcome123",  "admin123",
	"adminadmin", "letmein1",   "superman",   "trustno1",  "passw0rd",   "p@ssw0rd",   "1q2w3e4r",    "1qaz2wsx",
	"qazwsxedc",  "zaq12wsx",   "q1w2e3r4",   "asdfghjkl", "computer",   "internet",   "changeme",    "secret123",
	"school123",  "teacher1",   "teacher123", "student1",  "student123", "schools24",  "india123",    "london123",
	"summer2026", "winter2026", "qwerty1234", "asdf1234",  "11223344",   "12341234",   "66666666",    "99999999",
	"jennifer",   "michelle",   "whatever",   "starwars",
};

static enum err weak(struct req *req, const char *why)
{
	problem_add(&req->problems, "/new_password", "weak_password", why);
	return req_fail_code(req, ERR_INVALID, "weak_password", "The new password %s", why);
}

enum err password_accept(struct req *req, struct str password, const struct account *account)
{
	struct str local = account->email;

	if (!str_is_utf8(password) || str_utf8_len(password) < PASSWORD_LEAST)
		return weak(req, "must have at least 8 characters");
	for (size_t i = 0; i < ARRAY_LEN(common_passwords); i++) {
		if (str_ieq(password, str_of(common_passwords[i])))
			return weak(req, "is one of the most common ones");
	}
	local = str_split(&local, '@');
	if (str_ieq(password, account->email) || str_ieq(password, local) || str_ieq(password, account->full_name))
		return weak(req, "is your name or address");
	return OK;
}

/* ---- sessions ---- */

void session_publish(struct req *req, struct uuid sid, const struct account *account, int64_t expires_at_us)
{
	struct buf key = buf_in(req->arena), json = buf_in(req->arena), ttl = buf_in(req->arena);
	struct session s = {0};
	struct redis_reply reply;

	session_of(account, expires_at_us, &s);
	json_encode(&session_schema, &s, 0, &json);
	buf_puts(&key, STR("session:"));
	buf_put_uuid(&key, sid);
	buf_put_i64(&ttl, (expires_at_us - req->now_us) / US_PER_S);
	IGNORE(redis_call(req_buffer(req), req->arena, req->deadline,
			  REDIS_ARGS(STR("SET"), buf_str(&key), buf_str(&json), STR("NX"), STR("EX"), buf_str(&ttl)),
			  &reply)); /* auth has the row */
}

void session_of(const struct account *account, int64_t expires_at_us, struct session *ret)
{
	FIELD_PUT(ret, session, user_id, account->id);
	FIELD_PUT(ret, session, school_id, account->school_id);
	FIELD_PUT(ret, session, role, account->role);
	if (FIELD_HAS(account, account, teacher_id))
		FIELD_PUT(ret, session, teacher_id, account->teacher_id);
	if (FIELD_HAS(account, account, student_id))
		FIELD_PUT(ret, session, student_id, account->student_id);
	if (FIELD_HAS(account, account, staff_id))
		FIELD_PUT(ret, session, staff_id, account->staff_id);
	if (FIELD_HAS(account, account, rights))
		FIELD_PUT(ret, session, rights, account->rights);
	FIELD_PUT(ret, session, expires_at, expires_at_us / US_PER_S);
}

/* Empty for a minute instead of gone, so that an answer which was on its way cannot put the ended session back (session_publish is NX). */
#define ENDED_S "60"

struct drop {
	struct redis *redis;
	struct daemon *daemon;
	struct arena *arena;
	struct uuid *sids;
	size_t n;
};

SUSPENDS static enum err mark_ended(const struct drop *drop, struct arena *arena, struct deadline deadline)
{
	size_t n = drop->n;
	struct redis_op **ops = arena_array(arena, n, sizeof(*ops));
	enum err first = OK;

	for (size_t i = 0; i < n; i++) {
		char text[UUID_TEXT + 1];

		uuid_text(drop->sids[i], text);
		ops[i] = redis_start(drop->redis, REDIS_ARGS(STR("SET"), str_of(arena_printf(arena, "session:%s", text)), STR(""),
							     STR("EX"), STR(ENDED_S)));
	}
	for (size_t i = 0; i < n; i++) {
		struct redis_reply reply;
		enum err e = redis_finish(ops[i], arena, deadline, &reply);

		first = first == OK ? e : first;
	}
	return first;
}

SUSPENDS static void drop_fiber(void *arg)
{
	struct drop *drop = arg;
	struct loop *loop = daemon_loop(drop->daemon);
	struct arena *arena = drop->arena;
	enum err e = ERR_BUFFER;

	/* Until it is done, or the daemon ends and has no state any more: then the keys end with their sessions. */
	while (e != OK && daemon_state(drop->daemon) && sleep_ms(loop, 500, (struct deadline){INT64_MAX}) == OK) {
		struct arena *scratch = arena_new();

		e = mark_ended(drop, scratch, deadline_in(loop, 1000));
		arena_free(scratch);
	}
	arena_free(arena);
}

void sessions_drop(struct req *req, const struct uuid *sids, size_t n)
{
	struct daemon *d = req->daemon;
	struct arena *arena = arena_new();
	struct drop *drop = arena_alloc(arena, sizeof(*drop));

	*drop = (struct drop){
		.redis = req_buffer(req), .daemon = d, .arena = arena, .sids = arena_dup(arena, sids, n * sizeof(*sids)), .n = n};
	if (n != 0 && mark_ended(drop, arena, deadline_in(daemon_loop(d), 500)) != OK &&
	    fiber_spawn(daemon_loop(d), "drop sessions", drop_fiber, drop) == OK)
		arena = NULL; /* the fiber's now */
	for (size_t i = 0; i < n; i++)
		authn_forget_session(d, sids[i]); /* last: a request may have read the key while this one waited */
	if (arena)
		arena_free(arena);
}

enum err access_token(struct req *req, const struct account *account, struct uuid sid, int64_t expires_s, struct str *ret)
{
	struct auth_state *state = daemon_state(req->daemon);
	struct buf payload = buf_in(req->arena), out = buf_in(req->arena);
	struct token t = {0};
	char *sub = arena_alloc(req->arena, UUID_TEXT + 1);
	enum err e;

	uuid_text(account->id, sub);
	FIELD_PUT(&t, token, sub, str_of(sub));
	FIELD_PUT(&t, token, user_id, account->id);
	FIELD_PUT(&t, token, email, account->email);
	FIELD_PUT(&t, token, full_name, account->full_name);
	FIELD_PUT(&t, token, role, account->role);
	FIELD_PUT(&t, token, school_id, account->school_id);
	FIELD_PUT(&t, token, sid, sid);
	FIELD_PUT(&t, token, iss, STR(TOKEN_ISSUER));
	FIELD_PUT(&t, token, aud, STR(TOKEN_AUDIENCE));
	FIELD_PUT(&t, token, iat, req->now_us / US_PER_S);
	FIELD_PUT(&t, token, exp, expires_s);
	FIELD_PUT(&t, token, jti, uuid_v7(req->now_us));
	FIELD_PUT(&t, token, buffer, account->buffer);
	json_encode(&token_schema, &t, 0, &payload);
	e = jwt_sign(state->key, TOKEN_TYPE, buf_str(&payload), &out);
	*ret = buf_str(&out);
	return e;
}
