/* SPDX-License-Identifier: Apache-2.0 */
/* The nouns: fields, tables, and what the engine does with them. */
#include "homework.h"
#include "svc/audit.h"

const char *const homework_status_names[3] = {"active", "archived", "draft"};
const char *const submission_status_names[4] = {"submitted", "graded", "late", "returned"};
const char *const list_status_names[3] = {"all", "pending", "submitted"};

ROW_TABLE(homework, HOMEWORK_FIELDS, 1);
ROW_TABLE(submission, SUBMISSION_FIELDS, 1);
SCHEMA_TABLE(attachment, ATTACHMENT_FIELDS);
SCHEMA_TABLE(assign_in, ASSIGN_FIELDS);
SCHEMA_TABLE(update_in, UPDATE_FIELDS);
SCHEMA_TABLE(submit_in, SUBMIT_FIELDS);
SCHEMA_TABLE(grade_in, GRADE_FIELDS);
SCHEMA_TABLE(teacher_list_in, TEACHER_LIST_FIELDS);
SCHEMA_TABLE(student_list_in, STUDENT_LIST_FIELDS);
SCHEMA_TABLE(child_in, CHILD_FIELDS);
SCHEMA_TABLE(homework_out, HOMEWORK_OUT_FIELDS);
SCHEMA_TABLE(student_homework, STUDENT_HOMEWORK_FIELDS);
SCHEMA_TABLE(submission_out, SUBMISSION_OUT_FIELDS);

const struct entity homework_entity = {
	.name = "homework",
	.table = "homework.homework",
	.schema = &homework_schema,
	.write = BUFFERED,
	.level = 2,
	.scopes = {"class_id", "teacher_id"},
	.tags = {"homework:{id}", "class:{class_id}", "teacher:{teacher_id}"},
	.owner = "teacher_id",
	.class_field = "class_id",
	.students_field = "student_ids",
	.ttl_s = 900,
	.negative_ttl_s = 30,
};

const struct entity submission_entity = {
	.name = "homework_submission",
	.table = "homework.homework_submissions",
	.schema = &submission_schema,
	.write = BUFFERED,
	.level = 3,
	.scopes = {"homework_id", "student_id", "teacher_id"},
	/* Not its class: the lists of a class's students show each his own. Not homework:{…}: its text is the same whoever hands in. */
	.tags = {"submissions:{homework_id}", "student:{student_id}", "work:{homework_id}.{student_id}"},
	/* The teacher's list and page of a homework show of it that it was handed in, and no mark. */
	.when = {{"submitted_at", NULL, "teacher:{teacher_id}"}, {"submitted_at", NULL, "handed_in:{homework_id}"}},
	.owner = "teacher_id",
	.student_field = "student_id",
	.ttl_s = 900,
	.negative_ttl_s = 30,
};

AUDIT_ENTITY(homework);

const struct entity *const homework_entities[] = {&homework_entity, &submission_entity, &homework_audit_entity, NULL};
