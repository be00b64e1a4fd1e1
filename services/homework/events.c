/* SPDX-License-Identifier: Apache-2.0 */
/* What homework says to the others: stream events:homework, channel homework:<verb>. */
#include "homework.h"

/* clang-format off */
const struct event_row homework_events[] = {
	{"homework.assigned", &homework_entity, ON_CREATE, {0}, {"title", "class_id", "subject_id", "teacher_id", "student_ids", "due_date", "status"}},
	{"homework.updated", &homework_entity, ON_UPDATE, {0}, {"title", "class_id", "subject_id", "teacher_id", "student_ids", "due_date", "status"}},
	{"homework.deleted", &homework_entity, ON_DELETE, {0}, {"class_id", "teacher_id"}},
	{"homework.submitted", &submission_entity, ON_CREATE | ON_UPDATE, {"submitted_at"}, {"homework_id", "student_id", "class_id", "teacher_id", "is_late"}},
	{"homework.graded", &submission_entity, ON_CREATE | ON_UPDATE, {"graded_at"}, {"homework_id", "student_id", "class_id", "teacher_id"}},
	{0},
};
/* clang-format on */
