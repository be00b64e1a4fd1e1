-- SPDX-License-Identifier: Apache-2.0
-- An event goes to the stream on its school's write buffer, so a row of an outbox names that buffer: in the schemas that are there, and in those
-- that are made from now on.

CREATE FUNCTION common.outbox_buffer(daemon text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('ALTER TABLE %I.outbox ADD COLUMN buffer text NOT NULL DEFAULT ''main'' CHECK (length(buffer) BETWEEN 1 AND 32)', daemon);
	-- The relay takes what is for one buffer, so the events of one that is away keep nobody else's waiting.
	EXECUTE format('CREATE INDEX ON %I.outbox (buffer, created_at, id) WHERE sent_at IS NULL', daemon);
END $$;

SELECT common.outbox_buffer(n.nspname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = 'outbox' AND c.relkind = 'r' ORDER BY n.nspname;

ALTER FUNCTION common.create_tables(text) RENAME TO create_first_tables;
CREATE FUNCTION common.create_tables(daemon text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
	PERFORM common.create_first_tables(daemon);
	PERFORM common.outbox_buffer(daemon);
END $$;

-- Schemas with unsent events for a buffer, and the oldest of them, locked as by the older forms without a buffer.
CREATE FUNCTION worker.outbox_waiting(for_buffer text) RETURNS SETOF text
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
		EXECUTE format('SELECT EXISTS (SELECT FROM %I.outbox WHERE sent_at IS NULL AND buffer = $1)', daemon) INTO waiting USING for_buffer;
		IF waiting THEN
			RETURN NEXT daemon;
		END IF;
	END LOOP;
END $$;

CREATE FUNCTION worker.outbox_take(daemon text, for_buffer text, most integer)
RETURNS TABLE (id uuid, version bigint, domain text, channel text, envelope text)
LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE format(
		'SELECT o.id, o.version, o.domain, o.channel, o.envelope::text FROM %I.outbox AS o WHERE o.sent_at IS NULL AND o.buffer = $2
		ORDER BY o.created_at, o.id LIMIT $1 FOR UPDATE SKIP LOCKED', daemon) USING most, for_buffer;
END $$;
