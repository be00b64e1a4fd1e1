# SPDX-License-Identifier: Apache-2.0
"""./s24 bench morning: a school morning over real daemons, played faster, and how often its answers came out of a cache.

Pupils, parents and teachers of some classes sign in, and from then on do what the pages of the frontend do: each page that is opened reads what it
shows, and is read again when one comes back to it. Teachers assign, pupils hand in, teachers mark. What happens when is decided by the seed
before anything begins. Time and lifetimes are scaled alike (a lifetime is a second at least), so an answer is as old, compared with its lifetime, as
it would be; so is the time that a row waits in the write buffer for its table.

Prints for each route how many answers came out of the cache. HIT and STALE are that (nobody has changed what is stale; it is read anew behind the answer);
MISS and BYPASS are not. The goal is 95 % of all; the exit code is 1 below it.
"""
from __future__ import annotations

import argparse
import collections
import dataclasses
import datetime
import http.client
import json
import os
import pathlib
import random
import re
import shutil
import sys
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from .base import Account, StackError, raise_file_limit
from .client import Answer, Client
from .seed import PASSWORD, SCHOOLS, classes_of, identity, insert, password_hash, seed
from .stack import Stack, test_ports

GOAL_PERCENT = 95
SCHOOL = SCHOOLS[0]
# Defaults of the daemons, in seconds.
LIFETIMES = {"CACHE_DEFAULT_TTL": 300, "CACHE_TTL_LIST": 300, "CACHE_TTL_DETAIL": 900, "CACHE_TTL_PROFILE": 3600, "CACHE_TTL_PERMISSIONS": 600,
             "CACHE_TTL_SCHOOL": 3600, "CACHE_TTL_ROSTER": 1800, "CACHE_TTL_SUBMISSIONS": 1800,
             "BATCH_PROCESSOR_INTERVAL": 3600}
WORKERS = 8


@dataclasses.dataclass(frozen=True)
class Day:
    """Of whom there are how many, and what they do. Times are seconds of the morning."""

    hours: float = 5
    speed: float = 100
    classes: int = 2
    # From one look at the app to the next, on average. Everybody is signed in and has it open all morning; the rate follows from this more than from anything
    # else, because a change costs a read whoever reads how often.
    pupil_s: float = 90
    parent_s: float = 600
    teacher_s: float = 90
    assigned: int = 3     # homework for each class, over the morning
    handed_in: float = 0.7  # of pupils, each homework
    marked: float = 0.7   # of what was handed in

    @property
    def length_s(self) -> float:
        return self.hours * 3600


# ---- who they are --------------------------------------------------------------------------------------------------------------------

@dataclasses.dataclass
class Person:
    role: str
    email: str
    student_id: str = ""   # pupil, or the parent's child
    class_id: str = ""
    token: str = ""
    # What a teacher teaches: class and subject.
    teaches: list[tuple[str, str]] = dataclasses.field(default_factory=list)


def add_parents(stack: Stack, pupils: Sequence[Person]) -> list[Person]:
    """The demo school has one parent; here every second pupil has one."""
    school_id, hashed = identity("school", SCHOOL["slug"]), password_hash(PASSWORD)
    users, links, parents = [], [], []
    for number, pupil in enumerate(pupils[::2], 1000):
        user_id = identity("user", SCHOOL["slug"], "parent", number)
        email = f"parent{number}@{SCHOOL['slug']}.example"
        users.append({"id": user_id, "school_id": school_id, "email": email, "password_hash": hashed, "role": "parent",
                      "full_name": f"Parent of {pupil.email}", "is_active": True, "email_verified": True})
        links.append({"id": identity("guardian", SCHOOL["slug"], number), "school_id": school_id, "user_id": user_id, "student_id": pupil.student_id,
                      "relation": "father", "since": datetime.date(2024, 4, 1)})
        parents.append(Person("parent", email, pupil.student_id, pupil.class_id))
    with stack.postgres.cursor() as cursor:
        insert(cursor, "auth.users", users)
        insert(cursor, "auth.guardians", links)
    return parents


