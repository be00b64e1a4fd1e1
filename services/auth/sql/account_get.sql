-- $1 user → the account with the profile of its role, and the buffer of its school
SELECT u.id, u.school_id, u.email, u.password_hash, u.role, u.full_name, u.phone, u.profile_picture_url, u.is_active, u.email_verified, u.is_suspended,
	u.created_at, u.updated_at, u.version, t.id AS teacher_id, s.id AS student_id, f.id AS staff_id, array_to_string(f.rights, ' ') AS rights,
	(SELECT o.buffer FROM auth.schools AS o WHERE o.id = u.school_id) AS buffer
FROM auth.users AS u
LEFT JOIN auth.teachers AS t ON t.user_id = u.id AND t.deleted_at IS NULL
LEFT JOIN auth.students AS s ON s.user_id = u.id AND s.deleted_at IS NULL
LEFT JOIN auth.staff AS f ON f.user_id = u.id AND f.deleted_at IS NULL
WHERE u.id = $1 AND u.deleted_at IS NULL
