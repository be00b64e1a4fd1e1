-- SPDX-License-Identifier: Apache-2.0
-- Roles, schemas and what a role may do by default (one schema and one role for each daemon, one role for the worker).
--
-- Run by the migration role, which owns the database and may create roles, but is no superuser and does not bypass row-level security.
-- Passwords are set by the runner, so they are in no file. Roles belong to the whole cluster, so one that exists is kept.
-- A daemon reads its schema; what it may write is granted table by table (common.table_rules in 0002). Nobody has DELETE.

DO $$
DECLARE
	daemons constant text[] := ARRAY['auth', 'dashboard', 'quiz', 'homework', 'attendance', 'fee', 'inventory', 'busroute', 'calendar', 'report'];
	daemon text;
	wanted text;
BEGIN
	FOREACH wanted IN ARRAY daemons || ARRAY['worker', 'definer'] LOOP
		wanted := 'schools24_' || wanted;
		IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
			EXECUTE format('CREATE ROLE %I NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS %s', wanted,
				CASE wanted WHEN 'schools24_definer' THEN 'NOLOGIN' ELSE 'LOGIN' END);
		END IF;
		EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), wanted);
	END LOOP;

	-- Nothing by default for everybody: not the database, not the public schema, not new functions.
	EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
	ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
	ALTER DEFAULT PRIVILEGES REVOKE USAGE ON TYPES FROM PUBLIC;

	FOREACH daemon IN ARRAY daemons || ARRAY['worker'] LOOP
		EXECUTE format('CREATE SCHEMA %I', daemon);
		EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', daemon, 'schools24_' || daemon);
		EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA %I GRANT SELECT ON TABLES TO %I', daemon, 'schools24_' || daemon);
		EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA %I GRANT EXECUTE ON FUNCTIONS TO %I', daemon, 'schools24_' || daemon);
		EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA %I GRANT USAGE ON TYPES TO %I', daemon, 'schools24_' || daemon);
		-- A daemon's statements name its own tables without the schema where every schema has the table (audit_logs, outbox, idempotency).
		EXECUTE format('ALTER ROLE %I IN DATABASE %I SET search_path TO %I', 'schools24_' || daemon, current_database(), daemon);
		-- The worker flushes into every schema.
		IF daemon <> 'worker' THEN
			EXECUTE format('GRANT USAGE ON SCHEMA %I TO schools24_worker', daemon);
		END IF;
	END LOOP;

	-- COPY into temporary tables is how the worker flushes; no daemon needs one.
	EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO schools24_worker', current_database());
	-- Functions that must see across schools (login by e-mail) are SECURITY DEFINER and belong to this role, which cannot log in
	-- and sees only the tables that name it in a policy (common.definer in 0002).
	EXECUTE format('GRANT schools24_definer TO %I', current_user);
END $$;

CREATE SCHEMA common;