def people_of(stack: Stack, day: Day) -> list[Person]:
    slug = SCHOOL["slug"]
    wanted = [identity("class", slug, *one) for one in classes_of(SCHOOL)[:day.classes]]
    with stack.postgres.cursor() as cursor:
        cursor.execute("SELECT s.id::text, s.class_id::text, u.email FROM auth.students s JOIN auth.users u ON u.id = s.user_id "
                       "WHERE s.class_id = ANY(%s::uuid[]) ORDER BY u.email", (wanted,))
        pupils = [Person("pupil", email, student_id, class_id) for student_id, class_id, email in cursor.fetchall()]
        cursor.execute("SELECT u.email, a.class_id::text, a.subject_id::text FROM auth.teacher_assignments a JOIN auth.teachers t ON t.id = a.teacher_id "
                       "JOIN auth.users u ON u.id = t.user_id WHERE a.class_id = ANY(%s::uuid[]) ORDER BY u.email, a.class_id, a.subject_id", (wanted,))
        teachers: dict[str, Person] = {}
        for email, class_id, subject_id in cursor.fetchall():
            teachers.setdefault(email, Person("teacher", email)).teaches.append((class_id, subject_id))
    return pupils + add_parents(stack, pupils) + list(teachers.values())


# ---- what they do ----------------------------------------------------------------------------------------------------------------------

