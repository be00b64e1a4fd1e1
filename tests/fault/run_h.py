# SPDX-License-Identifier: Apache-2.0
"""H: the buffer's clock goes back, then a replica that lags takes its place: no version goes back, and what is lost is exactly what it had not received."""
from __future__ import annotations

import time

from s24.base import free_ports, wait_for

from harness import Proxy

from .checks import check_all, check_counters, check_history, check_rows, count_calls, count_lost, invariant, summed
from .core import Options, Outcome
from .faults import clock_steps
from .load import Load
from .residence import Residence
from .world import ShimmedRedis, World

NAME, SECS, SHORT_SECS = "H", 30, 0
MIX = {"notes": 70, "fresh": 10, "counters": 20}
LAG_S = 2.0


def run(options: Options) -> Outcome:
    outcome = Outcome(NAME, options)
    with World(options, workers=2, interval_s=4) as world, Residence(world, outcome):
        steps(world, outcome, options.secs * 0.4)
    with World(options, workers=2, interval_s=8, proxies=("redis_buffer",)) as world:
        failover(world, outcome, options.secs * 0.6)
    return outcome


def steps(world: World, outcome: Outcome, secs: float) -> None:
    """F11: nothing at all may be lost by a clock."""
    with Load(world, MIX) as load:
        time.sleep(secs * 0.3)
        for _ in range(2):
            clock_steps(world, world.options.rng("F11"))
            outcome.faults["F11"] += 1
        time.sleep(max(0.0, secs * 0.7 - 6))
        calls = load.stop()
    outcome.drain_s = world.drain()
    count_calls(outcome, calls)
    check_all(outcome, world, calls)
    superseded = summed(world, 'result="superseded"')
    outcome.expect(superseded == 0, f"{superseded:g} records were superseded, though nothing was lost")


def failover(world: World, outcome: Outcome, secs: float) -> None:
    """F12: mode aof does not promise to survive this; it is told what it costs, and nothing goes back."""
    master = world.stack.buffer
    link = Proxy(master.port)
    replica = ShimmedRedis("redis-replica", world.stack.folder / "redis-replica", world.stack.logs, master.account, free_ports(1)[0], {
        **master.settings, "replicaof": f"127.0.0.1 {link.port}", "masteruser": "operator", "masterauth": master.operator_password})
    replica.configure((master.folder / "users.acl").read_text(encoding="utf-8"), master.operator_password)
    try:
        replica.start()
        wait_for("the replica follows", lambda: replica.client().info("replication")["master_link_status"] == "up", 20)
        with Load(world, MIX) as load:
            time.sleep(secs * 0.4)
            link.hold = True  # from now on it lags
            held = time.monotonic()
            time.sleep(LAG_S)
            with world.lock:
                world.proxies["redis_buffer"].refuse = True
                world.proxies["redis_buffer"].cut()
                failed = time.monotonic()
                master.process.kill()
                link.refuse = True
                link.cut()
                replica.client().replicaof("NO", "ONE")
                world.stack.buffer = world.stack.buffers["main"] = replica
                world.proxies["redis_buffer"].target_port = replica.port
                world.proxies["redis_buffer"].refuse = False
            outcome.faults["F12"] += 1
            time.sleep(secs * 0.4)
            calls = load.stop()
        world.drain()
        part = Outcome(outcome.run, outcome.options)
        count_calls(part, calls)
        outcome.acked, outcome.unknown = outcome.acked + part.acked, outcome.unknown + part.unknown
        outcome.conflicts, outcome.unavailable = outcome.conflicts + part.conflicts, outcome.unavailable + part.unavailable
        lost = check_rows(part, world, calls)
        explained = [one for one in lost if held - 0.5 <= one[3] <= failed + 0.5]
        count_lost(outcome, [one for one in lost if one not in explained])
        part.lost = 0  # counters of that time too are behind what was acknowledged
        check_history(outcome, world, calls)
        check_counters(part, world, calls)
        invariant(outcome, world.redis(), "at rest")
        outcome.more |= {"failover_lost": len(explained), "failover_counters_behind": part.lost, "superseded": f"{summed(world, 'superseded'):g}",
                         "statuses2": part.more["statuses"]}
        outcome.problems += [text for text in part.problems if text.startswith(("I14", "I2"))]
        outcome.expect(bool(explained), "a failover to a replica that lags two seconds has lost nothing: it did not lag")
    finally:
        link.hold = False
        replica.process.kill()
        link.close()
