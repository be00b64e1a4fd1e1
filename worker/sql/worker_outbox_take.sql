-- $1 daemon, $2 buffer, $3 most → id, version, domain, channel, envelope; writes: locks the rows until the transaction ends
SELECT id, version, domain, channel, envelope FROM worker.outbox_take($1, $2, $3)
