-- $1 daemon, $2 seq, $3 hash in hex → present
SELECT worker.audit_chain_has($1, $2, decode($3, 'hex')) AS present
