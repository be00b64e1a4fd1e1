# SPDX-License-Identifier: Apache-2.0
"""Looks into the write buffer (write-path.md 1): the record's header here, its payload by the daemon that knows the entity's fields."""
from __future__ import annotations

import datetime
import json
import pathlib
import struct
import subprocess
import uuid
from typing import Any

import redis

from .base import StackError

HEADER = struct.Struct("<BBQQI8s16sHB")  # put.lua: format, flags, version, first unsynced, size, tag, school, bytes of scopes, of calls


def moment(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def place(client: redis.Redis, entity: str, record_id: str) -> str:
    for kind in ("pending", "retry", "lease", "dlq"):
        if client.zscore(f"wb:{kind}:{entity}", record_id) is not None:
            return {"lease": "in_flight", "dlq": "dead"}.get(kind, kind)
    return "nowhere"


def payload(binaries: pathlib.Path, entity: str, record_id: str, value: bytes) -> Any:
    """The row as JSON, by the first program that knows the entity: `schools24-… --show-record ENTITY ID` with the record on its input."""
    for binary in sorted(binaries.glob("schools24-*")):
        result = subprocess.run([str(binary), "--show-record", entity, record_id], input=value, capture_output=True, check=False, timeout=30)
        if result.returncode == 0 and result.stdout.strip():
            return json.loads(result.stdout)
    return None


def show(client: redis.Redis, binaries: pathlib.Path, entity: str, record_id: str) -> dict[str, Any]:
    key = f"write_buffer:{entity}:{uuid.UUID(record_id)}"
    value = client.get(key)
    meta = {name.decode(): text.decode(errors="replace") for name, text in client.hgetall(f"meta:{key}").items() if name not in (b"calls", b"school")}
    if value is None:
        if meta:
            return {"key": key, "state": "synced", "marker": meta}
        raise StackError(f"{key} is not in the buffer: it is in the database, or nowhere")
    _, flags, version, first_ms, size, tag, school, scopes_size, calls_size = HEADER.unpack_from(value)
    scopes, at = [], HEADER.size
    while at < HEADER.size + scopes_size:
        scopes.append(value[at + 1:at + 1 + value[at]].decode(errors="replace"))
        at += 1 + value[at]
    sealed = value[at + calls_size:]
    shown = {
        "key": key, "state": place(client, entity, record_id), "version": version, "written": moment(version / 1e6),
        "first_unsynced": moment(first_ms / 1e3), "deleted": bool(flags & 1), "urgent": bool(flags & 2), "school_id": str(uuid.UUID(bytes=school)),
        "tag": tag.hex(), "scopes": scopes, "size_packed": size, "size_stored": len(sealed), "meta": meta,
    }
    row = payload(binaries, entity, record_id, value)
    return shown | ({"row": row} if row is not None else {"payload_hex": sealed.hex()})
