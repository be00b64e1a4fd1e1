# SPDX-License-Identifier: Apache-2.0
"""Rate limits under concurrency (cache.md J3): counted once for all replicas, for whoever really asks, with the time that is left."""
from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Iterator

import pytest

from s24.seed import PASSWORD, seed

from harness import BUILD, Answer, Client, TestStack
from scene import email, problem, sign_in

LIMIT = 20  # a minute; at once as well for logins and refreshes, a quarter of it for a session


@pytest.fixture(scope="module")
def system() -> Iterator[TestStack]:
    if not (BUILD / "bin" / "schools24-auth").exists():
        pytest.skip(f"no daemons in {BUILD}/bin (S24_BUILD)")
    system = TestStack(settings={"RATE_LIMIT_PER_MINUTE": str(LIMIT)})
    try:
        system.start(on_database=lambda own: seed(own.postgres, small=True))
        yield system
    finally:
        system.close()


def test_of_sixty_at_once_the_limit_and_no_more_is_let_in(system: TestStack) -> None:
    """J3, whatever the callers say of where they come from."""
    def refresh(number: int) -> Answer:
        return Client(system.url).post("/auth/refresh", {"refresh_token": "x" * 43}, **{"X-Forwarded-For": f"203.0.113.{number}", "Forwarded": f"for=203.0.113.{number}"})

    with concurrent.futures.ThreadPoolExecutor(60) as pool:
        answers = list(pool.map(refresh, range(60)))
    refused = [answer for answer in answers if answer.status == 429]
    assert len(answers) - len(refused) == LIMIT, [answer.status for answer in answers]
    for answer in refused:
        problem(answer, 429, "rate_limited")
        assert 1 <= int(answer.headers["retry-after"]) <= 60 / LIMIT
        assert answer.headers["ratelimit"].startswith('"login";r=0;')
    time.sleep(int(refused[-1].headers["retry-after"]) + 0.5)
    assert refresh(0).status != 429, "whoever comes when he was told to is let in"


def test_a_session_is_limited_and_another_is_not(system: TestStack) -> None:
    """J3: and what is left goes down by one a request."""
    one = Client(system.url)
    while (login := one.login(email("student", 1), PASSWORD)).status == 429:
        time.sleep(int(login.headers["retry-after"]))
    answers = [one.get("/auth/me") for _ in range(LIMIT)]
    allowed = [answer for answer in answers if answer.status == 200]
    left = [int(answer.headers["ratelimit"].split("r=")[1].split(";")[0]) for answer in allowed]
    assert left == list(range(len(left) - 1, -1, -1)) and len(left) == LIMIT // 4 + 1, left
    problem(answers[-1], 429, "rate_limited")
    time.sleep(60 / LIMIT + 0.5)
    other = sign_in(system, "student", 2)
    assert other.get("/auth/me").status == 200
