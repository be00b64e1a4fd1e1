-- $1 student, teacher or user; $2 part of a name → ids
-- tables: auth.students, auth.teachers, auth.users
SELECT coalesce(CASE $1 WHEN 'student' THEN s.id WHEN 'teacher' THEN t.id END, u.id) AS id FROM auth.users AS u
LEFT JOIN auth.students AS s ON s.user_id = u.id AND s.deleted_at IS NULL
LEFT JOIN auth.teachers AS t ON t.user_id = u.id AND t.deleted_at IS NULL
WHERE u.deleted_at IS NULL AND ($1 <> 'student' OR s.id IS NOT NULL) AND ($1 <> 'teacher' OR t.id IS NOT NULL)
	AND strpos(common.folded(u.full_name), common.folded($2)) > 0
ORDER BY u.full_name LIMIT 200
