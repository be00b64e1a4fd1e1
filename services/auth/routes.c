/* SPDX-License-Identifier: Apache-2.0 */
/* The whole HTTP surface of auth. */
#include "auth.h"

#define ANYONE ROLE_ANYONE
#define PEOPLE ROLE_PEOPLE
#define PEERS ROLE_SERVICE
/* What nobody has changed is given out past its life while one refreshes it, and for an hour while it cannot be read. A change drops it at once. */
#define KEPT_ON .swr_s = 1800, .sie_s = 3600

/* clang-format off */
const struct route auth_routes[] = {
	{HTTP_POST, "/auth/login", ANYONE, MAY_PUBLIC, .in = &login_in_schema, .flags = ROUTE_NO_KEY, .rate = RATE_LOGIN, .handler = auth_login,
		.summary = "Sign in with e-mail and password"},
	{HTTP_POST, "/auth/refresh", ANYONE, MAY_PUBLIC, .in = &refresh_in_schema, .flags = ROUTE_NO_KEY, .rate = RATE_LOGIN, .handler = auth_refresh,
		.summary = "A new access token and refresh token for a refresh token, which is used up"},
	{HTTP_POST, "/auth/logout", PEOPLE, MAY_SELF, .flags = ROUTE_THROUGH, .handler = auth_logout,
		.summary = "End this session"},
	{HTTP_GET, "/auth/me", PEOPLE, MAY_SELF, .out = &account_schema, .handler = auth_me,
		.cache = {.policy = "redis", .kind = KIND_PROFILE, .tags = {"user:{me.user_id}", "bulk:directory"}, KEPT_ON},
		.summary = "The caller's account"},
	{HTTP_PUT, "/auth/me", PEOPLE, MAY_SELF, .in = &profile_in_schema, .out = &account_schema, .handler = auth_me_update,
		.summary = "Change name, phone or picture"},
	{HTTP_POST, "/auth/change-password", PEOPLE, MAY_SELF, .in = &password_in_schema, .flags = ROUTE_THROUGH, .rate = RATE_HEAVY,
		.handler = auth_change_password, .summary = "A new password; all other sessions of the caller end"},
	{HTTP_GET, "/auth/sessions", PEOPLE, MAY_SELF, .out = &session_row_schema, .handler = auth_sessions,
		.summary = "Where the caller is signed in"},
	{HTTP_DELETE, "/auth/sessions/{session_id}", PEOPLE, MAY_SELF, .handler = auth_session_end,
		.summary = "End one of the caller's sessions"},
	{HTTP_GET, "/auth/verify", PEOPLE, MAY_SELF, .rate = RATE_NONE, .handler = auth_verify,
		.summary = "Is the token good: 200 or 401, for a gateway"},
	{HTTP_GET, "/.well-known/jwks.json", ANYONE, MAY_PUBLIC, .flags = ROUTE_BARE, .rate = RATE_NONE, .handler = auth_jwks,
		.summary = "The public keys of access tokens"},

	{HTTP_GET, "/classes", PEOPLE, MAY_SCHOOL, .query = &classes_in_schema, .out = &dir_class_schema, .handler = auth_classes,
		.cache = {.policy = "full", .kind = KIND_SCHOOL, .names = "school class", .vary = "school", KEPT_ON},
		.summary = "The school's classes of a year"},
	{HTTP_GET, "/teacher/classes", ROLE_TEACHER, MAY_SELF, .out = &teacher_class_schema, .handler = auth_teacher_classes,
		.cache = {.policy = "redis", .kind = KIND_ROSTER, .tags = {"dir:teacher:{me.teacher_id}"}, .names = "school class subject", KEPT_ON},
		.summary = "What the teacher is assigned this year"},
	{HTTP_GET, "/teacher/classes/{class_id}/students", ROLE_TEACHER | ROLE_ADMIN, MAY_TEACH, .out = &dir_student_schema,
		.cache = {.policy = "redis", .kind = KIND_ROSTER, .tags = {"dir:roster:{class_id}"}, .names = "student", .vary = "school", KEPT_ON},
		.handler = auth_class_students, .summary = "The students of a class that the teacher teaches"},

	{HTTP_GET, "/internal/sessions/{session_id}", PEERS, MAY_INTERNAL, .flags = ROUTE_BARE, .out = &session_schema, .handler = auth_internal_session,
		.summary = "The session behind an access token"},
	{HTTP_GET, "/internal/directory/{kind}/{object_id}", PEERS, MAY_INTERNAL, .flags = ROUTE_BARE, .handler = auth_internal_directory,
		.summary = "An entry of the directory"},
	{HTTP_GET, "/internal/search/{kind}", PEERS, MAY_INTERNAL, .flags = ROUTE_BARE, .query = &search_in_schema, .handler = auth_internal_search,
		.summary = "Ids of people whose name contains a text"},
	ROUTE_END,
};
/* clang-format on */
