# SPDX-License-Identifier: Apache-2.0
"""A store is away: what still works, what is refused, and that everything is right when the store is back (write-path.md 3)."""
from __future__ import annotations

import contextlib
import os
import signal
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from s24.seed import seed
from s24.slice import run_slice
from scene import PASSWORD, PDF, assign, email, flush, homework_fields, problem, row, sign_in, student_id, unsynced

from harness import BUILD, Answer, Client, TestStack, wait_for


@pytest.fixture(scope="module")
def system() -> Iterator[TestStack]:
    if not (BUILD / "bin" / "schools24-worker").exists():
        pytest.skip("no worker is built")
    stack = TestStack()
    try:
        stack.start(on_database=lambda own: seed(own.postgres, small=True))
        run_slice(stack, lambda *_: None)
        yield stack
    finally:
        stack.close()


def at_hand(stack: TestStack) -> bool:
    """Does every daemon have all its stores again? Each finds a server that is back in its own time."""
    return all(Client(f"http://127.0.0.1:{service.admin_port}").request("GET", "/ready", bare=True).json["status"] == "ready" for service in stack.daemons)


@contextlib.contextmanager
def away(server: Any, stack: TestStack) -> Iterator[None]:
    """The store is stopped inside; behind it everything is as before."""
    server.stop()
    try:
        yield
    finally:
        server.start()
        wait_for("everybody has everything", lambda: at_hand(stack), 30)
        wait_for("auth has its database", lambda: Client(stack.url).login(email("admin"), PASSWORD).status == 200, 30)


def in_time(answer: Answer, started: float) -> Answer:
    assert time.monotonic() - started < 5, "nobody waits for a store that is away"
    return answer


def refused(answer: Answer) -> None:
    body = problem(answer, 503)
    assert body["code"] != "internal_error"


def submit(student: Client, homework_id: str, text: str = "done") -> Answer:
    return student.post(f"/academic/homework/{homework_id}/submit", {"submission_text": text, "attachments": []})


def grade(teacher: Client, homework_id: str, marks: float) -> Answer:
    return teacher.put(f"/teacher/homework/{homework_id}/submissions/{student_id()}", {"marks_obtained": marks, "feedback": "seen"})


def titles(student: Client) -> set[str]:
    answer = student.get("/academic/homework?page_size=500")
    assert answer.status == 200, str(answer)
    return {one["title"] for one in answer.json["homework"]}


def past_the_cache(client: Client, path: str) -> Answer:
    """What was kept before a store went away is whole, and may be answered: here it is asked what the stores say now."""
    return client.request("GET", path, headers={"Cache-Control": "no-store"})


def is_normal(student: Client) -> bool:
    answer = past_the_cache(student, "/academic/homework")
    return answer.status == 200 and "x-data" not in answer.headers and "etag" in answer.headers


def warm(teacher: Client, student: Client, homework_id: str) -> None:
    """What a school day has asked for long ago: the directory's entries are in memory."""
    assert submit(student, homework_id, "warm").status == 200 and grade(teacher, homework_id, 1).status == 200
    for client, path in ((teacher, "/teacher/homework"), (teacher, f"/teacher/homework/{homework_id}/submissions"), (student, "/academic/homework")):
        assert client.get(path).status == 200


# ---- the buffer --------------------------------------------------------------------------------------------------------------------

