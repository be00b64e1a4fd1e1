-- SPDX-License-Identifier: Apache-2.0
-- play: role, schema and tables of the playing service. Only the stacks that run it apply this, behind the product's own migrations.

DO $$
BEGIN
	IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'schools24_play') THEN
		CREATE ROLE schools24_play LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
	END IF;
	EXECUTE format('GRANT CONNECT ON DATABASE %I TO schools24_play', current_database());
	EXECUTE format('ALTER ROLE schools24_play IN DATABASE %I SET search_path TO play', current_database());
END $$;
CREATE SCHEMA play;
GRANT USAGE ON SCHEMA play TO schools24_play, schools24_worker;
ALTER DEFAULT PRIVILEGES IN SCHEMA play GRANT SELECT ON TABLES TO schools24_play;
ALTER DEFAULT PRIVILEGES IN SCHEMA play GRANT EXECUTE ON FUNCTIONS TO schools24_play;
ALTER DEFAULT PRIVILEGES IN SCHEMA play GRANT USAGE ON TYPES TO schools24_play;

SELECT common.create_tables('play');

CREATE TABLE play.topics (
	LIKE common.row INCLUDING ALL,
	title text NOT NULL CHECK (length(title) BETWEEN 1 AND 200)
);
SELECT common.table_rules('play.topics', 'buffer');

CREATE TABLE play.notes (
	LIKE common.row INCLUDING ALL,
	topic_id uuid NOT NULL REFERENCES play.topics (id),
	class_id uuid NOT NULL,
	seq bigint NOT NULL,
	text text NOT NULL CHECK (length(text) BETWEEN 1 AND 2000),
	CONSTRAINT poison CHECK (text <> 'poison') -- what no daemon checks, so that a batch meets it
);
CREATE INDEX ON play.notes (school_id, class_id, seq, id) WHERE deleted_at IS NULL;
SELECT common.table_rules('play.notes', 'buffer');

CREATE TABLE play.counters (
	LIKE common.row INCLUDING ALL,
	value bigint NOT NULL
);
SELECT common.table_rules('play.counters', 'buffer');

CREATE TABLE play.registers (
	LIKE common.row INCLUDING ALL,
	date date NOT NULL,
	class_id uuid NOT NULL,
	student_id uuid NOT NULL,
	status text NOT NULL CHECK (status IN ('present', 'absent', 'late'))
);
CREATE UNIQUE INDEX ON play.registers (school_id, date, class_id, student_id) WHERE deleted_at IS NULL;
SELECT common.table_rules('play.registers', 'buffer', full_state => true);

CREATE TABLE play.accounts (
	LIKE common.row INCLUDING ALL,
	balance bigint NOT NULL,
	payments bigint NOT NULL,
	UNIQUE (school_id, id)
);
SELECT common.table_rules('play.accounts', 'through');

CREATE TABLE play.payments (
	LIKE common.row INCLUDING ALL,
	account_id uuid NOT NULL,
	idempotency_key text NOT NULL CHECK (length(idempotency_key) <= 255),
	amount bigint NOT NULL CHECK (amount > 0),
	FOREIGN KEY (school_id, account_id) REFERENCES play.accounts (school_id, id),
	UNIQUE (school_id, idempotency_key)
);
CREATE INDEX ON play.payments (school_id, account_id);
SELECT common.table_rules('play.payments', 'insert');

