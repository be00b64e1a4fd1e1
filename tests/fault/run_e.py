# SPDX-License-Identifier: Apache-2.0
"""E: consumers of events, which restart, while the daemon, the workers and Redis die and the links of pub/sub are cut.

W7: counters are raised by one, so the events of each must be 1, 2, 3 … in this order, each applied once; payments come through the outbox. The consumer is
a group on the stream whose effect is a row, and which dies between effect and XACK; a listener hears the channels and reads the stream when it was cut off.
W6: the same counters, read through two cached routes of two daemons, while the cache dies and its links are cut too (I10).
"""
from __future__ import annotations

import bisect
import json
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import psycopg2
import redis

from .checks import check_poison
from .core import Options, Outcome
from .faults import Every, Faults, kill, kill_buffer, kill_worker
from .load import identity
from .run_c import Customer, claims_expire
from .residence import Residence
from .session import Crowd, Session, Tally
from .world import World

NAME, SECS, SHORT_SECS = "E", 45, 0
WORKLOADS = ("W6", "W7")
STREAM, GROUP = "events:play", "fault"
COUNTERS, SESSIONS, PAYERS, READERS = 5, 6, 2, 4
BOUND_S = 0.1  # so much older than an invalidation by another daemon may a read be
DEATH_S = 1.0  # so long a daemon that died between PUT and answer leaves what it would have invalidated, until the stream tells it to the others
WORKER_POINTS = "outbox.after_xadd_before_mark=kill:0.05"
PLAY_POINTS = "put.after_reply_before_publish=kill:0.002,cache.before_raise=kill:0.002,cache.fill_after_db_read=sleep(30):0.05"
AWAY = (redis.RedisError, psycopg2.Error, OSError)
TABLE = """CREATE TABLE fault.effects (event uuid PRIMARY KEY, place bigint GENERATED ALWAYS AS IDENTITY, kind text, subject text, value bigint, payment text)"""


class Board:
    """Which sum of each counter was acknowledged, and from when on nobody may be told less."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.told: dict[str, list[tuple[float, int]]] = defaultdict(list)

    def tell(self, counter: str, value: int, since: float) -> None:
        with self.lock:
            bisect.insort(self.told[counter], (since, value))

    def at(self, counter: str, moment: float) -> int:
        """The highest that was known then."""
        with self.lock:
            known = self.told[counter]
            return max((value for _, value in known[:bisect.bisect_right(known, (moment, 1 << 62))]), default=0)


class Adder:
    """Raises counters by one; each addition is repeated under its key until it is known."""

    def __init__(self, world: World, tally: Tally, board: Board, number: int) -> None:
        self.rng, self.seed, self.number, self.board = world.options.rng(f"adder {number}"), world.options.seed, number, board
        self.session = Session(world, tally, self.rng, timeout_s=8, service=world.plays[number % len(world.plays)])
        self.done: Counter[str] = Counter()
        self.unknown = self.at = 0

    def __call__(self, ended: Callable[[], bool]) -> None:
        while not ended() and self.add(self.any()):
            pass

    def any(self) -> str:
        return identity(self.seed, "told", self.rng.randrange(COUNTERS))

    def add(self, counter: str) -> int:
        """The sum; 0: it never came to an answer."""
        self.at += 1
        key, end = identity(self.seed, "adding", self.number, self.at), time.monotonic() + 100
        while True:
            status, found = self.session.call("POST", f"/counters/{counter}/add", {"by": 1}, {"Idempotency-Key": key})
            if status == 200:
                break
            time.sleep(self.rng.uniform(0.02, 0.2))
            if time.monotonic() > end:
                self.unknown += 1
                return 0
        value, replayed = int(found["value"]), "Idempotency-Replayed" in self.session.headers
        self.done[counter] += 1
        self.board.tell(counter, value, time.monotonic() + (DEATH_S if replayed else 0))
        return value


class Reader(Adder):
    """W6: reads through caches, and now and then writes. Its own daemon never gives it less than it was told there; whoever wrote, no answer is older
    than what was acknowledged BOUND_S before it was asked for. An answer that says that it is of the database alone, the buffer being away, is not
    judged, and is not kept by anybody: the next one that does not say so is."""

    def __init__(self, world: World, tally: Tally, board: Board, outcome: Outcome, number: int) -> None:
        super().__init__(world, tally, board, number)
        self.outcome, self.own, self.reads, self.levels, self.worst_s = outcome, Counter[str](), 0, Counter[str](), 0.0

    def __call__(self, ended: Callable[[], bool]) -> None:
        while not ended():
            counter = self.any()
            if self.rng.random() < 0.15:
                value = self.add(counter)
                if value == 0:
                    return
                if "Idempotency-Replayed" not in self.session.headers:
                    self.own[counter] = value
            self.read(counter, self.rng.choice(("", "/shown")))

    def read(self, counter: str, route: str) -> None:
        started = time.monotonic()
        status, found = self.session.call("GET", f"/counters/{counter}{route}")
        if status not in (200, 404):
            time.sleep(0.02)
            return
        state, level = (self.session.headers.get(name, "") for name in ("X-Cache", "X-Cache-Level"))
        if self.session.headers.get("X-Data") == "database-only":
            self.levels["database-only"] += 1
            self.outcome.expect(state == "BYPASS" and "ETag" not in self.session.headers,
                                f"an answer of the database alone says X-Cache: {state} {level}, or has an ETag")
            return
        value, who = found["value"] if status == 200 else 0, f"{self.session.service.name} ({state} {level})"
        self.reads += 1
        self.levels[f"{state or status}-{level}".rstrip("-").lower()] += 1
        if value < self.own[counter]:
            self.outcome.ryw_violations += 1
            self.outcome.problem(f"I6 {who} gives counter {counter}{route} as {value} to one whom it had told {self.own[counter]}")
        behind = next((late for late in (3.0, 1.0, 0.5, 0.3, 0.2, 0.1, 0.05, 0.0) if value < self.board.at(counter, started - late)), -1.0)
        self.worst_s = max(self.worst_s, behind)
        if value < self.board.at(counter, started - BOUND_S):
            self.outcome.problem(f"I10 {who} gives counter {counter}{route} as {value}, {self.board.at(counter, started - BOUND_S)} was acknowledged "
                                 f"more than {max(behind, BOUND_S):g} s before")


class Death(Exception):
    """The consumer's own kill -9."""


