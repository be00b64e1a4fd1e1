# SPDX-License-Identifier: Apache-2.0
"""B: the buffer is killed and loses its power, with an AOF that fsyncs always, and workers, the daemon and the database die beside it: nothing is lost.
Then with everysec, where the check must see what is lost."""
from __future__ import annotations

import time

from .checks import check_all, check_counters, check_rows, count_calls
from .core import Options, Outcome
from .faults import Every, Faults, cut_power, kill_buffer, kill_play, kill_worker, stop_database
from .load import Load
from .residence import Residence
from .world import World

NAME, SECS, SHORT_SECS = "B", 60, 0
MIX = {"notes": 70, "fresh": 10, "counters": 20}
CONTROL_SECS = 4


def run(options: Options) -> Outcome:
    outcome = Outcome(NAME, options)
    with World(options, workers=2, interval_s=8, settings={"BATCH_PROCESSOR_PARALLEL_WORKERS": "10"}) as world:
        with Residence(world, outcome), Load(world, MIX, connections=24, rate=2600) as load:
            with Faults(world, outcome, [Every("F4", 6, kill_buffer, first_s=3), Every("F5", 6, cut_power, first_s=6), Every("F1", 4, kill_worker),
                                         Every("F3", 9, kill_play), Every("F6", 25, stop_database, first_s=15)]):
                time.sleep(options.secs)
            calls = load.stop()
            outcome.drain_s = world.drain()
        outcome.more["bytes_unsynced_gone"] = world.restarts["bytes_gone"]
        count_calls(outcome, calls)
        check_all(outcome, world, calls)
    outcome.more["control_lost"] = lost = control(options)
    outcome.expect(lost > 0, "the control with everysec has lost nothing in a power cut: the check is blind, or the cut is none")
    return outcome


def control(options: Options) -> int:
    """The same with appendfsync everysec and one power cut: the number of acknowledged writes that are gone."""
    outcome = Outcome("B-control", options)
    with World(options, workers=1, interval_s=60, durability="memory") as world:
        with Load(world, MIX) as load:
            time.sleep(CONTROL_SECS)
            world.cut_buffer_power()
            calls = load.stop_after(world.stack.buffer.start)
        world.drain(hurry=True)
        count_calls(outcome, calls)
        lost = check_rows(outcome, world, calls)
        check_counters(outcome, world, calls)
    return len(lost) + outcome.lost
