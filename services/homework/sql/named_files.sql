-- params: keys text[] ("<school>/<sha256>"); result: key text of those that a homework names, deleted or not.
SELECT DISTINCT h.school_id || '/' || (sha256 #>> '{}') AS key
  FROM homework.homework AS h, jsonb_path_query(h.attachments, '$[*].sha256') AS sha256
 WHERE h.school_id || '/' || (sha256 #>> '{}') = ANY($1)
