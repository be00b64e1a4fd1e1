# SPDX-License-Identifier: Apache-2.0
"""The proof of runs C, D and E: the system is broken on purpose, one thing at a time, and the run must see it. python3 -m fault.broken [name…]"""
from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from harness import TestStack

from . import run_c, run_d, run_e
from .core import Options, execute
from .world import World

SECS = 8
POST = """CREATE OR REPLACE FUNCTION play.post_payment(p_school uuid, p_id uuid, p_key text, p_account uuid, p_amount bigint)
	RETURNS TABLE (id uuid, account_id uuid, amount bigint, balance bigint) LANGUAGE sql VOLATILE AS $$
	INSERT INTO play.accounts (id, school_id, balance, payments) VALUES (p_account, p_school, 0, 0) ON CONFLICT DO NOTHING;
	INSERT INTO play.payments (id, school_id, account_id, idempotency_key, amount) VALUES (p_id, p_school, p_account, p_key, p_amount);
	UPDATE play.accounts AS a SET balance = a.balance + p_amount - %s, payments = a.payments + 1 WHERE a.id = p_account
	RETURNING p_id, p_account, p_amount, a.balance $$;"""
BEFORE = """CREATE FUNCTION fault.break() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN %s; RETURN NEW; END $$;
	CREATE TRIGGER break BEFORE %s FOR EACH ROW EXECUTE FUNCTION fault.break();"""
SQL: dict[str, tuple[ModuleType, str]] = {
    "a key is forgotten": (run_c, "ALTER TABLE play.payments DROP CONSTRAINT payments_school_id_idempotency_key_key;" + POST % "0"
                           + BEFORE % ("NEW.key := NEW.key || clock_timestamp()", "INSERT ON play.idempotency")),
    "a balance is wrong": (run_c, POST % "(random() < 0.02)::int"),
    "an event is not written": (run_c, BEFORE % ("IF random() < 0.02 THEN RETURN NULL; END IF", "INSERT ON play.outbox")),
    "lists do not see the buffer": (run_d, """CREATE OR REPLACE FUNCTION play.play_note_live_v1(p_school uuid, p_overlay jsonb) RETURNS SETOF play.notes
        LANGUAGE sql STABLE AS $$ SELECT * FROM play.notes WHERE school_id = p_school AND deleted_at IS NULL $$;"""),
    "the deleted come back": (run_d, BEFORE % ("NEW.deleted_at := NULL", "INSERT OR UPDATE ON play.notes")),
    "a flush keeps the older value": (run_d, BEFORE % ("NEW.seq := OLD.seq", "UPDATE ON play.notes")),
    "two relays at a time": (run_e, """CREATE OR REPLACE FUNCTION worker.outbox_take(daemon text, for_buffer text, most integer)
        RETURNS TABLE (id uuid, version bigint, domain text, channel text, envelope text) LANGUAGE plpgsql AS $$ BEGIN
        RETURN QUERY EXECUTE format('SELECT o.id, o.version, o.domain, o.channel, o.envelope::text FROM %I.outbox AS o WHERE o.sent_at IS NULL
        AND o.buffer = $2 ORDER BY o.created_at, o.id LIMIT $1 FOR UPDATE SKIP LOCKED', daemon) USING most, for_buffer; END $$;"""),
}


def broken_world(sql: str) -> type[World]:
    class Broken(World):
        def _prepare_database(self, stack: TestStack) -> None:
            super()._prepare_database(stack)
            with stack.postgres.cursor() as cursor:
                cursor.execute(sql)

    return Broken


def with_sql(module: ModuleType, sql: str) -> Callable[[], None]:
    return lambda: setattr(module, "World", broken_world(sql))


def forgetful_table() -> None:
    run_e.TABLE = run_e.TABLE.replace("uuid PRIMARY KEY", "uuid")


def forgetful_consumer() -> None:
    apply, chance = run_e.Consumer.apply, random.Random(1)

    def sometimes(self: run_e.Consumer, cursor: Any, event: dict[str, Any]) -> None:
        if chance.random() > 0.01:
            apply(self, cursor, event)

    run_e.Consumer.apply = sometimes  # type: ignore[method-assign]


def main() -> int:
    deeds: dict[str, tuple[ModuleType, Callable[[], None]]] = {name: (module, with_sql(module, sql)) for name, (module, sql) in SQL.items()}
    deeds["effects are applied again"] = (run_e, forgetful_table)
    deeds["an event is acknowledged and not applied"] = (run_e, forgetful_consumer)
    seed, unseen = int.from_bytes(os.urandom(4), "little"), []
    for name in sys.argv[1:] or deeds:
        module, break_it = deeds[name]
        kept = {thing: getattr(module, thing) for thing in ("World", "TABLE") if hasattr(module, thing)}, run_e.Consumer.apply
        break_it()
        print(f"fault: {name}", file=sys.stderr, flush=True)
        if execute(module, Options(seed, SECS)):
            unseen.append(name)
        for thing, value in kept[0].items():
            setattr(module, thing, value)
        run_e.Consumer.apply = kept[1]  # type: ignore[method-assign]
    print(f"broken={len(sys.argv[1:] or deeds)} detected={len(sys.argv[1:] or deeds) - len(unseen)} seed={seed}")
    for name in unseen:
        print(f"fault: nobody saw that {name}", file=sys.stderr)
    return 1 if unseen else 0


if __name__ == "__main__":
    sys.exit(main())
