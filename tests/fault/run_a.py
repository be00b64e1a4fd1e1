# SPDX-License-Identifier: Apache-2.0
"""A: every kind of buffered write, while workers, the daemon and the database die and failpoints strike."""
from __future__ import annotations

import time

from .checks import check_all, count_calls
from .core import Options, Outcome
from .faults import Every, Faults, arm, kill_play, kill_worker, stop_database, stop_worker
from .load import Load
from .poison import inject
from .residence import Residence
from .world import World

NAME, SECS, SHORT_SECS = "A", 60, 25
MIX = {"notes": 60, "fresh": 8, "bulk": 4, "late": 5, "counters": 18, "registers": 4, "poison": 0.2}
INTERVAL_S, PAUSE_S = 20, 12


def run(options: Options) -> Outcome:
    outcome = Outcome(NAME, options)
    with World(options, workers=2, interval_s=INTERVAL_S) as world:
        with Residence(world, outcome) as residence, Load(world, MIX, rate=1100) as load:
            arm(world)
            with Faults(world, outcome, [Every("F1", 0.5, kill_worker), Every("F2", 7, stop_worker), Every("F3", 5, kill_play),
                                         Every("F6", 15, stop_database, first_s=8)]):
                time.sleep(options.secs)
            world.calm()
            injected = inject(world)
            outcome.faults["F14"] += sum(map(len, injected.values()))
            calls = load.stop()
            outcome.drain_s = world.drain()
        outcome.faults["F15"] += world.died
        count_calls(outcome, calls)
        check_all(outcome, world, calls, injected)
        # For a commit that a failpoint fails the database is away: seven seconds until what was given back is due, five between two probes of the breaker.
        residence.expect(INTERVAL_S + PAUSE_S, deaths=True)
    return outcome