class Consumer:
    """At least once by the group, once by its effects' table. What it had when it died it reads first when it is back."""

    def __init__(self, world: World) -> None:
        self.world, self.rng = world, world.options.rng("consumer")
        self.deaths = self.again = self.at = 0
        self.idle = threading.Event()

    def __call__(self, ended: Callable[[], bool]) -> None:
        while not ended():
            try:
                self.live(ended)
            except Death:
                self.deaths += 1
            except AWAY:
                time.sleep(0.1)

    def live(self, ended: Callable[[], bool]) -> None:
        client = self.world.redis()
        with self.world.cursor() as cursor:
            place = "0"  # its own, unacknowledged
            while not ended():
                answer = client.xreadgroup(GROUP, "one", {STREAM: place}, count=20, block=100)
                entries = answer[0][1] if answer else []
                self.idle.set() if not entries and place == ">" else self.idle.clear()
                if not entries:
                    place = ">"
                for entry, fields in entries:
                    self.apply(cursor, json.loads(fields[b"e"]))
                    if self.rng.random() < 0.01:
                        raise Death  # event.after_effect_before_xack
                    client.xack(STREAM, GROUP, entry)
                if place != ">" and entries:
                    place = entries[-1][0]

    def apply(self, cursor: Any, event: dict[str, Any]) -> None:
        data = event["data"]
        cursor.execute("INSERT INTO fault.effects (event, kind, subject, value, payment) VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
                       (event["id"], event["type"].split(".")[3], event["subject"], data.get("value", data.get("balance", 0)), data.get("id")))
        self.again += cursor.rowcount == 0
        cursor.connection.commit()


