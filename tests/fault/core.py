# SPDX-License-Identifier: Apache-2.0
"""What every run shares: its options, its verdict and the one line that tells it.

A run is a module run_<name>.py with NAME, SECS, SHORT_SECS (0: not in the short set) and run(options) -> Outcome.
"""
from __future__ import annotations

import argparse
import dataclasses
import importlib
import os
import pathlib
import random
import sys
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from types import ModuleType

HERE = pathlib.Path(__file__).resolve().parent


@dataclasses.dataclass(frozen=True)
class Options:
    seed: int
    secs: float
    keep: bool = False   # leave the servers' folder
    quick: bool = False  # the short form

    def rng(self, purpose: str) -> random.Random:
        """Chance for one purpose: what one part draws does not change what another gets."""
        return random.Random(f"{self.seed}/{purpose}")


@dataclasses.dataclass
class Outcome:
    """Counts for the line, and every violation in words."""

    run: str
    options: Options
    acked: int = 0
    unknown: int = 0
    conflicts: int = 0    # refused: 409, and what is wrong in the request
    unavailable: int = 0  # refused: 503
    lost: int = 0
    duplicated: int = 0
    regressed: int = 0
    ryw_violations: int = 0
    poison: tuple[int, int] | None = None   # dead letters that were found, and those that there must be; None: nobody has looked
    max_residence_s: float | None = None    # None: the run has nothing buffered
    drain_s: float = 0
    ack_p50_ms: float = 0
    ack_p99_ms: float = 0
    faults: Counter[str] = dataclasses.field(default_factory=Counter)
    more: dict[str, object] = dataclasses.field(default_factory=dict)  # further figures, behind the specified ones
    problems: list[str] = dataclasses.field(default_factory=list)

    def problem(self, text: str) -> None:
        self.problems.append(text)

    def expect(self, condition: bool, text: str) -> None:
        if not condition:
            self.problem(text)

    @property
    def ok(self) -> bool:
        wrong = self.lost or self.duplicated or self.regressed or self.ryw_violations or self.problems
        return not wrong and (self.poison is None or self.poison[0] == self.poison[1])

    def line(self) -> str:
        faults = ",".join(f"{name}:{count}" for name, count in sorted(self.faults.items(), key=lambda item: (len(item[0]), item[0])))
        poison = [] if self.poison is None else [f"poison={self.poison[0]}/{self.poison[1]}"]
        residence = [] if self.max_residence_s is None else [f"max_residence_s={self.max_residence_s:.1f}"]
        words = [f"run={self.run}", f"seed={self.options.seed}", f"secs={self.options.secs:g}", f"acked={self.acked}", f"unknown={self.unknown}",
                 f"rejected={self.conflicts + self.unavailable}", f"rejected_409={self.conflicts}", f"rejected_503={self.unavailable}",
                 f"faults{{{faults}}}={sum(self.faults.values())}", f"lost={self.lost}", f"duplicated={self.duplicated}", f"regressed={self.regressed}",
                 f"ryw_violations={self.ryw_violations}", *poison, *residence, f"drain_s={self.drain_s:.1f}", f"ack_p50_ms={self.ack_p50_ms:.1f}",
                 f"ack_p99_ms={self.ack_p99_ms:.1f}", *[f"{name}={value}" for name, value in self.more.items()], f"violations={len(self.problems)}"]
        return " ".join(words)


def runs() -> dict[str, ModuleType]:
    """Every run in this folder, by its name."""
    found = [importlib.import_module(f"fault.{path.stem}") for path in sorted(HERE.glob("run_*.py"))]
    return {module.NAME: module for module in found}


def execute(module: ModuleType, options: Options) -> bool:
    """One run: its violations on stderr, its line on stdout."""
    started = time.monotonic()
    try:
        outcome = module.run(options)
    except Exception as error:  # whatever it was, the line is printed
        traceback.print_exc()
        outcome = Outcome(module.NAME, options, problems=[f"the run did not come to its end: {error}"])
    for text in outcome.problems[:40]:
        print(f"fault {module.NAME}: {text}", file=sys.stderr)
    if len(outcome.problems) > 40:
        print(f"fault {module.NAME}: and {len(outcome.problems) - 40} more", file=sys.stderr)
    sys.stderr.flush()
    print(outcome.line(), flush=True)
    print(f"fault {module.NAME}: {'ok' if outcome.ok else 'FAILED'}, {time.monotonic() - started:.0f} s in all", file=sys.stderr, flush=True)
    return outcome.ok


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="./s24 fault", description="fault injection on real servers: tests/fault/README.md")
    parser.add_argument("runs", nargs="*", help="A, B, … (default: all), or `short`, or `selftest`")
    parser.add_argument("--seed", type=int, default=None, help="repeats the choices of a run (its line tells it)")
    parser.add_argument("--secs", type=float, default=None, help="time under faults instead of the run's own")
    parser.add_argument("--keep", action="store_true", help="leave the servers' folders, logs included")
    given = parser.parse_args(list(arguments))
    known = runs()
    seed = given.seed if given.seed is not None else int.from_bytes(os.urandom(4), "little")
    if given.runs == ["selftest"]:
        from . import selftest

        return selftest.main(Options(seed, given.secs or selftest.SECS, given.keep))
    short = given.runs == ["short"]
    names = [name for name, module in known.items() if module.SHORT_SECS] if short else given.runs or list(known)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"no run {' '.join(unknown)}; there are {', '.join(known)}, SIM, short and selftest")
    failed = []
    for name in names:
        module = known[name]
        secs = given.secs or (module.SHORT_SECS if short else module.SECS)
        if not execute(module, Options(seed, secs, given.keep, short)):
            failed.append(name)
    if failed:
        print(f"s24: failed: fault {' '.join(failed)} (--seed {seed})", flush=True)
    return 1 if failed else 0
