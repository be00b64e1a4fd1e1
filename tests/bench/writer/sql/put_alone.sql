-- $1 id, $2 school, $3 to $15 the fields of homework, $16 version, $17 created, $18 updated, $19 deleted; $20 to $36 the audit record alike; $37 to $40 the event
WITH row AS (
	INSERT INTO homework.bench_single (id, school_id, title, description, class_id, subject_id, teacher_id, student_ids, publish_at, due_date, close_date,
		max_marks, status, attachments, extensions, version, created_at, updated_at, deleted_at)
	VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15,
		greatest($16::bigint, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint), $17, $18, $19)
	RETURNING version
), audit AS (
	INSERT INTO homework.audit_logs (id, school_id, actor, role, action, entity_type, entity_id, old_values, new_values, ip, user_agent, reason, request_id,
		version, created_at, updated_at, deleted_at)
	VALUES ($20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32,
		greatest($33::bigint, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint), $34, $35, $36)
), event AS (
	INSERT INTO homework.outbox (id, school_id, domain, channel, envelope) VALUES ($37, $2, $38, $39, $40)
)
SELECT version FROM row
