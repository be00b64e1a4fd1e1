# SPDX-License-Identifier: Apache-2.0
"""D: reads by id and lists, beside writes, deletes and moves between lists, while workers and the database die.

Each writer owns two classes, so it knows what each of their lists must say: every page of every list is compared with its model, order and total included.
Beside them watchers read classes that others write, and must never see an older state than before, nor one older than what was acknowledged before they asked.
"""
from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from .checks import invariant
from .core import Options, Outcome
from .faults import Every, Faults, kill_worker, stop_database
from .load import identity
from .session import Crowd, Session, Tally
from .world import World

NAME, SECS, SHORT_SECS = "D", 45, 20
WRITERS, WATCHED, WATCHERS = 6, 2, 4
NOTES, PATIENCE_S = 40, 90
Fields = dict[str, Any]


class Shared:
    """What all sessions add to."""

    def __init__(self, outcome: Outcome) -> None:
        self.lock, self.outcome = threading.Lock(), outcome
        self.writes = self.reads = self.pages = self.moves = self.deletes = self.unavailable = 0

    def add(self, **counts: int) -> None:
        with self.lock:
            for name, count in counts.items():
                setattr(self, name, getattr(self, name) + count)

    def wrong(self, text: str, *, regressed: bool = False) -> None:
        with self.lock:
            if regressed:
                self.outcome.regressed += 1
            else:
                self.outcome.ryw_violations += 1
            self.outcome.problem(text)


class Writer:
    """One session: writes, then reads what it wrote. Nobody else writes its classes, so a write is repeated until it is known."""

    def __init__(self, world: World, tally: Tally, shared: Shared, number: int) -> None:
        self.rng, self.shared, self.number, self.seed = world.options.rng(f"writer {number}"), shared, number, world.options.seed
        self.session = Session(world, tally, self.rng)
        self.classes = [identity(self.seed, "own class", number, at) for at in range(2)]
        self.model: dict[str, Fields] = {}
        self.gone: list[str] = []
        self.made = 0

    def __call__(self, ended: Callable[[], bool]) -> None:
        while not ended():
            self.write()
            self.look(strict=True)

    def order(self, class_id: str) -> list[Fields]:
        return sorted((note for note in self.model.values() if note["class_id"] == class_id), key=lambda note: (note["seq"], note["id"]))

    def fresh(self) -> Fields:
        self.made += 1
        return {"topic_id": identity("topic", 0), "class_id": self.rng.choice(self.classes), "seq": self.rng.randrange(12),
                "text": f"{self.number}-{self.made}"}

    def write(self) -> None:
        draw, body = self.rng.random(), self.fresh()
        if len(self.model) < NOTES // 2 or draw < 0.25 and len(self.model) < NOTES:
            note, method = identity(self.seed, "own note", self.number, self.made), "PUT"
        else:
            note, method = self.rng.choice(sorted(self.model)), "PATCH"
            if draw < 0.45:
                method = "DELETE"
            elif draw < 0.6:
                method = "PUT"
            elif draw < 0.8:  # to the other list, and nothing else
                body = {"class_id": self.classes[self.classes.index(self.model[note]["class_id"]) ^ 1]}
            else:
                body.pop(self.rng.choice(("class_id", "seq", "text")))
        status, found = self.session.until(method, f"/notes/{note}", None if method == "DELETE" else body, wanted=(200, 404), patience_s=PATIENCE_S)
        if status not in (200, 404) or (status == 404 and method != "DELETE"):
            self.shared.wrong(f"I6 {method} of {note}, which {'lives' if note in self.model else 'is new'}: {status} {found}")
            return
        self.shared.add(writes=1, deletes=method == "DELETE", moves=method == "PATCH" and body.get("class_id", "") not in ("", self.model[note]["class_id"]))
        if method == "DELETE":
            del self.model[note]
            self.gone.append(note)
        else:
            self.model[note] = {**self.model.get(note, {"id": note}), **body}

    def look(self, strict: bool) -> None:
        """By id what was just written or deleted; then one of the two lists from its first page to its last."""
        for note in self.rng.sample(sorted(self.model), min(2, len(self.model))) + self.gone[-2:]:
            self.by_id(note, strict)
        self.pages(self.rng.choice(self.classes), self.rng.choice((3, 7, 100)), strict)

    def by_id(self, note: str, strict: bool = True) -> None:
        status, found = self.session.call("GET", f"/notes/{note}")
        if status in (0, 503):
            self.shared.add(unavailable=1)
            return
        self.shared.add(reads=1)
        wanted = self.model.get(note)
        seen = {name: found[name] for name in wanted} if status == 200 and wanted else None
        if status != (200 if wanted else 404) or seen != wanted:
            what = "I6" if wanted else "I7"
            self.shared.wrong(f"{what} GET of {note}: {status} {found}, and it is {wanted or 'deleted'}" + ("" if strict else ", at rest"))

    def pages(self, class_id: str, size: int, strict: bool = True) -> None:
        wanted, number = self.order(class_id), 1
        while True:
            status, found = self.session.call("GET", f"/notes?class_id={class_id}&page={number}&page_size={size}")
            if status in (0, 503):
                self.shared.add(unavailable=1)
                return
            self.shared.add(pages=1)
            page = wanted[(number - 1) * size:number * size]
            if status != 200 or found["total"] != len(wanted) or found["notes"] != page:
                seen = [note["id"] for note in found.get("notes", [])] if found else None
                self.shared.wrong(f"I6 list of {class_id}, page {number} of {size}: {status}, total {found.get('total')} of {len(wanted)}, "
                                  f"{seen} instead of {[note['id'] for note in page]}" + ("" if strict else ", at rest"))
                return
            number += 1
            if (number - 1) * size >= len(wanted) + size:
                return


