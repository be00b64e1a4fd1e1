/* SPDX-License-Identifier: Apache-2.0 */
/* Assigning homework, and reading it as its teacher and as its students. */
#include <string.h>

#include "base/uuid.h"
#include "homework.h"
#include "homework_sql.h"
#include "io/crypto.h"

#define PAGE_SIZE 100

/* ---- names and numbers that other tables know ---- */

SUSPENDS static enum err fill_in(struct req *req, struct homework_out *out)
{
	struct dir_class class;
	struct dir_subject subject;
	enum err e = directory_class(req, out->class_id, &class);

	if (e == OK) {
		FIELD_PUT(out, homework_out, class_name, class.name);
		FIELD_PUT(out, homework_out, students_count,
			  out->student_ids.n != 0 ? (int64_t)out->student_ids.n : class.total_students);
	} else if (e != ERR_NOT_FOUND) {
		return e;
	}
	e = directory_subject(req, out->subject_id, &subject);
	if (e == OK)
		FIELD_PUT(out, homework_out, subject_name, subject.name);
	return e == ERR_NOT_FOUND ? OK : e;
}

static void fill_files(struct homework_out *out)
{
	struct str rest = out->attachments, one;
	int64_t n = 0;

	while (json_next(&rest, &one))
		n++;
	if (!FIELD_HAS(out, homework_out, attachments))
		FIELD_PUT(out, homework_out, attachments, STR("[]"));
	FIELD_PUT(out, homework_out, attachment_count, n);
	FIELD_PUT(out, homework_out, has_attachments, n > 0);
}

/* The answer for one row, which may not be in its table yet. */
SUSPENDS static enum err homework_answer(struct req *req, const struct homework *hw, struct homework_out *ret)
{
	memset(ret, 0, sizeof(*ret));
	schema_project(&homework_out_schema, ret, &homework_schema, hw);
	fill_files(ret);
	return fill_in(req, ret);
}

/* ---- GET /teacher/homework ---- */

enum err homework_list(struct req *req)
{
	const struct teacher_list_in *in = req->query;
	struct page page = req_page(req, PAGE_SIZE);
	struct uuid me = req->who.teacher_id;
	struct str homework, submissions;
	struct homework_out *v;
	struct list rows;
	int64_t total;
	enum err e = entity_overlay(req, &homework_entity, "teacher_id", &me, 1, &homework);

	if (e == OK)
		e = entity_overlay(req, &submission_entity, "teacher_id", &me, 1, &submissions);
	if (e == OK)
		e = db_query(req, &SQL_HOMEWORK_OF_TEACHER,
			     PG_PARAMS(PG_UUID(req->who.school_id), PG_JSONB(homework), PG_JSONB(submissions), PG_UUID(me),
				       PG_UUID_OR_NULL(in->class_id), PG_UUID_OR_NULL(in->subject_id),
				       PG_TEXT_OR_NULL(in->search), PG_INT8(page.size), PG_INT8(page.offset)),
			     &homework_out_schema, &rows);
	if (e != OK)
		return e;
	total = list_total(&homework_out_schema, &rows);
	v = rows.v;
	for (size_t i = 0; i < rows.n; i++) {
		fill_files(&v[i]);
		e = fill_in(req, &v[i]);
		if (e != OK)
			return e;
	}
	return req_reply_page(req, "homework", &homework_out_schema, &rows, total);
}

/* ---- POST /teacher/homework ---- */

static struct str attachments_of(struct req *req)
{
	struct attachment *v = arena_array(req->arena, req->n_files, sizeof(*v));
	struct buf out = buf_in(req->arena);

	for (size_t i = 0; i < req->n_files; i++) {
		const struct upload *u = &req->files[i];
		char *hex = arena_alloc(req->arena, 65);

		hex_text(u->file.sha256, 32, hex);
		FIELD_PUT(&v[i], attachment, id, uuid_v7(req->now_us));
		FIELD_PUT(&v[i], attachment, file_name, u->file_name);
		FIELD_PUT(&v[i], attachment, file_size, u->file.size_bytes);
		FIELD_PUT(&v[i], attachment, mime_type, u->file.content_type);
		FIELD_PUT(&v[i], attachment, sha256, str_of(hex));
	}
	json_encode_list(&attachment_schema, &(struct list){v, req->n_files}, 0, &out);
	return buf_str(&out);
}