-- One payment, and the account's balance with it. No row: the key has been used. The account is locked first, so that its payments and
-- balances stand in one order; a key that another transaction holds is waited for.
CREATE FUNCTION play.post_payment(p_school uuid, p_id uuid, p_key text, p_account uuid, p_amount bigint)
RETURNS TABLE (id uuid, account_id uuid, amount bigint, balance bigint)
LANGUAGE sql VOLATILE AS $$
	INSERT INTO play.accounts (id, school_id, balance, payments) VALUES (p_account, p_school, 0, 0) ON CONFLICT DO NOTHING;
	SELECT FROM play.accounts AS a WHERE a.id = p_account FOR UPDATE;
	WITH paid AS (
		INSERT INTO play.payments (id, school_id, account_id, idempotency_key, amount) VALUES (p_id, p_school, p_account, p_key, p_amount)
		ON CONFLICT (school_id, idempotency_key) DO NOTHING
		RETURNING payments.id, payments.account_id, payments.amount
	)
	UPDATE play.accounts AS a SET balance = a.balance + p.amount, payments = a.payments + 1, updated_at = clock_timestamp(),
		version = greatest((extract(epoch FROM clock_timestamp()) * 1000000)::bigint, a.version + 1)
	FROM paid AS p WHERE a.id = p.account_id
	RETURNING p.id, p.account_id, p.amount, a.balance;
$$;

-- The list sources, made from the entity descriptors (build/<preset>/sql/play/live.sql); a check compares them.
CREATE FUNCTION play.play_topic_live_v1(p_school uuid, p_overlay jsonb) RETURNS SETOF play.topics
LANGUAGE sql STABLE AS $$
	SELECT t.* FROM play.topics AS t
	WHERE t.school_id = p_school AND t.deleted_at IS NULL
		AND NOT EXISTS (SELECT FROM jsonb_populate_recordset(NULL::play.topics, p_overlay) AS o WHERE o.id = t.id AND o.version >= t.version)
	UNION ALL
	SELECT o.* FROM jsonb_populate_recordset(NULL::play.topics, p_overlay) AS o
	WHERE o.school_id = p_school AND o.deleted_at IS NULL
		AND NOT EXISTS (SELECT FROM play.topics AS t WHERE t.id = o.id AND t.version > o.version)
$$;

CREATE FUNCTION play.play_note_live_v1(p_school uuid, p_overlay jsonb) RETURNS SETOF play.notes
LANGUAGE sql STABLE AS $$
	SELECT t.* FROM play.notes AS t
	WHERE t.school_id = p_school AND t.deleted_at IS NULL
		AND NOT EXISTS (SELECT FROM jsonb_populate_recordset(NULL::play.notes, p_overlay) AS o WHERE o.id = t.id AND o.version >= t.version)
	UNION ALL
	SELECT o.* FROM jsonb_populate_recordset(NULL::play.notes, p_overlay) AS o
	WHERE o.school_id = p_school AND o.deleted_at IS NULL
		AND NOT EXISTS (SELECT FROM play.notes AS t WHERE t.id = o.id AND t.version > o.version)
$$;

CREATE FUNCTION play.play_counter_live_v1(p_school uuid, p_overlay jsonb) RETURNS SETOF play.counters
LANGUAGE sql STABLE AS $$
	SELECT t.* FROM play.counters AS t
	WHERE t.school_id = p_school AND t.deleted_at IS NULL
		AND NOT EXISTS (SELECT FROM jsonb_populate_recordset(NULL::play.counters, p_overlay) AS o WHERE o.id = t.id AND o.version >= t.version)
	UNION ALL
	SELECT o.* FROM jsonb_populate_recordset(NULL::play.counters, p_overlay) AS o
	WHERE o.school_id = p_school AND o.deleted_at IS NULL
		AND NOT EXISTS (SELECT FROM play.counters AS t WHERE t.id = o.id AND t.version > o.version)
$$;

CREATE FUNCTION play.play_register_live_v1(p_school uuid, p_overlay jsonb) RETURNS SETOF play.registers
LANGUAGE sql STABLE AS $$
	SELECT t.* FROM play.registers AS t
	WHERE t.school_id = p_school AND t.deleted_at IS NULL
		AND NOT EXISTS (SELECT FROM jsonb_populate_recordset(NULL::play.registers, p_overlay) AS o WHERE o.id = t.id AND o.version >= t.version)
	UNION ALL
	SELECT o.* FROM jsonb_populate_recordset(NULL::play.registers, p_overlay) AS o
	WHERE o.school_id = p_school AND o.deleted_at IS NULL
		AND NOT EXISTS (SELECT FROM play.registers AS t WHERE t.id = o.id AND t.version > o.version)
$$;
