-- $1 daemon, $2 most → chained, waiting; writes
SELECT chained, waiting FROM worker.audit_chain_append($1, $2)
