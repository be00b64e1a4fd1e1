-- SPDX-License-Identifier: Apache-2.0
-- What the worker does beside flushing: it chains the audit rows of every schema, proves the chains, and removes what is old.
--
-- The chain of a schema: in the order of seq each row of audit_chain has previous_hash = the hash of the row before it (the first:
-- worker.audit_genesis) and hash = worker.audit_hash(previous_hash, its row of audit_logs). An edited row fits its hash no more, a row taken
-- away or put in between breaks the link, and that the end was cut off is seen by whoever has kept an earlier head (the worker logs it
-- daily). One statement proves a whole chain: SELECT * FROM worker.audit_chain_check('homework', 0, NULL, 2000000000) WHERE why IS NOT NULL

-- ---- the chain ---------------------------------------------------------------------------------------------------------------------------------

CREATE FUNCTION worker.audit_genesis(daemon text) RETURNS bytea
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
	SELECT sha256(convert_to('schools24 audit_chain ' || daemon, 'UTF8'))
$$;

-- SHA-256 of the 32 bytes of the previous hash and then, in UTF-8, PostgreSQL's text of this JSON array (", " between its elements):
-- id, school_id, version, created_at, updated_at, deleted_at (times as whole microseconds since 1970), actor, role, action, entity_type,
-- entity_id, old_values, new_values, ip, user_agent, reason, request_id; what is absent is null. `a` is the row as to_jsonb makes it; the time
-- zone it was made in does not matter. A column that is added later is not part of it.
CREATE FUNCTION worker.audit_hash(previous bytea, a jsonb) RETURNS bytea
LANGUAGE sql STABLE AS $$
	SELECT sha256(previous || convert_to(jsonb_build_array(a -> 'id', a -> 'school_id', a -> 'version',
		(extract(epoch FROM (a ->> 'created_at')::timestamptz) * 1000000)::bigint,
		(extract(epoch FROM (a ->> 'updated_at')::timestamptz) * 1000000)::bigint,
		(extract(epoch FROM (a ->> 'deleted_at')::timestamptz) * 1000000)::bigint,
		a -> 'actor', a -> 'role', a -> 'action', a -> 'entity_type', a -> 'entity_id', a -> 'old_values', a -> 'new_values', a -> 'ip',
		a -> 'user_agent', a -> 'reason', a -> 'request_id')::text, 'UTF8'))
$$;

-- Schemas whose audit rows the caller may chain, or read.
CREATE FUNCTION worker.audit_schemas() RETURNS SETOF text
LANGUAGE sql STABLE AS $$
	SELECT n.nspname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
	WHERE c.relname = 'audit_chain' AND c.relkind = 'r' AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
	ORDER BY n.nspname
$$;

-- One chainer a schema at a time: false, somebody else is at it. Held until the transaction ends, so the next one sees this one's rows.
CREATE FUNCTION worker.audit_chain_lock(daemon text) RETURNS boolean
LANGUAGE sql VOLATILE AS $$
	SELECT pg_try_advisory_xact_lock(hashtextextended('worker.audit_chain ' || daemon, 0))
$$;

