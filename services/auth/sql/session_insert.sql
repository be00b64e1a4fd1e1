-- $1 id, $2 school, $3 user, $4 device or null, $5 address, $6 remember, $7 end; the user's last login moves with it
WITH seen AS (UPDATE auth.users SET last_login_at = clock_timestamp() WHERE id = $3)
INSERT INTO auth.sessions (id, school_id, user_id, device, ip, remember, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7)
