# SPDX-License-Identifier: Apache-2.0
"""./s24 soak cache [MINUTES]: two replicas of auth and homework, two workers, writers and readers; nobody ever reads what is older than he may.

A reader who wrote himself never sees less than his last acknowledged write, on whichever replica he reads. Nobody sees anything that is older than what
was acknowledged a tenth of a second before he asked. The worker flushes every two seconds meanwhile. Who writes: a teacher titles and marks, teacher and
pupil their names, and an operator with SQL, who tells the caches afterwards. `--break` lets a part of the raisings be forgotten, and must fail.
"""
from __future__ import annotations

import argparse
import bisect
import functools
import http.client
import json
import os
import pathlib
import random
import re
import shutil
import tempfile
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import services
from .base import Account, StackError, free_ports, raise_file_limit
from .build import build, step
from .client import Client
from .seed import PASSWORD, identity, seed
from .servers import Service
from .stack import Stack, test_ports

SCHOOL = "sunrise"
HOMEWORKS = 3
BOUND_S = 0.1  # for what others have changed
SETTINGS = {"RATE_LIMIT_PER_MINUTE": "0", "BATCH_PROCESSOR_INTERVAL": "2", "S24_SWEEP_INTERVAL_S": "0", "LOG_LEVEL": "warn"}
BROKEN = "cache.before_raise=err:0.05"


# ---- the system ------------------------------------------------------------------------------------------------------------------

def another(stack: Stack, first: Service, **settings: str) -> Service:
    """A further replica of a daemon, with ports of its own."""
    service = Service(f"{first.name}-2", first.binary, stack.conf, stack.logs, stack.daemon_account, *free_ports(2))
    service.configure({key: value for key, value in {**first.settings, **settings}.items() if key not in ("LISTEN", "ADMIN_LISTEN")}, first.environment)
    return service


