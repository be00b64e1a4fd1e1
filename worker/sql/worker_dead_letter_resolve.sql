-- $1 daemon, $2 entity, $3 ids, $4 'replayed' or 'discarded'; writes
SELECT worker.dead_letter_resolve($1, $2, $3, $4)
