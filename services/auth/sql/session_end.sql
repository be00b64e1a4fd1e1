-- $1 session, $2 user → its user_id, if it lived
UPDATE auth.sessions SET revoked_at = clock_timestamp(), updated_at = clock_timestamp(),
	version = greatest((extract(epoch FROM clock_timestamp()) * 1000000)::bigint, version + 1)
WHERE id = $1 AND user_id = $2 AND revoked_at IS NULL
RETURNING user_id
