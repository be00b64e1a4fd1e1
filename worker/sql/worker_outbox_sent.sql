-- $1 daemon, $2 ids; writes
SELECT worker.outbox_sent($1, $2)
