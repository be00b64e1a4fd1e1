# SPDX-License-Identifier: Apache-2.0
"""What all servers share: the account they run under, ports, and processes that outlive the command which started them."""
from __future__ import annotations

import os
import pathlib
import pwd
import random
import re
import resource
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

ROOT = pathlib.Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"


class StackError(Exception):
    """What went wrong, in words for the operator."""


@dataclass(frozen=True)
class Account:
    """Whom a server runs as. PostgreSQL refuses root, and nothing else needs it."""

    uid: int
    gid: int

    @staticmethod
    def unprivileged() -> Account:
        if os.getuid() != 0:
            return Account(os.getuid(), os.getgid())
        name = os.environ.get("S24_USER", "postgres")
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            raise StackError(f"running as root needs the unprivileged user {name!r} (S24_USER), which does not exist") from None
        return Account(entry.pw_uid, entry.pw_gid)

    def own(self, path: pathlib.Path) -> None:
        if os.getuid() == 0:
            os.chown(path, self.uid, self.gid)

    def folder(self, path: pathlib.Path, mode: int = 0o755) -> pathlib.Path:
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(mode)
        self.own(path)
        return path

    def write(self, path: pathlib.Path, text: str, mode: int = 0o600) -> pathlib.Path:
        """Replaces the file at once: nobody reads half of it, and a secret never has a wider mode than its own."""
        temporary = path.with_name(path.name + ".new")
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
            file.write(text)
        temporary.chmod(mode)
        self.own(temporary)
        temporary.rename(path)
        return path

    def can_reach(self, path: pathlib.Path) -> bool:
        """May the account walk down to the path? Root's own home is closed to everybody else."""
        for folder in [path, *path.parents]:
            if folder.exists():
                status = folder.stat()
                bit = 0o100 if status.st_uid == self.uid else 0o010 if status.st_gid == self.gid else 0o001
                if not status.st_mode & bit:
                    return False
        return True

    def run_as(self) -> dict[str, object]:
        """Arguments for subprocess."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if os.getuid() == 0 else {}


def raise_file_limit() -> None:
    """Servers inherit it, and each connection is a file."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def secret(account: Account, folder: pathlib.Path, name: str) -> str:
    """A random password, made once."""
    path = folder / name
    if not path.exists():
        account.write(path, secrets.token_urlsafe(24) + "\n")
    return path.read_text(encoding="utf-8").strip()


def program(name: str, package: str) -> str:
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin:/sbin")
    if not found:
        raise StackError(f"{name} is not installed (Debian package {package})")
    return found


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, all different, and below those that Linux gives to outgoing connections, one of which would take it away."""
    sockets: dict[int, socket.socket] = {}
    try:
        while len(sockets) < count:
            probe, port = socket.socket(), random.randrange(25000, 32768)
            try:
                probe.bind((HOST, port))
                sockets[port] = probe
            except OSError:
                probe.close()
        return list(sockets)
    finally:
        for probe in sockets.values():
            probe.close()


def accepts(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), timeout=1):
            return True
    except OSError:
        return False


def wait_for(what: str, ready: Callable[[], bool], timeout_s: float) -> None:
    end = time.monotonic() + timeout_s
    while not ready():
        if time.monotonic() > end:
            raise StackError(f"{what}: not within {timeout_s:g} s")
        time.sleep(0.02)


def tail(path: pathlib.Path, lines: int) -> str:
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - 256 * lines - 4096))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])


# What a sanitizer, an assertion or a dead process leaves in a log.
CRASH = re.compile(r"ERROR: \w+Sanitizer|runtime error: |WARNING: ThreadSanitizer|Assertion .* failed|stack smashing detected|buffer overflow detected")


@dataclass
class Process:
    """A server process with a pid file and a log. It goes on when the command that started it ends; a test stops what it started."""

    name: str
    folder: pathlib.Path  # of pid files
    log: pathlib.Path
    account: Account
    stop_signal: int = signal.SIGTERM
    child: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def pid_file(self) -> pathlib.Path:
        return self.folder / f"{self.name}.pid"

    @staticmethod
    def birth(pid: int) -> str:
        """Start time of a process: a pid alone may have been given to somebody else."""
        try:
            stat = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
        except OSError:
            return ""
        fields = stat.rsplit(")", 1)[1].split()
        return "" if fields[0] == "Z" else fields[19]

    @property
    def pid(self) -> int | None:
        if self.child is not None:
            return self.child.pid if self.child.poll() is None else None
        try:
            pid, birth = self.pid_file.read_text(encoding="utf-8").split()
        except (OSError, ValueError):
            return None
        return int(pid) if self.birth(int(pid)) == birth else None

    @property
    def exit_code(self) -> int | None:
        """Of a process that this program started; None while it runs."""
        return self.child.poll() if self.child is not None else None

    def start(self, command: Sequence[str], environment: Mapping[str, str] | None = None, cwd: pathlib.Path | None = None) -> None:
        if self.pid is not None:
            return
        if not self.log.exists():
            self.account.write(self.log, "", 0o640)
        with self.log.open("ab") as log:
            child = subprocess.Popen(
                list(command), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=cwd or self.folder, start_new_session=True,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "TZ": "UTC", **(environment or {})}, umask=0o027,
                **self.account.run_as())  # type: ignore[call-overload]
        self.child = child
        self.account.write(self.pid_file, f"{child.pid} {self.birth(child.pid)}\n", 0o644)

    def wait_ready(self, ready: Callable[[], bool], timeout_s: float = 20) -> None:
        def ready_or_dead() -> bool:
            if self.pid is None:
                raise StackError(f"{self.name} ended at once (exit code {self.exit_code}); the end of {self.log}:\n{tail(self.log, 20)}")
            return ready()

        try:
            wait_for(f"{self.name} is ready", ready_or_dead, timeout_s)
        except StackError as error:
            if "not within" not in str(error):
                raise
            raise StackError(f"{error}; the end of {self.log}:\n{tail(self.log, 20)}") from None

    def send(self, number: int) -> None:
        pid = self.pid
        if pid is not None:
            os.kill(pid, number)

    def stop(self, timeout_s: float = 30) -> int | None:
        """Asks it to end, and waits. Returns its exit code when it is ours to know."""
        if self.pid is not None:
            self.send(self.stop_signal)
            try:
                wait_for(self.name, lambda: self.pid is None, timeout_s)
            except StackError:
                self.kill()
                raise StackError(f"{self.name} did not end within {timeout_s:g} s and was killed") from None
        self.pid_file.unlink(missing_ok=True)
        return self.exit_code

    def kill(self) -> None:
        """No farewell: what kill -9 does. Its own children (the gateway's workers, a Redis that writes its file anew) go with it."""
        pid = self.pid
        if pid is not None:
            os.killpg(pid, signal.SIGKILL)  # start() gave it a session, so a group, of its own
        wait_for(self.name, lambda: self.pid is None, 5)
        self.pid_file.unlink(missing_ok=True)

    def crashes(self, since: int = 0) -> str:
        """Reports of sanitizers and assertions in the log, from the byte `since`."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as file:
            file.seek(since)
            text = file.read().decode(errors="replace")
        match = CRASH.search(text)
        return text[match.start():match.start() + 4000] if match else ""
