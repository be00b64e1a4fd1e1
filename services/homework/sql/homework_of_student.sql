-- $1 school, $2 overlay of homework, $3 overlay of submissions, $4 class, $5 student, $6 now, $7 'all', 'pending' or 'submitted', $8 limit, $9 offset
-- → a page, latest due first, each row with the total and when the next one becomes visible; one row without id when the page is empty
WITH given AS MATERIALIZED (
	SELECT h.*, s.id AS submission_id, s.status AS submission_status, s.submitted_at, s.is_late, s.marks_obtained, s.feedback
	FROM homework.homework_live_v1($1, $2) AS h
	LEFT JOIN (SELECT * FROM homework.homework_submission_live_v1($1, $3) WHERE student_id = $5) AS s ON s.homework_id = h.id
	WHERE h.class_id = $4 AND h.status <> 'draft'
		AND (coalesce(cardinality(h.student_ids), 0) = 0 OR $5 = ANY (h.student_ids))
		AND ($7 = 'all' OR ($7 = 'submitted') = (s.submitted_at IS NOT NULL))
), his AS (
	SELECT * FROM given WHERE publish_at IS NULL OR publish_at <= $6
), page AS (
	SELECT * FROM his ORDER BY due_date DESC, id LIMIT $8 OFFSET $9
)
SELECT p.id, p.title, p.description, p.subject_id, p.teacher_id, p.due_date, p.close_date, p.max_marks, p.submitted_at IS NOT NULL AS is_submitted,
	CASE WHEN p.submission_id IS NOT NULL THEN jsonb_build_object('id', p.submission_id, 'status', p.submission_status,
		'submitted_at', to_char(p.submitted_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), 'is_late', p.is_late,
		'marks_obtained', trim_scale(p.marks_obtained / 100.0), 'feedback', p.feedback) END AS submission,
	CASE WHEN p.id IS NOT NULL THEN coalesce(p.attachments, '[]') END AS attachment_details, t.total, t.next_publish_at
FROM (SELECT count(*) FILTER (WHERE publish_at IS NULL OR publish_at <= $6) AS total, min(publish_at) FILTER (WHERE publish_at > $6) AS next_publish_at
	FROM given) AS t
LEFT JOIN page AS p ON true
ORDER BY p.due_date DESC, p.id
