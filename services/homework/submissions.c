/* SPDX-License-Identifier: Apache-2.0 */
/* Handing in, and what it was worth. */
#include <string.h>

#include "base/uuid.h"
#include "homework.h"
#include "homework_sql.h"

/* The student's submission of the homework that the rule has loaded, as a copy to change. *ret_old: what was there; NULL: nothing. */
SUSPENDS static enum err edit_submission(struct req *req, struct uuid student_id, const struct submission **ret_old,
					 struct submission **ret)
{
	const struct homework *hw = req->object;
	struct submission key = {.homework_id = hw->row.id, .student_id = student_id}, *sub;
	struct uuid id = entity_natural_id(&submission_entity, hw->row.school_id, &key);
	const struct submission *old = NULL;
	enum err e = entity_get_child(req, &submission_entity, id, &homework_entity, hw, &old);

	if (e != OK && e != ERR_NOT_FOUND)
		return e;
	sub = entity_edit(req, &submission_entity, old);
	sub->row.id = id;
	FIELD_PUT(sub, submission, homework_id, hw->row.id);
	FIELD_PUT(sub, submission, student_id, student_id);
	FIELD_PUT(sub, submission, class_id, hw->class_id);
	FIELD_PUT(sub, submission, teacher_id, hw->teacher_id);
	if (!old)
		FIELD_PUT(sub, submission, is_late, false);
	*ret_old = old;
	*ret = sub;
	return OK;
}

SUSPENDS static enum err reply_submission(struct req *req, const struct submission *sub)
{
	struct submission_out out = {0};
	struct dir_student student;
	enum err e = directory_student(req, sub->student_id, &student);

	schema_project(&submission_out_schema, &out, &submission_schema, sub);
	if (e == OK) {
		FIELD_PUT(&out, submission_out, student_name, student.full_name);
		FIELD_PUT(&out, submission_out, roll_number, student.roll_number);
	} else if (e != ERR_NOT_FOUND) {
		return e;
	}
	return req_reply(req, &submission_out_schema, &out);
}

/* ---- POST /academic/homework/{homework_id}/submit ---- */

SUSPENDS static enum err submit_once(struct req *req, void *arg)
{
	const struct dir_school *school = arg;
	const struct homework *hw = req->object;
	const struct submission *old;
	struct submission *sub;
	struct str history;
	enum err e = edit_submission(req, req->student_id, &old, &sub);

	if (e != OK)
		return e;
	if (old && FIELD_HAS(old, submission, submitted_at)) {
		if (!submission_keep(old, req->arena, &history))
			return req_fail_code(req, ERR_CONFLICT, "too_many_versions", "This was handed in %d times already",
					     VERSIONS_MAX);
		FIELD_PUT(sub, submission, history, history);
		FIELD_CLEAR(sub, submission, submission_text);
		FIELD_CLEAR(sub, submission, attachments);
	}
	row_merge(&submission_schema, sub, &submit_in_schema, req->in);
	FIELD_PUT(sub, submission, submitted_at, req->now_us);
	FIELD_PUT(sub, submission, is_late, homework_is_late(hw, school->time_zone, req->now_us));
	FIELD_PUT(sub, submission, status, sub->is_late ? SUBMISSION_LATE : SUBMISSION_SUBMITTED);
	e = reply_submission(req, sub);
	return e != OK ? e : entity_put(req, &submission_entity, sub);
}

enum err homework_submit(struct req *req)
{
	struct dir_school school;
	enum err e = homework_is_visible(req->object, req->now_us) ? directory_school(req, &school) : ERR_NOT_FOUND;

	if (e != OK)
		return e;
	if (!homework_is_open(req->object, school.time_zone, req->now_us))
		return req_fail_code(req, ERR_CONFLICT, "homework_closed", "This homework is closed");
	return entity_retry(req, submit_once, &school);
}

/* ---- PUT /teacher/homework/{homework_id}/submissions/{student_id} ---- */

SUSPENDS static enum err grade_once(struct req *req, void *arg)
{
	const struct submission *old;
	struct submission *sub;
	enum err e = edit_submission(req, req->params[1], &old, &sub);

	(void)arg;
	if (e != OK)
		return e;
	row_merge(&submission_schema, sub, &grade_in_schema, req->in);
	FIELD_PUT(sub, submission, status, FIELD_HAS(sub, submission, marks_obtained) ? SUBMISSION_GRADED : SUBMISSION_RETURNED);
	FIELD_PUT(sub, submission, graded_at, req->now_us);
	FIELD_PUT(sub, submission, graded_by, req->who.user_id);
	e = reply_submission(req, sub);
	return e != OK ? e : entity_put(req, &submission_entity, sub);
}

