# SPDX-License-Identifier: Apache-2.0
"""The proof of runs C, D and E: the system is broken on purpose, one thing at a time, and the run must see it, by what it is there to see.

A part of ./s24 fault selftest; alone: python3 -m fault.broken [name…]
"""
from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import pathlib
import random
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from s24.base import StackError
from s24.stack import Stack

from harness import BUILD, scratch_folder

from . import run_c, run_d, run_e
from .core import Options
from .world import World

SECS = 8.0
POST = """CREATE OR REPLACE FUNCTION play.post_payment(p_school uuid, p_id uuid, p_key text, p_account uuid, p_amount bigint)
	RETURNS TABLE (id uuid, account_id uuid, amount bigint, balance bigint) LANGUAGE sql VOLATILE AS $$
	INSERT INTO play.accounts (id, school_id, balance, payments) VALUES (p_account, p_school, 0, 0) ON CONFLICT DO NOTHING;
	INSERT INTO play.payments (id, school_id, account_id, idempotency_key, amount) VALUES (p_id, p_school, p_account, p_key, p_amount);
	UPDATE play.accounts AS a SET balance = a.balance + p_amount - %s, payments = a.payments + 1 WHERE a.id = p_account
	RETURNING p_id, p_account, p_amount, a.balance $$;"""
BEFORE = """CREATE FUNCTION fault.break() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN %s; RETURN NEW; END $$;
	CREATE TRIGGER break BEFORE %s FOR EACH ROW EXECUTE FUNCTION fault.break();"""
Break = Callable[[], contextlib.AbstractContextManager[None]]


@dataclasses.dataclass(frozen=True)
class Broken:
    name: str
    module: ModuleType
    shown_by: str  # stands in a violation of the run
    way: Break


@contextlib.contextmanager
def replaced(thing: Any, name: str, value: object) -> Iterator[None]:
    kept = getattr(thing, name)
    setattr(thing, name, value)
    try:
        yield
    finally:
        setattr(thing, name, kept)


def with_sql(module: ModuleType, sql: str) -> Break:
    class BrokenWorld(World):
        def _prepare_database(self, stack: Stack) -> None:
            super()._prepare_database(stack)
            with stack.postgres.cursor() as cursor:
                cursor.execute(sql)

    return lambda: replaced(module, "World", BrokenWorld)


@contextlib.contextmanager
def with_daemon(module: ModuleType, old: bytes, new: bytes) -> Iterator[None]:
    """A copy of the daemon in which a text is another one."""
    folder, binary = scratch_folder(), BUILD / "bin" / "schools24-play"
    data = binary.read_bytes()
    if data.count(old) != 1 or len(old) != len(new):
        raise StackError(f"{binary.name} has {old!r} {data.count(old)} times")
    copy = pathlib.Path(folder) / binary.name
    copy.write_bytes(data.replace(old, new))
    copy.chmod(0o755)
    try:
        with replaced(module, "World", functools.partial(World, play_binary=copy)):
            yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def forgetful_consumer() -> contextlib.AbstractContextManager[None]:
    apply, chance = run_e.Consumer.apply, random.Random(1)

    def sometimes(self: run_e.Consumer, cursor: Any, event: dict[str, Any]) -> None:
        if chance.random() > 0.01:
            apply(self, cursor, event)

    return replaced(run_e.Consumer, "apply", sometimes)


ALL = (
    Broken("a key is forgotten", run_c, "times", with_sql(run_c, "ALTER TABLE play.payments DROP CONSTRAINT payments_school_id_idempotency_key_key;" + POST % "0"
                                                          + BEFORE % ("NEW.key := NEW.key || clock_timestamp()", "INSERT ON play.idempotency"))),
    Broken("a balance is wrong", run_c, "I4 account", with_sql(run_c, POST % "(random() < 0.02)::int")),
    Broken("an event is not written", run_c, "0 of one event", with_sql(run_c, BEFORE % ("IF random() < 0.02 THEN RETURN NULL; END IF", "INSERT ON play.outbox"))),
    Broken("lists do not see the buffer", run_d, "I6 list", with_sql(run_d, """CREATE OR REPLACE FUNCTION play.play_note_live_v1(p_school uuid, p_overlay jsonb)
        RETURNS SETOF play.notes LANGUAGE sql STABLE AS $$ SELECT * FROM play.notes WHERE school_id = p_school AND deleted_at IS NULL $$;""")),
    Broken("the deleted come back", run_d, "I7", with_sql(run_d, BEFORE % ("NEW.deleted_at := NULL", "INSERT OR UPDATE ON play.notes"))),
    Broken("a flush keeps the older value", run_d, "I1", with_sql(run_d, BEFORE % ("NEW.seq := OLD.seq", "UPDATE ON play.notes"))),
    Broken("two relays at a time", run_e, "I11", with_sql(run_e, """CREATE OR REPLACE FUNCTION worker.outbox_take(daemon text, for_buffer text, most integer)
        RETURNS TABLE (id uuid, version bigint, domain text, channel text, envelope text) LANGUAGE plpgsql AS $$ BEGIN
        RETURN QUERY EXECUTE format('SELECT o.id, o.version, o.domain, o.channel, o.envelope::text FROM %I.outbox AS o WHERE o.sent_at IS NULL
        AND o.buffer = $2 ORDER BY o.created_at, o.id LIMIT $1 FOR UPDATE SKIP LOCKED', daemon) USING most, for_buffer; END $$;""")),
    Broken("effects are applied again", run_e, "applied twice", lambda: replaced(run_e, "TABLE", run_e.TABLE.replace("uuid PRIMARY KEY", "uuid"))),
    Broken("an event is acknowledged and not applied", run_e, "I11", forgetful_consumer),
    Broken("a write drops no kept answer", run_e, "I10", lambda: with_daemon(run_e, b"\0counter:{id}\0", b"\0another:{id}\0")),
)


def is_seen(one: Broken, seed: int) -> bool:
    """Its line is printed. A run that does not come to its end has shown nothing."""
    problems: list[str] = []
    try:
        with one.way():
            problems = one.module.run(Options(seed, SECS)).problems
    except Exception:  # the others are tried all the same
        traceback.print_exc()
    shown = [text for text in problems if one.shown_by in text]
    for text in shown[:1] or problems[:3]:
        print(f"fault selftest: {one.name}: {text}", file=sys.stderr)
    print(f"broken={one.name.replace(' ', '-')} run={one.module.NAME} seed={seed} violations={len(problems)} detected={int(bool(shown))}", flush=True)
    return bool(shown)


def trials(seed: int, names: list[str]) -> tuple[int, int]:
    """How many there are, and how many were seen."""
    chosen = [one for one in ALL if not names or one.name in names]
    return len(chosen), sum(is_seen(one, seed) for one in chosen)


def main() -> int:
    count, seen = trials(int.from_bytes(os.urandom(4), "little"), sys.argv[1:])
    print(f"broken={count} detected={seen}")
    return int(seen < count)


if __name__ == "__main__":
    sys.exit(main())
