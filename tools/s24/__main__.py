# SPDX-License-Identifier: Apache-2.0
"""./s24: one command line for the operator. Each command says what it does, and ends with 0, 1 (failed) or 2 (called wrongly)."""
from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import pathlib
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg2
import redis

from . import audit, buffer, soak, tests
from .base import ROOT, Account, StackError, raise_file_limit
from .build import build, step
from .migrate import MigrationError
from .seed import logins, seed
from .servers import answers, install_binary
from .services import existing
from .slice import run_slice
from .stack import Stack, standing_ports


def run_folder(account: Account) -> pathlib.Path:
    """S24_RUN_DIR, else run/ in the checkout, else (a checkout that the servers' account cannot reach, as in root's home) below /var/lib."""
    if "S24_RUN_DIR" in os.environ:
        return pathlib.Path(os.environ["S24_RUN_DIR"]).resolve()
    if account.can_reach(ROOT):
        return ROOT / "run"
    return pathlib.Path("/var/lib/schools24") / hashlib.sha256(str(ROOT).encode()).hexdigest()[:12]


def standing_stack(mongo: bool | None = None) -> Stack:
    """The system of this checkout. `mongo`: None keeps what the last `up` chose."""
    account = Account.unprivileged()
    folder = run_folder(account)
    options = folder / "options.json"
    chosen = json.loads(options.read_text(encoding="utf-8")) if options.exists() else {}
    if mongo is None:
        mongo = bool(chosen.get("mongo"))
    # S24_BUFFERS=main,west: the write buffers, the first for what belongs to no school. Schools live on them, so none is ever forgotten.
    wanted = [name.strip() for name in os.environ.get("S24_BUFFERS", "").split(",") if name.strip()]
    buffers = list(dict.fromkeys([*(chosen.get("buffers") or ["main"]), *wanted])) if chosen or not wanted else wanted
    durability = os.environ.get("S24_DURABILITY", "aof")
    if durability not in ("memory", "aof", "replicated"):
        raise StackError("S24_DURABILITY is memory, aof or replicated")
    return Stack(folder, folder / "bin", standing_ports(buffers=buffers), buffers=buffers, mongo=mongo, durability=durability,
                 environment=os.environ.get("SCHOOLS24_ENV", "development"))


@contextmanager
def locked(stack: Stack) -> Iterator[None]:
    """One command at a time changes the run folder."""
    stack.account.folder(stack.folder)
    with (stack.folder / "lock").open("w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StackError("another ./s24 is at work in this run folder") from None
        yield


def installed(stack: Stack, built: pathlib.Path) -> list[str]:
    """Copies what was built to the run folder, and ends the daemons that changed."""
    folder = stack.account.folder(stack.binaries)
    changed = []
    for name in (*existing(), "worker"):
        source = built / f"schools24-{name}"
        if source.exists() and install_binary(stack.account, source, folder / source.name):
            changed.append(name)
    for service in stack.daemons:
        if service.name in changed:
            service.stop()
    return changed


def up(arguments: argparse.Namespace) -> int:
    started = time.monotonic()
    stack = standing_stack(arguments.mongo)
    print(f"s24: Schools24 in {stack.folder}, servers run as user id {stack.account.uid}")
    if arguments.mongo:
        stack.mongo.check()  # before the minutes of a build
    with locked(stack):
        with step("build"):
            daemons = [*existing(), *(["worker"] if (ROOT / "worker" / "CMakeLists.txt").exists() else [])]
            built = build("release", [*(f"schools24-{name}" for name in daemons), "prove_documents"])
        with step("install"):
            changed = installed(stack, built / "bin")
        if changed:
            print(f"s24:   new: {', '.join(changed)}")
        stack.account.write(stack.folder / "options.json", json.dumps({"mongo": arguments.mongo, "buffers": list(stack.buffers)}) + "\n", 0o644)
        with step("two Redis, PostgreSQL" + (", MongoDB" if arguments.mongo else "")):
            stack.start_stores()
        with step("migrations"):
            names = stack.migrate()
            for name in names:
                print(f"s24:   {name}")
            if names:
                stack.forget_caches()
        if stack.environment != "production":
            with step("demo schools"):
                if seed(stack.postgres, buffers=list(stack.buffers)):
                    stack.forget_caches()
        if not stack.services:
            print("s24: this checkout has no daemons")
            return 0
        with step(f"{len(stack.daemons)} daemons, gateway"):
            stack.start_daemons()
        if stack.environment != "production":
            print("s24: one homework from the browser's request to the database row:")
            run_slice(stack, lambda text, seconds: print(f"s24:   {seconds * 1000:7.1f} ms  {text}"))
            print(f"s24: {stack.prove_documents(built / 'tests' / 'prove_documents')}")
    print(f"s24: up after {time.monotonic() - started:.1f} s: {stack.url}")
    if stack.environment != "production":
        for role, login in logins().items():
            print(f"s24:   {role:<12} {login['email']:<40} {login['password']:<20} {login['school']}")
    return 0


def down(_: argparse.Namespace) -> int:
    stack = standing_stack()
    if not stack.folder.exists():
        print("s24: nothing was ever started here")
        return 0
    with locked(stack), step("stop"):
        stack.stop()
    print(f"s24: down; the data stays in {stack.folder}")
    return 0


def status(_: argparse.Namespace) -> int:
    stack = standing_stack()
    good = True
    ready: dict[str, Callable[[], bool]] = {
        "postgres": stack.postgres.ready, **{one.name: one.ready for one in (*stack.buffers.values(), stack.cache)},
        "gateway": lambda: answers(stack.gateway.port, "/health") == 200 or stack.gateway.scheme == "https",
        **{service.name: service.is_ready for service in stack.daemons}}
    for server in (*stack.buffers.values(), stack.cache):
        server.operator_password = stored(stack, "redis_operator")
    stack.postgres.password = stored(stack, "pg_superuser")
    ports = {"postgres": stack.postgres.port, **{one.name: one.port for one in (*stack.buffers.values(), stack.cache)}, "gateway": stack.gateway.port,
             **{service.name: service.port for service in stack.daemons}}
    for name, process in stack.processes.items():
        pid = process.pid
        state = "stopped" if pid is None else "ready" if ready[name]() else "not ready"
        good = good and state == "ready"
        memory = ""
        if pid is not None:
            pages = pathlib.Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1]
            memory = f"{int(pages) * resource.getpagesize() / 1048576:6.1f} MB"
        print(f"{name:<13} {state:<10} {pid or '-':>8} {ports[name]:>6} {memory:>10}")
    if stack.use_mongo:
        state = "ready" if stack.mongo.ready() else "stopped"
        good = good and state == "ready"
        print(f"{'mongo':<13} {state:<10} {stack.mongo.pid or '-':>8} {stack.mongo.port:>6}")
    return 0 if good else 1