class Shared:
    """What everybody can know of the morning so far: the homework of each class, newest first, and who has handed in."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.homework: dict[str, list[tuple[str, Person]]] = collections.defaultdict(list)
        self.handed_in: dict[str, list[str]] = collections.defaultdict(list)
        self.marked: set[tuple[str, str]] = set()


@dataclasses.dataclass(order=True)
class Step:
    at_s: float
    number: int
    person: Person = dataclasses.field(compare=False)
    what: str = dataclasses.field(compare=False)
    rng: random.Random = dataclasses.field(compare=False)


def times(rng: random.Random, mean_s: float, length_s: float) -> Iterator[float]:
    at = rng.uniform(0, mean_s)
    while at < length_s:
        yield at
        at += rng.expovariate(1 / mean_s)


def plan(people: Sequence[Person], day: Day, number: int) -> list[Step]:
    """Every look of everybody, and the assignments, by the seed alone."""
    steps: list[Step] = []
    rng = random.Random(number)

    def add(at_s: float, person: Person, what: str) -> None:
        steps.append(Step(at_s, len(steps), person, what, random.Random(rng.random())))

    mean = {"pupil": day.pupil_s, "parent": day.parent_s, "teacher": day.teacher_s}
    for person in people:
        for at_s in times(rng, mean[person.role], day.length_s):
            add(at_s, person, "look")
    teachers = [person for person in people if person.role == "teacher"]
    for class_id in sorted({person.class_id for person in people if person.role == "pupil"}):
        own = [teacher for teacher in teachers if any(one == class_id for one, _ in teacher.teaches)]
        for at in range(day.assigned):
            add((0.02 + at) / day.assigned * 0.8 * day.length_s, own[at % len(own)], f"assign {class_id}")
    for person in people:
        if person.role == "pupil":
            for at in range(day.assigned):
                if rng.random() < day.handed_in:
                    add(rng.uniform((0.1 + at) / day.assigned * 0.8, 0.95) * day.length_s, person, f"hand in {at}")
    for teacher in teachers:
        for part in (0.5, 0.97):
            add(part * day.length_s, teacher, "mark")
    return sorted(steps)


class Frontend:
    """One worker's hands: kept connections, and what the pages of the frontend ask for."""

    def __init__(self, ports: Mapping[str, int], shared: Shared, day: Day, tally: Tally) -> None:
        self.ports, self.shared, self.day, self.tally = ports, shared, day, tally
        self.lines: dict[int, http.client.HTTPConnection] = {}

    def call(self, person: Person, method: str, route: str, body: object = None, **values: str) -> Answer:
        path = "/api/v1" + route.format(**{name: urllib.parse.quote(value) for name, value in values.items()})
        port = self.ports["homework" if "homework" in route else "auth"]
        headers = {"Authorization": f"Bearer {person.token}", "Accept": "application/json"}
        sent = None
        if body is not None:
            sent, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        for fresh in (False, True):
            line = self.lines.get(port)
            if line is None:
                line = self.lines[port] = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            try:
                line.request(method, path, body=sent, headers=headers)
                reply = line.getresponse()
                answer = Answer(reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read())
                break
            except (http.client.HTTPException, ConnectionError):
                line.close()
                del self.lines[port]
                if fresh:
                    raise
        self.tally.count(method, route, answer)
        return answer

    def get(self, person: Person, route: str, **values: str) -> Answer:
        return self.call(person, "GET", route, **values)

    # ---- pupils and parents

    def homework_page(self, person: Person) -> list[dict[str, Any]]:
        answer = self.get(person, "/academic/homework")
        return answer.json["homework"] if answer.status == 200 else []

    def look_of_pupil(self, person: Person, rng: random.Random) -> None:
        self.get(person, "/auth/me")
        listed = self.homework_page(person)
        while listed and rng.random() < 0.4:
            one = min(int(rng.expovariate(1)), len(listed) - 1)  # the first ones more often
            self.get(person, "/academic/homework/{homework_id}", homework_id=listed[one]["id"])
            listed = self.homework_page(person)

    def hand_in(self, person: Person, at: int, rng: random.Random) -> None:
        with self.shared.lock:
            given = self.shared.homework[person.class_id]
            if at >= len(given):
                return
            homework_id = given[at][0]
        self.homework_page(person)
        self.get(person, "/academic/homework/{homework_id}", homework_id=homework_id)
        answer = self.call(person, "POST", "/academic/homework/{homework_id}/submit",
                           {"submission_text": f"My work, in {rng.randrange(10, 400)} words.", "attachments": []}, homework_id=homework_id)
        if answer.status == 200:
            with self.shared.lock:
                self.shared.handed_in[homework_id].append(person.student_id)
        self.get(person, "/academic/homework/{homework_id}", homework_id=homework_id)
        self.homework_page(person)

    # ---- teachers

    def look_of_teacher(self, person: Person, rng: random.Random) -> None:
        self.get(person, "/auth/me")
        answer = self.get(person, "/teacher/homework")
        listed = answer.json["homework"] if answer.status == 200 else []
        if rng.random() < 0.3:
            self.get(person, "/teacher/classes")
            self.get(person, "/teacher/classes/{class_id}/students", class_id=rng.choice(person.teaches)[0])
        if rng.random() < 0.1:
            self.get(person, "/classes")
        if listed and rng.random() < 0.5:
            homework_id = listed[min(int(rng.expovariate(1)), len(listed) - 1)]["id"]
            self.get(person, "/teacher/homework/{homework_id}", homework_id=homework_id)
            self.get(person, "/teacher/homework/{homework_id}/submissions", homework_id=homework_id)
            self.get(person, "/teacher/homework")

    def assign(self, person: Person, class_id: str, rng: random.Random) -> None:
        self.get(person, "/teacher/homework/options")
        subject_id = next(subject for one, subject in person.teaches if one == class_id)
        answer = self.call(person, "POST", "/teacher/homework", {
            "title": f"Exercise {rng.randrange(1000)}", "description": "Read the chapter and answer all of its questions. " * 8, "class_id": class_id,
            "subject_id": subject_id, "due_date": (datetime.date.today() + datetime.timedelta(days=3)).isoformat(), "max_marks": 20})
        if answer.status == 201:
            with self.shared.lock:
                self.shared.homework[class_id].append((answer.json["id"], person))
        self.get(person, "/teacher/homework")

    def mark(self, person: Person, rng: random.Random) -> None:
        """One page of work after another: the frontend reads the list again after each homework, not after each mark."""
        with self.shared.lock:
            mine = [homework_id for given in self.shared.homework.values() for homework_id, teacher in given if teacher is person]
            work = [(homework_id, student_id) for homework_id in mine for student_id in self.shared.handed_in[homework_id]
                    if (homework_id, student_id) not in self.shared.marked and rng.random() < self.day.marked]
            self.shared.marked.update(work)
        for homework_id in sorted({homework_id for homework_id, _ in work}):
            self.get(person, "/teacher/homework/{homework_id}/submissions", homework_id=homework_id)
            for one, student_id in work:
                if one == homework_id:
                    self.call(person, "PUT", "/teacher/homework/{homework_id}/submissions/{student_id}",
                              {"marks_obtained": rng.randrange(21), "feedback": "Seen."}, homework_id=homework_id, student_id=student_id)
            self.get(person, "/teacher/homework/{homework_id}/submissions", homework_id=homework_id)
            self.get(person, "/teacher/homework")

    def do(self, step: Step) -> None:
        what, _, more = step.what.partition(" ")
        if what == "assign":
            self.assign(step.person, more, step.rng)
        elif what == "mark":
            self.mark(step.person, step.rng)
        elif what == "hand":
            self.hand_in(step.person, int(more.split()[-1]), step.rng)
        elif step.person.role == "teacher":
            self.look_of_teacher(step.person, step.rng)
        else:
            self.look_of_pupil(step.person, step.rng)


