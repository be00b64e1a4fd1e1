-- $1 address → user_id, school_id
SELECT user_id, school_id FROM auth.school_of_email($1)