def stored(stack: Stack, name: str) -> str:
    """A secret, if there is one: looking at the system makes nothing."""
    file = stack.secrets / name
    return file.read_text(encoding="utf-8").strip() if file.exists() else ""


def logs(arguments: argparse.Namespace) -> int:
    stack = standing_stack()
    if arguments.name:
        files = [stack.logs / f"{arguments.name}.log"]
        if not files[0].exists():
            raise StackError(f"no log of that name; there are {', '.join(sorted(file.stem for file in stack.logs.glob('*.log')))}")
    else:
        files = sorted(stack.logs.glob("*.log"))
    os.execvp("tail", ["tail", "-n", str(arguments.lines), *(["-F"] if arguments.follow else []), *map(str, files)])


def running(stack: Stack) -> Stack:
    if stack.postgres.process.pid is None:
        raise StackError("PostgreSQL is not running; ./s24 up starts it")
    stack.postgres.password = stack.password("pg_superuser")
    for server in (*stack.buffers.values(), stack.cache):
        server.operator_password = stack.password("redis_operator")
    return stack


def seed_command(_: argparse.Namespace) -> int:
    stack = running(standing_stack())
    if stack.environment == "production":
        raise StackError("the demo schools have known passwords and never go into a production system")
    with step("demo schools"):
        if seed(stack.postgres, buffers=list(stack.buffers)):
            stack.forget_caches()
    return 0


def migrate_command(_: argparse.Namespace) -> int:
    stack = running(standing_stack())
    names = stack.migrate()
    if names:
        stack.forget_caches()
    for name in names:
        print(f"s24: applied {name}")
    print(f"s24: {len(names)} migrations applied")
    return 0


def env(arguments: argparse.Namespace) -> int:
    stack = standing_stack()
    if not stack.secrets.exists():
        raise StackError("nothing was ever started here; ./s24 up starts it")
    if os.environ.get("S24_TLS_CERT"):
        stack.gateway.scheme = "https"
    values = stack.env(logins() if stack.environment != "production" else {})
    if arguments.json:
        print(json.dumps(values, indent=2))
    else:
        for name, value in values.items():
            if isinstance(value, str):
                print(f"{name.upper()}={value}")
    return 0


