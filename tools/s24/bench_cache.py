# SPDX-License-Identifier: Apache-2.0
"""./s24 bench cache: the cache engine beside redis-benchmark, a pipelining Node client and nginx, in one run, rounds alternated, medians compared.

The engine's own figures come from tests/bench/bench_cache.c over a Redis without file and users; the answers over HTTP from real daemons. Redis or
server has a core, the load the other. `at_most`: what the busier of the two processes could do with a core of its own, from its CPU time: the
figure that other programs on the machine do not disturb.
"""
from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

from .base import HOST, ROOT, StackError, program
from .bench import BareRedis, Load, Nginx, Session, alternate, cpu_us, header_lines, pin, run, wait_for_quiet
from .bench_kit import Bed
from .client import Client
from .seed import logins, seed

PARTS = ("ops", "tags", "million", "herd", "http", "frozen")
VALUE_BYTES, IN_FLIGHT, LIST_BYTES = 1126, 64, 10240


class CacheSession(Session):
    """A run with a program of its own, and a Redis for it."""

    @property
    def program(self) -> pathlib.Path:
        return self.built / "bench" / "bench_cache"

    def on_load_core(self, *command: str, **more: Any) -> str:
        run = subprocess.run([program("taskset", "util-linux"), "-c", str(self.load_core), *command], capture_output=True, text=True, check=False, **more)
        if run.returncode != 0:
            raise StackError(f"{command[0]} ended with {run.returncode}: {run.stderr[-500:]}")
        return run.stdout

    def ours(self, *words: str) -> dict[str, Any]:
        return json.loads(self.on_load_core(str(self.program), *words))

    @contextlib.contextmanager
    def redis(self) -> Iterator[BareRedis]:
        server = BareRedis(self.folder / "bare", "bare")
        try:
            pin(server.process.pid or 0, self.server_core)
            yield server
        finally:
            server.process.kill()
            shutil.rmtree(self.folder / "bare", ignore_errors=True)


def at_most(side: dict[str, float]) -> float:
    return 1e6 / max(side["cpu_us"], side["redis_us"])


# ---- ops: set and get ------------------------------------------------------------------------------------------------------------------

