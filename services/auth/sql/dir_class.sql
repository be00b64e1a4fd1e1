-- $1 class → its directory entry
SELECT c.id, c.name, c.grade, c.section, c.academic_year, c.class_teacher_id, u.full_name AS class_teacher_name, c.room_number,
	(SELECT count(*) FROM auth.students AS s WHERE s.class_id = c.id AND s.deleted_at IS NULL) AS total_students
FROM auth.classes AS c
LEFT JOIN auth.teachers AS t ON t.id = c.class_teacher_id AND t.deleted_at IS NULL
LEFT JOIN auth.users AS u ON u.id = t.user_id
WHERE c.id = $1 AND c.deleted_at IS NULL
