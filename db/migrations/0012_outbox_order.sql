-- SPDX-License-Identifier: Apache-2.0
-- One relay at a time for a schema and a buffer: two that skip each other's rows would send the events of one account out of their order. The lock is the
-- transaction's, so it goes with a worker that dies; who does not get it has nothing to do.

CREATE OR REPLACE FUNCTION worker.outbox_take(daemon text, for_buffer text, most integer)
RETURNS TABLE (id uuid, version bigint, domain text, channel text, envelope text)
LANGUAGE plpgsql AS $$
BEGIN
	IF NOT pg_try_advisory_xact_lock(hashtextextended('outbox/' || daemon || '/' || for_buffer, 0)) THEN
		RETURN;
	END IF;
	-- A statement of its own: it sees what the one before has marked.
	RETURN QUERY EXECUTE format(
		'SELECT o.id, o.version, o.domain, o.channel, o.envelope::text FROM %I.outbox AS o WHERE o.sent_at IS NULL AND o.buffer = $2
		ORDER BY o.created_at, o.id LIMIT $1 FOR UPDATE', daemon) USING most, for_buffer;
END $$;
