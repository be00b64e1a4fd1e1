# SPDX-License-Identifier: Apache-2.0
"""Applies db/migrations/NNNN_name.sql in order, each in its own transaction, and sets the roles' passwords.

    python3 -m s24.migrate --url postgres://... --dir db/migrations

public.schema_migrations remembers each file with its checksum: an edited migration is refused, a new one is applied even if a later
number is already there. An advisory lock keeps two runners apart.
"""
from __future__ import annotations

import argparse
import hashlib
import pathlib
import re
import sys
from collections.abc import Mapping, Sequence

import psycopg2
from psycopg2 import sql

LOCK = 0x5343484F4F4C3234  # "SCHOOL24"
FILE_NAME = re.compile(r"^(\d{4})_[a-z0-9_]+\.sql$")


class MigrationError(Exception):
    """What the operator must know and mend."""


def files(folder: pathlib.Path) -> list[tuple[int, pathlib.Path]]:
    found: dict[int, pathlib.Path] = {}
    for path in sorted(folder.glob("*.sql")):
        match = FILE_NAME.match(path.name)
        if not match:
            raise MigrationError(f"{path}: a migration is called NNNN_name.sql")
        number = int(match.group(1))
        if number in found:
            raise MigrationError(f"{path.name} and {found[number].name} have the same number")
        found[number] = path
    return sorted(found.items())


def migrate(url: str, folder: pathlib.Path, passwords: Mapping[str, str] | None = None, more: Sequence[pathlib.Path] = ()) -> list[str]:
    """Brings the database up to date; returns the names of what was applied. `passwords`: role name to password; `more`: files of the tests,
    applied behind the folder's, under numbers that no migration has."""
    wanted = files(folder) + [(10000 + at, path) for at, path in enumerate(more)]
    applied: list[str] = []
    connection = psycopg2.connect(url, application_name="schools24-migrate", connect_timeout=10)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
            cursor.execute("SET lock_timeout = '30s'")
            cursor.execute("""CREATE TABLE IF NOT EXISTS public.schema_migrations (
                version integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL,
                applied_at timestamptz NOT NULL DEFAULT clock_timestamp())""")
            cursor.execute("SELECT version, name, checksum FROM public.schema_migrations")
            known = {version: (name, checksum) for version, name, checksum in cursor.fetchall()}
        for number, path in wanted:
            text = path.read_text(encoding="utf-8")
            checksum = hashlib.sha256(text.encode()).hexdigest()
            if number in known:
                if known[number][1] != checksum:
                    raise MigrationError(f"{path.name} was edited after it had been applied; write a new migration instead")
                continue
            apply(connection, number, path, text, checksum)
            applied.append(path.name)
        if passwords:
            set_passwords(connection, passwords)
    finally:
        connection.close()  # gives the advisory lock back
    return applied


def apply(connection: psycopg2.extensions.connection, number: int, path: pathlib.Path, text: str, checksum: str) -> None:
    connection.autocommit = False
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(text)
            cursor.execute("INSERT INTO public.schema_migrations (version, name, checksum) VALUES (%s, %s, %s)",
                           (number, path.name, checksum))
    except psycopg2.Error as error:
        at = error.diag.statement_position
        line = f", line {text.count(chr(10), 0, int(at)) + 1}" if at else ""
        raise MigrationError(f"{path.name}{line}: {str(error).strip()}") from error
    finally:
        connection.autocommit = True


def set_passwords(connection: psycopg2.extensions.connection, passwords: Mapping[str, str]) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT rolname FROM pg_roles")
        roles = {name for (name,) in cursor.fetchall()}
        for role, password in passwords.items():
            if role in roles:
                cursor.execute(sql.SQL("ALTER ROLE {} PASSWORD %s").format(sql.Identifier(role)), (password,))


def main() -> int:
    parser = argparse.ArgumentParser(prog="migrate", description="Applies the migrations.")
    parser.add_argument("--url", required=True, help="of the migration role")
    parser.add_argument("--dir", type=pathlib.Path, required=True)
    parser.add_argument("--password-dir", type=pathlib.Path, help="a folder with one file for each role, named after it")
    arguments = parser.parse_args()
    passwords = {}
    if arguments.password_dir:
        passwords = {file.name: file.read_text(encoding="utf-8").strip()
                     for file in arguments.password_dir.iterdir() if file.name.startswith("schools24_")}
    try:
        for name in migrate(arguments.url, arguments.dir, passwords):
            print(f"applied {name}")
    except (MigrationError, psycopg2.Error) as error:
        print(f"migrate: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
