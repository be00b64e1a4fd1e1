# SPDX-License-Identifier: Apache-2.0
"""The daemons: which exist in this checkout, and what each may touch in the two Redis instances (security.md 5.4)."""
from __future__ import annotations

import hashlib
import json
import os
import pathlib
import subprocess
from collections.abc import Mapping, Sequence

from .base import ROOT, StackError

# The order gives the ports; a daemon that does not exist yet keeps its place.
NAMES = ("auth", "dashboard", "quiz", "homework", "attendance", "fee", "inventory", "busroute", "calendar", "report")
# Daemons of the tests: started beside the others on demand only, with their own migration. auth's internal routes are for the daemons that it knows,
# so one of these shows it the token of a daemon that is not there.
TEST_FOLDERS = {"play": ROOT / "tests" / "fault" / "play"}
TEST_PEER = "dashboard"


def existing(root: pathlib.Path = ROOT) -> list[str]:
    """Daemons whose folder is in the checkout."""
    return [name for name in NAMES if (root / "services" / name / "CMakeLists.txt").exists()]


def ask(binary: pathlib.Path, option: str) -> str:
    """What a daemon prints about itself: --print-routes, --print-entities."""
    environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "")}
    result = subprocess.run([str(binary), option], capture_output=True, text=True, timeout=30, check=False, env=environment)
    if result.returncode != 0:
        raise StackError(f"{binary.name} {option} failed ({result.returncode}): {result.stderr.strip()}")
    return result.stdout


def buffered_entities(name: str, binary: pathlib.Path) -> list[str]:
    """Whatever the daemon writes through the buffer: its own entities, and its audit records, which every daemon has."""
    table = json.loads(ask(binary, "--print-entities"))
    return list(dict.fromkeys([entity["name"] for entity in table["entities"] if entity["write"] != "through"] + [f"{name}_audit"]))


# Commands, by what they are for. Nobody but the operator has KEYS, FLUSH*, CONFIG, DEBUG, SCRIPT FLUSH or ACL; keys that a script
# touches are checked against the caller's own patterns.
CONNECTION = "+@connection +ping +time +command|count"
SCRIPTS = "+evalsha +script|load +script|exists"
READ = ("+get +mget +getrange +exists +strlen +hget +hmget +hkeys +hlen +hgetall +smembers +sismember +scard "
        "+zscore +zcard +zcount +zrange +zrangebyscore +ttl +pttl")
WRITE = "+set +setex +setrange +del +unlink +incr +incrby +expire +pexpire +hset +hdel +hincrby +sadd +srem +zadd +zrem +zremrangebyrank +zincrby"
STREAMS = "+xadd +xrange +xrevrange +xread +xlen +xinfo|stream"
CACHE = ("+info", "+dbsize", "+scan")  # its figures, and walks through its names
PUBSUB = "+publish +subscribe +unsubscribe +psubscribe +punsubscribe"

# Of the cache's names: what all services write together (common/cache/cache_internal.h), and what any may do with an entry of another.
CACHE_SHARED = ("epoch:*", "index:*", "generation", "cleared", "index_size", "sweeping", "jobs:*", "place:*")
CACHE_FREE = "(-@all +unlink ~cache:*)"
CACHE_LOOK = "(-@all +unlink +get +getrange +exists +pttl ~cache:*)"
CACHE_ADMINS = ("auth", "dashboard")  # who serves the administration to people


def user(name: str, password: str, *rules: str) -> str:
    """One line of an ACL file. The password stands there as its hash."""
    return f"user {name} on #{hashlib.sha256(password.encode()).hexdigest()} resetkeys resetchannels -@all {' '.join(rules)}"


def operator(password: str) -> str:
    return f"user operator on #{hashlib.sha256(password.encode()).hexdigest()} ~* &* +@all"


def buffer_acl(passwords: Mapping[str, str], entities: Mapping[str, Sequence[str]]) -> str:
    """The buffer's users. `passwords`: operator, worker and the daemons; `entities`: the buffered entities of each daemon."""
    # Nobody can be the default user, but Redis replays its append-only file as it: without the right to every command it drops, at a restart,
    # each transaction in the file, which is every script's effect and so every unsynced record.
    lines = ["user default off resetpass ~* &* +@all", operator(passwords["operator"])]
    for name, own in entities.items():
        keys = [pattern for entity in own
                for pattern in (f"~write_buffer:{entity}:*", f"~meta:write_buffer:{entity}:*", f"~wb:*:{entity}", f"~wb:scope:{entity}:*")]
        keys += ["~wb:hlc", f"~idem:{name}:*", f"~rate:{name}:*", f"~events:{name}", f"~sweep:{name}", "%R~events:*", "%R~wb:durability", "%R~wb:pressure", "%R~wb:paused"]
        keys.append("~session:*" if name == "auth" else "%R~session:*")
        # A daemon hears every domain's events and the directory's changes, and tells of its own. Redis does not tell the two apart.
        channels = [f"&{other}:*" for other in dict.fromkeys([*NAMES, *entities])] + ["&hint:*", "&directory:*", "&session:*", "&user:*"]
        lines.append(user(name, passwords[name], *keys, *channels, CONNECTION, SCRIPTS, READ, WRITE, STREAMS, PUBSUB, "+info"))
    # The worker drains every entity, relays outboxes, verifies the durability settings, and walks through the keys to prove the invariant.
    lines.append(user("worker", passwords["worker"], "~write_buffer:*", "~meta:write_buffer:*", "~wb:*", "~events:*", "%R~session:*", "~idem:worker:*", "~rate:worker:*", "&*",
                      CONNECTION, SCRIPTS, READ, WRITE, STREAMS, PUBSUB, "+config|get", "+info", "+scan", "+zscan", "+hscan", "+xinfo|groups", "+memory|usage"))
    return "\n".join(lines) + "\n"


def cache_acl(passwords: Mapping[str, str], names: Sequence[str]) -> str:
    """The cache's users. A daemon makes, and looks at, entries of its own service and of the directory alone; tags are everybody's, and anybody's entry may
    be dropped, by the rule in parentheses. Who serves the administration looks at all."""
    lines = ["user default off resetpass", operator(passwords["operator"])]
    for name in [*names, "worker"]:
        keys = [f"~cache:*:{name}:v*", "~cache:*:directory:v*", *(f"~cache:*:{shared}" for shared in CACHE_SHARED), f"~rate:{name}:*"]
        channels = ["&cache:*", "&directory:*"] + [f"&{other}:*" for other in dict.fromkeys([*NAMES, *names])]
        lines.append(user(name, passwords[name], *keys, *channels, CONNECTION, SCRIPTS, READ, WRITE, PUBSUB, *CACHE,
                          CACHE_LOOK if name in CACHE_ADMINS else CACHE_FREE))
    return "\n".join(lines) + "\n"
