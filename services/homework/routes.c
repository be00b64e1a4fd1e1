/* SPDX-License-Identifier: Apache-2.0 */
/* The whole HTTP surface of homework. */
#include "homework.h"

#define TEACHER ROLE_TEACHER
#define PUPIL (ROLE_STUDENT | ROLE_PARENT)
#define OWN MAY_OWN(&homework_entity)
#define ASSIGNED MAY_ASSIGNED(&homework_entity)
/* What nobody has changed is given out past its life while one refreshes it, and for an hour while it cannot be read. A change drops it at once. */
#define KEPT_ON .swr_s = 1800, .sie_s = 3600

/* clang-format off */
const struct route homework_routes[] = {
	{HTTP_GET, "/teacher/homework/options", TEACHER, MAY_SELF, .handler = directory_options,
		.cache = {.policy = "redis", .kind = KIND_ROSTER, .tags = {"dir:teacher:{me.teacher_id}"}, .names = "school class subject", KEPT_ON},
		.summary = "Classes and subjects that the teacher may assign homework to"},
	{HTTP_GET, "/teacher/homework", TEACHER, MAY_SELF, .query = &teacher_list_in_schema, .out = &homework_out_schema, .handler = homework_list,
		.cache = {.policy = "redis", .kind = KIND_LIST, .tags = {"teacher:{me.teacher_id}"}, .reads = {&homework_entity, &submission_entity},
			.names = "class subject", KEPT_ON},
		.summary = "The teacher's homework, newest first"},
	{HTTP_POST, "/teacher/homework", TEACHER, MAY_TEACH, .in = &assign_in_schema, .out = &homework_out_schema,
		.flags = ROUTE_MULTIPART | ROUTE_FULL_STATE, .creates = &homework_entity, .handler = homework_assign,
		.summary = "Assign homework to a class, with up to five files"},
	{HTTP_GET, "/teacher/homework/{homework_id}", TEACHER, OWN, .out = &homework_out_schema, .handler = homework_get,
		.cache = {.policy = "redis", .kind = KIND_DETAIL, .tags = {"homework:{homework_id}", "handed_in:{homework_id}"},
			.reads = {&homework_entity, &submission_entity}, .names = "class subject", KEPT_ON},
		.summary = "One homework"},
	{HTTP_PUT, "/teacher/homework/{homework_id}", TEACHER, OWN, .in = &update_in_schema, .out = &homework_out_schema, .handler = homework_update,
		.summary = "Change title, text, dates, marks or status"},
	{HTTP_DELETE, "/teacher/homework/{homework_id}", TEACHER, OWN, .handler = homework_delete,
		.summary = "Delete a homework"},
	{HTTP_GET, "/teacher/homework/{homework_id}/submissions", TEACHER, OWN, .handler = homework_submissions,
		.cache = {.policy = "redis", .kind = KIND_SUBMISSIONS, .tags = {"homework:{homework_id}", "submissions:{homework_id}"},
			.reads = {&homework_entity, &submission_entity}, .names = "roster student", KEPT_ON},
		.summary = "Who handed in what; students without a submission too"},
	{HTTP_PUT, "/teacher/homework/{homework_id}/submissions/{student_id}", TEACHER, OWN, .in = &grade_in_schema, .out = &submission_out_schema,
		.handler = homework_grade, .summary = "Mark a student's work"},
	{HTTP_GET, "/teacher/homework/{homework_id}/attachments/{attachment_id}/download", TEACHER, OWN, .flags = ROUTE_STREAM,
		.handler = homework_download, .summary = "A file of the homework"},

	{HTTP_GET, "/academic/homework", PUPIL, MAY_SELF, .query = &student_list_in_schema, .out = &student_homework_schema, .handler = homework_of_student,
		.cache = {.policy = "redis", .kind = KIND_LIST, .tags = {"student:{student_id}", "class:{student.class_id}"},
			.reads = {&homework_entity, &submission_entity}, .names = "subject teacher", .vary = "student", KEPT_ON},
		.summary = "The student's homework with what was handed in"},
	{HTTP_GET, "/academic/homework/{homework_id}", PUPIL, ASSIGNED, .query = &child_in_schema, .out = &student_homework_schema,
		.cache = {.policy = "redis", .kind = KIND_DETAIL, .tags = {"homework:{homework_id}", "work:{homework_id}.{student_id}"},
			.reads = {&homework_entity, &submission_entity}, .names = "subject teacher", .vary = "student", KEPT_ON},
		.handler = homework_of_student_get, .summary = "One homework as its student sees it"},
	{HTTP_POST, "/academic/homework/{homework_id}/submit", ROLE_STUDENT, ASSIGNED, .in = &submit_in_schema, .out = &submission_out_schema,
		.handler = homework_submit, .summary = "Hand in; again until closed, every version is kept"},
	{HTTP_GET, "/academic/homework/{homework_id}/attachments/{attachment_id}/view", PUPIL, ASSIGNED, .query = &child_in_schema,
		.flags = ROUTE_STREAM, .handler = homework_view, .summary = "A file of the homework, to show"},
	{HTTP_GET, "/academic/homework/{homework_id}/attachments/{attachment_id}/download", PUPIL, ASSIGNED, .query = &child_in_schema,
		.flags = ROUTE_STREAM, .handler = homework_download, .summary = "A file of the homework, to keep"},
	ROUTE_END,
};
/* clang-format on */
