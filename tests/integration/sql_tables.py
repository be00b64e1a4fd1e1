# SPDX-License-Identifier: Apache-2.0
"""Which tables a statement reads and writes, by PostgreSQL's own word; check_sql.py holds the heads of the files against it.

Reads: the statement becomes the body of a function that PostgreSQL parses at once (BEGIN ATOMIC), and its dependencies are the tables and columns,
through joins, CTEs, sub-queries and quotes; functions that it calls are followed in the same way, list sources (E_live) for one. To these come the
tables in the plan that the service's own role gets, for row security may read more. What cannot be seen into is refused: what calls it is not kept. Nor is
what asks the clock.
Writes: the targets in the plan, and what foreign keys drag along. What a function writes is not seen: who calls one that may says so himself.
"""
from __future__ import annotations

import json
import re

DECLARED = re.compile(r"--\s*(tables|writes):\s*(.*)")
SEEN_INTO = """SELECT p.oid::regprocedure::text, l.lanname, p.provolatile, p.prosrc, p.prosqlbody IS NOT NULL, pg_get_function_arguments(p.oid), p.prokind,
        (SELECT substr(c, 13) FROM unnest(p.proconfig) AS c WHERE c LIKE 'search_path=%%')
    FROM pg_proc AS p JOIN pg_language AS l ON l.oid = p.prolang WHERE p.oid = %s"""
NEEDED = """SELECT d.refclassid::regclass::text, d.refobjid, d.refobjsubid FROM pg_depend AS d
    WHERE d.classid = 'pg_proc'::regclass AND d.objid = %s AND d.deptype = 'n'"""


# In a plan's expressions: rows that are others in a moment, with no change that anybody could tell of.
MOMENTARY = re.compile(r"\b(?:now|clock_timestamp|statement_timestamp|transaction_timestamp|timeofday|random|gen_random_uuid|nextval)\(|\b(?:CURRENT_(?:DATE|TIME)|LOCALTIME)")


class Unknown(Exception):
    """Something that this cannot see into."""


