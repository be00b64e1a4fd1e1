# SPDX-License-Identifier: Apache-2.0
"""The system of `./s24 up` for one test session, with a verdict at its end."""
from __future__ import annotations

import os
import pathlib
import shutil
import sys
import tempfile

from s24 import services
from s24.base import ROOT, Account, free_ports, raise_file_limit, tail
from s24.servers import Postgres, Redis, Service
from s24.services import operator
from s24.stack import Stack, test_ports

BUILD = pathlib.Path(os.environ.get("S24_BUILD", ROOT / "build" / "asan")).resolve()
# A report ends the daemon, and goes to its log, where close() finds it.
SANITIZERS = {
    "ASAN_OPTIONS": "detect_leaks=1:exitcode=99:detect_stack_use_after_return=0",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1:exitcode=99",
}


def scratch_folder() -> pathlib.Path:
    """A folder that the unprivileged account can reach too."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="s24-test-"))
    folder.chmod(0o755)
    return folder


def own_account() -> Account:
    return Account(os.getuid(), os.getgid())


# A busy machine is not a frozen Redis; the tests of that say their own.
PATIENCE = {"CACHE_TIMEOUT_MS": "500"}


class TestStack(Stack):
    """A whole system, or its stores alone (start_stores, migrate)."""

    __test__ = False  # for pytest: no test class

    def __init__(self, *, environment: str = "test", fast: bool = True, extra: tuple[str, ...] = (), settings: dict[str, str] | None = None,
                 **more: object) -> None:
        """`extra`: daemons of the tests, such as play (tests/fault/play)."""
        raise_file_limit()
        super().__init__(scratch_folder(), BUILD / "bin", test_ports((*services.NAMES, *extra)), extra=extra, environment=environment, fast=fast,
                         settings={**SANITIZERS, **PATIENCE, **(settings or {})}, daemon_account=own_account(),
                         **more)  # type: ignore[arg-type]
        self.expected_deaths: set[str] = set()  # daemons that a test has killed on purpose

    def crash(self, service: Service) -> None:
        """kill -9, as a test's own deed."""
        self.expected_deaths.add(service.name)
        service.process.kill()

    def close(self, keep: bool = False) -> None:
        """Stops everything, and raises what went wrong on the way: exit codes, sanitizers' reports."""
        faults = []
        try:
            for name, code in self.stop().items():
                if code not in (0, None) and name not in self.expected_deaths:
                    faults.append(f"{name} ended with exit code {code}:\n{tail(self.logs / f'{name}.log', 40)}")
            for name, process in self.processes.items():
                report = process.crashes()
                if report:
                    faults.append(f"{name}: {report}")
        finally:
            for process in self.processes.values():
                if process.pid is not None:
                    process.kill()
            if not keep and not faults:
                shutil.rmtree(self.folder, ignore_errors=True)
        assert not faults, "\n".join(faults) + f"\n(logs are in {self.logs})"

    def print_logs(self, lines: int = 40) -> None:
        """For the report of a failed test."""
        for log in sorted(self.logs.glob("*.log")):
            text = tail(log, lines)
            if text:
                print(f"---- {log.name}\n{text}", file=sys.stderr)


def bare_postgres(folder: pathlib.Path) -> Postgres:
    """A cluster without any schema of ours. The caller stops it."""
    account = Account.unprivileged()
    account.folder(folder)
    account.folder(folder / "log")
    server = Postgres(folder / "postgres", folder / "log", account, free_ports(1)[0], {"fsync": "off"})
    server.configure("superuser")
    server.start()
    return server


def bare_redis(folder: pathlib.Path, name: str = "redis", **settings: str) -> Redis:
    """An instance with nothing but the operator; settings with _ for -. The caller stops it."""
    account = Account.unprivileged()
    account.folder(folder)
    account.folder(folder / "log")
    server = Redis(name, folder / name, folder / "log", account, free_ports(1)[0],
                   {"save": '""', **{key.replace("_", "-"): value for key, value in settings.items()}})
    server.configure("user default off resetpass\n" + operator("operator") + "\n", "operator")
    server.start()
    return server
