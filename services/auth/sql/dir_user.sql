-- $1 user → directory entry
SELECT id, full_name, role FROM auth.users WHERE id = $1 AND deleted_at IS NULL