# ---- counting ----------------------------------------------------------------------------------------------------------------------------

STATES = ("HIT", "STALE", "MISS", "BYPASS")


class Tally:
    """X-Cache of every answer of a cached route, by route."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.routes: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
        self.writes = 0
        self.failures: collections.Counter[str] = collections.Counter()
        self.late_s = 0.0

    def count(self, method: str, route: str, answer: Answer) -> None:
        with self.lock:
            if answer.status >= 400:
                self.failures[f"{method} {route} {answer.status}"] += 1
            elif method == "GET":
                self.routes[route][answer.headers.get("x-cache", "BYPASS")] += 1
            else:
                self.writes += 1


def percent(part: float, whole: float) -> float:
    return 100 * part / whole if whole else 0


@dataclasses.dataclass
class Outcome:
    routes: Mapping[str, collections.Counter[str]]
    looked_up: Mapping[str, tuple[int, int]]  # of what the daemons keep besides answers: hits and reads
    writes: int
    failures: collections.Counter[str]
    late_s: float

    @property
    def hit_percent(self) -> float:
        """Of the answers of cached routes."""
        seen: collections.Counter[str] = sum(self.routes.values(), collections.Counter())
        return percent(seen["HIT"] + seen["STALE"], sum(seen.values()))

    def lines(self) -> Iterator[str]:
        yield f"{'route':<56}" + "".join(f"{name:>9}" for name in ("answers", *STATES, "hit %"))
        total: collections.Counter[str] = collections.Counter()
        for route, counts in sorted(self.routes.items()):
            total += counts
            yield self.line(route, counts)
        yield self.line("all of them", total)
        for name, (hits, reads) in sorted(self.looked_up.items()):
            yield f"{'- looked up on the way: ' + name:<56}{reads:>9}{hits:>9}{'':>27}{percent(hits, reads):>9.1f}"
        yield f"{self.writes} writes; the furthest a look came late: {self.late_s:.1f} s of the machine"
        for failure, n in sorted(self.failures.items()):
            yield f"failed: {failure}: {n} times"

    @staticmethod
    def line(name: str, counts: Mapping[str, int]) -> str:
        whole = sum(counts.values())
        return (f"{name:<56}{whole:>9}" + "".join(f"{counts.get(state, 0):>9}" for state in STATES)
                + f"{percent(counts.get('HIT', 0) + counts.get('STALE', 0), whole):>9.1f}")


def looked_up(stack: Stack) -> dict[str, tuple[int, int]]:
    """Directory, rows and statements, from the daemons' own counts."""
    sums: dict[str, list[int]] = collections.defaultdict(lambda: [0, 0])
    for name in ("auth", "homework"):
        text = Client(stack.services[name].admin_url).request("GET", "/metrics", bare=True).body.decode()
        for labels, value in re.findall(r"^schools24_cache_requests_total\{([^}]*)\} (\d+)", text, re.MULTILINE):
            found = dict(re.findall(r'(\w+)="([^"]*)"', labels))
            kind = {"http": "", "row": "rows", "query": "statements"}.get(found["namespace"], "directory")
            if kind and found["result"] != "bypass":
                sums[kind][1] += int(value)
                sums[kind][0] += int(value) * (found["result"] in ("hit", "stale"))
    return {kind: (hits, reads) for kind, (hits, reads) in sums.items()}


