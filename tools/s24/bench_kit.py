# SPDX-License-Identifier: Apache-2.0
"""./s24 bench kit: what the kit costs beside what it stands on, in one run, rounds alternated, medians compared.

The servers are real: a system of its own in a scratch folder, the release build, settings as in production but for the rate limit. Server on
one core, load on another. Prints a table, and one JSON line for each figure: name, ours, reference, ratio, goal, met.
"""
from __future__ import annotations

import contextlib
import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from .base import HOST, Account, Process, StackError, program
from .bench import Load, Nginx, Report, Session, alternate, cores, header_lines, memory, pin, run
from .client import Client
from .seed import seed
from .stack import Stack, test_ports

PARTS = ("json", "start", "idle", "route")


# ---- the servers ---------------------------------------------------------------------------------------------------------------

class Bed(Stack):
    """auth and homework over their stores, without worker: what it would flush meanwhile is another figure."""

    def __init__(self, binaries: pathlib.Path, folder: pathlib.Path) -> None:
        super().__init__(folder, binaries, test_ports(), environment="test", names=["auth", "homework"], settings={"RATE_LIMIT_PER_MINUTE": "0"},
                         daemon_account=Account(os.getuid(), os.getgid()))

    @property
    def has_worker(self) -> bool:
        return False

    def start_daemons(self) -> None:
        self.configure_redis()
        self.configure()
        # The worker's verdict, which a daemon needs to be ready. It is true: the stack sets appendfsync so.
        self.buffer.client().set("wb:durability", f"{self.durability} {time.time_ns() // 1000000}")
        self.buffer.client().config_set("auto-aof-rewrite-percentage", 0)  # a fork in the middle of a round is noise
        for service in self.daemons:
            service.start()


def restart(process: Process, start: Callable[[], None], core: int) -> int:
    """Memory is measured in fresh processes: what load has left in the heap would hide the growth."""
    process.stop()
    start()
    pid = process.pid
    assert pid is not None
    pin(pid, core)
    return pid


# ---- 1: the smallest route, idle connections -------------------------------------------------------------------------------

def smallest_route(bed: Bed, nginx: Nginx, report: Report, rounds: int, seconds: float) -> None:
    server, load = cores()
    homework = bed.services["homework"]
    pids = {"ours": homework.process.pid or 0, "nginx": nginx.process.pid or 0}
    for pid in pids.values():
        pin(pid, server)

    def side(url: str, connections: int, who: str) -> Callable[[], dict[str, float]]:
        def once() -> dict[str, float]:
            run = Load(url, connections, seconds, load, server_pid=pids[who])
            return {"rate": run.rate, "cpu": run.cpu_us}
        return once

    base = f"http://{HOST}:{nginx.port}"
    for connections, goal in ((64, 0.95), (1000, 0.9), (10000, 1.0)):
        sides = {"ours": side(homework.admin_url + "/health", connections, "ours"), "nginx": side(base + "/bare", connections, "nginx"),
                 "same": side(base + "/same", connections, "nginx")}
        seen = alternate(rounds, sides, [*pids.values()])
        for name, reference, least in (("smallest route", "nginx", goal), ("- beside nginx with our header lines", "same", None)):
            ours, theirs = seen["ours"], seen[reference]
            report.add(f"{name}, {connections} connections", "requests/s", ours["rate"], theirs["rate"], least, cpu_us=ours["cpu"],
                       reference_cpu_us=theirs["cpu"], cpu_ratio=theirs["cpu"] / ours["cpu"], others_percent=max(ours["others"], theirs["others"]))


def visit(port: int, path: str, count: int, opened: list[socket.socket]) -> None:
    """Connections that have had one answer and wait."""
    for _ in range(count):
        one = socket.create_connection((HOST, port), timeout=10)
        opened.append(one)
        one.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
        if not one.recv(4096).startswith(b"HTTP/1.1 200"):
            raise StackError(f"port {port} does not answer {path}")


def idle_bytes(pid: int, port: int, path: str, count: int) -> float:
    opened: list[socket.socket] = []
    try:
        visit(port, path, 200, opened)  # what the first connections need once
        before = memory(pid, "RssAnon")
        visit(port, path, count, opened)
        return (memory(pid, "RssAnon") - before) / count
    finally:
        for one in opened:
            one.close()


