-- → daemon: schemas with events that were not sent
SELECT daemon FROM worker.outbox_waiting() AS daemon