class Replicas:
    """A running stack, and the second of each of its daemons."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        auth = another(stack, stack.services["auth"])
        self.auth = [stack.services["auth"], auth]
        self.homework = [stack.services["homework"], another(stack, stack.services["homework"], AUTH_INTERNAL_URL=auth.admin_url)]
        self.workers = [stack.worker, another(stack, stack.worker)]

    @property
    def more(self) -> list[Service]:
        return [self.auth[1], self.homework[1], self.workers[1]]

    def start(self) -> None:
        for service in self.more:
            service.start(wait=False)
        for service in self.more:
            service.start()

    def restart(self, failpoints: str) -> None:
        """The daemons of people, with failpoints armed (a build that has them)."""
        for service in [*self.auth, *self.homework]:
            service.stop()
            service.environment["S24_FAILPOINTS"] = failpoints
            service.start(wait=False)
        for service in [*self.auth, *self.homework]:
            service.start()

    def stop(self) -> None:
        for service in self.more:
            service.stop()

    def repeated(self) -> int:
        """Tags that were raised again out of the streams, by all of them."""
        total = 0
        for service in [*self.auth, *self.homework, *self.workers]:
            text = Client(service.admin_url).request("GET", "/metrics", bare=True).body.decode()
            total += sum(map(int, re.findall(r'^schools24_invalidation_total\{reason="event"\} (\d+)$', text, re.MULTILINE)))
        return total


# ---- what changes, and where it is seen --------------------------------------------------------------------------------------------

@dataclass
class Thing:
    """Something with a number that only grows. `views`: who reads it where: person, daemon, path."""

    name: str
    owner: str
    write: Callable[[int], None]
    pattern: str
    views: list[tuple[str, str, str]]
    started: int = 0
    times: list[float] = field(default_factory=list)  # of acknowledgements …
    numbers: list[int] = field(default_factory=list)  # … and what they acknowledged

    def floor(self, at: float) -> int:
        """The greatest number acknowledged at a time."""
        index = bisect.bisect_right(self.times, at) - 1
        return self.numbers[index] if index >= 0 else 0


class Caller:
    """A person with a connection to each replica. One thread uses it."""

    def __init__(self, urls: dict[str, list[str]], token: str) -> None:
        self.headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        self.connections = {name: [http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=20) for url in of] for name, of in urls.items()}

    def request(self, daemon: str, replica: int, method: str, path: str, body: object = None) -> tuple[int, dict[str, str], bytes]:
        connection = self.connections[daemon][replica]
        headers = self.headers | ({"Content-Type": "application/json"} if body is not None else {})
        for last in (False, True):
            try:
                connection.request(method, "/api/v1" + path, None if body is None else json.dumps(body).encode(), headers)
                reply = connection.getresponse()
                return reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read()
            except (OSError, http.client.HTTPException):
                connection.close()
                if last or method != "GET":
                    raise
        raise AssertionError

    def close(self) -> None:
        for of in self.connections.values():
            for connection in of:
                connection.close()


class Soak:
    """Writers and readers over two replicas, and the verdict."""

    def __init__(self, replicas: Replicas, *, readers: int = 6, pause_s: float = 0.1) -> None:
        self.replicas, self.readers, self.pause_s = replicas, readers, pause_s
        self.urls = {"auth": [one.url for one in replicas.auth], "homework": [one.url for one in replicas.homework]}
        self.lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self.tokens = {name: self.sign_in(f"{name}@{SCHOOL}.example") for name in ("teacher", "student", "super_admin")}
        self.worst_ms = 0.0
        self.examples: list[str] = []
        self.ended = threading.Event()
        self.local = threading.local()
        self.callers: list[Caller] = []
        self.class_id = identity("class", SCHOOL, 10, "A")
        self.student_id = identity("student", SCHOOL, 0)
        self.homework = [self.assign(number) for number in range(HOMEWORKS)]
        self.things = self.all_things()

    # ---- people ----

    def sign_in(self, email: str) -> str:
        client = Client(self.urls["auth"][0])
        answer = client.login(email, PASSWORD)
        if answer.status != 200:
            raise StackError(f"{email} cannot sign in: {answer}")
        return client.token

    def caller(self, person: str) -> Caller:
        """This thread's own."""
        mine = self.local.__dict__.setdefault("callers", {})
        if person not in mine:
            mine[person] = Caller(self.urls, self.tokens[person])
            with self.lock:
                self.callers.append(mine[person])
        return mine[person]

    def do(self, person: str, daemon: str, method: str, path: str, body: object = None) -> bytes:
        """On either replica; whoever was faster with the same row is waited for, and so is what is away for a moment."""
        for _ in range(20):
            status, _, text = self.caller(person).request(daemon, random.randrange(2), method, path, body)
            if status not in (409, 503):
                break
            with self.lock:
                self.counts["asked_again"] += 1
            time.sleep(0.05 if status == 503 else 0)
        if status not in (200, 201, 204):
            raise StackError(f"{method} {path}: {status} {text[:300].decode(errors='replace')}")
        return text

    def assign(self, number: int) -> str:
        due = time.strftime("%Y-%m-%d", time.gmtime(time.time() + 7 * 86400))
        answer = Client(self.urls["homework"][0], self.tokens["teacher"]).multipart("POST", "/teacher/homework", {
            "title": f"Soak{number} n0", "class_id": self.class_id, "subject_id": identity("subject", SCHOOL, "MAT"), "due_date": due, "max_marks": "20"})
        if answer.status != 201:
            raise StackError(f"no homework: {answer}")
        self.do("student", "homework", "POST", f"/academic/homework/{answer.json['id']}/submit", {"submission_text": "done"})
        self.do("teacher", "homework", "PUT", f"/teacher/homework/{answer.json['id']}/submissions/{self.student_id}",
                {"marks_obtained": 1, "feedback": f"Mark{number} n0"})
        return str(answer.json["id"])

    # ---- what is written ----

    def operate(self, number: int) -> None:
        """Around the daemons, and then told: the documented operation."""
        with self.replicas.stack.postgres.cursor() as cursor:
            cursor.execute("UPDATE auth.students SET roll_number = %s, version = version + 1 WHERE id = %s", (f"R n{number}", self.student_id))
        self.do("super_admin", "auth", "POST", "/cache/invalidate", {"tables": ["auth.students"], "school_id": identity("school", SCHOOL), "reason": "roll numbers"})

    def all_things(self) -> list[Thing]:
        teacher, student = "teacher", "student"
        roster = (teacher, "auth", f"/teacher/classes/{self.class_id}/students")
        lists = [(teacher, "homework", "/teacher/homework"), (student, "homework", "/academic/homework")]
        submissions = [(teacher, "homework", f"/teacher/homework/{one}/submissions") for one in self.homework]
        pages = [(student, "homework", f"/academic/homework/{one}") for one in self.homework]
        things = []
        for at, one in enumerate(self.homework):
            path = f"/teacher/homework/{one}"
            things.append(Thing(f"title {at}", teacher, lambda n, at=at, path=path: self.set(teacher, "homework", path, {"title": f"Soak{at} n{n}"}),  # type: ignore[misc]
                                rf"Soak{at} n(\d+)", [*lists, (teacher, "homework", path), pages[at]]))
            mark = f"{path}/submissions/{self.student_id}"
            grade = functools.partial(self.grade, teacher, mark, at)
            things.append(Thing(f"mark {at}", teacher, grade,
                                rf"Mark{at} n(\d+)", [submissions[at], pages[at]]))
        things.append(Thing("teacher's name", teacher, lambda n: self.set(teacher, "auth", "/auth/me", {"full_name": f"Tutor n{n}"}),
                            r"Tutor n(\d+)", [(teacher, "auth", "/auth/me"), lists[1], *pages, (student, "auth", "/classes")]))  # the last: out of memory, unasked
        things.append(Thing("pupil's name", student, lambda n: self.set(student, "auth", "/auth/me", {"full_name": f"Pupil n{n}"}),
                            r"Pupil n(\d+)", [(student, "auth", "/auth/me"), roster, *submissions]))
        things.append(Thing("roll number", "operator", self.operate, r"R n(\d+)", [roster, *submissions]))
        for thing in things:
            self.change(thing)  # nothing of the beginning is seen any more
        return things

    def grade(self, person: str, path: str, at: int, n: int) -> None:
        self.set(person, "homework", path, {"marks_obtained": n % 20, "feedback": f"Mark{at} n{n}"})

    def set(self, person: str, daemon: str, path: str, body: object) -> None:
        self.do(person, daemon, "PUT", path, body)

    def change(self, thing: Thing) -> None:
        number = thing.started = thing.started + 1
        thing.write(number)
        thing.numbers.append(number)
        thing.times.append(time.monotonic())

    # ---- what is read ----

    def look(self, thing: Thing, view: tuple[str, str, str], replica: int) -> None:
        person, daemon, path = view
        began = time.monotonic()
        status, headers, body = self.caller(person).request(daemon, replica, "GET", path)
        found = [int(number) for number in re.findall(thing.pattern, body.decode(errors="replace"))]
        if status != 200 or not found:
            self.fault("errors", f"{path}: {status}, no {thing.name}: {body[:200].decode(errors='replace')}")
            return
        seen, now, before = min(found), thing.floor(began), thing.floor(began - BOUND_S)
        with self.lock:
            self.counts["reads"] += 1
            self.counts[headers.get("x-cache", "none").split()[0].lower()] += 1
            self.counts[f"level {headers.get('x-cache-level', 'none').lower()}"] += 1
        if max(found) > thing.started:
            self.fault("errors", f"{path}: {thing.name} is {max(found)}, which nobody has written")
        if seen >= now:
            return
        # How long ago had the first write that is missing here been acknowledged?
        missed_ms = 1000 * (began - thing.times[bisect.bisect_left(thing.numbers, seen + 1)])
        text = f"{person} at {daemon} {replica + 1}, {path}: {thing.name} is {seen}, {now} was acknowledged {missed_ms:.1f} ms before; " + \
               f"{headers.get('x-cache', '')} {headers.get('cache-status', '')}"
        with self.lock:
            self.worst_ms = max(self.worst_ms, missed_ms)
        if person == thing.owner:
            self.fault("own_stale", text)
        if seen < before:
            self.fault("late_stale", text)
        if person != thing.owner and seen >= before:
            self.fault("others_within_bound", text)

    def fault(self, kind: str, text: str) -> None:
        with self.lock:
            self.counts[kind] += 1
            if len(self.examples) < 20:
                self.examples.append(f"{kind}: {text}")

    # ---- threads ----

    def guarded(self, what: Callable[[], None]) -> None:
        while not self.ended.is_set():
            try:
                what()
            except (OSError, http.client.HTTPException, StackError) as error:
                self.fault("errors", f"{type(error).__name__} {error}")
                time.sleep(0.1)

    def writer(self, things: Sequence[Thing]) -> None:
        thing = random.choice(things)
        self.change(thing)
        with self.lock:
            self.counts["writes"] += 1
        mine = [view for view in thing.views if view[0] == thing.owner] or thing.views
        for replica in random.sample(range(2), 2):  # at once, and on both
            self.look(thing, random.choice(mine), replica)
        self.ended.wait(random.expovariate(1 / self.pause_s))

    def reader(self) -> None:
        thing = random.choice(self.things)
        self.look(thing, random.choice(thing.views), random.randrange(2))

    def run(self, seconds: float) -> dict[str, Any]:
        """The result; a new count each time."""
        self.counts.clear()
        self.examples.clear()
        self.worst_ms, began = 0.0, time.monotonic()
        repeated = self.replicas.repeated()
        self.ended.clear()
        # A thing has one writer, so that its numbers are written in their order.
        groups = [[one for one in self.things if one.name.startswith(word)] for word in ("title", "mark", "teacher", "pupil", "roll")]
        threads = [threading.Thread(target=self.guarded, args=(lambda group=group: self.writer(group),), daemon=True) for group in groups]
        threads += [threading.Thread(target=self.guarded, args=(self.reader,), daemon=True) for _ in range(self.readers)]
        for thread in threads:
            thread.start()
        self.ended.wait(seconds)
        self.ended.set()
        for thread in threads:
            thread.join(30)
        counts = self.counts
        result = {"soak": "cache", "seconds": round(time.monotonic() - began), "reads": counts["reads"], "writes": counts["writes"],
                  "hit_percent": round(100 * (counts["hit"] + counts["stale"]) / max(1, counts["reads"]), 1), "bypassed": counts["bypass"],
                  "levels": {name.split()[1]: count for name, count in sorted(counts.items()) if name.startswith("level ")},
                  "own_stale": counts["own_stale"], "late_stale": counts["late_stale"], "others_within_bound": counts["others_within_bound"],
                  "worst_ms": round(self.worst_ms, 1), "errors": counts["errors"], "asked_again": counts["asked_again"], "repeated_tags": self.replicas.repeated() - repeated}
        with self.replicas.stack.postgres.cursor() as cursor:
            cursor.execute("SELECT greatest(max(updated_at), 'epoch') > now() - interval '15 seconds' FROM homework.homework")
            result["flushed"] = bool(cursor.fetchone()[0])
        result["passed"] = counts["reads"] > 0 and counts["writes"] > 0 and not (counts["own_stale"] or counts["late_stale"] or counts["errors"]) and result["flushed"]
        return result

    def close(self) -> None:
        self.ended.set()
        for caller in self.callers:
            caller.close()


