-- $1 id, $2 school, $3 actor, $4 role, $5 action, $6 entity type, $7 entity id, $8 old values, $9 new values, $10 ip, $11 user agent, $12 reason, $13 request id, $14 now → transaction; nothing if the record was there
INSERT INTO audit_logs (id, school_id, actor, role, action, entity_type, entity_id, old_values, new_values, ip, user_agent, reason, request_id,
	created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14::timestamptz, $14::timestamptz)
ON CONFLICT (id) DO NOTHING
RETURNING pg_current_xact_id()::text::bigint AS transaction
