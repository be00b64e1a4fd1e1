/* SPDX-License-Identifier: Apache-2.0 */
/* What every school looks at first in the morning, made before it does. */
#include "auth.h"
#include "auth_sql.h"
#include "svc/cache_warm.h"

/* clang-format off */
const struct warm_row auth_warms[] = {
	{"classes", "/classes", .roles = ROLE_ADMIN | ROLE_TEACHER | ROLE_STUDENT | ROLE_STAFF | ROLE_PARENT,
		.when = WARM_AT_START | WARM_SCHEDULED | WARM_ON_DEMAND},
	{"rosters", "/teacher/classes/{id}/students", .roles = ROLE_TEACHER, .when = WARM_AT_START | WARM_SCHEDULED | WARM_ON_DEMAND,
		.each = &SQL_WARM_CLASSES},
	{NULL},
};
/* clang-format on */
