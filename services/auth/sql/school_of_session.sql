-- $1 session → school_id
SELECT school_id FROM auth.school_of_session($1)
