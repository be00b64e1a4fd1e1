-- params: school uuid, collection text, id uuid; result: v bigint, doc jsonb of the living document.
SELECT v, doc
  FROM documents
 WHERE school_id = $1 AND collection = $2 AND id = $3 AND deleted_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())
