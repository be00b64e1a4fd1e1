# SPDX-License-Identifier: Apache-2.0
"""./s24 bench write: the write path beside what it stands on and what it replaces, in one run, rounds alternated, medians compared.

The daemon is tests/bench/writer: one handler whose route says which way the row takes. It runs as homework, beside the real auth, with
settings as in production but for the rate limit. Redis has a core; daemon and load share the other; PostgreSQL has both.
"""
from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .base import HOST, ROOT, Account, Process, StackError, program
from .bench import BareRedis, Load, Session, alternate, cores, cpu_us, family_us, pin, run
from .bench_kit import Bed
from .client import Client
from .seed import logins, seed
from .servers import Redis
from .stack import BATCH, Stack, test_ports

PARTS = ("redis", "disk", "database", "latency", "flush", "memory", "pending")
DESCRIPTION = ("Solve problems 1 to 12 from the text book, page 87. Show every step of the factorisation and check each root by putting it back. "
               "Bring a graph of problem 7 on squared paper, in pencil, and write one sentence for each problem about why its method works.")
SLOW_MS = 2
POOL = 10
WAYS = {"buffered": "homework", "single": "single", "through": "through"}
FLUSH_ROWS, COMMIT_ROWS = 60000, 6000


class WriterBed(Bed):
    """auth and the bench daemon. Stores may be started again on a disk whose fsync is slow."""

    def __init__(self, built: pathlib.Path, folder: pathlib.Path) -> None:
        super().__init__(built / "bin", folder)
        self.extra |= {"POSTGRES_MAX_CONNECTIONS": str(POOL)}
        self.shim = built / "bench" / "slow_disk.so"
        self.services["homework"].binary = built / "bench" / "bench_writer"

    def make_tables(self) -> None:
        seed(self.postgres, small=True)
        with self.postgres.cursor() as cursor:
            cursor.execute(f"SET ROLE {self.postgres.OWNER}")
            cursor.execute((ROOT / "tests" / "bench" / "writer" / "tables.sql").read_text(encoding="utf-8"))

    def again(self, server: Any, fsync_ms: int) -> None:
        start_again(server, self.shim, fsync_ms)

    def daemon_again(self, **settings: str) -> None:
        """The daemon with other settings: its connections to Redis follow the durability that it promises."""
        homework = self.services["homework"]
        homework.process.stop(60)
        homework.configure(homework.settings, {name: value for name, value in homework.environment.items() if name not in settings} | settings)
        homework.start()

    def pid(self, process: Process) -> int:
        assert process.pid is not None
        return process.pid


def start_again(server: Any, shim: pathlib.Path, fsync_ms: int) -> None:
    """A store, started again with that much more for each fsync."""
    server.process.stop(60)
    environment = {"LD_PRELOAD": str(shim), "S24_SHIM_FSYNC_MS": str(fsync_ms)} if fsync_ms else {}
    command = ([program("redis-server", "redis-server"), str(server.folder / "redis.conf")] if isinstance(server, Redis)
               else [server.binary("postgres"), "-D", str(server.data)])
    server.process.start(command, environment)
    server.process.wait_ready(server.ready, 60)


# ---- what is sent --------------------------------------------------------------------------------------------------------------------

UNQUOTE = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b", b"\\": b"\\", b'"': b'"'}


def unquote(line: bytes) -> list[bytes]:
    """The arguments of a line of MONITOR."""
    def one(match: re.Match[bytes]) -> bytes:
        text = match.group(1)
        return bytes([int(text[1:], 16)]) if text[:1] == b"x" and len(text) == 3 else UNQUOTE[text]

    return [re.sub(rb"\\(x[0-9a-f]{2}|.)", one, part) for part in re.findall(rb'"((?:[^"\\]|\\.)*)"', line)]


