# SPDX-License-Identifier: Apache-2.0
"""Sweeping the caches over real daemons (cache.md H2, K1): what is a cache goes, for every daemon, and what is no cache is never touched."""
from __future__ import annotations

import time
import uuid
from typing import Any

import pytest
import redis
from cache_scene import by, data, entries, invalidate, kept, new_work, numbers, plant, state, store
from cache_scene import platform, teacher  # noqa: F401  the fixtures are asked for by their names
from scene import NOBODY, assign, problem, sign_in

from harness import Client, TestStack, wait_for


def clear(platform: Client) -> None:
    assert data(platform.post("/cache/clear-all", {"confirm": True}))["cleared"] is True


def drop_by_pattern(platform: Client) -> None:
    invalidate(platform, pattern="*")


SWEEPING = pytest.mark.parametrize("sweep", [clear, drop_by_pattern])


@pytest.mark.parametrize("body", [{}, {"confirm": False}, {"reason": "x"}, {"confirm": None}])
def test_clearing_needs_a_word(stack: TestStack, platform: Client, body: dict[str, Any]) -> None:
    """H2"""
    generation = store(stack).get("cache:test:generation")
    problem(platform.post("/cache/clear-all", body), 400, "confirmation_required")
    assert store(stack).get("cache:test:generation") == generation


def test_clearing_drops_everything_for_every_daemon_and_frees_it(stack: TestStack, platform: Client, teacher: Client) -> None:
    """H2: by a new generation; what was there is freed behind the answer."""
    paths = ("/auth/me", "/teacher/classes", "/teacher/homework")
    for path in paths:
        kept(teacher, path)
    old = entries(stack)
    clear(platform)
    time.sleep(0.1)  # so long may another daemon not know of it
    for path in paths:
        assert state(teacher, path) == "MISS", path
    wait_for("what was kept is freed", lambda: store(stack).exists(*old) == 0, 20)


def test_what_is_asked_while_cleared_entries_are_freed_waits_for_it(stack: TestStack, platform: Client) -> None:
    """H2, B9: freeing goes in short steps, and a walk of the administration's comes behind it."""
    name = f"kind{next(numbers)}"
    for start in range(0, 30000, 1000):
        store(stack).mset({f"cache:test:auth:v1:{{all}}:{name}:{start + i}": b"x" for i in range(1000)})
    clear(platform)
    for _ in range(3):
        assert by(invalidate(platform, user_id=NOBODY), "user")["complete"] is True
    wait_for("it is freed", lambda: not any(True for _ in store(stack).scan_iter(f"cache:test:auth:v1:{{all}}:{name}:*", count=5000)), 20)


@SWEEPING
def test_sessions_survive(stack: TestStack, platform: Client, sweep: Any) -> None:
    """H2"""
    pupil = sign_in(stack, "student", 2)
    before = sorted(stack.buffer.client().scan_iter("session:*"))
    store(stack).set("session:planted", "1", ex=600)
    sweep(platform)
    assert sorted(stack.buffer.client().scan_iter("session:*")) == before and store(stack).exists("session:planted")
    assert pupil.get("/auth/me").status == 200


@SWEEPING
def test_what_was_revoked_stays_so(stack: TestStack, platform: Client, sweep: Any) -> None:
    """H2: nobody comes back to life."""
    gone = sign_in(stack, "student", 3)
    assert gone.get("/auth/me").status == 200
    assert gone.post("/auth/logout").status in (200, 204)
    problem(gone.get("/auth/me"), 401)
    store(stack).set("revoked:planted", "1", ex=600)
    sweep(platform)
    problem(gone.get("/auth/me"), 401)
    time.sleep(1.1)  # longer than a session is remembered by a process
    problem(gone.get("/auth/me"), 401)
    assert store(stack).exists("revoked:planted")


