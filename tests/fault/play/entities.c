/* SPDX-License-Identifier: Apache-2.0 */
/* The nouns: fields, tables, and what the engine does with them. */
#include "play.h"
#include "svc/audit.h"

const char *const attendance_names[3] = {"present", "absent", "late"};

/* clang-format off */
ROW_TABLE(topic, TOPIC_FIELDS, 1);
ROW_TABLE(note, NOTE_FIELDS, 1);
ROW_TABLE(counter, COUNTER_FIELDS, 1);
ROW_TABLE(mark, MARK_FIELDS, 1);
ROW_TABLE(account, ACCOUNT_FIELDS, 1);
#define DEFINE(T, LIST) SCHEMA_TABLE(T, LIST);
IO_SCHEMAS(DEFINE)

const struct entity topic_entity = {.name = "play_topic", .table = "play.topics", .schema = &topic_schema, .write = BUFFERED, .level = 1, .tags = {"topic:{id}"}};
const struct entity note_entity = {.name = "play_note", .table = "play.notes", .schema = &note_schema, .write = BUFFERED, .level = 2, .scopes = {"class_id"},
	.tags = {"note:{id}", "class:{class_id}"}, .class_field = "class_id"};
const struct entity counter_entity = {.name = "play_counter", .table = "play.counters", .schema = &counter_schema, .write = BUFFERED, .level = 1, .tags = {"counter:{id}"}};
const struct entity mark_entity = {.name = "play_register", .table = "play.registers", .schema = &mark_schema, .write = BUFFERED, .level = 1, .scopes = {"date+class_id"},
	.tags = {"class:{class_id}"}};
const struct entity account_entity = {.name = "play_account", .table = "play.accounts", .schema = &account_schema, .write = THROUGH, .tags = {"account:{id}"}};
AUDIT_ENTITY(play);
const struct entity *const play_entities[] = {&topic_entity, &note_entity, &counter_entity, &mark_entity, &account_entity, &play_audit_entity, NULL};
/* clang-format on */
