-- $1 daemon, $2 entity, $3 id, $4 school, $5 version, $6 payload, $7 error, $8 attempts, $9 first unsynced, $10 time of death; writes, once for a version
SELECT worker.dead_letter_put($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
