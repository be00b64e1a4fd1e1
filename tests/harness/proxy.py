# SPDX-License-Identifier: Apache-2.0
"""A TCP proxy that misbehaves on demand, between a daemon and a store:

    proxy = Proxy(stack.postgres.port)
    stack.links["pg"] = proxy.port        # before start_daemons
    proxy.delay_s = 0.2; proxy.hold = True; proxy.cut(); proxy.refuse = True; proxy.cut_after(1000)
"""
from __future__ import annotations

import socket
import threading
import time


class Proxy:
    """Each connection is two threads; all settings may change while it runs."""

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.delay_s = 0.0      # before each piece, both ways
        self.hold = False       # nothing passes, nothing closes
        self.refuse = False     # new connections are closed at once
        self.piece_bytes = 65536  # 1: byte by byte
        self._allowance: int | None = None
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = int(self._listener.getsockname()[1])
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Ends every connection now, as a reset."""
        with self._lock:
            doomed, self._open = self._open, set()
        for one in doomed:
            self._reset(one)

    def cut_after(self, answer_bytes: int) -> None:
        """The store's answers pass for so many bytes more, then everything is cut once: a lost answer."""
        self._allowance = answer_bytes

    def close(self) -> None:
        self._closed = True
        self._listener.close()
        self.cut()

    @staticmethod
    def _reset(one: socket.socket) -> None:
        try:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            one.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        one.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                if self.refuse:
                    raise OSError
                far = socket.create_connection(("127.0.0.1", self.target_port), timeout=5)
            except OSError:
                self._reset(near)
                continue
            near.settimeout(None)
            far.settimeout(None)
            with self._lock:
                self._open |= {near, far}
            threading.Thread(target=self._pump, args=(near, far, False), daemon=True).start()
            threading.Thread(target=self._pump, args=(far, near, True), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        try:
            while piece := source.recv(self.piece_bytes):
                if self.delay_s:
                    time.sleep(self.delay_s)
                while self.hold and not self._closed:
                    time.sleep(0.01)
                if answers and self._allowance is not None:
                    self._allowance -= len(piece)
                    if self._allowance < 0:
                        self._allowance = None
                        self.cut()
                        return
                sink.sendall(piece)
        except OSError:
            pass
        for one in (source, sink):
            with self._lock:
                self._open.discard(one)
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
