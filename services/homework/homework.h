/* SPDX-License-Identifier: Apache-2.0 */
/* Homework: what teachers assign, what students hand in, what it was worth. */
#ifndef S24_HOMEWORK_H
#define S24_HOMEWORK_H

#include "svc/cache_query.h"
#include "svc/directory.h"
#include "svc/entity.h"
#include "svc/req.h"
#include "svc/service.h"

enum homework_status { HOMEWORK_ACTIVE, HOMEWORK_ARCHIVED, HOMEWORK_DRAFT };
enum submission_status { SUBMISSION_SUBMITTED, SUBMISSION_GRADED, SUBMISSION_LATE, SUBMISSION_RETURNED };

#define MARKS_MAX (1000 * 100) /* hundredths */
#define VERSIONS_MAX 20        /* of one submission; all are kept */

/* clang-format off */
#define HOMEWORK_FIELDS(F, T)                                                                      \
	F(T, TEXT,  title,       .min = 1, .max = 200, .flags = REQUIRED)                          \
	F(T, TEXT,  description, .max = 10000)                                                     \
	F(T, UUID,  class_id,    .flags = REQUIRED)                                                \
	F(T, UUID,  subject_id,  .flags = REQUIRED)                                                \
	F(T, UUID,  teacher_id,  .flags = REQUIRED | SERVER)                                       \
	F(T, UUIDS, student_ids, .max_items = 500)            /* empty: the class */               \
	F(T, TIME,  publish_at)                                                                    \
	F(T, DATE,  due_date,    .flags = REQUIRED)                                                \
	F(T, DATE,  close_date)                               /* late is allowed up to here */     \
	F(T, INT,   max_marks,   .min = 0, .max = 1000)                                            \
	F(T, ENUM,  status,      .names = HOMEWORK_STATUSES, .flags = REQUIRED)                    \
	F(T, JSON,  attachments, .flags = SERVER)             /* [{id, file_name, file_size, mime_type, sha256}] */ \
	F(T, JSON,  extensions,  .flags = SERVER)
ROW_STRUCT(homework, HOMEWORK_FIELDS);

#define SUBMISSION_FIELDS(F, T)                                                                    \
	F(T, UUID,    homework_id,     .flags = NATURAL)                                           \
	F(T, UUID,    student_id,      .flags = NATURAL)                                           \
	F(T, UUID,    class_id,        .flags = REQUIRED)                                          \
	F(T, UUID,    teacher_id,      .flags = REQUIRED)     /* of the homework */                \
	F(T, TEXT,    submission_text, .max = 20000)                                               \
	F(T, TEXTS,   attachments,     .max = 2000, .max_items = 5)                                \
	F(T, TIME,    submitted_at,    .flags = SERVER)                                            \
	F(T, ENUM,    status,          .names = SUBMISSION_STATUSES, .flags = REQUIRED | SERVER)   \
	F(T, BOOL,    is_late,         .flags = REQUIRED | SERVER)                                 \
	F(T, DECIMAL, marks_obtained,  .min = 0, .max = MARKS_MAX)                                 \
	F(T, TEXT,    feedback,        .max = 5000)                                                \
	F(T, TIME,    graded_at,       .flags = SERVER)                                            \
	F(T, UUID,    graded_by,       .flags = SERVER)                                            \
	F(T, JSON,    history,         .max = 4 << 20, .flags = SERVER) /* [{submission_text, attachments, submitted_at, status, sha256}] */
ROW_STRUCT(submission, SUBMISSION_FIELDS);

/* One of a homework's files, as the row keeps it. */
#define ATTACHMENT_FIELDS(F, T)                                                                    \
	F(T, UUID, id) F(T, TEXT, file_name) F(T, INT, file_size) F(T, TEXT, mime_type) F(T, TEXT, sha256)
SCHEMA_STRUCT(attachment, ATTACHMENT_FIELDS);

/* ---- what comes in ---- */
#define ASSIGN_FIELDS(F, T)                                                                        \
	F(T, TEXT,  title,       .min = 1, .max = 200, .flags = REQUIRED)                          \
	F(T, TEXT,  description, .max = 10000, .flags = BLANK_NULL)                                \
	F(T, UUID,  class_id,    .flags = REQUIRED)                                                \
	F(T, UUID,  subject_id,  .flags = REQUIRED)                                                \
	F(T, DATE,  due_date,    .flags = REQUIRED)                                                \
	F(T, DATE,  close_date,  .flags = BLANK_NULL)                                              \
	F(T, INT,   max_marks,   .min = 0, .max = 1000)
SCHEMA_STRUCT(assign_in, ASSIGN_FIELDS);

#define UPDATE_FIELDS(F, T)                                                                        \
	F(T, TEXT,  title,       .min = 1, .max = 200)                                             \
	F(T, TEXT,  description, .max = 10000, .flags = BLANK_NULL)                                \
	F(T, DATE,  due_date)                                                                      \
	F(T, DATE,  close_date,  .flags = BLANK_NULL)                                              \
	F(T, INT,   max_marks,   .min = 0, .max = 1000)                                            \
	F(T, ENUM,  status,      .names = HOMEWORK_STATUSES)
SCHEMA_STRUCT(update_in, UPDATE_FIELDS);

#define SUBMIT_FIELDS(F, T)                                                                        \
	F(T, TEXT,  submission_text, .max = 20000)                                                 \
	F(T, TEXTS, attachments,     .max = 2000, .max_items = 5)
SCHEMA_STRUCT(submit_in, SUBMIT_FIELDS);

#define GRADE_FIELDS(F, T)                                                                         \
	F(T, DECIMAL, marks_obtained, .min = 0, .max = MARKS_MAX)                                  \
	F(T, TEXT,    feedback,       .max = 5000, .flags = BLANK_NULL)
