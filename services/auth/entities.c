/* SPDX-License-Identifier: Apache-2.0 */
/* Auth's rows are written in transactions with SQL of their own, so it has no entity that the engine writes; here are the shapes. */
#include "auth.h"

SCHEMA_TABLE(account, ACCOUNT_FIELDS);
SCHEMA_TABLE(session_row, SESSION_ROW_FIELDS);
SCHEMA_TABLE(login_in, LOGIN_FIELDS);
SCHEMA_TABLE(refresh_in, REFRESH_FIELDS);
SCHEMA_TABLE(profile_in, PROFILE_FIELDS);
SCHEMA_TABLE(password_in, PASSWORD_FIELDS);
SCHEMA_TABLE(classes_in, CLASSES_FIELDS);
SCHEMA_TABLE(search_in, SEARCH_FIELDS);
SCHEMA_TABLE(teacher_class, TEACHER_CLASS_FIELDS);

const struct entity *const auth_entities[] = {NULL};
