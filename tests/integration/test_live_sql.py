# SPDX-License-Identifier: Apache-2.0
"""What is written twice must say the same: list sources in the migrations and from the descriptors; statements and the tables they name."""
from __future__ import annotations

import pathlib
import re
import subprocess

import pytest
from s24.base import ROOT
from s24.services import TEST_FOLDERS
from s24.stack import MIGRATIONS

from harness import BUILD, TestStack

FUNCTION = re.compile(r"CREATE (?:OR REPLACE )?FUNCTION (\w+\.\w+_live_v\d+)\(.*?\n\$\$;", re.DOTALL)


def functions(text: str) -> dict[str, str]:
    """Name to text, with the layout of white space taken out."""
    return {match[1]: re.sub(r"\s+", " ", match[0].replace("OR REPLACE ", "")) for match in FUNCTION.finditer(text)}


def generated() -> dict[str, str]:
    found: dict[str, str] = {}
    for path in sorted((BUILD / "sql").glob("*/live.sql")):
        found |= functions(path.read_text(encoding="utf-8"))
    return found


def test_list_sources_in_the_migrations_follow_from_the_descriptors() -> None:
    wanted = generated()
    if not wanted:
        pytest.skip(f"nothing is built in {BUILD}")
    written: dict[str, str] = {}
    for path in [*sorted(MIGRATIONS.glob("*.sql")), *(folder / "migration.sql" for folder in TEST_FOLDERS.values())]:
        written |= functions(path.read_text(encoding="utf-8"))  # a later migration replaces an earlier one's
    for name, text in wanted.items():
        assert name in written, f"no migration has {name}: copy it from {BUILD}/sql"
        assert written[name] == text, f"{name} is another one in the migrations"


def test_list_sources_read_every_column_of_their_table(stores: TestStack) -> None:
    """jsonb_populate_recordset matches by name: a column that a descriptor lacks would be null in a list and full in the table."""
    for name in generated():
        schema, function = name.split(".")
        with stores.postgres.cursor() as cursor:
            cursor.execute("""SELECT pg_get_function_result(p.oid) FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
                WHERE n.nspname = %s AND p.proname = %s""", (schema, function))
            found = cursor.fetchone()
            assert found is not None and found[0].startswith("SETOF "), name
            cursor.execute(f"SELECT attname FROM pg_attribute WHERE attrelid = '{found[0][6:]}'::regclass AND attnum > 0 AND NOT attisdropped")
            columns = {row[0] for row in cursor.fetchall()}
        entity = function.rsplit("_live_v", 1)[0]
        statement = next(path for path in (BUILD / "sql" / schema).glob(f"{entity}_get.sql")).read_text(encoding="utf-8")
        listed = re.search(r"SELECT (.*?) FROM", statement, re.DOTALL)
        assert listed is not None
        assert {column.strip() for column in listed[1].split(",")} == columns, name


def test_every_statement_prepares(stores: TestStack) -> None:
    made = [str(path) for path in sorted((BUILD / "sql").glob("*/*.sql")) if path.name != "live.sql"]
    if not made:
        pytest.skip(f"nothing is built in {BUILD}")
    made += [str(path) for name in stores.added for path in TEST_FOLDERS[name].glob("sql/*.sql")]
    url = stores.postgres.url(stores.postgres.SUPERUSER, stores.password("pg_superuser"))
    result = subprocess.run(["/usr/bin/python3", str(pathlib.Path(ROOT, "tests/integration/check_sql.py")), url, *made], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    count = re.search(r"(\d+) statements, 0 wrong", result.stdout)
    assert count is not None and int(count[1]) > len(made)


def test_a_wrong_statement_is_found(stores: TestStack, folder: pathlib.Path) -> None:
    url = stores.postgres.url(stores.postgres.SUPERUSER, stores.password("pg_superuser"))
    for text in ("-- $1 id\nSELECT no_such_column FROM homework.homework WHERE id = $1", "-- $1 id\nSELECT id FROM homework.homework WHERE id = $1 + 1",
                 "SELECT 1", "-- two\nSELECT 1; SELECT 2"):
        wrong = folder / "wrong.sql"
        wrong.write_text(text + "\n", encoding="utf-8")
        result = subprocess.run(["/usr/bin/python3", str(pathlib.Path(ROOT, "tests/integration/check_sql.py")), url, str(wrong)], capture_output=True, text=True,
                                check=False)
        assert result.returncode == 1 and "wrong.sql" in result.stdout, text
