-- $1 user, $2 session that stays → ids of those that ended
UPDATE auth.sessions SET revoked_at = clock_timestamp(), updated_at = clock_timestamp(),
	version = greatest((extract(epoch FROM clock_timestamp()) * 1000000)::bigint, version + 1)
WHERE user_id = $1 AND id <> $2 AND revoked_at IS NULL
RETURNING id
