# SPDX-License-Identifier: Apache-2.0
"""One class for each kind of server: writes its configuration, starts it, knows when it is ready, stops it."""
from __future__ import annotations

import contextlib
import http.client
import json
import os
import pathlib
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping

import psycopg2
import redis

from .base import HOST, Account, Process, StackError, accepts, program, wait_for


def answers(port: int, path: str, timeout_s: float = 2) -> int:
    """Status of a GET on this machine; 0 when nobody answers."""
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


class Redis:
    """One Redis instance, with its users in an ACL file (the default user is off)."""

    def __init__(self, name: str, folder: pathlib.Path, log_folder: pathlib.Path, account: Account, port: int, settings: Mapping[str, str]) -> None:
        self.name, self.folder, self.account, self.port, self.settings = name, folder, account, port, dict(settings)
        self.process = Process(name, folder, log_folder / f"{name}.log", account)
        self.operator_password = ""

    def url(self, user: str, password: str, port: int = 0) -> str:
        """`port`: of a proxy in front of it."""
        return f"redis://{user}:{password}@{HOST}:{port or self.port}/0"

    def client(self) -> redis.Redis:
        """As the operator, who may do everything."""
        return redis.Redis(host=HOST, port=self.port, username="operator", password=self.operator_password, socket_timeout=10)

    def configure(self, acl: str, operator_password: str) -> None:
        self.operator_password = operator_password
        self.account.folder(self.folder, 0o700)
        lines = [f"bind {HOST}", f"port {self.port}", f"dir {self.folder}", f"aclfile {self.folder}/users.acl", "daemonize no", "tcp-backlog 1024",
                 "maxclients 4096", *[f"{name} {value}" for name, value in self.settings.items()]]
        self.account.write(self.folder / "redis.conf", "\n".join(lines) + "\n")
        acl_file = self.folder / "users.acl"
        changed = not acl_file.exists() or acl_file.read_text(encoding="utf-8") != acl
        self.account.write(acl_file, acl)
        if changed and self.process.pid is not None:
            self.client().execute_command("ACL", "LOAD")

    def start(self) -> None:
        if self.process.pid is None:
            self.process.start([program("redis-server", "redis-server"), str(self.folder / "redis.conf")])
            self.process.wait_ready(self.ready)

    def ready(self) -> bool:
        try:
            return bool(self.client().ping())
        except redis.RedisError:
            return False

    def stop(self) -> None:
        self.process.stop()