@SWEEPING
def test_the_write_buffer_survives(stack: TestStack, platform: Client, teacher: Client, sweep: Any) -> None:
    """H2, K1: what is written and not yet in the database."""
    work = new_work(teacher)
    record = f"write_buffer:homework:{work}".encode()
    held = stack.buffer.client().dump(record)
    store(stack).set("write_buffer:homework:planted", "1", ex=600)
    sweep(platform)
    if held is not None:  # a flush may have been quicker than this test
        assert stack.buffer.client().dump(record) in (held, None)
    assert teacher.get(f"/teacher/homework/{work}").json["id"] == work
    assert store(stack).exists("write_buffer:homework:planted")


@SWEEPING
def test_idempotency_keys_survive(stack: TestStack, platform: Client, teacher: Client, sweep: Any) -> None:
    """H2: a retry after it is still a retry."""
    key = str(uuid.uuid4())
    first = assign(teacher, headers={"Idempotency-Key": key}, title="once", due_date="2030-01-01")
    store(stack).set("idem:planted", "1", ex=600)
    sweep(platform)
    second = assign(teacher, headers={"Idempotency-Key": key}, title="once", due_date="2030-01-01")
    assert second["id"] == first["id"] and store(stack).exists("idem:planted")


@SWEEPING
def test_locks_survive(stack: TestStack, platform: Client, sweep: Any) -> None:
    """H2: the worker's leases, a fill's lock, anybody's."""
    names = ("lock:planted", "wb:lock:planted", "sweep:planted")
    fill = plant(stack, "kind:x") + "~lock"
    for client in (stack.buffer.client(), store(stack)):
        for name in names:
            client.set(name, "1", ex=600)
    store(stack).set(fill, "1", ex=600)
    sweep(platform)
    assert all(client.exists(*names) == len(names) for client in (stack.buffer.client(), store(stack)))
    if sweep is drop_by_pattern:
        assert store(stack).exists(fill)
    for client in (stack.buffer.client(), store(stack)):
        client.delete(*names)


@SWEEPING
def test_nothing_else_of_either_redis_goes(stack: TestStack, platform: Client, sweep: Any) -> None:
    """H2, K1: rate limits, streams, boards of other environments, the buffer's scopes: whatever is no entry of this environment."""
    planted = ["rate:auth:planted", "directory:1:class:2", "events:planted", "meta:write_buffer:homework:planted", "wb:pending:planted",
               "cache:other:homework:v1:{all}:http:x", "leaderboard:planted", "cache", "cachet:test:homework:v1:{all}:x"]
    for client in (stack.buffer.client(), store(stack)):
        for name in planted:
            client.sadd(name, "1")
    sweep(platform)
    for client in (stack.buffer.client(), store(stack)):
        assert client.exists(*planted) == len(planted)
        client.delete(*planted)


def test_warming_never_touches_the_write_buffer(stack: TestStack, platform: Client, teacher: Client) -> None:
    """K1: and what it makes is read like any other."""
    work = new_work(teacher)
    before = {key: stack.buffer.client().type(key) for key in stack.buffer.client().scan_iter("write_buffer:homework:*")}
    data(platform.post("/cache/warm", {}))
    after = {key: stack.buffer.client().type(key) for key in stack.buffer.client().scan_iter("write_buffer:homework:*")}
    assert set(after.items()) <= set(before.items()), "a flush may have taken some"
    assert teacher.get(f"/teacher/homework/{work}").status == 200


def test_the_buffer_does_not_evict(stack: TestStack) -> None:
    """K1, I3: it has an instance of its own, which refuses rather than forgets."""
    assert stack.buffer.client().config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    assert stack.buffer.port != stack.cache.port


def test_the_administration_in_one_redis_with_the_buffer(stack: TestStack) -> None:
    """What is named above holds by names, not by the instance: the caches' user may not even reach the rest."""
    for name in ("session:1", "write_buffer:homework:1", "idem:homework:1", "wb:hlc"):
        homework = redis.Redis(port=stack.cache.port, username="homework", password=stack.password("redis_homework"))
        with pytest.raises(redis.exceptions.NoPermissionError):
            homework.unlink(name)