SCHEMA_STRUCT(grade_in, GRADE_FIELDS);

#define TEACHER_LIST_FIELDS(F, T) PAGE_FIELDS(F, T)                                                \
	F(T, UUID, class_id) F(T, UUID, subject_id) F(T, TEXT, search, .max = 100)
SCHEMA_STRUCT(teacher_list_in, TEACHER_LIST_FIELDS);

#define STUDENT_LIST_FIELDS(F, T) PAGE_FIELDS(F, T)                                                \
	F(T, ENUM, status, .names = LIST_STATUSES) F(T, UUID, student_id)
SCHEMA_STRUCT(student_list_in, STUDENT_LIST_FIELDS);

#define CHILD_FIELDS(F, T) F(T, UUID, student_id)
SCHEMA_STRUCT(child_in, CHILD_FIELDS);

/* ---- what goes out ---- */
#define HOMEWORK_OUT_FIELDS(F, T)                                                                  \
	F(T, UUID, id) F(T, TEXT, title) F(T, TEXT, description) F(T, UUID, class_id) F(T, TEXT, class_name)                     \
	F(T, UUID, subject_id) F(T, TEXT, subject_name) F(T, DATE, due_date) F(T, DATE, close_date) F(T, INT, max_marks)         \
	F(T, ENUM, status, .names = HOMEWORK_STATUSES) F(T, INT, submissions_count) F(T, INT, students_count)                    \
	F(T, INT, attachment_count) F(T, BOOL, has_attachments) F(T, JSON, attachments) F(T, TIME, created_at)                   \
	F(T, UUIDS, student_ids, .flags = HIDDEN) F(T, INT, total, .flags = HIDDEN)
SCHEMA_STRUCT(homework_out, HOMEWORK_OUT_FIELDS);

#define STUDENT_HOMEWORK_FIELDS(F, T)                                                              \
	F(T, UUID, id) F(T, TEXT, title) F(T, TEXT, description) F(T, UUID, subject_id) F(T, TEXT, subject_name)                 \
	F(T, TEXT, teacher_name) F(T, DATE, due_date) F(T, DATE, close_date) F(T, INT, max_marks) F(T, BOOL, is_submitted)       \
	F(T, JSON, submission) F(T, JSON, attachment_details) F(T, UUID, teacher_id, .flags = HIDDEN) F(T, INT, total, .flags = HIDDEN) \
	F(T, TIME, next_publish_at, .flags = HIDDEN)
SCHEMA_STRUCT(student_homework, STUDENT_HOMEWORK_FIELDS);

#define SUBMISSION_OUT_FIELDS(F, T)                                                                \
	F(T, UUID, id) F(T, UUID, homework_id) F(T, UUID, student_id) F(T, TEXT, student_name) F(T, TEXT, roll_number)            \
	F(T, TEXT, submission_text) F(T, TEXTS, attachments) F(T, TIME, submitted_at) F(T, ENUM, status, .names = SUBMISSION_STATUSES) \
	F(T, BOOL, is_late) F(T, DECIMAL, marks_obtained) F(T, TEXT, feedback) F(T, TIME, graded_at) F(T, JSON, history)
SCHEMA_STRUCT(submission_out, SUBMISSION_OUT_FIELDS);
/* clang-format on */

#define HOMEWORK_STATUSES {homework_status_names, 3}
#define SUBMISSION_STATUSES {submission_status_names, 4}
#define LIST_STATUSES {list_status_names, 3}
extern const char *const homework_status_names[3], *const submission_status_names[4], *const list_status_names[3];
enum list_status { LIST_ALL, LIST_PENDING, LIST_SUBMITTED };

extern const struct entity homework_entity, submission_entity;
extern const struct entity *const homework_entities[];
extern const struct route homework_routes[];
extern const struct event_row homework_events[];
extern const struct warm_row homework_warms[];

/* ---- rules of the noun, free of I/O (rules.c) ---- */
/* Is it late, or closed, for a homework handed in at an instant? Days end in the school's zone. */
bool homework_is_late(const struct homework *hw, struct str time_zone, int64_t at_us);
bool homework_is_visible(const struct homework *hw, int64_t at_us); /* to students and their parents */
bool homework_is_open(const struct homework *hw, struct str time_zone, int64_t at_us);
bool homework_is_for(const struct homework *hw, struct uuid student_id);
/* The history with the present version of the submission added to it. False: VERSIONS_MAX are there. */
bool submission_keep(const struct submission *sub, struct arena *arena, struct str *ret_history);

/* ---- handlers ---- */
/* What `read` gets of a homework's submissions, kept until one of them changes; its arg is &id. */
SUSPENDS MUST_CHECK enum err homework_rows_kept(struct req *req, const struct pg_stmt *stmt, struct uuid id, const struct schema *out,
						SUSPENDS enum err (*read)(struct req *req, void *arg, struct list *ret), struct list *ret);
SUSPENDS enum err homework_list(struct req *req);
SUSPENDS enum err homework_assign(struct req *req);
SUSPENDS enum err homework_get(struct req *req);
SUSPENDS enum err homework_update(struct req *req);
SUSPENDS enum err homework_delete(struct req *req);
SUSPENDS enum err homework_download(struct req *req);
SUSPENDS enum err homework_view(struct req *req);
SUSPENDS enum err homework_submissions(struct req *req);
SUSPENDS enum err homework_grade(struct req *req);
SUSPENDS enum err homework_of_student(struct req *req);
SUSPENDS enum err homework_of_student_get(struct req *req);
SUSPENDS enum err homework_submit(struct req *req);

#endif
