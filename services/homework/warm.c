/* SPDX-License-Identifier: Apache-2.0 */
/* What a teacher sees next, made while he reads the answer to his change. */
#include "homework.h"
#include "svc/cache_warm.h"

/* clang-format off */
const struct warm_row homework_warms[] = {
	{"first page of the teacher's list", "/teacher/homework", .after = &homework_entity, .on = ON_CREATE},
	{"homework that became active", "/teacher/homework/{id}", .after = &homework_entity, .on = ON_UPDATE, .field = "status", .becomes = "active"},
	{NULL},
};
/* clang-format on */
