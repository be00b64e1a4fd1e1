-- $1 daemon, $2 age in s of sent events, $3 of idempotency, $4 of resolved dead letters, $5 most of a table → of_table, gone; writes
SELECT of_table, gone FROM worker.retain($1, $2, $3, $4, $5)
