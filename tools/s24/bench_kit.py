# SPDX-License-Identifier: Apache-2.0
"""./s24 bench kit: what the kit costs beside what it stands on, in one run, rounds alternated, medians compared.

The servers are real: a system of its own in a scratch folder, the release build, settings as in production but for the rate limit. Server on
one core, load on another. Prints a table, and one JSON line for each figure: name, ours, reference, ratio, goal, met.
"""
from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from .base import HOST, Account, Process, StackError, accepts, free_ports, program, raise_file_limit
from .client import Client
from .seed import seed
from .stack import Stack, test_ports

NGINX = """
worker_processes 1;
daemon off;
master_process off;
pid nginx.pid;
error_log error.log;
worker_rlimit_nofile 20000;
events {{ worker_connections 15000; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 300s;
    client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
    server {{
        listen {host}:{port} backlog=4096;
        location = /bare {{ default_type application/json; return 200 '{body}'; }}
        location = /same {{ default_type application/json; {headers} return 200 '{body}'; }}
    }}
}}
"""
QUIET_PERCENT, PATIENCE_S = 20, 4


# ---- measuring -----------------------------------------------------------------------------------------------------------------

def cores() -> tuple[int, int]:
    """The server's and the load's."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[-1]


def pin(pid: int, core: int) -> None:
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), {core})


def cpu_us(pid: int) -> float:
    """What all threads of a process have used so far."""
    total = 0
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text(encoding="ascii").split()[0])
    return total / 1000


def family_us(parent: int) -> float:
    """What the children of a process have used, those of PostgreSQL: those that live, and those that have ended."""
    def stat(folder: pathlib.Path) -> list[str]:
        return (folder / "stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()

    def ended() -> list[str]:
        return stat(pathlib.Path(f"/proc/{parent}"))[13:15]

    while True:
        before, living = ended(), 0
        for folder in pathlib.Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if folder.name.isdigit() and stat(folder)[1] == str(parent):
                    living += int((folder / "schedstat").read_text(encoding="ascii").split()[0])
        if ended() == before:  # else one has ended meanwhile, and stands on both sides or on neither
            return living / 1000 + sum(map(int, before)) * 1e6 / os.sysconf("SC_CLK_TCK")


def memory(pid: int, what: str) -> int:
    """VmRSS: all resident; RssAnon: the process's own."""
    found = re.search(rf"^{what}:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text(encoding="ascii"), re.MULTILINE)
    assert found is not None
    return int(found.group(1)) * 1024


class Load:
    """One wrk run."""

    def __init__(self, url: str, connections: int, seconds: float, core: int, *, script: pathlib.Path | None = None, server_pid: int) -> None:
        command = [program("taskset", "util-linux"), "-c", str(core), program("wrk", "wrk"), "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s",
                   "--timeout", "10s", "--latency", *(["-s", str(script)] if script else []), url]
        before = cpu_us(server_pid)
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        spent = cpu_us(server_pid) - before
        errors = re.search(r"(Socket errors|Non-2xx)[^\n]*", text)
        if errors:
            raise StackError(f"{url} with {connections} connections: {errors.group(0)}")
        rate, count, p50, p99 = (re.search(pattern, text) for pattern in (r"Requests/sec:\s+([\d.]+)", r"(\d+) requests in", r"50%\s+([\d.]+)(us|ms|s)",
                                                                          r"99%\s+([\d.]+)(us|ms|s)"))
        assert rate and count and p50 and p99
        self.rate = float(rate.group(1))
        if self.rate == 0:
            raise StackError(f"{url} with {connections} connections: not one answer in {seconds:g} s")
        self.cpu_us = spent / max(1, int(count.group(1)))
        self.p50_us, self.p99_us = (float(found.group(1)) * {"us": 1, "ms": 1e3, "s": 1e6}[found.group(2)] for found in (p50, p99))


def machine_us() -> tuple[float, float]:
    """Time of all cores since the start of the machine: that programs have used, and all of it."""
    times = [int(word) * 1e6 / os.sysconf("SC_CLK_TCK") for word in pathlib.Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]]
    return sum(times[:3]), sum(times)


def own_us(pids: Sequence[int]) -> float:
    mine = os.times()
    return sum(cpu_us(pid) + family_us(pid) for pid in pids) + 1e6 * (mine.user + mine.system + mine.children_user + mine.children_system)


def others_percent(work: Callable[[], object], pids: Sequence[int]) -> float:
    """How much of all cores other programs had while the work ran."""
    before, own = machine_us(), own_us(pids)
    work()
    after = machine_us()
    return 100 * max(0, after[0] - before[0] - (own_us(pids) - own)) / max(1, after[1] - before[1])