-- Links these rows, which are not chained yet, behind the last. The caller holds the lock.
CREATE FUNCTION worker.audit_chain_link(daemon text, ids uuid[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
	previous bytea;
	one record;
	link bytea;
BEGIN
	EXECUTE format('SELECT hash FROM %I.audit_chain ORDER BY seq DESC LIMIT 1', daemon) INTO previous;
	previous := coalesce(previous, worker.audit_genesis(daemon));
	FOR one IN EXECUTE format('SELECT a.id, a.school_id, to_jsonb(a) AS a FROM %I.audit_logs AS a WHERE a.id = ANY ($1) ORDER BY a.created_at, a.id', daemon)
		USING ids LOOP
		link := worker.audit_hash(previous, one.a);
		EXECUTE format('INSERT INTO %I.audit_chain (audit_id, school_id, previous_hash, hash) VALUES ($1, $2, $3, $4)', daemon)
			USING one.id, one.school_id, previous, link;
		previous := link;
	END LOOP;
END $$;

-- Chains up to `most` rows in the order of created_at and id, from three hours before the newest of the chain's last links (or before now, if that is
-- earlier) on: a row that was buffered comes later than its time says. `waiting`: how many more there are (at most 10,000 are counted).
CREATE FUNCTION worker.audit_chain_append(daemon text, most integer) RETURNS TABLE (chained bigint, waiting bigint)
LANGUAGE plpgsql AS $$
DECLARE
	since timestamptz;
	ids uuid[];
BEGIN
	chained := 0;
	IF worker.audit_chain_lock(daemon) THEN
		EXECUTE format('SELECT least(max(a.created_at), clock_timestamp()) - interval ''3 hours''
			FROM (SELECT audit_id FROM %1$I.audit_chain ORDER BY seq DESC LIMIT 1000) c JOIN %1$I.audit_logs a ON a.id = c.audit_id
			HAVING count(*) > 0', daemon) INTO since;
		since := coalesce(since, '-infinity');
		EXECUTE format('SELECT array_agg(x.id) FROM (SELECT a.id FROM %1$I.audit_logs a
			WHERE a.created_at >= $1 AND NOT EXISTS (SELECT FROM %1$I.audit_chain c WHERE c.audit_id = a.id)
			ORDER BY a.created_at, a.id LIMIT $2) x', daemon) INTO ids USING since, least(greatest(most, 1), 10000);
		chained := coalesce(cardinality(ids), 0);
		IF chained > 0 THEN
			PERFORM worker.audit_chain_link(daemon, ids);
		END IF;
	END IF;
	EXECUTE format('SELECT count(*) FROM (SELECT FROM %1$I.audit_logs a
		WHERE a.created_at >= $1 AND NOT EXISTS (SELECT FROM %1$I.audit_chain c WHERE c.audit_id = a.id) LIMIT 10000) x', daemon)
		INTO waiting USING coalesce(since, clock_timestamp() - interval '3 hours');
	RETURN NEXT;
END $$;

-- The same for rows that came later still: looks at the next `most` rows in the order of their ids, behind `after`, whatever their time.
-- `next_id`: where to go on; NULL at the end of the table.
CREATE FUNCTION worker.audit_chain_late(daemon text, after uuid, most integer) RETURNS TABLE (chained bigint, next_id uuid)
LANGUAGE plpgsql AS $$
DECLARE
	ids uuid[];
	looked bigint;
BEGIN
	chained := 0;
	next_id := after;
	IF worker.audit_chain_lock(daemon) THEN
		EXECUTE format('SELECT count(*), (array_agg(x.id ORDER BY x.id DESC))[1], array_agg(x.id) FILTER (WHERE x.missing)
			FROM (SELECT a.id, NOT EXISTS (SELECT FROM %1$I.audit_chain c WHERE c.audit_id = a.id) AS missing
			FROM %1$I.audit_logs a WHERE a.id > $1 ORDER BY a.id LIMIT $2) x', daemon)
			INTO looked, next_id, ids USING after, least(greatest(most, 1), 10000);
		chained := coalesce(cardinality(ids), 0);
		IF chained > 0 THEN
			PERFORM worker.audit_chain_link(daemon, ids);
		END IF;
		IF looked < least(greatest(most, 1), 10000) THEN
			next_id := NULL;
		END IF;
	END IF;
	RETURN NEXT;
END $$;

-- Proves the next `most` links behind seq `after`, whose hash was `after_hash` (NULL: from the beginning): each link that is broken with the reason,
-- and as the last row how far it came (why NULL; seq NULL: there was nothing more).
CREATE FUNCTION worker.audit_chain_check(daemon text, after bigint, after_hash bytea, most bigint)
RETURNS TABLE (seq bigint, audit_id uuid, hash bytea, why text)
LANGUAGE plpgsql STABLE AS $$
DECLARE
	one record;
	expected bytea := coalesce(after_hash, worker.audit_genesis(daemon));
BEGIN
	FOR one IN EXECUTE format('SELECT c.seq, c.audit_id, c.previous_hash, c.hash, c.school_id AS of_school, a.school_id,
		CASE WHEN a.id IS NOT NULL THEN worker.audit_hash(c.previous_hash, to_jsonb(a)) END AS right_hash
		FROM (SELECT * FROM %1$I.audit_chain WHERE seq > $1 ORDER BY seq LIMIT $2) c LEFT JOIN %1$I.audit_logs a ON a.id = c.audit_id ORDER BY c.seq', daemon)
		USING after, most LOOP
		seq := one.seq;
		audit_id := one.audit_id;
		hash := one.hash;
		why := concat_ws(', ', CASE WHEN one.previous_hash <> expected THEN 'the link before it is gone or another' END,
			CASE WHEN one.right_hash IS NULL THEN 'its row is gone' WHEN one.right_hash <> one.hash OR one.of_school <> one.school_id THEN 'its row was changed' END);
		IF why <> '' THEN
			RETURN NEXT;
		END IF;
		expected := one.hash;
	END LOOP;
	audit_id := NULL;
	why := NULL;
	RETURN NEXT;
END $$;

-- Is a link that was seen before still there as it was.
CREATE FUNCTION worker.audit_chain_has(daemon text, at bigint, of_hash bytea) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
DECLARE
	found boolean;
BEGIN
	EXECUTE format('SELECT EXISTS (SELECT FROM %I.audit_chain WHERE seq = $1 AND hash = $2)', daemon) INTO found USING at, of_hash;
	RETURN found;
END $$;

-- ---- what is old -------------------------------------------------------------------------------------------------------------------------------

-- Nobody has DELETE but schools24_definer, which cannot log in, on exactly these tables; these functions of its remove what is old and nothing else,
-- so many rows at most (of each table), and whatever ages they are asked for, none that is younger than said here.
CREATE FUNCTION worker.retain(daemon text, outbox_s bigint, idempotency_s bigint, dead_letter_s bigint, most bigint) RETURNS TABLE (of_table text, gone bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	now constant timestamptz := clock_timestamp();
	bound constant bigint := least(greatest(most, 1), 10000);
	rule record;
BEGIN
	FOR rule IN SELECT * FROM (VALUES
		('outbox', 'sent_at < $1', greatest(outbox_s, 86400)),
		('idempotency', 'created_at < $1', greatest(idempotency_s, 90000)),
		('dead_letter', 'resolution IS NOT NULL AND resolved_at < $1', greatest(dead_letter_s, 7 * 86400))) AS r (name, is_old, age_s) LOOP
		EXECUTE format('DELETE FROM %1$I.%2$I WHERE ctid = ANY (ARRAY (SELECT ctid FROM %1$I.%2$I WHERE %3$s LIMIT $2)) AND %3$s', daemon, rule.name, rule.is_old)
			USING now - rule.age_s * interval '1 second', bound;
		of_table := rule.name;
		GET DIAGNOSTICS gone = ROW_COUNT;
		RETURN NEXT;
	END LOOP;
END $$;

CREATE FUNCTION worker.retain_runs(runs_s bigint, most bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	before constant timestamptz := clock_timestamp() - greatest(runs_s, 86400) * interval '1 second';
	gone bigint;
BEGIN
	DELETE FROM worker.runs WHERE ctid = ANY (ARRAY (SELECT ctid FROM worker.runs WHERE started_at < before LIMIT least(greatest(most, 1), 10000)))
		AND started_at < before;
	GET DIAGNOSTICS gone = ROW_COUNT;
	RETURN gone;
END $$;
SELECT common.definer('worker.retain_runs(bigint, bigint)', ARRAY['worker.runs']::regclass[], 'SELECT, DELETE');

-- ---- every schema's share ------------------------------------------------------------------------------------------------------------------------

-- What a schema with the common tables needs for this: an index in the chain's order, and the rights of worker.retain.
CREATE FUNCTION common.worker_duties(daemon text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('CREATE INDEX audit_logs_chain ON %I.audit_logs (created_at, id)', daemon);
	PERFORM common.definer('worker.retain(text, bigint, bigint, bigint, bigint)',
		ARRAY[format('%I.outbox', daemon), format('%I.idempotency', daemon), format('%I.dead_letter', daemon)]::regclass[], 'SELECT, DELETE');
END $$;

ALTER FUNCTION common.create_tables(text) RENAME TO create_common_tables;
CREATE FUNCTION common.create_tables(daemon text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
	PERFORM common.create_common_tables(daemon);
	PERFORM common.worker_duties(daemon);
END $$;

SELECT common.worker_duties(n.nspname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = 'audit_chain' AND c.relkind = 'r' ORDER BY n.nspname;
