# SPDX-License-Identifier: Apache-2.0
"""Two write buffers, a school on each: what is on one stays off the other, and is left alone when the other dies."""
from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from s24.seed import PASSWORD, SCHOOLS, choose_buffer, identity, seed
from s24.servers import Redis, Service

from harness import BUILD, Client, TestStack, wait_for
from scene import FIRST, SECOND, assign, class_id, email, homework_fields, problem, sign_in, subject_id

# Rendezvous puts the two demo schools on these two.
BUFFERS = ("main", "west")


@pytest.fixture(scope="module")
def system() -> Iterator[TestStack]:
    if not (BUILD / "bin" / "schools24-auth").exists():
        pytest.skip(f"no daemons in {BUILD}/bin (S24_BUILD)")
    system = TestStack(buffers=BUFFERS, settings={"BATCH_PROCESSOR_INTERVAL": "3600"})
    try:
        system.start(on_database=lambda own: seed(own.postgres, small=True, buffers=BUFFERS))
        yield system
    finally:
        system.close()


def teacher_of(system: TestStack, school: str) -> Client:
    return sign_in(system, "teacher", school=school)


def assign_in(system: TestStack, school: str, **more: str) -> dict:
    return assign(teacher_of(system, school), class_id=class_id(school=school), subject_id=subject_id(school=school), **more)


def id_of(made: dict) -> str:
    return made["id"]


def keys(server: Redis, pattern: str) -> set[str]:
    return {key.decode() for key in server.client().scan_iter(pattern, count=1000)}


def flush(system: TestStack) -> None:
    """Everything of homework; the worker's own record of this call comes behind it."""
    answer = sign_in(system, "super_admin").post("/sync/flush", {"reason": "a test"})
    assert answer.status == 200, str(answer)
    for server in system.buffers.values():
        wait_for("homework's records are in the database", lambda one=server: not keys(one, "write_buffer:homework*"), 30)


def metric(system: TestStack, service: str, name: str, buffer: str) -> int:
    text = requests.get(f"{system.services[service].admin_url}/metrics", timeout=10).text
    found = [line for line in text.splitlines() if line.startswith(f"{name}{{") and f'buffer="{buffer}"' in line]
    assert len(found) == 1, (name, buffer, found)
    return int(found[0].split()[-1])


def readiness(service: Service) -> dict[str, Any]:
    return requests.get(f"{service.admin_url}/ready", timeout=10).json()


@contextlib.contextmanager
def away(system: TestStack, server: Redis) -> Iterator[None]:
    server.process.kill()
    try:
        yield
    finally:
        server.start()
        wait_for("every daemon sees it again", lambda: all(readiness(service)["status"] == "ready" for service in system.daemons), 30)


def test_a_school_is_where_the_command_says(system: TestStack) -> None:
    auth = system.services["auth"]
    for school in SCHOOLS:
        school_id = identity("school", school["slug"])
        said = subprocess.run([str(auth.binary), "--config", str(auth.config), "--choose-buffer", school_id], capture_output=True, text=True, check=True,
                              env={"PATH": "/usr/bin:/bin", **auth.environment}).stdout.strip()
        with system.postgres.cursor() as cursor:
            cursor.execute("SELECT buffer FROM auth.schools WHERE id = %s", (school_id,))
            assert cursor.fetchone()[0] == said == choose_buffer(BUFFERS, school_id)
    assert {choose_buffer(BUFFERS, identity("school", school["slug"])) for school in SCHOOLS} == set(BUFFERS)


def test_the_token_says_where_the_session_is(system: TestStack) -> None:
    for school, buffer in ((FIRST, "main"), (SECOND, "west")):
        client = teacher_of(system, school)
        payload = client.token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        assert claims["buffer"] == buffer
        for name, server in system.buffers.items():
            assert server.client().exists(f"session:{claims['sid']}") == (name == buffer)
        assert client.get("/auth/me").status == 200
        assert client.post("/auth/logout", {}).status == 200
        assert system.buffers[buffer].client().get(f"session:{claims['sid']}") == b"", "ended where it was"
        wait_for("the session is over everywhere", lambda: client.get("/auth/me").status == 401, 5)


