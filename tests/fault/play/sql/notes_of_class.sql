-- $1 school, $2 overlay, $3 class, $4 page size, $5 offset → a page, by seq and id, each row with the total; one row without id when it is empty
WITH found AS MATERIALIZED (
	SELECT id, topic_id, class_id, seq, text FROM play.play_note_live_v1($1, $2) WHERE class_id = $3
), page AS (
	SELECT * FROM found ORDER BY seq, id LIMIT $4 OFFSET $5
)
SELECT p.id, p.topic_id, p.class_id, p.seq, p.text, t.total
FROM (SELECT count(*) AS total FROM found) AS t LEFT JOIN page AS p ON true
ORDER BY p.seq, p.id
