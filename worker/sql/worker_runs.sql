-- $1 most → the newest runs
SELECT id, worker, started_at, finished_at, entity, applied, superseded, retried, dead, errors, bytes_freed, detail
FROM worker.runs ORDER BY started_at DESC, id DESC LIMIT $1