def test_without_the_buffer_people_read_and_assign(system: TestStack) -> None:
    teacher, student, leaver = sign_in(system, "teacher"), sign_in(system, "student"), sign_in(system, "student", 1)
    known = assign(teacher)
    flush(system)
    with away(system.buffer, system):
        time.sleep(1.1)  # the copies of the sessions are old: auth is asked
        for client, path in ((student, "/academic/homework?page_size=500"), (teacher, "/teacher/homework"), (teacher, f"/teacher/homework/{known['id']}"),
                             (student, f"/academic/homework/{known['id']}"), (teacher, f"/teacher/homework/{known['id']}/submissions")):
            started = time.monotonic()
            kept = in_time(client.get(path), started)
            assert kept.status == 200 and (kept.headers["x-cache"] in ("HIT", "STALE") or kept.headers["x-data"] == "database-only"), f"{path}: {kept}"
            started = time.monotonic()
            answer = in_time(past_the_cache(client, path), started)
            assert answer.status == 200, f"{path}: {answer}"
            assert answer.headers["x-data"] == "database-only" and answer.headers["x-cache"] == "BYPASS" and "etag" not in answer.headers
        assert known["title"] in titles(student)

        started = time.monotonic()
        made = in_time(teacher.multipart("POST", "/teacher/homework", homework_fields(), [("attachments", "a.pdf", "application/pdf", PDF)]), started)
        assert made.status == 201, str(made)
        assert made.json["sync"]["durability"] == "database" and made.json["sync"]["state"] == "done" and made.json["sync"]["version"] > known["sync"]["version"]
        assert made.json["title"] in titles(student)
        assert row(system, "SELECT title FROM homework.homework WHERE id = %s", made.json["id"]) == (made.json["title"],)
        assert row(system, "SELECT count(*) FROM homework.audit_logs WHERE entity_id = %s", made.json["id"]) == (1,)
        assert student.get(f"/academic/homework/{made.json['id']}/attachments/{made.json['attachments'][0]['id']}/download").body == PDF

        key, fields = uuid.uuid4().hex, homework_fields(title=f"Keyed {uuid.uuid4().hex}")
        twins = [teacher.multipart("POST", "/teacher/homework", fields, headers={"Idempotency-Key": key}) for _ in range(2)]
        assert [one.status for one in twins] == [201, 201] and twins[1].headers["idempotency-replayed"] == "true", [str(one) for one in twins]
        assert twins[0].json["id"] == twins[1].json["id"] and "sync" not in twins[1].json
        problem(teacher.multipart("POST", "/teacher/homework", {**fields, "title": "Another"}, headers={"Idempotency-Key": key}), 422)
        assert row(system, "SELECT count(*) FROM homework.homework WHERE title = %s", fields["title"]) == (1,)

        for homework_id in (known["id"], made.json["id"]):
            refused(submit(student, homework_id))
            refused(grade(teacher, homework_id, 3))
            refused(teacher.put(f"/teacher/homework/{homework_id}", {"title": "x"}))
            refused(teacher.delete(f"/teacher/homework/{homework_id}"))

        assert sign_in(system, "student", 2).get("/academic/homework").status == 200, "who signs in now is let in"
        assert leaver.post("/auth/logout").status == 200
        time.sleep(1.1)
        problem(leaver.get("/academic/homework"), 401)
    wait_for("the buffer is in use again", lambda: is_normal(student), 20)
    time.sleep(2.5)  # the session's copy in the buffer came back with it, and is marked as ended by now
    problem(leaver.get("/academic/homework"), 401)
    problem(leaver.get("/auth/me"), 401)
    for homework_id in (known["id"], made.json["id"]):
        assert submit(student, homework_id, "after").status == 200 and grade(teacher, homework_id, 4).status == 200
    flush(system)
    assert row(system, "SELECT count(*) FROM homework.homework_submissions WHERE homework_id IN (%s, %s) AND marks_obtained = 400 AND submission_text = 'after'",
               known["id"], made.json["id"]) == (2,)
    changed = teacher.put(f"/teacher/homework/{made.json['id']}", {"title": "After the outage"})
    assert changed.status == 200 and changed.json["sync"]["version"] > made.json["sync"]["version"]


def test_a_buffer_that_hangs_holds_up_nobody_for_long(system: TestStack) -> None:
    teacher, student = sign_in(system, "teacher"), sign_in(system, "student")
    assert titles(student)
    fields = homework_fields(title=f"Hang {uuid.uuid4().hex}")
    pid = system.buffer.process.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        started = time.monotonic()
        answer = student.get("/academic/homework")
        assert answer.status in (200, 503) and time.monotonic() - started < 8
        started = time.monotonic()
        made = teacher.multipart("POST", "/teacher/homework", fields)
        assert time.monotonic() - started < 15 and made.status in (201, 409, 503), str(made)
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_for("the buffer is in use again", lambda: is_normal(student), 20)
    listed = [one for one in student.get("/academic/homework?page_size=500").json["homework"] if one["title"] == fields["title"]]
    assert len(listed) == 1 if made.status == 201 else len(listed) <= 1


def test_a_buffer_that_loses_its_connections_loses_nothing(system: TestStack) -> None:
    """Cut again and again: what was acknowledged is there, and once."""
    teacher, student = sign_in(system, "teacher"), sign_in(system, "student")
    word, acknowledged, sent = uuid.uuid4().hex, [], 0
    operator = system.buffer.client()
    for number in range(40):
        answer = teacher.multipart("POST", "/teacher/homework", homework_fields(title=f"{word} {number}"))
        sent += 1
        assert answer.status in (201, 409, 503), str(answer)
        if answer.status == 201:
            acknowledged.append(answer.json["title"])
        if number % 4 == 0:
            operator.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    wait_for("the buffer is in use again", lambda: is_normal(student), 20)
    there = [one["title"] for one in student.get("/academic/homework?page_size=500").json["homework"] if one["title"].startswith(word)]
    assert set(acknowledged) <= set(there) and len(there) == len(set(there)) <= sent and len(acknowledged) > 20


def test_a_buffer_that_is_killed_keeps_what_was_acknowledged(system: TestStack) -> None:
    """kill -9, and its append-only file read again: scripts' effects are transactions there."""
    teacher, student = sign_in(system, "teacher"), sign_in(system, "student")
    made = [assign(teacher) for _ in range(10)]
    assert submit(student, made[0]["id"], "before the kill").status == 200 and grade(teacher, made[0]["id"], 9).status == 200
    before = unsynced(system)
    system.buffer.process.kill()
    system.buffer.start()
    assert unsynced(system) == before and len(before) >= 11
    wait_for("the buffer is in use again", lambda: at_hand(system) and is_normal(student), 30)
    assert {one["title"] for one in made} <= titles(student)
    flush(system, 60)
    assert row(system, "SELECT count(*) FROM homework.homework WHERE id = ANY(%s::uuid[])", [one["id"] for one in made]) == (10,)
    assert row(system, "SELECT submission_text, marks_obtained FROM homework.homework_submissions WHERE homework_id = %s", made[0]["id"]) == ("before the kill", 900)