enum err homework_grade(struct req *req)
{
	const struct grade_in *in = req->in;
	const struct homework *hw = req->object;
	struct dir_student student;
	enum err e = directory_student(req, req->params[1], &student);

	if (e != OK)
		return e;
	if (!uuid_eq(student.class_id, hw->class_id) || !homework_is_for(hw, req->params[1]))
		return req_fail(req, ERR_NOT_FOUND, "This homework is not for that student");
	if (FIELD_HAS(in, grade_in, marks_obtained) && FIELD_HAS(hw, homework, max_marks) &&
	    in->marks_obtained > hw->max_marks * 100)
		return req_invalid(req, "/marks_obtained", "max", "is more than the homework's marks");
	return entity_retry(req, grade_once, NULL);
}

/* ---- GET /teacher/homework/{homework_id}/submissions ---- */

static struct submission_out *find_of(const struct list *rows, struct uuid student_id)
{
	struct submission_out *v = rows->v;

	for (size_t i = 0; i < rows->n; i++) {
		if (uuid_eq(v[i].student_id, student_id))
			return &v[i];
	}
	return NULL;
}

/* The roster in its order, each with what was handed in; then submissions of those who have left the class. */
static struct list by_roster(struct req *req, const struct homework *hw, const struct dir_roster *roster, const struct list *rows)
{
	const struct dir_student *student = roster->students.v;
	struct submission_out *v = arena_array(req->arena, roster->students.n + rows->n, sizeof(*v));
	const struct submission_out *row = rows->v;
	size_t n = 0;

	for (size_t i = 0; i < roster->students.n; i++) {
		const struct submission_out *sub = find_of(rows, student[i].id);

		if (!sub && !homework_is_for(hw, student[i].id))
			continue;
		if (sub)
			v[n] = *sub;
		FIELD_PUT(&v[n], submission_out, student_id, student[i].id);
		FIELD_PUT(&v[n], submission_out, student_name, student[i].full_name);
		FIELD_PUT(&v[n], submission_out, roll_number, student[i].roll_number);
		n++;
	}
	for (size_t i = 0; i < rows->n; i++) {
		if (!find_of(&(struct list){v, n}, row[i].student_id))
			v[n++] = row[i];
	}
	return (struct list){v, n};
}

/* Rows of one homework's submissions: they stay when the homework's text or a name of the roster changes, and go with any submission. */
enum err homework_rows_kept(struct req *req, const struct pg_stmt *stmt, struct uuid id, const struct schema *out,
			    enum err (*read)(struct req *req, void *arg, struct list *ret), struct list *ret)
{
	static const struct query_life kept = {.kind = KIND_SUBMISSIONS};
	struct cache_tags its = {.school = req->who.school_id};

	cache_tag_id(&its, req->arena, "submissions:", id);
	return db_rows_kept(req, stmt, PG_PARAMS(PG_UUID(id)), out, &kept, &its, read, &id, ret);
}

SUSPENDS static enum err read_submissions(struct req *req, void *arg, struct list *ret)
{
	const struct uuid *id = arg;
	struct str overlay;
	enum err e = entity_overlay(req, &submission_entity, "homework_id", id, 1, &overlay);

	return e != OK ? e
		       : db_query(req, &SQL_SUBMISSIONS_OF_HOMEWORK,
				  PG_PARAMS(PG_UUID(req->who.school_id), PG_JSONB(overlay), PG_UUID(*id)), &submission_out_schema,
				  ret);
}

enum err homework_submissions(struct req *req)
{
	const struct homework *hw = req->object;
	struct dir_roster roster;
	struct list rows, all;
	int64_t handed_in = 0;
	enum err e = homework_rows_kept(req, &SQL_SUBMISSIONS_OF_HOMEWORK, hw->row.id, &submission_out_schema, read_submissions,
					&rows);

	if (e == OK)
		e = directory_roster(req, hw->class_id, &roster);
	if (e != OK)
		return e;
	all = by_roster(req, hw, &roster, &rows);
	for (size_t i = 0; i < all.n; i++)
		handed_in += FIELD_HAS((struct submission_out *)all.v + i, submission_out, submitted_at);
	req_json_begin(req);
	req_json_id(req, "homework_id", hw->row.id);
	req_json_text(req, "title", hw->title);
	req_json_int(req, "submissions_count", handed_in);
	req_json_int(req, "students_count", (int64_t)all.n);
	req_json_list(req, "submissions", &submission_out_schema, &all);
	req_json_end(req);
	return OK;
}
