-- SPDX-License-Identifier: Apache-2.0
-- What every schema is made of: the common columns, row-level security and grants by write mode, and the tables that each daemon has.
--
-- A daemon's migration reads like this:
--	SELECT common.create_tables('homework');
--	CREATE TABLE homework.homework (LIKE common.row INCLUDING ALL, title text NOT NULL CHECK (...), ...);
--	SELECT common.table_rules('homework.homework', 'buffer', full_state => true);
-- Only the migration role calls these functions.

-- The columns of every table, in the words of the entity descriptors. A version is microseconds of a clock, never decreasing for one row.
CREATE TABLE common.row (
	id uuid PRIMARY KEY,
	school_id uuid NOT NULL,
	version bigint NOT NULL DEFAULT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint CHECK (version > 0),
	created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	deleted_at timestamptz
);
COMMENT ON TABLE common.row IS 'A pattern for LIKE; it holds no rows.';

-- Row-level security and grants of one table.
--   through  the daemon inserts and updates
--   buffer   the worker does; the daemon only where the route says full_state (degraded mode)
--   append   the worker inserts; with full_state the daemon too
--   insert   the daemon inserts, in its own transaction
-- The setting app.school_id is set for each transaction; without it no row is seen.
CREATE FUNCTION common.table_rules(target regclass, mode text, full_state boolean DEFAULT false) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
	daemon constant text := (SELECT 'schools24_' || n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = target);
	one_school constant text := $q$school_id = nullif(current_setting('app.school_id', true), '')::uuid$q$;
BEGIN
	IF mode NOT IN ('through', 'buffer', 'append', 'insert') THEN
		RAISE EXCEPTION 'no write mode %', mode;
	END IF;
	EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', target);
	EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', target);
	EXECUTE format('CREATE POLICY one_school ON %s TO %I USING (%s) WITH CHECK (%s)', target, daemon, one_school, one_school);

	IF mode = 'through' OR mode = 'buffer' AND full_state THEN
		EXECUTE format('GRANT INSERT, UPDATE ON %s TO %I', target, daemon);
	ELSIF mode = 'insert' OR mode = 'append' AND full_state THEN
		EXECUTE format('GRANT INSERT ON %s TO %I', target, daemon);
	END IF;

	-- The worker's batches mix schools; its upserts compare school_id themselves.
	IF mode IN ('buffer', 'append') THEN
		EXECUTE format('CREATE POLICY every_school ON %s TO schools24_worker USING (true) WITH CHECK (true)', target);
		EXECUTE format('GRANT SELECT, INSERT%s ON %s TO schools24_worker', CASE mode WHEN 'buffer' THEN ', UPDATE' ELSE '' END, target);
	END IF;
END $$;

-- Gives a function to schools24_definer (a SECURITY DEFINER function then runs with no more than these tables), and lets that role do `rights`
-- on the tables in every school: common.definer('auth.login_by_email(text)', ARRAY['auth.users']::regclass[], 'SELECT').
CREATE FUNCTION common.definer(function_name regprocedure, tables regclass[], rights text DEFAULT 'SELECT') RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
	home constant regnamespace := (SELECT pronamespace FROM pg_proc WHERE oid = function_name);
	target regclass;
BEGIN
	FOREACH target IN ARRAY tables LOOP
		EXECUTE format('GRANT USAGE ON SCHEMA %s TO schools24_definer', (SELECT relnamespace::regnamespace FROM pg_class WHERE oid = target));
		EXECUTE format('GRANT %s ON %s TO schools24_definer', rights, target);
		IF NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = target AND polname = 'definer') THEN
			EXECUTE format('CREATE POLICY definer ON %s TO schools24_definer USING (true) WITH CHECK (true)', target);
		END IF;
	END LOOP;
	-- A new owner must be able to create in the schema at this moment, and never after.
	EXECUTE format('GRANT CREATE ON SCHEMA %s TO schools24_definer', home);
	EXECUTE format('ALTER FUNCTION %s OWNER TO schools24_definer', function_name);
	EXECUTE format('REVOKE CREATE ON SCHEMA %s FROM schools24_definer', home);
END $$;

