# SPDX-License-Identifier: Apache-2.0
"""Real servers for tests: started in a folder of their own on free ports, from the code that `./s24 up` runs.

    stack = TestStack()            # S24_BUILD names the build folder (default build/asan)
    stack.start()
    Client(stack.url).login(...)
    stack.close()                  # fails the test when a daemon crashed, leaked or left a sanitizer's report
"""
from __future__ import annotations

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))

from s24.base import StackError, free_ports, wait_for  # noqa: E402
from s24.client import Answer, Client, raw_request  # noqa: E402
from s24.servers import Gateway, Postgres, Redis, Service  # noqa: E402

from .proxy import Proxy  # noqa: E402
from .stack import BUILD, TestStack, bare_postgres, bare_redis, scratch_folder  # noqa: E402

Worker = Service

__all__ = ["Answer", "BUILD", "Client", "Gateway", "Postgres", "Proxy", "Redis", "Service", "StackError", "TestStack", "Worker", "bare_postgres", "bare_redis",
           "free_ports", "raw_request", "scratch_folder", "wait_for"]
