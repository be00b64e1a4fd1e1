-- $1 school, $2 overlay of homework, $3 overlay of submissions, $4 teacher, $5 class or null, $6 subject or null, $7 search or null, $8 limit, $9 offset
-- → a page, newest first, each row with the total; one row without id when the page is empty
WITH mine AS MATERIALIZED (
	SELECT h.* FROM homework.homework_live_v1($1, $2) AS h
	WHERE h.teacher_id = $4 AND ($5::uuid IS NULL OR h.class_id = $5) AND ($6::uuid IS NULL OR h.subject_id = $6)
		AND ($7::text IS NULL OR strpos(lower(h.title), lower($7)) > 0 OR strpos(lower(coalesce(h.description, '')), lower($7)) > 0)
), page AS (
	SELECT * FROM mine ORDER BY created_at DESC, id LIMIT $8 OFFSET $9
), handed_in AS (
	SELECT s.homework_id, count(*) AS n FROM homework.homework_submission_live_v1($1, $3) AS s
	WHERE s.homework_id IN (SELECT id FROM page) AND s.submitted_at IS NOT NULL GROUP BY s.homework_id
)
SELECT p.id, p.title, p.description, p.class_id, p.subject_id, p.due_date, p.close_date, p.max_marks, p.status, p.attachments, p.student_ids,
	p.created_at, coalesce(h.n, 0) AS submissions_count, t.total
FROM (SELECT count(*) AS total FROM mine) AS t
LEFT JOIN page AS p ON true
LEFT JOIN handed_in AS h ON h.homework_id = p.id
ORDER BY p.created_at DESC, p.id