-- The tables that every daemon's schema has.
CREATE FUNCTION common.create_tables(daemon text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
	-- Who did what. A through change writes it in its transaction; a buffered one puts it beside the change, as the entity <daemon>_audit.
	EXECUTE format($q$
		CREATE TABLE %1$I.audit_logs (
			LIKE common.row INCLUDING ALL,
			actor uuid,
			role text CHECK (length(role) <= 32),
			action text NOT NULL CHECK (length(action) <= 100),
			entity_type text NOT NULL CHECK (length(entity_type) <= 64),
			entity_id uuid,
			old_values jsonb,
			new_values jsonb,
			ip text CHECK (length(ip) <= 64),
			user_agent text CHECK (length(user_agent) <= 512),
			reason text CHECK (length(reason) <= 1000),
			request_id text CHECK (length(request_id) <= 128)
		)$q$, daemon);
	EXECUTE format('CREATE INDEX ON %I.audit_logs (school_id, created_at)', daemon);
	EXECUTE format('CREATE INDEX ON %I.audit_logs (school_id, entity_type, entity_id)', daemon);
	PERFORM common.table_rules(format('%I.audit_logs', daemon)::regclass, 'append', full_state => true);

	-- The worker chains the audit rows afterwards, so that inserting them is not serialised.
	EXECUTE format($q$
		CREATE TABLE %1$I.audit_chain (
			seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
			audit_id uuid NOT NULL UNIQUE REFERENCES %1$I.audit_logs (id),
			school_id uuid NOT NULL,
			previous_hash bytea NOT NULL UNIQUE CHECK (octet_length(previous_hash) = 32),
			hash bytea NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
			created_at timestamptz NOT NULL DEFAULT clock_timestamp()
		)$q$, daemon);
	PERFORM common.table_rules(format('%I.audit_chain', daemon)::regclass, 'append');

	-- Events of through changes, written in their transaction and relayed to the stream by the worker.
	EXECUTE format($q$
		CREATE TABLE %1$I.outbox (
			id uuid PRIMARY KEY,
			school_id uuid NOT NULL,
			version bigint NOT NULL DEFAULT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint,
			domain text NOT NULL CHECK (domain ~ '^[a-z][a-z0-9_]{0,31}$'),
			channel text NOT NULL CHECK (length(channel) <= 128),
			envelope jsonb NOT NULL,
			created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
			sent_at timestamptz
		)$q$, daemon);
	EXECUTE format('CREATE INDEX ON %I.outbox (created_at, id) WHERE sent_at IS NULL', daemon);
	PERFORM common.table_rules(format('%I.outbox', daemon)::regclass, 'insert');
	EXECUTE format('CREATE POLICY every_school ON %I.outbox TO schools24_worker USING (true) WITH CHECK (true)', daemon);
	EXECUTE format('GRANT SELECT, UPDATE (sent_at) ON %I.outbox TO schools24_worker', daemon);

	-- Answers of through writes with an Idempotency-Key; key is the hash of user, route and the client's key. Buffered writes keep theirs in Redis.
	EXECUTE format($q$
		CREATE TABLE %1$I.idempotency (
			school_id uuid NOT NULL,
			key text NOT NULL CHECK (length(key) <= 200),
			fingerprint text NOT NULL CHECK (length(fingerprint) <= 200),
			status integer NOT NULL CHECK (status BETWEEN 100 AND 599),
			answer text NOT NULL,
			version bigint NOT NULL DEFAULT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint,
			created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
			PRIMARY KEY (school_id, key)
		)$q$, daemon);
	PERFORM common.table_rules(format('%I.idempotency', daemon)::regclass, 'through');

	-- A copy of the buffer's dead letters, so that they survive Redis. The record itself stays in the buffer.
	EXECUTE format($q$
		CREATE TABLE %1$I.dead_letter (
			entity text NOT NULL CHECK (length(entity) <= 64),
			id uuid NOT NULL,
			school_id uuid NOT NULL,
			version bigint NOT NULL,
			payload jsonb NOT NULL,
			error text NOT NULL,
			attempts integer NOT NULL,
			first_at timestamptz NOT NULL,
			last_at timestamptz NOT NULL DEFAULT clock_timestamp(),
			resolution text CHECK (resolution IN ('replayed', 'discarded')),
			resolved_at timestamptz,
			PRIMARY KEY (entity, id, version)
		)$q$, daemon);
	PERFORM common.table_rules(format('%I.dead_letter', daemon)::regclass, 'buffer');
END $$;

-- The worker's runs: what each cycle flushed, as in its log block.
CREATE TABLE worker.runs (
	id uuid PRIMARY KEY,
	worker text NOT NULL,
	started_at timestamptz NOT NULL,
	finished_at timestamptz NOT NULL,
	entity text NOT NULL,
	applied bigint NOT NULL DEFAULT 0,
	superseded bigint NOT NULL DEFAULT 0,
	retried bigint NOT NULL DEFAULT 0,
	dead bigint NOT NULL DEFAULT 0,
	errors bigint NOT NULL DEFAULT 0,
	bytes_freed bigint NOT NULL DEFAULT 0,
	detail jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX ON worker.runs (started_at);
GRANT INSERT ON worker.runs TO schools24_worker;
