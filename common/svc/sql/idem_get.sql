-- $1 key → fingerprint, status, answer, version; keys live for a day
SELECT fingerprint, status, answer, version FROM idempotency WHERE key = $1 AND created_at > now() - interval '1 day'
