-- SPDX-License-Identifier: Apache-2.0
-- The document store in PostgreSQL (common/io/docstore_pg.c): one table of JSON documents in each schema that asks for it.
--
--	SELECT common.create_documents('quiz');
--
-- in a daemon's migration makes quiz.documents, quiz.document_indexes and the functions over them; called again it renews the functions.
-- The functions that a daemon calls run with its own rights, so row-level security holds in them. Only documents_index belongs to the migration
-- role: it makes indexes, and only the forms that are written here.

CREATE FUNCTION common.create_documents(daemon text) RETURNS void
LANGUAGE plpgsql AS $create$
DECLARE
	statement text;
BEGIN
	IF to_regclass(format('%I.documents', daemon)) IS NULL THEN
		EXECUTE format($q$
			CREATE TABLE %1$I.documents (
				school_id uuid NOT NULL,
				collection text NOT NULL CHECK (collection ~ '^[a-z][a-z0-9_]{0,47}$'),
				id uuid NOT NULL,
				v bigint NOT NULL CHECK (v > 0),
				deleted_at timestamptz,
				expires_at timestamptz,
				doc jsonb CHECK (jsonb_typeof(doc) = 'object'),
				words tsvector,
				PRIMARY KEY (school_id, collection, id),
				CHECK ((doc IS NULL) = (deleted_at IS NOT NULL))
			)$q$, daemon);
		EXECUTE format('CREATE INDEX ON %I.documents (expires_at) WHERE expires_at IS NOT NULL', daemon);
		PERFORM common.table_rules(format('%I.documents', daemon)::regclass, 'buffer', full_state => true);
		-- Making an index fills in what the documents of all schools lack.
		EXECUTE format('CREATE POLICY maintenance ON %I.documents TO %I USING (true) WITH CHECK (true)', daemon, current_user);
		EXECUTE format($q$
			CREATE TABLE %1$I.document_indexes (
				collection text NOT NULL CHECK (collection ~ '^[a-z][a-z0-9_]{0,47}$'),
				name text NOT NULL CHECK (name ~ '^[a-z][a-z0-9_]{0,47}$'),
				paths text[] NOT NULL CHECK (cardinality(paths) BETWEEN 1 AND 4),
				is_unique boolean NOT NULL,
				is_text boolean NOT NULL,
				expire_s bigint NOT NULL CHECK (expire_s >= 0),
				PRIMARY KEY (collection, name)
			)$q$, daemon);
		EXECUTE format('GRANT SELECT ON %I.document_indexes TO schools24_worker', daemon);
	END IF;

	FOREACH statement IN ARRAY ARRAY[
$f$
CREATE OR REPLACE FUNCTION @S@.document_path(path text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT AS $$
	SELECT '$' || string_agg('."' || part || '"', '') FROM unnest(string_to_array(path, '.')) part
$$
$f$, $f$
-- Instants are RFC 3339 text; anything else expires never.
CREATE OR REPLACE FUNCTION @S@.document_instant(value text) RETURNS timestamptz
LANGUAGE plpgsql STABLE STRICT AS $$
BEGIN
	IF value !~ '^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$' THEN
		RETURN NULL;
	END IF;
	RETURN value::timestamptz;
EXCEPTION WHEN data_exception THEN
	RETURN NULL;
END $$
$f$, $f$
CREATE OR REPLACE FUNCTION @S@.document_expiry(of_collection text, doc jsonb) RETURNS timestamptz
LANGUAGE sql STABLE STRICT AS $$
	SELECT min(@S@.document_instant(doc #>> string_to_array(x.paths[1], '.')) + x.expire_s * interval '1 second')
	  FROM @S@.document_indexes x
	 WHERE x.collection = of_collection AND x.expire_s > 0
$$
$f$, $f$
-- What the text index knows: whole words of the strings at its paths, in small letters, parted by punctuation (the parser would make one word of
-- an address or a number with a sign). A tsvector has a size, so a huge text is cut.
CREATE OR REPLACE FUNCTION @S@.document_words(of_collection text, doc jsonb) RETURNS tsvector
LANGUAGE sql STABLE STRICT AS $$
	SELECT to_tsvector('simple', translate(left(string_agg(item #>> '{}', ' '), 100000), $p$!"#$%&'()*+,-./:;<=>?@[\]^_`{|}~$p$, repeat(' ', 32)))
	  FROM @S@.document_indexes x, unnest(x.paths) path, jsonb_path_query(doc, (@S@.document_path(path) || '[*]')::jsonpath) item
	 WHERE x.collection = of_collection AND x.is_text AND jsonb_typeof(item) = 'string'
$$
$f$, $f$
-- One document: 0 applied, 1 the stored version is the same or newer.
CREATE OR REPLACE FUNCTION @S@.document_put(school uuid, of_collection text, doc_id uuid, version bigint, doc jsonb) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
	applied bigint;
BEGIN
	INSERT INTO @S@.documents AS t (school_id, collection, id, v, deleted_at, expires_at, doc, words)
	VALUES (school, of_collection, doc_id, version, CASE WHEN doc IS NULL THEN clock_timestamp() END,
		@S@.document_expiry(of_collection, doc), doc, @S@.document_words(of_collection, doc))
	ON CONFLICT (school_id, collection, id) DO UPDATE
	SET v = EXCLUDED.v, deleted_at = EXCLUDED.deleted_at, expires_at = EXCLUDED.expires_at, doc = EXCLUDED.doc, words = EXCLUDED.words
	WHERE t.v < EXCLUDED.v;
	GET DIAGNOSTICS applied = ROW_COUNT;
	RETURN 1 - applied;
END $$
$f$, $f$
-- All of them, in the order of their ids so that two callers cannot deadlock; an empty text is a tombstone. When one is refused by a unique
-- index (or is too long for it), they are put one by one, each in a subtransaction of its own: 2 is a refusal.
CREATE OR REPLACE FUNCTION @S@.documents_put(school uuid, of_collection text, ids uuid[], versions bigint[], docs text[])
RETURNS TABLE (i bigint, outcome integer)
LANGUAGE plpgsql AS $$
DECLARE
	one record;
	outcomes integer[] := array_fill(1, ARRAY[cardinality(ids)]);
	alone boolean := false;
BEGIN
	LOOP
		BEGIN
			FOR one IN SELECT t.id, t.v, nullif(t.d, '')::jsonb AS doc, t.n::integer AS n
				     FROM unnest(ids, versions, docs) WITH ORDINALITY AS t (id, v, d, n) ORDER BY t.id, t.n LOOP
				IF NOT alone THEN
					outcomes[one.n] := @S@.document_put(school, of_collection, one.id, one.v, one.doc);
				ELSE
					BEGIN
						outcomes[one.n] := @S@.document_put(school, of_collection, one.id, one.v, one.doc);
					EXCEPTION WHEN unique_violation OR program_limit_exceeded THEN
						outcomes[one.n] := 2;
					END;
				END IF;
			END LOOP;
			EXIT;
		EXCEPTION WHEN unique_violation OR program_limit_exceeded THEN
			alone := true;
		END;
	END LOOP;
	RETURN QUERY SELECT o.n, o.outcome FROM unnest(outcomes) WITH ORDINALITY AS o (outcome, n);
END $$
$f$, $f$
-- Values in the order of the port: null or missing, numbers, strings by bytes, anything else, booleans.
CREATE OR REPLACE FUNCTION @S@.document_rank(x jsonb) RETURNS integer
LANGUAGE sql IMMUTABLE AS $$
	SELECT CASE coalesce(jsonb_typeof(x), 'null') WHEN 'null' THEN 0 WHEN 'number' THEN 1 WHEN 'string' THEN 2 WHEN 'boolean' THEN 4 ELSE 3 END
$$
$f$, $f$
CREATE OR REPLACE FUNCTION @S@.document_number(x jsonb) RETURNS numeric
LANGUAGE sql IMMUTABLE AS $$
	SELECT CASE jsonb_typeof(x) WHEN 'number' THEN x::numeric WHEN 'boolean' THEN x::boolean::integer ELSE 0 END
$$
$f$, $f$
CREATE OR REPLACE FUNCTION @S@.document_text(x jsonb) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
	SELECT CASE jsonb_typeof(x) WHEN 'string' THEN x #>> '{}' ELSE '' END COLLATE "C"
$$
$f$, $f$
-- One condition as SQL text. A value is a literal of a jsonpath, and that a literal of SQL, so nothing of it is ever read as either.
CREATE OR REPLACE FUNCTION @S@.document_condition(cond jsonb) RETURNS text
LANGUAGE plpgsql STABLE AS $$
DECLARE
	path constant text := @S@.document_path(cond ->> 'path');
	value constant jsonb := cond -> 'value';
	op constant text := cond ->> 'op';
	sign text;
	found text;
BEGIN
	IF cond ->> 'path' !~ '^[A-Za-z0-9_.]{1,128}$' THEN
		RAISE data_exception;
	END IF;
	IF op = 'text' THEN
		-- Any of the words.
		RETURN format('words @@ %L::tsquery', replace(plainto_tsquery('simple', value #>> '{}')::text, ' & ', ' | '));
	END IF;
	IF op = 'in' THEN
		IF value = '[]' THEN
			RETURN 'false';
		END IF;
		SELECT string_agg('@ == ' || v::text, ' || '), bool_or(v = 'null')::text INTO found, sign FROM jsonb_array_elements(value) v;
		found := format('doc @? %L::jsonpath', path || ' ? (' || found || ')');
		-- What is missing is null.
		RETURN CASE sign WHEN 'true' THEN format('(%s OR NOT doc @? %L::jsonpath)', found, path) ELSE found END;
	END IF;
	sign := CASE op WHEN 'eq' THEN '==' WHEN 'gt' THEN '>' WHEN 'gte' THEN '>=' WHEN 'lt' THEN '<' WHEN 'lte' THEN '<=' END;
	IF sign IS NULL OR jsonb_typeof(value) IN ('object', 'array') THEN
		RAISE data_exception;
	END IF;
	found := format('doc @? %L::jsonpath', path || ' ? (@ ' || sign || ' ' || value::text || ')');
	RETURN CASE WHEN op = 'eq' AND value = 'null' THEN format('(%s OR NOT doc @? %L::jsonpath)', found, path) ELSE found END;
END $$
$f$, $f$
-- A page. `after` is the last document of the page before: {"key": its value at the sort path, "id": its id}.
-- The statement is made anew each time, because only literal paths meet the collection's indexes.
CREATE OR REPLACE FUNCTION @S@.documents_find(school uuid, of_collection text, conds jsonb, sort text, descending boolean, most integer, after jsonb)
RETURNS TABLE (id uuid, v bigint, doc jsonb, key jsonb)
LANGUAGE plpgsql STABLE AS $$
DECLARE
	direction constant text := CASE WHEN descending THEN 'DESC' ELSE 'ASC' END;
	beyond constant text := CASE WHEN descending THEN '<' ELSE '>' END;
	value text := 'NULL::jsonb';
	page text := '';
	sorted text := '';
	wanted text;
	one jsonb;
BEGIN
	IF sort IS NOT NULL AND sort !~ '^[A-Za-z0-9_.]{1,128}$' THEN
		RAISE data_exception;
	END IF;
	wanted := format('school_id = %L AND collection = %L AND deleted_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())',
		school, of_collection);
	FOR one IN SELECT c.value FROM jsonb_array_elements(conds) AS c (value) LOOP
		wanted := wanted || ' AND ' || @S@.document_condition(one);
	END LOOP;
	IF sort IS NOT NULL THEN
		value := format('(doc #> %L)', string_to_array(sort, '.'));
		sorted := format('@S@.document_rank(%1$s) %2$s, @S@.document_number(%1$s) %2$s, @S@.document_text(%1$s) %2$s, ', value, direction);
	END IF;
	IF after IS NOT NULL THEN
		page := CASE WHEN sort IS NULL THEN format(' AND id %s %L', beyond, after ->> 'id')
			ELSE format(' AND (@S@.document_rank(%1$s), @S@.document_number(%1$s), @S@.document_text(%1$s), id) %2$s (%3$L, %4$L, %5$L, %6$L)',
				value, beyond, @S@.document_rank(after -> 'key'), @S@.document_number(after -> 'key'),
				@S@.document_text(after -> 'key'), after ->> 'id') END;
	END IF;
	RETURN QUERY EXECUTE format('SELECT id, v, doc, coalesce(%s, %L) AS key FROM @S@.documents WHERE %s%s ORDER BY %sid %s LIMIT %s',
		value, 'null', wanted, page, sorted, direction, most);
END $$
$f$, $f$
-- Makes an index and fills in what older documents need for it. False: the name has another meaning already.
CREATE OR REPLACE FUNCTION @S@.documents_index(of_collection text, index_name text, over text[], make_unique boolean, make_text boolean, after_s bigint)
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
	known @S@.document_indexes;
	path text;
	called text;
BEGIN
	-- Daemons start at the same time.
	PERFORM pg_advisory_xact_lock(hashtextextended('@S@.documents_index', 0));
	SELECT * INTO known FROM @S@.document_indexes x WHERE x.collection = of_collection AND x.name = index_name;
	IF FOUND THEN
		RETURN known.paths = over AND known.is_unique = make_unique AND known.is_text = make_text AND known.expire_s = after_s;
	END IF;
	FOREACH path IN ARRAY over LOOP
		IF path !~ '^[A-Za-z0-9_.]{1,128}$' THEN
			RAISE data_exception;
		END IF;
	END LOOP;
	-- A collection has one text index and one path by which it expires.
	IF EXISTS (SELECT FROM @S@.document_indexes x WHERE x.collection = of_collection
		AND (x.is_text AND make_text OR x.expire_s > 0 AND after_s > 0)) THEN
		RETURN false;
	END IF;
	INSERT INTO @S@.document_indexes VALUES (of_collection, index_name, over, make_unique, make_text, after_s);
	called := 'documents_' || md5(of_collection || '/' || index_name);
	IF make_text THEN
		EXECUTE format('CREATE INDEX %I ON @S@.documents USING gin (words) WHERE collection = %L', called, of_collection);
		UPDATE @S@.documents d SET words = @S@.document_words(of_collection, d.doc) WHERE d.collection = of_collection AND d.doc IS NOT NULL;
	ELSIF after_s > 0 THEN
		UPDATE @S@.documents d SET expires_at = @S@.document_expiry(of_collection, d.doc) WHERE d.collection = of_collection AND d.doc IS NOT NULL;
	ELSIF make_unique THEN
		-- A document without one of the values is not bound by the index.
		EXECUTE format('CREATE UNIQUE INDEX %I ON @S@.documents (school_id, %s) WHERE collection = %L', called,
			(SELECT string_agg(format('(doc #> %L)', string_to_array(o.path, '.')), ', ') FROM unnest(over) AS o (path)), of_collection);
	ELSE
		-- One for all paths of a collection: equality and IN by any of them.
		EXECUTE format('CREATE INDEX IF NOT EXISTS %I ON @S@.documents USING gin (doc jsonb_path_ops) WHERE collection = %L',
			'documents_' || md5(of_collection || '/'), of_collection);
	END IF;
	RETURN true;
END $$
$f$, $f$
-- For the job that cleans up: documents that expired, and tombstones that no flush can meet any more.
CREATE OR REPLACE FUNCTION @S@.documents_sweep(tombstones_before timestamptz, most integer) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
	gone bigint;
BEGIN
	DELETE FROM @S@.documents d USING (
		SELECT x.ctid FROM @S@.documents x WHERE x.expires_at <= clock_timestamp() OR x.deleted_at < tombstones_before LIMIT most) old
	WHERE d.ctid = old.ctid;
	GET DIAGNOSTICS gone = ROW_COUNT;
	RETURN gone;
END $$
$f$] LOOP
		EXECUTE replace(statement, '@S@', quote_ident(daemon));
	END LOOP;
	EXECUTE format('REVOKE ALL ON FUNCTION %I.documents_sweep(timestamptz, integer) FROM PUBLIC, %I', daemon, 'schools24_' || daemon);
	-- The worker flushes documents too.
	EXECUTE format('GRANT EXECUTE ON FUNCTION %1$I.document_path(text), %1$I.document_instant(text), %1$I.document_expiry(text, jsonb),
		%1$I.document_words(text, jsonb), %1$I.document_put(uuid, text, uuid, bigint, jsonb),
		%1$I.documents_put(uuid, text, uuid[], bigint[], text[]) TO schools24_worker', daemon);
END $create$;
