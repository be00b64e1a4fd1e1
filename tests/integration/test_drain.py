# SPDX-License-Identifier: Apache-2.0
"""SIGTERM under load: who was let in gets his answer, who comes later is sent elsewhere before the door closes."""
from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from s24.seed import seed
from scene import homework_fields, sign_in, unsynced

from harness import BUILD, Client, TestStack, wait_for

WAIT_MS = 1000


@pytest.fixture
def system() -> Iterator[TestStack]:
    if not (BUILD / "bin" / "schools24-worker").exists():
        pytest.skip("no worker is built")
    stack = TestStack(settings={"S24_DRAIN_WAIT_MS": str(WAIT_MS)})
    try:
        stack.start(on_database=lambda own: seed(own.postgres, small=True))
        yield stack
    finally:
        stack.close()


def half_upload(port: int, token: str) -> tuple[socket.socket, bytes]:
    """A form of which one half has arrived; the other half."""
    boundary = "b" * 20
    fields = "".join(f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in homework_fields().items())
    file = f'--{boundary}\r\nContent-Disposition: form-data; name="attachments"; filename="a.txt"\r\n\r\n' + "x" * 20000 + f"\r\n--{boundary}--\r\n"
    body = (fields + file).encode()
    connection = socket.create_connection(("127.0.0.1", port), timeout=15)
    connection.sendall((f"POST /api/v1/teacher/homework HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
                        f"Content-Type: multipart/form-data; boundary={boundary}\r\nContent-Length: {len(body)}\r\n\r\n").encode() + body[:10000])
    return connection, body[10000:]


def read_all(connection: socket.socket) -> bytes:
    said = b""
    while chunk := connection.recv(65536):
        said += chunk
    return said


@pytest.mark.parametrize("name", ["homework", "auth"])
def test_no_request_is_dropped(system: TestStack, name: str) -> None:
    service = system.services[name]
    tokens = [(sign_in(system, "teacher").token, sign_in(system, "student").token) for _ in range(6)]
    ready, failures, done = threading.Event(), [], []
    ready.set()

    def people(teacher: Client, student: Client) -> None:
        """Comes through a balancer, which looks at /ready and sends nothing more when that fails."""
        while ready.is_set():
            try:
                if name == "homework":
                    answers = [teacher.multipart("POST", "/teacher/homework", homework_fields()), student.get("/academic/homework?page_size=5")]
                else:
                    answers = [teacher.get("/auth/me"), student.get("/auth/sessions")]
                done.extend(answer.status for answer in answers)
                failures.extend(str(answer) for answer in answers if answer.status not in (200, 201))
            except OSError as error:
                failures.append(repr(error))
            time.sleep(0.02)

    threads = [threading.Thread(target=people, args=(Client(service.url, teacher), Client(service.url, student))) for teacher, student in tokens]
    for thread in threads:
        thread.start()
    uploads = [half_upload(service.port, teacher) for teacher, _ in tokens[:3]] if name == "homework" else []
    wait_for("the load runs", lambda: len(done) > 40, 15)

    pid = service.process.pid
    service.process.send(signal.SIGTERM)
    signalled = time.monotonic()
    wait_for("/ready fails", lambda: not service.is_ready(), WAIT_MS / 1000)
    assert service.process.pid == pid, "not ready, and still there"
    before = len(done)
    wait_for("requests are still served", lambda: len(done) > before, WAIT_MS / 1000)
    ready.clear()
    for thread in threads:
        thread.join()
    time.sleep(max(0.0, signalled + WAIT_MS / 1000 + 0.3 - time.monotonic()))
    assert uploads == [] or service.process.pid == pid, "it waits for who is inside"
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", service.port), timeout=2).close()
    service.process.send(signal.SIGTERM)  # a second one changes nothing
    for connection, rest in uploads:
        connection.sendall(rest)
        answer = read_all(connection)
        assert answer.startswith(b"HTTP/1.1 201 ") and b"connection: close" in answer.lower(), answer[:300]
        connection.close()
    assert failures == []
    deadline = time.monotonic() + 15
    while service.process.pid is not None and time.monotonic() < deadline:
        service.process.send(signal.SIGTERM)  # up to the last moment
        time.sleep(0.001)
    assert service.stop() == 0
    if name == "homework":
        assert len(unsynced(system, "homework:*")) == done.count(201) + len(uploads)
    service.start()
    assert Client(system.url, tokens[0][1]).get("/academic/homework").status == 200


def test_everybody_ends_well_while_work_is_left(system: TestStack) -> None:
    teacher = sign_in(system, "teacher")
    for _ in range(20):
        assert teacher.multipart("POST", "/teacher/homework", homework_fields()).status == 201
    assert set(system.stop().values()) == {0}
    system.start_stores()
    assert len(unsynced(system, "homework:*")) == 20, "what was acknowledged waits for the next start"
