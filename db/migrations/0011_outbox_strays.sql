-- SPDX-License-Identifier: Apache-2.0
-- Events for a buffer that no worker serves stay in their outbox; the worker says so, because somebody has misspelt a name.

CREATE FUNCTION worker.outbox_strays(known text[]) RETURNS TABLE (daemon text, buffer text)
LANGUAGE plpgsql STABLE AS $$
DECLARE
	name text;
BEGIN
	FOR name IN
		SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relname = 'outbox' AND c.relkind = 'r' AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
		ORDER BY n.nspname
	LOOP
		RETURN QUERY EXECUTE format('SELECT DISTINCT %1$L, o.buffer FROM %1$I.outbox AS o WHERE o.sent_at IS NULL AND o.buffer <> ALL ($1)', name) USING known;
	END LOOP;
END $$;
