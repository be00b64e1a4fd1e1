-- SPDX-License-Identifier: Apache-2.0
-- The worker's own schema: its audit table, and functions over the tables that every daemon's schema has. The functions run with the worker's rights
-- (0002 has the grants), and every name goes through format's %I.

SELECT common.create_tables('worker');

-- Schemas with events that the relay has not sent yet.
CREATE FUNCTION worker.outbox_waiting() RETURNS SETOF text
LANGUAGE plpgsql STABLE AS $$
DECLARE
	daemon text;
	waiting boolean;
BEGIN
	FOR daemon IN
		SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relname = 'outbox' AND c.relkind = 'r' AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
		ORDER BY n.nspname
	LOOP
		EXECUTE format('SELECT EXISTS (SELECT FROM %I.outbox WHERE sent_at IS NULL)', daemon) INTO waiting;
		IF waiting THEN
			RETURN NEXT daemon;
		END IF;
	END LOOP;
END $$;

-- The oldest of them, locked until the transaction ends; those that another worker has locked are left to it.
CREATE FUNCTION worker.outbox_take(daemon text, most integer)
RETURNS TABLE (id uuid, version bigint, domain text, channel text, envelope text)
LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE format(
		'SELECT o.id, o.version, o.domain, o.channel, o.envelope::text FROM %I.outbox AS o WHERE o.sent_at IS NULL
		ORDER BY o.created_at, o.id LIMIT $1 FOR UPDATE SKIP LOCKED', daemon) USING most;
END $$;

CREATE FUNCTION worker.outbox_sent(daemon text, ids uuid[]) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('UPDATE %I.outbox SET sent_at = clock_timestamp() WHERE id = ANY ($1)', daemon) USING ids;
END $$;

CREATE FUNCTION worker.dead_letter_put(daemon text, entity text, id uuid, school_id uuid, version bigint, payload jsonb, error text, attempts bigint,
	first_at timestamptz, last_at timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format(
		'INSERT INTO %I.dead_letter (entity, id, school_id, version, payload, error, attempts, first_at, last_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (entity, id, version) DO NOTHING', daemon)
	USING entity, id, school_id, version, payload, error, attempts::integer, first_at, last_at;
END $$;

CREATE FUNCTION worker.dead_letter_resolve(daemon text, entity text, ids uuid[], how text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('UPDATE %I.dead_letter SET resolution = $1, resolved_at = clock_timestamp()
		WHERE entity = $2 AND id = ANY ($3) AND resolution IS NULL', daemon) USING how, entity, ids;
END $$;
