-- $1 age in s, $2 most → gone; writes
SELECT worker.retain_runs($1, $2) AS gone