def ops_part(session: CacheSession) -> None:
    count = int(40000 * session.seconds)
    with session.redis() as server:
        pid = server.process.pid or 0

        def measured(run: Callable[[], dict[str, float]]) -> dict[str, float]:
            """What a client program tells, with Redis' share."""
            before = cpu_us(pid)
            out = run()
            return out | {"redis_us": (cpu_us(pid) - before) / count}

        def flat(out: dict[str, dict[str, float]]) -> dict[str, float]:
            return {f"{what}.{name}": value for what, one in out.items() for name, value in one.items()}

        def node(what: str) -> dict[str, float]:
            return measured(lambda: json.loads(session.on_load_core(program("node", "nodejs"), str(ROOT / "tests" / "bench" / "pipelined_client.mjs"), str(server.port), what,
                                                                    str(count), str(IN_FLIGHT), str(VALUE_BYTES))))

        def benchmark(what: str, clients: int) -> dict[str, float]:
            def run() -> dict[str, float]:
                out = session.on_load_core(program("redis-benchmark", "redis-tools"), "-h", HOST, "-p", str(server.port), "-t", what, "-d", str(VALUE_BYTES), "-r", "10000",
                                           "-c", str(clients), "-P", str(IN_FLIGHT // clients), "-n", str(count), "--csv")
                return {"rate": float(out.splitlines()[1].split(",")[1].strip('"')), "cpu_us": 0.001}
            return measured(run)

        sides = {"ours": lambda: flat(session.ours("ops", server.url, str(count))),
                 "node": lambda: flat({"set": node("set"), "get": node("get")}),
                 "pipe": lambda: flat({"set": benchmark("set", 1), "get": benchmark("get", 1)}),
                 "many": lambda: flat({"set": benchmark("set", IN_FLIGHT), "get": benchmark("get", IN_FLIGHT)})}
        seen = alternate(session.rounds, sides, [pid])

    def side(who: str, what: str) -> dict[str, float]:
        return {name: seen[who][f"{what}.{name}"] for name in ("rate", "cpu_us", "redis_us")}

    for what, goal in (("set", 217000), ("get", 210000)):
        theirs = side("node", what)
        for form, text in ((what, ""), (f"{what}_tagged", ", with a tag")):
            ours = side("ours", form)
            session.add(f"{what}, 1.1 KB, 64 in flight{text}, to Node's raw client", "ops/s", ours["rate"], theirs["rate"], 1.0, others_percent=seen["ours"]["others"])
            session.add("- at most, by CPU time", "ops/s", at_most(ours), at_most(theirs), 1.0, cpu_us=ours["cpu_us"], redis_us=ours["redis_us"],
                        node_cpu_us=theirs["cpu_us"], node_redis_us=theirs["redis_us"])
            session.add("- at most, to the goal in numbers", "ops/s", at_most(ours), None, goal)
        for who, text in (("pipe", "1 client, 64 deep"), ("many", "64 clients")):
            session.add(f"- rate, to redis-benchmark, {text}", "ops/s", side("ours", what)["rate"], side(who, what)["rate"], None, redis_us=side("ours", what)["redis_us"],
                        reference_redis_us=side(who, what)["redis_us"])


# ---- tags --------------------------------------------------------------------------------------------------------------------------------

def tags_part(session: CacheSession) -> None:
    entries = int(20000 * session.seconds)
    with session.redis() as server:
        for each, goal in ((10, 331000), (1000, 700000)):
            rounds = [session.ours("tags", server.url, str(entries), str(each)) for _ in range(session.rounds)]

            def middle(what: str, name: str, rounds: list[dict[str, Any]] = rounds) -> float:
                return statistics.median(one[what][name] for one in rounds)

            for what, text in (("raise", "made unreachable"), ("raise_alone", "made unreachable, a call a tag"), ("drop", "counted and freed")):
                one = {name: middle(what, name) for name in ("rate", "cpu_us", "redis_us")}
                session.add(f"{each} keys a tag, {text}", "keys/s", one["rate"], None, goal, at_most=at_most(one), redis_us=one["redis_us"], cpu_us=one["cpu_us"])


def prefer(pid: int) -> None:
    """Before other programs of the machine, where we may: how long Redis is busy is asked, not how long it waits for a core."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, -15)


def million_part(session: CacheSession) -> None:
    entries = 1000000
    with session.redis() as server:
        prefer(server.process.pid or 0)

        command = [program("taskset", "util-linux"), "-c", str(session.load_core), str(session.program), "million", server.url, str(entries)]

        def ping(seconds: float) -> subprocess.Popen[str]:
            pinger = subprocess.Popen([*command[:4], "ping", server.url, str(seconds)], stdout=subprocess.PIPE, text=True)
            prefer(pinger.pid)
            return pinger

        before = json.loads(ping(2).communicate()[0])
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as dropper:
            assert dropper.stdin and dropper.stdout and dropper.stderr
            while "filled" not in (line := dropper.stderr.readline()):
                if not line:
                    raise StackError("the million entries could not be filled")
            wait_for_quiet([server.process.pid or 0])
            pinger = ping(15)
            time.sleep(0.3)
            dropper.stdin.write("\n")
            dropper.stdin.flush()
            out = json.loads(dropper.stdout.readline())
        longest = json.loads(pinger.communicate()[0])
        session.add("a tag of a million dropped: another client's longest PING", "ms", longest["longest_ms"], None, 5, least=False, idle_ms=before["longest_ms"],
                    over_1_ms=longest["over_1_ms"], pings=longest["pings"], drop_s=out["drop_s"], keys_a_second=out["keys"])
        session.add("- Redis' CPU time of one call of it", "ms", out["call_ms"], None, 5, least=False)


def herd_part(session: CacheSession) -> None:
    with session.redis() as server:
        rounds = [json.loads(subprocess.run([str(session.program), "herd", server.url, "4", "50"], capture_output=True, text=True, check=True).stdout)
                  for _ in range(max(5, session.rounds))]
    session.add("four processes, 50 callers each, one missing key: calls", "calls", max(one["source_calls"] for one in rounds), None, 1, least=False,
                wrong=max(one["wrong"] for one in rounds))
    session.add("- the last is released after the filling", "ms", statistics.median(one["released_ms"] for one in rounds), None, 10, least=False,
                worst=max(one["released_ms"] for one in rounds))


# ---- over HTTP ---------------------------------------------------------------------------------------------------------------------------

class ListBed(Bed):
    """auth and homework, with a teacher's list of homework and a school's list of classes of 10 KB each."""

    def sign_in(self) -> None:
        teacher, who = Client(self.services["auth"].url), logins()["teacher"]
        if teacher.login(who["email"], who["password"]).status != 200:
            raise StackError("the demo teacher cannot log in")
        self.teacher, self.auth_client = Client(self.services["homework"].url, teacher.token), teacher

    def grow(self, path: str) -> bytes:
        option = self.teacher.get("/teacher/homework/options").json["options"][0]
        body = {"class_id": option["class_id"], "subject_id": option["subjects"][0]["subject_id"], "due_date": "2099-11-28", "max_marks": 25}
        for at in range(100):
            answer = self.teacher.get(path)
            if len(answer.body) >= LIST_BYTES - 300:
                return answer.body
            made = self.teacher.post("/teacher/homework", body | {"title": f"Quadratic equations, exercise 4.{at}"})
            if made.status != 201:
                raise StackError(f"a homework for the list: {made}")
        raise StackError("the list does not grow")

    def grow_classes(self, count: int) -> None:
        with self.postgres.cursor() as cursor:
            cursor.execute("SELECT column_name FROM information_schema.columns WHERE table_schema = 'auth' AND table_name = 'classes' AND is_generated = 'NEVER'")
            columns = [name for (name,) in cursor.fetchall()]
            values = [{"id": "gen_random_uuid()", "section": "'C' || n"}.get(name, f"c.{name}") for name in columns]
            cursor.execute(f"INSERT INTO auth.classes ({', '.join(columns)}) SELECT {', '.join(values)} FROM generate_series(1, {count}) n, "
                           "(SELECT c.* FROM auth.classes c JOIN auth.schools s ON s.id = c.school_id WHERE s.slug = 'sunrise' LIMIT 1) c")

    def daemon_again(self, name: str, **settings: str) -> int:
        service = self.services[name]
        service.process.stop(60)
        service.configure(service.settings, {key: value for key, value in service.environment.items() if key not in settings} | settings)
        service.start()
        assert service.process.pid is not None
        return service.process.pid


class FileNginx:
    """nginx with the same bytes in a file that lies in memory: /bare with its own header lines alone, /same with ours too."""

    def __init__(self, folder: pathlib.Path, body: bytes, headers: dict[str, str]) -> None:
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="s24-bench-", dir="/dev/shm"))
        for name in ("bare", "same"):
            (self.root / name).write_bytes(body)
        location = f"root {self.root}; default_type application/json;"
        nginx = Nginx(folder, f"location /bare {{ {location} }} location /same {{ {location} etag off; {header_lines(headers)} }}",
                      "sendfile on; tcp_nopush on; open_file_cache max=10 inactive=1h; open_file_cache_valid 1h;")
        self.port, self.process = nginx.port, nginx.process

    def close(self) -> None:
        self.process.kill()
        shutil.rmtree(self.root, ignore_errors=True)


class BareGet:
    """The kit's HTTP server with a GET to the cache's Redis behind it, and nothing between."""

    def __init__(self, session: CacheSession, bed: Bed, body: bytes) -> None:
        bed.cache.client().set("bench:list", body)
        url = bed.cache.url("operator", bed.cache.operator_password)
        self.process = subprocess.Popen([str(session.program), "serve", url, "bench:list"], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        self.port = int(self.process.stdout.readline())

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()


def script(session: CacheSession, name: str, token: str) -> pathlib.Path:
    path = session.folder / f"{name}.lua"
    path.write_text(f"wrk.headers['Authorization'] = 'Bearer {token}'\n", encoding="utf-8")
    return path


def http_part(session: CacheSession, bed: ListBed) -> None:
    path, classes = "/api/v1/teacher/homework?page_size=500", "/api/v1/classes"
    body = bed.grow(path)
    bed.grow_classes(39)
    with_token = script(session, "token", bed.teacher.token)
    redis_pid = bed.cache.process.pid or 0

    def side(url: str, pid: int, authorised: bool) -> Callable[[], dict[str, float]]:
        def once() -> dict[str, float]:
            pin(pid, session.server_core)
            pin(redis_pid, session.load_core)
            before = cpu_us(redis_pid)
            run = Load(url, 64, session.seconds, session.load_core, script=with_token if authorised else None, server_pid=pid)
            return {"rate": run.rate, "cpu": run.cpu_us, "redis": (cpu_us(redis_pid) - before) / (run.rate * session.seconds), "p99": run.p99_us}
        return once

    def compare(name: str, sides: dict[str, Callable[[], dict[str, float]]], pids: list[int], goal: float | None) -> None:
        seen = alternate(session.rounds, sides, pids)
        ours = seen.pop("ours")
        for reference, theirs in seen.items():
            session.add(f"{name}, to {reference}", "requests/s", ours["rate"], theirs["rate"], goal if not reference.startswith("-") else None, cpu_us=ours["cpu"],
                        reference_cpu_us=theirs["cpu"], redis_us=ours["redis"], reference_redis_us=theirs["redis"], p99=ours["p99"], others_percent=ours["others"])
            session.add("- by CPU time of the server", "requests/s", 1e6 / ours["cpu"], 1e6 / theirs["cpu"], goal if not reference.startswith("-") else None)

    def level(client: Client, path: str, wanted: str) -> dict[str, str]:
        for _ in range(3):
            answer = client.request("GET", path, bare=True)
        if answer.status != 200 or answer.headers.get("x-cache-level", "").lower() != wanted:
            raise StackError(f"{path}: not out of {wanted}: {answer.status} {answer.headers}")
        return answer.headers

    # Memory, unasked: what a school shares.
    pid = bed.daemon_again("auth")
    auth = Client(bed.services["auth"].url, bed.teacher.token)
    headers = level(auth, classes, "memory")
    shared = auth.request("GET", classes, bare=True).body
    nginx = FileNginx(session.folder / "nginx-classes", shared, headers)
    try:
        compare(f"out of memory, {len(shared) / 1024:.1f} KB, 64 connections",
                {"ours": side(bed.services["auth"].url + classes, pid, True), "nginx": side(f"http://{HOST}:{nginx.port}/bare", nginx.process.pid or 0, False),
                 "- nginx with our header lines": side(f"http://{HOST}:{nginx.port}/same", nginx.process.pid or 0, False)}, [pid, nginx.process.pid or 0, redis_pid], 0.8)
    finally:
        nginx.close()
    # A person's own: in memory with its epochs checked, and out of Redis.
    bare = BareGet(session, bed, body)
    nginx = FileNginx(session.folder / "nginx-list", body, {})
    try:
        for wanted, memory, goal in (("redis", "0", 0.85), ("memory", "32", None)):
            pid = bed.daemon_again("homework", CACHE_MEMORY_MB=memory)
            level(bed.teacher, path, wanted)
            text = "out of Redis" if wanted == "redis" else "in memory, checked in Redis"
            sides = {"ours": side(bed.services["homework"].url + path, pid, True), "a bare GET": side(f"http://{HOST}:{bare.port}/", bare.process.pid, False)}
            if wanted == "memory":
                sides["- nginx"] = side(f"http://{HOST}:{nginx.port}/bare", nginx.process.pid or 0, False)
            compare(f"homework list {text}, {len(body) / 1024:.1f} KB", sides, [pid, bare.process.pid, redis_pid], goal)
    finally:
        bare.close()
        nginx.close()


# ---- frozen ------------------------------------------------------------------------------------------------------------------------------

def frozen_part(session: CacheSession, bed: ListBed) -> None:
    """What the first request pays when Redis has just been stopped, beside those that know it."""
    path = "/api/v1/teacher/homework?page_size=20"

    def timed() -> float:
        began = time.monotonic()
        if bed.teacher.request("GET", path, bare=True).status != 200:
            raise StackError("a list was refused while the cache stood still")
        return (time.monotonic() - began) * 1000

    bed.daemon_again("homework", CACHE_ENABLED="false")
    source = statistics.median(timed() for _ in range(20 * session.rounds))
    bed.daemon_again("homework", CACHE_ENABLED="true")
    server = bed.cache.process
    cached, first, later = [], [], []
    for _ in range(10 * session.rounds):
        while bed.teacher.request("GET", path, bare=True).headers.get("x-cache") != "HIT":
            time.sleep(0.05)
        cached += [timed() for _ in range(5)]
        server.send(signal.SIGSTOP)
        try:
            first.append(timed())
            later += [timed() for _ in range(10)]
        finally:
            server.send(signal.SIGCONT)
    normal = statistics.median(later)
    session.add("Redis frozen: added to the first request, median", "ms", statistics.median(first) - normal, None, 5, least=False,
                worst=max(first) - normal, cached=statistics.median(cached))
    session.add("- to the others, against a daemon without cache, median", "ms", normal - source, None, 5, least=False, source=source)


# ---- all of it -------------------------------------------------------------------------------------------------------------------------

@contextlib.contextmanager
def bed_of(session: CacheSession) -> Iterator[ListBed]:
    bed = ListBed(session.built / "bin", session.folder / "stack")
    try:
        bed.start(on_database=lambda own: seed(own.postgres, small=True))
        bed.sign_in()
        yield bed
    finally:
        for process in bed.processes.values():
            process.kill()


def measure(session: CacheSession, wanted: list[str]) -> None:
    for name, alone in {"ops": ops_part, "tags": tags_part, "million": million_part, "herd": herd_part}.items():
        if name in wanted:
            alone(session)
    if {"http", "frozen"} & set(wanted):
        with bed_of(session) as bed:
            for name, part in {"http": http_part, "frozen": frozen_part}.items():
                if name in wanted:
                    part(session, bed)


def main() -> int:
    return run("cache", "The cache engine beside what it stands on and what it is compared with.", PARTS, measure,
               "cpu_us: of our process, for each; redis_us: of Redis. at_most: what the busier of the two could do on a core of its own.",
               session_type=CacheSession)


if __name__ == "__main__":
    sys.exit(main())
