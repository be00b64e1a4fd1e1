# SPDX-License-Identifier: Apache-2.0
"""Every route of the playing service (tests/fault/play) once, on a system of its own with the worker that knows it."""
from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from s24.seed import seed
from scene import problem, sign_in, unsynced

from harness import BUILD, Client, TestStack, wait_for


@pytest.fixture(scope="module")
def stack() -> Iterator[TestStack]:
    if not (BUILD / "bin" / "schools24-play").exists():
        pytest.skip(f"no schools24-play in {BUILD}/bin")
    system = TestStack(extra=("play",))
    try:
        system.start(on_database=lambda own: seed(own.postgres, small=True))
        yield system
    finally:
        system.close()


@pytest.fixture(scope="module")
def teacher(stack: TestStack) -> Client:
    return sign_in(stack, "teacher")


def new() -> str:
    return str(uuid.uuid4())


def taken(answer: Any, status: int = 200) -> Any:
    assert answer.status == status, str(answer)
    return answer.json


def flush(stack: TestStack) -> None:
    taken(sign_in(stack, "super_admin").post("/sync/flush", {"reason": "a test"}))
    wait_for("play's rows are in the database", lambda: not unsynced(stack, "play_*"), 20)


def rows(stack: TestStack, statement: str, *values: object) -> list[Any]:
    with stack.postgres.cursor() as cursor:
        cursor.execute(statement, values)
        return list(cursor.fetchall())


def test_a_note_is_put_changed_moved_listed_and_deleted_in_buffer_and_table(stack: TestStack, teacher: Client) -> None:
    topic, note, one, other = new(), new(), new(), new()
    assert taken(teacher.put(f"/play/topics/{topic}", {"title": "First"}))["sync"]["state"] == "pending"
    assert taken(teacher.get(f"/play/topics/{topic}"))["title"] == "First"
    fields = {"topic_id": topic, "class_id": one, "seq": 1, "text": "a"}
    assert taken(teacher.put(f"/play/notes/{note}", fields))["text"] == "a"

    def listed(class_id: str) -> list[tuple[str, int]]:
        page = taken(teacher.get(f"/play/notes?class_id={class_id}&page=1&page_size=10"))
        assert page["total"] == len(page["notes"])
        return [(row["id"], row["seq"]) for row in page["notes"]]

    for at in range(2):
        assert listed(one) == [(note, 1)] and listed(other) == []
        changed = taken(teacher.request("PATCH", f"/play/notes/{note}", {"class_id": other, "seq": 2 + at}))
        assert changed["text"] == "a" and changed["class_id"] == other
        assert listed(one) == [] and listed(other) == [(note, 2 + at)]
        flush(stack)
        assert listed(one) == [] and listed(other) == [(note, 2 + at)]
        taken(teacher.put(f"/play/notes/{note}", fields))
    assert taken(teacher.delete(f"/play/notes/{note}"))["id"] == note
    assert teacher.get(f"/play/notes/{note}").status == 404 and listed(one) == []
    assert teacher.delete(f"/play/notes/{note}").status == 404
    assert teacher.request("PATCH", f"/play/notes/{note}", {"seq": 9}).status == 404
    flush(stack)
    assert teacher.get(f"/play/notes/{note}").status == 404 and listed(one) == []
    assert rows(stack, "SELECT deleted_at IS NOT NULL FROM play.notes WHERE id = %s", note) == [(True,)]


def test_a_topic_and_its_notes_are_one_version(stack: TestStack, teacher: Client) -> None:
    topic, class_id = new(), new()
    notes = [{"id": new(), "topic_id": topic, "class_id": class_id, "seq": seq, "text": "x"} for seq in range(80)]
    taken(teacher.post("/play/topics-with-notes", {"topic_id": topic, "title": "Many", "notes": notes}), 201)
    second = taken(teacher.get(f"/play/notes?class_id={class_id}&page=2&page_size=30"))
    assert second["total"] == 80 and [row["seq"] for row in second["notes"]] == list(range(30, 60))
    flush(stack)
    versions = rows(stack, "SELECT count(*), count(DISTINCT n.version), bool_and(n.version = t.version) FROM play.notes AS n JOIN play.topics AS t "
                    "ON t.id = n.topic_id WHERE t.id = %s", topic)
    assert versions == [(80, 1, True)]


