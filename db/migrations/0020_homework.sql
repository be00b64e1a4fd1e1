-- SPDX-License-Identifier: Apache-2.0
-- Homework and what students hand in. Both are buffered: the worker writes them; a new homework may go past an absent buffer (full_state).
-- Lengths are in characters, as the entity tables say them; marks are hundredths.

SELECT common.create_tables('homework');

CREATE TABLE homework.homework (
	LIKE common.row INCLUDING ALL,
	title text NOT NULL CHECK (length(title) BETWEEN 1 AND 200),
	description text CHECK (length(description) <= 10000),
	class_id uuid NOT NULL,
	subject_id uuid NOT NULL,
	teacher_id uuid NOT NULL,
	student_ids uuid[] CHECK (cardinality(student_ids) <= 500),
	publish_at timestamptz,
	due_date date NOT NULL,
	close_date date CHECK (close_date >= due_date),
	max_marks integer CHECK (max_marks BETWEEN 0 AND 1000),
	status text NOT NULL CHECK (status IN ('active', 'archived', 'draft')),
	attachments jsonb,
	extensions jsonb
);
CREATE INDEX ON homework.homework (school_id, class_id, due_date) WHERE deleted_at IS NULL;
CREATE INDEX ON homework.homework (school_id, teacher_id, created_at) WHERE deleted_at IS NULL;
SELECT common.table_rules('homework.homework', 'buffer', full_state => true);

CREATE TABLE homework.homework_submissions (
	LIKE common.row INCLUDING ALL,
	homework_id uuid NOT NULL REFERENCES homework.homework (id),
	student_id uuid NOT NULL,
	class_id uuid NOT NULL,
	teacher_id uuid NOT NULL,
	submission_text text CHECK (length(submission_text) <= 20000),
	attachments text[] CHECK (cardinality(attachments) <= 5),
	submitted_at timestamptz,
	status text NOT NULL CHECK (status IN ('submitted', 'graded', 'late', 'returned')),
	is_late boolean NOT NULL,
	marks_obtained bigint CHECK (marks_obtained BETWEEN 0 AND 100000),
	feedback text CHECK (length(feedback) <= 5000),
	graded_at timestamptz,
	graded_by uuid,
	history jsonb
);
CREATE UNIQUE INDEX ON homework.homework_submissions (school_id, homework_id, student_id) WHERE deleted_at IS NULL;
CREATE INDEX ON homework.homework_submissions (school_id, student_id) WHERE deleted_at IS NULL;
SELECT common.table_rules('homework.homework_submissions', 'buffer');

-- The list sources, made from the entity descriptors (build/<preset>/sql/homework/live.sql); a check compares them.
CREATE FUNCTION homework.homework_live_v1(p_school uuid, p_overlay jsonb) RETURNS SETOF homework.homework
LANGUAGE sql STABLE AS $$
	SELECT t.* FROM homework.homework AS t
	WHERE t.school_id = p_school AND t.deleted_at IS NULL
		AND NOT EXISTS (SELECT FROM jsonb_populate_recordset(NULL::homework.homework, p_overlay) AS o WHERE o.id = t.id AND o.version >= t.version)
	UNION ALL
	SELECT o.* FROM jsonb_populate_recordset(NULL::homework.homework, p_overlay) AS o
	WHERE o.school_id = p_school AND o.deleted_at IS NULL
		AND NOT EXISTS (SELECT FROM homework.homework AS t WHERE t.id = o.id AND t.version > o.version)
$$;

CREATE FUNCTION homework.homework_submission_live_v1(p_school uuid, p_overlay jsonb) RETURNS SETOF homework.homework_submissions
LANGUAGE sql STABLE AS $$
	SELECT t.* FROM homework.homework_submissions AS t
	WHERE t.school_id = p_school AND t.deleted_at IS NULL
		AND NOT EXISTS (SELECT FROM jsonb_populate_recordset(NULL::homework.homework_submissions, p_overlay) AS o WHERE o.id = t.id AND o.version >= t.version)
	UNION ALL
	SELECT o.* FROM jsonb_populate_recordset(NULL::homework.homework_submissions, p_overlay) AS o
	WHERE o.school_id = p_school AND o.deleted_at IS NULL
		AND NOT EXISTS (SELECT FROM homework.homework_submissions AS t WHERE t.id = o.id AND t.version > o.version)
$$;
