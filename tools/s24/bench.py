# SPDX-License-Identifier: Apache-2.0
"""What every benchmark stands on: loads, CPU times, rounds that alternate, servers without anything of ours, the table that is printed.

A benchmark runs real servers in a scratch folder, in the release build, the server on one core and the load on another. It prints a line and a JSON
line for each figure: name, ours, reference, ratio, goal, met.
"""
from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .base import HOST, Account, Process, StackError, accepts, free_ports, program, raise_file_limit, wait_for

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
            others = others_percent(lambda: results.update({name: sides[name]()}), pids)
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


# ---- servers without anything of ours --------------------------------------------------------------------------------------------------

NGINX = """
worker_processes 1;
daemon off;
master_process off;
pid nginx.pid;
error_log error.log;
worker_rlimit_nofile 20000;
events { worker_connections 15000; }
http {
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 300s;
    client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
    @HTTP@
    server {
        listen @LISTEN@ backlog=4096;
        @SERVER@
    }
}
"""


class Nginx:
    """One process. `http`, `server`: lines of these blocks of its configuration."""

    def __init__(self, folder: pathlib.Path, server: str, http: str = "") -> None:
        self.port = free_ports(1)[0]
        self.folder = folder
        folder.mkdir(exist_ok=True)
        conf = NGINX.replace("@HTTP@", http).replace("@LISTEN@", f"{HOST}:{self.port}").replace("@SERVER@", server)
        (folder / "nginx.conf").write_text(conf, encoding="utf-8")
        self.process = Process("nginx", folder, folder / "nginx.log", Account(os.getuid(), os.getgid()))
        self.start()

    def start(self) -> None:
        self.process.start([program("nginx", "nginx"), "-c", str(self.folder / "nginx.conf"), "-p", str(self.folder), "-e", "stderr"])
        self.process.wait_ready(lambda: accepts(self.port))


def header_lines(headers: Mapping[str, str]) -> str:
    """The header lines of one of our answers, for nginx to send as well."""
    own = ("date", "content-length", "connection", "content-type")
    return " ".join(f"add_header {name} '{value}';" if '"' in value else f'add_header {name} "{value}";' for name, value in headers.items() if name not in own)


class BareRedis:
    """A server of its own, without file and users."""

    def __init__(self, folder: pathlib.Path, name: str) -> None:
        folder.mkdir(exist_ok=True)
        self.port = free_ports(1)[0]
        self.url = f"redis://{HOST}:{self.port}/0"
        self.process = Process(name, folder, folder / f"{name}.log", Account(os.getuid(), os.getgid()))
        self.process.start([program("redis-server", "redis-server"), "--port", str(self.port), "--bind", HOST, "--save", "", "--dir", str(folder)])
        wait_for(name, lambda: self.cli("PING").strip() == "PONG", 10)

    def cli(self, *words: str, **more: Any) -> str:
        return subprocess.run([program("redis-cli", "redis-tools"), "-h", HOST, "-p", str(self.port), *words], capture_output=True, text=True, check=False,
                              **more).stdout


# ---- a run -------------------------------------------------------------------------------------------------------------------------------

class Session:
    """What to measure, and where the figures go."""

    def __init__(self, rounds: int, seconds: float, built: pathlib.Path, folder: pathlib.Path) -> None:
        self.rounds, self.seconds, self.built, self.folder = rounds, seconds, built, folder
        self.report = Report()
        self.add = self.report.add
        self.server_core, self.load_core = cores()


def run(name: str, description: str, parts: Sequence[str], measure: Callable[[Any, list[str]], None], legend: str, *, rounds: int = 3,
        session_type: type[Session] = Session) -> int:
    """The command: its arguments, a scratch folder, the table, the figures once more as JSON. `legend`: of the table's last column."""
    parser = argparse.ArgumentParser(prog=f"./s24 bench {name}", description=description)
    parser.add_argument("parts", nargs="*", choices=[*parts, []], help="all of them without a name")
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--seconds", type=float, default=2, help="of each load")
    arguments = parser.parse_args()
    raise_file_limit()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the servers go too
    folder = pathlib.Path(tempfile.mkdtemp(prefix="s24-bench-"))
    folder.chmod(0o755)
    session = session_type(arguments.rounds, arguments.seconds, pathlib.Path(os.environ["S24_BUILD"]), folder)
    began = time.monotonic()
    try:
        print(Report.heading())
        measure(session, arguments.parts or list(parts))
    except (StackError, subprocess.CalledProcessError) as error:
        print(f"bench {name}: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"\n{time.monotonic() - began:.0f} s. {legend}\nothers_percent: of the whole machine, used by other programs meanwhile; where that is much, "
          "rates are noise and CPU times stand.\n")
    for figure in session.report.figures:
        print(json.dumps(figure, ensure_ascii=False))
    return 0