# ---- the command -------------------------------------------------------------------------------------------------------------------

def cache(minutes: float, broken: bool, built: pathlib.Path) -> int:
    raise_file_limit()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="s24-soak-"))
    folder.chmod(0o755)
    own = Account(os.getuid(), os.getgid())
    stack = Stack(folder, built / "bin", test_ports(services.NAMES), environment="test", fast=True, settings=SETTINGS, daemon_account=own)
    replicas: Replicas | None = None
    try:
        with step("two of everything"):
            stack.start(on_database=lambda one: seed(one.postgres, small=True))
            replicas = Replicas(stack)
            replicas.start()
            if broken:
                replicas.restart(BROKEN)
        soak = Soak(replicas)
        print(f"s24: {minutes:g} minutes of writing and reading" + (", with forgotten raisings" if broken else ""))
        result = soak.run(60 * minutes) | {"minutes": minutes, "broken": broken}
        soak.close()
        for line in soak.examples:
            print(f"s24:   {line}")
        print(json.dumps(result))
        return 0 if result["passed"] else 1
    finally:
        if replicas:
            replicas.stop()
        stack.stop()
        shutil.rmtree(folder, ignore_errors=True)


def soak_command(arguments: argparse.Namespace) -> int:
    if arguments.what != "cache":
        raise StackError("what can be soaked is the cache")
    with step("build with failpoints"):
        built = build("fault", ["schools24-auth", "schools24-homework", "schools24-worker"])
    return cache(arguments.minutes, getattr(arguments, "break"), built)


__all__ = ["Replicas", "SETTINGS", "Soak", "soak_command"]
