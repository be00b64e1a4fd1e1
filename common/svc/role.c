/* SPDX-License-Identifier: Apache-2.0 */
/* Names of roles, as tokens and documents write them. */
#include "svc/role.h"

#include "base/str.h"

static const struct {
	enum role role;
	const char *name;
} names[] = {
	{ROLE_SUPER_ADMIN, "super_admin"}, {ROLE_ADMIN, "admin"},   {ROLE_TEACHER, "teacher"},
	{ROLE_STUDENT, "student"},         {ROLE_STAFF, "staff"},   {ROLE_PARENT, "parent"},
	{ROLE_SERVICE, "service"},         {ROLE_ANYONE, "anyone"},
};

const char *role_name(enum role role)
{
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (names[i].role == role)
			return names[i].name;
	return "none";
}

bool role_parse(struct str name, enum role *ret)
{
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if ((names[i].role & ROLE_PEOPLE) == 0 || !str_is(name, names[i].name))
			continue;
		*ret = names[i].role;
		return true;
	}
	return false;
}
