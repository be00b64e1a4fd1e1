-- $1 id, $2 worker, $3 started, $4 finished, $5 entity, $6 applied, $7 superseded, $8 retried, $9 dead, $10 errors, $11 bytes freed, $12 detail
INSERT INTO worker.runs (id, worker, started_at, finished_at, entity, applied, superseded, retried, dead, errors, bytes_freed, detail)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT (id) DO NOTHING
