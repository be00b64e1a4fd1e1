-- $1 daemon, $2 id to go on behind, $3 rows to look at → chained, next_id (null: the table's end); writes
SELECT chained, next_id FROM worker.audit_chain_late($1, $2, $3)