def test_writes_and_events_land_on_the_schools_buffer_alone(system: TestStack) -> None:
    first, second = (id_of(assign_in(system, school)) for school in (FIRST, SECOND))
    main, west = system.buffers["main"], system.buffers["west"]
    assert f"write_buffer:homework:{first}" in keys(main, "write_buffer:*") and f"write_buffer:homework:{second}" not in keys(main, "write_buffer:*")
    assert f"write_buffer:homework:{second}" in keys(west, "write_buffer:*") and f"write_buffer:homework:{first}" not in keys(west, "write_buffer:*")
    for server, mine, other in ((main, first, second), (west, second, first)):
        said = b"".join(fields[b"e"] for _, fields in server.client().xrange("events:homework")).decode()
        assert mine in said and other not in said
    for school, made in ((FIRST, first), (SECOND, second)):
        assert teacher_of(system, school).get(f"/teacher/homework/{made}").status == 200, "read from where it was written"


def test_events_of_write_through_changes_are_on_the_schools_buffer(system: TestStack) -> None:
    client = teacher_of(system, SECOND)
    assert client.put("/auth/me", {"phone": "+44 20 7946 0000"}).status == 200
    with system.postgres.cursor() as cursor:
        cursor.execute("SELECT DISTINCT buffer FROM auth.outbox WHERE school_id = %s", (identity("school", SECOND),))
        assert cursor.fetchall() == [("west",)]
    stream = "events:auth"
    wait_for("the worker has relayed it", lambda: system.buffers["west"].client().xlen(stream) > 0, 15)
    assert system.buffers["main"].client().xlen(stream) == 0


def test_the_worker_flushes_both(system: TestStack) -> None:
    made = [id_of(assign_in(system, school)) for school in (FIRST, SECOND)]
    flush(system)
    with system.postgres.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM homework.homework WHERE id = ANY (%s::uuid[])", (made,))
        assert cursor.fetchone()[0] == 2


def test_one_buffer_away_is_felt_by_its_schools_alone(system: TestStack) -> None:
    homework = system.services["homework"]
    first, second = teacher_of(system, FIRST), teacher_of(system, SECOND)
    made = id_of(assign_in(system, SECOND))
    flush(system)
    with away(system, system.buffers["west"]):
        wait_for("homework notices", lambda: "buffer west" in readiness(homework)["away"], 10)
        assert readiness(homework)["status"] == "degraded" and homework.is_ready()
        # The first school: as if nothing had happened.
        fields = {"class_id": class_id(), "subject_id": subject_id()}
        started = time.monotonic()
        answer = assign(first, **fields)
        assert answer["sync"]["state"] == "pending" and answer["sync"]["durability"] == "aof", answer
        assert time.monotonic() - started < 2
        assert Client(system.url).login(email("student"), PASSWORD).status == 200
        # The second: creations go to the database, changes wait, reads say what they are.
        answer = assign(second, class_id=class_id(school=SECOND), subject_id=subject_id(school=SECOND))
        assert answer["sync"] == {**answer["sync"], "state": "done", "durability": "database"}, answer
        problem(second.put(f"/teacher/homework/{made}", {"title": "Changed"}), 503)
        read = second.get(f"/teacher/homework/{made}")
        assert read.status == 200 and read.headers.get("x-data") == "database-only", str(read)
        assert Client(system.url).login(email("student", school=SECOND), PASSWORD).status == 200, "sessions are checked by asking auth"
    assert assign_in(system, SECOND)["sync"]["state"] == "pending"


def test_a_name_that_nobody_knows_is_refused_and_never_another_buffer(system: TestStack) -> None:
    school = identity("school", SECOND)
    with system.postgres.cursor() as cursor:
        cursor.execute("UPDATE auth.schools SET buffer = 'gone' WHERE id = %s", (school,))
        try:
            before = [keys(server, "session:*") for server in system.buffers.values()]
            answer = Client(system.url).login(email("admin", school=SECOND), PASSWORD)
            problem(answer, 503)
            assert [keys(server, "session:*") for server in system.buffers.values()] == before
        finally:
            cursor.execute("UPDATE auth.schools SET buffer = 'west' WHERE id = %s", (school,))
    log = (system.logs / "auth.log").read_text(encoding="utf-8")
    assert "a school's buffer is not in REDIS_BUFFER_URLS" in log and '"gone"' in log


