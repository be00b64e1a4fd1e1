-- $1 id, $2 school, $3 session, $4 SHA-256 of the token
INSERT INTO auth.refresh_tokens (id, school_id, session_id, token_hash) VALUES ($1, $2, $3, $4)
