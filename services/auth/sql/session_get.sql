-- $1 session → user_id, school_id, expires_at of a living one
SELECT user_id, school_id, expires_at FROM auth.sessions WHERE id = $1 AND revoked_at IS NULL AND expires_at > clock_timestamp()
