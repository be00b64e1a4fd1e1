/* SPDX-License-Identifier: Apache-2.0 */
/* The classes and subjects of the calling teacher, as the forms of homework and quiz offer them. */
#include "base/uuid.h"
#include "svc/directory.h"

/* clang-format off */
#define SUBJECT_OPTION_FIELDS(F, T) F(T, UUID, subject_id) F(T, TEXT, subject_name)
SCHEMA_STRUCT(subject_option, SUBJECT_OPTION_FIELDS);
SCHEMA_TABLE(subject_option, SUBJECT_OPTION_FIELDS);
#define CLASS_OPTION_FIELDS(F, T) \
	F(T, UUID, class_id) F(T, TEXT, class_name) F(T, INT, class_level) F(T, LIST, subjects, .sub = &subject_option_schema)
SCHEMA_STRUCT(class_option, CLASS_OPTION_FIELDS);
SCHEMA_TABLE(class_option, CLASS_OPTION_FIELDS);
/* clang-format on */

static struct class_option *option_of(struct list *options, const struct dir_assignment *a)
{
	struct class_option *v = options->v, *one;

	for (size_t i = 0; i < options->n; i++) {
		if (uuid_eq(v[i].class_id, a->class_id))
			return &v[i];
	}
	one = &v[options->n++];
	FIELD_PUT(one, class_option, class_id, a->class_id);
	FIELD_PUT(one, class_option, class_name, a->class_name);
	if (FIELD_HAS(a, dir_assignment, grade))
		FIELD_PUT(one, class_option, class_level, a->grade);
	FIELD_MARK(one, class_option, subjects);
	return one;
}

enum err directory_options(struct req *req)
{
	struct dir_teacher teacher;
	const struct dir_assignment *a;
	struct list options = {0};
	enum err e = directory_teacher(req, req->who.teacher_id, &teacher);

	if (e != OK)
		return e;
	a = teacher.assignments.v;
	options.v = arena_array(req->arena, teacher.assignments.n, sizeof(struct class_option));
	for (size_t i = 0; i < teacher.assignments.n; i++) {
		struct class_option *one = option_of(&options, &a[i]);
		struct subject_option *subject;

		if (!FIELD_HAS(&a[i], dir_assignment, subject_id))
			continue; /* a class teacher without a subject in it */
		if (!one->subjects.v)
			one->subjects.v = arena_array(req->arena, teacher.assignments.n, sizeof(*subject));
		subject = (struct subject_option *)one->subjects.v + one->subjects.n++;
		FIELD_PUT(subject, subject_option, subject_id, a[i].subject_id);
		FIELD_PUT(subject, subject_option, subject_name, a[i].subject_name);
	}
	return req_reply_list(req, "options", &class_option_schema, &options);
}