def capture(bed: Bed, write: Callable[[], object]) -> list[bytes]:
    """EVALSHA and its arguments, as the daemon has sent them for one write."""
    with socket.create_connection((HOST, bed.buffer.port), timeout=10) as monitor:
        monitor.sendall(f"AUTH operator {bed.buffer.operator_password}\r\nMONITOR\r\n".encode())
        seen = b""
        while seen.count(b"+OK") < 2:
            seen += monitor.recv(4096)
        write()
        while True:
            seen += monitor.recv(65536)
            for line in seen.split(b"\r\n")[:-1]:
                if b" lua] " not in line and b'] "EVALSHA" ' in line:
                    return unquote(line.split(b"] ", 1)[1])


def benchmark_arguments(call: list[bytes]) -> list[bytes]:
    """The captured call, made repeatable: every record a new id (12 of its 36 characters are drawn anew), and no NUL, which cannot be a
    program's argument; the script looks into none of the bytes that are changed."""
    ids = {part for part in call if re.fullmatch(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", part)}
    return [part[:-12] + b"__rand_int__" if part in ids else part.replace(b"\0", b"\1") for part in call]


def quiz_body() -> dict[str, Any]:
    """20 answers, 1,245 bytes."""
    return {"quiz_id": "0192f3a4-5b6c-7d8e-9fa0-b1c2d3e4f506", "attempt_id": "0192f3a4-5b6c-7d8e-9fa0-b1c2d3e4f5ff",
            "started_at": "2026-11-21T09:52:03.123456Z", "client": "web 4.2.1-rc1.23",
            "answers": [{"question": f"que-{at:03}", "selected": [at % 4, at % 3 + 1], "seconds": 20 + at} for at in range(1, 21)]}


class Record:
    """One kind of write: its request, and the script call that it makes."""

    def __init__(self, writer: Writer, path: str, entity: str, body: dict[str, Any]) -> None:
        self.path, self.entity = path, entity
        text = json.dumps(body, separators=(",", ":"))
        self.body_bytes = len(text)
        self.script = writer.folder / f"{path}.lua"
        self.script.write_text(f"wrk.method = 'POST'\nwrk.path = '/api/v1/teacher/{path}'\nwrk.headers['Content-Type'] = 'application/json'\n"
                               f"wrk.headers['Authorization'] = 'Bearer {writer.token}'\nwrk.body = [==[{text}]==]\n", encoding="utf-8")

        def write() -> None:
            answer = writer.caller.post(f"/teacher/{path}", body)
            if answer.status != 201:
                raise StackError(f"a write to {path}: {answer}")

        self.write = write
        write()  # the directory's entries are in memory now
        self.call = capture(writer.bed, write) if entity else []
        self.call_bytes = sum(map(len, self.call))
        self.arguments = benchmark_arguments(self.call)


class Writer:
    """The write over HTTP, and the same call to the same Redis without us."""

    def __init__(self, bed: WriterBed, folder: pathlib.Path) -> None:
        self.bed, self.folder = bed, folder
        self.homework = bed.services["homework"]
        teacher, who = Client(bed.services["auth"].url), logins()["teacher"]
        if teacher.login(who["email"], who["password"]).status != 200:
            raise StackError("the demo teacher cannot log in")
        self.token = teacher.token
        self.caller = Client(self.homework.url, teacher.token)
        option = self.caller.get("/teacher/homework/options").json["options"][0]
        homework = {"title": "Quadratic equations, exercise 4.3", "description": DESCRIPTION, "class_id": option["class_id"],
                    "subject_id": option["subjects"][0]["subject_id"], "due_date": "2099-11-28", "max_marks": 25}
        self.records = {path: Record(self, path, entity, body)
                        for path, entity, body in (("homework", "homework", homework), ("quiz", "quiz_like", quiz_body()), ("single", "", homework),
                                                   ("through", "", homework))}
        redis = bed.buffer.client()
        self.standing = [(key, redis.dump(key)) for key in redis.keys("*") if not key.startswith((b"wb:", b"write_buffer:", b"events:"))]
        self.durability = redis.get("wb:durability")
        self.login = ["--user", "homework", "-a", bed.password("redis_homework"), "-h", HOST, "-p", str(bed.buffer.port)]
        self.server_core, self.load_core = cores()
        self.place()

    def place(self) -> None:
        pin(self.bed.pid(self.bed.buffer.process), self.server_core)
        pin(self.bed.pid(self.homework.process), self.load_core)

    def pids(self) -> list[int]:
        return [self.bed.pid(one) for one in (self.bed.buffer.process, self.homework.process, self.bed.postgres.process)]

    def empty(self) -> None:
        """Each round begins with a buffer that holds the session and no records."""
        redis = self.bed.buffer.client()
        redis.flushall(asynchronous=False)
        for key, value in self.standing:
            redis.restore(key, 0, value)
        redis.set("wb:durability", self.durability)

    def empty_tables(self) -> None:
        with self.bed.postgres.cursor() as cursor:
            cursor.execute("TRUNCATE homework.bench_single, homework.bench_through, homework.audit_logs, homework.outbox CASCADE")

    def fsync(self, when: str, slow_ms: int = 0) -> None:
        """How the buffer's file is written; the daemon promises as much, and has its connections accordingly."""
        if slow_ms >= 0:
            self.bed.again(self.bed.buffer, slow_ms)
        self.bed.buffer.client().config_set("appendfsync", when)
        self.bed.buffer.client().config_set("auto-aof-rewrite-percentage", 0)
        self.empty()
        self.bed.daemon_again(WRITE_BUFFER_DURABILITY="aof" if when == "always" else "memory")
        self.place()
        self.records["homework"].write()  # the script is in Redis again

    def redis_cpu(self) -> float:
        return cpu_us(self.bed.pid(self.bed.buffer.process))

    def postgres_cpu(self) -> float:
        return family_us(self.bed.pid(self.bed.postgres.process))

    def over_http(self, record: Record, connections: int, seconds: float) -> dict[str, float]:
        if record.entity:
            self.empty()
        else:
            self.empty_tables()
        before, database = self.redis_cpu(), self.postgres_cpu()
        run = Load(self.homework.url, connections, seconds, self.load_core, script=record.script, server_pid=self.bed.pid(self.homework.process))
        written = self.bed.buffer.client().zcard(f"wb:pending:{record.entity}") if record.entity else 0
        return {"rate": run.rate, "cpu": run.cpu_us, "mean_us": connections / run.rate * 1e6, "p50": run.p50_us, "p99": run.p99_us,
                "database_cpu": (self.postgres_cpu() - database) / max(1, run.rate * seconds),
                "redis_cpu": (self.redis_cpu() - before) / max(1, written)}

    def by_redis_benchmark(self, record: Record, connections: int, count: int) -> dict[str, float]:
        self.empty()
        before = self.redis_cpu()
        command: list[str | bytes] = [program("taskset", "util-linux"), "-c", str(self.load_core), program("redis-benchmark", "redis-tools"), *self.login,
                                      "-c", str(connections), "-n", str(count), "-r", "2000000000", "--csv", *record.arguments]
        out = subprocess.run(command, capture_output=True, check=True).stdout
        rate = float(out.rstrip().rsplit(b",", 7)[1].strip(b'"'))
        written = self.bed.buffer.client().zcard(f"wb:pending:{record.entity}")
        if written < 0.99 * count:
            raise StackError(f"{written} of {count} calls of redis-benchmark have written")
        return {"rate": rate, "redis_cpu": (self.redis_cpu() - before) / count}

    def by_redis_cli(self, record: Record, count: int) -> dict[str, float]:
        """One call after the other, as redis-cli makes them from its input."""
        self.empty()

        def quoted(part: bytes) -> bytes:
            return b'"' + b"".join(bytes([c]) if 32 <= c < 127 and c not in b'"\\' else b"\\x%02x" % c for c in part) + b'"'

        fixed = [quoted(part) for part in record.arguments]
        lines = b"".join(b" ".join(part.replace(b"__rand_int__", b"%012d" % at) for part in fixed) + b"\n" for at in range(count))
        command = [program("taskset", "util-linux"), "-c", str(self.load_core), program("redis-cli", "redis-tools"), "--no-auth-warning", *self.login]

        def timed(text: bytes) -> float:
            began = time.monotonic()
            subprocess.run(command, input=text, stdout=subprocess.DEVNULL, check=True)
            return time.monotonic() - began

        nothing = timed(b"PING\n")
        spent = timed(lines) - nothing
        written = self.bed.buffer.client().zcard(f"wb:pending:{record.entity}")
        if written != count:
            raise StackError(f"{written} of {count} calls of redis-cli have written")
        return {"mean_us": spent / count * 1e6}


# ---- redis: the same script without HTTP; disk: a slow one -----------------------------------------------------------------------------

def redis_part(session: Session, writer: Writer) -> None:
    for fsync in ("everysec", "always"):
        writer.fsync(fsync)
        for name in ("homework", "quiz"):
            record = writer.records[name]
            count = max(2000, int(writer.by_redis_benchmark(record, 64, 4000)["rate"] * session.seconds))
            seen = alternate(session.rounds, {"http": lambda: writer.over_http(record, 64, session.seconds),
                                              "bench": lambda: writer.by_redis_benchmark(record, 64, count)}, writer.pids())
            ours, theirs = seen["http"], seen["bench"]
            session.add(f"{name} write, 64 conn., fsync {fsync}, to redis-benchmark", "writes/s", ours["rate"], theirs["rate"], 0.9, cpu_us=ours["cpu"],
                        redis_cpu_us=ours["redis_cpu"], reference_redis_cpu_us=theirs["redis_cpu"], body_bytes=record.body_bytes,
                        script_bytes=record.call_bytes, others_percent=max(ours["others"], theirs["others"]))


def disk_part(session: Session, writer: Writer) -> None:
    record = writer.records["homework"]
    seen: dict[Any, Any] = {}
    for at in range(session.rounds):
        for when, slow in (("always", SLOW_MS), ("everysec", SLOW_MS)) if at % 2 == 0 else (("everysec", SLOW_MS), ("always", SLOW_MS)):
            writer.fsync(when, slow)
            writer.over_http(record, 1000, 2)  # its connections are open now
            one = alternate(1, {when: lambda: writer.over_http(record, 1000, session.seconds)}, writer.pids())[when]
            seen.setdefault(when, []).append(one)
    median = {when: {key: sorted(one[key] for one in runs)[len(runs) // 2] for key in runs[0]} for when, runs in seen.items()}
    ours, theirs = median["always"], median["everysec"]
    session.add(f"homework write, 1000 conn., fsync {SLOW_MS} ms, always to everysec", "writes/s", ours["rate"], theirs["rate"], 0.85, p99_ms=ours["p99"] / 1000,
                reference_p99_ms=theirs["p99"] / 1000, cpu_us=ours["cpu"], redis_cpu_us=ours["redis_cpu"], others_percent=max(ours["others"], theirs["others"]))
    writer.fsync("everysec", 0)


# ---- database: a commit a write, and coalesced -----------------------------------------------------------------------------------------

def database_part(session: Session, writer: Writer) -> None:
    for slow in (0, SLOW_MS):
        if slow:
            writer.bed.again(writer.bed.postgres, slow)
        writer.fsync("always", slow)
        for connections in (64, 1000):
            sides = {way: (lambda record: lambda: writer.over_http(record, connections, session.seconds))(writer.records[path]) for way, path in WAYS.items()}
            seen = alternate(session.rounds, sides, writer.pids())
            single = seen["single"]
            disk = f", fsync {slow} ms" if slow else ""
            goals = {("buffered", 64): 3, ("buffered", 1000): 3, ("through", 64): 4 if slow else 2, ("through", 1000): 15 if slow else 2.5}
            for way in ("buffered", "through"):
                session.add(f"{way} write, {connections} conn.{disk}, to a commit a write", "writes/s", seen[way]["rate"], single["rate"],
                            goals[way, connections], cpu_us=seen[way]["cpu"], reference_cpu_us=single["cpu"],
                            store_cpu_us=seen[way]["redis_cpu"] if way == "buffered" else seen[way]["database_cpu"],
                            reference_store_cpu_us=single["database_cpu"], p99_ms=seen[way]["p99"] / 1000,
                            reference_p99_ms=single["p99"] / 1000, others_percent=max(side["others"] for side in seen.values()))
            session.add(f"- p99 of the buffered write, {connections} conn.{disk}", "ms", seen["buffered"]["p99"] / 1000, single["p99"] / 1000,
                        0.3 if connections == 1000 else None, least=False)
    writer.bed.again(writer.bed.postgres, 0)
    writer.fsync("everysec", 0)


# ---- latency: one connection -----------------------------------------------------------------------------------------------------------

def latency_part(session: Session, writer: Writer) -> None:
    record = writer.records["homework"]
    for fsync in ("everysec", "always"):
        writer.fsync(fsync)
        seen = alternate(session.rounds, {"http": lambda: writer.over_http(record, 1, session.seconds), "cli": lambda: writer.by_redis_cli(record, 3000)},
                         writer.pids())
        ours, theirs = seen["http"], seen["cli"]
        session.add(f"homework write, one connection, fsync {fsync}, to redis-cli", "µs", ours["mean_us"], theirs["mean_us"], 2.5, least=False,
                    cpu_us=ours["cpu"], others_percent=max(ours["others"], theirs["others"]))


# ---- flush: the worker's whole path ----------------------------------------------------------------------------------------------------

class FlushBed(Stack):
    """The worker, and what it stands on."""

    def __init__(self, built: pathlib.Path, folder: pathlib.Path) -> None:
        super().__init__(folder, built / "bin", test_ports(), environment="test", names=["auth", "homework"], settings={"RATE_LIMIT_PER_MINUTE": "0"},
                         daemon_account=Account(os.getuid(), os.getgid()), durability="memory")
        self.rows = built / "bench" / "bench_rows"

    def measure(self, way: str, count: int, *more: str) -> dict[str, float]:
        """One way of tests/bench/writer/rows.c. CPU: of all who take part, for each row."""
        redis = self.buffer.url("worker", self.password("redis_worker"))
        urls = {"fill": redis, "drain": redis, "copy": self.postgres.url(self.postgres.SUPERUSER, self.postgres.password)}  # COPY knows no row-level security
        before = self.used()
        result = subprocess.run([str(self.rows), way, urls.get(way, self.database_url("worker")), str(count), *more], capture_output=True, text=True,
                                check=False)
        if result.returncode != 0:
            raise StackError(result.stderr.strip())
        wall, cpu = map(float, result.stdout.split())
        return {"rate": count / wall, "cpu": cpu * 1e6 / count + sum(after - was for after, was in zip(self.used(), before)) / count}

    def used(self) -> list[float]:
        """µs of CPU: worker, Redis, PostgreSQL."""
        worker, redis, postgres = (process.pid or 0 for process in (self.worker.process, self.buffer.process, self.postgres.process))
        return [cpu_us(worker), cpu_us(redis), family_us(postgres)]

    def empty_table(self) -> None:
        with self.postgres.cursor() as cursor:
            cursor.execute("TRUNCATE homework.homework CASCADE")
            cursor.execute("CHECKPOINT")

    def flush(self, operator: Client) -> dict[str, float]:
        """From the operator's word to the answer that nothing is left."""
        self.empty_table()
        self.measure("fill", FLUSH_ROWS)
        worker, before = Client(self.worker.url, operator.token, timeout_s=60), self.used()
        began = time.monotonic()
        while not (answer := worker.post("/sync/flush", {"entity": "homework", "reason": "the bench"})).json.get("drained"):
            if answer.status != 200 or time.monotonic() - began > 60:  # it answers after some seconds, drained or not
                raise StackError(f"the flush: {answer}")
        spent = time.monotonic() - began
        used = [(after - was) / FLUSH_ROWS for after, was in zip(self.used(), before)]
        with self.postgres.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM homework.homework")
            (count,) = cursor.fetchone() or (0,)
        if count != FLUSH_ROWS:
            raise StackError(f"the flush: {count} rows in the table")
        return {"rate": FLUSH_ROWS / spent, "cpu": sum(used), "worker_cpu": used[0], "redis_cpu": used[1], "postgres_cpu": used[2]}


def flush_part(session: Session) -> None:
    bed = FlushBed(session.built, session.folder / "flush")
    batch = (BATCH | os.environ)["BATCH_PROCESSOR_BATCH_SIZE"]
    try:
        bed.start(on_database=lambda own: seed(own.postgres, small=True))
        bed.buffer.client().config_set("auto-aof-rewrite-percentage", 0)  # a fork in the middle of a round is noise
        who = logins()["super_admin"]
        operator = Client(bed.services["auth"].url, timeout_s=60)
        if operator.login(who["email"], who["password"]).status != 200:
            raise StackError("the super admin cannot log in")

        def table(way: str, count: int, *more: str) -> Callable[[], dict[str, float]]:
            def once() -> dict[str, float]:
                bed.empty_table()
                return bed.measure(way, count, *more)
            return once

        def drain() -> dict[str, float]:
            bed.measure("fill", FLUSH_ROWS)
            return bed.measure("drain", FLUSH_ROWS, batch)

        def add(name: str, ours: dict[str, float], reference: dict[str, float], goal: float | None, **more: float) -> None:
            session.add(name, "rows/s", ours["rate"], reference["rate"], goal, cpu_us=ours["cpu"], reference_cpu_us=reference["cpu"], **more)  # type: ignore[arg-type]

        bed.flush(operator)  # connections and statements are there now
        seen = alternate(session.rounds, {"flush": lambda: bed.flush(operator), "copy": table("copy", FLUSH_ROWS), "commits": table("commits", COMMIT_ROWS),
                                          "upsert": table("upsert", FLUSH_ROWS, batch), "drain": drain})
        ours, copy = seen["flush"], seen["copy"]
        add("flush, claim to ack, to one plain COPY", ours, copy, 0.6, worker_cpu_us=ours["worker_cpu"], redis_cpu_us=ours["redis_cpu"],
            postgres_cpu_us=ours["postgres_cpu"])
        add("- its PostgreSQL alone, one connection, to one plain COPY", seen["upsert"], copy, None)
        add("- its Redis alone, one connection, to one plain COPY", seen["drain"], copy, None)
        add("flush, claim to ack, to a commit a row", ours, seen["commits"], 20)
        start_again(bed.postgres, session.built / "bench" / "slow_disk.so", SLOW_MS)
        bed.flush(operator)
        seen = alternate(session.rounds, {"flush": lambda: bed.flush(operator), "commits": table("commits", COMMIT_ROWS // 4)})
        add(f"flush, claim to ack, fsync {SLOW_MS} ms, to a commit a row", seen["flush"], seen["commits"], 20)
    finally:
        for process in bed.processes.values():
            process.kill()


# ---- memory and pending: what waits in the buffer --------------------------------------------------------------------------------------

def memory_part(session: Session) -> None:
    out = subprocess.run([str(session.built / "bench" / "bench_compress")], capture_output=True, text=True, check=False).stdout
    figures = {one["name"]: one for one in (json.loads(line) for line in out.splitlines() if line.startswith("{"))}
    for entity, best, goal in (("homework", "zstd+dict", 1.0), ("quiz_like", "zstd", 0.7)):
        for codec in (best, "snappy"):
            one = figures[f"compress.{entity}.{codec}.memory"]
            session.add(f"memory of a pending {entity}, {codec}, to a JSON string", "bytes", one["ours"], one["reference"], goal, least=False)


def pending_part(session: Session, writer: Writer) -> None:
    """The script's time with ten thousand and with a million records that wait, in two servers that take turns."""
    core, load = cores()
    servers = {"full": (BareRedis(session.folder / "bare", "full"), 1000000), "small": (BareRedis(session.folder / "bare", "small"), 10000)}
    text = (ROOT / "common" / "svc" / "lua" / "put.lua").read_text(encoding="utf-8")
    record, count = writer.records["homework"], int(8000 * session.seconds)
    try:
        for server, waiting in servers.values():
            subprocess.run([str(session.built / "bench" / "bench_rows"), "fill", server.url, str(waiting)], capture_output=True, check=True)
            server.cli("-x", "SCRIPT", "LOAD", input=text)
            pin(server.process.pid or 0, core)

        def pending(server: BareRedis) -> int:
            return int(server.cli("ZCARD", "wb:pending:homework"))

        def side(server: BareRedis) -> Callable[[], dict[str, float]]:
            def once() -> dict[str, float]:
                pid, there = server.process.pid or 0, pending(server)
                before = cpu_us(pid)
                out = subprocess.run([program("taskset", "util-linux"), "-c", str(load), program("redis-benchmark", "redis-tools"), "-h", HOST, "-p",
                                      str(server.port), "-c", "64", "-n", str(count), "-r", "2000000000", "--csv", *record.arguments],
                                     capture_output=True, check=True).stdout
                spent = cpu_us(pid) - before
                if pending(server) < there + 0.99 * count:  # its seed is time ^ pid, which two runs can share: the same ids cost less
                    return once()
                return {"us": 1e6 / float(out.rstrip().rsplit(b",", 7)[1].strip(b'"')), "cpu": spent / count}
            return once

        seen = alternate(session.rounds, {name: side(server) for name, (server, _) in servers.items()}, [server.process.pid or 0 for server, _ in servers.values()])
        left = [pending(servers[name][0]) for name in ("small", "full")]
        session.add("cost of a write, a million pending, to ten thousand", "µs of Redis", seen["full"]["cpu"], seen["small"]["cpu"], 1.1, least=False,
                    us=seen["full"]["us"], reference_us=seen["small"]["us"], small_at_the_end=left[0], full_at_the_end=left[1])
    finally:
        for server, _ in servers.values():
            server.process.kill()


# ---- all of it -------------------------------------------------------------------------------------------------------------------------

@contextlib.contextmanager
def writer_of(session: Session) -> Iterator[Writer]:
    bed = WriterBed(session.built, session.folder / "stack")
    try:
        bed.start(on_database=lambda _: bed.make_tables())
        yield Writer(bed, session.folder)
    finally:
        for process in bed.processes.values():
            process.kill()


def measure(session: Session, wanted: list[str]) -> None:
    alone: Mapping[str, Callable[[Session], None]] = {"flush": flush_part, "memory": memory_part}
    together: Mapping[str, Callable[[Session, Writer], None]] = {"redis": redis_part, "disk": disk_part, "database": database_part, "latency": latency_part,
                                                                 "pending": pending_part}
    if set(wanted) & set(together):
        with writer_of(session) as writer:
            for name, part in together.items():
                if name in wanted:
                    part(session, writer)
    for name, part_alone in alone.items():
        if name in wanted:
            part_alone(session)


def main() -> int:
    return run("write", "The write path beside what it stands on and what it replaces.", PARTS, measure,
               "cpu_us: of the daemon, for each request; store: of Redis or PostgreSQL.")


if __name__ == "__main__":
    sys.exit(main())
