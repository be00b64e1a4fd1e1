# SPDX-License-Identifier: Apache-2.0
"""The suite's own proof: the product is broken in five ways, on real servers, and each must be seen by the checks; unbroken, nothing may be seen. Then
the ways of broken.py, by the runs for which they are.

A mutant is a copy of the daemons in which a script's or a statement's text has been changed where it stands, the script's hash with it. A text
that is not there any more stops the program: then the mutant has to be written anew.
"""
from __future__ import annotations

import dataclasses
import hashlib
import pathlib
import random
import shutil
import sys
import time

from s24.base import ROOT, StackError
from s24.servers import Service

from harness import BUILD, scratch_folder

from . import broken
from .checks import check_all, count_calls
from .core import Options, Outcome
from .faults import Every, Faults, cut_power, kill_worker, stop_worker
from .load import Load
from .world import World

SECS = 9.0
LUA = ROOT / "common" / "svc" / "lua"
GUARD = b"t.version < EXCLUDED.version"


@dataclasses.dataclass(frozen=True)
class Edit:
    """Old text to new in a script; it may be longer: a comment of the script gives the room."""

    script: str
    old: str
    new: str


@dataclasses.dataclass(frozen=True)
class Mutant:
    name: str
    edits: tuple[Edit, ...] = ()
    guard: bool = True
    rdb_only: bool = False
    faults: tuple[Every, ...] = ()
    interval_s: int = 1


def patch_script(data: bytes, edit: Edit) -> bytes:
    """The program's bytes with another script of the same length under the same name."""
    text = (LUA / f"{edit.script}.lua").read_text(encoding="utf-8")
    if text.count(edit.old) != 1 or data.count(text.encode()) > 1:
        raise StackError(f"{edit.script}.lua has changed: the mutant's text {edit.old!r} is not in it once")
    if text.encode() not in data:
        raise StackError(f"the program does not have {edit.script}.lua as it is in the tree")
    changed = text.replace(edit.old, edit.new)
    spare = len(text.encode()) - len(changed.encode())
    at = changed.index("\n-- ", 10) + 4
    changed = changed[:at] + " " * spare + changed[at:] if spare >= 0 else changed[:at] + changed[at - spare:]
    assert len(changed.encode()) == len(text.encode()) and "\n" not in text[at:at - spare]
    before, after = (hashlib.sha1(one.encode()).hexdigest().encode() for one in (text, changed))
    return data.replace(text.encode(), changed.encode()).replace(before, after)


def patched(binary: pathlib.Path, folder: pathlib.Path, mutant: Mutant) -> pathlib.Path:
    data = binary.read_bytes()
    for edit in mutant.edits:
        data = patch_script(data, edit)
    if not mutant.guard:
        if GUARD not in data:
            raise StackError(f"{binary.name} has no statement with {GUARD.decode()!r}")
        data = data.replace(GUARD, b"t.version <> 0".ljust(len(GUARD)))
    copy = folder / binary.name
    copy.write_bytes(data)
    copy.chmod(0o755)
    return copy


def lose_all_but_snapshot(world: World, _: random.Random) -> None:
    """What a power cut leaves of a Redis that has RDB alone: its last snapshot."""
    server = world.stack.buffer
    world.kill_buffer()
    shutil.rmtree(server.folder / "appendonlydir", ignore_errors=True)
    settings = dict(server.settings)
    server.settings["appendonly"] = "no"
    server.configure((server.folder / "users.acl").read_text(encoding="utf-8"), server.operator_password)
    world.control.forget_files()
    server.start()
    server.settings = settings
    client = server.client()
    client.config_set("appendonly", "yes")


def snapshot(world: World, _: random.Random) -> None:
    try:
        world.redis().bgsave()
    except Exception as error:
        if "in progress" not in str(error):
            raise OSError(str(error)) from error


def end_leases(world: World, _: random.Random) -> None:
    """Whoever sleeps with a batch in hand has lost it to others."""
    world.end_leases()


