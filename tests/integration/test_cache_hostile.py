# SPDX-License-Identifier: Apache-2.0
"""The cache's Redis at its worst: hardened, frozen, killed, empty, evicting. Requests stay right, wait once at most, and nothing old comes back.

Every daemon here runs on an instance with EVAL, KEYS, FLUSHALL, FLUSHDB and CONFIG renamed away (cache.md I5).
"""
from __future__ import annotations

import concurrent.futures
import contextlib
import signal
import statistics
import time
from collections.abc import Iterator

import pytest
import redis
from s24.base import ROOT
from s24.seed import seed
from scene import assign, problem, sign_in

from harness import BUILD, Answer, Client, TestStack, wait_for

GONE = ("EVAL", "KEYS", "FLUSHALL", "FLUSHDB", "CONFIG")
# Far above the noise of a busy machine: what is asked is how often a request waits for a cache that does not answer, not how long.
TIMEOUT_MS = 400
LIST, PUPILS = "/teacher/homework?page_size=500", "/academic/homework?page_size=500"


@pytest.fixture(scope="module")
def system() -> Iterator[TestStack]:
    if not (BUILD / "bin" / "schools24-homework").exists():
        pytest.skip(f"no daemons in {BUILD}/bin (S24_BUILD)")
    stack = TestStack(settings={"CACHE_TIMEOUT_MS": str(TIMEOUT_MS), "RATE_LIMIT_PER_MINUTE": "0"})
    stack.cache.settings |= {f"rename-command {name}": '""' for name in GONE}
    try:
        stack.start(on_database=lambda own: seed(own.postgres, small=True))
        yield stack
    finally:
        stack.close()


def ask(client: Client, path: str) -> Answer:
    answer = client.get(path)
    assert answer.status == 200, str(answer)
    return answer


def timed(client: Client, path: str) -> float:
    began = time.monotonic()
    ask(client, path)
    return (time.monotonic() - began) * 1000


def is_hit(client: Client, path: str) -> bool:
    return ask(client, path).headers["x-cache"] == "HIT"


def warm(*asked: tuple[Client, str]) -> None:
    for client, path in asked:
        wait_for(f"{path} is kept", lambda c=client, p=path: is_hit(c, p), 20)  # type: ignore[misc]


def titles(client: Client, path: str) -> set[str]:
    return {one["title"] for one in ask(client, path).json["homework"]}


def rename(teacher: Client, homework: dict, title: str) -> None:
    answer = teacher.put(f"/teacher/homework/{homework['id']}", {"title": title})
    assert answer.status == 200, str(answer)


@contextlib.contextmanager
def frozen(stack: TestStack) -> Iterator[None]:
    stack.cache.process.send(signal.SIGSTOP)
    try:
        yield
    finally:
        stack.cache.process.send(signal.SIGCONT)


@contextlib.contextmanager
def dead(stack: TestStack) -> Iterator[None]:
    """kill -9; behind it the server is back, and empty."""
    stack.cache.process.kill()
    try:
        yield
    finally:
        stack.cache.start()


# I5: the server is what it claims to be, and everything works on it: keeping, invalidation, the administration's walks and clearing.
def test_a_hardened_server_is_enough(system: TestStack) -> None:
    for words in (("EVAL", "return 1", "0"), ("KEYS", "*"), ("FLUSHALL",), ("FLUSHDB",), ("CONFIG", "GET", "maxmemory")):
        with pytest.raises(redis.ResponseError):
            system.cache.client().execute_command(*words)
    teacher, student, platform = sign_in(system, "teacher"), sign_in(system, "student"), sign_in(system, "super_admin")
    known = assign(teacher)
    warm((teacher, LIST), (student, PUPILS))
    rename(teacher, known, "Renamed on a hardened server")
    assert "Renamed on a hardened server" in titles(teacher, LIST) and "Renamed on a hardened server" in titles(student, PUPILS)
    warm((teacher, LIST))
    for path, body in (("/cache/invalidate", {"pattern": "http:*"}), ("/cache/clear-all", {"confirm": True})):
        answer = platform.post(path, body)
        assert answer.status == 200, f"{path}: {answer}"
    assert platform.get("/cache/stats").status == 200 and platform.get("/cache/tags").status == 200
    warm((teacher, LIST))


