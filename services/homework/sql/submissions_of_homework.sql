-- $1 school, $2 overlay of submissions, $3 homework → its submissions
-- tables: homework.homework_submissions
SELECT id, homework_id, student_id, submission_text, attachments, submitted_at, status, is_late, marks_obtained, feedback, graded_at, history
FROM homework.homework_submission_live_v1($1, $2) WHERE homework_id = $3
