# SPDX-License-Identifier: Apache-2.0
"""I12: how long the oldest unsynced record has waited, looked at four times a second; and I9 under way.

The database's outages are taken off: what has waited for nothing but a database that is up may wait one interval. A record is due after half of it; the
other half is what the design has for its troubles: the seven seconds for which a worker gives a batch back that found the database away, the five between two
probes of its breaker, a worker that dies with the record (its lease's minute is told in three seconds here, and its try is counted).
"""
from __future__ import annotations

import dataclasses
import sys
import threading

import redis

from .checks import gauge, invariant
from .core import Outcome
from .world import ENTITIES, LEASE_S, World

DEATH_S = LEASE_S + 4  # the end of a dead worker's lease, the next look at the queue, and the record's turn among others that are written alone
# The oldest of each set: of retries and leases all that are old, for their scores are other times.
OLDEST = """
local t, found = redis.call('TIME'), {}
local now = t[1] * 1000 + math.floor(t[2] / 1000)
for _, entity in ipairs(ARGV) do
  for _, set in ipairs({'pending', 'retry', 'lease'}) do
    local oldest, which = now, nil
    for _, id in ipairs(redis.call('ZRANGE', 'wb:' .. set .. ':' .. entity, 0, set == 'pending' and 0 or 1000)) do
      local first = redis.call('GETRANGE', 'write_buffer:' .. entity .. ':' .. id, 10, 17)
      if #first == 8 and struct.unpack('<I8', first) < oldest then oldest, which = struct.unpack('<I8', first), id end
    end
    if which then
      local meta = redis.call('HMGET', 'meta:write_buffer:' .. entity .. ':' .. which, 'attempts', 'err')
      local due = redis.call('ZSCORE', 'wb:' .. set .. ':' .. entity, which) - now
      local owner = redis.call('HGET', 'wb:own:' .. entity, which) or 'nobody'
      found[#found + 1] = {oldest, tonumber(meta[1] or 0), owner:match('^[^:]*:(%d+)') or '', table.concat({entity, which, 'in', set, 'of', owner, 'until',
        math.floor(due / 1000), 's later, after', meta[1] or '0', 'tries', meta[2] or ''}, ' ')}
    end
  end
end
return {now, found}
"""


@dataclasses.dataclass(frozen=True)
class Wait:
    secs: float = 0.0
    record: str = ""
    alive: tuple[int | None, ...] = ()  # workers


def told(wait: Wait) -> str:
    return f"{wait.record} waited {wait.secs:.1f} s for a database that was up, with the workers {wait.alive}"


class Residence:
    """with Residence(world, outcome) as residence: …; residence.expect(limit_s)"""

    def __init__(self, world: World, outcome: Outcome) -> None:
        self.world, self.outcome = world, outcome
        self.all, self.judged = Wait(), Wait()  # with the outages, and without
        self.lonely = Wait()                    # without what deaths of workers cost as well
        self.gauge_s = 0.0                      # what the worker says of it
        self.looks, self.why = 0, ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Residence:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self.outcome.max_residence_s = self.judged.secs
        self.outcome.more["without_deaths_s"] = f"{self.lonely.secs:.1f}"
        print(f"fault {self.outcome.run}: longest: {told(self.judged)}", file=sys.stderr)
        self.outcome.more["with_outages_s"] = f"{self.all.secs:.1f}"
        self.outcome.expect(self.looks > 0, f"the buffer could not be looked at: {self.why}")

    def expect(self, limit_s: float, *, deaths: bool = False) -> None:
        """I12. `deaths`: each worker that has died with a record gives it DEATH_S more."""
        wait = self.lonely if deaths else self.judged
        self.outcome.expect(wait.secs <= limit_s, f"I12: {told(wait)}")

    def look(self, client: redis.Redis) -> None:
        now_ms, found = client.eval(OLDEST, 0, *ENTITIES)
        alive = tuple(worker.process.pid for worker in self.world.workers)
        for first_ms, tries, owner, record in found:
            tries += owner.isdigit() and int(owner) not in alive  # one that is not counted yet
            waited = (now_ms - first_ms) / 1000
            up = waited - self.world.away_s(first_ms / 1000, now_ms / 1000)
            if waited > self.all.secs:
                self.all = Wait(waited, record.decode())
            if up > self.judged.secs:
                self.judged = Wait(up, record.decode(), alive)
            if up - tries * DEATH_S > self.lonely.secs:
                self.lonely = Wait(up - tries * DEATH_S, record.decode(), alive)
        self.looks += 1

    def _run(self) -> None:
        client = self.world.redis()
        while not self._ended.wait(0.25):
            try:
                self.look(client)
                if self.looks % 20 == 0:
                    invariant(self.outcome, client, "under way")
                if self.looks % 4 == 0:
                    self.gauge_s = max(self.gauge_s, gauge(self.world, "schools24_buffer_oldest_unsynced_seconds"))
            except (redis.RedisError, OSError) as error:
                self.why = repr(error)


__all__ = ["Residence"]
