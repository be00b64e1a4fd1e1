# SPDX-License-Identifier: Apache-2.0
"""F: the database is away for several intervals, then the buffer's memory is full: what is refused is refused in form, and no outage makes a dead letter."""
from __future__ import annotations

import time

from .checks import check_all, check_resources, count_calls, gauge
from .core import Options, Outcome
from .load import Load
from .residence import Residence
from .world import World

NAME, SECS, SHORT_SECS = "F", 60, 0
MIX = {"notes": 70, "fresh": 15, "counters": 10, "registers": 5}
INTERVAL_S = 6


def run(options: Options) -> Outcome:
    outcome = Outcome(NAME, options)
    with World(options, workers=2, interval_s=INTERVAL_S) as world, Residence(world, outcome) as residence:
        with Load(world, MIX, rate=900) as load:
            time.sleep(options.secs * 0.15)
            residence.excused = True
            world.stop_database(options.secs * 0.35)
            outcome.faults["F7"] += 1
            outcome.more["backlog"] = world.backlog()
            started = time.monotonic()
            while gauge(world, "schools24_buffer_oldest_unsynced_seconds") > INTERVAL_S and time.monotonic() - started < 60:
                time.sleep(0.1)
            outcome.more["caught_up_s"] = f"{time.monotonic() - started:.1f}"
            outcome.expect(time.monotonic() - started < 60, "I12: the backlog of the outage is not gone a minute after it")
            residence.excused = False
            time.sleep(options.secs * 0.1)
            fill(world, outcome, options.secs * 0.15)
            time.sleep(options.secs * 0.1)
            calls = load.stop()
        outcome.drain_s = world.drain()
        count_calls(outcome, calls)
        check_all(outcome, world, calls)
        check_resources(outcome, world)
        refused = sum(call.status == 503 for call in calls)
        outcome.expect(refused > 0, "I14: neither fault has made anything refuse a write: the faults were none")
    residence.expect(INTERVAL_S)
    return outcome


def fill(world: World, outcome: Outcome, secs: float) -> None:
    """F10: maxmemory is what is used; behind it everything as before."""
    client = world.redis()
    before = client.config_get("maxmemory")["maxmemory"]
    client.config_set("maxmemory", int(client.info("memory")["used_memory"]))
    outcome.faults["F10"] += 1
    time.sleep(secs)
    client.config_set("maxmemory", before)
