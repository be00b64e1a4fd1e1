-- $1 school, $2 key, $3 fingerprint, $4 status, $5 answer; no row: a twin was first. A key older than a day is free again.
INSERT INTO idempotency AS t (school_id, key, fingerprint, status, answer) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (school_id, key) DO UPDATE SET fingerprint = EXCLUDED.fingerprint, status = EXCLUDED.status, answer = EXCLUDED.answer,
	version = EXCLUDED.version, created_at = EXCLUDED.created_at
WHERE t.created_at <= now() - interval '1 day'
RETURNING version
