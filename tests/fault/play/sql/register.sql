-- $1 school, $2 overlay, $3 date, $4 class → the rows of a class register, by student
SELECT student_id, status FROM play.play_register_live_v1($1, $2) WHERE date = $3 AND class_id = $4 ORDER BY student_id
