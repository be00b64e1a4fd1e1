"""Statements of a service's entities, made from its descriptors at build time.

entity_sql.py ENTITIES.json SQL_DIR OUT: writes SQL_DIR/<entity>_<statement>.sql, SQL_DIR/live.sql (the list sources, which a migration
holds) and OUT.c/OUT.h with `const struct entity_sql <service>_entity_sql[]`. The columns are in the order of pg_row_params.
"""
import json
import pathlib
import sys


AUDIT = ("id", "school_id", "actor", "role", "action", "entity_type", "entity_id", "old_values", "new_values", "ip", "user_agent", "reason",
         "request_id", "created_at", "updated_at")


def columns(entity: dict) -> list[str]:
    fields = [f["column"] for f in entity["fields"]]
    return ["id", "school_id", *fields, "version", "created_at", "updated_at", "deleted_at"]


def update_set(entity: dict) -> str:
    kept = {"id", "school_id", "created_at"}
    return ",\n\t".join(f"{c} = EXCLUDED.{c}" for c in columns(entity) if c not in kept)


def document_statements(entity: dict) -> dict[str, str]:
    """Of a collection in the embedded document store; MongoDB needs none."""
    table, collection = entity["table"], entity["collection"]
    schema = table.split(".")[0]
    return {
        "flush": f"-- $1 school, $2 ids, $3 versions, $4 documents ('' a tombstone) → i from 1, outcome (enum doc_outcome)\n"
                 f"SELECT i, outcome FROM {schema}.documents_put($1, '{collection}', $2, $3, $4)",
        "versions": f"-- $1 ids → id, school_id, version, deleted_at\n"
                    f"SELECT id, school_id, v AS version, deleted_at FROM {table} WHERE collection = '{collection}' AND id = ANY($1)",
    }


def statements(entity: dict) -> dict[str, str]:
    if "collection" in entity:
        return document_statements(entity)
    name, table, cols = entity["name"], entity["table"], columns(entity)
    listed = ", ".join(cols)
    version = cols.index("version") + 1
    clock = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
    values = ", ".join(
        f"greatest(${i}::bigint, {clock})" if i == version else f"${i}" for i in range(1, len(cols) + 1))
    append = entity["write"] == "append"
    on_conflict = "ON CONFLICT (id) DO NOTHING"
    guarded = (f"ON CONFLICT (id) DO UPDATE SET\n\t{update_set(entity)}\n"
               "WHERE t.version < EXCLUDED.version AND t.school_id = EXCLUDED.school_id")
    taken_over = (f"ON CONFLICT (id) DO UPDATE SET\n\t"
                  f"{update_set(entity).replace('version = EXCLUDED.version', 'version = greatest(EXCLUDED.version, t.version + 1)')}\n"
                  "WHERE t.school_id = EXCLUDED.school_id")
    returning = "RETURNING t.id, t.version"
    made = {
        "get": f"-- $1 id → the row, deleted too\nSELECT {listed} FROM {table} WHERE id = $1",
        "get_many": f"-- $1 ids → the rows that there are, deleted too\nSELECT {listed} FROM {table} WHERE id = ANY($1)",
        "upsert": f"-- a row → id, version; degraded mode, version from this clock\nINSERT INTO {table} AS t ({listed})\n"
                  f"VALUES ({values})\n{on_conflict if append else taken_over}\n{returning}",
    }
    if entity["write"] == "through":
        return made | {"through": through(table, cols, clock)}
    made |= {
        "copy_table": f"-- utility\nCREATE TEMP TABLE IF NOT EXISTS wb_{name} ON COMMIT DELETE ROWS AS SELECT {listed} FROM {table} WITH NO DATA",
        "copy": f"-- utility\nCOPY wb_{name} ({listed}) FROM STDIN (FORMAT binary)",
        "flush": f"-- utility: needs its temporary table → id, version of the rows that were written\nINSERT INTO {table} AS t ({listed})\n"
                 f"SELECT {listed} FROM wb_{name} ORDER BY id\n{on_conflict if append else guarded}\n{returning}",
        "versions": f"-- $1 ids → id, school_id, version, deleted_at\n"
                    f"SELECT id, school_id, version, deleted_at FROM {table} WHERE id = ANY($1)",
    }
    return made


