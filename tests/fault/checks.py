# SPDX-License-Identifier: Apache-2.0
"""The invariants: what the clients were told against what the stores say."""
from __future__ import annotations

import dataclasses
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import psycopg2
import redis
import requests

from .core import Outcome
from .load import STUDENTS, Call
from .load import identity as student_of
from .world import ENTITIES, TABLES, World

# I9 in one look, in which nothing moves: a record is in exactly one set, a lease has an owner, scopes and records name each other.
INVARIANT = """
local HEADER, HEADER_SIZE, wrong = '<BBI8I8I4c8c16HB', 49, {}
local function bad(...) if #wrong < 50 then wrong[#wrong + 1] = table.concat({...}, ' ') end end
for _, entity in ipairs(ARGV) do
  local places, scoped = {}, {}
  for _, set in ipairs({'pending', 'retry', 'lease', 'dlq'}) do
    for _, id in ipairs(redis.call('ZRANGE', 'wb:' .. set .. ':' .. entity, 0, -1)) do
      if places[id] then bad(entity, id, 'is in', places[id], 'and in', set) end
      places[id] = set
      if redis.call('HEXISTS', 'wb:own:' .. entity, id) ~= (set == 'lease' and 1 or 0) then bad(entity, id, 'is in', set, 'and its owner is wrong') end
    end
  end
  for _, id in ipairs(redis.call('HKEYS', 'wb:own:' .. entity)) do
    if places[id] ~= 'lease' then bad(entity, id, 'has an owner and no lease') end
  end
  local head = 'write_buffer:' .. entity .. ':'
  for _, key in ipairs(redis.call('KEYS', head .. '*')) do
    local id, record = key:sub(#head + 1), redis.call('GET', key)
    if not places[id] then bad(entity, id, 'is in no set') end
    places[id] = nil
    if redis.call('TTL', key) ~= -1 then bad(entity, id, 'expires') end
    local length = select(8, struct.unpack(HEADER, record))
    local at = HEADER_SIZE + 1
    while at <= HEADER_SIZE + length do
      local scope
      scope, at = struct.unpack('Bc0', record, at)
      scoped[scope .. ' ' .. id] = true
      if redis.call('HEXISTS', 'wb:scope:' .. entity .. ':' .. scope, id) == 0 then bad(entity, id, 'is not in its list', scope) end
    end
  end
  for id, set in pairs(places) do bad(entity, id, 'is in', set, 'without a record') end
  local scope_head = 'wb:scope:' .. entity .. ':'
  for _, key in ipairs(redis.call('KEYS', scope_head .. '*')) do
    for _, id in ipairs(redis.call('HKEYS', key)) do
      if not scoped[key:sub(#scope_head + 1) .. ' ' .. id] then bad(entity, id, 'stands in', key, 'which it does not name') end
    end
  end
end
return wrong
"""


def invariant(outcome: Outcome, client: redis.Redis, when: str) -> None:
    """I9."""
    for text in client.eval(INVARIANT, 0, *ENTITIES):
        outcome.problem(f"I9 {when}: {text.decode()}")


def gauge(world: World, name: str) -> float:
    """The highest value of a metric over its labels and the workers; those that do not answer are left out."""
    highest = 0.0
    for worker in world.workers:
        try:
            text = requests.get(f"{worker.admin_url}/metrics", timeout=1).text
        except requests.RequestException:
            continue
        highest = max([highest, *[float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith((name + "{", name + " "))]])
    return highest


def summed(world: World, prefix: str) -> float:
    total = 0.0
    for worker in world.workers:
        text = requests.get(f"{worker.admin_url}/metrics", timeout=5).text
        total += sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith("schools24_sync_items_total") and prefix in line)
    return total


@dataclasses.dataclass
class Written:
    """What was told about one row."""

    acked: dict[int, str] = dataclasses.field(default_factory=dict)  # version to token, '' a deletion
    acked_at: dict[int, float] = dataclasses.field(default_factory=dict)
    unknown: set[str] = dataclasses.field(default_factory=set)


def count_calls(outcome: Outcome, calls: Sequence[Call]) -> None:
    """Acknowledged, unknown, rejected; latency; I14: nobody waits for ever, and a refusal has its form."""
    outcome.acked = sum(call.acked for call in calls)
    outcome.unknown = sum(call.possible and call.status != 503 for call in calls)
    outcome.unavailable = sum(call.status == 503 for call in calls)
    outcome.conflicts = sum(not call.acked and not call.possible and call.status != 404 for call in calls)
    latencies = sorted(call.ms for call in calls if call.acked)
    if len(latencies) > 1:
        cuts = statistics.quantiles(latencies, n=100)
        outcome.ack_p50_ms, outcome.ack_p99_ms = cuts[49], cuts[98]
    statuses = Counter(call.status for call in calls)
    outcome.more["statuses"] = "/".join(f"{status}:{count}" for status, count in sorted(statuses.items()))
    for status in statuses:
        outcome.expect(status in (0, 200, 201, 202, 404, 409, 503), f"I14: {statuses[status]} answers with {status}")
    formless = sum(call.formless for call in calls)
    outcome.expect(formless == 0, f"I14: {formless} answers with 503 do not say when to come again (Retry-After)")
    hung = sum(call.hung for call in calls)
    outcome.expect(hung == 0, f"I14: {hung} calls were not answered within 20 s")


