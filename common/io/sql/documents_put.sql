-- params: school uuid, collection text, ids uuid[], versions bigint[], documents text[] ('' a tombstone); writes; result: i bigint (from 1), outcome integer (enum doc_outcome) of each.
SELECT i, outcome FROM documents_put($1, $2, $3, $4, $5)