def declared(text: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for line in text.splitlines():
        if line.strip() and not line.startswith("--"):
            break
        if match := DECLARED.match(line):
            found[match[1]] = {name.strip() for name in match[2].split(",")}
    return found


class Reader:
    """One statement's reading: `columns` of each table, by name, those that only its rows' being there depends on under ''."""

    def __init__(self, cursor) -> None:
        self.cursor = cursor
        self.columns: dict[str, set[str]] = {}
        self.followed: set[int] = set()
        self.volatile: set[str] = set()  # functions that may write

    def rows(self, sql: str, *args):
        self.cursor.execute(sql, args or None)
        return self.cursor.fetchall()

    def body(self, types: str, body: str) -> None:
        """A body that is not there yet: made, looked at, and dropped."""
        self.cursor.execute(f"CREATE FUNCTION pg_temp.read_by({types}) RETURNS void LANGUAGE sql BEGIN ATOMIC {body.strip().rstrip(';')}; END")
        (oid,), = self.rows("SELECT oid FROM pg_proc WHERE pronamespace = pg_my_temp_schema() AND proname = 'read_by'")
        needs = self.rows(NEEDED, oid)
        self.cursor.execute("DROP FUNCTION pg_temp.read_by")
        self.follow(needs)

    def follow(self, needs) -> None:
        for kind, oid, column in needs:
            if kind == "pg_class":
                self.table(oid, column)
            elif kind == "pg_proc":
                self.function(oid)
            elif kind == "pg_operator":
                self.function(self.rows("SELECT oprcode::oid FROM pg_operator WHERE oid = %s", oid)[0][0])

    def table(self, oid: int, column: int) -> None:
        (schema, name, kind), = self.rows("SELECT relnamespace::regnamespace::text, relname, relkind FROM pg_class WHERE oid = %s", oid)
        if kind not in ("r", "p"):
            raise Unknown(f"{schema}.{name} is no table")
        columns = self.columns.setdefault(f"{schema}.{name}", set())
        if column > 0:
            columns |= {row[0] for row in self.rows("SELECT attname FROM pg_attribute WHERE attrelid = %s AND attnum = %s", oid, column)}

    def function(self, oid: int) -> None:
        if oid in self.followed:
            return
        self.followed.add(oid)
        (name, language, volatile, source, parsed, arguments, kind, path), = self.rows(SEEN_INTO, oid)
        if volatile == "v":
            self.volatile.add(name)
        if parsed:
            self.follow(self.rows(NEEDED, oid))
        elif language == "sql" and kind == "f":
            before = self.rows("SELECT current_setting('search_path')")[0][0]
            self.cursor.execute("SELECT set_config('search_path', %s, true)", (path or before,))
            self.body(arguments, source)
            self.cursor.execute("SELECT set_config('search_path', %s, true)", (before,))
        elif language in ("internal", "c") and volatile == "i":
            return
        else:
            raise Unknown(f"what {name} reads cannot be seen ({language})")


def plan_of(cursor, count: int) -> list[dict]:
    """Every node of the prepared statement's plan, for any parameters."""
    cursor.execute("SET LOCAL plan_cache_mode = force_generic_plan")
    cursor.execute("EXPLAIN (VERBOSE, FORMAT JSON) EXECUTE checked" + (f"({', '.join(['NULL'] * count)})" if count else ""))
    found = cursor.fetchone()[0]
    nodes, todo = [], [found if isinstance(found, list) else json.loads(found)]
    while todo:
        node = todo.pop()
        if isinstance(node, list):
            todo += node
        elif isinstance(node, dict):
            nodes.append(node)
            todo += [value for value in node.values() if isinstance(value, (list, dict))]
    return nodes


def dragged(cursor, tables: set[str]) -> set[str]:
    """What a deletion of their rows changes through foreign keys."""
    found, todo = set(), set(tables)
    while todo:
        cursor.execute("SELECT conrelid::regclass::oid FROM pg_constraint WHERE contype = 'f' AND confdeltype IN ('c', 'n', 'd') AND confrelid = %s::regclass", (todo.pop(),))
        for (oid,) in cursor.fetchall():
            cursor.execute("SELECT relnamespace::regnamespace::text || '.' || relname FROM pg_class WHERE oid = %s", (oid,))
            name = cursor.fetchone()[0]
            if name not in found | tables:
                found.add(name)
                todo.add(name)
    return found


class Statement:
    """The statement prepared as `checked` in a savepoint of the caller's."""

    def __init__(self, cursor, body: str, role: str | None) -> None:
        self.cursor = cursor
        cursor.execute("PREPARE checked AS " + body.rstrip(";"))
        cursor.execute("SELECT parameter_types::text[] FROM pg_prepared_statements WHERE name = 'checked'")
        types = cursor.fetchone()[0]
        self.count = len(types)
        nodes = plan_of(cursor, self.count)
        self.targets = {f"{node['Schema']}.{node['Relation Name']}" for node in nodes if node.get("Operation") in ("Insert", "Update", "Delete", "Merge") and "Schema" in node}
        deleted = {f"{node['Schema']}.{node['Relation Name']}" for node in nodes if node.get("Operation") in ("Delete", "Merge") and "Schema" in node}
        self.targets |= dragged(cursor, deleted)
        cursor.execute("DEALLOCATE checked")
        self.types, self.body, self.role = ", ".join(types), body, role

    def reads(self) -> dict[str, set[str]]:
        """Columns by table. Raises Unknown."""
        reader = Reader(self.cursor)
        reader.body(self.types, self.body)
        if self.role:
            self.cursor.execute(f'SET LOCAL ROLE "{self.role}"')
        self.cursor.execute("PREPARE checked AS " + self.body.rstrip(";"))
        for node in plan_of(self.cursor, self.count):
            if any(MOMENTARY.search(str(value)) for value in node.values() if isinstance(value, str) or (isinstance(value, list) and value and isinstance(value[0], str))):
                raise Unknown("it asks the clock, or chance; let the time be a parameter")
            if "Relation Name" in node:
                reader.columns.setdefault(f"{node['Schema']}.{node['Relation Name']}", set())
        self.cursor.execute("DEALLOCATE checked")
        self.cursor.execute("RESET ROLE")
        return reader.columns

    def volatile(self) -> set[str]:
        """Functions of ours that it calls and that may write, as far as they can be followed."""
        reader = Reader(self.cursor)
        try:
            reader.body(self.types, self.body)
        except Unknown:
            pass  # the one that cannot be seen into has been noted
        return reader.volatile

    def leaves_alone(self, table: str, columns: set[str]) -> bool:
        """Would it be let to do what it does with a right to UPDATE the other columns of the table alone?"""
        self.cursor.execute("SELECT quote_ident(attname) FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped AND attname <> ALL (%s)",
                            (table, sorted(columns)))
        others = ", ".join(row[0] for row in self.cursor.fetchall())
        self.cursor.execute("SAVEPOINT probe")
        try:
            self.cursor.execute("CREATE ROLE s24_probe NOLOGIN BYPASSRLS")
            self.cursor.execute("SELECT quote_ident(nspname) FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'")
            for (schema,) in self.cursor.fetchall():
                self.cursor.execute(f"GRANT USAGE ON SCHEMA {schema} TO s24_probe; GRANT SELECT, INSERT, DELETE ON ALL TABLES IN SCHEMA {schema} TO s24_probe")
                self.cursor.execute(f"GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {schema} TO s24_probe")
            self.cursor.execute(f"REVOKE INSERT, DELETE ON {table} FROM s24_probe")
            if others:
                self.cursor.execute(f"GRANT UPDATE ({others}) ON {table} TO s24_probe")
            for target in self.targets - {table}:
                self.cursor.execute(f"GRANT UPDATE ON {target} TO s24_probe")
            self.cursor.execute("SET LOCAL ROLE s24_probe")
            self.cursor.execute("PREPARE checked AS " + self.body.rstrip(";"))
            plan_of(self.cursor, self.count)
        except Exception as error:  # noqa: BLE001 - psycopg2 is the caller's
            if getattr(error, "pgcode", None) != "42501":
                raise
            return False
        finally:
            self.cursor.execute("ROLLBACK TO SAVEPOINT probe; DEALLOCATE ALL")
        return True


def wrong_reads(statement: Statement, names: set[str]) -> str | None:
    try:
        found = set(statement.reads())
    except Unknown as error:
        return f"it cannot be kept: {error}"
    if statement.targets:
        return "a statement that writes is not kept"
    if found != names:
        return f"-- tables: says {', '.join(sorted(names))}, and it reads {', '.join(sorted(found)) or 'none'}"
    return None


def wrong_writes(statement: Statement, names: set[str], kept: dict[str, set[str]]) -> str | None:
    functions = statement.volatile()
    if functions and not names:
        return f"what {', '.join(sorted(functions))} writes cannot be seen, so its head says -- writes:"
    if not functions and not names <= statement.targets:
        return f"-- writes: says {', '.join(sorted(names - statement.targets))}, and it does not"
    for table in sorted(statement.targets - names):
        if table in kept and not statement.leaves_alone(table, kept[table]):
            return f"it writes {table}, of which rows are kept, so its head says -- writes: {table}"
    return None
