# SPDX-License-Identifier: Apache-2.0
"""The worker on a real Redis and PostgreSQL, for test_worker*.py: stores, workers as a test wants them, and rows from the program put_rows."""
from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import time
import uuid
from collections.abc import Iterator

import pytest
import redis
import requests
from s24 import services
from s24.servers import Redis, Service

from harness import BUILD, TestStack, wait_for

PUT_ROWS = BUILD / "tests" / "put_rows"
WORKER = BUILD / "bin" / "schools24-worker"
ENTITIES = ("homework", "homework_submission", "homework_audit", "worker_audit")
TABLES = {"homework": "homework.homework", "homework_submission": "homework.homework_submissions"}

needs_worker = pytest.mark.skipif(not (PUT_ROWS.exists() and WORKER.exists()), reason=f"no worker in {BUILD} (S24_BUILD)")


class World:
    """Stores, and workers as a test wants them."""

    def __init__(self) -> None:
        self.stack = TestStack(names=["homework"])
        self.stack.start_stores()
        self.stack.migrate()
        self.workers: list[Service] = []
        self.started = 0
        self.second: Redis | None = None

    # ---- workers ----

    def worker(self, interval_s: int = 2, failpoints: str = "", wait: bool = True, **settings: str) -> Service:
        """A short interval makes everything due after a second."""
        base = self.stack.worker
        self.stack.configure_daemon(base)
        if self.started == 0:
            service = base
        else:
            ports = self.stack.ports | {"worker": free_port(), "worker_admin": free_port()}
            service = Service(f"worker{self.started}", WORKER, self.stack.conf, self.stack.logs, self.stack.daemon_account,
                              ports["worker"], ports["worker_admin"])
        service.configure({key: value for key, value in base.settings.items() if key not in ("LISTEN", "ADMIN_LISTEN")},
                          {**base.environment, "BATCH_PROCESSOR_INTERVAL": str(interval_s), "BATCH_PROCESSOR_PARALLEL_WORKERS": "3",
                           "AUTH_INTERNAL_URL": "http://127.0.0.1:9",  # nobody: no person is asked about here
                           "S24_FAILPOINTS": failpoints, **settings})
        self.started += 1
        service.start(wait=wait)
        self.workers.append(service)
        return service

    def end(self, service: Service, dead: bool = False) -> int | None:
        """SIGTERM and its exit code; `dead`: it has been killed by a failpoint."""
        self.workers.remove(service)
        if dead:
            wait_for(f"the end of {service.name}", lambda: service.process.pid is None, 30)
            return service.process.exit_code
        return service.stop()

    def end_all(self) -> None:
        for service in list(self.workers):
            code = self.end(service)
            assert code == 0, f"{service.name} ended with {code}"

    def close(self) -> None:
        self.end_all()
        self.stack.expected_deaths.add("worker")
        if self.second:
            self.second.stop()
        self.stack.close()

    # ---- buffers ----

    def with_second_buffer(self) -> dict[str, str]:
        """Starts another instance like the first one; the setting that makes a worker serve both."""
        stack = self.stack
        if self.second is None:
            self.second = Redis("redis-second", stack.folder / "redis-second", stack.logs, stack.account, free_port(), stack.buffer.settings)
        passwords = {name: stack.password(f"redis_{name}") for name in ("operator", "homework", "worker")}
        self.second.configure(services.buffer_acl(passwords, {"homework": services.buffered_entities("homework", stack.services["homework"].binary)}),
                              passwords["operator"])
        self.second.start()
        both = {"main": stack.buffer, "second": self.second}
        text = ",".join(f"{name}={server.url('worker', passwords['worker'])}" for name, server in both.items())
        return {"REDIS_BUFFER_URLS_FILE": stack.secret_file("worker.two_buffers", text)}

    @property
    def buffer(self) -> redis.Redis:
        return self.stack.buffer.client()

    def put(self, kind: str, count: int, first: int = 0, marks: int = 0, to: Redis | None = None) -> dict[str, int]:
        url = (to or self.stack.buffer).url("homework", self.stack.password("redis_homework"))
        result = subprocess.run([str(PUT_ROWS), url, kind, str(count), str(first), str(marks)], capture_output=True, text=True, timeout=60, check=False)
        assert result.returncode == 0, result.stderr
        return {line.split()[0]: int(line.split()[1]) for line in result.stdout.splitlines()}

    def unsynced(self, entity: str, where: Redis | None = None) -> dict[str, int]:
        client = where.client() if where else self.buffer
        return {name: client.zcard(f"wb:{name}:{entity}") for name in ("pending", "retry", "lease", "dlq")}

    def expire_leases(self) -> None:
        """A dead worker's leases end now instead of in a minute."""
        client = self.buffer
        for entity in ENTITIES:
            for member, _ in client.zscan_iter(f"wb:lease:{entity}"):
                client.zadd(f"wb:lease:{entity}", {member: 1})

    def drained(self, *entities: str) -> bool:
        return all(sum(self.unsynced(entity).values()) - self.unsynced(entity)["dlq"] == 0 for entity in entities or ENTITIES)

    def wait_drained(self, *entities: str, timeout_s: float = 30) -> None:
        wait_for(f"the buffer to drain: { {entity: self.unsynced(entity) for entity in ENTITIES} }", lambda: self.drained(*entities), timeout_s)

    def check_invariant(self) -> None:
        """A record is in exactly one of the four sets, and nothing else is."""
        client = self.buffer
        for entity in ENTITIES:
            sets = [{member.decode() for member in client.zrange(f"wb:{name}:{entity}", 0, -1)} for name in ("pending", "retry", "lease", "dlq")]
            records = {key.decode().rsplit(":", 1)[1] for key in client.scan_iter(f"write_buffer:{entity}:*")}
            assert sum(map(len, sets)) == len(set().union(*sets)), entity
            assert set().union(*sets) == records, entity
            assert {member.decode() for member in client.hkeys(f"wb:own:{entity}")} == sets[2], entity

    # ---- database ----

    def rows(self, entity: str) -> dict[str, int]:
        with self.stack.postgres.cursor() as cursor:
            cursor.execute(f"SELECT id::text, version FROM {TABLES[entity]}")
            return dict(cursor.fetchall())

    def query(self, text: str) -> list[tuple]:
        with self.stack.postgres.cursor() as cursor:
            cursor.execute(text)
            return cursor.fetchall()

    def audited(self, action: str) -> list[tuple]:
        """Entity and reason of what an operator did, oldest first, once they are in the table."""
        return self.query(f"SELECT entity_type, reason FROM worker.audit_logs WHERE action = '{action}' ORDER BY created_at")

    def status(self, service: Service, entity: str, buffer: str = "main") -> dict:
        rows = self.call(service, "GET", "/sync/status").json()["entities"]
        return next(row for row in rows if row["entity"] == entity and row["buffer"] == buffer)

    def clear(self) -> None:
        self.buffer.flushdb()
        if self.second and self.second.process.pid is not None:
            self.second.client().flushdb()
        with self.stack.postgres.cursor() as cursor:
            cursor.execute("TRUNCATE homework.homework, homework.homework_submissions, homework.dead_letter, worker.runs, homework.outbox, worker.audit_logs CASCADE")

    # ---- routes ----

    def token(self) -> str:
        """An access token as auth would sign it, and the session behind it."""
        sid, user, school = str(uuid.uuid4()), str(uuid.uuid4()), str(uuid.uuid4())
        now = int(time.time())

        def part(value: object) -> str:
            return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

        claims = {"sub": user, "user_id": user, "email": "root@example.org", "full_name": "Root", "role": "super_admin", "school_id": school, "sid": sid,
                  "iss": "schools24", "aud": "schools24", "iat": now, "exp": now + 600}
        public = subprocess.run(["openssl", "pkey", "-pubin", "-in", str(self.stack.conf / "auth_public.pem"), "-outform", "DER"],
                                capture_output=True, check=True).stdout[-32:]
        x = base64.urlsafe_b64encode(public).rstrip(b"=").decode()
        thumbprint = hashlib.sha256(f'{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}'.encode()).digest()
        kid = base64.urlsafe_b64encode(thumbprint).rstrip(b"=").decode()
        signed = part({"alg": "EdDSA", "typ": "at+jwt", "kid": kid}) + "." + part(claims)
        message = self.stack.folder / "message"
        message.write_text(signed)
        signature = subprocess.run(["openssl", "pkeyutl", "-sign", "-rawin", "-inkey", str(self.stack.secrets / "auth_private.pem"), "-in", str(message)],
                                   capture_output=True, check=True).stdout
        self.buffer.set(f"session:{sid}", json.dumps({"user_id": user, "school_id": school, "role": "super_admin", "expires_at": now + 600}))
        return signed + "." + base64.urlsafe_b64encode(signature).rstrip(b"=").decode()

    def call(self, service: Service, method: str, path: str, body: object = None) -> requests.Response:
        return requests.request(method, f"{service.url}/api/v1{path}", json=body, headers={"Authorization": f"Bearer {self.token()}"}, timeout=60)


def free_port() -> int:
    from harness import free_ports

    return free_ports(1)[0]


def metric(service: Service, line: str) -> float:
    text = requests.get(f"{service.admin_url}/metrics", timeout=10).text
    for found in text.splitlines():
        if found.startswith(line + " "):
            return float(found.rsplit(" ", 1)[1])
    raise AssertionError(f"no {line} in\n{text}")


@pytest.fixture(scope="module")
def everything() -> Iterator[World]:
    own = World()
    try:
        yield own
    finally:
        own.close()


@pytest.fixture
def world(everything: World) -> Iterator[World]:
    everything.clear()
    yield everything
    everything.end_all()
    everything.check_invariant()
