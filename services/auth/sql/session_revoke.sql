-- $1 session
UPDATE auth.sessions SET revoked_at = clock_timestamp(), updated_at = clock_timestamp(),
	version = greatest((extract(epoch FROM clock_timestamp()) * 1000000)::bigint, version + 1)
WHERE id = $1 AND revoked_at IS NULL