def told(calls: Iterable[Call], outcome: Outcome) -> dict[tuple[str, str], Written]:
    """By entity and id. Two calls that were given one version for one row are a duplicate."""
    rows: dict[tuple[str, str], Written] = defaultdict(Written)
    for call in calls:
        for entity, identity, token in call.rows:
            written = rows[entity, identity]
            if call.acked:
                if call.version == 0:
                    outcome.problem(f"{call.kind} was acknowledged without a version")
                if call.version in written.acked and written.acked[call.version] != token:
                    outcome.duplicated += 1
                    outcome.problem(f"{entity} {identity}: version {call.version} was given to two calls")
                written.acked[call.version] = token
                written.acked_at[call.version] = call.sent + call.ms / 1000
            elif call.possible:
                written.unknown.add(token)
    return rows


def check_rows(outcome: Outcome, world: World, calls: Sequence[Call]) -> list[tuple[str, str, int, float]]:
    """I1, I2, I7: the tables after the drain. Returns what was lost: entity, id, version, time of the acknowledgement."""
    lost: list[tuple[str, str, int, float]] = []
    rows = told([call for call in calls if call.kind not in ("poison", "add", "register")], outcome)
    for entity, column in (("play_note", "text"), ("play_topic", "title")):
        with world.cursor() as cursor:
            cursor.execute(f"SELECT id::text, version, {column}, deleted_at IS NOT NULL FROM play.{TABLES[entity]}")
            table = {identity: (version, "" if deleted else token) for identity, version, token, deleted in cursor.fetchall()}
        for (kind, identity), written in rows.items():
            if kind != entity:
                continue
            version, token = table.get(identity, (0, ""))
            newest = max(written.acked, default=0)
            for missing in [one for one in written.acked if one > version]:
                lost.append((entity, identity, missing, written.acked_at[missing]))
            if version == 0 or version < newest:
                continue
            if version in written.acked:
                if token != written.acked[version]:
                    outcome.lost += 1
                    outcome.problem(f"I1 {entity} {identity}: at version {version} the table has {token!r}, acknowledged was {written.acked[version]!r}")
            elif token not in written.unknown:
                outcome.problem(f"I2 {entity} {identity}: nobody sent {token!r}, which the table has at version {version}")
    return lost


def count_lost(outcome: Outcome, lost: Sequence[tuple[str, str, int, float]]) -> None:
    outcome.lost += len(lost)
    for entity, identity, version, _ in lost[:10]:
        outcome.problem(f"I1 {entity} {identity}: version {version} was acknowledged and is not in the table")


def check_history(outcome: Outcome, world: World, calls: Sequence[Call]) -> None:
    """I2 and I3 over everything that the tables ever were."""
    rows = told([call for call in calls if call.kind not in ("poison", "add", "register")], Outcome(outcome.run, outcome.options))
    with world.cursor() as cursor:
        cursor.execute("SELECT entity, id::text, before, after FROM fault.backward")
        for entity, identity, before, after in cursor.fetchall():
            outcome.regressed += 1
            outcome.problem(f"I3 {entity} {identity}: version {after} went over version {before}")
        cursor.execute("SELECT entity, id::text, version, token, deleted FROM fault.history WHERE entity IN ('play_note', 'play_topic')")
        for entity, identity, version, token, deleted in cursor.fetchall():
            written = rows.get((entity, identity))
            if written is None:
                continue  # rows of the harness itself
            token = "" if deleted else token
            if written.acked.get(version, token) != token or (version not in written.acked and token not in written.unknown):
                outcome.problem(f"I2 {entity} {identity}: {token!r} was written at version {version}, which nobody sent so")
        cursor.execute("SELECT entity, id::text, version, count(*) FROM fault.history GROUP BY 1, 2, 3 HAVING count(*) > 1")
        for entity, identity, version, count in cursor.fetchall():
            outcome.duplicated += 1
            outcome.problem(f"{entity} {identity}: version {version} was applied {count} times")