# Workers sleep behind their claim, their leases end, and they go on with an old version when others have written a newer one: what they do then is
# what the guard and the comparison are for. One of the daemons sleeps with a base in hand, which the other one changes: so the marker.
SLEEPERS = (("worker", "claim.after=sleep(1200):0.3"), ("play1", "put.before_send=sleep(2500):0.01"))
STOPS = (Every("F2", 2.0, stop_worker, first_s=0.5), Every("F1", 3, kill_worker), Every("lease", 0.3, end_leases))
MUTANTS = (
    Mutant("compare-and-delete off", (Edit("ack", "if version <= database then", "if true then"),), faults=STOPS),
    Mutant("version guard off", guard=False, faults=STOPS),
    Mutant("marker off", (Edit("ack", "call('EXPIRE', meta, MARKER_S)", "call('DEL', meta)"),), faults=STOPS),
    Mutant("TTL on", (Edit("put", "redis.call('SET', r.key, struct.pack(", "redis.call('SETEX', r.key, 1, struct.pack("),), interval_s=6),
    Mutant("RDB only", rdb_only=True, faults=(Every("RDB", 2, snapshot, first_s=1), Every("F5", 3, lose_all_but_snapshot, first_s=4)), interval_s=8),
)
UNBROKEN = Mutant("none", faults=(*STOPS, Every("F5", 4, cut_power, first_s=3)))
MIX = {"notes": 30, "fresh": 10, "counters": 15, "sparse": 45}


def sleepers(service: Service) -> str:
    return next((points for name, points in SLEEPERS if service.name.startswith(name)), "")


def trial(options: Options, mutant: Mutant, folder: pathlib.Path) -> Outcome:
    """One world with the mutant, under load; whatever the checks then say."""
    outcome = Outcome(f"selftest/{mutant.name.replace(' ', '-')}", options)
    programs = {name: patched(BUILD / "bin" / name, folder, mutant) for name in ("schools24-fault-worker", "schools24-play")}
    with World(options, workers=2, plays=2, interval_s=mutant.interval_s, worker_binary=programs["schools24-fault-worker"],
               play_binary=programs["schools24-play"]) as world:
        if mutant.faults and not mutant.rdb_only:
            world.failpoints = sleepers
            for service in (world.plays[1], *world.workers):
                world.restart(service, S24_FAILPOINTS=sleepers(service), S24_FAILPOINT_SEED=str(options.seed))
        with Load(world, MIX, connections=20, rate=1400) as load:
            with Faults(world, outcome, mutant.faults):
                time.sleep(options.secs)
            outcome.problems.clear()  # a deed that fails shows nothing about the checks
            world.failpoints = lambda service: ""
            for worker in world.workers:
                world.restart(worker, S24_FAILPOINTS="")
            calls = load.stop()
        try:
            outcome.drain_s = world.drain(30, hurry=True)
        except StackError as error:
            outcome.problem(str(error))
        count_calls(outcome, calls)
        check_all(outcome, world, calls)
    return outcome


def is_seen(options: Options, mutant: Mutant, folder: pathlib.Path) -> bool:
    """Its line is printed."""
    outcome = trial(options, mutant, folder)
    outcome.more["detected"] = int(not outcome.ok)
    print(outcome.line(), flush=True)
    for text in outcome.problems[:3]:
        print(f"fault selftest: {mutant.name}: {text}", file=sys.stderr)
    if outcome.ok and mutant is not UNBROKEN:
        print(f"fault selftest: {mutant.name}: nothing was seen (--seed {options.seed})", file=sys.stderr)
    sys.stderr.flush()
    return not outcome.ok


def main(options: Options) -> int:
    folder = scratch_folder()
    try:
        sound = not is_seen(options, UNBROKEN, folder)
        detected = sum(is_seen(options, mutant, folder) for mutant in MUTANTS)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    count, seen = broken.trials(options.seed, [])
    print(f"broken={count} detected={seen}", flush=True)
    print(f"mutants={len(MUTANTS)} detected={detected}", flush=True)
    return 0 if sound and detected == len(MUTANTS) and seen == count else 1
