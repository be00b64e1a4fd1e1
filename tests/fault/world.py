# SPDX-License-Identifier: Apache-2.0
"""The system of a fault run: stores under the shim, auth, the playing service, several workers; who dies is started again.

    with World(options, workers=2) as world: world.play, world.workers, world.redis(), world.cursor()
"""
from __future__ import annotations

import http.client
import math
import os
import pathlib
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import redis
from s24.base import StackError, free_ports, program, wait_for
from s24.client import Client
from s24.seed import PASSWORD, identity, logins, seed
from s24.servers import Redis, Service
from s24.stack import Stack

from harness import BUILD, Proxy, TestStack

from .control import Control
from .core import Options

ENTITIES = ("play_topic", "play_note", "play_counter", "play_register", "play_audit")
TABLES = {"play_topic": "topics", "play_note": "notes", "play_counter": "counters", "play_register": "registers"}
LEASE_S = 3.0  # a dead worker's leases end so long after it, as the tests' intervals are seconds: by the design it is a minute of an hour
SHIM = BUILD / "fault" / "shim.so"
SCHOOL = identity("school", "sunrise")

# Seen by the tables themselves, whoever writes: each version of each row, and each step back.
TRIGGERS = """
CREATE SCHEMA IF NOT EXISTS fault;
CREATE TABLE fault.history (entity text, id uuid, version bigint, token text, deleted boolean);
CREATE TABLE fault.backward (entity text, id uuid, before bigint, after bigint);
CREATE FUNCTION fault.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
	IF TG_OP = 'UPDATE' AND NEW.version <= OLD.version THEN
		INSERT INTO fault.backward VALUES (TG_ARGV[0], NEW.id, OLD.version, NEW.version);
	END IF;
	INSERT INTO fault.history VALUES (TG_ARGV[0], NEW.id, NEW.version, to_jsonb(NEW) ->> TG_ARGV[1], NEW.deleted_at IS NOT NULL);
	RETURN NULL;
END $$;
"""
# KEYS are entities, ARGV pids of workers: none of them are all.
END_LEASES = """
local only, ended = {}, 0
for _, pid in ipairs(ARGV) do only[pid] = true end
for _, entity in ipairs(KEYS) do
  local own = redis.call('HGETALL', 'wb:own:' .. entity)
  for i = 1, #own, 2 do
    if #ARGV == 0 or only[own[i + 1]:match('^[^:]*:(%d+)')] then ended = ended + redis.call('ZADD', 'wb:lease:' .. entity, 'XX', 'CH', 1, own[i]) end
  end
end
return ended
"""
DUE_NOW = """
for i = 2, #ARGV do
  local set = 'wb:' .. ARGV[1] .. ':' .. ARGV[i]
  for _, id in ipairs(redis.call('ZRANGE', set, 0, -1)) do redis.call('ZADD', set, 'XX', 1, id) end
end
"""
TOKEN_COLUMNS = {"play_topic": "title", "play_note": "text", "play_counter": "value", "play_register": "status"}


class ShimmedRedis(Redis):
    """The buffer, whose disk and clock can be made to fail."""

    environment: dict[str, str] = {}

    def start(self) -> None:
        if self.process.pid is None:
            self.process.start([program("redis-server", "redis-server"), str(self.folder / "redis.conf")], self.environment)
            self.process.wait_ready(self.ready)