def check_counters(outcome: Outcome, world: World, calls: Sequence[Call]) -> None:
    """I5: the sum is what was acknowledged, and at most the unknown on top; no value was given out twice."""
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    values: Counter[tuple[str, int]] = Counter()
    for call in calls:
        if call.kind == "add":
            counter = call.rows[0][1]
            sums[counter][0] += call.by if call.acked else 0
            sums[counter][1] += call.by if call.possible else 0
            values[counter, call.value] += call.acked
    with world.cursor() as cursor:
        cursor.execute("SELECT id::text, value FROM play.counters")
        table = dict(cursor.fetchall())
    for counter, (sure, perhaps) in sums.items():
        value = table.get(counter, 0)
        if value < sure:
            outcome.lost += 1
            outcome.problem(f"I5 counter {counter}: {value}, but {sure} was acknowledged")
        elif value > sure + perhaps:
            outcome.duplicated += 1
            outcome.problem(f"I5 counter {counter}: {value}, but {sure} was acknowledged, and {perhaps} is unknown")
    for (counter, value), count in values.items():
        if count > 1:
            outcome.duplicated += 1
            outcome.problem(f"I5 counter {counter}: {count} calls were told the sum {value}")


def check_registers(outcome: Outcome, world: World, calls: Sequence[Call]) -> None:
    """All forty rows of one PUT, or none: the table is one call's, the last acknowledged or a newer unknown one.

    Rows of one PUT have one version; written with the buffer away each has its own, in one transaction, and the first one's is told.
    """
    told_rows = told([call for call in calls if call.kind == "register"], outcome)
    with world.cursor() as cursor:
        cursor.execute("SELECT class_id || '/' || date, student_id::text, status, version FROM play.registers")
        table: dict[str, dict[str, tuple[str, int]]] = defaultdict(dict)
        for name, student, status, version in cursor.fetchall():
            table[name][student] = status[0], version
    for (_, name), written in told_rows.items():
        newest, rows = max(written.acked, default=0), table.get(name, {})
        if not rows:
            if newest:
                outcome.lost += 1
                outcome.problem(f"I1 register {name}: acknowledged, and nothing of it is in the table")
            continue
        students = [student_of(name.split("/")[0], "student", at) for at in range(STUDENTS)]
        token = "".join(rows.get(student, ("?", 0))[0] for student in students)
        versions, version = {version for _, version in rows.values()}, rows.get(students[0], ("?", 0))[1]
        if version < newest:
            outcome.lost += 1
            outcome.problem(f"I1 register {name}: version {newest} was acknowledged, the table has {version}")
        elif token != written.acked.get(version, token) or (version not in written.acked and token not in written.unknown):
            what = "half a register: " if len(rows) != STUDENTS or len(versions) > 1 else ""
            outcome.problem(f"I2 {what}{name} has {len(rows)} rows of {len(versions)} versions, nobody sent {token} at version {version}")


def check_poison(outcome: Outcome, world: World, calls: Sequence[Call], injected: dict[str, set[str]] | None = None) -> None:
    """I8: the dead letters are exactly the poison."""
    client = world.redis()
    sure = {("play_note", call.rows[0][1]) for call in calls if call.kind == "poison" and call.acked}
    perhaps = {("play_note", call.rows[0][1]) for call in calls if call.kind == "poison" and call.possible}
    for entity, ids in (injected or {}).items():
        sure |= {(entity, identity) for identity in ids}
    dead = {(entity, member.decode()) for entity in ENTITIES for member in client.zrange(f"wb:dlq:{entity}", 0, -1)}
    sure |= dead & perhaps
    outcome.poison = len(dead & sure), len(sure)
    for entity, identity in list(dead - sure)[:10]:
        error = client.hget(f"meta:write_buffer:{entity}:{identity}", "err") or b""
        outcome.problem(f"I8 {entity} {identity} is a dead letter: {error.decode()}")
    for entity, identity in list(sure - dead)[:10]:
        outcome.problem(f"I8 {entity} {identity} is poison, and not a dead letter")


def check_resources(outcome: Outcome, world: World) -> None:
    """I13: files as at the beginning, memory not much above it, for every process that is still up."""
    deadline = time.monotonic() + 10
    while True:
        now = world.resources()
        grown = [name for name, (files, _) in now.items() if name in world.baseline and files > world.baseline[name][0] + 8]
        if not grown or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    outcome.expect(not grown, f"I13: open files were {world.baseline}, and are {now}")
    for name, (_, kib) in now.items():
        before = world.baseline.get(name, (0, kib))[1]
        outcome.expect(kib < before * 2 + 96 * 1024, f"I13: {name} had {before} KiB, and has {kib}")


def check_all(outcome: Outcome, world: World, calls: Sequence[Call], injected: dict[str, set[str]] | None = None) -> None:
    """Behind the drain: everything that holds in every run in which nothing may be lost."""
    try:
        count_lost(outcome, check_rows(outcome, world, calls))
        check_history(outcome, world, calls)
        check_counters(outcome, world, calls)
        check_registers(outcome, world, calls)
    except psycopg2.Error as error:
        outcome.problem(f"the database cannot be asked: {error}")
    check_poison(outcome, world, calls, injected)
    invariant(outcome, world.redis(), "at rest")


__all__ = ["check_all", "check_counters", "check_history", "check_poison", "check_registers", "check_resources", "check_rows",
           "count_calls", "count_lost", "gauge", "invariant", "summed"]
