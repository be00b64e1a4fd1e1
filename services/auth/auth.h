/* SPDX-License-Identifier: Apache-2.0 */
/* Auth: who somebody is, how long he stays signed in, and whom a school consists of. */
#ifndef S24_AUTH_H
#define S24_AUTH_H

#include "io/crypto.h"
#include "svc/directory.h"
#include "svc/req.h"
#include "svc/service.h"
#include "svc/token.h"

struct auth_conf {
	const char *private_key;
	int64_t hash_threads;
	int64_t session_s, remember_s, short_token_s;
};
extern const struct conf_row auth_conf_rows[];

/* What start() makes and handlers use: daemon_state(d). */
struct auth_state {
	struct jwt_key *key;
	struct work_pool *hashing; /* of its own, so that a flood of logins stops nothing else */
	char dummy_hash[PASSWORD_HASH_SIZE]; /* an unknown address costs the same time as a known one */
};
enum err auth_start(struct daemon *d);
void auth_stop(struct daemon *d);
int auth_command(struct daemon *d, int argc, char **argv); /* --service-token NAME, --choose-buffer SCHOOL_ID */

/* clang-format off */
/* ---- a user as the login needs him, with the profile of his role ---- */
#define ACCOUNT_FIELDS(F, T)                                                                       \
	F(T, UUID, id) F(T, UUID, school_id) F(T, TEXT, email) F(T, TEXT, password_hash, .flags = HIDDEN) F(T, TEXT, role)         \
	F(T, TEXT, full_name) F(T, TEXT, phone) F(T, TEXT, profile_picture_url) F(T, BOOL, is_active, .flags = HIDDEN)             \
	F(T, BOOL, email_verified) F(T, BOOL, is_suspended, .flags = HIDDEN) F(T, TIME, created_at) F(T, TIME, updated_at)         \
	F(T, UUID, teacher_id, .flags = HIDDEN) F(T, UUID, student_id, .flags = HIDDEN) F(T, UUID, staff_id, .flags = HIDDEN)      \
	F(T, TEXT, rights, .flags = HIDDEN) F(T, INT, version, .flags = HIDDEN) F(T, TEXT, buffer, .flags = HIDDEN)
SCHEMA_STRUCT(account, ACCOUNT_FIELDS);

#define SESSION_ROW_FIELDS(F, T)                                                                   \
	F(T, UUID, id) F(T, UUID, user_id) F(T, TEXT, device) F(T, TEXT, ip) F(T, BOOL, remember) F(T, TIME, created_at)           \
	F(T, TIME, expires_at) F(T, BOOL, is_current)
SCHEMA_STRUCT(session_row, SESSION_ROW_FIELDS);

/* ---- what comes in ---- */
#define LOGIN_FIELDS(F, T)                                                                         \
	F(T, TEXT, email,       .min = 3, .max = 254, .flags = REQUIRED)                           \
	F(T, TEXT, password,    .min = 1, .max = 1024, .flags = REQUIRED | RAW_TEXT)               \
	F(T, BOOL, remember_me)                                                                    \
	F(T, BOOL, refresh)
SCHEMA_STRUCT(login_in, LOGIN_FIELDS);

#define REFRESH_FIELDS(F, T) F(T, TEXT, refresh_token, .min = 1, .max = 200, .flags = REQUIRED)
SCHEMA_STRUCT(refresh_in, REFRESH_FIELDS);

#define PROFILE_FIELDS(F, T)                                                                       \
	F(T, TEXT, full_name,           .min = 1, .max = 200)                                      \
	F(T, TEXT, phone,               .max = 32, .flags = BLANK_NULL)                            \
	F(T, TEXT, profile_picture_url, .max = 2000, .flags = BLANK_NULL)
SCHEMA_STRUCT(profile_in, PROFILE_FIELDS);

#define PASSWORD_FIELDS(F, T)                                                                      \
	F(T, TEXT, current_password, .min = 1, .max = 1024, .flags = REQUIRED | RAW_TEXT)          \
	F(T, TEXT, new_password,     .min = 1, .max = 1024, .flags = REQUIRED | RAW_TEXT)
SCHEMA_STRUCT(password_in, PASSWORD_FIELDS);