# ---- PostgreSQL ----------------------------------------------------------------------------------------------------------------------

def test_without_the_database_a_school_day_goes_on(system: TestStack) -> None:
    teacher, student = sign_in(system, "teacher"), sign_in(system, "student")
    flushed = assign(teacher)
    warm(teacher, student, flushed["id"])
    flush(system)
    buffered = assign(teacher)
    changed = teacher.put(f"/teacher/homework/{buffered['id']}", {"description": "changed before any flush"})
    assert changed.status == 200 and changed.json["sync"]["state"] == "pending"
    with away(system.postgres, system):
        time.sleep(1.1)
        assert student.get("/auth/verify").status == 200 and teacher.get("/teacher/homework/options").status == 200, "sessions go on"
        started = time.monotonic()
        made = in_time(teacher.multipart("POST", "/teacher/homework", homework_fields(), [("attachments", "a.pdf", "application/pdf", PDF)]), started)
        assert made.status == 201 and made.json["sync"]["state"] == "pending" and made.json["sync"]["durability"] == "aof", str(made)
        for homework_id in (buffered["id"], made.json["id"]):
            started = time.monotonic()
            handed_in = in_time(submit(student, homework_id, "without a database"), started)
            assert handed_in.status == 200, str(handed_in)
            assert submit(student, homework_id, "again").status == 200
            started = time.monotonic()
            graded = in_time(grade(teacher, homework_id, 7.5), started)
            assert graded.status == 200 and graded.json["marks_obtained"] == 7.5, str(graded)
        for name, ask in {
            "the teacher's list": lambda: teacher.get("/teacher/homework"), "the student's list": lambda: student.get("/academic/homework"),
            "a flushed homework": lambda: teacher.get(f"/teacher/homework/{flushed['id']}"), "its submission": lambda: submit(student, flushed["id"]),
            "its grade": lambda: grade(teacher, flushed["id"], 2), "its change": lambda: teacher.put(f"/teacher/homework/{flushed['id']}", {"title": "x"}),
            "the account": lambda: teacher.get("/auth/me"),
            "a login": lambda: Client(system.url).login(email("student", 3), PASSWORD),
            "a refresh": lambda: Client(system.url).post("/auth/refresh", {"refresh_token": "x"}),
        }.items():
            started = time.monotonic()
            answer = in_time(ask(), started)
            assert answer.status == 503, f"{name}: {answer}"
            refused(answer)
        assert unsynced(system, "homework:*") and unsynced(system, "homework_submission:*")
    wait_for("lists are there again", lambda: student.get("/academic/homework").status == 200, 20)
    flush(system, 60)
    for homework_id, title in ((buffered["id"], buffered["title"]), (made.json["id"], made.json["title"])):
        found = row(system, """SELECT h.title, s.submission_text, s.marks_obtained, s.feedback, s.status, s.is_late, jsonb_array_length(s.history)
            FROM homework.homework AS h JOIN homework.homework_submissions AS s ON s.homework_id = h.id WHERE h.id = %s""", homework_id)
        assert found == (title, "again", 750, "seen", "graded", False, 1)
    assert row(system, "SELECT submission_text, marks_obtained FROM homework.homework_submissions WHERE homework_id = %s", flushed["id"]) == ("warm", 100)
    assert not [key for key in system.buffer.client().scan_iter("wb:dlq:*")], "an outage parks nothing"
    assert Client(system.url).login(email("student", 3), PASSWORD).status == 200


# ---- the cache -------------------------------------------------------------------------------------------------------------------------

def test_without_the_cache_everything_is_right(system: TestStack) -> None:
    teacher, student = sign_in(system, "teacher"), sign_in(system, "student")
    name = student.get("/auth/me").json["user"]["full_name"]
    with away(system.cache, system):
        made = run_slice(system, lambda *_: None)
        assert made["homework_id"]
        listed = teacher.get(f"/teacher/homework/{made['homework_id']}/submissions").json["submissions"]
        assert [one["student_name"] for one in listed][0] == name
        assert student.put("/auth/me", {"full_name": "Without a cache"}).status == 200
        listed = teacher.get(f"/teacher/homework/{made['homework_id']}/submissions").json["submissions"]
        assert listed[0]["student_name"] == "Without a cache", "without a subscription no memory is trusted"
        assert student.put("/auth/me", {"full_name": name}).status == 200
    deadline = time.monotonic() + 10
    seen = ""
    while seen != name and time.monotonic() < deadline:
        seen = teacher.get(f"/teacher/homework/{made['homework_id']}/submissions").json["submissions"][0]["student_name"]
        time.sleep(0.1)
    assert seen == name


def test_nobody_was_refused_a_right(system: TestStack) -> None:
    """After all that came before: a missing right shows as a connection that is lost again and again."""
    for service in system.daemons:
        assert "NOPERM" not in service.process.log.read_text(encoding="utf-8", errors="replace"), service.name
