# SPDX-License-Identifier: Apache-2.0
"""What the tests of the caches' administration share: who asks, what is kept, what is dropped."""
from __future__ import annotations

import itertools
import time
from typing import Any

import pytest
import redis
from scene import FIRST, assign, identity, sign_in

from harness import Answer, Client, TestStack, wait_for

numbers = itertools.count(1)


@pytest.fixture(scope="module")
def platform(stack: TestStack) -> Client:
    return sign_in(stack, "super_admin")


@pytest.fixture(scope="module")
def teacher(stack: TestStack) -> Client:
    return sign_in(stack, "teacher")


def store(stack: TestStack) -> redis.Redis:
    return stack.cache.client()


def entries(stack: TestStack, pattern: str = "*") -> list[str]:
    """Names of entries: of any service, and of this generation."""
    generation = int(store(stack).get("cache:test:generation"))
    return sorted(key.decode() for key in store(stack).scan_iter(f"cache:test:*:v{generation}:{pattern}", count=1000) if not key.endswith(b"~lock"))


def new_work(teacher: Client, **more: Any) -> str:
    """A new homework. A moment after it the teacher's list is warmed, so that a test who wants to see it missing waits for that."""
    made = assign(teacher, **more)["id"]
    time.sleep(0.5)
    return made


def kept(client: Client, path: str) -> str:
    """Asks until the answer comes out of the cache; the value of X-Cache at last."""
    answer = client.get(path)
    assert answer.status == 200, str(answer)
    wait_for(f"{path} is kept", lambda: client.get(path).headers.get("x-cache") == "HIT", 5)
    return "HIT"


def state(client: Client, path: str) -> str:
    """X-Cache. On a busy machine the cache may be late and is gone past for a moment, which changes nothing in it."""
    deadline = time.monotonic() + 5
    while (answer := client.get(path)).headers.get("x-cache") == "BYPASS" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert answer.status == 200, str(answer)
    return answer.headers.get("x-cache", "none")


def data(answer: Answer) -> dict[str, Any]:
    assert answer.status == 200, str(answer)
    assert answer.headers["cache-control"] == "no-store" and answer.json["success"] is True
    return answer.json["data"]


def invalidate(platform: Client, **body: object) -> dict[str, Any]:
    return data(platform.post("/cache/invalidate", body))


def by(outcome: dict[str, Any], selector: str, value: str | None = None) -> dict[str, Any]:
    found = [one for one in outcome["invalidated_by"] if one["selector"] == selector and value in (None, one["value"])]
    assert len(found) == 1, outcome
    return found[0]


def school(name: str = FIRST) -> str:
    return identity("school", name)


def plant(stack: TestStack, name: str, owner: str = "homework", where: str = "") -> str:
    """A name of an entry, whatever is in it."""
    key = f"cache:test:{owner}:v{int(store(stack).get('cache:test:generation'))}:{{{where or school()}}}:{name}"
    store(stack).set(key, b"x", ex=600)
    return key
