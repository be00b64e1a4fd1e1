# SPDX-License-Identifier: Apache-2.0
"""./s24 audit: proves the audit chains, with the functions of db/migrations/0008_worker_duties.sql."""
from __future__ import annotations

from collections.abc import Callable, Mapping

import psycopg2

from .base import StackError

STEP = 10000
SHOWN = 50  # broken links of a schema


def parse_heads(texts: list[str]) -> dict[str, tuple[int, str]]:
    """SCHEMA:SEQ:HASH, as this command and the worker's log show them."""
    heads = {}
    for text in texts:
        parts = text.split(":")
        if len(parts) != 3 or not parts[1].isdigit() or len(parts[2]) != 64 or not set(parts[2]) <= set("0123456789abcdef"):
            raise StackError(f"{text}: a head is SCHEMA:SEQ:HASH, with 64 hexadecimal digits")
        heads[parts[0]] = (int(parts[1]), parts[2])
    return heads


def verify(url: str, schema: str | None, heads: Mapping[str, tuple[int, str]], say: Callable[[str], None]) -> bool:
    """Every chain, or one; `heads`: links that are known from before, which must be there still. False: something is broken, and was said."""
    connection = psycopg2.connect(url, application_name="schools24-audit", connect_timeout=10)
    try:
        # All of it as it was at one moment, while the worker goes on.
        connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
        with connection.cursor() as cursor:
            cursor.execute("SELECT daemon FROM worker.audit_schemas() AS daemon")
            known = [name for (name,) in cursor.fetchall()]
            for name in {schema} - {None} | set(heads):
                if name not in known:
                    raise StackError(f"{name} has no audit chain; there are {', '.join(known)}")
            good = [verify_one(cursor, name, heads.get(name), say) for name in known if schema in (None, name)]
        return all(good)
    finally:
        connection.close()


def verify_one(cursor: psycopg2.extensions.cursor, schema: str, head: tuple[int, str] | None, say: Callable[[str], None]) -> bool:
    broken = []
    at, at_hash = 0, None
    while True:
        cursor.execute("SELECT seq, encode(hash, 'hex'), why FROM worker.audit_chain_check(%s, %s, decode(%s, 'hex'), %s)", (schema, at, at_hash, STEP))
        found = cursor.fetchall()
        broken += [(seq, why) for seq, _, why in found if why is not None]
        if found[-1][0] is None:
            break
        at, at_hash = found[-1][0], found[-1][1]
    if head:
        cursor.execute("SELECT worker.audit_chain_has(%s, %s, decode(%s, 'hex'))", (schema, *head))
        if not cursor.fetchone()[0]:
            broken.append((head[0], "the link that was known before is gone or another"))
    cursor.execute(f'SELECT count(*), count(c.audit_id) FROM "{schema}".audit_logs a LEFT JOIN "{schema}".audit_chain c ON c.audit_id = a.id')
    rows, linked = cursor.fetchone()
    shown = f"head {schema}:{at}:{at_hash}" if at_hash else "no links yet"
    say(f"{schema:<12} {rows} rows, {rows - linked} not chained yet, {len(broken)} broken, {shown}")
    for seq, why in broken[:SHOWN]:
        say(f"{schema:<12} seq {seq}: {why}")
    return not broken


__all__ = ["parse_heads", "verify"]
