-- params: older_s bigint (of tombstones), most bigint; writes; result: gone bigint.
SELECT common.sweep_documents($1, $2) AS gone