class Listener:
    """Hears channels over a link that is cut, and reads the stream from its last look when it is back."""

    def __init__(self, world: World) -> None:
        self.world, self.heard, self.caught_up = world, set[str](), set[str]()
        self.last, self.cuts = "0", 0

    def __call__(self, ended: Callable[[], bool]) -> None:
        while not ended():
            try:
                client = redis.Redis(host="127.0.0.1", port=self.world.proxies["redis_buffer"].port, username="operator",
                                     password=self.world.stack.buffer.operator_password, socket_timeout=10)
                channels = client.pubsub(ignore_subscribe_messages=True)
                channels.psubscribe("play:*")
                channels.get_message(timeout=1)
                self.catch_up()
                while not ended():
                    message = channels.get_message(timeout=0.2)
                    if message:
                        self.heard.add(json.loads(message["data"])["id"])
            except AWAY:
                self.cuts += 1
                time.sleep(0.05)

    def catch_up(self) -> None:
        client = self.world.redis()
        while entries := client.xrange(STREAM, f"({self.last}" if self.last != "0" else "-", count=500):
            self.last = entries[-1][0].decode()
            self.caught_up |= {json.loads(fields[b"e"])["id"] for _, fields in entries}


def cut_links(world: World, _: random.Random) -> None:
    """F8: every connection to Redis is cut, subscriptions among them."""
    world.proxies["redis_buffer"].cut()
    world.proxies["redis_cache"].cut()


def kill_cache(world: World, _: random.Random) -> None:
    """F4, of the other Redis: what it had is gone, epochs included."""
    world.stack.cache.process.kill()
    world.stack.cache.start()


def kill_daemon(world: World, rng: random.Random) -> None:
    """F3; the minute of its claims is told in no time."""
    kill(world, rng.choice(world.plays))
    try:
        claims_expire(world)
    except redis.RedisError:
        pass  # Redis is dead as well; what was claimed is asked for again after the next one


def check(outcome: Outcome, world: World, adders: list[Adder], listener: Listener) -> None:
    """I11."""
    done: Counter[str] = sum((adder.done for adder in adders), Counter())
    with world.cursor() as cursor:
        cursor.execute("SELECT kind, subject, value, payment FROM fault.effects ORDER BY place")
        effects: dict[tuple[str, str], list[int]] = defaultdict(list)
        paid: Counter[str] = Counter()
        for kind, subject, value, payment in cursor.fetchall():
            effects[kind, subject].append(value)
            paid[payment] += kind == "payment_posted"
        cursor.execute("SELECT id::text, value FROM play.counters")
        table = dict(cursor.fetchall())
        cursor.execute("SELECT id::text FROM play.payments")
        payments = {row[0] for row in cursor.fetchall()}
    for counter, count in done.items():
        values = effects["counter_added", counter]
        outcome.expect(table.get(counter) == count, f"I5 counter {counter}: {table.get(counter)}, acknowledged {count}")
        if sorted(values) != list(range(1, count + 1)):
            twice = [value for value, times in Counter(values).items() if times > 1]
            missing = sorted(set(range(1, count + 1)) - set(values))
            outcome.duplicated += len(twice)
            outcome.lost += len(missing)
            outcome.problem(f"I11 counter {counter}: of {count} effects {missing[:5]} are missing, {twice[:5]} were applied twice")
        elif values != sorted(values):
            outcome.regressed += 1
            outcome.problem(f"I11 counter {counter}: effects out of order: {[pair for pair in zip(values, values[1:]) if pair[0] > pair[1]][:5]}")
    for (kind, subject), values in effects.items():
        if kind == "payment_posted" and values != sorted(values):
            outcome.regressed += 1
            outcome.problem(f"I11 account {subject}: payments out of order: {[pair for pair in zip(values, values[1:]) if pair[0] > pair[1]][:5]}")
    for payment in payments:
        outcome.expect(paid[payment] == 1, f"I11 payment {payment}: {paid[payment]} effects")
    entries = [json.loads(fields[b"e"]) for _, fields in world.redis().xrange(STREAM)]
    times = Counter((event["type"], event["id"]) for event in entries)
    outcome.more["stream_repeats"] = sum(times.values()) - len(times)
    for (kind, event), count in times.items():
        outcome.expect(count == 1 or "payment_posted" in kind, f"I11 event {event} ({kind}) stands {count} times in the stream")
    missed = {event["id"] for event in entries} - listener.heard - listener.caught_up
    outcome.expect(not missed, f"I11 a listener that was cut off and came back has missed {len(missed)} events")
    outcome.more["only_caught_up"] = len(listener.caught_up - listener.heard)
    outcome.expect(bool(listener.heard), "nothing came by a channel")


