# SPDX-License-Identifier: Apache-2.0
"""C: payments, each repeated under its key until its answer is known, while the daemon dies, the database stops, and the links fail."""
from __future__ import annotations

import dataclasses
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from s24.servers import Service

from .core import Options, Outcome
from .faults import Every, Faults, failpoints, kill_play, stop_database
from .load import identity
from .session import Crowd, Session, Tally
from .world import World

NAME, SECS, SHORT_SECS = "C", 45, 20
ACCOUNTS, CUSTOMERS = 6, 16
POINTS = ("wt.after_begin=kill", "wt.before_commit=kill", "wt.before_commit=err", "wt.after_commit_before_reply=kill", "wt.after_commit_before_reply=err")


@dataclasses.dataclass
class Payment:
    key: str
    account: str
    amount: int
    answers: list[tuple[str, int]] = dataclasses.field(default_factory=list)  # id and balance of each 201
    sent: int = 0
    refused: str = ""


class Customer:
    """Pays, and asks again under the same key; now and then twice at the same time, as a double click does."""

    def __init__(self, world: World, tally: Tally, number: int) -> None:
        self.rng = world.options.rng(f"customer {number}")
        self.sessions = [Session(world, tally, self.rng, timeout_s=6) for _ in range(2)]
        self.number, self.seed, self.payments = number, world.options.seed, list[Payment]()

    def __call__(self, ended: Callable[[], bool]) -> None:
        while not ended():
            at = len(self.payments)
            one = Payment(identity(self.seed, "key", self.number, at), identity(self.seed, "account", self.rng.randrange(ACCOUNTS)), self.rng.randint(1, 9999))
            self.payments.append(one)
            self.settle(one, ended)

    def settle(self, one: Payment, ended: Callable[[], bool]) -> None:
        while not one.answers and not one.refused and not ended():
            twin = threading.Thread(target=self.send, args=(one, self.sessions[1])) if self.rng.random() < 0.15 else None
            if twin:
                twin.start()
            self.send(one, self.sessions[0])
            if twin:
                twin.join()
            if not one.answers:
                time.sleep(self.rng.uniform(0.02, 0.3))
        if one.answers and self.rng.random() < 0.1:
            self.send(one, self.sessions[0])  # long since known: the same answer

    def send(self, one: Payment, session: Session) -> None:
        one.sent += 1
        status, found = session.call("POST", "/payments", {"account_id": one.account, "amount": one.amount}, {"Idempotency-Key": one.key})
        if status == 201:
            one.answers.append((found["id"], found["balance"]))
        elif status in (404, 412, 422):
            one.refused = f"{status} {found}"


def arm_writes(world: World) -> None:
    """F15: most of the daemons that start have two of the failpoints of a write through, at 5 %."""
    rng = world.options.rng("F15")

    def choose(service: Service) -> str:
        return failpoints(rng.sample(POINTS, 2)) if service is world.play and rng.random() < 0.85 else ""

    world.failpoints = choose


def disturb(world: World, rng: random.Random) -> None:
    """F8: one of the five, on one of the two links."""
    proxy = world.proxies[rng.choice(sorted(world.proxies))]
    kind = rng.choice(("latency", "black hole", "reset", "slicer", "cut after"))
    if kind == "latency":
        proxy.delay_s = 0.2
        time.sleep(1.5)
        proxy.delay_s = 0.0
    elif kind == "black hole":
        proxy.hold = True
        time.sleep(rng.uniform(1, 5))
        proxy.hold = False
    elif kind == "slicer":
        proxy.piece_bytes = 1
        time.sleep(1)
        proxy.piece_bytes = 65536
    elif kind == "reset":
        proxy.cut()
    else:
        proxy.cut_after(rng.randrange(2000))


def claims_expire(world: World, _: random.Random | None = None) -> None:
    """The minute for which the claim of a killed daemon keeps twins apart, told in no time. Those of living ones go too: then the table keeps twins apart."""
    client = world.redis()
    for key in client.scan_iter("idem:play:*:claim", count=1000):
        client.delete(key)


def rows(world: World, statement: str) -> list[tuple[Any, ...]]:
    with world.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall())


