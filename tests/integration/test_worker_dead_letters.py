# SPDX-License-Identifier: Apache-2.0
"""What the worker cannot write: it is parked and copied, and operators replay it or throw it away, with a reason that is kept."""
from __future__ import annotations

import signal

from worker_world import World, everything, needs_worker, world  # noqa: F401  the fixtures are asked for by their names

from harness import wait_for

pytestmark = needs_worker


def test_poison_is_parked_and_the_rest_is_written(world: World) -> None:
    service = world.worker()
    good = world.put("homework", 150) | world.put("homework", 150, 1000)
    bad = world.put("poison", 3, 500)
    world.wait_drained()
    assert world.rows("homework") == good
    assert {member.decode() for member in world.buffer.zrange("wb:dlq:homework", 0, -1)} == set(bad)
    one = next(iter(bad))
    assert world.buffer.hget(f"meta:write_buffer:homework:{one}", "err").decode().startswith("23514 ")
    wait_for("copies of the dead letters", lambda: len(world.query("SELECT id FROM homework.dead_letter")) == 3, 20)
    entity, error, title = world.query("SELECT entity, error, payload->'row'->>'title' FROM homework.dead_letter LIMIT 1")[0]
    assert entity == "homework" and error.startswith("23514 ") and len(title) > 200

    listed = world.call(service, "GET", "/sync/dead-letter/homework").json()["dead_letters"]
    assert {letter["id"] for letter in listed} == set(bad) and listed[0]["version"] == bad[listed[0]["id"]]
    with world.stack.postgres.cursor() as cursor:
        cursor.execute("ALTER TABLE homework.homework DROP CONSTRAINT homework_title_check")
    try:
        answer = world.call(service, "POST", "/sync/dead-letter/homework/replay", {"ids": [one], "reason": "the rule is gone"})
        assert answer.status_code == 200 and answer.json()["replayed"] == 1, answer.text
        wait_for("the replayed row", lambda: one in world.rows("homework"), 10)
    finally:
        with world.stack.postgres.cursor() as cursor:
            cursor.execute("DELETE FROM homework.homework WHERE length(title) > 200")
            cursor.execute("ALTER TABLE homework.homework ADD CONSTRAINT homework_title_check CHECK (length(title) BETWEEN 1 AND 200)")
    rest = [letter for letter in listed if letter["id"] != one]
    wrong = [{"id": letter["id"], "version": letter["version"] - 1} for letter in rest]
    answer = world.call(service, "POST", "/sync/dead-letter/homework/discard", {"records": wrong, "reason": "test"})
    assert answer.json()["discarded"] == 0, answer.text
    right = [{"id": letter["id"], "version": letter["version"]} for letter in rest]
    assert world.call(service, "POST", "/sync/dead-letter/homework/discard", {"records": right, "reason": "test"}).json()["discarded"] == 2
    assert world.unsynced("homework")["dlq"] == 0
    wait_for("what the operator did", lambda: world.query("SELECT count(*)::int FROM worker.audit_logs WHERE action LIKE 'dead_letter_%'") == [(3,)], 10)


def test_a_row_that_was_written_blind_is_parked_where_one_lives(world: World) -> None:
    world.worker()
    old = world.put("homework", 1, 5)
    world.wait_drained()
    world.buffer.delete(f"meta:write_buffer:homework:{next(iter(old))}")  # the marker, which within a minute would be a conflict
    world.put("blind", 2, 5)
    world.wait_drained()
    assert set(world.rows("homework")) == set(old) | {"0a000000-0000-0000-0000-000000000006"}
    assert world.rows("homework")[next(iter(old))] == old[next(iter(old))]
    assert world.buffer.hget(f"meta:write_buffer:homework:{next(iter(old))}", "err") == b"row exists"


def test_a_corrupt_record_is_parked(world: World) -> None:
    rows = world.put("homework", 3)
    victim = next(iter(rows))
    key = f"write_buffer:homework:{victim}"
    length = world.buffer.strlen(key)
    world.buffer.setrange(key, length - 3, b"???")
    world.worker()
    world.wait_drained()
    assert set(world.rows("homework")) == set(rows) - {victim}
    assert world.buffer.hget(f"meta:{key}", "err") == b"corrupt record"


def test_a_worker_killed_before_it_copies_a_dead_letter_copies_it_later(world: World) -> None:
    bad = world.put("poison", 2)
    broken = world.worker(failpoints="dlq.before_copy=kill", wait=False)
    assert world.end(broken, dead=True) == -signal.SIGKILL
    assert world.unsynced("homework")["dlq"] == 2 and world.query("SELECT id FROM homework.dead_letter") == []
    world.worker()
    wait_for("the copies", lambda: {row for row, in world.query("SELECT id::text FROM homework.dead_letter")} == set(bad), 70)


def test_every_deed_of_an_operator_needs_a_reason_and_is_audited(world: World) -> None:
    service = world.worker(interval_s=3600)
    bad = world.put("poison", 2)
    world.put("homework", 2)

    def do(path: str, body: dict) -> dict:
        assert world.call(service, "POST", path, body).status_code == 422, path
        answer = world.call(service, "POST", path, {**body, "reason": f"why {path}"})
        assert answer.status_code == 200, answer.text
        return answer.json()

    do("/sync/pause", {"entity": "homework_submission"})
    assert world.status(service, "homework_submission")["paused"] is True
    do("/sync/resume", {})
    assert do("/sync/flush", {"entity": "homework"})["drained"] is True
    one, other = bad
    assert do("/sync/dead-letter/homework/replay", {"ids": [one]})["replayed"] == 1
    wait_for("its second death", lambda: world.unsynced("homework")["dlq"] == 2, 10)
    assert do("/sync/dead-letter/homework/discard", {"records": [{"id": other, "version": bad[other]}]})["discarded"] == 1
    do("/sync/flush", {})
    wait_for("the records", lambda: len(world.query("SELECT 1 FROM worker.audit_logs")) >= 5, 10)
    assert world.audited("paused") == [("homework_submission", "why /sync/pause")]
    assert world.audited("resumed") == [("all", "why /sync/resume")]
    assert world.audited("flushed")[0] == ("homework", "why /sync/flush")
    assert world.audited("dead_letter_replayed") == [("homework", "why /sync/dead-letter/homework/replay")]
    assert world.audited("dead_letter_discarded") == [("homework", "why /sync/dead-letter/homework/discard")]
