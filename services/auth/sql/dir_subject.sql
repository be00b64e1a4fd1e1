-- $1 subject → its directory entry
SELECT id, name, code FROM auth.subjects WHERE id = $1 AND deleted_at IS NULL
