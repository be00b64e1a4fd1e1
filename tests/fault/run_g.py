# SPDX-License-Identifier: Apache-2.0
"""G: the buffer's disk is full or cannot be synced, and the daemon is refused memory: no false acknowledgement, nothing written by halves."""
from __future__ import annotations

import time

from .checks import check_all, count_calls
from .core import Options, Outcome
from .faults import Every, Faults, disk_fails
from .load import Load
from .residence import Residence
from .world import World

NAME, SECS, SHORT_SECS = "G", 45, 0
MIX = {"notes": 60, "fresh": 15, "bulk": 5, "counters": 15, "registers": 5}
REFUSED_PPB = 40000  # of a thousand million allocations: a daemon that is refused one mostly aborts, which is what it shall do


def run(options: Options) -> Outcome:
    outcome = Outcome(NAME, options)
    with World(options, workers=2, interval_s=6) as world:
        world.restart(world.play, **world.play_control.environment(world.memory_library))
        with Residence(world, outcome), Load(world, MIX) as load:
            world.play_control.set(seed=options.seed, malloc_ppb=REFUSED_PPB)
            with Faults(world, outcome, [Every("F9", 5, disk_fails, first_s=2)]):
                time.sleep(options.secs)
            world.play_control.set(malloc_ppb=0)
            calls = load.stop()
            outcome.drain_s = world.drain()
        outcome.faults["F13"] += world.play_control.get("failed")
        outcome.more["aborted"] = world.restarts["play"]
        count_calls(outcome, calls)
        check_all(outcome, world, calls)
        outcome.expect(world.restarts["play"] > 0, "the daemon was never refused memory where it needs it: raise REFUSED_PPB")
    return outcome