class Postgres:
    """A PostgreSQL cluster of our own, on a port of its own, without a Unix socket; passwords by SCRAM."""

    SUPERUSER, DATABASE, OWNER = "schools24", "schools24", "schools24_migrate"

    def __init__(self, folder: pathlib.Path, log_folder: pathlib.Path, account: Account, port: int, settings: Mapping[str, str]) -> None:
        self.folder, self.account, self.port, self.settings = folder, account, port, dict(settings)
        self.data = folder / "data"
        # SIGINT is the fast shutdown: sessions are ended, everything committed is kept.
        self.process = Process("postgres", folder, log_folder / "postgres.log", account, stop_signal=signal.SIGINT)
        self.password = ""

    def binary(self, name: str) -> str:
        """Of the version that made the cluster, else of the newest one installed."""
        made_by = self.data / "PG_VERSION"
        version = made_by.read_text(encoding="utf-8").strip() if made_by.exists() else "*"
        found = sorted(pathlib.Path("/usr/lib/postgresql").glob(f"{version}/bin/{name}"), key=lambda path: int(path.parts[-3]))
        if not found:
            raise StackError(f"PostgreSQL {version if version != '*' else ''} is not installed (Debian package postgresql)")
        return str(found[-1])

    def url(self, role: str, password: str, database: str = DATABASE, port: int = 0) -> str:
        """`port`: of a proxy in front of it."""
        return f"postgres://{role}:{password}@{HOST}:{port or self.port}/{database}"

    def configure(self, password: str) -> None:
        self.password = password
        self.account.folder(self.folder, 0o700)
        if not (self.data / "PG_VERSION").exists():
            password_file = self.account.write(self.folder / "initial-password", password + "\n")
            result = subprocess.run(
                [self.binary("initdb"), "-D", str(self.data), "-U", self.SUPERUSER, "-E", "UTF8", "--locale=C.UTF-8", "--auth=scram-sha-256",
                 f"--pwfile={password_file}", "--data-checksums", "--no-instructions", *([] if self.settings.get("fsync") != "off" else ["--no-sync"])],
                capture_output=True, text=True, check=False, cwd=self.folder,
                env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}, **self.account.run_as())  # type: ignore[call-overload]
            password_file.unlink()
            if result.returncode != 0:
                raise StackError(f"initdb failed: {result.stderr.strip()}")
        settings = {"listen_addresses": HOST, "port": str(self.port), "unix_socket_directories": "", "max_connections": "200",
                    "log_line_prefix": "%m [%p] %u %a ", "log_timezone": "UTC", "timezone": "UTC", **self.settings}
        text = "".join(f"{name} = '{value}'\n" for name, value in settings.items())
        self.account.write(self.data / "postgresql.auto.conf", text)
        self.account.write(self.data / "pg_hba.conf", f"host all all {HOST}/32 scram-sha-256\n")

    def start(self) -> None:
        if self.process.pid is None:
            if accepts(self.port):
                raise StackError(f"port {self.port} is taken by another program (S24_PORT_PG moves PostgreSQL)")
            self.process.start([self.binary("postgres"), "-D", str(self.data)])
            self.process.wait_ready(self.ready, 60)
        self.create_database()

    def ready(self) -> bool:
        try:
            self.connect("postgres").close()
            return True
        except psycopg2.Error:
            return False

    def connect(self, database: str = DATABASE) -> psycopg2.extensions.connection:
        """As the superuser, whom row-level security does not bind."""
        connection = psycopg2.connect(self.url(self.SUPERUSER, self.password, database), connect_timeout=3)
        connection.autocommit = True
        return connection

    @contextlib.contextmanager
    def cursor(self, database: str = DATABASE) -> Iterator[psycopg2.extensions.cursor]:
        """As the superuser, each statement for itself."""
        with contextlib.closing(self.connect(database)) as connection, connection.cursor() as cursor:
            yield cursor

    def create_database(self) -> None:
        """The migration role owns the database and makes the other roles; it is no superuser."""
        with self.cursor("postgres") as cursor:
            cursor.execute("SELECT FROM pg_roles WHERE rolname = %s", (self.OWNER,))
            if not cursor.fetchall():
                cursor.execute(f"CREATE ROLE {self.OWNER} LOGIN CREATEROLE NOSUPERUSER NOBYPASSRLS")
            cursor.execute("SELECT FROM pg_database WHERE datname = %s", (self.DATABASE,))
            if not cursor.fetchall():
                cursor.execute(f"CREATE DATABASE {self.DATABASE} OWNER {self.OWNER}")

    def set_owner_password(self, password: str) -> None:
        with self.cursor("postgres") as cursor:
            cursor.execute(f"ALTER ROLE {self.OWNER} PASSWORD %s", (password,))

    def stop(self) -> None:
        self.process.stop(60)


class Service:
    """A daemon or the worker: one YAML file, secrets by files, a public and an internal listener."""

    def __init__(self, name: str, binary: pathlib.Path, folder: pathlib.Path, log_folder: pathlib.Path, account: Account, port: int,
                 admin_port: int) -> None:
        self.name, self.binary, self.folder, self.account = name, binary, folder, account
        self.port, self.admin_port = port, admin_port
        self.process = Process(name, folder, log_folder / f"{name}.log", account)
        self.settings: dict[str, str] = {}  # plain ones: into the YAML file
        self.environment: dict[str, str] = {}

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def admin_url(self) -> str:
        return f"http://{HOST}:{self.admin_port}"

    def configure(self, settings: Mapping[str, str], environment: Mapping[str, str]) -> bool:
        """Writes its configuration; True when that is another one than before."""
        self.settings = {"LISTEN": f"{HOST}:{self.port}", "ADMIN_LISTEN": f"{HOST}:{self.admin_port}", **settings}
        self.environment = dict(environment)
        self.account.folder(self.folder)
        text = "".join(f"{name.lower()}: {json.dumps(value)}\n" for name, value in self.settings.items())
        # The environment is kept beside it, so that a later `up` sees whether it has changed; it names files of secrets, and holds none.
        text += "".join(f"# {name}={value}\n" for name, value in sorted(self.environment.items()))
        changed = not self.config.exists() or self.config.read_text(encoding="utf-8") != text
        self.account.write(self.config, text, 0o640)
        return changed

    @property
    def config(self) -> pathlib.Path:
        return self.folder / f"{self.name}.yaml"

    def start(self, wait: bool = True) -> None:
        if self.process.pid is None:
            if not os.access(self.binary, os.X_OK):
                raise StackError(f"{self.binary} is not built")
            for port in (self.port, self.admin_port):
                if accepts(port):
                    raise StackError(f"{self.name}: port {port} is taken by another program (S24_PORT_BASE moves all ports)")
            self.process.start([str(self.binary), "--config", str(self.config)], self.environment)
        if wait:
            self.process.wait_ready(lambda: answers(self.admin_port, "/ready") == 200, 30)

    def is_ready(self) -> bool:
        return self.process.pid is not None and answers(self.admin_port, "/ready") == 200

    def stop(self) -> int | None:
        return self.process.stop(60)


