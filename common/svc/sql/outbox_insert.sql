-- $1 id, $2 school, $3 domain, $4 channel, $5 envelope, $6 the school's buffer, whose stream gets it
INSERT INTO outbox (id, school_id, domain, channel, envelope, buffer) VALUES ($1, $2, $3, $4, $5, $6)
