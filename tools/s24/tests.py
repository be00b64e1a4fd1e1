# SPDX-License-Identifier: Apache-2.0
"""./s24 test, check, bench and fault."""
from __future__ import annotations

import argparse
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from .base import ROOT, StackError, free_ports
from .build import build, step
from .servers import Mongo
from .services import existing
from .stack import MONGO_SCRIPT

PYTHON = "/usr/bin/python3"
# Programs in which threads meet: the pool, what runs on it, and the worker's flush. Every commit runs them under ThreadSanitizer; `all` runs everything.
THREADED = ("test_log", "test_loop", "test_await", "test_afresh", "test_work", "test_storage", "test_docstore_versions", "test_documents",
            "test_worker_flush", "test_worker_flush_fails", "test_failpoint")
CORES = str(os.cpu_count() or 2)


def run(command: Sequence[str], **environment: str) -> tuple[int, str]:
    """Shows the output while it comes, and returns the exit code and the text."""
    print("s24: " + " ".join(command))
    lines = []
    with subprocess.Popen(list(command), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace", env={**os.environ, **environment}) as process:
        assert process.stdout is not None
        for line in process.stdout:
            sys.stdout.write(line)
            lines.append(line)
    return process.returncode, "".join(lines)


class Tally:
    """Counts what ctest and pytest say, for one closing line."""

    def __init__(self) -> None:
        self.passed = self.failed = self.skipped = 0
        self.broken: list[str] = []

    def ctest(self, folder: pathlib.Path, *more: str, **environment: str) -> None:
        code, text = run(["ctest", "--test-dir", str(folder), "--output-on-failure", "-j", CORES, "--no-tests=error", *more], **environment)
        match = re.search(r"tests passed, (\d+) tests failed out of (\d+)", text)
        if match:
            self.failed += int(match.group(1))
            self.passed += int(match.group(2)) - int(match.group(1))
        if code != 0:
            self.broken.append("ctest")

    def pytest(self, paths: Sequence[str], folder: pathlib.Path, *more: str) -> None:
        code, text = run([PYTHON, "-m", "pytest", "-ra", "-p", "no:cacheprovider", *more, *paths], S24_BUILD=str(folder), PYTHONDONTWRITEBYTECODE="1")
        for count, word in re.findall(r"(\d+) (passed|failed|errors?|skipped)", text.strip().splitlines()[-1] if text.strip() else ""):
            if word == "passed":
                self.passed += int(count)
            elif word == "skipped":
                self.skipped += int(count)
            else:
                self.failed += int(count)
        if code != 0:
            self.broken.append("pytest " + " ".join(paths))

    def close(self) -> int:
        for what in self.broken:
            print(f"s24: failed: {what}")
        print(f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped")
        return 1 if self.broken or self.failed else 0


@contextmanager
def mongo_server(prepare: bool) -> Iterator[dict[str, str]]:
    """What tells the tests of a real MongoDB server: S24_TEST_MONGO_URI, given from outside or of a server that lives as long as they do.
    `prepare`: take the minutes to build one; else only a server that starts in seconds. Without one the line says why."""
    if os.environ.get("S24_TEST_MONGO_URI"):
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="s24-mongo-") as folder:
        server = Mongo(MONGO_SCRIPT, pathlib.Path(folder) / "data", free_ports(1)[0])
        environment = {}
        if server.run("check" if prepare else "cached").returncode == 0:
            try:
                with step("a real MongoDB server"):
                    environment = {"S24_TEST_MONGO_URI": server.start()}
            except StackError as error:
                print(f"s24: {error}")
        if not environment:
            print("s24: the MongoDB half of the document store's tests is skipped: this machine has no server ready, see the line above")
        try:
            yield environment
        finally:
            server.stop()


def fuzz(tally: Tally) -> None:
    """Ten seconds of new input for each target."""
    with step("build with libFuzzer"):
        folder = build("fuzz")
    for target in sorted((folder / "fuzz").glob("fuzz_*")):
        if not os.access(target, os.X_OK) or target.is_dir():
            continue
        corpus = ROOT / "tests" / "fuzz" / "corpus" / target.name.removeprefix("fuzz_")
        found = folder / "found" / target.name
        found.mkdir(parents=True, exist_ok=True)
        code, _ = run([str(target), "-max_total_time=10", "-timeout=5", "-rss_limit_mb=2048", f"-artifact_prefix={found}/", "-print_final_stats=0",
                       "-verbosity=0", str(found), *([str(corpus)] if corpus.exists() else [])])
        tally.passed += code == 0
        tally.failed += code != 0


def threads(tally: Tally, everything: bool) -> None:
    names = [name for name in THREADED if (ROOT / "tests" / "unit" / f"{name}.c").exists()]
    with step("build with ThreadSanitizer"):
        folder = build("tsan", None if everything else names)
    tally.ctest(folder, *([] if everything else ["-R", f"^({'|'.join(names)})$"]))


def test(arguments: argparse.Namespace) -> int:
    suite, more = arguments.suite, [word for word in arguments.more if word != "--"]
    tally = Tally()
    if suite == "threads":
        threads(tally, everything=False)
        return tally.close()
    with step("build with sanitizers"):
        folder = build("asan")
    system = ["tests/integration", *(["tests/fault"] if list((ROOT / "tests" / "fault").glob("test_*.py")) else [])]
    if suite in ("", "unit", "all"):
        with mongo_server(prepare=suite == "all") as mongo:
            tally.ctest(folder, *(more if suite == "unit" else []), **mongo)
    if suite in ("", "integration"):
        tally.pytest(["tests/integration"], folder, "-m", "not long", *more)
    elif suite == "fault":
        tally.pytest(["tests/fault"], folder, *more)
    elif suite == "all":
        tally.pytest(system, folder, *more)
        threads(tally, everything=True)
        fuzz(tally)
    elif suite != "unit":
        paths = [path for path in (suite, f"tests/integration/{suite}", f"tests/integration/test_{suite}.py", f"tests/fault/test_{suite}.py")
                 if (ROOT / path.split("::")[0]).exists()]
        if not paths:
            raise StackError(f"no tests called {suite!r}: unit, integration, threads, fault, all, a file, or a name in tests/integration")
        tally.pytest(paths[:1], folder, *more)
    return tally.close()


FAULT_TARGETS = ("schools24-auth", "schools24-play", "schools24-fault-worker", "fault_shim", "fault_shim_memory")


def given(arguments: argparse.Namespace, *names: str) -> list[str]:
    """Options as they were given."""
    values = {name: getattr(arguments, name) for name in names}
    return [word for name, value in values.items() if value for word in ([f"--{name}"] if value is True else [f"--{name}", value])]


def simulate(folder: pathlib.Path, arguments: argparse.Namespace, *more: str) -> int:
    """The write path in one process, on simulated servers (tests/fault/README.md)."""
    return run([str(folder / "fault" / "fault_sim"), *given(arguments, "seed", "documents", "steps", "world", "mutants"), *more])[0]


def fault(arguments: argparse.Namespace) -> int:
    """tests/fault: runs on real servers, the simulator (SIM), `short` (the gate of every commit) and `selftest` (the mutants)."""
    started, runs = time.monotonic(), arguments.runs
    if runs == ["SIM"]:
        with step("build"):
            folder = build("release", ["fault_sim"])
        return simulate(folder, arguments)
    with step("build with failpoints"):
        folder = build("fault", [*FAULT_TARGETS, "fault_sim"])
    code = run([PYTHON, "-m", "fault", *(name for name in runs if name != "SIM"), *given(arguments, "seed", "secs", "keep")], S24_BUILD=str(folder),
               PYTHONPATH=f"{ROOT / 'tests'}:{ROOT / 'tools'}", PYTHONDONTWRITEBYTECODE="1")[0]
    if runs in (["short"], ["selftest"]):
        code |= simulate(folder, arguments, *(["--documents", "5000"] if runs == ["short"] else ["--documents", "2000", "--mutants"]))
    elif not runs or "SIM" in runs:
        code |= simulate(folder, arguments)
    print(f"s24: fault {' '.join([*runs, *given(arguments, 'seed')])}: {'failed' if code else 'passed'} in {time.monotonic() - started:.0f} s")
    return code


def check(_: argparse.Namespace) -> int:
    script = ROOT / "tests" / "lint" / "run.sh"
    if not script.exists():
        raise StackError("this checkout has no tests/lint/run.sh")
    return subprocess.run([str(script)], cwd=ROOT, check=False).returncode


def bench(arguments: argparse.Namespace) -> int:
    """tests/bench/NAME.py runs as it is, bench_NAME.c is a program; both measure the release build."""
    folder = ROOT / "tests" / "bench"
    scripts = {path.stem: path for path in folder.glob("*.py") if not path.stem.startswith(("_", "conftest"))}
    programs = {path.stem.removeprefix("bench_"): path for path in folder.glob("bench_*.c")}
    names = [arguments.name] if arguments.name else sorted(scripts) or sorted(programs)
    unknown = [name for name in names if name not in scripts and name not in programs]
    if unknown or not names:
        raise StackError(f"no measurement called {' '.join(unknown)!r}; there are {', '.join(sorted({**scripts, **programs}))}")
    daemons = [f"schools24-{name}" for name in (*existing(), *(["worker"] if (ROOT / "worker" / "CMakeLists.txt").exists() else []))]
    with step("build"):
        more = ["bench_writer", "bench_rows", "slow_disk", "bench_compress"] if "write" in names else []
        built = build("release", [f"bench_{name}" for name in programs if name in names or set(names) & set(scripts)] + daemons + more)
    worst = 0
    for name in names:
        command = [PYTHON, str(scripts[name])] if name in scripts else [str(built / "bench" / f"bench_{name}")]
        code, _ = run([*command, *arguments.more], S24_BUILD=str(built), PYTHONPATH=str(ROOT / "tools"))
        worst = max(worst, 1 if code else 0)
    return worst
