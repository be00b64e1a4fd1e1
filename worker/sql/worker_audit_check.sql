-- $1 daemon, $2 seq to go on behind, $3 its hash in hex (null: from the beginning), $4 most → broken links with why, at last how far it came
SELECT seq, audit_id, encode(hash, 'hex') AS hash, why FROM worker.audit_chain_check($1, $2, decode($3, 'hex'), $4)
