# SPDX-License-Identifier: Apache-2.0
"""The control file of shim.so: what a server under it suffers, while it runs. The layout is shim/shim.h's."""
from __future__ import annotations

import mmap
import pathlib
import struct

FILES = 64
OFFSETS = {"fsync_ms": ("<i", 0), "fsync_errno": ("<i", 4), "fsync_skip": ("<i", 8), "write_errno": ("<i", 12), "short_write": ("<i", 16),
           "malloc_ppb": ("<I", 20), "clock_ms": ("<q", 24), "seed": ("<Q", 32), "failed": ("<Q", 40), "forgotten": ("<Q", 48)}
HEAD_SIZE = 56


class Control:
    """One file for one server and its successors: control.set(fsync_errno=errno.EIO), control.get("failed")."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        size = HEAD_SIZE + 16 * FILES
        path.write_bytes(bytes(size))
        path.chmod(0o666)
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), size)

    def set(self, **values: int) -> None:
        for name, value in values.items():
            form, at = OFFSETS[name]
            struct.pack_into(form, self._map, at, value)

    def get(self, name: str) -> int:
        form, at = OFFSETS[name]
        return int(struct.unpack_from(form, self._map, at)[0])

    def synced(self) -> dict[int, int]:
        """Inode to the bytes of it that are on the disk."""
        pairs = (struct.unpack_from("<QQ", self._map, HEAD_SIZE + 16 * at) for at in range(FILES))
        return {inode: size for inode, size in pairs if inode}

    def forget_files(self) -> None:
        """Inodes are used again: a server that starts anew has new files."""
        self._map[HEAD_SIZE:] = bytes(16 * FILES)

    def environment(self, library: pathlib.Path) -> dict[str, str]:
        return {"LD_PRELOAD": str(library), "S24_SHIM_CONTROL": str(self.path)}
