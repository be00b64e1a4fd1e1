-- $1 school, $2 payment, $3 idempotency key, $4 account, $5 amount → the payment with the account's balance; no row: the key has been used
-- writes: play.accounts, play.payments
SELECT id, account_id, amount, balance FROM play.post_payment($1, $2, $3, $4, $5)