def test_a_counter_counts_and_says_so(stack: TestStack, teacher: Client) -> None:
    counter = new()
    assert [taken(teacher.post(f"/play/counters/{counter}/add", {"by": by}))["value"] for by in (1, 10, -4)] == [1, 11, 7]
    flush(stack)
    assert taken(teacher.post(f"/play/counters/{counter}/add", {"by": 1}))["value"] == 8
    assert taken(teacher.get(f"/play/counters/{counter}"))["value"] == 8
    assert teacher.get(f"/play/counters/{new()}").status == 404
    problem(teacher.post(f"/play/counters/{counter}/add", {"by": 1001}), 422)
    with redis.Redis.from_url(stack.buffer.url("operator", stack.password("redis_operator"))) as client:
        told = [fields[b"e"] for _, fields in client.xrange("events:play") if counter.encode() in fields[b"e"]]
    assert len(told) == 4 and b'"value":8' in told[-1]


def test_a_register_is_forty_rows_in_one_put(stack: TestStack, teacher: Client) -> None:
    class_id, students = new(), sorted(new() for _ in range(40))
    path = f"/play/registers/{class_id}/2026-11-21"
    sent = [{"student_id": student, "status": "present"} for student in students]
    assert taken(teacher.put(path, {"rows": sent}))["rows"] == sent
    assert taken(teacher.get(path))["rows"] == sent
    flush(stack)
    late = [{"student_id": students[3], "status": "late"}]
    assert taken(teacher.put(path, {"rows": late}))["rows"] == late
    sent[3] = late[0]
    assert taken(teacher.get(path)) == {"class_id": class_id, "date": "2026-11-21", "rows": sent}
    assert teacher.get(f"/play/registers/{class_id}/yesterday").status == 404


def test_a_payment_is_made_once_for_a_key(stack: TestStack, teacher: Client) -> None:
    account, body = new(), {"amount": 250}
    body["account_id"] = account  # type: ignore[assignment]
    assert teacher.get(f"/play/accounts/{account}").status == 404
    problem(teacher.post("/play/payments", body), 422)
    key = {"Idempotency-Key": new()}
    first = taken(teacher.request("POST", "/play/payments", body, key), 201)
    again = teacher.request("POST", "/play/payments", body, key)
    assert taken(again, 201) == first and again.headers["idempotency-replayed"] == "true"
    problem(teacher.request("POST", "/play/payments", {**body, "amount": 1}, key), 422)
    assert taken(teacher.request("POST", "/play/payments", body, {"Idempotency-Key": new()}), 201)["balance"] == 500
    assert taken(teacher.get(f"/play/accounts/{account}")) == {"id": account, "balance": 500, "payments": 2}
    assert rows(stack, "SELECT sum(amount)::bigint, count(*) FROM play.payments WHERE account_id = %s", account) == [(500, 2)]
    assert rows(stack, "SELECT count(*) FROM play.outbox WHERE channel = 'play:payment_posted' AND envelope->'data'->>'account_id' = %s", account) == [(2,)]


def test_another_school_sees_nothing(stack: TestStack, teacher: Client) -> None:
    note, account = new(), new()
    taken(teacher.put(f"/play/notes/{note}", {"topic_id": new(), "class_id": new(), "seq": 1, "text": "a"}))
    taken(teacher.request("POST", "/play/payments", {"account_id": account, "amount": 1}, {"Idempotency-Key": new()}), 201)
    stranger = sign_in(stack, "teacher", school="riverside")
    assert stranger.get(f"/play/notes/{note}").status == 404 and stranger.get(f"/play/accounts/{account}").status == 404
    assert stranger.put(f"/play/notes/{note}", {"topic_id": new(), "class_id": new(), "seq": 1, "text": "a"}).status == 404
    assert stranger.request("POST", "/play/payments", {"account_id": account, "amount": 1}, {"Idempotency-Key": new()}).status >= 400