def through(table: str, cols: list[str], clock: str) -> str:
    """Rows of one school with their audit records, events and kept answers, each row as far as the table is as its writer expects. JSON: a
    recordset knows the table's own types. Locks are taken in the order of ids, so that two groups do not wait for each other."""
    listed, schema = ", ".join(cols), table.split(".")[0]
    audit = ", ".join(f"a.{c}" for c in AUDIT)
    changed = ",\n\t\t".join(f"{c} = g.{c}" for c in cols if c not in ("id", "school_id", "created_at", "version"))
    values = ", ".join(clock if c == "version" else f"g.{c}" for c in cols)
    return f"""-- $1 rows, $2 for each id the expected version (0: none), key, fingerprint, status, answer, $3 audit records, $4 events (JSON) → done rows
WITH given AS MATERIALIZED (
	SELECT {listed} FROM json_populate_recordset(NULL::{table}, $1::json)
), wanted AS MATERIALIZED (
	SELECT * FROM json_to_recordset($2::json) AS w (id uuid, expect bigint, key text, fingerprint text, status integer, answer text)
), held AS MATERIALIZED (
	SELECT t.id, w.expect FROM {table} AS t JOIN wanted AS w ON w.id = t.id AND w.expect = t.version AND w.expect > 0
	ORDER BY t.id FOR NO KEY UPDATE OF t
), changed AS (
	UPDATE {table} AS t SET
		{changed},
		version = greatest({clock}, t.version + 1)
	FROM held AS h JOIN given AS g ON g.id = h.id
	WHERE t.id = h.id AND t.version = h.expect
	RETURNING t.id, t.version
), made AS (
	INSERT INTO {table} AS t ({listed})
	SELECT {values} FROM given AS g JOIN wanted AS w ON w.id = g.id AND w.expect = 0 ORDER BY g.id
	ON CONFLICT (id) DO NOTHING
	RETURNING t.id, t.version
), done AS MATERIALIZED (
	SELECT id, version FROM changed UNION ALL SELECT id, version FROM made
), kept AS (
	INSERT INTO {schema}.idempotency AS t (school_id, key, fingerprint, status, answer)
	SELECT g.school_id, w.key, w.fingerprint, w.status, w.answer
	FROM done AS d JOIN given AS g ON g.id = d.id JOIN wanted AS w ON w.id = d.id AND w.key IS NOT NULL ORDER BY w.key
	ON CONFLICT (school_id, key) DO UPDATE SET fingerprint = EXCLUDED.fingerprint, status = EXCLUDED.status, answer = EXCLUDED.answer,
		version = EXCLUDED.version, created_at = EXCLUDED.created_at
	WHERE t.created_at <= now() - interval '1 day'
	RETURNING t.key
), audited AS (
	INSERT INTO {schema}.audit_logs ({", ".join(AUDIT)})
	SELECT {audit} FROM json_populate_recordset(NULL::{schema}.audit_logs, $3::json) AS a JOIN done AS d ON d.id = a.entity_id
), told AS (
	INSERT INTO {schema}.outbox (id, school_id, domain, channel, envelope, buffer)
	SELECT e.id, g.school_id, e.domain, e.channel, e.envelope, e.buffer
	FROM json_to_recordset($4::json) AS e (row_id uuid, id uuid, domain text, channel text, envelope jsonb, buffer text)
	JOIN done AS d ON d.id = e.row_id JOIN given AS g ON g.id = d.id
)
SELECT d.id, d.version, pg_current_xact_id()::text::bigint AS transaction,
	w.key IS NULL OR EXISTS (SELECT FROM kept AS k WHERE k.key = w.key) AS keyed
FROM done AS d JOIN wanted AS w ON w.id = d.id"""


def live(entity: dict) -> str:
    """The list source: the table without what the overlay replaces, and the overlay's living rows; of two versions the higher."""
    table = entity["table"]
    function = f"{table.split('.')[0]}.{entity['name']}_live_v{entity['layout']}"
    overlay = f"jsonb_populate_recordset(NULL::{table}, p_overlay) AS o"
    return f"""CREATE FUNCTION {function}(p_school uuid, p_overlay jsonb) RETURNS SETOF {table}
LANGUAGE sql STABLE AS $$
	SELECT t.* FROM {table} AS t
	WHERE t.school_id = p_school AND t.deleted_at IS NULL
		AND NOT EXISTS (SELECT FROM {overlay} WHERE o.id = t.id AND o.version >= t.version)
	UNION ALL
	SELECT o.* FROM {overlay}
	WHERE o.school_id = p_school AND o.deleted_at IS NULL
		AND NOT EXISTS (SELECT FROM {table} AS t WHERE t.id = o.id AND t.version > o.version)
$$;
"""


def literal(text: str) -> str:
    return "\n".join('\t"' + line.replace("\\", "\\\\").replace('"', '\\"') + '\\n"' for line in text.splitlines())


def main() -> None:
    data = json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))
    sql_dir, out = pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    sql_dir.mkdir(parents=True, exist_ok=True)
    service = data["service"]
    symbols, rows, sources = [], [], []
    for entity in data["entities"]:
        row = [f'.entity = "{entity["name"]}"']
        for kind, text in statements(entity).items():
            name = f"{entity['name']}_{kind}"
            (sql_dir / f"{name}.sql").write_text(text + "\n", encoding="utf-8")
            symbols.append(f'static const struct pg_stmt {name} = {{.name = "{name}", .sql =\n{literal(text)}}};')
            row.append(f".{kind} = &{name}")
        rows.append("\t{" + ", ".join(row) + "},")
        if entity["write"] == "buffer" and "collection" not in entity:
            sources.append(live(entity))
    (sql_dir / "live.sql").write_text("\n".join(sources), encoding="utf-8")
    out.with_suffix(".h").write_text(
        f"#ifndef {out.name.upper()}_H\n#define {out.name.upper()}_H\n#include \"svc/entity.h\"\n"
        f"extern const struct entity_sql {service}_entity_sql[];\n#endif\n", encoding="utf-8")
    out.with_suffix(".c").write_text(
        f'#include "{out.name}.h"\n#pragma GCC diagnostic ignored "-Woverlength-strings"\n' + "\n".join(symbols)
        + f"\nconst struct entity_sql {service}_entity_sql[] = {{\n" + "\n".join(rows) + "\n\t{0}};\n", encoding="utf-8")


main()
