# SPDX-License-Identifier: Apache-2.0
"""Rows kept by statement, with the whole system: read, changed by the API and by the worker's flush, read again (cache.md G1–G4, B10, D4, D6)."""
from __future__ import annotations

import pathlib
import subprocess
import time
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest
from s24.base import ROOT
from scene import FIRST, NOBODY, SECOND, assign, class_id, flush, identity, sign_in, student_id, unsynced

from harness import Client, TestStack

LIFE_S = 1.5  # nothing that these tests keep ends sooner
CHECK = str(pathlib.Path(ROOT, "tests/integration/check_sql.py"))


class Inside:
    """A daemon's internal listener, as another daemon sees it."""

    def __init__(self, stack: TestStack, name: str, school: str = FIRST) -> None:
        """With the token of the daemon that may ask all others how their caches do."""
        auth = stack.services["auth"]
        made = subprocess.run([str(auth.binary), "--config", str(auth.config), "--service-token", "dashboard"], capture_output=True, text=True, check=True,
                              timeout=30, env={"PATH": "/usr/bin:/bin", **auth.environment})
        self.client = Client(stack.services[name].admin_url, made.stdout.strip())
        self.school = identity("school", school)

    def get(self, path: str) -> Any:
        answer = self.client.request("GET", path, headers={"X-School-Id": self.school, "X-User-Id": NOBODY}, bare=True)
        assert answer.status == 200, f"{path}: {answer}"
        return answer.json

    def counts(self, query: str) -> dict[str, Any]:
        """What the daemon says of one statement; zeroes before it has been asked."""
        listed = self.get("/internal/cache/query-stats")["data"]["top_cached_queries"]
        return next((one for one in listed if one["query"] == query), {"hit_count": 0, "miss_count": 0, "bypass_count": 0})


class Watch:
    """How often a statement was asked, and how often it was not needed, since this was made."""

    def __init__(self, inside: Inside, query: str) -> None:
        self.inside, self.query, self.before = inside, query, inside.counts(query)
        self.began = time.monotonic()

    def is_old(self) -> bool:
        """Lifetimes of these systems are short: on a machine that is too busy something has ended."""
        return time.monotonic() - self.began > LIFE_S

    def expect(self, asked: int, kept: int) -> None:
        """How often it was asked, and given out of the cache."""
        now = self.inside.counts(self.query)
        assert now["bypass_count"] == self.before["bypass_count"]
        found = now["miss_count"] - self.before["miss_count"], now["hit_count"] - self.before["hit_count"]
        assert sum(found) == asked + kept and found[0] >= asked
        if not self.is_old():
            assert found == (asked, kept)


@pytest.fixture
def homework(stack: TestStack) -> Inside:
    return Inside(stack, "homework")


@pytest.fixture
def auth(stack: TestStack) -> Inside:
    return Inside(stack, "auth")


@pytest.fixture
def teacher(stack: TestStack) -> Client:
    return sign_in(stack, "teacher")


@pytest.fixture
def given(teacher: Client) -> Iterator[str]:
    """A homework, deleted when the test is through."""
    homework_id = assign(teacher)["id"]
    yield homework_id
    teacher.delete(f"/teacher/homework/{homework_id}")


def count_of(teacher: Client, homework_id: str) -> int:
    answer = teacher.get(f"/teacher/homework/{homework_id}")
    assert answer.status == 200, str(answer)
    return int(answer.json["submissions_count"])


def text_of(teacher: Client, homework_id: str, number: int = 0) -> str | None:
    answer = teacher.get(f"/teacher/homework/{homework_id}/submissions")
    assert answer.status == 200, str(answer)
    return next((one["submission_text"] for one in answer.json["submissions"] if one["student_id"] == student_id(number)), None)


def submit(stack: TestStack, homework_id: str, text: str) -> None:
    answer = sign_in(stack, "student").post(f"/academic/homework/{homework_id}/submit", {"submission_text": text, "attachments": []})
    assert answer.status == 200, str(answer)


def me(client: Client) -> dict[str, Any]:
    found = client.get("/auth/me").json
    return found.get("user", found)


def rename(client: Client, name: str) -> None:
    answer = client.put("/auth/me", {"full_name": name})
    assert answer.status == 200, str(answer)


# ---- homework: rows over a list source -------------------------------------------------------------------------------------------------

def test_a_change_of_the_text_leaves_the_submissions_and_a_submission_does_not(stack: TestStack, teacher: Client, homework: Inside, given: str) -> None:
    assert count_of(teacher, given) == 0
    watch = Watch(homework, "submissions_count")
    for title in ("First", "Second"):  # the whole answer goes with it, the counted rows stay
        assert teacher.put(f"/teacher/homework/{given}", {"title": title}).status == 200
        answer = teacher.get(f"/teacher/homework/{given}")
        assert answer.json["title"] == title and answer.json["submissions_count"] == 0
        assert answer.headers["x-cache"] == "MISS"
        assert answer.headers.get("x-cache-level") == "QUERY" or watch.is_old()
    watch.expect(0, 2)
    submit(stack, given, "done")
    answer = teacher.get(f"/teacher/homework/{given}")
    assert answer.json["submissions_count"] == 1
    assert answer.headers["x-cache"] == "MISS" and "x-cache-level" not in answer.headers
    watch.expect(1, 2)


