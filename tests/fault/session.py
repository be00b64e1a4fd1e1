# SPDX-License-Identifier: Apache-2.0
"""A caller of the playing service who waits for each answer: threads of the runs whose workload is a conversation (C, D, E)."""
from __future__ import annotations

import http.client
import json
import random
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from s24.servers import Service

from .core import Outcome
from .world import World

API = "/api/v1/play"
ALLOWED = (0, 200, 201, 404, 409, 412, 503)


class Tally:
    """What all sessions of a run were answered; several threads write it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.statuses: Counter[int] = Counter()
        self.latencies: list[float] = []
        self.hung = self.formless = 0

    def take(self, status: int, ms: float, hung: bool, formless: bool) -> None:
        with self.lock:
            self.statuses[status] += 1
            self.hung += hung
            self.formless += formless
            if 200 <= status < 300:
                self.latencies.append(ms)

    def tell(self, outcome: Outcome) -> None:
        ordered = sorted(self.latencies)
        if ordered:
            outcome.ack_p50_ms, outcome.ack_p99_ms = ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]
        outcome.more["statuses"] = "/".join(f"{status}:{count}" for status, count in sorted(self.statuses.items()))
        for status, count in self.statuses.items():
            outcome.expect(status in ALLOWED, f"I14: {count} answers with {status}")
        outcome.conflicts, outcome.unavailable = self.statuses[409] + self.statuses[412], self.statuses[503]
        outcome.expect(self.formless == 0, f"I14: {self.formless} answers with 503 do not say when to come again (Retry-After)")
        outcome.expect(self.hung == 0, f"I14: {self.hung} calls were not answered in time")


class Session:
    """One keep-alive connection. status 0: no answer, so nobody knows."""

    def __init__(self, world: World, tally: Tally, rng: random.Random, timeout_s: float = 20, service: Service | None = None) -> None:
        self.world, self.tally, self.rng, self.timeout_s = world, tally, rng, timeout_s
        self.service = service or world.play
        self.headers: Any = {}  # of the last answer
        self.connection: http.client.HTTPConnection | None = None

    def call(self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        started, hung, formless, status, found = time.monotonic(), False, False, 0, None
        sent = {"Authorization": f"Bearer {self.world.token}", **({"Content-Type": "application/json"} if body is not None else {}), **(headers or {})}
        try:
            if self.connection is None:
                self.connection = http.client.HTTPConnection("127.0.0.1", self.service.port, timeout=self.timeout_s)
            self.connection.request(method, API + path, None if body is None else json.dumps(body), sent)
            answer = self.connection.getresponse()
            text = answer.read()
            status, found, self.headers = answer.status, json.loads(text), answer.headers
            formless = status == 503 and not answer.getheader("Retry-After", "")
            if answer.getheader("Connection", "").lower() == "close":
                self.close()
        except TimeoutError:
            hung = True
            self.close()
        except (OSError, http.client.HTTPException, ValueError):
            status = 0
            self.close()
        self.tally.take(status, (time.monotonic() - started) * 1000, hung, formless)
        return status, found

    def until(self, method: str, path: str, body: object = None, *, wanted: Sequence[int] = (200,), patience_s: float = 120) -> tuple[int, Any]:
        """Repeats it until the answer is one of the wanted: what must be known before the session goes on."""
        end = time.monotonic() + patience_s
        while True:
            status, found = self.call(method, path, body)
            if status in wanted or time.monotonic() > end:
                return status, found
            time.sleep(self.rng.uniform(0.02, 0.15))

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
        self.connection = None


class Crowd:
    """Threads that go on until they are told to stop. An exception in one is a violation: then the run is not what it says."""

    def __init__(self, outcome: Outcome, bodies: Sequence[Callable[[Callable[[], bool]], None]]) -> None:
        self.outcome, self._ended = outcome, threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(body,), daemon=True) for body in bodies]

    def _run(self, body: Callable[[Callable[[], bool]], None]) -> None:
        try:
            body(self._ended.is_set)
        except Exception as error:
            traceback.print_exc()
            self.outcome.problem(f"a session broke: {error!r}")

    def __enter__(self) -> Crowd:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self, timeout_s: float = 180) -> None:
        self._ended.set()
        end = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        if any(thread.is_alive() for thread in self._threads):
            self.outcome.problem("a session has not come to its end")


__all__ = ["API", "Crowd", "Session", "Tally"]
