/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who did what (security.md 5.5): one table of the same shape in every schema. A buffered change puts its audit record in the same PUT as the
 * entity `<service>_audit`; a write-through change inserts it in its transaction. A service with entities names its own once, in entities.c:
 *
 *	AUDIT_ENTITY(homework);        -- homework_audit_entity, last in the entity table
 */
#ifndef S24_SVC_AUDIT_H
#define S24_SVC_AUDIT_H

#include "svc/entity.h"

/* clang-format off */
#define AUDIT_ROW_FIELDS(F, T)                                                                     \
	F(T, UUID, actor)                                                                          \
	F(T, TEXT, role, .max = 32)                                                                \
	F(T, TEXT, action, .max = 100, .flags = REQUIRED)                                          \
	F(T, TEXT, entity_type, .max = 64, .flags = REQUIRED)                                      \
	F(T, UUID, entity_id)                                                                      \
	F(T, JSON, old_values, .max = 1 << 20)                                                     \
	F(T, JSON, new_values, .max = 1 << 20)                                                     \
	F(T, TEXT, ip, .max = 64)                                                                  \
	F(T, TEXT, user_agent, .max = 512)                                                         \
	F(T, TEXT, reason, .max = 1000)                                                            \
	F(T, TEXT, request_id, .max = 128)
/* clang-format on */
ROW_STRUCT(audit_row, AUDIT_ROW_FIELDS);

#define AUDIT_ENTITY(service)                                                                      \
	const struct entity service##_audit_entity = {.name = #service "_audit",                   \
						      .table = #service ".audit_logs",             \
						      .schema = &audit_row_schema,                 \
						      .write = APPEND,                             \
						      .level = 4}

/* The service's audit entity; NULL when its table has none. */
const struct entity *audit_entity(const struct req *req);
/* A record of what the caller of the request does now. Values are JSON objects or empty. In the request's arena. */
struct audit_row *audit_new(struct req *req, const char *action, const char *entity, struct uuid id, struct str old_json, struct str new_json);
/* Old and new values of the fields that differ; a row that is not there (NULL) has none. */
void audit_values(struct req *req, const struct schema *s, const void *old, const void *row, struct str *ret_old, struct str *ret_new);
/* Bit i: field i differs. Either may be NULL. */
uint64_t row_changes(const struct schema *s, const void *old, const void *row);

#endif
