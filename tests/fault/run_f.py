# SPDX-License-Identifier: Apache-2.0
"""F: the database is away for several intervals, then the buffer's memory is full: what is refused is refused in form, and no outage makes a dead letter."""
from __future__ import annotations

import math
import time

from .checks import check_all, check_resources, count_calls, gauge
from .core import Options, Outcome
from .load import Load
from .residence import Residence
from .world import ENTITIES, World

NAME, SECS, SHORT_SECS = "F", 60, 0
MIX = {"notes": 70, "fresh": 15, "counters": 10, "registers": 5}
INTERVAL_S = 6
LEAST_PER_S = 1500  # two workers on one shared core reach three times that


def run(options: Options) -> Outcome:
    outcome = Outcome(NAME, options)
    with World(options, workers=2, interval_s=INTERVAL_S) as world, Residence(world, outcome) as residence:
        with Load(world, MIX, rate=900) as load:
            time.sleep(options.secs * 0.15)
            world.baseline = world.resources()  # with the connections that a load takes
            world.stop_database(options.secs * 0.35)
            outcome.faults["F7"] += 1
            catch_up(world, outcome)
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


def catch_up(world: World, outcome: Outcome) -> None:
    """The backlog is drained at full speed, beside the load; until then the outage goes on for those who wait."""
    began, started, backlog = world.outages[-1][0], time.monotonic(), world.backlog()
    world.outages[-1] = (began, math.inf)
    tried = counted(world)
    outcome.expect(tried == 0, f"I8: the outage was counted as a try of {tried} records")
    while gauge(world, "schools24_buffer_oldest_unsynced_seconds") > INTERVAL_S and time.monotonic() - started < 60:
        time.sleep(0.1)
    secs = time.monotonic() - started
    world.outages[-1] = (began, time.time())
    outcome.more |= {"backlog": backlog, "caught_up_s": f"{secs:.1f}", "drained_per_s": f"{(backlog - world.backlog()) / max(secs, 1):.0f}"}
    # Pauses are five seconds between two probes of the breaker, and at most seven for what was given back; behind them nothing is counted and nothing is alone.
    outcome.expect(secs < 12 + backlog / LEAST_PER_S, f"I12: a backlog of {backlog} took {secs:.0f} s, so it was not drained at full speed")


def counted(world: World) -> int:
    """Records that have failed tries of their own."""
    return int(world.redis().eval("""local n = 0
        for _, entity in ipairs(ARGV) do for _, set in ipairs({'retry', 'lease'}) do
          for _, id in ipairs(redis.call('ZRANGE', 'wb:' .. set .. ':' .. entity, 0, -1)) do
            if (redis.call('HGET', 'meta:write_buffer:' .. entity .. ':' .. id, 'attempts') or '0') ~= '0' then n = n + 1 end
          end
        end end
        return n""", 0, *ENTITIES))


def fill(world: World, outcome: Outcome, secs: float) -> None:
    """F10: maxmemory is what is used; behind it everything as before."""
    client = world.redis()
    before = client.config_get("maxmemory")["maxmemory"]
    client.config_set("maxmemory", int(client.info("memory")["used_memory"]))
    outcome.faults["F10"] += 1
    time.sleep(secs)
    client.config_set("maxmemory", before)
