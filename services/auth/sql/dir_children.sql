-- $1 parent's user → linked children
SELECT s.id, s.user_id, s.class_id, u.full_name, u.email, s.roll_number, s.admission_number
FROM auth.guardians AS g JOIN auth.students AS s ON s.id = g.student_id JOIN auth.users AS u ON u.id = s.user_id
WHERE g.user_id = $1 AND g.deleted_at IS NULL AND (g.since IS NULL OR g.since <= current_date) AND (g.until IS NULL OR g.until >= current_date)
	AND s.deleted_at IS NULL AND u.deleted_at IS NULL
ORDER BY u.full_name LIMIT 50
