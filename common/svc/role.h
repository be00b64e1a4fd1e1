/* SPDX-License-Identifier: Apache-2.0 */
/* Who calls: roles as bits, and the verified caller of a request. */
#ifndef S24_SVC_ROLE_H
#define S24_SVC_ROLE_H

#include "base/uuid.h"

enum role {
	ROLE_SUPER_ADMIN = 1 << 0,
	ROLE_ADMIN = 1 << 1,
	ROLE_TEACHER = 1 << 2,
	ROLE_STUDENT = 1 << 3,
	ROLE_STAFF = 1 << 4,
	ROLE_PARENT = 1 << 5,
	ROLE_SERVICE = 1 << 6, /* another daemon, on the internal listener, with a service token */
	ROLE_ANYONE = 1 << 7,  /* a route without a token */
};
#define ROLE_PEOPLE (ROLE_SUPER_ADMIN | ROLE_ADMIN | ROLE_TEACHER | ROLE_STUDENT | ROLE_STAFF | ROLE_PARENT)

const char *role_name(enum role role);              /* "teacher" */
bool role_parse(struct str name, enum role *ret);   /* people's roles only */

struct caller {
	enum role role;
	struct uuid user_id, school_id, sid;
	struct uuid teacher_id, student_id, staff_id; /* profile of the role; nil otherwise */
	struct str email, full_name;                  /* from the token */
	struct str rights;                            /* staff: "accounts transport" */
	struct str service;                           /* ROLE_SERVICE: its name */
	size_t buffer;                                /* of the school: svc/buffers.h … */
	struct str buffer_name;                       /* … and its name, as the token or the peer says */
	int64_t token_expires_s;
};

#endif
