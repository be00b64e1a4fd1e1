# SPDX-License-Identifier: Apache-2.0
"""The whole system under one folder: what `./s24 up` runs and what the tests start for themselves, from the same code.

    stack = Stack(folder, bin_folder, ports)      # nothing is touched yet
    stack.start()                                 # stores, migrations, daemons, worker, gateway
    stack.url, stack.env(), stack.stop()
"""
from __future__ import annotations

import json
import os
import pathlib
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from . import gateway, services
from .base import HOST, ROOT, Account, Process, StackError, accepts, free_ports, program, secret
from .migrate import migrate
from .servers import Gateway, Mongo, Postgres, Redis, Service

MIGRATIONS = ROOT / "db" / "migrations"
MONGO_SCRIPT = ROOT / "tools" / "s24" / "mongo_server.sh"
FIXED = ("gateway", "pg", "redis_buffer", "redis_cache", "mongo", "worker", "worker_admin")
# Settings that an operator may give in his environment; everything else of it stays out of the daemons.
TUNABLE = ("AUDIT_PROOF_", "RETENTION_", "BATCH_PROCESSOR_", "CACHE_", "REDIS_COMPRESSION_", "REDIS_DEFAULT_TTL", "REDIS_WRITE_BUFFER_TTL", "REDIS_POOL_SIZE",
           "WRITE_BUFFER_", "POSTGRES_", "MONGO_MAX_POOL_SIZE", "ENABLE_PROMETHEUS", "LOG_LEVEL", "S24_DRAIN_", "SENTRY_DSN", "ASAN_OPTIONS", "UBSAN_OPTIONS",
           "LSAN_OPTIONS", "TSAN_OPTIONS")
# appendfsync of the buffer, by the durability that its daemons promise (write-path.md 9).
FSYNC = {"memory": "everysec", "aof": "always", "replicated": "always"}
# A drained buffer is nearly empty, so with Redis' own 64mb each 40,000 writes bring a fork and a rewrite; of this much the next start reads 3 to 4 s.
AOF_REWRITE = "256mb"
# Of this machine's worker: what is done once a batch is shared by more rows (docs/performance.md), and Redis is not held longer than 3 ms at a time.
BATCH = {"BATCH_PROCESSOR_BATCH_SIZE": "250"}


def standing_ports(environment: Mapping[str, str] = os.environ, buffers: Sequence[str] = ("main",)) -> dict[str, int]:
    """Ports of `./s24 up`: a block from S24_PORT_BASE, each movable by S24_PORT_<NAME>."""
    base = int(environment.get("S24_PORT_BASE", "24000"))
    ports = {name: base + at for at, name in enumerate(FIXED)}
    for at, name in enumerate(buffers[1:]):
        ports[f"redis_buffer_{name}"] = base + 10 + at
    for at, name in enumerate(services.NAMES):
        ports[name], ports[f"{name}_admin"] = base + 20 + 2 * at, base + 21 + 2 * at
    for name in ports:
        ports[name] = int(environment.get(f"S24_PORT_{name.upper().replace('-', '_')}", str(ports[name])))
    if len(set(ports.values())) != len(ports) or not all(0 < port < 65536 for port in ports.values()):
        raise StackError("two servers have the same port, or a port is out of range: look at the S24_PORT_ variables")
    return ports


def test_ports(names: Iterable[str] = services.NAMES) -> dict[str, int]:
    wanted = [*FIXED, *[port for name in names for port in (name, f"{name}_admin")]]
    return dict(zip(wanted, free_ports(len(wanted))))


