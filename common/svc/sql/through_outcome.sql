-- $1 transaction, $2 id of one of its audit records → state ("committed", "aborted", "in progress"), there
SELECT pg_xact_status($1::bigint::text::xid8) AS state, EXISTS (SELECT FROM audit_logs WHERE id = $2) AS there