enum err homework_assign(struct req *req)
{
	const struct assign_in *in = req->in;
	struct homework *hw = entity_edit(req, &homework_entity, NULL);
	struct homework_out out;
	enum err e;

	if (FIELD_HAS(in, assign_in, close_date) && in->close_date < in->due_date)
		return req_invalid(req, "/close_date", "min", "is before the due date");
	row_merge(&homework_schema, hw, &assign_in_schema, in);
	FIELD_PUT(hw, homework, teacher_id, req->who.teacher_id);
	FIELD_PUT(hw, homework, status, HOMEWORK_ACTIVE);
	FIELD_PUT(hw, homework, attachments, attachments_of(req));
	e = homework_answer(req, hw, &out);
	if (e != OK)
		return e;
	req->status = 201;
	e = req_reply(req, &homework_out_schema, &out);
	return e != OK ? e : entity_put(req, &homework_entity, hw);
}

/* ---- GET, PUT, DELETE /teacher/homework/{homework_id} ---- */

SUSPENDS static enum err count_submissions(struct req *req, void *arg, struct list *ret)
{
	const struct uuid *id = arg;
	struct str submissions;
	enum err e = entity_overlay(req, &submission_entity, "homework_id", id, 1, &submissions);

	return e != OK ? e
		       : db_query(req, &SQL_SUBMISSIONS_COUNT,
				  PG_PARAMS(PG_UUID(req->who.school_id), PG_JSONB(submissions), PG_UUID(*id)),
				  &homework_out_schema, ret);
}

enum err homework_get(struct req *req)
{
	const struct homework *hw = req->object;
	struct homework_out out;
	struct list counted;
	enum err e = homework_rows_kept(req, &SQL_SUBMISSIONS_COUNT, hw->row.id, &homework_out_schema, count_submissions,
					&counted);

	if (e == OK)
		e = homework_answer(req, hw, &out);
	if (e != OK)
		return e;
	FIELD_PUT(&out, homework_out, submissions_count, ((struct homework_out *)counted.v)->submissions_count);
	return entity_reply(req, &homework_entity, hw, &homework_out_schema, &out);
}

SUSPENDS static enum err update_once(struct req *req, void *arg)
{
	const struct update_in *in = req->in;
	const struct homework *before = req->object;
	struct homework *old, *hw;
	struct homework_out out;
	enum err e = entity_get(req, &homework_entity, before->row.id, &old);

	(void)arg;
	if (e != OK)
		return e;
	hw = entity_edit(req, &homework_entity, old);
	row_merge(&homework_schema, hw, &update_in_schema, in);
	if (FIELD_HAS(hw, homework, close_date) && hw->close_date < hw->due_date)
		return req_invalid(req, "/close_date", "min", "is before the due date");
	e = homework_answer(req, hw, &out);
	if (e == OK)
		e = req_reply(req, &homework_out_schema, &out);
	return e != OK ? e : entity_put(req, &homework_entity, hw);
}

enum err homework_update(struct req *req)
{
	return entity_retry(req, update_once, NULL);
}

enum err homework_delete(struct req *req)
{
	struct homework *hw = entity_edit(req, &homework_entity, req->object);
	enum err e = req_reply_message(req, "Homework deleted");

	return e != OK ? e : entity_delete(req, &homework_entity, hw);
}

/* ---- files ---- */

SUSPENDS static enum err send_attachment(struct req *req, bool inline_view)
{
	const struct homework *hw = req->object;
	struct str rest = hw->attachments, one;
	struct problems problems = {.arena = req->arena};
	struct buf key = buf_in(req->arena);
	struct attachment file;

	if (req->who.role != ROLE_TEACHER && !homework_is_visible(hw, req->now_us))
		return ERR_NOT_FOUND;
	while (json_next(&rest, &one)) {
		if (json_decode(&attachment_schema, one, req->arena, &file, &problems) != OK)
			return ERR_CORRUPT;
		if (!uuid_eq(file.id, req->params[1]))
			continue;
		buf_put_uuid(&key, hw->row.school_id);
		buf_putc(&key, '/');
		buf_puts(&key, file.sha256);
		return req_send_file(req, buf_str(&key), file.file_name, file.mime_type, inline_view);
	}
	return ERR_NOT_FOUND;
}