class Stack:
    """Two Redis, PostgreSQL, the daemons that exist, worker and gateway."""

    def __init__(self, folder: pathlib.Path, binaries: pathlib.Path, ports: Mapping[str, int], *, environment: str = "development",
                 names: Iterable[str] | None = None, extra: Iterable[str] = (), fast: bool = False, durability: str = "aof", mongo: bool = False,
                 buffers: Iterable[str] = ("main",), settings: Mapping[str, str] | None = None, account: Account | None = None,
                 daemon_account: Account | None = None) -> None:
        self.folder, self.binaries, self.ports = folder, binaries, dict(ports)
        self.environment, self.durability, self.use_mongo = environment, durability, mongo
        # A test's own daemons, and the worker that has their entities (services.TEST_FOLDERS).
        self.added = tuple(extra)
        self.names = [*(services.existing() if names is None else names), *self.added]
        # Behind our own gateway, which is stopped first, a drain has no load balancer to wait for.
        self.extra = {"S24_DRAIN_WAIT_MS": "0"} | {name: value for name, value in os.environ.items() if name.startswith(TUNABLE)} | dict(settings or {})
        # PostgreSQL refuses root, so servers run as somebody else; a test's daemons run as the tester, who can reach the build.
        self.account = account or Account.unprivileged()
        self.daemon_account = daemon_account or self.account
        logs = self.logs = folder / "log"
        self.secrets, self.conf = folder / "secrets", folder / "conf"
        self.links: dict[str, int] = {}  # pg, redis_buffer (the first), redis_buffer_NAME, redis_cache: port of a test's proxy between the daemons and the store
        tuning = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "64MB"} if fast else {"shared_buffers": "128MB"}
        self.postgres = Postgres(folder / "postgres", logs, self.account, ports["pg"], tuning)
        # Write buffers by name, the first where it always was.
        self.buffers: dict[str, Redis] = {}
        for buffer in buffers:
            own = f"redis-buffer-{buffer}" if self.buffers else "redis-buffer"
            port = ports.get(own.replace("-", "_", 2)) or free_ports(1)[0]
            self.buffers[buffer] = Redis(own, folder / own, logs, self.account, port, {
                "maxmemory": os.environ.get("S24_BUFFER_MAXMEMORY", "1gb"), "maxmemory-policy": "noeviction", "save": '""',
                "appendonly": "yes", "appendfsync": FSYNC[durability], "auto-aof-rewrite-min-size": AOF_REWRITE})
        self.buffer = next(iter(self.buffers.values()))
        self.cache = Redis("redis-cache", folder / "redis-cache", logs, self.account, ports["redis_cache"], {
            "maxmemory": os.environ.get("S24_CACHE_MAXMEMORY", "256mb"), "maxmemory-policy": "allkeys-lfu", "save": '""', "appendonly": "no"})
        self.mongo = Mongo(MONGO_SCRIPT, folder / "mongo", ports["mongo"])
        self.services = {name: self.service(name) for name in self.names}
        self.worker = self.service("worker", "schools24-fault-worker" if self.added else "")
        self.gateway = Gateway(folder / "gateway", logs, self.account, ports["gateway"])

    def service(self, name: str, binary: str = "") -> Service:
        return Service(name, self.binaries / (binary or f"schools24-{name}"), self.conf, self.logs, self.daemon_account, self.ports[name], self.ports[f"{name}_admin"])

    @property
    def has_worker(self) -> bool:
        return self.worker.binary.exists()

    @property
    def daemons(self) -> list[Service]:
        """auth first: the others ask it."""
        return [*self.services.values(), *([self.worker] if self.has_worker else [])]

    @property
    def processes(self) -> dict[str, Process]:
        all_of: list[Any] = [self.postgres, *self.buffers.values(), self.cache, *self.daemons, self.gateway]
        return {server.process.name: server.process for server in all_of}

    @property
    def url(self) -> str:
        return self.gateway.url

    # ---- secrets -------------------------------------------------------------------------------------------------------------

    def password(self, name: str) -> str:
        return secret(self.account, self.secrets, name)

    def prepare(self) -> None:
        """Folders and secrets, each made once."""
        self.account.folder(self.folder)
        self.account.folder(self.logs)
        self.account.folder(self.secrets, 0o700 if self.account == self.daemon_account else 0o711)
        self.daemon_account.folder(self.conf)
        for name in ("uploads", "gateway"):
            self.daemon_account.folder(self.folder / name, 0o700)
        self.account.folder(self.folder / "gateway", 0o700)
        private = self.secrets / "auth_private.pem"
        if not private.exists():
            pem = subprocess.run([program("openssl", "openssl"), "genpkey", "-algorithm", "ed25519"], capture_output=True, text=True, check=True).stdout
            self.daemon_account.write(private, pem)
        public = self.conf / "auth_public.pem"
        if not public.exists():
            pem = subprocess.run([program("openssl", "openssl"), "pkey", "-in", str(private), "-pubout"], capture_output=True, text=True, check=True).stdout
            self.daemon_account.write(public, pem, 0o644)

    def secret_file(self, name: str, text: str) -> str:
        path = self.secrets / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            self.daemon_account.write(path, text)
        return str(path)

    # ---- stores --------------------------------------------------------------------------------------------------------------

    def start_stores(self) -> None:
        self.prepare()
        for server, variable in (*((one, f"S24_PORT_{one.name.upper().replace('-', '_')}") for one in self.buffers.values()), (self.cache, "S24_PORT_REDIS_CACHE")):
            if server.process.pid is None and accepts(server.port):
                raise StackError(f"port {server.port} is taken by another program ({variable} moves {server.name})")
        self.configure_redis()
        for server in (*self.buffers.values(), self.cache):
            server.start()
        self.postgres.configure(self.password("pg_superuser"))
        self.postgres.start()
        self.postgres.set_owner_password(self.password(Postgres.OWNER))
        if self.use_mongo:
            self.mongo.start()
        else:
            self.mongo.stop()  # of an `up` before that wanted it; its data stays

    def configure_redis(self) -> None:
        names = [*self.names, "worker"]
        entities = {name: services.buffered_entities(name, self.services[name].binary) for name in self.names if self.services[name].binary.exists()}
        passwords = {name: self.password(f"redis_{name}") for name in ("operator", *names)}
        for buffer in self.buffers.values():
            buffer.configure(services.buffer_acl(passwords, entities), passwords["operator"])
        self.cache.configure(services.cache_acl(passwords, list(entities)), passwords["operator"])

    def forget_caches(self) -> None:
        """Something was written around the daemons: no kept answer is given out from here on, for all names have a new generation."""
        if self.cache.process.pid is None:
            return  # it keeps nothing over its own end
        prefix = f"cache:{self.environment}:"
        with self.cache.client() as client:
            if client.exists(prefix + "generation"):
                client.publish(prefix + "news", f"g {client.incr(prefix + 'generation')}")

    def migrate(self) -> list[str]:
        roles = {f"schools24_{name}": self.password(f"schools24_{name}") for name in (*services.NAMES, *self.added, "worker")}
        return migrate(self.postgres.url(Postgres.OWNER, self.password(Postgres.OWNER)), MIGRATIONS, roles,
                       [services.TEST_FOLDERS[name] / "migration.sql" for name in self.added])

    # ---- daemons -------------------------------------------------------------------------------------------------------------

    def configure(self) -> None:
        """Writes the configuration of every daemon, worker and gateway."""
        for service in self.daemons:
            self.configure_daemon(service)
        self.make_service_tokens()
        text = gateway.render(self.routes(), {service.name: service.port for service in self.daemons},
                              f"{os.environ.get('S24_LISTEN', HOST)}:{self.gateway.port}", str(self.logs / "access.log"),
                              workers=os.environ.get("S24_GATEWAY_WORKERS", "auto"), **self.certificate())  # type: ignore[arg-type]
        self.account.folder(self.gateway.folder, 0o700)
        for path in gateway.write_temp_folders(self.gateway.folder):
            self.account.folder(path, 0o700)
        self.gateway.configure(text, tls=bool(self.certificate()))

    def certificate(self) -> dict[str, str]:
        """S24_TLS_CERT and S24_TLS_KEY, copied to where only the gateway reads them."""
        given = {"certificate": os.environ.get("S24_TLS_CERT", ""), "key": os.environ.get("S24_TLS_KEY", "")}
        if not given["certificate"]:
            return {}
        return {name: str(self.account.write(self.gateway.folder / f"{name}.pem", pathlib.Path(path).read_text(encoding="utf-8")))
                for name, path in given.items()}

    def routes(self) -> list[gateway.Route]:
        found = [route for service in self.daemons
                 for route in gateway.parse_routes(service.name, services.ask(service.binary, "--print-routes"))]
        if not found:
            raise StackError("no daemon has printed a route")
        return found

    def configure_daemon(self, service: Service) -> None:
        name = service.name
        settings = {"SCHOOLS24_ENV": self.environment, "AUTH_PUBLIC_KEYS": str(self.conf / "auth_public.pem")}
        if self.durability != "aof":
            settings["WRITE_BUFFER_DURABILITY"] = self.durability
        for peer in self.daemons:
            if peer.name not in (name, *self.added):
                settings[f"{peer.name.upper()}_INTERNAL_URL"] = peer.admin_url
        if name == "auth":
            settings["AUTH_PRIVATE_KEY"] = str(self.secrets / "auth_private.pem")
        if name in ("homework", "report", "quiz"):
            settings["STORAGE_URL"] = f"file://{self.folder / 'uploads'}"
        password = self.password(f"redis_{name}")
        addresses = {
            "DATABASE_URL": self.database_url(name),
            "REDIS_BUFFER_URLS": self.buffer_urls(name, password),
            "REDIS_CACHE_URL": self.cache.url(name, password, self.links.get("redis_cache", 0)),
        }
        environment = {f"{variable}_FILE": self.secret_file(f"{name}.{variable.lower()}", url) for variable, url in addresses.items()}
        environment |= (BATCH if name == "worker" else {}) | self.extra
        if "auth" in self.services:
            settings["SERVICE_TOKEN_FILE"] = str(self.secrets / f"{name}.service_token")
        if self.use_mongo:
            environment["S24_MONGO_URI_FILE"] = self.secret_file("mongo_uri", self.mongo.uri)
        if service.configure(settings, environment) and service.process.pid is not None:
            service.stop()  # start_daemons starts it again, with what is new

    def buffer_urls(self, name: str, password: str) -> str:
        urls = {buffer: server.url(name, password, self.links.get(server.name.replace("-", "_", 2), 0)) for buffer, server in self.buffers.items()}
        return ",".join(f"{buffer}={url}" for buffer, url in urls.items()) if list(urls) != ["main"] else urls["main"]

    def database_url(self, name: str) -> str:
        return self.postgres.url(f"schools24_{name}", self.password(f"schools24_{name}"), port=self.links.get("pg", 0))

    def make_service_tokens(self) -> None:
        """auth signs a token for each daemon, fresh at every start; auth itself needs none to be asked for them."""
        auth = self.services.get("auth")
        if auth is None or not auth.binary.exists():
            return
        for service in self.daemons:
            name = services.TEST_PEER if service.name in self.added else service.name
            result = subprocess.run([str(auth.binary), "--config", str(auth.config), "--service-token", name], capture_output=True, text=True,
                                    check=False, timeout=30, env={"PATH": "/usr/bin:/bin", **auth.environment})
            if result.returncode != 0:
                raise StackError(f"schools24-auth --service-token {service.name} failed: {result.stderr.strip()}")
            self.secret_file(f"{service.name}.service_token", result.stdout)

    def start_daemons(self) -> None:
        self.configure_redis()
        self.configure()
        # The worker writes the buffer's durability, without which no daemon is ready: so all start first, then all are waited for.
        for service in self.daemons:
            service.start(wait=False)
        for service in self.daemons:
            service.start()
        self.gateway.start()

    def start(self, on_database: Callable[[Stack], object] | None = None) -> None:
        self.start_stores()
        self.migrate()
        if on_database:
            on_database(self)
        if self.services:
            self.start_daemons()

    def stop(self) -> dict[str, int | None]:
        """Everything, the gateway first and the stores last; the exit codes that are known."""
        codes: dict[str, int | None] = {}
        self.gateway.stop()
        for service in self.daemons:
            service.process.send(service.process.stop_signal)  # all at once, so that their drains overlap
        for service in self.daemons:
            codes[service.name] = service.stop()
        self.postgres.stop()
        for server in (*self.buffers.values(), self.cache):
            server.stop()
        self.mongo.stop()
        return codes

    def prove_documents(self, program_file: pathlib.Path) -> str:
        """Puts, gets and finds documents in the very store of the daemons, through the same driver; returns what the program says of it."""
        service = "quiz"  # its schema has the embedded store
        environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "DATABASE_URL": self.database_url(service)}
        if self.use_mongo:
            environment["S24_MONGO_URI"] = self.mongo.uri
        environment |= {name: value for name, value in self.extra.items() if name.endswith("SAN_OPTIONS")}
        result = subprocess.run([str(program_file), service], capture_output=True, text=True, check=False, timeout=60, env=environment)
        if result.returncode != 0:
            raise StackError(result.stderr.strip() or f"{program_file.name} ended with {result.returncode}")
        return result.stdout.strip()

    # ---- what others need to know ----------------------------------------------------------------------------------------------

    def env(self, logins: object = None) -> dict[str, object]:
        def of(service: Service) -> dict[str, object]:
            return {"url": service.url, "admin_url": service.admin_url, "pid": service.process.pid}

        operator = self.password("redis_operator")
        return {
            "gateway_url": self.gateway.url,
            "pg_url": self.postgres.url(Postgres.SUPERUSER, self.password("pg_superuser")),
            "redis_buffer_url": self.buffer.url("operator", operator),
            "redis_buffer_urls": {name: server.url("operator", operator) for name, server in self.buffers.items()},
            "redis_cache_url": self.cache.url("operator", operator),
            "mongo_uri": self.mongo.uri if self.use_mongo else None,
            "services": {name: of(service) for name, service in self.services.items()},
            "worker": of(self.worker) if self.has_worker else None,
            "logins": logins or {},
            "run_dir": str(self.folder),
        }

    def dump(self) -> str:
        return json.dumps(self.env(), indent=2)
