-- $1 SHA-256 of the token → its session as it was, used_at as it was, and the buffer of its school; the token is used from now on
WITH old AS (
	SELECT t.id, t.used_at, s.user_id, s.expires_at, s.revoked_at, s.device,
		(SELECT o.buffer FROM auth.schools AS o WHERE o.id = t.school_id) AS buffer FROM auth.refresh_tokens AS t
	JOIN auth.sessions AS s ON s.id = t.session_id
	WHERE t.token_hash = $1 FOR UPDATE OF t
), used AS (
	UPDATE auth.refresh_tokens AS t SET used_at = clock_timestamp() FROM old WHERE t.id = old.id AND old.used_at IS NULL
)
SELECT user_id, expires_at, revoked_at, used_at, device, buffer FROM old
