# SPDX-License-Identifier: Apache-2.0
"""The demo schools: complete, the same every time, and written once."""
from __future__ import annotations

from collections.abc import Iterator

import pytest
from s24.seed import STUDENTS, logins, seed

from harness import TestStack


@pytest.fixture(scope="module")
def seeded() -> Iterator[TestStack]:
    stack = TestStack(names=[])
    try:
        stack.start_stores()
        stack.migrate()
        assert seed(stack.postgres) is True
        yield stack
    finally:
        stack.close()


def count(stack: TestStack, query: str) -> object:
    with stack.postgres.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchone()[0]


def test_two_schools_are_complete(seeded: TestStack) -> None:
    wanted = {"schools": 2, "classes": 32, "teachers": 50, "students": STUDENTS, "enrolments": STUDENTS, "subjects": 12, "class_subjects": 32 * 6,
              "teacher_assignments": 32 * 6}
    assert {table: count(seeded, f"SELECT count(*) FROM auth.{table}") for table in wanted} == wanted
    assert count(seeded, "SELECT count(*) FROM auth.students s JOIN auth.classes c ON c.id = s.class_id WHERE s.school_id <> c.school_id") == 0


def test_a_second_seed_changes_nothing(seeded: TestStack) -> None:
    before = count(seeded, "SELECT md5(string_agg(u::text, '' ORDER BY id)) FROM auth.users u")
    assert seed(seeded.postgres) is False
    assert count(seeded, "SELECT md5(string_agg(u::text, '' ORDER BY id)) FROM auth.users u") == before


def test_every_login_has_its_user_and_the_demo_teacher_teaches_the_demo_student(seeded: TestStack) -> None:
    for role, login in logins().items():
        for one in (login, login.get("second_school", login)):
            assert count(seeded, f"SELECT role FROM auth.users WHERE email = '{one['email']}'") == role
    for login in (logins()["teacher"], logins()["teacher"]["second_school"]):
        school = login["school_id"]
        assert count(seeded, f"""SELECT count(*) FROM auth.teacher_assignments a JOIN auth.teachers t ON t.id = a.teacher_id
            JOIN auth.users u ON u.id = t.user_id JOIN auth.students s ON s.class_id = a.class_id JOIN auth.users p ON p.id = s.user_id
            WHERE u.email = '{login['email']}' AND p.email LIKE 'student@%' AND s.school_id = '{school}' AND a.class_id = '{login['class_id']}'""") >= 1
