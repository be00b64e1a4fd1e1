/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The school's directory for every daemon: kept by the cache engine under names that all of them share, and filled from auth's internal
 * route /internal/directory/<kind>/<id>. Both hold the same JSON, described once here, so auth encodes what the others decode. After the commit of a change auth
 * raises the entry's tag dir:<kind>:<id>, and dirs:<kind> for the answers that show such names (cache_policy.names). A known entry that has aged, and was not changed
 * as far as anybody was told, stands in when auth is away. Without a cache each request asks auth.
 * ERR_NOT_FOUND: no such object in this school. ERR_PEER: nobody knows it now.
 */
#ifndef S24_SVC_DIRECTORY_H
#define S24_SVC_DIRECTORY_H

#include "base/schema.h"
#include "svc/req.h"

#define DIR_SCHOOL_FIELDS(F, T)                                                                    \
	F(T, UUID, id) F(T, TEXT, name) F(T, TEXT, time_zone) F(T, TEXT, academic_year) F(T, INT, year_start_month) F(T, TEXT, buffer)
SCHEMA_STRUCT(dir_school, DIR_SCHOOL_FIELDS);

#define DIR_CLASS_FIELDS(F, T)                                                                     \
	F(T, UUID, id) F(T, TEXT, name) F(T, INT, grade) F(T, TEXT, section) F(T, TEXT, academic_year) F(T, UUID, class_teacher_id) \
	F(T, TEXT, class_teacher_name) F(T, TEXT, room_number) F(T, INT, total_students)
SCHEMA_STRUCT(dir_class, DIR_CLASS_FIELDS);

#define DIR_SUBJECT_FIELDS(F, T) F(T, UUID, id) F(T, TEXT, name) F(T, TEXT, code)
SCHEMA_STRUCT(dir_subject, DIR_SUBJECT_FIELDS);

#define DIR_STUDENT_FIELDS(F, T)                                                                   \
	F(T, UUID, id) F(T, UUID, user_id) F(T, UUID, class_id) F(T, TEXT, full_name) F(T, TEXT, email) F(T, TEXT, roll_number) \
	F(T, TEXT, admission_number)
SCHEMA_STRUCT(dir_student, DIR_STUDENT_FIELDS);

#define DIR_ROSTER_FIELDS(F, T) F(T, UUID, class_id) F(T, LIST, students, .sub = &dir_student_schema)
SCHEMA_STRUCT(dir_roster, DIR_ROSTER_FIELDS);

/* One row per class and subject that a teacher is assigned this year. */
#define DIR_ASSIGNMENT_FIELDS(F, T)                                                                \
	F(T, UUID, class_id) F(T, TEXT, class_name) F(T, INT, grade) F(T, UUID, subject_id) F(T, TEXT, subject_name) \
	F(T, BOOL, is_class_teacher) F(T, TEXT, academic_year)
SCHEMA_STRUCT(dir_assignment, DIR_ASSIGNMENT_FIELDS);

#define DIR_TEACHER_FIELDS(F, T)                                                                   \
	F(T, UUID, id) F(T, UUID, user_id) F(T, TEXT, full_name) F(T, TEXT, email) F(T, LIST, assignments, .sub = &dir_assignment_schema)
SCHEMA_STRUCT(dir_teacher, DIR_TEACHER_FIELDS);

#define DIR_USER_FIELDS(F, T) F(T, UUID, id) F(T, TEXT, full_name) F(T, TEXT, role)
SCHEMA_STRUCT(dir_user, DIR_USER_FIELDS);

/* Children of a parent's user id, living links only. */
#define DIR_CHILDREN_FIELDS(F, T) F(T, UUID, user_id) F(T, LIST, students, .sub = &dir_student_schema)
SCHEMA_STRUCT(dir_children, DIR_CHILDREN_FIELDS);

SUSPENDS MUST_CHECK enum err directory_school(struct req *req, struct dir_school *ret); /* the caller's school */
/* The date in the caller's school now; of an unknown zone, in UTC. */
SUSPENDS MUST_CHECK enum err directory_today(struct req *req, int32_t *ret_day);
SUSPENDS MUST_CHECK enum err directory_class(struct req *req, struct uuid class_id, struct dir_class *ret);
SUSPENDS MUST_CHECK enum err directory_subject(struct req *req, struct uuid subject_id, struct dir_subject *ret);
SUSPENDS MUST_CHECK enum err directory_student(struct req *req, struct uuid student_id, struct dir_student *ret);
SUSPENDS MUST_CHECK enum err directory_teacher(struct req *req, struct uuid teacher_id, struct dir_teacher *ret);
SUSPENDS MUST_CHECK enum err directory_user(struct req *req, struct uuid user_id, struct dir_user *ret);
SUSPENDS MUST_CHECK enum err directory_roster(struct req *req, struct uuid class_id, struct dir_roster *ret);
SUSPENDS MUST_CHECK enum err directory_children(struct req *req, struct uuid user_id, struct dir_children *ret);
/* Does the teacher teach the class (and subject, unless nil) this year? OK or ERR_FORBIDDEN. */
SUSPENDS MUST_CHECK enum err directory_teaches(struct req *req, struct uuid teacher_id, struct uuid class_id, struct uuid subject_id);
/* Ids whose name contains the text, accents and case folded; at most 200; kind is "student", "teacher" or "user". */
SUSPENDS MUST_CHECK enum err directory_search(struct req *req, const char *kind, struct str text, struct list *ret_ids);

/* A handler: the caller's classes, each with its subjects (GET /teacher/homework/options, /teacher/quizzes/options). */
SUSPENDS enum err directory_options(struct req *req);

/* Tags, for auth, which raises them, and answers that show names: */
#define DIRECTORY_ENTRY "dir:%s:" /* and the id */
#define DIRECTORY_KIND "dirs:"    /* and the kind */
#define DIRECTORY_BULK "bulk:directory" /* everything: what is written around auth */

#endif