class World:
    """Everything that a run has; close() is its end, whatever happened."""

    def __init__(self, options: Options, *, workers: int = 2, plays: int = 1, interval_s: int = 4, durability: str = "aof", proxies: tuple[str, ...] = (),
                 settings: dict[str, str] | None = None, worker_binary: pathlib.Path | None = None, play_binary: pathlib.Path | None = None) -> None:
        for binary in (BUILD / "bin" / "schools24-play", BUILD / "bin" / "schools24-fault-worker", SHIM):
            if not binary.exists():
                raise StackError(f"{binary} is not built (./s24 fault builds it)")
        self.options, self.interval_s, self.worker_count, self.play_count = options, interval_s, workers, plays
        self.stack = TestStack(names=["auth"], extra=("play",), durability=durability, settings={
            "RATE_LIMIT_PER_MINUTE": "0", "BATCH_PROCESSOR_INTERVAL": str(interval_s), "BATCH_PROCESSOR_PARALLEL_WORKERS": "3",
            "S24_SWEEP_INTERVAL_S": "0", "LOG_LEVEL": "warn", "REDIS_POOL_SIZE": "4", **(settings or {})})
        if worker_binary:
            self.stack.worker.binary = worker_binary
        if play_binary:
            self.stack.services["play"].binary = play_binary
        self.stack.folder.chmod(0o755)
        self.library = self.stack.folder / "shim.so"
        shutil.copy2(SHIM, self.library)
        self.library.chmod(0o755)
        self.memory_library = SHIM.with_name("shim_memory.so")
        self.control = Control(self.stack.folder / "buffer.control")       # of the buffer's Redis
        self.play_control = Control(self.stack.folder / "play.control")    # of the daemon, when a run wants it
        old = self.stack.buffer
        self.stack.buffer = ShimmedRedis(old.name, old.folder, self.stack.logs, old.account, old.port, old.settings)
        self.stack.buffers["main"] = self.stack.buffer
        self.stack.buffer.environment = self.control.environment(self.library)
        ports = {"pg": self.stack.postgres.port, "redis_buffer": self.stack.buffer.port, "redis_cache": self.stack.cache.port}
        self.proxies = {name: Proxy(ports[name]) for name in proxies}
        for name, proxy in self.proxies.items():
            self.stack.links[name] = proxy.port
        self.workers: list[Service] = []
        self.plays = [self.play]
        self.restarts: Counter[str] = Counter()
        self.died = 0  # of their own: by a failpoint, or refused memory
        self.failpoints: Callable[[Service], str] = lambda service: ""  # asked at each start of a daemon
        self.lock = threading.RLock()  # over starts and kills: nobody starts what somebody else is killing
        self.dead: dict[int, float] = {}  # workers that died, and when their leases end
        self.outages: list[tuple[float, float]] = []  # of the database, by the clock on the wall; one that goes on has no end
        self.buffer_lock = threading.Lock()  # one thing at a time is done to the buffer
        self._ended = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise, daemon=True)
        self.baseline: dict[str, tuple[int, int]] = {}

    # ---- life --------------------------------------------------------------------------------------------------------------------

    def __enter__(self) -> World:
        try:
            self.stack.start(on_database=self._prepare_database)
            self.workers = [self.stack.worker] + [self._another(self.stack.worker, number) for number in range(1, self.worker_count)]
            self.plays = [self.play] + [self._another(self.play, number) for number in range(1, self.play_count)]
            for service in [*self.workers, *self.plays]:
                service.start()
            self._supervisor.start()
            self.client = self.sign_in("teacher")
            self.token = self.client.token
            wait_for("the playing service takes a note", self._takes_notes, 30)
            self.baseline = self.resources()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _prepare_database(self, stack: Stack) -> None:
        seed(stack.postgres, small=True)
        with stack.postgres.cursor() as cursor:
            cursor.execute(TRIGGERS)
            for entity, table in TABLES.items():
                cursor.execute(f"CREATE TRIGGER fault_note AFTER INSERT OR UPDATE ON play.{table} FOR EACH ROW "
                               f"EXECUTE FUNCTION fault.note('{entity}', '{TOKEN_COLUMNS[entity]}')")

    def _another(self, first: Service, number: int) -> Service:
        """A further replica of the worker or of the playing service."""
        ports = free_ports(2)
        service = Service(f"{first.name}{number}", first.binary, self.stack.conf, self.stack.logs, self.stack.daemon_account, *ports)
        service.configure({key: value for key, value in first.settings.items() if key not in ("LISTEN", "ADMIN_LISTEN")}, first.environment)
        return service

    def _takes_notes(self) -> bool:
        return self.puts(f"/play/topics/{identity('topic', 'first')}", {"title": "first"})

    def puts(self, path: str, body: object, **headers: str) -> bool:
        """Is it acknowledged?"""
        try:
            return self.client.put(path, body, **headers).status == 200
        except (OSError, http.client.HTTPException):
            return False

    def close(self) -> None:
        self._ended.set()
        if self._supervisor.is_alive():
            self._supervisor.join()
        for proxy in self.proxies.values():
            proxy.hold = False
        with self.lock:
            for service in [*self.workers, *self.plays, *self.stack.services.values()]:
                self.stack.expected_deaths.add(service.name)
                service.process.send(signal.SIGCONT)
                service.process.send(signal.SIGKILL)
            for service in [*self.workers[1:], *self.plays[1:]]:
                wait_for(service.name, lambda one=service: one.process.pid is None, 5)  # type: ignore[misc]
            self.stack.expected_deaths |= {"worker", "redis-buffer", "postgres"}
            try:
                self.stack.close(keep=self.options.keep)
            finally:
                for proxy in self.proxies.values():
                    proxy.close()
        if self.options.keep:
            print(f"fault: logs are in {self.stack.logs}")

    def _supervise(self) -> None:
        """What an orchestrator does: a daemon that is dead is started again at once."""
        looked = 0.0
        while not self._ended.wait(0.05):
            with self.lock:
                for service in [*self.plays, *self.workers]:
                    if service.process.pid is None and not self._ended.is_set():
                        self.restarts[service.name] += 1
                        self.died += 1
                        self.start(service)
            now = time.monotonic()
            if self.dead and now - looked > 0.25:
                looked, ended = now, {pid for pid, end in list(self.dead.items()) if end <= now}
                try:
                    self.end_leases({str(pid) for pid in ended})
                    with self.lock:
                        for pid in ended:  # a claim may have arrived behind its death: three seconds are enough for that as well
                            del self.dead[pid]
                except redis.RedisError:
                    pass  # the buffer is away as well: later

    def start(self, service: Service) -> None:
        if service in self.workers and service.process.child is not None:
            self.dead[service.process.child.pid] = time.monotonic() + LEASE_S
        armed = self.failpoints(service)
        service.environment["S24_FAILPOINTS"] = armed
        service.environment["S24_FAILPOINT_SEED"] = str(self.options.seed + self.restarts[service.name])
        try:
            service.start(wait=False)
        except StackError:
            pass  # its port is still held: the next look

    def restart(self, service: Service, **environment: str) -> None:
        """With more in its environment, and ready."""
        with self.lock:
            service.stop()
            service.environment.update(environment)
            service.start()

    def calm(self) -> None:
        """No failpoints any more: who has some is replaced, and everybody is ready."""
        self.failpoints = lambda service: ""
        for service in [*self.plays, *self.workers]:
            with self.lock:
                if service.environment.get("S24_FAILPOINTS"):
                    service.process.kill()
                    self.start(service)
        wait_for("every daemon is ready", self.all_ready, 40)

    # ---- parts -------------------------------------------------------------------------------------------------------------------

    @property
    def play(self) -> Service:
        return self.stack.services["play"]

    def redis(self) -> redis.Redis:
        return self.stack.buffer.client()

    def cursor(self) -> Any:
        return self.stack.postgres.cursor()

    def sign_in(self, role: str) -> Client:
        login = logins()[role]
        client = Client(self.stack.url)
        answer = client.login(login["email"], PASSWORD)
        if answer.status != 200:
            raise StackError(f"login of {role}: {answer}")
        return Client(self.play.url, client.token, user=client.user)

    def resources(self) -> dict[str, tuple[int, int]]:
        """Open files and resident KiB of each daemon."""
        found = {}
        for service in [*self.plays, *self.workers]:
            pid = service.process.pid
            try:
                status = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
                found[service.name] = (len(os.listdir(f"/proc/{pid}/fd")), int(status.split("VmRSS:")[1].split()[0]))
            except (OSError, IndexError):
                continue
        return found

    def all_ready(self) -> bool:
        return all(service.is_ready() for service in [*self.plays, *self.workers])

    # ---- the database ----------------------------------------------------------------------------------------------------------------

    def stop_database(self, secs: float) -> None:
        """An immediate stop; it comes back and recovers after so long."""
        postgres, began = self.stack.postgres, time.time()
        self.outages.append((began, math.inf))
        postgres.process.send(signal.SIGQUIT)
        wait_for("the end of postgres", lambda: postgres.process.pid is None, 20)
        time.sleep(secs)
        postgres.start()
        self.outages[-1] = (began, time.time())

    def away_s(self, since: float, until: float) -> float:
        """For how much of this time the database was away."""
        return sum(max(0.0, min(end, until) - max(began, since)) for began, end in list(self.outages))

    # ---- the buffer ----------------------------------------------------------------------------------------------------------------

    def kill_buffer(self) -> None:
        self.stack.buffer.process.kill()

    def cut_buffer_power(self) -> int:
        """kill -9, and of each file of the AOF only what was fsynced; the number of bytes that went."""
        self.kill_buffer()
        synced, gone = self.control.synced(), 0
        for file in (self.stack.buffer.folder / "appendonlydir").glob("*.incr.aof"):
            status = file.stat()
            kept = min(synced.get(status.st_ino, 0), status.st_size)
            gone += status.st_size - kept
            os.truncate(file, kept)
        self.control.forget_files()
        return gone

    def end_leases(self, only: set[str] | None = None) -> int:
        """Leases end now instead of in a minute: those of dead workers' tokens, or all. In one call, for each one waits for the disk."""
        return int(self.redis().eval(END_LEASES, len(ENTITIES), *ENTITIES, *(only or ()))) if only is None or only else 0

    def backlog(self) -> int:
        """Unsynced records but for dead letters."""
        client = self.redis()
        return sum(int(client.zcard(f"wb:{name}:{entity}")) for entity in ENTITIES for name in ("pending", "retry", "lease"))

    def drain(self, timeout_s: float = 90, hurry: bool = False) -> float:
        """Everything comes to the database; the seconds that took. Dead workers' leases end at once; `hurry`: nothing waits to be due."""
        started = time.monotonic()
        alive = {str(worker.process.pid) for worker in self.workers}
        client, ended = self.redis(), 0.0
        while self.backlog():
            if time.monotonic() - started > timeout_s:
                raise StackError(f"{self.backlog()} records are still unsynced after {timeout_s:g} s")
            if time.monotonic() - ended > 1:
                if hurry:
                    self.flush()
                ended = time.monotonic()
                if time.monotonic() - started > 4:
                    self.end_leases()  # a minute, told in no time: also of those who lost the buffer before they could acknowledge
                owners = {owner.decode().split(":")[1] for entity in ENTITIES for owner in client.hvals(f"wb:own:{entity}")}
                self.end_leases(owners - alive)
                client.eval(DUE_NOW, 0, "retry", *ENTITIES)  # what waits out a backoff is tried now
                client.publish("hint:wb", "play_note")
            time.sleep(0.05)
        return time.monotonic() - started

    def flush(self) -> None:
        """What /sync/flush does: whatever waits is due."""
        self.redis().eval(DUE_NOW, 0, "pending", *ENTITIES)


__all__ = ["ENTITIES", "SCHOOL", "TABLES", "World"]
