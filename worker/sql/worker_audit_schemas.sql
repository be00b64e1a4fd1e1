-- → daemon: schemas that have the common tables
SELECT daemon FROM worker.audit_schemas() AS daemon
