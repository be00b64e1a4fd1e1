# SPDX-License-Identifier: Apache-2.0
"""Clients: processes with raw keep-alive connections that write, and keep a log of what they were told.

    load = Load(world, {"notes": 6, "counters": 2}); load.start(); …; calls = load.stop()
"""
from __future__ import annotations

import dataclasses
import datetime
import itertools
import json
import multiprocessing
import multiprocessing.synchronize
import pathlib
import pickle
import random
import selectors
import socket
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from s24.base import StackError

from .world import World

API = "/api/v1/play"
NAMESPACE = uuid.UUID("0fa17000-0000-5000-8000-000000000024")
TIMEOUT_S = 20.0  # behind every timeout of a daemon: who is silent for so long hangs
HOT_NOTES, TOPICS, COUNTERS, SPARSE_COUNTERS, CLASSES, STUDENTS = 400, 8, 8, 1500, 6, 40
STATUSES = ("present", "absent", "late")


def identity(*parts: object) -> str:
    return str(uuid.uuid5(NAMESPACE, "/".join(map(str, parts))))


@dataclasses.dataclass(slots=True)
class Call:
    """A write and what became of it. `rows`: entity, id and the token that only this call writes ('' a deletion)."""

    kind: str
    rows: tuple[tuple[str, str, str], ...]
    request: bytes = b""
    must: bool = False    # repeated until it is acknowledged: others wait for it
    by: int = 0           # counters
    status: int = 0       # 0: no answer
    version: int = 0
    value: int = 0        # counters: the sum after it
    sent: float = 0.0     # monotonic, the same clock in every process
    ms: float = 0.0
    uncertain: bool = False  # an answer that says: perhaps
    hung: bool = False
    formless: bool = False   # a 503 without Retry-After

    @property
    def acked(self) -> bool:
        return 200 <= self.status < 300

    @property
    def possible(self) -> bool:
        """May have happened without our knowing it. A 503 promises nothing."""
        return not self.acked and (self.status == 0 or self.status >= 500 or self.uncertain)