class Watched:
    """A class with one writer and many readers. `seq` rises with each write of a note; what is deleted never comes back."""

    def __init__(self, world: World, tally: Tally, shared: Shared, number: int) -> None:
        self.rng, self.shared, self.seed, self.number = world.options.rng(f"watched {number}"), shared, world.options.seed, number
        self.session = Session(world, tally, self.rng)
        self.class_id = identity(self.seed, "watched class", number)
        self.lock = threading.Lock()
        self.acked: dict[str, int] = {}   # note to the seq that was acknowledged last
        self.deleted: set[str] = set()    # acknowledged
        self.made = 0

    def __call__(self, ended: Callable[[], bool]) -> None:
        seq = 0
        while not ended():
            seq += 1
            alive = sorted(set(self.acked) - self.deleted)
            if len(alive) < 12:
                self.made += 1
                note = identity(self.seed, "watched note", self.number, self.made)
            else:
                note = self.rng.choice(alive)
            if len(alive) >= 12 and self.rng.random() < 0.1:
                status, _ = self.session.until("DELETE", f"/notes/{note}", wanted=(200, 404), patience_s=PATIENCE_S)
                with self.lock:
                    self.deleted |= {note} if status in (200, 404) else set()
                continue
            body = {"topic_id": identity("topic", 0), "class_id": self.class_id, "seq": seq, "text": f"watched {seq}"}
            status, _ = self.session.until("PUT", f"/notes/{note}", body, patience_s=PATIENCE_S)
            if status == 200:
                with self.lock:
                    self.acked[note] = seq
            self.shared.add(writes=1)

    def state(self) -> tuple[dict[str, int], set[str]]:
        with self.lock:
            return dict(self.acked), set(self.deleted)