def test_pressure_is_of_one_buffer(system: TestStack) -> None:
    """Another worker's verdict, here the test's: it is believed for 15 s, and by each buffer for itself."""
    west = system.buffers["west"].client()
    system.worker.process.stop()
    try:
        west.set("wb:pressure", f"high {time.time_ns() // 1000000}")
        wait_for("homework has heard it", lambda: metric(system, "homework", "schools24_buffer_pressure", "west") == 1, 10)
        assert metric(system, "homework", "schools24_buffer_pressure", "main") == 0
        west.set("wb:pressure", f"full {time.time_ns() // 1000000 - 20000}")
        wait_for("an old verdict is none", lambda: metric(system, "homework", "schools24_buffer_pressure", "west") == 0, 10)
    finally:
        system.worker.start()


def test_the_first_school_writes_while_the_others_buffer_is_full(system: TestStack) -> None:
    west = system.buffers["west"].client()
    first, second = teacher_of(system, FIRST), teacher_of(system, SECOND)
    system.worker.process.stop()
    try:
        west.set("wb:pressure", f"full {time.time_ns() // 1000000}")
        wait_for("homework has heard it", lambda: metric(system, "homework", "schools24_buffer_pressure", "west") == 2, 10)
        refused = second.multipart("POST", "/teacher/homework", homework_fields(class_id=class_id(school=SECOND), subject_id=subject_id(school=SECOND)))
        problem(refused, 503, "buffer_full")
        assert assign(first, class_id=class_id(), subject_id=subject_id())["sync"]["state"] == "pending"
    finally:
        west.delete("wb:pressure")
        system.worker.start()


@pytest.fixture
def small() -> Iterator[TestStack]:
    """Marks that a few records reach."""
    system = TestStack(settings={"WRITE_BUFFER_HIGH_MARK": "3", "WRITE_BUFFER_LIMIT": "5"})
    try:
        system.start(on_database=lambda own: seed(own.postgres, small=True))
        yield system
    finally:
        system.close()


def test_above_the_high_mark_writes_come_back_flushed_and_above_the_limit_they_are_refused(small: TestStack) -> None:
    teacher, buffer = sign_in(small, "teacher"), small.buffer.client()
    # What is paused stays, so that the backlog grows by one audit record with each homework.
    buffer.sadd("wb:paused", "homework_audit")

    def level() -> int:
        return metric(small, "homework", "schools24_buffer_pressure", "main")

    assert assign(teacher)["sync"]["state"] == "pending" and level() == 0
    buffer.publish("hint:wb", "homework")
    for _ in range(2):
        assign(teacher)
    wait_for("the high mark is seen", lambda: level() >= 1, 10)
    wait_for("all but the paused is flushed", lambda: not keys(small.buffer, "write_buffer:homework:*"), 15)
    wait_for("the mark is not the limit", lambda: level() == 1, 10)
    made = assign(teacher)
    assert made["sync"]["state"] == "done" and made["sync"]["durability"] == "database", made
    with small.postgres.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM homework.homework WHERE id = %s", (made["id"],))
        assert cursor.fetchone()[0] == 1
    assert assign(teacher)["sync"]["state"] == "done"
    wait_for("the limit is seen", lambda: level() == 2, 10)
    refused = teacher.multipart("POST", "/teacher/homework", homework_fields())
    problem(refused, 503, "buffer_full")
    assert teacher.get(f"/teacher/homework/{made['id']}").status == 200, "who only reads notices nothing"
    buffer.srem("wb:paused", "homework_audit")
    wait_for("it drains", lambda: level() == 0, 20)
    assert assign(teacher)["sync"]["state"] == "pending"
