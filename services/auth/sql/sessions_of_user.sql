-- $1 user, $2 the caller's session → living sessions, newest first
SELECT id, user_id, device, ip, remember, created_at, expires_at, id = $2 AS is_current FROM auth.sessions
WHERE user_id = $1 AND revoked_at IS NULL AND expires_at > clock_timestamp()
ORDER BY created_at DESC, id LIMIT 200
