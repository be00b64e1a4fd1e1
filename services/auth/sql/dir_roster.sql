-- $1 class → its students by roll number
-- tables: auth.students, auth.users
SELECT s.id, s.user_id, s.class_id, u.full_name, u.email, s.roll_number, s.admission_number
FROM auth.students AS s JOIN auth.users AS u ON u.id = s.user_id
WHERE s.class_id = $1 AND s.deleted_at IS NULL AND u.deleted_at IS NULL
ORDER BY lpad(s.roll_number, 20, '0'), u.full_name LIMIT 1000
