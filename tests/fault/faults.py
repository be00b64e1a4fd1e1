# SPDX-License-Identifier: Apache-2.0
"""F1 to F15: what is done to the system while clients write. Each is a function of the world, repeated by a thread of its own.

    with Faults(world, outcome, [Every("F1", 0.5, kill_worker), Every("F6", 12, stop_database)]): …
"""
from __future__ import annotations

import dataclasses
import errno
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Sequence

import psycopg2
import redis
from s24.base import StackError, wait_for
from s24.servers import Service

from .core import Outcome
from .world import World

Deed = Callable[[World, random.Random], None]
# F15: names of failpoints (write-path.md), each armed at 5 % in some of the processes.
WORKER_POINTS = ("claim.after=kill", "flush.before_commit=kill", "flush.after_commit_before_ack=kill", "ack.mid=kill", "nack.before=kill",
                 "flush.before_commit=err", "claim.after=sleep(200)", "dlq.before_copy=kill", "outbox.after_xadd_before_mark=kill")
PLAY_POINTS = ("put.before_reply=kill", "put.before_reply=err", "put.after_reply_before_publish=kill", "put.after_reply_before_publish=sleep(20)",
               "cache.fill_after_db_read=sleep(5)", "wt.after_begin=kill", "wt.before_commit=kill", "wt.after_commit_before_reply=kill")


@dataclasses.dataclass(frozen=True)
class Every:
    name: str
    period_s: float
    deed: Deed
    first_s: float | None = None  # when it is done first; else after about a period


class Faults:
    """The threads. An exception of a deed is a violation: then the run is not what it says."""

    def __init__(self, world: World, outcome: Outcome, all_of: Sequence[Every]) -> None:
        self.world, self.outcome = world, outcome
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(one,), daemon=True) for one in all_of]

    def __enter__(self) -> Faults:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _run(self, one: Every) -> None:
        rng = self.world.options.rng(one.name)
        pause = one.first_s if one.first_s is not None else one.period_s * rng.uniform(0.7, 1.3)
        while not self._ended.wait(pause):
            try:
                one.deed(self.world, rng)
                self.outcome.faults[one.name] += 1
            except (StackError, OSError, psycopg2.Error, redis.RedisError) as error:
                self.outcome.problem(f"{one.name} could not be done: {error!r}")
            pause = one.period_s * rng.uniform(0.7, 1.3)


def failpoints(points: Sequence[str], probability: float = 0.05) -> str:
    return ",".join(f"{point}:{probability}" for point in points)


def arm(world: World, share: float = 0.5) -> None:
    """F15: from now on so large a share of the processes that start has a failpoint or two. The first ones have none."""
    rng = world.options.rng("F15")

    def choose(service: Service) -> str:
        if rng.random() > share:
            return ""
        return failpoints(rng.sample(WORKER_POINTS if service in world.workers else PLAY_POINTS, 2))

    world.failpoints = choose


# ---- processes ---------------------------------------------------------------------------------------------------------------------

def kill(world: World, service: Service) -> None:
    with world.lock:
        if service.process.pid is not None:
            world.restarts[service.name] += 1
            service.process.kill()
            world.start(service)


def kill_worker(world: World, rng: random.Random) -> None:
    """F1."""
    kill(world, rng.choice(world.workers))


def stop_worker(world: World, rng: random.Random) -> None:
    """F2: SIGSTOP until its lease is over and others have had its records; then it goes on where it was."""
    worker = rng.choice(world.workers)
    pid = worker.process.pid
    if pid is None:
        return
    try:
        os.kill(pid, signal.SIGSTOP)
        world.end_leases({str(pid)})
        time.sleep(rng.uniform(1, 2.5))
        os.kill(pid, signal.SIGCONT)
    except (ProcessLookupError, redis.RedisError):
        pass  # F1 was faster
    finally:
        worker.process.send(signal.SIGCONT)


def kill_play(world: World, _: random.Random) -> None:
    """F3."""
    kill(world, world.play)


# ---- stores ------------------------------------------------------------------------------------------------------------------------

def kill_buffer(world: World, _: random.Random) -> None:
    """F4."""
    with world.buffer_lock:
        world.kill_buffer()
        world.stack.buffer.start()


def cut_power(world: World, _: random.Random) -> None:
    """F5."""
    with world.buffer_lock:
        gone = world.cut_buffer_power()
        world.stack.buffer.start()
    world.restarts["bytes_gone"] += gone


def stop_database(world: World, _: random.Random) -> None:
    """F6: immediate stop, two seconds, and its recovery."""
    world.stop_database(2)


def disk_fails(world: World, rng: random.Random) -> None:
    """F9: the AOF's disk is full, or its fsync fails; Redis ends, and what was not fsynced is gone. Then the disk is well again."""
    if rng.random() < 0.5:
        world.control.set(short_write=1, write_errno=errno.ENOSPC)
    else:
        world.control.set(fsync_errno=errno.EIO)
    server = world.stack.buffer
    try:
        wait_for("Redis ends on a disk that fails", lambda: server.process.pid is None, 10)
    finally:
        world.control.set(short_write=0, write_errno=0, fsync_errno=0)
    world.cut_buffer_power()
    server.start()


def clock_steps(world: World, _: random.Random) -> None:
    """F11: the buffer's clock goes back five seconds, and comes again later."""
    world.control.set(clock_ms=-5000)
    time.sleep(3)
    world.control.set(clock_ms=0)


__all__ = ["Every", "Faults", "arm", "clock_steps", "cut_power", "disk_fails", "failpoints", "kill_buffer", "kill_play", "kill_worker",
           "stop_database", "stop_worker"]
