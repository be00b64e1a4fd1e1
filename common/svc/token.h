/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What auth writes and every daemon reads: the payload of tokens, and the session behind an access token.
 *
 * Access tokens are JWTs of type "at+jwt" (RFC 9068), service tokens of type "service+jwt", both EdDSA. A session is JSON under `session:{sid}` in
 * the buffer's Redis, and the answer of auth's internal route /internal/sessions/{session_id}; both are SESSION_FIELDS. An empty value: it has ended, ask nobody.
 */
#ifndef S24_SVC_TOKEN_H
#define S24_SVC_TOKEN_H

#include "base/schema.h"

#define TOKEN_TYPE "at+jwt"
#define SERVICE_TOKEN_TYPE "service+jwt"
#define TOKEN_ISSUER "schools24"
#define TOKEN_AUDIENCE "schools24"

/* buffer: the school's write buffer by name; without it, the one called main. */
/* clang-format off */
#define TOKEN_FIELDS(F, T)                                                                         \
	F(T, TEXT, sub,       .flags = REQUIRED)                                                   \
	F(T, UUID, user_id,   .flags = REQUIRED)                                                   \
	F(T, TEXT, email,     .flags = REQUIRED)                                                   \
	F(T, TEXT, full_name, .flags = REQUIRED)                                                   \
	F(T, TEXT, role,      .flags = REQUIRED)                                                   \
	F(T, UUID, school_id, .flags = REQUIRED)                                                   \
	F(T, UUID, sid,       .flags = REQUIRED)                                                   \
	F(T, TEXT, iss,       .flags = REQUIRED)                                                   \
	F(T, TEXT, aud,       .flags = REQUIRED)                                                   \
	F(T, INT,  iat,       .flags = REQUIRED)                                                   \
	F(T, INT,  exp,       .flags = REQUIRED)                                                   \
	F(T, UUID, jti)                                                                            \
	F(T, TEXT, buffer)
SCHEMA_STRUCT(token, TOKEN_FIELDS);

#define SERVICE_TOKEN_FIELDS(F, T)                                                                 \
	F(T, TEXT,  sub, .flags = REQUIRED)                                                        \
	F(T, TEXTS, aud, .flags = REQUIRED)                                                        \
	F(T, TEXT,  iss, .flags = REQUIRED)                                                        \
	F(T, INT,   iat, .flags = REQUIRED)                                                        \
	F(T, INT,   exp, .flags = REQUIRED)
SCHEMA_STRUCT(service_token, SERVICE_TOKEN_FIELDS);

/* rights: staff's, separated by spaces; expires_at in seconds since 1970. */
#define SESSION_FIELDS(F, T)                                                                       \
	F(T, UUID, user_id,   .flags = REQUIRED)                                                   \
	F(T, UUID, school_id, .flags = REQUIRED)                                                   \
	F(T, TEXT, role,      .flags = REQUIRED)                                                   \
	F(T, UUID, teacher_id)                                                                     \
	F(T, UUID, student_id)                                                                     \
	F(T, UUID, staff_id)                                                                       \
	F(T, TEXT, rights)                                                                         \
	F(T, INT,  expires_at, .flags = REQUIRED)
SCHEMA_STRUCT(session, SESSION_FIELDS);
/* clang-format on */

#endif