def check_caches(outcome: Outcome, world: World, reader: Reader) -> None:
    """I10, at rest: what caches say is what the table says, at each daemon and by both routes."""
    with world.cursor() as cursor:
        cursor.execute("SELECT id::text, value FROM play.counters")
        table = dict(cursor.fetchall())
    for service in world.plays:
        reader.session = Session(world, reader.session.tally, reader.rng, service=service)
        for counter in sorted(reader.board.told):
            for route in ("", "/shown") * 2:
                status, found = reader.session.until("GET", f"/counters/{counter}{route}", patience_s=10)
                outcome.expect(status == 200 and found["value"] == table.get(counter),
                               f"I10 {service.name} gives counter {counter}{route} as {found} at rest, the table has {table.get(counter)}")


def settle(world: World, consumer: Consumer, listener: Listener) -> float:
    """Everything is relayed and consumed; the seconds that took."""
    started = time.monotonic()
    while time.monotonic() < started + 60:
        with world.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM play.outbox WHERE sent_at IS NULL")
            waiting = cursor.fetchone()[0]
        group = next(one for one in world.redis().xinfo_groups(STREAM) if one["name"] == GROUP.encode())
        newest = world.redis().xinfo_stream(STREAM)["last-generated-id"]
        if waiting == 0 and group["pending"] == 0 and group["last-delivered-id"] == newest and consumer.idle.is_set():
            break
        time.sleep(0.1)
    listener.catch_up()
    return time.monotonic() - started


def run(options: Options) -> Outcome:
    outcome = Outcome(NAME, options)
    with World(options, workers=2, plays=2, proxies=("redis_buffer", "redis_cache")) as world:
        with world.cursor() as cursor:
            cursor.execute(TABLE)
        world.redis().xgroup_create(STREAM, GROUP, "$", mkstream=True)
        tally, board = Tally(), Board()
        readers = [Reader(world, tally, board, outcome, SESSIONS + number) for number in range(READERS)]
        adders = [*(Adder(world, tally, board, number) for number in range(SESSIONS)), *readers]
        payers = [Customer(world, tally, number) for number in range(PAYERS)]
        consumer, listener = Consumer(world), Listener(world)
        world.failpoints = lambda service: WORKER_POINTS if service in world.workers else PLAY_POINTS
        with Residence(world, outcome), Crowd(outcome, [consumer, listener]):
            with Crowd(outcome, [*adders, *payers]) as crowd:
                with Faults(world, outcome, [Every("F1", 2, kill_worker), Every("F3", 4, kill_daemon), Every("F4", 9, kill_buffer, first_s=5),
                                             Every("F4cache", 7, kill_cache, first_s=3), Every("F8", 3, cut_links)]):
                    time.sleep(options.secs)
                world.calm()
                claims_expire(world)
                crowd.stop(60)
            claims_expire(world)
            last = Customer(world, tally, PAYERS)
            end = time.monotonic() + 30
            for one in [one for payer in payers for one in payer.payments]:
                last.settle(one, lambda: time.monotonic() > end)
            outcome.drain_s = world.drain() + settle(world, consumer, listener)
        outcome.faults["consumer"] = consumer.deaths
        outcome.faults["F15"] += world.died
        outcome.acked = sum(sum(adder.done.values()) for adder in adders) + sum(bool(one.answers) for payer in payers for one in payer.payments)
        outcome.unknown = sum(adder.unknown for adder in adders)
        outcome.expect(outcome.unknown == 0, f"{outcome.unknown} additions never came to an answer")
        outcome.more |= {"workloads": "+".join(WORKLOADS), "effects_again": consumer.again, "cuts": listener.cuts}
        tally.tell(outcome)
        check(outcome, world, adders, listener)
        check_caches(outcome, world, readers[0])
        check_poison(outcome, world, [])
        levels: Counter[str] = sum((reader.levels for reader in readers), Counter())
        outcome.more |= {"cache_reads": sum(reader.reads for reader in readers), "cache": "/".join(f"{name}:{count}" for name, count in sorted(levels.items())),
                         "behind_s": max(reader.worst_s for reader in readers)}
    return outcome
