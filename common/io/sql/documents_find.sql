-- params: school uuid, collection text, conditions jsonb, sort text (null: by id), descending boolean, most integer, after jsonb (null: from the start); result: id uuid, v bigint, doc jsonb, key jsonb (the value sorted by).
SELECT id, v, doc, key FROM documents_find($1, $2, $3, $4, $5, $6, $7)
