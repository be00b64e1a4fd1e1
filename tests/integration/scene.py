# SPDX-License-Identifier: Apache-2.0
"""Who appears in the system tests, and the steps that many of them take."""
from __future__ import annotations

import datetime
import itertools
import time
from typing import Any

from s24.seed import PASSWORD, identity, logins

from harness import Answer, Client, TestStack, wait_for

FIRST, SECOND = "sunrise", "riverside"
PDF = b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
NOBODY = "00000000-0000-7000-8000-000000000000"
numbers = itertools.count(1)


def email(role: str, number: int = 0, school: str = FIRST) -> str:
    return f"{role}{number or ''}@{school}.example"


def sign_in(stack: TestStack, role: str, number: int = 0, school: str = FIRST, url: str = "") -> Client:
    """A new session; `url`: of a daemon instead of the gateway."""
    client = Client(stack.url)
    answer = client.login(email(role, number, school), PASSWORD)
    assert answer.status == 200, f"login of {role}: {answer}"
    return Client(url, client.token, user=client.user) if url else client


def student_id(number: int = 0, school: str = FIRST) -> str:
    return identity("student", school, number)


def class_id(section: str = "A", school: str = FIRST) -> str:
    return identity("class", school, 10 if school == FIRST else 6, section)


def subject_id(code: str = "MAT", school: str = FIRST) -> str:
    return identity("subject", school, code)


def today(zone_hours: float = 5.5) -> datetime.date:
    """In the first school's zone."""
    return (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=zone_hours)).date()


def homework_fields(**more: str) -> dict[str, str]:
    return {"title": f"Homework {next(numbers)}", "class_id": class_id(), "subject_id": subject_id(),
            "due_date": (today() + datetime.timedelta(days=7)).isoformat(), "max_marks": "20", **more}


def assign(teacher: Client, *, headers: dict[str, str] | None = None, **more: str) -> dict[str, Any]:
    answer = teacher.multipart("POST", "/teacher/homework", homework_fields(**more), headers=headers)
    assert answer.status == 201, str(answer)
    return answer.json


def problem(answer: Answer, status: int, code: str = "") -> dict[str, Any]:
    """The body of a failure, which has its one shape (api.md 1)."""
    assert answer.status == status, f"{status} was expected, not {answer}"
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json
    assert body["status"] == status and body["error"] == body["code"] and body["type"].endswith("/" + body["code"]) and body["title"], body
    assert "message" not in body, "the frontend would show it instead of the code"
    assert "Retry-After" not in body and (status not in (429, 503) or int(answer.headers["retry-after"]) > 0)
    if code:
        assert body["code"] == code, body
    return body


def flush(stack: TestStack, timeout_s: float = 30) -> None:
    """Asks the worker for everything, and waits until nothing is unsynced."""
    platform = sign_in(stack, "super_admin")
    deadline = time.monotonic() + timeout_s
    while (answer := platform.post("/sync/flush", {"reason": "a test"})).status == 503 and time.monotonic() < deadline:
        assert answer.headers["retry-after"], "who is told to come again is told when"
        time.sleep(0.2)  # each process finds a server that is back in its own time
    assert answer.status in (200, 202), str(answer)
    # The worker's own record of this call comes behind it, and waits its time.
    wait_for("everything is in the database", lambda: not [key for key in unsynced(stack) if ":worker_audit:" not in key], timeout_s)


def unsynced(stack: TestStack, entity: str = "*") -> list[str]:
    return sorted(key.decode() for key in stack.buffer.client().scan_iter(f"write_buffer:{entity}", count=1000))


def row(stack: TestStack, statement: str, *parameters: object) -> tuple[Any, ...] | None:
    with stack.postgres.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchone()


__all__ = ["FIRST", "NOBODY", "PASSWORD", "PDF", "SECOND", "assign", "class_id", "email", "flush", "homework_fields", "identity", "logins", "problem", "row",
           "sign_in", "student_id", "subject_id", "today", "unsynced"]
