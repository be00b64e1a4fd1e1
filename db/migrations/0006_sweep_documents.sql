-- SPDX-License-Identifier: Apache-2.0
-- A daemon's documents that nobody can find any more, removed by the daemon itself (common/svc/sweep.c). Nobody has DELETE, so this function of the
-- migration role is the one way: it removes what has expired, and tombstones that are older than any flush that could meet them.

CREATE FUNCTION common.sweep_documents(older_s bigint, most bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
	-- Who has logged in says whose documents they are.
	daemon constant text := substring(session_user FROM '^schools24_([a-z]+)$');
	gone bigint := 0;
BEGIN
	IF to_regclass(format('%I.documents', daemon)) IS NOT NULL THEN
		EXECUTE format('SELECT %I.documents_sweep($1, $2)', daemon) INTO gone
			USING clock_timestamp() - greatest(older_s, 7 * 86400) * interval '1 second', least(greatest(most, 1), 10000)::integer;
	END IF;
	RETURN gone;
END $$;

DO $$
DECLARE
	daemon text;
BEGIN
	FOREACH daemon IN ARRAY ARRAY['auth', 'dashboard', 'quiz', 'homework', 'attendance', 'fee', 'inventory', 'busroute', 'calendar', 'report'] LOOP
		EXECUTE format('GRANT USAGE ON SCHEMA common TO %I', 'schools24_' || daemon);
		EXECUTE format('GRANT EXECUTE ON FUNCTION common.sweep_documents(bigint, bigint) TO %I', 'schools24_' || daemon);
	END LOOP;
END $$;
