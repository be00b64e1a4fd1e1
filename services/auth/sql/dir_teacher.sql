-- $1 teacher → directory entry without assignments
SELECT t.id, t.user_id, u.full_name, u.email FROM auth.teachers AS t JOIN auth.users AS u ON u.id = t.user_id
WHERE t.id = $1 AND t.deleted_at IS NULL AND u.deleted_at IS NULL