class Gateway:
    """nginx with the configuration that gateway.py makes of the daemons' route tables."""

    def __init__(self, folder: pathlib.Path, log_folder: pathlib.Path, account: Account, port: int) -> None:
        self.folder, self.log_folder, self.account, self.port = folder, log_folder, account, port
        # SIGQUIT lets requests in flight end.
        self.process = Process("gateway", folder, log_folder / "gateway.log", account, stop_signal=signal.SIGQUIT)
        self.scheme = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{HOST}:{self.port}"

    def configure(self, text: str, tls: bool = False) -> None:
        self.scheme = "https" if tls else "http"
        self.account.folder(self.folder, 0o700)
        config = self.folder / "nginx.conf"
        changed = not config.exists() or config.read_text(encoding="utf-8") != text
        self.account.write(config, text)
        if changed:
            self.check()
            self.process.send(signal.SIGHUP)

    def command(self, *more: str) -> list[str]:
        return [program("nginx", "nginx"), "-p", str(self.folder), "-c", "nginx.conf", "-e", "stderr", *more]

    def check(self) -> None:
        result = subprocess.run(self.command("-t", "-q"), capture_output=True, text=True, check=False,
                                env={"PATH": "/usr/sbin:/usr/bin:/bin"}, **self.account.run_as())  # type: ignore[call-overload]
        if result.returncode != 0:
            raise StackError(f"nginx refuses its configuration: {result.stderr.strip()}")

    def start(self) -> None:
        if self.process.pid is None:
            if accepts(self.port):
                raise StackError(f"port {self.port} is taken by another program (S24_PORT_GATEWAY moves the gateway)")
            self.process.start(self.command())
        self.process.wait_ready(lambda: accepts(self.port))

    def stop(self) -> None:
        self.process.stop()


class Mongo:
    """A real MongoDB server for `up --mongo` and the conformance tests; mongo_server.sh knows which one there can be."""

    def __init__(self, script: pathlib.Path, folder: pathlib.Path, port: int) -> None:
        self.script, self.folder, self.port = script, folder, port

    def run(self, *arguments: str, timeout_s: float = 1800) -> subprocess.CompletedProcess[str]:
        # What it starts outlives the terminal.
        return subprocess.run([str(self.script), *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False, timeout=timeout_s,
                              start_new_session=True)

    def check(self) -> None:
        """Raises when this machine cannot have one; the script says why."""
        if self.run("check").returncode != 0:
            raise StackError("no MongoDB server on this machine; without --mongo documents are in PostgreSQL")

    def start(self) -> str:
        self.check()
        if self.pid is None and accepts(self.port):
            raise StackError(f"port {self.port} is taken by another program (S24_PORT_MONGO moves MongoDB)")
        for arguments in (("prepare",), ("start", str(self.folder), str(self.port))):
            if self.run(*arguments).returncode != 0:
                raise StackError(f"no MongoDB server: mongo_server.sh {arguments[0]} failed, see above")
        return self.uri

    @property
    def pid(self) -> int | None:
        """Of the server that speaks MongoDB's protocol; None when it does not run."""
        try:
            number = int((self.folder / "mongo.pid").read_text(encoding="utf-8"))
            command = pathlib.Path(f"/proc/{number}/cmdline").read_bytes()
        except (OSError, ValueError):
            return None
        return number if b"mongod" in command or b"ferretdb" in command else None

    def ready(self) -> bool:
        return self.pid is not None and accepts(self.port)

    @property
    def uri(self) -> str:
        file = self.folder / "uri"
        return file.read_text(encoding="utf-8").strip() if file.exists() else ""

    def stop(self) -> None:
        if self.folder.exists():
            self.run("stop", str(self.folder))


def install_binary(account: Account, built: pathlib.Path, to: pathlib.Path) -> bool:
    """Copies a program to where the servers' account can reach it; True when it changed."""
    if to.exists() and to.stat().st_mtime_ns == built.stat().st_mtime_ns and to.stat().st_size == built.stat().st_size:
        return False
    temporary = to.with_name(to.name + ".new")
    shutil.copy2(built, temporary)
    temporary.chmod(0o755)
    account.own(temporary)
    temporary.rename(to)
    return True


__all__ = ["Gateway", "Mongo", "Postgres", "Redis", "Service", "answers", "install_binary", "wait_for"]
