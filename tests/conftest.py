# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the system tests. One system serves the whole session; a test that breaks things starts its own TestStack."""
from __future__ import annotations

import pathlib
import shutil
import signal
import sys
from collections.abc import Iterator

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from harness import BUILD, TestStack, scratch_folder  # noqa: E402
from s24.seed import seed  # noqa: E402
from s24.services import TEST_FOLDERS  # noqa: E402


def pytest_configure() -> None:
    """A run that is told to end stops its servers, as one that is interrupted does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    """A failed test shows the ends of the logs of the systems it used."""
    outcome = yield
    if outcome.get_result().failed:
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, TestStack):
                value.print_logs()


@pytest.fixture(scope="session")
def stores() -> Iterator[TestStack]:
    """Two Redis and PostgreSQL with every migration, those of the tests' own daemons too, without daemons."""
    stack = TestStack(names=[], extra=tuple(name for name in TEST_FOLDERS if (BUILD / "sql" / name).is_dir()))
    try:
        stack.start_stores()
        stack.migrate()
        yield stack
    finally:
        stack.close()


@pytest.fixture(scope="session")
def stack() -> Iterator[TestStack]:
    """The whole system with the demo schools."""
    if not (BUILD / "bin" / "schools24-auth").exists():
        pytest.skip(f"no daemons in {BUILD}/bin (S24_BUILD)")
    system = TestStack()
    try:
        system.start(on_database=lambda own: seed(own.postgres, small=True))
        yield system
    finally:
        system.close()


@pytest.fixture
def folder() -> Iterator[pathlib.Path]:
    """A scratch folder that servers can reach."""
    path = scratch_folder()
    yield path
    shutil.rmtree(path, ignore_errors=True)
