-- $1 user, $2 hash
UPDATE auth.users SET password_hash = $2, updated_at = clock_timestamp(),
	version = greatest((extract(epoch FROM clock_timestamp()) * 1000000)::bigint, version + 1)
WHERE id = $1