# ---- the morning --------------------------------------------------------------------------------------------------------------------------

def lifetimes(day: Day) -> dict[str, str]:
    return {name: str(max(1, round(seconds / day.speed))) for name, seconds in LIFETIMES.items()}


def settings(day: Day) -> dict[str, str]:
    """Of the daemons. A machine that plays a morning at a hundred times its speed is busier than a school's: its Redis may be late by that."""
    return {"RATE_LIMIT_PER_MINUTE": "0", "CACHE_TIMEOUT_MS": "250", **lifetimes(day)}


def parallel(work: Sequence[Callable[[], None]]) -> None:
    """All at once; raises what the first of them raised."""
    faults: list[BaseException] = []

    def guarded(one: Callable[[], None]) -> None:
        try:
            one()
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=guarded, args=(one,)) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise faults[0]


def sign_in(stack: Stack, people: Sequence[Person]) -> None:
    def some(mine: Sequence[Person]) -> None:
        for person in mine:
            client = Client(stack.services["auth"].url)
            answer = client.login(person.email, PASSWORD)
            if answer.status != 200:
                raise StackError(f"{person.email} cannot sign in: {answer}")
            person.token = client.token

    parallel([lambda mine=people[at::WORKERS]: some(mine) for at in range(WORKERS)])  # type: ignore[misc]


def play(stack: Stack, day: Day, number: int = 24) -> Outcome:
    """The whole morning on a running system with the demo schools, daemons with settings(day)."""
    people = people_of(stack, day)
    sign_in(stack, people)
    steps, shared, tally = plan(people, day, number), Shared(), Tally()
    ports = {name: stack.services[name].port for name in ("auth", "homework")}
    hand = {id(person): at % WORKERS for at, person in enumerate(people)}  # everybody's steps stay in their order
    begin = time.monotonic()

    def worker(mine: list[Step]) -> None:
        hands = Frontend(ports, shared, day, tally)
        for step in mine:
            ahead_s = begin + step.at_s / day.speed - time.monotonic()
            if ahead_s > 0:
                time.sleep(ahead_s)
            tally.late_s = max(tally.late_s, -ahead_s)
            hands.do(step)

    parallel([lambda own=[step for step in steps if hand[id(step.person)] == at]: worker(own) for at in range(WORKERS)])  # type: ignore[misc]
    return Outcome(tally.routes, looked_up(stack), tally.writes, tally.failures, tally.late_s)


def main() -> int:
    parser = argparse.ArgumentParser(prog="./s24 bench morning", description="A school morning, played faster: how much comes out of the caches.")
    parser.add_argument("--seed", type=int, default=24)
    for one in dataclasses.fields(Day):
        parser.add_argument(f"--{one.name.replace('_', '-')}", type=type(one.default), default=one.default)
    arguments = parser.parse_args()
    day = Day(**{one.name: getattr(arguments, one.name) for one in dataclasses.fields(Day)})
    raise_file_limit()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="s24-bench-"))
    folder.chmod(0o755)
    stack = Stack(folder, pathlib.Path(os.environ["S24_BUILD"]) / "bin", test_ports(), environment="test", names=["auth", "homework"], settings=settings(day),
                  daemon_account=Account(os.getuid(), os.getgid()))
    try:
        stack.start(on_database=lambda own: seed(own.postgres))
        outcome = play(stack, day, arguments.seed)
    finally:
        for process in stack.processes.values():
            process.kill()
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{day.hours:g} hours at {day.speed:g} times their speed, {day.classes} classes, seed {arguments.seed}")
    print("\n".join(outcome.lines()))
    print(f"goal: {GOAL_PERCENT} % of answers; {outcome.hit_percent:.1f} %: {'met' if outcome.hit_percent >= GOAL_PERCENT else 'MISS'}")
    print(json.dumps({"name": "morning, answers out of a cache", "unit": "%", "ours": round(outcome.hit_percent, 2), "goal": GOAL_PERCENT,
                      "met": outcome.hit_percent >= GOAL_PERCENT}))
    return 0 if outcome.hit_percent >= GOAL_PERCENT and not outcome.failures else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except StackError as error:
        print(f"bench morning: {error}", file=sys.stderr)
        sys.exit(1)