def buffer_show(arguments: argparse.Namespace) -> int:
    stack = running(standing_stack())
    clients = [one.client() for one in stack.buffers.values()]
    holder = next((one for one in clients if one.exists(f"write_buffer:{arguments.entity}:{arguments.id}")), clients[0])
    print(json.dumps(buffer.show(holder, stack.binaries, arguments.entity, arguments.id), indent=2, ensure_ascii=False))
    return 0


def audit_command(arguments: argparse.Namespace) -> int:
    stack = running(standing_stack())
    url = stack.postgres.url(stack.postgres.SUPERUSER, stack.postgres.password)
    return 0 if audit.verify(url, arguments.schema, audit.parse_heads(arguments.head), print) else 1


def train_dictionaries(_: argparse.Namespace) -> int:
    folder = ROOT / "common" / "svc" / "dicts"
    folder.mkdir(exist_ok=True)
    with step("build"):
        built = build("release", ["train_dictionaries"])
    code = subprocess.run([str(built / "bench" / "train_dictionaries"), str(folder)], check=False).returncode
    if code == 0:
        print("s24: the next build uses them; deploy the worker before the daemons, and leave the older files where they are")
    return code


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="./s24", description="Builds, runs, tests and measures Schools24.",
                                  epilog="docs/operations.md tells the environment variables: S24_RUN_DIR, S24_PORT_BASE, S24_PORT_*, S24_TLS_CERT, ...")
    commands = top.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        return sub

    command("up", up, "install, build and start everything, and show one homework on its way").add_argument(
        "--mongo", action="store_true", help="documents in a real MongoDB server instead of PostgreSQL")
    command("down", down, "stop everything; the data stays")
    command("status", status, "what runs, where, and whether it is ready; fails when something is not")
    log = command("logs", logs, "the ends of the logs")
    log.add_argument("name", nargs="?", help="one server")
    log.add_argument("-f", "--follow", action="store_true")
    log.add_argument("-n", "--lines", type=int, default=50)
    command("seed", seed_command, "the demo schools, if they are not there yet")
    test = command("test", tests.test, "unit and system tests under sanitizers; `all` adds the long ones")
    test.add_argument("suite", nargs="?", default="", help="unit, integration, fault, all, or a file")
    test.add_argument("more", nargs=argparse.REMAINDER, help="passed on to pytest")
    command("check", tests.check, "format, lints and static analysis")
    bench = command("bench", tests.bench, "measurements; without a name all of them")
    bench.add_argument("name", nargs="?", default="")
    bench.add_argument("more", nargs=argparse.REMAINDER)
    fault = command("fault", tests.fault, "fault injection: kills, cuts and lost answers")
    fault.add_argument("runs", nargs="*", metavar="RUN", help="A to H, SIM, or short, or selftest; none: all")
    for option, text in (("seed", "repeats the choices of a run, whose line tells it"), ("secs", "under faults, instead of the run's own"),
                         ("documents", "of SIM"), ("steps", "of SIM"), ("world", "of SIM")):
        fault.add_argument(f"--{option}", metavar="N", help=text)
    fault.add_argument("--keep", action="store_true", help="leave the servers' folders, logs included")
    fault.add_argument("--mutants", action="store_true", help="of SIM")
    soak_parser = command("soak", soak.soak_command, "the same for minutes: two replicas of each daemon, and nobody reads what is too old")
    soak_parser.add_argument("what", choices=["cache"])
    soak_parser.add_argument("minutes", nargs="?", type=float, default=10)
    soak_parser.add_argument("--break", action="store_true", help="forget a part of the raisings, and see it fail")
    command("env", env, "addresses and demo logins for other programs").add_argument("--json", action="store_true")
    command("migrate", migrate_command, "apply the migrations to the running database")
    chains = command("audit", audit_command, "prove the audit chains; fails when a row was changed or a link is gone")
    chains.add_argument("schema", nargs="?", help="one schema")
    chains.add_argument("--head", action="append", default=[], metavar="SCHEMA:SEQ:HASH", help="a link that was seen before and must be there still")
    command("train-dictionaries", train_dictionaries, "new dictionaries of zstd for the buffer's records, with the next number, in common/svc/dicts")
    show = command("buffer", buffer_show, "show a record of the write buffer")
    show.add_argument("what", choices=["show"])
    show.add_argument("entity")
    show.add_argument("id")
    return top


def main() -> int:
    raise_file_limit()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[attr-defined]
    if len(sys.argv) < 2 or sys.argv[1] == "help":
        parser().print_help()
        return 0 if len(sys.argv) > 1 else 2
    arguments = parser().parse_args()
    try:
        return int(arguments.run(arguments))
    except (StackError, MigrationError, psycopg2.Error, redis.RedisError, subprocess.CalledProcessError, OSError) as error:
        print(f"s24: {str(error).strip()}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
