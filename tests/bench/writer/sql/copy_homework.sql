-- utility
COPY homework.homework (id, school_id, title, description, class_id, subject_id, teacher_id, student_ids, publish_at, due_date, close_date, max_marks, status,
	attachments, extensions, version, created_at, updated_at, deleted_at) FROM STDIN (FORMAT binary)