def test_what_is_buffered_and_what_is_flushed_are_both_seen(stack: TestStack, teacher: Client, given: str) -> None:
    if not stack.has_worker:
        pytest.skip("no worker is built")
    assert text_of(teacher, given) is None
    for text in ("buffered", "again"):
        submit(stack, given, text)
        assert unsynced(stack, "homework_submission:*")
        assert text_of(teacher, given) == text
        teacher.put(f"/teacher/homework/{given}", {"title": text})  # only the kept rows are left
        assert text_of(teacher, given) == text and count_of(teacher, given) == 1
        flush(stack)
        assert text_of(teacher, given) == text and count_of(teacher, given) == 1
        teacher.put(f"/teacher/homework/{given}", {"title": f"{text} and flushed"})
        assert text_of(teacher, given) == text and count_of(teacher, given) == 1


# ---- auth: rows of tables --------------------------------------------------------------------------------------------------------------

def find(auth: Inside, text: str, kind: str = "user") -> list[str]:
    found: list[str] = auth.get(f"/internal/search/{kind}?q={urllib.parse.quote(text)}")["ids"]
    return found


def test_a_search_is_kept_until_a_name_changes(stack: TestStack, auth: Inside) -> None:
    student = sign_in(stack, "student", 3)
    before = me(student)
    watch = Watch(auth, "dir_search")
    try:
        assert find(auth, "Zzyx") == [] == find(auth, "Zzyx")
        watch.expect(1, 1)
        rename(student, "Zzyx Quill")
        assert find(auth, "Zzyx") == [before["id"]] == find(auth, "Zzyx")
        watch.expect(2, 2)
        assert find(Inside(stack, "auth", SECOND), "Zzyx") == [], "another school's people are not found, kept or not"
        assert find(auth, "zzyx") == [before["id"]]
        watch.expect(4, 2)  # another text and another school are other questions
    finally:
        rename(student, before["full_name"])
    assert find(auth, "Zzyx") == []


def test_a_login_leaves_what_is_kept_of_people(stack: TestStack, auth: Inside) -> None:
    """It writes the user's row too, but a column that no kept statement reads (check_sql.py proves that)."""
    find(auth, "Loginless")
    watch = Watch(auth, "dir_search")
    sign_in(stack, "student", 4)
    assert find(auth, "Loginless") == []
    watch.expect(0, 1)


def test_a_roster_is_read_once_for_all_its_teachers_and_follows_a_name(stack: TestStack, auth: Inside) -> None:
    path = f"/teacher/classes/{class_id()}/students"
    admin, teacher, student = sign_in(stack, "admin"), sign_in(stack, "teacher"), sign_in(stack, "student")
    before = me(student)
    try:
        rename(student, "Roster Before")
        teacher.get(path)
        time.sleep(0.5)  # what is made ahead behind a change is made by now
        watch = Watch(auth, "dir_roster")
        for client in (teacher, admin, teacher):
            names = {one["full_name"] for one in client.get(path).json["students"]}
            assert "Roster Before" in names
        # By role at most: the admin's.
        assert auth.counts("dir_roster")["miss_count"] - watch.before["miss_count"] <= 1 or watch.is_old()
        rename(student, "Roster After")
        for client in (admin, teacher):
            names = {one["full_name"] for one in client.get(path).json["students"]}
            assert "Roster After" in names and "Roster Before" not in names
    finally:
        rename(student, before["full_name"])


# ---- declarations are held against PostgreSQL ------------------------------------------------------------------------------------------