enum err homework_download(struct req *req)
{
	return send_attachment(req, false);
}

enum err homework_view(struct req *req)
{
	return send_attachment(req, true);
}

/* ---- GET /academic/homework ---- */

SUSPENDS static enum err fill_names(struct req *req, struct student_homework *out)
{
	struct dir_subject subject;
	struct dir_teacher teacher;
	enum err e = directory_subject(req, out->subject_id, &subject);

	if (e == OK)
		FIELD_PUT(out, student_homework, subject_name, subject.name);
	else if (e != ERR_NOT_FOUND)
		return e;
	e = directory_teacher(req, out->teacher_id, &teacher);
	if (e == OK)
		FIELD_PUT(out, student_homework, teacher_name, teacher.full_name);
	return e == ERR_NOT_FOUND ? OK : e;
}

enum err homework_of_student(struct req *req)
{
	const struct student_list_in *in = req->query;
	struct page page = req_page(req, 500);
	struct uuid me = req->student_id;
	struct str homework, submissions;
	struct student_homework *v;
	struct dir_student student;
	struct list rows;
	int64_t total;
	enum err e = directory_student(req, me, &student);

	if (e == OK)
		e = entity_overlay(req, &homework_entity, "class_id", &student.class_id, 1, &homework);
	if (e == OK)
		e = entity_overlay(req, &submission_entity, "student_id", &me, 1, &submissions);
	if (e == OK)
		e = db_query(req, &SQL_HOMEWORK_OF_STUDENT,
			     PG_PARAMS(PG_UUID(req->who.school_id), PG_JSONB(homework), PG_JSONB(submissions),
				       PG_UUID(student.class_id), PG_UUID(me), PG_TIME(req->now_us),
				       PG_TEXT(str_of(list_status_names[in->status])), PG_INT8(page.size), PG_INT8(page.offset)),
			     &student_homework_schema, &rows);
	if (e != OK)
		return e;
	v = rows.v;
	if (rows.n != 0 && FIELD_HAS(v, student_homework, next_publish_at))
		req_good_until(req, v->next_publish_at);
	total = list_total(&student_homework_schema, &rows);
	for (size_t i = 0; i < rows.n; i++) {
		e = fill_names(req, &v[i]);
		if (e != OK)
			return e;
	}
	return req_reply_page(req, "homework", &student_homework_schema, &rows, total);
}

enum err homework_of_student_get(struct req *req)
{
	const struct homework *hw = req->object;
	struct student_homework out = {0};
	struct submission key = {.homework_id = hw->row.id, .student_id = req->student_id}, *sub;
	struct submission_out mine = {0};
	struct buf text = buf_in(req->arena);
	enum err e;

	if (!homework_is_visible(hw, req->now_us))
		return ERR_NOT_FOUND;
	e = entity_get_child(req, &submission_entity, entity_natural_id(&submission_entity, hw->row.school_id, &key),
			     &homework_entity, hw, &sub);
	if (e == OK) {
		schema_project(&submission_out_schema, &mine, &submission_schema, sub);
		json_encode(&submission_out_schema, &mine, req->who.role, &text);
		FIELD_PUT(&out, student_homework, submission, buf_str(&text));
	} else if (e != ERR_NOT_FOUND) {
		return e;
	}
	schema_project(&student_homework_schema, &out, &homework_schema, hw);
	FIELD_PUT(&out, student_homework, is_submitted, e == OK && FIELD_HAS(sub, submission, submitted_at));
	FIELD_PUT(&out, student_homework, attachment_details, FIELD_HAS(hw, homework, attachments) ? hw->attachments : STR("[]"));
	e = fill_names(req, &out);
	return e != OK ? e : entity_reply(req, &homework_entity, hw, &student_homework_schema, &out);
}
