# SPDX-License-Identifier: Apache-2.0
"""cmake and ninja, quiet while all is well."""
from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from .base import ROOT, StackError


@contextmanager
def step(name: str) -> Iterator[None]:
    """Says what has been done and how long it took."""
    started = time.monotonic()
    yield
    print(f"s24: {name:<40} {time.monotonic() - started:6.1f} s")


def quiet(command: Sequence[str], environment: dict[str, str] | None = None) -> None:
    result = subprocess.run(list(command), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
                            env=environment)
    if result.returncode != 0:
        lines = result.stdout.splitlines()
        first = next((at for at, line in enumerate(lines) if line.startswith("FAILED:")), max(0, len(lines) - 40))
        raise StackError(f"{' '.join(map(str, command))} failed:\n" + "\n".join(lines[first:first + 40]))


def build(preset: str, targets: Sequence[str] | None = None) -> pathlib.Path:
    """Builds the targets (None: all) and returns the build folder: build/<preset>, below S24_BUILD_ROOT where that is given."""
    folder = pathlib.Path(os.environ.get("S24_BUILD_ROOT", ROOT / "build")).resolve() / preset
    # Environments of users tend to carry flags that our warnings turn into errors.
    environment = {name: value for name, value in os.environ.items() if name not in ("CFLAGS", "CPPFLAGS", "LDFLAGS")}
    launcher = ["-DCMAKE_C_COMPILER_LAUNCHER=ccache"] if shutil.which("ccache") else []
    quiet(["cmake", "--preset", preset, "-B", str(folder), *launcher], environment)
    if targets is None or targets:
        quiet(["ninja", "-C", str(folder), *(targets or [])], environment)
    return folder