class Watcher:
    """A session that only reads what others write: monotonic, and never behind what was acknowledged before it asked."""

    def __init__(self, world: World, tally: Tally, shared: Shared, watched: list[Watched], number: int) -> None:
        self.rng, self.shared, self.watched = world.options.rng(f"watcher {number}"), shared, watched
        self.session = Session(world, tally, self.rng)
        self.seen: dict[str, int] = {}
        self.seen_gone: set[str] = set()

    def __call__(self, ended: Callable[[], bool]) -> None:
        while not ended():
            target = self.rng.choice(self.watched)
            acked, deleted = target.state()
            if not acked:
                time.sleep(0.05)
            elif self.rng.random() < 0.5:
                note = self.rng.choice(sorted(acked))
                status, found = self.session.call("GET", f"/notes/{note}")
                if status in (200, 404):
                    self.judge(note, found["seq"] if status == 200 else None, acked, deleted)
                    self.shared.add(reads=1)
                else:
                    time.sleep(0.05)
            else:
                status, found = self.session.call("GET", f"/notes?class_id={target.class_id}&page_size=500")
                if status == 200:
                    listed = {note["id"]: note["seq"] for note in found["notes"]}
                    for note in set(acked) | set(listed):
                        self.judge(note, listed.get(note), acked, deleted)
                    self.shared.add(pages=1)
                else:
                    time.sleep(0.05)

    def judge(self, note: str, seq: int | None, acked: dict[str, int], deleted: set[str]) -> None:
        """Against what was known when the read began."""
        if seq is None:
            self.seen_gone |= {note} if note in self.seen or note in acked else set()
            return  # deleted meanwhile; a note that is missed though it lives shows itself later, as one that came back
        if note in deleted or note in self.seen_gone:
            self.shared.wrong(f"I7 {note} was deleted, and is there with seq {seq}", regressed=True)
        elif seq < self.seen.get(note, 0):
            self.shared.wrong(f"I6 {note} was seen with seq {self.seen[note]}, and now with {seq}", regressed=True)
        elif seq < acked.get(note, 0):
            self.shared.wrong(f"I6 {note}: seq {acked[note]} was acknowledged before the read began, which found {seq}")
        self.seen[note] = max(seq, self.seen.get(note, 0))


def check_table(shared: Shared, world: World, writers: list[Writer], watched: list[Watched]) -> None:
    """At rest the table is the model, and the deleted are deleted."""
    with world.cursor() as cursor:
        cursor.execute("SELECT id::text, class_id::text, seq, text, deleted_at IS NOT NULL FROM play.notes")
        table = {row[0]: row[1:] for row in cursor.fetchall()}
    for writer in writers:
        for note, fields in writer.model.items():
            if table.get(note) != (fields["class_id"], fields["seq"], fields["text"], False):
                shared.outcome.lost += 1
                shared.wrong(f"I1 {note} is {table.get(note)} in the table, and {fields} was acknowledged")
    for note in [note for writer in writers for note in writer.gone] + [note for one in watched for note in one.deleted]:
        if note not in table or not table[note][3]:
            shared.wrong(f"I7 {note} was deleted, and the table has {table.get(note)}", regressed=True)


def run(options: Options) -> Outcome:
    outcome = Outcome(NAME, options)
    with World(options, workers=2, interval_s=2) as world:
        tally, shared = Tally(), Shared(outcome)
        world.client.put(f"/play/topics/{identity('topic', 0)}", {"title": "all notes'"})
        writers = [Writer(world, tally, shared, number) for number in range(WRITERS)]
        watched = [Watched(world, tally, shared, number) for number in range(WATCHED)]
        watchers = [Watcher(world, tally, shared, watched, number) for number in range(WATCHERS)]
        with Crowd(outcome, [*writers, *watched, *watchers]) as crowd:
            with Faults(world, outcome, [Every("F1", 0.5, kill_worker), Every("F6", 12, stop_database, first_s=5)]):
                time.sleep(options.secs)
            crowd.stop()
        outcome.drain_s = world.drain()
        for writer in writers:  # the same answers from the table alone
            for note in [*writer.model, *writer.gone]:
                writer.by_id(note, strict=False)
            for class_id in writer.classes:
                writer.pages(class_id, 7, strict=False)
        check_table(shared, world, writers, watched)
        invariant(outcome, world.redis(), "at rest")
        outcome.acked = shared.writes
        outcome.unknown = tally.statuses[0]
        outcome.more |= {"reads": shared.reads, "pages": shared.pages, "moves": shared.moves, "deletes": shared.deletes, "unavailable": shared.unavailable}
        tally.tell(outcome)
    return outcome