def check(outcome: Outcome, world: World, payments: Iterable[Payment]) -> None:
    """I2 and I4."""
    by_key = {one.key: one for one in payments}
    table: dict[str, list[tuple[str, str, int]]] = defaultdict(list)
    for key, row_id, account, amount in rows(world, "SELECT idempotency_key, id::text, account_id::text, amount FROM play.payments"):
        table[key].append((row_id, account, amount))
    for key, found in table.items():
        one = by_key.get(key)
        if one is None or any(row[1:] != (one.account, one.amount) for row in found):
            outcome.problem(f"I2 nobody has sent the payment {key} as the table has it: {found}")
        if len(found) > 1:
            outcome.duplicated += 1
            outcome.problem(f"I4 key {key} was paid {len(found)} times")
    balances: Counter[tuple[str, int]] = Counter()
    for one in by_key.values():
        answers = set(one.answers)
        if answers and one.key not in table:
            outcome.lost += 1
            outcome.problem(f"I4 key {one.key} was answered 201, and there is no payment")
        if len(answers) > 1 or answers and one.key in table and {row[0] for row in table[one.key]} != {answer[0] for answer in answers}:
            outcome.problem(f"I4 key {one.key} was told {sorted(answers)}, the table has {table.get(one.key)}")
        outcome.expect(not one.refused, f"the payment {one.key} was refused: {one.refused}")
        outcome.expect(bool(answers) or bool(one.refused), f"the payment {one.key} never came to an answer, {one.sent} times sent")
        for _, balance in answers:
            balances[one.account, balance] += 1
    for (account, balance), count in balances.items():
        outcome.expect(count == 1, f"I4 account {account}: {count} payments were told the balance {balance}")
    for account, balance, number, total, count in rows(world, """SELECT a.id::text, a.balance, a.payments, coalesce(sum(p.amount), 0)::bigint, count(p.id)
            FROM play.accounts AS a LEFT JOIN play.payments AS p ON p.account_id = a.id GROUP BY a.id"""):
        outcome.expect((balance, number) == (total, count), f"I4 account {account}: {number} payments of {balance}, the ledger has {count} of {total}")
    for what, statement in (("event", "SELECT p.id, count(o.id) FROM play.payments AS p LEFT JOIN play.outbox AS o ON o.envelope->'data'->>'id' = p.id::text "
                                      "GROUP BY p.id HAVING count(o.id) <> 1"),
                            ("audit record", "SELECT p.id, count(a.id) FROM play.payments AS p LEFT JOIN play.audit_logs AS a ON a.entity_id = p.id "
                                             "GROUP BY p.id HAVING count(a.id) <> 1")):
        for payment, count in rows(world, statement):
            outcome.problem(f"payment {payment} has {count} of one {what}")


def run(options: Options) -> Outcome:
    outcome = Outcome(NAME, options)
    with World(options, workers=1, proxies=("pg", "redis_buffer")) as world:
        tally = Tally()
        customers = [Customer(world, tally, number) for number in range(CUSTOMERS)]
        arm_writes(world)
        with Crowd(outcome, customers) as crowd:
            with Faults(world, outcome, [Every("F3", 2, kill_play, first_s=0.5), Every("F6", 13, stop_database, first_s=6), Every("F8", 2.5, disturb),
                                         Every("claims", 1, claims_expire)]):
                time.sleep(options.secs)
            world.failpoints = lambda service: ""
            if "S24_FAILPOINTS" in world.play.environment:
                kill_play(world, random.Random())
            crowd.stop(60)
        outcome.faults["F15"] += world.died
        started, everyone = time.monotonic(), [one for customer in customers for one in customer.payments]
        outcome.unknown = len([one for one in everyone if not one.answers])
        claims_expire(world)
        end = time.monotonic() + 30
        last = Customer(world, tally, CUSTOMERS)
        for one in everyone:
            last.settle(one, lambda: time.monotonic() > end)
        outcome.drain_s = time.monotonic() - started
        outcome.acked = len([one for one in everyone if one.answers])
        outcome.more["repeated"] = sum(one.sent for one in everyone) - len(everyone)
        tally.tell(outcome)
        check(outcome, world, everyone)
    return outcome
