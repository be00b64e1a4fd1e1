-- params: collection text, name text, paths text[], unique boolean, text boolean, expire_s bigint; writes; result: made boolean (false: the name has another meaning).
SELECT documents_index($1, $2, $3, $4, $5, $6) AS made
