# SPDX-License-Identifier: Apache-2.0
"""F14: records that no daemon would write, put into the buffer by its own script: each must end as a dead letter, and harm nobody else."""
from __future__ import annotations

import struct
import time
import uuid
from collections import defaultdict

import redis
from s24.base import ROOT, wait_for
from s24.seed import identity as seed_identity

from .load import identity
from .world import SCHOOL, World

HEADER = struct.Struct("<BBQQI8s16sHB")
RAW, SNAPPY = 0, 1
OTHER_SCHOOL = seed_identity("school", "riverside")
PUT = (ROOT / "common" / "svc" / "lua" / "put.lua").read_text(encoding="utf-8")


def crc32c(data: bytes) -> int:
    """Castagnoli's, as io/codec.h has it; a handful of records, so bit by bit will do."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def seal(layout: int, data: bytes) -> bytes:
    return struct.pack("<BBI", layout, 0, crc32c(data)) + data


def varint(n: int) -> bytes:
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def number(data: bytes, at: int) -> tuple[int, int]:
    """A varint, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at


def unsnappy(data: bytes) -> bytes:
    """What Snappy packed: literals and copies."""
    size, at = number(data, 0)
    out = bytearray()
    while at < len(data):
        tag = data[at]
        at += 1
        if tag & 3 == 0:
            length = (tag >> 2) + 1
            if length > 60:
                more = length - 60
                length = int.from_bytes(data[at:at + more], "little") + 1
                at += more
            out += data[at:at + length]
            at += length
            continue
        if tag & 3 == 1:
            length, offset = (tag >> 2 & 7) + 4, (tag >> 5) << 8 | data[at]
            at += 1
        else:
            width = 2 if tag & 3 == 2 else 4
            length, offset = (tag >> 2) + 1, int.from_bytes(data[at:at + width], "little")
            at += width
        for _ in range(length):
            out.append(out[-offset])
    assert len(out) == size
    return bytes(out)


class Sample:
    """A note as the daemon has packed it, to be changed."""

    TEXT = b"sample " * 30 + b"end"

    def __init__(self, world: World) -> None:
        self.client = world.redis()
        self.id = str(uuid.uuid4())
        self.body = {"topic_id": identity("topic", 0), "class_id": identity("class", 0), "seq": 1, "text": self.TEXT.decode()}
        key, record = f"write_buffer:play_note:{self.id}", None
        deadline = time.monotonic() + 20
        while record is None and time.monotonic() < deadline:
            # A worker may be faster than we are.
            wait_for("a note is taken", lambda: world.puts(f"/play/notes/{self.id}", self.body), 20)
            record = self.client.get(key)
        assert record is not None
        _, flags, _, _, self.size, _, _, scopes, earlier = HEADER.unpack_from(record)
        sealed = record[HEADER.size + scopes + earlier:]
        self.layout, dictionary = sealed[0], sealed[1]
        assert dictionary == 0 and flags >> 2 & 7 in (RAW, SNAPPY), "the sample is packed in another way than this reads"
        self.packed = unsnappy(sealed[6:]) if flags >> 2 & 7 == SNAPPY else sealed[6:]
        assert self.TEXT in self.packed and uuid.UUID(str(self.body["topic_id"])).bytes in self.packed

    def with_text(self, text: bytes) -> bytes:
        return self.packed.replace(varint(len(self.TEXT)) + self.TEXT, varint(len(text)) + text)


def put(client: redis.Redis, identity_: str, payload: bytes, codec: int = RAW, school: str = SCHOOL, floor: int = 0) -> None:
    """One record by put.lua, which looks at nothing in it."""
    script = PUT.split("\n", 1)[1] if not PUT.startswith("#!") else PUT
    reply = client.eval(script, 0, uuid.UUID(school).bytes, uuid.uuid4().bytes[:8], "", "0", "", 1, "play_note", identity_, codec << 2, "",
                        floor, len(payload), 1, f"class_id:{identity('class', 0)}", payload, 0)
    assert isinstance(client, redis.client.Pipeline) or reply[0] == b"OK", reply


def inject(world: World) -> dict[str, set[str]]:
    """One of each kind, all into play_note; entity to the ids that must be dead letters."""
    sample, client, dead = Sample(world), world.redis(), defaultdict(set)

    def poison(payload: bytes, codec: int = RAW, of: str = "", school: str = SCHOOL) -> None:
        identity_ = of or str(uuid.uuid4())
        put(client, identity_, payload, codec, school)
        dead["play_note"].add(identity_)

    poison(seal(sample.layout, b"\xff" * 40))                                    # a layout that its bytes do not have
    poison(seal(sample.layout, sample.with_text(b"x" * 2001)))                   # too long for its table
    poison(seal(sample.layout, sample.with_text(b"a\x00b" + b"c" * 60)))         # what PostgreSQL cannot hold
    poison(seal(sample.layout, b"\xc8\x01broken" + b"\x00" * 20), codec=SNAPPY)  # broken Snappy under a good checksum
    poison(seal(sample.layout, sample.packed)[:-5] + b"wrong")                   # a checksum that does not fit
    # Another school's row under an id that lives: the buffer has forgotten whose it is, the table has not.
    owned = str(uuid.uuid4())
    wait_for("a note is taken", lambda: world.puts(f"/play/notes/{owned}", sample.body, Prefer="wait=5"), 20)
    wait_for("it is in the database", lambda: client.hget(f"meta:write_buffer:play_note:{owned}", "ver") is not None, 60)
    client.delete(f"meta:write_buffer:play_note:{owned}")
    poison(seal(sample.layout, sample.packed), of=owned, school=OTHER_SCHOOL)
    # A child of nobody. Its twelve tries take a quarter of an hour; it has had ten, as far as the buffer knows.
    orphan, nobody = str(uuid.uuid4()), uuid.uuid4().bytes
    payload = seal(sample.layout, sample.packed.replace(uuid.UUID(str(sample.body["topic_id"])).bytes, nobody))
    with client.pipeline(transaction=True) as at_once:
        put(at_once, orphan, payload)
        at_once.hset(f"meta:write_buffer:play_note:{orphan}", "attempts", 10)
        at_once.zrem("wb:pending:play_note", orphan)
        at_once.zadd("wb:retry:play_note", {orphan: 1})
        assert at_once.execute()[0][0] == b"OK"
    dead["play_note"].add(orphan)
    return dict(dead)


__all__ = ["inject"]