# F9, I4: a request waits for a cache that does not answer at most once, and the next ones not at all.
def test_a_frozen_server_costs_one_wait(system: TestStack) -> None:
    teacher = sign_in(system, "teacher")
    assign(teacher)
    firsts, later = [], []
    for _ in range(5):
        warm((teacher, LIST))
        with frozen(system):
            firsts.append(timed(teacher, LIST))
            later += [timed(teacher, LIST) for _ in range(5)]
            assert ask(teacher, LIST).headers["x-cache"] == "BYPASS"
    added = statistics.median(firsts) - statistics.median(later)
    assert added < 1.6 * TIMEOUT_MS, f"the first request after the standstill waits {added:.0f} ms"
    assert statistics.median(later) < TIMEOUT_MS / 2, f"who knows that nobody answers still waits: {later}"


# I4: what was changed while Redis was away is not hidden by what Redis has from before.
@pytest.mark.parametrize("how", [frozen, dead])
def test_what_changes_while_it_is_away_is_seen_then_and_after(system: TestStack, how) -> None:
    teacher, student = sign_in(system, "teacher"), sign_in(system, "student")
    known = assign(teacher)
    warm((teacher, LIST), (student, PUPILS))
    for number in range(2):
        old, new = known["title"], f"Changed while the cache was away, {how.__name__} {number}"
        with how(system):
            rename(teacher, known, new)
            made = assign(teacher)
            for client, path in ((teacher, LIST), (student, PUPILS)):
                seen = titles(client, path)
                assert new in seen and made["title"] in seen and old not in seen
        for _ in range(20):
            for client, path in ((teacher, LIST), (student, PUPILS)):
                seen = titles(client, path)
                assert new in seen and made["title"] in seen and old not in seen
            time.sleep(0.02)
        warm((teacher, LIST), (student, PUPILS))
        assert new in titles(teacher, LIST) and new in titles(student, PUPILS)
        known = {**known, "title": new}


def with_memory(stack: TestStack, **settings: str) -> None:
    """The cache again, empty, with another bound."""
    stack.cache.settings |= {name.replace("_", "-"): value for name, value in settings.items()}
    stack.configure_redis()
    stack.cache.stop()
    stack.cache.start()


# I3, B6: any key may vanish at any moment, epochs and indexes among them.
def test_an_evicting_server_never_brings_back_what_was_old(system: TestStack) -> None:
    bound = dict(system.cache.settings)
    with_memory(system, maxmemory="3mb", maxmemory_policy="allkeys-lru")
    try:
        teacher, student = sign_in(system, "teacher"), sign_in(system, "student")
        known = [assign(teacher) for _ in range(3)]
        server, junk, end, rounds = system.cache.client(), b"x" * 20000, time.monotonic() + 8, 0
        while time.monotonic() < end:
            rounds += 1
            for at, one in enumerate(known):
                rename(teacher, one, f"{rounds}.{at} of an evicting server")
                # Others fill the server meanwhile, so that ours go in any order.
                for number in range(40):
                    server.set(f"junk:{rounds}:{at}:{number}", junk)
                for client, path in ((teacher, LIST), (student, PUPILS), (teacher, f"/teacher/homework?page_size={100 + rounds % 300}")):
                    seen = titles(client, path)
                    assert f"{rounds}.{at} of an evicting server" in seen and f"{rounds - 1}.{at} of an evicting server" not in seen
        evicted = server.info("stats")["evicted_keys"]
        assert evicted > 200 and rounds > 3, f"{evicted} keys were evicted in {rounds} rounds"
    finally:
        system.cache.settings.clear()
        with_memory(system, **bound)


