#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Checks every statement file against a migrated database: check_sql.py URL [FILE...]

A file holds one statement; its first line is a comment with parameters and result. Each is prepared, so a wrong table, column or type
fails here and not in a request. Statements that cannot be prepared start with "-- utility": CREATE and the like are run in a
transaction that is rolled back, COPY ... FROM STDIN is begun and cancelled, transaction control is only looked at. Files of one folder share
that transaction, so a COPY may name a temporary table that another utility file of the folder creates. More statement files (those generated at
build time) can be named after the URL. What a head declares ("-- tables:", "-- writes:") must be what PostgreSQL says that the statement reads
and writes (sql_tables.py), and a statement that writes what others are kept of must declare it. Tables without a schema are those of the
service's own; the kit's statements (common/svc) are checked in every service's schema, the document store's in one that has it. Exit status 1 when any fails.
"""
import io
import pathlib
import re
import sys

import psycopg2
import sql_tables

ROOT = pathlib.Path(__file__).resolve().parents[2]
PATTERNS = ("services/*/sql/*.sql", "common/*/sql/*.sql", "worker/sql/*.sql")
# The document store is made here for the check, in the transaction that is rolled back: whether a service has one is its own migration's matter.
DOCUMENTS_SCHEMA = "dashboard"
CONTROL = re.compile(r"^(BEGIN|COMMIT|ROLLBACK|SAVEPOINT|RELEASE)\b", re.IGNORECASE)
COPY = re.compile(r"^COPY\b", re.IGNORECASE)


class Refusal(io.RawIOBase):
    """Data of a COPY that never comes: reaching it means that the server has accepted the statement."""

    asked = False

    def read(self, *_):
        self.asked = True
        raise InterruptedError


def body_of(text):
    lines = text.splitlines()
    while lines and (not lines[0].strip() or lines[0].lstrip().startswith("--")):
        lines.pop(0)
    return "\n".join(lines).strip()


def is_utility(text):
    return text.startswith("-- utility")


def message(error):
    lines = [line for line in str(error).splitlines() if line.strip()]
    return " | ".join(line.strip() for line in lines[:3]) or type(error).__name__


def prepare(cursor, body):
    # Only one statement can be prepared; a second one behind a semicolon would be run, so it is refused first.
    if ";" in re.sub(r"('(?:[^']|'')*'|\"[^\"]*\"|--[^\n]*|\$(\w*)\$.*?\$\2\$)", "", body, flags=re.DOTALL).rstrip().rstrip(";"):
        raise ValueError("more than one statement")
    cursor.execute("PREPARE checked AS " + body.rstrip(";"))
    cursor.execute("DEALLOCATE checked")


def run_utility(cursor, body):
    if CONTROL.match(body):
        return
    if not COPY.match(body):
        cursor.execute(body)
        return
    source = Refusal()
    try:
        cursor.copy_expert(body, source)
    except psycopg2.Error:
        if not source.asked:
            raise


def check(connection, path):
    """None, or what is wrong."""
    text = path.read_text(encoding="utf-8")
    if not text.startswith("-- "):
        return "the first line is no comment with parameters and result"
    body = body_of(text)
    if not body:
        return "no statement"
    with connection.cursor() as cursor:
        cursor.execute("SAVEPOINT file")
        try:
            if is_utility(text):
                run_utility(cursor, body)
            else:
                prepare(cursor, body)
        except (psycopg2.Error, ValueError) as error:
            cursor.execute("ROLLBACK TO SAVEPOINT file")
            return message(error)
        if COPY.match(body):  # the cancelled COPY has failed the savepoint
            cursor.execute("ROLLBACK TO SAVEPOINT file")
    return None


def look_at(connection, text, role, do):
    """do(statement), with everything undone that it took."""
    with connection.cursor() as cursor:
        cursor.execute("SAVEPOINT declared")
        try:
            return do(sql_tables.Statement(cursor, body_of(text), role))
        except psycopg2.Error as error:
            return message(error)
        finally:
            cursor.execute("ROLLBACK TO SAVEPOINT declared; DEALLOCATE ALL")


def role_of(connection, schema):
    with connection.cursor() as cursor:
        cursor.execute("SELECT rolname FROM pg_roles WHERE rolname = %s", (f"schools24_{schema}",))
        return next((row[0] for row in cursor.fetchall()), None)


def check_reads(connection, path, schema, kept):
    """A declared statement's tables; their columns are added to what is kept."""
    text = path.read_text(encoding="utf-8")
    names = sql_tables.declared(text).get("tables")
    role = role_of(connection, schema)
    if names is None or is_utility(text):
        return None
    problem = look_at(connection, text, role, lambda statement: sql_tables.wrong_reads(statement, names))
    if problem is None:
        for table, columns in look_at(connection, text, role, lambda statement: statement.reads()).items():
            kept.setdefault(table, set()).update(columns)
    return problem


