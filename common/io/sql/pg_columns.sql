-- params: table text; result: name text, type bigint (the type's oid), of each column. Binary COPY sends exactly these types.
SELECT a.attname AS name, a.atttypid::bigint AS type
  FROM pg_catalog.pg_attribute a
 WHERE a.attrelid = pg_catalog.to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attnum