#define CLASSES_FIELDS(F, T) F(T, TEXT, academic_year, .max = 9)
SCHEMA_STRUCT(classes_in, CLASSES_FIELDS);

#define SEARCH_FIELDS(F, T) F(T, TEXT, q, .min = 1, .max = 100, .flags = REQUIRED)
SCHEMA_STRUCT(search_in, SEARCH_FIELDS);

/* ---- what goes out ---- */
#define TEACHER_CLASS_FIELDS(F, T)                                                                 \
	F(T, UUID, id) F(T, UUID, class_id) F(T, TEXT, class_name) F(T, BOOL, is_class_teacher) F(T, TEXT, academic_year)          \
	F(T, UUID, subject_id) F(T, TEXT, subject_name)
SCHEMA_STRUCT(teacher_class, TEACHER_CLASS_FIELDS);
/* clang-format on */

extern const struct entity *const auth_entities[];
/* Everybody: for sessions and the directory. */
#define AUTH_USED_BY                                                                                                                                 \
	{"auth", "dashboard", "quiz", "homework", "attendance", "fee", "inventory", "busroute", "calendar", "report", "worker"}
extern const struct route auth_routes[];
extern const struct event_row auth_events[];
extern const struct warm_row auth_warms[];

/* ---- sessions.c: what login, refresh and the administration share ---- */
/* Checks a password in the hashing pool. OK, ERR_UNAUTHENTICATED (wrong), ERR_OVERLOAD, ERR_TIMEOUT. */
SUSPENDS MUST_CHECK enum err password_check(struct req *req, const char *hash, struct str password);
SUSPENDS MUST_CHECK enum err password_make(struct req *req, struct str password, char to[PASSWORD_HASH_SIZE]);
/* Length and lists of common passwords (ASVS 6.2): ERR_INVALID with code weak_password. */
MUST_CHECK enum err password_accept(struct req *req, struct str password, const struct account *account);
/* `session:{sid}` in the Redis of the school's buffer, which req_use_buffer has chosen; a failure is no error, auth has the row. */
SUSPENDS void session_publish(struct req *req, struct uuid sid, const struct account *account, int64_t expires_at_us);
/* What stands under the key: the person and his profile. */
void session_of(const struct account *account, int64_t expires_at_us, struct session *ret);
/* Marks sessions of the request's school as ended in Redis, and goes on trying while Redis is away: an ended session must not come back with it. */
SUSPENDS void sessions_drop(struct req *req, const struct uuid *sids, size_t n);
/* Signs an access token; text in the request's arena. */
MUST_CHECK enum err access_token(struct req *req, const struct account *account, struct uuid sid, int64_t expires_s, struct str *ret);

/* ---- directory_routes.c ---- */
/* A directory entry has changed: what is kept of it, and every answer of the school that shows such names, is dropped before this answer.
 * Who moves a student says so of the student, and of class and roster on both sides; who changes a link or an assignment, of children or teacher. */
void directory_changed(struct req *req, const char *kind, struct uuid id);
/* A user has, in this transaction; call it before the event is made, which carries it. `shown`: name, address, role or status, so every entry that
 * shows him goes (rosters, classes, his parents' children), and the lists of his kind. */
SUSPENDS MUST_CHECK enum err directory_person_changed(struct req *req, struct tx *tx, struct uuid user_id, bool shown);

/* ---- handlers ---- */
SUSPENDS enum err auth_login(struct req *req);
SUSPENDS enum err auth_refresh(struct req *req);
SUSPENDS enum err auth_logout(struct req *req);
SUSPENDS enum err auth_me(struct req *req);
SUSPENDS enum err auth_me_update(struct req *req);
SUSPENDS enum err auth_change_password(struct req *req);
SUSPENDS enum err auth_sessions(struct req *req);
SUSPENDS enum err auth_session_end(struct req *req);
SUSPENDS enum err auth_verify(struct req *req);
SUSPENDS enum err auth_jwks(struct req *req);
SUSPENDS enum err auth_internal_session(struct req *req);
SUSPENDS enum err auth_internal_directory(struct req *req);
SUSPENDS enum err auth_internal_search(struct req *req);
SUSPENDS enum err auth_classes(struct req *req);
SUSPENDS enum err auth_teacher_classes(struct req *req);
SUSPENDS enum err auth_class_students(struct req *req);

#endif
