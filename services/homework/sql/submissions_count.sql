-- $1 school, $2 overlay of submissions, $3 homework → how many have handed in
-- tables: homework.homework_submissions
SELECT count(*) AS submissions_count FROM homework.homework_submission_live_v1($1, $2) WHERE homework_id = $3 AND submitted_at IS NOT NULL