def check_writes(connection, path, schema, kept, made):
    """`made`: from descriptors, or of the kit and the worker, which raise by themselves."""
    text = path.read_text(encoding="utf-8")
    names = sql_tables.declared(text).get("writes", set())
    if is_utility(text) or (not names and (made or not kept)):
        return None
    return look_at(connection, text, role_of(connection, schema), lambda statement: sql_tables.wrong_writes(statement, names, kept))


def raises_by_itself(path):
    parts = path.relative_to(ROOT).parts if path.is_relative_to(ROOT) else ()
    return parts[:1] in (("common",), ("worker",)) or (path.parent / "live.sql").exists()


def order(path):
    """Temporary tables before the COPY statements and the statements that read them."""
    text = path.read_text(encoding="utf-8")
    creates = is_utility(text) and not COPY.match(body_of(text)) and not CONTROL.match(body_of(text))
    return (path.parent, not creates, path.name)


def schemas_for(path, kit_schemas):
    """Whose tables an unqualified name means."""
    parts = path.relative_to(ROOT).parts if path.is_relative_to(ROOT) else ()
    if parts[:2] == ("common", "svc"):
        return kit_schemas or ["public"]
    if parts[:1] == ("services",):
        return [parts[1]]
    if parts[:1] == ("worker",):
        return ["worker"]
    if path.name.startswith("documents_"):
        return [DOCUMENTS_SCHEMA]
    return ["public"]


def kit_schemas_in(connection):
    with connection.cursor() as cursor:
        cursor.execute("SELECT schemaname FROM pg_tables WHERE tablename = 'audit_logs' ORDER BY 1")
        return [row[0] for row in cursor.fetchall()]


def walk(connection, paths, kit_schemas, check_one):
    """check_one(path, schema) in each schema of each file, until it complains."""
    folder = None
    for path in paths:
        if path.parent != folder:
            connection.rollback()
            folder = path.parent
            if folder == ROOT / "common/io/sql":
                with connection.cursor() as cursor:
                    cursor.execute("SELECT common.create_documents(%s)", (DOCUMENTS_SCHEMA,))
        for schema in schemas_for(path, kit_schemas):
            with connection.cursor() as cursor:
                cursor.execute("SELECT set_config('search_path', %s, true)", (f'"{schema}"',))
            problem = check_one(path, schema)
            if problem:
                shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
                print(f"{shown} ({schema}): {problem}")
                break
    connection.rollback()


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    named = [pathlib.Path(name) for name in sys.argv[2:]]
    paths = sorted([p for pattern in PATTERNS for p in ROOT.glob(pattern)] + named, key=order)
    connection = psycopg2.connect(sys.argv[1])
    kit_schemas = kit_schemas_in(connection)
    kept = {}
    wrong = set()

    def once(path, do):
        """One complaint of a file, the first."""
        problem = None if path in wrong else do()
        if problem:
            wrong.add(path)
        return problem

    walk(connection, paths, kit_schemas, lambda path, schema: once(path, lambda: check(connection, path)))
    walk(connection, paths, kit_schemas, lambda path, schema: once(path, lambda: check_reads(connection, path, schema, kept)))
    walk(connection, paths, kit_schemas, lambda path, schema: once(path, lambda: check_writes(connection, path, schema, kept, raises_by_itself(path))))
    connection.close()
    print(f"{len(paths)} statements, {len(wrong)} wrong")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
