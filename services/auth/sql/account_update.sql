-- $1 user, $2 full name, $3 phone, $4 picture → the changed account without its profile
-- writes: auth.users
UPDATE auth.users SET full_name = $2, phone = $3, profile_picture_url = $4, updated_at = clock_timestamp(),
	version = greatest((extract(epoch FROM clock_timestamp()) * 1000000)::bigint, version + 1)
WHERE id = $1 AND deleted_at IS NULL
RETURNING id, school_id, email, role, full_name, phone, profile_picture_url, email_verified, created_at, updated_at, version,
	(SELECT t.id FROM auth.teachers AS t WHERE t.user_id = users.id AND t.deleted_at IS NULL) AS teacher_id,
	(SELECT s.id FROM auth.students AS s WHERE s.user_id = users.id AND s.deleted_at IS NULL) AS student_id
