/* SPDX-License-Identifier: Apache-2.0 */
/* The bench daemon's nouns. */
#include "svc/audit.h"
#include "writer.h"

SCHEMA_TABLE(answer, ANSWER_FIELDS);
SCHEMA_TABLE(quiz_in, QUIZ_IN_FIELDS);
ROW_TABLE(quiz, QUIZ_FIELDS, 1);

#define LIKE_HOMEWORK                                                                                        \
	.schema = &homework_schema, .level = 2, .scopes = {"class_id", "teacher_id"}, .owner = "teacher_id", \
	.class_field = "class_id"

const struct entity single_entity = {.name = "single", .table = "homework.bench_single", .write = THROUGH, LIKE_HOMEWORK};
const struct entity through_entity = {.name = "through", .table = "homework.bench_through", .write = THROUGH, LIKE_HOMEWORK};
const struct entity quiz_entity = {
	.name = "quiz_like",
	.table = "homework.bench_quiz",
	.schema = &quiz_schema,
	.write = BUFFERED,
	.level = 3,
	.scopes = {"quiz_id", "student_id"},
	.student_field = "student_id",
};

extern const struct entity homework_audit_entity;
const struct entity *const writer_entities[] = {&homework_entity, &single_entity,         &through_entity,
						&quiz_entity,     &homework_audit_entity, NULL};
