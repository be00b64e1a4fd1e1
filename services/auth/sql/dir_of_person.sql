-- $1 user → kind and id of the directory's entries that show his name or address
SELECT 'user' AS kind, $1::uuid AS id
UNION ALL SELECT 'teacher', id FROM auth.teachers WHERE user_id = $1
UNION ALL SELECT 'class', c.id FROM auth.teachers AS t JOIN auth.classes AS c ON c.class_teacher_id = t.id WHERE t.user_id = $1 AND c.deleted_at IS NULL
UNION ALL SELECT 'student', id FROM auth.students WHERE user_id = $1
UNION ALL SELECT 'roster', class_id FROM auth.students WHERE user_id = $1 AND class_id IS NOT NULL
UNION ALL SELECT 'children', g.user_id FROM auth.guardians AS g JOIN auth.students AS s ON s.id = g.student_id WHERE s.user_id = $1
