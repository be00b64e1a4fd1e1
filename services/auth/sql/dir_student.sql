-- $1 student → his directory entry
SELECT s.id, s.user_id, s.class_id, u.full_name, u.email, s.roll_number, s.admission_number
FROM auth.students AS s JOIN auth.users AS u ON u.id = s.user_id
WHERE s.id = $1 AND s.deleted_at IS NULL AND u.deleted_at IS NULL
