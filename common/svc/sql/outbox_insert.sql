-- $1 id, $2 school, $3 domain, $4 channel, $5 envelope
INSERT INTO outbox (id, school_id, domain, channel, envelope) VALUES ($1, $2, $3, $4, $5)
