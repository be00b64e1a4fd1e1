-- $1 SHA-256 of the token → school_id, session_id
SELECT school_id, session_id FROM auth.school_of_refresh_token($1)