RIGHT = {
    "a CTE, a sub-query, quotes and comments": """-- tables: auth.students, auth.users
WITH "u" AS (SELECT id FROM "auth"."users" /* auth.classes */ WHERE full_name <> $$auth.classes$$)
SELECT count(*) FROM auth.students s WHERE s.user_id IN (SELECT id FROM u)""",
    "a list source": "-- tables: homework.homework\nSELECT count(*) FROM homework.homework_live_v1($1, $2)",
    "a function with its own rights": "-- tables: auth.users\nSELECT * FROM auth.school_of_email($1)",
    "a function that writes, as it says": "-- writes: dashboard.documents\nSELECT common.create_documents($1::text)",
    "a declared write": "-- writes: auth.users\nUPDATE auth.users SET full_name = $1 WHERE id = $2",
    "a column that nobody keeps": "UPDATE auth.users SET last_login_at = now() WHERE id = $1",
}
WRONG = {
    "a comma join": ("-- tables: auth.students\nSELECT 1 FROM auth.students AS s, auth.users AS u WHERE u.id = s.user_id", "it reads auth.students, auth.users"),
    "one too many": ("-- tables: auth.students, auth.users\nSELECT 1 FROM auth.students", "it reads auth.students"),
    "a join that the planner drops": ("-- tables: auth.users\nSELECT u.id FROM auth.users AS u LEFT JOIN auth.schools AS o ON o.id = u.school_id", "auth.schools"),
    "another list source": ("-- tables: homework.homework_submissions\nSELECT count(*) FROM homework.homework_live_v1($1, $2)", "it reads homework.homework"),
    "what cannot be seen into": ("-- tables: auth.users\nSELECT common.create_documents($1::text) FROM auth.users", "cannot be seen"),
    "the clock": ("-- tables: auth.sessions\nSELECT id FROM auth.sessions WHERE expires_at > clock_timestamp()", "asks the clock"),
    "today": ("-- tables: auth.sessions\nSELECT id FROM auth.sessions WHERE expires_at > CURRENT_DATE", "asks the clock"),
    "a view": ("-- tables: auth.users\nSELECT count(*) FROM auth.users, pg_stat_activity", "is no table"),
    "an undeclared update": ("UPDATE auth.users SET full_name = $1 WHERE id = $2", "-- writes: auth.users"),
    "a deletion within a CTE": ("WITH x AS (DELETE FROM auth.students WHERE id = $1 RETURNING 1) SELECT count(*) FROM x", "-- writes: auth.students"),
    "an insertion": ("INSERT INTO auth.teachers (id) VALUES ($1)", "-- writes: auth.teachers"),
    "a function that may write": ("SELECT common.create_documents($1::text)", "create_documents(text) writes cannot be seen"),
    "a write that is none": ("-- writes: auth.classes\nUPDATE auth.users SET last_login_at = now() WHERE id = $1", "-- writes: says auth.classes"),
}


def test_what_a_statement_declares_is_what_it_reads_and_writes(stores: TestStack, folder: pathlib.Path) -> None:
    names = {}
    for number, (case, text) in enumerate([*RIGHT.items(), *((case, text) for case, (text, _) in WRONG.items())]):
        path = folder / f"case_{number}.sql"
        path.write_text(f"-- {case}\n{text}\n", encoding="utf-8")
        names[path.name] = case
    url = stores.postgres.url(stores.postgres.SUPERUSER, stores.password("pg_superuser"))
    result = subprocess.run(["/usr/bin/python3", CHECK, url, *(str(folder / name) for name in names)], capture_output=True, text=True, check=False)
    complaints = {names[line.split(" ", 1)[0].rsplit("/", 1)[1]]: line for line in result.stdout.splitlines() if "/case_" in line}
    assert set(complaints) == set(WRONG), result.stdout + result.stderr
    for case, (_, why) in WRONG.items():
        assert why in complaints[case]
    assert result.returncode == 1 and f"{len(WRONG)} wrong" in result.stdout, "the tree's own statements are right"


HEADS = {
    "-- tables: users": "schema.table",
    "-- tables: auth.users, AUTH.x": "schema.table",
    "-- tables:": "schema.table",
    "-- tables: auth.users\n-- tables: auth.classes": "written once",
    "-- tables: a.a, a.b, a.c, a.d, a.e, a.f, a.g": "more than 6 tables",
}


@pytest.mark.parametrize("head", HEADS)
def test_a_head_that_cannot_be_read_fails_the_build(folder: pathlib.Path, head: str) -> None:
    statement = folder / "statement.sql"
    embed = ["/usr/bin/python3", str(pathlib.Path(ROOT, "cmake/embed.py")), "sql", str(folder / "out"), str(statement)]
    statement.write_text(f"-- no parameters\n{head}\nSELECT 1\n", encoding="utf-8")
    result = subprocess.run(embed, capture_output=True, text=True, check=False)
    assert result.returncode != 0 and HEADS[head] in result.stderr, result.stderr


def test_a_head_is_embedded(folder: pathlib.Path) -> None:
    statement = folder / "statement.sql"
    statement.write_text("-- $1 school\n-- tables: b.two, a.one\n-- writes: a.one\nSELECT 1 FROM x.y_live_v1($1)\n-- tables: in.the_text\n", encoding="utf-8")
    subprocess.run(["/usr/bin/python3", str(pathlib.Path(ROOT, "cmake/embed.py")), "sql", str(folder / "out"), str(statement)], check=True)
    made = (folder / "out.c").read_text(encoding="utf-8")
    assert '.tables = (const char *const[]){"a.one", "b.two", NULL}' in made and '.writes = (const char *const[]){"a.one", NULL}' in made
    assert ".live = true" in made and '"in.the_text"' not in made