def idle_connections(bed: Bed, nginx: Nginx, report: Report, rounds: int) -> None:
    server, _ = cores()
    homework = bed.services["homework"]

    def ours() -> dict[str, float]:
        return {"bytes": idle_bytes(restart(homework.process, homework.start, server), homework.admin_port, "/health", 10000)}

    def theirs() -> dict[str, float]:
        return {"bytes": idle_bytes(restart(nginx.process, nginx.start, server), nginx.port, "/bare", 10000)}

    seen = alternate(rounds, {"ours": ours, "nginx": theirs})
    report.add("idle keep-alive connection of 10,000, user memory", "bytes", seen["ours"]["bytes"], seen["nginx"]["bytes"], 1.0, least=False)


# ---- start and memory of a daemon ------------------------------------------------------------------------------------------------

def start_and_memory(bed: Bed, report: Report, rounds: int) -> None:
    homework = bed.services["homework"]
    starts, resident, own, stops = [], [], [], []
    probe = b"GET /ready HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"
    for _ in range(rounds):
        began = time.monotonic()
        homework.stop()
        stops.append((time.monotonic() - began) * 1000)
        began = time.monotonic()
        homework.start(wait=False)
        while True:
            with contextlib.suppress(OSError), socket.create_connection((HOST, homework.admin_port), timeout=1) as one:
                one.sendall(probe)
                if one.recv(4096).startswith(b"HTTP/1.1 200"):
                    break
            if time.monotonic() > began + 10:
                raise StackError("homework is not ready after 10 s")
            time.sleep(0.001)
        starts.append((time.monotonic() - began) * 1000)
        pid = homework.process.pid
        assert pid is not None
        time.sleep(0.3)
        resident.append(memory(pid, "VmRSS") / 1e6)
        own.append(memory(pid, "RssAnon") / 1e6)
    report.add("start of a daemon to ready", "ms", statistics.median(starts), None, 100, least=False)
    report.add("stop of an idle daemon", "ms", statistics.median(stops), None, None, least=False)
    report.add("resident memory of an idle daemon", "MB", statistics.median(resident), None, 12, least=False, anonymous=statistics.median(own))


# ---- 2: JSON -----------------------------------------------------------------------------------------------------------------------

def json_codec(binary: pathlib.Path, report: Report) -> None:
    out = subprocess.run([program("taskset", "util-linux"), "-c", str(cores()[0]), str(binary)], capture_output=True, text=True, check=True).stdout
    for name, one in json.loads(out).items():
        if isinstance(one, dict):
            # A speed, so that more is better: bodies a second, of which the program prints the inverse.
            report.add(f"decode, validate, encode: {name}, {one['bytes']} B, against jansson", "bodies/s", 1e9 / one["ours_ns"], 1e9 / one["jansson_ns"], 8,
                       ns=one["ours_ns"], jansson_ns=one["jansson_ns"])


# ---- all of it ---------------------------------------------------------------------------------------------------------------------

@contextlib.contextmanager
def bed_of(built: pathlib.Path, folder: pathlib.Path) -> Iterator[Bed]:
    bed = Bed(built / "bin", folder / "stack")
    try:
        bed.start(on_database=lambda own: seed(own.postgres, small=True))
        yield bed
    finally:
        for process in bed.processes.values():
            process.kill()


def same_answer(bed: Bed, folder: pathlib.Path) -> Nginx:
    """nginx with the body of the smallest route: /bare with its own header lines alone, /same with ours too."""
    answer = Client(bed.services["homework"].admin_url).request("GET", "/health", bare=True)

    def location(name: str, lines: str) -> str:
        return f"location = /{name} {{ default_type application/json; {lines} return 200 '{answer.body.decode()}'; }}"

    return Nginx(folder / "nginx", location("bare", "") + location("same", header_lines(answer.headers)))


def measure(session: Session, wanted: list[str]) -> None:
    if "json" in wanted:
        json_codec(session.built / "bench" / "bench_json", session.report)
    if set(wanted) <= {"json"}:
        return
    with bed_of(session.built, session.folder) as bed:
        if "start" in wanted:
            start_and_memory(bed, session.report, session.rounds)
        if {"route", "idle"} & set(wanted):
            nginx = same_answer(bed, session.folder)
            try:
                if "idle" in wanted:
                    idle_connections(bed, nginx, session.report, min(3, session.rounds))
                if "route" in wanted:
                    smallest_route(bed, nginx, session.report, session.rounds, session.seconds)
            finally:
                nginx.process.kill()


def main() -> int:
    return run("kit", "The kit beside what it stands on.", PARTS, measure,
               "cpu_us: of the server, for each request. cpu_ratio: the reference's to ours, where the one core decides.", rounds=7)


if __name__ == "__main__":
    sys.exit(main())
