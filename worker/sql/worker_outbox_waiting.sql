-- $1 buffer → daemon: schemas with events for it that were not sent
SELECT daemon FROM worker.outbox_waiting($1) AS daemon
