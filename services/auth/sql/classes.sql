-- $1 academic year, null: the school's current one → classes
SELECT c.id, c.name, c.grade, c.section, c.academic_year, c.class_teacher_id, u.full_name AS class_teacher_name, c.room_number,
	(SELECT count(*) FROM auth.students AS s WHERE s.class_id = c.id AND s.deleted_at IS NULL) AS total_students
FROM auth.classes AS c
JOIN auth.schools AS o ON o.id = c.school_id
LEFT JOIN auth.teachers AS t ON t.id = c.class_teacher_id AND t.deleted_at IS NULL
LEFT JOIN auth.users AS u ON u.id = t.user_id
WHERE c.deleted_at IS NULL AND c.academic_year = coalesce($1, o.settings ->> 'academic_year')
ORDER BY c.sort_order, c.name, c.section LIMIT 1000