class Workload:
    """Makes one process' calls. Others write the same hot rows."""

    def __init__(self, mix: Mapping[str, float], token: str, seed: int, number: int) -> None:
        self.rng, self.number, self.counter = random.Random(f"{seed}/load/{number}"), number, itertools.count(1)
        self.seed = seed
        self.kinds, self.weights = list(mix), list(mix.values())
        self.head = f"Host: play\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n".encode()
        self.later: list[tuple[float, Call]] = []  # with the time when they are due

    def next(self) -> Call:
        if self.later and self.later[0][0] <= time.monotonic():
            return self.later.pop(0)[1]
        kind = self.rng.choices(self.kinds, self.weights)[0]
        make: Callable[[], Call] = getattr(self, "make_" + kind)
        return make()

    def http(self, method: str, path: str, body: object = None) -> bytes:
        text = b"" if body is None else json.dumps(body, separators=(",", ":")).encode()
        return b"%s %s%s HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n%s" % (method.encode(), API.encode(), path.encode(), self.head, len(text), text)

    def text(self) -> str:
        return f"{self.number}-{next(self.counter)}"

    def hot_note(self) -> str:
        return identity(self.seed, "note", self.rng.randrange(HOT_NOTES))

    def note_body(self, token: str, topic: str = "") -> dict[str, Any]:
        return {"topic_id": topic or identity("topic", self.rng.randrange(TOPICS)), "class_id": identity("class", self.rng.randrange(CLASSES)),
                "seq": self.rng.randrange(1000), "text": token + " what a teacher has to say about it, at some length"}

    def make_notes(self) -> Call:
        note, token, draw = self.hot_note(), self.text(), self.rng.random()
        if draw < 0.6:
            body = self.note_body(token)
            return Call("put", (("play_note", note, str(body["text"])),), self.http("PUT", f"/notes/{note}", body))
        if draw < 0.85:
            text = token + " patched"
            return Call("patch", (("play_note", note, text),), self.http("PATCH", f"/notes/{note}", {"text": text}))
        return Call("delete", (("play_note", note, ""),), self.http("DELETE", f"/notes/{note}"))

    def make_fresh(self) -> Call:
        """A record of its own for each call: what only a create needs."""
        token = self.text()
        note, body = identity(self.seed, "fresh", token), self.note_body(token)
        return Call("fresh", (("play_note", note, str(body["text"])),), self.http("PUT", f"/notes/{note}", body))

    def make_bulk(self) -> Call:
        token = self.text()
        topic = identity(self.seed, "topic", token)
        notes = [{"id": identity(self.seed, "child", token, at), **self.note_body(f"{token}-{at}", topic)} for at in range(5)]
        rows = (("play_topic", topic, token), *[("play_note", str(note["id"]), str(note["text"])) for note in notes])
        return Call("bulk", rows, self.http("POST", "/topics-with-notes", {"topic_id": topic, "title": token, "notes": notes}))

    def make_late(self) -> Call:
        """A child whose parent comes later."""
        token = self.text()
        topic, note = identity(self.seed, "late topic", token), identity(self.seed, "late note", token)
        body = self.note_body(token, topic)
        parent = Call("parent", (("play_topic", topic, token),), self.http("PUT", f"/topics/{topic}", {"title": token}), must=True)
        self.later.append((time.monotonic() + self.rng.uniform(0, 3), parent))
        self.later.sort(key=lambda one: one[0])
        return Call("late", (("play_note", note, str(body["text"])),), self.http("PUT", f"/notes/{note}", body))

    def make_poison(self) -> Call:
        note = identity(self.seed, "poison", self.text())
        return Call("poison", (("play_note", note, "poison"),), self.http("PUT", f"/notes/{note}", {**self.note_body(""), "text": "poison"}))

    def make_counters(self) -> Call:
        return self.add(identity(self.seed, "counter", self.rng.randrange(COUNTERS)))

    def make_sparse(self) -> Call:
        """Counters that are mostly in the table when they are read."""
        return self.add(identity(self.seed, "sparse", self.rng.randrange(SPARSE_COUNTERS)))

    def add(self, counter: str) -> Call:
        by = self.rng.randint(1, 5)
        return Call("add", (("play_counter", counter, ""),), self.http("POST", f"/counters/{counter}/add", {"by": by}), by=by)

    def make_registers(self) -> Call:
        group = identity("class", self.rng.randrange(CLASSES))
        date = (datetime.date(2026, 6, 1) + datetime.timedelta(days=self.rng.randrange(3))).isoformat()
        number = self.number * 10_000_000 + next(self.counter)
        marks = [STATUSES[number // 3**at % 3] for at in range(STUDENTS)]
        rows = [{"student_id": identity(group, "student", at), "status": mark} for at, mark in enumerate(marks)]
        return Call("register", (("register", f"{group}/{date}", "".join(mark[0] for mark in marks)),),
                    self.http("PUT", f"/registers/{group}/{date}", {"rows": rows}))


class Connection:
    """One caller: a request, its answer, the next one."""

    def __init__(self, port: int) -> None:
        self.port, self.received, self.not_before = port, b"", 0.0
        self.socket: socket.socket | None = None
        self.call: Call | None = None

    def connect(self) -> bool:
        try:
            self.socket = socket.create_connection(("127.0.0.1", self.port), timeout=2)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return True
        except OSError:
            self.not_before = time.monotonic() + 0.02
            return False

    def close(self) -> None:
        if self.socket is not None:
            self.socket.close()
        self.socket, self.received = None, b""

    def answer(self) -> bool | None:
        """True: a whole answer is in; None: the connection is gone."""
        assert self.socket is not None
        try:
            piece = self.socket.recv(262144)
        except OSError:
            return None
        if not piece:
            return None
        self.received += piece
        end = self.received.find(b"\r\n\r\n")
        if end < 0:
            return False
        at = self.received.lower().find(b"content-length:", 0, end)
        length = int(self.received[at + 15:self.received.find(b"\r\n", at)]) if at >= 0 else 0
        return len(self.received) >= end + 4 + length


def number_behind(text: bytes, name: bytes) -> int:
    at = text.find(name)
    if at < 0:
        return 0
    end = at = at + len(name)
    while text[end:end + 1].isdigit():
        end += 1
    return int(text[at:end] or 0)


class Client:
    """The loop of one process."""

    def __init__(self, ports: list[int], work: Workload, connections: int, rate: float) -> None:
        self.work, self.rate = work, rate
        self.connections = [Connection(ports[at % len(ports)]) for at in range(connections)]
        self.log: list[Call] = []
        self.selector = selectors.DefaultSelector()

    def run(self, stopping: Callable[[], bool]) -> list[Call]:
        started, sent, end = time.monotonic(), 0, 0.0
        while True:
            now = time.monotonic()
            if not end and stopping():
                end = now + TIMEOUT_S + 10
            idle = [one for one in self.connections if one.call is None]
            if end and (not self.work.later and len(idle) == len(self.connections) or now > end):
                break
            for one in idle:
                if one.not_before > now or (end and not self.work.later) or (not end and sent > (now - started) * self.rate):
                    continue
                if one.socket is None and not one.connect():
                    continue
                self.send(one, self.work.later.pop(0)[1] if end else self.work.next())
                sent += 1
            for key, _ in self.selector.select(0.005):
                self.receive(key.data)
            self.give_up(now)
        for one in self.connections:
            if one.call is not None:
                self.finish(one, 0)
        return self.log

    def send(self, one: Connection, call: Call) -> None:
        assert one.socket is not None
        call.sent, one.call = time.monotonic(), call
        try:
            one.socket.sendall(call.request)
        except OSError:
            self.finish(one, 0)
            return
        self.selector.register(one.socket, selectors.EVENT_READ, one)

    def receive(self, one: Connection) -> None:
        done = one.answer()
        if done is None:
            self.finish(one, 0)
        elif done:
            self.finish(one, int(one.received[9:12]))

    def finish(self, one: Connection, status: int) -> None:
        call, one.call = one.call, None
        assert call is not None
        call.status, call.ms = status, (time.monotonic() - call.sent) * 1000
        if one.socket is not None and one.socket.fileno() in self.selector.get_map():
            self.selector.unregister(one.socket)
        if status:
            call.version = number_behind(one.received, b'"version":')
            call.value = number_behind(one.received, b'"value":') if call.kind == "add" else 0
            call.uncertain = b"outcome_unknown" in one.received
            head = one.received[:one.received.find(b"\r\n\r\n") + 2].lower()
            call.formless = status == 503 and b"\r\nretry-after: " not in head
            if b"connection: close" in head:
                one.close()
            one.received = b""
        else:
            one.close()
        if not call.acked:
            one.not_before = time.monotonic() + 0.05
            if call.must:
                self.work.later.insert(0, (time.monotonic() + 0.2, Call(call.kind, call.rows, call.request, True)))
        call.request = b""
        self.log.append(call)

    def give_up(self, now: float) -> None:
        for one in self.connections:
            if one.call is not None and now - one.call.sent > TIMEOUT_S:
                one.call.hung = True
                self.finish(one, 0)


def client_process(ports: list[int], mix: Mapping[str, float], token: str, seed: int, number: int, connections: int, rate: float,
                   ready: multiprocessing.synchronize.Barrier, stop: multiprocessing.synchronize.Event, result: str) -> None:
    ready.wait(60)
    log = Client(ports, Workload(mix, token, seed, number), connections, rate).run(stop.is_set)
    pathlib.Path(result).write_bytes(pickle.dumps(log))


class Load:
    """The client processes of a run. `rate`: calls a second of all together; what the system does not take is not sent."""

    def __init__(self, world: World, mix: Mapping[str, float], *, processes: int = 2, connections: int = 12, rate: float = 1800) -> None:
        self.world, self.mix, self.context = world, mix, multiprocessing.get_context("spawn")
        self.ready, self.stopping = self.context.Barrier(processes + 1), self.context.Event()
        self.results = [world.stack.folder / f"calls-{number}" for number in range(processes)]
        self.processes = [self.context.Process(target=client_process, daemon=True, args=(
            [play.port for play in world.plays], mix, world.token, world.options.seed, number, connections, rate / processes, self.ready,
            self.stopping, str(result)))
            for number, result in enumerate(self.results)]

    def start(self) -> None:
        for number in range(TOPICS):
            answer = self.world.client.put(f"/play/topics/{identity('topic', number)}", {"title": f"topic {number}"})
            if answer.status != 200:
                raise StackError(f"a topic: {answer}")
        for process in self.processes:
            process.start()
        self.ready.wait(60)

    def stop(self) -> list[Call]:
        """The log of all clients, when the last one has its last answer."""
        self.stopping.set()
        calls: list[Call] = []
        for process, result in zip(self.processes, self.results):
            process.join(TIMEOUT_S + 30)
            if process.exitcode != 0:
                raise StackError(f"a client process ended with {process.exitcode}")
            calls += pickle.loads(result.read_bytes())
        return calls

    def stop_after(self, deed: Callable[[], None]) -> list[Call]:
        """Nothing more is sent; then the deed, and the log."""
        self.stopping.set()
        deed()
        return self.stop()

    def __enter__(self) -> Load:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        for process in self.processes:
            process.join(1)
            if process.is_alive():
                process.kill()


__all__ = ["Call", "Load", "STUDENTS", "identity"]