def wait_for_quiet(pids: Sequence[int]) -> None:
    """Builds come in bursts: a round waits for the end of one, but not long."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end and others_percent(lambda: time.sleep(0.2), pids) > QUIET_PERCENT:
        pass


def alternate(rounds: int, sides: Mapping[str, Callable[[], dict[str, float]]], pids: Sequence[int] = ()) -> dict[str, dict[str, float]]:
    """Runs the sides in turn and returns the median of each value; neighbours in time meet the same noise. `pids`: the servers. Rounds during
    which other programs had much of the machine do not count, as long as three others are left."""
    seen: list[dict[str, dict[str, float]]] = []
    for at in range(rounds):
        results: dict[str, dict[str, float]] = {}
        for name in list(sides) if at % 2 == 0 else reversed(list(sides)):
            if pids:
                wait_for_quiet(pids)
            others = others_percent(lambda: results.update({name: sides[name]()}), pids)  # noqa: B023
            results[name]["others"] = others if pids else 0
        seen.append(results)
    seen.sort(key=lambda one: max(side["others"] for side in one.values()))
    kept = [one for at, one in enumerate(seen) if at < 3 or max(side["others"] for side in one.values()) <= QUIET_PERCENT]
    return {name: {value: statistics.median(one[name][value] for one in kept) for value in kept[0][name]} for name in sides}


class Report:
    """Collects the figures. A ratio is ours to the reference; `least` says whether the goal is a floor or a ceiling."""

    def __init__(self) -> None:
        self.figures: list[dict[str, Any]] = []

    def add(self, name: str, unit: str, ours: float, reference: float | None, goal: float | None, *, least: bool = True, **more: float) -> None:
        ratio = ours / reference if reference else None
        judged = ratio if ratio is not None else ours
        met = None if goal is None else judged >= goal if least else judged <= goal
        figure = {"name": name, "unit": unit, "ours": round(ours, 2), "reference": None if reference is None else round(reference, 2),
                  "ratio": None if ratio is None else round(ratio, 3), "goal": goal, "goal_is": "least" if least else "most", "met": met,
                  **{key: round(value, 2) for key, value in more.items()}}
        self.figures.append(figure)
        print(self.line(figure), flush=True)

    @staticmethod
    def heading() -> str:
        return f"{'figure':<58} {'ours':>11} {'reference':>11} {'ratio':>7} {'goal':>8}       more"

    @staticmethod
    def line(figure: dict[str, Any]) -> str:
        def number(value: float | None) -> str:
            return "" if value is None else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"

        sign = "≥" if figure["goal_is"] == "least" else "≤"
        goal = "" if figure["goal"] is None else f"{sign} {figure['goal']:g}"
        verdict = {True: "met", False: "MISS", None: ""}[figure["met"]]
        more = ", ".join(f"{key} {number(value)}" for key, value in list(figure.items())[8:])
        return (f"{figure['name'] + ', ' + figure['unit']:<58} {number(figure['ours']):>11} {number(figure['reference']):>11} "
                f"{number(figure['ratio']):>7} {goal:>8}  {verdict:<4} {more}")


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


class Nginx:
    """Answers with the same body: /bare with its own header lines alone, /same with ours too."""

    def __init__(self, folder: pathlib.Path, body: bytes, headers: dict[str, str]) -> None:
        self.port = free_ports(1)[0]
        self.folder = folder
        folder.mkdir()
        own = ("date", "content-length", "connection", "content-type")
        lines = " ".join(f'add_header {name} "{value}";' for name, value in headers.items() if name not in own)
        (folder / "nginx.conf").write_text(NGINX.format(host=HOST, port=self.port, body=body.decode(), headers=lines), encoding="utf-8")
        self.process = Process("nginx", folder, folder / "nginx.log", Account(os.getuid(), os.getgid()))
        self.start()

    def start(self) -> None:
        self.process.start([program("nginx", "nginx"), "-c", str(self.folder / "nginx.conf"), "-p", str(self.folder), "-e", "stderr"])
        self.process.wait_ready(lambda: accepts(self.port))


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


def measure(arguments: argparse.Namespace, built: pathlib.Path, folder: pathlib.Path, report: Report) -> None:
    wanted = arguments.only.split(",")
    if "json" in wanted:
        json_codec(built / "bench" / "bench_json", report)
    if set(wanted) <= {"json"}:
        return
    with bed_of(built, folder) as bed:
        if "start" in wanted:
            start_and_memory(bed, report, arguments.rounds)
        if {"route", "idle"} & set(wanted):
            answer = Client(bed.services["homework"].admin_url).request("GET", "/health", bare=True)
            nginx = Nginx(folder / "nginx", answer.body, answer.headers)
            try:
                if "idle" in wanted:
                    idle_connections(bed, nginx, report, min(3, arguments.rounds))
                if "route" in wanted:
                    smallest_route(bed, nginx, report, arguments.rounds, arguments.seconds)
            finally:
                nginx.process.kill()


def main() -> int:
    parser = argparse.ArgumentParser(prog="./s24 bench kit", description="The kit beside what it stands on.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2, help="of each load")
    parser.add_argument("--only", default="json,start,idle,route", help="parts, with commas")
    arguments = parser.parse_args()
    raise_file_limit()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="s24-bench-"))
    folder.chmod(0o755)
    report = Report()
    try:
        print(report.heading())
        measure(arguments, pathlib.Path(os.environ["S24_BUILD"]), folder, report)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print("cpu_us: of the server, for each request. cpu_ratio: the reference's to ours, where the one core decides. others_percent: of the whole\n"
          "machine, used by other programs meanwhile; where that is much, the rates are noise and the ratios of CPU time stand.\n")
    for figure in report.figures:
        print(json.dumps(figure, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (StackError, subprocess.CalledProcessError) as error:
        print(f"bench kit: {error}", file=sys.stderr)
        sys.exit(1)