# Two users, one path: each gets his own answer, whoever asked before him, also while entries come and go.
def test_two_users_of_one_path_never_meet(system: TestStack) -> None:
    teachers = [sign_in(system, "teacher", number) for number in range(3)]
    students = [sign_in(system, "student", number) for number in range(3)]
    admin = sign_in(system, "admin")
    mine = assign(teachers[0], title="Of the first teacher alone")
    everybody = [*teachers, *students, admin]

    def own(client: Client) -> None:
        for _ in range(30):
            assert ask(client, "/auth/me").json["user"]["email"] == client.user["email"]

    with concurrent.futures.ThreadPoolExecutor(len(everybody)) as pool:
        for done in [pool.submit(own, client) for client in everybody]:
            done.result()
    warm((teachers[0], LIST))
    for client in teachers[1:]:
        for _ in range(3):
            assert mine["title"] not in titles(client, LIST)
    # What the handler or its rule would refuse is refused, whatever is kept for others.
    detail = f"/teacher/homework/{mine['id']}"
    warm((teachers[0], detail))
    for client in (*teachers[1:], *students):
        for _ in range(2):
            answer = client.get(detail)
            assert answer.status in (403, 404), str(answer)
    problem(Client(system.url).get(detail), 401)
    assert is_hit(teachers[0], detail)


# B5: lists, details and lookups of an hour, in seconds; when they have ended nothing of them is left in an index.
def test_churn_leaves_no_index_entry_behind(system: TestStack) -> None:
    homework = system.services["homework"]
    normal = dict(homework.environment)
    short = {f"CACHE_TTL_{kind}": "1" for kind in ("LIST", "DETAIL", "SUBMISSIONS", "ROSTER")}
    homework.process.stop(60)
    homework.configure(homework.settings, {**normal, **short})
    homework.start()
    try:
        teacher, student = sign_in(system, "teacher"), sign_in(system, "student")
        server = system.cache.client()
        sweep = server.script_load((ROOT / "common" / "cache" / "lua" / "cache_sweep.lua").read_text(encoding="utf-8"))

        def indexed() -> set[bytes]:
            """Entries of homework's answers that an index names."""
            return {member for key in server.scan_iter("cache:*:index:*", count=1000) for member in server.zrange(key, 0, -1) if b":homework:" in member and b":http:" in member}

        known = [assign(teacher) for _ in range(5)]
        most = 0
        for round_ in range(60):
            ask(teacher, f"/teacher/homework?page_size={1 + round_}")
            ask(student, f"/academic/homework?page_size={1 + round_}")
            ask(teacher, f"/teacher/homework/{known[round_ % 5]['id']}")
            ask(teacher, f"/teacher/homework/{known[round_ % 5]['id']}/submissions")
            if round_ % 10 == 0:
                rename(teacher, known[0], f"Churned {round_}")
                most = max(most, len(indexed()))
        assert most > 0

        def later(seconds: int) -> None:
            """Every end that Redis knows of homework's answers comes so much sooner: the lists may stand in for a failure for an hour."""
            for key in [*server.scan_iter("cache:*:index:*", count=1000)]:
                for member in server.zrange(key, 0, -1):
                    if b":homework:" in member and b":http:" in member:
                        server.zincrby(key, -1000 * seconds, member)
            for key in [*server.scan_iter("cache:*:homework:v*", count=1000)]:
                if b":http:" in key:
                    server.pexpire(key, max(1, server.pttl(key) - 1000 * seconds))

        def swept() -> bool:
            """The sweeper's own call, which it makes every few minutes: indexes that longer lives share do not end by themselves."""
            server.evalsha(sweep, 0, "1000", *server.scan_iter("cache:*:index:*", count=1000))
            return not [member for member in indexed() if not server.exists(member)] and len(indexed()) < most / 2

        later(4000)
        wait_for("the indexes forget what has ended", swept, 15)
        # What is left was filled since, by a warming behind the last change, and is alive.
        assert all(server.ttl(member) > 60 for member in indexed())
    finally:
        homework.process.stop(60)
        homework.configure(homework.settings, normal)
        homework.start()
